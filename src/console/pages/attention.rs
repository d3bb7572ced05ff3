//! The list of things that need a person: the worst first, each with the command that is the next step.

use std::collections::BTreeMap;

use super::Link;
use super::decisions::lacking;
use crate::codec::plural::plural;
use crate::console::frame::Scene;
use crate::drive::film::Origin;
use crate::drive::sheet::Sheet;

/// Symbols that a line names. [1]
const NAMED_MAX: usize = 6;

/// The sentence about a risk that is too large.
const RISK_TOO_LARGE: &str = "The risk per unit is at least the entry price. Its ATR may be a fraction of the price: \
                              compare a policy with risk_too_large = \"as_fraction\"";

/// How urgent a need is. The page is in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Act,
    Check,
    Know,
}

impl Severity {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Act => "act",
            Self::Check => "check",
            Self::Know => "know",
        }
    }
}

/// One thing that needs a person.
pub struct Need {
    pub severity: Severity,
    pub what: String,
    pub who: Vec<Link>,
    /// The page of the console that shows more about it.
    pub here: Option<Link>,
    /// How many further symbols are not named. [1]
    pub more: usize,
    /// A command. It changes nothing as it is written: a command that changes something is given without `--yes`, as a
    /// dry run.
    pub next: String,
}

/// Returns the list. `faults` is the number of faults of the chain. [1]
pub fn needs(scene: &Scene<'_>, sheet: &Sheet, quarantined: u64, faults: usize) -> Vec<Need> {
    let origin = &scene.film.origin;
    let source = origin.arguments();
    let mut needs = Vec::new();
    let mut add = |severity, what: String, who: Vec<Link>, next: String| {
        let more = who.len().saturating_sub(NAMED_MAX);
        needs.push(Need { severity, what, who: who.into_iter().take(NAMED_MAX).collect(), here: None, more, next });
    };
    for finding in scene.present.iter().flat_map(|present| &present.findings) {
        let about = finding.about.as_deref().filter(|about| !finding.says.contains(about)).unwrap_or_default();
        let what = if about.is_empty() { finding.says.clone() } else { format!("{about}: {}", finding.says) };
        add(of_finding(finding.name), sentence(&what), Vec::new(), next_of(finding.name).to_owned());
    }
    if sheet.killed {
        let next = "harvester control kill off --reason \"…\"".to_owned();
        add(Severity::Act, "The kill switch is set: nothing is harvested.".to_owned(), Vec::new(), next);
    }
    if faults > 0 {
        let what = format!("The chain of decisions has {}.", plural(faults, "fault"));
        let link = Link { text: "decisions".to_owned(), href: scene.to("/console/decisions") };
        add(Severity::Act, what, vec![link], format!("harvester audit {source}"));
    }
    let lacking = lacking(scene);
    if lacking > 0 {
        let what = format!(
            "{} made here and not recorded: the end of the chain may be missing.",
            if lacking == 1 { "1 decision is".to_owned() } else { format!("{lacking} decisions are") }
        );
        let link = Link { text: "decisions".to_owned(), href: scene.to("/console/decisions") };
        add(Severity::Check, what, vec![link], format!("harvester audit {source}"));
    }
    if sheet.positions_unknown {
        let what = "No source has ever reported a position. That is not the same as flat.".to_owned();
        add(Severity::Act, what, Vec::new(), "harvester doctor".to_owned());
    }
    let link = |symbol: &str, id: &str| Link { text: symbol.to_owned(), href: scene.position(id) };
    let open = || sheet.positions.iter().filter(|position| position.closed.is_none());
    let with_flag = |flag: &str| -> Vec<Link> {
        open().filter(|p| p.flags.iter().any(|of| of == flag)).map(|p| link(&p.symbol, &p.position_id)).collect()
    };
    for (flag, severity, what, next) in [
        (
            "diverged",
            Severity::Act,
            "The exchange reports another quantity",
            "harvester reconcile --store DIR".to_owned(),
        ),
        (
            "result_unknown",
            Severity::Act,
            "An order has no result, and its time is up",
            format!("harvester explain SYMBOL {source}"),
        ),
        (
            "history_gap",
            Severity::Act,
            "Entries of the history are missing",
            "harvester control gap-accept SYMBOL --reason \"…\"".to_owned(),
        ),
        (
            "rung_failed",
            Severity::Check,
            "A rung was refused too often and is given up",
            format!("harvester explain SYMBOL {source}"),
        ),
        ("risk_too_large", Severity::Check, RISK_TOO_LARGE, format!("harvester whatif --policy FILE {source}")),
        (
            "risk_too_small",
            Severity::Check,
            "The risk per unit is very small: its ATR may be in another unit",
            format!("harvester explain SYMBOL {source}"),
        ),
        (
            "entry_price_disagrees",
            Severity::Check,
            "Exchange and fills state different entry prices",
            format!("harvester explain SYMBOL {source}"),
        ),
    ] {
        let who = with_flag(flag);
        if !who.is_empty() {
            add(severity, format!("{what} ({}).", who.len()), who, next);
        }
    }
    let mut missing: BTreeMap<&str, Vec<Link>> = BTreeMap::new();
    for position in open() {
        for field in &position.missing {
            missing.entry(field).or_default().push(link(&position.symbol, &position.position_id));
        }
    }
    for (field, who) in missing {
        let next = match origin {
            Origin::Store(dir) => format!("harvester needs --store {}", dir.display()),
            Origin::Histories(_) | Origin::Journal(_) => "harvester needs --store DIR".to_owned(),
        };
        add(Severity::Act, format!("{field} is missing: {}.", plural(who.len(), "open position")), who, next);
    }
    let held_by = |hold: &str| -> Vec<Link> {
        open().filter(|p| p.hold.as_deref() == Some(hold)).map(|p| link(&p.symbol, &p.position_id)).collect()
    };
    for (hold, what) in
        [("stale_price", "have a price that is too old"), ("stale_position", "were not confirmed for too long")]
    {
        let who = held_by(hold);
        if !who.is_empty() {
            add(Severity::Act, format!("{} open positions {what}.", who.len()), who, "harvester doctor".to_owned());
        }
    }
    let who = held_by("price_jump");
    if !who.is_empty() {
        let what =
            format!("The last price jumped, and a second one must confirm it: {}.", plural(who.len(), "position"));
        add(Severity::Know, what, who, format!("harvester explain SYMBOL {source}"));
    }
    if quarantined > 0 {
        let next = "harvester quarantine list --store DIR".to_owned();
        let link = Link { text: "quarantine".to_owned(), href: scene.to("/console/streams") };
        add(Severity::Check, format!("In quarantine: {}.", plural(quarantined, "entry")), vec![link], next);
    }
    if !sheet.unconfirmed.is_empty() {
        let what = format!(
            "Seen once and not confirmed: {} ({}).",
            plural(sheet.unconfirmed.len(), "position"),
            sheet.unconfirmed.join(" ")
        );
        add(Severity::Know, what, Vec::new(), "harvester reconcile --store DIR".to_owned());
    }
    let fraction = || Link {
        text: "Compare it in What if".to_owned(),
        href: scene.to("/console/whatif").with("b", super::whatif::EXAMPLE),
    };
    for need in needs.iter_mut().filter(|need| need.what.starts_with(RISK_TOO_LARGE)) {
        need.here = scene.film.has_past().then(fraction);
    }
    needs.sort_by_key(|need| need.severity);
    needs
}

/// Returns how urgent a finding of a running service is.
fn of_finding(name: &str) -> Severity {
    match name {
        "starting" | "stopping" | "rebuilding" | "policy_pending" => Severity::Know,
        "not_warm" | "pending_old" | "ids_ahead" | "input_silent" | "decision_failed" | "unreadable" => Severity::Check,
        _ => Severity::Act,
    }
}

fn next_of(name: &str) -> &'static str {
    match name {
        "no_leader" | "starting" | "stopping" | "rebuilding" | "not_warm" | "policy_pending" => "harvester status",
        "policy_differs" | "mode_differs" => "harvester config",
        _ => "harvester doctor",
    }
}

/// Returns a text with a capital letter and a full stop.
fn sentence(text: &str) -> String {
    // The name of a stream is not capitalized.
    let is_name = text.split(' ').next().is_some_and(|word| word.contains(':'));
    if is_name {
        return format!("{}.", text.trim_end_matches('.'));
    }
    let mut letters = text.chars();
    let first = letters.next().map(char::to_uppercase).into_iter().flatten();
    let mut sentence: String = first.chain(letters).collect();
    if !sentence.ends_with('.') {
        sentence.push('.');
    }
    sentence
}
