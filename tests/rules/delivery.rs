//! Delivery as a state machine: given events, when one more comes, then *all* actions that it asks for.

mod lost;
mod restored;
mod rig;

use crate::support::lab::entry_line;
use harvester::domain::delivery::action::{Appended, Notice, OfferAnswer, Remembered};
use harvester::domain::delivery::{AccountPolicy, Lease, Settings};
use harvester::domain::event::ids::{EntryId, StreamId};
use rig::{LONG, Rig};

const INTENT: &str = "quantum:stream:trade.intent";

const RESULT: &str = "quantum:stream:apply.result";

const SNAPSHOT: &str = "quantum:stream:position.snapshot";

const TICK: &str = "quantum:stream:market.tick";

const CONTROL: &str = "quantum:stream:harvest.control";

const NOTHING: [&str; 0] = [];

/// An entry that the memory of written ids names, and that is older than all of its stream.
fn trimmed(ms: u64) -> Remembered {
    Remembered { entry: EntryId::new(ms, 0), is_there: false, is_trimmed: true }
}

/// Once a general policy is adopted, an account follows it unless its own was adopted. So its own is published first.
#[test]
fn policies_of_accounts_are_published_before_the_general_policy() {
    let of_account = AccountPolicy { hash: "of main".into(), json: "{}".into() };
    let settings = Settings { account_policies: [("main".into(), of_account)].into(), ..Settings::default() };
    let mut rig = Rig::new(settings);
    rig.lead("1 a");
    assert_eq!(rig.actions(), [r#"append 0 AccountPolicy { account: "main", policy: "{}" }"#]);
    rig.delivery.handle_appended(0, Appended::Written(EntryId::new(5, 0), None), 1, &rig.lab.engine);
    assert_eq!(rig.actions(), ["append 1 PolicyInForce"]);
}

#[test]
fn nothing_is_offered_or_acknowledged_before_it_is_on_disk() {
    let mut rig = Rig::leading(Settings::default());
    rig.decide("AUSDT", 1_770_163_200_000);
    assert_eq!(rig.actions(), NOTHING, "folded, but not durable");
    rig.delivery.handle_synced(3);
    assert_eq!(rig.actions(), ["acknowledge 1770163200000-0 1770163200001-0"], "without the cause");
    rig.delivery.handle_acknowledged();
    rig.sync();
    assert_eq!(rig.actions(), ["offer 1", "acknowledge 1770163200002-0"]);
    rig.written(1, 1_770_163_200_003);
    rig.delivery.handle_acknowledged();
    assert_eq!(rig.actions(), NOTHING, "once");
    assert!(rig.delivery.is_settled());
}

#[test]
fn decisions_are_offered_in_order_in_one_pipeline_each_needing_the_one_before() {
    let mut rig = Rig::leading(Settings::default());
    for (n, symbol) in ["AUSDT", "BUSDT", "CUSDT"].into_iter().enumerate() {
        rig.decide(symbol, 1_770_163_200_000 + 10 * n as u64);
    }
    rig.sync();
    assert_eq!(rig.actions()[0], "offer 1, 2 needs, 3 needs");
    rig.written(1, 1_770_163_201_000);
    assert_eq!(rig.actions(), NOTHING, "the pipeline is in flight");
    rig.delivery.handle_offered(2, OfferAnswer::Unfit, 1);
    rig.delivery.handle_offered(3, OfferAnswer::Halted, 1);
    assert_eq!(rig.actions(), NOTHING, "a key refuses writes: 2 s");
    assert_eq!(rig.delivery.poll_timeout(1), Some(2_001));
    rig.now_ms = 2_001;
    assert_eq!(rig.actions(), ["offer 2 after:1770163201000-0, 3 needs"]);
}

#[test]
fn a_process_without_the_lease_acknowledges_and_offers_nothing() {
    let mut rig = Rig::new(Settings::default());
    rig.decide("AUSDT", 1_770_163_200_000);
    rig.sync();
    assert_eq!(rig.actions(), ["acknowledge 1770163200000-0 1770163200001-0 1770163200002-0"]);
    rig.lead("1 a");
    assert_eq!(rig.actions(), ["append 0 PolicyInForce", "offer 1"]);
    rig.delivery.handle_lease(None, 100, &rig.lab.engine);
    assert_eq!(rig.actions(), NOTHING);
    rig.lead("2 a");
    assert_eq!(rig.actions(), ["append 1 PolicyInForce", "offer 1"], "the answers may be lost: both again");
}

#[test]
fn nothing_is_offered_once_the_lease_may_have_expired() {
    let mut rig = Rig::leading(Settings::default());
    rig.decide("AUSDT", 1_770_163_200_000);
    rig.sync();
    rig.now_ms = LONG;
    assert_eq!(rig.actions(), ["acknowledge 1770163200000-0 1770163200001-0 1770163200002-0"]);
    rig.delivery.handle_lease(Some(Lease { value: "1 a".to_owned(), until_ms: 2 * LONG }), 100, &rig.lab.engine);
    assert_eq!(rig.actions(), ["offer 1"], "renewed");
    rig.delivery.handle_offered(1, OfferAnswer::Stale, LONG);
    assert_eq!(rig.actions(), NOTHING, "another process has the lease: no retry at once");
    assert_eq!(rig.delivery.poll_timeout(LONG), Some(LONG + 50));
}

/// Returns a live rig with one order that is on disk.
fn with_an_order() -> Rig {
    let mut rig = Rig::leading(Settings { sends_orders: true, age_max_ms: 30_000, ..Settings::default() });
    rig.live = true;
    rig.decide("AUSDT", 1_770_163_200_000);
    rig.sync();
    rig
}

#[test]
fn an_order_waits_until_the_entries_from_before_the_lease_are_folded() {
    let mut rig = with_an_order();
    assert_eq!(rig.actions()[0], "offer 1");
    rig.delivery.handle_lease(None, 200, &rig.lab.engine);
    let lease = Lease { value: "2 a".to_owned(), until_ms: LONG };
    rig.delivery.handle_lease(Some(lease), 200, &rig.lab.engine);
    assert_eq!(rig.actions(), ["append 1 PolicyInForce"]);
    rig.delivery.handle_appended(1, Appended::Written(EntryId::new(5, 1), None), 1, &rig.lab.engine);
    rig.delivery.handle_server_time(200);
    rig.delivery.handle_watermark(1_000);
    assert_eq!(rig.actions(), NOTHING, "no round was read with the lease");
    rig.delivery.handle_server_time(2_000);
    assert_eq!(rig.actions(), NOTHING, "the entries of that round are not folded");
    rig.delivery.handle_watermark(2_000);
    assert_eq!(rig.actions(), ["offer 1"]);
    rig.delivery.handle_offered(1, OfferAnswer::Behind, 1);
    assert_eq!(rig.actions(), NOTHING, "refused: the order rests on old data");
    rig.delivery.handle_watermark(2_001);
    assert_eq!(rig.actions(), ["offer 1"]);
}

#[test]
fn an_order_waits_while_entries_about_positions_have_ids_ahead_of_the_clock() {
    let mut rig = with_an_order();
    let offers = |rig: &mut Rig| rig.actions().iter().filter(|action| action.starts_with("offer")).count();
    rig.delivery.handle_facts_ahead(true);
    assert_eq!(offers(&mut rig), 0, "one of them may close the position");
    rig.delivery.handle_watermark(3_600_000);
    assert_eq!(offers(&mut rig), 0);
    rig.delivery.handle_facts_ahead(false);
    assert_eq!(offers(&mut rig), 1);
}

#[test]
fn an_order_waits_while_a_group_reads_requests_that_is_no_executor() {
    let mut rig = with_an_order();
    rig.delivery.handle_unnamed_executors(true);
    assert!(rig.actions().iter().all(|action| action.starts_with("acknowledge")), "two executors close twice");
    rig.delivery.handle_unnamed_executors(false);
    assert_eq!(rig.actions(), ["offer 1"]);
}

#[test]
fn each_reason_not_to_send_an_order_refuses_it_at_the_offer() {
    type Happens = fn(&mut Rig);
    let cases: [(&str, Happens); 12] = [
        ("offer 1", |_| {}),
        ("offer 1", |rig| rig.sell("AUSDT", "2")),
        ("offer 1 refused:killed", |rig| {
            assert!(rig.delivery.handle_kill_read(StreamId(5), EntryId::new(1_770_163_900_000, 0), &rig.lab.engine));
        }),
        ("offer 1 refused:killed", |rig| rig.control("1770163200005-0", "kill.changed", r#"{"kill":true}"#)),
        ("offer 1 refused:history_gap", |rig| {
            let gap = format!(r#"{{"stream":"{RESULT}","after":"1-0","before":"1770163200004-0"}}"#);
            rig.control("1770163200005-0", "history.gap", &gap);
        }),
        ("offer 1 refused:position_changed", |rig| rig.sell("AUSDT", "9")),
        ("offer 1 refused:position_changed", |rig| rig.sell("AUSDT", "10")),
        ("offer 1 refused:position_changed, 2 needs", |rig| {
            rig.sell("AUSDT", "10");
            rig.decide("AUSDT", 1_770_163_200_010);
            rig.sync();
        }),
        ("offer 1 refused:history_gap", |rig| {
            let unreadable = [("symbol", "AUSDT"), ("side", "SELL"), ("status", "WHATEVER")];
            rig.feed(&entry_line(RESULT, "1770163200005-0", &unreadable));
        }),
        ("offer 1 refused:diverged", |rig| {
            let seen = [("symbol", "AUSDT"), ("side", "LONG"), ("position_qty", "9")];
            rig.feed(&entry_line(SNAPSHOT, "1770163230000-0", &seen));
        }),
        ("offer 1 refused:price_jump", |rig| {
            let far = [("symbol", "AUSDT"), ("price", "300")];
            rig.feed(&entry_line(TICK, "1770163200005-0", &far));
        }),
        ("offer 1 refused:policy_differs", |rig| {
            let policy = r#"{"policy":{"min_r":"0.7"}}"#;
            rig.control("1770163200005-0", "policy.adopted", policy);
        }),
    ];
    for (want, happens) in cases {
        let mut rig = with_an_order();
        happens(&mut rig);
        assert_eq!(rig.actions()[0], want);
    }
    let mut shadow = with_an_order();
    shadow.delivery = {
        let mut rig = Rig::leading(Settings::default());
        rig.live = true;
        rig.decide("AUSDT", 1_770_163_200_000);
        rig.sync();
        rig.delivery
    };
    assert_eq!(shadow.actions()[0], "offer 1 refused:configured_shadow");
}

#[test]
fn no_order_is_offered_while_an_entry_of_ours_is_unconfirmed() {
    let mut rig = with_an_order();
    rig.gap(Some(3));
    // Entries may be lost: first delivery looks for the ones that it wrote. It has written none, so it asks for
    // nothing.
    assert_eq!(rig.actions(), ["checkpoint"], "the gap is on disk before any entry after it");
    assert!(rig.delivery.waits_for_checkpoint());
    rig.delivery.handle_checkpointed();
    assert_eq!(rig.actions()[..2], ["append 1 Gap", "offer 1 refused:history_gap"]);
    assert!(matches!(rig.notices()[..], [Notice::Lost(_)]));
}

#[test]
fn the_kill_key_is_published_if_it_differs_from_the_log() {
    // Key seen, key in the log, key seen now; signed or not. Then: the appended entries.
    let cases: [(bool, &[bool], bool, &[&str]); 5] = [
        (false, &[], true, &["append 1 Kill(true)"]),
        (false, &[], false, &[]),
        (true, &[], false, &[]),
        (false, &[true], false, &["append 2 Kill(false)"]),
        (true, &[true], false, &[]),
    ];
    for (has_key, before, now, want) in cases {
        let mut rig = Rig::leading(Settings { has_key, ..Settings::default() });
        for kill in before {
            rig.delivery.handle_kill_key(*kill, rig.now_ms, &rig.lab.engine);
            assert_eq!(rig.actions(), [format!("append 1 Kill({kill})")]);
            let id = EntryId::new(1_770_163_200_000, 0);
            rig.delivery.handle_appended(1, Appended::Written(id, None), 1, &rig.lab.engine);
            rig.control("1770163200000-0", "kill.changed", r#"{"kill":true}"#);
            rig.sync();
            assert_eq!(rig.actions(), ["acknowledge 1770163200000-0"]);
            rig.delivery.handle_acknowledged();
        }
        rig.delivery.handle_kill_key(now, rig.now_ms + 1, &rig.lab.engine);
        assert_eq!(rig.actions(), want, "signed: {has_key}, before: {before:?}, now: {now}");
        rig.delivery.handle_kill_key(now, rig.now_ms + 2, &rig.lab.engine);
        assert_eq!(rig.actions(), NOTHING, "each change once");
    }
}

/// `control kill off` sets the key to 0, then appends its entry. A read that began before that arrives after the
/// entry was folded.
#[test]
fn a_late_read_of_the_kill_key_does_not_kill_again() {
    let mut rig = Rig::leading(Settings::default());
    rig.now_ms = 10;
    rig.control("1770163200000-0", "kill.changed", r#"{"kill":false}"#);
    rig.sync();
    assert_eq!(rig.actions(), ["acknowledge 1770163200000-0"]);
    for began_ms in [9, 10] {
        rig.delivery.handle_kill_key(true, began_ms, &rig.lab.engine);
        assert_eq!(rig.actions(), NOTHING, "asked before, answered after");
        assert!(rig.delivery.kills().was_set(), "orders are still refused");
    }
    rig.delivery.handle_kill_key(true, 11, &rig.lab.engine);
    assert_eq!(rig.actions(), ["append 1 Kill(true)"], "the key is set");
}

#[test]
fn an_order_that_another_process_wrote_is_not_offered() {
    let mut rig = with_an_order();
    let mut seen = rig.delivery.outbox().get(1).expect("the order").clone();
    seen.written = Some(EntryId::new(1_770_163_200_007, 0));
    rig.see(seen);
    rig.sync();
    assert!(rig.actions().iter().all(|action| action.starts_with("acknowledge")));
    assert_eq!(rig.delivery.outbox().unwritten(), 0);
}
