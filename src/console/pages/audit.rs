//! The audit: runs the command `audit` on the same history, on request.

use askama::Template;

use super::Made;
use crate::codec::plural::plural;
use crate::codec::time;
use crate::console::auditor::{Audited, Stage};
use crate::console::error::PageError;
use crate::console::frame::{Frame, PageContext};
use crate::drive::film::DecisionSource;
use crate::drive::stop::Stop;
use crate::shell::web::Asked;

/// The style of the pages, for files that are used without the console.
pub const STYLE: &str = include_str!("../assets/console.css");

/// Interval at which the page asks for the progress of an audit. [s]
const REFRESH_S: u32 = 1;

/// The progress of an audit, for people.
struct Running {
    /// Share of the entries, if it is known. [percent]
    share: Option<u64>,
    says: String,
    is_other: bool,
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    frame: Frame,
    action: String,
    /// The audit that the button begins: an audit of the history as it is now.
    next: String,
    running: Option<Running>,
    audited: Option<Audited>,
    failure: Option<String>,
    can_run: bool,
    /// The moment of the other pages, which the links of this one keep.
    at: String,
    /// True if the history contains decisions to compare with.
    is_recorded: bool,
    command: String,
}

#[derive(Template)]
#[template(path = "audit_file.html")]
struct AuditFile<'a> {
    audited: &'a Audited,
    style: &'static str,
    source: &'a str,
}

/// Makes the page. An audit begins on request (`?run=1235`: an audit of the history that has so many entries).
pub fn audit(context: &PageContext<'_>, asked: &Asked, _: &Stop) -> Result<Made, PageError> {
    let auditor = context.auditor.filter(|_| context.film.has_past());
    let wanted = asked.value("run").filter(|name| !name.is_empty());
    let stage = auditor.zip(wanted).map(|(auditor, name)| auditor.stage(&name, &context.film.origin));
    let (running, audited, failure) = match stage {
        None => (None, None, None),
        Some(Stage::Running { read, lasts, is_other }) => {
            let lasts = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX);
            (Some(Running::of(read, context.film.entries, lasts, is_other)), None, None)
        }
        Some(Stage::Done(Ok(audited))) => (None, Some(audited), None),
        Some(Stage::Done(Err(why))) => (None, None, Some(why)),
    };
    let frame = Frame::of(context, "Audit", None);
    let page = AuditPage {
        action: context.here.path().to_owned(),
        next: context.film.entries.to_string(),
        audited,
        failure,
        can_run: auditor.is_some(),
        at: context.parameter("at").to_owned(),
        is_recorded: context.film.source != DecisionSource::MadeHere,
        command: context.audit_command(),
        frame: Frame { time: None, ..frame },
        running,
    };
    Ok(Made { body: page.render()?, refresh_s: page.running.as_ref().map(|_| REFRESH_S) })
}

impl Running {
    fn of(read: u64, all: u64, lasts_ms: u64, is_other: bool) -> Self {
        // The history may have grown since, or the pages may show only its end.
        let share = (read * 100).checked_div(all).filter(|_| read <= all);
        let of = share.map_or_else(String::new, |_| format!(" of {all}"));
        let says = match read {
            0 => format!("The history is read, for {}.", time::span(lasts_ms)),
            _ => format!("{}{of} folded, for {}.", plural(read, "entry"), time::span(lasts_ms)),
        };
        Self { share, says, is_other }
    }
}

/// Makes one self-contained file of an audit.
pub fn audit_file(audited: &Audited, source: &str) -> Result<String, PageError> {
    Ok(AuditFile { audited, style: STYLE, source }.render()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_has_a_share_while_the_whole_is_known() {
        let of = |read, all| {
            let running = Running::of(read, all, 3_000, false);
            (running.share, running.says)
        };
        assert_eq!(of(0, 0), (None, "The history is read, for 3.0s.".to_owned()));
        assert_eq!(of(512, 2048), (Some(25), "512 entries of 2048 folded, for 3.0s.".to_owned()));
        assert_eq!(of(4096, 2048), (None, "4096 entries folded, for 3.0s.".to_owned()));
    }
}
