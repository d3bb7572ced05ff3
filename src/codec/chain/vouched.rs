//! Which entries a service would accept as decisions of its chain.

use std::collections::{BTreeMap, BTreeSet};

use super::fault::Fault;
use super::link::{Link, Read};
use crate::codec::seal::chained;
use crate::codec::signing::SigningKey;
use crate::domain::engine::ChainHead;

/// The entries that a service would accept: sealed entries, and those that a sealed one follows.
///
/// An altered entry is identified by its neighbours. A forged entry has none, and nothing of the chain is compared with
/// it.
pub(super) struct Vouched {
    /// By index: accepted, or confirmed by the entry that follows.
    is_vouched: Vec<bool>,
    /// By number and previous hash: the entries that exist.
    next: BTreeSet<(u64, String)>,
    /// By number and hash.
    ends: BTreeSet<(u64, String)>,
    has_key: bool,
}

impl Vouched {
    pub(super) fn of(all: &[Read], key: Option<&SigningKey>, anchors: &[ChainHead]) -> Self {
        let links: Vec<Option<&Link>> = all.iter().map(|read| read.as_ref().ok().map(|(link, _)| link)).collect();
        let signs = |link: &Link| key.is_some_and(|key| key.vouches(link.id, &link.hash, link.signature.as_deref()));
        // A key that verifies no signature is the wrong one, and each signature is reported. Then the hashes define the
        // chain.
        let has_key = links.iter().flatten().any(|link| signs(link));
        let is_own = |link: &Link| chained(&link.prev, &link.payload) == link.hash;
        let is_anchored =
            |link: &Link| anchors.iter().any(|anchor| anchor.seq == link.seq && *anchor.hash == link.hash);
        let believed = |link: &Link| is_anchored(link) || if has_key { signs(link) } else { is_own(link) };
        let mut is_vouched: Vec<bool> = links.iter().map(|link| link.is_some_and(believed)).collect();
        // The entry that an accepted one follows existed, as its hash or its content proves.
        let mut by_hash: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, link) in links.iter().enumerate().filter_map(|(index, link)| Some((index, (*link)?))) {
            by_hash.entry(link.hash.clone()).or_default().push(index);
            by_hash.entry(chained(&link.prev, &link.payload)).or_default().push(index);
        }
        let mut open: Vec<usize> = (0..links.len()).filter(|index| is_vouched[*index]).collect();
        while let Some(link) = open.pop().and_then(|index| links[index]) {
            let before = by_hash.get(&link.prev).into_iter().flatten().copied();
            // Of several entries that claim the place, the intact one counts.
            let whole = |index: &usize| links[*index].is_some_and(&is_own);
            let is_any_whole = before.clone().any(|index| whole(&index));
            for index in before.filter(|index| whole(index) || !is_any_whole) {
                if !std::mem::replace(&mut is_vouched[index], true) {
                    open.push(index);
                }
            }
        }
        let vouched = || links.iter().zip(&is_vouched).filter(|(_, vouched)| **vouched).filter_map(|(link, _)| *link);
        Self {
            next: vouched().map(|link| (link.seq, link.prev.clone())).collect(),
            ends: vouched().map(|link| (link.seq, link.hash.clone())).collect(),
            is_vouched,
            has_key,
        }
    }

    /// Returns why an entry is not part of the chain that ends at `last`.
    pub(super) fn refusal(&self, index: usize, link: &Link, last: &ChainHead) -> Option<(Fault, &'static str)> {
        let follows = *link.prev == *last.hash;
        if !self.is_vouched[index] {
            if chained(&link.prev, &link.payload) == link.hash {
                return self
                    .has_key
                    .then_some((Fault::Signature, "it is not signed as ours are, and nothing follows it"));
            }
            // If the hash fits this place, the entry before it was altered.
            let is_altered = chained(&last.hash, &link.payload) == link.hash && !self.has_key;
            return (!is_altered)
                .then_some((Fault::Payload, "the hash is not that of prev and payload, and nothing follows it"));
        }
        let is_next = follows && link.seq == last.seq + 1;
        let is_elsewhere = self.ends.contains(&(link.seq.wrapping_sub(1), link.prev.clone()))
            || link.seq == 1 && link.prev == *ChainHead::default().hash;
        if is_next || is_elsewhere || !self.next.contains(&(last.seq + 1, last.hash.to_string())) {
            return None;
        }
        let why = "it follows no decision, and another one goes on from the one before";
        Some(if follows { (Fault::Seq, why) } else { (Fault::Previous, why) })
    }
}
