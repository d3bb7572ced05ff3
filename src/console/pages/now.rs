//! Now: what needs a person, the open positions by hold, the inputs, the last decisions.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use askama::Template;
use rust_decimal::Decimal;

use super::attention::{Need, needs};
use super::decisions::{Differences, Row, faults, rows, verdict};
use super::{Made, meaning_of, percent_of, tone_of};
use crate::codec::plural::plural;
use crate::codec::time;
use crate::console::address::Address;
use crate::console::error::PageError;
use crate::console::format::{Age, When};
use crate::console::frame::{Frame, PageContext};
use crate::console::running::{Present, PresentInput};
use crate::domain::engine::accounts::Account;
use crate::domain::event::ids::{AccountId, EntryId};
use crate::drive::film::{DecisionSource, held_since};
use crate::drive::sheet::Sheet;
use crate::drive::stop::Stop;
use crate::shell::web::Asked;

/// An input needs a person if it is further behind. [ms]
const LAG_BAD_MS: u64 = 60_000;
/// A rate is shown only if the entries span at least this time. [ms]
const RATE_SPAN_MIN_MS: u64 = 10_000;
/// Decisions that the page lists. [1]
const DECISIONS_SHOWN: usize = 6;

struct HoldRow {
    name: String,
    meaning: String,
    tone: &'static str,
    /// [1]
    positions: usize,
    /// Share of the open positions. [percent]
    share: u64,
    longest: Option<Age>,
    href: Address,
}

struct InputRow {
    name: String,
    last: Option<When>,
    age: Option<Age>,
    /// From its first entry to its last one up to the moment. [1/min]
    rate: String,
    /// What a running service reports about it.
    present: Option<InputNow>,
}

/// An input of a running service.
struct InputNow {
    lag: String,
    /// True if it is too far behind.
    is_behind: bool,
    /// True if the input is silent or cannot be read.
    is_silent: bool,
    pending: u64,
}

/// A running service.
struct Service {
    lines: Vec<ServiceLine>,
    accounts: Vec<(String, u64, u64)>,
}

struct ServiceLine {
    name: &'static str,
    text: String,
    /// A hash, or a name for programs.
    code: String,
    tone: &'static str,
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
    /// The word, its subject, and its tone.
    chain: (&'static str, String, &'static str),
    policy: String,
    policy_since: Option<When>,
    min_r: String,
    cost_bps: String,
    holds: Vec<HoldRow>,
    inputs: Vec<InputRow>,
    recent: Vec<Row>,
    quarantine: Vec<(String, u64)>,
    quarantine_href: Address,
    streams_href: Address,
    gaps: usize,
    service: Option<Service>,
    accounts: Vec<AccountRow>,
}

/// An account with a policy of its own, or whose own kill switch is set.
struct AccountRow {
    name: String,
    killed: bool,
    own: Option<OwnPolicy>,
    href: Address,
}

struct OwnPolicy {
    hash: String,
    mode: &'static str,
    min_r: String,
    cost_bps: String,
    /// `None` if it is configured, and no entry adopted it.
    since: Option<When>,
}

impl AccountRow {
    fn all(context: &PageContext<'_>) -> Vec<Self> {
        let accounts = context.engine.accounts();
        let named = accounts.ids().filter(|id| id.is_named()).map(|id| (id, accounts.get(id)));
        let own = named.filter(|(_, account)| account.killed || account.policy.is_some());
        let row = |(id, account): (AccountId, &Account)| Self {
            name: account.name.to_string(),
            killed: account.killed,
            href: context.to("/console/positions").with("account", &account.name),
            own: account.policy.is_some().then(|| {
                let policy = context.engine.policy_of(id);
                let since = context.film.policy_since(context.until(), &account.name);
                OwnPolicy {
                    hash: policy.hash.get(..12).unwrap_or_default().to_owned(),
                    mode: policy.mode.name(),
                    min_r: policy.min_r.to_string(),
                    cost_bps: policy.cost_bps.to_string(),
                    since: since.filter(|_| account.policy_adopted).map(When::of),
                }
            }),
        };
        own.map(row).collect()
    }
}

/// Makes the page.
pub fn now(context: &PageContext<'_>, _: &Asked, stop: &Stop) -> Result<Made, PageError> {
    let sheet = context.sheet(false)?;
    let (engine, film) = (&context.engine, context.film);
    let all = rows(context);
    let differences = Differences::of(context);
    let quarantine = quarantine(context);
    let quarantined = quarantine.iter().map(|(_, n)| n).sum();
    let policy = engine.policy();
    let page = NowPage {
        needs: needs(context, &sheet, quarantined, (faults(context), differences)),
        open: sheet.positions.len(),
        evaluable: sheet.positions.iter().filter(|position| position.missing.is_empty()).count(),
        positions_href: context.to("/console/positions"),
        decisions_href: context.to("/console/decisions"),
        decided: all.len(),
        chain: chain(context, differences),
        policy: policy.hash.get(..12).unwrap_or_default().to_owned(),
        policy_since: film.policy_since(context.until(), "").map(When::of),
        min_r: policy.min_r.to_string(),
        cost_bps: policy.cost_bps.to_string(),
        holds: holds(context, &sheet),
        inputs: inputs(context, stop)?,
        recent: all.into_iter().rev().take(DECISIONS_SHOWN).collect(),
        quarantine,
        quarantine_href: context.to("/console/streams").at_part("quarantine"),
        streams_href: context.to("/console/streams"),
        gaps: engine.globals().gaps.len(),
        service: context.present.map(Service::of),
        accounts: AccountRow::all(context),
        frame: Frame::of(context, "Now", None),
    };
    Ok(page.render()?.into())
}

/// Returns the quarantined entries up to the moment by reason, the most frequent first. A store keeps the entries, and not their counts. [1]
fn quarantine(context: &PageContext<'_>) -> Vec<(String, u64)> {
    let mut counted: BTreeMap<String, u64> = BTreeMap::new();
    if context.film.has_past() {
        let by_reason = context.engine.counters.quarantined.iter();
        counted.extend(by_reason.map(|(reason, n)| (reason.name().to_owned(), *n)));
    } else {
        context.film.quarantined.iter().for_each(|entry| *counted.entry(entry.reason.clone()).or_default() += 1);
    }
    let mut counted: Vec<(String, u64)> = counted.into_iter().collect();
    counted.sort_by_key(|(_, n)| Reverse(*n));
    counted
}

/// Returns the state of the chain: a word, its subject, and its tone.
fn chain(context: &PageContext<'_>, differences: Differences) -> (&'static str, String, &'static str) {
    let (verdict, _) = verdict(context);
    let is_broken = verdict == "broken";
    match context.film.source {
        DecisionSource::Recorded => {
            let (odd, lacking) = (differences.odd(), differences.lacking());
            let of = match (odd, lacking) {
                (0, 0) => "as recorded".to_owned(),
                (0, _) => format!("{lacking} not recorded"),
                (_, 0) => format!("{odd} not as these rules decide"),
                (..) => format!("{odd} not as these rules decide, {lacking} not recorded"),
            };
            (verdict, of, if is_broken || odd > 0 || lacking > 0 { "bad" } else { "" })
        }
        DecisionSource::MadeHere | DecisionSource::Store if is_broken => {
            (verdict, "of the decisions here".to_owned(), "bad")
        }
        DecisionSource::MadeHere => ("not recorded", "the history has no decision entries".to_owned(), ""),
        DecisionSource::Store => ("kept", "sent or not: the decision stream has it".to_owned(), ""),
    }
}

/// Returns the holds of the open positions, the most frequent one first.
fn holds(context: &PageContext<'_>, sheet: &Sheet) -> Vec<HoldRow> {
    let since = held_since(&context.engine, context.now_ms());
    let mut by_hold: BTreeMap<&str, (usize, Option<EntryId>)> = BTreeMap::new();
    for position in &sheet.positions {
        let (positions, first) = by_hold.entry(position.hold.as_deref().unwrap_or("nothing")).or_default();
        *positions += 1;
        *first = since.get(&position.position_id).copied().into_iter().chain(*first).min();
    }
    let open = sheet.positions.len();
    let row = |(name, (positions, first)): (&str, (usize, Option<EntryId>))| HoldRow {
        tone: tone_of(Some(name).filter(|name| *name != "nothing")),
        positions,
        share: percent_of(positions as u64, open as u64),
        longest: first.map(|first| Age::of(first, context.now_ms())),
        href: context.to("/console/positions").with("hold", name),
        meaning: meaning_of(name),
        name: name.to_owned(),
    };
    let mut holds: Vec<HoldRow> = by_hold.into_iter().map(row).collect();
    holds.sort_by(|a, b| b.positions.cmp(&a.positions).then(a.name.cmp(&b.name)));
    holds
}

fn inputs(context: &PageContext<'_>, stop: &Stop) -> Result<Vec<InputRow>, PageError> {
    let counts = context.counts(stop)?;
    let streams = context.engine.streams().iter().zip(&context.film.streams).zip(counts.iter());
    let rows = streams.map(|(((id, stream), count), entries)| {
        let last = context.engine.cursor(id);
        let present = context.present.map(|present| present.inputs.iter().find(|input| input.stream == stream.name));
        let rate = count.first.zip(last).map(|(first, last)| per_minute(*entries, first.ms, last.ms));
        InputRow {
            name: stream.short_name().to_owned(),
            last: last.map(When::of),
            age: match present {
                Some(of) => of.and_then(|input| input.age_ms).map(|age_ms| Age {
                    since_ms: last.map_or_else(|| context.now_ms().saturating_sub(age_ms), |last| last.ms),
                    text: time::span(age_ms),
                }),
                None => last.map(|last| Age::of(last, context.now_ms())),
            },
            present: present.flatten().map(InputNow::of),
            rate: rate.unwrap_or_default(),
        }
    });
    Ok(rows.collect())
}

/// Returns the rate of entries between the first and the last one, with three digits; nothing if the time is too short.
/// [1/min]
fn per_minute(entries: u64, first_ms: u64, last_ms: u64) -> String {
    let span_ms = last_ms.saturating_sub(first_ms);
    if entries == 0 || span_ms < RATE_SPAN_MIN_MS {
        return String::new();
    }
    let rate = Decimal::from(entries) * Decimal::from(60_000) / Decimal::from(span_ms);
    let places = if rate < Decimal::TEN { 2 } else { u32::from(rate < Decimal::ONE_HUNDRED) };
    rate.round_dp(places).normalize().to_string()
}

impl InputRow {
    fn is_silent(&self) -> bool {
        self.present.as_ref().is_some_and(|of| of.is_silent)
    }
}

impl InputNow {
    fn of(input: &PresentInput) -> Self {
        let lag = match (input.lag, input.lag_ms) {
            (Some(0), _) | (None, Some(0)) => "none".to_owned(),
            (Some(entries), Some(ms)) => format!("{entries}, {}", time::span(ms)),
            (Some(entries), None) => entries.to_string(),
            (None, Some(ms)) => time::span(ms),
            (None, None) => "unknown".to_owned(),
        };
        let is_behind = input.lag_ms.is_some_and(|ms| ms > LAG_BAD_MS);
        Self { lag, is_behind, is_silent: input.is_silent || input.has_fault, pending: input.pending }
    }
}

impl Service {
    fn of(present: &Present) -> Self {
        let line = |name, text: String| ServiceLine { name, text, code: String::new(), tone: "" };
        let lease = match (&present.holder, present.lease_left_ms) {
            (None, _) => ServiceLine { tone: "bad", ..line("lease", "no instance has it: nothing is sent".to_owned()) },
            (Some(holder), left) => {
                let whose = if *holder == present.consumer { "held by this instance" } else { "held by" };
                let left = left.map_or_else(String::new, |ms| format!(", {} left", time::span(ms)));
                let code = if *holder == present.consumer { String::new() } else { holder.clone() };
                ServiceLine { code, ..line("lease", format!("{whose}, fencing token {}{left}", present.fencing_token)) }
            }
        };
        let policy = match (present.is_policy_pending, present.policy == present.policy_configured) {
            (true, _) => {
                ServiceLine { tone: "warn", ..line("policy", "the configured one is not folded yet".to_owned()) }
            }
            (false, true) => line("policy", "in force as configured".to_owned()),
            (false, false) => {
                ServiceLine { tone: "bad", ..line("policy", "not the configured one: no order is sent".to_owned()) }
            }
        };
        let mode = if present.mode == present.mode_configured || present.mode_configured.is_empty() {
            line("mode", present.mode.clone())
        } else {
            let text = format!("{}, configured {}: no order is sent", present.mode, present.mode_configured);
            ServiceLine { tone: "bad", ..line("mode", text) }
        };
        let outbox = match (present.outbox, present.outbox_oldest_ms) {
            (0, _) => line("outbox", "empty".to_owned()),
            (waiting, oldest) => {
                let oldest = oldest.map_or_else(String::new, |ms| format!(", the oldest for {}", time::span(ms)));
                ServiceLine { tone: "warn", ..line("outbox", format!("{}{oldest}", plural(waiting, "decision"))) }
            }
        };
        let redis = if present.is_connected {
            line("Redis", "connected".to_owned())
        } else {
            ServiceLine { tone: "bad", ..line("Redis", "not connected".to_owned()) }
        };
        let cell = present.cell.clone().map(|cell| line("cell", cell));
        let lines = [
            line("role", format!("{}, for {}", present.role, time::span(present.uptime_ms))),
            lease,
            mode,
            ServiceLine { code: present.policy.clone(), ..policy },
            outbox,
            redis,
            line("folds", format!("{:.0} entries a second", present.applied_rate)),
            ServiceLine {
                code: present.consumer.clone(),
                ..line("consumer", format!("in the group {}", present.group))
            },
            line("build", present.build.clone()),
        ];
        Self { lines: lines.into_iter().chain(cell).collect(), accounts: present.accounts.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_time_of_its_entries() {
        let rate = |entries, span_ms| per_minute(entries, 1_000, 1_000 + span_ms);
        assert_eq!(rate(1012, 228_600), "266");
        assert_eq!(rate(133, 299_500), "26.6");
        assert_eq!(rate(46, 3_510_000), "0.79");
        assert_eq!(rate(44, 0), "", "in one millisecond there is no rate");
        assert_eq!(per_minute(0, 2_000, 1_000), "", "the first one comes later");
        assert_eq!(rate(u64::MAX, u64::MAX - 1_000), "60000");
    }

    #[test]
    fn an_input_is_marked_where_it_is_wrong() {
        let marks = |input: PresentInput| {
            let shown = InputNow::of(&input);
            (shown.lag, shown.is_behind, shown.is_silent)
        };
        let read = PresentInput { lag: Some(0), lag_ms: Some(0), age_ms: Some(90_000), ..PresentInput::default() };
        assert_eq!(marks(read.clone()), ("none".to_owned(), false, false));
        assert_eq!(marks(PresentInput { is_silent: true, ..read.clone() }), ("none".to_owned(), false, true));
        assert_eq!(marks(PresentInput { has_fault: true, ..read.clone() }), ("none".to_owned(), false, true));
        let behind = PresentInput { lag: Some(7), lag_ms: Some(LAG_BAD_MS + 1), ..read };
        assert!(matches!(marks(behind), (_, true, false)));
    }
}
