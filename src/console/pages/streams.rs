//! Streams and quarantine: how far each stream was read, the shapes of its entries, gaps, and the entries that could not
//! be read, with what the present decoder makes of them.

use askama::Template;

use super::age_ms;
use crate::codec::shown;
use crate::codec::time;
use crate::console::address::Address;
use crate::console::error::PageError;
use crate::console::format::When;
use crate::console::frame::{Frame, Scene};
use crate::drive::quarantine::{Now, tried};
use crate::drive::stop::Stop;
use crate::shell::web::Asked;

/// Quarantined entries that the page lists. [1]
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
    age: String,
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
    href: Address,
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
    reasons: Vec<(String, usize, Address, bool)>,
    reason: String,
    duplicates: u64,
    applied: u64,
    all: Address,
}

/// Makes the page.
pub fn streams(scene: &Scene<'_>, _: &Asked, stop: &Stop) -> Result<String, PageError> {
    let (engine, film, until) = (&scene.engine, scene.film, scene.until());
    let counts = scene.counts(stop)?;
    let rows = engine.streams().iter().zip(&film.streams).zip(counts.iter()).map(|(((id, stream), count), entries)| {
        let cursor = engine.cursor(id);
        StreamRow {
            name: stream.name.clone(),
            kind: stream.kind.name(),
            entries: Some(*entries).filter(|_| film.has_past()),
            first: count.first.filter(|first| *first <= until).map(When::of),
            href: cursor.map(|id| scene.entry(&id.to_string())),
            age: cursor.map_or_else(String::new, |id| time::span(age_ms(scene.now_ms(), id))),
            cursor: cursor.map(When::of),
        }
    });
    let mut shapes = Vec::new();
    for (kind, of_kind) in engine.counters.shapes() {
        let all: u64 = of_kind.values().sum();
        let row = |(shape, entries)| ShapeRow { kind, shape, entries, share: entries * 100 / all.max(1) };
        shapes.extend(of_kind.into_iter().map(row));
    }
    let gaps = engine.globals().gaps.iter().map(|gap| GapRow {
        stream: gap.stream.to_string(),
        after: gap.after.map_or_else(|| "the beginning".to_owned(), |id| id.to_string()),
        before: gap.before.map_or_else(|| "the end".to_owned(), |id| id.to_string()),
        reported: When::of(gap.reported),
        href: scene.entry(&gap.reported.to_string()),
    });
    let past: Vec<_> = film.quarantined.iter().filter(|quarantined| quarantined.id <= until).cloned().collect();
    let total = past.len();
    let wanted = scene.parameter("reason").to_owned();
    let mut reasons: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    past.iter().for_each(|quarantined| *reasons.entry(&quarantined.reason).or_default() += 1);
    let reasons: Vec<_> = reasons
        .into_iter()
        .map(|(reason, n)| (reason.to_owned(), n, scene.here.clone().with("reason", reason), reason == wanted))
        .collect();
    let listed = past.into_iter().filter(|of| wanted.is_empty() || of.reason == wanted).take(QUARANTINED_SHOWN);
    let listed = tried(engine.streams().clone(), listed.collect(), &film.config)?;
    let quarantined = listed.into_iter().map(|(quarantined, now)| QuarantineRow {
        href: scene.entry(&quarantined.id.to_string()),
        when: When::of(quarantined.id),
        reads: matches!(now, Now::Reads(_)),
        now: match now {
            Now::Reads(shape) => format!("reads now as {shape}"),
            Now::Still(reason) => format!("still {reason}"),
        },
        line: shown::json(&quarantined.line.chars().take(LINE_SHOWN).collect::<String>()).into_owned(),
        stream: quarantined.stream,
        reason: quarantined.reason,
    });
    let symbols = scene.sheet(false)?.history_gap;
    let page = StreamsPage {
        streams: rows.collect(),
        shapes,
        gaps: gaps.collect(),
        gap_symbols: symbols,
        quarantined: quarantined.collect(),
        total,
        reasons,
        reason: wanted,
        duplicates: engine.counters.duplicates,
        applied: engine.counters.applied,
        all: scene.here.clone().with("reason", ""),
        frame: Frame::of(scene, "Streams and quarantine", None),
    };
    Ok(page.render()?)
}
