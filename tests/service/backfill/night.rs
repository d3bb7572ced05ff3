//! The night of the incident on a server: its streams, its hashes, and the program.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::binary::{Ran, harvester, run};
use crate::support::redis::{RedisServer, free_port};
use crate::support::root;

pub const INTENTS: &str = "quantum:stream:trade.intent";
pub const PLANS: &str = "quantum:stream:apply.plan";
pub const RESULTS: &str = "quantum:stream:apply.result";
pub const OBSERVATIONS: &str = "quantum:stream:harvest.observation";

/// A server with streams, and a folder with a configuration.
pub struct Night {
    pub redis: RedisServer,
    pub folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Night {
    /// Starts an empty server. The address of the exchange is a port without a listener.
    pub fn new() -> Self {
        let night = Self { redis: RedisServer::start(), folder: tempfile::tempdir().unwrap(), environment: Vec::new() };
        night.configure(&format!("http://127.0.0.1:{}", free_port()), "");
        night
    }

    /// Writes the configuration: the address of the exchange, and more tables.
    pub fn configure(&self, exchange: &str, more: &str) {
        let store = self.folder.path().join("state");
        let text = format!("[exchange]\nbase_url = \"{exchange}\"\n\n[run]\nstore = \"{}\"\n\n{more}", store.display());
        std::fs::write(self.folder.path().join("harvester.toml"), text).unwrap();
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Returns the program with this configuration and server.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = harvester();
        command.arg("--config").arg(self.path("harvester.toml")).args(arguments);
        command.env("REDIS_URL", self.redis.url()).envs(self.environment.clone());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        run(&mut self.command(arguments))
    }

    /// Imports the entries of the night for which `keep` returns true.
    pub fn import(&self, keep: impl Fn(&Value) -> bool) {
        let history = self.path("night.jsonl");
        let kept: Vec<String> =
            lines("events.jsonl").filter(|line| keep(&serde_json::from_str(line).unwrap())).collect();
        std::fs::write(&history, kept.join("\n")).unwrap();
        let ran = self.run(&["import", history.to_str().unwrap()]);
        assert_eq!(ran.code, Some(0), "{}", ran.log);
    }

    /// Writes the hashes that the old service had that night, under a prefix.
    pub fn write_hashes(&self, prefix: &str) -> usize {
        let hashes: Vec<Value> =
            lines("legacy-hashes.jsonl").map(|line| serde_json::from_str(&line).unwrap()).collect();
        let of = |hash: &Value| {
            let key = hash["key"].as_str().unwrap().replace("quantum:position:", prefix);
            let fields = hash["fields"].as_object().unwrap();
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{name} {}", value.as_str().unwrap())).collect();
            format!("HSET {key} {}", fields.join(" "))
        };
        self.commands(&hashes.iter().map(of).collect::<Vec<_>>());
        hashes.len()
    }

    /// Appends a filled buy of that night, with its price if the exchange has reported it.
    pub fn buy(&self, symbol: &str, qty: &str, price: Option<&str>) {
        let mut fields = vec!["symbol", symbol, "plan_id", "p", "executed", "True", "side", "BUY", "filled_qty", qty];
        fields.extend(["order_id", "7", "order_status", "FILLED"]);
        fields.extend(price.into_iter().flat_map(|price| ["avgPrice", price]));
        self.redis.cli(&[&["XADD", RESULTS, "1770166808000-0"], &fields[..]].concat());
    }

    /// Sends many commands of plain words over one connection.
    pub fn commands(&self, commands: &[String]) {
        let port = self.redis.url().rsplit(':').next().unwrap().to_owned();
        let mut client =
            Command::new("redis-cli").args(["-p", &port]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        client.stdin.take().unwrap().write_all((commands.join("\n") + "\n").as_bytes()).unwrap();
        let output = client.wait_with_output().unwrap();
        let answers = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && !answers.contains("ERR"), "{answers}");
    }

    /// Returns every key with its type and content, to detect other changes.
    pub fn keys(&self) -> String {
        let mut keys: Vec<String> = self.redis.cli(&["KEYS", "*"]).lines().map(str::to_owned).collect();
        keys.sort();
        let mut all = String::new();
        for key in keys {
            let kind = self.redis.cli(&["TYPE", &key]);
            let content = match kind.trim() {
                "hash" => self.redis.cli(&["HGETALL", &key]),
                "stream" => self.redis.cli(&["XINFO", "STREAM", &key]),
                _ => self.redis.cli(&["GET", &key]),
            };
            let _ = writeln!(all, "{key} {kind}{content}");
        }
        all
    }

    /// Returns the server's clock. [ms since 1970]
    pub fn now_ms(&self) -> u64 {
        self.redis.now_ms()
    }
}

/// Returns the lines of a file of the bundled case.
pub fn lines(name: &str) -> impl Iterator<Item = String> {
    let path: PathBuf = root().join("replay/nights/incident-2026-02-04").join(Path::new(name));
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// Returns true for entries of the streams that contained the signals that night: no price, no position.
pub fn is_signal(entry: &Value) -> bool {
    entry["stream"] == INTENTS || entry["stream"] == PLANS
}

/// Returns true for the entries of the first look-up of positions.
pub fn is_first_position(entry: &Value) -> bool {
    let at_first = entry["id"].as_str().unwrap().starts_with("1770170700000-");
    entry["stream"] == OBSERVATIONS && at_first && entry["fields"]["event_type"] == "exchange.position"
}

/// Returns the first mark of each symbol that night.
pub fn marks() -> Vec<(String, String)> {
    let mut marks: Vec<(String, String)> = Vec::new();
    for line in lines("events.jsonl") {
        let entry: Value = serde_json::from_str(&line).unwrap();
        if entry["stream"] != OBSERVATIONS || entry["fields"]["event_type"] != "price" {
            continue;
        }
        let payload: Value = serde_json::from_str(entry["fields"]["payload"].as_str().unwrap()).unwrap();
        let symbol = payload["symbol"].as_str().unwrap().to_owned();
        if marks.iter().all(|(known, _)| *known != symbol) {
            let price = match &payload["price"] {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            marks.push((symbol, price));
        }
    }
    marks
}
