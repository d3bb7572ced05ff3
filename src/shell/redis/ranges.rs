//! Reads ranges of streams without a consumer group, and appends to our own streams.

use redis::{Cmd, RedisResult, Value};

use super::reply::{self, RawEntry};
use super::server::{Server, ServerError};
use crate::domain::event::ids::EntryId;

/// Adds the range after an id up to and including `to` to a command.
///
/// The server refuses the greatest id as an exclusive start. No entry can follow it, so the command then asks for the
/// range from the end to the beginning, which is empty.
pub(super) fn add_range_after(command: &mut Cmd, after: EntryId, to: &str) {
    match after.next() {
        Some(from) => command.arg(from.to_string()).arg(to),
        None => command.arg("+").arg("-"),
    };
}

impl Server {
    /// Returns the server's clock; in a cluster, the clock of the owner of the home slot. [ms since 1970]
    pub async fn time_ms(&mut self) -> Result<u64, ServerError> {
        let answered: RedisResult<Value> = redis::cmd("TIME").query_async(&mut self.connection).await;
        Ok(answered.and_then(reply::time_us).map_err(self.failed("to tell its time"))? / 1000)
    }

    /// Returns the clock of the server that has a key. [ms since 1970]
    pub async fn time_ms_at(&mut self, key: &str) -> Result<u64, ServerError> {
        let answered: RedisResult<Value> = self.query(key, &redis::cmd("TIME")).await;
        Ok(answered.and_then(reply::time_us).map_err(self.failed("to tell its time"))? / 1000)
    }

    /// Returns at most `count` entries after an id, oldest first. Without an id it starts at the first entry.
    pub async fn range_after(
        &mut self,
        stream: &str,
        after: Option<EntryId>,
        count: usize,
    ) -> Result<Vec<RawEntry>, ServerError> {
        let mut command = redis::cmd("XRANGE");
        add_range_after(command.arg(stream), after.unwrap_or_default(), "+");
        command.arg("COUNT").arg(count);
        self.entries(command, stream).await
    }

    /// Returns the newest entries of a stream, newest first.
    pub async fn newest(&mut self, stream: &str, count: usize) -> Result<Vec<RawEntry>, ServerError> {
        let mut command = redis::cmd("XREVRANGE");
        command.arg(stream).arg("+").arg("-").arg("COUNT").arg(count);
        self.entries(command, stream).await
    }

    async fn entries(&mut self, command: Cmd, stream: &str) -> Result<Vec<RawEntry>, ServerError> {
        let answered: RedisResult<Value> = self.query(stream, &command).await;
        answered.and_then(reply::entries).map_err(self.failed(format!("to read {stream}")))
    }

    /// Appends entries under ids that the server assigns, in one round trip, and returns the ids.
    pub async fn add_all(&mut self, stream: &str, entries: &[Vec<(&str, &str)>]) -> Result<Vec<EntryId>, ServerError> {
        let command = |fields: &Vec<(&str, &str)>| {
            let mut command = redis::cmd("XADD");
            command.arg(stream).arg("*").arg(fields.as_slice());
            (stream.to_owned(), command)
        };
        let answered = self.query_all(&entries.iter().map(command).collect::<Vec<_>>()).await;
        let ids = answered.and_then(|ids| ids.into_iter().map(reply::entry_id).collect());
        ids.map_err(self.failed(format!("to append to {stream}")))
    }

    /// Removes the entries of one of our streams that are older than an id, and returns their number.
    pub async fn trim_before(&mut self, stream: &str, id: EntryId) -> Result<u64, ServerError> {
        let mut command = redis::cmd("XTRIM");
        command.arg(stream).arg("MINID").arg(id.to_string());
        let answered = self.query(stream, &command).await;
        answered.map_err(self.failed(format!("to trim {stream}")))
    }
}
