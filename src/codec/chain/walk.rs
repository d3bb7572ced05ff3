//! The walk along the entries: each must follow the one before it.

use super::fault::Fault;
use super::link::Link;
use super::verified::Chain;
use crate::codec::seal::chained;
use crate::domain::engine::ChainHead;

/// The state of the walk along the stream.
pub(super) struct Walk {
    /// Number and hash of the entry that the next one follows.
    pub(super) last: ChainHead,
    /// Expected hash of this entry.
    pub(super) computed: String,
    /// Missing numbers, as ranges.
    pub(super) absent: Vec<(u64, u64)>,
    /// Faults of entries that could not be read since the last readable one.
    pub(super) unread: Vec<usize>,
}

impl Walk {
    /// Begins after a trimmed head: an anchor gives the number and hash of the entry before.
    pub(super) fn begin_behind(&mut self, link: &Link, anchors: &[ChainHead], chain: &mut Chain) {
        let fits = |anchor: &&ChainHead| anchor.seq + 1 == link.seq && *anchor.hash == link.prev;
        if let Some(anchor) = anchors.iter().find(fits) {
            self.last = anchor.clone();
            chain.begins = link.seq;
        }
    }

    pub(super) fn step(&mut self, link: &mut Link, known: Option<&Link>, chain: &mut Chain) {
        let computed = chained(&link.prev, &link.payload);
        let is_own = computed == link.hash;
        let follows = link.prev == *self.last.hash || link.prev == self.computed;
        let next = self.last.seq + 1;
        if known.is_some_and(|known| known.payload == link.payload) {
            // The same decision again is a duplicate, and no part of the chain.
            return;
        }
        if link.seq != next && follows && is_own {
            link.authentic = false;
            chain.fault(Fault::Seq, link, format!("seq is {}, by its hash it is number {next}", link.seq));
            link.seq = next;
        } else if link.seq > next {
            self.skip(next, link.seq - 1, chain);
        } else if link.seq < next {
            self.out_of_place(link, known, chain);
            return;
        }
        if !is_own {
            link.authentic = false;
            let (what, why) = if chained(&self.last.hash, &link.payload) == link.hash {
                (Fault::Previous, "prev was altered: the hash is that of the entry before and the payload")
            } else {
                (Fault::Payload, "the hash is not that of prev and payload")
            };
            chain.fault(what, link, why.to_owned());
        } else if !follows && link.seq == next {
            chain.fault(Fault::Previous, link, format!("prev is not the hash of number {}", self.last.seq));
        } else if !self.computed.is_empty() && link.prev == self.computed && link.prev != *self.last.hash {
            // The next entry follows the expected last one, so its hash was altered and not its payload.
            if let Some(fault) = chain.tampered.iter_mut().rev().find(|f| f.what == Fault::Payload) {
                fault.what = Fault::Hash;
                "the hash was altered: the next entry follows prev and payload as they are".clone_into(&mut fault.why);
            }
        }
        self.unread.clear();
        self.last = ChainHead { seq: link.seq, hash: link.hash.as_str().into() };
        self.computed = computed;
    }

    /// Reports missing numbers. Numbers of entries that could not be read are included.
    fn skip(&mut self, from: u64, to: u64, chain: &mut Chain) {
        let mut from = from;
        for fault in self.unread.drain(..) {
            if from <= to {
                chain.tampered[fault].seq = Some(from);
                from += 1;
            }
        }
        if from <= to {
            self.absent.push((from, to));
        }
    }

    /// Handles an entry whose number the walk has passed.
    fn out_of_place(&mut self, link: &mut Link, known: Option<&Link>, chain: &mut Chain) {
        if let Some(known) = known {
            link.authentic = false;
            chain.fault(Fault::Fork, link, format!("number {} is taken by {}", link.seq, known.decision_id()));
            return;
        }
        if let Some(index) = self.absent.iter().position(|(from, to)| (*from..=*to).contains(&link.seq)) {
            let (from, to) = self.absent.remove(index);
            let parts = [(from, link.seq - 1), (link.seq + 1, to)];
            self.absent.extend(parts.into_iter().filter(|(from, to)| from <= to));
        }
        chain.fault(Fault::Order, link, format!("number {} stands behind number {}", link.seq, self.last.seq));
        if chained(&link.prev, &link.payload) != link.hash {
            link.authentic = false;
            chain.fault(Fault::Payload, link, "the hash is not that of prev and payload".to_owned());
        }
    }
}
