//! The processor of a running service: entries in, commits and decisions out.
//!
//! Per batch: the journal is made durable, then state, cursors, counts and outbox are written in one commit of the
//! store, then the emitter gets the decisions and the acknowledgements. Nothing here waits for the server.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::crash_guard::CrashGuard;
use super::fail;
use super::findings::Findings;
use super::gate::Gate;
use super::kill_gate::KillGate;
use super::kill_key::{KeyRead, KillKey};
use super::lines::Released;
use super::message::{Append, Done, EmitBatch, GapNotice, NotEmitted, StreamGap};
use super::orders::Orders;
use super::quarantine_outbox::QuarantineOutbox;
use super::refused::Refused;
use crate::codec::line::{self, FieldValue};
use crate::codec::live::{self, Checkpoint, Finding, OutboxRow, StreamPosition};
use crate::codec::request::FieldTexts;
use crate::codec::seal;
use crate::codec::signing::SigningKey;
use crate::codec::state;
use crate::domain::book::counters::Count;
use crate::domain::book::symbol::Symbol;
use crate::domain::engine::{Disposition, Gap};
use crate::domain::event::ids::{EntryId, StreamId};
use crate::domain::event::streams::StreamKind;
use crate::domain::event::{Control, DecisionFact, Entry, Event, Reason};
use crate::domain::exit::Hold;
use crate::drive::driver::Driver;
use crate::drive::projection::Projection;
use crate::service::operator_log::{self, Line};
use crate::shell::journal::Journal;
use crate::shell::redis::{Emission, Request, WrittenDecision};

/// How long a written decision is kept, in case the server loses it. [ms]
const OUTBOX_MEMORY_MS: u64 = 3_600_000;
/// The most written decisions that are kept. [1]
const OUTBOX_WRITTEN_MAX: usize = 1000;

/// Old decisions that are looked for together, once younger ones are lost. [1]
const RECALLED: u64 = 1000;
/// The most old decisions that are looked for. [1]
const RECALLED_MAX: u64 = 10_000;
/// How long our own entries wait after the server rejected one.
const OWN_PAUSE: Duration = Duration::from_secs(2);
/// The placeholder id of an old decision: only the server knows its entry id.
const SOMEWHERE: EntryId = EntryId::new(0, 0);

/// The streams of decisions and requests.
#[derive(Clone, Debug)]
pub struct OutputStreams {
    pub control: String,
    pub suggestions: String,
}

/// The state of the service and everything that is committed with it.
pub struct Processor {
    pub projection: Projection,
    pub journal: Journal,
    pub signing: Option<SigningKey>,
    pub orders: Orders,
    pub outputs: OutputStreams,
    /// Streams and keys that reject our writes, with the reason.
    pub refusing: BTreeMap<String, String>,
    pub crash_guard: CrashGuard,
    pub checkpoint: Checkpoint,
    /// The kill key, as the lease task reads it.
    pub kill_key: KillKey,
    pub positions: Vec<StreamPosition>,
    places_changed: Vec<bool>,
    pub outbox: BTreeMap<u64, OutboxRow>,
    /// Decisions that the emitter has.
    in_hand: BTreeSet<u64>,
    /// Decides whether decisions may be offered.
    gate: Gate,
    acks: Vec<Vec<EntryId>>,
    /// Entries delivered to the group. They are acknowledged once the cursor has reached them.
    delivered: Vec<Vec<EntryId>>,
    quarantine_outbox: QuarantineOutbox,
    refused: Refused,
    findings: Findings,
    pub own: ControlOutbox,
    pub kill_gate: Arc<KillGate>,
    /// Entries that kill, read and not folded.
    pub kills_read: BTreeSet<(StreamId, EntryId)>,
    pub is_leader: bool,
    /// True if all entries are folded that were in the streams when we became the leader. A kill or a policy among them
    /// counts for orders.
    pub is_caught_up: bool,
    /// Lines of the operator log, written when their decision is emitted.
    lines: BTreeMap<u64, Line>,
    entries_uncommitted: usize,
    first_uncommitted: Option<Instant>,
    pub totals: Totals,
}

/// Our own entries that are on their way through the control stream.
#[derive(Debug, Default)]
pub struct ControlOutbox {
    next_number: u64,
    /// By number: why the entry was written, and its id once it is known.
    pending: BTreeMap<u64, (OwnEntry, Option<EntryId>)>,
    /// Entries that were not handed over yet.
    unpublished: Vec<(u64, FieldTexts)>,
    /// Nothing is handed over before this time, because the server rejected an entry.
    not_before: Option<Instant>,
}

/// The reason why an entry of our own was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnEntry {
    Policy,
    Gap(StreamGap),
    Kill(bool),
    Other,
}

impl ControlOutbox {
    /// Returns the reason why no order is sent while an entry of ours is on its way.
    fn refusal(&self) -> Option<&'static str> {
        self.pending.values().find_map(|(why, _)| match why {
            OwnEntry::Policy => Some("policy_pending"),
            OwnEntry::Gap(_) => Some("history_gap"),
            OwnEntry::Kill(_) | OwnEntry::Other => None,
        })
    }

    /// Removes and returns the entries that the condition selects.
    fn take(&mut self, is_meant: impl Fn(&OwnEntry, &Option<EntryId>) -> bool) -> Vec<OwnEntry> {
        let taken: Vec<u64> =
            self.pending.iter().filter(|(_, (why, id))| is_meant(why, id)).map(|(number, _)| *number).collect();
        self.unpublished.retain(|(number, _)| !taken.contains(number));
        taken.iter().filter_map(|number| self.pending.remove(number)).map(|(why, _)| why).collect()
    }

    pub fn has_policy(&self) -> bool {
        self.pending.values().any(|(why, _)| *why == OwnEntry::Policy)
    }

    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

/// Counts since the process began.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    pub emitted: u64,
    pub refused: u64,
}

/// Parts of a processor that are made before it.
pub struct FoldParts {
    pub projection: Projection,
    pub journal: Journal,
    pub signing: Option<SigningKey>,
    pub orders: Orders,
    pub outputs: OutputStreams,
    pub crash_guard: CrashGuard,
    pub checkpoint: Checkpoint,
    pub positions: Vec<Option<StreamPosition>>,
    pub outbox: Vec<OutboxRow>,
    /// Quarantined entries that are not published.
    pub quarantine_outbox: Vec<(String, EntryId)>,
    /// Refused entries that are not published.
    pub refused: Vec<(String, EntryId)>,
    pub findings: BTreeMap<String, Finding>,
}

impl Processor {
    pub fn new(parts: FoldParts) -> Self {
        let streams = parts.projection.streams().len();
        Self {
            projection: parts.projection,
            journal: parts.journal,
            signing: parts.signing,
            orders: parts.orders,
            outputs: parts.outputs,
            refusing: BTreeMap::new(),
            crash_guard: parts.crash_guard,
            kill_key: KillKey::of(parts.checkpoint.kill_key),
            checkpoint: parts.checkpoint,
            positions: parts.positions.iter().map(|checkpoint| checkpoint.unwrap_or_default()).collect(),
            places_changed: vec![false; streams],
            outbox: parts.outbox.into_iter().map(|row| (row.seq, row)).collect(),
            in_hand: BTreeSet::new(),
            gate: Gate::default(),
            acks: vec![Vec::new(); streams],
            delivered: vec![Vec::new(); streams],
            quarantine_outbox: QuarantineOutbox::of(parts.quarantine_outbox),
            refused: Refused::of(parts.refused),
            findings: Findings::of(parts.findings),
            own: ControlOutbox::default(),
            kill_gate: Arc::default(),
            kills_read: BTreeSet::new(),
            is_leader: false,
            is_caught_up: false,
            lines: BTreeMap::new(),
            entries_uncommitted: 0,
            first_uncommitted: None,
            totals: Totals::default(),
        }
    }

    /// Takes an entry of a stream: journals it, folds it, and notes what follows.
    pub fn take(&mut self, released: Released, line: Option<&str>) -> anyhow::Result<()> {
        let Released { stream, id, by_group, .. } = released;
        if by_group {
            self.acks[usize::from(stream.0)].push(id);
        }
        if self.projection.engine.cursor(stream).is_some_and(|cursor| id <= cursor) {
            self.projection.engine.counters.duplicates += 1;
            self.kill_has_its_turn(stream, id);
            return Ok(());
        }
        // The entry was trimmed while it was pending. The gap detector finds it by counting.
        let Some(line) = line else { return Ok(()) };
        self.journal.append(line, id.ms);
        self.fold(stream, id, line)
    }

    /// Folds an entry that is in the journal.
    pub fn fold(&mut self, stream: StreamId, id: EntryId, line: &str) -> anyhow::Result<()> {
        let name = &self.projection.streams().get(stream).name;
        self.crash_guard.begin(name, id);
        let is_skipped = self.projection.engine.is_skipped(name, id);
        if !is_skipped {
            fail::entry(id);
        }
        let entry = self
            .projection
            .decode_line(stream, id, line.as_bytes())
            .with_context(|| format!("the entry {id} of the journal does not read"))?;
        if self.projection.engine.cursor(stream).is_none_or(|cursor| id > cursor) {
            self.positions[usize::from(stream.0)].seen += 1;
            self.places_changed[usize::from(stream.0)] = true;
        }
        let (is_control, is_decision) = (entry.kind == StreamKind::Control, entry.kind == StreamKind::Decision);
        let foreign =
            |fold: &Self| if is_decision { fold.projection.engine.counters.of(Count::DecisionForeign) } else { 0 };
        let foreign_before = foreign(self);
        let policy_before = if is_control { self.projection.engine.policy().hash.clone() } else { Box::default() };
        let folded = self.projection.fold(&entry, || line.to_owned());
        self.crash_guard.folded();
        let is_foreign = foreign(self) > foreign_before;
        if is_control {
            self.kill_has_its_turn(stream, id);
        }
        if let Some((decision, mut sealed)) = folded.decided {
            if let Some(key) = &self.signing {
                sealed.sign(key);
            }
            let row = self.orders.row(&self.projection.engine, &decision, &sealed, &self.outputs.suggestions);
            self.lines.insert(row.seq, operator_log::emit(&self.projection.engine, &decision));
            self.projection.wait(live::outbox_row(&row));
            self.outbox.insert(row.seq, row);
        }
        if let Disposition::Quarantined(reason) = folded.disposition {
            let name = &self.projection.streams().get(stream).name;
            if matches!(entry.kind, StreamKind::Result | StreamKind::Snapshot) {
                tracing::warn!(stream = %name, %id, reason = reason.name(), "UNREADABLE");
            }
            if is_foreign {
                tracing::error!(stream = %name, entry = %id, finding = "decision_foreign", reason = reason.name(), "a decision entry does not read: the symbols that it may concern are held");
            }
            for row in self.quarantine_outbox.add(name, id, self.is_leader) {
                self.projection.wait(row);
            }
        }
        let is_applied = folded.disposition == Disposition::Applied;
        if (is_foreign && is_applied) || folded.disposition == Disposition::Quarantined(Reason::BadSignature) {
            self.refuse(&entry);
        } else if is_applied && !is_skipped {
            self.notice(&entry, line, &policy_before);
        }
        self.entries_uncommitted += 1;
        self.first_uncommitted.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Refuses an entry that is not believed, and makes a replay without the key skip it.
    fn refuse(&mut self, entry: &Entry) {
        let stream = self.projection.streams().get(entry.stream).name.clone();
        if entry.kind == StreamKind::Decision {
            self.findings.refuse("decision_foreign", entry.id);
            tracing::error!(stream, entry = %entry.id, finding = "decision_foreign", "a decision is none of ours: its symbol is held");
        } else {
            self.findings.refuse("bad_signature", entry.id);
            tracing::error!(stream, entry = %entry.id, finding = "bad_signature", "a control entry is not signed as ours are: it is refused");
        }
        if self.signing.is_none() {
            return;
        }
        let row = self.refused.add(&stream, entry.id);
        self.projection.wait(row);
        self.tell_refused();
    }

    /// Publishes an `entry.skipped` for entries that were refused.
    fn tell_refused(&mut self) {
        if !self.is_leader {
            return;
        }
        for (stream, id) in self.refused.due() {
            let payload = serde_json::json!({"stream": stream, "id": id.to_string(), "reason": "bad_signature"});
            self.stage_entry(OwnEntry::Other, "entry.skipped", &payload.to_string());
        }
    }

    /// Shuts the kill gate for an entry that was read: no order is sent until it has had its turn.
    pub fn kill_is_read(&mut self, stream: StreamId, id: EntryId) {
        let is_past = self.projection.engine.cursor(stream).is_some_and(|cursor| id <= cursor);
        if is_past || !self.kills_read.insert((stream, id)) {
            self.kill_gate.kills_are_folded(1, self.projection.engine.globals().killed);
        }
    }

    /// Opens the kill gate for a control entry that was folded. Orders follow the folded state.
    fn kill_has_its_turn(&mut self, stream: StreamId, id: EntryId) {
        let folded = u64::from(self.kills_read.remove(&(stream, id)));
        let globals = self.projection.engine.globals();
        self.kill_gate.kills_are_folded(folded, globals.killed);
        self.kill_gate.policy_differs(globals.policy.hash != self.orders.policy);
    }

    /// Recognises our own entries that came back.
    fn notice(&mut self, entry: &Entry, line: &str, policy_before: &str) {
        match &entry.content {
            Ok(Event::Decision(fact)) => self.notice_decision(fact, entry.id, line),
            Ok(Event::Control(fact)) => {
                let is_back = |id: &Option<EntryId>| *id == Some(entry.id);
                let mut back = self.own.take(|_, id| is_back(id));
                match &fact.control {
                    Control::KillChanged { kill } => self.kill_is_folded(*kill),
                    Control::PolicyAdopted(policy) => {
                        let (adopted, configured) = (&policy.hash, &self.orders.policy);
                        if adopted == configured {
                            tracing::info!(entry = %entry.id, %adopted, %configured, before = policy_before, "policy adopted");
                        } else {
                            tracing::warn!(
                                entry = %entry.id, %adopted, %configured, before = policy_before,
                                "policy adopted that is not the configured one: no order is sent"
                            );
                        }
                    }
                    Control::EntrySkipped { stream, id } => {
                        if let Some(row) = self.refused.told(stream, *id) {
                            self.projection.wait(row);
                        }
                        self.tell_refused();
                    }
                    Control::HistoryGap { stream, before, .. } => {
                        // An earlier leader has published it already.
                        let streams = self.projection.streams();
                        let is_said = |why: &OwnEntry| matches!(why, OwnEntry::Gap(loss) if streams.get(loss.stream).name == **stream && loss.before <= *before);
                        back.extend(self.own.take(|why, id| id.is_none() && is_said(why)));
                    }
                    _ => {}
                }
                for why in back {
                    if let OwnEntry::Gap(loss) = why {
                        self.count_lost(&loss);
                    }
                }
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// Notes a decision that is in the stream. One of another process is kept as ours are, in case the server loses it.
    fn notice_decision(&mut self, fact: &DecisionFact, id: EntryId, line: &str) {
        let row = match self.outbox.get_mut(&fact.seq) {
            Some(row) if *row.decision_id == *fact.decision_id && *row.field("hash") == *fact.hash => {
                row.written = Some(id);
                live::outbox_row(row)
            }
            Some(_) => return,
            None => {
                let Some(row) = of_another(fact, id, line).filter(|row| self.is_believed(row)) else { return };
                let stored = live::outbox_row(&row);
                self.projection.wait(state::decision_row(row.seq, line));
                self.outbox.insert(row.seq, row);
                stored
            }
        };
        self.projection.wait(row);
    }

    /// Returns true if the fold adopted a decision, and if it has our signature where there is a key.
    fn is_believed(&self, row: &OutboxRow) -> bool {
        let signature = Some(row.field("signature")).filter(|signature| !signature.is_empty());
        let id = row.written.unwrap_or(SOMEWHERE);
        let is_signed = |key: &SigningKey| key.vouches(id, row.field("hash"), signature);
        let symbol = self.projection.engine.find(row.field("symbol"));
        let is_taken = symbol.is_some_and(|symbol| symbol.positions().any(|i| i.has_decision(&row.decision_id)));
        is_taken && self.signing.as_ref().is_none_or(is_signed)
    }

    /// Notes entries that were delivered to the group and that we have read ourselves. They are acknowledged once they
    /// are folded.
    pub fn delivered(&mut self, stream: StreamId, ids: Vec<EntryId>) {
        self.delivered[usize::from(stream.0)].extend(ids);
    }

    /// Notes where a stream begins.
    pub fn begin(&mut self, stream: StreamId, cursor: Option<EntryId>, checkpoint: StreamPosition) {
        if let Some(cursor) = cursor {
            self.projection.engine.set_cursor(stream, cursor);
        }
        self.positions[usize::from(stream.0)] = checkpoint;
        self.places_changed[usize::from(stream.0)] = true;
        self.entries_uncommitted += 1;
    }

    /// Begins a new chain of decisions. The content of the outbox belongs to the former one.
    pub fn begin_chain(&mut self) {
        self.projection.engine.begin_chain();
        for seq in std::mem::take(&mut self.outbox).into_keys() {
            self.projection.wait(live::outbox_removed(seq));
        }
        self.entries_uncommitted += 1;
    }

    /// Handles a stream gap: its entries count as lost, and the leader publishes it as an entry.
    pub fn lose(&mut self, loss: StreamGap) {
        let name = &self.projection.streams().get(loss.stream).name;
        let is_it = |gap: &Gap| *gap.stream == **name && gap.after == loss.after && gap.before == loss.before;
        if loss.count.is_none() && self.projection.engine.globals().gaps.iter().any(is_it) {
            return self.count_lost(&loss);
        }
        tracing::error!(
            stream = %name,
            after = loss.after.map(|id| id.to_string()),
            before = loss.before.map(|id| id.to_string()),
            count = loss.count,
            why = loss.why,
            "entries are lost: positions are held until they are confirmed"
        );
        let payload = serde_json::json!({
            "stream": name, "reason": loss.why,
            "after": loss.after.map(|id| id.to_string()), "before": loss.before.map(|id| id.to_string()),
        });
        if loss.count.is_none() {
            self.doubt_orders();
        }
        self.stage_entry(OwnEntry::Gap(loss), "history.gap", &payload.to_string());
    }

    /// Doubts the orders on their way: the server has forgotten entries, so an order may have been sent already, and
    /// the server may have lost the memory of it.
    fn doubt_orders(&mut self) {
        for row in self.outbox.values_mut().filter(|row| row.live && row.written.is_none()) {
            row.record_only = true;
            self.projection.wait(live::outbox_row(row));
        }
    }

    /// Returns our own entries that must be written.
    fn appends(&mut self) -> Vec<Append> {
        if self.own.not_before.is_some_and(|from| Instant::now() < from) {
            return Vec::new();
        }
        let unpublished = std::mem::take(&mut self.own.unpublished);
        let append = |(number, fields)| {
            let gap = self.own.pending.get(&number).and_then(|(why, _)| self.gap_notice(why));
            Append { number, stream: self.outputs.control.clone(), fields, gap }
        };
        unpublished.into_iter().map(append).collect()
    }

    fn gap_notice(&self, why: &OwnEntry) -> Option<GapNotice> {
        let OwnEntry::Gap(loss) = why else { return None };
        let streams = self.projection.streams();
        let folded = streams.id_of(&self.outputs.control).and_then(|control| self.projection.engine.cursor(control));
        let stream = streams.get(loss.stream).name.clone();
        Some(GapNotice { stream, before: loss.before?, folded: folded.unwrap_or_default() })
    }

    /// Counts a gap that is in the log: its entries count as seen from now on. Before that, a new start finds it again.
    fn count_lost(&mut self, loss: &StreamGap) {
        let index = usize::from(loss.stream.0);
        let seen = self.positions[index].seen.saturating_add_signed(loss.shift);
        self.positions[index] = StreamPosition { seen, added: loss.added };
        self.places_changed[index] = true;
    }

    /// Stages an entry of our own for the control stream. It is written now, or as soon as we lead.
    pub fn stage_entry(&mut self, why: OwnEntry, event_type: &str, payload: &str) {
        let number = self.own.next_number;
        self.own.next_number += 1;
        self.own.pending.insert(number, (why, None));
        let fields = [("event_type", event_type), ("payload", payload)];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        self.own.unpublished.push((number, fields));
    }

    /// Notes a read of the kill key. The leader writes a change to the control stream.
    pub fn kill_key_is_read(&mut self, read: KeyRead) {
        self.kill_key.read(read);
        self.follow_kill_key();
    }

    /// Writes the value of the kill key to the control stream, if the log does not have it.
    ///
    /// The value counts as known once the entry has come back. A process that ends before that finds the change again.
    fn follow_kill_key(&mut self) {
        let Some(kill) = self.kill_key.since_folded() else { return };
        let is_said = |kill: bool| self.own.pending.values().any(|(why, _)| *why == OwnEntry::Kill(kill));
        if !self.is_leader || is_said(kill) || self.checkpoint.kill_key == Some(kill) {
            return;
        }
        // A value that the log has already is not written again, unless the opposite is on its way. A key of 0 clears
        // only a kill that the key has set. With a signing key, a writer without it cannot clear a kill through us.
        let says_nothing = !kill && (self.signing.is_some() || self.checkpoint.kill_key.is_none());
        if says_nothing || (self.projection.engine.globals().killed == kill && !is_said(!kill)) {
            self.checkpoint.kill_key = Some(kill);
            self.entries_uncommitted += 1;
            return;
        }
        let reason = if kill { "the kill key was set" } else { "the kill key was cleared" };
        let payload = serde_json::json!({"kill": kill, "reason": reason});
        self.stage_entry(OwnEntry::Kill(kill), "kill.changed", &payload.to_string());
    }

    /// Notes a kill switch of the log. While the key is set, an operator's entry that clears the kill does not last:
    /// the next read of the key sets it again.
    fn kill_is_folded(&mut self, kill: bool) {
        self.kill_key.folded(Instant::now());
        let seen = self.kill_key.value();
        if seen == Some(kill) || seen == Some(true) {
            self.checkpoint.kill_key = Some(kill);
        }
    }

    /// Begins or ends the leadership.
    pub fn lead(&mut self, is_leader: bool) {
        self.is_leader = is_leader;
        self.is_caught_up = false;
        self.in_hand.clear();
        self.gate.retry();
        self.quarantine_outbox.lead();
        self.refused.lead();
        self.tell_refused();
        if is_leader {
            self.follow_kill_key();
        }
    }

    /// Commits everything: the journal first, then the state with its cursors and the outbox.
    pub fn commit(&mut self) -> anyhow::Result<()> {
        fail::point("folded");
        let journalled = self.journal.commit()?;
        fail::point("journalled");
        self.commit_at(journalled)
    }

    /// Commits the state that contains this many entries of the journal.
    pub fn commit_at(&mut self, journalled: u64) -> anyhow::Result<()> {
        self.checkpoint.journal = journalled;
        for (index, checkpoint) in self.positions.iter().enumerate() {
            if std::mem::take(&mut self.places_changed[index]) {
                let name = &self.projection.streams().get(StreamId(index as u16)).name;
                self.projection.wait(live::stream_row(name, *checkpoint));
            }
        }
        self.projection.wait(live::place_row(self.checkpoint));
        for row in self.findings.rows(&self.projection.engine.counters) {
            self.projection.wait(row);
        }
        self.forget_written();
        self.projection.commit()?;
        fail::point("committed");
        (self.entries_uncommitted, self.first_uncommitted) = (0, None);
        Ok(())
    }

    fn forget_written(&mut self) {
        // A decision that is being looked for must still be there when it turns out to be lost.
        if !self.gate.may_offer() {
            return;
        }
        let from = self.projection.engine.globals().last.ms.saturating_sub(OUTBOX_MEMORY_MS);
        let written = || self.outbox.values().filter_map(|row| Some((row.seq, row.written?)));
        // The entries of a backlog are old, and decisions written now would be kept for all of it.
        let too_many = written().count().saturating_sub(OUTBOX_WRITTEN_MAX);
        let is_old = |checkpoint: usize, id: EntryId| checkpoint < too_many || id.ms < from;
        let old: Vec<u64> = written()
            .enumerate()
            .filter(|(checkpoint, (_, id))| is_old(*checkpoint, *id))
            .map(|(_, (seq, _))| seq)
            .collect();
        for seq in old {
            self.outbox.remove(&seq);
            self.projection.wait(live::outbox_removed(seq));
        }
    }

    /// Returns the number of uncommitted entries and the time of the first one; `None` if there is nothing to commit.
    pub fn uncommitted(&self) -> Option<(usize, Instant)> {
        (self.entries_uncommitted > 0)
            .then(|| (self.entries_uncommitted, self.first_uncommitted.unwrap_or_else(Instant::now)))
    }

    /// Returns what must be emitted and acknowledged after a commit.
    pub fn work(&mut self) -> anyhow::Result<EmitBatch> {
        let mut work = EmitBatch::default();
        let streams = self.projection.streams();
        for (index, ids) in self.acks.iter_mut().enumerate() {
            let cursor = self.projection.engine.cursor(StreamId(index as u16)).unwrap_or_default();
            ids.extend(self.delivered[index].extract_if(.., |id| *id <= cursor));
            if !ids.is_empty() {
                work.acks.push((streams.get(StreamId(index as u16)).name.clone(), std::mem::take(ids)));
            }
        }
        let may_offer = self.gate.may_offer();
        work.checks = self.gate.take_check().then(|| self.written());
        if !self.is_leader {
            return Ok(work);
        }
        work.appends = self.appends();
        if let Some(store) = self.projection.store().filter(|_| !self.quarantine_outbox.is_empty()) {
            let (due, gone) = self.quarantine_outbox.due(store).context("reading what was put aside")?;
            work.quarantine_outbox = due;
            for row in gone {
                self.projection.wait(row);
            }
        }
        if may_offer && !self.gate.waits_for_outputs() {
            work.round = self.gate.round;
            work.emissions = self.due();
            self.in_hand.extend(work.emissions.iter().map(|(seq, _)| *seq));
        }
        Ok(work)
    }

    /// Returns the decisions that may be offered now, in their order. None overtakes another that may not be offered.
    fn due(&self) -> Vec<(u64, Emission)> {
        let (mut due, mut after) = (Vec::new(), None);
        for row in self.outbox.values() {
            if row.written.is_some() {
                after = row.written.filter(|entry| *entry != SOMEWHERE);
            } else if !self.in_hand.contains(&row.seq) {
                let rests_on_the_streams = row.live && !row.record_only;
                let is_current = self.is_caught_up && self.gate.is_current();
                if (row.live && !self.is_caught_up) || (rests_on_the_streams && !is_current) {
                    break;
                }
                if self.gate.is_doubtful(row.seq) {
                    break;
                }
                due.push((row.seq, self.emission(row, after.filter(|after| !self.gate.is_checked(*after)))));
            }
        }
        due
    }

    fn emission(&self, row: &OutboxRow, after: Option<EntryId>) -> Emission {
        let is_order = row.live && !row.record_only;
        let mut fields = row.fields.clone();
        if row.again {
            fields.push(("again".to_owned(), "1".to_owned()));
        }
        Emission {
            decision_id: row.decision_id.clone(),
            fields,
            request: row.request.clone().filter(|_| !(row.live && row.record_only)).map(|(stream, fields)| Request {
                stream,
                is_ours: !row.live,
                fields,
            }),
            cause_ms: row.cause_ms,
            age_max_ms: if is_order { self.orders.age_max_ms } else { 0 },
            kill_was_set: self.kill_key.value().or(self.checkpoint.kill_key) == Some(true),
            refusal: if is_order { self.refusal(row).or_else(|| self.position_refusal(row)) } else { None },
            record_only: row.record_only,
            hash: row.field("hash").to_owned(),
            again: row.again,
            after,
            folded_to_ms: if is_order { self.gate.folded_to_ms } else { 0 },
        }
    }

    /// Returns the reason why an order must not be sent for its position: since the decision, the position was closed,
    /// was reduced by another service, or became uncertain.
    fn position_refusal(&self, row: &OutboxRow) -> Option<&'static str> {
        let symbol = self.projection.engine.find(row.field("symbol"));
        let holds = symbol.is_some_and(|symbol| symbol.still_holds(&row.decision_id));
        let is_uncertain = || symbol.and_then(Symbol::uncertain).map(Hold::name);
        (!holds).then_some("position_changed").or_else(is_uncertain)
    }

    /// Returns the reason why an order is not sent now.
    fn refusal(&self, row: &OutboxRow) -> Option<&'static str> {
        let globals = self.projection.engine.globals();
        if globals.killed || self.kill_gate.is_killed() {
            return Some("killed");
        }
        self.own.refusal().or_else(|| self.orders.refusal(&row.policy, &globals.policy.hash))
    }

    /// Applies the outcome of an emission or another operation of the emitter.
    pub fn done(&mut self, done: Done) -> Option<(OutboxRow, Option<Line>)> {
        match done {
            Done::Emitted { seq, decision, refusal, is_new, took: _ } => {
                self.in_hand.remove(&seq);
                self.gate.written(seq);
                let row = self.outbox.get_mut(&seq)?;
                row.written = Some(decision);
                self.projection.wait(live::outbox_row(row));
                self.entries_uncommitted += 1;
                let line = self.lines.remove(&seq).filter(|_| refusal.is_none());
                if !is_new {
                    return None;
                }
                self.totals.emitted += 1;
                self.totals.refused += u64::from(refusal.is_some());
                return Some((row.clone(), line));
            }
            Done::NotEmitted { seq, round, why } => {
                self.in_hand.remove(&seq);
                self.not_offered(seq, round, why);
            }
            Done::Appended { number, id } => {
                if let Some((_, known)) = self.own.pending.get_mut(&number) {
                    *known = Some(id);
                }
                let control = self.projection.streams().id_of(&self.outputs.control);
                let is_folded = control
                    .and_then(|control| self.projection.engine.cursor(control))
                    .is_some_and(|cursor| cursor >= id);
                if is_folded && let Some((OwnEntry::Gap(loss), _)) = self.own.pending.remove(&number) {
                    self.count_lost(&loss);
                }
            }
            Done::NotAppended { number } => self.retry_appends(number),
            Done::AppendRefused { number, fields } => {
                if self.own.pending.contains_key(&number) {
                    self.own.unpublished.push((number, fields));
                }
                self.own.not_before = Some(Instant::now() + OWN_PAUSE);
            }
            Done::Output { key, refusal } => self.output(key, refusal),
            Done::Checked { lost } => self.checked(&lost),
            Done::Aside { number, is_written } => {
                if let Some(row) = self.quarantine_outbox.done(number, is_written) {
                    self.projection.wait(row);
                    self.entries_uncommitted += 1;
                }
            }
            Done::Finished => {}
        }
        None
    }

    /// Notes that a stream or key rejects writes, or accepts them again. Logs each change.
    fn output(&mut self, key: String, refusal: Option<String>) {
        match refusal {
            Some(why) => {
                if self.refusing.get(&key) != Some(&why) {
                    tracing::error!(key, why, "nothing can be written");
                    self.refusing.insert(key, why);
                }
            }
            None => {
                if self.refusing.remove(&key).is_some() {
                    tracing::info!(key, "can be written again");
                }
            }
        }
    }

    /// Retries an entry that could not be written: the next leader writes it, or this process when it leads again.
    fn retry_appends(&mut self, number: u64) {
        let Some((why, _)) = self.own.pending.remove(&number) else { return };
        match why {
            OwnEntry::Gap(loss) => self.lose(loss),
            // Checked again when we lead again.
            OwnEntry::Kill(_) | OwnEntry::Policy | OwnEntry::Other => {}
        }
    }

    fn not_offered(&mut self, seq: u64, round: u64, why: NotEmitted) {
        self.gate.halt(round);
        match why {
            NotEmitted::Later => {}
            NotEmitted::Behind => self.gate.wait_for_news(),
            NotEmitted::Unfit => self.gate.wait_for_outputs(),
            NotEmitted::Lost => self.gate.doubt_written(),
            NotEmitted::Doubtful { known } => {
                if self.gate.doubt(seq) {
                    let row = self.outbox.get(&seq);
                    tracing::error!(
                        seq,
                        decision_id = row.map(|row| row.decision_id.as_str()),
                        known,
                        "the memory of what was written names an entry that is not this decision: it is held, and all behind \
                         it; look for the order at the executor, then HDEL the decision's id from the memory"
                    );
                }
            }
        }
    }

    /// Offers the decisions again that the server has lost, before all others. An order is not sent a second time.
    fn checked(&mut self, lost: &[u64]) {
        let last = self.outbox.values().rev().find_map(|row| row.written);
        self.gate.checked(last.filter(|_| lost.is_empty()));
        let oldest = self.outbox.values().find(|row| row.written.is_some()).map(|row| row.seq);
        for seq in lost {
            let Some(row) = self.outbox.get_mut(seq) else { continue };
            (row.written, row.again, row.record_only) = (None, true, row.live);
            // It gets a new id, for which an earlier key, or none, no longer counts.
            if let Some(key) =
                self.signing.as_ref().filter(|key| !key.verifies(row.field("hash"), row.field("signature")))
            {
                row.fields.retain(|(name, _)| name != "signature");
                row.fields.push(("signature".to_owned(), key.sign(row.field("hash"))));
            }
            let row = live::outbox_row(row);
            self.projection.wait(row);
            self.entries_uncommitted += 1;
        }
        // If the oldest is lost, older ones may be lost too.
        if let Some(oldest) = oldest.filter(|oldest| lost.contains(oldest))
            && self.recall_before(oldest)
        {
            return self.gate.doubt_written();
        }
        let again = || self.outbox.values().filter(|row| row.again && row.written.is_none()).map(|row| row.seq);
        if let (false, Some(first), Some(last)) = (lost.is_empty(), again().min(), again().max()) {
            let count = again().count();
            tracing::error!(count, first, last, "the server has lost decisions: they are written again");
        }
    }

    /// Loads old decisions before a number into the outbox, to look for them. Returns true if there are any.
    fn recall_before(&mut self, seq: u64) -> bool {
        let Some(store) = self.projection.store() else { return false };
        let floor = self.projection.engine.globals().chain.seq.saturating_sub(RECALLED_MAX);
        let numbers = (seq.saturating_sub(RECALLED).max(floor)..seq).filter(|seq| !self.outbox.contains_key(seq));
        let lines: Vec<String> = numbers.filter_map(|seq| state::decision_one(store, seq).ok().flatten()).collect();
        let before = self.outbox.len();
        for line in lines {
            if let Some(row) = recalled(&mut self.projection, &line) {
                self.outbox.insert(row.seq, row);
            }
        }
        self.outbox.len() > before
    }

    /// Doubts what was written, because the server may have lost it. Nothing is offered until it was looked for.
    pub fn doubt_written(&mut self) {
        let next = self.projection.engine.globals().chain.seq + 1;
        if self.outbox.values().any(|row| row.written.is_some()) || self.recall_before(next) {
            self.gate.doubt_written();
        }
    }

    /// Notes that all entries before a server time are folded. [ms since 1970]
    pub fn folded_to(&mut self, ms: u64) {
        self.gate.folded_to_ms = self.gate.folded_to_ms.max(ms);
    }

    /// Returns the server time before which all entries are folded. [ms since 1970]
    pub fn folded_to_ms(&self) -> u64 {
        self.gate.folded_to_ms
    }

    /// Returns the number of decisions in doubt: the memory of written ids and the stream differ. [1]
    pub fn doubtful(&self) -> usize {
        self.gate.doubtful()
    }

    /// Returns the decisions that the server should have.
    fn written(&self) -> Vec<WrittenDecision> {
        let written = |row: &OutboxRow| {
            let entry = row.written.filter(|entry| *entry != SOMEWHERE);
            row.written?;
            Some(WrittenDecision { seq: row.seq, decision_id: row.decision_id.clone(), entry })
        };
        self.outbox.values().filter_map(written).collect()
    }

    /// Returns the number of decisions that are not in the stream yet. [1]
    pub fn outbox_waiting(&self) -> usize {
        self.outbox.values().filter(|row| row.written.is_none()).count()
    }

    /// Returns the findings about past entries, of this process and earlier ones.
    pub fn findings(&self) -> BTreeMap<String, Finding> {
        self.findings.all(&self.projection.engine.counters)
    }

    /// Returns true if all decisions and quarantine records are in the streams.
    pub fn is_told(&self) -> bool {
        self.outbox_waiting() == 0 && self.quarantine_outbox.is_empty()
    }

    /// Returns true if everything is published, offered and acknowledged.
    pub fn is_settled(&self) -> bool {
        self.entries_uncommitted == 0
            && (!self.is_leader || (self.is_told() && self.own.is_empty() && self.gate.may_offer()))
    }
}

/// Returns the row of a decision that was written long ago.
fn recalled(driver: &mut Driver, line: &str) -> Option<OutboxRow> {
    let fields = line::fields(line.as_bytes()).ok()?;
    let (name, id) = line::head(line.as_bytes()).ok()?;
    let stream = driver.streams().id_of(&name)?;
    let entry = driver.decode(stream, id.parse().ok()?, &fields);
    let Ok(Event::Decision(fact)) = entry.content else { return None };
    of_another(&fact, SOMEWHERE, line)
}

/// Returns the row of a decision that is in the stream, if its seal is intact.
fn of_another(fact: &DecisionFact, id: EntryId, line: &str) -> Option<OutboxRow> {
    let fields = line::fields(line.as_bytes()).ok()?;
    let text = |(name, value): (Cow<'_, str>, FieldValue<'_>)| match value {
        FieldValue::Text(text) => Some((name.into_owned(), text.into_owned())),
        FieldValue::Bytes(_) => None,
    };
    let texts =
        fields.pairs.into_iter().filter(|(name, _)| name != "again").map(text).collect::<Option<FieldTexts>>()?;
    let row = OutboxRow {
        seq: fact.seq,
        decision_id: fact.decision_id.to_string(),
        fields: texts,
        request: None,
        live: fact.live,
        cause_ms: fact.cause_id.ms,
        written: Some(id),
        record_only: fact.live,
        again: false,
        policy: String::new(),
    };
    let hash = seal::chained(row.field("prev"), row.field("payload"));
    (row.seq > 0 && hash == row.field("hash")).then_some(row)
}
