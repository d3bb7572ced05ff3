//! A position at a time: the known facts, their evaluation, and the hold.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::ExplainError;
use super::document::{Explanation, HoldSince, Holds, Later, PolicyInForce, PositionAtTime, Subject};
use super::reasons;
use crate::codec::view::{self, PositionView};
use crate::codec::{policy, time};
use crate::config::Config;
use crate::domain::book::position::Position;
use crate::domain::book::view::BookView;
use crate::domain::engine::{Decision, Engine};
use crate::domain::event::ids::EntryId;
use crate::domain::event::{Control, Entry, Event};
use crate::domain::exit::policy::Base;
use crate::domain::exit::{self, ShareBase, Valuation};
use crate::domain::units::Ratio;
use crate::drive::driver::Driver;
use crate::drive::{keys, scope};
use crate::shell::history::{History, Input, Options};

/// Maximum number of changes of the hold that are shown. [1]
const CHANGES_SHOWN: usize = 8;

/// No entry names a symbol that is to be explained.
#[derive(Clone, Debug, thiserror::Error)]
#[error("no entry up to {} names the symbol {name}{}", time::iso(last.ms), suggested(near.as_deref()))]
pub struct UnknownSymbol {
    last: EntryId,
    name: String,
    /// A symbol with a similar name.
    near: Option<String>,
}

fn suggested(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!(" (did you mean {near}?)"))
}

/// A history, folded up to a time.
pub struct AuditedState {
    pub engine: Engine,
    /// The entry that adopted the policy in force; `None` for the configured one.
    pub policy_since: Option<EntryId>,
}

/// Folds a history as an audit does: the decisions in it are recorded decisions, and ours are returned separately.
pub fn fold(
    sources: &[PathBuf],
    config: &Config,
    until: Option<EntryId>,
    mut look: impl FnMut(&Engine, &Entry, (&[Decision], Option<EntryId>)) -> Result<(), ExplainError>,
) -> Result<AuditedState, ExplainError> {
    let inputs: Vec<Input> = sources.iter().cloned().map(Input::from).collect();
    let config = &*scope::over(config, &inputs)?;
    let mut history = History::open(&inputs, &config.streams, Options { until, ..Options::default() })?;
    let mut driver = Driver::auditing(&history, config, keys::configured(config)?, until, None);
    driver.engine.ignore_changes();
    let mut policy_since = None;
    driver.pipeline(&mut history, false, |engine, batch| {
        for (entry, _) in &batch.entries {
            let step = engine.step(entry);
            if let Ok(Event::Control(fact)) = &entry.content
                && matches!(fact.control, Control::PolicyAdopted(_))
            {
                policy_since = Some(entry.id);
            }
            look(engine, entry, (&step.decisions, policy_since))?;
        }
        Ok::<_, ExplainError>(())
    })?;
    Ok(AuditedState { engine: driver.engine, policy_since })
}

impl Explanation {
    /// Describes a book. Errors if its symbol was never seen.
    pub fn of(
        engine: &Engine,
        name: &str,
        policy_since: Option<EntryId>,
        subject: Subject,
    ) -> Result<Self, UnknownSymbol> {
        let Some(book) = view::named_one(engine, name) else {
            let near = policy::nearest(name, engine.symbols().map(|symbol| &*symbol.name));
            // Most names end in the same quote asset, so only a typing error counts as near.
            let near = near.filter(|near| near.len().abs_diff(name.len()) <= 1 && near.get(..2) == name.get(..2));
            let (name, near) = (name.to_owned(), near.map(str::to_owned));
            return Err(UnknownSymbol { last: engine.globals().last, name, near });
        };
        let now_ms = engine.evaluated_ms();
        let (last, policy) = (engine.globals().last, engine.policy_of(book.account));
        let open = book.book.hot.open.as_ref();
        let shown = open.or(book.book.closed.last());
        let hold = open.and_then(|_| engine.hold_at(book, now_ms));
        let at_time = PositionAtTime {
            last_entry: last.to_string(),
            at: time::iso(now_ms),
            position: shown.map(|position| PositionView::of(engine, book, position)),
            hold: hold.map(|hold| hold.name()),
            why: reasons::why(engine, book, hold, now_ms),
            policy: PolicyInForce {
                hash: policy.hash.to_string(),
                mode: policy.mode.name(),
                adopted: engine.globals().policy_adopted,
                since: policy_since.map(|id| id.to_string()),
                min_r: policy.min_r.to_string(),
                cost_bps: policy.cost_bps.to_string(),
            },
            others: others(engine, &book.name, now_ms),
            holds: shown.map(Holds::of),
        };
        let arithmetic = open.map_or_else(Vec::new, |open| arithmetic(engine, book, open));
        Ok(Self { symbol: book.name.to_string(), arithmetic, at_time: Some(at_time), subject, origins: None })
    }
}

impl Later {
    /// Returns the hold of a book at a time after its evaluation, if another hold applies by then: no entry states that
    /// a price has become too old. [ms since 1970]
    pub fn of(engine: &Engine, name: &str, at_ms: u64) -> Option<Self> {
        let book = view::named_one(engine, name).filter(|book| book.hot.open.is_some())?;
        let evaluated_ms = engine.evaluated_ms();
        let hold = engine.hold_at(book, at_ms);
        if at_ms <= evaluated_ms || hold == engine.hold_at(book, evaluated_ms) {
            return None;
        }
        let why = reasons::why(engine, book, hold, at_ms);
        Some(Self { at: time::iso(at_ms), hold: hold.map(|hold| hold.name()), why })
    }
}

impl Holds {
    fn of(position: &Position) -> Self {
        let changes = position.holds.changes().map(|change| HoldSince {
            since: change.since.to_string(),
            time: time::iso(change.since.ms),
            hold: change.hold.map_or("decided", |hold| hold.name()),
        });
        let mut holds: Vec<HoldSince> = changes.collect();
        holds.drain(..holds.len().saturating_sub(CHANGES_SHOWN));
        Self { holds, holds_dropped: position.holds.dropped() }
    }
}

/// Counts the open positions of other books at the same time, by hold. [1]
fn others(engine: &Engine, name: &str, now_ms: u64) -> BTreeMap<&'static str, u64> {
    let mut others = BTreeMap::new();
    for book in engine.books().filter(|book| book.hot.open.is_some() && *book.name != *name) {
        let hold = engine.hold_at(book, now_ms).map_or("nothing", |hold| hold.name());
        *others.entry(hold).or_default() += 1;
    }
    others
}

/// Returns the numbers of an evaluation, inserted into their formulas; the last line is `r_net`.
pub fn arithmetic(engine: &Engine, book: BookView<'_>, open: &Position) -> Vec<String> {
    let policy = engine.policy_of(book.account);
    let (Ok(Some(reading)), Some(risk)) = (Valuation::of(book, policy), &open.risk) else { return Vec::new() };
    let qty = open.totals.qty;
    let signed = if qty.is_negative() { format!("({qty})") } else { qty.to_string() };
    let entry = reading.entry_price.price;
    let atr = exit::atr_value(open, policy).unwrap_or(risk.atr_value);
    let factor = if reading.risk.risk_price == risk.absolute() {
        format!("{atr} × {}", risk.volatility_factor)
    } else {
        format!("{atr} × {} × {entry}", risk.volatility_factor)
    };
    vec![
        format!("pnl        = (mark − entry) × qty = ({} − {entry}) × {signed} = {}", reading.mark.price, reading.pnl),
        format!(
            "cost       = {} bps × |qty| × entry = {} × {} × {entry} = {}",
            policy.cost_bps,
            policy.cost,
            qty.abs(),
            reading.cost
        ),
        format!("risk_price = atr × vol = {factor} = {}", reading.risk.risk_price),
        format!(
            "risk       = |qty| × risk_price = {} × {} = {}",
            qty.abs(),
            reading.risk.risk_price,
            reading.entry_risk
        ),
        format!(
            "r_net      = (pnl − cost) / risk = ({} − {}) / {} = {}",
            reading.pnl, reading.cost, reading.entry_risk, reading.r_net
        ),
    ]
}

/// Formats how a share of the policy's base led to a quantity: the base as a quantity, and its name.
pub fn quantity_line(share: &str, base: &str, qty: &str, position: &Position) -> String {
    let which = if base == Base::Current.name() { Base::Current } else { Base::Initial };
    let of = share.parse().ok().and_then(|value| {
        let of = exit::share_base(position, which, Ratio::new(value)).ok()?;
        Some((of, of.qty(position).ok()?))
    });
    let Some((of, base_qty)) = of else { return format!("qty        = {qty}") };
    let name = match of {
        ShareBase::Open => "what is held".to_owned(),
        ShareBase::Largest => "the largest quantity".to_owned(),
        ShareBase::OpenOverUnfilled { filled } => {
            format!("what is held over the unfilled share, {} / (1 − {filled})", position.totals.qty.abs())
        }
    };
    format!("qty        = {share} of {base_qty}, {name} = {qty}")
}
