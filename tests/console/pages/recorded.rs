//! Decisions that are recorded and decisions that are not: a page states only what its source can know.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::judged::decisions_of_the_night;
use super::{Served, expect_sound, film_of};
use crate::night;
use crate::support::binary::{name, run_with};
use crate::support::{cases, config, root};
use harvester::console::{Console, Finding, Present};
use harvester::domain::event::ids::EntryId;
use harvester::drive::film::{Film, Origin};
use harvester::drive::stop::Stop;
use harvester::shell::journal::{Journal, Limits};

/// The night in a store.
pub fn store_of_the_night(folder: &Path) -> PathBuf {
    let store = folder.join("state");
    let ran = run_with(&["replay", name(&night()), "--store", name(&store)]);
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    store
}

pub fn served_store(store: &Path) -> Served {
    let film = Film::read(Origin::Store(store.to_owned()), Arc::new(config(None)), &Stop::never());
    Served::of(film.expect("the store reads"), "")
}

/// The night with decisions, each changed by its line number or left out.
fn with_decisions(folder: &Path, change: impl Fn(usize, String) -> Option<String>) -> Served {
    let path = folder.join("decisions.jsonl");
    let decisions = decisions_of_the_night().into_iter().enumerate();
    let lines: Vec<String> = decisions.filter_map(|(at, line)| change(at, line)).collect();
    fs::write(&path, lines.join("\n")).expect("the decisions are written");
    Served::of(film_of(&[night(), path], &config(None)), "")
}

/// Writes the night and one unreadable entry, which is in `junk.jsonl` of the folder, to a store.
fn store_with_quarantine(folder: &Path) -> PathBuf {
    let (store, junk) = (folder.join("with-quarantine"), folder.join("junk.jsonl"));
    fs::write(&junk, UNREADABLE).expect("a history is written");
    let ran = run_with(&["replay", name(&night()), name(&junk), "--store", name(&store)]);
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    store
}

fn night_and_unreadable() -> String {
    fs::read_to_string(night()).expect("the night") + UNREADABLE
}

fn case_of(name: &str) -> PathBuf {
    cases().into_iter().find(|case| case.ends_with(name)).expect("a case of the repository")
}

fn case(name: &str) -> Served {
    let folder = root().join("replay/decisions-recorded").join(name);
    Served::of(film_of(&[folder.join("events.jsonl")], &config(Some(&folder.join("policy.toml")))), "")
}

fn verdict_of(console: &Served) -> String {
    let text = console.page("/console/decisions").with_class("verdict").next().expect("a verdict").text.clone();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn needs_of(console: &Served) -> String {
    console.page("/").with_class("needs").next().map_or_else(String::new, |needs| needs.text.clone())
}

#[test]
fn a_store_does_not_deny_the_decisions_that_it_keeps() {
    let folder = tempfile::tempdir().expect("a folder");
    let console = served_store(&store_of_the_night(folder.path()));
    let verdict = verdict_of(&console);
    assert!(verdict.contains("A store keeps the decisions that its service made"), "{verdict}");
    for lie in ["no decision entries", "counts each as missing", "Nothing is recorded"] {
        assert!(!verdict.contains(lie), "{verdict}");
    }
    assert_eq!(console.page("/console/decisions").rows().len(), 10);
    let tile = console.page("/").all("li").find(|tile| tile.text.contains("chain")).expect("a tile").text.clone();
    assert!(tile.contains("kept") && !tile.contains("nothing recorded"), "{tile}");
}

/// One entry that is no decision does not hide the decisions that the rules made.
#[test]
fn an_unreadable_decision_entry_hides_no_decision() {
    let folder = tempfile::tempdir().expect("a folder");
    let junk = r#"{"stream":"quantum:stream:harvest.decision","id":"1770170999000-0","fields":{"junk":"1"}}"#;
    let console = with_decisions(folder.path(), |at, _| (at == 0).then(|| junk.to_owned()));
    let page = console.page("/console/decisions");
    assert_eq!(page.rows().len(), 10);
    assert!(page.rows().iter().all(|row| row.iter().any(|cell| cell == "not recorded")), "{:?}", page.rows());
    let link = page.links().into_iter().find(|link| link.starts_with("/console/decision/")).expect("a decision");
    let (status, body) = console.get(&link);
    assert_eq!(status, 200, "{link}");
    assert!(expect_sound(&link, &body).with_class("verdict").next().expect("a verdict").text.contains("not recorded"));
    // Every decision that a position links to has a page.
    let position = console.page("/console/position/ETHUSDT").links();
    let links = position.iter().filter(|link| link.starts_with("/console/decision/"));
    assert!(links.map(|link| assert_eq!(console.get(link).0, 200, "{link}")).count() >= 1);
}

#[test]
fn a_decision_that_was_left_out_or_altered_is_counted_once() {
    let folder = tempfile::tempdir().expect("a folder");
    // One in the middle is missing: the numbers show a gap, and the rules make it.
    let console = with_decisions(folder.path(), |at, line| (at != 4).then_some(line));
    let verdict = verdict_of(&console);
    assert!(verdict.contains("1 decision is of these rules at earlier entries, and not recorded."), "{verdict}");
    assert!(needs_of(&console).contains("1 decision of these rules is not recorded."), "{}", needs_of(&console));
    // The last one is altered: a fault, and not a decision that is missing.
    let console = with_decisions(folder.path(), |at, line| {
        Some(if at == 9 { line.replace("qty\\\":\\\"", "qty\\\":\\\"1") } else { line })
    });
    let (verdict, needs) = (verdict_of(&console), needs_of(&console));
    assert!(verdict.contains("broken") && !verdict.contains("not recorded"), "{verdict}");
    assert!(needs.contains("The chain of decisions has") && !needs.contains("not recorded"), "{needs}");
}

/// A decision that these rules do not make needs a person.
#[test]
fn a_recorded_decision_that_differs_or_has_no_position_needs_a_person() {
    for (name, odd) in [
        ("s4_own_decisions_differ", "1 recorded decision is"),
        ("s4_own_decisions_homeless", "2 recorded decisions are"),
    ] {
        let console = case(name);
        let (verdict, needs) = (verdict_of(&console), needs_of(&console));
        assert!(needs.contains(&format!("{odd} not as these rules decide.")), "{name}: {needs}");
        assert!(verdict.contains("1 recorded decision is"), "{name}: {verdict}");
        assert!(verdict.contains("The audit judges each decision by itself"), "{name}: {verdict}");
    }
    let console = case("s4_own_decisions_missing");
    assert!(needs_of(&console).contains("1 decision of these rules is not recorded."), "{}", needs_of(&console));
}

/// The fold adopts a decision whose entry is not sealed. The chain does not contain it, so it has no page.
#[test]
fn a_decision_that_only_its_position_knows_is_named_without_a_link() {
    let console = case("s4_own_decisions_missing");
    let page = console.page("/console/position/SOLUSDT");
    for link in page.links().iter().filter(|link| link.starts_with("/console/")) {
        assert_eq!(console.get(link).0, 200, "{link}");
    }
    assert!(page.cells_of("0.5").iter().any(|cell| cell.len() == 12), "{:?}", page.cells_of("0.5"));
    assert!(
        verdict_of(&console).contains("1 more decision is known from its position only"),
        "{}",
        verdict_of(&console)
    );
}

#[test]
fn faults_are_counted_alike_on_every_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let console = with_decisions(folder.path(), |at, line| {
        Some(if at == 4 { format!("{line}\n{}", line.replace("-5\"", "-6\"")) } else { line })
    });
    let page = console.page("/console/decisions");
    let listed = page.with_class("bad").filter(|element| element.name == "th").count();
    let verdict = verdict_of(&console);
    let needs = needs_of(&console);
    let faults = if listed == 1 { "1 fault".to_owned() } else { format!("{listed} faults") };
    assert!(listed >= 1 && verdict.contains(&faults) && needs.contains(&faults), "{listed}: {verdict} {needs}");
}

/// Up to the last recorded decision the fold compares its own decisions and makes none.
#[test]
fn the_story_states_no_decision_where_none_was_made() {
    let console = case("s4_own_decisions_missing");
    let story = |symbol: &str| {
        let page = console.page(&format!("/console/position/{symbol}"));
        page.with_class("story").next().expect("a story").text.clone()
    };
    // The decision about ADAUSDT is missing at the first entry that causes it, and is made at a later one.
    let (missing, recorded) = (story("ADAUSDT"), story("SOLUSDT"));
    assert!(missing.contains("these rules decide, and no decision is recorded"), "{missing}");
    assert!(!missing.contains("none: decision made"), "{missing}");
    assert!(recorded.contains("none: decision made") && !recorded.contains("no decision is recorded"), "{recorded}");
    let head = |at: &str| {
        let page = console.page(&format!("/console/position/ADAUSDT?at={at}"));
        page.with_class("verdict").next().expect("a verdict").text.clone()
    };
    let then = head("1770163203000-0");
    assert!(
        then.contains("the history has no such decision") && !then.contains("the next evaluation decides"),
        "{then}"
    );
}

/// A store has no entries: nothing on its pages leads to one.
#[test]
fn every_link_of_a_store_leads_to_a_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let console = served_store(&store_of_the_night(folder.path()));
    let (mut waiting, mut known) = (vec!["/".to_owned()], BTreeSet::from(["/".to_owned()]));
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    while let Some(path) = waiting.pop() {
        let kind = path.split(['?', '@']).next().unwrap_or_default().split('/').take(3).collect::<Vec<_>>().join("/");
        let seen = kinds.entry(kind).or_default();
        *seen += 1;
        if *seen > 8 {
            continue;
        }
        let (status, body) = console.get(&path);
        assert_eq!(status, 200, "{path}");
        let links = expect_sound(&path, &body).links();
        waiting.extend(links.into_iter().filter(|link| link.starts_with('/') && known.insert(link.clone())));
    }
    assert!(kinds.contains_key("/console/position") && kinds.contains_key("/console/decision"), "{kinds:?}");
}

/// Serves a journal with some lines, as a running service does.
fn served_service(folder: &Path, lines: &[&str]) -> Served {
    let dir = folder.join(format!("journal-{}", lines.len()));
    let mut journal = Journal::open(&dir, Limits { rotate_bytes: 1_000_000 }).expect("a journal");
    for line in lines {
        let head: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let id: EntryId = head["id"].as_str().expect("an id").parse().expect("an id");
        journal.append(line, id.ms);
    }
    journal.commit().expect("a commit");
    let film = Film::read(Origin::Journal(dir), Arc::new(config(None)), &Stop::never()).expect("the journal reads");
    // By its clock all prices are too old.
    let now_ms = film.last.ms + 86_400_000;
    let finding = |name| Finding { name, about: None, says: "something is wrong".to_owned() };
    let findings = ["no_leader", "policy_differs", "input_silent"].map(finding).to_vec();
    let present = Present { url: "http://127.0.0.1:9464".to_owned(), now_ms, findings, ..Present::default() };
    Served::by(film, |film| Console::new(film, "a service", "").of_service(Arc::new(move || present.clone())))
}

const UNREADABLE: &str = r#"{"stream":"quantum:stream:apply.result","id":"1770170999000-0","fields":{"symbol":"ADAUSDT","executed":"maybe"}}"#;

/// The pages show only commands that the command line has: each is parsed by it. None has a name that the reader would
/// have to fill in, and none asks for the store that a running service holds.
#[test]
fn every_command_of_the_pages_exists() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = served_store(&store_with_quarantine(folder.path()));
    let history = Served::of(film_of(&[night(), folder.path().join("junk.jsonl")], &config(None)), "");
    let text = night_and_unreadable();
    let service = served_service(folder.path(), &text.lines().collect::<Vec<_>>());
    let case = fs::read_to_string(case_of("s4_divergence_ends_by_agreement").join("events.jsonl")).expect("a case");
    let diverged = served_service(folder.path(), &case.lines().take(4).collect::<Vec<_>>());
    let mut tried = BTreeSet::new();
    for (console, source) in [(&store, "store"), (&history, "history"), (&service, "service"), (&diverged, "service")] {
        let position = console.page("/console/positions").links();
        let position = position.iter().find(|link| link.starts_with("/console/position/")).expect("a position").clone();
        for path in ["/", "/?at=02:06", "/console/decisions", "/console/audit", &position] {
            if console.get(path).0 == 400 && source == "store" {
                continue;
            }
            for command in console.page(path).with_class("command") {
                let words: Vec<&str> =
                    command.text.split_whitespace().skip(1).map(|word| word.trim_matches('"')).collect();
                let place = format!("{source} {path}: {}", command.text);
                let ran = run_with(&[&words[..], &["--help"]].concat());
                assert_eq!(ran.code, Some(0), "{place}: {}", ran.log);
                let left_open = ["SYMBOL", "DIR", "FILE", "HISTORY", "URL"];
                assert!(words.iter().all(|word| !left_open.contains(word)), "{place}: a name is left open");
                assert!(source == "store" || !words.contains(&"--store"), "{place}: the service holds its store");
                let of_service = ["doctor", "quarantine", "needs", "reconcile"].contains(&words[0]);
                assert!(source != "history" || !of_service, "{place} needs a service or a store");
                if words[0] == "explain" {
                    let ran = run_with(&words);
                    assert_eq!(ran.code, Some(0), "{place}: {}", ran.log);
                }
                tried.insert(words[0].to_owned());
            }
        }
    }
    for command in ["audit", "explain", "doctor", "status", "config", "reconcile", "quarantine"] {
        assert!(tried.contains(command), "{command}: {tried:?}");
    }
}

/// What only the store could show is on a page of the service.
#[test]
fn a_need_of_a_running_service_leads_to_the_page_that_shows_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = night_and_unreadable();
    let console = served_service(folder.path(), &text.lines().collect::<Vec<_>>());
    let now = console.page("/");
    let links = now.links();
    assert!(links.iter().any(|link| link == "/console/streams#quarantine"), "{links:?}");
    let more = now.all("a").find(|link| link.text == "and 37 more");
    let more = more.unwrap_or_else(|| panic!("{}", needs_of(&console))).get("href").to_owned();
    assert_eq!(more, "/console/positions?hold=stale_price");
    assert_eq!(console.page(&more).rows().len(), 43);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.jsonl");
    let line = r#"{"stream":"quantum:stream:apply.result","id":"1770163201000-0","fields":{"symbol":"SOLUSDT","side":"BUY","executedQty":"10","orderId":"1","status":"FILLED","executed":"True","account":"a"}}"#;
    fs::write(&path, line).expect("the history is written");
    let console = Served::of(film_of(&[path], &config(None)), "");
    let now = console.page("/");
    let all = now.all("a").find(|link| link.text == "Show them").expect("a way to them").get("href").to_owned();
    assert!(all.starts_with("/console/positions?missing="), "{all}");
    assert_eq!(console.page(&all).rows().len(), 1);
    assert!(needs_of(&console).contains("a/SOLUSDT"), "a finding names the account: {}", needs_of(&console));
}

/// A store keeps the quarantined entries, but not the counts.
#[test]
fn a_store_counts_its_quarantine_and_denies_no_entry() {
    let folder = tempfile::tempdir().expect("a folder");
    let console = served_store(&store_with_quarantine(folder.path()));
    assert!(needs_of(&console).contains("In quarantine: 1 entry."), "{}", needs_of(&console));
    let now = console.page("/").all("main").next().expect("a page").text.clone();
    assert!(!now.contains("Every entry could be read"), "{now}");
    let streams = console.page("/console/streams").all("main").next().expect("a page").text.clone();
    assert!(streams.contains("A store does not keep the numbers of entries"), "{streams}");
    assert!(!streams.contains("0 entries applied") && !streams.contains("None so far"), "{streams}");
}
