//! What the parts of a running service tell each other.

use std::time::{Duration, Instant};

use crate::codec::live::StreamPosition;
use crate::codec::request::FieldTexts;
use crate::domain::event::ids::{EntryId, StreamId};
use crate::shell::redis::{Emission, RawEntry, StreamStats, WrittenDecision};

/// Who we are at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Another has the lease, or nobody is known to: entries are folded, nothing is emitted.
    Follower,
    /// The lease is ours, by our own clock at least until then.
    Leader { lease: String, until: Instant },
}

impl Role {
    /// The value of the lease, while it is certainly ours.
    pub fn lease(&self) -> Option<&str> {
        match self {
            Self::Leader { lease, until } if Instant::now() < *until => Some(lease),
            Self::Leader { .. } | Self::Follower => None,
        }
    }
}

/// An entry whose turn has come.
#[derive(Debug)]
pub struct Released {
    pub stream: StreamId,
    pub entry: RawEntry,
    /// It came through the group, which waits for its acknowledgement.
    pub by_group: bool,
}

/// From the reader to the fold.
#[derive(Debug)]
pub enum Message {
    /// Where a stream begins that was never read before.
    Begin { stream: StreamId, cursor: Option<EntryId>, position: StreamPosition },
    /// Entries in canonical order.
    Entries(Vec<Released>),
    /// All entries before this time of the server were told. [ms since 1970]
    ReadTo { ms: u64 },
    /// An entry that kills was read; its turn comes later.
    KillRead { stream: StreamId, id: EntryId },
    /// Entries that were delivered and need no folding: they are acknowledged if they stand before the cursor.
    Delivered(Vec<(StreamId, Vec<EntryId>)>),
    /// A stretch of a stream is missing.
    Lost(StreamGap),
    /// What the server said of all streams, and of which the next entry has an id ahead of its clock.
    Surveyed(Vec<StreamStats>, Vec<bool>),
    /// The reader ended for good.
    Ended(anyhow::Error),
}

/// A stretch of a stream that cannot be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamGap {
    pub stream: StreamId,
    /// The last entry before it that was read.
    pub after: Option<EntryId>,
    /// The first entry behind it that is there.
    pub before: Option<EntryId>,
    /// How many entries; where that is known. [1]
    pub count: Option<u64>,
    /// What it changes in the count of entries that were seen. [1]
    pub shift: i64,
    /// What the server said it had added. [1]
    pub added: u64,
    pub why: &'static str,
}

/// From the fold to the emitter: in this order, acknowledging last.
#[derive(Debug, Default)]
pub struct EmitBatch {
    pub emissions: Vec<(u64, Emission)>,
    /// Counts up whenever one was not written: those behind it that were handed over before are not offered either.
    pub round: u64,
    pub appends: Vec<Append>,
    pub quarantine_outbox: Vec<QuarantineRecord>,
    pub acks: Vec<(String, Vec<EntryId>)>,
    /// Decisions to look for in the stream, where the server may have lost them.
    pub checks: Option<Vec<WrittenDecision>>,
}

impl EmitBatch {
    pub fn is_empty(&self) -> bool {
        let Self { emissions, round: _, appends, quarantine_outbox, acks, checks } = self;
        emissions.is_empty()
            && appends.is_empty()
            && quarantine_outbox.is_empty()
            && acks.is_empty()
            && checks.is_none()
    }
}

/// An entry of our own.
#[derive(Debug)]
pub struct Append {
    /// What the fold knows it by.
    pub number: u64,
    pub stream: String,
    pub fields: FieldTexts,
    /// Of a `history.gap`: a process that ended since may have written it already.
    pub gap: Option<GapNotice>,
}

/// What a gap that was written already is known by.
#[derive(Debug)]
pub struct GapNotice {
    pub stream: String,
    pub before: EntryId,
    /// Behind this entry of the control stream the fold knows nothing.
    pub folded: EntryId,
}

/// The record of an entry that was put aside, for the quarantine stream.
#[derive(Debug)]
pub struct QuarantineRecord {
    pub number: u64,
    /// The entry that it is about.
    pub stream: String,
    pub id: EntryId,
    pub fields: FieldTexts,
    /// It may stand there already.
    pub is_doubtful: bool,
}

/// Why a decision was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotEmitted {
    /// The lease is not ours, or one before it was not written.
    Later,
    /// Entries may have come that are not folded.
    Behind,
    /// The server has lost what was written before it.
    Lost,
    /// The memory of what was written says this, and the stream something else.
    Doubtful { known: String },
    /// A key that is written to takes nothing.
    Unfit,
}

/// From the emitter to the fold.
#[derive(Debug)]
pub enum Done {
    /// A decision stands in the stream, with the reason why its request was not sent, if it was not.
    Emitted { seq: u64, decision: EntryId, refusal: Option<String>, is_new: bool, took: Duration },
    /// The decision was not written.
    NotEmitted { seq: u64, round: u64, why: NotEmitted },
    /// An entry of our own was appended.
    Appended { number: u64, id: EntryId },
    /// It was not: the lease is not ours.
    NotAppended { number: u64 },
    /// It was not: the server says no. The entry comes back, to be tried again.
    AppendRefused { number: u64, fields: FieldTexts },
    /// A stream or key that we write to takes nothing, and why; or it does again.
    Output { key: String, refusal: Option<String> },
    /// The record of an entry that was put aside stands in the quarantine stream, or does not: the lease is not ours.
    Aside { number: u64, is_written: bool },
    /// All decisions that we had emitted were looked for: these the server has lost.
    Checked { lost: Vec<u64> },
    /// All of a piece of work is done.
    Finished,
}
