//! The connections of a reader: one for the streams that share a slot with the lease, and one for each further slot.
//!
//! Without a cluster there is one connection for all streams.
//!
//! A transaction, and a read of several streams, must stay within a slot. The streams in the slot of the lease are read
//! as without a cluster: through the group, while the fence is valid. The streams of other slots cannot be fenced by a
//! lease on another server. They are read by their ids without the group, which takes nothing from another process.
//!
//! A read that waits at one server would keep the reader from the entries of the others. So each link has a second
//! connection that only waits. Its answer shows that a read will return entries.

use std::time::Duration;

use redis::RedisError;
use rustix::event::{PollFd, PollFlags, Timespec};

use super::address::Address;
use super::cluster::{self, View};
use super::consume::{Consumer, GroupState, Membership, StreamStats};
use super::reply::{self, RawEntry};
use super::round::{Round, RoundAnswer, Sent, Take};
use super::server::{ServerError, failed};
use super::slot::slot_of;
use super::wire::Wire;
use crate::domain::event::ids::EntryId;

/// The streams of one slot, on the server that owns it.
struct Link {
    consumer: Consumer,
    /// The indices of these streams among the reader's streams.
    streams: Vec<usize>,
    waiting: Option<Waiting>,
}

/// A connection that waits for entries.
struct Waiting {
    wire: Wire,
    /// True until the server has answered.
    is_asked: bool,
}

/// All connections of a reader.
pub struct Links {
    /// The first one is connected to the server of the lease.
    links: Vec<Link>,
    /// By stream: the index of its link, and its index within that link.
    at: Vec<(usize, usize)>,
}

impl Links {
    /// Connects to the owners of all streams. Returns an error if one of them cannot be reached or refuses us.
    pub fn connect(address: &Address, streams: Vec<String>, membership: &Membership) -> Result<Self, ServerError> {
        if !address.is_cluster() {
            let all = (0..streams.len()).collect();
            let at = (0..streams.len()).map(|stream| (0, stream)).collect();
            let consumer = Consumer::connect(address, streams, membership.clone())?;
            return Ok(Self { links: vec![Link { consumer, streams: all, waiting: None }], at });
        }
        let view = cluster::view(address)?;
        let (slots, at) = by_slot(&streams, slot_of(&membership.lease_key));
        let mut links = Vec::with_capacity(slots.len());
        for (slot, of_link) in slots {
            let names = of_link.iter().map(|stream| streams[*stream].clone()).collect();
            links.push(Link::connect(address, &view, slot, of_link, names, membership)?);
        }
        Ok(Self { links, at })
    }

    /// Returns true if a reply was too large: then fewer entries must be requested.
    pub fn had_too_large_a_reply(&self) -> bool {
        self.links.iter().any(|link| link.consumer.had_too_large_a_reply())
    }

    fn of(&mut self, stream: usize) -> (&mut Consumer, usize) {
        let (link, local) = self.at[stream];
        (&mut self.links[link].consumer, local)
    }

    /// Does [`Consumer::stream_stats`] at each server.
    pub fn stream_stats(&mut self, after: &[EntryId]) -> Result<Vec<StreamStats>, ServerError> {
        if let [only] = &mut self.links[..] {
            return only.consumer.stream_stats(after);
        }
        let mut all = vec![StreamStats::default(); after.len()];
        for link in self.links.iter_mut().filter(|link| !link.streams.is_empty()) {
            let after: Vec<EntryId> = link.streams.iter().map(|stream| after[*stream]).collect();
            for (stream, stats) in link.streams.iter().zip(link.consumer.stream_stats(&after)?) {
                all[*stream] = stats;
            }
        }
        Ok(all)
    }

    pub fn count_between(&mut self, stream: usize, after: EntryId, to: EntryId) -> Result<u64, ServerError> {
        let (consumer, stream) = self.of(stream);
        consumer.count_between(stream, after, to)
    }

    pub fn next_after(&mut self, stream: usize, after: EntryId) -> Result<Option<EntryId>, ServerError> {
        let (consumer, stream) = self.of(stream);
        consumer.next_after(stream, after)
    }

    pub fn last_until(&mut self, stream: usize, to: EntryId) -> Result<Option<EntryId>, ServerError> {
        let (consumer, stream) = self.of(stream);
        consumer.last_until(stream, to)
    }

    pub fn join(&mut self, stream: usize, from: EntryId) -> Result<GroupState, ServerError> {
        let (consumer, stream) = self.of(stream);
        consumer.join(stream, from)
    }

    pub fn own_pending(&mut self, stream: usize, after: EntryId) -> Result<Vec<RawEntry>, ServerError> {
        let (consumer, stream) = self.of(stream);
        consumer.own_pending(stream, after)
    }

    /// Claims all entries that are pending at other consumers, for however long: see [`Consumer::claim`].
    pub fn claim(&mut self, stream: usize, from: EntryId) -> Result<(Vec<RawEntry>, Option<EntryId>), ServerError> {
        let (consumer, stream) = self.of(stream);
        // The lease is ours, so no other consumer of this group will continue with its entries.
        consumer.claim(stream, Duration::ZERO, from)
    }

    /// Asks every server for the next entries of its streams. Only the server with the lease checks the fence.
    pub fn send_round(&mut self, takes: &[Take], count: usize, fence: Option<&str>) -> Result<Sent, ServerError> {
        if let [only] = &mut self.links[..] {
            return only.consumer.send_round(takes, count, fence);
        }
        for (index, link) in self.links.iter_mut().enumerate() {
            let takes: Vec<Take> = link.streams.iter().map(|stream| takes[*stream]).collect();
            let fence = fence.filter(|_| index == 0);
            if link.consumer.send_round(&takes, count, fence)? == Sent::Fenced {
                return Ok(Sent::Fenced);
            }
        }
        Ok(Sent::Sent)
    }

    /// Waits for all replies of the round that was sent.
    pub fn receive_round(&mut self) -> Result<RoundAnswer, ServerError> {
        if let [only] = &mut self.links[..] {
            return only.consumer.receive_round();
        }
        // All replies are received, so that none is left on a connection if one server refuses.
        let answers: Vec<_> = self.links.iter_mut().map(|link| link.consumer.receive_round()).collect();
        let mut rounds = Vec::with_capacity(answers.len());
        for answer in answers {
            rounds.push(match answer? {
                RoundAnswer::Read(round) => Some(round),
                RoundAnswer::LeaseChanged => None,
            });
        }
        let others: Vec<Round> = rounds.split_off(1).into_iter().flatten().collect();
        match rounds.pop().flatten() {
            Some(home) => Ok(RoundAnswer::Read(home.beside(others, self.at.clone()))),
            // The other servers have read by ids, and are asked for the same again.
            None => {
                for (link, round) in self.links[1..].iter_mut().zip(others) {
                    link.consumer.reuse(round);
                }
                Ok(RoundAnswer::LeaseChanged)
            }
        }
    }

    /// Keeps the memory of a round for the next one.
    pub fn reuse(&mut self, mut round: Round) {
        let others = round.take_others();
        for (link, round) in self.links.iter_mut().zip(std::iter::once(round).chain(others)) {
            link.consumer.reuse(round);
        }
    }

    /// Waits until one of the streams has an entry after the one that `after` names for it, or until the time is over.
    /// Returns the first of the new entries.
    pub fn wait(&mut self, after: &[Option<EntryId>], limit: Duration) -> Result<Option<EntryId>, ServerError> {
        if let [only] = &mut self.links[..] {
            return only.consumer.wait(after, limit);
        }
        for link in &mut self.links {
            link.ask_to_wait(after, limit)?;
        }
        let asked = |link: &Link| link.waiting.as_ref().is_some_and(|waiting| waiting.is_asked);
        let wires = self.links.iter().filter(|link| asked(link)).filter_map(|link| link.waiting.as_ref());
        let mut polled: Vec<PollFd<'_>> = wires.map(|waiting| PollFd::new(&waiting.wire, PollFlags::IN)).collect();
        let limit = Timespec::try_from(limit).unwrap_or_default();
        match rustix::event::poll(&mut polled, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => {
                let source = std::io::Error::from(error).into();
                return Err(failed(&self.links[0].consumer.wire.name, "to wait for entries")(source));
            }
        }
        let answered: Vec<bool> = polled.iter().map(|polled| !polled.revents().is_empty()).collect();
        drop(polled);
        let mut first = None;
        let asked = self.links.iter_mut().filter(|link| asked(link));
        for link in asked.zip(answered).filter(|(_, answered)| *answered).map(|(link, _)| link) {
            let came = link.came()?;
            first = match (first, came) {
                (Some(first), Some(came)) => Some(came.min(first)),
                (first, came) => first.or(came),
            };
        }
        Ok(first)
    }
}

impl Link {
    fn connect(
        address: &Address,
        view: &View,
        slot: u16,
        streams: Vec<usize>,
        names: Vec<String>,
        membership: &Membership,
    ) -> Result<Self, ServerError> {
        let node = address.of_node(view.owner(address, slot)?)?;
        let waiting = Some(Waiting { wire: Wire::connect(&node)?, is_asked: false });
        Ok(Self { consumer: Consumer::connect(&node, names, membership.clone())?, streams, waiting })
    }

    /// Asks the server to answer when it has an entry, unless that request is running.
    fn ask_to_wait(&mut self, after: &[Option<EntryId>], limit: Duration) -> Result<(), ServerError> {
        let Some(waiting) = self.waiting.as_mut().filter(|waiting| !waiting.is_asked) else { return Ok(()) };
        let named = self.streams.iter().zip(&self.consumer.streams);
        let named = named.filter_map(|(stream, name)| Some((name, after[*stream]?.to_string())));
        let (names, ids): (Vec<&String>, Vec<String>) = named.unzip();
        if names.is_empty() {
            return Ok(());
        }
        let mut command = redis::Pipeline::with_capacity(1);
        command.cmd("XREAD").arg("COUNT").arg(1).arg("BLOCK").arg(limit.as_millis().max(1) as u64);
        command.arg("STREAMS").arg(names).arg(ids);
        waiting.wire.send(&command).map_err(failed(&waiting.wire.name, "to wait for entries"))?;
        waiting.is_asked = true;
        Ok(())
    }

    /// Returns the first new entry after the server has answered.
    fn came(&mut self) -> Result<Option<EntryId>, ServerError> {
        let Some(waiting) = &mut self.waiting else { return Ok(None) };
        waiting.is_asked = false;
        let answer = waiting
            .wire
            .receive_values(1)
            .and_then(|mut answers| reply::entries_by_stream(answers.pop().unwrap_or_default()));
        let came: Result<_, RedisError> = answer;
        let came = came.map_err(failed(&waiting.wire.name, "to wait for entries"))?;
        Ok(came.iter().flat_map(|(_, entries)| entries).map(|entry| entry.id).min())
    }
}

/// A slot, with the indices of its streams.
type OfSlot = (u16, Vec<usize>);

/// Returns the streams of each slot, beginning with the slot of the lease, and for each stream its slot and its index
/// there.
fn by_slot(streams: &[String], home: u16) -> (Vec<OfSlot>, Vec<(usize, usize)>) {
    let mut slots: Vec<OfSlot> = vec![(home, Vec::new())];
    let mut at = Vec::with_capacity(streams.len());
    for (stream, name) in streams.iter().enumerate() {
        let slot = slot_of(name);
        let link = slots.iter().position(|(known, _)| *known == slot).unwrap_or_else(|| {
            slots.push((slot, Vec::new()));
            slots.len() - 1
        });
        at.push((link, slots[link].1.len()));
        slots[link].1.push(stream);
    }
    (slots, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_read_by_slot_and_those_beside_the_lease_first() {
        let streams = ["{b}:price", "{a}:intent", "{b}:tick", "{a}:result"].map(str::to_owned);
        let (slots, at) = by_slot(&streams, slot_of("{a}:lease"));
        assert_eq!(slots, [(slot_of("a"), vec![1, 3]), (slot_of("b"), vec![0, 2])]);
        assert_eq!(at, [(1, 0), (0, 0), (1, 1), (0, 1)]);
        let (slots, at) = by_slot(&streams[..1], slot_of("{a}:lease"));
        assert_eq!((slots.len(), at), (2, vec![(1, 0)]), "the lease is watched where no stream is read");
    }
}
