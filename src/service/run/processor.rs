//! The processor: driver and delivery of one process, without I/O.
//!
//! ```text
//!  line ─▶ fold ─▶ entry, decision, disposition ─▶ delivery ─▶ actions
//!    │       └──▶ rows of the state ─┐                 └──▶ rows of the outbox ─┐
//!    ▼                               ▼                                         ▼
//!  journal (the log)             checkpoint: all rows, at one position of the journal
//! ```
//!
//! The event loop writes the lines to the journal, reports which are durable, does the actions, and writes a checkpoint
//! from time to time. The simulator does the same without files and servers.
//!
//! In reading order: this file, `rows` (rows made from lines), `findings` (facts that an operator has to know),
//! `journal_lines`, `stored` (rows of an earlier process).

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;

use super::crash_guard::CrashGuard;
use super::fail;
use super::findings::Findings;
use super::kill_gate::KillGate;
use super::lines::Released;
use super::orders::OrderSettings;
use crate::codec::decode::kills_when_read;
use crate::codec::line::{self, Fields};
use crate::codec::live::{self, Checkpoint, Finding};
use crate::codec::seal::Sealed;
use crate::codec::shown::shown;
use crate::codec::signing::SigningKey;
use crate::codec::state::{self, Row};
use crate::domain::book::counters::Count;
use crate::domain::delivery::fault::Faults;
use crate::domain::delivery::row::{OutboxRow, SOMEWHERE};
use crate::domain::delivery::{Delivery, Folded, Restored, Settings, StreamPosition};
use crate::domain::engine::{Decision, Disposition, Engine};
use crate::domain::event::ids::{EntryId, StreamId};
use crate::domain::event::streams::{StreamKind, Streams};
use crate::domain::event::{Control, Entry, Event};
use crate::drive::commits::PendingRows;
use crate::drive::driver::Driver;
use crate::drive::look_ahead::{self, LookAhead};
use crate::service::operator_log::{self, Line};
use rows::{of_stream, record};

mod findings;
mod journal_lines;
mod rows;
mod stored;

pub use journal_lines::JournalLines;
pub use stored::Stored;

/// The streams of decisions and requests.
#[derive(Clone, Debug)]
pub struct OutputStreams {
    pub control: String,
    pub suggestions: String,
}

/// All rows that a checkpoint writes in one commit. Their state contains a number of entries of the journal.
#[derive(Debug)]
pub struct CheckpointRows {
    pub rows: Vec<Row>,
    /// [1]
    pub journal: u64,
}

/// The parts of a processor that are made before the processor itself.
pub struct ProcessorParts {
    pub driver: Driver,
    pub rows: PendingRows,
    pub signing: Option<SigningKey>,
    pub order_settings: OrderSettings,
    pub outputs: OutputStreams,
    pub crash_guard: CrashGuard,
    pub stored: Stored,
    pub faults: Faults,
}

/// Driver and delivery of one process.
pub struct Processor {
    pub driver: Driver,
    rows: PendingRows,
    pub delivery: Delivery,
    signing: Option<SigningKey>,
    pub order_settings: OrderSettings,
    outputs: OutputStreams,
    pub crash_guard: CrashGuard,
    findings: Findings,
    pub kill_gate: Arc<KillGate>,
    /// Lines of the operator log, written when their decision is emitted.
    operator_lines: BTreeMap<u64, Line>,
    /// Lines for the journal, since they were last taken.
    pub journal: JournalLines,
}

impl Processor {
    pub fn new(parts: ProcessorParts) -> Self {
        let ProcessorParts { driver, rows, signing, order_settings, outputs, crash_guard, stored, faults } = parts;
        let settings = Settings {
            policy: order_settings.policy.clone(),
            account_policies: order_settings.account_policies.clone(),
            sends_orders: order_settings.live.is_some(),
            age_max_ms: order_settings.age_max_ms,
            has_key: signing.is_some(),
            control: outputs.control.as_str().into(),
            faults,
        };
        let unrecorded = stored.unrecorded.iter().filter_map(|entry| {
            // A line that does not parse has no record.
            Some((entry.stream.as_str().into(), entry.id, record(&entry.stream, entry.id, &entry.reason, &entry.line)?))
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
            order_settings,
            outputs,
            crash_guard,
            findings: Findings::of(stored.findings),
            kill_gate: Arc::default(),
            operator_lines: BTreeMap::new(),
            journal: JournalLines::default(),
        }
    }

    pub fn engine(&self) -> &Engine {
        &self.driver.engine
    }

    pub fn streams(&self) -> &Streams {
        self.driver.streams()
    }

    /// Handles an entry whose turn has come, with its line: for the journal, the fold and delivery.
    pub fn handle_entry(&mut self, released: Released, line: Option<&str>, now_ms: u64) -> anyhow::Result<()> {
        let Released { stream, id, by_group, .. } = released;
        let is_duplicate = self.engine().cursor(stream).is_some_and(|cursor| id <= cursor);
        if is_duplicate {
            self.driver.engine.counters.duplicates += 1;
            self.update_kill_gate(stream, id);
        }
        // An entry without a line was trimmed while it was pending. The gap detector finds it by counting.
        let Some(line) = line.filter(|_| !is_duplicate) else {
            self.delivery.handle_duplicate(stream, id, by_group);
            return Ok(());
        };
        self.journal.append(line, id.ms, now_ms);
        self.fold(stream, id, by_group, line, now_ms)
    }

    /// Gives the look-ahead an entry before its turn, at the start of a process.
    pub fn look(&mut self, ahead: &mut LookAhead, stream: StreamId, id: EntryId, fields: &Fields<'_>) {
        let entry = self.driver.decode(stream, id, fields);
        if entry.kind == StreamKind::Control && kills_when_read(fields) {
            self.kill_gate.kill_is_read();
            self.kill_is_read(stream, id);
        }
        ahead.see(self.streams(), entry);
    }

    /// Looks at an entry of a former decision stream, at the start of a process. Returns true if it is a decision whose seal
    /// verifies.
    pub fn look_at_former(&mut self, ahead: &mut LookAhead, stream: &str, id: EntryId, fields: &Fields<'_>) -> bool {
        let Some(decisions) = look_ahead::decision_stream(self.streams()) else { return false };
        let entry = self.driver.decode(decisions, id, fields);
        let is_sealed = matches!(&entry.content, Ok(Event::Decision(fact)) if fact.is_sealed);
        ahead.see_former(stream, entry);
        is_sealed
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

    /// Folds a line of the journal, and passes the result on to delivery.
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
        let stepped = self.rows.fold(&mut self.driver.engine, &entry, || line.to_owned());
        self.crash_guard.folded();
        let is_foreign = foreign(self.engine()) > foreign_before;
        if is_control {
            self.update_kill_gate(stream, id);
        }
        if unknown(self.engine()) > unknown_before {
            log_unknown_position(&entry);
        }
        let decided =
            stepped.decided.into_iter().map(|(decision, sealed)| self.outbox_row(&decision, sealed)).collect();
        let disposition = stepped.disposition;
        self.note(&entry, disposition, is_foreign, &policy_before, is_skipped);
        let seen = match &entry.content {
            Ok(Event::Decision(fact)) if disposition == Disposition::Applied && !is_skipped => {
                of_stream(fact, id, line).filter(|row| self.is_believed(fact, row))
            }
            Ok(_) | Err(_) => None,
        };
        if let Some(row) = seen.as_ref().filter(|row| self.delivery.outbox().get(row.seq).is_none()) {
            self.rows.stage(state::decision_row(row.seq, line));
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

    /// Returns the row of the outbox for a new decision, signed if there is a key. Makes its line for the operator.
    fn outbox_row(&mut self, decision: &Decision, mut sealed: Sealed) -> OutboxRow {
        if let Some(key) = &self.signing {
            sealed.sign(key);
        }
        self.operator_lines.insert(sealed.seq, operator_log::emit(&self.driver.engine, decision));
        self.order_settings.row(&self.driver.engine, decision, &sealed, &self.outputs.suggestions)
    }

    /// Shuts the kill gate for an entry that was read: no order is sent until it has had its turn.
    pub fn kill_is_read(&mut self, stream: StreamId, id: EntryId) {
        if !self.delivery.handle_kill_read(stream, id, &self.driver.engine) {
            // It was folded or counted already: the reader's count is taken back.
            self.kill_gate.kills_are_folded(1, self.engine().globals().killed);
        }
    }

    /// Updates the kill gate after the fold of an entry: whether the entry was one that kills, and the kill switch and
    /// policy of the folded state. Orders follow the folded state.
    fn update_kill_gate(&mut self, stream: StreamId, id: EntryId) {
        let folded = u64::from(self.delivery.handle_turn(stream, id));
        let globals = self.driver.engine.globals();
        self.kill_gate.kills_are_folded(folded, globals.killed);
        self.kill_gate.policy_differs(globals.policy.hash != self.order_settings.policy);
    }

    /// Returns cursor and counts of each stream; `None` if it was never read.
    pub fn cursors_and_counts(&self) -> Vec<Option<(EntryId, StreamPosition)>> {
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

    /// Returns everything that a checkpoint has to write now: the changes since the last one.
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
        rows.push(live::checkpoint_row(Checkpoint { journal, kill_key: self.delivery.kills().known }));
        CheckpointRows { rows, journal }
    }

    /// Removes and returns the line of the operator log for a decision.
    pub fn take_operator_line(&mut self, seq: u64) -> Option<Line> {
        self.operator_lines.remove(&seq)
    }

    /// Returns the findings about past entries, of this process and earlier ones.
    pub fn findings(&self) -> BTreeMap<String, Finding> {
        self.findings.all(&self.engine().counters)
    }
}

/// Logs a control entry that names a position or a rung that is not known.
fn log_unknown_position(entry: &Entry) {
    if let Ok(Event::Control(fact)) = &entry.content
        && let Control::RiskAccepted { position_id } | Control::RungRearmed { position_id, .. } = &fact.control
    {
        tracing::warn!(entry = %entry.id, position = %shown(position_id), "UNKNOWN_POSITION: the control entry has no effect, because its position or rung is not known");
    }
}
