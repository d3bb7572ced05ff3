//! Writes decisions and their requests exactly once, in one atomic step each, and only for the owner of the lease.
//!
//! Whenever an outcome is uncertain, the emitter runs the script again. The script then returns what it wrote before.
//! The memory of written ids lives as long as the stream itself; it never has a time-to-live.

use std::collections::BTreeMap;

use redis::{RedisError, Script, Value};

use super::reply;
use super::server::{Server, ServerError, StreamFault};
use crate::codec::issue::{self, Stamp};
use crate::codec::signing::SigningKey;
use crate::domain::delivery::action::{Offer, Tried};
use crate::domain::delivery::row::{FieldTexts, OutboxRow};
use crate::domain::event::ids::{EntryId, StreamId};
use arguments::Arguments;
use script::{EMIT, Late, ScriptAnswer, read_answer};

mod arguments;
mod look;
mod script;

pub use script::{Offered, OutputFault};

/// Maximum number of attempts to issue a decision for the present time of the control stream. [1]
const TRIES_MAX: u32 = 5;

/// Maximum age of the watermark at which an order is sent. [ms]
const WATERMARK_AGE_MAX_MS: u64 = 2_000;

/// The streams and keys of an emitter.
#[derive(Clone, Debug)]
pub struct EmitKeys {
    pub lease: String,
    pub decisions: String,
    pub control: String,
    pub kill_key: String,
    /// Streams of facts about positions that share a slot with the lease.
    pub facts: BTreeMap<StreamId, String>,
    /// Approximate length to which output streams are trimmed; 0 means never. [1]
    pub length_max: u64,
    /// Key that signs the entries of the control stream.
    pub signing: Option<SigningKey>,
}

/// Returns the key of the memory of written ids.
pub fn memory_of(decision_stream: &str) -> String {
    format!("{decision_stream}:emitted")
}

/// The only connection that writes decisions and acknowledges input entries.
pub struct Emitter {
    server: Server,
    keys: EmitKeys,
    script: Script,
    /// Last measured lead of the server's clock over ours. [ms]
    ahead_ms: i64,
}

impl Emitter {
    pub fn new(server: Server, keys: EmitKeys) -> Self {
        Self { server, keys, script: Script::new(EMIT), ahead_ms: 0 }
    }

    /// Offers decisions in one pipeline, in this order. A repeated offer returns what the first one wrote.
    ///
    /// Returns the answers up to the first failure, and that failure.
    pub async fn offer(&mut self, offers: &[Offer]) -> (Vec<Offered>, Option<ServerError>) {
        let mut answers = Vec::with_capacity(offers.len());
        // The loop is bounded because the ids of the control stream may keep moving away from the time of issue.
        for _ in 0..TRIES_MAX {
            let issued_ms = local_ms().saturating_add_signed(self.ahead_ms);
            match self.offer_issued_at(&offers[answers.len()..], issued_ms, &mut answers).await {
                Err(error) => return (answers, Some(error)),
                Ok(None) => return (answers, None),
                // The rest of the pipeline was halted. It is offered again with the present time as its time of issue.
                Ok(Some(Late { id_ms })) => {
                    self.ahead_ms = i64::try_from(id_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(local_ms());
                }
            }
        }
        // The ids of the stream are not times. Readers would not believe an entry that is signed for such an id, so the
        // stream counts as full.
        answers.push(Offered::Unfit {
            key: self.keys.control.clone(),
            why: OutputFault::Stream(StreamFault::IdsExhausted),
        });
        answers.resize(offers.len(), Offered::Halted);
        (answers, None)
    }

    /// Offers decisions, and adds an answer for each up to the first one that must be issued again.
    async fn offer_issued_at(
        &mut self,
        offers: &[Offer],
        issued_ms: u64,
        answers: &mut Vec<Offered>,
    ) -> Result<Option<Late>, ServerError> {
        let failed = |offer: &Offer| self.server.failed(format!("to emit decision {}", offer.row.decision_id));
        let Some(first) = offers.first() else { return Ok(None) };
        let mut replies = self.invoke(offers, issued_ms).await.map_err(failed(first))?;
        if replies.iter().any(|reply| matches!(reply, Value::ServerError(error) if error.code() == "NOSCRIPT")) {
            let load: Result<(), RedisError> =
                redis::cmd("SCRIPT").arg("LOAD").arg(EMIT).query_async(&mut self.server.connection.clone()).await;
            load.map_err(self.server.failed("to load the emission script"))?;
            replies = self.invoke(offers, issued_ms).await.map_err(failed(first))?;
        }
        for (offer, reply) in offers.iter().zip(replies) {
            let answer = reply::checked(reply).and_then(read_answer).map_err(failed(offer))?;
            match answer {
                ScriptAnswer::Offered(offered) => answers.push(offered),
                ScriptAnswer::Late(late) => return Ok(Some(late)),
            }
        }
        Ok(None)
    }

    async fn invoke(&self, offers: &[Offer], issued_ms: u64) -> Result<Vec<Value>, RedisError> {
        let mut pipeline = redis::pipe();
        pipeline.ignore_errors();
        for offer in offers {
            self.add_offer(&mut pipeline, offer, issued_ms);
        }
        pipeline.query_async(&mut self.server.connection.clone()).await
    }

    fn add_offer(&self, call: &mut redis::Pipeline, offer: &Offer, issued_ms: u64) {
        call.cmd("EVALSHA").arg(self.script.get_hash());
        let (keys, row) = (&self.keys, &offer.row);
        // An order that may have been sent is not sent again.
        let request = row.request.as_ref().filter(|_| !(row.live && row.record_only));
        let requests = request.map_or(keys.control.as_str(), |(stream, _)| stream);
        let facts: Vec<_> =
            offer.facts.iter().filter_map(|of| Some((keys.facts.get(&of.stream)?, of.after, of.seen))).collect();
        call.arg(6 + facts.len()).arg(&keys.lease).arg(memory_of(&keys.decisions)).arg(&keys.decisions);
        call.arg(requests).arg(&keys.control).arg(&keys.kill_key);
        for (stream, ..) in &facts {
            call.arg(stream);
        }
        let fields = self.fields(row);
        let needs = offer.needs.as_ref();
        let arguments = Arguments {
            token: &offer.lease,
            decision_id: &row.decision_id,
            cause_ms: row.cause_ms,
            age_max_ms: offer.age_max_ms,
            kill_was_set: offer.kill_was_set,
            refusal: offer.refusal.unwrap_or_default(),
            length_max: keys.length_max,
            fields: fields.len() * 2,
            record_only: row.record_only,
            requests_are_ours: request.is_some() && !row.live,
            hash: row.field("hash"),
            again: row.again,
            after: offer.after.map_or_else(String::new, |after| after.to_string()),
            watermark_ms: offer.watermark_ms,
            watermark_age_max_ms: WATERMARK_AGE_MAX_MS,
            facts: facts.len(),
            issued_ms: if keys.signing.is_some() { issued_ms } else { 0 },
            signed: expiries(keys, &row.decision_id, offer.refusal, issued_ms),
            needed_id: needs.map_or("", |needs| &needs.decision_id),
            needed_hash: needs.map_or("", |needs| &needs.hash),
        };
        arguments.add_to(call);
        for (_, after, seen) in &facts {
            call.arg(after.to_string()).arg(seen);
        }
        for (name, value) in fields.iter().chain(request.iter().flat_map(|(_, fields)| fields)) {
            call.arg(name).arg(value);
        }
    }

    /// Returns the fields of the `harvest.decision` entry. A decision that is written again gets a new id, for which a
    /// signature of a former key, or none, does not count. So it is signed again if necessary.
    fn fields(&self, row: &OutboxRow) -> FieldTexts {
        let mut fields = row.fields.clone();
        if !row.again {
            return fields;
        }
        if let Some(key) = &self.keys.signing
            && !key.verifies(row.field("hash"), row.field("signature"))
        {
            fields.retain(|(name, _)| name != "signature");
            fields.push(("signature".to_owned(), key.sign(row.field("hash"))));
        }
        fields.push(("again".to_owned(), "1".to_owned()));
        fields
    }

    /// Appends one of our entries to a control stream, once for any number of attempts; signed if there is a key.
    ///
    /// `tried` is the previous attempt, and afterwards this one. If the previous attempt was signed too long ago and
    /// has written nothing, the entry is signed again.
    pub async fn append(
        &mut self,
        stream: &str,
        fields: &[(String, String)],
        tried: &mut Option<Tried>,
    ) -> Result<EntryId, ServerError> {
        let key = self.keys.signing.clone();
        let next_ms = if key.is_some() { self.server.next_id_ms(stream).await? } else { 0 };
        if let Some(before) = tried.as_ref() {
            if let Some(id) = self.server.written_since(stream, &borrowed(&before.fields), before.after).await? {
                return Ok(id);
            }
            if before.issued_ms.abs_diff(next_ms) > SIGNED_AGE_MAX_MS {
                *tried = None;
            }
        }
        let attempt = match tried {
            Some(attempt) => attempt,
            none => {
                let newest = self.server.newest(stream, 1).await?;
                none.insert(Tried {
                    after: newest.first().map_or_else(EntryId::default, |entry| entry.id),
                    fields: signed(key.as_ref(), stream, fields, next_ms),
                    issued_ms: next_ms,
                })
            }
        };
        self.server.add(stream, &borrowed(&attempt.fields)).await
    }

    /// Acknowledges entries to the group, by stream. If the key is no longer a stream, there is nothing to acknowledge.
    pub async fn acknowledge(&mut self, group: &str, acks: &[(String, Vec<EntryId>)]) -> Result<(), ServerError> {
        let mut pipeline = redis::pipe();
        pipeline.ignore_errors();
        for (stream, ids) in acks {
            for page in ids.chunks(1000) {
                let ids: Vec<String> = page.iter().map(EntryId::to_string).collect();
                pipeline.cmd("XACK").arg(stream).arg(group).arg(ids);
            }
        }
        let answered: Result<Vec<Value>, RedisError> = pipeline.query_async(&mut self.server.connection).await;
        let failed = || self.server.failed("to acknowledge entries");
        let refusals = answered.map_err(failed())?.into_iter().filter_map(|answer| reply::checked(answer).err());
        match refusals.into_iter().find(|error| error.code() != Some("WRONGTYPE")) {
            Some(error) => Err(failed()(error)),
            None => Ok(()),
        }
    }

    /// Returns the connection, for plain appends.
    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }
}

/// Maximum age of a signature. Readers might not believe an older one. [ms]
const SIGNED_AGE_MAX_MS: u64 = 30_000;

/// Returns names and values of fields in the form that commands take.
pub fn borrowed(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// Appends an entry to a control stream, signed if there is a key.
pub async fn append_control(
    server: &mut Server,
    key: Option<&SigningKey>,
    stream: &str,
    fields: &[(String, String)],
) -> Result<EntryId, ServerError> {
    let issued_ms = if key.is_some() { server.next_id_ms(stream).await? } else { 0 };
    server.add(stream, &borrowed(&signed(key, stream, fields, issued_ms))).await
}

/// Returns the fields of an entry of a control stream as they are sent: signed if there is a key.
fn signed(key: Option<&SigningKey>, stream: &str, fields: &[(String, String)], issued_ms: u64) -> FieldTexts {
    let sign = |key| issue::sign_fields(key, stream, fields, &Stamp::new(issued_ms, fastrand::u128(..)));
    key.map_or_else(|| fields.to_vec(), sign)
}

/// Returns our own clock. [ms since 1970]
fn local_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Returns one signed `decision.expired` per reason that the script may find. A script cannot sign.
fn expiries(keys: &EmitKeys, decision_id: &str, refusal: Option<&'static str>, issued_ms: u64) -> String {
    let mut signed = serde_json::Map::new();
    if let Some(key) = &keys.signing {
        for reason in refusal.into_iter().chain(["killed", "max_decision_age"]) {
            let payload = serde_json::json!({"decision_id": decision_id, "reason": reason}).to_string();
            let stamp = Stamp::new(issued_ms, fastrand::u128(..));
            let (payload, signature) = issue::sign(key, &keys.control, "decision.expired", &payload, &stamp);
            signed.insert(reason.to_owned(), serde_json::json!([payload, signature]));
        }
    }
    serde_json::Value::Object(signed).to_string()
}
