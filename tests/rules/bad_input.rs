//! Bad input: a clear error, nothing lost, never a panic. The program runs as a process, as users start it.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use crate::support::binary::{harvester, name, piped, run_fed, run_with};
use crate::support::histories::{CONTROL, DECISION, INTENT, OBSERVATION, PLAN, RESULT, SNAPSHOT, TICK};
use crate::support::lab::entry_line;
use serde_json::{Value, json};
use tempfile::TempDir;

mod output;
mod settings;

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn file(&self, file: &str, bytes: impl AsRef<[u8]>) -> String {
        let path = self.path(file);
        fs::write(&path, bytes).expect("a file is written");
        name(&path).to_owned()
    }

    fn history(&self, lines: &[String]) -> String {
        self.file("history.jsonl", lines.join("\n") + "\n")
    }

    fn store(&self) -> String {
        name(&self.path("store")).to_owned()
    }
}

/// Returns the id of a second after the beginning.
fn at(second: u64) -> String {
    format!("{}-0", 1_770_163_200_000 + 1_000 * second)
}

fn price(second: u64, symbol: &str, price: &str) -> String {
    entry_line(TICK, &at(second), &[("symbol", symbol), ("price", price)])
}

/// Returns the history of a long position of 10 at 100 that is harvested at 101.1.
fn good() -> Vec<String> {
    vec![
        entry_line(
            INTENT,
            &at(0),
            &[("symbol", "SOLUSDT"), ("side", "BUY"), ("atr_value", "2"), ("volatility_factor", "1")],
        ),
        entry_line(
            RESULT,
            &at(1),
            &[
                ("symbol", "SOLUSDT"),
                ("side", "BUY"),
                ("orderId", "1"),
                ("executedQty", "10"),
                ("avgPrice", "100"),
                ("order_status", "FILLED"),
            ],
        ),
        price(2, "SOLUSDT", "100.5"),
        price(3, "SOLUSDT", "101.1"),
        price(4, "SOLUSDT", "101.2"),
    ]
}

fn with(mut lines: Vec<String>, at: usize, line: &str) -> Vec<String> {
    lines.insert(at, line.to_owned());
    lines
}

// ---- lines that are not entries ------------------------------------------------------------------------------------

#[test]
fn a_line_that_is_not_an_entry_is_an_error_with_its_place_or_is_counted() {
    for bad in [
        "{\"stream\":",
        "not json at all",
        "[1,2,3]",
        "5",
        r#"{"id":"1-0","fields":{}}"#,
        r#"{"stream":"quantum:stream:market.tick","fields":{}}"#,
        r#"{"stream":"quantum:stream:market.tick","id":"1-0"}"#,
        r#"{"stream":"quantum:stream:market.tick","id":"1","fields":{}}"#,
        r#"{"stream":"quantum:stream:market.tick","id":"1-x","fields":{}}"#,
        r#"{"stream":"quantum:stream:market.tick","id":17,"fields":{}}"#,
        r#"{"stream":"quantum:stream:market.tick","id":"99999999999999999999-0","fields":{}}"#,
        r#"{"stream":"quantum:stream:market.tick","id":"1-0","fields":[]}"#,
        r#"{"stream":"quantum:stream:market.tick","id":"1-0","fields":{"price":1.5}}"#,
        r#"{"stream":"quantum:stream:market.tick","id":"1-0","fields_b64":{"price":"%%%"}}"#,
        r#"{"stream":"quantum:stream:market.tick","id":"1-0","fields":{}} and more"#,
    ] {
        let folder = Folder::new();
        let history = folder.history(&with(good(), 2, bad));
        run_with(&["replay", &history]).refused(&[&format!("{history}:3: ")]);
        run_with(&["replay", &history, "--json"]).refused(&[&format!("{history}:3: ")]);

        let summary = run_with(&["replay", &history, "--skip-bad-lines", "--json"]).json();
        assert_eq!(summary["bad_lines"], 1, "{bad}");
        assert_eq!((&summary["entries"], &summary["decisions"]), (&json!(5), &json!(1)), "{bad}");
    }
}

#[test]
fn a_line_that_is_not_utf8_is_an_error_with_its_place() {
    let folder = Folder::new();
    let mut bytes = (good().join("\n") + "\n").into_bytes();
    bytes.extend(
        b"{\"stream\":\"quantum:stream:market.tick\",\"id\":\"1770163209000-0\",\"fields\":{\"a\":\"\xff\"}}\n",
    );
    let history = folder.file("history.jsonl", bytes);
    run_with(&["replay", &history]).refused(&[&format!("{history}:6: ")]);
    assert_eq!(run_with(&["replay", &history, "--skip-bad-lines", "--json"]).json()["bad_lines"], 1);
}

#[test]
fn blank_lines_carriage_returns_and_a_byte_order_mark_are_accepted() {
    let folder = Folder::new();
    let history = folder.file("history.jsonl", format!("\u{feff}\n{}\r\n\n  \n", good().join("\r\n\r\n")));
    let summary = run_with(&["replay", &history, "--json"]).json();
    assert_eq!((&summary["entries"], &summary["bad_lines"]), (&json!(5), &json!(0)));
}

// ---- unusable entries ----------------------------------------------------------------------------------------------

/// Stream, fields and reason of an unusable entry.
type Unusable = (&'static str, &'static [(&'static str, &'static str)], &'static str);

/// Each is quarantined, is listed afterwards with its reason, and stops nothing.
const UNUSABLE: [Unusable; 35] = [
    (TICK, &[("price", "1")], "no_symbol"),
    (TICK, &[("symbol", ""), ("price", "1")], "no_symbol"),
    (TICK, &[("symbol", "SOLUSDT")], "no_price"),
    (TICK, &[("symbol", "SOLUSDT"), ("price", "")], "no_price"),
    (TICK, &[("symbol", "SOLUSDT"), ("price", "0")], "no_price"),
    (TICK, &[("symbol", "SOLUSDT"), ("price", "NaN")], "no_price"),
    (TICK, &[("symbol", "SOLUSDT"), ("price", "1,5")], "bad_number"),
    (TICK, &[("symbol", "SOLUSDT"), ("price", "0x10")], "bad_number"),
    (TICK, &[("symbol", "SOLUSDT"), ("price", "-1")], "out_of_range"),
    (TICK, &[("symbol", "SOLUSDT"), ("price", "1e15")], "out_of_range"),
    (TICK, &[("symbol", "SOLUSDT"), ("price", "1e999999999999")], "out_of_range"),
    (TICK, &[("symbol", "SOLUSDT"), ("price", "1.2345678901234567890123456789")], "out_of_range"),
    (TICK, &[], "no_symbol"),
    (TICK, &[("payload", "{")], "bad_json"),
    (TICK, &[("payload", "[]")], "bad_json"),
    (TICK, &[("payload", "{\"symbol\":{\"is\":\"SOLUSDT\"},\"price\":1}")], "unknown_word"),
    (TICK, &[("payload", "{\"symbol\":\"SOLUSDT\",\"price\":[1]}")], "bad_number"),
    (INTENT, &[("symbol", "SOLUSDT")], "no_direction"),
    (INTENT, &[("symbol", "SOLUSDT"), ("side", "UPWARDS")], "unknown_word"),
    (PLAN, &[("symbol", "SOLUSDT"), ("plan_id", "p"), ("side", "CLOSE"), ("qty", "1")], "unknown_word"),
    (RESULT, &[("symbol", "SOLUSDT"), ("side", "BUY"), ("status", "FILLED")], "no_quantity"),
    (RESULT, &[("symbol", "SOLUSDT"), ("side", "BUY")], "no_outcome"),
    (RESULT, &[("symbol", "SOLUSDT"), ("executedQty", "1")], "no_side"),
    (RESULT, &[("symbol", "SOLUSDT"), ("status", "SIDEWAYS")], "unknown_word"),
    (RESULT, &[("symbol", "SOLUSDT"), ("executed", "perhaps")], "unknown_word"),
    (SNAPSHOT, &[("symbol", "SOLUSDT"), ("position_qty", "5")], "no_side"),
    (SNAPSHOT, &[("symbol", "SOLUSDT"), ("side", "LONG")], "no_quantity"),
    (SNAPSHOT, &[("symbol", "SOLUSDT"), ("position_amt", "-5"), ("positionSide", "LONG")], "unknown_word"),
    (SNAPSHOT, &[("symbol", "SOLUSDT"), ("position_amt", "5"), ("positionSide", "UP")], "unknown_word"),
    (SNAPSHOT, &[("symbol", "SOLUSDT"), ("position_amt", "5"), ("account", "a b")], "unknown_account"),
    (OBSERVATION, &[("event_type", "exchange.mood")], "unknown_event"),
    (CONTROL, &[("event_type", "coffee.brewed")], "unknown_event"),
    (CONTROL, &[("event_type", "kill.changed"), ("kill", "perhaps")], "unknown_word"),
    (CONTROL, &[("event_type", "policy.adopted"), ("policy", "{\"mdoe\":\"live\"}")], "unknown_word"),
    (DECISION, &[("event_type", "harvest.decision"), ("payload", "{}")], "no_symbol"),
];

#[test]
fn an_unusable_entry_is_quarantined_with_its_reason_and_stops_nothing() {
    let folder = Folder::new();
    let mut lines = good();
    let ids: Vec<String> = (0..UNUSABLE.len() as u64).map(|i| at(10 + i)).collect();
    lines.extend(UNUSABLE.iter().zip(&ids).map(|((stream, fields, _), id)| entry_line(stream, id, fields)));
    lines.push(price(100, "ADAUSDT", "0.4"));
    let history = folder.history(&lines);
    let summary = run_with(&["replay", &history, "--store", &folder.store(), "--json"]).json();
    assert_eq!(summary["entries"], json!(lines.len()));
    assert_eq!(summary["applied"], json!(lines.len() - UNUSABLE.len()));
    assert_eq!(summary["killed"], true, "an unreadable kill kills");

    let listed = run_with(&["quarantine", "list", "--store", &folder.store(), "--json"]).json();
    let listed = listed.as_array().expect("a list");
    assert_eq!(listed.len(), UNUSABLE.len());
    for ((stream, fields, reason), id) in UNUSABLE.iter().zip(&ids) {
        let found = listed.iter().find(|item| item["stream"] == *stream && item["id"] == **id);
        let found = found.unwrap_or_else(|| panic!("{stream} {id} is not listed"));
        assert_eq!(found["reason"], *reason, "{stream} {fields:?}");
        assert_eq!(found["line"], entry_line(stream, id, fields), "the entry is kept whole");
    }

    let shown = run_with(&["quarantine", "show", "--store", &folder.store(), "market.tick", &ids[0]]);
    assert_eq!((shown.code, shown.out.lines().next()), (Some(0), Some("no_symbol")));
    run_with(&["quarantine", "show", "--store", &folder.store(), "market.tick", &at(3)])
        .refused(&["market.tick", &at(3)]);
}

#[test]
fn bytes_that_are_not_utf8_matter_only_in_a_field_that_is_used() {
    let folder = Folder::new();
    // "SOLUSDT", "1.5" and bytes that are not UTF-8, in base64.
    let entry = |second, fields: &Value| json!({"stream": TICK, "id": at(second), "fields_b64": fields}).to_string();
    let needed = entry(5, &json!({"symbol": "U09MVVNEVA==", "price": "//79"}));
    let name_needed = entry(6, &json!({"symbol": "//79", "price": "MS41"}));
    let not_needed = entry(7, &json!({"symbol": "U09MVVNEVA==", "price": "MTAxLjU=", "note": "//79"}));
    let mut lines = good();
    lines.extend([needed, name_needed, not_needed]);
    let history = folder.history(&lines);
    let summary = run_with(&["replay", &history, "--store", &folder.store(), "--json"]).json();
    assert_eq!(summary["quarantined"], json!({"not_utf8": 2}));
    assert_eq!(summary["applied"], 6);
    let positions = run_with(&["positions", "--store", &folder.store(), "--json"]).json();
    assert_eq!(positions[0]["mark_price"]["value"], "101.5", "the entry with an unreadable note was used");
}

#[test]
fn an_entry_of_more_than_a_megabyte_is_quarantined() {
    let folder = Folder::new();
    let long = "x".repeat(1 << 20);
    let mut lines = good();
    lines.push(entry_line(TICK, &at(5), &[("symbol", "SOLUSDT"), ("price", "101.3"), ("note", &long)]));
    lines.push(entry_line(TICK, &at(6), &[("symbol", "SOLUSDT"), ("price", "101.4"), ("note", &long[..900_000])]));
    let history = folder.history(&lines);
    let summary = run_with(&["replay", &history, "--store", &folder.store(), "--json"]).json();
    assert_eq!(summary["quarantined"], json!({"too_large": 1}));
    let positions = run_with(&["positions", "--store", &folder.store(), "--json"]).json();
    assert_eq!(positions[0]["mark_price"]["value"], "101.4");
    let listed = run_with(&["quarantine", "list", "--store", &folder.store(), "--json"]).json();
    assert_eq!(listed[0]["line"].as_str().map(str::len), Some(lines[5].len()), "kept whole, whatever its size");
}

#[test]
fn an_id_that_goes_backwards_is_sorted_with_a_notice() {
    let folder = Folder::new();
    let mut lines = good();
    lines.swap(2, 4);
    let history = folder.history(&lines);
    let ran = run_with(&["replay", &history, "--json"]);
    let summary = ran.json();
    assert!(ran.log.contains(&history) && ran.log.contains("order"), "a notice names the file: {}", ran.log);
    assert_eq!((&summary["applied"], &summary["decisions"]), (&json!(5), &json!(1)));

    // After the cursor of a store has passed it, the entry is a duplicate.
    let earlier = folder.file("earlier.jsonl", price(2, "SOLUSDT", "90"));
    run_with(&["replay", &history, "--store", &folder.store(), "--json"]).json();
    let summary = run_with(&["replay", &earlier, "--store", &folder.store(), "--json"]).json();
    assert_eq!((&summary["duplicates"], &summary["applied"]), (&json!(1), &json!(0)));
}

#[test]
fn ten_thousand_symbols_are_kept_apart() {
    let folder = Folder::new();
    let lines: Vec<String> = (0..10_000).map(|i| price(i, &format!("S{i}USDT"), "1.5")).collect();
    let history = folder.history(&lines);
    let summary = run_with(&["replay", &history, "--store", &folder.store(), "--json"]).json();
    assert_eq!((&summary["applied"], &summary["positions_open"]), (&json!(10_000), &json!(0)));
    let fill = [("symbol", "S9999USDT"), ("side", "BUY"), ("executedQty", "1"), ("avgPrice", "1.5"), ("orderId", "1")];
    let more = folder.file("more.jsonl", entry_line(RESULT, &at(10_000), &fill));
    run_with(&["replay", &more, "--store", &folder.store(), "--json"]).json();
    let positions = run_with(&["positions", "--store", &folder.store(), "--json"]).json();
    assert_eq!(positions[0]["symbol"], "S9999USDT");
    let again = folder.file("again.jsonl", price(10_001, "S9999USDT", "1.5"));
    run_with(&["replay", &again, "--store", &folder.store(), "--json"]).json();
    let positions = run_with(&["positions", "--store", &folder.store(), "--json"]).json();
    assert_eq!(positions[0]["mark_price"]["value"], "1.5");
}

#[test]
fn names_of_any_length_and_script_are_accepted() {
    let folder = Folder::new();
    let long = "S".repeat(3_000);
    let mut lines = good();
    for (second, symbol) in (5..).zip([long.as_str(), "币安人生USDT", "a b\u{0}c", "../../etc/passwd", "NULLUSDT"])
    {
        lines.push(price(second, symbol, "1.5"));
    }
    let fields = [("symbol", "SOLUSDT"), ("side", "BUY"), ("executedQty", "1"), ("orderId", long.as_str())];
    lines.push(entry_line(RESULT, &at(20), &fields));
    let history = folder.history(&lines);
    let summary = run_with(&["replay", &history, "--store", &folder.store(), "--json"]).json();
    assert_eq!(summary["entries"], json!(lines.len()));
    let positions = run_with(&["positions", "--store", &folder.store(), "--all", "--json"]).json();
    assert_eq!(positions[0]["qty"], "11");
}

// ---- histories ----------------------------------------------------------------------------------------------------

#[test]
fn a_missing_or_empty_history_is_an_error_that_names_it() {
    let folder = Folder::new();
    let absent = name(&folder.path("absent.jsonl")).to_owned();
    run_with(&["replay", &absent]).refused(&[&absent]);
    let empty = name(folder.0.path()).to_owned();
    folder.file("notes.txt", "no history");
    run_with(&["replay", &empty]).refused(&[&empty, "*.jsonl"]);

    let no_history = run_with(&["replay"]);
    assert_eq!((no_history.code, no_history.out.as_str()), (Some(2), ""));
    assert!(no_history.log.contains("HISTORY"), "{}", no_history.log);

    // A file without entries is an empty history.
    let nothing = folder.file("nothing.jsonl", "");
    let summary = run_with(&["replay", &nothing, "--json"]).json();
    assert_eq!(
        (&summary["entries"], &summary["first_id"], &summary["positions_unknown"]),
        (&json!(0), &Value::Null, &json!(true))
    );
}

#[test]
fn a_compressed_history_that_is_cut_off_is_an_error_and_changes_nothing() {
    let folder = Folder::new();
    let lines: Vec<String> = (0..5_000).map(|i| price(i, &format!("S{}USDT", i % 97), "1.5")).collect();
    let compressed = zstd::encode_all((lines.join("\n") + "\n").as_bytes(), 1).expect("zstd compresses");
    let cut = folder.file("cut.jsonl.zst", &compressed[..compressed.len() * 2 / 3]);
    run_with(&["replay", &cut, "--store", &folder.store()]).refused(&[&cut]);
    let whole = folder.file("whole.jsonl.zst", &compressed);
    let summary = run_with(&["replay", &whole, "--store", &folder.store(), "--json"]).json();
    assert_eq!((&summary["applied"], &summary["duplicates"]), (&json!(5_000), &json!(0)));

    let summary = run_with(&["replay", &cut, "--skip-bad-lines", "--json"]).json();
    assert_eq!(summary["bad_lines"], 1, "the cut is one bad line");
    let no_zstd = folder.file("plain.jsonl.zst", lines.join("\n"));
    run_with(&["replay", &no_zstd]).refused(&[&no_zstd]);
}

#[test]
fn standard_input_is_a_history() {
    let text = good().join("\n") + "\n";
    let summary = run_fed(harvester().args(["replay", "-", "--json"]), text.as_bytes()).json();
    assert_eq!((&summary["applied"], &summary["decisions"]), (&json!(5), &json!(1)));
    let compressed = zstd::encode_all(text.as_bytes(), 1).expect("zstd compresses");
    let again = run_fed(harvester().args(["replay", "-", "--json"]), &compressed).json();
    assert_eq!(again["applied"], 5);
    run_fed(harvester().args(["replay", "-"]), b"{\"stream\":").refused(&["-:1: "]);
    run_fed(harvester().args(["replay", "-", "-"]), b"").refused(&["standard input"]);
}

#[test]
fn entries_of_other_streams_are_only_counted() {
    let folder = Folder::new();
    let other =
        |second, fields: Value| json!({"stream": "quantum:stream:somebody", "id": at(second), "fields": fields});
    let mut lines = good();
    lines.push(other(5, json!({"symbol": "SOLUSDT", "price": "7"})).to_string());
    lines.push(other(0, json!({"price": "back in time"})).to_string());
    let history = folder.history(&lines);
    let summary = run_with(&["replay", &history, "--json"]).json();
    assert_eq!((&summary["other_streams"], &summary["entries"]), (&json!(2), &json!(5)));
}

#[test]
fn a_report_covers_the_range_that_its_arguments_give() {
    let folder = Folder::new();
    let history = folder.history(&good());
    for (option, bound, entries, decisions, first, last) in [
        ("--since", at(3), 2, 1, at(3), at(4)),
        ("--since", at(4), 1, 0, at(4), at(4)),
        ("--since", "2026-02-04T00:00:04Z".to_owned(), 1, 0, at(4), at(4)),
        ("--since", "2026-02-04 00:00:02".to_owned(), 3, 1, at(2), at(4)),
        ("--until", at(3), 4, 1, at(0), at(3)),
        ("--until", at(2), 3, 0, at(0), at(2)),
        ("--until", "2026-02-04T00:00:02.999".to_owned(), 3, 0, at(0), at(2)),
        ("--until", "1770163203000".to_owned(), 4, 1, at(0), at(3)),
        ("--until", "00:00:02".to_owned(), 3, 0, at(0), at(2)),
        ("--until", "00:00".to_owned(), 5, 1, at(0), at(4)),
        ("--since", "00:00:03Z".to_owned(), 2, 1, at(3), at(4)),
        ("--since", "1s ago".to_owned(), 2, 1, at(3), at(4)),
        ("--until", "2 seconds ago".to_owned(), 3, 0, at(0), at(2)),
    ] {
        let summary = run_with(&["replay", &history, option, &bound, "--json"]).json();
        let came = json!([summary["entries"], summary["decisions"], summary["first_id"], summary["last_id"]]);
        assert_eq!(came, json!([entries, decisions, first, last]), "{option} {bound}");
        // The history is folded from its beginning in any case.
        assert_eq!(summary["positions_open"], 1, "{option} {bound}");
    }
    let forms = ["--since", "\"yesterday\"", "an entry id", "2026-02-04T02:07:31Z", "02:07", "2 hours ago"];
    run_with(&["replay", &history, "--since", "yesterday"]).refused(&forms);
    run_with(&["replay", &history, "--until", "1-x"]).refused(&["1-x"]);
    // The end of a pipe is not known before it is read.
    let fed = good().join("\n") + "\n";
    run_fed(harvester().args(["replay", "-", "--until", "00:00:02"]), fed.as_bytes()).refused(&[
        "--until",
        "00:00:02",
        "standard input can be read once only",
    ]);
    let empty = folder.file("empty.jsonl", "");
    run_with(&["replay", &empty, "--until", "1s ago"]).refused(&["--until", "1s ago", "the history holds no entry"]);
}

// ---- configuration ------------------------------------------------------------------------------------------------

#[test]
fn an_input_without_a_line_end_is_read_to_its_end() {
    // Two megabytes without a line end, through a pipe that is written in pieces.
    let mut child = piped(harvester().args(["replay", "-", "--skip-bad-lines", "--json"]));
    let mut stdin = child.stdin.take().expect("standard input is piped");
    let writer = std::thread::spawn(move || (0..32).try_for_each(|_| stdin.write_all(&[b'x'; 65_536])));
    let output = child.wait_with_output().expect("the program ends");
    writer.join().expect("the writer does not panic").expect("all of it is read");
    let summary: Value = serde_json::from_slice(&output.stdout).expect("one document");
    assert_eq!((&summary["bad_lines"], &summary["entries"]), (&json!(1), &json!(0)));
}
