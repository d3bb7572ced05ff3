//! The delivery protocol as a machine without I/O: which entries are sent, acknowledged, retried and refused, by which
//! instance, and when.
//!
//! The shell passes in events (`handle_*`), asks for the next action ([`Delivery::next_action`]) until it gets none,
//! and waits for the next event, at most until [`Delivery::poll_timeout`]. Threads and channels only move data.
//!
//! ```text
//!              folded             synced               offered              folded
//!  entry ────────────▶ decided ──────────▶ durable ──────────▶ written ─────────────▶ known to have come back
//!                         │                   │  ▲                 │
//!                         │                   │  │ stale, behind,  │ lost by the server
//!                         │                   ▼  │ unfit, doubtful ▼
//!                         │                 in flight          again, without its order
//!                         └─ crash: folded again from the journal, or read again
//!
//!  lease        none ─────▶ leading, behind ─────▶ leading, caught up: orders go out
//!                 ▲                │                          │
//!                 └────────────────┴──── lost ────────────────┘
//! ```
//!
//! Promises: an entry is acknowledged, and a decision offered, only once the journal has it on disk. A decision is
//! offered only with the lease, in the order of the chain, and while no doubt about written ones is open. An order goes
//! out only if nothing refuses it at the moment of the offer.
//!
//! In reading order: [`action`] (the vocabulary), this file (the state), `entries`, `lease` and `answers` (events),
//! `priorities` (the next action), [`outbox`], [`gate`], [`control_outbox`], [`kill`], [`acks`], [`records`],
//! [`refused`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use acks::Acks;
use action::Notice;
use control_outbox::ControlOutbox;
use fault::Faults;
use gap::StreamGap;
use gate::Gate;
use kill::Kills;
use outbox::Outbox;
use own_entry::OwnEntry;
use records::Records;
use refused::Refused;
use row::{FieldTexts, OutboxRow, RowChange};

use super::engine::{Disposition, Engine};
use super::event::Entry;
use super::event::ids::{EntryId, StreamId};

pub mod acks;
pub mod action;
mod answers;
pub mod control_outbox;
mod entries;
pub mod fault;
pub mod gap;
pub mod gate;
pub mod kill;
mod lease;
pub mod outbox;
pub mod own_entry;
mod priorities;
pub mod records;
pub mod refused;
pub mod row;

/// The settings, which do not change while the process runs.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Hash of the configured policy. An order is sent only under this policy.
    pub policy: Box<str>,
    /// The configured policies of accounts that have one of their own.
    pub account_policies: BTreeMap<Box<str>, AccountPolicy>,
    /// The running configuration sends orders. If not, they are refused as `configured_shadow`.
    pub sends_orders: bool,
    /// A decision older than this is not sent. [ms]
    pub age_max_ms: u64,
    /// Entries are signed, so entries that were not believed are published as skipped.
    pub has_key: bool,
    /// Name of the control stream.
    pub control: Box<str>,
    pub faults: Faults,
}

impl Settings {
    /// Returns the hash of the configured policy of an account.
    pub fn policy_of(&self, account: &str) -> &str {
        self.account_policies.get(account).map_or(&self.policy, |of_account| &of_account.hash)
    }
}

/// The configured policy of an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountPolicy {
    pub hash: Box<str>,
    pub json: Box<str>,
}

/// Returns the hashes of the policies that were adopted for single accounts, by account.
fn adopted_by_account(engine: &Engine) -> BTreeMap<Box<str>, Box<str>> {
    let adopted = engine.accounts().iter().filter(|account| account.policy_adopted);
    adopted.filter_map(|account| Some((account.name.clone(), account.policy.as_ref()?.hash.clone()))).collect()
}

/// The stream position of an input stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StreamPosition {
    /// Entries consumed, or known to be lost, since the stream was created. [1]
    pub seen: u64,
    /// Number of added entries, as the server reported it last. [1]
    pub added: u64,
}

impl StreamPosition {
    /// Returns the position after a gap: its entries count as seen.
    pub const fn over(self, gap: &StreamGap) -> Self {
        Self { seen: self.seen.saturating_add_signed(gap.shift), added: gap.added }
    }
}

/// The state that an earlier process left in the checkpoint.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    pub outbox: Vec<OutboxRow>,
    pub positions: Vec<StreamPosition>,
    /// Quarantined entries whose record is still to be written, with its fields.
    pub unrecorded: Vec<(Box<str>, EntryId, FieldTexts)>,
    /// Refused entries that are still to be published.
    pub refused: Vec<(Box<str>, EntryId)>,
    /// Gaps that are still to be published.
    pub gaps: Vec<StreamGap>,
    /// Last known state of the kill key.
    pub kill_key: Option<bool>,
    /// Journal entries that the checkpoint contains. [1]
    pub journal: u64,
}

/// The lease, as long as it is certainly ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub value: String,
    /// End by the clock of the process. [ms]
    pub until_ms: u64,
}

/// An entry that was folded, with everything that follows from it.
#[derive(Clone, Debug)]
pub struct Folded<'a> {
    pub entry: &'a Entry,
    /// It is after the cursor of its stream.
    pub is_new: bool,
    /// The group waits for its acknowledgement.
    pub by_group: bool,
    pub disposition: Disposition,
    /// The history skips it.
    pub is_skipped: bool,
    /// It is a decision that is not believed.
    pub is_foreign: bool,
    /// The decisions that it caused, in the order of the chain.
    pub decided: Vec<OutboxRow>,
    /// The decision that it contains, if the fold adopted it and its seal and signature are intact.
    pub seen: Option<OutboxRow>,
    /// Fields of its record in the quarantine stream, if it was quarantined.
    pub record: Option<FieldTexts>,
}

/// The delivery of one process. `now_ms` is everywhere the monotonic clock of the process.
#[derive(Clone, Debug)]
pub struct Delivery {
    settings: Settings,
    outbox: Outbox,
    gate: Gate,
    control: ControlOutbox,
    kills: Kills,
    acks: Acks,
    records: Records,
    refused: Refused,
    /// By stream: the entries seen, and those ever added.
    positions: Vec<StreamPosition>,
    /// By stream: true if its position changed since the last checkpoint.
    moved: Vec<bool>,
    /// Gaps that the positions contain, of this process: stream, and the entries around.
    counted: BTreeSet<(StreamId, Option<EntryId>, Option<EntryId>)>,
    /// Journal entries that are folded, and those that are durable. [1]
    folded: u64,
    durable: u64,
    lease: Option<Lease>,
    is_connected: bool,
    caught_up: CaughtUp,
    /// Hash of the policy in force when the process began.
    policy_before: Box<str>,
    /// Hashes of the policies that were adopted for single accounts by then.
    account_policies_before: BTreeMap<Box<str>, Box<str>>,
    /// Number range of old decisions to load before the check goes on.
    recall: Option<(u64, u64)>,
    /// The check in progress has found lost decisions.
    any_lost: bool,
    /// A checkpoint is due before anything else, or is being written.
    checkpoint: Checkpointing,
    /// After an answer that the lease is of another process, it counts as not ours until this time, by the clock of the
    /// process. [ms]
    not_before_ms: u64,
    /// Rows that changed since the last checkpoint.
    changes: Vec<RowChange>,
    /// Notices that the event loop has to log.
    notices: VecDeque<Notice>,
}

/// Whether all entries are folded that were in the streams when we became the leader. A kill or a policy among them
/// counts for orders.
///
/// ```text
///        lease is ours            first round with it         everything before it folded
///  No ────────────────▶ After ───────────────────────▶ At ──────────────────────────────▶ Yes
///   ▲                     │                             │                                  │
///   └──── lease lost ─────┴─────────────────────────────┴──────────────────────────────────┘
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum CaughtUp {
    #[default]
    No,
    /// The first round that is read with the lease has a later server time than this. [ms since 1970]
    After(u64),
    /// Everything before this server time must be folded. [ms since 1970]
    At(u64),
    Yes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Checkpointing {
    #[default]
    Idle,
    Due,
    Running,
}

impl Delivery {
    /// Continues where an earlier process ended.
    pub fn new(settings: Settings, restored: Restored, engine: &Engine) -> Self {
        let Restored { outbox, mut positions, unrecorded, refused, gaps, kill_key, journal } = restored;
        positions.resize(engine.streams().len(), StreamPosition::default());
        let mut records = Records::default();
        for (stream, id, fields) in unrecorded {
            records.add(&stream, id, fields, 0, true);
        }
        let mut control = ControlOutbox::default();
        gaps.into_iter().for_each(|gap| control.stage(OwnEntry::Gap(gap)));
        Self {
            settings,
            outbox: Outbox::of(outbox),
            gate: Gate::default(),
            control,
            kills: Kills::of(kill_key),
            acks: Acks::default(),
            records,
            refused: Refused::of(refused),
            moved: vec![false; positions.len()],
            positions,
            counted: BTreeSet::new(),
            folded: journal,
            durable: journal,
            lease: None,
            is_connected: false,
            caught_up: CaughtUp::No,
            policy_before: engine.globals().policy.hash.clone(),
            account_policies_before: adopted_by_account(engine),
            recall: None,
            any_lost: false,
            checkpoint: Checkpointing::Idle,
            not_before_ms: 0,
            changes: Vec::new(),
            notices: VecDeque::new(),
        }
    }

    /// Begins a new chain of decisions. The content of the outbox belongs to the former one.
    pub fn begin_chain(&mut self) {
        self.outbox.clear();
        self.checkpoint = Checkpointing::Due;
    }

    /// Publishes that an entry is skipped, because it has ended the process twice.
    pub fn skip(&mut self, stream: &str, id: EntryId, why: &'static str) {
        self.control.stage(OwnEntry::Skipped { stream: stream.into(), id, why });
    }

    pub fn is_leader(&self) -> bool {
        self.lease.is_some()
    }

    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub fn kills(&self) -> &Kills {
        &self.kills
    }

    pub fn position(&self, stream: StreamId) -> StreamPosition {
        self.positions[usize::from(stream.0)]
    }

    /// Returns the position of a stream after the gaps that are on their way to the log.
    pub fn position_over_gaps(&self, stream: StreamId) -> StreamPosition {
        let gaps = self.control.gaps().filter(|gap| gap.stream == stream);
        gaps.fold(self.position(stream), StreamPosition::over)
    }

    /// Returns the journal entries that are folded, and those that are durable. [1]
    pub const fn journal(&self) -> (u64, u64) {
        (self.folded, self.durable)
    }

    /// Returns true if a decision waits until the entry that caused it is on disk.
    pub fn waits_for_sync(&self) -> bool {
        self.outbox.has_unsynced()
    }

    /// Returns the number of decisions in doubt: the memory of written ids and the stream differ. [1]
    pub fn doubtful(&self) -> usize {
        self.gate.doubtful()
    }

    /// Returns the watermark: the server time before which all entries are folded. [ms since 1970]
    pub const fn watermark_ms(&self) -> u64 {
        self.gate.watermark_ms
    }

    /// Returns true if the adoption of the configured policy is on its way.
    pub fn has_policy_pending(&self) -> bool {
        self.control.has(&OwnEntry::NewPolicy)
    }

    /// Returns true if all decisions and quarantine records are in the streams.
    pub fn is_published(&self) -> bool {
        self.outbox.unwritten() == 0 && self.records.is_empty()
    }

    /// Returns true while a checkpoint must be written before any further entry is taken.
    pub fn waits_for_checkpoint(&self) -> bool {
        self.checkpoint != Checkpointing::Idle
    }

    /// Returns true if no decision and no acknowledgement is on its way.
    pub fn is_idle(&self) -> bool {
        !self.outbox.is_in_flight() && !self.acks.is_due_or_in_flight()
    }

    /// Returns true if everything is durable, published, offered and acknowledged.
    pub fn is_settled(&self) -> bool {
        let is_led = || self.is_published() && self.control.is_empty() && self.gate.may_offer();
        self.durable == self.folded
            && self.checkpoint == Checkpointing::Idle
            && self.acks.is_settled()
            && (self.lease.is_none() || is_led())
    }
}
