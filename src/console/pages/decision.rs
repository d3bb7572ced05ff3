//! One decision with the content of `explain`: its numbers, its arithmetic, its result, and the holds of the other
//! positions at that moment.

use askama::Template;

use super::Link;
use super::Made;
use super::decisions::{Row, outcome_word, rows};
use super::message::not_yet;
use crate::codec::time;
use crate::console::address::Address;
use crate::console::error::PageError;
use crate::console::format::When;
use crate::console::frame::{Frame, PageContext};
use crate::domain::event::ids::EntryId;
use crate::drive::explain::{Explanation, Origins, Subject, decision as explained, origins};
use crate::drive::film::Origin;
use crate::drive::stop::Stop;
use crate::shell::web::Asked;

use super::position::{FieldRow, HeldBy, fields};

struct OutcomeRow {
    what: &'static str,
    when: Option<When>,
    fill: Option<(String, Option<String>)>,
    href: Option<Address>,
}

#[derive(Template)]
#[template(path = "decision.html")]
struct DecisionPage {
    frame: Frame,
    row: Row,
    cause: String,
    cause_href: Option<Address>,
    arithmetic: Vec<String>,
    alike: Option<bool>,
    emitted: Option<(String, u64, String)>,
    position: Option<Link>,
    bar: String,
    fields: Vec<FieldRow>,
    ages_of_then: bool,
    outcome: Option<(&'static str, String)>,
    events: Vec<OutcomeRow>,
    others: Vec<HeldBy>,
    payload: String,
    at_cause: Option<Address>,
    command: String,
}

/// Makes the page.
pub fn decision(context: &PageContext<'_>, asked: &Asked, stop: &Stop) -> Result<Made, PageError> {
    let wanted = asked.name.as_deref().unwrap_or_default();
    let Some(row) = rows(context).into_iter().find(|row| row.decision_id == wanted) else {
        let later = context.film.all_decisions().find(|link| link.decision_id() == wanted);
        let later = later.ok_or_else(|| PageError::NotFound(format!("No decision has the id {wanted}.")))?;
        let at = later.cause().map_or(later.id, |(_, cause)| cause);
        let says = format!("This decision of {} was made later, at {}.", later.text("symbol"), time::iso(at.ms));
        return Ok(not_yet(context, &says, Some(later.text("symbol")))?.into());
    };
    let (film, config) = (context.film, &*context.film.config);
    let mut explanation = match &film.origin {
        Origin::Store(dir) => explained::of_store(wanted, dir)?,
        Origin::Histories(_) | Origin::Journal(_) => {
            explained::of_history(wanted, &film.origin.sources(), config, stop)?
        }
    };
    if film.has_past() {
        explanation.origins = origins(&explanation, film.origin.sources(), false, config, stop)?;
    }
    let Explanation { arithmetic, at_time: seen, subject, origins, .. } = explanation;
    let Subject::Decision(decided) = subject else {
        return Err(PageError::failed(format!("the explanation of {wanted} is not of a decision")));
    };
    let cause = decided.decision.text("cause").to_owned();
    let cause_id = cause.rsplit_once('/').map_or("", |(_, id)| id).to_owned();
    // The ages are those at the time of the decision, as in the arithmetic.
    let decided_ms = cause_id.parse().map_or_else(|_| context.now_ms(), |id: EntryId| id.ms);
    let emitted = decided.emission.and_then(|emission| emission.emitted);
    let none = Origins::default();
    let view = seen.as_ref().and_then(|seen| seen.position.as_ref());
    let page = DecisionPage {
        cause_href: context.entry_link(&cause_id),
        cause,
        arithmetic,
        alike: emitted.as_ref().and_then(|emitted| emitted.recomputed_alike),
        emitted: emitted.map(|emitted| (emitted.entry, emitted.seq, emitted.hash)),
        position: view.map(|view| Link { text: view.position_id.clone(), href: context.position(&view.position_id) }),
        bar: view.map_or_else(String::new, super::positions::bar),
        fields: view.map_or_else(Vec::new, |view| fields(context, view, origins.as_ref().unwrap_or(&none), decided_ms)),
        ages_of_then: true,
        outcome: decided.outcome.as_ref().map(|outcome| (outcome_word(outcome), outcome.plan_id.clone())),
        events: decided.outcome.map_or_else(Vec::new, |outcome| {
            let of = |event: crate::drive::explain::OutcomeEvent| OutcomeRow {
                what: event.what,
                when: When::of_text(&event.entry),
                fill: event.fill.map(|fill| (fill.qty, fill.price)),
                href: context.entry_link(&event.entry),
            };
            outcome.events.into_iter().map(of).collect()
        }),
        others: HeldBy::of(context, seen.map(|seen| seen.others).unwrap_or_default(), &cause_id),
        payload: serde_json::to_string_pretty(&decided.decision)?,
        at_cause: (film.has_past() && !cause_id.is_empty()).then(|| context.here.clone().with("at", &cause_id)),
        command: format!("harvester explain {} {}", &wanted.get(..12).unwrap_or(wanted), film.origin.arguments()),
        frame: Frame::of(context, format!("Decision {} {}", row.seq, row.symbol), Some(&row.symbol)),
        row,
    };
    Ok(page.render()?.into())
}
