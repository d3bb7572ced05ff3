//! What is sent, acknowledged, retried and refused, by whom and when: the delivery protocol as a machine without I/O.
//!
//! The shell passes in what happened (`handle_*`), asks for the next thing to do ([`Delivery::next_action`]) until there
//! is none, and waits for the next event, at most until [`Delivery::poll_timeout`]. Threads and channels only move data.
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
//! In reading order: [`action`] (the vocabulary), this file (events and priorities), [`outbox`], [`gate`],
//! [`control_outbox`], [`kill`], [`acks`], [`records`], [`refused`].

use std::collections::VecDeque;

use acks::Acks;
use action::{Action, Answer, Append, Appended, GapNotice, Needed, Notice, Offer, Record, Recorded};
use control_outbox::ControlOutbox;
use fault::{Fault, Faults};
use gap::StreamGap;
use gate::Gate;
use kill::Kills;
use outbox::Outbox;
use own_entry::OwnEntry;
use records::Records;
use refused::Refused;
use row::{FieldTexts, OutboxRow, RowChange};

use super::book::symbol::Symbol;
use super::engine::{Disposition, Engine, Gap};
use super::event::ids::{EntryId, StreamId};
use super::event::{Control, Entry, Event, Reason};
use super::exit::Hold;

pub mod acks;
pub mod action;
pub mod control_outbox;
pub mod fault;
pub mod gap;
pub mod gate;
pub mod kill;
pub mod outbox;
pub mod own_entry;
pub mod records;
pub mod refused;
pub mod row;

/// The most decisions in one pipeline. [1]
const OFFERS_MAX: usize = 64;
/// Nothing is offered for this time after the server named another holder of the lease. [ms]
const STALE_PAUSE_MS: u64 = 50;
/// Old decisions that are looked for together, once younger ones are lost. [1]
const RECALLED: u64 = 1000;
/// The most old decisions that are looked for. [1]
const RECALLED_MAX: u64 = 10_000;

/// What does not change while the process runs.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Hash of the configured policy. An order is sent only under this policy.
    pub policy: Box<str>,
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

/// What an earlier process left in the checkpoint.
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
    /// The decision that it caused.
    pub decided: Option<OutboxRow>,
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
    positions: Vec<StreamPosition>,
    moved: Vec<bool>,
    /// Journal entries that are folded, and those that are durable. [1]
    folded: u64,
    durable: u64,
    lease: Option<Lease>,
    is_connected: bool,
    caught_up: CaughtUp,
    /// Hash of the policy in force when the process began.
    policy_before: Box<str>,
    /// Number range of old decisions to load before the check goes on.
    recall: Option<(u64, u64)>,
    /// The check in progress has found lost decisions.
    any_lost: bool,
    /// A checkpoint is due before anything else, or is being written.
    checkpoint: Checkpointing,
    not_before_ms: u64,
    changes: Vec<RowChange>,
    notices: VecDeque<Notice>,
}

/// Whether all entries are folded that were in the streams when we became the leader. A kill or a policy among them
/// counts for orders.
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
            folded: journal,
            durable: journal,
            lease: None,
            is_connected: false,
            caught_up: CaughtUp::No,
            policy_before: engine.globals().policy.hash.clone(),
            recall: None,
            any_lost: false,
            checkpoint: Checkpointing::Idle,
            not_before_ms: 0,
            changes: Vec::new(),
            notices: VecDeque::new(),
        }
    }

    // ── Entries ──

    /// Handles an entry that was folded. It has the next position in the journal.
    pub fn handle_folded(&mut self, folded: Folded<'_>, now_ms: u64, engine: &Engine) {
        let Folded { entry, is_new, by_group, disposition, is_skipped, is_foreign, decided, seen, record } = folded;
        self.folded += 1;
        let index = usize::from(entry.stream.0);
        if is_new {
            self.positions[index].seen += 1;
            self.moved[index] = true;
        }
        if by_group {
            self.acks.folded(self.folded, entry.stream, entry.id);
        }
        if let Some(row) = decided {
            let is_early = self.settings.faults.has(Fault::OfferBeforeSync);
            self.outbox.add(row, if is_early { 0 } else { self.folded });
            if is_early {
                self.outbox.synced(0);
            }
        }
        if let Some(fields) = record {
            self.quarantined(entry, fields, engine);
        }
        let is_applied = disposition == Disposition::Applied;
        if (is_foreign && is_applied) || disposition == Disposition::Quarantined(Reason::BadSignature) {
            self.refuse(entry, engine);
        } else if is_applied && !is_skipped {
            self.recognise(entry, seen, now_ms, engine);
        }
    }

    /// Handles a line of the journal that is of no configured stream.
    pub const fn handle_other_line(&mut self) {
        self.folded += 1;
    }

    /// Handles an entry at or before the cursor, or one that was trimmed. It has no effect and no place in the journal.
    pub fn handle_duplicate(&mut self, stream: StreamId, id: EntryId, by_group: bool) {
        if by_group {
            self.acks.folded(self.folded, stream, id);
        }
    }

    /// Handles entries that the group delivered and that are read from our own cursors.
    pub fn handle_delivered(&mut self, stream: StreamId, ids: impl IntoIterator<Item = EntryId>) {
        self.acks.delivered(stream, ids);
    }

    /// Handles the position at which a stream begins that was never read.
    pub fn handle_begun(&mut self, stream: StreamId, position: StreamPosition) {
        self.positions[usize::from(stream.0)] = position;
        self.moved[usize::from(stream.0)] = true;
        self.checkpoint = Checkpointing::Due;
    }

    /// Handles the news that the journal is on disk up to a position.
    pub fn handle_synced(&mut self, position: u64) {
        assert!(position <= self.folded, "{position} entries are durable, {} were folded", self.folded);
        self.durable = self.durable.max(position);
        self.outbox.synced(self.durable);
    }

    /// Handles the news that all entries before a server time are folded. [ms since 1970]
    pub fn handle_read_to(&mut self, ms: u64) {
        self.gate.folded_to_ms = self.gate.folded_to_ms.max(ms);
        self.see_whether_caught_up();
    }

    /// Handles the server's clock at the last round that was read. [ms since 1970]
    pub fn handle_server_time(&mut self, ms: u64) {
        if let CaughtUp::After(before) = self.caught_up
            && ms > before
        {
            self.caught_up = CaughtUp::At(ms);
        }
        self.see_whether_caught_up();
    }

    fn see_whether_caught_up(&mut self) {
        if matches!(self.caught_up, CaughtUp::At(from) if self.gate.folded_to_ms >= from) {
            self.caught_up = CaughtUp::Yes;
        }
    }

    fn quarantined(&mut self, entry: &Entry, fields: FieldTexts, engine: &Engine) {
        let stream = &engine.streams().get(entry.stream).name;
        self.changes.push(RowChange::Unrecorded { stream: stream.as_str().into(), id: entry.id });
        let given_up = self.records.add(stream, entry.id, fields, self.folded, self.lease.is_none());
        self.changes.extend(given_up.map(|(stream, id)| RowChange::Recorded { stream, id }));
    }

    /// Refuses an entry that is not believed, and makes a replay without the key skip it.
    fn refuse(&mut self, entry: &Entry, engine: &Engine) {
        if !self.settings.has_key {
            return;
        }
        let stream = &engine.streams().get(entry.stream).name;
        self.refused.add(stream, entry.id);
        self.changes.push(RowChange::Refused { stream: stream.as_str().into(), id: entry.id });
        // Once it is published, a later fold skips the entry and does not find it again.
        self.checkpoint = Checkpointing::Due;
        self.publish_refused();
    }

    fn publish_refused(&mut self) {
        if self.lease.is_none() {
            return;
        }
        for (stream, id) in self.refused.due() {
            self.control.stage(OwnEntry::Skipped { stream, id, why: "bad_signature" });
        }
    }

    /// Recognises entries of ours that came back.
    fn recognise(&mut self, entry: &Entry, seen: Option<OutboxRow>, now_ms: u64, engine: &Engine) {
        if let Some(row) = seen {
            self.outbox.seen(row);
        }
        let Ok(Event::Control(fact)) = &entry.content else { return };
        let back = engine.streams().id_of(&self.settings.control).filter(|control| *control == entry.stream);
        let back = back.map(|_| self.control.folded_to(entry.id)).unwrap_or_default();
        self.came_back(back);
        match &fact.control {
            Control::KillChanged { kill } => self.kills.switch_folded(*kill, now_ms),
            Control::EntrySkipped { stream, id } => {
                if self.refused.published(stream, *id) {
                    self.changes.push(RowChange::RefusalPublished { stream: stream.clone(), id: *id });
                }
                self.publish_refused();
            }
            Control::HistoryGap { stream, before, .. } => {
                // An earlier leader has published it already.
                let streams = engine.streams();
                let is_it = |gap: &StreamGap| streams.get(gap.stream).name == **stream && gap.is_reached_by(*before);
                for gap in self.control.gaps_published(is_it) {
                    self.count_lost(&gap);
                }
            }
            Control::PolicyAdopted(_)
            | Control::GapAccepted
            | Control::RiskAccepted { .. }
            | Control::DecisionExpired { .. }
            | Control::RungRearmed { .. } => {}
        }
    }

    fn came_back(&mut self, back: Vec<OwnEntry>) {
        for gap in back.into_iter().filter_map(OwnEntry::into_gap) {
            self.count_lost(&gap);
        }
    }

    // ── Gaps ──

    /// Handles a part of an input stream that is missing: its entries count as lost, and the leader publishes it.
    pub fn handle_gap(&mut self, gap: StreamGap, engine: &Engine) {
        // The server may have lost what we wrote as well.
        self.gate.doubt_written();
        let name = &engine.streams().get(gap.stream).name;
        let is_it = |known: &Gap| *known.stream == **name && known.after == gap.after && known.before == gap.before;
        if gap.count.is_none() && engine.globals().gaps.iter().any(is_it) {
            return self.count_lost(&gap);
        }
        if gap.count.is_none() {
            self.control.doubt_published();
            if !self.settings.faults.has(Fault::ForgetDoubtAtFailover) {
                self.outbox.doubt_orders();
            }
        }
        // On disk before any entry after it: a process that ends in between finds the same gap.
        self.changes.push(RowChange::GapFound(gap.clone()));
        self.checkpoint = Checkpointing::Due;
        self.notices.push_back(Notice::Lost(gap.clone()));
        self.control.stage(OwnEntry::Gap(gap));
    }

    /// Counts a gap that is in the log: its entries count as seen from now on. Before that, a new start finds it again.
    fn count_lost(&mut self, gap: &StreamGap) {
        let index = usize::from(gap.stream.0);
        self.positions[index] = self.positions[index].over(gap);
        self.moved[index] = true;
        self.changes.push(RowChange::GapPublished(gap.clone()));
        self.checkpoint = Checkpointing::Due;
    }

    // ── Kills ──

    /// Handles an entry that kills and was read before its turn. Returns true if it must still be folded.
    pub fn handle_kill_read(&mut self, stream: StreamId, id: EntryId, engine: &Engine) -> bool {
        let is_past = engine.cursor(stream).is_some_and(|cursor| id <= cursor);
        !is_past && self.kills.entry_read(stream, id)
    }

    /// Handles the turn of a control entry. Returns true if it was one that kills.
    pub fn handle_turn(&mut self, stream: StreamId, id: EntryId) -> bool {
        self.kills.entry_folded(stream, id)
    }

    /// Handles a value of the kill key that was read. The leader writes a change to the control stream.
    ///
    /// The value counts as known once the entry has come back. A process that ends before that finds the change again.
    ///
    /// `began_ms` is the time before the server was asked.
    pub fn handle_kill_key(&mut self, kill: bool, began_ms: u64, engine: &Engine) {
        self.kills.key_read(kill, began_ms);
        self.publish_kill_key(engine);
    }

    fn publish_kill_key(&mut self, engine: &Engine) {
        let Some(kill) = self.kills.since_folded() else { return };
        if self.lease.is_none() || self.control.has(&OwnEntry::Kill(kill)) || self.kills.known == Some(kill) {
            return;
        }
        // A value that the log has already is not written again, unless the opposite is on its way. A key of 0 clears
        // only a kill that the key has set. With a signing key, a writer without it cannot clear a kill through us.
        let says_nothing = !kill && (self.settings.has_key || self.kills.known.is_none());
        let is_folded = engine.globals().killed == kill && !self.control.has(&OwnEntry::Kill(!kill));
        if says_nothing || is_folded {
            self.kills.known = Some(kill);
            return;
        }
        self.control.stage(OwnEntry::Kill(kill));
    }

    // ── Lease ──

    /// Handles the lease: won, renewed or lost. `server_ms` is the server's clock at the last round that was read.
    pub fn handle_lease(&mut self, lease: Option<Lease>, server_ms: u64, engine: &Engine) {
        let is_same = self.lease.as_ref().map(|lease| &lease.value) == lease.as_ref().map(|lease| &lease.value);
        self.lease = lease;
        if is_same {
            return;
        }
        self.gate.retry();
        self.outbox.lost();
        self.control.lost();
        self.records.retry(true);
        self.refused.lead();
        self.not_before_ms = 0;
        if self.lease.is_some() {
            self.caught_up = CaughtUp::After(server_ms);
            self.adopt_policy(engine);
            self.publish_refused();
            self.publish_kill_key(engine);
        } else {
            self.caught_up = CaughtUp::No;
            self.control.follow();
        }
    }

    /// Writes the configured policy as an entry, unless the log has it already
    /// (docs/spec/decision.md, "Policy in force").
    fn adopt_policy(&mut self, engine: &Engine) {
        let globals = engine.globals();
        // If another policy was adopted since this process began, that one counts.
        if globals.policy.hash != self.policy_before || self.has_policy_pending() {
            return;
        }
        let is_in_force = globals.policy.hash == self.settings.policy;
        if globals.policy_adopted && is_in_force {
            return;
        }
        let entry = if is_in_force { OwnEntry::PolicyInForce } else { OwnEntry::NewPolicy };
        if !self.control.has(&entry) {
            self.control.stage(entry);
        }
    }

    // ── Answers ──

    /// Handles the answer to one offer.
    pub fn handle_offered(&mut self, seq: u64, answer: Answer, now_ms: u64) {
        self.outbox.answered(seq);
        match answer {
            Answer::Written { entry, refusal, is_new } => {
                self.gate.written(seq);
                if self.outbox.written(seq, entry).is_some() {
                    self.notices.push_back(Notice::Emitted { seq, entry, refusal, is_new });
                }
            }
            Answer::Stale => self.not_before_ms = now_ms.saturating_add(STALE_PAUSE_MS),
            Answer::Halted => {}
            Answer::Behind => self.gate.wait_for_news(),
            Answer::Unfit => self.gate.wait_for_outputs(now_ms),
            Answer::Lost => self.gate.doubt_written(),
            Answer::Doubtful { known } => {
                if self.gate.doubt(seq, now_ms) {
                    let decision_id = self.outbox.get(seq).map_or_else(String::new, |row| row.decision_id.clone());
                    self.notices.push_back(Notice::Doubtful { seq, decision_id, known });
                }
            }
        }
    }

    /// Handles the outcome of an append.
    pub fn handle_appended(&mut self, number: u64, outcome: Appended, now_ms: u64, engine: &Engine) {
        let outcome = match outcome {
            Appended::Unknown(_) if self.settings.faults.has(Fault::RetryWithoutAsking) => Appended::Unknown(None),
            outcome => outcome,
        };
        self.control.appended(number, outcome, now_ms);
        // It may have come back before its own answer.
        let control = engine.streams().id_of(&self.settings.control);
        if let Some(cursor) = control.and_then(|control| engine.cursor(control)) {
            let back = self.control.folded_to(cursor);
            self.came_back(back);
        }
    }

    /// Handles the outcome of a record.
    pub fn handle_recorded(&mut self, number: u64, outcome: Recorded, now_ms: u64) {
        let written = self.records.done(number, outcome, now_ms);
        self.changes.extend(written.map(|(stream, id)| RowChange::Recorded { stream, id }));
    }

    /// Handles the end of an acknowledgement.
    pub fn handle_acknowledged(&mut self) {
        self.acks.done();
    }

    /// Handles the decisions that the server has lost, of those that were looked for. They are written again before all
    /// others, without their orders.
    pub fn handle_checked(&mut self, lost: &[u64], engine: &Engine) {
        let oldest = self.outbox.rows().find(|row| row.written.is_some()).map(|row| row.seq);
        for seq in lost {
            self.outbox.write_again(*seq, self.settings.faults.has(Fault::AgainWithOrder));
            (self.any_lost, self.checkpoint) = (true, Checkpointing::Due);
        }
        // If the oldest is lost, older ones may be lost too.
        match oldest.filter(|oldest| lost.contains(oldest)) {
            Some(oldest) => self.recall_before(oldest, engine),
            None => self.end_check(),
        }
    }

    /// Handles old decisions that were loaded from the store, to look for them.
    pub fn handle_recalled(&mut self, rows: Vec<OutboxRow>) {
        if self.outbox.recalled(rows) { self.gate.check_lost() } else { self.end_check() }
    }

    fn recall_before(&mut self, seq: u64, engine: &Engine) {
        let floor = engine.globals().chain.seq.saturating_sub(RECALLED_MAX).max(1);
        let from = seq.saturating_sub(RECALLED).max(floor);
        if from < seq { self.recall = Some((from, seq)) } else { self.end_check() }
    }

    fn end_check(&mut self) {
        let any_lost = std::mem::take(&mut self.any_lost);
        let last = self.outbox.rows().rev().find_map(|row| row.written);
        self.gate.checked(last.filter(|_| !any_lost));
        let again = || self.outbox.rows().filter(|row| row.again && row.written.is_none()).map(|row| row.seq);
        if let (true, Some(first), Some(last)) = (any_lost, again().min(), again().max()) {
            self.notices.push_back(Notice::WrittenAgain { count: again().count(), first, last });
        }
    }

    /// Handles a new connection. Nothing but a checkpoint is asked for without one.
    pub const fn handle_connected(&mut self) {
        self.is_connected = true;
    }

    /// Handles the loss of the connection: what is in flight may or may not have arrived.
    pub fn handle_disconnected(&mut self) {
        self.is_connected = false;
        if !self.settings.faults.has(Fault::TakeInFlightForSent) {
            self.outbox.lost();
        }
        self.control.lost();
        self.control.doubt_published();
        if self.lease.is_none() {
            self.control.follow();
        }
        self.records.retry(false);
        self.acks.lost();
        self.gate.check_lost();
    }

    /// Handles the end of an [`Action::Checkpoint`], or of a checkpoint that the shell wrote by itself.
    pub fn handle_checkpointed(&mut self) {
        if self.checkpoint == Checkpointing::Running {
            self.checkpoint = Checkpointing::Idle;
        }
    }

    // ── Actions ──

    /// Returns the next thing to do; `None` if there is nothing to do before the next event or [`Self::poll_timeout`].
    ///
    /// In order of priority: checkpoint, our own control entries, the check of what was written, decisions,
    /// acknowledgements, quarantine records.
    pub fn next_action(&mut self, engine: &Engine, now_ms: u64) -> Option<Action> {
        match self.checkpoint {
            Checkpointing::Due => {
                self.checkpoint = Checkpointing::Running;
                return Some(Action::Checkpoint);
            }
            Checkpointing::Running => return None,
            Checkpointing::Idle if !self.is_connected => return None,
            Checkpointing::Idle => {}
        }
        self.append(engine, now_ms)
            .or_else(|| self.check(engine))
            .or_else(|| self.offer(engine, now_ms))
            .or_else(|| self.acknowledge(engine))
            .or_else(|| self.record(now_ms))
    }

    /// Returns the lease while it is certainly ours.
    fn lease_at(&self, now_ms: u64) -> Option<&Lease> {
        self.lease.as_ref().filter(|lease| now_ms < lease.until_ms && now_ms >= self.not_before_ms)
    }

    fn append(&mut self, engine: &Engine, now_ms: u64) -> Option<Action> {
        self.lease_at(now_ms)?;
        let control_outbox::Due { number, entry, tried } = self.control.due(now_ms)?;
        let gap = entry.clone().into_gap().map(|gap| self.gap_notice(gap, engine));
        Some(Action::Append(Box::new(Append { number, entry, tried, gap })))
    }

    fn gap_notice(&self, gap: StreamGap, engine: &Engine) -> GapNotice {
        let streams = engine.streams();
        let folded = streams.id_of(&self.settings.control).and_then(|control| engine.cursor(control));
        let stream = streams.get(gap.stream).name.as_str().into();
        GapNotice { stream, gap, folded: folded.unwrap_or_default() }
    }

    fn offer(&mut self, engine: &Engine, now_ms: u64) -> Option<Action> {
        let lease = self.lease_at(now_ms)?.value.clone();
        if !self.gate.may_offer() || self.gate.waits_for_outputs(now_ms) {
            return None;
        }
        let is_caught_up = self.caught_up == CaughtUp::Yes;
        let may_order = is_caught_up && self.gate.is_current();
        let may_go = |row: &OutboxRow| {
            (is_caught_up || !row.live) && (may_order || !row.is_order()) && !self.gate.is_doubtful(row.seq, now_ms)
        };
        let mut offers: Vec<Offer> = Vec::new();
        for (row, after) in self.outbox.waiting().take_while(|(row, _)| may_go(row)).take(OFFERS_MAX) {
            let is_order = row.is_order();
            let before = offers.last();
            offers.push(Offer {
                row: row.clone(),
                lease: lease.clone(),
                refusal: if is_order { self.refusal(row, engine) } else { None },
                age_max_ms: if is_order { self.settings.age_max_ms } else { 0 },
                folded_to_ms: if is_order { self.gate.folded_to_ms } else { 0 },
                kill_was_set: self.kills.was_set(),
                after: after.filter(|after| before.is_none() && !self.gate.is_checked(*after)),
                needs: before.map(|before| Needed {
                    decision_id: before.row.decision_id.clone(),
                    hash: before.row.field("hash").to_owned(),
                }),
            });
        }
        if offers.is_empty() {
            return None;
        }
        self.outbox.offering(offers.iter().map(|offer| offer.row.seq));
        Some(Action::Offer(offers))
    }

    /// Returns the reason why an order is not sent now.
    fn refusal(&self, row: &OutboxRow, engine: &Engine) -> Option<&'static str> {
        let globals = engine.globals();
        if globals.killed || self.kills.is_one_read() {
            return Some("killed");
        }
        if let Some(why) = self.control.refusal() {
            return Some(why);
        }
        if *row.policy != *self.settings.policy || globals.policy.hash != self.settings.policy {
            return Some("policy_differs");
        }
        if !self.settings.sends_orders {
            return Some("configured_shadow");
        }
        // Since the decision, the position was closed, was reduced by another service, or became uncertain.
        let symbol = engine.find(row.field("symbol"));
        let still_holds = self.settings.faults.has(Fault::OfferWithoutPosition)
            || symbol.is_some_and(|symbol| symbol.still_holds(&row.decision_id));
        let is_uncertain = || symbol.and_then(Symbol::uncertain).map(Hold::name);
        (!still_holds).then_some("position_changed").or_else(is_uncertain)
    }

    fn check(&mut self, engine: &Engine) -> Option<Action> {
        if let Some((from, to)) = self.recall.take() {
            return Some(Action::Recall { from, to });
        }
        if !self.gate.is_check_due() || self.outbox.is_in_flight() {
            return None;
        }
        self.gate.begin_check();
        let written = self.outbox.all_written();
        if !written.is_empty() {
            return Some(Action::Check(written));
        }
        let oldest = self.outbox.rows().next().map(|row| row.seq);
        self.recall_before(oldest.unwrap_or(engine.globals().chain.seq + 1), engine);
        self.recall.take().map(|(from, to)| Action::Recall { from, to })
    }

    fn acknowledge(&mut self, engine: &Engine) -> Option<Action> {
        let is_early = self.settings.faults.has(Fault::AcknowledgeBeforeSync);
        let durable = if is_early { self.folded } else { self.durable };
        let due = self.acks.take(self.folded, durable, |stream| engine.cursor(stream));
        due.map(Action::Acknowledge)
    }

    fn record(&mut self, now_ms: u64) -> Option<Action> {
        self.lease_at(now_ms)?;
        let due: Vec<Record> = self.records.due(self.durable, now_ms);
        (!due.is_empty()).then_some(Action::Record(due))
    }

    /// Returns the next time at which [`Self::next_action`] may return something without an event. [ms]
    pub fn poll_timeout(&self, now_ms: u64) -> Option<u64> {
        let stale = Some(self.not_before_ms).filter(|at| *at > now_ms);
        [self.gate.timeout(now_ms), self.control.timeout(now_ms), self.records.timeout(now_ms), stale]
            .into_iter()
            .flatten()
            .min()
    }

    /// Returns the next notice for the operator.
    pub fn next_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    // ── Checkpoint ──

    /// Takes the changes that a checkpoint has to write. `last_ms` is the time of the last folded entry.
    pub fn take_changes(&mut self, last_ms: u64) -> Vec<RowChange> {
        // A decision that is being looked for must still be there when it turns out to be lost.
        if self.gate.may_offer() {
            self.outbox.forget(last_ms);
        }
        let mut changes = std::mem::take(&mut self.changes);
        changes.extend(self.outbox.take_changes());
        if self.settings.faults.has(Fault::CursorBeforeOutbox) {
            changes.retain(|change| !matches!(change, RowChange::Outbox(row) if row.written.is_none()));
        }
        changes
    }

    /// Takes the stream positions that changed.
    pub fn take_positions(&mut self) -> Vec<(StreamId, StreamPosition)> {
        let moved =
            self.moved.iter_mut().enumerate().filter_map(|(index, moved)| std::mem::take(moved).then_some(index));
        moved.map(|index| (StreamId(index as u16), self.positions[index])).collect()
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

    // ── State, for reports ──

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

    /// Returns the server time before which all entries are folded. [ms since 1970]
    pub const fn folded_to_ms(&self) -> u64 {
        self.gate.folded_to_ms
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
