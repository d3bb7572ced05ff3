//! The intents of a symbol: those of the last day, and the latest with both risk fields.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::domain::event::{Direction, ExitIntent, Intent};

/// How long intents and plans are remembered. [ms]
pub const INTENT_MEMORY_MS: u64 = 24 * 3_600_000;

/// The intents of a symbol that name no account, or those of one account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Intents {
    /// Entry intents of the last 24 hours, oldest first.
    pub entries: VecDeque<Intent>,
    pub exits: VecDeque<ExitIntent>,
    /// Last entry intent with both risk fields, for longs. The next field is for shorts.
    pub latest_long: Option<Intent>,
    pub latest_short: Option<Intent>,
}

impl Intents {
    pub fn latest_with_risk(&self, direction: Direction) -> Option<&Intent> {
        match direction {
            Direction::Long => self.latest_long.as_ref(),
            Direction::Short => self.latest_short.as_ref(),
        }
    }

    /// Remembers an entry intent.
    pub fn remember(&mut self, intent: Intent) {
        if intent.risk_pair().is_some() {
            match intent.direction {
                Direction::Long => self.latest_long = Some(intent.clone()),
                Direction::Short => self.latest_short = Some(intent.clone()),
            }
        }
        self.entries.push_back(intent);
    }

    /// Forgets intents that are too old. Returns true if there were any.
    pub fn forget(&mut self, now_ms: u64) -> bool {
        let from = now_ms.saturating_sub(INTENT_MEMORY_MS);
        let before = self.entries.len() + self.exits.len();
        while self.entries.front().is_some_and(|i| i.id.ms < from) {
            self.entries.pop_front();
        }
        while self.exits.front().is_some_and(|i| i.id.ms < from) {
            self.exits.pop_front();
        }
        self.entries.len() + self.exits.len() != before
    }

    /// Returns the latest entry intent of a direction at or before a time.
    pub fn latest_at(&self, direction: Direction, at_ms: u64) -> Option<&Intent> {
        self.entries.iter().rev().find(|i| i.direction == direction && i.id.ms <= at_ms)
    }
}
