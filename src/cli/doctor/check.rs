//! A check: its subject, its result, and the next step.

use serde::Serialize;

use crate::domain::named;
use crate::shell::redis::ServerError;
use crate::shell::terminal::{Screen, Tone};

named! {
    /// The severity.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Verdict {
        Ok => "ok",
        /// An operator should look at it.
        Warning => "warning",
        /// It causes holds, wrong values, or positions that are not seen.
        Problem => "problem",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// The area: `redis`, `streams`, …
    pub area: &'static str,
    /// The thing that was checked.
    pub subject: String,
    pub verdict: Verdict,
    pub found: String,
    /// Empty if there is nothing to do.
    pub next: String,
}

impl Check {
    pub fn ok(area: &'static str, subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(area, subject, Verdict::Ok, found, "")
    }

    pub fn warning(area: &'static str, subject: impl Into<String>, found: impl Into<String>, next: &str) -> Self {
        Self::new(area, subject, Verdict::Warning, found, next)
    }

    pub fn problem(area: &'static str, subject: impl Into<String>, found: impl Into<String>, next: &str) -> Self {
        Self::new(area, subject, Verdict::Problem, found, next)
    }

    fn new(
        area: &'static str,
        subject: impl Into<String>,
        verdict: Verdict,
        found: impl Into<String>,
        next: &str,
    ) -> Self {
        Self { area, subject: subject.into(), verdict, found: found.into(), next: next.to_owned() }
    }

    pub fn show(&self, screen: &mut Screen<'_>) -> std::io::Result<()> {
        let tone = match self.verdict {
            Verdict::Ok => Tone::Good,
            Verdict::Warning => Tone::Warning,
            Verdict::Problem => Tone::Bad,
        };
        let cells = vec![
            (format!("{:<7}", self.verdict.name()), tone),
            (format!("{:<13}", self.area), Tone::Plain),
            (format!("{}: {}", self.subject, self.found), Tone::Plain),
        ];
        screen.rows(vec![cells])?;
        if !self.next.is_empty() {
            screen.line(&format!("          -> {}", self.next))?;
        }
        Ok(())
    }
}

/// Returns the checks; if they could not be made, one that states the reason.
pub fn found_or_said(area: &'static str, subject: &str, found: Result<Vec<Check>, ServerError>) -> Vec<Check> {
    found.unwrap_or_else(|error| {
        let next = "grant the user of REDIS_URL what the list of tools/deploy names, or look at the server's log";
        vec![Check::problem(area, subject, format!("it cannot be checked: {error}"), next)]
    })
}
