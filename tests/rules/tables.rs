//! Rules as tables: a situation, an event, and the numbers that were worked out by hand.

use crate::support;
use crate::support::books::is_plain;
use crate::support::histories::{CONTROL, INTENT, OBSERVATION, RESULT, TICK};
use crate::support::lab::{Came, Lab, entry_line};
use harvester::cli::positions;
use harvester::cli::replay::Request;
use harvester::codec::policy::{from_json, to_json};
use harvester::codec::seal::Sealed;
use harvester::config::Config;
use harvester::domain::engine::{Decisions, Disposition, decision_id};
use harvester::domain::units::{Quote, RMultiple};
use rust_decimal::Decimal;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

mod exact;

const SOL: &str = "SOLUSDT";

/// Returns the id of a second after the beginning.
fn at(second: u64) -> String {
    format!("{}-0", 1_770_163_200_000 + 1_000 * second)
}

fn with_policy(policy: &str) -> Config {
    Config { policy: from_json(policy).expect("the policy is valid"), ..support::config(None) }
}

fn intent(lab: &mut Lab, second: u64, symbol: &str, side: &str, atr: &str, volatility: &str) -> Came {
    let fields = [("symbol", symbol), ("side", side), ("atr_value", atr), ("volatility_factor", volatility)];
    lab.entry(INTENT, &at(second), &fields)
}

fn filled(lab: &mut Lab, second: u64, side: &str, order: &str, qty: &str, price: &str) -> Came {
    filled_of(lab, second, SOL, side, order, qty, price)
}

fn filled_of(lab: &mut Lab, second: u64, symbol: &str, side: &str, order: &str, qty: &str, price: &str) -> Came {
    let fields = [
        ("symbol", symbol),
        ("side", side),
        ("orderId", order),
        ("executedQty", qty),
        ("avgPrice", price),
        ("order_status", "FILLED"),
    ];
    lab.entry(RESULT, &at(second), &fields)
}

fn tick(lab: &mut Lab, second: u64, price: &str) -> Came {
    tick_of(lab, second, SOL, price)
}

fn tick_of(lab: &mut Lab, second: u64, symbol: &str, price: &str) -> Came {
    lab.entry(TICK, &at(second), &[("symbol", symbol), ("price", price)])
}

fn observed(lab: &mut Lab, second: u64, event: &str, payload: &Value) -> Came {
    lab.entry(OBSERVATION, &at(second), &[("event_type", event), ("payload", &payload.to_string())])
}

/// Opens a long position of 10 at 100 with a risk of 2 per coin: R = (price − 100) / 2 before costs.
fn long_of_ten(policy: &str) -> Lab {
    let mut lab = Lab::new(&with_policy(policy));
    intent(&mut lab, 0, SOL, "BUY", "2", "1");
    filled(&mut lab, 1, "BUY", "501", "10", "100");
    lab
}

fn payload(sealed: &Sealed) -> Value {
    serde_json::from_str(&sealed.payload).expect("a payload is JSON")
}

/// Returns rungs, share, quantity and R of the decision that an entry caused, or the hold.
fn decided(lab: &Lab, came: &Came) -> String {
    match &came.sealed {
        Some(sealed) => {
            let payload = payload(sealed);
            let rungs: Vec<&str> =
                payload["rungs"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
            let text = |key: &str| payload[key].as_str().unwrap_or_default().to_owned();
            format!("{} share {} qty {} R {}", rungs.join("+"), text("close_fraction"), text("qty"), text("r_net"))
        }
        None => lab.position(SOL)["hold"].as_str().unwrap_or("nothing").to_owned(),
    }
}

// ---- numbers ------------------------------------------------------------------------------------------------------

#[test]
fn the_example_of_the_contract_gives_its_numbers() {
    let mut lab = Lab::new(&support::config(None));
    intent(&mut lab, 0, "ARCUSDT", "BUY", "0.10", "5.0");
    filled_of(&mut lab, 1, "ARCUSDT", "BUY", "1", "3135.7792411414234", "0.0636");
    // The price is 17.9 % away from the entry price: the second tick confirms the first.
    tick_of(&mut lab, 2, "ARCUSDT", "0.07498");
    tick_of(&mut lab, 6, "ARCUSDT", "0.07498");
    let position = lab.position("ARCUSDT");
    // 3135.7792411414234 × 0.01138 and 3135.7792411414234 × 0.5, all digits.
    assert_eq!(position["unrealized_pnl"], "35.685167764189398292");
    assert_eq!(position["entry_risk_usdt"], "1567.8896205707117");
    assert_eq!(position["risk_price"], "0.5");
    assert_eq!(position["r_net"], "0.022633");
    assert_eq!(position["flags"], json!(["risk_too_large"]));
    // 0.0636 + 0.5 × 0.5 + 0.001 × 0.0636
    assert_eq!(position["next_rung"], json!({"r": "0.5", "price": "0.3136636"}));
}

#[test]
fn r_is_rounded_half_to_even() {
    // One coin at 100 with a risk of 1, without costs: R is the price minus 100.
    let policy = r#"{"cost_bps":0}"#;
    for (price, r_net) in [
        ("100.0000005", "0"),
        ("100.00000051", "0.000001"),
        ("100.0000015", "0.000002"),
        ("100.0000025", "0.000002"),
        ("100.0000035", "0.000004"),
        ("99.9999995", "0"),
        ("99.9999985", "-0.000002"),
        ("100.25", "0.25"),
    ] {
        let mut lab = Lab::new(&with_policy(policy));
        intent(&mut lab, 0, SOL, "BUY", "1", "1");
        filled(&mut lab, 1, "BUY", "501", "1", "100");
        tick(&mut lab, 2, price);
        assert_eq!(lab.position(SOL)["r_net"], r_net, "{price}");
    }
}

#[test]
fn decimals_are_printed_without_exponent_trailing_zeros_or_negative_zero() {
    for (value, printed) in [
        (Decimal::new(0, 0), "0"),
        (-Decimal::new(0, 5), "0"),
        (Decimal::new(1_500, 3), "1.5"),
        (Decimal::new(1, 28), "0.0000000000000000000000000001"),
        (Decimal::new(100_000_000_000_000, 0), "100000000000000"),
        (Decimal::new(-250, 2), "-2.5"),
    ] {
        assert_eq!(Quote::new(value).to_string(), printed);
        assert!(is_plain(printed), "{printed}");
    }
    for not_plain in ["1e-7", "1.50", "-0", "00.1", ".5", "5.", "1.0", ""] {
        assert!(!is_plain(not_plain), "{not_plain}");
    }
}

// ---- the ladder ---------------------------------------------------------------------------------------------------

/// Prices one after the other, and the result of each.
struct Climb {
    policy: &'static str,
    prices: &'static [(&'static str, &'static str)],
}

#[test]
fn each_rung_is_taken_once() {
    let table = [
        Climb {
            policy: r#"{"cost_bps":0}"#,
            prices: &[
                ("100.99", "below_min_r"),
                ("101", "0.5 share 0.25 qty 2.5 R 0.5"),
                ("101.5", "no_rung"),
                ("102", "1 share 0.25 qty 2.5 R 1"),
                ("101", "no_rung"),
                ("104", "1.5 share 0.25 qty 2.5 R 2"),
                ("108", "no_rung"),
            ],
        },
        // All at once: 0.75 of 10.
        Climb { policy: r#"{"cost_bps":0}"#, prices: &[("103", "0.5+1+1.5 share 0.75 qty 7.5 R 1.5")] },
        // 10 bps of 1000 are 1, with a risk of 20: R is smaller by 0.05.
        Climb { policy: "{}", prices: &[("101", "below_min_r"), ("101.1", "0.5 share 0.25 qty 2.5 R 0.5")] },
        Climb {
            policy: r#"{"cost_bps":0,"min_r":"1"}"#,
            prices: &[("101", "below_min_r"), ("102", "0.5+1 share 0.5 qty 5 R 1")],
        },
        // A ladder that closes everything.
        Climb {
            policy: r#"{"cost_bps":0,"ladder":"0.5:0.4,1:0.6"}"#,
            prices: &[("101", "0.5 share 0.4 qty 4 R 0.5"), ("102", "1 share 0.6 qty 6 R 1"), ("104", "no_rung")],
        },
        // In shadow mode nothing is filled: each share is of the open quantity, which is still the whole.
        Climb {
            policy: r#"{"cost_bps":0,"base":"current"}"#,
            prices: &[("101", "0.5 share 0.25 qty 2.5 R 0.5"), ("102", "1 share 0.25 qty 2.5 R 1")],
        },
        // 2.5 × 101 = 252.5 is below the minimum. At 102 both rungs are decided, 5 × 102 = 510.
        Climb {
            policy: r#"{"cost_bps":0,"min_notional":"253"}"#,
            prices: &[("101", "below_minimum"), ("102", "0.5+1 share 0.5 qty 5 R 1")],
        },
        Climb { policy: r#"{"cost_bps":0,"max_actions_per_min":0}"#, prices: &[("101", "rate_limited")] },
    ];
    for Climb { policy, prices } in table {
        let mut lab = long_of_ten(policy);
        for (second, (price, wanted)) in (2..).zip(prices) {
            let came = tick(&mut lab, second, price);
            assert_eq!(decided(&lab, &came), *wanted, "{policy} at {price}");
        }
    }
}

#[test]
fn a_short_is_harvested_on_the_way_down() {
    let mut lab = Lab::new(&with_policy(r#"{"cost_bps":0}"#));
    intent(&mut lab, 0, SOL, "SELL", "2", "1");
    filled(&mut lab, 1, "SELL", "501", "10", "100");
    let came = tick(&mut lab, 2, "99");
    assert_eq!(decided(&lab, &came), "0.5 share 0.25 qty 2.5 R 0.5");
    assert_eq!(came.sealed.as_ref().map(|sealed| payload(sealed)["side"].clone()), Some(json!("BUY")));
}

#[test]
fn the_base_of_a_share_is_the_first_or_the_open_quantity() {
    const LIVE: &str = r#""mode":"live","cost_bps":0,"ladder":"0.5:0.25,1:0.25,1.5:0.25","atr_unit":{"default":"absolute"},
        "price_sources":["market.tick"],"on_live":"skip","require_instrument":false"#;
    // Of 10, a quarter is filled at 0.5 R; then another program sells 1.5, so that 6 are left.
    for (base, reduced_by_others, second) in [
        // min(10, 7.5 / 0.75) × 0.25
        ("initial", None, "1 share 0.25 qty 2.5 R 1"),
        // 6 / 0.75 × 0.25
        ("initial", Some("1.5"), "1 share 0.25 qty 2 R 1"),
        // 7.5 × 0.25
        ("current", None, "1 share 0.25 qty 1.875 R 1"),
        ("current", Some("1.5"), "1 share 0.25 qty 1.5 R 1"),
    ] {
        let mut lab = long_of_ten(&format!(r#"{{{LIVE},"base":"{base}"}}"#));
        let came = tick(&mut lab, 2, "101");
        assert_eq!(decided(&lab, &came), "0.5 share 0.25 qty 2.5 R 0.5", "{base}");
        let plan_id = came.sealed.as_ref().map(|sealed| payload(sealed)["plan_id"].clone());
        let plan_id = plan_id.as_ref().and_then(Value::as_str).expect("a decision has a plan id");
        let fields = [
            ("symbol", SOL),
            ("plan_id", plan_id),
            ("orderId", "900"),
            ("side", "SELL"),
            ("reduceOnly", "true"),
            ("executedQty", "2.5"),
            ("avgPrice", "101"),
            ("order_status", "FILLED"),
        ];
        lab.entry(RESULT, &at(3), &fields);
        if let Some(qty) = reduced_by_others {
            filled(&mut lab, 4, "SELL", "777", qty, "101");
        }
        let came = tick(&mut lab, 5, "102");
        assert_eq!(decided(&lab, &came), second, "{base} {reduced_by_others:?}");
    }
}

#[test]
fn quantities_are_rounded_down_to_the_step() {
    for (step, qty_min, wanted) in [
        ("1", "0", "0.5 share 0.25 qty 2 R 0.5"),
        ("0.3", "0", "0.5 share 0.25 qty 2.4 R 0.5"),
        ("0.001", "2.5", "0.5 share 0.25 qty 2.5 R 0.5"),
        ("0.001", "2.501", "below_minimum"),
        ("3", "0", "below_minimum"),
    ] {
        let mut lab = long_of_ten(r#"{"cost_bps":0}"#);
        observed(&mut lab, 2, "instrument", &json!({"symbol": SOL, "stepSize": step, "minQty": qty_min}));
        let came = tick(&mut lab, 3, "101");
        assert_eq!(decided(&lab, &came), wanted, "step {step}, at least {qty_min}");
    }
}

// ---- names and seals ----------------------------------------------------------------------------------------------

#[test]
fn a_decision_is_named_by_its_position_rungs_and_attempt() {
    // printf '%s' 'SOLUSDT@1770163201000-0|0.5|1' | sha256sum | cut -c1-32
    for (position, rungs, attempt, id) in [
        ("SOLUSDT@1770163201000-0", &["0.50"][..], 1, "783a14fba3482391f7d3e628c7888b48"),
        ("SOLUSDT@1770163201000-0", &["0.5", "1.0", "1.5"], 1, "60738944b947e92174c1cf1bef3e55b1"),
        ("SOLUSDT@1770163201000-0/2", &["1"], 3, "7206797608251c09684ba3e7396976aa"),
    ] {
        let rungs: Vec<RMultiple> = rungs.iter().map(|r| RMultiple::new(r.parse().expect("a decimal"))).collect();
        assert_eq!(decision_id(position, &rungs, attempt), id);
    }
    let mut lab = long_of_ten(r#"{"cost_bps":0}"#);
    let sealed = tick(&mut lab, 2, "101").sealed.expect("a decision");
    assert_eq!(sealed.decision_id, "783a14fba3482391f7d3e628c7888b48");
    assert_eq!(payload(&sealed)["plan_id"], "783a14fba3482391");
}

#[test]
fn each_decision_contains_the_hash_of_the_one_before() {
    let hex = |text: &str| Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut lab = long_of_ten(r#"{"cost_bps":0}"#);
    let mut prev = "0".repeat(64);
    for (seq, price) in (1..).zip(["101", "102", "103"]) {
        let sealed = tick(&mut lab, 1 + seq, price).sealed.expect("a decision");
        assert_eq!((sealed.seq, &sealed.prev), (seq, &prev));
        assert_eq!(sealed.hash, hex(&format!("{prev}\n{}", sealed.payload)));
        prev = sealed.hash;
    }
}

#[test]
fn a_payload_contains_the_evidence_of_its_decision() {
    let mut lab = long_of_ten(r#"{"cost_bps":0}"#);
    let sealed = tick(&mut lab, 2, "101").sealed.expect("a decision");
    let wanted = json!({
        "decision_id": "783a14fba3482391f7d3e628c7888b48",
        "plan_id": "783a14fba3482391",
        "position_id": "SOLUSDT@1770163201000-0",
        "symbol": "SOLUSDT",
        "side": "SELL",
        "qty": "2.5",
        "close_fraction": "0.25",
        "base": "initial",
        "rungs": ["0.5"],
        "attempt": 1,
        "r_net": "0.5",
        "mark_price": "101",
        "entry_price": "100",
        "risk_price": "2",
        "entry_risk_usdt": "20",
        "unrealized_pnl": "10",
        "cost": "0",
        "mode": "shadow",
        "policy": *from_json(r#"{"cost_bps":0}"#).expect("a policy").hash,
        "engine": harvester::domain::engine::RULES_VERSION,
        "flags": [],
        "cause": "quantum:stream:market.tick/1770163202000-0",
        "evidence": {
            "entry_price": {"source": "fill", "entry": "1770163201000-0"},
            "atr_value": {"source": "intent", "entry": "1770163200000-0"},
            "volatility_factor": {"source": "intent", "entry": "1770163200000-0"},
            "mark_price": {"source": "market.tick", "entry": "1770163202000-0"},
        },
    });
    assert_eq!(payload(&sealed), wanted);
    assert!(!sealed.payload.contains(": ") && !sealed.payload.contains("\n"), "no spaces: {}", sealed.payload);
}

#[test]
fn the_hash_of_a_policy_covers_all_its_keys_in_order() {
    const HASH: &str = "c7c86957c829793a266a47c77f94ba6f43e029214893c2663f34f49752fdac79";
    // docs/spec/decision.md: all keys, defaults filled in, decimals as strings without trailing zeros, keys sorted, no spaces.
    let canonical = concat!(
        r#"{"atr_unit":{"default":"absolute"},"base":"initial","cost_bps":"10","divergence_grace_ms":60000,"#,
        r#""intent_max_age_ms":3600000,"ladder":[{"fraction":"0.25","r":"0.5"},{"fraction":"0.25","r":"1"},"#,
        r#"{"fraction":"0.25","r":"1.5"}],"live_entry_sources":["fill","exchange"],"live_risk_sources":["plan","intent"],"#,
        r#""live_symbols":[],"max_actions_per_min":30,"max_attempts":3,"max_position_age_ms":300000,"#,
        r#""max_price_age_ms":10000,"max_price_jump":"0.05","min_notional":"5","min_r":"0.5","mode":"shadow","#,
        r#""on_live":null,"price_confirm_ms":3000,"price_sources":[],"require_instrument":true,"result_timeout_ms":60000,"#,
        r#""retry_after_ms":30000,"risk_floor_bps":"10","risk_too_large":"flag","snapshot_settle_ms":20000}"#,
    );
    // sha256sum of the line above.
    for same in ["{}", r#"{"min_r":0.50,"cost_bps":"10.0"}"#, r#"{"ladder":"0.5:0.25,1.0:0.25,1.50:0.250"}"#, canonical]
    {
        let policy = from_json(same).expect("a policy");
        assert_eq!(to_json(&policy), canonical, "{same}");
        assert_eq!(*policy.hash, *HASH, "{same}");
    }
    assert_ne!(*from_json(r#"{"min_r":0.51}"#).expect("a policy").hash, *HASH);
}

// ---- doubts hold ---------------------------------------------------------------------------------------------------

#[test]
fn a_kill_holds_everything_until_it_is_lifted() {
    let mut lab = long_of_ten(r#"{"cost_bps":0}"#);
    let kill = |lab: &mut Lab, second, kill: &str| {
        lab.entry(CONTROL, &at(second), &[("event_type", "kill.changed"), ("kill", kill)]);
    };
    kill(&mut lab, 2, "true");
    let came = tick(&mut lab, 3, "101");
    assert_eq!(decided(&lab, &came), "killed");
    kill(&mut lab, 4, "0");
    let came = tick(&mut lab, 5, "101");
    assert_eq!(decided(&lab, &came), "0.5 share 0.25 qty 2.5 R 0.5");
    kill(&mut lab, 6, "perhaps");
    let came = tick(&mut lab, 7, "102");
    assert_eq!(decided(&lab, &came), "killed", "an unreadable kill kills");
}

#[test]
fn an_absurd_number_is_quarantined_and_changes_nothing() {
    let mut lab = long_of_ten(r#"{"cost_bps":0}"#);
    for (second, price) in (2..).zip(["1e15", "-1", "1e400", "12345678901234567890123456789", "0x10"]) {
        let before = lab.position(SOL);
        let came = tick(&mut lab, second, price);
        assert!(matches!(came.step.disposition, Disposition::Quarantined(_)), "{price}");
        assert_eq!(lab.position(SOL), before, "{price}");
    }
}

// ---- quantities that the exchange explains -------------------------------------------------------------------------

#[test]
fn trades_that_explain_a_tiny_quantity_do_not_panic() {
    let mut lab = Lab::new(&support::config(None));
    observed(&mut lab, 100, "exchange.position", &json!({"symbol": SOL, "positionAmt": "0.0004", "entryPrice": "100"}));
    observed(&mut lab, 101, "instrument", &json!({"symbol": SOL, "stepSize": "0.001"}));
    let trade = json!({"symbol": SOL, "orderId": 7, "id": 1, "side": "BUY", "qty": "0.0004", "price": "100",
        "time": 1_770_163_250_000_u64});
    observed(&mut lab, 102, "exchange.trade", &trade);
    assert_eq!(lab.position(SOL)["qty"], "0.0004");
}

#[test]
fn an_order_that_was_forgotten_does_not_reprice_what_it_once_filled() {
    let mut lab = Lab::new(&support::config(None));
    filled(&mut lab, 0, "BUY", "501", "10", "100");
    // Eight days later the order is forgotten: its fill is a new one, at 90, and its trades set the price of that one
    // only.
    let later = 8 * 24 * 3_600;
    filled(&mut lab, later, "BUY", "501", "10", "90");
    assert_eq!(lab.position(SOL)["entry_price"]["value"], "95");
    let trade = json!({"symbol": SOL, "orderId": 501, "id": 1, "side": "BUY", "qty": "10", "price": "80"});
    observed(&mut lab, later + 1, "exchange.trade", &trade);
    // (10 × 100 + 10 × 80) / 20
    assert_eq!(lab.position(SOL)["entry_price"]["value"], "90");
}

// ---- rows of a store -----------------------------------------------------------------------------------------------

#[test]
fn closed_positions_stay_in_the_store_at_any_distance_in_time() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let week = 8 * 24 * 3_600;
    let fill = |second: u64, side: &str, order: &str| {
        let fields = [
            ("symbol", SOL),
            ("side", side),
            ("orderId", order),
            ("executedQty", "10"),
            ("avgPrice", "100"),
            ("order_status", "FILLED"),
        ];
        entry_line(RESULT, &at(second), &fields) + "\n"
    };
    let events = [fill(0, "BUY", "1"), fill(1, "SELL", "2"), fill(week, "BUY", "3"), fill(week + 1, "SELL", "4")];
    let history = folder.path().join("events.jsonl");
    std::fs::write(&history, events.concat()).expect("the history is written");
    let store = folder.path().join("store");
    let request = Request { histories: vec![history], store: Some(store.clone()), ..Request::default() };
    support::replayed(&request, &support::config(None));
    let mut out = Vec::new();
    positions::run(&store, None, true, true, &mut out).expect("the store shows its positions");
    let positions: Value = serde_json::from_slice(&out).expect("positions are JSON");
    let ids: Vec<&str> = positions.as_array().into_iter().flatten().filter_map(|p| p["position_id"].as_str()).collect();
    assert_eq!(ids, ["SOLUSDT@1770163200000-0", "SOLUSDT@1770854400000-0"]);
}

#[test]
fn a_position_that_an_adoption_closes_is_written() {
    let mut lab = Lab::noting(&support::config(None), Decisions::Recorded);
    let later = 8 * 24 * 3_600;
    filled(&mut lab, 0, "BUY", "1", "10", "100");
    filled(&mut lab, 1, "SELL", "2", "10", "100");
    filled(&mut lab, later, "BUY", "3", "10", "100");
    // A commit: everything so far is written.
    lab.engine.take_changes();
    let flat = json!({"symbol": SOL, "positionAmt": "0"});
    observed(&mut lab, later + 30, "exchange.position", &flat);
    observed(&mut lab, later + 100, "exchange.position", &flat);
    assert_eq!(lab.position(SOL)["closed"], at(later + 100));
    let changes = lab.engine.take_changes();
    assert_eq!(changes.cold().count(), 1, "the closed position is among the rows to write");
}

#[test]
fn a_decision_of_ours_that_comes_twice_counts_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = with_policy(r#"{"cost_bps":0}"#);
    let events = [
        entry_line(INTENT, &at(0), &[("symbol", SOL), ("side", "BUY"), ("atr_value", "2"), ("volatility_factor", "1")]),
        entry_line(
            RESULT,
            &at(1),
            &[
                ("symbol", SOL),
                ("side", "BUY"),
                ("orderId", "1"),
                ("executedQty", "10"),
                ("avgPrice", "100"),
                ("order_status", "FILLED"),
            ],
        ),
        entry_line(TICK, &at(2), &[("symbol", SOL), ("price", "101")]),
    ];
    let history = folder.path().join("events.jsonl");
    std::fs::write(&history, events.join("\n")).expect("the history is written");
    let (_, decisions) =
        support::replayed(&Request { histories: vec![history.clone()], ..Request::default() }, &config);
    let own = folder.path().join("decisions.jsonl");
    std::fs::write(&own, decisions.join("\n")).expect("the decisions are written");
    let twice = Request { histories: vec![history, own.clone(), own], ..Request::default() };
    let (replayed, again) = support::replayed(&twice, &config);
    assert_eq!((decisions.len(), again.len()), (1, 0));
    assert_eq!(replayed.summary.own_decisions.agree, 1);
}
