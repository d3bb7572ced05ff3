//! Printed metrics, and the files that use their names: the alerts and the book.

use std::collections::{BTreeMap, BTreeSet};

use harvester::service::report::{SharedReport, text};
use serde_json::Value;

use super::well;
use crate::support::root;

/// Returns the metrics of a service about which everything is known.
fn page() -> String {
    let shared = SharedReport::new(well());
    shared.commit_seconds.observe(0.0017);
    shared.emit_seconds.observe(0.0004);
    shared.price_to_decision_seconds.observe(0.002);
    // Rates come with the second sample; totals come with the first.
    shared.publish(|_| {});
    text(&shared).expect("the metrics are written")
}

/// Returns the names of the families, with their types.
fn families(page: &str) -> BTreeMap<String, String> {
    let types = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    types.filter_map(|line| line.split_once(' ')).map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

/// Returns the names of the samples of each family.
fn samples(families: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (name, kind) in families {
        if kind == "histogram" {
            names.extend(["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")));
        } else {
            names.insert(name.clone());
        }
    }
    names
}

/// Returns all words of a text that begin with our prefix.
fn named(text: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !is_word(c)).filter(|word| word.starts_with("harvester_")).map(str::to_owned).collect()
}

#[test]
fn every_metric_is_described_and_has_its_unit_in_its_name() {
    let page = page();
    let families = families(&page);
    assert!(families.len() > 40, "{families:?}");
    for (name, kind) in &families {
        let help = page.lines().find(|line| line.starts_with(&format!("# HELP {name} ")));
        assert!(help.is_some_and(|line| line.len() > format!("# HELP {name} ").len() + 10), "{name} is not described");
        assert!(name.starts_with("harvester_"), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        assert!(!name.ends_with("_ms"), "{name}: seconds are the unit of Prometheus");
        assert_eq!(name.ends_with("_seconds"), kind == "histogram" || name.contains("_seconds"), "{name}");
    }
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (sample, value) = line.rsplit_once(' ').expect("a sample and its value");
        assert!(value.parse::<f64>().is_ok(), "{sample} is {value}");
    }
}

#[test]
fn metrics_have_the_numbers_of_the_report() {
    let page = page();
    for line in [
        "harvester_positions_open 44.0",
        "harvester_positions_evaluable 43.0",
        "harvester_positions_missing{field=\"entry_price\"} 1.0",
        "harvester_positions_held{reason=\"below_min_r\"} 40.0",
        "harvester_entries_total{outcome=\"applied\"} 1235",
        "harvester_entries_total{outcome=\"quarantined\"} 2",
        "harvester_quarantined_total{reason=\"no_price\"} 2",
        "harvester_entries_by_shape_total{kind=\"price\",shape=\"tick\"} 1012",
        "harvester_decisions{state=\"shadowed\",position=\"open\"} 10.0",
        "harvester_decisions{state=\"unknown\",position=\"closed\"} 1.0",
        "harvester_input_lag_entries{stream=\"quantum:stream:apply.result\",kind=\"result\"} 2.0",
        "harvester_input_lag_seconds{stream=\"quantum:stream:market.tick\",kind=\"price\"} 0.2",
        "harvester_input_silent{stream=\"quantum:stream:market.tick\",kind=\"price\"} 0.0",
        "harvester_role{role=\"leader\"} 1.0",
        "harvester_role{role=\"standby\"} 0.0",
        "harvester_lease_left_seconds 4.2",
        "harvester_journal_bytes 1200000.0",
        "harvester_mark_age_seconds{symbol=\"ARCUSDT\"} 0.4",
        "harvester_commit_seconds_bucket{le=\"0.001\"} 0",
        "harvester_commit_seconds_bucket{le=\"0.002\"} 1",
        "harvester_emit_seconds_count 1",
        "harvester_alive 1.0",
        "harvester_ready 1.0",
    ] {
        assert!(page.lines().any(|of_page| of_page == line), "{line} is missing in\n{page}");
    }
    assert!(page.contains(&format!("policy=\"{}\"", "ab".repeat(32))), "the policy is named");
}

#[test]
fn alerts_use_metrics_that_exist() {
    let text = std::fs::read_to_string(root().join("tools/deploy/alerts.yml")).expect("the alerts");
    let document: Value = serde_saphyr::from_str(&text).expect("the alerts are YAML");
    let printed = samples(&families(&page()));
    let mut alerts = BTreeSet::new();
    for rule in
        document["groups"].as_array().expect("groups").iter().flat_map(|g| g["rules"].as_array().expect("rules"))
    {
        let alert = rule["alert"].as_str().expect("a name");
        assert!(alerts.insert(alert.to_owned()), "{alert} is there twice");
        let expression = rule["expr"].as_str().expect("an expression");
        let asked = named(expression);
        // Metrics of `harvester feed`, which is another process, are compared with its own page.
        let (of_feed, of_run): (BTreeSet<_>, BTreeSet<_>) =
            asked.iter().partition(|name| name.starts_with("harvester_feed_"));
        assert!(!asked.is_empty(), "{alert} uses none of our metrics");
        assert!(of_feed.is_empty() || of_run.is_empty(), "{alert} uses metrics of two processes");
        for name in of_run {
            assert!(printed.contains(name), "{alert} uses {name}, which is not printed");
        }
        assert!(rule["annotations"]["summary"].as_str().is_some_and(|summary| summary.len() > 20), "{alert}");
        assert!(matches!(rule["labels"]["severity"].as_str(), Some("page" | "ticket")), "{alert}");
    }
    for wanted in [
        "HarvesterEvaluableLow",
        "HarvesterPositionsUnknown",
        "HarvesterInputSilent",
        "HarvesterDecisionUnknownOrFailed",
        "HarvesterUnreadable",
        "HarvesterNotBelieved",
        "HarvesterPolicyDiffers",
        "HarvesterGapOpen",
        "HarvesterKilled",
        "HarvesterCursorStanding",
        "HarvesterNoLeader",
        "HarvesterFeedStalled",
        "HarvesterCircuitOpen",
    ] {
        assert!(alerts.contains(wanted), "{wanted} is missing");
    }
}

#[test]
fn the_book_names_every_metric_and_no_other() {
    let text = std::fs::read_to_string(root().join("docs/reference/metrics.md")).expect("the page of the metrics");
    let of_feed = families(&harvester::service::feed::all_metrics().expect("the metrics of a feed are written"));
    // In the text format, a counter of the feed has no `_total` in its type line.
    let of_feed = of_feed.into_iter().map(|(name, kind)| if kind == "counter" { name + "_total" } else { name });
    let printed: BTreeSet<String> = families(&page()).into_keys().chain(of_feed).collect();
    assert!(printed.contains("harvester_feed_price_age_seconds") && printed.contains("harvester_feed_endings_total"));
    assert_eq!(named(&text), printed);
}
