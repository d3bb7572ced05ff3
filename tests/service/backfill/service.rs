//! The running service with an exchange: it fetches missing data, and the fold never waits for that.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::exchange::{count, night, replays_to};
use super::night::{Night, is_first_position, is_signal};
use crate::support::exchange::Fault;
use crate::support::redis::free_port;

const LIMIT: Duration = Duration::from_secs(90);

/// A running service; stopped by its process id.
struct Service {
    child: Child,
    url: String,
}

impl Service {
    fn start(night: &Night) -> Self {
        let listen = format!("127.0.0.1:{}", free_port());
        let (store, journal) = (night.path("state"), night.path("journal"));
        let log = std::fs::File::create(night.path("log")).unwrap();
        let mut command = night.command(&["run", "--consumer", "one", "--listen", &listen]);
        command.arg("--store").arg(store).arg("--journal").arg(journal);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Self { child, url: format!("http://{listen}") }
    }

    fn positions(&self, night: &Night) -> Vec<Value> {
        let ran = night.run(&["positions", "--url", &self.url, "--json"]);
        serde_json::from_str(&ran.out).unwrap_or_default()
    }

    /// Waits until a condition on its positions is true.
    fn until(&self, night: &Night, what: &str, is_so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let began = Instant::now();
        loop {
            let positions = self.positions(night);
            if is_so(&positions) {
                return positions;
            }
            let log = std::fs::read_to_string(night.path("log")).unwrap();
            assert!(began.elapsed() < LIMIT, "{what}: not so; {} positions; {log}", positions.len());
        }
    }

    /// Waits until its status has a concern of this name.
    fn until_status(&self, night: &Night, name: &str) {
        let began = Instant::now();
        let is_named = || {
            let output = night.run(&["status", "--url", &self.url, "--json"]).out;
            let document: Value = serde_json::from_str(&output).unwrap_or_default();
            document["concerns"].as_array().is_some_and(|all| all.iter().any(|concern| concern["name"] == name))
        };
        while !is_named() {
            assert!(began.elapsed() < LIMIT, "{name}: not so; {}", std::fs::read_to_string(night.path("log")).unwrap());
        }
    }

    fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_complete(positions: &[Value]) -> bool {
    positions.len() == 44 && positions.iter().all(|position| position["missing"].as_array().unwrap().is_empty())
}

#[test]
fn i01_the_service_backfills_the_night_by_itself_and_its_journal_replays_without_a_server() {
    let (night, exchange) = night("[policy]\nmax_price_age_ms = 600000\nprice_confirm_ms = 50\n");
    // One position has reached a rung.
    exchange.world().set_price("NEARUSDT", "1.52");
    night.import(is_signal);
    let service = Service::start(&night);
    service.until(&night, "44 of 44 evaluable", is_complete);
    let calls = exchange.all_calls().iter().filter(|call| call.path != "/fapi/v1/userTrades").count();
    assert!(calls <= 10, "{:#?}", exchange.all_calls());
    assert_eq!(
        count(&exchange, "/fapi/v1/premiumIndex"),
        2,
        "44 marks in one call, and one that confirms the mark of ARCUSDT"
    );
    assert_eq!(count(&exchange, "/fapi/v1/exchangeInfo"), 1);
    let decision = |positions: &[Value]| positions.iter().any(|p| p["rungs"].to_string().contains("shadowed"));
    service.until(&night, "a rung is taken", decision);
    service.stop();
    drop(exchange);

    let store = night.path("state");
    let kept = night.run(&["positions", "--store", store.to_str().unwrap(), "--json"]).json();
    let decisions: u64 = night.redis.cli(&["XLEN", "quantum:stream:harvest.decision"]).trim().parse().unwrap();
    assert_eq!(decisions, 1);
    let own = replays_to(&night, night.path("journal"), &kept).own_decisions;
    assert_eq!((own.differ, own.missing, own.unexpected), (0, 0, 0), "{own:?}");
}

#[test]
fn the_fold_continues_while_the_exchange_hangs() {
    let (night, exchange) = night("[policy]\nmax_price_age_ms = 600000\nprice_confirm_ms = 50\n");
    let text = std::fs::read_to_string(night.path("harvester.toml")).unwrap();
    std::fs::write(night.path("harvester.toml"), text.replace("[exchange]", "[exchange]\ntimeout_ms = 60000")).unwrap();
    exchange.world().always = Some(Fault::Silent);
    night.import(|entry| is_signal(entry) || is_first_position(entry));
    let service = Service::start(&night);
    service.until(&night, "44 positions", |positions| positions.len() == 44);
    exchange.wait_until("a call hangs", |exchange| !exchange.all_calls().is_empty());
    let hanging = exchange.all_calls().len();
    night.redis.cli(&["XADD", "quantum:stream:market.tick", "*", "payload", r#"{"symbol":"ARCUSDT","price":0.064}"#]);
    service.until(&night, "the tick is folded", |positions| {
        positions.iter().any(|p| p["symbol"] == "ARCUSDT" && p["mark_price"]["value"] == "0.064")
    });
    assert_eq!(exchange.all_calls().len(), hanging, "the call still hangs, and the fold did not wait");
    service.stop();
}

#[test]
fn i31_the_service_closes_a_ghost_after_two_polls() {
    let (night, exchange) = night(
        "[policy]\nmax_price_age_ms = 600000\nprice_confirm_ms = 50\ndivergence_grace_ms = 0\n\n[backfill]\nposition_poll_ms = 200\ntick_ms = 100\nwrite_back = true\n",
    );
    night.redis.cli(&["HSET", "quantum:position:ADAUSDT", "side", "LONG", "quantity", "666.22", "entry_price", "0"]);
    night.buy("GHOSTUSDT", "5", Some("2"));
    exchange.world().set_price("GHOSTUSDT", "2");
    night.import(is_signal);
    let service = Service::start(&night);
    let has = |positions: &[Value], symbol: &str| positions.iter().any(|position| position["symbol"] == symbol);
    service.until(&night, "the ghost is gone", |positions| has(positions, "ADAUSDT") && !has(positions, "GHOSTUSDT"));
    // The hash of the old service is kept equal.
    let began = Instant::now();
    while night.redis.cli(&["HGET", "quantum:position:ADAUSDT", "entry_price"]).trim() != "0.3002" {
        assert!(began.elapsed() < LIMIT, "{}", std::fs::read_to_string(night.path("log")).unwrap());
    }
    service.stop();
}

#[test]
fn i46_a_service_reports_a_refused_key_and_does_not_try_it_at_each_tick() {
    let more = "[policy]\nmax_price_age_ms = 300\n\n[backfill]\nposition_poll_ms = 200\ntick_ms = 100\n";
    let (night, exchange) = night(more);
    night.buy("ADAUSDT", "7", Some("0.3"));
    exchange.world().key = "another".to_owned();
    let service = Service::start(&night);
    // Prices are public, and wanted at each tick.
    exchange.wait_until("ten ticks", |exchange| count(exchange, "/fapi/v1/premiumIndex") >= 10);
    service.until_status(&night, "exchange_refused");
    assert_eq!(count(&exchange, "/fapi/v3/positionRisk"), 1, "the next call comes after minutes");
    service.stop();
}

#[test]
fn i66_a_mode_that_entries_contradict_is_a_finding_even_if_nothing_is_open() {
    let (night, exchange) = night("[backfill]\nposition_poll_ms = 200\ntick_ms = 100\n");
    {
        let mut world = exchange.world();
        world.positions.clear();
        world.is_hedged = true;
    }
    night.buy("ADAUSDT", "7", Some("0.3"));
    let service = Service::start(&night);
    service.until_status(&night, "position_mode");
    exchange.wait_until("further polls", |exchange| count(exchange, "/fapi/v3/positionRisk") >= 5);
    assert_eq!(count(&exchange, "/fapi/v1/positionSide/dual"), 1, "weight 30, once in ten minutes");
    service.stop();
}

#[test]
fn a_ban_that_lasts_is_a_finding_with_its_end() {
    let (night, exchange) = night("");
    night.import(is_signal);
    let ban =
        Fault::Status(418, vec![("retry-after", "4500".to_owned())], "{\"code\":-1003,\"msg\":\"banned\"}".to_owned());
    exchange.fail("/fapi/v3/positionRisk", [ban]);
    let service = Service::start(&night);
    service.until_status(&night, "exchange_banned");
    let screen = night.run(&["status", "--url", &service.url]).out;
    assert!(screen.contains("no call until 2") && screen.contains("HTTP 418"), "{screen}");
    service.stop();
}
