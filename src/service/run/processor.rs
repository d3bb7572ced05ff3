//! The processor: driver and delivery of one process, without I/O.
//!
//! ```text
//!  line ─▶ fold ─▶ entry, decision, disposition ─▶ delivery ─▶ actions
//!    │       └──▶ rows of the state ─┐                 └──▶ rows of the outbox ─┐
//!    ▼                               ▼                                         ▼
//!  journal (the log)             checkpoint: all rows, at one position of the journal
//! ```
//!
//! The event loop writes the lines to the journal, reports what is durable, does the actions, and writes a checkpoint
//! from time to time. The simulator does the same without files and servers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;

use super::crash_guard::CrashGuard;
use super::fail;
use super::findings::Findings;
use super::kill_gate::KillGate;
use super::lines::Released;
use super::orders::Orders;
use crate::codec::decode::kills_when_read;
use crate::codec::line::{self, FieldValue, Fields};
use crate::codec::live::{self, Checkpoint, Finding};
use crate::codec::seal;
use crate::codec::shown::shown;
use crate::codec::signing::SigningKey;
use crate::codec::state::{self, Quarantined, Row, Rows};
use crate::domain::book::counters::Count;
use crate::domain::delivery::fault::Faults;
use crate::domain::delivery::gap::StreamGap;
use crate::domain::delivery::row::{FieldTexts, OutboxRow, SOMEWHERE};
use crate::domain::delivery::{Delivery, Folded, Restored, Settings, StreamPosition};
use crate::domain::engine::{Disposition, Engine};
use crate::domain::event::ids::{EntryId, StreamId};
use crate::domain::event::streams::{StreamKind, Streams};
use crate::domain::event::{Control, DecisionFact, Entry, Event, Reason};
use crate::drive::commits::PendingRows;
use crate::drive::driver::Driver;
use crate::drive::look_ahead::LookAhead;
use crate::service::operator_log::{self, Line};

/// How long lines wait for further ones before they are written, unless something waits for them. [ms]
const LINES_WAIT_MS: u64 = 20;
/// Lines of this size are written at once. [byte]
const LINES_BYTES: usize = 256 << 10;

/// The streams of decisions and requests.
#[derive(Clone, Debug)]
pub struct OutputStreams {
    pub control: String,
    pub suggestions: String,
}

/// Lines that are folded and not yet on their way to the disk.
#[derive(Debug, Default)]
pub struct JournalLines {
    /// Whole lines, each with its line feed.
    pub text: Vec<u8>,
    /// The end of each line in the text, and the time of its id. [ms since 1970]
    pub ends: Vec<(usize, u64)>,
    /// When the first of them was folded, by the clock of the process. [ms]
    since_ms: u64,
}

impl JournalLines {
    fn append(&mut self, line: &str, id_ms: u64, now_ms: u64) {
        if self.is_empty() {
            self.since_ms = now_ms;
        }
        self.text.extend_from_slice(line.as_bytes());
        self.text.push(b'\n');
        self.ends.push((self.text.len(), id_ms));
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }
}

/// All rows that a checkpoint writes in one commit. Their state contains a number of entries of the journal.
#[derive(Debug)]
pub struct CheckpointRows {
    pub rows: Vec<Row>,
    /// [1]
    pub journal: u64,
}

/// Parts of a processor that are made before it.
pub struct ProcessorParts {
    pub driver: Driver,
    pub rows: PendingRows,
    pub signing: Option<SigningKey>,
    pub orders: Orders,
    pub outputs: OutputStreams,
    pub crash_guard: CrashGuard,
    pub stored: Stored,
    pub faults: Faults,
}

/// The rows of an earlier process beside the engine's state.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    pub checkpoint: Checkpoint,
    pub outbox: Vec<OutboxRow>,
    pub positions: Vec<Option<StreamPosition>>,
    /// Quarantined entries whose record is still to be written.
    pub unrecorded: Vec<Quarantined>,
    /// Refused entries that are still to be published.
    pub refused: Vec<(String, EntryId)>,
    /// Gaps that are still to be published.
    pub gaps: Vec<StreamGap>,
    pub findings: BTreeMap<String, Finding>,
}

impl Stored {
    /// Reads what an earlier process left beside the engine's state.
    pub fn read<R: Rows>(rows: &R, streams: &Streams) -> Result<Self, R::Error> {
        let positions: Result<Vec<_>, _> =
            streams.iter().map(|(_, stream)| live::stream_position(rows, &stream.name)).collect();
        let unrecorded = live::quarantine_outbox(rows)?;
        let unrecorded = unrecorded.iter().map(|(stream, id)| state::quarantined_one(rows, stream, *id));
        Ok(Self {
            checkpoint: live::checkpoint(rows)?,
            outbox: live::outbox(rows)?,
            positions: positions?,
            unrecorded: unrecorded.filter_map(Result::transpose).collect::<Result<_, _>>()?,
            refused: live::refused(rows)?,
            gaps: live::gaps(rows, streams)?,
            findings: live::findings(rows)?,
        })
    }
}

/// Driver and delivery of one process.
pub struct Processor {
    pub driver: Driver,
    rows: PendingRows,
    pub delivery: Delivery,
    signing: Option<SigningKey>,
    pub orders: Orders,
    outputs: OutputStreams,
    pub crash_guard: CrashGuard,
    findings: Findings,
    pub kill_gate: Arc<KillGate>,
    /// Lines of the operator log, written when their decision is emitted.
    lines: BTreeMap<u64, Line>,
    /// Lines for the journal, since they were last taken.
    pub journal: JournalLines,
}

impl Processor {
    pub fn new(parts: ProcessorParts) -> Self {
        let ProcessorParts { driver, rows, signing, orders, outputs, crash_guard, stored, faults } = parts;
        let settings = Settings {
            policy: orders.policy.clone(),
            account_policies: orders.account_policies.clone(),
            sends_orders: orders.live.is_some(),
            age_max_ms: orders.age_max_ms,
            has_key: signing.is_some(),
            control: outputs.control.as_str().into(),
            faults,
        };
        let unrecorded = stored.unrecorded.iter().filter_map(|held| {
            // An entry that is readable under the present rules has no record.
            Some((held.stream.as_str().into(), held.id, record(&held.stream, held.id, &held.reason, &held.line)?))
        });
        let restored = Restored {
            outbox: stored.outbox,
            positions: stored.positions.iter().map(|position| position.unwrap_or_default()).collect(),
            unrecorded: unrecorded.collect(),
            refused: stored.refused.iter().map(|(stream, id)| (stream.as_str().into(), *id)).collect(),
            gaps: stored.gaps,
            kill_key: stored.checkpoint.kill_key,
            journal: stored.checkpoint.journal,
        };
        let delivery = Delivery::new(settings, restored, &driver.engine);
        Self {
            driver,
            rows,
            delivery,
            signing,
            orders,
            outputs,
            crash_guard,
            findings: Findings::of(stored.findings),
            kill_gate: Arc::default(),
            lines: BTreeMap::new(),
            journal: JournalLines::default(),
        }
    }

    pub fn engine(&self) -> &Engine {
        &self.driver.engine
    }

    pub fn streams(&self) -> &Streams {
        self.driver.streams()
    }

    /// Takes an entry whose turn has come, with its line: for the journal, the fold and delivery.
    pub fn take(&mut self, released: Released, line: Option<&str>, now_ms: u64) -> anyhow::Result<()> {
        let Released { stream, id, by_group, .. } = released;
        let is_known = self.engine().cursor(stream).is_some_and(|cursor| id <= cursor);
        if is_known {
            self.driver.engine.counters.duplicates += 1;
            self.has_its_turn(stream, id);
        }
        // Without a line it was trimmed while it was pending. The gap detector finds it by counting.
        let Some(line) = line.filter(|_| !is_known) else {
            self.delivery.handle_duplicate(stream, id, by_group);
            return Ok(());
        };
        self.journal.append(line, id.ms, now_ms);
        self.fold(stream, id, by_group, line, now_ms)
    }

    /// Looks at an entry ahead of its turn, at the start of a process.
    pub fn look(&mut self, ahead: &mut LookAhead, stream: StreamId, id: EntryId, fields: &Fields<'_>) {
        let entry = self.driver.decode(stream, id, fields);
        if entry.kind == StreamKind::Control && kills_when_read(fields) {
            self.kill_gate.kill_is_read();
            self.kill_is_read(stream, id);
        }
        ahead.see(self.streams(), entry);
    }

    /// Folds a line of the journal that the store lacks, at the start of a process.
    pub fn fold_again(&mut self, text: &str) -> anyhow::Result<()> {
        let (name, id) = line::head(text.as_bytes())?;
        let id: EntryId = id.parse().map_err(|_| anyhow::anyhow!("{id:?} is not the id of an entry"))?;
        match self.streams().id_of(&name) {
            Some(stream) => self.fold(stream, id, false, text, 0)?,
            None => self.delivery.handle_other_line(),
        }
        Ok(())
    }

    /// Folds a line of the journal, and passes on to delivery what follows from it.
    pub fn fold(
        &mut self,
        stream: StreamId,
        id: EntryId,
        by_group: bool,
        line: &str,
        now_ms: u64,
    ) -> anyhow::Result<()> {
        let name = &self.driver.streams().get(stream).name;
        self.crash_guard.begin(name, id);
        let is_skipped = self.driver.engine.is_skipped(name, id);
        if !is_skipped {
            fail::entry(id);
        }
        let entry = self
            .driver
            .decode_line(stream, id, line.as_bytes())
            .with_context(|| format!("the entry {id} of the journal does not read"))?;
        let is_new = self.engine().cursor(stream).is_none_or(|cursor| id > cursor);
        let (is_control, is_decision) = (entry.kind == StreamKind::Control, entry.kind == StreamKind::Decision);
        let foreign = |engine: &Engine| if is_decision { engine.counters.of(Count::DecisionForeign) } else { 0 };
        let foreign_before = foreign(self.engine());
        let unknown = |engine: &Engine| if is_control { engine.counters.of(Count::UnknownPosition) } else { 0 };
        let unknown_before = unknown(self.engine());
        let policy_before = if is_control { self.engine().policy().hash.clone() } else { Box::default() };
        let folded = self.rows.fold(&mut self.driver.engine, &entry, || line.to_owned());
        self.crash_guard.folded();
        let is_foreign = foreign(self.engine()) > foreign_before;
        if is_control {
            self.has_its_turn(stream, id);
        }
        if unknown(self.engine()) > unknown_before
            && let Ok(Event::Control(fact)) = &entry.content
            && let Control::RiskAccepted { position_id } | Control::RungRearmed { position_id, .. } = &fact.control
        {
            tracing::warn!(entry = %id, position = %shown(position_id), "UNKNOWN_POSITION: the control entry has no effect, because its position or rung is not known");
        }
        let decided = folded.decided.into_iter().map(|(decision, mut sealed)| {
            if let Some(key) = &self.signing {
                sealed.sign(key);
            }
            self.lines.insert(sealed.seq, operator_log::emit(&self.driver.engine, &decision));
            self.orders.row(&self.driver.engine, &decision, &sealed, &self.outputs.suggestions)
        });
        let decided = decided.collect();
        let disposition = folded.disposition;
        self.note(&entry, disposition, is_foreign, &policy_before, is_skipped);
        let seen = match &entry.content {
            Ok(Event::Decision(fact)) if disposition == Disposition::Applied && !is_skipped => {
                of_stream(fact, id, line).filter(|row| self.is_believed(fact, row))
            }
            Ok(_) | Err(_) => None,
        };
        if let Some(row) = seen.as_ref().filter(|row| self.delivery.outbox().get(row.seq).is_none()) {
            self.rows.add(state::decision_row(row.seq, line));
        }
        let record = match disposition {
            Disposition::Quarantined(reason) => {
                record(&self.driver.streams().get(stream).name, id, reason.name(), line)
            }
            Disposition::Applied | Disposition::Duplicate => None,
        };
        let folded =
            Folded { entry: &entry, is_new, by_group, disposition, is_skipped, is_foreign, decided, seen, record };
        self.delivery.handle_folded(folded, now_ms, &self.driver.engine);
        Ok(())
    }

    /// Returns the finding about an entry that is skipped because a service did not believe it: a store that is folded again
    /// finds it again.
    fn refused_before(&self, entry: &Entry) -> Option<&'static str> {
        let is_refused = match &entry.content {
            Err(unreadable) => unreadable.reason == Reason::BadSignature || entry.kind == StreamKind::Decision,
            Ok(Event::Decision(fact)) => self.engine().is_foreign(fact),
            Ok(Event::Control(fact)) => {
                let issue = fact.issue.as_ref().filter(|_| fact.control.loosens());
                issue.is_some_and(|issue| !self.engine().globals().nonces.clone().take(issue, entry.id.ms))
            }
            Ok(_) => false,
        };
        let finding = if entry.kind == StreamKind::Decision { "decision_foreign" } else { "bad_signature" };
        is_refused.then_some(finding)
    }

    /// Logs and counts what an operator has to know about an entry.
    fn note(
        &mut self,
        entry: &Entry,
        disposition: Disposition,
        is_foreign: bool,
        policy_before: &str,
        is_skipped: bool,
    ) {
        if let Some(finding) = self.refused_before(entry).filter(|_| is_skipped) {
            self.findings.refuse(finding, entry.id);
        }
        let (stream, id) = (&self.driver.streams().get(entry.stream).name, entry.id);
        if let Disposition::Quarantined(reason) = disposition {
            if matches!(entry.kind, StreamKind::Result | StreamKind::Snapshot) || entry.is_of_exchange() {
                tracing::warn!(%stream, %id, reason = reason.name(), "UNREADABLE");
            }
            if is_foreign {
                self.findings.refuse("decision_foreign", id);
                tracing::error!(%stream, entry = %id, finding = "decision_foreign", reason = reason.name(), "a decision entry cannot be read: the symbols that it may concern are held");
            }
        }
        if is_foreign && disposition == Disposition::Applied {
            self.findings.refuse("decision_foreign", id);
            tracing::error!(%stream, entry = %id, finding = "decision_foreign", "a decision is none of ours: its symbol is held");
        } else if disposition == Disposition::Quarantined(Reason::BadSignature) {
            self.findings.refuse("bad_signature", id);
            tracing::error!(%stream, entry = %id, finding = "bad_signature", "a control entry is not signed as ours are: it is refused");
        } else if disposition == Disposition::Applied
            && !is_skipped
            && let Ok(Event::Control(fact)) = &entry.content
            && let Control::PolicyAdopted(policy) = &fact.control
        {
            let account = &self.engine().accounts().get(entry.account).name;
            let own = self.orders.account_policies.get(account);
            let configured = own.map_or(&self.orders.policy, |own| &own.hash);
            // Without a policy the account follows the general one.
            let adopted = policy.as_ref().map_or(&self.engine().globals().policy.hash, |policy| &policy.hash);
            if adopted == configured {
                tracing::info!(entry = %id, %account, %adopted, %configured, before = policy_before, "policy adopted");
            } else {
                tracing::warn!(
                    entry = %id, %account, %adopted, %configured, before = policy_before,
                    "policy adopted that is not the configured one: no order is sent"
                );
            }
        }
    }

    /// Returns true if the fold adopted a decision, or will at its cause, and if it has our signature where there is a
    /// key.
    fn is_believed(&self, fact: &DecisionFact, row: &OutboxRow) -> bool {
        let is_adopted =
            self.engine().book_of_decision(&row.decision_id).is_some() || self.engine().awaits_cause_of(fact);
        let signature = Some(row.field("signature")).filter(|signature| !signature.is_empty());
        let id = row.written.unwrap_or(SOMEWHERE);
        is_adopted && self.signing.as_ref().is_none_or(|key| key.vouches(id, row.field("hash"), signature))
    }

    /// Shuts the kill gate for an entry that was read: no order is sent until it has had its turn.
    pub fn kill_is_read(&mut self, stream: StreamId, id: EntryId) {
        if !self.delivery.handle_kill_read(stream, id, &self.driver.engine) {
            self.kill_gate.kills_are_folded(1, self.engine().globals().killed);
        }
    }

    /// Opens the kill gate for a control entry that was folded. Orders follow the folded state.
    fn has_its_turn(&mut self, stream: StreamId, id: EntryId) {
        let folded = u64::from(self.delivery.handle_turn(stream, id));
        let globals = self.driver.engine.globals();
        self.kill_gate.kills_are_folded(folded, globals.killed);
        self.kill_gate.policy_differs(globals.policy.hash != self.orders.policy);
    }

    /// Returns cursor and counts of each stream; `None` if it was never read.
    pub fn positions(&self) -> Vec<Option<(EntryId, StreamPosition)>> {
        let position = |stream: StreamId| {
            let (cursor, position) = (self.engine().cursor(stream), self.delivery.position_over_gaps(stream));
            let is_known = position != StreamPosition::default() || cursor.is_some();
            is_known.then(|| (cursor.unwrap_or_default(), position))
        };
        self.streams().iter().map(|(stream, _)| position(stream)).collect()
    }

    /// Begins a stream that was never read.
    pub fn begin(&mut self, stream: StreamId, cursor: Option<EntryId>, position: StreamPosition) {
        if let Some(cursor) = cursor {
            self.driver.engine.set_cursor(stream, cursor);
        }
        self.delivery.handle_begun(stream, position);
    }

    /// Begins a new chain of decisions.
    pub fn begin_chain(&mut self) {
        self.driver.engine.begin_chain();
        self.delivery.begin_chain();
    }

    /// Gives delivery old decisions, from their history lines.
    pub fn recall(&mut self, lines: &[String]) {
        let rows = lines.iter().filter_map(|line| {
            let fields = line::fields(line.as_bytes()).ok()?;
            let (name, id) = line::head(line.as_bytes()).ok()?;
            let stream = self.driver.streams().id_of(&name)?;
            let entry = self.driver.decode(stream, id.parse().ok()?, &fields);
            let Ok(Event::Decision(fact)) = entry.content else { return None };
            of_stream(&fact, SOMEWHERE, line)
        });
        let rows = rows.collect();
        self.delivery.handle_recalled(rows);
    }

    /// Returns everything that a checkpoint has to write: the changes since the last one, as of now.
    pub fn checkpoint(&mut self) -> CheckpointRows {
        let (journal, _) = self.delivery.journal();
        let mut rows = self.rows.take(&mut self.driver.engine);
        let last_ms = self.engine().globals().last.ms;
        let streams = self.driver.streams();
        rows.extend(self.delivery.take_changes(last_ms).iter().map(|change| live::change_row(change, streams)));
        for (stream, position) in self.delivery.take_positions() {
            rows.push(live::stream_row(&self.driver.streams().get(stream).name, position));
        }
        rows.extend(self.findings.rows(&self.driver.engine.counters));
        rows.push(live::place_row(Checkpoint { journal, kill_key: self.delivery.kills().known }));
        CheckpointRows { rows, journal }
    }

    /// Returns when the lines have to be written: at once if a decision waits for them or if they are many, otherwise
    /// after a moment, so that a disk without a queue has no sync for every price. `None` if there are none. [ms]
    pub fn lines_due_ms(&self) -> Option<u64> {
        let JournalLines { text, since_ms, .. } = &self.journal;
        let is_urgent = self.delivery.waits_for_sync() || text.len() >= LINES_BYTES;
        let due_ms = if is_urgent { *since_ms } else { since_ms + LINES_WAIT_MS };
        (!self.journal.is_empty()).then_some(due_ms)
    }

    /// Returns the line of the operator log for a decision, once.
    pub fn take_line(&mut self, seq: u64) -> Option<Line> {
        self.lines.remove(&seq)
    }

    /// Returns the findings about past entries, of this process and earlier ones.
    pub fn findings(&self) -> BTreeMap<String, Finding> {
        self.findings.all(&self.engine().counters)
    }
}

/// Returns the row of a decision that is in the stream, if its seal is intact.
fn of_stream(fact: &DecisionFact, id: EntryId, line: &str) -> Option<OutboxRow> {
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
        account: String::new(),
    };
    let hash = seal::chained(row.field("prev"), row.field("payload"));
    (row.seq > 0 && hash == row.field("hash")).then_some(row)
}

/// Returns the fields of a quarantine record.
fn record(stream: &str, id: EntryId, reason: &str, line: &str) -> Option<FieldTexts> {
    let fields = line::fields(line.as_bytes()).ok()?;
    let pairs = [
        ("stream", stream.to_owned()),
        ("id", id.to_string()),
        ("reason", reason.to_owned()),
        (if fields.is_text() { "fields" } else { "fields_b64" }, line::object(&fields)),
    ];
    Some(pairs.map(|(name, value)| (name.to_owned(), value)).into())
}
