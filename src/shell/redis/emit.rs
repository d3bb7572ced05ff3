//! Writes decisions and their requests exactly once, in one atomic step each, and only for the holder of the lease.
//!
//! After every doubt the emitter runs the script again. The script then returns what it wrote before. The memory of
//! written ids lives as long as the stream itself; it never has a time-to-live.

use redis::{RedisError, Script, Value};

use super::reply;
use super::server::{Server, ServerError, StreamFault};
use crate::codec::issue::{self, Stamp};
use crate::codec::signing::SigningKey;
use crate::domain::delivery::action::{Offer, Tried, WrittenDecision};
use crate::domain::delivery::row::{FieldTexts, OutboxRow};
use crate::domain::event::ids::EntryId;

/// The script that writes one decision. Its answers, in this order: `stale` (another process holds the lease), `unfit`
/// (a key to write to has the wrong type or takes no more entries; the answer contains the key and the reason), `known`
/// (written before), `doubt` (the memory contains the decision and the stream does not), `halted` (the decision before it
/// in the pipeline was not written), `lost` (the last written entry is no longer in the stream), `behind` (the order rests on data that was read too long ago), `late` (an entry of the
/// control stream would get an id far from the time of its issue, so it must be signed again), `written`. The script
/// reads the kill key itself, so that nothing can happen between the check and the write. A kill key that was set and
/// is now missing still counts (`docs/spec/emission.md`, "Kill key").
const EMIT: &str = r"
local lease, memory, decisions, requests, control, kill_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local token, decision_id, cause_ms, age_max_ms = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local kill_was_set, refusal, length_max, fields = ARGV[5], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8])
local record_only, requests_are_ours = ARGV[9] == '1', ARGV[10] == '1'
local hash, again, after, folded_to_ms, folded_age_max_ms = ARGV[11], ARGV[12] == '1', ARGV[13], tonumber(ARGV[14]), tonumber(ARGV[15])
local issued_ms, signed = tonumber(ARGV[16]), cjson.decode(ARGV[17])
local needed_id, needed_hash = ARGV[18], ARGV[19]
local begin = 19
if redis.call('GET', lease) ~= token then return {'stale'} end
if requests == decisions then return redis.error_reply('ERR requests and decisions are one stream') end
-- Nothing is undone in a script: all that could fail on its way is looked at before the first write. Where no expiry can
-- be written, no order goes out either. A read of a key that holds something else is an error.
local greatest, full = '18446744073709551615-18446744073709551615', nil
local function is_other_kind(err) return string.find(err, 'WRONGTYPE', 1, true) end
for at, key in ipairs({decisions, control, requests}) do
  if at < 3 or requests ~= control then
    local found = redis.pcall('XRANGE', key, greatest, greatest)
    if found.err then return is_other_kind(found.err) and {'unfit', key, 'kind'} or found end
    if found[1] then full = full or key end
  end
end
local function entry(id)
  local found = id and redis.pcall('XRANGE', decisions, id, id)
  return found and not found.err and found[1]
end
-- The memory is believed only where the stream says the same.
local function remembered(id, wanted)
  local known = redis.pcall('HGET', memory, id)
  if type(known) == 'table' then return nil, nil, false, known end
  local found = known and entry(string.match(known, '^(%d+%-%d+) '))
  for at = 1, found and #found[2] or 0, 2 do
    if found[2][at] == 'hash' and found[2][at + 1] == wanted then return known, found, true end
  end
  return known, found, false
end
local known, found, is_same, failed = remembered(decision_id, hash)
if failed then return is_other_kind(failed.err) and {'unfit', memory, 'kind'} or failed end
if is_same then return {'known', known} end
if known and (found or not (again or record_only)) then return {'doubt', known} end
if needed_id ~= '' then
  local _, _, is_written = remembered(needed_id, needed_hash)
  if not is_written then return {'halted'} end
end
if full then return {'unfit', full, 'ids'} end
if after ~= '' and not entry(after) then return {'lost', after} end
local now_ms = 0
if age_max_ms > 0 or folded_to_ms > 0 or issued_ms > 0 then
  local now = redis.call('TIME')
  now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
end
local kill = redis.call('GET', kill_key)
if kill then
  kill = string.lower(string.gsub(kill, '%s+', ''))
  if kill ~= '' and kill ~= '0' and kill ~= 'false' then refusal = 'killed' end
elseif kill_was_set == '1' then
  refusal = 'killed'
end
if refusal == '' and age_max_ms > 0 and now_ms - cause_ms > age_max_ms then refusal = 'max_decision_age' end
if record_only then refusal = '' end
if refusal == '' and folded_to_ms > 0 and now_ms - folded_to_ms > folded_age_max_ms then return {'behind', ''} end
if refusal ~= '' and issued_ms > 0 then
  local last = redis.call('XREVRANGE', control, '+', '-', 'COUNT', 1)[1]
  local id_ms = last and math.max(now_ms, tonumber(string.match(last[1], '^%d+'))) or now_ms
  if math.abs(id_ms - issued_ms) > 30000 then return {'late', string.format('%.0f', id_ms)} end
end
local function append(stream, is_ours, from, to)
  if is_ours and length_max > 0 then
    return redis.pcall('XADD', stream, 'MAXLEN', '~', length_max, '*', unpack(ARGV, from, to))
  end
  return redis.pcall('XADD', stream, '*', unpack(ARGV, from, to))
end
-- The greatest id counts also where its entry was deleted. The first write may fail: nothing was written before it.
local second = refusal ~= '' and control or (#ARGV > begin + fields and not known) and requests
local told = second and redis.pcall('XINFO', 'STREAM', second) or {}
if told.err and not string.find(told.err, 'no such key', 1, true) then return told end
for at = 1, #told, 2 do
  if told[at] == 'last-generated-id' and told[at + 1] == greatest then return {'unfit', second, 'ids'} end
end
local written = append(decisions, true, begin + 1, begin + fields)
if written.err then
  if string.find(written.err, 'exhausted the last possible ID', 1, true) then return {'unfit', decisions, 'ids'} end
  return written
end
local requested = ''
if refusal ~= '' then
  local expired = signed[refusal]
  if expired then
    redis.call('XADD', control, '*', 'event_type', 'decision.expired', 'payload', expired[1], 'signature', expired[2])
  else
    local payload = cjson.encode({decision_id = decision_id, reason = refusal})
    redis.call('XADD', control, '*', 'event_type', 'decision.expired', 'payload', payload)
  end
elseif #ARGV > begin + fields and not known then
  requested = append(requests, requests_are_ours, begin + 1 + fields, #ARGV)
  if requested.err then return requested end
end
local answer = written .. ' ' .. requested .. ' ' .. refusal
redis.call('HSET', memory, decision_id, answer)
return {'written', answer}";

/// Maximum number of attempts to issue a decision for the present time of the control stream. [1]
const TRIES_MAX: u32 = 5;

/// Maximum age of the folded data on which an order is offered. [ms]
const FOLDED_AGE_MAX_MS: u64 = 2_000;

/// The script's answer to an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offered {
    /// Another process holds the lease. Nothing was written.
    Stale,
    /// The decision before it in the pipeline was not written. Nothing was written.
    Halted,
    /// The memory of written ids contains this answer, and the stream disagrees. Nothing was written.
    Doubtful { known: String },
    /// The last written decision is no longer in the stream. Nothing was written.
    Lost,
    /// There may be new entries that are not folded yet. Nothing was written.
    Behind,
    /// A key to write to takes no entries. Nothing was written.
    Unfit { key: String, why: StreamFault },
    /// The decision is in the stream, written now or by an earlier offer.
    Written { decision: EntryId, request: Option<EntryId>, refusal: Option<String>, is_new: bool },
}

/// Maximum number of decisions per look-up. [1]
const PAGE_DECISIONS: usize = 500;

/// The streams and keys of an emitter.
#[derive(Clone, Debug)]
pub struct EmitKeys {
    pub lease: String,
    pub decisions: String,
    pub control: String,
    pub kill_key: String,
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
                // The rest of the pipeline was halted. It is offered again with a present time of issue.
                Ok(Some(Late { id_ms })) => {
                    self.ahead_ms = i64::try_from(id_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(local_ms());
                }
            }
        }
        // The ids of the stream are not times. Readers would not believe an entry that is signed for such an id, so the
        // stream is treated as full.
        answers.push(Offered::Unfit { key: self.keys.control.clone(), why: StreamFault::IdsExhausted });
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
                Answer::Offered(offered) => answers.push(offered),
                Answer::Late(late) => return Ok(Some(late)),
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
        call.arg(6).arg(&keys.lease).arg(memory_of(&keys.decisions)).arg(&keys.decisions);
        call.arg(requests).arg(&keys.control).arg(&keys.kill_key);
        let fields = self.fields(row);
        call.arg(&offer.lease).arg(&row.decision_id).arg(row.cause_ms).arg(offer.age_max_ms);
        call.arg(u8::from(offer.kill_was_set)).arg(offer.refusal.unwrap_or_default()).arg(keys.length_max);
        call.arg(fields.len() * 2).arg(u8::from(row.record_only)).arg(u8::from(request.is_some() && !row.live));
        call.arg(row.field("hash")).arg(u8::from(row.again));
        call.arg(offer.after.map_or_else(String::new, |after| after.to_string()));
        call.arg(offer.folded_to_ms).arg(FOLDED_AGE_MAX_MS);
        let expiries = expiries(keys, &row.decision_id, offer.refusal, issued_ms);
        call.arg(if keys.signing.is_some() { issued_ms } else { 0 }).arg(expiries);
        let needs = offer.needs.as_ref();
        call.arg(needs.map_or("", |needs| &needs.decision_id)).arg(needs.map_or("", |needs| &needs.hash));
        for (name, value) in fields.iter().chain(request.iter().flat_map(|(_, fields)| fields)) {
            call.arg(name).arg(value);
        }
    }

    /// Returns the fields of the `harvest.decision` entry. One that is written again gets a new id, for which an earlier
    /// key, or none, no longer counts.
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
    /// `tried` is the attempt before, and afterwards this one. An entry that was signed too long ago is signed again,
    /// unless the attempt before has written it.
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
                let sign = |key| {
                    let stamp = Stamp::new(next_ms, fastrand::u128(..));
                    issue::sign_fields(key, stream, fields, &stamp)
                };
                none.insert(Tried {
                    after: newest.first().map_or_else(EntryId::default, |entry| entry.id),
                    fields: key.as_ref().map_or_else(|| fields.to_vec(), sign),
                    issued_ms: next_ms,
                })
            }
        };
        self.server.add(stream, &borrowed(&attempt.fields)).await
    }

    /// Returns the `seq` of those decisions that the server has lost. A decision that is remembered and older than all
    /// entries of the stream was trimmed, not lost.
    pub async fn lost_of(&mut self, written: &[WrittenDecision]) -> Result<Vec<u64>, ServerError> {
        let failed = || self.server.failed("to look for decisions");
        let (stream, memory) = (&self.keys.decisions, memory_of(&self.keys.decisions));
        let mut lost = Vec::new();
        for page in written.chunks(PAGE_DECISIONS) {
            let mut pipeline = redis::pipe();
            pipeline.cmd("XRANGE").arg(stream).arg("-").arg("+").arg("COUNT").arg(1);
            for decision in page {
                pipeline.cmd("HGET").arg(&memory).arg(&decision.decision_id);
            }
            let mut connection = self.server.connection.clone();
            let answered: Result<Vec<Value>, RedisError> = pipeline.query_async(&mut connection).await;
            let mut answers = answered.map_err(failed())?.into_iter();
            let first = reply::entries(answers.next().unwrap_or_default()).map_err(failed())?.first().map(|e| e.id);
            let known: Vec<Option<EntryId>> = answers.map(remembered).collect();
            let asked = |(decision, known): (&WrittenDecision, &Option<EntryId>)| decision.entry.or(*known);
            let entries: Vec<Option<EntryId>> = page.iter().zip(&known).map(asked).collect();
            let mut pipeline = redis::pipe();
            // The first command keeps the pipeline from being empty, which would be an error.
            pipeline.cmd("XRANGE").arg(stream).arg("-").arg("+").arg("COUNT").arg(1).ignore();
            for id in entries.iter().flatten().map(EntryId::to_string) {
                pipeline.cmd("XRANGE").arg(stream).arg(&id).arg(&id);
            }
            let mut connection = self.server.connection.clone();
            let answered: Result<Vec<Value>, RedisError> = pipeline.query_async(&mut connection).await;
            let mut answers = answered.map_err(failed())?.into_iter();
            for ((decision, known), entry) in page.iter().zip(known).zip(entries) {
                let found = match entry {
                    Some(_) => !reply::entries(answers.next().unwrap_or_default()).map_err(failed())?.is_empty(),
                    None => false,
                };
                let is_trimmed = known.is_some() && known == entry && first.is_some_and(|first| entry < Some(first));
                if !found && !is_trimmed {
                    lost.push(decision.seq);
                }
            }
        }
        Ok(lost)
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

/// Returns the entry id in an answer of the memory of written ids.
fn remembered(answered: Value) -> Option<EntryId> {
    let text = reply::text(answered, "the memory is no text").ok()?;
    text.split(' ').next()?.parse().ok()
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
    let signed = match key {
        Some(key) => {
            let stamp = Stamp::new(server.next_id_ms(stream).await?, fastrand::u128(..));
            issue::sign_fields(key, stream, fields, &stamp)
        }
        None => fields.to_vec(),
    };
    server.add(stream, &borrowed(&signed)).await
}

/// The script's answer to one offer.
enum Answer {
    Offered(Offered),
    Late(Late),
}

/// The time of the control stream differs from the time of issue.
struct Late {
    /// [ms since 1970]
    id_ms: u64,
}

fn read_answer(reply: Value) -> Result<Answer, RedisError> {
    let mut parts = reply::array(reply, "the script answered no list")?.into_iter();
    let mut text = |what| reply::text(parts.next().unwrap_or_default(), what);
    let word = text("the script answered no word")?;
    let no_ids = |answer: &str| {
        let kind = redis::ErrorKind::UnexpectedReturnType;
        RedisError::from((kind, "the script answered no ids", answer.to_owned()))
    };
    Ok(Answer::Offered(match word.as_str() {
        "stale" => Offered::Stale,
        "halted" => Offered::Halted,
        "lost" => Offered::Lost,
        "behind" => Offered::Behind,
        "unfit" => {
            let key = text("the script named no key")?;
            let is_ids = text("the script named no fault")? == "ids";
            Offered::Unfit { key, why: if is_ids { StreamFault::IdsExhausted } else { StreamFault::NotAStream } }
        }
        "doubt" => Offered::Doubtful { known: text("the script answered no ids")? },
        "late" => {
            let id_ms = text("the script answered no time")?;
            return Ok(Answer::Late(Late { id_ms: id_ms.parse().map_err(|_| no_ids(&id_ms))? }));
        }
        word => {
            let answer = text("the script answered no ids")?;
            written(&answer, word == "written").ok_or_else(|| no_ids(&answer))?
        }
    }))
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

/// Parses `decision-id request-id refusal`. The last two may be empty.
fn written(answer: &str, is_new: bool) -> Option<Offered> {
    let mut parts = answer.splitn(3, ' ');
    let decision = parts.next()?.parse().ok()?;
    let request = Some(parts.next()?).filter(|id| !id.is_empty()).map(str::parse).transpose().ok()?;
    let refusal = Some(parts.next()?).filter(|reason| !reason.is_empty()).map(str::to_owned);
    Some(Offered::Written { decision, request, refusal, is_new })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_script_remembers() {
        let decision = EntryId::new(5, 1);
        let sent = Offered::Written { decision, request: Some(EntryId::new(5, 2)), refusal: None, is_new: true };
        assert_eq!(written("5-1 5-2 ", true), Some(sent));
        let refused = Offered::Written { decision, request: None, refusal: Some("killed".to_owned()), is_new: true };
        assert_eq!(written("5-1  killed", true), Some(refused));
        assert_eq!(written("5-1", true), None);
    }
}
