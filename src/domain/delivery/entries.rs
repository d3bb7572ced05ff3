//! Events of the input: entries that were folded, delivered and synced, and gaps.

use super::action::Notice;
use super::fault::Fault;
use super::gap::StreamGap;
use super::own_entry::OwnEntry;
use super::row::{FieldTexts, OutboxRow, RowChange};
use super::{CaughtUp, Checkpointing, Delivery, Folded, StreamPosition};
use crate::domain::engine::{Disposition, Engine, Gap};
use crate::domain::event::ids::{EntryId, StreamId};
use crate::domain::event::{Control, Entry, Event, Reason};

impl Delivery {
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
        for row in decided {
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

    /// Handles the news that the reader has begun again: the group reports its deliveries again.
    pub fn handle_delivered_anew(&mut self, engine: &Engine) {
        self.acks.delivered_anew(|stream| engine.cursor(stream));
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

    /// Handles the watermark: all entries before this server time are folded. It goes back with the server's clock. [ms
    /// since 1970]
    pub fn handle_watermark(&mut self, ms: u64) {
        self.gate.set_watermark(ms);
        self.see_whether_caught_up();
    }

    /// Handles the news whether entries about positions wait because their ids are ahead of the server's clock. Orders
    /// wait for them: a position may be closed already.
    pub const fn handle_facts_ahead(&mut self, are_ahead: bool) {
        self.gate.facts_ahead = are_ahead;
    }

    /// Handles the news whether a group reads order requests that is not configured as an executor. Orders wait,
    /// because two executors of one order close twice.
    pub const fn handle_unnamed_executors(&mut self, are_there: bool) {
        self.gate.has_unnamed_executors = are_there;
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
        if matches!(self.caught_up, CaughtUp::At(from) if self.gate.watermark_ms >= from) {
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

    pub(super) fn publish_refused(&mut self) {
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
            // The kill key is for all accounts.
            Control::KillChanged { .. } if entry.account.is_named() => {}
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

    pub(super) fn came_back(&mut self, back: Vec<OwnEntry>) {
        for gap in back.into_iter().filter_map(OwnEntry::into_gap) {
            self.count_lost(&gap);
        }
    }

    /// Handles a part of an input stream that is missing: its entries count as lost, and the leader publishes it.
    pub fn handle_gap(&mut self, gap: StreamGap, engine: &Engine) {
        // The server may have lost our own entries, too.
        self.gate.doubt_written();
        let name = &engine.streams().get(gap.stream).name;
        if gap.count.is_none() {
            self.control.doubt_published();
            if !self.settings.faults.has(Fault::ForgetDoubtAtFailover) {
                self.outbox.doubt_orders();
            }
        }
        let is_it = |known: &Gap| *known.stream == **name && known.after == gap.after && known.before == gap.before;
        // A process that ended before it had counted a gap finds it again. One that has counted it has found another,
        // with the same entries around it.
        let is_another = self.counted.contains(&(gap.stream, gap.after, gap.before));
        if gap.count.is_none() && !is_another && engine.globals().gaps.iter().any(is_it) {
            return self.count_lost(&gap);
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
        self.counted.insert((gap.stream, gap.after, gap.before));
        self.moved[index] = true;
        self.changes.push(RowChange::GapPublished(gap.clone()));
        self.checkpoint = Checkpointing::Due;
    }

    /// Handles the turn of a control entry. Returns true if it was one that kills.
    pub fn handle_turn(&mut self, stream: StreamId, id: EntryId) -> bool {
        self.kills.entry_folded(stream, id)
    }
}
