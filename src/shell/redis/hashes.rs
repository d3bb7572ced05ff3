//! Hashes of other services: reads them by exact name, and updates their fields without ever creating or removing a
//! hash.

use redis::{Cmd, RedisResult, Script, Value};

use super::reply;
use super::server::{FieldBytes, Server, ServerError};

/// Changes fields of a hash in one step: only in an existing hash, and only if the fields still have the values that
/// were read.
///
/// KEYS[1]; ARGV, repeated per field: name, whether it was present (0 or 1), value that was read, new value. Returns -1
/// if there is no hash, otherwise the number of fields that have changed since. If one has changed, it writes none.
const WRITE_BACK: &str = r"
local kind = redis.call('TYPE', KEYS[1]).ok
if kind ~= 'hash' then return -1 end
local changed = 0
for i = 1, #ARGV, 4 do
  local now = redis.call('HGET', KEYS[1], ARGV[i])
  local was = ARGV[i + 1] == '1' and ARGV[i + 2] or false
  if now ~= was then changed = changed + 1 end
end
if changed > 0 then return changed end
for i = 1, #ARGV, 4 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 3])
end
return 0
";

/// Price and time of a symbol's price hash, as text, if present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceText {
    pub price: Option<String>,
    pub timestamp: Option<String>,
}

/// All fields of a hash, as text.
pub type HashText = Vec<(String, String)>;

/// Both price hashes of one symbol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceTexts {
    /// `quantum:ticker:{SYMBOL}`: `markPrice`, `timestamp` [ms since 1970].
    pub ticker: PriceText,
    /// `quantum:market:{SYMBOL}`: `price`, `timestamp` [s since 1970].
    pub market: PriceText,
}

/// A field to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldChange {
    pub field: &'static str,
    /// The value that was read; `None` if the field was absent.
    pub old: Option<String>,
    pub new: String,
}

/// The result of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Done,
    /// The hash no longer exists; none was created.
    Missing,
    /// Another process wrote in between; nothing was written.
    Overtaken,
}

impl Server {
    /// Returns both price hashes of each symbol, in one round trip. A key that is not a hash is treated as absent.
    pub async fn price_hashes(&mut self, symbols: &[&str]) -> Result<Vec<PriceTexts>, ServerError> {
        let command = |key: String, price: &str| {
            let mut command = redis::cmd("HMGET");
            command.arg(&key).arg(price).arg("timestamp");
            (key, command)
        };
        let of_symbol = |symbol: &&str| {
            let (ticker, market) = (format!("quantum:ticker:{symbol}"), format!("quantum:market:{symbol}"));
            [command(ticker, "markPrice"), command(market, "price")]
        };
        let commands: Vec<(String, Cmd)> = symbols.iter().flat_map(of_symbol).collect();
        let answered = self.query_all(&commands).await.map_err(self.failed("to read the price hashes"))?;
        let texts =
            |answer: &Value| reply::checked(answer.clone()).and_then(|answer| Ok(redis::from_redis_value(answer)?));
        let text = |answer: Option<&Value>| match answer.map(texts) {
            Some(Ok((price, timestamp))) => PriceText { price, timestamp },
            Some(Err(_)) | None => PriceText::default(),
        };
        Ok(answered
            .chunks(2)
            .map(|pair| PriceTexts { ticker: text(pair.first()), market: text(pair.get(1)) })
            .collect())
    }

    /// Returns all fields of each hash, in one round trip; `None` if there is no hash.
    pub async fn hashes(&mut self, keys: &[String]) -> Result<Vec<Option<HashText>>, ServerError> {
        let command = |key: &String| {
            let mut command = redis::cmd("HGETALL");
            command.arg(key);
            (key.clone(), command)
        };
        let answered = self.query_all(&keys.iter().map(command).collect::<Vec<_>>()).await;
        let answered = answered.map_err(self.failed("to read hashes"))?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let of = |answer: Value| {
            let fields: Vec<FieldBytes> = redis::from_redis_value(reply::checked(answer).ok()?).ok()?;
            let fields: Vec<_> = fields.into_iter().map(|(name, value)| (text(name), text(value))).collect();
            (!fields.is_empty()).then_some(fields)
        };
        Ok(answered.into_iter().map(of).collect())
    }

    /// Returns the names of hashes that consist of a prefix and a plain symbol.
    pub async fn symbol_hashes(&mut self, prefix: &str) -> Result<Vec<String>, ServerError> {
        let mut found = std::collections::BTreeSet::new();
        for primary in 0..self.primaries().len() {
            let mut cursor = 0_u64;
            loop {
                let mut command = redis::cmd("SCAN");
                let pattern = format!("{}*", escaped(prefix));
                command.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(1000).arg("TYPE").arg("hash");
                let (next, keys): (u64, Vec<Vec<u8>>) = self
                    .query_primary(primary, &command)
                    .await
                    .map_err(self.failed(format!("to look for keys {prefix}…")))?;
                let symbols = keys.iter().filter_map(|key| std::str::from_utf8(key).ok()?.strip_prefix(prefix));
                found.extend(symbols.filter(|symbol| is_symbol(symbol)).map(str::to_owned));
                cursor = next;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    /// Changes fields of a hash, all or none, in one step on the server.
    pub async fn write_back(&mut self, key: &str, changes: &[FieldChange]) -> Result<Written, ServerError> {
        let mut call = redis::cmd("EVALSHA");
        call.arg(Script::new(WRITE_BACK).get_hash()).arg(1).arg(key);
        for change in changes {
            call.arg(change.field)
                .arg(u8::from(change.old.is_some()))
                .arg(change.old.as_deref().unwrap_or_default())
                .arg(&change.new);
        }
        let mut answered: RedisResult<i64> = self.query(key, &call).await;
        if answered.as_ref().is_err_and(|error| error.code() == Some("NOSCRIPT")) {
            let mut load = redis::cmd("SCRIPT");
            load.arg("LOAD").arg(WRITE_BACK);
            let loaded: RedisResult<Value> = self.query(key, &load).await;
            loaded.map_err(self.failed("to load the script of write-back"))?;
            answered = self.query(key, &call).await;
        }
        Ok(match answered.map_err(self.failed(format!("to write to {key}")))? {
            0 => Written::Done,
            -1 => Written::Missing,
            _ => Written::Overtaken,
        })
    }
}

/// Returns a prefix with the special characters of a pattern escaped.
fn escaped(prefix: &str) -> String {
    let mut escaped = String::with_capacity(prefix.len());
    for letter in prefix.chars() {
        if matches!(letter, '*' | '?' | '[' | ']' | '^' | '\\') {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// Returns true if a text is a plain symbol. Keys of other things share the prefixes:
/// `quantum:position:snapshot:BTCUSDT` is not the hash of a symbol.
fn is_symbol(text: &str) -> bool {
    !text.is_empty() && !text.contains(':') && text.chars().all(|c| !c.is_lowercase() && !c.is_whitespace())
}
