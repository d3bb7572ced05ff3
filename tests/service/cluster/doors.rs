//! Addresses and names that are refused, with the next step; and the commands in a cluster.

use super::night::{CELL, Night, PRICES, settings};
use crate::support::binary::{ended, harvester, name, run};
use crate::support::cluster::RedisCluster;
use crate::support::redis::RedisServer;
use crate::support::service::{Place, until};
use harvester::shell::redis::{Address, MarkPlaces, MarkText, Server, slot_of};

fn refused(place: &Place) -> String {
    let status = ended(place.command().spawn().expect("the service starts")).status;
    assert_eq!(status.code(), Some(2), "{}", place.log());
    place.log()
}

#[test]
fn an_address_of_the_wrong_kind_is_refused_with_the_right_one() {
    let alone = RedisServer::start();
    let mut place = Place::at(alone.url().replace("redis://", "redis-cluster://"));
    place.settings = settings("a", "b", false);
    let log = refused(&place);
    assert!(log.contains("is not part of a cluster: give its address as redis://"), "{log}");

    let node = RedisServer::start_of_cluster();
    let log = refused(&Place::at(node.url()));
    assert!(log.contains("redis-cluster://"), "{log}");
}

#[test]
fn names_that_do_not_share_a_slot_are_refused_with_a_tag_that_works() {
    let unused_port = crate::support::redis::free_port();
    let mut place = Place::at(format!("redis-cluster://127.0.0.1:{unused_port}"));
    let log = refused(&place);
    for wanted in ["quantum:stream:harvest.decision:lease in slot ", "{harvest}:", "streams.decision"] {
        assert!(log.contains(wanted), "{wanted}: {log}");
    }
    place.settings = settings("a", "b", false).replace("quantum:{a}:harvest.kill", "quantum:kill");
    let log = refused(&place);
    for wanted in ["quantum:kill in slot ", "{a}:"] {
        assert!(log.contains(wanted), "{wanted}: {log}");
    }
}

#[test]
fn the_commands_work_in_a_cluster() {
    let (night, place) = Night::new(RedisCluster::start(), false);
    // The settings are written.
    drop(place.command());
    let settings = place.folder.path().join("harvester.toml");
    let with = |arguments: &[&str]| {
        run(harvester().args(arguments).args(["--config", name(&settings), "--redis", &place.url]))
    };

    let history = place.folder.path().join("night.jsonl");
    let lines = [(night.name("trade.intent"), "1770163200000-0"), (night.price_stream(), "1770163200001-0")];
    let line = |(stream, id): &(String, &str)| {
        format!(r#"{{"stream":"{stream}","id":"{id}","fields":{{"symbol":"AAAUSDT","side":"BUY","price":"1"}}}}"#)
    };
    std::fs::write(&history, lines.iter().map(line).collect::<Vec<_>>().join("\n")).expect("a history");
    let imported = with(&["import", name(&history)]);
    assert_eq!(imported.code, Some(0), "{}", imported.log);
    for (stream, id) in &lines {
        assert_eq!(night.cluster.entries(stream)[0].0, *id);
    }

    let journal = place.folder.path().join("recorded");
    let recorded = with(&["record", "--journal", name(&journal), "--until-idle", "0.3"]);
    assert_eq!(recorded.code, Some(0), "{}", recorded.log);
    assert!(recorded.log.contains("entries=2"), "{}", recorded.log);

    let killed = with(&["control", "kill", "on", "--reason", "test", "--yes"]);
    assert_eq!(killed.code, Some(0), "{}", killed.log);
    assert_eq!(night.cluster.entries(&night.name("harvest.control")).len(), 1);

    let ran = with(&["doctor", "--json", "--all"]);
    let document: serde_json::Value = serde_json::from_str(&ran.out).expect("a document");
    let checks = document["checks"].as_array().expect("checks");
    let find = |subject: &str| {
        let check = checks.iter().find(|check| check["area"] == "cluster" && check["subject"] == subject);
        check.unwrap_or_else(|| panic!("{subject}: {document:#}"))
    };
    let owner = format!("127.0.0.1:{}", night.cluster.nodes[CELL].port());
    let prices = format!("127.0.0.1:{}", night.cluster.nodes[PRICES].port());
    for (subject, verdict, found) in [
        ("state", "ok", "16384 of 16384 slots"),
        ("slot", "ok", owner.as_str()),
        ("names", "ok", "share"),
        ("replicas", "ok", "1"),
        ("clocks", "ok", prices.as_str()),
        ("min-replicas-to-write", "warning", "0"),
    ] {
        let check = find(subject);
        assert_eq!(check["verdict"], verdict, "{check:#}");
        assert!(check["found"].as_str().unwrap_or_default().contains(found), "{found}: {check:#}");
    }
    until("the cluster is there", || night.cluster.owner_of(&night.name("harvest.decision")) == Some(CELL));
}

/// A connection works while a slot moves, and after that; it writes to many slots at once.
#[tokio::test]
async fn a_connection_follows_a_moving_slot() {
    let cluster = RedisCluster::start();
    let stream = format!("{{{}}}:stream", RedisCluster::tag_at(CELL));
    let address = Address::new(&cluster.url(), None).expect("an address").at_home(&stream);
    let mut server = Server::connect(&address).await.expect("a cluster");
    let slot = slot_of(&stream).to_string();
    let (source, target) = (&cluster.nodes[CELL], &cluster.nodes[PRICES]);
    let (source_id, target_id) = (cluster.id(CELL), cluster.id(PRICES));
    let mut ids = vec![server.add(&stream, &[("n", "1")]).await.expect("it is written")];

    target.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source_id]);
    source.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target_id]);
    source.cli(&["MIGRATE", "127.0.0.1", &target.port().to_string(), &stream, "0", "5000"]);
    assert!(source.cli(&["XLEN", &stream]).contains("ASK"), "the slot is moving");
    let entries = [vec![("n", "2")], vec![("n", "3")]];
    ids.extend(server.add_all(&stream, &entries).await.expect("they are written"));
    for node in [target, source] {
        node.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", &target_id]);
    }
    assert!(source.cli(&["XLEN", &stream]).contains("MOVED"), "the slot has moved");
    ids.push(server.add(&stream, &[("n", "4")]).await.expect("it is written"));
    let read = server.range_after(&stream, None, 10).await.expect("they are read");
    assert_eq!(read.iter().map(|entry| entry.id).collect::<Vec<_>>(), ids, "each is there, once");

    let mark = |n: u64| MarkText {
        symbol: format!("S{n}USDT"),
        payload: "{}".to_owned(),
        price: n.to_string(),
        time_ms: 1_770_163_200_000 + n,
    };
    let marks: Vec<MarkText> = (0..40).map(mark).collect();
    let places = MarkPlaces { stream: stream.clone(), entries_max: 1000, expiry: std::time::Duration::from_secs(60) };
    let left = || std::time::Duration::from_secs(3);
    assert!(server.write_marks(&places, &marks, left).await.expect("they are written"));
    let names: Vec<&str> = marks.iter().map(|mark| mark.symbol.as_str()).collect();
    let prices = server.price_hashes(&names).await.expect("they are read");
    for (mark, price) in marks.iter().zip(&prices) {
        assert_eq!(price.ticker.price.as_deref(), Some(mark.price.as_str()));
        assert_eq!(price.market.timestamp.as_deref(), Some("1770163200"));
    }
    assert_eq!(server.stream_length(&stream).await.expect("a stream"), 44);
    let found = server.symbol_hashes("quantum:ticker:").await.expect("they are found");
    assert_eq!(found.len(), 40, "of all primaries: {found:?}");
}
