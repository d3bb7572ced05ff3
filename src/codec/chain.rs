//! Verifies the chain of decisions as it was emitted, entry by entry, and classifies each fault (docs/spec/emission.md,
//! "Chain"; docs/spec/commands.md, "Chain in an audit").
//!
//! Promises: needs only the entries, a key and anchors; an entry that cannot be read is a fault, not an error.
//!
//! In reading order: this file, `link` (one decision), `vouched` (which entries count), `walk` (each follows the one
//! before it), `verified` (the properties of the whole chain), `fault`.

mod fault;
mod link;
mod verified;
mod vouched;
mod walk;

use std::collections::BTreeMap;

use super::signing::SigningKey;
use crate::domain::engine::ChainHead;
use crate::domain::event::ids::EntryId;
use link::Read;
use vouched::Vouched;
use walk::Walk;

pub use fault::{Duplicated, Fault, Tampered};
pub use link::{Found, Link};
pub use verified::{Chain, Signatures};

/// Verifies all entries of a decision stream, given in the order of their ids.
pub fn verify(found: &[Found<'_>], key: Option<&SigningKey>, anchors: &[ChainHead]) -> Chain {
    let mut chain = Chain { begins: 1, ..Chain::default() };
    let once = chain.once(found);
    let mut walk = Walk { last: ChainHead::default(), computed: String::new(), absent: Vec::new(), unread: Vec::new() };
    let mut by_seq: BTreeMap<u64, usize> = BTreeMap::new();
    let mut links: Vec<Link> = Vec::with_capacity(once.len());
    let all = in_order(once, &mut chain);
    let vouched = Vouched::of(&all, key, anchors);
    for (index, read) in all.into_iter().enumerate() {
        match read {
            Ok((mut link, beside)) => {
                if let Some((what, why)) = vouched.refusal(index, &link, &walk.last) {
                    (link.authentic, link.forged) = (false, true);
                    chain.refused.insert(link.id);
                    chain.fault(what, &link, why.to_owned());
                    links.push(link);
                    continue;
                }
                // A decision that was never lost and is written again is the same decision.
                if link.again && by_seq.get(&link.seq).is_some_and(|&i| links[i].hash == link.hash) {
                    continue;
                }
                if let Some(why) = beside {
                    link.authentic = false;
                    chain.fault(Fault::Outside, &link, why);
                }
                if by_seq.is_empty() && link.seq > 1 {
                    walk.begin_behind(&link, anchors, &mut chain);
                }
                let known = by_seq.get(&link.seq).map(|&i| &links[i]);
                walk.step(&mut link, known, &mut chain);
                by_seq.entry(link.seq).or_insert(links.len());
                links.push(link);
            }
            Err((id, why)) => {
                walk.unread.push(chain.tampered.len());
                chain.tampered.push(Tampered { what: Fault::Unreadable, seq: None, entry: Some(id), why });
            }
        }
    }
    chain.links = links;
    // One that fills a gap is a decision that was altered.
    let unread = chain.tampered.iter().filter(|fault| fault.what == Fault::Unreadable && fault.seq.is_none());
    let unread: Vec<EntryId> = unread.filter_map(|fault| fault.entry).collect();
    chain.refused.extend(unread);
    chain.seals(key);
    chain.ids();
    chain.gaps(walk.absent);
    chain.head = walk.last;
    chain.anchored(anchors, &by_seq);
    chain.repeated();
    chain.tampered.sort_by_key(|fault| (fault.entry, fault.seq, fault.what));
    chain
}

/// Reads all entries in the order of the chain. It is the order of the stream, except for decisions that were written
/// again: their numbers determine their places.
fn in_order(found: Vec<Found<'_>>, chain: &mut Chain) -> Vec<Read> {
    let mut all: Vec<Read> = Vec::with_capacity(found.len());
    let mut again = Vec::new();
    for entry in found {
        chain.entries += 1;
        match Link::read(entry.id, entry.line) {
            Ok(read) if read.0.again => again.push(read),
            Ok(read) => all.push(Ok(read)),
            Err(why) => all.push(Err((entry.id, why))),
        }
    }
    chain.written_again = again.len() as u64;
    for (link, beside) in again {
        let is_behind = |read: &Read| matches!(read, Ok((other, _)) if other.seq > link.seq);
        let index = all.iter().position(is_behind).unwrap_or(all.len());
        all.insert(index, Ok((link, beside)));
    }
    all
}
