//! Streams and quarantine: the cursor of each stream, the shapes of its entries, gaps, and the entries that could not
//! be read, with the result of the present decoder for each.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use askama::Template;

use super::Made;
use super::percent_of;
use crate::codec::shown;
use crate::codec::state::Quarantined;
use crate::console::address::Address;
use crate::console::error::PageError;
use crate::console::format::{Age, When};
use crate::console::frame::{Frame, PageContext, Part};
use crate::drive::quarantine::{Now, tried};
use crate::drive::stop::Stop;
use crate::shell::web::Asked;

/// Quarantined entries of one part of the list. [1]
const QUARANTINED_SHOWN: usize = 80;
/// Length of an entry in the list. [characters]
const LINE_SHOWN: usize = 600;

struct StreamRow {
    name: String,
    kind: &'static str,
    entries: Option<u64>,
    first: Option<When>,
    cursor: Option<When>,
    href: Option<Address>,
    age: Option<Age>,
}

struct ShapeRow {
    kind: &'static str,
    shape: &'static str,
    entries: u64,
    /// Share of its kind. [percent]
    share: u64,
}

struct GapRow {
    stream: String,
    after: String,
    before: String,
    reported: When,
    href: Option<Address>,
}

struct QuarantineRow {
    stream: String,
    when: When,
    href: Address,
    reason: String,
    now: String,
    reads: bool,
    line: String,
}

#[derive(Template)]
#[template(path = "streams.html")]
struct StreamsPage {
    frame: Frame,
    streams: Vec<StreamRow>,
    shapes: Vec<ShapeRow>,
    gaps: Vec<GapRow>,
    gap_symbols: Vec<String>,
    quarantined: Vec<QuarantineRow>,
    total: usize,
    part: Part,
    reasons: Vec<(String, usize, Address, bool)>,
    reason: String,
    duplicates: u64,
    applied: u64,
    /// False if the source is a store, which keeps no counts.
    has_counts: bool,
    all: Address,
}

/// Makes the page.
pub fn streams(context: &PageContext<'_>, _: &Asked, stop: &Stop) -> Result<Made, PageError> {
    let (engine, film) = (&context.engine, context.film);
    let past: Vec<_> = film.quarantined.iter().filter(|entry| entry.id <= context.until()).cloned().collect();
    let total = past.len();
    let wanted = context.parameter("reason").to_owned();
    let reasons = reasons(context, &past, &wanted);
    let newest_first = past.into_iter().rev();
    let mut listed: Vec<Quarantined> = newest_first.filter(|of| wanted.is_empty() || of.reason == wanted).collect();
    let part = Part::of(context, &mut listed, QUARANTINED_SHOWN);
    let listed = tried(engine.streams().clone(), listed, &film.config)?;
    let page = StreamsPage {
        streams: stream_rows(context, stop)?,
        shapes: shapes(context),
        gaps: gaps(context),
        gap_symbols: context.sheet(false)?.history_gap,
        quarantined: listed.into_iter().map(|tried| QuarantineRow::of(context, tried)).collect(),
        total,
        part,
        reasons,
        reason: wanted,
        duplicates: engine.counters.duplicates,
        applied: engine.counters.applied,
        has_counts: film.has_past(),
        all: context.here.clone().with("part", "").with("reason", ""),
        frame: Frame::of(context, "Streams and quarantine", None),
    };
    Ok(page.render()?.into())
}

fn stream_rows(context: &PageContext<'_>, stop: &Stop) -> Result<Vec<StreamRow>, PageError> {
    let (engine, film) = (&context.engine, context.film);
    let counts = context.counts(stop)?;
    let rows = engine.streams().iter().zip(&film.streams).zip(counts.iter()).map(|(((id, stream), count), entries)| {
        let cursor = engine.cursor(id);
        StreamRow {
            name: stream.name.clone(),
            kind: stream.kind.name(),
            entries: Some(*entries).filter(|_| film.has_past()),
            first: count.first.filter(|first| *first <= context.until()).map(When::of),
            href: cursor.and_then(|id| context.entry_link(&id.to_string())),
            age: cursor.map(|id| Age::of(id, context.now_ms())),
            cursor: cursor.map(When::of),
        }
    });
    Ok(rows.collect())
}

fn shapes(context: &PageContext<'_>) -> Vec<ShapeRow> {
    let mut shapes = Vec::new();
    for (kind, of_kind) in context.engine.counters.shapes() {
        let all: u64 = of_kind.values().sum();
        let row = |(shape, entries)| ShapeRow { kind, shape, entries, share: percent_of(entries, all) };
        shapes.extend(of_kind.into_iter().map(row));
    }
    shapes
}

fn gaps(context: &PageContext<'_>) -> Vec<GapRow> {
    let gaps = context.engine.globals().gaps.iter().map(|gap| GapRow {
        stream: gap.stream.to_string(),
        after: gap.after.map_or_else(|| "the beginning".to_owned(), |id| id.to_string()),
        before: gap.before.map_or_else(|| "the end".to_owned(), |id| id.to_string()),
        reported: When::of(gap.reported),
        href: context.entry_link(&gap.reported.to_string()),
    });
    gaps.collect()
}

/// Returns the reasons of quarantined entries with their numbers, the most frequent first, and true for the one that is selected. [1]
fn reasons(
    context: &PageContext<'_>,
    quarantined: &[Quarantined],
    wanted: &str,
) -> Vec<(String, usize, Address, bool)> {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    quarantined.iter().for_each(|entry| *reasons.entry(&entry.reason).or_default() += 1);
    let row = |(reason, n): (&str, usize)| {
        (reason.to_owned(), n, context.here.clone().with("part", "").with("reason", reason), reason == wanted)
    };
    let mut rows: Vec<_> = reasons.into_iter().map(row).collect();
    rows.sort_by_key(|(_, n, ..)| Reverse(*n));
    rows
}

impl QuarantineRow {
    fn of(context: &PageContext<'_>, (entry, now): (Quarantined, Now)) -> Self {
        Self {
            href: context.entry(&entry.id.to_string()),
            when: When::of(entry.id),
            reads: matches!(now, Now::Reads(_)),
            now: match now {
                Now::Reads(shape) => format!("reads now as {shape}"),
                Now::Still(reason) => format!("still {reason}"),
            },
            line: shown::json(&entry.line.chars().take(LINE_SHOWN).collect::<String>()).into_owned(),
            stream: entry.stream,
            reason: entry.reason,
        }
    }
}
