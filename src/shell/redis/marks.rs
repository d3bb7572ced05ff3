//! Writes mark prices: as entries of the price stream, and into the two hashes that other services read.

use std::time::Duration;

use redis::{RedisResult, Value};

use super::in_time::unless_late;
use super::reply;
use super::server::{Server, ServerError};

/// A mark price in the form in which it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkText {
    pub symbol: String,
    /// Payload of the stream entry.
    pub payload: String,
    /// [quote per base]
    pub price: String,
    /// Time at which the exchange computed the price. [ms since 1970]
    pub time_ms: u64,
}

/// The destinations of mark prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkPlaces {
    pub stream: String,
    /// Approximate number of entries that the stream keeps. [1]
    pub entries_max: u64,
    /// Lifetime of the hashes after their last price.
    pub expiry: Duration,
}

/// Writes mark prices, each to an entry and two hashes. KEYS: the stream, and for each price its two hashes; ARGV: the
/// limit of time, the number of entries to keep, the lifetime of the hashes in ms, and for each price the payload, the
/// price, and its time in ms and in s.
const WRITE: &str = concat!(
    unless_late!(),
    "local at = 4
for key = 2, #KEYS, 2 do
  local payload, price, ms, s = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'event_type', 'market.mark', 'payload', payload, 'source', 'harvester')
  redis.call('HSET', KEYS[key], 'markPrice', price, 'timestamp', ms)
  redis.call('PEXPIRE', KEYS[key], ARGV[3])
  redis.call('HSET', KEYS[key + 1], 'price', price, 'timestamp', s)
  redis.call('PEXPIRE', KEYS[key + 1], ARGV[3])
  at = at + 4
end
return 1"
);

/// Appends the entries of mark prices. KEYS[1]: the stream; ARGV: the limit of time, the number of entries to keep, and
/// the payloads.
const WRITE_ENTRIES: &str = concat!(
    unless_late!(),
    "for at = 3, #ARGV do
  redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'event_type', 'market.mark', 'payload', ARGV[at], 'source', 'harvester')
end
return 1"
);

/// Sets two fields of a hash, and its lifetime, in one step. KEYS[1]; ARGV: a field, its value, the other field, its
/// value, and the lifetime in ms.
const WRITE_HASH: &str = "redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
return redis.call('PEXPIRE', KEYS[1], ARGV[5])";

impl Server {
    /// Writes mark prices, each to all three destinations in one step. In a cluster the destinations are on several
    /// servers; there, each destination is written in one step, and only the entries have a limit of time: a hash states
    /// the time of its price. Returns false if no time was left: then nothing is written.
    ///
    /// `left` returns the time that is left now.
    pub async fn write_marks(
        &mut self,
        places: &MarkPlaces,
        marks: &[MarkText],
        left: impl Fn() -> Duration,
    ) -> Result<bool, ServerError> {
        if marks.is_empty() {
            return Ok(true);
        }
        let Some(until_ms) = self.until_ms(&places.stream, left).await? else { return Ok(false) };
        let answered = if self.is_cluster() {
            self.write_marks_by_key(places, marks, until_ms).await
        } else {
            self.write_marks_at_once(places, marks, until_ms).await
        };
        answered.map_err(self.failed(format!("to write {} mark prices", marks.len())))
    }

    async fn write_marks_at_once(
        &mut self,
        places: &MarkPlaces,
        marks: &[MarkText],
        until_ms: u64,
    ) -> RedisResult<bool> {
        let mut arguments = vec![until_ms.to_string(), places.entries_max.to_string(), expiry_ms(places).to_string()];
        let mut keys = vec![places.stream.clone()];
        for mark in marks {
            keys.extend(hashes_of(mark));
            let (ms, s) = (mark.time_ms.to_string(), (mark.time_ms / 1_000).to_string());
            arguments.extend([mark.payload.clone(), mark.price.clone(), ms, s]);
        }
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        Ok(self.run(WRITE, &keys, &arguments).await? != Value::Nil)
    }

    async fn write_marks_by_key(
        &mut self,
        places: &MarkPlaces,
        marks: &[MarkText],
        until_ms: u64,
    ) -> RedisResult<bool> {
        let payloads = marks.iter().map(|mark| mark.payload.clone());
        let arguments: Vec<String> =
            [until_ms.to_string(), places.entries_max.to_string()].into_iter().chain(payloads).collect();
        if self.run(WRITE_ENTRIES, &[&places.stream], &arguments).await? == Value::Nil {
            return Ok(false);
        }
        let hash = |key: String, price: (&str, &str), time: u64| {
            let mut command = redis::cmd("EVAL");
            command.arg(WRITE_HASH).arg(1).arg(&key).arg(price.0).arg(price.1).arg("timestamp").arg(time);
            command.arg(expiry_ms(places));
            (key, command)
        };
        let mut commands = Vec::with_capacity(marks.len() * 2);
        for mark in marks {
            let [ticker, market] = hashes_of(mark);
            commands.push(hash(ticker, ("markPrice", &mark.price), mark.time_ms));
            commands.push(hash(market, ("price", &mark.price), mark.time_ms / 1_000));
        }
        let answers = self.query_all(&commands).await?;
        reply::first_error(&answers).map_or(Ok(true), Err)
    }
}

/// Returns the keys of the two hashes of a price.
fn hashes_of(mark: &MarkText) -> [String; 2] {
    [format!("quantum:ticker:{}", mark.symbol), format!("quantum:market:{}", mark.symbol)]
}

fn expiry_ms(places: &MarkPlaces) -> u64 {
    u64::try_from(places.expiry.as_millis()).unwrap_or(u64::MAX)
}
