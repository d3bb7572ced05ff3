//! Writes that are refused once they are too late.
//!
//! A command whose answer does not come may still be on its way, and take effect later. So the server itself compares
//! its clock with a limit, in the same step in which it writes.

use std::time::Duration;

use redis::{RedisResult, Script, Value};

use super::reply;
use super::server::{Server, ServerError};
use crate::domain::event::ids::EntryId;

/// The head of a script that writes nothing after the time in ARGV[1]. [ms since 1970]
macro_rules! unless_late {
    () => {
        "local now = redis.call('TIME')
if now[1] * 1000 + math.floor(now[2] / 1000) > tonumber(ARGV[1]) then return false end
"
    };
}
pub(super) use unless_late;

/// Appends entries to KEYS[1]; ARGV: the limit, and for each entry the number of its names and values, and these.
const APPEND: &str = concat!(
    unless_late!(),
    "local ids, at = {}, 2
while at <= #ARGV do
  local last = at + tonumber(ARGV[at])
  ids[#ids + 1] = redis.call('XADD', KEYS[1], '*', unpack(ARGV, at + 1, last))
  at = last + 1
end
return ids"
);

impl Server {
    /// Appends entries under ids that the server assigns, in one step, and returns the ids. Returns `None` if no time
    /// is left when the server gets the command; then nothing is appended.
    ///
    /// `left` returns the time that is left now.
    pub async fn add_in_time(
        &mut self,
        stream: &str,
        entries: &[Vec<(&str, &str)>],
        left: impl Fn() -> Duration,
    ) -> Result<Option<Vec<EntryId>>, ServerError> {
        let Some(until_ms) = self.until_ms(stream, left).await? else { return Ok(None) };
        let mut arguments = vec![until_ms.to_string()];
        for fields in entries {
            arguments.push((2 * fields.len()).to_string());
            arguments.extend(fields.iter().flat_map(|(name, value)| [(*name).to_owned(), (*value).to_owned()]));
        }
        let answered = self.run(APPEND, &[stream], &arguments).await;
        let ids = answered.and_then(|answer| match answer {
            Value::Nil => Ok(None),
            answer => reply::array(answer, "ids of entries")?
                .into_iter()
                .map(reply::entry_id)
                .collect::<Result<_, _>>()
                .map(Some),
        });
        ids.map_err(self.failed(format!("to append to {stream}")))
    }

    /// Returns the time of the server of a key at which no time will be left; `None` if none is left now. It counts
    /// from the moment at which the answer arrived, so it is never too late. [ms since 1970]
    pub(super) async fn until_ms(
        &mut self,
        key: &str,
        left: impl Fn() -> Duration,
    ) -> Result<Option<u64>, ServerError> {
        let stated_ms = self.time_ms_at(key).await?;
        let left = left();
        let left_ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
        Ok((!left.is_zero()).then(|| stated_ms.saturating_add(left_ms)))
    }

    /// Runs a script on the server of its first key.
    pub(super) async fn run(&mut self, script: &str, keys: &[&str], arguments: &[String]) -> RedisResult<Value> {
        let key = *keys.first().expect("a script has a key");
        let mut call = redis::cmd("EVALSHA");
        call.arg(Script::new(script).get_hash()).arg(keys.len()).arg(keys).arg(arguments);
        let is_unknown = |answered: &RedisResult<Value>| match answered {
            Err(error) => error.code() == Some("NOSCRIPT"),
            Ok(Value::ServerError(error)) => error.code() == "NOSCRIPT",
            Ok(_) => false,
        };
        let answered = self.query(key, &call).await;
        if !is_unknown(&answered) {
            return answered.and_then(reply::checked);
        }
        let mut load = redis::cmd("SCRIPT");
        let _: Value = self.query(key, load.arg("LOAD").arg(script)).await?;
        self.query(key, &call).await.and_then(reply::checked)
    }
}
