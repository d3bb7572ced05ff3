//! The story of a position: what each entry changed.

use crate::codec::shown;
use crate::console::address::Address;
use crate::console::format::When;
use crate::console::frame::PageContext;
use crate::drive::life::Life;
use crate::drive::story::Change;

/// Changes of a story that a page lists: the first and the last ones. [1]
const STORY_SHOWN: usize = 120;
/// Size of the raw entries that a page contains. A link leads to the others. [bytes]
const RAW_BYTES_MAX: usize = 40_000;

/// The changes of one entry.
pub(super) struct StoryRow {
    pub when: When,
    pub href: Address,
    pub cause: String,
    /// Field, before, after.
    pub changes: Vec<(String, String, String)>,
    pub raw: Option<String>,
}

/// Returns the story, one row per entry, and the number of rows that are left out.
pub(super) fn story(context: &PageContext<'_>, lived: &Life) -> (Vec<StoryRow>, usize) {
    let groups: Vec<_> = lived.story.chunk_by(|a, b| a.cause == b.cause).collect();
    let cut = groups.len().saturating_sub(STORY_SHOWN);
    let is_shown = |place: &usize| cut == 0 || *place < STORY_SHOWN / 2 || *place >= groups.len() - STORY_SHOWN / 2;
    let mut raw_bytes = 0;
    let mut row = |group: &&[Change]| {
        let first = &group[0];
        let stream = first.cause.rsplit_once('/').map_or("", |(stream, _)| stream);
        let entry = lived.entries.iter().find(|entry| entry.id == first.at && entry.stream == stream);
        StoryRow {
            when: When::of(first.at),
            href: context.entry(&first.at.to_string()),
            cause: stream.rsplit(':').next().unwrap_or(stream).to_owned(),
            changes: group.iter().map(|c| (c.field.clone(), c.from.clone(), c.to.clone())).collect(),
            raw: entry.map(|entry| shown::json(&entry.line).into_owned()).filter(|raw| {
                raw_bytes += raw.len();
                raw_bytes <= RAW_BYTES_MAX
            }),
        }
    };
    let rows = groups.iter().enumerate().filter(|(place, _)| is_shown(place)).map(|(_, group)| row(group));
    (rows.collect(), cut)
}
