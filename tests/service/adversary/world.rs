//! A live service, the data that an adversary has of it, and the promises that must be kept.

use std::process::{Child, Command, Stdio};

use harvester::codec::issue::{Stamp, sign_fields};
use harvester::codec::signing::SigningKey;
use harvester::service::report::{Report, concerns};
use harvester::shell::web;
use serde_json::Value;

use crate::support::binary::{harvester, name, run};
use crate::support::redis::{RedisServer, free_port};
use crate::support::service::{
    CONTROL, DECISION, INTENT, PLAN, PRICE, RESULT, add, entries, field_of_all, open_position, price, until,
};

/// The service has this key; the adversary does not.
const KEY: &str = "a secret of enough bytes";
/// Has an order in flight when the attack comes.
pub const SENT: &str = "SENTUSDT";
/// Has an order that is due after the attack, unless something holds it.
pub const DUE: &str = "DUEUSDT";
/// Not among the symbols that the policy lets live.
pub const VICTIM: &str = "VICTIMUSDT";
/// Has risk fields from a source that is too weak for an order.
pub const WEAK: &str = "WEAKUSDT";

const SETTINGS: &str = r#"
[policy]
mode = "live"
ladder = "0.5:0.25,1:0.25,1.5:0.25"
atr_unit = { default = "absolute" }
price_sources = ["market.tick"]
on_live = "take"
require_instrument = false
live_symbols = ["SENTUSDT", "DUEUSDT", "WEAKUSDT"]
result_timeout_ms = 3600000
[emit]
format = "apply_plan"
source = "harvester"
executors = ["executor"]
[backfill]
sources = ["redis"]
"#;

/// The data that the adversary sees, and the effects of its attacks.
pub struct World {
    pub server: RedisServer,
    folder: tempfile::TempDir,
    child: Child,
    port: u16,
    /// True if, by all rules, the due order must not be sent: a kill, a gap, a close.
    pub is_held: bool,
    /// True if the due order may stay unsent, but with a concern in the status.
    pub hides: bool,
    /// True if this service cannot send anything any more, so that waiting is useless.
    pub blocks: bool,
}

impl World {
    pub fn new() -> Self {
        let server = RedisServer::start();
        server.cli(&["XGROUP", "CREATE", PLAN, "executor", "0", "MKSTREAM"]);
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("harvester.toml"), SETTINGS).expect("the settings are written");
        let port = free_port();
        let child = start(&server, &folder, port);
        let world = Self { server, folder, child, port, is_held: false, hides: false, blocks: false };
        until("the policy is adopted", || world.has_control("policy.adopted"));
        for symbol in [SENT, DUE, VICTIM] {
            open_position(&world.server, symbol);
        }
        // An intent that comes after its fill is a guess.
        let fields =
            [("symbol", WEAK), ("side", "BUY"), ("executedQty", "100"), ("avgPrice", "1"), ("orderId", "weak")];
        let fill = add(&world.server, RESULT, &[&fields[..], &[("status", "FILLED")]].concat());
        let fill_ms = fill.split_once('-').and_then(|(ms, _)| ms.parse().ok());
        // In one millisecond the intent would come first.
        while Some(world.server.now_ms()) <= fill_ms {
            std::thread::yield_now();
        }
        let intent = format!(r#"{{"symbol":"{WEAK}","side":"BUY","atr_value":0.01,"volatility_factor":1.0}}"#);
        add(&world.server, INTENT, &[("payload", &intent)]);
        for symbol in [SENT, DUE, VICTIM, WEAK] {
            price(&world.server, symbol, "1");
        }
        price(&world.server, SENT, "1.007");
        until("the first order is sent", || world.ordered(SENT) == 1);
        world
    }

    fn settings(&self) -> std::path::PathBuf {
        self.folder.path().join("harvester.toml")
    }

    /// Returns the orders of a symbol in the request stream. The adversary writes none there.
    fn ordered(&self, symbol: &str) -> usize {
        field_of_all(&self.server, PLAN, "symbol").iter().filter(|of| *of == symbol).count()
    }

    /// Returns true if the control stream has an entry of this kind.
    pub fn has_control(&self, event_type: &str) -> bool {
        field_of_all(&self.server, CONTROL, "event_type").iter().any(|of| of == event_type)
    }

    /// Writes to the control stream.
    pub fn write_control(&self, event_type: &str, payload: &str) -> String {
        add(&self.server, CONTROL, &[("event_type", event_type), ("payload", payload)])
    }

    /// Runs a command of an operator, who has the key.
    pub fn operator(&self, arguments: &[&str]) {
        let mut command = harvester();
        command.arg("control").args(arguments).args(["--reason", "r", "--yes", "--config", name(&self.settings())]);
        command.env("REDIS_URL", self.server.url()).env("HARVEST_SIGNING_KEY", KEY);
        let ran = run(&mut command);
        assert_eq!(ran.code, Some(0), "{}", ran.log);
    }

    /// Returns the newest signed entry of a kind, as the adversary reads it.
    pub fn signed(&self, event_type: &str) -> Vec<(String, String)> {
        let all = entries(&self.server, CONTROL).into_iter().rev();
        let mut of_kind =
            all.filter(|(_, fields)| fields[0].1 == event_type && fields.iter().any(|(n, _)| n == "signature"));
        of_kind.next().map_or_else(|| panic!("a signed {event_type}"), |(_, fields)| fields)
    }

    /// Returns an entry that an operator signs now, and that the adversary deletes before the service reads it.
    pub fn captured_unread(&self, event_type: &str, payload: &str) -> Vec<(String, String)> {
        let key = SigningKey::new(KEY.as_bytes()).expect("a key");
        let fields = [("event_type", event_type), ("payload", payload), ("source", "operator")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        sign_fields(&key, CONTROL, &fields, &Stamp::new(self.server.now_ms(), 0xfeed))
    }

    pub fn write(&self, stream: &str, fields: &[(String, String)]) -> String {
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        add(&self.server, stream, &fields)
    }

    /// Returns the fields of our first decision.
    pub fn decision(&self) -> Vec<(String, String)> {
        entries(&self.server, DECISION).into_iter().next().map(|(_, fields)| fields).unwrap_or_default()
    }

    /// Returns the status of the service.
    pub fn status(&self) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}", self.port);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let report: Report = serde_json::from_str(&runtime.block_on(web::get(&url, "/status")).ok()?).ok()?;
        let mut status = serde_json::to_value(&report).expect("a report is JSON");
        status["concerns"] = serde_json::to_value(concerns(&report)).expect("concerns are JSON");
        Some(status)
    }

    pub fn until_killed(&self) {
        until("the status is killed", || self.status().is_some_and(|status| status["killed"] == true));
    }

    fn position_id(&self, symbol: &str) -> String {
        let order = entries(&self.server, RESULT).into_iter().find(|(_, fields)| fields[0].1 == symbol);
        format!("{symbol}@{}", order.map(|(id, _)| id).expect("its fill"))
    }

    pub fn position_of(&self, symbol: &str) -> String {
        self.position_id(symbol)
    }

    /// Writes prices at which every position is over its first rungs. Waits until the service has folded them.
    fn tick(&self, level: &str) {
        let mut last = String::new();
        for symbol in [VICTIM, WEAK, SENT, DUE] {
            last = price(&self.server, symbol, level);
        }
        let last = harvester::domain::event::ids::EntryId::parse(last.as_bytes());
        until("the prices are folded, and what follows is sent", || {
            let Some(status) = self.status() else { return false };
            let inputs = status["inputs"].as_array().cloned().unwrap_or_default();
            let cursor =
                inputs.iter().find(|input| input["stream"] == PRICE).and_then(|input| input["cursor"].as_str());
            let cursor = cursor.and_then(|id| harvester::domain::event::ids::EntryId::parse(id.as_bytes()));
            cursor >= last && (self.blocks || status["outbox"]["waiting"] == 0)
        });
    }

    /// Lets the market move, restarts the service, and lets it move again. Returns the broken promises.
    pub fn breach(&mut self) -> Option<String> {
        self.tick("1.007");
        let silent = self.is_silent();
        let ended = self.child.try_wait().expect("it is a child");
        if let Some(status) = ended {
            return Some(format!("the process ended: {status}: {}", self.log()));
        }
        self.child.kill().expect("it is there");
        self.child.wait().expect("it ends");
        self.child = start(&self.server, &self.folder, self.port);
        until("it serves again, or has ended", || {
            self.status().is_some_and(|status| status["role"] == "leader") || self.has_ended()
        });
        if self.has_ended() {
            return Some(format!("the process ends at its start: {}", self.log()));
        }
        self.tick("1.0071");
        if self.has_ended() {
            return Some(format!("the process ended: {}", self.log()));
        }
        for symbol in [VICTIM, WEAK] {
            if self.ordered(symbol) > 0 {
                return Some(format!("an order for {symbol}"));
            }
        }
        if self.ordered(SENT) > 1 || self.ordered(DUE) > 1 {
            return Some(format!("sent twice: {SENT} {}, {DUE} {}", self.ordered(SENT), self.ordered(DUE)));
        }
        if self.is_held && self.ordered(DUE) > 0 {
            return Some(format!("an order for {DUE}, which is held"));
        }
        if self.ordered(DUE) == 0 && !self.is_held && !self.hides {
            return Some(format!("the order for {DUE} was stopped: {}", self.log()));
        }
        if self.ordered(DUE) == 0 && self.hides && silent && self.is_silent() {
            return Some(format!("the order for {DUE} is missing, without a concern"));
        }
        None
    }

    /// Returns true if the service reports no concern.
    fn is_silent(&self) -> bool {
        self.status().is_none_or(|status| status["concerns"].as_array().is_none_or(Vec::is_empty))
    }

    fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is a child").is_some()
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

fn start(server: &RedisServer, folder: &tempfile::TempDir, port: u16) -> Child {
    let path = |file: &str| folder.path().join(file);
    let mut command: Command = harvester();
    command.args(["run", "--redis", &server.url(), "--consumer", "one", "--listen", &format!("127.0.0.1:{port}")]);
    command.args(["--store", name(&path("store")), "--journal", name(&path("journal"))]);
    command.args(["--config", name(&path("harvester.toml"))]).env("HARVEST_SIGNING_KEY", KEY);
    let log = std::fs::File::options().create(true).append(true).open(path("log")).expect("a log");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("the service starts")
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
