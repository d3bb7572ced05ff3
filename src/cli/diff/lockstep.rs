//! Two replays in lockstep: the first entry after which they differ, and what only one of them has.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::side::{Next, Walk};
use crate::codec::fields::{self, FieldDifference};
use crate::codec::line;
use crate::codec::time;
use crate::codec::view;
use crate::domain::book::state::{Book, parts_of_name};
use crate::domain::book::symbol::Symbol;
use crate::domain::book::view::BookView;
use crate::domain::engine::Engine;
use crate::domain::event::Event;
use crate::domain::event::ids::{AccountId, EntryId, SortKey, SymbolId};
use crate::shell::terminal::Screen;

/// The result of two replays.
pub struct Met {
    pub a: Engine,
    pub b: Engine,
    pub first: Option<Parting>,
    pub entries: Entries,
    pub decisions_a: Vec<String>,
    pub decisions_b: Vec<String>,
}

/// The entry after which two states differ for the first time.
#[derive(Serialize)]
pub struct Parting {
    /// `stream/id`.
    entry: String,
    time: String,
    #[serde(flatten)]
    difference: FieldDifference,
}

impl Parting {
    /// Returns the name of what differs.
    pub fn of(&self) -> &str {
        &self.difference.of
    }
}

/// How the entries of two histories compare.
#[derive(Default, Serialize)]
pub struct Entries {
    both: u64,
    only_a: u64,
    only_b: u64,
    /// In both, in a different order.
    reordered: u64,
    /// In both, with different content.
    changed: u64,
    /// The first entry of each kind.
    first: BTreeMap<&'static str, String>,
}

/// Entries that only one side has had so far: true if it was A, and a digest of the content.
type Alone = BTreeMap<SortKey, (bool, [u8; 32])>;

/// The side that takes the next step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    A,
    B,
    Both,
}

/// Runs both to their ends.
pub fn run(mut a: Walk, mut b: Walk) -> anyhow::Result<Met> {
    let mut first = None;
    let mut entries = Entries::default();
    let mut alone = Alone::new();
    loop {
        let turn = match (&a.next, &b.next) {
            (None, None) => break,
            (Some(_), None) => Turn::A,
            (None, Some(_)) => Turn::B,
            (Some(a), Some(b)) => turn(a, b),
        };
        let of_a = if turn == Turn::B { None } else { a.step()? };
        let of_b = if turn == Turn::A { None } else { b.step()? };
        let stepped = of_a.as_ref().or(of_b.as_ref());
        entries.count(of_a.as_ref(), of_b.as_ref(), &a.driver.engine, &mut alone);
        if first.is_none()
            && let Some(next) = stepped
        {
            let engine = if turn == Turn::B { &b.driver.engine } else { &a.driver.engine };
            first = parting(&a.driver.engine, &b.driver.engine, next, engine);
        }
    }
    entries.end(alone, &a.driver.engine);
    let (decisions_a, decisions_b) = (a.decisions, b.decisions);
    Ok(Met { a: a.driver.engine, b: b.driver.engine, first, entries, decisions_a, decisions_b })
}

fn turn(a: &Next, b: &Next) -> Turn {
    let key = |next: &Next| (next.key, next.entry.stream, next.entry.id);
    match key(a).cmp(&key(b)) {
        std::cmp::Ordering::Less => Turn::A,
        std::cmp::Ordering::Greater => Turn::B,
        std::cmp::Ordering::Equal => Turn::Both,
    }
}

/// Returns the first difference of the states after an entry, if there is one: in its symbol, in symbols whose timeouts
/// it may have expired, or, after entries that may change any symbol, in all.
fn parting(a: &Engine, b: &Engine, next: &Next, stepped: &Engine) -> Option<Parting> {
    let is_for_all = next.entry.symbol.is_none()
        || matches!(next.entry.content, Ok(Event::Control(_) | Event::Decision(_)) | Err(_));
    let with_memory = !matches!(next.entry.content, Ok(Event::Price(_)));
    let mut names: Vec<&str> = if is_for_all {
        a.symbols().chain(b.symbols()).map(|symbol| &*symbol.name).collect()
    } else {
        let named = next.entry.symbol.map(|id| &*stepped.symbol(id).name);
        let timed = |engine: &'_ Engine| -> Vec<SymbolId> { engine.in_flight().map(|book| book.symbol).collect() };
        let timed_a = timed(a).into_iter().map(|id| &*a.symbol(id).name);
        let timed_b = timed(b).into_iter().map(|id| &*b.symbol(id).name);
        named.into_iter().chain(timed_a).chain(timed_b).collect()
    };
    names.dedup();
    let found = names.into_iter().find(|name| is_parted(a, b, name, with_memory)).map(|name| of_symbol(a, b, name));
    let found = found.into_iter().flatten().next();
    // The policy is the intended difference. Every other field without a symbol counts as a difference of the states.
    let of_whole = || {
        let all = fields::differing(&fields::of_whole(a), &fields::of_whole(b));
        all.into_iter().find(|difference| difference.field != "policy")
    };
    let difference = found.or_else(|| if is_for_all { of_whole() } else { None })?;
    let stream = &stepped.streams().get(next.entry.stream).name;
    let entry = format!("{stream}/{}", next.entry.id);
    Some(Parting { entry, time: time::iso(next.entry.id.ms), difference })
}

/// Returns true if [`of_symbol`] would return a difference, without listing it.
fn is_parted(a: &Engine, b: &Engine, name: &str, with_memory: bool) -> bool {
    let of = |engine: &'_ Engine| engine.find(name);
    match (of(a), of(b)) {
        (Some(of_a), Some(of_b)) => {
            let (symbol_a, symbol_b) = (a.symbol(of_a), b.symbol(of_b));
            let prices = |symbol: &Symbol| (symbol.mark, symbol.held_price, symbol.instrument, symbol.named);
            // Accounts have other indices on each side; their intents show in the fields.
            let is_parted = prices(symbol_a) != prices(symbol_b)
                || (with_memory && symbol_a.intents != symbol_b.intents)
                || (with_memory && symbol_a.of_accounts.len() != symbol_b.of_accounts.len());
            is_parted || are_books_parted(a, b, name, with_memory)
        }
        (Some(one), None) => has_content(a, one),
        (None, Some(one)) => has_content(b, one),
        (None, None) => false,
    }
}

fn has_content(engine: &Engine, symbol: SymbolId) -> bool {
    engine.symbol(symbol).mark.is_some() || engine.books_of(symbol).any(|book| book.hot.open.is_some())
}

fn are_books_parted(a: &Engine, b: &Engine, name: &str, with_memory: bool) -> bool {
    let (of_a, of_b) = (view::named(a, name), view::named(b, name));
    let is_parted = |a: &BookView<'_>, b: &BookView<'_>| {
        a.name != b.name || a.hot != b.hot || (with_memory && (a.orders != b.orders || a.closed != b.closed))
    };
    of_a.len() != of_b.len() || of_a.iter().zip(&of_b).any(|(a, b)| is_parted(a, b))
}

/// Returns the fields of a symbol's books that differ, without memory that has expired.
pub fn of_symbol(a: &Engine, b: &Engine, name: &str) -> Vec<FieldDifference> {
    let names = |engine: &'_ Engine| -> Vec<Box<str>> {
        view::named(engine, name).into_iter().map(|book| book.name.clone()).collect()
    };
    let (of_a, of_b) = (names(a), names(b));
    let only_b = of_b.iter().filter(|name| !of_a.contains(name));
    of_a.iter().chain(only_b).flat_map(|book| of_book(a, b, book)).collect()
}

fn of_book(a: &Engine, b: &Engine, name: &str) -> Vec<FieldDifference> {
    let of = |engine: &'_ Engine| -> Option<Vec<fields::Field>> {
        let now_ms = engine.globals().last.ms;
        let known = engine.book(engine.find_book(name)?);
        let mut symbol = known.symbol.clone();
        symbol.forget_intents(now_ms);
        let book = known.book.tidied(now_ms);
        Some(fields::of_book(engine, BookView { symbol: &symbol, book: &book }))
    };
    match (of(a), of(b)) {
        (None, None) => Vec::new(),
        // One side has only the name, or not even that. It is compared with the fields of an unknown book.
        (of_a, of_b) => {
            let unknown = || {
                let (account, symbol, side) = parts_of_name(name);
                // The index is of no engine; it only tells that the book is not a plain one.
                let account_id = if account.is_empty() { AccountId::NONE } else { AccountId(u32::MAX) };
                let book = Book::new(account_id, account, symbol, side);
                fields::of_book(
                    a,
                    BookView { symbol: &Symbol { name: symbol.into(), ..Symbol::default() }, book: &book },
                )
            };
            let mut all = fields::differing(&of_a.unwrap_or_else(unknown), &of_b.unwrap_or_else(unknown));
            // A digest is shown only if it is the only difference.
            if all.iter().any(|difference| difference.field != "digest") {
                all.retain(|difference| difference.field != "digest");
            }
            all
        }
    }
}

impl Entries {
    fn count(&mut self, of_a: Option<&Next>, of_b: Option<&Next>, engine: &Engine, alone: &mut Alone) {
        let name = |next: &Next| format!("{}/{}", engine.streams().get(next.entry.stream).name, next.entry.id);
        let mut note = |kind: &'static str, next: &Next| {
            self.first.entry(kind).or_insert_with(|| name(next));
        };
        match (of_a, of_b) {
            (Some(a), Some(b)) => {
                self.both += 1;
                if a.text != b.text && !line::same_content(&a.text, &b.text) {
                    note("changed", a);
                    self.changed += 1;
                }
            }
            (Some(next), None) | (None, Some(next)) => {
                let is_a = of_a.is_some();
                let key = SortKey::new(next.entry.stream, next.entry.id);
                let digest: [u8; 32] = Sha256::digest(&next.text).into();
                match alone.get(&key).copied() {
                    Some((was_a, said)) if was_a != is_a => {
                        alone.remove(&key);
                        note("reordered", next);
                        self.reordered += 1;
                        if said != digest {
                            note("changed", next);
                            self.changed += 1;
                        }
                    }
                    // The same entry again: a duplicate on one side.
                    Some(_) => {}
                    None => {
                        alone.insert(key, (is_a, digest));
                    }
                }
            }
            (None, None) => {}
        }
    }

    fn end(&mut self, alone: Alone, engine: &Engine) {
        for (key, (is_a, _)) in alone {
            let (kind, count) = if is_a { ("only_a", &mut self.only_a) } else { ("only_b", &mut self.only_b) };
            *count += 1;
            let name = || format!("{}/{}", engine.streams().get(key.stream).name, EntryId::new(key.ms, key.seq));
            self.first.entry(kind).or_insert_with(name);
        }
    }

    pub fn agree(&self) -> bool {
        self.only_a + self.only_b + self.reordered + self.changed == 0
    }

    pub fn show(&self, screen: &mut Screen<'_>) -> std::io::Result<()> {
        let Self { both, only_a, only_b, reordered, changed, first } = self;
        screen.line(&format!(
            "entries: {both} in both, {only_a} only in A, {only_b} only in B, {reordered} in another order, {changed} changed"
        ))?;
        for (kind, entry) in first {
            screen.line(&format!("    first {}: {entry}", kind.replace('_', " ")))?;
        }
        Ok(())
    }
}

impl Parting {
    pub fn show(&self, screen: &mut Screen<'_>) -> std::io::Result<()> {
        let Self { entry, time, difference: FieldDifference { of, field, a, b } } = self;
        screen.heading(&format!("They part at {time}  {entry}"))?;
        screen.line(&format!("    {of}  {field}"))?;
        screen.line(&format!("    A  {a}"))?;
        screen.line(&format!("    B  {b}"))
    }
}
