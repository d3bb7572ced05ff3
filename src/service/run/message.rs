//! The messages from the reader to the event loop, and the role of the process.

use std::time::Instant;

use super::lines::Batch;
use crate::domain::delivery::StreamPosition;
use crate::domain::delivery::gap::StreamGap;
use crate::domain::event::ids::{EntryId, StreamId};
use crate::shell::redis::StreamStats;

/// The lease, as this process last knew it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseState {
    /// Another process has it, or its holder is unknown: entries are folded, nothing is emitted.
    NotOurs,
    /// It is ours, at least until this time of our own clock.
    Ours { lease: String, until: Instant },
}

impl LeaseState {
    /// Returns the value of the lease while it is certainly ours.
    pub fn lease(&self) -> Option<&str> {
        match self {
            Self::Ours { lease, until } if Instant::now() < *until => Some(lease),
            Self::Ours { .. } | Self::NotOurs => None,
        }
    }
}

/// The holder of the lease, for the report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseHolder {
    /// `None` if there is none, or it is not known.
    pub name: Option<String>,
    /// Why no instance can take the lease, with the next step.
    pub stuck: Option<String>,
}

/// A message from the reader.
#[derive(Debug)]
pub enum Message {
    /// Where a stream begins that was never read.
    Begin { stream: StreamId, cursor: Option<EntryId>, position: StreamPosition },
    /// Entries in canonical order.
    Entries(Batch),
    /// The watermark: all entries before this server time were sent. [ms since 1970]
    Watermark { ms: u64 },
    /// Whether entries about positions wait because their ids are ahead of the server's clock.
    FactsAhead(bool),
    /// An entry that kills was read; its turn comes later.
    KillRead { stream: StreamId, id: EntryId },
    /// Entries that were delivered and need not be folded. They are acknowledged if they are at or before the cursor.
    Delivered(Vec<(StreamId, Vec<EntryId>)>),
    /// The group reports its deliveries again from here on. The ones before do not count any more.
    DeliveredAnew,
    /// A part of a stream is missing.
    Gap(StreamGap),
    /// The statistics of all streams, and for each whether the id of its next entry is ahead of the server's clock.
    StreamStats(Vec<StreamStats>, Vec<bool>),
    /// The reader ended for good.
    Ended(anyhow::Error),
}
