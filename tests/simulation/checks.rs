//! Promises that are checked at every step of a run. `end` and `losses` check those of its end.

use std::collections::{BTreeMap, BTreeSet};

use harvester::codec::operator;
use harvester::domain::delivery::action::Offer;
use harvester::domain::delivery::row::OutboxRow;
use harvester::domain::event::ids::EntryId;

use super::producer::Book;
use super::promise::Promise;
use super::redis::{Data, StreamEntry};
use super::run::{CONTROL, DECISION, KILL_KEY, LEASE};
use super::world::World;

/// A gap that an instance has reported to its operator.
#[derive(Clone, Debug)]
pub struct Noticed {
    pub stream: String,
    pub after: Option<EntryId>,
    pub before: Option<EntryId>,
    /// True if it begins where the process began to read.
    pub is_from_start: bool,
}

#[derive(Debug, Default)]
pub struct Checks {
    /// True if the server has lost entries.
    pub has_lost: bool,
    pub lost: Vec<(String, StreamEntry)>,
    /// Gaps that an instance has reported to its operator.
    pub noticed: Vec<Noticed>,
    /// A decision that does not follow the one before it.
    pub broken_chain: Option<String>,
    pub trimmed: bool,
    pub clock_stepped: bool,
    /// Requests whose entries took effect after the client had given up.
    pub is_late: bool,
    /// Orders that are in the stream, or that the executor has, by decision.
    orders: BTreeMap<String, Vec<EntryId>>,
    /// Entries of our own, by process and number.
    appended: BTreeSet<(String, u64)>,
    /// Number of decisions that were written. [1]
    pub written: u64,
    /// Number of orders that were repeated after a loss of which the sender could not know. [1]
    pub repeated: u64,
    /// Number of entries that were trimmed unread, where the server had lost as many that were read: no count shows
    /// them. [1]
    pub balanced: u64,
    /// True if the run ended with a decision in doubt.
    pub in_doubt: bool,
}

impl Checks {
    /// Returns true if nothing was lost, trimmed or put in another order.
    pub const fn is_whole(&self) -> bool {
        !self.has_lost && !self.trimmed && !self.clock_stepped
    }

    /// Forgets orders that are lost and that the executor has not received.
    pub fn forget_orders(&mut self, data: &Data, executed: EntryId) {
        let plans = data.streams.get(super::run::PLAN);
        for ids in self.orders.values_mut() {
            ids.retain(|id| *id <= executed || plans.is_some_and(|plans| plans.get(*id).is_some()));
        }
    }

    pub fn orders_of(&self, decision: &str) -> usize {
        self.orders.get(decision).map_or(0, Vec::len)
    }
}

impl World {
    /// Checks a decision that the script has just written.
    pub fn check_written(&mut self, instance: usize, offer: &Offer, id: EntryId, request: Option<EntryId>) {
        let row = &offer.row;
        let (name, short) = (self.instances[instance].name.clone(), &row.decision_id[..8]);
        self.checks.written += 1;
        if self.redis.get(LEASE) != Some(&*offer.lease) {
            self.violate(Promise::WrittenByHolder, format!("{name} writes {short} and does not hold the lease"));
        }
        let payload: serde_json::Value = serde_json::from_str(row.field("payload")).expect("a payload is JSON");
        let cause = payload["cause"].as_str().and_then(|cause| cause.rsplit_once('/'));
        let (stream, cause) = cause.expect("a decision names its cause");
        let cause: EntryId = cause.parse().expect("the cause has an id");
        if !row.again && !self.instances[instance].disk.has(stream, cause) {
            self.violate(
                Promise::WrittenWhenDurable,
                format!("{name} writes {short}, whose cause {stream}/{cause} is not durable"),
            );
        }
        let is_there = |after| self.redis.data.streams.get(DECISION).is_some_and(|stream| stream.get(after).is_some());
        if let Some(after) = offer.after.filter(|after| self.config.emit.output_maxlen == 0 && !is_there(*after)) {
            self.violate(Promise::Chain, format!("{name} writes {short} after {after}, which the server has lost"));
        }
        self.check_chain(id);
        self.check_book(row, &payload);
        let Some(request) = request.filter(|_| row.live) else { return };
        let now_ms = self.redis.time_ms();
        if now_ms.saturating_sub(row.cause_ms) > self.config.emit.max_decision_age_ms {
            self.violate(
                Promise::OrderIsYoung,
                format!("the order of {short} is {} ms old when it is sent", now_ms - row.cause_ms),
            );
        }
        if now_ms.saturating_sub(offer.watermark_ms) > 2_000 {
            self.violate(
                Promise::OrderIsFresh,
                format!("the order of {short} rests on what was folded before {}", offer.watermark_ms),
            );
        }
        self.check_facts(offer);
        if self.redis.get(KILL_KEY).is_some_and(|value| operator::kills(value.as_bytes())) {
            self.violate(Promise::NoOrderWhenKilled, format!("the order of {short} is sent while the kill key is set"));
        }
        let process = self.instances[instance].process.as_ref();
        // A process that writes a decision again knows that it was written.
        let knows = row.again || process.is_none_or(|process| process.knows.contains(&row.decision_id));
        let orders = self.checks.orders.entry(row.decision_id.clone()).or_default();
        orders.push(request);
        if orders.len() > 1 && !knows && self.checks.has_lost {
            // The server has lost decision and order before this instance had read either.
            self.checks.repeated += 1;
        } else if orders.len() > 1 {
            let text = format!("{short} has the orders {orders:?}");
            self.violate(Promise::OneOrder, text);
        }
    }

    /// Checks that nothing about positions was trimmed that the sender of an order has not read, unless a gap names it.
    fn check_facts(&mut self, offer: &Offer) {
        // If the server loses entries, and its clock steps, an id says nothing about what was read.
        if self.checks.has_lost {
            return;
        }
        let gaps = self.gaps();
        let missed = offer.facts.iter().find_map(|folded| {
            let name = &self.config.streams.get(folded.stream).name;
            let is_missed =
                |of: &str, id: EntryId| of == name && id > folded.after && !gaps.iter().any(|gap| gap.names(of, id));
            self.redis.trimmed.iter().find(|(of, id)| is_missed(of, *id))
        });
        if let Some((stream, id)) = missed {
            let text = format!("the order of {} is sent without {stream}/{id}", &offer.row.decision_id[..8]);
            self.violate(Promise::NoOrderOverLoss, text);
        }
    }

    /// Checks that a decision is of one of our books, under the policy of its account, and that its order is of the
    /// same book.
    fn check_book(&mut self, row: &OutboxRow, decision: &serde_json::Value) {
        let text = |name: &str| decision[name].as_str().unwrap_or_default();
        let wrong = |why: &str| format!("{} {why}: {decision}", &row.decision_id[..8]);
        let Some(book) = Book::named(text("account"), text("symbol"), text("position_side")) else {
            return self.violate(Promise::OrderOfItsBook, wrong("is of no book"));
        };
        let policy = self.config.account_policies.get(book.account).unwrap_or(&self.config.policy);
        if text("policy") != &*policy.hash {
            self.violate(Promise::OrderOfItsBook, wrong("follows another policy than that of its account"));
        }
        let Some((_, fields)) = row.request.as_ref().filter(|_| row.live) else { return };
        let field = |name: &str| fields.iter().find(|(of, _)| of == name).map_or("", |(_, value)| value);
        let named = Book::named(field("account"), field("symbol"), field("positionSide"));
        if named != Some(book) || field("side") != book.side.closes() || row.account != book.account {
            self.violate(Promise::OrderOfItsBook, wrong(&format!("has the order {fields:?}")));
        }
    }

    /// Checks that the last decision in the stream follows the one before it.
    fn check_chain(&mut self, id: EntryId) {
        let Some(stream) = self.redis.data.streams.get(DECISION) else { return };
        let Some(last) = stream.get(id) else { return };
        let seq = |entry: &StreamEntry| entry.field("seq").parse::<u64>().unwrap_or(0);
        let before = stream.entries.iter().rev().nth(1);
        let follows = match before {
            Some(before) => seq(last) == seq(before) + 1 && last.field("prev") == before.field("hash"),
            None => seq(last) == 1 || self.config.emit.output_maxlen > 0,
        };
        if !follows {
            let text = format!("decision {} follows {:?}", seq(last), before.map(seq));
            self.note("CHAIN", &text);
            self.checks.broken_chain.get_or_insert(text);
        }
    }

    /// Checks an offer at the moment when it is made. `control` is the last control entry that was folded.
    pub fn check_offer(&mut self, name: &str, offer: &Offer, control: Option<EntryId>, is_covered: bool) {
        let row = &offer.row;
        let is_sent = row.is_order() && offer.refusal.is_none();
        // If entries are lost, the operator's entries can be among those that no instance has read.
        let is_killed =
            self.checks.is_whole() && self.operator.is_account_killed(&row.account, control.unwrap_or_default());
        if is_sent && is_killed {
            let text = format!("{name} offers the order of {}, and {} is killed", &row.decision_id[..8], row.account);
            self.violate(Promise::NoOrderOfKilledAccount, text);
        }
        if offer.row.is_order() && offer.refusal.is_none() && !is_covered {
            let text = format!("{name} offers the order of {}, whose position is closed", &offer.row.decision_id[..8]);
            self.violate(Promise::OrderHasPosition, text);
        }
    }

    /// Checks entries that are acknowledged.
    pub fn check_acknowledged(&mut self, instance: usize, stream: &str, ids: &[EntryId]) {
        for id in ids {
            let is_there = self.redis.data.streams.get(stream).is_some_and(|stream| stream.get(*id).is_some());
            if is_there && !self.instances[instance].disk.has(stream, *id) {
                let name = self.instances[instance].name.clone();
                self.violate(
                    Promise::AcknowledgedWhenDurable,
                    format!("{name} acknowledges {stream}/{id}, which is not durable"),
                );
            }
        }
    }

    /// Checks an entry of our own that was just appended.
    pub fn check_appended(&mut self, owner: String, number: u64, id: EntryId) {
        let is_gap = self.redis.stream(CONTROL).get(id).is_some_and(|entry| entry.field("event_type") == "history.gap");
        if is_gap && !self.checks.has_lost && !self.checks.trimmed {
            self.violate(Promise::GapIsReal, format!("the gap {id} is reported, and nothing was lost"));
        }
        let is_first = self.checks.appended.insert((owner.clone(), number));
        if !is_first && !self.checks.is_late && !self.checks.has_lost {
            self.violate(Promise::OwnEntryOnce, format!("{owner} writes its entry {number} twice"));
        }
    }
}
