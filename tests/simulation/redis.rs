//! The model of a Redis server: streams with groups, keys that expire, hashes, and its own clock.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use harvester::domain::event::ids::EntryId;
use harvester::shell::redis::StreamStats;

/// The beginning of time in a run. [ms since 1970]
pub const BEGAN_MS: u64 = 1_770_163_200_000;

pub type Fields = Rc<Vec<(String, String)>>;

#[derive(Clone, Debug)]
pub struct StreamEntry {
    pub id: EntryId,
    pub fields: Fields,
}

impl StreamEntry {
    pub fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|(of, _)| of == name).map_or("", |(_, value)| value)
    }
}

/// The one group that reads a stream.
#[derive(Clone, Debug, Default)]
pub struct Group {
    pub last_delivered: EntryId,
    /// Entries that are delivered and not acknowledged, with the consumer.
    pub pending: BTreeMap<EntryId, usize>,
}

#[derive(Clone, Debug, Default)]
pub struct Stream {
    pub entries: Vec<StreamEntry>,
    pub added: u64,
    pub last_id: EntryId,
    pub group: Option<Group>,
}

impl Stream {
    /// Returns the entries after an id.
    pub fn after(&self, id: EntryId) -> &[StreamEntry] {
        &self.entries[self.entries.partition_point(|entry| entry.id <= id)..]
    }

    pub fn get(&self, id: EntryId) -> Option<&StreamEntry> {
        let at = self.entries.binary_search_by_key(&id, |entry| entry.id).ok()?;
        Some(&self.entries[at])
    }

    /// Removes the first entries. Returns their ids.
    pub fn trim(&mut self, length: usize) -> Vec<EntryId> {
        let gone = self.entries.len().saturating_sub(length);
        self.entries.drain(..gone).map(|entry| entry.id).collect()
    }
}

/// A key that contains text.
#[derive(Clone, Debug)]
pub struct Text {
    pub value: String,
    pub ends_us: Option<u64>,
}

/// The data of a server. A copy of it is a replica that lags, or a backup.
#[derive(Clone, Debug, Default)]
pub struct Data {
    pub streams: BTreeMap<String, Stream>,
    pub texts: BTreeMap<String, Text>,
    pub memory: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
pub struct Redis {
    pub data: Data,
    /// Virtual time. [µs]
    pub now_us: u64,
    /// Error of the server's clock. [µs]
    pub clock_off_us: i64,
    pub is_up: bool,
    /// Number of writes of the lease. A transaction that watches it does not run after a write.
    pub lease_writes: u64,
    /// Entries that another program trimmed.
    pub trimmed: Vec<(String, EntryId)>,
    /// Grows with each start and each failover: older connections are broken.
    pub epoch: u64,
    /// The greatest id of each stream that any server has given.
    pub ids_given: BTreeMap<String, EntryId>,
    /// Entries whose id is not after all earlier ones: the server lost those, and its clock went back.
    pub given_again: BTreeSet<(String, EntryId)>,
    /// Grows with every change that may wake a waiting client.
    pub changes: u64,
}

impl Redis {
    /// Returns the server's clock. [µs since 1970]
    pub fn time_us(&self) -> u64 {
        (BEGAN_MS * 1000 + self.now_us).saturating_add_signed(self.clock_off_us)
    }

    pub fn time_ms(&self) -> u64 {
        self.time_us() / 1000
    }

    pub fn stream(&mut self, name: &str) -> &mut Stream {
        if !self.data.streams.contains_key(name) {
            self.data.streams.insert(name.to_owned(), Stream::default());
        }
        self.data.streams.get_mut(name).expect("it was just made")
    }

    pub fn entries_after(&self, name: &str, id: EntryId) -> &[StreamEntry] {
        self.data.streams.get(name).map_or(&[], |stream| stream.after(id))
    }

    /// Runs `XADD name *`.
    pub fn add(&mut self, name: &str, fields: Vec<(String, String)>) -> EntryId {
        let ms = self.time_ms();
        self.changes += 1;
        let stream = self.stream(name);
        let id = if ms > stream.last_id.ms {
            EntryId::new(ms, 0)
        } else {
            EntryId::new(stream.last_id.ms, stream.last_id.seq + 1)
        };
        stream.last_id = id;
        stream.added += 1;
        let given = self.ids_given.entry(name.to_owned()).or_default();
        if id <= *given {
            self.given_again.insert((name.to_owned(), id));
        }
        *given = id.max(*given);
        let stream = self.stream(name);
        stream.entries.push(StreamEntry { id, fields: Rc::new(fields) });
        id
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        let text = self.data.texts.get(key)?;
        text.ends_us.is_none_or(|ends| self.now_us < ends).then_some(&*text.value)
    }

    pub fn set(&mut self, key: &str, value: String, lasts_us: Option<u64>) {
        self.lease_writes += u64::from(lasts_us.is_some());
        let ends_us = lasts_us.map(|lasts| self.now_us + lasts);
        self.data.texts.insert(key.to_owned(), Text { value, ends_us });
    }

    /// Returns `XINFO STREAM`, the next entry and `XPENDING`, as the reader asks for them.
    pub fn stats(&self, name: &str, after: EntryId) -> StreamStats {
        let Some(stream) = self.data.streams.get(name) else { return StreamStats::default() };
        StreamStats {
            exists: true,
            fault: None,
            length: stream.entries.len() as u64,
            entries_added: Some(stream.added),
            last_id: stream.last_id,
            max_deleted: Some(EntryId::default()),
            first_id: stream.entries.first().map(|entry| entry.id),
            next_id: stream.after(after).first().map(|entry| entry.id),
            pending: stream.group.as_ref().map_or(0, |group| group.pending.len() as u64),
            pending_first: stream.group.as_ref().and_then(|group| group.pending.keys().next().copied()),
        }
    }

    /// Runs `XREADGROUP … >`: delivers new entries to a consumer. Without a group it delivers nothing.
    pub fn deliver(&mut self, name: &str, consumer: usize, count: usize, keeps_pending: bool) -> Vec<StreamEntry> {
        let stream = self.stream(name);
        let Some(last) = stream.group.as_ref().map(|group| group.last_delivered) else { return Vec::new() };
        let new: Vec<StreamEntry> = stream.after(last).iter().take(count).cloned().collect();
        let Some(group) = &mut stream.group else { return Vec::new() };
        for entry in &new {
            group.last_delivered = entry.id;
            if keeps_pending {
                group.pending.insert(entry.id, consumer);
            }
        }
        new
    }

    /// Starts again, or as another server, with this data.
    pub fn restart(&mut self, data: Data) {
        self.data = data;
        self.is_up = true;
        self.epoch += 1;
        self.changes += 1;
    }
}
