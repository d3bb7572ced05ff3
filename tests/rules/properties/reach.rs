//! The shapes, holds and counters that the random histories must reach.

use std::collections::BTreeMap;

use super::cases;
use crate::support::histories::{Style, play, scripts};
use crate::support::lab::Lab;
use harvester::domain::book::change::Cause;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config as ProptestConfig, RngSeed, TestRunner};

/// A property is only as good as its histories: these must reach all of the following.
#[test]
fn the_random_histories_reach_every_shape_hold_and_counter() {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let mut note = |what: String, n: u64| *seen.entry(what).or_default() += n;
    let mut runner = TestRunner::new(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..cases(1) });
    for _ in 0..300 {
        let script = scripts(200).new_tree(&mut runner).expect("a script is made").current();
        let history = play(&script, Style::default());
        let mut lab = Lab::new(&history.config);
        for line in history.lines() {
            let mode = lab.engine.policy().mode.name();
            let came = lab.feed(line);
            if came.step.decision.is_some() {
                note(format!("decision {mode}"), 1);
            }
        }
        let counters = &lab.engine.counters;
        counters.counts.iter().for_each(|(count, n)| note(format!("count {}", count.name()), *n));
        counters.holds().for_each(|(hold, n)| note(format!("hold {}", hold.name()), n));
        counters.quarantined.iter().for_each(|(reason, n)| note(format!("quarantined {}", reason.name()), *n));
        for (kind, shapes) in counters.shapes() {
            shapes.iter().for_each(|(shape, n)| note(format!("shape {kind} {shape}"), *n));
        }
        for book in lab.engine.books() {
            for position in book.positions() {
                note("instance".to_owned(), 1);
                note("further opening under one id".to_owned(), u64::from(position.id.nth > 1));
                note("entry price disagrees".to_owned(), u64::from(position.entry_price_disagrees));
                position.rungs.iter().for_each(|rung| note(format!("rung {}", rung.state.name()), 1));
                if let Some(risk) = &position.risk {
                    note(format!("risk {}", risk.source.name()), 1);
                }
                for change in &position.changes {
                    let cause = match change.cause {
                        Cause::Fill { .. } => "fill",
                        Cause::StatedOpening => "opening by a stated quantity",
                        Cause::Explained { .. } => "explained",
                        Cause::Adoption => "adoption",
                        Cause::EntrySet => "entry price set",
                    };
                    note(format!("position change {cause}"), 1);
                    note(format!("price {}", change.price.map_or("missing", |price| price.source.name())), 1);
                }
            }
        }
    }
    let wanted = [
        "count ambiguous_order",
        "count fills_contained",
        "count fills_contradictory",
        "count fills_repeated",
        "count fills_told",
        "count late_price",
        "count order_id_reused",
        "count passed_over",
        "count price_held",
        "count price_unaccepted",
        "count reduce_only_excess",
        "count reduce_only_flat",
        "count reduce_only_same_side",
        "count snapshot_settling",
        "decision live",
        "decision shadow",
        "entry price disagrees",
        "further opening under one id",
        "hold awaiting_result",
        "hold below_min_r",
        "hold below_minimum",
        "hold diverged",
        "hold history_gap",
        "hold killed",
        "hold missing_entry_price",
        "hold missing_risk",
        "hold no_price",
        "hold no_rung",
        "hold price_jump",
        "hold stale_position",
        "hold stale_price",
        "hold weak_entry",
        "hold weak_risk",
        "position change adoption",
        "position change entry price set",
        "position change explained",
        "position change opening by a stated quantity",
        "price exchange",
        "price intent",
        "price legacy",
        "price missing",
        "price plan",
        "risk intent_nearest",
        "risk legacy",
        "risk plan",
        "rung failed",
        "rung filled",
        "rung partial",
        "rung refused",
        "rung requested",
        "rung shadowed",
        "rung skipped",
        "rung unknown",
    ];
    for what in wanted {
        assert!(seen.get(what).is_some_and(|n| *n >= 2), "{what}: {:?}\nof {seen:#?}", seen.get(what));
    }
}
