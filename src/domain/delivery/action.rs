//! The vocabulary of delivery: the actions of the shell, and its answers.

use super::gap::StreamGap;
use super::own_entry::OwnEntry;
use super::row::{FieldTexts, OutboxRow};
use crate::domain::event::ids::{EntryId, StreamId};

/// One thing for the shell to do. It is done once; whether it is repeated is decided by the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write a checkpoint and report when it is durable. Nothing else is asked for before that.
    Checkpoint,
    /// Append an entry of our own to the control stream.
    Append(Box<Append>),
    /// Offer decisions to the emission script, all in one pipeline, in this order.
    Offer(Vec<Offer>),
    /// Look for written decisions in the decision stream and in the memory of written ids.
    Check(Vec<WrittenDecision>),
    /// Load the decisions with these numbers from the store, as far as it has them. `from` is included, `to` is not.
    Recall { from: u64, to: u64 },
    /// Acknowledge entries of input streams to the group.
    Acknowledge(Vec<(StreamId, Vec<EntryId>)>),
    /// Write records of quarantined entries.
    Record(Vec<Record>),
}

/// A decision as it is offered to the emission script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The row, with its `again` and `record_only` marks.
    pub row: OutboxRow,
    /// The lease under which it is offered.
    pub lease: String,
    /// Reason not to send the order, if it is already known.
    pub refusal: Option<&'static str>,
    /// Maximum age of an order; 0 means no limit. [ms]
    pub age_max_ms: u64,
    /// The watermark: all entries before this server time are folded; 0 turns the check off. [ms since 1970]
    pub watermark_ms: u64,
    /// How far each stream of facts about positions is folded. The script sends no order if such a stream has lost an
    /// entry since. Empty if nothing is to be sent.
    pub facts: Vec<FactsFolded>,
    /// The kill key was set when it was last read, so a key that is missing now still counts.
    pub kill_was_set: bool,
    /// The last written decision. The script writes nothing while the server does not have this entry.
    pub after: Option<EntryId>,
    /// The decision before it in the same pipeline. The script writes nothing if that one was not written.
    pub needs: Option<Needed>,
}

/// How far a stream is folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactsFolded {
    pub stream: StreamId,
    /// The last entry that is folded.
    pub after: EntryId,
    /// Entries up to it that were ever added to the stream: folded, or known to be lost. [1]
    pub seen: u64,
}

/// A decision that must be in the stream before the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    pub decision_id: String,
    pub hash: String,
}

/// The answer of the emission script to one offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfferAnswer {
    /// The decision is in the stream, with the reason why its order was not sent, if it was not.
    Written { entry: EntryId, refusal: Option<String>, is_new: bool },
    /// Another process has the lease.
    Stale,
    /// The decision before it in the pipeline was not written.
    Halted,
    /// The order rests on data that was read too long ago, or that lacks entries which can be read no longer.
    Behind,
    /// A key that is written to takes no entries.
    Unfit,
    /// The last written decision is no longer in the stream.
    Lost,
    /// The memory of written ids names an entry that is not this decision.
    Doubtful { known: String },
}

/// An entry of our own for the control stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The number by which delivery knows it.
    pub number: u64,
    pub entry: OwnEntry,
    /// The attempt whose answer was lost. Its entry is looked for before it is written again.
    pub tried: Option<Tried>,
    /// Set for a `history.gap`: an earlier process may have written it already.
    pub gap: Option<GapNotice>,
}

/// An attempt to append an entry, whose answer may have been lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Last entry of the stream before the attempt.
    pub after: EntryId,
    /// The fields that were sent, with their signature.
    pub fields: FieldTexts,
    /// Time of issue of the signature; 0 without one. [ms since 1970]
    pub issued_ms: u64,
}

/// How a gap that was published already is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapNotice {
    pub stream: Box<str>,
    pub gap: StreamGap,
    /// The control stream is folded up to this entry.
    pub folded: EntryId,
}

/// A written decision to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenDecision {
    pub seq: u64,
    pub decision_id: String,
    pub hash: String,
    /// Entry of the decision; `None` if only the server remembers it.
    pub entry: Option<EntryId>,
}

/// What the server has of a written decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    pub seq: u64,
    /// The entry that was looked for; `None` if only the server remembers it.
    pub entry: Option<EntryId>,
    /// That entry is in the stream, and has the hash of the decision.
    pub is_there: bool,
    pub remembered: Option<Remembered>,
}

impl Looked {
    /// Returns true if this entry of the decision is not in the stream.
    pub fn shows_absent(&self, entry: EntryId) -> bool {
        let is_remembered = self.remembered.is_some_and(|remembered| remembered.entry == entry && !remembered.is_there);
        (self.entry == Some(entry) && !self.is_there) || is_remembered
    }
}

/// The entry of a decision, as the memory of written ids names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    pub entry: EntryId,
    /// It is in the stream, and has the hash of the decision.
    pub is_there: bool,
    /// It is gone because the stream was trimmed, as [`FirstDecision::shows_trimmed`] has it.
    pub is_trimmed: bool,
}

/// The first entry of the decision stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstDecision {
    pub entry: EntryId,
    /// The number of its decision; `None` if it has none.
    pub seq: Option<u64>,
}

impl FirstDecision {
    /// Returns true if a decision is gone because the stream was trimmed. The stream begins behind the entry that the
    /// memory names, and not with an earlier decision: those are written again first, if they were lost, too.
    pub fn shows_trimmed(&self, seq: u64, remembered: EntryId) -> bool {
        remembered < self.entry && self.seq.is_none_or(|first| first > seq)
    }
}

/// The record of a quarantined entry, for the quarantine stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub number: u64,
    /// The stream of the quarantined entry.
    pub stream: Box<str>,
    pub id: EntryId,
    pub fields: FieldTexts,
    /// The quarantine stream may have the record already, so it is looked for first.
    pub is_doubtful: bool,
}

/// The outcome of an [`Action::Append`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in the stream, with the attempt that wrote it, by which it can be looked for again.
    Written(EntryId, Option<Tried>),
    /// The server refuses entries of this stream.
    Refused,
    /// The connection broke. The entry may have been written.
    Unknown(Option<Tried>),
}

/// The outcome of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    Written,
    /// The server refuses it, or the connection broke: it may have been written.
    Unknown,
}

/// An event that the operator should see in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A decision is in the stream.
    Emitted { seq: u64, entry: EntryId, refusal: Option<String>, is_new: bool },
    /// Entries of an input stream are lost.
    Lost(StreamGap),
    /// The memory of written ids names an entry that is not this decision.
    Doubtful { seq: u64, decision_id: String, known: String },
    /// The server has lost decisions. They are written again.
    WrittenAgain { count: usize, first: u64, last: u64 },
}
