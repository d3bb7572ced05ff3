//! Executed plans, remembered for a day, and the intents that they join.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::intents::INTENT_MEMORY_MS;
use super::symbol::Symbol;
use crate::domain::event::ids::{AccountId, EntryId, SymbolId};
use crate::domain::event::{Intent, Plan};

/// A plan, with the intent that the bridge made it from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnownPlan {
    pub plan: Plan,
    pub intent: Option<Intent>,
    /// The decision of ours, where the intent was our request.
    pub decision_id: Option<Box<str>>,
}

/// Identifies a plan: a plan id belongs to its account. The account comes last, so that all plans of an id are
/// neighbours.
pub type PlanKey = (Box<str>, AccountId);

/// All plans of the last 24 hours, by plan id and account. The first plan of an id counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plans {
    by_id: BTreeMap<PlanKey, KnownPlan>,
    by_age: VecDeque<(EntryId, PlanKey)>,
}

impl KnownPlan {
    pub fn key(&self) -> PlanKey {
        (self.plan.plan_id.clone(), self.plan.account)
    }
}

impl Plans {
    /// Remembers a plan. Returns true if it is the first of its id.
    pub fn remember(&mut self, plan: Plan, symbol: &Symbol) -> bool {
        if self.by_id.contains_key(&(plan.plan_id.clone(), plan.account)) {
            return false;
        }
        let joined = join(&plan, symbol);
        let (intent, decision_id) = match joined {
            Some(Joined::Entry(intent)) => (Some(intent), None),
            Some(Joined::Exit(decision_id)) => (None, decision_id),
            None => (None, None),
        };
        self.insert(KnownPlan { plan, intent, decision_id });
        true
    }

    pub fn insert(&mut self, known: KnownPlan) {
        self.by_age.push_back((known.plan.id, known.key()));
        self.by_id.insert(known.key(), known);
    }

    /// Returns the plan of an id for an account, if it belongs to the symbol: the account's own, else one that serves
    /// all accounts.
    pub fn of(&self, account: AccountId, plan_id: &str, symbol: SymbolId) -> Option<&KnownPlan> {
        let of = |account| self.by_id.get(&(plan_id.into(), account)).filter(|known| known.plan.symbol == symbol);
        let own = if account.is_named() { of(account) } else { None };
        own.or_else(|| of(AccountId::NONE))
    }

    /// Returns the plans of an id that belong to the symbol, of all accounts.
    pub fn of_all(&self, plan_id: &str, symbol: SymbolId) -> impl Iterator<Item = &KnownPlan> {
        let all = self.by_id.range((plan_id.into(), AccountId::NONE)..=(plan_id.into(), AccountId(u32::MAX)));
        all.map(|(_, known)| known).filter(move |known| known.plan.symbol == symbol)
    }

    pub fn get(&self, key: &PlanKey) -> Option<&KnownPlan> {
        self.by_id.get(key)
    }

    pub fn iter(&self) -> impl Iterator<Item = &KnownPlan> {
        self.by_id.values()
    }

    /// Forgets plans older than a day. Returns their keys.
    pub fn forget(&mut self, now_ms: u64) -> Vec<PlanKey> {
        let from = now_ms.saturating_sub(INTENT_MEMORY_MS);
        let mut forgotten = Vec::new();
        while self.by_age.front().is_some_and(|(id, _)| id.ms < from) {
            let Some((_, key)) = self.by_age.pop_front() else { break };
            self.by_id.remove(&key);
            forgotten.push(key);
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
fn join(plan: &Plan, symbol: &Symbol) -> Option<Joined> {
    let from = plan.id.ms.saturating_sub(INTENT_MEMORY_MS);
    let made_of = |id: EntryId| id.ms >= from && bridged_plan_id(id, &plan.bridge_text) == *plan.plan_id;
    if let Some(exit) = symbol.exit_intents(plan.account).find(|intent| made_of(intent.id)) {
        return Some(Joined::Exit(exit.decision_id.clone()));
    }
    let intent = symbol.joined_intents(plan.account).find(|intent| made_of(intent.id))?;
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
