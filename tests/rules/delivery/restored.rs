//! What outlasts a process or a lease: rows of the outbox, gaps that are not in the log, old decisions, a policy.

use super::{CONTROL, NOTHING, Rig, with_an_order};
use crate::support::lab::Lab;
use harvester::config::Config;
use harvester::domain::delivery::action::Notice;
use harvester::domain::delivery::row::{OutboxRow, RowChange, SOMEWHERE};
use harvester::domain::delivery::{Restored, Settings};
use harvester::domain::event::ids::StreamId;

/// The process ends. The next one has the engine, and these rows of its checkpoint.
fn next_process(rig: Rig, settings: Settings, changes: &[RowChange]) -> Rig {
    let Rig { lab, delivery, .. } = rig;
    let outbox = changes.iter().filter_map(|change| match change {
        RowChange::Outbox(row) => Some(row.clone()),
        _ => None,
    });
    let gaps = changes.iter().filter_map(|change| match change {
        RowChange::GapFound(gap) => Some(gap.clone()),
        _ => None,
    });
    let (journal, _) = delivery.journal();
    let restored =
        Restored { outbox: outbox.collect(), gaps: gaps.collect(), journal, kill_key: None, ..Restored::default() };
    Rig::going_on(lab, settings, restored)
}

/// Between the commit of an order and its offer the process ends, and the position changes before the next one leads.
#[test]
fn an_order_of_an_earlier_process_is_offered_on_the_position_of_now() {
    type Happens = fn(&mut Rig);
    let cases: [(&str, Happens); 4] = [
        ("offer 1", |_| {}),
        ("offer 1", |rig| rig.sell("AUSDT", "2")),
        ("offer 1 refused:position_changed", |rig| rig.sell("AUSDT", "10")),
        ("offer 1 refused:killed", |rig| rig.control("1770163200005-0", "kill.changed", r#"{"kill":true}"#)),
    ];
    for (want, happens) in cases {
        let mut before = with_an_order();
        let changes = before.delivery.take_changes(0);
        let settings = Settings { sends_orders: true, age_max_ms: 30_000, ..Settings::default() };
        let mut rig = next_process(before, settings, &changes);
        happens(&mut rig);
        rig.lead("2 b");
        assert_eq!(rig.actions(), ["append 0 PolicyInForce", want]);
    }
}

#[test]
fn a_gap_that_an_earlier_process_has_found_is_reported_by_the_next_one_unless_the_log_has_it() {
    let found = || {
        let mut before = Rig::leading(Settings::default());
        before.gap(Some(3));
        assert_eq!(before.actions(), ["checkpoint"]);
        let changes = before.delivery.take_changes(0);
        next_process(before, Settings::default(), &changes)
    };
    let mut rig = found();
    rig.lead("2 b");
    assert_eq!(rig.actions(), ["append 0 Gap"]);

    // The answer was lost, or another instance has led meanwhile.
    let mut rig = found();
    let gap = format!(r#"{{"stream":"{CONTROL}","after":"1-0","before":"9-0"}}"#);
    rig.control("1770163200000-0", "history.gap", &gap);
    rig.sync();
    rig.lead("2 b");
    assert_eq!(rig.actions(), ["checkpoint"], "it is counted");
    rig.delivery.handle_checkpointed();
    assert_eq!(rig.actions(), ["append 1 PolicyInForce", "acknowledge 1770163200000-0"]);
    let position = rig.delivery.position(StreamId(0));
    assert_eq!((position.seen, position.added), (4, 12), "its three entries, and the one that reported it");
}

/// Returns the rows of decisions of long ago, as the store has them.
fn recalled(seqs: std::ops::Range<u64>) -> Vec<OutboxRow> {
    let row = |seq: u64| OutboxRow {
        seq,
        decision_id: format!("{seq:032x}"),
        fields: Vec::new(),
        request: None,
        live: true,
        policy: String::new(),
        account: String::new(),
        cause_ms: 0,
        written: Some(SOMEWHERE),
        record_only: true,
        again: false,
    };
    seqs.map(row).collect()
}

/// A decision leaves the outbox after an hour. The server forgets it later.
#[test]
fn decisions_of_hours_ago_are_looked_for_and_those_that_are_lost_are_written_again() {
    let forgotten = || {
        let mut rig = with_an_order();
        assert_eq!(rig.actions()[0], "offer 1");
        rig.written(1, 1_770_163_200_003);
        rig.delivery.handle_acknowledged();
        let changes = rig.delivery.take_changes(1_770_163_200_003 + 3_600_001);
        assert_eq!(changes.last(), Some(&RowChange::OutboxRemoved(1)));
        rig.gap(None);
        assert_eq!(rig.actions(), ["checkpoint"]);
        rig.delivery.handle_checkpointed();
        assert_eq!(rig.actions(), ["append 1 Gap", "recall 1..2"]);
        rig.notices();
        rig
    };
    let mut rig = forgotten();
    rig.delivery.handle_recalled(recalled(1..2));
    assert_eq!(rig.actions(), ["check 1"]);
    rig.looked(1, false, None);
    assert_eq!(rig.notices(), [Notice::WrittenAgain { count: 1, first: 1, last: 1 }]);
    assert_eq!(rig.actions(), ["checkpoint"]);
    rig.delivery.handle_checkpointed();
    assert_eq!(rig.actions(), ["offer 1 again record-only"]);

    let mut rig = forgotten();
    rig.delivery.handle_recalled(recalled(1..2));
    assert_eq!(rig.actions(), ["check 1"]);
    rig.looked(1, true, None);
    assert_eq!((rig.actions(), rig.notices()), (Vec::new(), Vec::new()), "the server has it");

    let mut rig = forgotten();
    rig.delivery.handle_recalled(Vec::new());
    assert_eq!((rig.actions(), rig.notices()), (Vec::new(), Vec::new()), "the store has none either");
}

/// If the oldest that was looked for is lost, older ones may be: a thousand are looked for at a time.
#[test]
fn older_decisions_are_looked_for_as_long_as_the_oldest_is_lost() {
    let config = Config::from_parts(None, std::collections::BTreeMap::new()).expect("the defaults hold");
    let restored = Restored { outbox: recalled(1_500..1_502), ..Restored::default() };
    let mut rig = Rig::going_on(Lab::new(&config), Settings::default(), restored);
    rig.lead("1 a");
    assert_eq!(rig.actions(), ["append 0 PolicyInForce", "check 1500 1501"]);
    rig.looked(1_500, false, None);
    assert_eq!(rig.actions(), ["checkpoint"]);
    rig.delivery.handle_checkpointed();
    assert_eq!(rig.actions(), ["recall 500..1500"]);
    rig.delivery.handle_recalled(recalled(1_498..1_500));
    assert_eq!(rig.actions(), ["check 1498 1499 1501"]);
    rig.looked(1_499, false, None);
    assert_eq!(rig.notices(), [Notice::WrittenAgain { count: 2, first: 1_499, last: 1_500 }]);
    assert_eq!(rig.actions(), ["checkpoint"]);
    rig.delivery.handle_checkpointed();
    assert_eq!(rig.actions(), ["offer 1499 again record-only, 1500 again record-only needs"]);
}

/// The configured policy is adopted by a process once. One that an operator adopts meanwhile outlasts a lapse of the lease.
#[test]
fn a_lapse_of_the_lease_adopts_nothing_and_the_next_process_adopts_its_policy() {
    let mut rig = Rig::leading(Settings::default());
    rig.control("1770163200000-0", "policy.adopted", r#"{"policy":{"min_r":"3"}}"#);
    rig.sync();
    assert_eq!(rig.actions(), ["acknowledge 1770163200000-0"]);
    rig.delivery.handle_acknowledged();
    rig.delivery.handle_lease(None, 100, &rig.lab.engine);
    rig.lead("2 a");
    assert_eq!(rig.actions(), NOTHING);

    let mut rig = next_process(rig, Settings::default(), &[]);
    rig.lead("3 a");
    assert_eq!(rig.actions(), ["append 0 NewPolicy"]);
}
