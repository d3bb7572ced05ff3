//! Now: what needs someone, what is open and why it is held, the inputs, the last decisions.

use std::collections::BTreeMap;

use askama::Template;

use super::attention::{Need, needs};
use super::decisions::{Row, rows, verdict};
use super::{age_ms, tone_of};
use crate::codec::time;
use crate::console::address::Address;
use crate::console::format::When;
use crate::console::frame::{Frame, Scene};
use crate::drive::film::held_since;
use crate::drive::stop::Stop;
use crate::shell::web::Asked;

/// Decisions that the page lists. [1]
const DECISIONS_SHOWN: usize = 6;

struct HoldRow {
    name: String,
    tone: &'static str,
    /// [1]
    positions: usize,
    /// Share of the open positions. [percent]
    share: usize,
    longest: String,
    href: Address,
}

struct InputRow {
    name: String,
    last: Option<When>,
    age: String,
    rate: String,
}

#[derive(Template)]
#[template(path = "now.html")]
struct NowPage {
    frame: Frame,
    needs: Vec<Need>,
    open: usize,
    evaluable: usize,
    positions_href: Address,
    decisions_href: Address,
    decided: usize,
    chain: (&'static str, String),
    policy: String,
    policy_since: Option<When>,
    min_r: String,
    cost_bps: String,
    holds: Vec<HoldRow>,
    inputs: Vec<InputRow>,
    recent: Vec<Row>,
    quarantine: Vec<(&'static str, u64)>,
    quarantine_href: Address,
    gaps: usize,
}

/// Makes the page.
pub fn now(scene: &Scene<'_>, _: &Asked, _: &Stop) -> anyhow::Result<String> {
    let sheet = scene.sheet(false)?;
    let (engine, film) = (&scene.engine, scene.film);
    let since = held_since(engine);
    let mut by_hold: BTreeMap<&str, (usize, u64)> = BTreeMap::new();
    for position in &sheet.positions {
        let (positions, longest) = by_hold.entry(position.hold.as_deref().unwrap_or("nothing")).or_default();
        *positions += 1;
        let held_ms = since.get(&position.position_id).map_or(0, |since| age_ms(scene.now_ms(), *since));
        *longest = held_ms.max(*longest);
    }
    let open = sheet.positions.len();
    let mut holds: Vec<HoldRow> = by_hold
        .into_iter()
        .map(|(name, (positions, longest))| HoldRow {
            tone: tone_of(Some(name).filter(|name| *name != "nothing")),
            positions,
            share: positions * 100 / open.max(1),
            longest: time::span(longest),
            href: scene.to("/console/positions").with("hold", name),
            name: name.to_owned(),
        })
        .collect();
    holds.sort_by(|a, b| b.positions.cmp(&a.positions).then(a.name.cmp(&b.name)));
    let all = rows(scene);
    let (verdict, verdict_text) = verdict(scene);
    let quarantine: Vec<(&'static str, u64)> =
        engine.counters.quarantined.iter().map(|(reason, n)| (reason.name(), *n)).collect();
    let quarantined = quarantine.iter().map(|(_, n)| n).sum();
    let policy = engine.policy();
    let inputs = engine.streams().iter().zip(&film.streams).map(|((id, stream), count)| {
        let last = engine.cursor(id);
        let minutes = count.last.zip(count.first).map_or(0, |(last, first)| last.ms.saturating_sub(first.ms)) / 60_000;
        InputRow {
            name: stream.short_name().to_owned(),
            last: last.map(When::of),
            age: last.map_or_else(String::new, |last| time::span(age_ms(scene.now_ms(), last))),
            rate: if count.entries > 0 && minutes > 0 { (count.entries / minutes).to_string() } else { String::new() },
        }
    });
    let page = NowPage {
        needs: needs(scene, &sheet, quarantined, film.decisions.tampered.len()),
        open,
        evaluable: sheet.positions.iter().filter(|position| position.missing.is_empty()).count(),
        positions_href: scene.to("/console/positions"),
        decisions_href: scene.to("/console/decisions"),
        decided: all.len(),
        chain: (verdict, verdict_text),
        policy: policy.hash.get(..12).unwrap_or_default().to_owned(),
        policy_since: film.policy_since(scene.until()).map(When::of),
        min_r: policy.min_r.to_string(),
        cost_bps: policy.cost_bps.to_string(),
        holds,
        inputs: inputs.collect(),
        recent: all.into_iter().rev().take(DECISIONS_SHOWN).collect(),
        quarantine,
        quarantine_href: scene.to("/console/streams"),
        gaps: engine.globals().gaps.len(),
        frame: Frame::of(scene, "Now", None),
    };
    Ok(page.render()?)
}
