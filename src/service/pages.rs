//! The pages of the running service: `/healthz`, `/readyz`, `/metrics`, `/status`, `/positions`, `/positions/SYMBOL`.
//!
//! All but the positions come from the shared report. The positions belong to the processor. A page asks it through a
//! channel, and it answers between two batches.

use std::time::Duration;

use crossbeam_channel::Sender;
use serde::Serialize;
use tokio::sync::oneshot;

use super::report::{self, Concern, Health, SharedReport};
use crate::codec::view;
use crate::drive::sheet::Sheet;
use crate::shell::web::{Asked, Page, Site};

/// Maximum number of questions that wait for the processor. Further ones are refused at once.
pub const QUESTIONS_WAITING: usize = 16;
/// How long the processor may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A question that only the processor can answer. A dropped question counts as not answered.
#[derive(Debug)]
pub enum Question {
    Positions {
        /// One symbol; `None` for all.
        symbol: Option<String>,
        /// True to include closed positions.
        all: bool,
        /// `None` if there is no such symbol.
        answer: oneshot::Sender<Option<Sheet>>,
    },
}

/// Returns the pages of a service. Without `questions`, they have no positions (`record` has no processor).
pub fn site(shared: &SharedReport, questions: Option<Sender<Question>>) -> Site {
    let of = |make: fn(&SharedReport) -> Page| {
        let shared = shared.clone();
        move |_: Asked| {
            let page = make(&shared);
            async move { page }
        }
    };
    let site = Site::default()
        .page("/healthz", of(|shared| judged(&report::alive(&shared.read()))))
        .page("/readyz", of(|shared| judged(&report::ready(&shared.read()))))
        .page("/metrics", of(metrics))
        .page("/status", of(status));
    match questions {
        None => site,
        Some(questions) => {
            let ask = move |asked| positions(questions.clone(), asked);
            site.page("/positions", ask.clone()).page("/positions/{symbol}", ask)
        }
    }
}

/// What `/healthz` and `/readyz` answer.
#[derive(Serialize)]
struct Judged<'a> {
    reasons: &'a [Concern],
    status: &'static str,
}

fn judged(health: &Health) -> Page {
    let status = if health.ok { "ok" } else { "failing" };
    Page::document(health.status(), &Judged { reasons: &health.reasons, status })
}

fn metrics(shared: &SharedReport) -> Page {
    match report::text(shared) {
        Ok(body) => Page { content_type: report::CONTENT_TYPE, ..Page::text(200, body) },
        Err(error) => Page::refusal(500, "cannot_write", &error.to_string()),
    }
}

fn status(shared: &SharedReport) -> Page {
    match serde_json::to_string_pretty(&shared.read()) {
        Ok(body) => Page::json(200, body),
        Err(error) => Page::refusal(500, "cannot_write", &error.to_string()),
    }
}

/// Returns the list of positions (docs/spec/commands.md, "positions"); with `whole=1` the sheet, which also has its
/// time and the other known facts.
async fn positions(questions: Sender<Question>, asked: Asked) -> Page {
    let (answer, answered) = oneshot::channel();
    let symbol = asked.name.as_ref().map(|name| view::written_name(name, None));
    let question = Question::Positions { symbol: symbol.clone(), all: asked.is_on("all"), answer };
    if questions.try_send(question).is_err() {
        return Page::refusal(503, "busy", "too many questions wait, or the service is stopping");
    }
    let sheet = match tokio::time::timeout(ANSWER_LIMIT, answered).await {
        Ok(Ok(sheet)) => sheet,
        Ok(Err(_)) => return Page::refusal(503, "not_answered", "the service is starting or stopping"),
        Err(_) => return Page::refusal(503, "not_answered", "the fold is busy"),
    };
    let Some(sheet) = sheet else {
        let says = format!("no symbol {} was ever seen", symbol.unwrap_or_default());
        return Page::refusal(404, "no_such_symbol", &says);
    };
    if asked.is_on("whole") { Page::document(200, &sheet) } else { Page::document(200, &sheet.positions) }
}
