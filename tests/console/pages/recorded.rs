//! Decisions that are recorded and decisions that are not: a page states only what its source can know.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::judged::decisions_of_the_night;
use super::{Served, expect_sound, film_of};
use crate::night;
use crate::support::binary::{name, run_with};
use crate::support::{config, root};
use harvester::drive::film::{Film, Origin};
use harvester::drive::stop::Stop;

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

/// The pages show only commands that the command line has: each is parsed by it.
#[test]
fn every_command_of_the_pages_exists() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = served_store(&store_of_the_night(folder.path()));
    let junk = folder.path().join("junk.jsonl");
    let line = r#"{"stream":"quantum:stream:apply.result","id":"1770170999000-0","fields":{"symbol":"ADAUSDT","executed":"maybe"}}"#;
    fs::write(&junk, line).expect("a history is written");
    let history = Served::of(film_of(&[night(), junk], &config(None)), "");
    let mut tried = BTreeSet::new();
    for (console, of_histories) in [(&store, false), (&history, true)] {
        for path in ["/", "/console/decisions", "/console/audit", "/console/position/ARCUSDT"] {
            for command in console.page(path).with_class("command") {
                let words: Vec<&str> =
                    command.text.split_whitespace().skip(1).map(|word| word.trim_matches('"')).collect();
                let ran = run_with(&[&words[..], &["--help"]].concat());
                assert_eq!(ran.code, Some(0), "{path}: {}: {}", command.text, ran.log);
                let of_service = ["doctor", "quarantine", "needs", "reconcile"].contains(&words[0]);
                assert!(!of_histories || !of_service, "{path}: {} needs a service or a store", command.text);
                tried.insert(words[0].to_owned());
            }
        }
    }
    for command in ["audit", "whatif", "explain"] {
        assert!(tried.contains(command), "{tried:?}");
    }
}
