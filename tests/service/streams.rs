//! Streams that nothing can be read from or added to: each is named, and the others are read on.

use crate::support::binary::{harvester, run};
use crate::support::redis::RedisServer;
use crate::support::service::{
    CONTROL, DECISION, INTENT, PLAN, PRICE, Place, RESULT, add, decisions, entries, gaps_told, is_read_to,
    open_position, price, until, until_leader,
};

const QUARANTINE: &str = "quantum:stream:harvest.quarantine";
const GREATEST: &str = "18446744073709551615-18446744073709551615";
/// One of each kind that the reader, the start or delivery treats in a way of its own.
const INPUTS: [&str; 4] = [CONTROL, RESULT, PRICE, DECISION];

const LIVE: &str = "[policy]\nmode = \"live\"\nladder = \"0.5:0.25\"\natr_unit = { default = \"absolute\" }\n\
    price_sources = [\"market.tick\"]\non_live = \"take\"\nrequire_instrument = false\n\
    [emit]\nformat = \"apply_plan\"\nsource = \"harvester\"\nexecutors = [\"executor\"]\nmax_decision_age_ms = 600000\n";

/// All that is written into the other streams is read, folded and acknowledged.
fn others_are_read(server: &RedisServer, stream: &str) {
    for other in [INTENT, RESULT, PRICE].into_iter().filter(|other| *other != stream) {
        let id = add(server, other, &[("symbol", "AAAUSDT"), ("price", "1"), ("side", "BUY")]);
        until(&format!("{other} is read beside {stream}"), || is_read_to(server, other, &id));
    }
}

/// The greatest id in any input: the stream is named, the others are read on, also by whoever comes after a kill.
#[test]
fn the_greatest_id_in_a_stream_keeps_no_other_stream_from_being_read() {
    for stream in INPUTS {
        let server = RedisServer::start();
        let place = Place::new(&server);
        let service = place.start();
        until_leader(&service);
        server.cli(&["XADD", stream, GREATEST, "symbol", "AAAUSDT", "price", "1"]);
        service.until_logged(&["IDS_EXHAUSTED", stream]);
        others_are_read(&server, stream);
        service.kill();
        std::fs::remove_file(place.folder.path().join("log")).expect("there is a log");
        let service = place.start();
        service.until_logged(&["IDS_EXHAUSTED", stream]);
        others_are_read(&server, stream);
        assert!(!place.log().contains("reading failed"), "{stream}: {}", place.log());
        assert!(stream == CONTROL || gaps_told(&server) == 0, "{stream}: nothing is lost");
        service.stop();
    }
}

/// Ids of the last millisecond there is, which go on: they wait, and nothing else does.
#[test]
fn ids_of_the_last_millisecond_wait_and_keep_nothing_else() {
    for stream in INPUTS {
        let server = RedisServer::start();
        let place = Place::new(&server);
        let service = place.start();
        until_leader(&service);
        server.cli(&["XADD", stream, "18446744073709551615-5", "symbol", "AAAUSDT", "price", "1"]);
        add(&server, stream, &[("symbol", "AAAUSDT"), ("price", "1")]);
        service.until_logged(&["IDS_AHEAD", stream]);
        others_are_read(&server, stream);
        assert!(!place.log().contains("reading failed"), "{stream}: {}", place.log());
        service.stop();
    }
}

/// The smallest id there is comes first, and is read.
#[test]
fn the_smallest_id_is_read() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    server.cli(&["XADD", PRICE, "0-1", "symbol", "AAAUSDT", "price", "1"]);
    place.run_until_idle();
    assert!(is_read_to(&server, PRICE, "0-1"));
    assert_eq!(gaps_told(&server), 0);
}

/// A key of another type in the place of any input, from the beginning or since: it is named, the others are read on, and it
/// is read once it is a stream.
#[test]
fn a_key_that_is_no_stream_keeps_no_other_stream_from_being_read() {
    for (stream, is_first) in INPUTS.into_iter().flat_map(|stream| [(stream, true), (stream, false)]) {
        let server = RedisServer::start();
        let place = Place::new(&server);
        let take = || {
            server.cli(&["DEL", stream]);
            server.cli(&["SET", stream, "no stream"]);
        };
        if is_first {
            take();
        }
        let mut service = place.start();
        until_leader(&service);
        if !is_first {
            others_are_read(&server, "");
            take();
        }
        service.until_logged(&["NOT_A_STREAM", stream]);
        others_are_read(&server, stream);
        assert!(service.child.try_wait().expect("it is a child").is_none(), "{stream}: it runs");
        server.cli(&["DEL", stream]);
        service.until_logged(&["NOT_A_STREAM_OVER", stream]);
        if [INTENT, RESULT, PRICE].contains(&stream) {
            others_are_read(&server, "");
        }
        service.stop();
    }
}

/// A control stream that was none at a start and is one now holds what was not looked through: the next start does that.
#[test]
fn a_control_stream_that_comes_back_is_looked_through_by_the_next_start() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    add(&server, "elsewhere", &[("event_type", "kill.changed"), ("payload", r#"{"kill":true,"reason":"r"}"#)]);
    server.cli(&["SET", CONTROL, "no stream"]);
    let mut service = place.start();
    service.until_logged(&["NOT_A_STREAM", CONTROL]);
    server.cli(&["RENAME", "elsewhere", CONTROL]);
    let mut status = None;
    until("the service ends", || {
        status = service.child.try_wait().expect("it is a child");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(3), "{}", place.log());
    let service = place.start();
    service.until_logged(&["KILLED"]);
    service.stop();
}

/// Prices go into a key of another type for a while, and what the stream held before is gone: that is told.
#[test]
fn what_a_stream_held_that_is_none_any_more_is_told_as_lost() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let service = place.start();
    until_leader(&service);
    others_are_read(&server, "");
    server.cli(&["DEL", PRICE]);
    server.cli(&["SET", PRICE, "no stream"]);
    until("the gap is told", || gaps_told(&server) == 1);
    service.stop();
}

/// A stream that is written to takes nothing: no order goes out, that is said with the reason, and the process goes on.
#[test]
fn no_order_goes_out_while_a_stream_that_is_written_to_takes_nothing() {
    for (stream, is_exhausted) in [(CONTROL, true), (DECISION, true), (PLAN, true), (CONTROL, false), (DECISION, false)]
    {
        let server = RedisServer::start();
        let mut place = Place::new(&server);
        place.settings = LIVE.to_owned();
        let mut service = place.start();
        until("the policy is adopted", || !entries(&server, CONTROL).is_empty());
        open_position(&server, "AAAUSDT");
        let id = price(&server, "AAAUSDT", "1.001");
        until("the position is read", || is_read_to(&server, PRICE, &id));
        let orders = entries(&server, PLAN).len();
        if is_exhausted {
            server.cli(&["XADD", stream, GREATEST, "event_type", "note", "payload", "{}"]);
        } else {
            server.cli(&["RENAME", stream, "elsewhere"]);
            server.cli(&["SET", stream, "no stream"]);
        }
        let says = if is_exhausted { "IDS_EXHAUSTED" } else { "NOT_A_STREAM" };
        service.until_logged(&[says, stream]);
        let id = price(&server, "AAAUSDT", "1.02");
        service.until_logged(&["OUTPUT_REFUSED", stream]);
        until("others are acknowledged", || is_read_to(&server, PRICE, &id));
        let written = usize::from(is_exhausted && stream == PLAN);
        assert_eq!(entries(&server, PLAN).len(), orders + written, "{stream}: no order");
        others_are_read(&server, stream);
        assert!(service.child.try_wait().expect("it is a child").is_none(), "{stream}: it runs");
        assert!(stream == DECISION || decisions(&server).is_empty(), "{stream}: nothing is half written");
        service.stop();
    }
}

/// The record of a quarantined entry cannot be written: the service shows a finding until it can.
#[test]
fn a_quarantine_stream_that_takes_nothing_is_a_finding() {
    for is_exhausted in [true, false] {
        let server = RedisServer::start();
        let place = Place::new(&server);
        if is_exhausted {
            server.cli(&["XADD", QUARANTINE, GREATEST, "a", "b"]);
        } else {
            server.cli(&["SET", QUARANTINE, "no stream"]);
        }
        let service = place.start();
        add(&server, RESULT, &[("symbol", "AAAUSDT"), ("side", "BUY"), ("executedQty", "many")]);
        service.until_logged(&["OUTPUT_REFUSED", QUARANTINE]);
        server.cli(&["DEL", QUARANTINE]);
        service.until_logged(&["OUTPUT_REFUSED_OVER", QUARANTINE]);
        assert_eq!(entries(&server, QUARANTINE).len(), 1);
        service.stop();
    }
}

/// The kill key is set whatever becomes of the entry, and that is what is said.
#[test]
fn a_kill_says_that_the_key_is_set_where_the_control_stream_takes_nothing() {
    for is_exhausted in [true, false] {
        let server = RedisServer::start();
        if is_exhausted {
            server.cli(&["XADD", CONTROL, GREATEST, "a", "b"]);
        } else {
            server.cli(&["SET", CONTROL, "no stream"]);
        }
        let ran =
            run(harvester().args(["control", "kill", "on", "--reason", "test", "--yes", "--redis", &server.url()]));
        assert_eq!(ran.code, Some(1), "{} {}", ran.out, ran.log);
        assert!(ran.out.contains("The kill key is set to 1."), "{}", ran.out);
        assert!(ran.out.contains("could not be appended") && ran.out.contains(CONTROL), "{}", ran.out);
        assert_eq!(server.cli(&["GET", "quantum:kill"]).trim(), "1");
        let ran =
            run(harvester().args(["control", "gap-accept", "--reason", "test", "--yes", "--redis", &server.url()]));
        assert_eq!(ran.code, Some(2), "{} {}", ran.out, ran.log);
        assert!(ran.log.contains("nothing was written") && ran.log.contains(CONTROL), "{}", ran.log);
    }
}

/// An audit reads on, names what it cannot see, and takes the address with a space or a `=`.
#[test]
fn an_audit_sees_the_streams_around_one_of_the_greatest_id_or_of_another_type() {
    for is_exhausted in [true, false] {
        let server = RedisServer::start();
        price(&server, "AAAUSDT", "1");
        for stream in [CONTROL, RESULT, DECISION] {
            if is_exhausted {
                server.cli(&["XADD", stream, GREATEST, "event_type", "note", "payload", "{}"]);
            } else {
                server.cli(&["SET", stream, "no stream"]);
            }
        }
        for arguments in [vec![format!("--redis={}", server.url())], vec!["--redis".to_owned(), server.url()]] {
            let ran = run(harvester().arg("audit").args(arguments));
            assert_eq!(ran.code, Some(1), "{} {}", ran.out, ran.log);
            assert!(is_exhausted || ran.out.contains("no stream"), "{}", ran.out);
        }
    }
}

/// What is wrong with each stream is named, with a next step.
#[test]
fn the_doctor_names_streams_that_take_nothing() {
    let server = RedisServer::start();
    server.cli(&["XADD", PRICE, GREATEST, "a", "b"]);
    server.cli(&["SET", QUARANTINE, "no stream"]);
    let ran = run(harvester().args(["doctor", "--redis", &server.url()]));
    assert_eq!(ran.code, Some(1), "{}", ran.log);
    let line = |words: &[&str]| ran.out.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(line(&[PRICE, "ids_exhausted"]), "{}", ran.out);
    assert!(line(&[QUARANTINE, "not a stream"]), "{}", ran.out);
}
