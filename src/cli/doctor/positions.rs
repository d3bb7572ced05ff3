//! Positions: missing fields, implausible risk, both readings of the ATR, and whether a rung can be reached.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::check::Check;
use super::prices::named;
use crate::codec::plural::plural;
use crate::codec::time::span;
use crate::codec::view;
use crate::domain::book::position::Position;
use crate::domain::book::view::BookView;
use crate::domain::engine::Engine;
use crate::domain::exit::{self, Flag};

const AREA: &str = "positions";
/// A first rung further away than this, in hundredths of the entry price, is out of reach in practice. [1]
const OUT_OF_REACH: Decimal = Decimal::from_parts(5, 0, 0, false, 1);

pub fn checks(engine: &Engine, now_ms: u64) -> Vec<Check> {
    if !engine.globals().positions_known {
        let found = "no position was ever seen from anywhere: this is not the same as flat";
        let next = "give the service a source: a snapshot stream, or credentials of the exchange";
        return vec![Check::problem(AREA, "known", found, next)];
    }
    let open: Vec<(BookView<'_>, &Position)> = view::by_name(engine)
        .into_iter()
        .filter_map(|book| book.book.hot.open.as_ref().map(|open| (book, open)))
        .collect();
    let mut checks = vec![Check::ok(AREA, "open", plural(open.len(), "position"))];
    checks.extend(missing(&open));
    checks.extend(flagged(engine, &open));
    checks.extend(open.iter().filter_map(|(book, open)| readings(engine, *book, open)));
    checks.extend(unconfirmed(engine, &open, now_ms));
    checks
}

fn missing(open: &[(BookView<'_>, &Position)]) -> Vec<Check> {
    let mut lacking: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (book, open) in open {
        for field in view::missing(*book, open) {
            lacking.entry(field).or_default().push(&book.book.name);
        }
    }
    let check = |(field, symbols): (&&str, &Vec<&str>)| {
        let found = format!("lacking in {} of {}: {}", symbols.len(), plural(open.len(), "position"), named(symbols));
        let next = match *field {
            "entry_price" => {
                "fetch it: harvester backfill (needs credentials); executors should publish avgPrice (tools/producer)"
            }
            "mark_price" => "see prices",
            _ => "no signal in this direction had ATR and volatility: replay older history, or harvester import-hashes",
        };
        Check::problem(AREA, *field, found, next)
    };
    lacking.iter().map(check).collect()
}

fn flagged(engine: &Engine, open: &[(BookView<'_>, &Position)]) -> Vec<Check> {
    let mut flagged: BTreeMap<Flag, Vec<&str>> = BTreeMap::new();
    for (book, open) in open {
        for flag in exit::flags(*book, open, engine.policy_of(book.account)) {
            flagged.entry(flag).or_default().push(&book.book.name);
        }
    }
    let check = |(flag, symbols): (&Flag, &Vec<&str>)| {
        let next = match flag {
            Flag::RiskTooLarge => {
                "one R is more than the position is worth: its ATR is probably a fraction of the price (policy atr_unit, risk_too_large)"
            }
            Flag::RiskTooSmall => {
                "one R is next to nothing: its ATR is probably not in the unit of the policy (atr_unit)"
            }
            Flag::HistoryGap => {
                "held until the exchange confirms the quantity: credentials, a snapshot, or gap.accepted"
            }
            Flag::Diverged => "the exchange holds another quantity: harvester reconcile",
            Flag::EntryPriceDisagrees => "the exchange's entry price is another one: harvester reconcile",
            Flag::ResultUnknown => {
                "a request was never answered: see the executor, then rung.rearmed or the exchange's position"
            }
            Flag::RungFailed => "a rung was refused for good: see the executor's allowlist and permits",
            Flag::Rescaled => {
                "the exchange rescaled the contract: compare quantity and entry price with it, then harvester control accept-risk"
            }
            Flag::RiskAsFraction | Flag::RiskAccepted | Flag::Capped => "",
        };
        let found = format!("{}: {}", plural(symbols.len(), "position"), named(symbols));
        match flag {
            Flag::RiskAsFraction | Flag::RiskAccepted | Flag::Capped => Check::ok(AREA, flag.name(), found),
            Flag::RiskTooLarge | Flag::EntryPriceDisagrees | Flag::RungFailed | Flag::Rescaled => {
                Check::warning(AREA, flag.name(), found, next)
            }
            Flag::RiskTooSmall | Flag::HistoryGap | Flag::Diverged | Flag::ResultUnknown => {
                Check::problem(AREA, flag.name(), found, next)
            }
        }
    };
    flagged.iter().map(check).collect()
}

/// Shows both readings of an ATR beside price and notional. Warns if no rung is within reach under the present reading.
fn readings(engine: &Engine, book: BookView<'_>, open: &Position) -> Option<Check> {
    let policy = engine.policy_of(book.account);
    let entry = open.totals.entry?.price;
    let fields = open.risk.as_ref()?;
    let risk = exit::risk(open, policy).ok()??;
    let first = policy.ladder.first()?.r.max(policy.min_r);
    let at = exit::price_at(open, policy, first).ok()?;
    let (absolute, atr) = (fields.absolute().get(), exit::atr_value(open, policy)?);
    let notional = entry.for_qty(open.totals.qty.abs()).ok()?;
    let of_entry = |price: Decimal| {
        price.checked_div(entry.get()).map(|share| (share * Decimal::ONE_HUNDRED).round_dp(2).normalize())
    };
    let away = at.and_then(|at| (at.get() - entry.get()).abs().checked_div(entry.get()));
    let reach = match (at, away) {
        (Some(at), Some(away)) => format!("{first} R at {at} ({:.1} % away)", away * Decimal::ONE_HUNDRED),
        _ => format!("{first} R at no price at all"),
    };
    let reading = if risk.risk_price.get() == absolute { "absolute" } else { "a fraction" };
    let found = format!(
        "entry {entry}, notional {:.2}; ATR {} × {}: absolute {} a unit ({} % of the price), as a fraction {} a unit; read as {reading}: {reach}",
        notional.get(),
        atr,
        fields.volatility_factor,
        absolute.normalize(),
        of_entry(absolute).map_or_else(|| "-".to_owned(), |share| share.to_string()),
        fields
            .factor
            .get()
            .checked_mul(entry.get())
            .map_or_else(|| "-".to_owned(), |price| price.round_dp(8).normalize().to_string()),
    );
    if away.is_none_or(|away| away > OUT_OF_REACH) {
        let next = "no rung is within reach: set atr_unit = \"fraction\" for its producer, or risk_too_large = \"as_fraction\"";
        return Some(Check::warning(AREA, &*book.name, found, next));
    }
    Some(Check::ok(AREA, &*book.name, found))
}

/// Lists positions whose quantity was not confirmed for a long time.
fn unconfirmed(engine: &Engine, open: &[(BookView<'_>, &Position)], now_ms: u64) -> Option<Check> {
    let limit_ms = engine.policy().max_position_age_ms;
    let old: Vec<&str> = open
        .iter()
        .filter(|(_, open)| now_ms.saturating_sub(open.confirmed_ms) > limit_ms)
        .map(|(book, _)| &*book.book.name)
        .collect();
    let oldest = open.iter().map(|(_, open)| now_ms.saturating_sub(open.confirmed_ms)).max()?;
    (!old.is_empty()).then(|| {
        let found =
            format!("{} not confirmed for up to {}: {}", plural(old.len(), "position"), span(oldest), named(&old));
        let next = "live holds them: let the service poll the exchange (credentials), or start the snapshot stream";
        Check::warning(AREA, "confirmed", found, next)
    })
}
