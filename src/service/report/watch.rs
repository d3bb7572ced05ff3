//! The begin and the end of concerns: each change is logged once.

use std::collections::BTreeMap;
use std::fmt;

use super::facts::Report;
use super::health::{Concern, concerns};

/// Findings about an account.
const OF_ACCOUNTS: [&str; 3] = ["exchange_refused", "killed", "position_mode"];

/// A change since the last check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Came(Concern),
    /// The concern has ended.
    Went(Concern),
}

/// Formats a log line: the concern's name in capitals, which operators can search for, and its text.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (concern, over) = match self {
            Self::Came(concern) => (concern, ""),
            Self::Went(concern) => (concern, "_OVER"),
        };
        write!(f, "{}{over}", concern.name.to_uppercase())?;
        if let Some(about) = &concern.about {
            let of = if OF_ACCOUNTS.contains(&concern.name) { "account" } else { "stream" };
            write!(f, " {of}={about}")?;
        }
        match self {
            Self::Came(_) => write!(f, ": {}", concern.says),
            Self::Went(_) => Ok(()),
        }
    }
}

/// Remembers the concerns. A silent input stream is one of them: `input_silent` names the stream.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    present: BTreeMap<(&'static str, Option<String>), Concern>,
}

impl Watch {
    /// Returns the concerns that began or ended since the last check.
    pub fn look(&mut self, report: &Report) -> Vec<Change> {
        let now: BTreeMap<_, _> =
            concerns(report).into_iter().map(|concern| ((concern.name, concern.about.clone()), concern)).collect();
        let came = now.iter().filter(|(key, _)| !self.present.contains_key(*key));
        let went = self.present.iter().filter(|(key, _)| !now.contains_key(*key));
        let came = came.map(|(_, concern)| Change::Came(concern.clone()));
        let changes = came.chain(went.map(|(_, concern)| Change::Went(concern.clone()))).collect();
        self.present = now;
        changes
    }
}
