//! The operator log: lines that operators already search for (docs/spec/commands.md, "Log lines"). Their names and keys
//! are stable.
//!
//! A tick names every open position in exactly one line, so that the lines of each kind add up to the tick's own
//! numbers. A skip is never logged below INFO (incident 1).

use rust_decimal::{Decimal, RoundingStrategy};
use tracing::Level;

use crate::codec::{request, view};
use crate::domain::book::view::BookView;
use crate::domain::engine::{Decision, Engine};
use crate::domain::exit::{Hold, HoldClass, Valuation};

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub level: Level,
    pub text: String,
}

impl Line {
    fn info(text: String) -> Self {
        Self { level: Level::INFO, text }
    }

    /// Writes the line to the log.
    pub fn log(&self) {
        match self.level {
            Level::ERROR => tracing::error!("{}", self.text),
            Level::WARN => tracing::warn!("{}", self.text),
            _ => tracing::info!("{}", self.text),
        }
    }
}

/// The content of the line that is logged once, at the start.
#[derive(Clone, Copy, Debug)]
pub struct Start<'a> {
    pub build: &'a str,
    pub rules: &'a str,
    pub settings: &'a str,
    /// The configured mode.
    pub mode: &'a str,
    /// Hash of the configured policy.
    pub policy: &'a str,
    /// Mode and hash of the policy in force, until the configured one is adopted.
    pub in_force: (&'a str, &'a str),
    pub group: &'a str,
    pub consumer: &'a str,
}

/// `HARVEST_START`.
pub fn start(start: Start<'_>) -> Line {
    let Start { build, rules, settings, mode, policy, in_force, group, consumer } = start;
    let (mode_in_force, policy_in_force) = in_force;
    Line::info(format!(
        "HARVEST_START build={build} rules={rules} settings={settings} mode={mode} policy={policy} \
         in_force={mode_in_force}/{policy_in_force} group={group} consumer={consumer}"
    ))
}

/// `HARVEST_EMIT`, for a decision that reached the output stream. `engine` is the one that made it.
pub fn emit(engine: &Engine, decision: &Decision) -> Line {
    let (action, percent) = match request::closing(engine, decision) {
        Ok(closing) => (closing.action, plain(closing.percent.round_dp(2))),
        Err(_) => ("-", "-".to_owned()),
    };
    let symbol = &engine.book(decision.book).name;
    let r_net = three_places(&decision.valuation);
    Line::info(format!(
        "HARVEST_EMIT action={action} symbol={symbol} close_pct={percent} reduceOnly=true R_net={r_net}"
    ))
}

/// `HARVEST_TICK`, and before it one line for every open position.
///
/// `now_ms` is the server's time; `emitted` and `api_calls` count since the last tick.
pub fn tick(engine: &Engine, now_ms: u64, emitted: u64, api_calls: u64) -> Vec<Line> {
    let mut lines = Vec::new();
    let (mut evaluated, mut risk, mut price, mut entry, mut other) = (0_u64, 0_u64, 0_u64, 0_u64, 0_u64);
    for book in view::by_name(engine).into_iter().filter(|book| book.hot.open.is_some()) {
        let hold = engine.hold_at(book, now_ms);
        let (count, line) = match hold.map_or(HoldClass::Evaluated, Hold::class) {
            HoldClass::Evaluated => (&mut evaluated, evaluation(engine, book)),
            HoldClass::Risk => (&mut risk, skipped("SKIP_RISK_MISSING", book, hold)),
            HoldClass::Price => (&mut price, skipped("SKIP_NO_MARK_PRICE", book, hold)),
            HoldClass::Entry => (&mut entry, skipped("SKIP_NO_ENTRY_PRICE", book, hold)),
            HoldClass::Other => (&mut other, skipped("SKIP_HELD", book, hold)),
        };
        *count += 1;
        lines.push(line);
    }
    let scanned = evaluated + risk + price + entry + other;
    let unknown = !engine.globals().positions_known;
    let mut text = format!(
        "HARVEST_TICK scanned={scanned} evaluated={evaluated} emitted={emitted} skipped_risk={risk} skipped_price={price} \
         skipped_entry={entry} skipped_other={other} api_calls={api_calls}"
    );
    if unknown {
        text.push_str(" positions_unknown=true");
    }
    if engine.globals().killed {
        text.push_str(" killed=true");
    }
    lines.push(Line { level: if unknown { Level::WARN } else { Level::INFO }, text });
    lines
}

fn skipped(name: &str, book: BookView<'_>, hold: Option<Hold>) -> Line {
    let side = book.book.hot.open.as_ref().map_or("-", |open| open.direction.name());
    let hold = hold.map_or("-", Hold::name);
    Line::info(format!("{name} symbol={} side={side} hold={hold}", book.name))
}

fn evaluation(engine: &Engine, book: BookView<'_>) -> Line {
    let valuation = Valuation::of(book, engine.policy_of(book.account)).ok().flatten();
    let (Some(open), Some(valuation)) = (&book.book.hot.open, valuation) else {
        // Not reached: an evaluated position has all of these numbers.
        return skipped("SKIP_HELD", book, None);
    };
    Line::info(format!(
        "HARVEST_EVAL symbol={} side={} mark={} entry={} pnl={} risk={} R_net={} mark_source={}",
        book.name,
        open.direction.name(),
        valuation.mark.price,
        valuation.entry_price.price,
        plain(valuation.pnl.get().round_dp(4)),
        plain(valuation.entry_risk.get().round_dp(4)),
        three_places(&valuation),
        engine.source_name(valuation.mark.source),
    ))
}

/// Returns `r_net` with 3 decimals, half to even, rounded once: if the sixth decimal left a tie, the exact numbers
/// decide.
fn three_places(valuation: &Valuation) -> String {
    let six = valuation.r_net.get();
    let half = Decimal::new(5, 4);
    let mut rounded = six.round_dp_with_strategy(3, RoundingStrategy::MidpointNearestEven);
    if (six - six.trunc_with_scale(3)).abs() == half
        && let (Ok(gain), Ok(of_six)) = (valuation.pnl.minus(valuation.cost), valuation.r_net.of(valuation.entry_risk))
    {
        rounded = match gain.cmp(&of_six) {
            std::cmp::Ordering::Equal => rounded,
            std::cmp::Ordering::Less => six - half,
            std::cmp::Ordering::Greater => six + half,
        };
    }
    rounded.rescale(3);
    rounded.set_sign_positive(rounded.is_sign_positive() || rounded.is_zero());
    rounded.to_string()
}

/// Formats a number without trailing zeros and without −0.
fn plain(value: Decimal) -> String {
    let value = value.normalize();
    if value.is_zero() { "0".to_owned() } else { value.to_string() }
}
