//! The source of entries, as the reader sees it: a connection to the server, or the simulator's model of one.

use std::time::{Duration, Instant};

use super::reader_status::ReaderStatus;
use crate::domain::event::ids::EntryId;
use crate::shell::redis::{GroupState, Links, RawEntry, Round, RoundAnswer, Sent, ServerError, StreamStats, Take};

/// The requests of the reader. Streams are named by their index. [`Links`] describes each request.
pub trait Source {
    fn stream_stats(&mut self, after: &[EntryId]) -> Result<Vec<StreamStats>, ServerError>;
    fn count_between(&mut self, stream: usize, after: EntryId, to: EntryId) -> Result<u64, ServerError>;
    fn next_after(&mut self, stream: usize, after: EntryId) -> Result<Option<EntryId>, ServerError>;
    fn last_until(&mut self, stream: usize, to: EntryId) -> Result<Option<EntryId>, ServerError>;
    fn join(&mut self, stream: usize, from: EntryId) -> Result<GroupState, ServerError>;
    fn own_pending(&mut self, stream: usize, after: EntryId) -> Result<Vec<RawEntry>, ServerError>;
    fn claim(&mut self, stream: usize, from: EntryId) -> Result<(Vec<RawEntry>, Option<EntryId>), ServerError>;
    fn send_round(&mut self, takes: &[Take], count: usize, fence: Option<&str>) -> Result<Sent, ServerError>;
    fn receive_round(&mut self) -> Result<RoundAnswer, ServerError>;
    fn reuse(&mut self, round: Round);
    fn wait(&mut self, after: &[Option<EntryId>], limit: Duration) -> Result<Option<EntryId>, ServerError>;
    /// Sleeps.
    fn pause(&mut self, length: Duration);
    /// Returns the time since a moment that does not change.
    fn clock(&self) -> Duration;
}

/// The connections, and their clock.
pub struct Connected<'a> {
    pub links: &'a mut Links,
    pub began: Instant,
    pub status: &'a ReaderStatus,
}

impl Connected<'_> {
    /// Makes a request, and notes how long the server does not answer.
    fn ask<T>(&mut self, request: impl FnOnce(&mut Links) -> Result<T, ServerError>) -> Result<T, ServerError> {
        self.status.waits();
        let answer = request(self.links);
        match &answer {
            Err(error) if error.is_unreachable() => self.status.unanswered(),
            // A refusal is an answer.
            Ok(_) | Err(_) => self.status.answered(),
        }
        answer
    }
}

impl Source for Connected<'_> {
    fn stream_stats(&mut self, after: &[EntryId]) -> Result<Vec<StreamStats>, ServerError> {
        self.ask(|links| links.stream_stats(after))
    }

    fn count_between(&mut self, stream: usize, after: EntryId, to: EntryId) -> Result<u64, ServerError> {
        self.ask(|links| links.count_between(stream, after, to))
    }

    fn next_after(&mut self, stream: usize, after: EntryId) -> Result<Option<EntryId>, ServerError> {
        self.ask(|links| links.next_after(stream, after))
    }

    fn last_until(&mut self, stream: usize, to: EntryId) -> Result<Option<EntryId>, ServerError> {
        self.ask(|links| links.last_until(stream, to))
    }

    fn join(&mut self, stream: usize, from: EntryId) -> Result<GroupState, ServerError> {
        self.ask(|links| links.join(stream, from))
    }

    fn own_pending(&mut self, stream: usize, after: EntryId) -> Result<Vec<RawEntry>, ServerError> {
        self.ask(|links| links.own_pending(stream, after))
    }

    fn claim(&mut self, stream: usize, from: EntryId) -> Result<(Vec<RawEntry>, Option<EntryId>), ServerError> {
        self.ask(|links| links.claim(stream, from))
    }

    fn send_round(&mut self, takes: &[Take], count: usize, fence: Option<&str>) -> Result<Sent, ServerError> {
        self.ask(|links| links.send_round(takes, count, fence))
    }

    fn receive_round(&mut self) -> Result<RoundAnswer, ServerError> {
        let round = self.ask(|links| links.receive_round())?;
        self.status.has_read();
        Ok(round)
    }

    fn reuse(&mut self, round: Round) {
        self.links.reuse(round);
    }

    fn wait(&mut self, after: &[Option<EntryId>], limit: Duration) -> Result<Option<EntryId>, ServerError> {
        self.ask(|links| links.wait(after, limit))
    }

    fn pause(&mut self, length: Duration) {
        std::thread::sleep(length);
    }

    fn clock(&self) -> Duration {
        self.began.elapsed()
    }
}
