//! What a service refuses at its start, and what it says of it.

use std::process::Command;

use crate::run::live_settings;
use crate::support::redis::RedisServer;
use crate::support::service::{
    DECISION, PLAN, PRICE, Place, RESULT, add, entries, field_of_all, is_read, open_position, price, until,
    until_leader,
};

/// Asserts that a start ends by itself, as one that another start does not mend, and that it names this.
fn is_refused(place: &Place, names: &str) {
    let code = place.command().args(["--until-idle", "0.3"]).status().expect("the service runs").code();
    assert_eq!(code, Some(2), "{names}: {}", place.log());
    assert!(place.log().contains(names), "{names}: {}", place.log());
}

/// A live start beside an executor that nobody named, and beside the old service at work; a store that knows decisions of one
/// stream, and a configuration that names another.
#[test]
fn i34_a_start_that_is_not_safe_is_refused_and_says_why() {
    let server = RedisServer::start();
    let mut live = Place::new(&server);
    live.settings = live_settings("apply_plan", r#"executors = ["executor"]"#);
    server.cli(&["XGROUP", "CREATE", PLAN, "another", "$", "MKSTREAM"]);
    is_refused(&live, "another");
    server.cli(&["XGROUP", "DESTROY", PLAN, "another"]);

    live.settings += "[run]\nold_group = \"old\"\n";
    add(&server, RESULT, &[("symbol", "BBBUSDT"), ("executed", "false"), ("error", "no")]);
    server.cli(&["XGROUP", "CREATE", RESULT, "old", "0"]);
    server.cli(&["XREADGROUP", "GROUP", "old", "worker", "STREAMS", RESULT, ">"]);
    is_refused(&live, "worker");

    // The store of a replay lacks the counts of the streams.
    let of_replay = Place::new(&server);
    let lines = r#"{"stream":"quantum:stream:market.tick","id":"5-0","fields":{"symbol":"AAAUSDT","price":"1"}}"#;
    let folder = tempfile::tempdir().expect("a folder");
    let history = folder.path().join("history.jsonl");
    std::fs::write(&history, lines).expect("a history");
    let replayed = Command::new(env!("CARGO_BIN_EXE_harvester"))
        .arg("replay")
        .arg(&history)
        .arg("--store")
        .arg(of_replay.store())
        .status();
    assert!(replayed.expect("a replay").success());
    is_refused(&of_replay, "was made by `harvester replay`");

    // A store begins no chain in another stream unless told to; what was sold stays sold.
    let mut place = Place::new(&server);
    let service = place.start();
    until_leader(&service);
    open_position(&server, "AAAUSDT");
    price(&server, "AAAUSDT", "1.008");
    until("the decision is out", || entries(&server, DECISION).len() == 1 && is_read(&server, &[PRICE, RESULT]));
    service.stop();
    let renamed = "quantum:stream:harvest.decision.new";
    place.settings = format!("[streams]\ndecision = [\"{renamed}\"]\n");
    is_refused(&place, "--new-chain");
    price(&server, "AAAUSDT", "1.009");
    price(&server, "AAAUSDT", "1.013");
    let ended = place.command().args(["--new-chain", "--until-idle", "0.5"]).status().expect("the service runs");
    assert!(ended.success(), "{}", place.log());
    assert_eq!(field_of_all(&server, renamed, "seq"), ["1"], "a chain of its own");
    let payload = field_of_all(&server, renamed, "payload").pop().unwrap_or_default();
    assert!(payload.contains(r#""rungs":["1"]"#), "rung 0.5 was sold before: {payload}");
    assert_eq!(entries(&server, DECISION).len(), 1);
    // From then on it is the stream of the store.
    place.run_until_idle();
}

/// Without pages nobody asks the service anything, and it waits for entries all the same.
#[test]
fn a_service_without_pages_rests_while_nothing_comes() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    assert!(place.listen.is_empty(), "it has pages: the test shows nothing");
    let service = place.start();
    until_leader(&service);
    let stat = format!("/proc/{}/stat", service.child.id());
    // User and system time of the process. [1/100 s]
    let worked = || {
        let text = std::fs::read_to_string(&stat).expect("a process");
        let fields: Vec<&str> = text.rsplit_once(')').expect("a name").1.split_whitespace().collect();
        fields[11].parse::<u64>().expect("ticks") + fields[12].parse::<u64>().expect("ticks")
    };
    let before = worked();
    std::thread::sleep(std::time::Duration::from_secs(2));
    let share = worked() - before;
    assert!(share < 60, "{share} hundredths of two seconds with nothing to do");
}
