//! Properties of every history, tried on random ones.
//!
//! `PROPTEST_CASES` sets their number, `PROPTEST_RNG_SEED` the seed; a failure prints the script, which is enough to
//! play the history again.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::books::{Derived, Watched};
use crate::support::histories::{DECISION, History, RESULT, Script, Style, TICK, What, play, scripts, text_of};
use crate::support::lab::Lab;
use crate::support::{exact, replayed};
use harvester::cli::positions;
use harvester::cli::replay::{Replayed, Request};
use harvester::codec::{line, view};
use harvester::config::Config;
use harvester::domain::event::ids::SortKey;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config as ProptestConfig, RngSeed};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

mod orders;
mod reach;

/// Returns the number of cases, unless `PROPTEST_CASES` sets it. The cases are the same each time unless a seed is
/// given.
pub fn cases(unless_set: u32) -> ProptestConfig {
    let set = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { set.cases } else { unless_set };
    let rng_seed = match set.rng_seed {
        RngSeed::Random => RngSeed::Fixed(20_260_204),
        fixed @ RngSeed::Fixed(_) => fixed,
    };
    ProptestConfig { cases, rng_seed, failure_persistence: None, max_shrink_iters: 8_000, ..set }
}

// ---- replays ------------------------------------------------------------------------------------------------------

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn store(&self) -> PathBuf {
        self.0.path().join("store")
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("the folder is made");
        if name.ends_with(".zst") {
            fs::write(&path, zstd::encode_all(text.as_bytes(), 1).expect("zstd compresses"))
                .expect("a file is written");
        } else {
            fs::write(&path, text).expect("a file is written");
        }
        path
    }
}

/// The result of a replay, as far as it can be compared.
#[derive(Clone, Debug, PartialEq)]
struct Came {
    summary: Map<String, Value>,
    decisions: Vec<String>,
    positions: Value,
}

fn came((replayed, decisions): (Replayed, Vec<String>)) -> Came {
    let Value::Object(mut summary) = json!(replayed.summary) else { unreachable!("a summary is an object") };
    summary.remove("seconds");
    Came { summary, decisions, positions: json!(view::positions(&replayed.engine, true)) }
}

fn in_memory(histories: Vec<PathBuf>, config: &Config) -> Came {
    came(replayed(&Request { histories, ..Request::default() }, config))
}

fn into_store(histories: Vec<PathBuf>, store: &Path, config: &Config) -> Came {
    came(replayed(&Request { histories, store: Some(store.to_owned()), ..Request::default() }, config))
}

/// Returns `positions --all --json` of a store.
fn stored_positions(store: &Path) -> Value {
    let mut out = Vec::new();
    positions::run(store, None, true, true, &mut out).expect("the store shows its positions");
    serde_json::from_slice(&out).expect("positions are JSON")
}

fn number(summary: &Map<String, Value>, key: &str) -> u64 {
    summary[key].as_u64().unwrap_or_else(|| panic!("{key} is no number: {}", summary[key]))
}

/// Adds the counts of one summary and the next.
fn added(former: &Value, later: &Value) -> Value {
    match (former, later) {
        (Value::Number(a), Value::Number(b)) => json!(a.as_u64().unwrap_or(0) + b.as_u64().unwrap_or(0)),
        (Value::Object(a), Value::Object(b)) => {
            let keys = a.keys().chain(b.keys());
            let none = json!(0);
            let nothing = json!({});
            let pick = |of: &Map<String, Value>, key: &str, other: &Value| {
                of.get(key).cloned().unwrap_or_else(|| if other.is_object() { nothing.clone() } else { none.clone() })
            };
            keys.map(|key| {
                let (x, y) = (a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none));
                (key.clone(), added(&pick(a, key, y), &pick(b, key, x)))
            })
            .collect::<Map<_, _>>()
            .into()
        }
        (_, later) => later.clone(),
    }
}

/// Keys of a summary that count events; the others describe the state.
const COUNTED: [&str; 9] =
    ["entries", "applied", "duplicates", "quarantined", "fills_repeated", "shapes", "holds", "decisions", "counts"];

fn payload(line: &str) -> Value {
    let line: Value = serde_json::from_str(line).expect("a decision is JSON");
    serde_json::from_str(line["fields"]["payload"].as_str().unwrap_or_default()).expect("a payload is JSON")
}

fn reads_back(line: &str) -> bool {
    harvester::codec::number::decimal(payload(line)["qty"].as_str().unwrap_or_default()).is_ok()
}

// ---- the properties --------------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(cases(48))]

    /// A history that is cut anywhere, stored, opened again and continued gives the same result as without cuts.
    #[test]
    fn a_history_cut_anywhere_and_continued_gives_the_result_of_the_whole(
        script in scripts(150),
        cuts in prop::collection::vec(any::<Index>(), 1..3),
    ) {
        cut(&script, &cuts, Style { no_weeks: true, ..Style::default() })?;
    }

    /// The same for a history over weeks, in which orders and closed positions are forgotten.
    #[test]
    fn a_history_of_weeks_cut_anywhere_and_continued_gives_the_result_of_the_whole(
        script in scripts(150),
        cuts in prop::collection::vec(any::<Index>(), 1..3),
    ) {
        cut(&script, &cuts, Style::default())?;
    }

    /// An entry that sums twice counts once, in whatever way the second one sums.
    #[test]
    fn every_entry_that_is_delivered_twice_counts_once(script in scripts(150), how in 0..3) {
        let history = play(&script, Style::default());
        let folder = Folder::new();
        let once_file = folder.file("once.jsonl", &history.text());
        let once = in_memory(vec![once_file.clone()], &history.config);
        let n = history.entries.len() as u64;
        let twice = match how {
            0 => {
                let doubled = text_of(history.lines().flat_map(|line| [line, line]));
                in_memory(vec![folder.file("twice.jsonl", &doubled)], &history.config)
            }
            1 => in_memory(vec![once_file.clone(), once_file], &history.config),
            _ => {
                let first = into_store(vec![once_file.clone()], &folder.store(), &history.config);
                prop_assert_eq!(&first, &once);
                let stored = stored_positions(&folder.store());
                let again = into_store(vec![once_file], &folder.store(), &history.config);
                prop_assert_eq!(stored_positions(&folder.store()), stored);
                prop_assert_eq!(number(&again.summary, "applied"), 0);
                prop_assert_eq!(&again.decisions, &Vec::<String>::new());
                prop_assert_eq!(&again.summary["quarantined"], &json!({}));
                let mut summed = once.summary.clone();
                summed["entries"] = json!(2 * n);
                summed["duplicates"] = again.summary["duplicates"].clone();
                Came { summary: summed, ..once.clone() }
            }
        };
        prop_assert_eq!(&twice.decisions, &once.decisions);
        prop_assert_eq!(&twice.positions, &once.positions);
        prop_assert_eq!(number(&twice.summary, "duplicates"), n);
        prop_assert_eq!(number(&twice.summary, "entries"), 2 * n);
        for key in ["applied", "quarantined", "fills_repeated", "holds", "decisions", "counts", "positions_open"] {
            prop_assert_eq!(&twice.summary[key], &once.summary[key], "{}", key);
        }
    }

    /// The distribution of entries over files does not matter, as long as each stream keeps its order.
    #[test]
    fn files_split_differently_give_the_same_result(
        script in scripts(150),
        pieces in prop::collection::vec((0usize..4, any::<bool>()), 40),
        shuffled in any::<bool>(),
    ) {
        let history = play(&script, Style::default());
        let folder = Folder::new();
        let whole = in_memory(vec![folder.file("whole.jsonl", &history.text())], &history.config);

        let names = ["parts/a.jsonl", "parts/deep/b.jsonl.zst", "parts/c.jsonl", "d.jsonl.zst"];
        let mut files: [Vec<(SortKey, &str)>; 4] = Default::default();
        let mut at = 0;
        for (i, entry) in history.entries.iter().enumerate() {
            let (file, is_next) = pieces[i % pieces.len()];
            at = if is_next { file } else { at };
            files[at].push((entry.key, entry.line.as_str()));
        }
        let mut inputs = vec![folder.0.path().join("parts")];
        for (name, lines) in names.iter().zip(&mut files) {
            if shuffled {
                // One stream after the other: out of canonical order, and each stream in its own.
                lines.sort_by_key(|(key, _)| (key.stream, key.ms, key.seq));
            }
            let path = folder.file(name, &text_of(lines.iter().map(|(_, line)| *line)));
            if !name.starts_with("parts") {
                inputs.push(path);
            }
        }
        prop_assert_eq!(&in_memory(inputs, &history.config), &whole);

        // Nor does the reader matter: entry by entry, with fields as Redis has them, the same decisions result.
        let mut lab = Lab::new(&history.config);
        let mut decisions = Vec::new();
        for entry in &history.entries {
            if let Some(sealed) = lab.feed(&entry.line).sealed {
                let id = format!("{}-{}", entry.key.ms, sealed.seq);
                decisions.push(line::write(DECISION, &id, &sealed.fields()));
            }
        }
        prop_assert_eq!(&decisions, &whole.decisions);
        prop_assert_eq!(&json!(view::positions(&lab.engine, true)), &whole.positions);
    }

    /// R is a ratio: it stays the same when quantities scale, and when prices and ATRs scale together.
    #[test]
    fn r_stays_the_same_when_quantities_or_prices_scale(
        script in scripts(150),
        qty_exponent in 0..6,
        price_exponent in -1..5,
    ) {
        let plain = Style { scalable: true, ..Style::default() };
        let history = play(&script, plain);
        let scaled = play(&script, Style { qty_exponent, price_exponent, ..plain });
        let folder = Folder::new();
        let former = in_memory(vec![folder.file("plain.jsonl", &history.text())], &history.config);
        let later = in_memory(vec![folder.file("scaled.jsonl", &scaled.text())], &scaled.config);
        let ratios = |came: &Came| -> Vec<Value> {
            let kept = |p: Value| json!([p["decision_id"], p["rungs"], p["close_fraction"], p["cause"], p["flags"]]);
            came.decisions.iter().map(|line| kept(payload(line))).collect()
        };
        prop_assert_eq!(&former.summary["quarantined"], &later.summary["quarantined"], "{}", scaled.text());
        prop_assert_eq!(ratios(&former), ratios(&later));
        let held = |came: &Came| -> Vec<Value> {
            let positions = came.positions.as_array().expect("a list").iter();
            positions.map(|p| json!([p["position_id"], p["hold"], p["flags"], p["rungs"], p["closed"]])).collect()
        };
        prop_assert_eq!(held(&former), held(&later));
        prop_assert_eq!(&former.summary["holds"], &later.summary["holds"]);
        prop_assert_eq!(&former.summary["counts"], &later.summary["counts"]);
        for (p, q) in former.positions.as_array().into_iter().flatten().zip(later.positions.as_array().into_iter().flatten()) {
            for (key, exponent) in [("r_net", 0), ("qty", qty_exponent), ("unrealized_pnl", qty_exponent + price_exponent), ("realized_pnl", qty_exponent + price_exponent)] {
                let (Some(p), Some(q)) = (p[key].as_str(), q[key].as_str()) else {
                    prop_assert_eq!(&p[key], &q[key]);
                    continue;
                };
                let scaled = exact::exact(p) * exact::whole(10).pow(exponent);
                // The average of two prices keeps 28 places whatever its size: R may fall to either side of a half.
                let slack = if key == "r_net" { exact::whole(10).pow(-6) } else { exact::zero() };
                let off = exact::abs(&(exact::exact(q) - &scaled));
                prop_assert!(off <= slack || exact::agrees(q, &scaled), "{key}: {p} became {q}");
            }
        }
    }

    /// Every line is counted exactly once.
    #[test]
    fn every_line_is_counted_once(
        script in scripts(100),
        noise in prop::collection::vec((any::<Index>(), 0usize..12), 0..20),
    ) {
        let history = play(&script, Style::default());
        let mut lines: Vec<String> = history.lines().map(str::to_owned).collect();
        let (mut blank, mut bad, mut other, mut duplicates) = (0, 0, 0, 0);
        for (at, kind) in noise {
            let at = at.index(lines.len());
            let line = match kind {
                0 => { blank += 1; String::new() }
                1 => { blank += 1; " \t\r".to_owned() }
                2 => { bad += 1; "{\"stream\":".to_owned() }
                3 => { bad += 1; "[1,2]".to_owned() }
                4 => { bad += 1; json!({"stream": TICK, "id": "7", "fields": {}}).to_string() }
                5 => { bad += 1; json!({"stream": TICK, "id": "5-0", "fields": {"a": 1}}).to_string() }
                6 => { bad += 1; json!({"stream": RESULT, "id": "5-1", "fields_b64": {"a": "%"}}).to_string() }
                7 => { bad += 1; json!({"stream": RESULT, "id": "6-1"}).to_string() }
                8 => { other += 1; json!({"stream": "somebody:else", "id": "9-0", "fields": {"a": "b"}}).to_string() }
                9 => { other += 1; json!({"stream": "somebody:else", "id": "9999999999999-0", "fields": {}}).to_string() }
                _ => {
                    let entry = &history.entries[at % history.entries.len()];
                    duplicates += 1;
                    entry.line.clone()
                }
            };
            lines.insert(at, line);
        }
        let folder = Folder::new();
        let file = folder.file("history.jsonl", &text_of(lines.iter().map(String::as_str)));
        let request = Request { histories: vec![file], skip_bad_lines: true, ..Request::default() };
        let came = came(replayed(&request, &history.config));
        let n = |key: &str| number(&came.summary, key);
        let sum = |value: &Value| -> u64 { value.as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum() };
        prop_assert_eq!(n("entries"), n("applied") + n("duplicates") + sum(&came.summary["quarantined"]));
        prop_assert_eq!(n("bad_lines"), bad);
        prop_assert_eq!(n("other_streams"), other);
        prop_assert_eq!(n("duplicates"), duplicates);
        prop_assert_eq!(n("entries") + n("bad_lines") + n("other_streams") + blank, lines.len() as u64);
        let shapes: u64 = came.summary["shapes"].as_object().into_iter().flatten().map(|(_, of)| sum(of)).sum();
        prop_assert_eq!(shapes, n("entries"));

        let clean = in_memory(vec![folder.file("clean.jsonl", &history.text())], &history.config);
        prop_assert_eq!(came.decisions, clean.decisions);
        prop_assert_eq!(came.positions, clean.positions);
    }

    /// Recorded decisions are facts: a history with its own decisions makes none up to the last, and continues after
    /// it.
    #[test]
    fn own_recorded_decisions_are_not_made_again(script in scripts(300), upto in any::<Index>()) {
        let history = play(&script, Style::default());
        let folder = Folder::new();
        let events = folder.file("events.jsonl", &history.text());
        let original = in_memory(vec![events.clone()], &history.config);
        let n = original.decisions.len();
        // A quantity of 29 digits does not read back: see the tests of rules.
        prop_assume!(original.decisions.iter().all(|line| reads_back(line)));

        // All decisions.
        let own = folder.file("decisions.jsonl", &text_of(original.decisions.iter().map(String::as_str)));
        let again = in_memory(vec![events.clone(), own.clone()], &history.config);
        prop_assert_eq!(&again.summary["quarantined"], &original.summary["quarantined"], "{:#?}", original.decisions);
        prop_assert_eq!(&again.summary["own_decisions"], &json!({"agree": n, "differ": 0, "missing": 0, "unexpected": 0, "homeless": 0}));
        prop_assert_eq!(&again.decisions, &Vec::<String>::new());
        prop_assert_eq!(&again.positions, &original.positions);
        prop_assert_eq!(&again.summary["holds"], &original.summary["holds"]);
        prop_assert_eq!(number(&again.summary, "entries"), (history.entries.len() + n) as u64);

        // Derived again, whatever was emitted.
        let request = Request { histories: vec![events.clone(), own], derive: true, ..Request::default() };
        prop_assert_eq!(&came(replayed(&request, &history.config)).decisions, &original.decisions);

        // Some decisions: up to the last of these, including those of its millisecond.
        if n > 0 {
            let ms = |line: &String| {
                let line: Value = serde_json::from_str(line).expect("a decision is JSON");
                line["id"].as_str().and_then(|id| id.split_once('-')).map(|(ms, _)| ms.to_owned())
            };
            let last = ms(&original.decisions[upto.index(n)]);
            let kept = original.decisions.iter().rposition(|line| ms(line) == last).map_or(0, |at| at + 1);
            let known = text_of(original.decisions[..kept].iter().map(String::as_str));
            let some = in_memory(vec![events, folder.file("some.jsonl", &known)], &history.config);
            prop_assert_eq!(&some.decisions, &original.decisions[kept..].to_vec());
            prop_assert_eq!(&some.positions, &original.positions);
        }
    }
}

proptest! {
    #![proptest_config(cases(128))]

    /// At every step the books agree with exact fractions, nothing is closed twice, and quarantine leaves nothing.
    #[test]
    fn the_books_are_right_at_every_step(script in scripts(200)) {
        watch(&play(&script, Style::default()), Derived::Always)?;
    }

    /// A number that cannot be exact is a quarantine reason, and printed numbers are correct, whatever the numbers.
    #[test]
    fn extreme_numbers_are_exact_or_refused(script in scripts(150)) {
        watch(&play(&script, Style { extreme: true, ..Style::default() }), Derived::WhereItFits)?;
    }
}

proptest! {
    #![proptest_config(cases(64))]

    /// No number makes anything panic.
    #[test]
    fn nothing_panics_whatever_the_numbers(mut script in scripts(200)) {
        // Trades that explain a tiny quantity do: see the tests of rules.
        script.ops.retain(|op| op.what != What::Explain);
        let history = play(&script, Style { extreme: true, ..Style::default() });
        let folder = Folder::new();
        in_memory(vec![folder.file("extreme.jsonl", &history.text())], &history.config);
    }
}

fn cut(script: &Script, cuts: &[Index], style: Style) -> Result<(), TestCaseError> {
    let history = play(script, Style { no_skips: true, ..style });
    let folder = Folder::new();
    let whole = folder.file("whole.jsonl", &history.text());
    let store_whole = folder.0.path().join("whole");
    let uncut = into_store(vec![whole], &store_whole, &history.config);

    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(history.entries.len() + 1)).collect();
    ends.push(history.entries.len());
    ends.sort_unstable();
    let mut begin = 0;
    let mut decisions = Vec::new();
    let mut summary: Option<Map<String, Value>> = None;
    let mut last = None;
    for end in ends {
        let lines = history.entries[begin..end].iter().map(|entry| entry.line.as_str());
        let part = folder.file("part.jsonl", &text_of(lines));
        let came = into_store(vec![part], &folder.store(), &history.config);
        decisions.extend(came.decisions);
        let so_far = summary.take().unwrap_or_default();
        let sum = COUNTED.map(|key| {
            let nothing = Value::Null;
            let former = so_far.get(key).unwrap_or(&nothing);
            let sum = if former.is_null() { came.summary[key].clone() } else { added(former, &came.summary[key]) };
            (key.to_owned(), sum)
        });
        summary = Some(sum.into_iter().collect());
        last = Some(came.summary);
        begin = end;
    }
    prop_assert_eq!(&decisions, &uncut.decisions);
    prop_assert_eq!(stored_positions(&folder.store()), stored_positions(&store_whole));
    let (summary, last) = (summary.unwrap_or_default(), last.unwrap_or_default());
    for key in COUNTED {
        prop_assert_eq!(&summary[key], &uncut.summary[key], "{}", key);
    }
    for key in ["positions_open", "evaluable", "missing", "positions_unknown", "unconfirmed", "history_gap", "killed"] {
        prop_assert_eq!(&last[key], &uncut.summary[key], "{}", key);
    }
    Ok(())
}

fn watch(history: &History, derived: Derived) -> Result<(), TestCaseError> {
    let mut watched = Watched::new(&history.config, derived);
    for line in history.lines() {
        watched.feed(line).map_err(TestCaseError::fail)?;
    }
    watched.check_all().map_err(TestCaseError::fail)
}
