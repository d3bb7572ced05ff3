//! Streams that nothing can be read from or added to: each is named, and the others are read on.

use crate::support::redis::RedisServer;
use crate::support::service::{
    CONTROL, DECISION, INTENT, PLAN, PRICE, Place, RESULT, add, entries, gaps_reported, is_read, is_read_to,
    open_position, price, until, until_leader,
};

const QUARANTINE: &str = "quantum:stream:harvest.quarantine";
const SNAPSHOT: &str = "quantum:stream:position.snapshot";
const GREATEST: &str = "18446744073709551615-18446744073709551615";

/// All that is written into these streams is read, folded and acknowledged.
fn are_read(server: &RedisServer, streams: &[&str], beside: &str) {
    for stream in streams {
        let id = add(server, stream, &[("symbol", "BBBUSDT"), ("price", "1"), ("side", "BUY")]);
        until(&format!("{stream} is read beside {beside}"), || is_read_to(server, stream, &id));
    }
}

/// One stream after the other takes ids that are no time, ids ahead of the clock, the greatest id, or is replaced by a key of
/// another type. Each is named, also by the process that follows a kill; the others are read on, and decisions are made.
#[test]
fn i10_a_stream_that_nothing_can_be_read_from_or_added_to_is_named_and_keeps_no_other() {
    let server = RedisServer::start();
    server.cli(&["SET", QUARANTINE, "something else"]);
    server.cli(&["SET", SNAPSHOT, "no stream"]);
    server.cli(&["XADD", PRICE, "0-1", "symbol", "AAAUSDT", "price", "1"]);
    let place = Place::new(&server);
    let service = place.start();
    until_leader(&service);
    service.until_logged(&["NOT_A_STREAM", SNAPSHOT]);
    service.until_logged(&["IDS_NOT_TIME", PRICE]);
    until("the smallest id is read", || is_read_to(&server, PRICE, "0-1"));

    // A record of a quarantined entry that cannot be published waits; nothing waits for it.
    price(&server, "AAAUSDT", "no number");
    service.until_logged(&["OUTPUT_REFUSED", QUARANTINE]);
    service.until_logged(&["IDS_NOT_TIME_OVER", PRICE]);
    open_position(&server, "AAAUSDT");
    price(&server, "AAAUSDT", "1.008");
    until("the decision is out", || entries(&server, DECISION).len() == 1 && is_read(&server, &[PRICE, RESULT]));
    server.cli(&["DEL", QUARANTINE]);
    until("the record is published", || entries(&server, QUARANTINE).len() == 1);
    service.until_logged(&["OUTPUT_REFUSED_OVER", QUARANTINE]);
    server.cli(&["DEL", SNAPSHOT]);
    service.until_logged(&["NOT_A_STREAM_OVER", SNAPSHOT]);

    let ahead = format!("{}-0", server.now_ms() + 7_200_000);
    server.cli(&["XADD", PLAN, &ahead, "plan_id", "p", "symbol", "BBBUSDT"]);
    service.until_logged(&["IDS_AHEAD", PLAN, "ahead of the server's clock"]);
    server.cli(&["XADD", RESULT, GREATEST, "symbol", "BBBUSDT"]);
    service.until_logged(&["IDS_EXHAUSTED", RESULT]);
    are_read(&server, &[INTENT, PRICE], "ids that are ahead and exhausted");
    assert_eq!(gaps_reported(&server), 0, "nothing is lost: {}", place.log());

    // What the stream held before is gone.
    server.cli(&["SET", PRICE, "no stream"]);
    service.until_logged(&["NOT_A_STREAM", PRICE]);
    until("the gap is reported", || gaps_reported(&server) == 1);
    are_read(&server, &[INTENT], "a key of another type");
    service.kill();

    let length = place.log().len();
    let service = place.start();
    for (says, stream) in [("IDS_AHEAD", PLAN), ("IDS_EXHAUSTED", RESULT), ("NOT_A_STREAM", PRICE)] {
        service.until_logged_behind(length, &[says, stream]);
    }
    are_read(&server, &[INTENT], "all of them");
    server.cli(&["DEL", PRICE]);
    service.until_logged_behind(length, &["NOT_A_STREAM_OVER", PRICE]);
    are_read(&server, &[INTENT, PRICE], "ids that are ahead and exhausted");
    service.stop();
    let log = place.log();
    for word in ["reading failed", "INPUT_BEHIND", "CURSOR_STANDING"] {
        assert!(!log.contains(word), "{word}: {log}");
    }
    assert_eq!(entries(&server, QUARANTINE).len(), 1, "the price without a number, once: {log}");
    comes_back(&server, &place);
}

/// A control stream that was none at a start and is one now holds what was not looked through: the next start does that.
fn comes_back(server: &RedisServer, place: &Place) {
    add(server, CONTROL, &[("event_type", "kill.changed"), ("payload", r#"{"kill":true,"reason":"r"}"#)]);
    server.cli(&["RENAME", CONTROL, "elsewhere"]);
    server.cli(&["SET", CONTROL, "no stream"]);
    let length = place.log().len();
    let mut service = place.start();
    service.until_logged_behind(length, &["NOT_A_STREAM", CONTROL]);
    server.cli(&["RENAME", "elsewhere", CONTROL]);
    let mut status = None;
    until("the service ends", || {
        status = service.child.try_wait().expect("it is a child");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(3), "{}", place.log());
    let service = place.start();
    service.until_logged_behind(length, &["KILLED"]);
    service.stop();
}
