//! What explanations, stories and charts state about a position: only what its entries say.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use crate::support::binary::{Ran, name, run_with};
use crate::support::case;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const INTENT: &str = "trade.intent";
const RESULT: &str = "apply.result";
const TICK: &str = "market.tick";
const SNAPSHOT: &str = "position.snapshot";

/// A history in a file.
struct Events {
    folder: tempfile::TempDir,
}

impl Events {
    /// Writes entries: short name of the stream, id, and fields.
    fn of(entries: &[(&str, &str, Value)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut lines = String::new();
        for (stream, id, fields) in entries {
            let line = json!({"stream": format!("quantum:stream:{stream}"), "id": id, "fields": fields});
            writeln!(lines, "{line}").expect("a text grows");
        }
        fs::write(folder.path().join("events.jsonl"), lines).expect("the history is written");
        Self { folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("events.jsonl")
    }

    fn run(&self, words: &[&str]) -> Ran {
        let file = self.file();
        let ran = run_with(&[words, &[name(&file)]].concat());
        assert_eq!(ran.code, Some(0), "{}", ran.log);
        ran
    }

    fn chart(&self, position: &str) -> String {
        self.chart_of(position, &[])
    }

    fn chart_of(&self, position: &str, words: &[&str]) -> String {
        let out = self.folder.path().join("chart.svg");
        self.run(&[&["chart", "position", position, "--out", name(&out)], words].concat());
        fs::read_to_string(out).expect("the chart is written")
    }
}

fn intent(symbol: &str) -> Value {
    let payload = json!({"symbol": symbol, "side": "BUY", "entry_price": 100, "atr_value": 2, "volatility_factor": 1});
    json!({"event_type": "trade.intent", "payload": payload.to_string()})
}

fn bought(symbol: &str) -> Value {
    json!({"symbol": symbol, "executed": "true", "executedQty": "10", "avgPrice": "100", "orderId": "501",
        "order_status": "FILLED", "side": "BUY"})
}

fn bought_at_no_price(symbol: &str) -> Value {
    let mut fields = bought(symbol);
    fields.as_object_mut().expect("fields").remove("avgPrice");
    fields
}

fn price(symbol: &str, price: f64) -> Value {
    json!({"event_type": "market.tick", "payload": json!({"symbol": symbol, "price": price}).to_string()})
}

/// A result that cannot be read may be of any position.
fn unreadable_result() -> Value {
    json!({"payload": json!({"symbol": "XRP<b>USDT</b>", "executedQty": 1}).to_string()})
}

/// The result opens the position without a price, and the price has the same id in its own stream.
#[test]
fn a_chart_has_a_hold_that_began_with_the_same_id_in_another_stream() {
    let events = Events::of(&[
        (INTENT, "1770163200000-0", intent("SOLUSDT")),
        (RESULT, "1770163201000-0", bought("SOLUSDT")),
        (TICK, "1770163201000-0", price("SOLUSDT", 100.1)),
        (TICK, "1770163260000-0", price("SOLUSDT", 103.0)),
    ]);
    let chart = events.chart("SOLUSDT");
    assert!(chart.contains("below_min_r for 59s, from 2026-02-04T00:00:01.000Z"), "{chart}");
    assert!(!chart.contains("no_price for 59s"), "{chart}");
    let story = events.run(&["history", "SOLUSDT"]).out;
    assert!(story.contains("no_price → below_min_r"), "{story}");
}

/// No price evaluates the position, so the hold comes with an entry that does not name it.
#[test]
fn the_last_lane_is_the_hold_of_the_headline() {
    let events = Events::of(&[
        (RESULT, "1770163201000-0", bought_at_no_price("LTCUSDT")),
        (RESULT, "1770163202000-0", unreadable_result()),
        (TICK, "1770163260000-0", price("SOLUSDT", 100.3)),
    ]);
    let headline = events.run(&["explain", "LTCUSDT"]).out;
    assert!(headline.contains("not harvested: history_gap"), "{headline}");
    let chart = events.chart("LTCUSDT");
    assert!(chart.contains("missing_entry_price for 1.0s, from 2026-02-04T00:00:01.000Z"), "{chart}");
    assert!(chart.contains("history_gap for 58s, from 2026-02-04T00:00:02.000Z"), "{chart}");
}

/// Three streams have the id. Each field has come from one of them.
#[test]
fn a_field_names_only_the_stream_that_it_came_from() {
    let events = Events::of(&[
        (INTENT, "1770163200000-0", intent("SOLUSDT")),
        (RESULT, "1770163200000-0", bought("SOLUSDT")),
        (TICK, "1770163200000-0", price("SOLUSDT", 100.1)),
    ]);
    let screen = events.run(&["explain", "SOLUSDT"]).out;
    let streams_of = |field: &str| -> Vec<&str> {
        let row = screen.lines().find(|line| line.trim_start().starts_with(field)).expect("a row of the field");
        row.split_whitespace().filter(|word| word.starts_with("quantum:")).collect()
    };
    for (field, stream) in [
        ("entry_price", RESULT),
        ("atr_value", INTENT),
        ("volatility_factor", INTENT),
        ("mark_price", TICK),
        ("fill BUY 10", RESULT),
    ] {
        assert_eq!(streams_of(field), [format!("quantum:stream:{stream}")], "{field}: {screen}");
    }
    let document = events.run(&["explain", "SOLUSDT", "--json"]).json();
    let origins = document["origins"]["1770163200000-0"].as_array().expect("lines of the entry");
    let named: Vec<_> = origins.iter().map(|origin| (origin["stream"].clone(), origin["fields"].clone())).collect();
    assert_eq!(
        named,
        [
            (json!("quantum:stream:trade.intent"), json!(["atr_value", "volatility_factor"])),
            (json!("quantum:stream:apply.result"), json!(["entry_price", "fill 1"])),
            (json!("quantum:stream:market.tick"), json!(["mark_price"])),
        ]
    );
}

/// Up to the last recorded decision the rules only compare. The decision about ADAUSDT is missing at its first cause.
#[test]
fn a_history_states_no_decision_where_none_was_made() {
    let folder = case("s4_own_decisions_missing");
    let (events, policy) = (folder.join("events.jsonl"), folder.join("policy.toml"));
    let story =
        |symbol: &str| run_with(&["history", symbol, name(&events), "--config", name(&policy)]).out.replace('\n', " ");
    let (missing, recorded) = (story("ADAUSDT"), story("SOLUSDT"));
    assert!(missing.contains("→ none: these rules decide, and no decision is recorded"), "{missing}");
    assert!(!missing.contains("decision made"), "{missing}");
    assert!(recorded.contains("→ none: decision made") && !recorded.contains("is recorded"), "{recorded}");
}

#[test]
fn a_newer_source_of_the_same_value_is_no_change() {
    let snapshot = |price: &str| {
        json!({"event_type": "position.snapshot", "symbol": "SOLUSDT", "side": "LONG", "position_qty": "10",
            "entry_price": price})
    };
    let events = Events::of(&[
        (RESULT, "1770163201000-0", bought_at_no_price("SOLUSDT")),
        // The same value is no change.
        (SNAPSHOT, "1770163233000-0", snapshot("100")),
        (SNAPSHOT, "1770163234000-0", snapshot("100")),
        (SNAPSHOT, "1770163235000-0", snapshot("100")),
        // Another value.
        (SNAPSHOT, "1770163236000-0", snapshot("100.2")),
    ]);
    let document = events.run(&["history", "SOLUSDT", "--json"]).json();
    let changes = document.as_array().expect("changes");
    let of_entry = changes.iter().filter(|change| change["field"] == "entry_price");
    let shown: Vec<_> = of_entry.map(|change| (change["from"].clone(), change["to"].clone())).collect();
    assert_eq!(
        shown,
        [
            (json!(null), json!("100 (exchange 1770163233000-0)")),
            (json!("100 (exchange 1770163235000-0)"), json!("100.2 (exchange 1770163236000-0)")),
        ]
    );
}

/// A recorded decision of another policy has the cause `apply.result/…3203000-0`. These rules decide at the price with
/// the same id, and that decision is not recorded.
#[test]
fn a_decision_belongs_to_the_hold_of_its_own_stream_only() {
    let case = case("s4_own_decisions_missing");
    let mut lines: Vec<Value> = Vec::new();
    for line in fs::read_to_string(case.join("events.jsonl")).expect("the history of a case").lines() {
        lines.push(serde_json::from_str(&line.replace("0.406}", "0.409}")).expect("a line is JSON"));
    }
    let at = lines.iter().position(|line| line["id"] == "1770163203000-0").expect("the price");
    let mut again = bought("ADAUSDT");
    again["executedQty"] = json!("500");
    again["avgPrice"] = json!("0.4");
    again["orderId"] = json!("502");
    lines.insert(at, json!({"stream": "quantum:stream:apply.result", "id": "1770163203000-0", "fields": again}));
    let at = lines.iter().position(|line| line["id"] == "1770163205050-1").expect("the decision");
    let mut decision = lines[at].clone();
    let fields = &mut decision["fields"];
    let (id, of_ada) = ("783a14fba3482391f7d3e628c7888b49", "ADAUSDT@1770163201000-1");
    let payload = fields["payload"].as_str().expect("a payload");
    let payload = payload
        .replace("783a14fba3482391f7d3e628c7888b48", id)
        .replace("SOLUSDT@1770163201000-0", of_ada)
        .replace("SOLUSDT", "ADAUSDT")
        .replace("market.tick/1770163205000-0", "apply.result/1770163203000-0");
    let prev = fields["hash"].as_str().expect("a hash").to_owned();
    let hash = Sha256::digest(format!("{prev}\n{payload}"));
    let hash = hash.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    fields["decision_id"] = json!(id);
    fields["symbol"] = json!("ADAUSDT");
    fields["prev"] = json!(prev);
    fields["hash"] = json!(hash);
    fields["payload"] = json!(payload);
    decision["id"] = json!("1770163205060-1");
    lines.insert(at + 1, decision);
    let events = Events { folder: tempfile::tempdir().expect("a folder") };
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    fs::write(events.file(), text.join("\n")).expect("the history is written");
    let policy = case.join("policy.toml");
    let story = events.run(&["history", "ADAUSDT", "--config", name(&policy)]).out;
    assert!(story.contains("decision 783a14fba3482391f7d3e628c7888b49 2.5 of 0.5 R, shadowed"), "{story}");
    assert!(story.contains("no_price → none: these rules decide, and no decision is recorded"), "{story}");
    let chart = events.chart_of("ADAUSDT", &["--config", name(&policy), "--at", "1770163204000-0"]);
    assert!(!chart.contains("class=\"decided\""), "{chart}");
}
