//! What if: two policies over one history. The user edits them in the page. They are checked as policies and not
//! stored.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use serde_json::{Map, Value};

use super::Made;
use crate::codec::policy;
use crate::console::address::Address;
use crate::console::chart::{self, Series, Size};
use crate::console::error::PageError;
use crate::console::format::{self, Number, When};
use crate::console::frame::{Frame, PageContext};
use crate::domain::event::ids::EntryId;
use crate::domain::exit::policy::Policy;
use crate::drive::stop::Stop;
use crate::drive::whatif::{self, Compared, Document, PolicyResult};
use crate::shell::web::Asked;

/// An example for the second policy.
pub const EXAMPLE: &str = "risk_too_large = \"as_fraction\"";

/// A policy as the user typed it: the differences from the configured one.
struct Typed {
    label: &'static str,
    name: &'static str,
    text: String,
    refusal: Option<String>,
}

/// One policy in the table of totals.
struct Total {
    name: String,
    hash: String,
    mode: &'static str,
    decisions: u64,
    filled: u64,
    pnl: Number,
    r: Number,
    only_here: usize,
    only_in_first: usize,
}

/// A symbol with the sums of each policy; `None` if it made no decision.
struct SymbolRow {
    name: String,
    sums: Vec<Option<(u64, Number, Number)>>,
}

/// A decision that only one of the policies makes.
struct OnlyRow {
    of: String,
    when: Option<When>,
    symbol: String,
    /// The name of its book, if the symbol does not say all.
    book: String,
    side: String,
    qty: Number,
    r: Number,
    pnl: Option<Number>,
    href: Address,
}

/// The comparison as pages and files show it.
struct Outcome {
    entries: u64,
    fill_model: &'static str,
    totals: Vec<Total>,
    symbols: Vec<SymbolRow>,
    only: Vec<OnlyRow>,
    charts: Vec<String>,
}

#[derive(Template)]
#[template(path = "whatif.html")]
struct WhatifPage {
    frame: Frame,
    typed: Vec<Typed>,
    effective: String,
    outcome: Option<Outcome>,
    can_run: bool,
    /// The moment of the other pages, which the links of this one keep.
    at: String,
}

#[derive(Template)]
#[template(path = "whatif_file.html")]
struct WhatifFile {
    outcome: Outcome,
    style: &'static str,
    source: String,
}

/// Makes the page. Without policies in the address it shows the form alone.
pub fn whatif(context: &PageContext<'_>, asked: &Asked, stop: &Stop) -> Result<Made, PageError> {
    let film = context.film;
    let is_asked = ["a", "b", "compare"].into_iter().any(|name| asked.value(name).is_some());
    let text = |name: &str| asked.value(name).unwrap_or_default();
    let mut typed = vec![
        Typed { label: "A", name: "a", text: text("a"), refusal: None },
        Typed { label: "B", name: "b", text: text("b"), refusal: None },
    ];
    let mut policies = Vec::new();
    for policy in &mut typed {
        match changed(&film.config.policy, &policy.text) {
            Ok(read) => policies.push((policy.label.to_owned(), read)),
            Err(error) => policy.refusal = Some(error),
        }
    }
    let outcome = if is_asked && policies.len() == typed.len() && film.has_past() {
        let compared = whatif::fold_all(&film.origin.sources(), policies, false, &film.config, stop)?;
        let range_ms = (film.first.ms, film.last.ms);
        Some(Outcome::of(&compared, range_ms, |id| context.entry(id))?)
    } else {
        None
    };
    if !is_asked {
        typed[1].text = EXAMPLE.to_owned();
    }
    let page = WhatifPage {
        typed,
        effective: laid_out(&film.config.policy),
        outcome,
        can_run: film.has_past(),
        at: context.parameter("at").to_owned(),
        frame: Frame { time: None, ..Frame::of(context, "What if", None) },
    };
    Ok(page.render()?.into())
}

/// Makes one self-contained file of a comparison.
pub fn whatif_file(compared: &Compared, range_ms: (u64, u64), source: &str) -> Result<String, PageError> {
    let outcome = Outcome::of(compared, range_ms, |_| Address::default())?;
    Ok(WhatifFile { outcome, style: super::audit::STYLE, source: source.to_owned() }.render()?)
}

/// Draws the curves of a comparison.
pub fn equity_of(compared: &Compared, range_ms: (u64, u64)) -> Result<String, PageError> {
    let document = Document::of(compared)?;
    Ok(chart::equity(&series(&document), range_ms, Size::Wide))
}

/// Returns the configured policy with changes that were typed as TOML, or the reason why they are refused.
fn changed(configured: &Policy, text: &str) -> Result<Policy, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
    // A whole [policy] table is accepted, too.
    let table = match table.get("policy") {
        Some(toml::Value::Table(inner)) if table.len() == 1 => inner.clone(),
        _ => table,
    };
    let mut object: Map<String, Value> = serde_json::from_str(&policy::to_json(configured)).unwrap_or_default();
    object.extend(policy::object_of_toml(&table));
    policy::from_object(object).map_err(|error| error.to_string())
}

fn laid_out(policy: &Policy) -> String {
    let value: Value = serde_json::from_str(&policy::to_json(policy)).unwrap_or_default();
    let lines = value.as_object().into_iter().flatten().map(|(key, value)| format!("{key} = {value}"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the profit of each policy after each fill.
fn series(document: &Document<'_>) -> Vec<Series> {
    let of = |result: &PolicyResult<'_>| {
        let mut sum = rust_decimal::Decimal::ZERO;
        let mut fills: Vec<_> = result.decisions.iter().filter_map(|decision| decision.fill).collect();
        fills.sort_by_key(|fill| fill.entry);
        let points = fills.into_iter().filter_map(|fill| {
            sum = sum.checked_add(format::decimal(&fill.pnl?.to_string())?)?;
            Some((fill.entry.ms, format::float(&sum.to_string())?))
        });
        Series { name: result.name.to_owned(), points: points.collect(), total: result.total.pnl.to_string() }
    };
    document.policies.iter().map(of).collect()
}

impl Outcome {
    fn of(compared: &Compared, range_ms: (u64, u64), entry: impl Fn(&str) -> Address) -> Result<Self, PageError> {
        let document = Document::of(compared)?;
        let totals = document.policies.iter().map(|result| Total {
            name: result.name.to_owned(),
            hash: result.policy.get(..12).unwrap_or_default().to_owned(),
            mode: result.mode,
            decisions: result.total.decisions,
            filled: result.total.filled,
            pnl: Number::of_money(&result.total.pnl.to_string()),
            r: Number::of_r(&result.total.r.to_string()),
            only_here: result.only_here.len(),
            only_in_first: result.only_in_the_first.len(),
        });
        let names: BTreeSet<&String> = document.policies.iter().flat_map(|result| result.symbols.keys()).collect();
        let sums = |result: &PolicyResult<'_>, name: &String| {
            let sums = result.symbols.get(name)?.sums;
            Some((sums.decisions, Number::of_money(&sums.pnl.to_string()), Number::of_r(&sums.r.to_string())))
        };
        let symbols = names.into_iter().map(|name| SymbolRow {
            name: name.clone(),
            sums: document.policies.iter().map(|result| sums(result, name)).collect(),
        });
        let mut makers: BTreeMap<&str, usize> = BTreeMap::new();
        for decision in document.policies.iter().flat_map(|result| &result.decisions) {
            *makers.entry(decision.payload.decision_id()).or_default() += 1;
        }
        let mut only = Vec::new();
        for result in &document.policies {
            for decision in &result.decisions {
                let text = |field: &str| decision.payload.text(field);
                if makers.get(text("decision_id")) == Some(&document.policies.len()) {
                    continue;
                }
                let cause = text("cause").rsplit_once('/').map_or("", |(_, id)| id);
                only.push(OnlyRow {
                    of: result.name.to_owned(),
                    when: When::of_text(cause),
                    symbol: text("symbol").to_owned(),
                    book: super::book_beside(text("position_id"), text("symbol")),
                    side: text("side").to_owned(),
                    qty: Number::of(text("qty")),
                    r: Number::of_r(text("r_net")),
                    pnl: decision.fill.and_then(|fill| Some(Number::of_money(&fill.pnl?.to_string()))),
                    href: entry(cause),
                });
            }
        }
        let cause = |row: &OnlyRow| row.when.as_ref().and_then(|when| when.entry.parse::<EntryId>().ok());
        only.sort_by_key(cause);
        let lines = series(&document);
        Ok(Self {
            entries: document.entries,
            fill_model: document.fill_model,
            totals: totals.collect(),
            symbols: symbols.collect(),
            only,
            charts: [Size::Wide, Size::Narrow].map(|size| chart::equity(&lines, range_ms, size)).into(),
        })
    }
}
