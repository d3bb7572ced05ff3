//! Documents that each schema refuses: a valid example, one change to it, and the reason why it must be refused.

use serde_json::{Value, json};

/// Schema, index of the example, place of the change (through JSON texts), the new value (`None` removes it), and the
/// reason.
pub type Row = (&'static str, usize, &'static str, Option<Value>, &'static str);

/// Puts `new` at `place`, or removes the value there. A JSON text on the way is parsed, changed and written again.
pub fn change(value: &mut Value, place: &str, new: &Option<Value>) {
    let (key, rest) =
        place.strip_prefix('/').map(|p| p.split_once('/').unwrap_or((p, ""))).expect("place starts with /");
    if let Value::String(text) = value {
        let mut inner: Value = serde_json::from_str(text).expect("text on the way to a place is JSON");
        change(&mut inner, place, new);
        *text = inner.to_string();
    } else if !rest.is_empty() {
        let child = match value {
            Value::Array(items) => &mut items[key.parse::<usize>().expect("index")],
            other => &mut other[key],
        };
        change(child, &place[key.len() + 1..], new);
    } else {
        let map = value.as_object_mut().expect("the last step of a place is a key");
        match new {
            Some(new) => map.insert(key.to_owned(), new.clone()),
            None => map.remove(key),
        };
    }
}

/// Returns rows for every schema but `common.v1`.
#[rustfmt::skip]
pub fn table() -> Vec<Row> {
    let text = |text: &str| Some(json!(text));
    vec![
        ("apply.plan.v1", 0, "/symbol", None, "no_symbol"),
        ("apply.plan.v1", 0, "/symbol", text("None"), "no_symbol"),
        ("apply.plan.v1", 0, "/qty", text("29,6"), "bad_number"),
        ("apply.plan.v1", 0, "/qty", text("-29.6"), "out_of_range"),
        ("apply.plan.v1", 0, "/side", text("HOLD"), "unknown_word"),
        ("apply.plan.v1", 0, "/reduceOnly", text("maybe"), "unknown_word: never read as no"),
        ("apply.plan.v1", 0, "/atr_value", text("1234567890123456"), "out_of_range"),

        ("apply.result.v1", 0, "/symbol", text(" "), "no_symbol"),
        ("apply.result.v1", 0, "/executed", None, "no_outcome"),
        ("apply.result.v1", 0, "/executed", text("perhaps"), "unknown_word"),
        ("apply.result.v1", 1, "/steps_results", text(r#"[{"order_id":1,"executed_qty":"many"}]"#), "bad_number in a step"),
        ("apply.result.v1", 2, "/filled_qty", text("0"), "no_quantity: FILLED with a present 0"),
        ("apply.result.v1", 2, "/filled_qty", text("12abc"), "bad_number"),
        ("apply.result.v1", 2, "/avgPrice", text("-1"), "out_of_range"),
        ("apply.result.v1", 2, "/positionSide", text("Up"), "unknown_word"),
        ("apply.result.v1", 2, "/account", text("a b"), "unknown_account"),
        ("apply.result.v1", 3, "/details/filled_qty", Some(json!(0)), "no_quantity"),
        ("apply.result.v1", 3, "/details/filled_qty", Some(json!(-1)), "out_of_range"),
        ("apply.result.v1", 3, "/details/positionSide", text("NET"), "unknown_word"),
        ("apply.result.v1", 7, "/side", None, "no_side: no order that could have one"),
        ("apply.result.v1", 5, "/price", text("0"), "no_price"),
        ("apply.result.v1", 6, "/order_status", text("DONE"), "unknown_word with nothing filled"),
        ("apply.result.v1", 6, "/order_status", text("FILLED"), "no_quantity: accepted is not filled"),

        ("apply.result.v2", 0, "/avgPrice", None, "a fill names its price"),
        ("apply.result.v2", 0, "/avgPrice", text("0.00000"), "0 is no price"),
        ("apply.result.v2", 0, "/executedQty", text("0"), "FILLED with quantity 0"),
        ("apply.result.v2", 0, "/executedQty", Some(json!(29.6)), "numbers are text"),
        ("apply.result.v2", 0, "/executedQty", text("2.96e1"), "no exponents"),
        ("apply.result.v2", 0, "/executed", text("True"), "one spelling of booleans"),
        ("apply.result.v2", 0, "/executed", text("false"), "what filled was executed"),
        ("apply.result.v2", 0, "/reduceOnly", None, "no default for a safety field"),
        ("apply.result.v2", 0, "/orderId", None, "a fill belongs to an order"),
        ("apply.result.v2", 0, "/avgprice", text("13.3"), "closed: a misspelt name"),
        ("apply.result.v2", 0, "/symbol", text("avaxusdt"), "upper case"),
        ("apply.result.v2", 1, "/order_status", text("FILLED"), "FILLED with quantity 0"),
        ("apply.result.v2", 1, "/order_status", text("CANCELED"), "ended with nothing filled: executed is false"),
        ("apply.result.v2", 1, "/avgPrice", text("13.4"), "a price of nothing"),
        ("apply.result.v2", 3, "/error", None, "a refusal names its reason"),

        ("harvest.control.v1", 0, "/payload/policy/laddr", Some(json!([])), "bad policy: unknown key"),
        ("harvest.control.v1", 0, "/payload/policy", None, "policy.adopted without a policy"),
        ("harvest.control.v1", 1, "/payload/kill", text("off"), "unknown_word: never a milder action"),
        ("harvest.control.v1", 1, "/payload/kill", None, "kill.changed without kill"),
        ("harvest.control.v1", 1, "/event_type", text("kill.change"), "unknown_event"),
        ("harvest.control.v1", 1, "/event_type", None, "unknown_event"),
        ("harvest.control.v1", 3, "/payload/symbl", text("X"), "a misspelt symbol would accept every gap"),
        ("harvest.control.v1", 7, "/payload/r", text("-0.5"), "out_of_range"),
        ("harvest.control.v1", 8, "/payload/id", text("1770164710334"), "not an entry id"),

        ("harvest.decision.v1", 0, "/payload/qty", text("25.0"), "trailing zero"),
        ("harvest.decision.v1", 0, "/payload/qty", Some(json!(25)), "decimals are text"),
        ("harvest.decision.v1", 0, "/payload/r_net", text("-0"), "no -0"),
        ("harvest.decision.v1", 0, "/payload/r_net", text("0.7740181"), "6 places"),
        ("harvest.decision.v1", 0, "/payload/side", text("LONG"), "the side of an order"),
        ("harvest.decision.v1", 0, "/payload/rungs", Some(json!([])), "a decision takes a rung"),
        ("harvest.decision.v1", 0, "/payload/cause", text("1770163210062-0"), "an entry is stream/id"),
        ("harvest.decision.v1", 0, "/payload/evidence/mark_price/entry", None, "a source without its entry"),
        ("harvest.decision.v1", 0, "/seq", text("0"), "seq counts from 1"),
        ("harvest.decision.v1", 0, "/hash", None, "no chain without hash"),

        ("harvest.observation.v1", 0, "/event_type", text("exchange.order"), "unknown_event"),
        ("harvest.observation.v1", 0, "/payload/positionAmt", text("NaN"), "no_quantity"),
        ("harvest.observation.v1", 0, "/payload/positionSide", text("LANG"), "unknown_word"),
        ("harvest.observation.v1", 1, "/payload/id", None, "a trade is known by its id"),
        ("harvest.observation.v1", 1, "/payload/price", text("0"), "no_price"),
        ("harvest.observation.v1", 2, "/payload/source", text("somewhere"), "not a source that we fetch from"),
        ("harvest.observation.v1", 3, "/payload/stepSize", text("tiny"), "bad_number"),
        ("harvest.observation.v1", 4, "/payload/side", text("UP"), "unknown_word"),

        ("harvest.policy.v1", 0, "/ladderr", Some(json!([])), "unknown key"),
        ("harvest.policy.v1", 0, "/mode", text("Live"), "unknown mode"),
        ("harvest.policy.v1", 0, "/max_attempts", Some(json!(0)), "at least one attempt"),
        ("harvest.policy.v1", 0, "/min_r", text("5e-1"), "no exponents"),
        ("harvest.policy.v1", 0, "/ladder", Some(json!([{"r": "0", "fraction": "0.25"}])), "r > 0"),
        ("harvest.policy.v1", 0, "/ladder", Some(json!([{"r": "1", "fraction": "1.5"}])), "fraction above 1"),
        ("harvest.policy.v1", 1, "/ladder", None, "live names its ladder"),
        ("harvest.policy.v1", 1, "/atr_unit", None, "live names its units"),
        ("harvest.policy.v1", 1, "/price_sources", None, "live names its prices"),
        ("harvest.policy.v1", 1, "/price_sources", Some(json!([])), "live names its prices"),
        ("harvest.policy.v1", 1, "/on_live", None, "live states the treatment of passed rungs"),

        ("harvest.quarantine.v1", 0, "/reason", text("bad"), "not a reason"),
        ("harvest.quarantine.v1", 0, "/fields", None, "nothing is dropped"),
        ("harvest.quarantine.v1", 0, "/fields/payload", Some(json!(1)), "values are text"),
        ("harvest.quarantine.v1", 0, "/id", text("1-"), "not an entry id"),

        ("harvest.suggestions.v1", 0, "/payload/reduce_only", Some(json!(false)), "always reduce-only"),
        ("harvest.suggestions.v1", 0, "/payload/dry_run", None, "shadow is marked as such"),
        ("harvest.suggestions.v1", 0, "/payload/qty", text("0"), "nothing to close"),

        ("history-line.v1", 0, "/id", text("1770163200000"), "not an entry id"),
        ("history-line.v1", 0, "/stream", None, "no stream"),
        ("history-line.v1", 0, "/fields/k", Some(json!(5)), "values are text"),
        ("history-line.v1", 0, "/fields_b64", Some(json!({})), "one of the two"),
        ("history-line.v1", 1, "/fields_b64/payload", text("not base64!"), "not base64"),

        ("market.tick.v1", 0, "/payload/price", text("NaN"), "no_price"),
        ("market.tick.v1", 0, "/payload/price", Some(json!(-0.2148)), "out_of_range"),
        ("market.tick.v1", 0, "/payload/symbol", None, "no_symbol"),
        ("market.tick.v1", 0, "/payload", text("{not json"), "bad_json"),
        ("market.tick.v1", 1, "/price", text("0"), "no_price: 0 is absent"),
        ("market.tick.v1", 1, "/price", text("1000000000000000"), "out_of_range"),

        ("order.request.apply_plan.v1", 0, "/reduceOnly", text("false"), "always reduce-only"),
        ("order.request.apply_plan.v1", 0, "/steps", None, "one executor closes everything without steps"),
        ("order.request.apply_plan.v1", 0, "/steps/0/pct", text("25"), "executors multiply with it"),
        ("order.request.apply_plan.v1", 0, "/action", text("PARTIAL_30"), "an action that executors do not know"),
        ("order.request.apply_plan.v1", 0, "/valid_until_ms", None, "a request ends"),
        ("order.request.apply_plan.v1", 0, "/decision", text("SKIP"), "always EXECUTE"),

        ("order.request.trade_intent.v1", 0, "/payload/reduceOnly", None, "reduce-only under both names"),
        ("order.request.trade_intent.v1", 0, "/payload/reduce_only", Some(json!("true")), "JSON true"),
        ("order.request.trade_intent.v1", 0, "/payload/decision_id", None, "results are joined by it"),
        ("order.request.trade_intent.v1", 0, "/payload/valid_until_ms", None, "a request ends"),

        ("audit.report.v1", 0, "/verdict", text("fine"), "not a verdict"),
        ("audit.report.v1", 0, "/tampered", None, "every key is there"),
        ("audit.report.v1", 0, "/matched", text("1"), "counts are numbers"),
        ("audit.report.v1", 0, "/differs/0/fields/qty/recomputed", None, "both values are required"),
        ("audit.report.v1", 0, "/outcomes/filled", None, "every outcome is counted"),
        ("audit.report.v1", 0, "/chain/head/hash", text("5"), "a hash has 64 digits"),
        ("audit.report.v1", 1, "/tampered/0/why", text(""), "a fault has a reason"),

        ("doctor.v1", 0, "/checks/0/verdict", text("fine"), "not a verdict"),
        ("doctor.v1", 0, "/checks/0/next", None, "every key is there"),
        ("doctor.v1", 0, "/problems", text("1"), "counts are numbers"),

        ("explanation.v1", 0, "/symbol", None, "every explanation names its book"),
        ("explanation.v1", 0, "/later", None, "neither of a symbol nor of a decision"),
        ("explanation.v1", 0, "/holds/0/hold", text("later"), "not a hold"),
        ("explanation.v1", 1, "/decision", Some(json!({})), "a decision has an id"),
        ("explanation.v1", 1, "/outcome/state", text("done"), "not a state"),

        ("position.snapshot.v1", 0, "/position_qty", None, "no_quantity"),
        ("position.snapshot.v1", 0, "/side", None, "no_side"),
        ("position.snapshot.v1", 0, "/side", text("SOLD"), "unknown_word"),
        ("position.snapshot.v1", 0, "/position_qty", text("-29.6"), "out_of_range: absolute"),
        ("position.snapshot.v1", 1, "/side", text("LONG"), "unknown_word: contradicts the sign"),
        ("position.snapshot.v1", 1, "/positionSide", text("UP"), "unknown_word"),

        ("positions.v1", 0, "/0/entry_price", Some(json!("1.465")), "a value without its source"),
        ("positions.v1", 0, "/0/qty", text("-100"), "absolute"),
        ("positions.v1", 0, "/0/hold", None, "every key is there"),
        ("positions.v1", 0, "/0/rungs/0/state", text("done"), "not a state"),

        ("replay.summary.v1", 0, "/entries", text("6"), "counts are numbers"),
        ("replay.summary.v1", 0, "/quarantined/odd", Some(json!(1)), "not a reason"),
        ("replay.summary.v1", 0, "/holds/later", Some(json!(1)), "not a hold"),
        ("replay.summary.v1", 0, "/seconds", None, "every key is there"),

        ("status.v1", 0, "/role", text("chief"), "not a role"),
        ("status.v1", 0, "/totals", None, "every key is there"),
        ("status.v1", 0, "/uptime_ms", text("5000"), "times are numbers"),
        ("status.v1", 0, "/inputs/0/gap_proof", text("sure"), "not a proof"),
        ("status.v1", 0, "/concerns/0/says", text(""), "a finding says what it is"),

        ("trade.intent.v1", 0, "/payload/symbol", None, "no_symbol"),
        ("trade.intent.v1", 0, "/payload/side", None, "no_direction"),
        ("trade.intent.v1", 0, "/payload/side", text("HOLD"), "unknown_word"),
        ("trade.intent.v1", 0, "/payload/atr_value", text("small"), "bad_number"),
        ("trade.intent.v1", 2, "/payload", text("{not json"), "bad_json"),
        ("trade.intent.v1", 2, "/payload/entry_price", Some(json!(-1.465)), "out_of_range"),
        ("trade.intent.v1", 3, "/reduceOnly", text("nope"), "unknown_word"),
        ("trade.intent.v1", 4, "/data/symbol", text(""), "no_symbol"),
    ]
}

/// Returns parts of `common.v1`, with a value that each refuses, and the reason.
#[rustfmt::skip]
pub fn common() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("decimal", json!("1.50"), "trailing zero"),
        ("decimal", json!("1."), "no digits after the point"),
        ("decimal", json!("-0"), "no -0"),
        ("decimal", json!("-0.0"), "no -0"),
        ("decimal", json!("1e-9"), "no exponent"),
        ("decimal", json!("01"), "leading zero"),
        ("decimal", json!("+1"), "no plus"),
        ("decimal", json!(1), "text"),
        ("decimal_positive", json!("0"), "more than 0"),
        ("decimal_non_negative", json!("-1"), "0 or more"),
        ("decimal_plain_positive", json!("0.000"), "more than 0"),
        ("number_read", json!("1.2.3"), "bad_number"),
        ("number_read", json!("0x10"), "bad_number"),
        ("number_read", json!(1e15), "out_of_range"),
        ("quantity_read", json!("-1e-9"), "out_of_range"),
        ("positive_read", json!("0e5"), "0"),
        ("boolean_read", json!("on"), "unknown_word"),
        ("boolean_read", json!(2), "unknown_word"),
        ("absent", json!("0"), "a present 0"),
        ("entry_id", json!("1-01"), "leading zero"),
        ("position_id", json!("NEARUSDT@1-0/1"), "the first opening has no number"),
        ("symbol", json!("nearusdt"), "upper case"),
    ]
}
