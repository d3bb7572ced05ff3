//! A server as the reader asks it: streams that are trimmed, deleted and replaced, groups, ids of any kind, a clock.

use std::collections::BTreeMap;
use std::time::Duration;

use harvester::domain::event::ids::EntryId;
use harvester::service::run::source::Source;
use harvester::shell::redis::{
    GroupState, RawEntry, Round, RoundAnswer, Sent, ServerError, StreamFault, StreamStats, Take,
};

/// The server's clock at the beginning, a whole second. [ms since 1970]
pub const BEGAN_MS: u64 = 1_770_163_200_000;
/// The consumer whose requests these are.
pub const US: &str = "one";

/// The group on a stream.
#[derive(Clone, Debug, Default)]
struct Group {
    last_delivered: EntryId,
    /// Delivered and not acknowledged, each with its consumer.
    pending: BTreeMap<EntryId, &'static str>,
}

/// What a key holds.
#[derive(Clone, Debug, Default)]
pub struct Key {
    /// Something else than a stream.
    pub is_other: bool,
    exists: bool,
    pub entries: Vec<EntryId>,
    added: u64,
    last: EntryId,
    max_deleted: EntryId,
    group: Option<Group>,
}

impl Key {
    pub fn after(&self, id: EntryId) -> &[EntryId] {
        &self.entries[self.entries.partition_point(|entry| *entry <= id)..]
    }

    /// Appends an entry under an id, or under the next one if that is not the greatest.
    pub fn add(&mut self, id: EntryId) -> EntryId {
        let id = if id > self.last { id } else { self.last.next().expect("an id is left") };
        (self.exists, self.last, self.added) = (true, id, self.added + 1);
        self.entries.push(id);
        id
    }

    /// `XDEL`.
    pub fn delete(&mut self, ids: &[EntryId]) {
        self.entries.retain(|id| !ids.contains(id));
        self.max_deleted = ids.iter().copied().fold(self.max_deleted, EntryId::max);
    }

    /// `XTRIM key MAXLEN length`.
    pub fn trim(&mut self, length: usize) {
        self.entries.drain(..self.entries.len().saturating_sub(length));
    }

    /// `XGROUP SETID key group $`.
    pub fn skip(&mut self) {
        let last = self.last;
        self.group.as_mut().expect("there is a group").last_delivered = last;
    }

    /// `XGROUP DESTROY`.
    pub fn forget_group(&mut self) {
        self.group = None;
    }

    /// `XREADGROUP … >` by a consumer, without an acknowledgement.
    pub fn deliver_to(&mut self, consumer: &'static str, count: usize) {
        let last = self.group.get_or_insert_default().last_delivered;
        let ids: Vec<EntryId> = self.after(last).iter().take(count).copied().collect();
        let group = self.group.get_or_insert_default();
        for id in ids {
            group.last_delivered = id;
            group.pending.insert(id, consumer);
        }
    }

    fn stats(&self, after: EntryId, counts: bool) -> StreamStats {
        if self.is_other {
            return StreamStats { fault: Some(StreamFault::NotAStream), ..StreamStats::default() };
        }
        if !self.exists {
            return StreamStats::default();
        }
        StreamStats {
            exists: true,
            fault: Some(StreamFault::IdsExhausted).filter(|_| self.last == EntryId::MAX),
            length: self.entries.len() as u64,
            entries_added: counts.then_some(self.added),
            last_id: self.last,
            max_deleted: counts.then_some(self.max_deleted),
            first_id: self.entries.first().copied(),
            next_id: self.after(after).first().copied(),
            pending: self.group.as_ref().map_or(0, |group| group.pending.len() as u64),
            pending_first: self.group.as_ref().and_then(|group| group.pending.keys().next().copied()),
        }
    }
}

/// The server, and the connection to it.
pub struct Server {
    names: Vec<String>,
    pub keys: Vec<Key>,
    /// False for one of 6.2: it tells neither how many entries were added nor which was deleted.
    pub counts: bool,
    pub keeps_pending: bool,
    /// A producer that appends so many entries to a stream with each request. [1]
    pub busy: Option<(usize, usize)>,
    passed: Duration,
    /// The round that was asked for.
    sent: Option<(Vec<Take>, usize)>,
}

impl Server {
    pub fn new(names: &[&str]) -> Self {
        Self {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            keys: vec![Key::default(); names.len()],
            counts: true,
            keeps_pending: true,
            busy: None,
            passed: Duration::ZERO,
            sent: None,
        }
    }

    pub fn now_ms(&self) -> u64 {
        BEGAN_MS + self.passed.as_millis() as u64
    }

    /// `XADD stream *`, so often. Returns the ids.
    pub fn add(&mut self, stream: usize, count: usize) -> Vec<EntryId> {
        let now = EntryId::new(self.now_ms(), 0);
        (0..count).map(|_| self.keys[stream].add(now)).collect()
    }

    /// Each request takes a moment, in which a producer goes on.
    fn request(&mut self) {
        self.passed += Duration::from_micros(100);
        if let Some((stream, count)) = self.busy {
            self.add(stream, count);
        }
    }

    fn take(&mut self, stream: usize, take: Take, count: usize) -> Result<Vec<EntryId>, ServerError> {
        let key = &mut self.keys[stream];
        if key.is_other && !matches!(take, Take::Nothing | Take::Barred) {
            return Err(refused("WRONGTYPE"));
        }
        Ok(match take {
            Take::Nothing | Take::Barred => Vec::new(),
            Take::After(id) => key.after(id).iter().take(count).copied().collect(),
            Take::Range { after, to } => key.after(after).iter().filter(|id| **id <= to).take(count).copied().collect(),
            Take::New => {
                let Some(group) = &mut key.group else { return Err(refused("NOGROUP")) };
                let last = group.last_delivered;
                let new: Vec<EntryId> = key.entries.iter().filter(|id| **id > last).take(count).copied().collect();
                for id in &new {
                    group.last_delivered = *id;
                    if self.keeps_pending {
                        group.pending.insert(*id, US);
                    }
                }
                new
            }
        })
    }

    /// Returns the reply to `TIME`, and to a read of these entries.
    fn replies(&self, read: &[(usize, Vec<EntryId>)]) -> Vec<u8> {
        let text = |text: &str| format!("${}\r\n{text}\r\n", text.len());
        let micros = self.passed.subsec_micros().to_string();
        let mut bytes = format!("*2\r\n{}{}", text(&(self.now_ms() / 1000).to_string()), text(&micros));
        bytes += &format!("*{}\r\n", read.len());
        for (stream, ids) in read {
            bytes += &format!("*2\r\n{}*{}\r\n", text(&self.names[*stream]), ids.len());
            for id in ids {
                bytes += &format!("*2\r\n{}*2\r\n{}{}", text(&id.to_string()), text("symbol"), text("AAAUSDT"));
            }
        }
        bytes.into_bytes()
    }
}

/// The server refuses a command.
fn refused(code: &str) -> ServerError {
    let source = redis::make_extension_error(code.to_owned(), Some("of the test".to_owned()));
    ServerError::Failed { server: "model".to_owned(), doing: "to read the streams".to_owned(), source }
}

impl Source for Server {
    fn stream_stats(&mut self, after: &[EntryId]) -> Result<Vec<StreamStats>, ServerError> {
        self.request();
        Ok(self.keys.iter().zip(after).map(|(key, after)| key.stats(*after, self.counts)).collect())
    }

    fn count_between(&mut self, stream: usize, after: EntryId, to: EntryId) -> Result<u64, ServerError> {
        self.request();
        Ok(self.keys[stream].after(after).iter().filter(|id| **id <= to).count() as u64)
    }

    fn next_after(&mut self, stream: usize, after: EntryId) -> Result<Option<EntryId>, ServerError> {
        self.request();
        Ok(self.keys[stream].after(after).first().copied())
    }

    fn last_until(&mut self, stream: usize, to: EntryId) -> Result<Option<EntryId>, ServerError> {
        self.request();
        Ok(self.keys[stream].entries.iter().rev().find(|id| **id <= to).copied())
    }

    fn join(&mut self, stream: usize, from: EntryId) -> Result<GroupState, ServerError> {
        self.request();
        let key = &mut self.keys[stream];
        if key.is_other {
            return Err(refused("WRONGTYPE"));
        }
        key.exists = true;
        let group = key.group.get_or_insert_with(|| Group { last_delivered: from, ..Group::default() });
        Ok(GroupState { last_delivered: group.last_delivered, pending: group.pending.len() as u64 })
    }

    fn own_pending(&mut self, stream: usize, after: EntryId) -> Result<Vec<RawEntry>, ServerError> {
        self.request();
        let pending = self.keys[stream].group.iter().flat_map(|group| &group.pending);
        let own = pending.filter(|(id, consumer)| **id > after && **consumer == US);
        Ok(own.map(|(id, _)| RawEntry { id: *id, fields: None }).collect())
    }

    fn claim(&mut self, stream: usize, from: EntryId) -> Result<(Vec<RawEntry>, Option<EntryId>), ServerError> {
        self.request();
        let Some(group) = &mut self.keys[stream].group else { return Ok((Vec::new(), None)) };
        let others = group.pending.range_mut(from..).filter(|(_, consumer)| **consumer != US);
        let claimed = others.map(|(id, consumer)| {
            *consumer = US;
            RawEntry { id: *id, fields: None }
        });
        Ok((claimed.collect(), None))
    }

    fn send_round(&mut self, takes: &[Take], count: usize, _: Option<&str>) -> Result<Sent, ServerError> {
        self.request();
        self.sent = Some((takes.to_vec(), count));
        Ok(Sent::Sent)
    }

    fn receive_round(&mut self) -> Result<RoundAnswer, ServerError> {
        let (takes, count) = self.sent.take().expect("a round was sent");
        let mut read = Vec::new();
        for (stream, take) in takes.iter().enumerate() {
            let ids = self.take(stream, *take, count)?;
            if !ids.is_empty() {
                read.push((stream, ids));
            }
        }
        let mut round = Round::parse(self.replies(&read), &self.names).expect("the model answers as a server");
        let is_barred = |(stream, take): (usize, &Take)| *take == Take::Barred && !self.keys[stream].is_other;
        round.has_returned = takes.iter().enumerate().any(is_barred);
        Ok(RoundAnswer::Read(round))
    }

    fn reuse(&mut self, _: Round) {}

    fn wait(&mut self, after: &[Option<EntryId>], limit: Duration) -> Result<Option<EntryId>, ServerError> {
        self.request();
        let named = || self.keys.iter().zip(after).filter_map(|(key, after)| Some((key, (*after)?)));
        if named().any(|(key, _)| key.is_other) {
            return Err(refused("WRONGTYPE"));
        }
        let came = named().filter_map(|(key, after)| key.after(after).first().copied()).min();
        if came.is_none() {
            self.passed += limit;
        }
        Ok(came)
    }

    fn pause(&mut self, length: Duration) {
        self.passed += length;
    }

    fn clock(&self) -> Duration {
        self.passed
    }
}
