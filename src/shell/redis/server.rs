//! A connection to the server, and the basic commands that every part needs.

use std::path::PathBuf;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use serde::{Deserialize, Serialize};

use super::address::Address;
use super::reply::{self, RawEntry};
use super::route::Routes;
use crate::domain::event::ids::EntryId;

/// Entries per page when a stream is searched. [1]
const PAGE_ENTRIES: usize = 1000;

/// A failed request to the server.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("the address of the Redis server is no URL of it (want redis://host:port or rediss://host:port)")]
    NoUrl,
    #[error(
        "the address of the Redis server names a sentinel or several servers: give the one server that holds all streams \
         (redis://host:port or rediss://host:port), or nodes of a cluster (redis-cluster://host:port,host:port or \
         rediss-cluster://…)"
    )]
    ClusterUrl,
    #[error(
        "the address of the Redis Cluster names a database or a setting: a cluster has database 0 only, leave it out"
    )]
    ClusterDatabase,
    #[error("Redis at {server} is not part of a cluster: give its address as redis://host:port or rediss://host:port")]
    NotACluster { server: String },
    #[error("Redis at {server} does not know our lease: the owner of its slot is looked for again")]
    LeaseElsewhere { server: String },
    #[error("no node of the Redis Cluster at {server} owns slot {slot}: look at `redis-cli --cluster check`")]
    NoOwner { server: String, slot: u16 },
    #[error("Redis at {server} {why}")]
    Unfit { server: String, why: String },
    #[error("the certificates in {} cannot be read: {source}", path.display())]
    CaFile { path: PathBuf, source: std::io::Error },
    #[error("TLS to Redis at {server} cannot be set up: {source}")]
    Tls { server: String, source: RedisError },
    #[error("Redis at {server} cannot be reached: {source} (its address: --redis, REDIS_URL, or [redis] url)")]
    Unreachable { server: String, source: RedisError },
    #[error(
        "Redis at {server} refuses us: {source} (user and password are in its address: --redis, REDIS_URL, or [redis] url)"
    )]
    Refused { server: String, source: RedisError },
    #[error("Redis at {server} failed {doing}: {source}")]
    Failed { server: String, doing: String, source: RedisError },
}

/// The reason why a stream accepts no entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamFault {
    /// The key is not a stream.
    NotAStream,
    /// The last id is the greatest possible id.
    IdsExhausted,
}

impl StreamFault {
    /// Returns the name of the finding.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotAStream => "not_a_stream",
            Self::IdsExhausted => "ids_exhausted",
        }
    }

    /// Returns the fault in words, with the next step.
    pub const fn says(self) -> &'static str {
        match self {
            Self::NotAStream => {
                "is not a stream: the key contains something else; find who writes it, and RENAME the key out of the way"
            }
            Self::IdsExhausted => {
                "can take no more entries: its last id is the greatest there is, and no command takes that back; find who wrote \
                 it, and give the stream a new name at its producer and in [streams]"
            }
        }
    }
}

impl ServerError {
    /// Returns the fault of the stream that the command named, if that caused the error.
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

    /// Returns true if another attempt may succeed: the server is unreachable or still starting.
    pub fn may_pass(&self) -> bool {
        let is_starting = |source: &RedisError| matches!(source.code(), Some("LOADING" | "MASTERDOWN"));
        self.is_unreachable() || matches!(self, Self::Refused { source, .. } if is_starting(source))
    }

    /// Returns true if the server could not be reached. Returns false if it answered with a refusal.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::NoUrl
            | Self::ClusterUrl
            | Self::ClusterDatabase
            | Self::NotACluster { .. }
            | Self::Unfit { .. }
            | Self::CaFile { .. }
            | Self::Tls { .. }
            | Self::Refused { .. } => false,
            Self::Unreachable { .. } | Self::NoOwner { .. } | Self::LeaseElsewhere { .. } => true,
            Self::Failed { source, .. } => is_cut_off(source) || is_redirect(source),
        }
    }
}

/// A field name and its value, in the form that the server receives.
pub type FieldBytes = (Vec<u8>, Vec<u8>);

/// A connection to a server, or to the nodes of a cluster: each command goes to the owner of its key.
pub struct Server {
    /// The name of that server.
    pub(super) name: String,
    /// The connection. In a cluster it is to the owner of the home slot.
    pub(super) connection: MultiplexedConnection,
    pub(super) routes: Option<Routes>,
}

impl Server {
    /// Returns the name of the server. [host:port]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Connects. Returns an error if there is no server at the address or if the server refuses us.
    pub async fn connect(address: &Address) -> Result<Self, ServerError> {
        if address.is_cluster() {
            return Self::connect_home(address).await;
        }
        let connection = open(address).await?;
        Ok(Self { name: address.name().to_owned(), connection, routes: None })
    }

    pub(super) fn failed(&self, doing: impl Into<String>) -> impl FnOnce(RedisError) -> ServerError {
        failed(&self.name, doing)
    }

    /// Returns the number of entries of a stream; 0 if there is no stream. [1]
    pub async fn stream_length(&mut self, stream: &str) -> Result<u64, ServerError> {
        let mut command = redis::cmd("XLEN");
        let answered = self.query(stream, command.arg(stream)).await;
        answered.map_err(self.failed(format!("to count the entries of {stream}")))
    }

    /// Returns the value of a key, or `None` if there is no such key.
    pub async fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>, ServerError> {
        let answered = self.query(key, redis::cmd("GET").arg(key)).await;
        answered.map_err(self.failed(format!("to read {key}")))
    }

    pub async fn set(&mut self, key: &str, value: &str) -> Result<(), ServerError> {
        let answered = self.query(key, redis::cmd("SET").arg(key).arg(value)).await;
        answered.map_err(self.failed(format!("to set {key}")))
    }

    /// Returns the time of the next id of a stream: its server's clock, or the time of the last id if that is later.
    /// [ms since 1970]
    pub async fn next_id_ms(&mut self, stream: &str) -> Result<u64, ServerError> {
        let last =
            self.stream_info(stream).await?.and_then(|info| info.last_generated.or(info.last)).map_or(0, |id| id.ms);
        let (seconds, us): (u64, u64) =
            self.query(stream, &redis::cmd("TIME")).await.map_err(self.failed("to ask for the time"))?;
        Ok(last.max(seconds * 1000 + us / 1000))
    }

    /// Appends one entry under an id that the server assigns, and returns the id.
    pub async fn add(&mut self, stream: &str, fields: &[(&str, &str)]) -> Result<EntryId, ServerError> {
        self.add_trimmed(stream, fields, 0).await
    }

    /// Does the same and trims the stream, which must be ours, to about `length_max` entries; 0 keeps all of them.
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
        let answered: RedisResult<Value> = self.query(stream, &command).await;
        answered.and_then(reply::entry_id).map_err(self.failed(format!("to append to {stream}")))
    }

    /// Returns the id of an entry with these fields after another entry, if there is one.
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
        let command = |(stream, id, fields): &(String, EntryId, Vec<FieldBytes>)| {
            let mut command = redis::cmd("XADD");
            command.arg(stream).arg(id.to_string());
            for (name, value) in fields {
                command.arg(name.as_slice()).arg(value.as_slice());
            }
            (stream.clone(), command)
        };
        let first = entries.first().map_or_else(String::new, |(stream, id, _)| format!("from {stream}/{id} on"));
        let answered = self.query_all(&entries.iter().map(command).collect::<Vec<_>>()).await;
        let refusal = |answers: Vec<Value>| reply::first_error(&answers).map_or(Ok(()), Err);
        answered.and_then(refusal).map_err(self.failed(format!("to append entries {first}")))
    }
}

/// Opens a connection to one server.
pub(super) async fn open(address: &Address) -> Result<MultiplexedConnection, ServerError> {
    let server = || address.name().to_owned();
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(address.limits.connect))
        .set_response_timeout(Some(address.limits.response));
    match address.client.get_multiplexed_async_connection_with_config(&config).await {
        Ok(connection) => Ok(connection),
        // The server itself refused: a wrong password, user or database. A server that is loading counts as
        // unreachable.
        Err(source) if is_refusal(&source) => Err(ServerError::Refused { server: server(), source }),
        Err(source) => Err(ServerError::Unreachable { server: server(), source }),
    }
}

pub(super) fn failed(server: &str, doing: impl Into<String>) -> impl FnOnce(RedisError) -> ServerError {
    let (server, doing) = (server.to_owned(), doing.into());
    |source| ServerError::Failed { server, doing, source }
}

/// Returns true if the connection or the answer was cut off. A reply that ends early cannot be parsed.
fn is_cut_off(error: &RedisError) -> bool {
    let is_torn = error.kind() == ErrorKind::Parse || error.is_connection_dropped();
    error.is_io_error() || error.is_timeout() || is_torn
}

/// Returns true if a node of a cluster has not executed a command, because another node may have to. Then the owner of
/// the slot is looked up again.
pub(super) fn is_redirect(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, ClusterDown, MasterDown, Moved, TryAgain};
    matches!(error.kind(), ErrorKind::Server(Moved | Ask | TryAgain | ClusterDown | MasterDown))
}

pub(super) fn is_refusal(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::AuthenticationFailed => true,
        ErrorKind::Server(kind) => matches!(kind, ServerErrorKind::ResponseError | ServerErrorKind::NoPerm),
        _ => false,
    }
}
