//! Price coverage: the sources that have a price of each open position, and the age of that price.

use std::collections::{BTreeMap, BTreeSet};

use super::check::Check;
use crate::codec::hashes::{self, HashPrice, NoPrice};
use crate::codec::time::span;
use crate::codec::view;
use crate::domain::book::symbol::{Mark, Symbol};
use crate::domain::engine::Engine;
use crate::domain::event::PriceSource;
use crate::shell::redis::{PriceText, PriceTexts, Server, ServerError};

const AREA: &str = "prices";

/// The most symbols that are named in a sentence.
const NAMED: usize = 6;

pub async fn checks(server: &mut Server, engine: &Engine, now_ms: u64) -> Result<Vec<Check>, ServerError> {
    let mut seen = BTreeSet::new();
    let open: Vec<&Symbol> = view::by_name(engine)
        .into_iter()
        .filter(|book| book.hot.open.is_some() && seen.insert(&book.symbol.name))
        .map(|book| book.symbol)
        .collect();
    if open.is_empty() {
        return Ok(Vec::new());
    }
    let age_max_ms = engine.policy().max_price_age_ms;
    let names: Vec<&str> = open.iter().map(|symbol| &*symbol.name).collect();
    let texts = server.price_hashes(&names).await?;
    let mut checks = vec![streams(engine, &open, now_ms, age_max_ms)];
    for (source, key) in [(PriceSource::REDIS_TICKER, "quantum:ticker"), (PriceSource::REDIS_MARKET, "quantum:market")]
    {
        let reads = texts.iter().map(|texts| read(of(source, texts), now_ms, age_max_ms));
        let found: Vec<(&str, Result<HashPrice, NoPrice>)> = names.iter().copied().zip(reads).collect();
        checks.push(hash(source, key, &found));
    }
    let covered = |i: usize| {
        let fresh = |mark: &Mark| now_ms.saturating_sub(mark.entry.ms) <= age_max_ms;
        let of_hash = |text: &PriceText| read(text, now_ms, age_max_ms).is_ok();
        open[i].mark.as_ref().is_some_and(fresh) || of_hash(&texts[i].ticker) || of_hash(&texts[i].market)
    };
    let without: Vec<&str> = (0..open.len()).filter(|&i| !covered(i)).map(|i| names[i]).collect();
    checks.push(if without.is_empty() {
        Check::ok(AREA, "coverage", format!("each of {} open positions has a fresh price", open.len()))
    } else {
        let found = format!(
            "{} of {} open positions have no fresh price anywhere: {}",
            without.len(),
            open.len(),
            named(&without)
        );
        let next = "restart the price feed (harvester feed mark), or let the service fetch: harvester backfill";
        Check::problem(AREA, "coverage", found, next)
    });
    Ok(checks)
}

fn of<'a>(source: &str, texts: &'a PriceTexts) -> &'a PriceText {
    if source == PriceSource::REDIS_TICKER { &texts.ticker } else { &texts.market }
}

fn read(text: &PriceText, now_ms: u64, age_max_ms: u64) -> Result<HashPrice, NoPrice> {
    hashes::price(text.price.as_deref(), text.timestamp.as_deref(), now_ms, age_max_ms)
}

fn streams(engine: &Engine, open: &[&Symbol], now_ms: u64, age_max_ms: u64) -> Check {
    let mut by_source: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let mut none = 0;
    for symbol in open {
        match symbol.mark {
            None => none += 1,
            Some(mark) => {
                let age_ms = now_ms.saturating_sub(mark.entry.ms);
                let (count, oldest) = by_source.entry(engine.source_name(mark.source).to_owned()).or_default();
                (*count, *oldest) = (*count + 1, age_ms.max(*oldest));
            }
        }
    }
    let mut parts: Vec<String> =
        by_source.iter().map(|(source, (n, oldest))| format!("{source} {n} (oldest {})", span(*oldest))).collect();
    if none > 0 {
        parts.push(format!("none {none}"));
    }
    let is_fresh = none == 0 && by_source.values().all(|(_, oldest)| *oldest <= age_max_ms);
    let found = format!("last prices in the history: {}", parts.join(", "));
    if is_fresh {
        return Check::ok(AREA, "streams", found);
    }
    Check::warning(AREA, "streams", found, "a price stream is silent or not configured ([streams] price)")
}

/// Checks one kind of hash for all open positions.
fn hash(source: &str, key: &str, found: &[(&str, Result<HashPrice, NoPrice>)]) -> Check {
    let mut counts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (symbol, price) in found {
        let what = match price {
            Ok(_) => "fresh",
            Err(NoPrice::Absent) => "absent",
            Err(NoPrice::Unbelievable(_)) => "no price",
            Err(NoPrice::NoTime) => "without a time",
            Err(NoPrice::TooOld { .. }) => "too old",
            Err(NoPrice::Ahead { .. }) => "ahead of the clock",
        };
        counts.entry(what).or_default().push(symbol);
    }
    let parts: Vec<String> = counts.iter().map(|(what, symbols)| format!("{} {what}", symbols.len())).collect();
    let said = format!("{key}:*: {}", parts.join(", "));
    match counts.get("fresh") {
        Some(fresh) if fresh.len() == found.len() => Check::ok(AREA, source, said),
        _ => {
            let next = "the feed that writes these keys is running and writes nothing, or is not there";
            Check::warning(AREA, source, said, next)
        }
    }
}

pub fn named(symbols: &[&str]) -> String {
    let more = symbols.len().saturating_sub(NAMED);
    let shown = symbols.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}
