//! The page of the metrics, from the output of a service and a feed about which everything is known.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::Context as _;
use harvester::service::feed::all_metrics;
use harvester::service::report::{SharedReport, text};

use super::pages::{escaped, head};
use super::well::well;

/// Subjects of the metrics, by the beginnings of their names; the longest one that fits counts.
const SUBJECTS: [(&str, &[&str]); 9] = [
    (
        "The service",
        &[
            "build",
            "uptime",
            "alive",
            "ready",
            "role",
            "report_age",
            "cursor_standing",
            "killed",
            "accounts_killed",
            "policy_",
        ],
    ),
    ("Each input stream", &["input_"]),
    (
        "Entries",
        &["entries", "quarantined", "unreadable", "refused", "remarks", "input_rate", "applied_rate", "emitted_rate"],
    ),
    ("Positions", &["positions_", "account_", "gap_", "mark_age"]),
    ("Decisions", &["evaluations", "holds", "decided", "emitted", "decisions", "outbox_", "outputs_"]),
    ("Latencies", &["commit_seconds", "emit_seconds", "price_to_decision"]),
    ("The journal, and the checksum of the state with its position", &["journal_", "state"]),
    ("Redis and the lease", &["redis_", "lease_", "fencing_token"]),
    ("The exchange, if it is asked", &["api_", "circuit_open"]),
];

/// One family of metrics, as it is printed.
struct Family {
    name: String,
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

/// Returns the page. Returns an error for a metric without a subject.
pub fn page() -> anyhow::Result<String> {
    let shared = SharedReport::new(well());
    // Rates come with the second sample.
    shared.publish(|_| {});
    let families = families(&text(&shared).context("the metrics cannot be written")?);
    let mut page = head("Metrics", "src/service/report/metrics.rs and src/service/feed/pages.rs");
    page.push_str(
        "`/metrics` of `harvester run` prints these, in the format of Prometheus; those of [`harvester feed`](#the-feeds) \
         are at the\nend. A metric without a value is left out. Counters count since the process began.\n",
    );
    for family in &families {
        subject(&family.name)?;
    }
    for (title, _) in SUBJECTS {
        let of_subject = families.iter().filter(|family| subject(&family.name).is_ok_and(|of| of == title));
        table(&mut page, title, of_subject);
    }
    let of_feed = self::families(&all_metrics().context("the metrics of a feed cannot be written")?);
    table(&mut page, "The feeds", of_feed.iter());
    page.push_str("\n`harvester feed mark` and `harvester feed user` print these on their own `/metrics`.\n");
    Ok(page)
}

fn table<'a>(page: &mut String, title: &str, families: impl Iterator<Item = &'a Family>) {
    let _ = write!(page, "\n## {title}\n\n| name | type | meaning | labels |\n|---|---|---|---|\n");
    for Family { name, kind, help, labels } in families {
        let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
        // In the text format, a counter of the feed has no `_total` in its type line.
        let ending = if kind == "counter" && !name.ends_with("_total") { "_total" } else { "" };
        let _ = writeln!(page, "| `{name}{ending}` | {kind} | {} | {} |", escaped(help), labels.join(", "));
    }
}

fn subject(name: &str) -> anyhow::Result<&'static str> {
    let short = name.trim_start_matches("harvester_");
    let fits = |beginnings: &[&str]| beginnings.iter().filter(|b| short.starts_with(**b)).map(|b| b.len()).max();
    let found = SUBJECTS.iter().filter_map(|(title, beginnings)| Some((fits(beginnings)?, *title))).max();
    found.map(|(_, title)| title).with_context(|| {
        format!("{name} has no subject: add its beginning to SUBJECTS in tools/xtask/src/docs/metrics.rs")
    })
}

fn families(printed: &str) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    let mut help = String::new();
    for line in printed.lines() {
        if let Some((_, text)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            text.trim_end_matches('.').clone_into(&mut help);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let (name, kind) = (name.to_owned(), kind.to_owned());
            families.push(Family { name, kind, help: std::mem::take(&mut help), labels: BTreeSet::new() });
        } else if let (Some(family), Some((_, labels))) = (families.last_mut(), line.split_once('{')) {
            let names = labels.split("\",").filter_map(|label| label.split_once("=\""));
            family.labels.extend(names.map(|(name, _)| name.to_owned()).filter(|name| name != "le"));
        }
    }
    families
}
