//! Why a position was not harvested, and what would have to change: one sentence for each reason, for people.

use crate::codec::{time, view};
use crate::domain::book::position::Position;
use crate::domain::book::rung::RungState;
use crate::domain::book::view::BookView;
use crate::domain::engine::Engine;
use crate::domain::exit::policy::Policy;
use crate::domain::exit::{self, Hold, Valuation};
use crate::domain::units::RMultiple;

/// Returns the sentences about a symbol at a time. If `hold` is `None` and a position is open, no hold applies.
pub fn why(engine: &Engine, book: BookView<'_>, hold: Option<Hold>, now_ms: u64) -> Vec<String> {
    let Some(open) = &book.book.hot.open else {
        let mut why = vec![match book.closed.last() {
            Some(_) => "No position is open; the last one is shown.".to_owned(),
            None => "No position was ever open.".to_owned(),
        }];
        if book.is_unconfirmed() {
            why.push("One snapshot shows a position; a second one that agrees opens it.".to_owned());
        }
        return why;
    };
    let Some(hold) = hold else { return vec!["No hold applies: the next evaluation decides.".to_owned()] };
    let mut why = because(engine, book, open, hold, now_ms);
    let rest = view::missing(book, open);
    if !rest.is_empty() && !matches!(hold, Hold::MissingEntryPrice | Hold::MissingRisk | Hold::NoPrice) {
        why.push(format!("{} is missing as well.", rest.join(" and ")));
    }
    why
}

fn because(engine: &Engine, book: BookView<'_>, open: &Position, hold: Hold, now_ms: u64) -> Vec<String> {
    let policy = engine.policy_of(book.account);
    let one = |text: String| vec![text];
    match hold {
        Hold::Killed => one("The kill switch is set: a `kill.changed` entry with kill false releases it.".to_owned()),
        Hold::AwaitingResult => in_flight(open),
        Hold::HistoryGap => one(
            "Entries of its history are missing: a snapshot or look-up that agrees with the quantity clears it, or `gap.accepted`."
                .to_owned(),
        ),
        Hold::Diverged => one(
            "The exchange states another quantity. The hold ends with a look-up that states our quantity, or with a second one \
             that states the same other quantity, which is then adopted."
                .to_owned(),
        ),
        Hold::MissingEntryPrice => one(
            "No entry price: a result with `avgPrice`, the trades of the order (`exchange.trade`), a look-up or snapshot with an \
             entry price, or an operator's `legacy.position` could supply it."
                .to_owned(),
        ),
        Hold::MissingRisk => one(format!(
            "No risk fields: no plan or intent for {} had both `atr_value` and `volatility_factor`; the next entry intent in \
             its direction that has both supplies them, or `legacy.position`.",
            open.direction.name()
        )),
        Hold::RiskTooSmall => one(format!(
            "The risk taken at entry is below {} of the entry price: the ATR is likely in another unit (policy `atr_unit`).",
            policy.risk_floor
        )),
        Hold::RiskTooLarge => {
            one("The risk per unit is at least the entry price, and the policy refuses that (`risk_too_large`).".to_owned())
        }
        Hold::NoPrice => one(no_price(engine, book)),
        Hold::PriceJump => jumped(book, open, policy),
        Hold::StalePrice => stale(engine, book, now_ms),
        Hold::WeakEntry => one(source(open.totals.entry.map_or("nothing", |e| e.source.name()), "live_entry_sources")),
        Hold::WeakRisk if !open.rescales.is_empty() => one(
            "The exchange rescaled its contract: compare quantity and entry price with the exchange, then `risk.accepted`."
                .to_owned(),
        ),
        Hold::WeakRisk => one(source(open.risk.as_ref().map_or("nothing", |r| r.source.name()), "live_risk_sources")),
        Hold::StalePosition => one(format!(
            "No fill, snapshot or look-up has confirmed the quantity for {}; the policy allows {}. The next one that agrees ends \
             the hold.",
            time::span(now_ms.saturating_sub(open.confirmed_ms)),
            time::span(policy.max_position_age_ms)
        )),
        Hold::NotLive => one("The symbol is not one of the policy's `live_symbols`.".to_owned()),
        Hold::NoInstrument => one("The step size is not known: an `instrument` look-up could supply it.".to_owned()),
        Hold::NotTrading => one("The exchange takes no orders for it: its status is not TRADING.".to_owned()),
        Hold::BelowMinR => below(engine, book, open, now_ms),
        Hold::NoRung => no_rung(engine, book, open, now_ms),
        Hold::RetryWait => retry(open),
        Hold::BelowMinimum => one(format!(
            "What the rung would close is below the smallest order: {} [quote], or the instrument's least quantity; its rungs stay armed.",
            policy.min_notional
        )),
        Hold::RateLimited => one(format!(
            "{} decisions a minute are allowed, of all symbols of the account together; the next evaluation after that may decide.",
            policy.max_actions_per_min
        )),
        Hold::OutOfRange => one("The numbers do not fit exact arithmetic.".to_owned()),
    }
}

fn no_price(engine: &Engine, book: BookView<'_>) -> String {
    // After a rescale the price is not used.
    let why = match book.symbol.rescales.is_empty() {
        true => "No price was ever seen",
        false => "No price is in use since the exchange rescaled its contract",
    };
    format!("{why}; the price stream or a look-up could supply it{}.", accepted(engine))
}

fn jumped(book: BookView<'_>, open: &Position, policy: &Policy) -> Vec<String> {
    if open.price_doubted.is_some() {
        return vec![
            "The price moved so far that the contract could have been rescaled: a look-up or snapshot that agrees with the \
             quantity, or is adopted, clears it."
                .to_owned(),
        ];
    }
    let held = book.symbol.held_price.map_or_else(String::new, |held| format!(" {}", held.price));
    vec![format!(
        "The last price{held} is more than {} away from the one before, or from the entry price: one near it, {} later or of \
         another source, confirms it.",
        policy.max_price_jump,
        time::span(policy.price_confirm_ms)
    )]
}

fn accepted(engine: &Engine) -> String {
    let sources = &engine.policy().price_sources;
    if sources.is_empty() { String::new() } else { format!("; the policy accepts {}", sources.join(", ")) }
}

fn source(name: &str, key: &str) -> String {
    format!(
        "Its source is `{name}`, which the policy's `{key}` does not accept; `risk.accepted` overrides it for this position."
    )
}

fn in_flight(open: &Position) -> Vec<String> {
    let waiting = open.decisions.iter().filter(|decision| decision.state.is_in_flight());
    waiting
        .map(|decision| {
            let settles = match decision.state {
                RungState::Unknown => {
                    "no answer came in time: a late result, a trade, an adopted quantity or `rung.rearmed` settles it"
                }
                _ => "a result with its plan id settles it",
            };
            format!(
                "Decision {} (plan {}) is {}: {settles}.",
                decision.decision_id,
                decision.plan_id,
                decision.state.name()
            )
        })
        .collect()
}

fn stale(engine: &Engine, book: BookView<'_>, now_ms: u64) -> Vec<String> {
    let Some(mark) = book.symbol.mark else { return Vec::new() };
    vec![format!(
        "The last price is {} old, and {} are allowed; a fresh one from {} could supply it{}.",
        time::span(now_ms.saturating_sub(mark.entry.ms)),
        time::span(engine.policy().max_price_age_ms),
        engine.source_name(mark.source),
        accepted(engine)
    )]
}

/// Explains how far the price is from the lowest rung that can be taken.
fn below(engine: &Engine, book: BookView<'_>, open: &Position, now_ms: u64) -> Vec<String> {
    let policy = engine.policy_of(book.account);
    let r_net = Valuation::of(book, policy).ok().flatten().map(|valuation| valuation.r_net);
    let r_net = r_net.map_or_else(|| "unknown".to_owned(), |r| r.to_string());
    let mut why = vec![format!("r_net is {r_net}, below the {} R of the policy (`min_r`).", policy.min_r)];
    match view::next_rung(open, policy, now_ms) {
        Some(rung) => why.push(reach(engine, book, open, rung)),
        None => why.push("No rung of the ladder is left to be taken.".to_owned()),
    }
    if let Some(remark) = too_large(engine, book, open) {
        why.push(remark);
    }
    why
}

fn reach(engine: &Engine, book: BookView<'_>, open: &Position, rung: RMultiple) -> String {
    let policy = engine.policy_of(book.account);
    let wanted = rung.max(policy.min_r);
    let Some(price) = exit::price_at(open, policy, wanted).ok().flatten() else {
        return format!("The next rung is {rung} R; no positive price reaches it.");
    };
    let away = book.symbol.mark.and_then(|mark| {
        let (mark, price) = (mark.price.get(), price.get());
        let share = price.checked_sub(mark)?.checked_div(mark)?.checked_mul(rust_decimal::Decimal::ONE_HUNDRED)?;
        Some(format!(", {:+.2} % from {mark}", share.round_dp(2)))
    });
    format!("The next rung, {rung} R, is reached at {price}{}.", away.unwrap_or_default())
}

fn too_large(engine: &Engine, book: BookView<'_>, open: &Position) -> Option<String> {
    let risk = exit::risk(open, engine.policy_of(book.account)).ok().flatten().filter(|risk| risk.too_large)?;
    let entry = open.totals.entry?.price;
    let relation = if risk.risk_price > entry { "above" } else { "equal to" };
    Some(format!(
        "The risk per unit, {}, is {relation} the entry price {entry}. The ATR is probably a fraction that is read as a price: set \
         `atr_unit` for its producer, or `risk_too_large = \"as_fraction\"`.",
        risk.risk_price
    ))
}

fn no_rung(engine: &Engine, book: BookView<'_>, open: &Position, now_ms: u64) -> Vec<String> {
    let policy = engine.policy_of(book.account);
    let taken: Vec<String> = view::rungs(open, policy, now_ms)
        .iter()
        .filter(|rung| rung.state != RungState::Armed)
        .map(|rung| format!("{} R {}", rung.r, rung.state.name()))
        .collect();
    let mut why = vec![if taken.is_empty() {
        "No rung is reached.".to_owned()
    } else {
        format!("Every rung that is reached was taken: {}.", taken.join(", "))
    }];
    match view::next_rung(open, policy, now_ms) {
        Some(rung) => why.push(reach(engine, book, open, rung)),
        None => why.push("No rung of the ladder is left.".to_owned()),
    }
    why
}

fn retry(open: &Position) -> Vec<String> {
    let at = open.rungs.iter().filter_map(|rung| rung.retry_at_ms).min();
    let at = at.map_or_else(String::new, |at| format!(" It is armed again at {}.", time::iso(at)));
    vec![format!("The rung was refused and waits (`retry_after_ms`).{at}")]
}
