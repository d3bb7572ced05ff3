//! A group that remembers nothing: with `pending_list = false` nothing is pending, and nothing is lost.

use std::collections::BTreeMap;

use crate::support::redis::RedisServer;
use crate::support::service::{
    DECISION, INTENT, PRICE, Place, RESULT, entries, is_read_to, open_position, price, until, until_leader,
};
use serde_json::Value;

const SETTINGS: &str = "[run]\npending_list = false\nread_count = 50\ncheckpoint_entries = 40\n";

fn place(server: &RedisServer) -> Place {
    let mut place = Place::new(server);
    place.settings = SETTINGS.to_owned();
    place
}

/// The group of the service on a stream, as the server shows it.
fn group(server: &RedisServer, stream: &str) -> Value {
    let groups = server.cli(&["--json", "XINFO", "GROUPS", stream]);
    let groups: Vec<Value> = serde_json::from_str(&groups).unwrap_or_default();
    groups.into_iter().find(|group| group["name"] == "harvester").unwrap_or_default()
}

/// How often each entry of a stream is in the journal.
fn journalled(place: &Place, stream: &str) -> BTreeMap<String, usize> {
    let mut times = BTreeMap::new();
    for line in place.journalled() {
        let line: Value = serde_json::from_str(&line).expect("a history line");
        if line["stream"] == stream {
            *times.entry(line["id"].as_str().expect("an id").to_owned()).or_default() += 1;
        }
    }
    times
}

fn once_each(server: &RedisServer, stream: &str) -> BTreeMap<String, usize> {
    entries(server, stream).into_iter().map(|(id, _)| (id, 1)).collect()
}

#[test]
fn nothing_is_pending_and_the_group_shows_what_is_left_to_read() {
    let server = RedisServer::start();
    let place = place(&server);
    let service = place.start();
    until_leader(&service);
    open_position(&server, "AAAUSDT");
    let last = price(&server, "AAAUSDT", "1.008");
    until("the decision is out", || entries(&server, DECISION).len() == 1);
    until("all is read", || is_read_to(&server, PRICE, &last));
    for stream in [INTENT, RESULT, PRICE, DECISION] {
        let group = group(&server, stream);
        assert_eq!((&group["pending"], &group["lag"]), (&Value::from(0), &Value::from(0)), "{stream}: {group}");
    }
    service.stop();
    for reached in ["1.007", "1.006", "1.005"] {
        price(&server, "AAAUSDT", reached);
    }
    assert_eq!(group(&server, PRICE)["lag"], 3);
    place.run_until_idle();
    let group = group(&server, PRICE);
    assert_eq!((&group["pending"], &group["lag"]), (&Value::from(0), &Value::from(0)), "{group}");
    assert_eq!(journalled(&place, PRICE), once_each(&server, PRICE));
}

#[test]
fn a_kill_loses_nothing_though_nothing_is_pending() {
    let server = RedisServer::start();
    let place = place(&server);
    let mut client = server.client();
    for round in 0..6 {
        let mut pipeline = redis::pipe();
        for n in 0..500 {
            let price = format!("{}.{n:03}", 1 + round);
            pipeline.cmd("XADD").arg(PRICE).arg("*").arg("symbol").arg("AAAUSDT").arg("price").arg(price).ignore();
        }
        pipeline.exec(&mut client).expect("the server takes prices");
        let service = place.start();
        // Entries are delivered; how many of them are durable when the process ends is left to chance.
        until("entries were delivered", || group(&server, PRICE)["lag"].as_u64().is_some_and(|lag| lag < 400));
        service.kill();
        assert_eq!(group(&server, PRICE)["pending"], 0);
    }
    place.run_until_idle();
    assert_eq!(entries(&server, PRICE).len(), 3000);
    assert_eq!(journalled(&place, PRICE), once_each(&server, PRICE));
}

/// Entries that were pending before the setting changed, at this consumer and at one that is gone.
#[test]
fn entries_that_are_pending_already_are_acknowledged() {
    let server = RedisServer::start();
    let place = place(&server);
    for n in 0..10 {
        price(&server, "AAAUSDT", &format!("1.00{n}"));
    }
    server.cli(&["XGROUP", "CREATE", PRICE, "harvester", "0"]);
    for consumer in ["one", "gone"] {
        server.cli(&["XREADGROUP", "GROUP", "harvester", consumer, "COUNT", "3", "STREAMS", PRICE, ">"]);
    }
    assert_eq!(group(&server, PRICE)["pending"], 6);
    place.run_until_idle();
    assert_eq!(group(&server, PRICE)["pending"], 0);
    assert_eq!(journalled(&place, PRICE), once_each(&server, PRICE));
}
