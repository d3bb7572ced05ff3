//! A service with a server of its own: started, watched, stopped, killed; and the entries that it left in the
//! streams.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::binary::{ended, harvester, name, run};
use super::redis::RedisServer;

pub const CONTROL: &str = "quantum:stream:harvest.control";
pub const DECISION: &str = "quantum:stream:harvest.decision";
pub const INTENT: &str = "quantum:stream:trade.intent";
pub const PLAN: &str = "quantum:stream:apply.plan";
pub const PRICE: &str = "quantum:stream:market.tick";
pub const RESULT: &str = "quantum:stream:apply.result";
pub const SUGGESTIONS: &str = "quantum:stream:harvest.suggestions";

/// Longest time that a test waits for an effect.
const LIMIT: Duration = Duration::from_secs(40);

/// Waits until a condition is true.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LIMIT, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Folders and settings of a service.
pub struct Place {
    pub folder: tempfile::TempDir,
    pub url: String,
    pub consumer: String,
    /// Address of its pages; empty if it has none.
    pub listen: String,
    /// Settings for the file, if there are any.
    pub settings: String,
    pub environment: Vec<(String, String)>,
}

impl Place {
    pub fn new(server: &RedisServer) -> Self {
        Self::at(server.url())
    }

    pub fn at(url: String) -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            url,
            consumer: "one".to_owned(),
            listen: String::new(),
            settings: String::new(),
            environment: Vec::new(),
        }
    }

    pub fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub fn journal(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    /// Returns the complete lines of the journal.
    pub fn journalled(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.journal()).into_iter().flatten();
        let text = |file: std::fs::File| {
            let mut text = Vec::new();
            // The last block may be incomplete.
            let _ = zstd::Decoder::new(file).and_then(|mut reader| std::io::Read::read_to_end(&mut reader, &mut text));
            String::from_utf8_lossy(&text).into_owned()
        };
        let texts = files.filter_map(|file| std::fs::File::open(file.ok()?.path()).ok()).map(text);
        let whole =
            |text: String| text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(str::to_owned).collect();
        texts.flat_map(|text| -> Vec<String> { whole(text) }).collect()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn command(&self) -> Command {
        let settings = self.folder.path().join("harvester.toml");
        // The service contacts nothing outside of this machine.
        let quiet = if self.settings.contains("[backfill]") { "" } else { "[backfill]\nsources = [\"redis\"]\n" };
        std::fs::write(&settings, format!("{}{quiet}", self.settings)).expect("the settings are written");
        let mut command = harvester();
        command.args(["run", "--redis", &self.url, "--consumer", &self.consumer, "--listen", &self.listen]);
        command.args(["--store", name(&self.store()), "--journal", name(&self.journal())]);
        command.args(["--config", name(&settings)]).envs(self.environment.iter().cloned());
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.expect("a log"));
        command
    }

    /// Starts the service.
    pub fn start(&self) -> Service<'_> {
        let child = self.command().spawn().expect("the service starts");
        Service { place: self, child }
    }

    /// Wraps a service that the test has started itself.
    pub fn service(&self, child: Child) -> Service<'_> {
        Service { place: self, child }
    }

    /// Runs the service until nothing is pending or new.
    pub fn run_until_idle(&self) {
        let child = self.command().args(["--until-idle", "0.3"]).spawn().expect("the service runs");
        let status = ended(child).status;
        assert!(status.success(), "{status}: {}", self.log());
    }

    pub fn positions(&self) -> Value {
        run(harvester().args(["positions", "--json", "--all", "--store", name(&self.store())])).json()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of {}:\n{}", self.consumer, self.log());
        }
    }
}

/// A running service.
pub struct Service<'a> {
    place: &'a Place,
    pub child: Child,
}

impl Service<'_> {
    /// Waits until a line of the log contains all of these words.
    pub fn until_logged(&self, words: &[&str]) {
        self.until_logged_behind(0, words);
    }

    /// The same, behind a length that the log had before. [bytes]
    pub fn until_logged_behind(&self, length: usize, words: &[&str]) {
        until(&format!("{words:?} in the log"), || {
            self.place.log()[length..].lines().any(|line| words.iter().all(|word| line.contains(word)))
        });
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the service is there");
    }

    /// Kills the service, as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().expect("the service is there");
        self.child.wait().expect("it ends");
    }

    /// Asks the service to stop, and waits. Returns how long that took.
    pub fn stop(mut self) -> Duration {
        let began = Instant::now();
        self.signal(rustix::process::Signal::TERM);
        let mut status = None;
        until("the service ends", || {
            status = self.child.try_wait().expect("it is a child");
            status.is_some()
        });
        let status = status.expect("it has ended");
        assert!(status.success(), "{status}: {}", self.place.log());
        began.elapsed()
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the entries of a stream: id, and fields in their order.
pub fn entries(server: &RedisServer, stream: &str) -> Vec<(String, Vec<(String, String)>)> {
    server.entries(stream)
}

/// Returns one field of each entry of a stream.
pub fn field_of_all(server: &RedisServer, stream: &str, name: &str) -> Vec<String> {
    let of = |fields: Vec<(String, String)>| fields.into_iter().find(|(n, _)| n == name).map(|(_, value)| value);
    entries(server, stream).into_iter().filter_map(|(_, fields)| of(fields)).collect()
}

/// Returns true if the group has read and acknowledged all entries of these streams.
pub fn is_read(server: &RedisServer, streams: &[&str]) -> bool {
    streams.iter().all(|stream| {
        let info = server.cli(&["--json", "XINFO", "STREAM", stream]);
        let info: Value = serde_json::from_str(&info).unwrap_or_default();
        info["last-generated-id"].as_str().is_some_and(|last| is_read_to(server, stream, last))
    })
}

/// Returns true if the group has read and acknowledged a stream up to an entry.
pub fn is_read_to(server: &RedisServer, stream: &str, id: &str) -> bool {
    let groups = server.cli(&["--json", "XINFO", "GROUPS", stream]);
    let groups: Vec<Value> = serde_json::from_str(&groups).unwrap_or_default();
    let number = |text: &str| harvester::domain::event::ids::EntryId::parse(text.as_bytes());
    let ours = groups.iter().find(|group| group["name"] == "harvester");
    ours.is_some_and(|group| {
        group["pending"] == 0 && group["last-delivered-id"].as_str().and_then(number) >= number(id)
    })
}

/// Waits until the service is the leader.
pub fn until_leader(service: &Service<'_>) {
    service.until_logged(&["role changed", "is_leader=true"]);
}

/// Returns the number of gaps that the control stream contains. [1]
pub fn gaps_reported(server: &RedisServer) -> usize {
    field_of_all(server, CONTROL, "event_type").iter().filter(|kind| *kind == "history.gap").count()
}

/// Returns the payloads of the decisions, in the order of the stream. Asserts that the chain is whole.
pub fn decisions(server: &RedisServer) -> Vec<String> {
    chained(entries(server, DECISION))
}

/// Returns the payloads of the entries of a decision stream. Asserts that the chain is whole.
pub fn chained(entries: Vec<(String, Vec<(String, String)>)>) -> Vec<String> {
    let mut payloads = Vec::new();
    let mut prev = "0".repeat(64);
    for (place, (_, fields)) in entries.into_iter().enumerate() {
        let get = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone()).expect("a field");
        assert_eq!(get("seq"), (place + 1).to_string(), "decisions are numbered without a gap");
        assert_eq!(get("prev"), prev, "the chain is whole");
        let payload = get("payload");
        assert_eq!(get("hash"), harvester::codec::seal::chained(&prev, &payload), "the hash is that of the payload");
        prev = get("hash");
        payloads.push(payload);
    }
    payloads
}

/// Returns the payloads of decisions that are history lines.
pub fn payloads(lines: &[String]) -> Vec<String> {
    lines
        .iter()
        .map(|line| {
            let line: Value = serde_json::from_str(line).expect("a history line");
            line["fields"]["payload"].as_str().expect("a payload").to_owned()
        })
        .collect()
}

pub fn import(history: &Path, server: &RedisServer) {
    let ran = run(harvester().args(["import", name(history), "--redis", &server.url()]));
    assert_eq!(ran.code, Some(0), "{}", ran.log);
}

/// Appends an entry under an id that the server assigns.
pub fn add(server: &RedisServer, stream: &str, fields: &[(&str, &str)]) -> String {
    let mut arguments = vec!["XADD", stream, "*"];
    arguments.extend(fields.iter().flat_map(|(name, value)| [*name, *value]));
    server.cli(&arguments).trim().to_owned()
}

/// Opens a long position of 100 at 1, with a risk of 0.01 per unit: 1 R is reached at a price of 1.01 plus its cost.
pub fn open_position(server: &RedisServer, symbol: &str) {
    let intent = format!(r#"{{"symbol":"{symbol}","side":"BUY","atr_value":0.01,"volatility_factor":1.0}}"#);
    add(server, INTENT, &[("payload", &intent)]);
    let order = format!("open-{symbol}");
    let fields = [("symbol", symbol), ("side", "BUY"), ("executedQty", "100"), ("avgPrice", "1")];
    add(server, RESULT, &[&fields[..], &[("orderId", &order), ("status", "FILLED")]].concat());
}

pub fn price(server: &RedisServer, symbol: &str, price: &str) -> String {
    add(server, PRICE, &[("symbol", symbol), ("price", price)])
}
