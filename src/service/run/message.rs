//! The messages between the parts of a running service.

use std::time::{Duration, Instant};

use super::lines::Batch;
use crate::codec::live::StreamPosition;
use crate::codec::request::FieldTexts;
use crate::domain::event::ids::{EntryId, StreamId};
use crate::shell::redis::{Emission, StreamStats, WrittenDecision};

/// The present role of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Another process has the lease, or its holder is unknown: entries are folded, nothing is emitted.
    Follower,
    /// The lease is ours, at least until this time of our own clock.
    Leader { lease: String, until: Instant },
}

impl Role {
    /// Returns the value of the lease while it is certainly ours.
    pub fn lease(&self) -> Option<&str> {
        match self {
            Self::Leader { lease, until } if Instant::now() < *until => Some(lease),
            Self::Leader { .. } | Self::Follower => None,
        }
    }
}

/// A message from the reader to the processor.
#[derive(Debug)]
pub enum Message {
    /// Where a stream begins that was never read before.
    Begin { stream: StreamId, cursor: Option<EntryId>, position: StreamPosition },
    /// Entries in canonical order.
    Entries(Batch),
    /// All entries before this server time were sent. [ms since 1970]
    ReadTo { ms: u64 },
    /// An entry that kills was read; its turn comes later.
    KillRead { stream: StreamId, id: EntryId },
    /// Entries that were delivered and need not be folded. They are acknowledged if they are at or before the cursor.
    Delivered(Vec<(StreamId, Vec<EntryId>)>),
    /// A part of a stream is missing.
    Lost(StreamGap),
    /// The statistics of all streams, and for each whether the id of its next entry is ahead of the server's clock.
    Surveyed(Vec<StreamStats>, Vec<bool>),
    /// The reader ended for good.
    Ended(anyhow::Error),
}

/// A part of a stream that cannot be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamGap {
    pub stream: StreamId,
    /// The last entry before it that was read.
    pub after: Option<EntryId>,
    /// The first entry after it that exists.
    pub before: Option<EntryId>,
    /// Number of entries, if it is known. [1]
    pub count: Option<u64>,
    /// The change in the count of entries seen. [1]
    pub shift: i64,
    /// The number of entries added, as reported by the server. [1]
    pub added: u64,
    pub why: &'static str,
}

/// From the processor to the emitter: done in this order, with the acknowledgements last.
#[derive(Debug, Default)]
pub struct EmitBatch {
    pub emissions: Vec<(u64, Emission)>,
    /// Increases whenever a decision was not written. Later decisions of an earlier round are not offered either.
    pub round: u64,
    pub appends: Vec<Append>,
    pub quarantine_outbox: Vec<QuarantineRecord>,
    pub acks: Vec<(String, Vec<EntryId>)>,
    /// Decisions to look for in the stream, if the server may have lost them.
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
    /// The number by which the processor knows it.
    pub number: u64,
    pub stream: String,
    pub fields: FieldTexts,
    /// Set for a `history.gap`: an earlier process may have written it already.
    pub gap: Option<GapNotice>,
}

/// How a gap that was written already is recognised.
#[derive(Debug)]
pub struct GapNotice {
    pub stream: String,
    pub before: EntryId,
    /// The processor has folded the control stream up to this entry.
    pub folded: EntryId,
}

/// The record of a quarantined entry, for the quarantine stream.
#[derive(Debug)]
pub struct QuarantineRecord {
    pub number: u64,
    /// The stream of the quarantined entry.
    pub stream: String,
    pub id: EntryId,
    pub fields: FieldTexts,
    /// True if the quarantine stream may contain it already.
    pub is_doubtful: bool,
}

/// The reason why a decision was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotEmitted {
    /// The lease is not ours, or an earlier decision was not written.
    Later,
    /// There may be new entries that are not folded.
    Behind,
    /// The server has lost what was written before it.
    Lost,
    /// The memory of written ids names this entry, and the stream has something else under that id.
    Doubtful { known: String },
    /// A key rejects writes.
    Unfit,
}

/// A message from the emitter to the processor.
#[derive(Debug)]
pub enum Done {
    /// A decision is in the stream, with the reason why its request was not sent, if it was not.
    Emitted { seq: u64, decision: EntryId, refusal: Option<String>, is_new: bool, took: Duration },
    /// The decision was not written.
    NotEmitted { seq: u64, round: u64, why: NotEmitted },
    /// An entry of our own was appended.
    Appended { number: u64, id: EntryId },
    /// The entry was not appended, because the lease is not ours.
    NotAppended { number: u64 },
    /// The entry was not appended, because the server rejected it. It is returned, to be tried again.
    AppendRefused { number: u64, fields: FieldTexts },
    /// A stream or key rejects writes, with the reason; or it accepts them again.
    Output { key: String, refusal: Option<String> },
    /// A quarantine record was written, or it was not, because the lease is not ours.
    Aside { number: u64, is_written: bool },
    /// All emitted decisions were looked for. The server has lost these.
    Checked { lost: Vec<u64> },
    /// The whole emit batch is done.
    Finished,
}
