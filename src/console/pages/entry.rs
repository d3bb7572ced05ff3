//! One entry as it was written: its stream, its shape, its fields.

use askama::Template;
use serde_json::Value;

use super::Made;
use crate::codec::shown;
use crate::console::address::Address;
use crate::console::error::PageError;
use crate::console::format::When;
use crate::console::frame::{Frame, PageContext};
use crate::domain::event::ids::EntryId;
use crate::drive::film::EntryLine;
use crate::drive::stop::Stop;
use crate::shell::web::Asked;

struct Written {
    stream: String,
    kind: &'static str,
    shape: &'static str,
    reason: Option<&'static str>,
    location: String,
    /// The fields. A JSON payload is indented.
    fields: Vec<(String, String)>,
    raw: String,
}

#[derive(Template)]
#[template(path = "entry.html")]
struct EntryPage {
    frame: Frame,
    when: When,
    written: Vec<Written>,
    /// `None` if the source has no past.
    as_of: Option<Address>,
}

/// Makes the page.
pub fn entry(context: &PageContext<'_>, asked: &Asked, stop: &Stop) -> Result<Made, PageError> {
    let wanted = asked.name.as_deref().unwrap_or_default();
    let id: EntryId = wanted.parse().map_err(|error| PageError::NotFound(format!("{error}.")))?;
    let mut lines = context.film.lines(id, stop)?;
    if lines.is_empty() {
        // A store contains raw entries of its quarantine only.
        let kept = context.film.quarantined.iter().filter(|quarantined| quarantined.id == id);
        lines.extend(kept.map(|quarantined| EntryLine {
            stream: quarantined.stream.clone(),
            kind: "quarantined",
            shape: "-",
            reason: None,
            location: context.film.origin.arguments(),
            line: quarantined.line.clone(),
        }));
    }
    if lines.is_empty() {
        let why =
            if context.film.has_past() { "The history has no such entry." } else { "A store has no raw entries." };
        return Err(PageError::NotFound(format!("Entry {id} is not here. {why}")));
    }
    let page = EntryPage {
        when: When::of(id),
        written: lines.into_iter().map(Written::of).collect(),
        as_of: context.film.has_past().then(|| context.to("/").with("at", &id.to_string())),
        frame: Frame::of(context, format!("Entry {id}"), None),
    };
    Ok(page.render()?.into())
}

impl Written {
    fn of(line: EntryLine) -> Self {
        let EntryLine { stream, kind, shape, reason, location, line } = line;
        let read: Option<Value> = serde_json::from_str(&line).ok();
        let fields = read.as_ref().and_then(|line| line["fields"].as_object());
        let fields = fields.map_or_else(Vec::new, |fields| {
            fields.iter().map(|(name, value)| (name.clone(), laid_out(value))).collect()
        });
        Self { stream, kind, shape, reason, location, fields, raw: shown::json(&line).into_owned() }
    }
}

/// Returns the value of a field; JSON with line breaks.
fn laid_out(value: &Value) -> String {
    let Some(text) = value.as_str() else { return value.to_string() };
    let is_object = text.trim_start().starts_with('{');
    let read: Option<Value> = serde_json::from_str(text).ok().filter(|_| is_object);
    let text = read.and_then(|read| serde_json::to_string_pretty(&read).ok()).unwrap_or_else(|| text.to_owned());
    text.lines().map(|line| shown::shown(line).into_owned()).collect::<Vec<_>>().join("\n")
}
