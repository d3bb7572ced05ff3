//! Counters of events of entries. They are for reports; no decision depends on them.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::event::Reason;
use crate::domain::event::ids::EntryId;
use crate::domain::event::streams::StreamKind;
use crate::domain::exit::Hold;
use crate::domain::named;

named! {
    /// An event that is counted.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Count {
        FillsRepeated => "fills_repeated",
        FillsContradictory => "fills_contradictory",
        FillsOvertaken => "fills_told",
        FillsContained => "fills_contained",
        FilledShort => "filled_short",
        ReduceOnlyFlat => "reduce_only_flat",
        ReduceOnlySameSide => "reduce_only_same_side",
        ReduceOnlyExcess => "reduce_only_excess",
        AmbiguousOrder => "ambiguous_order",
        OrderIdReused => "order_id_reused",
        SnapshotSettling => "snapshot_settling",
        Rescaled => "rescaled",
        LatePrice => "late_price",
        UnreadableTime => "unreadable_time",
        PriceUnaccepted => "price_unaccepted",
        PriceHeld => "price_held",
        IdsNotTime => "ids_not_time",
        LateOrder => "late_order",
        Skipped => "passed_over",
        /// Entries of accounts that other cells read.
        OtherCells => "other_cells",
        GapRecorded => "gap_recorded",
        UnknownPosition => "unknown_position",
        UnknownDecision => "unknown_decision",
        /// A decision entry that is not ours.
        DecisionForeign => "decision_foreign",
        /// A recorded decision that was adopted although its cause did not come.
        DecisionWithoutCause => "decision_without_cause",
    }
}

named! {
    /// Unreadable values of producers. They are a finding, because such a value may have been a fill.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Unreadables {
        Results => "results",
        Snapshots => "snapshots",
        /// Trades and positions of the exchange.
        Observations => "observations",
        /// Event times of prices and fills.
        Times => "times",
        /// Entries of accounts that are not configured.
        Accounts => "accounts",
    }
}

/// The number of unreadable values, and the time of the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnreadableCount {
    /// [1]
    pub entries: u64,
    /// [ms since 1970]
    pub last_ms: u64,
}

/// The comparison of our own decisions with those that a history contains.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    pub agree: u64,
    pub differ: u64,
    /// Decisions of ours that are not in the history, by decision id.
    pub missing: BTreeSet<Box<str>>,
    /// Decisions in the history that are not ours.
    pub unexpected: u64,
    /// Recorded decisions that name a position that does not exist.
    pub orphaned: u64,
}

/// Counts of events of entries. They are for reports: no rule reads them, and the store does not keep them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counters {
    /// Entries that were applied, skipped ones and those of other cells among them. [1]
    pub applied: u64,
    /// Entries at or before the cursor of their stream. [1]
    pub duplicates: u64,
    pub quarantined: BTreeMap<Reason, u64>,
    pub counts: BTreeMap<Count, u64>,
    pub unreadable: BTreeMap<Unreadables, UnreadableCount>,
    /// Evaluations that ended in each hold, in the order of the holds. [1]
    holds: [u64; Hold::ALL.len()],
    /// Evaluations, with a hold or a decision. [1]
    pub evaluations: u64,
    /// Decisions of ours that took effect. [1]
    pub decisions: u64,
    pub comparison: Comparison,
    /// The first and the last entry that was counted.
    pub first: Option<EntryId>,
    pub last: Option<EntryId>,
    shapes: Vec<(StreamKind, &'static str, u64)>,
    /// Index of the shape that was counted last. The next entry usually has the same.
    shape_last: usize,
}

impl Counters {
    pub fn entries(&self) -> u64 {
        self.applied + self.duplicates + self.quarantined.values().sum::<u64>()
    }

    pub fn count(&mut self, count: Count) {
        *self.counts.entry(count).or_default() += 1;
    }

    /// Counts an unreadable value at a time. [ms since 1970]
    pub fn unreadable(&mut self, what: Unreadables, at_ms: u64) {
        let known = self.unreadable.entry(what).or_default();
        known.entries += 1;
        known.last_ms = known.last_ms.max(at_ms);
    }

    pub fn of(&self, count: Count) -> u64 {
        self.counts.get(&count).copied().unwrap_or(0)
    }

    /// Counts evaluations that ended in a hold.
    #[inline]
    pub fn hold(&mut self, hold: Hold, times: u32) {
        self.evaluations += u64::from(times);
        self.holds[hold as usize] += u64::from(times);
    }

    /// Returns the holds that occurred, each with its number of evaluations. [1]
    pub fn holds(&self) -> impl Iterator<Item = (Hold, u64)> {
        Hold::ALL.into_iter().zip(self.holds).filter(|(_, n)| *n > 0)
    }

    /// Counts entries that were read as a shape.
    #[inline]
    pub fn shape(&mut self, kind: StreamKind, shape: &'static str, entries: u32) {
        // Shapes are constants, so a repeated shape is usually the same address.
        let is_same = |of: &(StreamKind, &'static str, u64)| {
            of.0 == kind && (of.1.as_ptr(), of.1.len()) == (shape.as_ptr(), shape.len())
        };
        if !self.shapes.get(self.shape_last).is_some_and(is_same) {
            self.shape_last = self.place_of(kind, shape);
        }
        self.shapes[self.shape_last].2 += u64::from(entries);
    }

    fn place_of(&mut self, kind: StreamKind, shape: &'static str) -> usize {
        self.shapes.iter().position(|(k, s, _)| *k == kind && *s == shape).unwrap_or_else(|| {
            self.shapes.push((kind, shape, 0));
            self.shapes.len() - 1
        })
    }

    /// Returns the number of entries by kind and shape.
    pub fn shapes(&self) -> BTreeMap<&'static str, BTreeMap<&'static str, u64>> {
        let mut shapes: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (kind, shape, n) in &self.shapes {
            shapes.entry(kind.name()).or_default().insert(*shape, *n);
        }
        shapes
    }
}
