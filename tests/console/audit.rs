//! Questions afterwards: why a decision was made, why it was not, and what another policy would have decided; and a
//! second check of the chain, by a program that shares no code with this one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::night;
use crate::support::binary::run_with;
use crate::support::lab::entry_line;
use crate::support::{cases, config, replayed, root};
use clap::Parser;
use harvester::cli::replay::Request;
use harvester::cli::{explain, stats, whatif};
use harvester::codec::signing::SigningKey;
use harvester::config::Config;
use serde_json::Value;

const KEY: &str = "a key that signs decisions";

#[derive(Parser)]
struct Explain {
    #[command(flatten)]
    args: explain::Args,
}

#[derive(Parser)]
struct Stats {
    #[command(flatten)]
    args: stats::Args,
}

#[derive(Parser)]
struct WhatIf {
    #[command(flatten)]
    args: whatif::Args,
}

fn case(name: &str) -> (PathBuf, Config) {
    let folder = crate::support::case(name);
    (folder.join("events.jsonl"), config(Some(&folder.join("policy.toml"))))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are UTF-8")
}

fn explained(config: &Config, words: &[&str]) -> String {
    let args = Explain::try_parse_from([&["explain"], words].concat()).expect("the arguments are right").args;
    let mut out = Vec::new();
    explain::run(&args, config, &mut out).expect("the subject can be explained");
    String::from_utf8(out).expect("the screen is UTF-8")
}

/// Compares a screen with its golden file; `cargo xtask bless` rewrites the file.
fn golden(name: &str, got: &str) {
    let path = root().join("tests/console/golden").join(name);
    if std::env::var_os("HARVESTER_BLESS").is_some() {
        fs::write(&path, got).expect("the golden file is written");
        return;
    }
    let want = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(got, want, "{} differs (cargo xtask bless, then read the diff)", path.display());
}

#[test]
fn why_arcusdt_was_not_harvested_at_0207() {
    let screen = explained(&config(None), &["ARCUSDT", "--at", "02:07", text(&night())]);
    assert!(screen.starts_with("ARCUSDT at 2026-02-04T02:07:59.999Z: not harvested: below_min_r"), "{screen}");
    assert!(screen.contains("reached at 0.3136636, +318.55 % from 0.07494"), "{screen}");
    assert!(screen.lines().count() <= 40, "it is one screen");
    golden("explain_arcusdt.txt", &screen);
    let screen = explained(&config(None), &["arcusdt", "--at", "2026-02-04T02:06", text(&night())]);
    assert!(screen.contains("not harvested: no_price") && screen.contains("could supply it"), "{screen}");
    golden("explain_arcusdt_before.txt", &screen);
}

#[test]
fn a_decision_is_explained_by_its_numbers_and_its_entries() {
    let request = Request { histories: vec![night()], ..Request::default() };
    let (_, decisions) = replayed(&request, &config(None));
    let entry: Value = serde_json::from_str(&decisions[5]).unwrap();
    let id = entry["fields"]["decision_id"].as_str().unwrap();
    let screen = explained(&config(None), &[&id[..8], text(&night()), "--raw"]);
    assert!(screen.starts_with(&format!("Decision {id}: SELL 0.03 ETHUSDT at 1.05 R (shadow)")), "{screen}");
    golden("explain_decision.txt", &screen);
    let document: Value = serde_json::from_str(&explained(&config(None), &[id, text(&night()), "--json"])).unwrap();
    assert_eq!(document["decision"].to_string(), entry["fields"]["payload"].as_str().unwrap());
}

#[test]
fn the_events_of_a_live_decision_are_listed_one_by_one() {
    let (events, config) = case("s5_partial");
    let request = Request { histories: vec![events.clone()], ..Request::default() };
    let (_, decisions) = replayed(&request, &config);
    let entry: Value = serde_json::from_str(&decisions[0]).unwrap();
    golden(
        "explain_partial.txt",
        &explained(&config, &[entry["fields"]["decision_id"].as_str().unwrap(), text(&events)]),
    );
}

#[test]
fn a_held_position_is_explained_with_the_reason_and_its_end() {
    let mut reasons = std::collections::BTreeSet::new();
    for folder in cases() {
        let Ok(history) = fs::read_to_string(folder.join("events.jsonl")) else { continue };
        if !history.contains("SOLUSDT") || history.lines().any(|line| serde_json::from_str::<Value>(line).is_err()) {
            continue;
        }
        let config = config(Some(&folder.join("policy.toml")));
        let document = explained(&config, &["SOLUSDT", text(&folder.join("events.jsonl")), "--json"]);
        let document: Value = serde_json::from_str(&document).unwrap();
        assert!(!document["why"].as_array().unwrap().is_empty(), "{}: {document:#}", folder.display());
        reasons.extend(document["hold"].as_str().map(str::to_owned));
    }
    println!("{} reasons: {reasons:?}", reasons.len());
    assert!(reasons.len() >= 9, "{reasons:?}");
}

#[test]
fn stats_sum_the_time_of_positions_under_each_hold() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let request = Request { histories: vec![night()], store: Some(store.clone()), ..Request::default() };
    replayed(&request, &config(None));
    let args = Stats::try_parse_from(["stats", "--store", text(&store), "--json"]).unwrap().args;
    let mut out = Vec::new();
    stats::run(&args, &mut out).unwrap();
    let document: Value = serde_json::from_slice(&out).unwrap();
    // ARCUSDT opens at 02:05:00. Its first price comes at 02:07:00 and is confirmed at 02:07:05. From then to the
    // end, 02:10:58.600, it is below min_r.
    assert_eq!(document["symbols"]["ARCUSDT"]["no_price"]["ms"], 120_000);
    assert_eq!(document["symbols"]["ARCUSDT"]["price_jump"]["ms"], 5_000);
    assert_eq!(document["symbols"]["ARCUSDT"]["below_min_r"]["ms"], 233_600);
    assert_eq!(document["holds"]["no_price"]["positions"], 44);
    let mut out = Vec::new();
    stats::run(&Stats::try_parse_from(["stats", "--store", text(&store)]).unwrap().args, &mut out).unwrap();
    golden("stats.txt", &String::from_utf8(out).unwrap());
}

/// While a feed is silent for months, the hold is not "below min_r": an entry of our own shows how much time has
/// passed.
#[test]
fn time_without_an_evaluation_counts_for_no_hold() {
    let folder = tempfile::tempdir().unwrap();
    let (store, later) = (folder.path().join("store"), folder.path().join("later.jsonl"));
    let payload = r#"{\"reason\":\"r\"}"#;
    // 2026-03-01T00:00:00Z.
    let line = format!(
        r#"{{"stream":"quantum:stream:harvest.control","id":"1772323200000-0","fields":{{"event_type":"gap.accepted","payload":"{payload}"}}}}"#
    );
    fs::write(&later, format!("{line}\n")).unwrap();
    let request = Request { histories: vec![night(), later.clone()], store: Some(store.clone()), ..Request::default() };
    replayed(&request, &config(None));
    let args = Stats::try_parse_from(["stats", "--store", text(&store), "--json"]).unwrap().args;
    let mut out = Vec::new();
    stats::run(&args, &mut out).unwrap();
    let document: Value = serde_json::from_slice(&out).unwrap();
    // Its last price is from 02:10:50.
    let arc = &document["symbols"]["ARCUSDT"];
    assert_eq!((&arc["no_price"]["ms"], &arc["below_min_r"]["ms"]), (&120_000.into(), &225_000.into()), "{arc:#}");
    assert_eq!(arc["not_evaluated"]["ms"], 1_772_323_200_000_u64 - 1_770_171_050_000, "{arc:#}");
    assert_eq!(document["holds"]["not_evaluated"]["positions"], 44);
    let mut out = Vec::new();
    stats::run(&Stats::try_parse_from(["stats", "--store", text(&store)]).unwrap().args, &mut out).unwrap();
    let screen = String::from_utf8(out).unwrap();
    let first = screen.lines().nth(1).unwrap_or_default();
    assert!(first.starts_with(" not_evaluated ") && first.contains("9.9 %"), "{screen}");

    // The same store explained at its last price, and at its last entry.
    let screen = explained(&config(None), &["ARCUSDT", "--store", text(&store)]);
    assert!(screen.starts_with("ARCUSDT at 2026-02-04T02:10:58.600Z: not harvested: below_min_r\n"), "{screen}");
    assert!(
        screen.contains("  At 2026-03-01T00:00:00.000Z, with no entry that evaluates it since: stale_price.\n"),
        "{screen}"
    );
    let positions = run_with(&["positions", "--store", text(&store), "ARCUSDT"]).out;
    for output in ["below_min_r", " 8.6s\n", "; holds and ages at 2026-02-04T02:10:58.600Z"] {
        assert!(positions.contains(output), "{output}: {positions}");
    }
}

#[test]
fn an_unknown_symbol_or_history_is_refused_with_the_next_step() {
    let night = night();
    run_with(&["explain", "abcd", text(&night)]).refused(&["ABCD", "at least 8 digits", "abcd has 4"]);
    run_with(&["explain", "abcdabcd", text(&night)]).refused(&["begins with abcdabcd", "give a longer history"]);
    let help = run_with(&["history", "--help"]).out;
    assert!(help.contains("harvester history [OPTIONS] <SYMBOL> <HISTORY...|--journal <DIR>>"), "{help}");
}

#[test]
fn positions_of_a_history_need_no_time() {
    let night = night();
    let at_end = run_with(&["positions", "--history", text(&night), "--json"]);
    let as_of = run_with(&["positions", "--history", text(&night), "--as-of", "1770171058600-0", "--json"]);
    assert_eq!(at_end.json(), as_of.json());
    assert_eq!(at_end.json().as_array().map(Vec::len), Some(44));
    run_with(&["positions", "--history", text(&night), "--url", "http://127.0.0.1:9"]).refused_usage();
}

#[test]
fn a_replay_into_a_store_that_has_every_entry_reports_that() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let night = night();
    let replay = || run_with(&["replay", text(&night), "--store", text(&store)]);
    let notice = "  nothing new: the store has all of these entries";
    let (first, second) = (replay(), replay());
    assert!(first.code == Some(0) && !first.out.contains(notice), "{}", first.out);
    assert!(second.code == Some(0) && second.out.contains(notice), "{}", second.out);
}

#[test]
fn an_audit_names_the_next_step_for_a_late_key_and_for_a_history_without_decisions() {
    let folder = tempfile::tempdir().unwrap();
    let (night, key, dump) = (night(), folder.path().join("key"), folder.path().join("decisions.jsonl"));
    fs::write(&key, format!("{KEY}\n")).unwrap();
    let alone = run_with(&["audit", text(&night)]);
    assert!(alone.code == Some(1) && alone.out.contains("name them with --decisions FILE"), "{}", alone.out);
    let (_, decisions) = replayed(&Request { histories: vec![night.clone()], ..Request::default() }, &config(None));
    let mut lines: Vec<Value> = decisions.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut audited = |signed: &[usize]| {
        for at in signed {
            let signature =
                SigningKey::new(KEY.as_bytes()).unwrap().sign(lines[*at]["fields"]["hash"].as_str().unwrap());
            lines[*at]["fields"]["signature"] = signature.into();
        }
        fs::write(&dump, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        run_with(&["audit", text(&night), "--decisions", text(&dump), "--key-file", text(&key)]).out
    };
    let hint = "believe_unsigned_until";
    let none = audited(&[]);
    assert_eq!((none.matches("the signature is missing").count(), none.matches(hint).count()), (10, 10), "{none}");
    // The key begins at the seventh decision; a later one without a signature has another cause.
    let some = audited(&[6, 7, 9]);
    assert_eq!((some.matches("the signature is missing").count(), some.matches(hint).count()), (7, 6), "{some}");
    assert!(!some.contains("name them with --decisions"), "{some}");
}

/// The account has its own ladder, so its order rests on another policy than the general one.
#[test]
fn an_order_under_the_configured_policy_of_its_account_is_not_a_finding() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let general = "[policy]\nmode = \"live\"\nladder = \"0.5:0.25\"\natr_unit = { default = \"absolute\" }\n\
        price_sources = [\"market.tick\"]\non_live = \"take\"\nrequire_instrument = false\n";
    let of_account = |ladder: &str| format!("{general}[policy.accounts.b]\nladder = \"{ladder}\"\n");
    let (own, other) = (write("own.toml", &of_account("0.9:0.5")), write("other.toml", &of_account("0.8:0.5")));
    let fill = [
        ("symbol", "SOLUSDT"),
        ("executed", "true"),
        ("side", "BUY"),
        ("executedQty", "10"),
        ("avgPrice", "100"),
        ("orderId", "7"),
        ("order_status", "FILLED"),
        ("account", "b"),
    ];
    let intent = r#"{"symbol":"SOLUSDT","side":"BUY","entry_price":100,"atr_value":2,"volatility_factor":1}"#;
    let price = r#"{"symbol":"SOLUSDT","price":102}"#;
    let lines = [
        entry_line(
            "quantum:stream:trade.intent",
            "1770163200000-0",
            &[("event_type", "trade.intent"), ("payload", intent)],
        ),
        entry_line("quantum:stream:apply.result", "1770163201000-0", &fill),
        entry_line(
            "quantum:stream:market.tick",
            "1770163202000-0",
            &[("event_type", "market.tick"), ("payload", price)],
        ),
    ];
    let history = write("history.jsonl", &(lines.join("\n") + "\n"));
    let request = Request { histories: vec![history.clone()], ..Request::default() };
    let (_, decisions) = replayed(&request, &config(Some(&own)));
    assert_eq!(decisions.len(), 1);
    let dump = write("decisions.jsonl", &(decisions.join("\n") + "\n"));
    let audit = |file: &Path| run_with(&["audit", text(&history), "--decisions", text(&dump), "--config", text(file)]);
    let clean = audit(&own);
    assert!(!clean.out.contains("not the configured one"), "{}", clean.out);
    let wrong = audit(&other);
    assert!(wrong.code == Some(1) && wrong.out.contains("not the configured one"), "{}", wrong.out);
}

#[test]
fn the_demo_counts_the_prices_that_jumped() {
    let demo = run_with(&["demo"]).out;
    assert!(demo.contains("Held back: 2 prices that jumped"), "{demo}");
}

fn compared(words: &[&str], config: &Config) -> Value {
    let args = WhatIf::try_parse_from([&["whatif", "--json"], words].concat()).expect("right").args;
    let mut out = Vec::new();
    whatif::run(&args, config, &mut out).expect("the policies are compared");
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn the_policy_that_was_in_force_gives_exactly_the_emitted_decisions() {
    let mut compared_in_all = 0;
    for folder in cases() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let Ok(history) = fs::read_to_string(folder.join("events.jsonl")) else { continue };
        // If the history adopts policies or contains decisions of others, the configured policy was not in force.
        if history.contains("policy.adopted") || name.contains("decision") || name == "s1_lines" {
            continue;
        }
        let (events, config) = case(&name);
        let request = Request { histories: vec![events.clone()], ..Request::default() };
        let (_, decisions) = replayed(&request, &config);
        let dump = tempfile::NamedTempFile::with_suffix(".jsonl").unwrap();
        fs::write(dump.path(), decisions.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        let document =
            compared(&["--policy", text(&folder.join("policy.toml")), text(&events), text(dump.path())], &config);
        let payloads = |decisions: &[String]| -> Vec<Value> {
            let payload = |line: &String| {
                let entry: Value = serde_json::from_str(line).unwrap();
                serde_json::from_str(entry["fields"]["payload"].as_str().unwrap()).unwrap()
            };
            decisions.iter().map(payload).collect()
        };
        let got: Vec<Value> = document["policies"][0]["decisions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|made| made["payload"].clone())
            .collect();
        assert_eq!(got, payloads(&decisions), "{name}");
        compared_in_all += got.len();
    }
    println!("{compared_in_all} decisions were the same");
    assert!(compared_in_all > 60);
}

#[test]
fn policies_are_compared_over_one_history() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let asis = file("asis.toml", "[policy]\n");
    let fraction = file("fraction.toml", "[policy]\nrisk_too_large = \"as_fraction\"\n");
    let (night, table) = (night(), folder.path().join("decisions.csv"));
    let words = ["--policy", text(&asis), "--policy", text(&fraction), text(&night), "--csv", text(&table)];
    let document = compared(&words, &config(None));
    let total = |n: usize| &document["policies"][n]["total"];
    assert_eq!((&total(0)["decisions"], &total(1)["decisions"]), (&Value::from(10), &Value::from(11)));
    assert_eq!(document["policies"][1]["only_here"].as_array().unwrap().len(), 1);
    assert_eq!(document["policies"][1]["only_in_the_first"].as_array().unwrap().len(), 0);
    // SOLUSDT: 0.375 long from 132, decided at 132.9 and filled at its next price; cost 0.001 × 0.375 × 132 = 0.0495.
    let made = document["policies"][0]["decisions"].as_array().unwrap();
    let sol = made.iter().find(|made| made["payload"]["symbol"] == "SOLUSDT").unwrap();
    let number = |value: &Value| value.as_str().unwrap().parse::<rust_decimal::Decimal>().unwrap();
    let price = number(&sol["fill"]["price"]);
    let want = (price - rust_decimal::Decimal::from(132)) * number(&sol["payload"]["qty"])
        - "0.0495".parse::<rust_decimal::Decimal>().unwrap();
    assert_eq!(number(&sol["fill"]["realized_pnl"]), want);
    let args = WhatIf::try_parse_from([&["whatif"], &words[..5]].concat()).unwrap().args;
    let mut out = Vec::new();
    whatif::run(&args, &config(None), &mut out).unwrap();
    golden("whatif.txt", &String::from_utf8(out).unwrap());
    let rows = csv::Reader::from_path(&table).unwrap().into_records().count();
    assert_eq!(rows, 21);
}

#[test]
fn an_independent_program_agrees_about_the_chain() {
    let request = Request { histories: vec![night()], ..Request::default() };
    let (_, decisions) = replayed(&request, &config(None));
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    fs::write(&key, format!("{KEY}\n")).unwrap();
    let mut lines: Vec<Value> = decisions.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    for entry in &mut lines {
        let signature = SigningKey::new(KEY.as_bytes()).unwrap().sign(entry["fields"]["hash"].as_str().unwrap());
        entry["fields"]["signature"] = signature.into();
    }
    let verified = |lines: &[Value], more: &[&str]| {
        let dump = folder.path().join("dump.jsonl");
        fs::write(&dump, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        let script = root().join("tools/verify_chain.py");
        let output = Command::new("python3")
            .arg("-I")
            .arg(script)
            .arg(&dump)
            .args(["--key-file", text(&key)])
            .args(more)
            .output()
            .expect("python3 is installed");
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let head = lines[9]["fields"]["hash"].as_str().unwrap().to_owned();
    assert_eq!(verified(&lines, &[]), (Some(0), format!("whole: 10 decisions, head {head}\n")));

    let mut changed = lines.clone();
    changed[3]["fields"]["payload"] =
        changed[3]["fields"]["payload"].as_str().unwrap().replace("\"attempt\":1", "\"attempt\":2").into();
    let mut signed_by_another = lines.clone();
    signed_by_another[4]["fields"]["signature"] =
        SigningKey::new(b"another key of enough bytes").unwrap().sign("x").into();
    let mut deleted = lines.clone();
    deleted.remove(2);
    let mut swapped = lines.clone();
    swapped.swap(6, 7);
    let anchor = format!("10:{head}");
    // A decision that the server lost and that was written again comes after newer ones, which is not a fault.
    let mut again = lines.clone();
    let mut late = again.remove(2);
    late["id"] = "9999999999999-0".into();
    late["fields"]["again"] = "1".into();
    again.push(late);
    let (code, output) = verified(&again, &["--anchor", &anchor]);
    assert!(code == Some(0) && output.contains("whole: 10 decisions"), "{output}");
    for (lines, word) in [
        (changed, "hash"),
        (signed_by_another, "signature"),
        (deleted, "seq"),
        (swapped, "order"),
        (lines[..8].to_vec(), "tail"),
    ] {
        let (code, output) = verified(&lines, &["--anchor", &anchor]);
        assert!(code == Some(1) && output.contains(&format!("{word}:")), "{word}: {output}");
    }
    let source = fs::read_to_string(root().join("tools/verify_chain.py")).unwrap();
    assert!(source.lines().count() < 120, "it is short enough to be read in one go");
}

/// Three books decide at one price: of the account without a name, of B, and LONG of a.
#[test]
fn audit_whatif_and_diff_can_show_one_account() {
    let folder = crate::support::case("s4_order_of_books");
    let (history, policy) = (folder.join("events.jsonl"), folder.join("policy.toml"));
    let (history, policy) = (text(&history), text(&policy));
    let audited = |account: &[&str]| run_with(&[&["audit", history, "--config", policy], account].concat()).out;
    let (all, of_a) = (audited(&[]), audited(&["--account", "a"]));
    for book in ["symbol SOLUSDT ", "symbol B/SOLUSDT ", "symbol a/SOLUSDT:LONG "] {
        assert!(all.contains(book), "{all}");
        assert_eq!(of_a.contains(book), book.contains("a/"), "{of_a}");
    }
    let folder = tempfile::tempdir().expect("a folder");
    let decisions = folder.path().join("decisions.jsonl");
    run_with(&["replay", history, "--config", policy, "--decisions", text(&decisions)]);
    let counted = |account: &[&str]| {
        let given = ["audit", history, "--config", policy, "--decisions", text(&decisions), "--json"];
        let report: Value = serde_json::from_str(&run_with(&[&given, account].concat()).out).expect("a report");
        let totals = &report["totals"]["all"]["decided"];
        (report["matched"].as_u64(), totals.as_u64(), report["totals"]["symbol"]["SOLUSDT"]["decided"].as_u64())
    };
    assert_eq!(counted(&[]), (Some(3), Some(3), Some(3)));
    for account in ["a", "B", ""] {
        assert_eq!(counted(&["--account", account]), (Some(1), Some(1), Some(1)), "{account}");
    }
    run_with(&["audit", history, "--config", policy, "--account", "nobody"]).refused(&["has no account nobody"]);
    let shown = |words: &[&str]| run_with(&[&["positions", "--history", history, "--config", policy], words].concat());
    let of_a = shown(&["--account", "a"]).out;
    assert!(of_a.contains("a/SOLUSDT:LONG") && !of_a.contains("B/SOLUSDT"), "{of_a}");
    let unnamed: Value = serde_json::from_str(&shown(&["--account", "", "--json"]).out).expect("a list");
    assert_eq!(unnamed.as_array().map(|all| all.iter().filter(|one| one.get("account").is_none()).count()), Some(1));
    assert_eq!(unnamed.as_array().map(Vec::len), Some(1));
    shown(&["--account", "nobody"]).refused(&["no entry has named an account nobody"]);
    let compared = run_with(&["whatif", history, "--policy", policy, "--account", "a"]).out;
    assert!(compared.contains("a/SOLUSDT:LONG") && !compared.contains("B/SOLUSDT"), "{compared}");
    let same = run_with(&["diff", history, history, "--account", "a"]);
    assert!(same.out.contains("They are the same."), "{}", same.out);
}

/// The policy of the service knows its accounts. A file with [policy] alone names none, and nothing was decided.
#[test]
fn whatif_applies_the_entries_of_every_account_of_the_history() {
    let folder = crate::support::case("s5_unknown_account_in_live");
    let history = folder.join("events.jsonl");
    let policy = fs::read_to_string(folder.join("policy.toml")).expect("a policy");
    let without: String =
        policy.lines().filter(|line| !line.starts_with("known_accounts")).map(|l| format!("{l}\n")).collect();
    let place = tempfile::tempdir().expect("a folder");
    let file = place.path().join("alone.toml");
    fs::write(&file, without).expect("the policy is written");
    let document = run_with(&["whatif", text(&history), "--policy", text(&file), "--json"]).json();
    assert_eq!(document["policies"][0]["decisions"].as_array().map(Vec::len), Some(3), "{document}");
}
