//! The script that writes one decision, and its answers.

use redis::{RedisError, Value};

use super::arguments::read_arguments;
use crate::domain::event::ids::EntryId;
use crate::shell::redis::reply;
use crate::shell::redis::server::StreamFault;

/// The script that writes one decision. Its answers, by the first that applies:
///
/// - `stale`: another process has the lease;
/// - `unfit` (wrong type): a stream to write to, or the memory, is a key of another type; with the key;
/// - `known`: written before; also if it is only to be recorded, and its entry was trimmed since;
/// - `doubt`: the memory contains the decision, and the stream does not;
/// - `halted`: the decision before it in the pipeline was not written;
/// - `unfit` (exhausted ids): a stream has an entry with the greatest id; with the key;
/// - `lost`: the last written entry is no longer in the stream;
/// - `behind`: the order is based on data that was read too long ago, or that lacks an entry;
/// - `late`: an entry of the control stream would get an id far from the time of its issue, so it must be signed again;
/// - `unfit` (exhausted ids): the greatest id of a stream was given to an entry that was deleted since; with the key;
/// - `unfit` (no right): our user may not write to a stream, or to the memory; with the key;
/// - `written`.
///
/// The script reads the kill key itself, so that nothing can happen between check and write. A kill key that was set
/// and is now missing still counts as set, and so does one of another type (docs/spec/emission.md, "Kill key").
pub(super) const EMIT: &str = concat!(
    r"
local lease, memory, decisions, requests, control, kill_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
-- The number of arguments that were read. The fields of the entries come after them.
local begin = 0
local function text() begin = begin + 1 return ARGV[begin] end
local function number() return tonumber(text()) end
local function flag() return text() == '1' end
local function json() return cjson.decode(text()) end
",
    read_arguments!(),
    r"
local folded = {}
for at = 1, facts do folded[at] = {key = KEYS[6 + at], after = text(), seen = number()} end
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
-- The stream begins behind this entry, and not with an earlier decision: those are written again first.
local function is_trimmed(id)
  id = string.match(id, '^(%d+%-%d+) ')
  local before = id and redis.pcall('XRANGE', decisions, '-', id, 'COUNT', 1)
  local first = before and not before.err and not before[1] and redis.call('XRANGE', decisions, '-', '+', 'COUNT', 1)[1]
  if not first then return false end
  local seq, first_seq = nil, nil
  for at = begin + 1, begin + fields, 2 do
    if ARGV[at] == 'seq' then seq = tonumber(ARGV[at + 1]) end
  end
  for at = 1, #first[2], 2 do
    if first[2][at] == 'seq' then first_seq = tonumber(first[2][at + 1]) end
  end
  return not (seq and first_seq) or first_seq > seq
end
-- Everything before this time was to be folded. [ms since 1970]
local facts_before_ms = math.max(watermark_ms, cause_ms + 1)
-- An entry of before that time is there and not folded: another reader of the group took it. Or, of the entries that were
-- added since, some are neither read nor there. A server before 7.0 does not count.
local function lacks_facts(stream)
  local info, added = redis.pcall('XINFO', 'STREAM', stream.key), nil
  for at = 1, #info, 2 do
    if info[at] == 'entries-added' then added = info[at + 1] end
  end
  local unread = added and added - stream.seen or 0
  if unread < 0 or unread > 1000 then return true end
  local next = redis.pcall('XRANGE', stream.key, '(' .. stream.after, '+', 'COUNT', unread + 1)
  if next.err then return false end
  local first_ms = next[1] and tonumber(string.match(next[1][1], '^%d+'))
  return first_ms and first_ms < facts_before_ms or added and #next ~= unread
end
local known, found, is_same, failed = remembered(decision_id, hash)
if failed then return is_other_kind(failed.err) and {'unfit', memory, 'hash'} or failed end
if is_same then return {'known', known} end
if known and (found or not (again or record_only)) then return {'doubt', known} end
if known and is_trimmed(known) then return {'known', known} end
if needed_id ~= '' then
  local _, _, is_written = remembered(needed_id, needed_hash)
  if not is_written then return {'halted'} end
end
if full then return {'unfit', full, 'ids'} end
if after ~= '' and not entry(after) then return {'lost', after} end
local now_ms = 0
if age_max_ms > 0 or watermark_ms > 0 or issued_ms > 0 then
  local now = redis.call('TIME')
  now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
end
-- A key that holds something else kills: it refuses the order, and never the record.
local kill = redis.pcall('GET', kill_key)
if type(kill) == 'table' then
  if not is_other_kind(kill.err) then return kill end
  refusal = 'killed'
elseif kill then
  kill = string.lower(string.gsub(kill, '%s+', ''))
  if kill ~= '' and kill ~= '0' and kill ~= 'false' then refusal = 'killed' end
elseif kill_was_set then
  refusal = 'killed'
end
-- A time ahead of the clock is no age: the clock went back.
if refusal == '' and age_max_ms > 0 and (now_ms - cause_ms > age_max_ms or cause_ms - now_ms > watermark_age_max_ms) then
  refusal = 'max_decision_age'
end
if record_only then refusal = '' end
if refusal == '' and watermark_ms > 0 then
  if math.abs(now_ms - watermark_ms) > watermark_age_max_ms then return {'behind', ''} end
  for _, stream in ipairs(folded) do
    if lacks_facts(stream) then return {'behind', ''} end
  end
end
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
local has_request = #ARGV > begin + fields and not known
local second = refusal ~= '' and control or has_request and requests
local info = second and redis.pcall('XINFO', 'STREAM', second) or {}
if info.err and not string.find(info.err, 'no such key', 1, true) then return info end
for at = 1, #info, 2 do
  if info[at] == 'last-generated-id' and info[at + 1] == greatest then return {'unfit', second, 'ids'} end
end
-- A right that our user lacks is found before the first write, too. A server before 7.0 cannot be asked.
local writes = {{'XADD', decisions, '*', 'name', 'value'}}
if refusal ~= '' or has_request then table.insert(writes, {'XADD', control, '*', 'name', 'value'}) end
if has_request then table.insert(writes, {'XADD', requests, '*', 'name', 'value'}) end
table.insert(writes, {'HSET', memory, decision_id, 'answer'})
for _, write in ipairs(writes) do
  if redis.acl_check_cmd and not redis.acl_check_cmd(unpack(write)) then return {'unfit', write[2], 'right'} end
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
elseif has_request then
  requested = append(requests, requests_are_ours, begin + 1 + fields, #ARGV)
  if requested.err then return requested end
end
local answer = written .. ' ' .. requested .. ' ' .. refusal
redis.call('HSET', memory, decision_id, answer)
return {'written', answer}"
);

/// The reason why a key of the output accepts nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputFault {
    /// It must be a stream.
    Stream(StreamFault),
    /// It must be a hash, the memory of written ids, and is something else.
    NotAHash,
    /// Our user has no right to write to it.
    NotPermitted,
}

impl OutputFault {
    /// Returns the fault in words, with the next step.
    pub const fn says(self) -> &'static str {
        match self {
            Self::Stream(fault) => fault.says(),
            Self::NotAHash => {
                "is not a hash: the memory of written ids was replaced by something else; find who writes the key, and RENAME it \
                 out of the way"
            }
            Self::NotPermitted => {
                "is closed to the user of the service; give the user the rights that tools/deploy/redis.acl has for it"
            }
        }
    }
}

/// The script's answer to an offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offered {
    /// Another process has the lease. Nothing was written.
    Stale,
    /// The decision before it in the pipeline was not written. Nothing was written.
    Halted,
    /// The memory of written ids contains this answer, and the stream does not confirm it. Nothing was written.
    Doubtful { known: String },
    /// The last written decision is no longer in the stream. Nothing was written.
    Lost,
    /// There may be entries that are not folded yet, that another reader took, or that were lost. Nothing was written.
    Behind,
    /// A key accepts no entries. Nothing was written.
    Unfit { key: String, why: OutputFault },
    /// The decision is in the stream, written now or by an earlier offer.
    Written { decision: EntryId, request: Option<EntryId>, refusal: Option<String>, is_new: bool },
}

/// The script's answer to one offer.
pub(super) enum ScriptAnswer {
    Offered(Offered),
    Late(Late),
}

/// The time of the control stream differs from the time of issue.
pub(super) struct Late {
    /// [ms since 1970]
    pub(super) id_ms: u64,
}

pub(super) fn read_answer(reply: Value) -> Result<ScriptAnswer, RedisError> {
    let mut parts = reply::array(reply, "the script answered no list")?.into_iter();
    let mut text = |what| reply::text(parts.next().unwrap_or_default(), what);
    let word = text("the script answered no word")?;
    let no_ids = |answer: &str| {
        let kind = redis::ErrorKind::UnexpectedReturnType;
        RedisError::from((kind, "the script answered no ids", answer.to_owned()))
    };
    Ok(ScriptAnswer::Offered(match word.as_str() {
        "stale" => Offered::Stale,
        "halted" => Offered::Halted,
        "lost" => Offered::Lost,
        "behind" => Offered::Behind,
        "unfit" => {
            let key = text("the script named no key")?;
            let why = match text("the script named no fault")?.as_str() {
                "ids" => OutputFault::Stream(StreamFault::IdsExhausted),
                "hash" => OutputFault::NotAHash,
                "right" => OutputFault::NotPermitted,
                _ => OutputFault::Stream(StreamFault::NotAStream),
            };
            Offered::Unfit { key, why }
        }
        "doubt" => Offered::Doubtful { known: text("the script answered no ids")? },
        "late" => {
            let id_ms = text("the script answered no time")?;
            return Ok(ScriptAnswer::Late(Late { id_ms: id_ms.parse().map_err(|_| no_ids(&id_ms))? }));
        }
        word => {
            let answer = text("the script answered no ids")?;
            written(&answer, word == "written").ok_or_else(|| no_ids(&answer))?
        }
    }))
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
