//! Reads streams: through a consumer group as the holder of the lease, or without it as a standby.
//!
//! Promises: a group is read only while the fence is valid. The server checks it in the same transaction (`WATCH`,
//! `MULTI`), so a process that was paused and resumes takes no entries from its successor. A round returns the server's
//! time from before its reads. Only entries that the caller names are acknowledged.
//!
//! It has one connection, whose thread waits for each answer. The replies of a round (`round`) are read in place,
//! without a copy. The client library parses all other replies.

use std::time::Duration;

use redis::{Pipeline, RedisError, Value};

use super::address::Address;
use super::frame::Walk;
use super::ranges::add_range_after;
use super::reply::{self, RawEntry};
use super::round::{InFlight, Round, next_reply};
use super::server::{ServerError, StreamFault, failed};
use super::wire::{Wire, unlike};
use crate::domain::event::ids::EntryId;

/// Entries that are counted at a time. [1]
const COUNT_PAGE_ENTRIES: u64 = 1_000;

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
    /// True if the group remembers what it has delivered until it is acknowledged.
    pub pending_list: bool,
}

/// One connection that reads all streams, one command at a time.
pub struct Consumer {
    pub(super) wire: Wire,
    pub(super) streams: Vec<String>,
    pub(super) membership: Membership,
    /// Value of the lease when the connection began to watch it; `None` if it does not watch.
    pub(super) watched: Option<String>,
    pub(super) in_flight: Option<InFlight>,
    /// The memory of an earlier round, for the next one.
    pub(super) spare: Round,
}

impl Consumer {
    /// Connects. Returns an error if there is no server at the address or if the server refuses us.
    pub fn connect(address: &Address, streams: Vec<String>, membership: Membership) -> Result<Self, ServerError> {
        let wire = Wire::connect(address)?;
        Ok(Self { wire, streams, membership, watched: None, in_flight: None, spare: Round::default() })
    }

    /// Returns true if a reply was too large: then fewer entries must be requested.
    pub fn had_too_large_a_reply(&self) -> bool {
        self.wire.had_too_large_a_reply
    }

    pub(super) fn failed(&self, doing: impl Into<String>) -> impl FnOnce(RedisError) -> ServerError {
        failed(&self.wire.name, doing)
    }

    /// Waits until one of the streams has an entry after the one that `after` names for it, or until the time is over.
    /// A stream without a name is not watched. Returns the first of the new entries.
    pub fn wait(&mut self, after: &[Option<EntryId>], limit: Duration) -> Result<Option<EntryId>, ServerError> {
        let named = || after.iter().zip(&self.streams).filter_map(|(after, name)| Some((name, (*after)?)));
        let (names, ids): (Vec<&String>, Vec<String>) = named().map(|(name, after)| (name, after.to_string())).unzip();
        if names.is_empty() {
            std::thread::sleep(limit);
            return Ok(None);
        }
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(1).arg("BLOCK").arg(limit.as_millis().max(1) as u64);
        command.arg("STREAMS").arg(names).arg(ids);
        let came = self.wire.ask_one(command).and_then(reply::entries_by_stream);
        let came = came.map_err(self.failed("to wait for entries"))?;
        Ok(came.iter().flat_map(|(_, entries)| entries).map(|entry| entry.id).min())
    }

    pub(super) fn watch(&mut self) -> Result<Option<String>, ServerError> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("WATCH").arg(&self.membership.lease_key);
        pipeline.cmd("GET").arg(&self.membership.lease_key);
        let replies = self.ask(&pipeline, "to watch the lease")?;
        let read = |replies: Vec<Value>| {
            let lease = replies.into_iter().map(reply::checked).collect::<Result<Vec<Value>, RedisError>>()?.pop();
            lease
                .filter(|lease| *lease != Value::Nil)
                .map(|lease| reply::text(lease, "the lease is not a text"))
                .transpose()
        };
        let lease = read(replies).map_err(self.failed("to watch the lease"))?;
        self.watched.clone_from(&lease);
        Ok(lease)
    }

    fn ask(&mut self, pipeline: &Pipeline, doing: &'static str) -> Result<Vec<Value>, ServerError> {
        assert!(self.in_flight.is_none(), "the replies of a round come first");
        self.wire.ask(pipeline).map_err(self.failed(doing))
    }

    /// Reads the statistics of all streams at the same moment. `after` names an entry of each stream.
    pub fn stream_stats(&mut self, after: &[EntryId]) -> Result<Vec<StreamStats>, ServerError> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("MULTI");
        for (stream, after) in self.streams.iter().zip(after) {
            pipeline.cmd("XINFO").arg("STREAM").arg(stream);
            let mut next = redis::cmd("XRANGE");
            add_range_after(next.arg(stream), *after, "+");
            next.arg("COUNT").arg(1);
            pipeline.add_command(next);
            pipeline.cmd("XPENDING").arg(stream).arg(&self.membership.group);
        }
        pipeline.cmd("EXEC");
        // The transaction ends the watch.
        self.watched = None;
        let done = loop {
            let mut replies = self.ask(&pipeline, "to look at the streams")?;
            let refusal = reply::first_error(&replies);
            match replies.pop().map(reply::checked) {
                // The lease changed while it was watched: nothing was executed, and the watch has ended.
                Some(Ok(Value::Nil)) => {}
                Some(Ok(done)) => break done,
                None => break Value::Nil,
                Some(Err(error)) => {
                    return Err(self.failed("to look at the streams")(refusal.unwrap_or(error)));
                }
            }
        };
        let failed = || self.failed("to look at the streams");
        let done = reply::array(done, "EXEC is not a list").map_err(failed())?;
        let mut surveys = Vec::with_capacity(self.streams.len());
        let mut done = done.into_iter();
        while let (Some(info), Some(next), Some(pending)) = (done.next(), done.next(), done.next()) {
            surveys.push(stream_stats(info, next, pending).map_err(failed())?);
        }
        Ok(surveys)
    }

    /// Returns the number of entries of a stream after one entry, up to and including another. [1]
    pub fn count_between(&mut self, stream: usize, after: EntryId, to: EntryId) -> Result<u64, ServerError> {
        let (mut count, mut from) = (0, after);
        while from < to {
            let mut command = redis::cmd("XRANGE");
            add_range_after(command.arg(&self.streams[stream]), from, &to.to_string());
            let (entries, last) = self.count_page(command.arg("COUNT").arg(COUNT_PAGE_ENTRIES))?;
            let Some(last) = last else { break };
            (count, from) = (count + entries, last);
        }
        Ok(count)
    }

    /// Returns the number of entries that a command returns, and the last of them. Stores none of them.
    fn count_page(&mut self, command: &redis::Cmd) -> Result<(u64, Option<EntryId>), ServerError> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(command.clone());
        let (mut entries, mut last) = (0, None);
        let asked = self.wire.send(&pipeline).and_then(|()| self.wire.receive(1));
        let replies = asked.map_err(self.failed("to count entries"))?;
        let mut walk = Walk::new(replies.bytes());
        let walked = next_reply(&mut walk).and_then(|()| {
            walk.entries(|entry| {
                entries += 1;
                last = Some(entry.id);
            })
        });
        let outcome = walked.map_err(unlike).map_err(self.failed("to count entries"));
        self.wire.reuse(replies);
        outcome.map(|()| (entries, last))
    }

    /// Returns the first entry of a stream after another one.
    pub fn next_after(&mut self, stream: usize, after: EntryId) -> Result<Option<EntryId>, ServerError> {
        let mut command = redis::cmd("XRANGE");
        add_range_after(command.arg(&self.streams[stream]), after, "+");
        command.arg("COUNT").arg(1);
        Ok(self.listed(command, "to look for an entry")?.first().map(|entry| entry.id))
    }

    /// Returns the last entry of a stream whose id is at or before another id.
    pub fn last_until(&mut self, stream: usize, to: EntryId) -> Result<Option<EntryId>, ServerError> {
        let mut command = redis::cmd("XREVRANGE");
        command.arg(&self.streams[stream]).arg(to.to_string()).arg("-").arg("COUNT").arg(1);
        Ok(self.listed(command, "to look for an entry")?.first().map(|entry| entry.id))
    }

    fn listed(&mut self, command: redis::Cmd, doing: &'static str) -> Result<Vec<RawEntry>, ServerError> {
        self.wire.ask_one(command).and_then(reply::entries).map_err(self.failed(doing))
    }

    /// Creates the group on a stream if it does not exist, starting at an entry, and returns its state.
    pub fn join(&mut self, stream: usize, from: EntryId) -> Result<GroupState, ServerError> {
        let group = self.membership.group.clone();
        let name = self.streams[stream].clone();
        let doing = format!("to make the group {group} on {name}");
        let mut create = redis::cmd("XGROUP");
        create.arg("CREATE").arg(&name).arg(&group).arg(from.to_string()).arg("MKSTREAM");
        let created = self.wire.ask_one(create);
        if let Err(error) = created
            && error.code() != Some("BUSYGROUP")
        {
            return Err(self.failed(doing)(error));
        }
        let mut info = redis::cmd("XINFO");
        info.arg("GROUPS").arg(&name);
        let listed = self.wire.ask_one(info).map_err(self.failed(&doing))?;
        let groups = reply::array(listed, "groups are not a list").map_err(self.failed(&doing))?;
        for named in groups {
            let of_group = reply::named(named).map_err(self.failed(&doing))?;
            if let Some(state) = group_state(of_group, &group).map_err(self.failed(&doing))? {
                return Ok(state);
            }
        }
        let gone = (redis::ErrorKind::UnexpectedReturnType, "the group is gone again").into();
        Err(self.failed(doing)(gone))
    }

    /// Returns the entries after another one that were delivered to us and are not acknowledged.
    pub fn own_pending(&mut self, stream: usize, after: EntryId) -> Result<Vec<RawEntry>, ServerError> {
        // After the greatest id the server would start again at the beginning.
        if after == EntryId::MAX {
            return Ok(Vec::new());
        }
        let Membership { group, consumer, .. } = &self.membership;
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(group).arg(consumer).arg("COUNT").arg(1000);
        command.arg("STREAMS").arg(&self.streams[stream]).arg(after.to_string());
        let answered = self.wire.ask_one(command);
        let failed = || self.failed("to read what is pending");
        let mut listed = reply::entries_by_stream(answered.map_err(failed())?).map_err(failed())?;
        Ok(listed.pop().map(|(_, entries)| entries).unwrap_or_default())
    }

    /// Claims entries that have been pending at other consumers for at least a given time, one page at a time. Returns
    /// the start of the next page.
    pub fn claim(
        &mut self,
        stream: usize,
        idle: Duration,
        from: EntryId,
    ) -> Result<(Vec<RawEntry>, Option<EntryId>), ServerError> {
        let Membership { group, consumer, .. } = &self.membership;
        let mut command = redis::cmd("XAUTOCLAIM");
        command.arg(&self.streams[stream]).arg(group).arg(consumer).arg(idle.as_millis() as u64);
        command.arg(from.to_string()).arg("COUNT").arg(1000);
        let answered = self.wire.ask_one(command);
        let failed = || self.failed("to claim what is pending");
        let parts = reply::array(answered.map_err(failed())?, "XAUTOCLAIM is not a list").map_err(failed())?;
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
            "length" => stream_stats.length = reply::number(value, "length is not a number")?,
            "entries-added" => {
                stream_stats.entries_added = Some(reply::number(value, "entries-added is not a number")?)
            }
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
    if let Ok(summary) = reply::array(pending, "XPENDING is not a list") {
        let mut summary = summary.into_iter();
        stream_stats.pending = reply::number(summary.next().unwrap_or_default(), "pending is not a number")?;
        stream_stats.pending_first = summary.next().and_then(|first| reply::entry_id(first).ok());
    }
    Ok(stream_stats)
}

fn group_state(pairs: Vec<(String, Value)>, group: &str) -> Result<Option<GroupState>, RedisError> {
    let mut state = GroupState::default();
    let mut is_ours = false;
    for (name, value) in pairs {
        match name.as_str() {
            "name" => is_ours = reply::text(value, "a group's name is not a text")? == group,
            "last-delivered-id" => state.last_delivered = reply::entry_id(value)?,
            "pending" => state.pending = reply::number(value, "pending is not a number")?,
            _ => {}
        }
    }
    Ok(is_ours.then_some(state))
}
