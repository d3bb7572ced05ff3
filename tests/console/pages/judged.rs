//! Pages that judge a chain or compare policies: decisions, What if, audit.

use std::fs;
use std::sync::Arc;

use super::{Served, expect_sound, film_of};
use crate::night;
use crate::support::config;
use crate::support::service::until;
use harvester::console::Console;
use harvester::drive::film::Origin;
use harvester::drive::stop::Stop;

/// Returns the golden decisions of the night, as history lines.
pub fn decisions_of_the_night() -> Vec<String> {
    let lines = fs::read_to_string(night().with_file_name("expected.jsonl")).expect("the golden lines");
    let read = |line: &str| -> serde_json::Value { serde_json::from_str(line).expect("a golden line is JSON") };
    let decisions = lines.lines().map(read).filter(|line| line["decision"].is_object());
    decisions.map(|line| line["decision"].to_string()).collect()
}

#[test]
fn an_altered_chain_is_shown_as_broken() {
    let folder = tempfile::tempdir().expect("a folder");
    let decisions = decisions_of_the_night();
    assert_eq!(decisions.len(), 10, "ten decisions");
    let altered = |n: usize| {
        let lines: Vec<String> = decisions
            .iter()
            .enumerate()
            .map(|(at, line)| if at == n { line.replace("qty\\\":\\\"", "qty\\\":\\\"1") } else { line.clone() })
            .collect();
        lines.join("\n")
    };
    for (text, is_whole) in [(decisions.join("\n"), true), (altered(4), false)] {
        let path = folder.path().join("decisions.jsonl");
        fs::write(&path, text).expect("the decisions are written");
        let console = Served::of(film_of(&[night(), path], &config(None)), "");
        let page = console.page("/console/decisions");
        let verdict = page.with_class("verdict").next().expect("a verdict").text.clone();
        assert_eq!(verdict.contains("The chain is whole"), is_whole, "{verdict}");
        let wrong = page.rows().iter().filter(|row| row.iter().any(|cell| cell.starts_with('✗'))).count();
        assert_eq!(wrong > 0, !is_whole);
        let now = console.page("/");
        assert_eq!(now.0.iter().any(|element| element.text == "broken"), !is_whole);
    }
}

/// A chain without its last decisions is whole. The page shows the decisions that these rules make and the chain
/// lacks.
#[test]
fn a_chain_whose_end_was_cut_off_is_a_concern() {
    let folder = tempfile::tempdir().expect("a folder");
    let decisions = decisions_of_the_night();
    for (kept, is_lacking) in [(8, true), (10, false)] {
        let path = folder.path().join("decisions.jsonl");
        fs::write(&path, decisions[..kept].join("\n")).expect("the decisions are written");
        let console = Served::of(film_of(&[night(), path], &config(None)), "");
        let verdict = console.page("/console/decisions").with_class("verdict").next().expect("a verdict").text.clone();
        assert_eq!(verdict.contains("2 decisions were made here after the last recorded one"), is_lacking, "{verdict}");
        let now = console.page("/");
        let needs = now.with_class("needs").next().expect("needs").text.clone();
        assert_eq!(needs.contains("2 decisions of these rules are not recorded"), is_lacking, "{needs}");
        let tile = now.all("li").find(|tile| tile.text.contains("chain")).expect("a tile").text.clone();
        assert_eq!(tile.contains("2 not recorded"), is_lacking, "{tile}");
        // The audit compares the decisions: its page has no other text.
        assert_eq!(console.page("/console/audit").with_class("notice").count(), 0);
    }
}

/// The pages over the whole history link back to the moment of the page before.
#[test]
fn the_forms_of_what_if_and_audit_keep_the_moment() {
    let console = audited();
    for path in ["/console/whatif", "/console/audit"] {
        let kept = |path: &str| {
            let page = console.page(path);
            page.all("input").find(|field| field.get("name") == "at").map(|field| field.get("value").to_owned())
        };
        assert_eq!(kept(&format!("{path}?at=02:07")).as_deref(), Some("02:07"), "{path}");
        assert_eq!(kept(path), None, "{path}");
    }
}

/// Starts a console over the night, with the audit of the command line.
fn audited() -> Served {
    let config = config(None);
    let audit = Arc::new(move |origin: &Origin, stop: &Stop| {
        harvester::cli::audit::of_origin(origin, &config, stop).map_err(|error| format!("{error:#}"))
    });
    Served::by(film_of(&[night()], &self::config(None)), |film| Console::new(film, "a test", "").with_audit(audit))
}

#[test]
fn two_policies_are_compared_in_the_page_and_a_wrong_one_is_refused_there() {
    let console = Served::night();
    let path = "/console/whatif?b=risk_too_large+%3D+%22as_fraction%22";
    let (_, body) = console.get(path);
    let page = expect_sound(path, &body);
    let cells: Vec<String> = page.all("td").map(|cell| cell.text.trim().to_owned()).collect();
    // The same as in the demonstration: 11 decisions instead of 10.
    assert_eq!((&*cells[2], &*cells[10]), ("10", "11"), "{cells:?}");
    assert_eq!((&*cells[14], &*cells[15]), ("1", "0"), "one decision is made only by B");
    assert!(page.with_class("equity-second").next().is_some_and(|label| label.text.starts_with("B ")));
    for (wrong, reason) in [("min_rr+%3D+1", "did you mean `min_r`"), ("min_r+%3D", "value"), ("min_r%3D-1", "min_r")] {
        let (status, body) = console.get(&format!("/console/whatif?b={wrong}"));
        let page = expect_sound(wrong, &body);
        let refused = page.with_class("refused").next().unwrap_or_else(|| panic!("{wrong} is accepted")).text.clone();
        assert!(status == 200 && refused.contains(reason), "{wrong}: {refused}");
        assert_eq!(page.with_class("equity").count(), 0, "no policy is folded");
    }
    let form = console.page("/console/whatif");
    assert_eq!(form.with_class("equity").count(), 0, "nothing is folded before a request");
}

#[test]
fn the_audit_runs_on_request_and_agrees_with_the_command() {
    let console = audited();
    let before = console.page("/console/audit");
    assert!(before.all("pre").next().is_none());
    let notice = before.with_class("notice").next().expect("nothing is recorded").text.clone();
    assert!(notice.contains("nothing to compare"), "{notice}");
    let chain = console.page("/console/decisions").with_class("verdict").next().expect("a verdict").text.clone();
    assert!(chain.contains("The chain is not recorded. 10 decisions made here, sealed right."), "{chain}");
    let tile = console.page("/").all("li").find(|tile| tile.text.contains("chain")).expect("a tile").text.clone();
    assert!(tile.contains("not recorded") && notice.contains("the chain is not recorded"), "{tile} {notice}");
    let run = before.all("input").find(|field| field.get("name") == "run").expect("a button that runs it");
    let path = format!("/console/audit?run={}", run.get("value"));
    let (_, body) = console.get(&path);
    let page = expect_sound("audit", &body);
    let loads_again = |path: &str| console.head(path).contains("refresh: 1\r\n");
    assert!(page.with_class("report").next().is_some() || page.text().contains("updates every second"), "{body}");
    until("the audit has ended", || console.page(&path).all("pre").next().is_some());
    let (_, body) = console.get(&path);
    let page = expect_sound("audit", &body);
    assert!(!loads_again(&path), "the audit has finished");
    assert!(!body.contains("http-equiv"), "{body}");
    assert!(
        page.with_class("verdict").next().expect("a verdict").text.contains("Nothing to compare"),
        "nothing was emitted"
    );
    let text = &page.with_class("report").next().expect("a report").text;
    for part in ["matched 0, differ 0, missing 10", "MISSING: should have been emitted", "symbol ETHUSDT"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
