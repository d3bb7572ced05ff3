//! The look at decisions that were written: whether they are still in their stream, and what is remembered of them.

use redis::{RedisError, Value};

use super::{Emitter, memory_of};
use crate::domain::delivery::action::{FirstDecision, Looked, Remembered, WrittenDecision};
use crate::domain::event::ids::EntryId;
use crate::shell::redis::reply::{self, RawEntry};
use crate::shell::redis::server::ServerError;

/// Maximum number of decisions per look-up. [1]
const PAGE_DECISIONS: usize = 500;

impl Emitter {
    /// Looks for decisions that were written. Returns what the server has of each.
    pub async fn look_for(&mut self, written: &[WrittenDecision]) -> Result<Vec<Looked>, ServerError> {
        let mut looked = Vec::with_capacity(written.len());
        for page in written.chunks(PAGE_DECISIONS) {
            let answered = self.look_for_page(page).await;
            looked.extend(answered.map_err(self.server.failed("to look for decisions"))?);
        }
        Ok(looked)
    }

    async fn look_for_page(&self, page: &[WrittenDecision]) -> Result<Vec<Looked>, RedisError> {
        let (stream, memory) = (&self.keys.decisions, memory_of(&self.keys.decisions));
        let mut pipeline = redis::pipe();
        pipeline.cmd("XRANGE").arg(stream).arg("-").arg("+").arg("COUNT").arg(1);
        for decision in page {
            pipeline.cmd("HGET").arg(&memory).arg(&decision.decision_id);
        }
        let answers: Vec<Value> = pipeline.query_async(&mut self.server.connection.clone()).await?;
        let mut answers = answers.into_iter();
        let first = reply::entries(answers.next().unwrap_or_default())?.first().map(first_decision);
        let known: Vec<Option<EntryId>> = answers.map(remembered).collect();
        let mut pipeline = redis::pipe();
        // The first command keeps the pipeline from being empty, which would be an error.
        pipeline.cmd("XRANGE").arg(stream).arg("-").arg("+").arg("COUNT").arg(1).ignore();
        let ids = page.iter().zip(&known).flat_map(|(decision, known)| decision.entry.into_iter().chain(*known));
        for id in ids.map(|id| id.to_string()) {
            pipeline.cmd("XRANGE").arg(stream).arg(&id).arg(&id);
        }
        let answers: Vec<Value> = pipeline.query_async(&mut self.server.connection.clone()).await?;
        let mut answers = answers.into_iter();
        let mut is_there = |wanted: &WrittenDecision| -> Result<bool, RedisError> {
            let found = reply::entries(answers.next().unwrap_or_default())?;
            let mut pairs = found.iter().flat_map(|entry| entry.pairs());
            Ok(pairs.any(|(name, value)| name == b"hash" && value == wanted.hash.as_bytes()))
        };
        let mut looked = Vec::with_capacity(page.len());
        for (wanted, known) in page.iter().zip(known) {
            let (seq, entry) = (wanted.seq, wanted.entry);
            let is_it = match entry {
                Some(_) => is_there(wanted)?,
                None => false,
            };
            let remembered = match known {
                Some(entry) => {
                    let is_trimmed = first.is_some_and(|first| first.shows_trimmed(seq, entry));
                    Some(Remembered { entry, is_there: is_there(wanted)?, is_trimmed })
                }
                None => None,
            };
            looked.push(Looked { seq, entry, is_there: is_it, remembered });
        }
        Ok(looked)
    }
}

fn first_decision(entry: &RawEntry) -> FirstDecision {
    let seq = entry.pairs().iter().find(|(name, _)| name == b"seq");
    let seq = seq.and_then(|(_, value)| std::str::from_utf8(value).ok()?.parse().ok());
    FirstDecision { entry: entry.id, seq }
}

/// Returns the entry id in an answer of the memory of written ids.
fn remembered(answered: Value) -> Option<EntryId> {
    let text = reply::text(answered, "the memory is no text").ok()?;
    text.split(' ').next()?.parse().ok()
}
