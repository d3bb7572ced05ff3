//! The log lines that operators search for, and the report of the same engine.

use std::collections::BTreeSet;

use harvester::cli::replay::Request;
use harvester::codec::policy::from_json;
use harvester::config::Config;
use harvester::service::operator_log::{self, Line};
use harvester::service::report::{Past, Report, concerns};
use serde_json::json;
use tracing::Level;

use crate::support::histories::{CONTROL, INTENT, OBSERVATION, RESULT, SNAPSHOT, TICK};
use crate::support::lab::Lab;
use crate::support::{config, replayed, root};

const START_MS: u64 = 1_770_163_200_000;

fn at(second: u64) -> String {
    format!("{}-0", START_MS + 1000 * second)
}

fn with_policy(policy: &str) -> Config {
    Config { policy: from_json(policy).expect("the policy is valid"), ..config(None) }
}

/// One input of a history.
#[derive(Clone, Copy)]
enum In {
    /// `exchange.position`: quantity and entry price; 0 means that it is absent.
    Holds(&'static str, &'static str),
    /// An intent to buy with ATR; the volatility factor is 1.
    Intent(&'static str),
    Price(&'static str),
    Kill,
    Gap,
}

fn engine_of(story: &[In]) -> Lab {
    let mut lab = Lab::new(&with_policy(r#"{"cost_bps":"0","max_price_jump":"1"}"#));
    for (second, step) in story.iter().enumerate() {
        let id = at(second as u64);
        let event = |lab: &mut Lab, stream: &str, event: &str, payload: &serde_json::Value| {
            lab.entry(stream, &id, &[("event_type", event), ("payload", &payload.to_string())]);
        };
        match step {
            In::Holds(qty, entry) => {
                let payload = json!({"symbol": "SOLUSDT", "positionAmt": qty, "entryPrice": entry});
                event(&mut lab, OBSERVATION, "exchange.position", &payload);
            }
            In::Intent(atr) => {
                let fields = [("symbol", "SOLUSDT"), ("side", "BUY"), ("atr_value", *atr), ("volatility_factor", "1")];
                lab.entry(INTENT, &id, &fields);
            }
            In::Price(price) => {
                lab.entry(TICK, &id, &[("symbol", "SOLUSDT"), ("price", price)]);
            }
            In::Kill => event(&mut lab, CONTROL, "kill.changed", &json!({"kill": true, "reason": "test"})),
            In::Gap => event(&mut lab, CONTROL, "history.gap", &json!({"stream": "quantum:stream:apply.result"})),
        }
    }
    lab
}

#[test]
fn a_start_names_the_configured_policy_and_the_one_in_force() {
    let line = operator_log::start(operator_log::Start {
        build: "1.2.3",
        rules: "2",
        settings: "s1",
        mode: "live",
        policy: "p2",
        in_force: ("shadow", "p1"),
        group: "g",
        consumer: "c",
    });
    let wanted =
        "HARVEST_START build=1.2.3 rules=2 settings=s1 mode=live policy=p2 in_force=shadow/p1 group=g consumer=c";
    assert_eq!((line.level, line.text.as_str()), (Level::INFO, wanted));
}

fn texts(lines: &[Line]) -> Vec<&str> {
    lines.iter().map(|line| line.text.as_str()).collect()
}

/// The inputs, the time since the last of them [s], and all lines of the tick.
type Case = (&'static [In], u64, &'static [&'static str]);

const CASES: [Case; 10] = [
    (
        &[],
        0,
        &[
            "HARVEST_TICK scanned=0 evaluated=0 emitted=3 skipped_risk=0 skipped_price=0 skipped_entry=0 skipped_other=0 api_calls=7 positions_unknown=true",
        ],
    ),
    (
        &[In::Holds("0", "0")],
        0,
        &[
            "HARVEST_TICK scanned=0 evaluated=0 emitted=3 skipped_risk=0 skipped_price=0 skipped_entry=0 skipped_other=0 api_calls=7",
        ],
    ),
    (
        &[In::Intent("2"), In::Holds("10", "0"), In::Price("101")],
        0,
        &[
            "SKIP_NO_ENTRY_PRICE symbol=SOLUSDT side=LONG hold=missing_entry_price",
            "HARVEST_TICK scanned=1 evaluated=0 emitted=3 skipped_risk=0 skipped_price=0 skipped_entry=1 skipped_other=0 api_calls=7",
        ],
    ),
    (
        &[In::Holds("10", "100"), In::Price("101")],
        0,
        &[
            "SKIP_RISK_MISSING symbol=SOLUSDT side=LONG hold=missing_risk",
            "HARVEST_TICK scanned=1 evaluated=0 emitted=3 skipped_risk=1 skipped_price=0 skipped_entry=0 skipped_other=0 api_calls=7",
        ],
    ),
    (
        &[In::Intent("0.01"), In::Holds("10", "100"), In::Price("101")],
        0,
        &[
            "SKIP_RISK_MISSING symbol=SOLUSDT side=LONG hold=risk_too_small",
            "HARVEST_TICK scanned=1 evaluated=0 emitted=3 skipped_risk=1 skipped_price=0 skipped_entry=0 skipped_other=0 api_calls=7",
        ],
    ),
    (
        &[In::Intent("2"), In::Holds("10", "100")],
        0,
        &[
            "SKIP_NO_MARK_PRICE symbol=SOLUSDT side=LONG hold=no_price",
            "HARVEST_TICK scanned=1 evaluated=0 emitted=3 skipped_risk=0 skipped_price=1 skipped_entry=0 skipped_other=0 api_calls=7",
        ],
    ),
    // 10 × (100.5 − 100) = 5 of 10 × 2 = 20: 0.25 R.
    (
        &[In::Intent("2"), In::Holds("10", "100"), In::Price("100.5")],
        10,
        &[
            "HARVEST_EVAL symbol=SOLUSDT side=LONG mark=100.5 entry=100 pnl=5 risk=20 R_net=0.250 mark_source=market.tick",
            "HARVEST_TICK scanned=1 evaluated=1 emitted=3 skipped_risk=0 skipped_price=0 skipped_entry=0 skipped_other=0 api_calls=7",
        ],
    ),
    // The price becomes old without an entry: by the server's time.
    (
        &[In::Intent("2"), In::Holds("10", "100"), In::Price("100.5")],
        11,
        &[
            "SKIP_NO_MARK_PRICE symbol=SOLUSDT side=LONG hold=stale_price",
            "HARVEST_TICK scanned=1 evaluated=0 emitted=3 skipped_risk=0 skipped_price=1 skipped_entry=0 skipped_other=0 api_calls=7",
        ],
    ),
    (
        &[In::Intent("2"), In::Holds("10", "100"), In::Price("100.5"), In::Kill],
        0,
        &[
            "SKIP_HELD symbol=SOLUSDT side=LONG hold=killed",
            "HARVEST_TICK scanned=1 evaluated=0 emitted=3 skipped_risk=0 skipped_price=0 skipped_entry=0 skipped_other=1 api_calls=7 killed=true",
        ],
    ),
    (
        &[In::Intent("2"), In::Holds("10", "100"), In::Price("100.5"), In::Gap],
        0,
        &[
            "SKIP_HELD symbol=SOLUSDT side=LONG hold=history_gap",
            "HARVEST_TICK scanned=1 evaluated=0 emitted=3 skipped_risk=0 skipped_price=0 skipped_entry=0 skipped_other=1 api_calls=7",
        ],
    ),
];

#[test]
fn each_position_has_one_line_and_the_tick_sums_them() {
    for (story, seconds_after, wanted) in CASES {
        let lab = engine_of(story);
        let now_ms = START_MS + 1000 * ((story.len() as u64).saturating_sub(1) + seconds_after);
        let lines = operator_log::tick(&lab.engine, now_ms, 3, 7);
        assert_eq!(texts(&lines), wanted);
        let unknown = story.is_empty();
        let level = lines.last().expect("a tick always has its line").level;
        assert_eq!(level, if unknown { Level::WARN } else { Level::INFO }, "{wanted:?}");
    }
}

/// At 02:07 the old service printed `scanned=44 evaluated=0`. Its only figures are those of ARCUSDT, whose first mark
/// the second one confirms at 02:07:05.
#[test]
fn i01_the_night_of_the_incident_is_logged_with_the_recorded_figures() {
    let case = root().join("replay/nights/incident-2026-02-04");
    let request = Request {
        histories: vec![case.join("events.jsonl")],
        until: Some("2026-02-04T02:07:06Z".to_owned()),
        ..Request::default()
    };
    let (night, _) = replayed(&request, &config(None));
    let now_ms = night.engine.globals().last.ms;
    let lines = operator_log::tick(&night.engine, now_ms, 0, 0);
    let lines = texts(&lines);
    assert_eq!(lines.len(), 45, "44 positions and the tick");
    let arc = "HARVEST_EVAL symbol=ARCUSDT side=LONG mark=0.07494 entry=0.0636 pnl=35.5597 risk=1567.8896 R_net=0.023 mark_source=api";
    assert!(lines.contains(&arc), "{lines:#?}");
    assert_eq!(
        lines[44],
        "HARVEST_TICK scanned=44 evaluated=44 emitted=0 skipped_risk=0 skipped_price=0 skipped_entry=0 skipped_other=0 api_calls=0"
    );
    // After eleven seconds without any price the state is that of the whole night.
    let later = operator_log::tick(&night.engine, now_ms + 11_000, 0, 0);
    assert!(later[44].text.contains("scanned=44 evaluated=0") && later[44].text.contains("skipped_price=44"));
}

#[test]
fn the_line_of_an_emission_names_the_closed_quantity() {
    let mut lab = engine_of(&[In::Intent("2"), In::Holds("10", "100")]);
    // 0.5 R: a quarter of the position.
    let came = lab.entry(TICK, &at(3), &[("symbol", "SOLUSDT"), ("price", "101")]);
    let decision = came.step.decision.expect("the first rung is reached");
    assert_eq!(
        operator_log::emit(&lab.engine, &decision).text,
        "HARVEST_EMIT action=PARTIAL_25 symbol=SOLUSDT close_pct=25 reduceOnly=true R_net=0.500"
    );
}

#[test]
fn r_in_three_places_is_rounded_once() {
    // 1 at 100 with a risk of 1: R is the price minus 100. Rounded to six places first, 0.0235 and 0.0225 would be
    // halves.
    for (price, r_net) in [
        ("100.0235", "0.024"),
        ("100.0234999996", "0.023"),
        ("100.0225", "0.022"),
        ("100.0225000004", "0.023"),
        ("99.9765", "-0.024"),
        ("99.9765000004", "-0.023"),
        ("99.9999", "0.000"),
        ("101.5", "1.500"),
    ] {
        let lab = engine_of(&[In::Intent("1"), In::Holds("1", "100"), In::Price(price)]);
        let lines = operator_log::tick(&lab.engine, START_MS + 2000, 0, 0);
        assert!(lines[0].text.contains(&format!(" R_net={r_net} ")), "{price}: {}", lines[0].text);
    }
}

#[test]
fn the_report_of_an_engine_counts_what_the_tick_counts() {
    let lab = engine_of(&[In::Intent("2"), In::Holds("10", "100"), In::Price("100.5"), In::Gap, In::Price("100.5")]);
    let mut report = Report::default();
    report.totals.emitted = 5;
    report.take_from(&lab.engine, START_MS + 4000 + 700, &BTreeSet::new());
    assert_eq!(report.last.as_deref(), Some(&*at(4)));
    let positions = &report.positions;
    assert_eq!((positions.open, positions.evaluable, positions.unknown), (1, 1, false));
    assert_eq!((positions.gap_open, positions.gap_flat), (1, 0));
    assert_eq!(positions.held, super::counts(&[("history_gap", 1)]));
    assert_eq!(positions.mark_age_ms, super::counts(&[("SOLUSDT", 700)]));
    assert_eq!((report.totals.applied, report.totals.emitted, report.killed), (5, 5, false));
    assert_eq!(report.totals.holds, super::counts(&[("below_min_r", 1), ("history_gap", 1), ("no_price", 1)]));
    assert_eq!(report.totals.shapes["price"].values().sum::<u64>(), 2);
    assert_eq!((report.policy.mode.as_str(), report.policy.hash.len()), ("shadow", 64));
}

#[test]
fn i61_unreadable_results_are_a_concern() {
    let mut lab = engine_of(&[In::Intent("2"), In::Holds("10", "100"), In::Price("100.5")]);
    let close = json!({"symbol": "SOLUSDT", "side": "SELL", "filled_qty": "10", "order_status": "FILLED"}).to_string();
    let twice = json!(json!(close).to_string()).to_string();
    lab.entry(RESULT, &at(3), &[("payload", &json!(twice).to_string())]);
    // A refusal that names no symbol changed nothing.
    lab.entry(RESULT, &at(4), &[("executed", "false"), ("error", "cooldown")]);
    lab.entry(TICK, &at(5), &[("symbol", "SOLUSDT"), ("price", "101.5"), ("timestamp", "noon")]);
    let mut report = Report::default();
    report.take_from(&lab.engine, START_MS + 6000, &BTreeSet::new());
    let counted = |what: &str| report.totals.unreadable[what];
    assert_eq!(counted("results"), Past { entries: 1, last_age_ms: 3000 });
    assert_eq!(counted("times"), Past { entries: 1, last_age_ms: 1000 });
    let found: Vec<_> = concerns(&report).into_iter().filter(|found| found.name == "unreadable").collect();
    assert_eq!(found.len(), 2, "{found:#?}");
    assert_eq!(report.positions.held, super::counts(&[("history_gap", 1)]), "the position stays held");
}

/// A snapshot may state a quantity that no fill has stated. An unreadable one is a finding of its own.
#[test]
fn a_snapshot_that_cannot_be_read_needs_someone() {
    let mut lab = engine_of(&[In::Intent("2"), In::Holds("10", "100"), In::Price("100.5")]);
    lab.entry(SNAPSHOT, &at(30), &[("symbol", "SOLUSDT"), ("positionAmt", "many"), ("entryPrice", "100")]);
    lab.entry(TICK, &at(31), &[("symbol", "SOLUSDT"), ("price", "100.5")]);
    let mut report = Report::default();
    report.take_from(&lab.engine, START_MS + 34_000, &BTreeSet::new());
    assert_eq!(report.totals.unreadable["snapshots"], Past { entries: 1, last_age_ms: 4000 });
    let found: Vec<_> = concerns(&report).into_iter().filter(|found| found.name == "unreadable").collect();
    let [found] = &found[..] else { panic!("{found:#?}") };
    assert_eq!(found.about.as_deref(), Some("snapshots"));
    assert!(
        found.says.starts_with("1 snapshot cannot be read, the last 4.0s ago: the symbols that may be"),
        "{}",
        found.says
    );
    assert_eq!(report.positions.held, super::counts(&[("history_gap", 1)]), "what is held is held");
}

#[test]
fn i35_the_report_counts_the_outcomes_of_decisions() {
    let mut lab = engine_of(&[In::Intent("2"), In::Holds("10", "100"), In::Price("101")]);
    let mut report = Report::default();
    report.take_from(&lab.engine, START_MS + 2000, &BTreeSet::new());
    assert_eq!(report.positions.decisions_open, super::counts(&[("shadowed", 1)]));
    let flat = json!({"symbol": "SOLUSDT", "positionAmt": "0", "entryPrice": "0"}).to_string();
    for second in [60, 130] {
        lab.entry(OBSERVATION, &at(second), &[("event_type", "exchange.position"), ("payload", &flat)]);
    }
    report.take_from(&lab.engine, START_MS + 130_000, &BTreeSet::new());
    assert_eq!(report.positions.open, 0, "adopted: the position is closed");
    assert_eq!(report.positions.decisions_open, super::counts(&[]));
    let payload = json!({"stream": "quantum:stream:apply.result"}).to_string();
    lab.entry(CONTROL, &at(131), &[("event_type", "history.gap"), ("payload", &payload)]);
    report.take_from(&lab.engine, START_MS + 131_000, &BTreeSet::new());
    assert_eq!((report.positions.gap_open, report.positions.gap_flat), (0, 1), "no held position has a gap");
    assert_eq!(report.positions.decisions_closed, super::counts(&[("shadowed", 1)]));
}
