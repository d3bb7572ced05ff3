//! Streams as far as they reach, without a group; and appending to one of ours.

use redis::{Pipeline, RedisError, RedisResult};

use super::server::{FieldBytes, Server, ServerError};
use crate::domain::ids::EntryId;

/// One entry of a stream, its fields in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeEntry {
    pub id: EntryId,
    pub fields: Vec<FieldBytes>,
}

/// An entry as it is answered.
type RawEntry = (String, Vec<FieldBytes>);

impl Server {
    /// The server's clock. [ms since 1970]
    pub async fn time_ms(&mut self) -> Result<u64, ServerError> {
        let answered: RedisResult<(u64, u64)> = redis::cmd("TIME").query_async(&mut self.connection).await;
        let (seconds, microseconds) = answered.map_err(self.failed("to tell its time"))?;
        Ok(seconds.saturating_mul(1000).saturating_add(microseconds / 1000))
    }

    /// At most `count` entries behind an id, oldest first; from the first one where there is none.
    pub async fn range_after(
        &mut self,
        stream: &str,
        after: Option<EntryId>,
        count: usize,
    ) -> Result<Vec<RangeEntry>, ServerError> {
        let from = after.map_or_else(|| "-".to_owned(), |after| format!("({after}"));
        let mut command = redis::cmd("XRANGE");
        command.arg(stream).arg(from).arg("+").arg("COUNT").arg(count);
        self.entries(command, stream).await
    }

    /// The newest entries of a stream, newest first.
    pub async fn newest(&mut self, stream: &str, count: usize) -> Result<Vec<RangeEntry>, ServerError> {
        let mut command = redis::cmd("XREVRANGE");
        command.arg(stream).arg("+").arg("-").arg("COUNT").arg(count);
        self.entries(command, stream).await
    }

    async fn entries(&mut self, command: redis::Cmd, stream: &str) -> Result<Vec<RangeEntry>, ServerError> {
        let answered: RedisResult<Vec<RawEntry>> = command.query_async(&mut self.connection).await;
        let answered = answered.map_err(self.failed(format!("to read {stream}")))?;
        answered.into_iter().map(|(id, fields)| Ok(RangeEntry { id: self.id(&id, stream)?, fields })).collect()
    }

    /// Appends entries under ids that the server gives, in one round trip, and answers the ids.
    pub async fn add_all(&mut self, stream: &str, entries: &[Vec<(&str, &str)>]) -> Result<Vec<EntryId>, ServerError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::with_capacity(entries.len());
        for fields in entries {
            pipeline.cmd("XADD").arg(stream).arg("*").arg(fields.as_slice());
        }
        let answered: RedisResult<Vec<String>> = pipeline.query_async(&mut self.connection).await;
        let answered = answered.map_err(self.failed(format!("to append to {stream}")))?;
        answered.iter().map(|id| self.id(id, stream)).collect()
    }

    /// Removes entries of a stream of ours that are older than an id; answers how many.
    pub async fn trim_before(&mut self, stream: &str, id: EntryId) -> Result<u64, ServerError> {
        let mut command = redis::cmd("XTRIM");
        command.arg(stream).arg("MINID").arg(id.to_string());
        let answered = command.query_async(&mut self.connection).await;
        answered.map_err(self.failed(format!("to trim {stream}")))
    }

    fn id(&self, text: &str, stream: &str) -> Result<EntryId, ServerError> {
        text.parse().map_err(|_| {
            let source = (redis::ErrorKind::UnexpectedReturnType, "the answer holds no entry id", text.to_owned());
            let (server, doing) = (self.name.clone(), format!("to name an entry of {stream}"));
            ServerError::Failed { server, doing, source: RedisError::from(source) }
        })
    }
}
