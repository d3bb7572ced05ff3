//! The events of the event loop, from every part except the reader.

use std::time::{Duration, Instant};

use super::processor::JournalLines;
use crate::domain::delivery::action::{Appended, Looked, OfferAnswer, Recorded};
use crate::shell::journal::JournalError;

/// One thing that happened.
#[derive(Debug)]
pub enum LoopEvent {
    /// The journal is on disk. The lines come back empty, for the next ones.
    Synced {
        lines: JournalLines,
        journal: Result<JournalState, JournalError>,
        took: Duration,
    },
    /// A checkpoint is on disk.
    Checkpointed {
        outcome: anyhow::Result<()>,
    },
    /// The emitter has a connection: its number, from 1.
    EmitterConnected(u64),
    EmitterDisconnected,
    /// The script answered an offer.
    Offered {
        seq: u64,
        answer: OfferAnswer,
        took: Duration,
    },
    Appended {
        number: u64,
        outcome: Appended,
    },
    Recorded {
        number: u64,
        outcome: Recorded,
    },
    /// The written decisions were looked for.
    Checked {
        looked: Vec<Looked>,
    },
    Acknowledged,
    /// A stream or key refuses writes, with the reason; or it accepts them again.
    Output {
        key: String,
        refusal: Option<String>,
    },
    /// The lease was won, renewed or lost. The new state is in the role.
    Lease,
    /// The kill key was read.
    KillKey {
        kill: bool,
        began: Instant,
    },
    /// The groups that read order requests and are not configured as executors have changed.
    UnnamedExecutors(Vec<String>),
    /// The process was told to stop.
    Stop,
}

/// The journal as it is on disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct JournalState {
    /// Durable entries since the journal's first. [1]
    pub position: u64,
    /// [byte]
    pub bytes: u64,
    /// [1]
    pub files: u64,
    /// Closed files that were found damaged after a crash. [1]
    pub damaged: u64,
}
