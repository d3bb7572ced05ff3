//! A backlog that is taken over: by an instance without a store, or by one whose store is folded anew from its journal,
//! each killed again meanwhile. Every decision of an undisturbed run is made, once, in one chain.

use std::path::Path;

use crate::support::lab::entry_line;
use crate::support::redis::RedisServer;
use crate::support::service::{
    CONTROL, INTENT, PLAN, PRICE, Place, RESULT, decisions, entries, field_of_all, import, payloads,
};
use crate::support::{config, replayed};
use harvester::cli::replay::Request;

/// Takeovers at random places, of each kind. More of them: `HARVESTER_KILLS`.
const TAKEOVERS: u64 = 1;
const SYMBOLS: u64 = 17;
const HOUR_MS: u64 = 3_600_000;
/// Small batches, so that there are many steps to be killed at.
pub const SETTINGS: &str = "[run]\nread_count = 20\ncheckpoint_entries = 10\nlease_ms = 500\n";

fn takeovers() -> u64 {
    std::env::var("HARVESTER_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(TAKEOVERS)
}

/// A history of 51 decisions, 27 hours old: three rungs of each of 17 positions, some of which close.
fn backlog() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
    let begin_ms = now.as_millis() as u64 - 27 * HOUR_MS;
    let mut lines = Vec::new();
    let name = |n: u64| format!("S{n:02}USDT");
    for n in 0..SYMBOLS {
        let (symbol, order) = (name(n), format!("open-{n}"));
        let risk = [("symbol", symbol.as_str()), ("action", "BUY"), ("atr_value", "0.01"), ("volatility_factor", "1")];
        lines.push(entry_line(INTENT, &format!("{}-0", begin_ms + n), &risk));
        let fill = [("symbol", symbol.as_str()), ("side", "BUY"), ("executedQty", "100"), ("avgPrice", "1")];
        let fill = [&fill[..], &[("orderId", order.as_str()), ("status", "FILLED")]].concat();
        lines.push(entry_line(RESULT, &format!("{}-0", begin_ms + 1000 + n), &fill));
    }
    for (step, price) in ["1.003", "1.008", "1.009", "1.013", "1.011", "1.018", "1.02"].into_iter().enumerate() {
        for n in 0..SYMBOLS {
            let id = format!("{}-0", begin_ms + (step as u64 + 1) * HOUR_MS + n * 10_000);
            lines.push(entry_line(PRICE, &id, &[("symbol", &name(n)), ("price", price)]));
        }
    }
    for n in 0..SYMBOLS / 3 {
        let (symbol, order) = (name(n), format!("close-{n}"));
        let fill = [("symbol", symbol.as_str()), ("side", "SELL"), ("executedQty", "100"), ("avgPrice", "1.02")];
        let fill = [&fill[..], &[("orderId", order.as_str()), ("status", "FILLED")]].concat();
        lines.push(entry_line(RESULT, &format!("{}-0", begin_ms + 20 * HOUR_MS + n), &fill));
    }
    lines.join("\n") + "\n"
}

/// … of a service that may send orders: those of a backlog are too old to be sent.
pub const LIVE: &str = "[policy]\nmode = \"live\"\nladder = \"0.5:0.25,1:0.25,1.5:0.25\"\natr_unit = { default = \"absolute\" }\n\
    price_sources = [\"market.tick\"]\non_live = \"take\"\nrequire_instrument = false\nmax_position_age_ms = 86400000\n\
    [emit]\nformat = \"apply_plan\"\nsource = \"harvester\"\nexecutors = [\"executor\"]\n";

pub struct Backlog {
    pub server: RedisServer,
    pub first: Place,
    pub wanted: Vec<String>,
}

impl Backlog {
    pub fn under(settings: &str) -> Self {
        let server = RedisServer::start();
        let mut first = Place::new(&server);
        first.settings = settings.to_owned();
        let history = first.folder.path().join("backlog.jsonl");
        std::fs::write(&history, backlog()).expect("the history is written");
        import(&history, &server);
        let file = first.folder.path().join("wanted.toml");
        std::fs::write(&file, settings).expect("the settings are written");
        let (_, lines) = replayed(&Request { histories: vec![history], ..Request::default() }, &config(Some(&file)));
        assert_eq!(
            lines.len(),
            if settings == SETTINGS { 51 } else { 17 },
            "live, each position waits for a first result"
        );
        Self { server, first, wanted: payloads(&lines) }
    }

    pub fn another(&self) -> Place {
        let mut place = Place::new(&self.server);
        place.settings.clone_from(&self.first.settings);
        place.consumer = "two".to_owned();
        place
    }

    pub fn check(&self, last: &Place, what: &str) {
        assert_eq!(decisions(&self.server), self.wanted, "{what}");
        assert_eq!(entries(&self.server, PLAN), [], "{what}: no order of a backlog");
        if self.first.settings.contains(LIVE) {
            let kinds = field_of_all(&self.server, CONTROL, "event_type");
            let expired = kinds.iter().filter(|kind| *kind == "decision.expired").count();
            assert_eq!(expired, self.wanted.len(), "{what}: each is too old to be sent");
            let rungs = |position: &serde_json::Value| position["rungs"].as_array().expect("rungs").clone();
            let open = last.positions().as_array().expect("positions").clone();
            let open: Vec<_> = open.iter().filter(|position| position["closed"].is_null()).flat_map(rungs).collect();
            assert!(!open.is_empty() && open.iter().all(|rung| rung["state"] == "armed"), "{what}: {open:?}");
        }
        // What was folded is what a replay of its own journal comes to.
        let store = last.folder.path().join("again");
        let settings = last.folder.path().join("harvester.toml");
        let request = Request { histories: vec![last.journal()], store: Some(store.clone()), ..Request::default() };
        replayed(&request, &config(Some(&settings)));
        assert_eq!(positions(&store), last.positions(), "{what}");
    }
}

fn positions(store: &Path) -> serde_json::Value {
    use crate::support::binary::{harvester, name, run};
    run(harvester().args(["positions", "--json", "--all", "--store", name(store)])).json()
}

/// Runs until it comes to a step for the nth time, and ends there as by a kill; or to the end, if it never does.
pub fn killed_at(place: &Place, step: &str) {
    let ended = place.command().args(["--until-idle", "0.3"]).env("HARVESTER_FAIL", step).status();
    ended.expect("the service runs");
}

/// Any leader killed anywhere, followed by any instance killed anywhere, followed by one that comes to the end. In live mode
/// everything is decided, nothing is ordered, and the rungs are armed again.
#[test]
fn i09_a_backlog_is_taken_over_at_any_place_and_places_no_orders() {
    let mut chance = fastrand::Rng::with_seed(20_261_129);
    let live = format!("{SETTINGS}{LIVE}");
    for (kind, settings) in [("empty", SETTINGS), ("journal", SETTINGS), ("empty", &live), ("journal", &live)] {
        for _ in 0..takeovers() {
            let backlog = Backlog::under(settings);
            let steps = ["folded", "journalled", "committed", "handed_over", "offered", "acknowledged"];
            let step = |chance: &mut fastrand::Rng| format!("{}:{}", steps[chance.usize(..6)], chance.u32(1..15));
            let (first, second) = (step(&mut chance), step(&mut chance));
            let what = format!("{kind}, live={}: {first}, {second}", settings != SETTINGS);
            killed_at(&backlog.first, &first);
            if kind == "empty" {
                let place = backlog.another();
                killed_at(&place, &second);
                place.run_until_idle();
                backlog.check(&place, &what);
            } else {
                killed_at(&backlog.first, &second);
                // Killed before its first commit, it has none.
                let _ = std::fs::remove_dir_all(backlog.first.store());
                backlog.first.run_until_idle();
                backlog.check(&backlog.first, &what);
            }
        }
    }
}
