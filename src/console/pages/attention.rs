//! The list of things that need a person: the worst first, each with the command that is the next step.

use std::collections::BTreeMap;

use super::decisions::Differences;
use super::{Link, book_of};
use crate::codec::plural::plural;
use crate::codec::view::PositionView;
use crate::console::address::Address;
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
    /// The books or pages that it is about.
    pub who: Vec<Link>,
    /// The page of the console that shows more about it.
    pub here: Option<Link>,
    /// The list with those that are not named.
    pub more: Option<Link>,
    /// A command that runs as it is written. It changes nothing: a command that changes something is given without
    /// `--yes`, as a dry run. `None` where no command can help: a plain history has no service and no store, and a
    /// running service holds its store, so that only its pages show what the store has.
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

impl<'a> List<'a> {
    fn add(&mut self, severity: Severity, what: String, who: Vec<Link>, next: impl Into<Option<String>>) {
        self.needs.push(Need { severity, what, who, here: None, more: None, next: next.into() });
    }

    /// Adds something about open positions. `list` is the page with all of them.
    fn add_open(
        &mut self,
        (severity, what): (Severity, String),
        open: &[&PositionView],
        list: Address,
        next: impl Into<Option<String>>,
    ) {
        let named = open.iter().take(NAMED_MAX).map(|position| self.link_to(position)).collect();
        let left = open.len().saturating_sub(NAMED_MAX);
        let more = (left > 0).then(|| Link { text: format!("and {left} more"), href: list });
        self.needs.push(Need { severity, what, who: named, here: None, more, next: next.into() });
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

    /// Returns a command that reads a store; `None` for other sources. A running service holds its store.
    fn of_store(&self, command: &str) -> Option<String> {
        match &self.context.film.origin {
            Origin::Histories(_) | Origin::Journal(_) => None,
            Origin::Store(dir) => Some(format!("{command} --store {}", dir.display())),
        }
    }

    /// Returns the command that compares the positions with the exchange; `None` for a history or a journal alone.
    fn reconcile(&self) -> Option<String> {
        let of_service = self.context.present.map(|present| format!("harvester reconcile --url {}", present.url));
        of_service.or_else(|| self.of_store("harvester reconcile"))
    }

    /// Returns the command that explains the first of some positions.
    fn explain(&self, open: &[&PositionView]) -> Option<String> {
        let at = match self.context.parameter("at") {
            "" => String::new(),
            at => format!(" --at \"{at}\""),
        };
        Some(format!("harvester explain {}{at} {}", book_of(open.first()?), self.source))
    }

    /// Returns the command that accepts the gap of the first of some positions.
    fn accept(open: &[&PositionView]) -> Option<String> {
        let first = open.first()?;
        let account = first.account.as_ref().map_or_else(String::new, |name| format!(" --account {name}"));
        Some(format!("harvester control gap-accept {}{account} --reason \"…\"", first.symbol))
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
        for (flag, severity, what) in [
            (Flag::Diverged, Severity::Act, "The exchange reports another quantity"),
            (Flag::ResultUnknown, Severity::Act, "An order has no result, and its time is up"),
            (Flag::HistoryGap, Severity::Act, "Entries of the history are missing"),
            (Flag::RungFailed, Severity::Check, "A rung was refused too often and is given up"),
            (Flag::RiskTooLarge, Severity::Check, RISK_TOO_LARGE),
            (Flag::RiskTooSmall, Severity::Check, "The risk per unit is very small: its ATR may be in another unit"),
            (Flag::EntryPriceDisagrees, Severity::Check, "Exchange and fills state different entry prices"),
        ] {
            let open = self.open(|position| position.flags.iter().any(|of| of == flag.name()));
            if open.is_empty() {
                continue;
            }
            let next = match flag {
                Flag::Diverged => self.reconcile().or_else(|| self.explain(&open)),
                Flag::HistoryGap => Self::accept(&open),
                _ => self.explain(&open),
            };
            let list = self.context.to("/console/positions").with("flag", flag.name());
            self.add_open((severity, format!("{what} ({}).", open.len())), &open, list, next);
            if flag == Flag::RiskTooLarge && self.context.film.has_past() {
                let href = self.context.to("/console/whatif").with("b", super::whatif::EXAMPLE);
                self.point("Compare it in What if", href);
            }
        }
    }

    /// Adds a link to the need that was added last.
    fn point(&mut self, text: &str, href: Address) {
        let need = self.needs.last_mut().expect("one was added");
        need.here = Some(Link { text: text.to_owned(), href });
    }

    /// Adds the fields that open positions lack.
    fn missing(&mut self) {
        let mut missing: BTreeMap<&str, Vec<&PositionView>> = BTreeMap::new();
        for position in self.sheet.positions.iter().filter(|position| position.closed.is_none()) {
            for field in &position.missing {
                missing.entry(field).or_default().push(position);
            }
        }
        for (field, open) in missing {
            let what = format!("{field} is missing: {}.", plural(open.len(), "open position"));
            let list = self.context.to("/console/positions").with("missing", field);
            let next = self.of_store("harvester needs").or_else(|| self.explain(&open));
            self.add_open((Severity::Act, what), &open, list.clone(), next);
            self.point("Show them", list);
        }
    }

    /// Adds the holds that do not end by themselves, and those that need a second price.
    fn holds(&mut self) {
        for (hold, one, more) in [
            (Hold::StalePrice, "has a price that is too old", "have a price that is too old"),
            (Hold::StalePosition, "was not confirmed for too long", "were not confirmed for too long"),
        ] {
            let open = self.held_by(hold);
            if !open.is_empty() {
                let is = if open.len() == 1 { one } else { more };
                let what = format!("{} {is}.", plural(open.len(), "open position"));
                let next = self.of_service("harvester doctor").or_else(|| self.explain(&open));
                self.add_open((Severity::Act, what), &open, self.list_of(hold), next);
            }
        }
        let open = self.held_by(Hold::PriceJump);
        if !open.is_empty() {
            let held = plural(open.len(), "position");
            let what = format!("The last price jumped, and a second one must confirm it: {held}.");
            let next = self.explain(&open);
            self.add_open((Severity::Know, what), &open, self.list_of(Hold::PriceJump), next);
        }
    }

    fn quarantine(&mut self, quarantined: u64) {
        if quarantined > 0 {
            let next = self.of_store("harvester quarantine list");
            let href = self.context.to("/console/streams").at_part("quarantine");
            let link = Link { text: "quarantine".to_owned(), href };
            let what = format!("In quarantine: {}.", plural(quarantined, "entry"));
            self.add(Severity::Check, what, vec![link], next);
        }
    }

    fn unconfirmed(&mut self) {
        let unconfirmed = &self.sheet.unconfirmed;
        if !unconfirmed.is_empty() {
            let named = unconfirmed.join(" ");
            let what = format!("Seen once and not confirmed: {} ({named}).", plural(unconfirmed.len(), "position"));
            self.add(Severity::Know, what, Vec::new(), self.reconcile());
        }
    }

    fn list_of(&self, hold: Hold) -> Address {
        self.context.to("/console/positions").with("hold", hold.name())
    }

    fn held_by(&self, hold: Hold) -> Vec<&'a PositionView> {
        self.open(|position| position.hold.as_deref() == Some(hold.name()))
    }

    /// Returns the open positions that are meant.
    fn open(&self, is_meant: impl Fn(&PositionView) -> bool) -> Vec<&'a PositionView> {
        let open = self.sheet.positions.iter().filter(|position| position.closed.is_none());
        open.filter(|position| is_meant(position)).collect()
    }

    /// Returns a link to a position, with the name of its book: account and side of the position, where there are any.
    fn link_to(&self, position: &PositionView) -> Link {
        Link { text: book_of(position).to_owned(), href: self.context.position(&position.position_id) }
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
