//! The audit: what the command finds in the same history, on request.

use std::sync::Arc;

use askama::Template;

use crate::console::address::Address;
use crate::console::frame::{Frame, Scene};
use crate::drive::film::Origin;
use crate::drive::stop::Stop;
use crate::shell::web::Asked;

/// The style of the pages, for files that stand alone.
pub const STYLE: &str = include_str!("../assets/console.css");

/// The result of an audit: its verdict, and its screen.
#[derive(Clone, Debug)]
pub struct Audited {
    pub verdict: String,
    pub text: String,
}

/// Audits a source. The command line provides it, because an audit is a command.
pub type Audit = Arc<dyn Fn(&Origin) -> anyhow::Result<Audited> + Send + Sync>;

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    frame: Frame,
    run: Address,
    audited: Option<Audited>,
    can_run: bool,
    command: String,
}

#[derive(Template)]
#[template(path = "audit_file.html")]
struct AuditFile<'a> {
    audited: &'a Audited,
    style: &'static str,
    source: &'a str,
}

/// Makes the page. The audit runs when it is asked for.
pub fn audit(scene: &Scene<'_>, asked: &Asked, _: &Stop) -> anyhow::Result<String> {
    let can_run = scene.audit.is_some() && scene.film.has_past();
    let audited = match scene.audit {
        Some(audit) if asked.is_on("run") && can_run => Some(audit(&scene.film.origin)?),
        _ => None,
    };
    let page = AuditPage {
        run: scene.here.clone().with("run", "1"),
        audited,
        can_run,
        command: format!("harvester audit {}", scene.film.origin.arguments()),
        frame: Frame { time: None, ..Frame::of(scene, "Audit", None) },
    };
    Ok(page.render()?)
}

/// Makes one self-contained file of an audit.
pub fn audit_file(audited: &Audited, source: &str) -> anyhow::Result<String> {
    Ok(AuditFile { audited, style: STYLE, source }.render()?)
}
