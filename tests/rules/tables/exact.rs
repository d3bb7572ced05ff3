//! Numbers that are exact, or refused; and quarantine that changes nothing.

use super::{SOL, at, filled, intent, long_of_ten, observed, payload, tick, with_policy};
use crate::support;
use crate::support::histories::{CONTROL, DECISION, RESULT};
use crate::support::lab::Lab;
use harvester::domain::engine::Disposition;
use harvester::domain::event::Reason;
use harvester::domain::units::{OutOfRange, Price, Qty, Quote};
use rust_decimal::Decimal;
use serde_json::json;

#[test]
fn a_product_too_small_for_a_decimal_is_refused() {
    let tiny: Decimal = "0.000000000000000000000000007".parse().expect("a decimal");
    assert_eq!(Price::new(tiny).for_qty(Qty::new(tiny)), Err(OutOfRange), "4.9e-53 is not 0");
}

#[test]
fn a_quotient_keeps_its_digits_or_is_refused() {
    // 1.2003e-25 needs 29 places, and is not 1.2e-25; 1.3471…e-20 has nine digits in 28 places.
    for (cost, qty) in [("0.0000000000012003", "10000000000000"), ("0.000000000000000000000163", "0.0121")] {
        let price = Quote::new(cost.parse().expect("a decimal")).per(Qty::new(qty.parse().expect("a decimal")));
        assert_eq!(price, Err(OutOfRange), "{cost} / {qty}");
    }
}

#[test]
fn r_is_rounded_once() {
    // 1.5e8 + 1e-14 over 3e14 is a little more than half of the sixth place.
    let gain = Quote::new("150000000.00000000000001".parse().expect("a decimal"));
    let risk = Quote::new("300000000000000".parse().expect("a decimal"));
    assert_eq!(gain.in_r(risk).map(|r| r.to_string()), Ok("0.000001".to_owned()));
}

#[test]
fn a_quantity_of_a_decision_reads_back() {
    let mut lab = long_of_ten(
        r#"{"mode":"live","cost_bps":0,"ladder":"0.5:0.25,1:0.25","atr_unit":{"default":"absolute"},
            "price_sources":["market.tick"],"on_live":"skip","require_instrument":false}"#,
    );
    let sealed = tick(&mut lab, 2, "101").sealed.expect("a decision");
    let plan_id = payload(&sealed)["plan_id"].as_str().expect("a plan id").to_owned();
    let fields = [
        ("symbol", SOL),
        ("plan_id", plan_id.as_str()),
        ("orderId", "900"),
        ("side", "SELL"),
        ("executedQty", "2.5"),
        ("avgPrice", "101"),
        ("order_status", "FILLED"),
    ];
    lab.entry(RESULT, &at(3), &fields);
    filled(&mut lab, 4, "SELL", "777", "0.5", "101");
    // 7 / 0.75 × 0.25 = 2.333…: a decimal keeps 29 digits of it, and an entry 28.
    let came = tick(&mut lab, 5, "102");
    let sealed = came.sealed.expect("a decision");
    let line = harvester::codec::line::write(DECISION, "1770163205000-2", &sealed.fields());
    let content = lab.decode(&line).content;
    assert!(content.is_ok(), "{content:?}: {}", sealed.payload);
}

#[test]
fn an_adopted_quantity_is_the_stated_one() {
    let mut lab = Lab::new(&support::config(None));
    let state = |lab: &mut Lab, second, qty: &str| {
        observed(lab, second, "exchange.position", &json!({"symbol": SOL, "positionAmt": qty, "entryPrice": "1"}));
    };
    state(&mut lab, 0, "100000000000000");
    state(&mut lab, 10, "0.000000000000003");
    state(&mut lab, 80, "0.000000000000003");
    let position = lab.position(SOL);
    let is_stated_or_kept = position["qty"] == "0.000000000000003" || position["qty"] == "100000000000000";
    assert!(is_stated_or_kept && position["closed"].is_null(), "open with a quantity of zero: {position}");
}

#[test]
fn an_absurd_signal_does_not_quarantine_later_fills() {
    let mut lab = Lab::new(&support::config(None));
    let came = intent(&mut lab, 0, SOL, "BUY", "900000000000000", "900000000000000");
    assert_eq!(came.step.disposition, Disposition::Quarantined(Reason::OutOfRange));
    let came = filled(&mut lab, 1, "BUY", "501", "10", "100");
    assert_eq!(came.step.disposition, Disposition::Applied, "the fill is correct");
    let came = tick(&mut lab, 2, "100");
    assert_eq!(came.step.disposition, Disposition::Applied, "the price is correct");
    assert_eq!(lab.position(SOL)["hold"], "missing_risk");
}

/// An ATR that is a fraction of a price of 20 places: the risk has more places than a decimal.
const TOO_FINE: (&str, &str, &str) =
    (r#"{"atr_unit":{"default":"fraction"}}"#, "0.00000000000000000003", "0.0333333333333333333333");

#[test]
fn a_quarantined_signal_changes_nothing() {
    let (policy, price, atr) = TOO_FINE;
    let mut lab = Lab::new(&with_policy(policy));
    filled(&mut lab, 0, "BUY", "501", "10", price);
    let before = lab.position(SOL);
    // The first signal after an opening supplies its risk fields.
    let came = intent(&mut lab, 1, SOL, "BUY", atr, "1");
    if let Disposition::Quarantined(_) = came.step.disposition {
        assert_eq!(lab.position(SOL), before);
    }
}

#[test]
fn a_position_that_cannot_be_evaluated_still_gets_its_fills() {
    let (policy, price, atr) = TOO_FINE;
    let mut lab = Lab::new(&with_policy(policy));
    // While the kill switch is on nothing is evaluated, so nothing overflows.
    lab.entry(CONTROL, &at(0), &[("event_type", "kill.changed"), ("kill", "true")]);
    intent(&mut lab, 1, SOL, "BUY", atr, "1");
    filled(&mut lab, 2, "BUY", "501", "10", price);
    lab.entry(CONTROL, &at(3), &[("event_type", "kill.changed"), ("kill", "false")]);
    let came = filled(&mut lab, 4, "SELL", "502", "4", "1");
    assert_eq!(came.step.disposition, Disposition::Applied, "the fill is correct");
    assert_eq!(lab.position(SOL)["qty"], "6");
}
