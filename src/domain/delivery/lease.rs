//! Events of the lease and the kill switch: who may send, and whether the server still has everything that was written.

use super::action::{Looked, Notice};
use super::fault::Fault;
use super::own_entry::OwnEntry;
use super::row::OutboxRow;
use super::{CaughtUp, Checkpointing, Delivery, Lease, adopted_by_account};
use crate::domain::engine::Engine;
use crate::domain::event::ids::{EntryId, StreamId};

/// Old decisions that are looked for together, once younger ones are lost. [1]
const RECALLED: u64 = 1000;
/// The most old decisions that are looked for. [1]
const RECALLED_MAX: u64 = 10_000;

impl Delivery {
    /// Handles an entry that kills and was read before its turn. Returns true if it must still be folded.
    pub fn handle_kill_read(&mut self, stream: StreamId, id: EntryId, engine: &Engine) -> bool {
        let is_past = engine.cursor(stream).is_some_and(|cursor| id <= cursor);
        !is_past && self.kills.entry_read(stream, id)
    }

    /// Handles a value of the kill key that was read. The leader writes a change to the control stream.
    ///
    /// The value counts as known once the entry has come back. A process that ends before that finds the change again.
    ///
    /// `began_ms` is the time before the server was asked.
    pub fn handle_kill_key(&mut self, kill: bool, began_ms: u64, engine: &Engine) {
        self.kills.key_read(kill, began_ms);
        self.publish_kill_key(engine);
    }

    fn publish_kill_key(&mut self, engine: &Engine) {
        let Some(kill) = self.kills.since_folded() else { return };
        if self.lease.is_none() || self.control.has(&OwnEntry::Kill(kill)) || self.kills.known == Some(kill) {
            return;
        }
        // A value that the log has already is not written again, unless the opposite is on its way. A key of 0 clears
        // only a kill that the key has set. With a signing key, a writer without it cannot clear a kill through us.
        let says_nothing = !kill && (self.settings.has_key || self.kills.known.is_none());
        let is_folded = engine.globals().killed == kill && !self.control.has(&OwnEntry::Kill(!kill));
        if says_nothing || is_folded {
            self.kills.known = Some(kill);
            return;
        }
        self.control.stage(OwnEntry::Kill(kill));
    }

    /// Handles the lease: won, renewed or lost. `server_ms` is the server's clock at the last round that was read.
    pub fn handle_lease(&mut self, lease: Option<Lease>, server_ms: u64, engine: &Engine) {
        let is_same = self.lease.as_ref().map(|lease| &lease.value) == lease.as_ref().map(|lease| &lease.value);
        self.lease = lease;
        if is_same {
            return;
        }
        self.gate.retry();
        self.outbox.lost();
        self.control.lost();
        self.records.retry(true);
        self.refused.lead();
        self.not_before_ms = 0;
        if self.lease.is_some() {
            self.doubt_recent();
            self.caught_up = CaughtUp::After(server_ms);
            // In this order: once the general policy is adopted, an account without one that was adopted follows it.
            self.adopt_account_policies(engine);
            self.adopt_policy(engine);
            self.publish_refused();
            self.publish_kill_key(engine);
        } else {
            self.caught_up = CaughtUp::No;
            self.control.follow();
        }
    }

    /// Writes the configured policy as an entry, unless the log has it already
    /// (docs/spec/decision.md, "Policy in force").
    fn adopt_policy(&mut self, engine: &Engine) {
        let globals = engine.globals();
        // If another policy was adopted since this process began, that one counts.
        if globals.policy.hash != self.policy_before || self.has_policy_pending() {
            return;
        }
        let is_in_force = globals.policy.hash == self.settings.policy;
        if globals.policy_adopted && is_in_force {
            return;
        }
        let entry = if is_in_force { OwnEntry::PolicyInForce } else { OwnEntry::NewPolicy };
        self.control.stage_once(entry);
    }

    /// Does the same as [`Self::adopt_policy`] for the accounts: each configured policy that the log lacks, and null
    /// for each that is configured no longer.
    fn adopt_account_policies(&mut self, engine: &Engine) {
        let adopted = adopted_by_account(engine);
        let configured = &self.settings.account_policies;
        for account in configured.keys().chain(adopted.keys().filter(|account| !configured.contains_key(*account))) {
            let (own, in_force) = (configured.get(account), adopted.get(account));
            let is_known = own.map(|own| &own.hash) == in_force;
            // If another policy was adopted since this process began, that one counts.
            if is_known || in_force != self.account_policies_before.get(account) {
                continue;
            }
            let policy = own.map_or_else(|| "null".into(), |own| own.json.clone());
            self.control.stage_once(OwnEntry::AccountPolicy { account: account.clone(), policy });
        }
    }

    /// Handles what the server has of the decisions that were looked for. Those that it has lost are written again before
    /// all others, without their orders.
    pub fn handle_checked(&mut self, looked: &[Looked], engine: &Engine) {
        let oldest = self.outbox.rows().find(|row| row.written.is_some()).map(|row| row.seq);
        let is_lost = |looked: &&Looked| self.outbox.looked(looked);
        let lost: Vec<u64> = looked.iter().filter(is_lost).map(|looked| looked.seq).collect();
        for seq in &lost {
            self.outbox.write_again(*seq, self.settings.faults.has(Fault::AgainWithOrder));
            (self.any_lost, self.checkpoint) = (true, Checkpointing::Due);
        }
        // If the oldest is lost, older ones may be lost too.
        match oldest.filter(|oldest| lost.contains(oldest)) {
            Some(oldest) => self.recall_before(oldest, engine),
            None => {
                // Of the decision before the next one, an absence that is no loss is known now. One that is there may be
                // lost later. Decisions behind the next one may be written already, by another instance.
                let last = self.outbox.rows().map_while(|row| row.written).last();
                self.end_check(last.filter(|entry| looked.iter().any(|at| at.shows_absent(*entry))));
            }
        }
    }

    /// Handles old decisions that were loaded from the store, to look for them.
    pub fn handle_recalled(&mut self, rows: Vec<OutboxRow>) {
        if self.outbox.recalled(rows) { self.gate.check_lost() } else { self.end_check(None) }
    }

    pub(super) fn recall_before(&mut self, seq: u64, engine: &Engine) {
        let floor = engine.globals().chain.seq.saturating_sub(RECALLED_MAX).max(1);
        let from = seq.saturating_sub(RECALLED).max(floor);
        if from < seq { self.recall = Some((from, seq)) } else { self.end_check(None) }
    }

    /// Ends the check. `trimmed` is the entry of the decision before the next one, if it is absent and not lost.
    fn end_check(&mut self, trimmed: Option<EntryId>) {
        let any_lost = std::mem::take(&mut self.any_lost);
        self.gate.checked(trimmed.filter(|_| !any_lost));
        let again = || self.outbox.rows().filter(|row| row.again && row.written.is_none()).map(|row| row.seq);
        if let (true, Some(first), Some(last)) = (any_lost, again().min(), again().max()) {
            self.notices.push_back(Notice::WrittenAgain { count: again().count(), first, last });
        }
    }

    /// Handles a new connection. Nothing but a checkpoint is asked for without one.
    pub fn handle_connected(&mut self) {
        self.is_connected = true;
        self.doubt_recent();
    }

    /// Looks for the decisions of the last hour again. Another server may answer, which has lost what the former one
    /// has acknowledged. If that was never read back, no gap shows it.
    fn doubt_recent(&mut self) {
        if self.outbox.rows().any(|row| row.written.is_some()) {
            self.gate.doubt_written();
        }
    }

    /// Handles the loss of the connection: actions in flight may or may not have arrived.
    pub fn handle_disconnected(&mut self) {
        self.is_connected = false;
        if !self.settings.faults.has(Fault::TakeInFlightForSent) {
            self.outbox.lost();
        }
        self.control.lost();
        self.control.doubt_published();
        if self.lease.is_none() {
            self.control.follow();
        }
        self.records.retry(false);
        self.acks.lost();
        self.gate.check_lost();
    }

    /// Returns the lease while it is certainly ours.
    pub(super) fn lease_at(&self, now_ms: u64) -> Option<&Lease> {
        self.lease.as_ref().filter(|lease| now_ms < lease.until_ms && now_ms >= self.not_before_ms)
    }
}
