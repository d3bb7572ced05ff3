//! Concerns as they come up and as they are over: each is said once, when it changes.

use std::collections::BTreeMap;
use std::fmt;

use super::facts::Report;
use super::health::{Concern, concerns};

/// What changed since the last look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Came(Concern),
    /// It is over.
    Went(Concern),
}

/// A log line: the concern's name in capitals, so that it can be found, and what it says.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (concern, over) = match self {
            Self::Came(concern) => (concern, ""),
            Self::Went(concern) => (concern, "_OVER"),
        };
        write!(f, "{}{over}", concern.name.to_uppercase())?;
        if let Some(about) = &concern.about {
            write!(f, " stream={about}")?;
        }
        match self {
            Self::Came(_) => write!(f, ": {}", concern.says),
            Self::Went(_) => Ok(()),
        }
    }
}

/// Remembers what was said. The heartbeat of the input streams is part of it: `input_silent` names the stream.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    standing: BTreeMap<(&'static str, Option<String>), Concern>,
}

impl Watch {
    /// Answers what came up and what is over since the last look.
    pub fn look(&mut self, report: &Report) -> Vec<Change> {
        let now: BTreeMap<_, _> =
            concerns(report).into_iter().map(|concern| ((concern.name, concern.about.clone()), concern)).collect();
        let came = now.iter().filter(|(key, _)| !self.standing.contains_key(*key));
        let went = self.standing.iter().filter(|(key, _)| !now.contains_key(*key));
        let came = came.map(|(_, concern)| Change::Came(concern.clone()));
        let changes = came.chain(went.map(|(_, concern)| Change::Went(concern.clone()))).collect();
        self.standing = now;
        changes
    }
}
