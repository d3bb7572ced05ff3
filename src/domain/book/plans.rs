//! Executed plans, remembered for a day, and the intents that they join.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::symbol::{Cold, INTENT_MEMORY_MS};
use crate::domain::event::ids::{EntryId, SymbolId};
use crate::domain::event::{Intent, Plan};

/// A plan, with the intent that the bridge made it from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnownPlan {
    pub plan: Plan,
    pub intent: Option<Intent>,
    /// The decision of ours, where the intent was our request.
    pub decision_id: Option<Box<str>>,
}

/// All plans of the last 24 hours, by plan id. The first plan of an id counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plans {
    by_id: BTreeMap<Box<str>, KnownPlan>,
    by_age: VecDeque<(EntryId, Box<str>)>,
}

impl Plans {
    /// Remembers a plan. Returns true if it is the first of its id.
    pub fn remember(&mut self, plan: Plan, cold: &Cold) -> bool {
        if self.by_id.contains_key(&plan.plan_id) {
            return false;
        }
        let joined = join(&plan, cold);
        let (intent, decision_id) = match joined {
            Some(Joined::Entry(intent)) => (Some(intent), None),
            Some(Joined::Exit(decision_id)) => (None, decision_id),
            None => (None, None),
        };
        self.insert(KnownPlan { plan, intent, decision_id });
        true
    }

    pub fn insert(&mut self, known: KnownPlan) {
        self.by_age.push_back((known.plan.id, known.plan.plan_id.clone()));
        self.by_id.insert(known.plan.plan_id.clone(), known);
    }

    /// Returns the plan of an id, if it belongs to the symbol.
    pub fn of(&self, plan_id: &str, symbol: SymbolId) -> Option<&KnownPlan> {
        self.by_id.get(plan_id).filter(|known| known.plan.symbol == symbol)
    }

    pub fn get(&self, plan_id: &str) -> Option<&KnownPlan> {
        self.by_id.get(plan_id)
    }

    pub fn iter(&self) -> impl Iterator<Item = &KnownPlan> {
        self.by_id.values()
    }

    /// Forgets plans older than a day. Returns their ids.
    pub fn forget(&mut self, now_ms: u64) -> Vec<Box<str>> {
        let from = now_ms.saturating_sub(INTENT_MEMORY_MS);
        let mut forgotten = Vec::new();
        while self.by_age.front().is_some_and(|(id, _)| id.ms < from) {
            let Some((_, plan_id)) = self.by_age.pop_front() else { break };
            self.by_id.remove(&plan_id);
            forgotten.push(plan_id);
        }
        forgotten
    }
}

enum Joined {
    Entry(Intent),
    /// An exit intent, with the id of our decision if it had one.
    Exit(Option<Box<str>>),
}

/// Returns the intent whose id a bridge hashed into the plan id (docs/spec/streams/plan.md, "Join of a plan to its
/// intent").
fn join(plan: &Plan, cold: &Cold) -> Option<Joined> {
    let from = plan.id.ms.saturating_sub(INTENT_MEMORY_MS);
    let made_of = |id: EntryId| id.ms >= from && bridged_plan_id(id, &plan.bridge_text) == *plan.plan_id;
    if let Some(exit) = cold.exit_intents.iter().rev().find(|intent| made_of(intent.id)) {
        return Some(Joined::Exit(exit.decision_id.clone()));
    }
    let intent = cold.intents.iter().rev().find(|intent| made_of(intent.id))?;
    plan.side.is_none_or(|side| side.opens() == intent.direction).then(|| Joined::Entry(intent.clone()))
}

/// Returns the first 16 hex digits of SHA-256 of `"{intent id}|{symbol}|{side}|{qty}"`. `bridge_text` starts at the
/// first bar.
pub fn bridged_plan_id(intent: EntryId, bridge_text: &str) -> String {
    sha256_hex(format!("{intent}{bridge_text}").as_bytes())[..16].to_owned()
}

/// Returns SHA-256 as 64 lower-case hex digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
