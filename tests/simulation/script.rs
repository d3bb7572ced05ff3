//! The scripts, with the meaning of the real ones: `src/shell/redis/emit` and `lease.rs`, line by line.

use harvester::codec::issue::{self, Stamp};
use harvester::codec::operator;
use harvester::codec::signing::SigningKey;
use harvester::domain::delivery::action::{FactsFolded, FirstDecision, Looked, Offer, Remembered, WrittenDecision};
use harvester::domain::delivery::fault::{Fault, Faults};
use harvester::domain::event::ids::EntryId;
use harvester::domain::event::streams::Streams;

use super::redis::{Redis, StreamEntry};
use super::rng::Rng;
use super::run::{CONTROL, DECISION, KILL_KEY, LEASE, TOKEN};

/// Maximum age of the folded data on which an order is offered. [ms]
const FOLDED_AGE_MAX_MS: u64 = 2_000;

/// The answer to one offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Stale,
    Halted,
    Doubt { known: String },
    Lost,
    Behind,
    Late { id_ms: u64 },
    Known { answer: String },
    Written { answer: String, decision: EntryId, request: Option<EntryId>, refusal: String },
}

/// Values that the emitter of a process adds to its offers.
pub struct EmitTerms<'a> {
    pub key: Option<&'a SigningKey>,
    pub length_max: u64,
    pub issued_ms: u64,
    pub streams: &'a Streams,
    pub faults: Faults,
}

/// Offers one decision.
pub fn emit(redis: &mut Redis, rng: &mut Rng, terms: &EmitTerms<'_>, offer: &Offer) -> Reply {
    let row = &offer.row;
    let request = row.request.as_ref().filter(|_| !(row.live && row.record_only));
    let is_ours = match redis.get(LEASE) {
        Some(held) if terms.faults.has(Fault::TokenNumberOnly) => number_of(held) == number_of(&offer.lease),
        held => held == Some(&*offer.lease),
    };
    if !is_ours && !terms.faults.has(Fault::NoFence) {
        return Reply::Stale;
    }
    let known = redis.data.memory.get(&row.decision_id).cloned();
    let found = known.as_deref().and_then(|known| entry_of(redis, known));
    let is_same = found.as_ref().is_some_and(|found| found.field("hash") == row.field("hash"));
    if let Some(answer) = known.clone().filter(|_| is_same) {
        return Reply::Known { answer };
    }
    if let Some(known) = known.clone().filter(|_| found.is_some() || !(row.again || row.record_only)) {
        return Reply::Doubt { known };
    }
    if let (Some(first), Some(answer)) = (first_decision(redis), known.clone())
        && entry_id(&answer).is_some_and(|entry| first.shows_trimmed(row.seq, entry))
    {
        return Reply::Known { answer };
    }
    if let Some(needs) = &offer.needs {
        let needed = redis.data.memory.get(&needs.decision_id).and_then(|known| entry_of(redis, known));
        if needed.is_none_or(|needed| needed.field("hash") != needs.hash) {
            return Reply::Halted;
        }
    }
    if let Some(after) = offer.after
        && decision(redis, after).is_none()
        && !terms.faults.has(Fault::NoLookAtLast)
    {
        return Reply::Lost;
    }
    let now_ms = redis.time_ms();
    let mut refusal = offer.refusal.unwrap_or_default();
    match redis.get(KILL_KEY) {
        _ if terms.faults.has(Fault::KillKeyNotRead) => {}
        Some(value) if operator::kills(value.as_bytes()) => refusal = "killed",
        Some(_) => {}
        None if offer.kill_was_set => refusal = "killed",
        None => {}
    }
    let clock_ms = if terms.faults.has(Fault::ClockOfClient) { terms.issued_ms } else { now_ms };
    let is_old = clock_ms.saturating_sub(row.cause_ms) > offer.age_max_ms
        || row.cause_ms.saturating_sub(now_ms) > FOLDED_AGE_MAX_MS;
    if refusal.is_empty() && offer.age_max_ms > 0 && is_old {
        refusal = "max_decision_age";
    }
    if row.record_only {
        refusal = "";
    }
    let is_ahead = offer.watermark_ms.saturating_sub(now_ms) > FOLDED_AGE_MAX_MS;
    let is_behind =
        offer.watermark_ms > 0 && (is_ahead || clock_ms.saturating_sub(offer.watermark_ms) > FOLDED_AGE_MAX_MS);
    let lacks_facts = || {
        !terms.faults.has(Fault::NoLookForLostFacts)
            && offer.facts.iter().any(|of| {
                has_lost(redis, terms, of) || has_unfolded(redis, terms, of, offer.watermark_ms.max(row.cause_ms + 1))
            })
    };
    if refusal.is_empty() && (is_behind || lacks_facts()) {
        return Reply::Behind;
    }
    if !refusal.is_empty() && terms.key.is_some() {
        let last = redis.stream(CONTROL).entries.last().map_or(0, |last| last.id.ms);
        let id_ms = now_ms.max(last);
        if id_ms.abs_diff(terms.issued_ms) > 30_000 {
            return Reply::Late { id_ms };
        }
    }
    let mut fields = row.fields.clone();
    if row.again {
        if let Some(key) = terms.key
            && !key.verifies(row.field("hash"), row.field("signature"))
        {
            fields.retain(|(name, _)| name != "signature");
            fields.push(("signature".to_owned(), key.sign(row.field("hash"))));
        }
        fields.push(("again".to_owned(), "1".to_owned()));
    }
    let decision = append(redis, DECISION, fields, terms.length_max);
    let mut requested = None;
    if !refusal.is_empty() {
        redis.add(CONTROL, expired(rng, terms, &row.decision_id, refusal));
    } else if let Some((stream, fields)) = request.filter(|_| known.is_none()) {
        let length_max = if row.live { 0 } else { terms.length_max };
        requested = Some(append(redis, stream, fields.clone(), length_max));
    }
    let answer = format!("{decision} {} {refusal}", requested.map(|id| id.to_string()).unwrap_or_default());
    if !terms.faults.has(Fault::NoMemory) {
        redis.data.memory.insert(row.decision_id.clone(), answer.clone());
    }
    Reply::Written { answer, decision, request: requested, refusal: refusal.to_owned() }
}

/// Returns true if entries that were added to a stream are neither read nor there.
fn has_lost(redis: &Redis, terms: &EmitTerms<'_>, folded: &FactsFolded) -> bool {
    let Some(stream) = redis.data.streams.get(&terms.streams.get(folded.stream).name) else { return false };
    stream.added.checked_sub(folded.seen) != Some(stream.after(folded.after).len() as u64)
}

/// Returns true if an entry of before a time [ms since 1970] is there and not folded.
fn has_unfolded(redis: &Redis, terms: &EmitTerms<'_>, folded: &FactsFolded, before_ms: u64) -> bool {
    let Some(stream) = redis.data.streams.get(&terms.streams.get(folded.stream).name) else { return false };
    stream.after(folded.after).first().is_some_and(|first| first.id.ms < before_ms)
}

fn number_of(lease: &str) -> &str {
    lease.split(' ').next().unwrap_or_default()
}

fn decision(redis: &Redis, id: EntryId) -> Option<StreamEntry> {
    redis.data.streams.get(DECISION)?.get(id).cloned()
}

fn entry_of(redis: &Redis, known: &str) -> Option<StreamEntry> {
    decision(redis, entry_id(known)?)
}

fn entry_id(known: &str) -> Option<EntryId> {
    known.split(' ').next()?.parse().ok()
}

fn first_decision(redis: &Redis) -> Option<FirstDecision> {
    let first = redis.entries_after(DECISION, EntryId::default()).first()?;
    Some(FirstDecision { entry: first.id, seq: first.field("seq").parse().ok() })
}

/// Runs `XADD … MAXLEN ~`: an approximate length may be the exact one.
fn append(redis: &mut Redis, stream: &str, fields: Vec<(String, String)>, length_max: u64) -> EntryId {
    let id = redis.add(stream, fields);
    if length_max > 0 {
        redis.stream(stream).trim(length_max as usize);
    }
    id
}

fn expired(rng: &mut Rng, terms: &EmitTerms<'_>, decision_id: &str, refusal: &str) -> Vec<(String, String)> {
    let payload = serde_json::json!({"decision_id": decision_id, "reason": refusal}).to_string();
    let mut fields = vec![("event_type".to_owned(), "decision.expired".to_owned())];
    match terms.key {
        Some(key) => {
            let stamp = Stamp::new(terms.issued_ms, nonce(rng));
            let (payload, signature) = issue::sign(key, CONTROL, "decision.expired", &payload, &stamp);
            fields.extend([("payload".to_owned(), payload), ("signature".to_owned(), signature)]);
        }
        None => fields.push(("payload".to_owned(), payload)),
    }
    fields
}

pub fn nonce(rng: &mut Rng) -> u128 {
    u128::from(rng.next()) << 64 | u128::from(rng.next())
}

/// Looks for decisions that were written.
pub fn look_for(redis: &Redis, written: &[WrittenDecision]) -> Vec<Looked> {
    let first = first_decision(redis);
    let looked = |wanted: &WrittenDecision| {
        let is_there = |id| decision(redis, id).is_some_and(|found| found.field("hash") == wanted.hash);
        let known = redis.data.memory.get(&wanted.decision_id);
        let known = known.and_then(|known| entry_id(known));
        let remembered = known.map(|entry| Remembered {
            entry,
            is_there: is_there(entry),
            is_trimmed: first.is_some_and(|first| first.shows_trimmed(wanted.seq, entry)),
        });
        Looked { seq: wanted.seq, entry: wanted.entry, is_there: wanted.entry.is_some_and(is_there), remembered }
    };
    written.iter().map(looked).collect()
}

/// Takes the lease, or extends it. Returns the value if it is ours.
pub fn hold(
    redis: &mut Redis,
    owner: &str,
    held: Option<&str>,
    lasts_us: u64,
    inherits_from: Option<&str>,
) -> Option<String> {
    if let Some(value) = held
        && redis.get(LEASE) == Some(value)
    {
        redis.set(LEASE, value.to_owned(), Some(lasts_us));
        return Some(value.to_owned());
    }
    if let Some(present) = redis.get(LEASE) {
        let consumer = present.split_once(' ').and_then(|(_, rest)| rest.rsplit_once(' ')).map(|(name, _)| name);
        if inherits_from.is_none() || consumer != inherits_from {
            return None;
        }
    }
    let token = redis.get(TOKEN).and_then(|token| token.parse::<u64>().ok()).unwrap_or(0) + 1;
    redis.set(TOKEN, token.to_string(), None);
    let value = format!("{token} {owner}");
    redis.set(LEASE, value.clone(), Some(lasts_us));
    Some(value)
}
