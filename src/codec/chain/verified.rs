//! A verified chain: its decisions, and the faults found in it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::fault::{Duplicated, Fault, Tampered};
use super::link::{Found, Link};
use crate::codec::signing::SigningKey;
use crate::domain::engine::ChainHead;
use crate::domain::event::ids::EntryId;

/// Results of verifying the signatures. [1]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Signatures {
    pub good: u64,
    pub bad: u64,
    /// Present, but there is no key to verify them.
    pub unchecked: u64,
    pub none: u64,
}

/// A verified chain.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// Each decision once, in the order of the stream.
    pub links: Vec<Link>,
    pub tampered: Vec<Tampered>,
    pub duplicated: Vec<Duplicated>,
    pub signatures: Signatures,
    /// Entries that were verified. [1]
    pub entries: u64,
    /// Entries that repeat a decision that the server had lost. [1]
    pub written_again: u64,
    /// Entries whose ids are earlier than those of their causes, because a clock went back. [1]
    pub clock_back: u64,
    /// Entries that no service accepts, and that are no altered decisions: forged ones, and those that do not read.
    pub refused: BTreeSet<EntryId>,
    /// First number of the chain: the one after an anchor, if the head was trimmed. [1]
    pub begins: u64,
    pub head: ChainHead,
}

impl Chain {
    pub(super) fn fault(&mut self, what: Fault, link: &Link, why: String) {
        self.tampered.push(Tampered { what, seq: Some(link.seq), entry: Some(link.id), why });
    }

    /// Merges copies of an entry in overlapping files. A file that repeats an entry or is out of order is a fault.
    pub(super) fn once<'a>(&mut self, found: &[Found<'a>]) -> Vec<Found<'a>> {
        let mut once: Vec<Found<'a>> = Vec::with_capacity(found.len());
        let mut numbers: BTreeMap<u32, u64> = BTreeMap::new();
        for entry in found {
            let number = numbers.entry(entry.file).or_default();
            if entry.number < *number {
                let why = format!("line {} has an earlier id than line {number}", entry.number);
                self.tampered.push(Tampered { what: Fault::Order, seq: None, entry: Some(entry.id), why });
            }
            *number = entry.number.max(*number);
            let Some(copy) = once.iter().rev().take_while(|known| known.id == entry.id).last() else {
                once.push(*entry);
                continue;
            };
            if copy.line != entry.line {
                let why = "another entry stands under the same id".to_owned();
                self.tampered.push(Tampered { what: Fault::Duplicate, seq: None, entry: Some(entry.id), why });
                once.push(*entry);
            } else if copy.file == entry.file {
                let decision_id = Link::read(entry.id, entry.line).map(|(link, _)| link.decision_id().to_owned());
                let entries = vec![entry.id; 2];
                self.duplicated.push(Duplicated { decision_id: decision_id.unwrap_or_default(), entries });
            }
        }
        once
    }

    /// Verifies the signatures of entries whose hash is correct.
    pub(super) fn seals(&mut self, key: Option<&SigningKey>) {
        let first_signed = self.links.iter().position(|link| link.signature.is_some());
        let mut faults = Vec::new();
        for (index, link) in self.links.iter_mut().enumerate() {
            let why = match (&link.signature, key) {
                (Some(signature), Some(key)) if key.vouches(link.id, &link.hash, Some(signature)) => {
                    self.signatures.good += 1;
                    continue;
                }
                (Some(_), Some(_)) => "the signature is not that of the hash under this key",
                (Some(signature), None) if is_hex(signature) => {
                    self.signatures.unchecked += 1;
                    continue;
                }
                (Some(_), None) => "the signature is no 64 hex digits",
                (None, Some(key)) if key.needs_no_signature(link.id) => {
                    self.signatures.none += 1;
                    continue;
                }
                // Without a key, the signatures of others prove nothing: anyone can write one.
                (None, None) => {
                    self.signatures.none += 1;
                    continue;
                }
                (None, Some(_)) if first_signed.is_none_or(|first| index < first) => {
                    "the signature is missing (written before there was a key? see believe_unsigned_until in [emit])"
                }
                (None, Some(_)) => "the signature is missing",
            };
            self.signatures.bad += 1;
            // An altered entry is reported already, and its signature cannot match.
            if link.authentic {
                faults.push((link.seq, link.id, why));
            }
            // A service without a key believes a decision by its hash, whatever its signature is.
            link.authentic &= key.is_none();
        }
        for (seq, id, why) in faults {
            let what = Fault::Signature;
            self.tampered.push(Tampered { what, seq: Some(seq), entry: Some(id), why: why.to_owned() });
        }
    }

    /// Counts ids that are earlier than their causes, and checks composed ids: if most ids consist of the cause's time
    /// and the number, all must.
    pub(super) fn ids(&mut self) {
        let made = |link: &Link| link.cause().is_some_and(|(_, cause)| link.id == EntryId::new(cause.ms, link.seq));
        let are_made = 2 * self.links.iter().filter(|link| made(link)).count() > self.links.len();
        for index in 0..self.links.len() {
            let link = &self.links[index];
            let Some((_, cause)) = link.cause().filter(|_| link.authentic) else { continue };
            // An audit does not report clocks that go back: its findings are about tampering.
            self.clock_back += u64::from(link.id.ms < cause.ms);
            if !are_made || made(link) || link.again {
                continue;
            }
            let why = format!("{} is not {}-{}, the time of the cause and the number", link.id, cause.ms, link.seq);
            let (seq, entry) = (Some(link.seq), Some(link.id));
            self.tampered.push(Tampered { what: Fault::Id, seq, entry, why });
        }
    }

    pub(super) fn gaps(&mut self, absent: Vec<(u64, u64)>) {
        for (from, to) in absent {
            let why = if from == to {
                format!("decision {from} is not there")
            } else {
                format!("decisions {from} to {to} are not there")
            };
            self.tampered.push(Tampered { what: Fault::Gap, seq: Some(from), entry: None, why });
        }
    }

    pub(super) fn anchored(&mut self, anchors: &[ChainHead], by_seq: &BTreeMap<u64, usize>) {
        for anchor in anchors {
            let seq = Some(anchor.seq);
            let forged = self.links.iter().position(|link| link.forged && link.seq == anchor.seq);
            let claims = by_seq.get(&anchor.seq).copied().or(forged);
            if anchor.seq > self.head.seq && claims.is_none() {
                let why = format!("the chain ends at {}, the anchor stands at {}", self.head.seq, anchor.seq);
                self.tampered.push(Tampered { what: Fault::Tail, seq, entry: None, why });
            } else if let Some(index) = claims
                && self.links[index].hash != *anchor.hash
            {
                let entry = Some(self.links[index].id);
                let why = format!("the hash is {}, the anchor says {}", self.links[index].hash, anchor.hash);
                self.tampered.push(Tampered { what: Fault::Anchor, seq, entry, why });
            }
        }
    }

    /// Keeps the first entry of each decision.
    pub(super) fn repeated(&mut self) {
        let mut first: BTreeMap<String, usize> = BTreeMap::new();
        let mut kept: Vec<Link> = Vec::with_capacity(self.links.len());
        let links = std::mem::take(&mut self.links);
        let genuine: BTreeSet<String> =
            links.iter().filter(|link| !link.forged).map(|link| link.decision_id().to_owned()).collect();
        for link in links {
            // A forged entry is a finding already, and proves nothing about the decision whose id it carries.
            if link.forged && genuine.contains(link.decision_id()) {
                continue;
            }
            match first.get(link.decision_id()) {
                Some(&index) => {
                    let decision_id = link.decision_id().to_owned();
                    self.duplicated.push(Duplicated { decision_id, entries: vec![kept[index].id, link.id] });
                }
                None => {
                    first.insert(link.decision_id().to_owned(), kept.len());
                    kept.push(link);
                }
            }
        }
        self.links = kept;
    }
}

fn is_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
