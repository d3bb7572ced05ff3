//! Trimming of the observation stream, whose entries are in the journal: entries older than a day before its end are
//! removed.

use super::night::OBSERVATIONS;
use crate::support::redis::RedisServer;
use crate::support::service::{CONTROL, Place, RESULT, field_of_all, until};

const HOUR_MS: u64 = 3_600_000;

/// Appends an observed position under the id of a time.
fn observe(server: &RedisServer, at_ms: u64, symbol: &str) {
    let payload = format!(r#"{{"symbol":"{symbol}","positionAmt":"5","entryPrice":"2"}}"#);
    let id = format!("{at_ms}-0");
    server.cli(&["XADD", OBSERVATIONS, &id, "event_type", "exchange.position", "payload", &payload]);
}

fn kept(server: &RedisServer) -> Vec<String> {
    let ids = server.cli(&["XRANGE", OBSERVATIONS, "-", "+"]);
    let mut kept: Vec<String> = ids
        .lines()
        .filter_map(|line| line.split_once("\"symbol\":\"")?.1.split('"').next().map(str::to_owned))
        .collect();
    kept.dedup();
    kept
}

#[test]
fn observations_a_day_older_than_the_end_of_the_journal_are_trimmed_without_loss() {
    let server = RedisServer::start();
    let mut place = Place::new(&server);
    place.settings = "[backfill]\nsources = [\"redis\"]\ntick_ms = 100\n".to_owned();
    let now_ms = server.now_ms();
    let ago = |hours: u64| now_ms - hours * HOUR_MS;
    observe(&server, ago(120), "AAAUSDT");
    observe(&server, ago(72), "BBBUSDT");
    // The service must not trim streams of others.
    server.cli(&["XADD", RESULT, &format!("{}-0", ago(121)), "symbol", "AAAUSDT", "executed", "false", "error", "no"]);

    // The journal ends three days ago: the trimming counts from its end, not from the clock.
    let service = place.start();
    until("the oldest is trimmed", || kept(&server) == ["BBBUSDT"]);
    service.stop();

    observe(&server, ago(25), "CCCUSDT");
    observe(&server, ago(23), "DDDUSDT");
    observe(&server, now_ms, "EEEUSDT");
    let service = place.start();
    until("entries older than a day are trimmed", || kept(&server) == ["DDDUSDT", "EEEUSDT"]);
    service.stop();
    place.run_until_idle();
    let positions = place.positions();
    let symbols: Vec<&str> =
        positions.as_array().unwrap().iter().map(|position| position["symbol"].as_str().unwrap()).collect();
    assert_eq!(symbols, ["AAAUSDT", "BBBUSDT", "CCCUSDT", "DDDUSDT", "EEEUSDT"], "{positions:#}");
    assert_eq!(server.cli(&["XLEN", RESULT]).trim(), "1");
    let kinds = field_of_all(&server, CONTROL, "event_type");
    assert!(!kinds.contains(&"history.gap".to_owned()), "trimmed entries of ours are not a gap: {kinds:?}");
}
