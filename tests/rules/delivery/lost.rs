//! Lost and unconfirmed entries: what delivery looks for, writes again, and holds back.

use super::{CONTROL, NOTHING, RESULT, Rig, trimmed, with_an_order};
use crate::support::lab::entry_line;
use harvester::domain::delivery::Settings;
use harvester::domain::delivery::action::{
    Appended, FirstDecision, Looked, Notice, OfferAnswer, Recorded, Remembered, Tried,
};
use harvester::domain::delivery::row::RowChange;
use harvester::domain::event::ids::EntryId;

#[test]
fn a_server_that_lost_entries_turns_unwritten_orders_into_records() {
    let mut rig = with_an_order();
    rig.gap(None);
    assert_eq!(rig.actions(), ["checkpoint"], "the gap is written to disk first");
    assert_eq!(rig.actions(), NOTHING, "nothing else before the gap is on disk");
    rig.delivery.handle_checkpointed();
    assert_eq!(rig.actions()[..2], ["append 1 Gap", "offer 1 record-only"]);
    let changes = rig.delivery.take_changes(0);
    assert!(changes.iter().any(|change| matches!(change, RowChange::Outbox(row) if row.record_only)));
}

/// A gap that is in the log already is counted, and not reported again. A second loss with the same entries around it
/// is another gap: a waiting decision may have been sent before it.
#[test]
fn a_second_loss_with_the_same_entries_around_it_is_reported_too() {
    let mut rig = Rig::leading(Settings { sends_orders: true, age_max_ms: 30_000, ..Settings::default() });
    rig.gap(None);
    rig.actions();
    rig.delivery.handle_checkpointed();
    assert_eq!(rig.actions(), ["append 1 Gap"]);
    rig.delivery.handle_appended(1, Appended::Written(EntryId::new(6, 0), None), 1, &rig.lab.engine);
    let gap = format!(r#"{{"stream":"{CONTROL}","after":"1-0","before":"9-0","reason":"trimmed before it was read"}}"#);
    rig.control("6-0", "history.gap", &gap);
    rig.control("7-0", "gap.accepted", "{}");
    rig.live = true;
    rig.decide("AUSDT", 1_770_163_200_000);
    rig.sync();
    rig.gap(None);
    assert_eq!(rig.actions(), ["checkpoint"]);
    rig.delivery.handle_checkpointed();
    assert_eq!(rig.actions()[..2], ["append 2 Gap", "offer 1 record-only"]);
}

/// Returns a live rig whose order was written.
fn with_a_written_order() -> Rig {
    let mut rig = with_an_order();
    assert_eq!(rig.actions()[0], "offer 1");
    rig.written(1, 1_770_163_200_003);
    rig.delivery.handle_acknowledged();
    assert_eq!(rig.actions(), NOTHING);
    rig
}

/// The second decision is offered, and the server has lost the one before it: delivery looks for what was written. A third
/// decision was written by another instance, or there is none.
fn with_a_lost_order(is_third_written: bool) -> Rig {
    let mut rig = with_a_written_order();
    rig.decide("BUSDT", 1_770_163_300_000);
    if is_third_written {
        rig.decide("CUSDT", 1_770_163_400_000);
    }
    rig.sync();
    assert!(rig.actions()[0].starts_with("offer 2 after:1770163200003-0"));
    if is_third_written {
        rig.written(3, 1_770_163_400_003);
    }
    rig.delivery.handle_offered(2, OfferAnswer::Lost, 1);
    rig.delivery.handle_acknowledged();
    assert_eq!(rig.actions(), [if is_third_written { "check 1 3" } else { "check 1" }]);
    rig
}

#[test]
fn lost_decisions_are_written_again_first_and_without_their_orders() {
    let mut rig = with_a_lost_order(false);
    assert_eq!(rig.actions(), NOTHING, "nothing is offered before they are written again");
    rig.notices();
    rig.looked(1, false, None);
    assert_eq!(rig.notices(), [Notice::WrittenAgain { count: 1, first: 1, last: 1 }]);
    assert_eq!(rig.actions(), ["checkpoint"]);
    rig.delivery.handle_checkpointed();
    assert_eq!(rig.actions(), ["offer 1 again record-only, 2 needs"]);
}

/// The same if another instance has written the decision after it, and both entries before that are trimmed.
#[test]
fn a_decision_that_was_only_trimmed_is_not_looked_for_twice() {
    for is_third_written in [false, true] {
        let mut rig = with_a_lost_order(is_third_written);
        rig.looked(1, false, Some(trimmed(1_770_163_200_003)));
        assert_eq!(rig.actions(), ["offer 2"], "without the entry that was trimmed");
    }
}

/// It was there when it was looked for. The server may lose it after that, so the next one is written behind it only if
/// it is still there.
#[test]
fn a_decision_that_was_there_when_it_was_looked_for_may_be_lost_later() {
    let mut rig = with_an_order_to_look_for();
    rig.looked(1, true, None);
    rig.decide("BUSDT", 1_770_163_300_000);
    rig.sync();
    assert_eq!(rig.actions()[0], "offer 2 after:1770163200003-0");
}

/// An order that was written, on the next connection. The server is asked for it.
fn with_an_order_to_look_for() -> Rig {
    let mut rig = with_a_written_order();
    rig.delivery.handle_disconnected();
    rig.delivery.handle_connected();
    assert_eq!(rig.actions(), ["check 1"]);
    rig.notices();
    rig
}

/// The server lost it, an instance wrote it again, and no process that knows of that is left.
#[test]
fn a_decision_that_was_lost_and_written_again_is_not_written_a_third_time() {
    let again = EntryId::new(1_770_163_200_009, 0);
    let mut rig = with_an_order_to_look_for();
    rig.looked(1, false, Some(Remembered { entry: again, is_there: true, is_trimmed: false }));
    assert_eq!(rig.actions(), NOTHING);
    assert_eq!(rig.notices(), []);
    assert_eq!(rig.delivery.outbox().get(1).expect("it").written, Some(again));
    rig.decide("BUSDT", 1_770_163_300_000);
    rig.sync();
    assert_eq!(rig.actions()[0], "offer 2 after:1770163200009-0");
    rig.delivery.handle_acknowledged();
    rig.written(2, 1_770_163_300_003);
    rig.decide("CUSDT", 1_770_163_400_000);
    rig.sync();
    assert_eq!(rig.actions()[0], "offer 3 after:1770163300003-0");

    // Later ones were written behind it, and the stream is trimmed.
    let mut rig = with_an_order_to_look_for();
    rig.looked(1, false, Some(trimmed(1_770_163_200_009)));
    assert_eq!(rig.actions(), NOTHING);
    assert_eq!(rig.notices(), []);
    assert_eq!(rig.delivery.outbox().get(1).expect("it").written, Some(again));
    rig.decide("BUSDT", 1_770_163_300_000);
    rig.sync();
    assert_eq!(rig.actions(), ["offer 2", "acknowledge 1770163300000-0 1770163300001-0 1770163300002-0"]);
}

#[test]
fn a_memory_that_names_an_entry_of_something_else_does_not_prove_that_a_decision_is_there() {
    let mut rig = with_an_order_to_look_for();
    let other = Remembered { entry: EntryId::new(1_770_163_200_009, 0), is_there: false, is_trimmed: false };
    rig.looked(1, false, Some(other));
    assert_eq!(rig.actions(), ["checkpoint"]);
    assert_eq!(rig.notices(), [Notice::WrittenAgain { count: 1, first: 1, last: 1 }]);
    rig.delivery.handle_checkpointed();
    assert_eq!(rig.actions(), ["offer 1 again record-only"]);
    // The script knows better than the look-up.
    rig.delivery.handle_offered(1, OfferAnswer::Doubtful { known: "1770163200009-0  ".to_owned() }, 1);
    assert_eq!(rig.actions(), NOTHING);
    assert_eq!(rig.delivery.doubtful(), 1);
}

/// A stream that was lost as a whole begins with the first decision that is written again. The memory still names the
/// entries of those behind it.
#[test]
fn a_decision_is_trimmed_only_where_the_stream_begins_with_a_later_one() {
    let entry = |ms| EntryId::new(ms, 0);
    let first = |seq| FirstDecision { entry: entry(9), seq };
    let shows = |first: FirstDecision, seq| [8, 9, 10].map(|ms| first.shows_trimmed(seq, entry(ms)));
    assert_eq!(shows(first(Some(5)), 4), [true, false, false]);
    assert_eq!(shows(first(Some(5)), 5), [false, false, false]);
    assert_eq!(shows(first(Some(5)), 6), [false, false, false]);
    assert_eq!(shows(first(None), 6), [true, false, false], "somebody else has written the first entry");
}

/// The answer is about an entry that the server had lost before.
#[test]
fn a_decision_that_came_back_while_it_was_looked_for_is_not_written_again() {
    let mut rig = with_an_order_to_look_for();
    let asked = rig.delivery.outbox().get(1).expect("it").written;
    let mut seen = rig.delivery.outbox().get(1).expect("it").clone();
    seen.written = Some(EntryId::new(1_770_163_200_009, 0));
    rig.see(seen);
    let looked = Looked { seq: 1, entry: asked, is_there: false, remembered: None };
    rig.delivery.handle_checked(&[looked], &rig.lab.engine);
    rig.sync();
    assert_eq!(rig.actions(), ["acknowledge 1770163200008-0"]);
    assert_eq!(rig.notices(), []);
}

#[test]
fn a_decision_in_doubt_holds_everything_after_it_for_ten_seconds() {
    let mut rig = Rig::leading(Settings::default());
    rig.decide("AUSDT", 1_770_163_200_000);
    rig.decide("BUSDT", 1_770_163_300_000);
    rig.sync();
    assert_eq!(rig.actions()[0], "offer 1, 2 needs");
    rig.delivery.handle_offered(1, OfferAnswer::Doubtful { known: "7-0".to_owned() }, 1);
    rig.delivery.handle_offered(2, OfferAnswer::Halted, 1);
    rig.delivery.handle_acknowledged();
    assert_eq!(rig.actions(), NOTHING);
    assert!(matches!(&rig.notices()[..], [Notice::Doubtful { seq: 1, .. }]));
    assert_eq!((rig.delivery.doubtful(), rig.delivery.poll_timeout(1)), (1, Some(10_001)));
    rig.now_ms = 10_001;
    assert_eq!(rig.actions(), ["offer 1, 2 needs"]);
}

#[test]
fn actions_in_flight_at_a_broken_connection_are_asked_for_again() {
    let mut rig = Rig::leading(Settings::default());
    rig.decide("AUSDT", 1_770_163_200_000);
    rig.feed(&entry_line(RESULT, "1770163200009-0", &[("symbol", "AUSDT"), ("executed", "perhaps")]));
    rig.gap(Some(3));
    rig.sync();
    assert_eq!(rig.actions(), ["checkpoint"]);
    rig.delivery.handle_checkpointed();
    let asked = rig.actions();
    let all = "acknowledge 1770163200000-0 1770163200001-0 1770163200009-0 1770163200002-0";
    assert_eq!(asked, ["append 1 Gap", "offer 1", all, "record 1770163200009-0"]);
    let tried = Tried { after: EntryId::new(4, 0), fields: Vec::new(), issued_ms: 0 };
    rig.delivery.handle_appended(1, Appended::Unknown(Some(tried)), 1, &rig.lab.engine);
    rig.delivery.handle_disconnected();
    assert_eq!(rig.actions(), NOTHING, "no connection");
    rig.delivery.handle_connected();
    assert_eq!(rig.actions(), ["append 1 Gap again", "offer 1", all, "record 1770163200009-0?"]);
}

/// The server loses a decision that it has acknowledged and no process has read back: no gap shows it.
#[test]
fn a_written_decision_is_looked_for_on_the_next_connection_and_under_the_next_lease() {
    let mut rig = with_an_order_to_look_for();
    rig.looked(1, false, None);
    assert_eq!(rig.actions(), ["checkpoint"]);
    rig.delivery.handle_checkpointed();
    assert_eq!(rig.actions(), ["offer 1 again record-only"]);

    let mut rig = with_a_written_order();
    rig.lead("2 b");
    assert_eq!(rig.actions(), ["append 1 PolicyInForce", "check 1"]);
    rig.looked(1, true, None);
    assert_eq!(rig.actions(), NOTHING, "the server has it");
}

/// The server loses an entry of ours that no process has read: no gap shows it, only the broken connection.
#[test]
fn an_entry_of_ours_that_was_not_read_back_is_looked_for_on_the_next_connection() {
    let mut rig = Rig::leading(Settings::default());
    rig.gap(Some(3));
    assert_eq!(rig.actions(), ["checkpoint"]);
    rig.delivery.handle_checkpointed();
    assert_eq!(rig.actions(), ["append 1 Gap"]);
    let id = EntryId::new(1_770_163_200_000, 0);
    let tried = Tried { after: EntryId::new(4, 0), fields: Vec::new(), issued_ms: 0 };
    let written = || Appended::Written(id, Some(tried.clone()));
    rig.delivery.handle_appended(1, written(), 1, &rig.lab.engine);
    assert_eq!(rig.actions(), NOTHING, "it is in the stream");
    rig.delivery.handle_disconnected();
    rig.delivery.handle_connected();
    assert_eq!(rig.actions(), ["append 1 Gap again"]);
    rig.delivery.handle_appended(1, written(), 1, &rig.lab.engine);
    let gap = r#"{"stream":"quantum:stream:apply.result","after":"1-0","before":"9-0"}"#;
    rig.control("1770163200000-0", "history.gap", gap);
    rig.sync();
    assert_eq!(rig.actions(), ["checkpoint"], "it was read back");
    rig.delivery.handle_checkpointed();
    assert_eq!(rig.actions(), ["acknowledge 1770163200000-0"]);
    rig.delivery.handle_acknowledged();
    rig.delivery.handle_disconnected();
    rig.delivery.handle_connected();
    assert_eq!(rig.actions(), NOTHING, "an entry that was read back is not looked for");
}

#[test]
fn a_record_that_was_not_written_waits_five_seconds_and_is_looked_for() {
    let mut rig = Rig::leading(Settings::default());
    rig.feed(&entry_line(RESULT, "1770163200009-0", &[("symbol", "AUSDT"), ("executed", "perhaps")]));
    rig.sync();
    assert_eq!(rig.actions(), ["acknowledge 1770163200009-0", "record 1770163200009-0"]);
    rig.delivery.handle_acknowledged();
    rig.delivery.handle_recorded(0, Recorded::Unknown, 1);
    assert_eq!((rig.actions(), rig.delivery.poll_timeout(1)), (Vec::new(), Some(5_001)));
    rig.now_ms = 5_001;
    assert_eq!(rig.actions(), ["record 1770163200009-0?"]);
    rig.delivery.handle_recorded(0, Recorded::Written, 5_001);
    assert!(rig.delivery.is_settled());
}
