//! Retires a cell for good, and begins the streams of a new cell after the end of its journal.

use redis::{RedisResult, Script, Value};

use super::emit::memory_of;
use super::lease::LeaseKeys;
use super::server::{Server, ServerError};
use crate::domain::event::ids::EntryId;

/// The value of a lease that no process takes any more. It is not of the form `token consumer nonce`, and does not
/// expire.
pub(super) const RETIRED: &str = "retired by harvester cells split";

/// Takes a lease for good if it is free. Returns its value afterwards. The fencing token grows, so an offer of an
/// earlier holder is refused.
const RETIRE: &str = r"
local held = redis.call('GET', KEYS[1])
if held then return held end
redis.call('INCR', KEYS[2])
redis.call('SET', KEYS[1], ARGV[1])
return ARGV[1]";

/// Releases a lease that was taken for good.
const RESTORE: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])";

/// The group that is created for a moment in order to create an empty stream.
const GROUP: &str = "harvester-cells-split";

impl Server {
    /// Returns the holder of a lease; `None` if it is free or retired.
    pub async fn holder_of(&mut self, keys: &LeaseKeys) -> Result<Option<String>, ServerError> {
        let owner = self.get(&keys.lease).await?.map(|value| String::from_utf8_lossy(&value).into_owned());
        Ok(owner.filter(|value| value != RETIRED))
    }

    /// Returns true if a lease was taken for good.
    pub async fn is_retired(&mut self, keys: &LeaseKeys) -> Result<bool, ServerError> {
        Ok(self.get(&keys.lease).await?.is_some_and(|value| value == RETIRED.as_bytes()))
    }

    /// Retires a cell: no service takes its lease from now on. If there is a holder, returns it and changes nothing.
    pub async fn retire(&mut self, keys: &LeaseKeys) -> Result<Option<String>, ServerError> {
        let script = Script::new(RETIRE);
        let mut call = script.key(&keys.lease);
        let owner: RedisResult<String> =
            call.key(&keys.token).arg(RETIRED).invoke_async(&mut self.connection.clone()).await;
        let owner = owner.map_err(self.failed("to retire a lease"))?;
        Ok(Some(owner).filter(|value| value != RETIRED))
    }

    /// Undoes [`Self::retire`].
    pub async fn restore(&mut self, keys: &LeaseKeys) -> Result<(), ServerError> {
        let script = Script::new(RESTORE);
        let done: RedisResult<u8> =
            script.key(&keys.lease).arg(RETIRED).invoke_async(&mut self.connection.clone()).await;
        done.map(|_| ()).map_err(self.failed("to give a lease back"))
    }

    /// Creates an empty stream that continues after an id, as if it had already had this number of entries: the ids of
    /// its next entries are later, and its counts agree with a journal that contains those entries.
    pub async fn begin_after(&mut self, stream: &str, last: EntryId, entries: u64) -> Result<(), ServerError> {
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(stream).arg(GROUP).arg("0").arg("MKSTREAM");
        let mut set = redis::cmd("XSETID");
        set.arg(stream).arg(last.to_string());
        set.arg("ENTRIESADDED").arg(entries).arg("MAXDELETEDID").arg(last.to_string());
        let mut destroy = redis::cmd("XGROUP");
        destroy.arg("DESTROY").arg(stream).arg(GROUP);
        for command in [create, set, destroy] {
            let done: RedisResult<Value> = self.query(stream, &command).await;
            done.map_err(self.failed(format!("to begin {stream}")))?;
        }
        Ok(())
    }

    /// Notes decisions in the memory of written ids, each with the id of its entry.
    pub async fn remember_written(&mut self, decisions: &str, ids: &[(String, EntryId)]) -> Result<(), ServerError> {
        let memory = memory_of(decisions);
        let mut command = redis::cmd("HSET");
        command.arg(&memory);
        for (decision, entry) in ids {
            command.arg(decision).arg(entry.to_string());
        }
        let done: RedisResult<Value> = self.query(&memory, &command).await;
        done.map(|_| ()).map_err(self.failed(format!("to write {memory}")))
    }
}
