//! The operator at the control stream: sets the kill switch, accepts gaps, and repairs the memory of written ids.

use std::collections::BTreeMap;

use harvester::codec::issue::{self, Stamp};
use harvester::codec::operator::OperatorCommand;
use harvester::domain::event::ids::EntryId;
use harvester::drive::keys;

use super::ambush::AtOffer;
use super::producer::NAMED;
use super::run::{CONTROL, DECISION, KILL_KEY};
use super::script;
use super::world::World;

#[derive(Debug, Default)]
pub struct Operator {
    /// Gaps up to here are accepted.
    accepted: EntryId,
    pub is_killed: bool,
    /// Accounts that are killed alone, each with the kill entries that no later entry has lifted.
    pub of_accounts: BTreeMap<&'static str, Vec<(EntryId, bool)>>,
}

impl Operator {
    /// Returns true if the last entry about an account, up to an id, has killed it.
    pub fn is_account_killed(&self, account: &str, to: EntryId) -> bool {
        let mut entries = self.of_accounts.get(account).into_iter().flatten().rev();
        entries.find(|(id, _)| *id <= to).is_some_and(|(_, kill)| *kill)
    }
}

impl World {
    /// Does what there is to do, and again later.
    pub fn operate(&mut self) {
        if self.redis.is_up {
            if self.is_calm || self.rng.chance(300) {
                self.accept_gaps();
            }
            let is_over = self.is_calm;
            if self.plan.kills && !is_over && self.rng.chance(120) {
                if !self.operator.is_killed && self.rng.chance(500) {
                    self.ambush.at_offer.get_or_insert(AtOffer::KillKey);
                } else {
                    self.press_kill(!self.operator.is_killed);
                }
            }
            if is_over && (self.operator.is_killed || self.redis.get(KILL_KEY) == Some("1")) {
                self.press_kill(false);
            }
            if self.plan.has_accounts {
                self.kill_accounts();
            }
            self.repair();
        }
        let us = self.rng.within(200_000, 900_000);
        self.after(us, World::operate);
    }

    /// Sets the kill key and writes the entry, as `harvester control kill` does.
    fn press_kill(&mut self, kill: bool) {
        self.operator.is_killed = kill;
        self.redis.set(KILL_KEY, u8::from(kill).to_string(), None);
        if self.is_calm || self.rng.chance(500) {
            self.write(&OperatorCommand::Kill(kill));
            return;
        }
        // One program sets the key alone, and the operator writes the entry when the key is found.
        self.note("operator", format!("sets the kill key to {}", u8::from(kill)));
        let us = self.rng.within(1_000, 2_500_000);
        self.after(us, move |world| {
            if world.redis.is_up && !world.is_calm && world.operator.is_killed == kill {
                world.write(&OperatorCommand::Kill(kill));
            }
        });
    }

    /// Kills an account or lifts that, as `harvester control kill --account` does. At the end no account is killed.
    fn kill_accounts(&mut self) {
        for account in NAMED {
            let is_killed = self.operator.is_account_killed(account, EntryId::MAX);
            let permille = if is_killed { 250 } else { 80 };
            let is_changed = if self.is_calm { is_killed } else { self.rng.chance(permille) };
            if is_changed {
                let id = self.write(&OperatorCommand::AccountKill { account: account.to_owned(), kill: !is_killed });
                self.operator.of_accounts.entry(account).or_default().push((id, !is_killed));
            }
        }
    }

    /// Returns true if a gap of a stream is reported that is not accepted.
    pub fn has_gap_of(&self, stream: &str) -> bool {
        self.redis.entries_after(CONTROL, self.operator.accepted).iter().any(|entry| {
            let payload: serde_json::Value = serde_json::from_str(entry.field("payload")).unwrap_or_default();
            entry.field("event_type") == "history.gap" && payload["stream"] == *stream
        })
    }

    /// Accepts all gaps that are reported.
    pub fn accept_gaps(&mut self) {
        let new = self.redis.entries_after(CONTROL, self.operator.accepted);
        let last = new.iter().rev().find(|entry| entry.field("event_type") == "history.gap");
        let Some(last) = last.map(|entry| entry.id) else { return };
        self.operator.accepted = last;
        self.write(&OperatorCommand::GapAccepted { symbol: None, account: None });
    }

    fn write(&mut self, word: &OperatorCommand) -> EntryId {
        let entry = word.entry("simulated").expect("a reason is given");
        let fields: Vec<(String, String)> =
            entry.fields().iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let key = keys::configured(&self.config).expect("the key reads");
        let last_ms = self.redis.stream(CONTROL).last_id.ms;
        let stamp = Stamp::new(self.redis.time_ms().max(last_ms), script::nonce(&mut self.rng));
        let fields = key.as_ref().map_or(fields.clone(), |key| issue::sign_fields(key, CONTROL, &fields, &stamp));
        let id = self.redis.add(CONTROL, fields);
        self.note("operator", format!("writes {id} {word:?}"));
        id
    }

    /// Removes ids from the memory that name an absent entry.
    fn repair(&mut self) {
        let is_doubtful = self
            .instances
            .iter_mut()
            .any(|at| at.process().is_some_and(|process| process.processor.delivery.doubtful() > 0));
        if !is_doubtful {
            return;
        }
        let decisions = self.redis.data.streams.get(DECISION).cloned().unwrap_or_default();
        let first = decisions.entries.first().map_or(EntryId::MAX, |entry| entry.id);
        let is_wrong = |known: &String| {
            let id: Option<EntryId> = known.split(' ').next().and_then(|id| id.parse().ok());
            id.is_some_and(|id| id >= first && decisions.get(id).is_none())
        };
        let wrong: Vec<String> =
            self.redis.data.memory.iter().filter(|(_, known)| is_wrong(known)).map(|(id, _)| id.clone()).collect();
        for id in wrong {
            self.redis.data.memory.remove(&id);
            self.note("operator", format!("removes {} from the memory", &id[..8]));
        }
    }
}
