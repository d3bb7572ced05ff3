//! The example of the order-placing service writes the recommended shape R-D, with prices, and never a fill of zero.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use crate::support;
use crate::support::contract::faults;
use serde_json::Value;

#[test]
fn every_line_is_a_history_line_with_a_recommended_result() {
    let lines = printed();
    assert!(!lines.is_empty());
    for line in lines {
        assert_eq!(faults("history-line.v1", &line), Vec::<String>::new(), "{line}");
        assert_eq!(line["stream"], "quantum:stream:apply.result");
        assert_eq!(faults("apply.result.v2", &line["fields"]), Vec::<String>::new(), "{line}");
        assert_eq!(
            faults("apply.result.v1", &line["fields"]),
            Vec::<String>::new(),
            "existing readers read it as well"
        );
    }
}

#[test]
fn quantities_and_average_prices_equal_those_of_the_exchange() {
    let columns = ["id", "orderId", "order_status", "executedQty", "avgPrice", "executed", "reduceOnly"];
    let cell = |line: &Value, column: &str| {
        let value = if column == "id" { &line[column] } else { &line["fields"][column] };
        value.as_str().unwrap_or("-").to_owned()
    };
    let rows: Vec<String> = printed().iter().map(|line| columns.map(|column| cell(line, column)).join(" ")).collect();
    let want = [
        "1770163395900-0 798972749 NEW 0 - true false",
        "1770163395946-0 798972749 FILLED 29.6 13.3724700 true false",
        "1770164261700-0 798972790 NEW 0 - true true",
        "1770164261999-0 798972790 PARTIALLY_FILLED 5.0 13.2010000 true true",
        "1770164262999-0 798972790 FILLED 14.8 13.2043108 true true",
        "1770165468100-0 798972853 NEW 0 - true false",
        "1770165468180-0 798972853 EXPIRED 16.4 3.471000 true false",
        "1770166000200-0 798972901 NEW 0 - true true",
        "1770166000231-0 798972901 EXPIRED 0 - false true",
        "1770166100400-0 - REJECTED 0 - false false",
    ];
    assert_eq!(rows, want);
}

#[test]
fn an_order_is_published_once_for_every_change_and_its_quantity_never_falls() {
    let mut last: BTreeMap<String, (f64, String)> = BTreeMap::new();
    for line in printed() {
        let text = |key: &str| line["fields"][key].as_str().unwrap_or_default().to_owned();
        let quantity: f64 = text("executedQty").parse().unwrap();
        let now = (quantity, text("order_status"));
        if let Some(before) = last.insert(text("orderId"), now.clone()) {
            assert!(before.0 <= quantity && before != now, "{line}");
        }
    }
    assert_eq!(last.len(), 5, "four orders, and one that was not placed");
}

#[test]
fn the_published_results_replay_into_positions_with_prices() {
    let folder = tempfile::tempdir().unwrap();
    let history = folder.path().join("results.jsonl");
    std::fs::write(&history, print()).unwrap();
    let request = harvester::cli::replay::Request { histories: vec![history], ..Default::default() };
    let (replayed, _) = support::replayed(&request, &support::config(None));
    assert_eq!(replayed.summary.applied, 10);
    assert!(replayed.summary.quarantined.is_empty());
    let positions = harvester::codec::view::positions(&replayed.engine, true);
    let rows: Vec<String> = positions
        .iter()
        .map(|p| format!("{} {} {} {}", p.symbol, p.side, p.qty, p.entry_price.as_ref().unwrap().value))
        .collect();
    // 29.6 sold, then 5 and 9.8 bought back; 16.4 bought before the order expired, and its close bought nothing.
    assert_eq!(rows, ["AVAXUSDT SHORT 14.8 13.37247", "INJUSDT LONG 16.4 3.471"]);
    // (13.37247 − 13.201) × 5 + (13.37247 × 9.8 − (13.2043108 × 14.8 − 13.201 × 5)) = 2.48875616
    let realized: rust_decimal::Decimal = positions[0].realized_pnl.as_ref().unwrap().parse().unwrap();
    assert_eq!(realized.round_dp(12).normalize().to_string(), "2.48875616");
}

#[test]
fn a_fill_of_zero_is_queried_again_and_never_published() {
    python(
        r#"
order = sample("1_entry")["replies"][1]
assert order["status"] == "FILLED" and order["executedQty"] == "0", order
raises(NotYetKnown, build_result, order, plan)
raises(NotYetKnown, build_result, order | {"status": "PARTIALLY_FILLED", "executedQty": "0.000"}, plan)
raises(NotYetKnown, build_result, order | {"executedQty": "29.6", "avgPrice": "0.00000"}, plan)
without = {k: v for k, v in order.items() if k != "avgPrice"} | {"executedQty": "29.6"}
raises(NotYetKnown, build_result, without, plan)
"#,
    );
}

#[test]
fn an_order_that_differs_from_its_plan_is_an_error() {
    python(
        r#"
order = sample("1_entry")["replies"][2]
raises(ValueError, build_result, order | {"reduceOnly": True}, plan)
raises(ValueError, build_result, order | {"side": "BUY"}, plan)
raises(ValueError, build_result, order, plan | {"symbol": "XRPUSDT"})
raises(ValueError, build_refusal, {"code": 1, "msg": "x"}, plan | {"reduceOnly": "maybe"}, 1)
raises(KeyError, build_result, order, {k: v for k, v in plan.items() if k != "reduceOnly"})
raises(TypeError, build_result, order | {"executedQty": 29.6}, plan)
"#,
    );
}

#[test]
fn an_order_is_followed_to_its_final_status_and_a_missing_one_is_an_error() {
    python(
        r#"
replies, published = list(sample("2_close_in_parts")["replies"]), []
def ask(symbol, order_id):
    assert (symbol, order_id) == ("AVAXUSDT", "798972790"), (symbol, order_id)
    if len(published) == 1 and not asked:
        asked.append(1)
        raise NotYetKnown("the exchange did not answer")
    return replies.pop(0)
asked, close = [], sample("2_close_in_parts")["plan"]
follow_order(ask, published.append, close, "798972790", pauses=[0] * 6)
assert [r["executedQty"] for r in published] == ["0", "5.0", "14.8"], published
replies[:] = sample("2_close_in_parts")["replies"][:3]
raises(TimeoutError, follow_order, ask, published.append, close, "798972790", [0] * 3)
"#,
    );
}

#[test]
fn the_query_is_signed_and_an_unknown_answer_is_not_a_refusal() {
    python(
        r#"
import io, urllib.error
def answer(request, timeout):
    seen.append((request.full_url, request.get_header("X-mbx-apikey")))
    return io.BytesIO(b'{"status": "NEW"}')
def fails(code, body):
    def answer(request, timeout):
        raise urllib.error.HTTPError(request.full_url, code, "", {}, io.BytesIO(body))
    return binance("https://x", "key", "secret", answer)
seen = []
ask = binance("https://x", "key", "secret", answer, now=lambda: 1770163396.0)
assert ask("AVAXUSDT", "798972749") == {"status": "NEW"}
query = "symbol=AVAXUSDT&orderId=798972749&recvWindow=5000&timestamp=1770163396000"
signature = "86fb75da1a6ea322833d928f2e133dee96e129a53b0740ed9e329bdeda75c1a6"
assert seen == [(f"https://x/fapi/v1/order?{query}&signature={signature}", "key")], seen
raises(NotYetKnown, fails(400, b'{"code":-2013,"msg":"Order does not exist."}'), "AVAXUSDT", "1")
raises(NotYetKnown, fails(503, b"Unknown error"), "AVAXUSDT", "1")
raises(RuntimeError, fails(429, b'{"code":-1003}'), "AVAXUSDT", "1")
"#,
    );
}

/// Returns the lines of `producer.py --print`, run without any installed package.
fn print() -> String {
    let script = folder().join("producer.py");
    run(&["-I", "-S", "-B", script.to_str().unwrap(), "--print"])
}

fn printed() -> Vec<Value> {
    print().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs `checks` with all names of the producer, `plan` (of the first sample), `sample(name)` and `raises`.
fn python(checks: &str) {
    let prelude = format!(
        r#"
import json, pathlib, sys
folder = pathlib.Path({folder:?})
sys.path.insert(0, str(folder))
from producer import *
def sample(name):
    return json.loads((folder / "samples" / (name + ".json")).read_text(encoding="utf-8"))
def raises(kind, function, *arguments):
    try:
        result = function(*arguments)
    except kind:
        return
    raise AssertionError(f"{{kind.__name__}} expected, got {{result}}")
plan = sample("1_entry")["plan"]
"#,
        folder = folder().display().to_string(),
    );
    run(&["-I", "-S", "-B", "-c", &format!("{prelude}{checks}")]);
}

fn run(arguments: &[&str]) -> String {
    let output = Command::new("python3").args(arguments).output().expect("python3 is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tools/producer"))
}
