//! Reads streams: through a consumer group as the holder of the lease, or without it as a standby.
//!
//! Promises: a group is read only while the fence holds. The server checks it in the same transaction (`WATCH`,
//! `MULTI`), so a process that was paused and resumes takes no entries from its successor. A round returns the server's
//! time from before its reads. Only entries that the caller names are acknowledged.

use std::time::Duration;

use redis::{Pipeline, RedisError, Value};

use super::ranges::add_range_behind;
use super::reply::{self, RawEntry};
use super::server::{Server, ServerError, StreamFault};
use crate::domain::event::ids::EntryId;

/// The source of the next entries of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Reads nothing: enough entries are waiting.
    Nothing,
    /// Reads nothing: the key was not a stream. The round checks its type again.
    Barred,
    /// The entries after one entry, up to and including another.
    Range { after: EntryId, to: EntryId },
    /// Entries that the group has never delivered.
    New,
    /// The entries after one entry, without the group.
    After(EntryId),
}

/// The result of one round.
#[derive(Debug)]
pub struct Round {
    /// The server's clock before the reads. [µs since 1970]
    pub time_us: u64,
    /// Entries by stream, in the order in which the streams were named.
    pub entries: Vec<Vec<RawEntry>>,
    /// True if a key that was not a stream is now a stream or absent.
    pub has_returned: bool,
}

/// The content that a command of a round asks for.
enum Asked {
    /// Several streams.
    Entries,
    EntriesOf(usize),
    Kind,
}

/// How a round ended.
#[derive(Debug)]
pub enum Answer {
    Read(Round),
    /// The lease was written meanwhile: nothing was read, and the next round determines why.
    Again,
    /// The lease is not ours: nothing was read.
    Fenced,
}

/// The state of a stream at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamStats {
    pub exists: bool,
    pub fault: Option<StreamFault>,
    /// [1]
    pub length: u64,
    /// Entries added since the stream was created; unknown before Redis 7. [1]
    pub entries_added: Option<u64>,
    pub last_id: EntryId,
    /// The greatest id that was ever deleted; unknown before Redis 7.
    pub max_deleted: Option<EntryId>,
    pub first_id: Option<EntryId>,
    /// The first entry after the one that the caller named.
    pub next_id: Option<EntryId>,
    /// Entries that were delivered to our group and are not acknowledged, and the first of them. [1]
    pub pending: u64,
    pub pending_first: Option<EntryId>,
}

/// The state of our group on one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupState {
    pub last_delivered: EntryId,
    /// Entries that were delivered and not acknowledged. [1]
    pub pending: u64,
}

/// A consumer of a group, and the key of the lease that allows it to read.
#[derive(Clone, Debug)]
pub struct Membership {
    pub group: String,
    pub consumer: String,
    /// Key of the lease, whose value fences reading.
    pub lease_key: String,
}

/// One connection that reads all streams, one command at a time.
pub struct Consumer {
    server: Server,
    streams: Vec<String>,
    membership: Membership,
    /// Value of the lease when the connection began to watch it; `None` if it is not watched.
    watched: Option<String>,
}

impl Consumer {
    pub fn new(server: Server, streams: Vec<String>, membership: Membership) -> Self {
        Self { server, streams, membership, watched: None }
    }

    /// Reads once from every stream without waiting, at most `count` entries each. With a fence it reads only while the
    /// lease has this value.
    pub async fn round(&mut self, takes: &[Take], count: usize, fence: Option<&str>) -> Result<Answer, ServerError> {
        if fence.is_some() && self.watched.as_deref() != fence && self.watch().await?.as_deref() != fence {
            return Ok(Answer::Fenced);
        }
        let mut pipeline = Pipeline::new();
        pipeline.ignore_errors();
        if fence.is_some() {
            pipeline.cmd("MULTI");
        }
        pipeline.cmd("TIME");
        let commands = self.add_reads(&mut pipeline, takes, count);
        if fence.is_some() {
            pipeline.cmd("EXEC").cmd("WATCH").arg(&self.membership.lease_key);
            pipeline.cmd("GET").arg(&self.membership.lease_key);
        }
        let replies = self.ask(&pipeline, "to read the streams").await?;
        let read = || self.server.failed("to read the streams");
        let replies = if fence.is_some() {
            let mut replies = replies;
            let refusal = reply::first_error(&replies);
            let lease = replies.pop().unwrap_or_default();
            self.watched = reply::text(lease, "the lease is no text").ok();
            replies.pop(); // WATCH
            match replies.pop().map(reply::checked) {
                Some(Ok(Value::Nil)) | None => return Ok(Answer::Again),
                Some(Ok(done)) => reply::array(done, "EXEC is no list").map_err(read())?,
                // A transaction that was not carried out does not contain the reason. The command that the server
                // refused does.
                Some(Err(error)) => return Err(read()(refusal.unwrap_or(error))),
            }
        } else {
            replies
        };
        self.sorted(replies, &commands, takes.len()).map(Answer::Read).map_err(read())
    }

    /// Adds the commands that read. Returns the content that each of them asks for.
    fn add_reads(&self, pipeline: &mut Pipeline, takes: &[Take], count: usize) -> Vec<Asked> {
        let mut commands = Vec::new();
        let new: Vec<&String> = self.named(takes, |take| matches!(take, Take::New));
        if !new.is_empty() {
            let Membership { group, consumer, .. } = &self.membership;
            let command = pipeline.cmd("XREADGROUP").arg("GROUP").arg(group).arg(consumer);
            command.arg("COUNT").arg(count).arg("STREAMS").arg(&new).arg(vec![">"; new.len()]);
            commands.push(Asked::Entries);
        }
        let after: Vec<String> = takes
            .iter()
            .filter_map(|take| if let Take::After(id) = take { Some(id.to_string()) } else { None })
            .collect();
        if !after.is_empty() {
            let names = self.named(takes, |take| matches!(take, Take::After(_)));
            pipeline.cmd("XREAD").arg("COUNT").arg(count).arg("STREAMS").arg(names).arg(after);
            commands.push(Asked::Entries);
        }
        for (index, take) in takes.iter().enumerate() {
            match take {
                Take::Range { after, to } => {
                    let mut command = redis::cmd("XRANGE");
                    add_range_behind(command.arg(&self.streams[index]), *after, &to.to_string());
                    command.arg("COUNT").arg(count);
                    pipeline.add_command(command);
                    commands.push(Asked::EntriesOf(index));
                }
                Take::Barred => {
                    pipeline.cmd("TYPE").arg(&self.streams[index]);
                    commands.push(Asked::Kind);
                }
                Take::Nothing | Take::New | Take::After(_) => {}
            }
        }
        commands
    }

    fn named(&self, takes: &[Take], is_meant: impl Fn(&Take) -> bool) -> Vec<&String> {
        takes.iter().zip(&self.streams).filter(|(take, _)| is_meant(take)).map(|(_, name)| name).collect()
    }

    fn sorted(&self, replies: Vec<Value>, commands: &[Asked], streams: usize) -> Result<Round, RedisError> {
        let mut replies = replies.into_iter();
        let time_us = reply::time_us(replies.next().unwrap_or_default())?;
        let mut entries = vec![Vec::new(); streams];
        let mut has_returned = false;
        for (command, answered) in commands.iter().zip(replies) {
            match command {
                Asked::EntriesOf(index) => entries[*index] = reply::entries(answered)?,
                Asked::Kind => {
                    let kind = reply::text(answered, "a type is no text")?;
                    has_returned |= matches!(kind.as_str(), "stream" | "none");
                }
                Asked::Entries => {
                    for (name, listed) in reply::entries_by_stream(answered)? {
                        if let Some(index) = self.streams.iter().position(|stream| *stream == name) {
                            entries[index] = listed;
                        }
                    }
                }
            }
        }
        Ok(Round { time_us, entries, has_returned })
    }

    /// Waits until a stream has an entry after the one named for it, if one is named, or until the time is over.
    pub async fn wait(&mut self, after: &[Option<EntryId>], limit: Duration) -> Result<(), ServerError> {
        let named = || after.iter().zip(&self.streams).filter_map(|(after, name)| Some((name, (*after)?)));
        let (names, ids): (Vec<&String>, Vec<String>) = named().map(|(name, after)| (name, after.to_string())).unzip();
        if names.is_empty() {
            tokio::time::sleep(limit).await;
            return Ok(());
        }
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(1).arg("BLOCK").arg(limit.as_millis().max(1) as u64);
        command.arg("STREAMS").arg(names).arg(ids);
        let answered = command.query_async(&mut self.server.connection).await;
        answered.map(|_: Value| ()).map_err(self.server.failed("to wait for entries"))
    }

    async fn watch(&mut self) -> Result<Option<String>, ServerError> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("WATCH").arg(&self.membership.lease_key).ignore();
        pipeline.cmd("GET").arg(&self.membership.lease_key);
        let answered = pipeline.query_async(&mut self.server.connection).await;
        let (lease,): (Option<String>,) = answered.map_err(self.server.failed("to watch the lease"))?;
        self.watched.clone_from(&lease);
        Ok(lease)
    }

    async fn ask(&mut self, pipeline: &Pipeline, doing: &'static str) -> Result<Vec<Value>, ServerError> {
        let answered: Result<Value, RedisError> = pipeline.query_async(&mut self.server.connection).await;
        match answered {
            Ok(Value::Array(replies)) => Ok(replies),
            Ok(other) => Ok(vec![other]),
            Err(error) => Err(self.server.failed(doing)(error)),
        }
    }

    /// Reads the statistics of all streams at the same moment. `after` names an entry of each stream.
    pub async fn stream_stats(&mut self, after: &[EntryId]) -> Result<Vec<StreamStats>, ServerError> {
        let mut pipeline = Pipeline::new();
        pipeline.ignore_errors().cmd("MULTI");
        for (stream, after) in self.streams.iter().zip(after) {
            pipeline.cmd("XINFO").arg("STREAM").arg(stream);
            let mut next = redis::cmd("XRANGE");
            add_range_behind(next.arg(stream), *after, "+");
            next.arg("COUNT").arg(1);
            pipeline.add_command(next);
            pipeline.cmd("XPENDING").arg(stream).arg(&self.membership.group);
        }
        pipeline.cmd("EXEC");
        // The transaction ends the watch.
        self.watched = None;
        let done = loop {
            let mut replies = self.ask(&pipeline, "to look at the streams").await?;
            let refusal = reply::first_error(&replies);
            match replies.pop().map(reply::checked) {
                // The lease changed while it was watched: nothing was executed, and the watch has ended.
                Some(Ok(Value::Nil)) => {}
                Some(Ok(done)) => break done,
                None => break Value::Nil,
                Some(Err(error)) => {
                    return Err(self.server.failed("to look at the streams")(refusal.unwrap_or(error)));
                }
            }
        };
        let failed = || self.server.failed("to look at the streams");
        let done = reply::array(done, "EXEC is no list").map_err(failed())?;
        let mut surveys = Vec::with_capacity(self.streams.len());
        let mut done = done.into_iter();
        while let (Some(info), Some(next), Some(pending)) = (done.next(), done.next(), done.next()) {
            surveys.push(stream_stats(info, next, pending).map_err(failed())?);
        }
        Ok(surveys)
    }

    /// Returns the number of entries of a stream after one entry, up to and including another. [1]
    pub async fn count_between(&mut self, stream: usize, after: EntryId, to: EntryId) -> Result<u64, ServerError> {
        let (mut count, mut from) = (0, after);
        while from < to {
            let mut command = redis::cmd("XRANGE");
            add_range_behind(command.arg(&self.streams[stream]), from, &to.to_string());
            command.arg("COUNT").arg(10_000);
            let page = self.listed(command, "to count entries").await?;
            let Some(last) = page.last() else { break };
            (count, from) = (count + page.len() as u64, last.id);
        }
        Ok(count)
    }

    /// Returns the first entry of a stream after another one.
    pub async fn next_after(&mut self, stream: usize, after: EntryId) -> Result<Option<EntryId>, ServerError> {
        let mut command = redis::cmd("XRANGE");
        add_range_behind(command.arg(&self.streams[stream]), after, "+");
        command.arg("COUNT").arg(1);
        Ok(self.listed(command, "to look for an entry").await?.first().map(|entry| entry.id))
    }

    /// Returns the last entry of a stream whose id is at or before another id.
    pub async fn last_until(&mut self, stream: usize, to: EntryId) -> Result<Option<EntryId>, ServerError> {
        let mut command = redis::cmd("XREVRANGE");
        command.arg(&self.streams[stream]).arg(to.to_string()).arg("-").arg("COUNT").arg(1);
        Ok(self.listed(command, "to look for an entry").await?.first().map(|entry| entry.id))
    }

    async fn listed(&mut self, command: redis::Cmd, doing: &'static str) -> Result<Vec<RawEntry>, ServerError> {
        let answered = command.query_async(&mut self.server.connection).await;
        answered.and_then(reply::entries).map_err(self.server.failed(doing))
    }

    /// Creates the group on a stream if it does not exist, starting at an entry, and returns its state.
    pub async fn join(&mut self, stream: usize, from: EntryId) -> Result<GroupState, ServerError> {
        let group = self.membership.group.clone();
        let name = self.streams[stream].clone();
        let doing = format!("to make the group {group} on {name}");
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(&name).arg(&group).arg(from.to_string()).arg("MKSTREAM");
        let created: Result<Value, RedisError> = create.query_async(&mut self.server.connection).await;
        if let Err(error) = created
            && error.code() != Some("BUSYGROUP")
        {
            return Err(self.server.failed(doing)(error));
        }
        let mut info = redis::cmd("XINFO");
        info.arg("GROUPS").arg(&name);
        let listed = info.query_async(&mut self.server.connection).await.map_err(self.server.failed(&doing))?;
        let groups = reply::array(listed, "groups are no list").map_err(self.server.failed(&doing))?;
        for named in groups {
            let of_group = reply::named(named).map_err(self.server.failed(&doing))?;
            if let Some(state) = group_state(of_group, &group).map_err(self.server.failed(&doing))? {
                return Ok(state);
            }
        }
        let gone = (redis::ErrorKind::UnexpectedReturnType, "the group is gone again").into();
        Err(self.server.failed(doing)(gone))
    }

    /// Returns the entries after another one that were delivered to us and are not acknowledged.
    pub async fn own_pending(&mut self, stream: usize, after: EntryId) -> Result<Vec<RawEntry>, ServerError> {
        // After the greatest id the server would start again at the beginning.
        if after == EntryId::MAX {
            return Ok(Vec::new());
        }
        let Membership { group, consumer, .. } = &self.membership;
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(group).arg(consumer).arg("COUNT").arg(1000);
        command.arg("STREAMS").arg(&self.streams[stream]).arg(after.to_string());
        let answered = command.query_async(&mut self.server.connection).await;
        let failed = || self.server.failed("to read what is pending");
        let mut listed = reply::entries_by_stream(answered.map_err(failed())?).map_err(failed())?;
        Ok(listed.pop().map(|(_, entries)| entries).unwrap_or_default())
    }

    /// Claims entries that have been pending at other consumers for at least a given time, one page at a time. Returns
    /// the start of the next page.
    pub async fn claim(
        &mut self,
        stream: usize,
        idle: Duration,
        from: EntryId,
    ) -> Result<(Vec<RawEntry>, Option<EntryId>), ServerError> {
        let Membership { group, consumer, .. } = &self.membership;
        let mut command = redis::cmd("XAUTOCLAIM");
        command.arg(&self.streams[stream]).arg(group).arg(consumer).arg(idle.as_millis() as u64);
        command.arg(from.to_string()).arg("COUNT").arg(1000);
        let answered = command.query_async(&mut self.server.connection).await;
        let failed = || self.server.failed("to claim what is pending");
        let parts = reply::array(answered.map_err(failed())?, "XAUTOCLAIM is no list").map_err(failed())?;
        let mut parts = parts.into_iter();
        let next = reply::entry_id(parts.next().unwrap_or_default()).map_err(failed())?;
        let entries = reply::entries(parts.next().unwrap_or_default()).map_err(failed())?;
        Ok((entries, Some(next).filter(|next| *next != EntryId::default())))
    }
}

fn stream_stats(info: Value, next: Value, pending: Value) -> Result<StreamStats, RedisError> {
    let pairs = match reply::named(info) {
        Ok(pairs) => pairs,
        // The key does not exist: nothing was ever written, or it was deleted.
        Err(error) if error.detail().is_some_and(|detail| detail.contains("no such key")) => {
            return Ok(StreamStats::default());
        }
        Err(error) if error.code() == Some("WRONGTYPE") => {
            return Ok(StreamStats { fault: Some(StreamFault::NotAStream), ..StreamStats::default() });
        }
        Err(error) => return Err(error),
    };
    let mut stream_stats = StreamStats { exists: true, ..StreamStats::default() };
    for (name, value) in pairs {
        match name.as_str() {
            "length" => stream_stats.length = reply::number(value, "length is no number")?,
            "entries-added" => stream_stats.entries_added = Some(reply::number(value, "entries-added is no number")?),
            "last-generated-id" => stream_stats.last_id = reply::entry_id(value)?,
            "max-deleted-entry-id" => stream_stats.max_deleted = Some(reply::entry_id(value)?),
            "first-entry" => {
                stream_stats.first_id = reply::entries(Value::Array(vec![value]))?.first().map(|entry| entry.id)
            }
            _ => {}
        }
    }
    stream_stats.fault = Some(StreamFault::IdsExhausted).filter(|_| stream_stats.last_id == EntryId::MAX);
    stream_stats.next_id = reply::entries(next)?.first().map(|entry| entry.id);
    // Without a group nothing is pending.
    if let Ok(summary) = reply::array(pending, "XPENDING is no list") {
        let mut summary = summary.into_iter();
        stream_stats.pending = reply::number(summary.next().unwrap_or_default(), "pending is no number")?;
        stream_stats.pending_first = summary.next().and_then(|first| reply::entry_id(first).ok());
    }
    Ok(stream_stats)
}

fn group_state(pairs: Vec<(String, Value)>, group: &str) -> Result<Option<GroupState>, RedisError> {
    let mut state = GroupState::default();
    let mut is_ours = false;
    for (name, value) in pairs {
        match name.as_str() {
            "name" => is_ours = reply::text(value, "a group's name is no text")? == group,
            "last-delivered-id" => state.last_delivered = reply::entry_id(value)?,
            "pending" => state.pending = reply::number(value, "pending is no number")?,
            _ => {}
        }
    }
    Ok(is_ours.then_some(state))
}
