//! A connection to the server, and the plain commands that every part needs.

use std::path::PathBuf;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};

use super::address::Address;
use super::reply::{self, RawEntry};
use crate::domain::event::ids::EntryId;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an answer may take. Nothing here blocks on the server.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// Entries that are looked through at a time. [1]
const PAGE_ENTRIES: usize = 1000;

/// Why the server could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("the address of the Redis server is no URL of it (want redis://host:port or rediss://host:port)")]
    NoUrl,
    #[error(
        "the address of the Redis server names a cluster, a sentinel or several servers: give the one server that holds all \
         streams (redis://host:port or rediss://host:port)"
    )]
    ClusterUrl,
    #[error("Redis at {server} {why}")]
    Unfit { server: String, why: String },
    #[error("the certificates in {} cannot be read: {source}", path.display())]
    CaFile { path: PathBuf, source: std::io::Error },
    #[error("TLS to Redis at {server} cannot be set up: {source}")]
    Tls { server: String, source: RedisError },
    #[error("Redis at {server} cannot be reached: {source} (its address: --redis, REDIS_URL, or [redis] url)")]
    Unreachable { server: String, source: RedisError },
    #[error("Redis at {server} refuses us: {source}")]
    Refused { server: String, source: RedisError },
    #[error("Redis at {server} failed {doing}: {source}")]
    Failed { server: String, doing: String, source: RedisError },
}

/// Why a stream takes no entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamFault {
    /// The key holds something else.
    NotAStream,
    /// The last id is the greatest there is.
    IdsExhausted,
}

impl StreamFault {
    /// What is wrong with the stream, and the next step.
    pub const fn says(self) -> &'static str {
        match self {
            Self::NotAStream => {
                "is no stream: the key holds something else; find who writes it, and RENAME the key out of the way"
            }
            Self::IdsExhausted => {
                "can take no more entries: its last id is the greatest there is, and no command takes that back; find who wrote \
                 it, and give the stream a new name at its producer and in [streams] or [outputs]"
            }
        }
    }
}

impl ServerError {
    /// What is wrong with the stream that the command named, if that is why it failed.
    pub fn stream_fault(&self) -> Option<StreamFault> {
        let Self::Failed { source, .. } = self else { return None };
        match source.code() {
            Some("WRONGTYPE") => Some(StreamFault::NotAStream),
            _ if source.detail().is_some_and(|detail| detail.contains("exhausted the last possible ID")) => {
                Some(StreamFault::IdsExhausted)
            }
            _ => None,
        }
    }

    /// Is it worth another try: the server is out of reach, or only starting.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NoUrl | Self::ClusterUrl | Self::Unfit { .. } | Self::CaFile { .. } | Self::Tls { .. } => false,
            Self::Refused { source, .. } => matches!(source.code(), Some("LOADING" | "MASTERDOWN")),
            Self::Unreachable { .. } => true,
            Self::Failed { source, .. } => is_cut_off(source),
        }
    }

    /// Was the service itself out of reach, rather than unwilling.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::NoUrl
            | Self::ClusterUrl
            | Self::Unfit { .. }
            | Self::CaFile { .. }
            | Self::Tls { .. }
            | Self::Refused { .. } => false,
            Self::Unreachable { .. } => true,
            Self::Failed { source, .. } => is_cut_off(source),
        }
    }
}

/// A field name and its value, as they go to the server.
pub type FieldBytes = (Vec<u8>, Vec<u8>);

/// A connection to a server.
pub struct Server {
    pub(super) name: String,
    pub(super) connection: MultiplexedConnection,
}

impl Server {
    /// Connects. Errors if there is no server at the address or it refuses us.
    pub async fn connect(address: &Address) -> Result<Self, ServerError> {
        let name = address.name().to_owned();
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        match address.client.get_multiplexed_async_connection_with_config(&config).await {
            Ok(connection) => Ok(Self { name, connection }),
            // Said by the server itself: a wrong password, user or database. A loading server is not there yet.
            Err(source) if is_refusal(&source) => Err(ServerError::Refused { server: name, source }),
            Err(source) => Err(ServerError::Unreachable { server: name, source }),
        }
    }

    pub(super) fn failed(&self, doing: impl Into<String>) -> impl FnOnce(RedisError) -> ServerError {
        let (server, doing) = (self.name.clone(), doing.into());
        |source| ServerError::Failed { server, doing, source }
    }

    /// How many entries a stream holds; 0 where there is none. [1]
    pub async fn stream_length(&mut self, stream: &str) -> Result<u64, ServerError> {
        let mut command = redis::cmd("XLEN");
        let answered = command.arg(stream).query_async(&mut self.connection).await;
        answered.map_err(self.failed(format!("to count the entries of {stream}")))
    }

    /// The value of a key; `None` where there is none.
    pub async fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>, ServerError> {
        let answered = redis::cmd("GET").arg(key).query_async(&mut self.connection).await;
        answered.map_err(self.failed(format!("to read {key}")))
    }

    /// Sets a key to a value.
    pub async fn set(&mut self, key: &str, value: &str) -> Result<(), ServerError> {
        let answered = redis::cmd("SET").arg(key).arg(value).query_async(&mut self.connection).await;
        answered.map_err(self.failed(format!("to set {key}")))
    }

    /// Returns the time of the next id of a stream: the server's clock, or the last id where that is ahead of it.
    /// [ms since 1970]
    pub async fn next_id_ms(&mut self, stream: &str) -> Result<u64, ServerError> {
        let last =
            self.stream_info(stream).await?.and_then(|info| info.last_generated.or(info.last)).map_or(0, |id| id.ms);
        let (seconds, us): (u64, u64) =
            redis::cmd("TIME").query_async(&mut self.connection).await.map_err(self.failed("to ask for the time"))?;
        Ok(last.max(seconds * 1000 + us / 1000))
    }

    /// Appends one entry under an id that the server gives, and answers the id.
    pub async fn add(&mut self, stream: &str, fields: &[(&str, &str)]) -> Result<EntryId, ServerError> {
        self.add_trimmed(stream, fields, 0).await
    }

    /// The same; the stream, one of ours, keeps about so many entries, or all where that is 0.
    pub async fn add_trimmed(
        &mut self,
        stream: &str,
        fields: &[(&str, &str)],
        length_max: u64,
    ) -> Result<EntryId, ServerError> {
        let mut command = redis::cmd("XADD");
        command.arg(stream);
        if length_max > 0 {
            command.arg("MAXLEN").arg("~").arg(length_max);
        }
        command.arg("*").arg(fields);
        let answered: RedisResult<Value> = command.query_async(&mut self.connection).await;
        answered.and_then(reply::entry_id).map_err(self.failed(format!("to append to {stream}")))
    }

    /// Appends one entry, once however often it is tried: `after` keeps where the stream ended before the first try, and what
    /// stands behind that is looked through before the next one.
    pub async fn add_once(
        &mut self,
        stream: &str,
        fields: &[(&str, &str)],
        after: &mut Option<EntryId>,
    ) -> Result<EntryId, ServerError> {
        match *after {
            None => {
                *after = Some(self.newest(stream, 1).await?.first().map_or_else(EntryId::default, |entry| entry.id))
            }
            Some(from) => {
                if let Some(written) = self.written_since(stream, fields, from).await? {
                    return Ok(written);
                }
            }
        }
        self.add(stream, fields).await
    }

    /// Returns the id of an entry with these fields that stands behind another one, if there is one.
    pub async fn written_since(
        &mut self,
        stream: &str,
        fields: &[(&str, &str)],
        mut from: EntryId,
    ) -> Result<Option<EntryId>, ServerError> {
        let is_ours = |entry: &RawEntry| {
            let same =
                |((name, value), (n, v)): (&FieldBytes, &(&str, &str))| *name == n.as_bytes() && *value == v.as_bytes();
            entry.pairs().len() == fields.len() && entry.pairs().iter().zip(fields).all(same)
        };
        loop {
            let page = self.range_after(stream, Some(from), PAGE_ENTRIES).await?;
            if let Some(written) = page.iter().find(|entry| is_ours(entry)) {
                return Ok(Some(written.id));
            }
            match page.last() {
                Some(last) if page.len() == PAGE_ENTRIES => from = last.id,
                _ => return Ok(None),
            }
        }
    }

    /// Appends entries under their own ids, in one round trip.
    pub async fn append(&mut self, entries: &[(String, EntryId, Vec<FieldBytes>)]) -> Result<(), ServerError> {
        let mut pipeline = Pipeline::with_capacity(entries.len());
        for (stream, id, fields) in entries {
            let command = pipeline.cmd("XADD").arg(stream).arg(id.to_string());
            for (name, value) in fields {
                command.arg(name.as_slice()).arg(value.as_slice());
            }
            command.ignore();
        }
        let first = entries.first().map_or_else(String::new, |(stream, id, _)| format!("from {stream}/{id} on"));
        let answered: Result<(), RedisError> = pipeline.query_async(&mut self.connection).await;
        answered.map_err(self.failed(format!("to append entries {first}")))
    }
}

/// Is the connection gone, or the answer; a reply that breaks off does not read.
fn is_cut_off(error: &RedisError) -> bool {
    let is_torn = error.kind() == ErrorKind::Parse || error.is_connection_dropped();
    error.is_io_error() || error.is_timeout() || is_torn
}

fn is_refusal(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::AuthenticationFailed => true,
        ErrorKind::Server(kind) => matches!(kind, ServerErrorKind::ResponseError | ServerErrorKind::NoPerm),
        _ => false,
    }
}
