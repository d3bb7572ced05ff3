//! One pass over the history with the engine of a replay. Compares its decisions with the emitted ones.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};

use super::Scope;
use super::coverage::Coverage;
use super::finding::{Fault, Finding};
use super::ledger::Ledger;
use super::report::Report;
use super::sources::{Opened, Sources};
use super::totals::Executions;
use super::trust::Trust;
use crate::codec::chain::{Chain, Link};
use crate::codec::line;
use crate::codec::object::Object;
use crate::codec::plural::plural;
use crate::codec::signing::SigningKey;
use crate::config::Config;
use crate::domain::book::rung::OutcomeKind;
use crate::domain::engine::{Disposition, Engine};
use crate::domain::event::ids::EntryId;
use crate::domain::event::streams::StreamKind;
use crate::domain::event::{Entry, Event, Outcome};
use crate::drive::driver::{Driver, VerifiedDecisions};
use crate::drive::stop::Stop;

/// Folds the history and compares, until the history ends or `stop` ends the pass.
pub fn pass(
    sources: &Sources,
    config: &Config,
    key: Option<&SigningKey>,
    opened: Opened,
    chain: &Chain,
    (scope, stop): (Scope<'_>, &Stop),
) -> anyhow::Result<Report> {
    let Opened { mut history, faults } = opened;
    let intact: BTreeSet<EntryId> = chain.links.iter().filter(|link| link.authentic).map(|link| link.id).collect();
    // A file of decisions that is named apart does not show that a service read what it contains.
    let read = history.decision_lines().filter(|at| !sources.is_apart(history.input(at.file))).map(|at| at.id);
    let refused = read.filter(|id| chain.refused.contains(id) && !intact.contains(id)).collect();
    let verified = VerifiedDecisions { intact, refused };
    let mut driver = Driver::auditing(&history, config, key.cloned(), scope.until, Some(&verified));

    let mut seen = Seen {
        ledger: Ledger::new(chain, &config.streams, scope),
        coverage: Coverage::new(&config.streams),
        executions: Executions::new(chain),
        unreadable_gaps: 0,
        scope,
    };
    let bad_fields = driver.pipeline(&mut history, true, |engine, batch| {
        for (entry, place) in &batch.entries {
            stop.check()?;
            seen.fold(engine, entry, &batch.bytes[place.clone()], &verified);
        }
        let changes = engine.take_changes();
        seen.executions.see_closed(engine, &changes);
        anyhow::Ok(())
    })?;
    let engine = driver.engine;
    let Seen { ledger, coverage, mut executions, unreadable_gaps, scope } = seen;
    executions.see_all(&engine);
    if let Some(account) = scope.account
        && engine.accounts().find(account).is_none()
        && !chain.links.iter().any(|link| scope.has_account_of(link))
    {
        bail!("the history has no account {account}: the name is written as in its entries, capitals count");
    }

    let mut report = Report::of_chain(sources, chain, faults);
    if bad_fields > 0 {
        report
            .tampered
            .push(Fault::of("history", format!("{} with fields that do not read", plural(bad_fields, "line"))));
    }
    let reaches = |stream: &str, id: EntryId| coverage.contains(&config.streams, stream, id);
    report.add(ledger.balance(
        reaches,
        history.first().map(|first| first.ms),
        sources.lacks_before_ms,
        sources.in_flight_from_ms,
    ));
    let trust = Trust::of(&history, config, key, scope);
    report.tampered.extend(trust.faults());
    report.tampered.extend(trust.orders_under_other_policies(chain, scope, |id| executions.is_expired(id)));
    report.control = Some(trust.report());
    let in_scope = |link: &&Link| {
        !link.forged && scope.has_account_of(link) && link.cause().is_none_or(|(_, cause)| scope.contains(cause))
    };
    let links: Vec<&Link> = chain.links.iter().filter(in_scope).collect();
    report.executions = executions.report(&links).context("the sums of all executions do not fit a decimal")?;
    report.coverage = coverage.report(&engine);
    if !engine.globals().gaps.is_empty() || unreadable_gaps > 0 {
        report.unseen.push(Finding::unseen("the history tells of gaps"));
    }
    report.silent = coverage.silent(&config.streams);
    report.count(&engine, &history);
    report.notices.extend(history.notices());
    Ok(report)
}

/// What an audit has seen so far.
struct Seen<'a> {
    ledger: Ledger<'a>,
    coverage: Coverage,
    executions: Executions,
    /// Entries that cannot be read and would report a gap. [1]
    unreadable_gaps: u64,
    scope: Scope<'a>,
}

impl Seen<'_> {
    /// Folds an entry, and compares its decisions. `text` is its line.
    fn fold(&mut self, engine: &mut Engine, entry: &Entry, text: &[u8], verified: &VerifiedDecisions) {
        self.coverage.see(entry.stream, entry.id);
        self.unreadable_gaps += u64::from(entry.content.as_ref().is_err_and(|unreadable| unreadable.gap));
        // An altered decision is not a recorded decision: the state follows the rules there. One that a service refused
        // gave its symbol a hold.
        let VerifiedDecisions { intact, refused } = verified;
        if entry.kind == StreamKind::Decision && !intact.contains(&entry.id) && !refused.contains(&entry.id) {
            return;
        }
        let step = engine.step(entry);
        if step.disposition != Disposition::Duplicate {
            self.ledger.meet(engine, entry, &step.decisions);
        }
        if let Some(why) = refusal(engine, entry, text, self.scope) {
            *self.executions.refusals.entry(why).or_default() += 1;
        }
    }
}

/// Returns the executor's reason, if an entry refused a decision of ours that is in the scope.
fn refusal(engine: &Engine, entry: &Entry, text: &[u8], scope: Scope<'_>) -> Option<String> {
    let Ok(Event::Result(fact)) = &entry.content else { return None };
    if !matches!(fact.outcome, Outcome::Refused { .. }) {
        return None;
    }
    let books = engine.books_of(entry.symbol?).filter(|book| scope.has_account(&book.account_name));
    let decisions = books.flat_map(|book| book.book.positions()).flat_map(|position| &position.decisions);
    let refused = decisions.filter_map(|decision| decision.outcomes.last());
    let mut refused = refused.filter(|outcome| outcome.entry == entry.id && outcome.what == OutcomeKind::Refused);
    refused.next()?;
    let fields = line::fields(text).ok()?;
    let object = Object::of(&fields).ok()?;
    let error = object.text(&["error"]).ok().flatten().filter(|error| !error.is_empty());
    Some(error.map_or_else(|| "no reason given".to_owned(), |error| error.clone()))
}
