//! The list of things that need a person: the worst first, each with the command that is the next step.

use std::collections::BTreeMap;

use super::Link;
use super::decisions::Differences;
use crate::codec::plural::plural;
use crate::codec::view::PositionView;
use crate::console::frame::PageContext;
use crate::domain::exit::{Flag, Hold};
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
    /// dry run. `None` where no command can help: a plain history has no service and no store.
    pub next: Option<String>,
}

/// Returns the list. `faults` are those of the chain. [1]
pub fn needs(
    context: &PageContext<'_>,
    sheet: &Sheet,
    quarantined: u64,
    (faults, differences): (usize, Differences),
) -> Vec<Need> {
    let mut list = List { context, sheet, source: context.film.origin.arguments(), needs: Vec::new() };
    list.findings();
    list.kill_switch();
    list.chain(faults, differences);
    list.unknown_positions();
    list.flags();
    list.missing();
    list.holds();
    list.quarantine(quarantined);
    list.unconfirmed();
    list.needs.sort_by_key(|need| need.severity);
    list.needs
}

/// The list in the making.
struct List<'a> {
    context: &'a PageContext<'a>,
    sheet: &'a Sheet,
    /// The arguments that name the history or the store.
    source: String,
    needs: Vec<Need>,
}

impl List<'_> {
    fn add(&mut self, severity: Severity, what: String, who: Vec<Link>, next: impl Into<Option<String>>) {
        let more = who.len().saturating_sub(NAMED_MAX);
        let who = who.into_iter().take(NAMED_MAX).collect();
        self.needs.push(Need { severity, what, who, here: None, more, next: next.into() });
    }

    /// Adds the findings of the running service.
    fn findings(&mut self) {
        for finding in self.context.present.iter().flat_map(|present| &present.findings) {
            let about = finding.about.as_deref().filter(|about| !finding.says.contains(about)).unwrap_or_default();
            let what = if about.is_empty() { finding.says.clone() } else { format!("{about}: {}", finding.says) };
            self.add(of_finding(finding.name), sentence(&what), Vec::new(), next_of(finding.name).to_owned());
        }
    }

    /// Returns a command that asks a service or its store; `None` for a plain history, which has neither.
    fn of_service(&self, command: &str) -> Option<String> {
        match &self.context.film.origin {
            Origin::Histories(_) => None,
            Origin::Journal(_) | Origin::Store(_) => Some(command.to_owned()),
        }
    }

    /// Returns a command that reads a store; `None` for a plain history.
    fn of_store(&self, command: &str) -> Option<String> {
        match &self.context.film.origin {
            Origin::Histories(_) => None,
            Origin::Journal(_) => Some(format!("{command} --store DIR")),
            Origin::Store(dir) => Some(format!("{command} --store {}", dir.display())),
        }
    }

    /// Returns the command that explains a symbol of this source.
    fn explain(&self) -> String {
        format!("harvester explain SYMBOL {}", self.source)
    }

    fn kill_switch(&mut self) {
        if self.sheet.killed {
            let next = "harvester control kill off --reason \"…\"".to_owned();
            self.add(Severity::Act, "The kill switch is set: nothing is harvested.".to_owned(), Vec::new(), next);
        }
        for account in self.context.engine.accounts().iter().filter(|account| account.killed) {
            let name = &account.name;
            let list = self.context.to("/console/positions").with("account", name);
            let what = format!("The kill switch of account {name} is set: nothing of it is harvested.");
            let next = format!("harvester control kill off --account {name} --reason \"…\"");
            self.add(Severity::Act, what, vec![Link { text: "its positions".to_owned(), href: list }], next);
        }
    }

    fn chain(&mut self, faults: usize, differences: Differences) {
        let next = self.context.audit_command();
        let link = Link { text: "decisions".to_owned(), href: self.context.to("/console/decisions") };
        if faults > 0 {
            let what = format!("The chain of decisions has {}.", plural(faults, "fault"));
            self.add(Severity::Act, what, vec![link.clone()], next.clone());
        }
        let are =
            |n: u64, one: &str, more: &str| if n == 1 { format!("1 {one} is") } else { format!("{n} {more} are") };
        if differences.odd() > 0 {
            let what = format!(
                "{} not as these rules decide.",
                are(differences.odd(), "recorded decision", "recorded decisions")
            );
            self.add(Severity::Act, what, vec![link.clone()], next.clone());
        }
        if differences.lacking() > 0 {
            let what = format!(
                "{} not recorded.",
                are(differences.lacking(), "decision of these rules", "decisions of these rules")
            );
            self.add(Severity::Check, what, vec![link], next);
        }
    }

    fn unknown_positions(&mut self) {
        if self.sheet.positions_unknown {
            let what = "No source has ever reported a position. That is not the same as flat.".to_owned();
            self.add(Severity::Act, what, Vec::new(), self.of_service("harvester doctor"));
        }
    }

    /// Adds the flags of open positions.
    fn flags(&mut self) {
        let explain = Some(self.explain());
        let whatif = Some(match &self.context.film.origin {
            Origin::Store(_) => "harvester whatif --policy FILE HISTORY".to_owned(),
            Origin::Journal(dir) => format!("harvester whatif --policy FILE {}", dir.display()),
            Origin::Histories(_) => format!("harvester whatif --policy FILE {}", self.source),
        });
        let accept = Some("harvester control gap-accept SYMBOL --reason \"…\"".to_owned());
        let reconcile = self.of_store("harvester reconcile").or_else(|| explain.clone());
        for (flag, severity, what, next) in [
            (Flag::Diverged, Severity::Act, "The exchange reports another quantity", &reconcile),
            (Flag::ResultUnknown, Severity::Act, "An order has no result, and its time is up", &explain),
            (Flag::HistoryGap, Severity::Act, "Entries of the history are missing", &accept),
            (Flag::RungFailed, Severity::Check, "A rung was refused too often and is given up", &explain),
            (Flag::RiskTooLarge, Severity::Check, RISK_TOO_LARGE, &whatif),
            (
                Flag::RiskTooSmall,
                Severity::Check,
                "The risk per unit is very small: its ATR may be in another unit",
                &explain,
            ),
            (Flag::EntryPriceDisagrees, Severity::Check, "Exchange and fills state different entry prices", &explain),
        ] {
            let who = self.open(|position| position.flags.iter().any(|of| of == flag.name()));
            if who.is_empty() {
                continue;
            }
            self.add(severity, format!("{what} ({}).", who.len()), who, next.clone());
            if flag == Flag::RiskTooLarge && self.context.film.has_past() {
                let href = self.context.to("/console/whatif").with("b", super::whatif::EXAMPLE);
                let here = Link { text: "Compare it in What if".to_owned(), href };
                self.needs.last_mut().expect("one was added").here = Some(here);
            }
        }
    }

    /// Adds the fields that open positions lack.
    fn missing(&mut self) {
        let mut missing: BTreeMap<&str, Vec<Link>> = BTreeMap::new();
        for position in self.sheet.positions.iter().filter(|position| position.closed.is_none()) {
            for field in &position.missing {
                missing.entry(field).or_default().push(self.link_to(position));
            }
        }
        let next = self.of_store("harvester needs").unwrap_or_else(|| self.explain());
        for (field, who) in missing {
            let what = format!("{field} is missing: {}.", plural(who.len(), "open position"));
            self.add(Severity::Act, what, who, next.clone());
        }
    }

    /// Adds the holds that do not end by themselves, and those that need a second price.
    fn holds(&mut self) {
        for (hold, what) in [
            (Hold::StalePrice, "have a price that is too old"),
            (Hold::StalePosition, "were not confirmed for too long"),
        ] {
            let who = self.held_by(hold);
            if !who.is_empty() {
                let what = format!("{} open positions {what}.", who.len());
                let next = self.of_service("harvester doctor").unwrap_or_else(|| self.explain());
                self.add(Severity::Act, what, who, next);
            }
        }
        let who = self.held_by(Hold::PriceJump);
        if !who.is_empty() {
            let held = plural(who.len(), "position");
            let what = format!("The last price jumped, and a second one must confirm it: {held}.");
            self.add(Severity::Know, what, who, self.explain());
        }
    }

    fn quarantine(&mut self, quarantined: u64) {
        if quarantined > 0 {
            let next = self.of_store("harvester quarantine list");
            let link = Link { text: "quarantine".to_owned(), href: self.context.to("/console/streams") };
            let what = format!("In quarantine: {}.", plural(quarantined, "entry"));
            self.add(Severity::Check, what, vec![link], next);
        }
    }

    fn unconfirmed(&mut self) {
        let unconfirmed = &self.sheet.unconfirmed;
        if !unconfirmed.is_empty() {
            let named = unconfirmed.join(" ");
            let what = format!("Seen once and not confirmed: {} ({named}).", plural(unconfirmed.len(), "position"));
            self.add(Severity::Know, what, Vec::new(), self.of_store("harvester reconcile"));
        }
    }

    fn held_by(&self, hold: Hold) -> Vec<Link> {
        self.open(|position| position.hold.as_deref() == Some(hold.name()))
    }

    /// Returns links to the open positions that are meant.
    fn open(&self, is_meant: impl Fn(&PositionView) -> bool) -> Vec<Link> {
        let open = self.sheet.positions.iter().filter(|position| position.closed.is_none());
        open.filter(|position| is_meant(position)).map(|position| self.link_to(position)).collect()
    }

    fn link_to(&self, position: &PositionView) -> Link {
        Link { text: position.symbol.clone(), href: self.context.position(&position.position_id) }
    }
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
