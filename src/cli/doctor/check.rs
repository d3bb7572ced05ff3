//! A check: its subject, its result, and what to do next.

use serde_json::{Value, json};

use crate::shell::terminal::{Screen, Tone};

/// The severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Ok,
    /// An operator should look at it.
    Warning,
    /// It causes positions to be held, wrong, or not seen.
    Problem,
}

impl Verdict {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
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

    pub fn json(&self) -> Value {
        json!({
            "area": self.area, "subject": self.subject, "verdict": self.verdict.name(), "found": self.found,
            "next": self.next,
        })
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
