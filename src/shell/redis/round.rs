//! A round: the next entries of all streams, read in one transaction that the fence allows.
//!
//! Two calls send the commands of a round and receive its replies. So the server works on one round while the entries
//! of the round before are folded.

use std::ops::Range;

use redis::Pipeline;

use super::consume::{Consumer, Membership};
use super::frame::{EntryAt, Pairs, Token, Walk, WalkError};
use super::ranges::add_range_after;
use super::server::ServerError;
use super::wire::{Replies, unlike};
use crate::domain::event::ids::EntryId;

const DOING: &str = "to read the streams";

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

/// The result of one round. It owns the bytes of its entries.
///
/// In a cluster it contains the rounds of the other servers. Each was read after the clock of its own server.
#[derive(Debug, Default)]
pub struct Round {
    /// The server's clock before the reads; in a cluster, the clock of the server with the lease. [µs since 1970]
    pub time_us: u64,
    /// True if a key that was not a stream is now a stream or absent.
    pub has_returned: bool,
    replies: Replies,
    entries: Vec<EntryAt>,
    /// By stream, in the order in which the streams were named: the range of its entries.
    of_stream: Vec<Range<usize>>,
    others: Vec<Self>,
    /// In a cluster: for each stream the index of its round, 0 for this one, and its index in that round.
    at: Vec<(usize, usize)>,
}

impl Round {
    /// Adds the rounds of other servers. `at` has the round of each stream and its index in that round.
    pub(super) fn beside(mut self, others: Vec<Self>, at: Vec<(usize, usize)>) -> Self {
        self.has_returned |= others.iter().any(|other| other.has_returned);
        Self { others, at, ..self }
    }

    pub(super) fn take_others(&mut self) -> Vec<Self> {
        self.at.clear();
        std::mem::take(&mut self.others)
    }

    /// Returns the round of a stream, and its index in that round.
    fn round_of(&self, stream: usize) -> (&Self, usize) {
        match self.at.get(stream) {
            None => (self, stream),
            Some((0, local)) => (self, *local),
            Some((round, local)) => (&self.others[round - 1], *local),
        }
    }

    /// Returns the clock of a stream's server before the reads. [µs since 1970]
    pub fn time_us_of(&self, stream: usize) -> u64 {
        self.round_of(stream).0.time_us
    }

    /// Returns the slowest of all servers' clocks. [µs since 1970]
    pub fn slowest_time_us(&self) -> u64 {
        self.others.iter().map(|other| other.time_us).fold(self.time_us, u64::min)
    }

    /// Returns the fastest of all servers' clocks. [µs since 1970]
    pub fn fastest_time_us(&self) -> u64 {
        self.others.iter().map(|other| other.time_us).fold(self.time_us, u64::max)
    }

    /// Reads a round from the replies to `TIME` and to one read of several streams. Returns `None` if the replies have
    /// another form.
    pub fn parse(replies: Vec<u8>, streams: &[String]) -> Option<Self> {
        let sent = InFlight { asked: vec![Asked::Entries], is_fenced: false, replies: 2, streams: streams.len() };
        let (replies, mut round) = (Replies::of(replies), Self::default());
        read(&replies, &sent, streams, &mut round).ok()?;
        round.replies = replies;
        Some(round)
    }

    /// Returns the entries of a stream, in their order.
    pub fn of(&self, stream: usize) -> &[EntryAt] {
        let (round, stream) = self.round_of(stream);
        &round.entries[round.of_stream[stream].clone()]
    }

    /// Returns names and values of an entry of a stream, in their order; `None` if it was trimmed.
    pub fn pairs(&self, stream: usize, entry: EntryAt) -> Option<Pairs<'_>> {
        entry.pairs(self.round_of(stream).0.replies.bytes())
    }

    /// Returns the number of entries of all streams. [1]
    pub fn len(&self) -> usize {
        self.entries.len() + self.others.iter().map(Self::len).sum::<usize>()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The result of a round.
#[derive(Debug)]
pub enum RoundAnswer {
    Read(Round),
    /// The lease was written in the meantime: nothing was read. The next round determines the reason.
    LeaseChanged,
}

/// The result of sending a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Sent,
    /// The lease is not ours: nothing was sent.
    Fenced,
}

/// The content that a command of a round requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// Several streams.
    Entries,
    EntriesOf(usize),
    Kind,
}

/// A round whose replies have not been received.
#[derive(Debug)]
pub(super) struct InFlight {
    asked: Vec<Asked>,
    is_fenced: bool,
    replies: usize,
    streams: usize,
}

impl Consumer {
    /// Requests at most `count` next entries of every stream without waiting for them. With a fence, the server reads
    /// only while the lease has this value.
    pub fn send_round(&mut self, takes: &[Take], count: usize, fence: Option<&str>) -> Result<Sent, ServerError> {
        assert!(self.in_flight.is_none(), "one round at a time");
        if fence.is_some() && self.watched.as_deref() != fence && self.watch()?.as_deref() != fence {
            return Ok(Sent::Fenced);
        }
        let mut pipeline = Pipeline::new();
        if fence.is_some() {
            pipeline.cmd("MULTI");
        }
        pipeline.cmd("TIME");
        let asked = self.add_reads(&mut pipeline, takes, count);
        if fence.is_some() {
            pipeline.cmd("EXEC").cmd("WATCH").arg(&self.membership.lease_key);
            pipeline.cmd("GET").arg(&self.membership.lease_key);
        }
        self.wire.send(&pipeline).map_err(self.failed(DOING))?;
        self.in_flight =
            Some(InFlight { asked, is_fenced: fence.is_some(), replies: pipeline.len(), streams: takes.len() });
        Ok(Sent::Sent)
    }

    /// Returns true if a round was sent and its replies were not received yet.
    pub fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Waits for the replies of the round that was sent.
    pub fn receive_round(&mut self) -> Result<RoundAnswer, ServerError> {
        let sent = self.in_flight.take().expect("a round was sent");
        let replies = self.wire.receive(sent.replies).map_err(self.failed(DOING))?;
        let mut round = std::mem::take(&mut self.spare);
        let read = read(&replies, &sent, &self.streams, &mut round).map_err(unlike);
        round.replies = replies;
        let (is_done, watched) = match read {
            Ok(found) => found,
            Err(error) => {
                self.watched = None;
                return Err(self.failed(DOING)(error));
            }
        };
        if sent.is_fenced {
            self.watched = watched;
        }
        if !is_done {
            self.reuse(round);
            return Ok(RoundAnswer::LeaseChanged);
        }
        Ok(RoundAnswer::Read(round))
    }

    /// Keeps the memory of a round for the next one.
    pub fn reuse(&mut self, mut round: Round) {
        self.wire.reuse(std::mem::take(&mut round.replies));
        self.spare = round;
    }

    /// Adds the commands that read. Returns the content that each of them asks for.
    fn add_reads(&self, pipeline: &mut Pipeline, takes: &[Take], count: usize) -> Vec<Asked> {
        let mut asked = Vec::new();
        let new: Vec<&String> = self.named(takes, |take| matches!(take, Take::New));
        if !new.is_empty() {
            let Membership { group, consumer, pending_list, .. } = &self.membership;
            let command = pipeline.cmd("XREADGROUP").arg("GROUP").arg(group).arg(consumer);
            command.arg("COUNT").arg(count);
            if !pending_list {
                command.arg("NOACK");
            }
            command.arg("STREAMS").arg(&new).arg(vec![">"; new.len()]);
            asked.push(Asked::Entries);
        }
        let after: Vec<String> = takes
            .iter()
            .filter_map(|take| if let Take::After(id) = take { Some(id.to_string()) } else { None })
            .collect();
        if !after.is_empty() {
            let names = self.named(takes, |take| matches!(take, Take::After(_)));
            pipeline.cmd("XREAD").arg("COUNT").arg(count).arg("STREAMS").arg(names).arg(after);
            asked.push(Asked::Entries);
        }
        for (index, take) in takes.iter().enumerate() {
            match take {
                Take::Range { after, to } => {
                    let mut command = redis::cmd("XRANGE");
                    add_range_after(command.arg(&self.streams[index]), *after, &to.to_string());
                    command.arg("COUNT").arg(count);
                    pipeline.add_command(command);
                    asked.push(Asked::EntriesOf(index));
                }
                Take::Barred => {
                    pipeline.cmd("TYPE").arg(&self.streams[index]);
                    asked.push(Asked::Kind);
                }
                Take::Nothing | Take::New | Take::After(_) => {}
            }
        }
        asked
    }

    fn named(&self, takes: &[Take], is_meant: impl Fn(&Take) -> bool) -> Vec<&String> {
        takes.iter().zip(&self.streams).filter(|(take, _)| is_meant(take)).map(|(_, name)| name).collect()
    }
}

/// Finds the entries in the replies of a round. Returns true if the transaction was carried out, and the lease after
/// it.
fn read<'a>(
    replies: &'a Replies,
    sent: &InFlight,
    streams: &[String],
    round: &mut Round,
) -> Result<(bool, Option<String>), WalkError<'a>> {
    round.entries.clear();
    round.of_stream.clear();
    round.of_stream.resize(sent.streams, 0..0);
    round.has_returned = false;
    let mut walk = Walk::new(replies.bytes());
    if !sent.is_fenced {
        return read_answers(&mut walk, sent, streams, round).map(|()| (true, None));
    }
    // MULTI, and for each command the reply that it is queued. A transaction that was not executed does not contain the
    // reason. The reply to the refused command does.
    for _ in 0..sent.asked.len() + 2 {
        next_reply(&mut walk)?;
        walk.value()?;
    }
    next_reply(&mut walk)?;
    let is_done = walk.list("EXEC is not a list")?.is_some();
    if is_done {
        read_answers(&mut walk, sent, streams, round)?;
    }
    next_reply(&mut walk)?;
    walk.value()?; // WATCH
    next_reply(&mut walk)?;
    let lease = match walk.value()? {
        Token::Text(lease) => std::str::from_utf8(lease).ok().map(str::to_owned),
        _ => None,
    };
    Ok((is_done, lease))
}

/// Skips messages that were not requested by a command.
pub(super) fn next_reply<'a>(walk: &mut Walk<'a>) -> Result<(), WalkError<'a>> {
    loop {
        let mut after = *walk;
        let Token::Push(_) = after.token()? else { return Ok(()) };
        walk.skip(1)?;
    }
}

/// Reads the time, and the answer to each command.
fn read_answers<'a>(
    walk: &mut Walk<'a>,
    sent: &InFlight,
    streams: &[String],
    round: &mut Round,
) -> Result<(), WalkError<'a>> {
    let next = |walk: &mut Walk<'a>| if sent.is_fenced { Ok(()) } else { next_reply(walk) };
    next(walk)?;
    if walk.list("TIME is not a list")? != Some(2) {
        return Err(WalkError::Unexpected("TIME is not a pair"));
    }
    round.time_us = walk.number("TIME is not a number")?.saturating_mul(1_000_000);
    round.time_us = round.time_us.saturating_add(walk.number("TIME is not a number")?);
    let Round { entries, of_stream, has_returned, .. } = round;
    for asked in &sent.asked {
        next(walk)?;
        match asked {
            Asked::Entries => read_streams(walk, streams, entries, of_stream)?,
            Asked::EntriesOf(stream) => {
                let first = entries.len();
                walk.entries(|entry| entries.push(entry))?;
                of_stream[*stream] = first..entries.len();
            }
            Asked::Kind => {
                *has_returned |= matches!(walk.bytes("a type is not a text")?, b"stream" | b"none");
            }
        }
    }
    Ok(())
}

fn read_streams<'a>(
    walk: &mut Walk<'a>,
    streams: &[String],
    entries: &mut Vec<EntryAt>,
    of_stream: &mut [Range<usize>],
) -> Result<(), WalkError<'a>> {
    let mut streams_of = walk.streams()?;
    while let Some(name) = streams_of.next(walk)? {
        let first = entries.len();
        walk.entries(|entry| entries.push(entry))?;
        if let Some(index) = streams.iter().position(|stream| stream.as_bytes() == name) {
            of_stream[index] = first..entries.len();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One entry of a stream, read at a time of its server. [s since 1970]
    fn read_at(seconds: u64, stream: &str, id: &str) -> Round {
        let replies = format!(
            "*2\r\n${}\r\n{seconds}\r\n$1\r\n0\r\n*1\r\n*2\r\n${}\r\n{stream}\r\n*1\r\n*2\r\n${}\r\n{id}\r\n\
             *2\r\n$1\r\nn\r\n${}\r\n{stream}\r\n",
            seconds.to_string().len(),
            stream.len(),
            id.len(),
            stream.len()
        );
        Round::parse(replies.into_bytes(), &[stream.to_owned()]).expect("a round")
    }

    #[test]
    fn rounds_of_several_servers_are_one_and_each_stream_has_the_clock_of_its_own() {
        let (home, other) = (read_at(10, "intent", "1-0"), read_at(13, "price", "2-0"));
        let mut round = home.beside(vec![other], vec![(1, 0), (0, 0)]);
        assert_eq!((round.len(), round.time_us_of(0), round.time_us_of(1)), (2, 13_000_000, 10_000_000));
        assert_eq!((round.slowest_time_us(), round.fastest_time_us()), (10_000_000, 13_000_000));
        for (stream, name) in [(0, "price"), (1, "intent")] {
            let [entry] = round.of(stream) else { panic!("one entry of {name}") };
            let pairs: Vec<_> = round.pairs(stream, *entry).expect("fields").collect();
            assert_eq!(pairs.len(), 1);
            assert_eq!(pairs[0].1, name.as_bytes(), "its bytes are those of its own server");
        }
        assert_eq!(round.take_others().len(), 1);
        assert_eq!((round.len(), round.time_us_of(0)), (1, 10_000_000), "its space is used again by itself");
    }
}
