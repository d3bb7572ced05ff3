//! The check whether decisions that were written are still in their stream.

use redis::{RedisError, Value};

use super::{Emitter, memory_of};
use crate::domain::delivery::action::WrittenDecision;
use crate::domain::event::ids::EntryId;
use crate::shell::redis::reply;
use crate::shell::redis::server::ServerError;

/// Maximum number of decisions per look-up. [1]
const PAGE_DECISIONS: usize = 500;

impl Emitter {
    /// Returns the `seq` of those decisions that the server has lost. If Redis remembers a decision and it is older
    /// than all entries of the stream, it was trimmed and not lost.
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
}

/// Returns the entry id in an answer of the memory of written ids.
fn remembered(answered: Value) -> Option<EntryId> {
    let text = reply::text(answered, "the memory is not a text").ok()?;
    text.split(' ').next()?.parse().ok()
}
