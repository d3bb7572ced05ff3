//! The rows that an earlier process left in the store in addition to the state of the engine.

use std::collections::BTreeMap;

use crate::codec::live::{self, Checkpoint, Finding};
use crate::codec::state::{self, Quarantined, Rows};
use crate::domain::delivery::StreamPosition;
use crate::domain::delivery::gap::StreamGap;
use crate::domain::delivery::row::OutboxRow;
use crate::domain::event::ids::EntryId;
use crate::domain::event::streams::Streams;

/// The rows of an earlier process other than the engine's state.
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
    /// Reads the rows that an earlier process left in addition to the engine's state.
    pub fn read<R: Rows>(rows: &R, streams: &Streams) -> Result<Self, R::Error> {
        let positions: Result<Vec<_>, _> =
            streams.iter().map(|(_, stream)| live::stream_position(rows, &stream.name)).collect();
        let unrecorded = live::quarantine_outbox(rows)?;
        let unrecorded = unrecorded.iter().map(|(stream, id)| state::quarantined_one(rows, stream, *id));
        Ok(Self {
            checkpoint: live::checkpoint(rows)?,
            outbox: live::outbox(rows)?,
            positions: positions?,
            // An entry that the present rules can read is no longer in the quarantine, and has no record.
            unrecorded: unrecorded.filter_map(Result::transpose).collect::<Result<_, _>>()?,
            refused: live::refused(rows)?,
            gaps: live::gaps(rows, streams)?,
            findings: live::findings(rows)?,
        })
    }
}
