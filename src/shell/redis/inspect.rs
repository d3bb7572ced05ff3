//! Reads the state of the server, its streams and their groups. It changes nothing.

use std::collections::BTreeMap;

use redis::{RedisResult, Value};

use super::reply;
use super::server::{Server, ServerError};
use crate::domain::event::ids::EntryId;

/// The server's description of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// Keys and values of `INFO`.
    info: BTreeMap<String, String>,
    /// `maxmemory-policy`, if our user may read it.
    pub eviction: Option<String>,
    /// The schedule of snapshots. Empty means never; `None` if our user may not read it.
    pub save: Option<String>,
    /// Name of our user, if the server has users.
    pub user: Option<String>,
}

impl ServerInfo {
    pub fn get(&self, key: &str) -> Option<&str> {
        self.info.get(key).map(String::as_str)
    }

    /// Returns true if the server makes snapshots, as far as that is known.
    pub fn saves(&self) -> bool {
        self.save.as_deref() != Some("")
    }

    /// Returns the version, such as `7.0.15`. A Valkey server returns its own version.
    pub fn version(&self) -> Option<&str> {
        self.get("valkey_version").or_else(|| self.get("redis_version"))
    }
}

/// The answer to `XINFO STREAM`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    pub length: u64,
    pub first: Option<EntryId>,
    pub last: Option<EntryId>,
    pub last_generated: Option<EntryId>,
    /// Entries ever added; known since Redis 7.0.
    pub entries_added: Option<u64>,
}

impl StreamInfo {
    /// Returns the number of entries that were trimmed or deleted, if the server counts them. [1]
    pub fn gone(&self) -> Option<u64> {
        self.entries_added.map(|added| added.saturating_sub(self.length))
    }
}

/// A group of a stream, with its consumers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    pub name: String,
    pub pending: u64,
    pub last_delivered: Option<EntryId>,
    /// Entries that were delivered since the stream was created, if the server knows. [1]
    pub entries_read: Option<u64>,
    pub lag: Option<u64>,
    pub consumers: Vec<ConsumerInfo>,
    /// The first pending entry, if our user may read it.
    pub first_pending: Option<PendingEntry>,
}

/// An entry that was delivered and not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingEntry {
    pub consumer: String,
    /// Time since the last delivery. [ms]
    pub idle_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerInfo {
    pub name: String,
    pub pending: u64,
    /// Time since the consumer's last request. [ms]
    pub idle_ms: u64,
}

impl Server {
    /// Returns the version of the server, such as `7.0.15`. Returns an error if it is too old, or if it is a node of a
    /// cluster and the address names a single server.
    pub async fn fitting_version(&mut self) -> Result<Option<String>, ServerError> {
        let answered: RedisResult<String> = redis::cmd("INFO").arg("server").query_async(&mut self.connection).await;
        let info = info_of(&answered.map_err(self.failed("to tell its version"))?);
        if let Some(why) = unfit(&info, self.routes.is_some()) {
            return Err(ServerError::Unfit { server: self.name.clone(), why });
        }
        Ok(ServerInfo { info, ..ServerInfo::default() }.version().map(str::to_owned))
    }

    pub async fn info(&mut self) -> Result<ServerInfo, ServerError> {
        let answered: RedisResult<String> = redis::cmd("INFO").query_async(&mut self.connection).await;
        let text = answered.map_err(self.failed("to tell how it is"))?;
        let info = info_of(&text);
        // A user without the right to read these is not a failure. The result then has no values.
        let eviction = self.setting("maxmemory-policy").await;
        let save = self.setting("save").await;
        let user: RedisResult<String> = redis::cmd("ACL").arg("WHOAMI").query_async(&mut self.connection).await;
        Ok(ServerInfo { info, eviction, save, user: user.ok() })
    }

    /// Returns a setting of the server; in a cluster, of the owner of the home slot. `None` if our user may not read
    /// it.
    pub async fn setting(&mut self, name: &str) -> Option<String> {
        let mut command = redis::cmd("CONFIG");
        let answered: RedisResult<Vec<String>> = command.arg("GET").arg(name).query_async(&mut self.connection).await;
        answered.ok()?.into_iter().nth(1)
    }

    /// Returns those of the commands, each with its arguments, that our user may not use. Returns `None` if the server
    /// does not support the question (before 7.0).
    pub async fn forbidden(&mut self, user: &str, commands: &[&[&str]]) -> Result<Option<Vec<String>>, ServerError> {
        let mut forbidden = Vec::new();
        for command in commands {
            let mut dry_run = redis::cmd("ACL");
            dry_run.arg("DRYRUN").arg(user).arg(*command);
            let answered: RedisResult<String> = dry_run.query_async(&mut self.connection).await;
            match answered {
                Ok(said) if said == "OK" => {}
                Ok(_) => forbidden.push(command.join(" ")),
                Err(error) if error.is_io_error() => return Err(self.failed("to say what may be done")(error)),
                Err(_) => return Ok(None),
            }
        }
        Ok(Some(forbidden))
    }

    /// Returns the type of a key, `none` if there is no such key.
    async fn kind_of_key(&mut self, key: &str) -> Result<String, ServerError> {
        let answered = self.query(key, redis::cmd("TYPE").arg(key)).await;
        answered.map_err(self.failed(format!("to tell what {key} is")))
    }

    /// Returns true if there is such a key.
    pub async fn exists(&mut self, key: &str) -> Result<bool, ServerError> {
        Ok(self.kind_of_key(key).await? != "none")
    }

    /// Returns the type of a key that exists and is not a stream.
    pub async fn other_kind(&mut self, key: &str) -> Result<Option<String>, ServerError> {
        self.other_kind_than("stream", key).await
    }

    /// Returns the type of a key that exists and has another type than this one.
    pub async fn other_kind_than(&mut self, wanted: &str, key: &str) -> Result<Option<String>, ServerError> {
        let kind = self.kind_of_key(key).await?;
        Ok((kind != wanted && kind != "none").then_some(kind))
    }

    /// Returns the state of a stream, or `None` if there is no stream.
    pub async fn stream_info(&mut self, stream: &str) -> Result<Option<StreamInfo>, ServerError> {
        if self.kind_of_key(stream).await? != "stream" {
            return Ok(None);
        }
        let answered: RedisResult<Value> = self.query(stream, redis::cmd("XINFO").arg("STREAM").arg(stream)).await;
        let reply = answered.and_then(InfoReply::of).map_err(self.failed(format!("to tell of {stream}")))?;
        Ok(Some(StreamInfo {
            length: reply.number("length").unwrap_or(0),
            first: reply.id("first-entry"),
            last: reply.id("last-entry"),
            last_generated: reply.id("last-generated-id"),
            entries_added: reply.number("entries-added"),
        }))
    }

    /// Returns the groups of an existing stream.
    pub async fn groups(&mut self, stream: &str) -> Result<Vec<GroupInfo>, ServerError> {
        let mut command = redis::cmd("XINFO");
        command.arg("GROUPS").arg(stream);
        let mut groups = Vec::new();
        for reply in self.info_list(stream, command, format!("to tell the groups of {stream}")).await? {
            let name = reply.text("name");
            groups.push(GroupInfo {
                pending: reply.number("pending").unwrap_or(0),
                last_delivered: reply.id("last-delivered-id"),
                entries_read: reply.number("entries-read"),
                lag: reply.number("lag"),
                consumers: self.consumers(stream, &name).await?,
                first_pending: self.first_pending(stream, &name).await?,
                name,
            });
        }
        Ok(groups)
    }

    async fn first_pending(&mut self, stream: &str, group: &str) -> Result<Option<PendingEntry>, ServerError> {
        let mut command = redis::cmd("XPENDING");
        command.arg(stream).arg(group).arg("-").arg("+").arg(1);
        let answered: RedisResult<Vec<(String, String, u64, u64)>> = self.query(stream, &command).await;
        match answered {
            Ok(list) => Ok(list.into_iter().next().map(|(_, consumer, idle_ms, _)| PendingEntry { consumer, idle_ms })),
            Err(error) if error.is_io_error() => {
                Err(self.failed(format!("to tell what is pending in {stream}"))(error))
            }
            // Our user may not read it.
            Err(_) => Ok(None),
        }
    }

    async fn consumers(&mut self, stream: &str, group: &str) -> Result<Vec<ConsumerInfo>, ServerError> {
        let mut command = redis::cmd("XINFO");
        command.arg("CONSUMERS").arg(stream).arg(group);
        let of = |reply: InfoReply| ConsumerInfo {
            name: reply.text("name"),
            pending: reply.number("pending").unwrap_or(0),
            idle_ms: reply.number("idle").unwrap_or(0),
        };
        let consumers = self.info_list(stream, command, format!("to tell the consumers of {stream}")).await?;
        Ok(consumers.into_iter().map(of).collect())
    }

    /// Returns the items of a list that `XINFO` returned.
    async fn info_list(
        &mut self,
        key: &str,
        command: redis::Cmd,
        doing: String,
    ) -> Result<Vec<InfoReply>, ServerError> {
        let answered: RedisResult<Vec<Value>> = self.query(key, &command).await;
        answered.and_then(|all| all.into_iter().map(InfoReply::of).collect()).map_err(self.failed(doing))
    }
}

/// One `XINFO` answer by name. A missing value, or one of another type, is unknown.
struct InfoReply(BTreeMap<String, Value>);

impl InfoReply {
    fn of(answered: Value) -> RedisResult<Self> {
        Ok(Self(reply::named(answered)?.into_iter().collect()))
    }

    fn number(&self, name: &'static str) -> Option<u64> {
        reply::number(self.0.get(name)?.clone(), name).ok()
    }

    fn text(&self, name: &'static str) -> String {
        self.0.get(name).and_then(|value| reply::text(value.clone(), name).ok()).unwrap_or_default()
    }

    /// Returns an id, or the id of an entry.
    fn id(&self, name: &str) -> Option<EntryId> {
        match self.0.get(name)?.clone() {
            entry @ Value::Array(_) => Some(reply::entries(Value::Array(vec![entry])).ok()?.first()?.id),
            id => reply::entry_id(id).ok(),
        }
    }
}

/// Returns the reason why this server cannot be used, with the next step, from its `INFO server`. `is_followed` is true
/// if the connection follows the owner of a slot.
fn unfit(info: &BTreeMap<String, String>, is_followed: bool) -> Option<String> {
    if !is_followed && info.get("redis_mode").is_some_and(|mode| mode == "cluster") {
        let why = "is one of a cluster, and the address names one server: give nodes of the cluster as \
                   redis-cluster://host:port,host:port";
        return Some(why.to_owned());
    }
    let version = info.get("redis_version")?;
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    let (major, minor) = (numbers.next()?, numbers.next().unwrap_or(0));
    ((major, minor) < (6, 2))
        .then(|| format!("is version {version}, 6.2 is the oldest that can be worked with: upgrade it"))
}

/// Returns keys and values of an `INFO` answer.
pub(super) fn info_of(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_of_a_server_why_it_cannot_be_worked_with() {
        let of = |text: &str| unfit(&info_of(text), false);
        assert_eq!(of("redis_version:7.0.15\r\nredis_mode:standalone\r\n"), None);
        assert_eq!(of("redis_version:6.2.14\r\nredis_mode:standalone\r\n"), None);
        assert_eq!(of("redis_version:10.0.0\r\n"), None);
        assert_eq!(of("redis_version:unknown\r\n"), None, "who does not say it is tried");
        assert!(of("redis_version:6.0.16\r\nredis_mode:standalone\r\n").unwrap().contains("6.2 is the oldest"));
        let cluster = "redis_version:7.2.4\r\nredis_mode:cluster\r\n";
        assert!(of(cluster).unwrap().contains("redis-cluster://"));
        assert_eq!(unfit(&info_of(cluster), true), None);
    }
}
