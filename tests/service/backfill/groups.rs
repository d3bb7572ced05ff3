//! Consumer groups of a real server as `doctor` reports them: without a reader, late, and with pending entries.

use serde_json::Value;

use super::night::{Night, RESULTS};
use crate::support::redis::RedisServer;

const GROUP: &str = "harvest";
const HOUR_MS: u64 = 3_600_000;

/// Moves the time at which a consumer was last seen back, in the saved file of the server.
fn age_consumer(server: &mut RedisServer, consumer: &str, by_ms: u64) {
    server.cli(&["SAVE"]);
    let folder = server.cli(&["CONFIG", "GET", "dir"]);
    let file = std::path::Path::new(folder.lines().nth(1).expect("a folder")).join("dump.rdb");
    let mut bytes = std::fs::read(&file).expect("what was saved");
    // The name, then the time in ms.
    let name = consumer.as_bytes();
    let at = bytes.windows(name.len()).position(|part| part == name).expect("the consumer was saved") + name.len();
    let seen_ms = u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    bytes[at..at + 8].copy_from_slice(&(seen_ms - by_ms).to_le_bytes());
    std::fs::write(&file, bytes).expect("it is written");
    server.restart();
}

fn doctor(night: &Night) -> (Option<i32>, Vec<(String, String)>) {
    let ran = night.run(&["doctor", "--json"]);
    let findings: Value =
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}{}", ran.out, ran.log));
    let subject = format!("{RESULTS} group {GROUP}");
    let of_group = findings["checks"].as_array().unwrap().iter().filter(|check| check["subject"] == subject.as_str());
    let text = |check: &Value, key: &str| check[key].as_str().unwrap().to_owned();
    (ran.code, of_group.map(|check| (text(check, "verdict"), text(check, "found"))).collect())
}

fn findings(list: &[(&str, &str)]) -> (Option<i32>, Vec<(String, String)>) {
    (Some(1), list.iter().map(|(verdict, found)| ((*verdict).to_owned(), (*found).to_owned())).collect())
}

fn read(night: &Night, consumer: &str, count: &str) {
    night.redis.cli(&["XREADGROUP", "GROUP", GROUP, consumer, "COUNT", count, "STREAMS", RESULTS, ">"]);
}

#[test]
fn i11_i13_a_doctor_finds_dead_consumers_lag_and_what_was_trimmed_unread() {
    let mut night = Night::new();
    night.redis = RedisServer::start_with(&["--rdbchecksum", "no", "--rdbcompression", "no"]);
    let began_ms = night.now_ms() - HOUR_MS;
    for n in 0..8 {
        let id = format!("{}-0", began_ms + n);
        night.redis.cli(&["XADD", RESULTS, &id, "symbol", "ADAUSDT", "executed", "false", "error", "no"]);
    }
    night.redis.cli(&["XGROUP", "CREATE", RESULTS, GROUP, "0"]);
    read(&night, "harvest-31337", "3");
    // A moment later the consumer counts as working, an hour later as dead.
    assert_eq!(doctor(&night), findings(&[("warning", "lag 5, 3 pending, 1 consumer; 60m behind")]));
    age_consumer(&mut night.redis, "harvest-31337", HOUR_MS);
    let gone = ("problem", "3 entries left with consumers that are gone: harvest-31337");
    assert_eq!(doctor(&night), findings(&[("problem", "lag 5, 3 pending, 1 consumer; 60m behind"), gone]));
    // Another consumer reads, and does not claim the entries of the dead one.
    read(&night, "harvest-1", "1");
    assert_eq!(doctor(&night), findings(&[("warning", "lag 4, 4 pending, 2 consumers; 60m behind"), gone]));
    // The server trims entries that the group has not read.
    night.redis.cli(&["XTRIM", RESULTS, "MAXLEN", "2"]);
    let (code, found) = doctor(&night);
    assert_eq!(code, Some(1));
    let trimmed = ("problem".to_owned(), "2 entries trimmed before this group had read them".to_owned());
    assert!(found.contains(&trimmed), "{found:?}");

    // It reads everything, claims the entries of the dead consumer, and never acknowledges them.
    read(&night, "harvest-1", "10");
    for n in 0..3 {
        let id = format!("{}-0", began_ms + n);
        night.redis.cli(&["XACK", RESULTS, GROUP, &id]);
    }
    let last = format!("{}-0", began_ms + 7);
    let idle = HOUR_MS.to_string();
    night.redis.cli(&[
        "XCLAIM",
        RESULTS,
        GROUP,
        "harvest-1",
        "0",
        &format!("{}-0", began_ms + 6),
        &last,
        "IDLE",
        &idle,
    ]);
    night.redis.cli(&["XACK", RESULTS, GROUP, &format!("{}-0", began_ms + 3)]);
    let (_, found) = doctor(&night);
    let held = ("warning".to_owned(), "harvest-1 has held an entry for 60m, and reads on".to_owned());
    assert!(found.contains(&held), "{found:?}");

    // In order: the group has no finding.
    night.redis.cli(&["XACK", RESULTS, GROUP, &format!("{}-0", began_ms + 6), &last]);
    let (_, found) = doctor(&night);
    assert!(found.iter().all(|(verdict, _)| verdict == "ok") && found.len() == 1, "{found:?}");
}
