//! The life of one position, for a chart: its prices, its holds, its obstacles, and the entries that name it.
//!
//! Promises: reads only, from the nearest frame before the opening. Memory is bounded: prices are thinned without loss
//! of the extremes in any part of the time, and at most `LINES_MAX` entries are kept.

use std::sync::{Arc, PoisonError};

use rust_decimal::Decimal;

use super::film::{Film, FilmError, STATES_KEPT};
use super::stop::Stop;
use super::story::{Change, Watch};
use crate::codec::{fields, view};
use crate::domain::book::position::Position;
use crate::domain::book::state::parts_of_name;
use crate::domain::book::view::BookView;
use crate::domain::engine::Engine;
use crate::domain::event::Entry;
use crate::domain::event::ids::EntryId;
use crate::domain::event::streams::StreamKind;
use crate::domain::exit::Hold;

/// Prices that are kept before they are thinned. [1]
const PRICES_MAX: usize = 200_000;
/// Parts of the time for which a thinned list keeps the extremes. [1]
const PARTS: usize = 4_000;
/// Entries about the position that are kept with their lines. [1]
const LINES_MAX: usize = 2_000;

/// A price that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PricePoint {
    /// [ms since 1970]
    pub ms: u64,
    /// [quote per base]
    pub price: Decimal,
}

/// A hold of the position that begins with an entry. Two can begin with the same id, each in its own stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldPoint {
    pub since: EntryId,
    /// `None`: no hold applied.
    pub hold: Option<&'static str>,
    /// True if a decision was made or adopted there. Without a hold and without a decision, the rules decided and the
    /// history has no such decision: up to its last decision entry only recorded decisions take effect.
    pub is_decided: bool,
}

/// A time in which something kept the position from being evaluated as usual, such as a gap or a price in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Obstacle {
    pub what: &'static str,
    /// [ms since 1970]
    pub from_ms: u64,
    /// [ms since 1970]
    pub until_ms: u64,
}

/// An entry that names the symbol, other than a price.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamingEntry {
    pub stream: String,
    pub id: EntryId,
    pub shape: &'static str,
    pub line: String,
}

/// The life of a position up to a time.
#[derive(Clone, Debug, Default)]
pub struct Life {
    /// The prices that were used, in the order of their times.
    pub prices: Vec<PricePoint>,
    /// The number of prices before they were thinned. [1]
    pub prices_seen: u64,
    pub holds: Vec<HoldPoint>,
    /// The hold that an entry has brought without an evaluation of the position, if it still applies: entries of other
    /// symbols, and of control, can do that.
    pub unevaluated: Option<HoldPoint>,
    pub obstacles: Vec<Obstacle>,
    pub entries: Vec<NamingEntry>,
    pub story: Vec<Change>,
    /// True if entries were left out of `entries`.
    pub is_cut: bool,
}

/// Returns the life of a position from its opening up to `until`. A life that was read recently is not read again.
pub fn life(
    film: &Film,
    book: &str,
    position_id: &str,
    (opened, until): (EntryId, EntryId),
    stop: &Stop,
) -> Result<Arc<Life>, FilmError> {
    let lives = || film.lives.lock().unwrap_or_else(PoisonError::into_inner);
    let known =
        lives().iter().find(|((of, end), _)| *of == position_id && *end == until).map(|(_, life)| Arc::clone(life));
    if let Some(life) = known {
        return Ok(life);
    }
    let life = Arc::new(read(film, book, position_id, (opened, until), stop)?);
    let mut lives = lives();
    lives.push_back(((position_id.to_owned(), until), Arc::clone(&life)));
    while lives.len() > STATES_KEPT {
        lives.pop_front();
    }
    Ok(life)
}

/// Reads the life of a position from its opening up to `until`. `book` is the name of its book, `position_id` that of
/// its documents.
fn read(
    film: &Film,
    book: &str,
    position_id: &str,
    (opened, until): (EntryId, EntryId),
    stop: &Stop,
) -> Result<Life, FilmError> {
    if !film.has_past() {
        return Ok(Life::default());
    }
    let symbol = parts_of_name(book).1;
    let mut reader = LifeReader::new(book, position_id);
    film.fold(Some(opened), Some(until), stop, |engine, entry, line, _| {
        reader.watch.look(engine, entry);
        let is_of_symbol = entry.symbol.is_some_and(|id| *engine.symbol(id).name == *symbol);
        if entry.id < opened || (!is_of_symbol && entry.kind == StreamKind::Price) {
            return;
        }
        let Some(found) = view::named_one(engine, book) else { return };
        reader.add_holds(engine, entry, &found);
        if is_of_symbol {
            reader.add_entry(engine, entry, line, &found);
        }
    })?;
    Ok(reader.ended(until))
}

/// A life that is being read.
struct LifeReader<'a> {
    position_id: &'a str,
    life: Life,
    watch: Watch<'a>,
    /// Obstacles that have begun, each with its beginning. [ms since 1970]
    begun: Vec<(&'static str, u64)>,
    /// Changes of the hold that are known. [1]
    holds_noted: u64,
}

impl<'a> LifeReader<'a> {
    fn new(book: &'a str, position_id: &'a str) -> Self {
        let (watch, begun) = (Watch::new(book), Vec::new());
        Self { position_id, life: Life::default(), watch, begun, holds_noted: 0 }
    }

    /// Adds the changes of the hold since the last entry, and the hold after it.
    fn add_holds(&mut self, engine: &Engine, entry: &Entry, found: &BookView<'_>) {
        let Some(position) = position_of(found, self.position_id) else { return };
        self.life.hold(engine, entry, position, &mut self.holds_noted);
        let hold = engine.hold_at(*found, entry.id.ms).filter(|_| position.is_open());
        self.life.without_evaluation(entry.id, hold);
    }

    /// Adds an entry of the symbol: its price or its line, and the obstacles after it.
    fn add_entry(&mut self, engine: &Engine, entry: &Entry, line: &[u8], found: &BookView<'_>) {
        if let Some(mark) = found.symbol.mark.filter(|mark| mark.is_of(entry)) {
            self.life.price(PricePoint { ms: entry.id.ms, price: mark.price.get() });
        }
        if entry.kind != StreamKind::Price {
            self.life.name(engine, entry, line);
        }
        for (what, is_on) in [("history_gap", found.hot.history_gap), ("diverged", found.hot.diverged)] {
            self.add_obstacle(what, is_on, entry.id.ms);
        }
    }

    /// Begins an obstacle that is new, and ends one that is over.
    fn add_obstacle(&mut self, what: &'static str, is_on: bool, now_ms: u64) {
        let known = self.begun.iter().position(|(of, _)| *of == what);
        match (known, is_on) {
            (None, true) => self.begun.push((what, now_ms)),
            (Some(place), false) => {
                let (_, from_ms) = self.begun.remove(place);
                self.life.obstacles.push(Obstacle { what, from_ms, until_ms: now_ms });
            }
            (None, false) | (Some(_), true) => {}
        }
    }

    /// Returns the life up to its end. An obstacle that is not over lasts until then.
    fn ended(self, until: EntryId) -> Life {
        let Self { position_id, mut life, mut watch, begun, .. } = self;
        let lasting = begun.into_iter().map(|(what, from_ms)| Obstacle { what, from_ms, until_ms: until.ms });
        life.obstacles.extend(lasting);
        life.obstacles.sort_by_key(|obstacle| obstacle.from_ms);
        watch.changes.retain(|change| change.position_id == position_id);
        life.story = watch.changes;
        life
    }
}

/// Returns the position of a book whose documents have this id.
fn position_of<'a>(book: &BookView<'a>, position_id: &str) -> Option<&'a Position> {
    book.book.positions().find(|position| position.id.with_book(&book.name) == position_id)
}

impl Life {
    /// Adds the changes of the hold since the last entry. `noted` is the number of those that are known. [1]
    fn hold(&mut self, engine: &Engine, entry: &Entry, position: &Position, noted: &mut u64) {
        let new = position.holds.noted().saturating_sub(std::mem::replace(noted, position.holds.noted()));
        let kept = position.holds.changes().count() as u64;
        let skipped = usize::try_from(kept.saturating_sub(new)).unwrap_or(usize::MAX);
        for change in position.holds.changes().skip(skipped) {
            // An older change is of an entry that was not read, so its stream is not known.
            let stream = (change.since == entry.id).then(|| &*engine.streams().get(entry.stream).name);
            let is_decided = change.hold.is_none() && fields::is_cause(position, stream, change.since);
            self.holds.push(HoldPoint { since: change.since, hold: change.hold.map(Hold::name), is_decided });
        }
    }

    /// Notes the hold after an entry, if the last evaluation had another one.
    fn without_evaluation(&mut self, since: EntryId, hold: Option<Hold>) {
        let hold = hold.map(Hold::name);
        if hold.is_none() || self.holds.last().is_none_or(|last| last.hold == hold) {
            self.unevaluated = None;
        } else if self.unevaluated.is_none_or(|known| known.hold != hold) {
            self.unevaluated = Some(HoldPoint { since, hold, is_decided: false });
        }
    }

    fn price(&mut self, point: PricePoint) {
        self.prices_seen += 1;
        self.prices.push(point);
        if self.prices.len() >= PRICES_MAX {
            self.prices = thinned(&self.prices, PARTS);
        }
    }

    /// Keeps an entry that names the symbol, with its line.
    fn name(&mut self, engine: &Engine, entry: &Entry, line: &[u8]) {
        if self.entries.len() >= LINES_MAX {
            self.is_cut = true;
            return;
        }
        self.entries.push(NamingEntry {
            stream: engine.streams().get(entry.stream).name.clone(),
            id: entry.id,
            shape: entry.shape,
            line: String::from_utf8_lossy(line).into_owned(),
        });
    }
}

/// Returns at most four prices for each of `parts` equal parts of the time: the first, the lowest, the highest and the
/// last one. The extremes of the whole are among them.
pub fn thinned(prices: &[PricePoint], parts: usize) -> Vec<PricePoint> {
    let (Some(first), Some(last)) = (prices.first(), prices.last()) else { return Vec::new() };
    if prices.len() <= 4 * parts {
        return prices.to_vec();
    }
    let span = u128::from(last.ms.saturating_sub(first.ms)) + 1;
    let part = |point: &PricePoint| u128::from(point.ms.saturating_sub(first.ms)) * parts as u128 / span;
    let mut kept = Vec::with_capacity(4 * parts);
    for group in prices.chunk_by(|a, b| part(a) == part(b)) {
        let end = group.len() - 1;
        let lowest = (0..=end).min_by_key(|&at| group[at].price).unwrap_or(0);
        let highest = (0..=end).max_by_key(|&at| group[at].price).unwrap_or(0);
        let mut places = [0, lowest, highest, end];
        places.sort_unstable();
        let mut last = None;
        for place in places {
            if last != Some(place) {
                kept.push(group[place]);
            }
            last = Some(place);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thinned_list_keeps_both_ends_and_all_extremes_of_its_parts() {
        // A day of prices, one a second, with one spike up and one down.
        let mut prices: Vec<PricePoint> = (0..86_400_u64)
            .map(|second| PricePoint { ms: second * 1000, price: Decimal::from(1000 + second % 7) })
            .collect();
        prices[40_001].price = Decimal::from(5000);
        prices[70_003].price = Decimal::from(1);
        let thin = thinned(&prices, 600);
        assert!(thin.len() <= 2400, "{}", thin.len());
        assert_eq!((thin[0], thin[thin.len() - 1]), (prices[0], prices[86_399]));
        for spike in [prices[40_001], prices[70_003]] {
            assert!(thin.contains(&spike), "{spike:?} is lost");
        }
        assert!(thin.is_sorted_by_key(|point| point.ms));
        let (low, high) = (Decimal::from(1000), Decimal::from(1006));
        let of_part = |part: u64| thin.iter().filter(move |p| p.ms * 600 / 86_399_001 == part);
        for part in [0, 100, 599] {
            assert!(of_part(part).any(|p| p.price == low) && of_part(part).any(|p| p.price == high), "part {part}");
        }
        assert_eq!(thinned(&prices[..100], 600), prices[..100]);
        assert_eq!(thinned(&[], 600), []);
    }
}
