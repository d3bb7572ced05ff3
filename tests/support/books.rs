//! A second computation of positions: simple, in exact fractions, compared with the engine after every step.

use std::collections::{BTreeMap, BTreeSet};

use harvester::codec::seal::{Sealed, chained};
use harvester::codec::view;
use harvester::config::Config;
use harvester::domain::book::change::{Cause, PositionChange};
use harvester::domain::book::position::Position;
use harvester::domain::book::state::Book;
use harvester::domain::book::symbol::Symbol;
use harvester::domain::book::view::BookView;
use harvester::domain::engine::{Decision, Disposition, Engine};
use harvester::domain::event::Event;
use harvester::domain::event::ids::SymbolId;
use harvester::domain::exit::policy::{AtrUnit, EntrySource, Mode, Policy, RiskTooLarge};
use serde_json::Value;

use super::exact::{Exact, abs, agrees_within, exact, of, six_places, whole, zero};
use super::lab::{Came, Lab};

/// The sums of a position.
#[derive(Clone, Debug)]
pub struct Books {
    /// Signed. [base]
    pub qty: Exact,
    /// [quote per base]
    pub entry: Option<(Exact, EntrySource)>,
    /// [quote]
    pub realized: Option<Exact>,
    /// Sum of all amounts that were paid or received, without sign: the realised pnl is a difference of these.
    /// [quote]
    pub turnover: Exact,
}

impl Default for Books {
    fn default() -> Self {
        Self { qty: zero(), entry: None, realized: Some(zero()), turnover: zero() }
    }
}

impl Books {
    /// Computes the sums of a position from the list of its changes and from nothing else.
    pub fn of(position: &Position) -> Self {
        let mut books = Self::default();
        for change in &position.changes {
            let price = change.price.map(|price| (of(price.price.get()), price.source));
            let delta = of(change.delta.get());
            match change.cause {
                Cause::EntrySet => books.set_entry(price),
                Cause::Adoption => books.adopt(&delta, price, &explained(change)),
                Cause::StatedOpening => {
                    // The part that fills have explained has their price, the rest the price of the exchange.
                    let mut rest = delta;
                    for (qty, traded) in explained(change) {
                        rest -= &qty;
                        books.trade(&qty, traded.map(|traded| (traded, EntrySource::Fill)).or_else(|| price.clone()));
                    }
                    if rest != zero() {
                        books.trade(&rest, price);
                    }
                }
                Cause::Fill { .. } | Cause::Explained { .. } => books.trade(&delta, price),
            }
        }
        books
    }

    fn set_entry(&mut self, price: Option<(Exact, EntrySource)>) {
        // A hash of the old service supplies a price only if no other source has one; a later source may have
        // supplied it.
        let is_legacy = price.as_ref().is_some_and(|(_, source)| *source == EntrySource::Legacy);
        let stays = |source: EntrySource| is_legacy || source == EntrySource::Fill;
        if self.entry.as_ref().is_none_or(|(_, source)| !stays(*source)) {
            self.entry = price;
        }
    }

    fn adopt(&mut self, delta: &Exact, price: Option<(Exact, EntrySource)>, explained: &[(Exact, Option<Exact>)]) {
        let qty = &self.qty + delta;
        if abs(&qty) < abs(&self.qty) {
            let is_explained = explained.iter().map(|(qty, _)| qty).sum::<Exact>() == *delta;
            self.realized = self.realized.take().filter(|_| is_explained);
            for (qty, traded) in explained {
                for price in traded.iter().chain(self.entry.iter().map(|(entry, _)| entry)) {
                    self.turnover += price * abs(qty);
                }
                self.realized = match (self.realized.take(), &self.entry, traded) {
                    (Some(realized), Some((entry, _)), Some(price)) => Some(realized - (price - entry) * qty),
                    _ => None,
                };
            }
        }
        (self.qty, self.entry) = (qty, price);
    }

    /// Applies a trade: in the direction of the position it averages the entry price, against it it realises profit
    /// or loss.
    pub fn trade(&mut self, delta: &Exact, price: Option<(Exact, EntrySource)>) {
        for (price, _) in price.iter().chain(&self.entry) {
            self.turnover += price * abs(delta);
        }
        let is_addition = (&self.qty * delta) >= zero();
        let qty = &self.qty + delta;
        if is_addition {
            self.entry = match (self.entry.take(), price) {
                (_, price) if self.qty == zero() => price,
                (Some((held, source)), Some((added, other))) => {
                    let cost = held * abs(&self.qty) + added * abs(delta);
                    Some((cost / abs(&qty), source.min(other)))
                }
                _ => None,
            };
        } else {
            let traded = price.filter(|(_, source)| *source == EntrySource::Fill);
            self.realized = match (self.realized.take(), &self.entry, traded) {
                (Some(realized), Some((entry, _)), Some((price, _))) => Some(realized - (price - entry) * delta),
                _ => None,
            };
        }
        self.qty = qty;
    }
}

/// Returns the fills that explain a change: signed quantities [base], each with its price [quote per base].
fn explained(change: &PositionChange) -> Vec<(Exact, Option<Exact>)> {
    let sign = |qty: Exact| if change.delta.is_negative() { -qty } else { qty };
    let explained = change.late_fills.iter();
    explained.map(|explained| (sign(of(explained.qty.get())), explained.price.map(|price| of(price.get())))).collect()
}

/// How strictly printed numbers are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Derived {
    /// Everything that can be computed must be printed.
    Always,
    /// A number that does not fit a decimal may be missing.
    WhereItFits,
}

/// Compares a position as `positions` prints it with the sums.
pub fn check_position(
    engine: &Engine,
    book: BookView<'_>,
    position: &Position,
    derived: Derived,
) -> Result<(), String> {
    let printed = serde_json::json!(view::PositionView::of(engine, book, position));
    let books = Books::of(position);
    let policy = engine.policy_of(book.account);
    let fail = |what: &str, got: &Value, want: String| {
        Err(format!("{} of {}: printed {got}, exact {want}", what, printed["position_id"]))
    };
    // Where two numbers cancel, the difference is as exact as they were: 28 digits, or the 13 of an extreme one.
    let part = match derived {
        Derived::Always => whole(10).pow(-24),
        Derived::WhereItFits => whole(10).pow(-12),
    };
    let same_within = |what: &str, got: &Value, want: Option<&Exact>, larger: &Exact| match (got.as_str(), want) {
        (Some(got), Some(want)) if agrees_within(got, want, larger, &part) => Ok(()),
        (None, None) => Ok(()),
        (None, Some(_)) if derived == Derived::WhereItFits => Ok(()),
        _ => fail(what, got, want.map_or("nothing".to_owned(), Exact::to_string)),
    };

    let same = |what: &str, got: &Value, want: Option<&Exact>| same_within(what, got, want, &zero());

    // Quantity: the open quantity is the sum of the fills.
    let held = of(position.totals.qty.get());
    if !position.totals.qty.same(harvester::domain::units::Qty::ZERO, None) || position.is_open() {
        let apart = abs(&(&held - &books.qty));
        let step = book.step_size().map_or(zero(), |step| of(step.get()));
        let allowed = (step / whole(2)).max(abs(&held).max(abs(&books.qty)) * whole(10).pow(-9));
        if apart > allowed {
            return fail("qty", &printed["qty"], books.qty.to_string());
        }
    }
    let listed = fills_of(&printed);
    if listed != books.qty {
        return fail("the sum of fills", &printed["fills"], books.qty.to_string());
    }
    if position.is_open() && (held == zero() || (held < zero()) != (printed["side"] == "SHORT")) {
        return fail("side", &printed["side"], held.to_string());
    }
    same("qty", &printed["qty"], Some(&abs(&held)))?;

    let entry = books.entry.as_ref().map(|(price, _)| price);
    // Sums and engine must agree whether there is an entry price, whatever its size.
    if printed["entry_price"].is_null() != entry.is_none() {
        return fail("entry_price", &printed["entry_price"], format!("{entry:?}"));
    }
    same("entry_price", &printed["entry_price"]["value"], entry)?;
    if books.realized.is_none() != printed["realized_pnl"].is_null() {
        return fail("realized_pnl", &printed["realized_pnl"], format!("{:?}", books.realized));
    }
    same_within("realized_pnl", &printed["realized_pnl"], books.realized.as_ref(), &books.turnover)?;

    let risk_price = risk_price(position, policy, entry);
    same("risk_price", &printed["risk_price"], risk_price.as_ref())?;
    let entry_risk = risk_price.map(|risk| risk * abs(&held));
    same("entry_risk_usdt", &printed["entry_risk_usdt"], entry_risk.as_ref())?;
    let mark = book.symbol.mark.filter(|_| position.is_open()).map(|mark| of(mark.price.get()));
    let pnl = mark.clone().zip(entry).map(|(mark, entry)| (mark - entry) * &held);
    let larger = mark.zip(entry).map_or(zero(), |(mark, entry)| (mark + entry) * abs(&held));
    same_within("unrealized_pnl", &printed["unrealized_pnl"], pnl.as_ref(), &larger)?;
    if let (Some(pnl), Some(risk), Some(entry)) = (pnl, entry_risk, entry)
        && let Some(r_net) = printed["r_net"].as_str()
    {
        let cost = of(policy.cost_bps.get()) / whole(10_000) * abs(&held) * entry;
        let exact_r = (pnl - cost) / risk;
        // Where intermediate numbers need all 28 digits, the last of the six places has no more than the promised 10⁻¹².
        let slack = match derived {
            Derived::Always => whole(10).pow(-18),
            Derived::WhereItFits => abs(&exact_r) * whole(10).pow(-12),
        };
        let off = abs(&(exact(r_net) - &exact_r));
        if r_net != six_places(&exact_r) && off > whole(1) / whole(2_000_000) + slack {
            return fail("r_net", &printed["r_net"], six_places(&exact_r));
        }
    }
    Ok(())
}

/// Returns the signed sum of the listed fills. [base]
pub fn fills_of(printed: &Value) -> Exact {
    let fills = printed["fills"].as_array().expect("fills are a list");
    fills.iter().fold(zero(), |sum, fill| {
        let qty = exact(fill["qty"].as_str().expect("a fill has a quantity"));
        if fill["side"] == "SELL" { sum - qty } else { sum + qty }
    })
}

fn risk_price(position: &Position, policy: &Policy, entry: Option<&Exact>) -> Option<Exact> {
    let risk = position.risk.as_ref()?;
    let factor = of(risk.atr_value.get()) * of(risk.volatility_factor.get());
    match policy.atr_unit_of(risk.producer.as_deref()) {
        AtrUnit::Fraction => Some(factor * entry?),
        AtrUnit::Absolute => match entry {
            Some(entry) if policy.risk_too_large == RiskTooLarge::AsFraction && factor >= *entry => {
                Some(factor * entry)
            }
            _ => Some(factor),
        },
    }
}

/// An engine that is checked after every step.
pub struct Watched {
    pub lab: Lab,
    pub decisions: u64,
    pub quarantined: u64,
    derived: Derived,
    /// Highest attempt of each rung with a decision, by position and R.
    attempts: BTreeMap<(String, String), u32>,
    /// Rungs taken in shadow since the last control entry: only a control entry can arm them again.
    shadowed: BTreeSet<(String, String)>,
    last_hash: String,
}

impl Watched {
    pub fn new(config: &Config, derived: Derived) -> Self {
        let lab = Lab::new(config);
        Self {
            lab,
            decisions: 0,
            quarantined: 0,
            derived,
            attempts: BTreeMap::new(),
            shadowed: BTreeSet::new(),
            last_hash: "0".repeat(64),
        }
    }

    /// Applies a line and checks everything that must be true afterwards.
    pub fn feed(&mut self, line: &str) -> Result<(), String> {
        let entry = self.lab.decode(line);
        let id = entry.symbol;
        let before = id.map(|id| State::of(&self.lab.engine, id));
        let new_plan = match &entry.content {
            Ok(Event::Plan(plan)) if self.lab.engine.plan(&(plan.plan_id.clone(), plan.account)).is_none() => {
                Some((plan.plan_id.clone(), plan.account))
            }
            _ => None,
        };
        let came = self.lab.step(entry);
        if let (Disposition::Quarantined(_), Some(plan_id)) = (came.step.disposition, new_plan)
            && self.lab.engine.plan(&plan_id).is_some()
        {
            return Err(format!("a plan that went to quarantine is remembered\nafter {line}"));
        }
        self.check(before.as_ref(), &came).map_err(|why| format!("{why}\nafter {line}"))
    }

    fn check(&mut self, before: Option<&State>, came: &Came) -> Result<(), String> {
        let after = came.entry.symbol.map(|id| State::of(&self.lab.engine, id));
        if let Disposition::Quarantined(_) = came.step.disposition {
            self.quarantined += 1;
            leaves_nothing(before, after.as_ref())?;
        }
        if let Ok(Event::Control(_)) = came.entry.content {
            self.shadowed.clear();
        }
        if let Some(decision) = &came.step.decision {
            let sealed = came.sealed.as_ref().ok_or("a decision was not sealed")?;
            self.check_decision(before, decision, sealed)?;
        }
        for (decision, sealed) in &came.further {
            self.check_decision(before, decision, sealed)?;
        }
        for book in came.entry.symbol.into_iter().flat_map(|symbol| self.lab.engine.books_of(symbol)) {
            for position in book.book.hot.open.iter().chain(book.book.closed.last()) {
                check_position(&self.lab.engine, book, position, self.derived)?;
            }
        }
        match &came.entry.content {
            Ok(Event::Control(_) | Event::Decision(_)) if came.step.decision.is_some() => {
                Err("a control or decision entry caused a decision".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn check_decision(&mut self, before: Option<&State>, decision: &Decision, sealed: &Sealed) -> Result<(), String> {
        self.decisions += 1;
        let fail = |what: &str| Err(format!("{what}: {decision:?}"));
        let book = self.lab.engine.book(decision.book);
        let Some(open) = &book.hot.open else { return fail("nothing is open") };
        if decision.position_id != book.position_id(open) {
            return fail("it names another instance");
        }
        if !decision.qty.is_positive() || decision.qty > open.totals.qty.abs() {
            return fail("it closes more than is open, or nothing");
        }
        let taken = open.share_taken().map_or(whole(2), |taken| of(taken.get()));
        if !decision.share.is_positive() || taken > whole(1) {
            return fail("shares taken add up to more than 1, or to nothing new");
        }
        let earlier = before.and_then(|state| state.books.iter().find(|before| before.name == book.name));
        let earlier = earlier.and_then(|book| book.hot.open.as_ref()).filter(|earlier| earlier.id == open.id);
        for r in &decision.rungs {
            if earlier.and_then(|earlier| earlier.rung(*r)).is_some_and(|rung| rung.state.is_taken()) {
                return fail("a rung is taken twice");
            }
            let rung = (decision.position_id.clone(), r.to_string());
            if decision.mode == Mode::Shadow && !self.shadowed.insert(rung.clone()) {
                return fail("a rung is taken twice in shadow");
            }
            let attempt = self.attempts.entry(rung).or_default();
            if decision.attempt <= *attempt {
                return fail("an attempt is repeated");
            }
            *attempt = decision.attempt;
        }
        if sealed.seq != self.decisions || sealed.prev != self.last_hash {
            return fail("the chain is broken");
        }
        if sealed.hash != chained(&sealed.prev, &sealed.payload) {
            return fail("the hash is not that of the payload");
        }
        self.last_hash.clone_from(&sealed.hash);
        plain_decimals(&sealed.payload)
    }

    /// Checks every position that is still in memory.
    pub fn check_all(&self) -> Result<(), String> {
        for book in self.lab.engine.books() {
            for position in book.positions() {
                check_position(&self.lab.engine, book, position, self.derived)?;
            }
        }
        let counters = &self.lab.engine.counters;
        let quarantined: u64 = counters.quarantined.values().sum();
        if quarantined != self.quarantined {
            return Err(format!("{quarantined} are counted as quarantined, {} were", self.quarantined));
        }
        Ok(())
    }
}

/// A symbol and its books.
#[derive(Clone, Debug, PartialEq)]
struct State {
    symbol: Symbol,
    books: Vec<Book>,
}

impl State {
    fn of(engine: &Engine, symbol: SymbolId) -> Self {
        let books = engine.books_of(symbol).map(|book| book.book.clone()).collect();
        Self { symbol: engine.symbol(symbol).clone(), books }
    }
}

/// Asserts that a quarantined entry changes nothing but the flags of its symbol. A flag may name a book for the first
/// time.
fn leaves_nothing(before: Option<&State>, after: Option<&State>) -> Result<(), String> {
    let (Some(before), Some(after)) = (before, after) else { return Ok(()) };
    // Any entry can expire the timeouts of decisions in flight.
    if before.books.iter().flat_map(Book::positions).any(Position::awaits_result) {
        return Ok(());
    }
    let mut after = after.clone();
    after.books.retain(|book| !(book.is_blank(true) && before.books.iter().all(|before| before.name != book.name)));
    for (after, before) in after.books.iter_mut().zip(&before.books) {
        after.hot.history_gap = before.hot.history_gap;
    }
    // The mark that another entry than a price has named the book counts against a limit only.
    after.symbol.named = before.symbol.named;
    if *before == after {
        return Ok(());
    }
    Err(format!("what went to quarantine changed {}:\n{before:?}\nbecame\n{after:?}", before.symbol.name))
}

/// Asserts that decimals in a payload are strings without exponent, trailing zeros or a negative zero.
pub fn plain_decimals(payload: &str) -> Result<(), String> {
    const DECIMALS: [&str; 9] = [
        "qty",
        "close_fraction",
        "r_net",
        "mark_price",
        "entry_price",
        "risk_price",
        "entry_risk_usdt",
        "unrealized_pnl",
        "cost",
    ];
    let payload: Value = serde_json::from_str(payload).map_err(|error| format!("the payload is no JSON: {error}"))?;
    let rungs = payload["rungs"].as_array().ok_or("rungs are no list")?;
    for value in DECIMALS.iter().map(|key| &payload[*key]).chain(rungs) {
        let text = value.as_str().ok_or_else(|| format!("{value} is no string in {payload}"))?;
        if !is_plain(text) {
            return Err(format!("{text} is no plain decimal in {payload}"));
        }
    }
    Ok(())
}

pub fn is_plain(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "1"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    digits(whole)
        && digits(fraction)
        && !fraction.ends_with('0')
        && (whole == "0" || !whole.starts_with('0'))
        && text != "-0"
}
