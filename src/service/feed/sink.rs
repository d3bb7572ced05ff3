//! Writes to Redis, with retries.

use std::time::Duration;

use super::state::State;
use crate::service::retry_delay::RetryDelay;
use crate::service::said::Until;
use crate::shell::redis::{Address, MarkPlaces, MarkText, RawEntry, Server, ServerError};

/// The longest time between two tries to append what must not be lost.
const RETRY_MAX: Duration = Duration::from_secs(3);

/// A connection that is opened again when it breaks.
pub(super) struct Sink {
    address: Address,
    server: Option<Server>,
    state: State,
}

impl Sink {
    pub(super) fn new(address: Address, state: State) -> Self {
        Self { address: address.of_service(), server: None, state }
    }

    /// Writes mark prices once, without a retry: the next prices come in a second, and old ones are useless. Returns
    /// false if it was too late.
    pub(super) async fn marks(
        &mut self,
        places: &MarkPlaces,
        marks: &[MarkText],
        until: Until,
    ) -> Result<bool, ServerError> {
        let _asking = self.state.asks_redis();
        let written = match self.server().await {
            Ok(server) => server.write_marks(places, marks, || until.left()).await,
            Err(error) => Err(error),
        };
        self.noted(written)
    }

    /// Appends entries once, and only in time. Returns false if it was too late. After an error they may have been
    /// appended, in time.
    pub(super) async fn append_in_time(
        &mut self,
        stream: &str,
        entries: &[Vec<(&str, &str)>],
        until: Until,
    ) -> Result<bool, ServerError> {
        let _asking = self.state.asks_redis();
        let appended = match self.server().await {
            Ok(server) => server.add_in_time(stream, entries, || until.left()).await,
            Err(error) => Err(error),
        };
        self.noted(appended.map(|ids| ids.is_some()))
    }

    /// Returns true if the server of a stream answers.
    pub(super) async fn answers(&mut self, stream: &str) -> bool {
        let _asking = self.state.asks_redis();
        let answered = match self.server().await {
            Ok(server) => server.time_ms_at(stream).await,
            Err(error) => Err(error),
        };
        self.noted(answered).is_ok()
    }

    /// Appends entries, and retries until they are appended: the exchange does not send a fill twice. If an answer is
    /// lost an entry may be appended twice; trades are recognised by their id. Returns the number of tries that failed.
    pub(super) async fn append(&mut self, stream: &str, entries: &[Vec<(&str, &str)>]) -> u32 {
        let mut delay = RetryDelay::of_feed();
        let mut failures = 0;
        loop {
            let asking = self.state.asks_redis();
            let appended = match self.server().await {
                Ok(server) => server.add_all(stream, entries).await.map(drop),
                Err(error) => Err(error),
            };
            drop(asking);
            match self.noted(appended) {
                Ok(()) => return failures,
                Err(error) => {
                    failures += 1;
                    // The socket is not read meanwhile.
                    let wait = delay.next().min(RETRY_MAX);
                    tracing::warn!(%error, wait_ms = wait.as_millis(), "events of the exchange are not written yet");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// Returns the newest entries of a stream, newest first; retries until they are read.
    pub(super) async fn newest(&mut self, stream: &str, count: usize) -> Vec<RawEntry> {
        let mut delay = RetryDelay::of_feed();
        loop {
            let asking = self.state.asks_redis();
            let read = match self.server().await {
                Ok(server) => server.newest(stream, count).await,
                Err(error) => Err(error),
            };
            drop(asking);
            match self.noted(read) {
                Ok(entries) => return entries,
                Err(error) => {
                    let wait = delay.next();
                    tracing::warn!(%error, wait_ms = wait.as_millis(), "entries that were written before are not read yet");
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    async fn server(&mut self) -> Result<&mut Server, ServerError> {
        let server = match self.server.take() {
            Some(server) => server,
            None => Server::connect(&self.address).await?,
        };
        Ok(self.server.insert(server))
    }

    /// Drops the connection after a failure, and returns the result.
    fn noted<T>(&mut self, done: Result<T, ServerError>) -> Result<T, ServerError> {
        let mut facts = self.state.facts();
        facts.redis_down = done.is_err();
        if let Err(error) = &done {
            facts.error = Some(error.to_string());
            drop(facts);
            self.server = None;
        }
        done
    }
}
