//! Verifies the chain of decisions as it was emitted, entry by entry, and classifies each fault (docs/spec/emission.md,
//! "Chain"; docs/spec/commands.md, "Chain in an audit").
//!
//! Promises: needs only the entries, a key and anchors; an entry that cannot be read is a fault, not an error.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::line::{self, FieldValue};
use super::seal::chained;
use super::signing::SigningKey;
use crate::domain::engine::ChainHead;
use crate::domain::event::ids::EntryId;

/// Optional fields: the signature, and the mark of a decision that was written again.
const BESIDE: [&str; 2] = ["signature", AGAIN];
/// `1` if the server had lost the decision and it was written again.
const AGAIN: &str = "again";

/// Fields of every decision entry.
const FIELDS: [&str; 9] = ["event_type", "schema", "decision_id", "symbol", "mode", "seq", "prev", "hash", "payload"];

/// An entry of a decision stream, with its file.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    pub id: EntryId,
    /// The entry as a history line.
    pub line: &'a [u8],
    /// The number of its file. Two dumps may overlap, but one file may not repeat an entry.
    pub file: u32,
    pub number: u64,
}

/// A decision that could be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    pub id: EntryId,
    pub seq: u64,
    pub prev: String,
    pub hash: String,
    pub signature: Option<String>,
    pub payload: String,
    /// The payload, read.
    pub object: Map<String, Value>,
    /// The entry itself has no fault.
    pub authentic: bool,
    /// The server had lost it. Its place in the chain follows from its number, wherever its entry is.
    pub again: bool,
    /// No service would accept it. It has no place in the chain.
    pub forged: bool,
}

/// The kind of a fault in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// It is not a sealed decision.
    Unreadable,
    /// The payload is not the hashed one.
    Payload,
    /// The hash does not match the entry.
    Hash,
    /// It follows another entry than the one before it.
    Previous,
    /// The number does not match its place in the chain.
    Seq,
    /// A field beside the payload contradicts the payload.
    Outside,
    /// Missing or wrong.
    Signature,
    /// The decision cannot have this entry id.
    Id,
    /// Two entries have the same id.
    Duplicate,
    /// It comes before or after its place.
    Order,
    /// Two decisions claim one number.
    Fork,
    /// Decisions are missing.
    Gap,
    /// The chain ends before an anchor.
    Tail,
    /// The chain contradicts an anchor.
    Anchor,
}

impl Fault {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Payload => "payload",
            Self::Hash => "hash",
            Self::Previous => "previous",
            Self::Seq => "seq",
            Self::Outside => "outside",
            Self::Signature => "signature",
            Self::Id => "id",
            Self::Duplicate => "twin",
            Self::Order => "order",
            Self::Fork => "fork",
            Self::Gap => "gap",
            Self::Tail => "tail",
            Self::Anchor => "anchor",
        }
    }
}

/// One fault, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tampered {
    pub what: Fault,
    pub seq: Option<u64>,
    pub entry: Option<EntryId>,
    pub why: String,
}

/// One decision in several entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicated {
    pub decision_id: String,
    pub entries: Vec<EntryId>,
}

/// Results of verifying the signatures. [1]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// First number of the chain: the one after an anchor, if the head was trimmed. [1]
    pub begins: u64,
    pub head: ChainHead,
}

impl Link {
    /// Returns the decision id of the payload, or `unknown`, which is no decision id.
    pub fn decision_id(&self) -> &str {
        self.text("decision_id")
    }

    /// Returns a text of the payload; empty if it is absent.
    pub fn text(&self, key: &str) -> &str {
        self.object.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// Returns stream and id of the cause.
    pub fn cause(&self) -> Option<(&str, EntryId)> {
        let (stream, id) = self.text("cause").rsplit_once('/')?;
        Some((stream, id.parse().ok()?))
    }

    /// Reads an entry. Errors with the reason if it is not a sealed decision. The fields beside the payload are
    /// compared with it, and the result names a difference.
    fn read(id: EntryId, text: &[u8]) -> Result<(Self, Option<String>), String> {
        let fields = line::fields(text).map_err(|error| error.to_string())?;
        for (i, (name, _)) in fields.pairs.iter().enumerate() {
            if !FIELDS.contains(&&**name) && !BESIDE.contains(&&**name) {
                return Err(format!("field `{name}` is none of a decision"));
            }
            if fields.pairs[..i].iter().any(|(other, _)| other == name) {
                return Err(format!("field `{name}` stands there twice"));
            }
        }
        let text = |name: &str| match fields.get(name) {
            Some(FieldValue::Text(text)) => Ok(text.to_string()),
            Some(FieldValue::Bytes(_)) => Err(format!("field `{name}` is no text")),
            None => Err(format!("field `{name}` is missing")),
        };
        let values = FIELDS.iter().map(|name| text(name)).collect::<Result<Vec<String>, String>>()?;
        let [event_type, schema, decision_id, symbol, mode, seq, prev, hash, payload] =
            <[String; 9]>::try_from(values).expect("there is a value for each field");
        let seq = seq.parse().map_err(|_| format!("seq {seq:?} is no number"))?;
        let object: Map<String, Value> =
            serde_json::from_str(&payload).map_err(|error| format!("the payload is no JSON object: {error}"))?;
        let signature = fields.has("signature").then(|| text("signature")).transpose()?;
        let again = fields.has(AGAIN).then(|| text(AGAIN)).transpose()?;
        if let Some(other) = again.as_ref().filter(|mark| *mark != "1") {
            return Err(format!("field `{AGAIN}` is {other:?}, want \"1\""));
        }
        let again = again.is_some();
        let link = Self { id, seq, prev, hash, signature, payload, object, authentic: true, again, forged: false };
        let beside = [
            ("event_type", &*event_type, "harvest.decision"),
            ("schema", &schema, "1"),
            ("decision_id", &decision_id, link.decision_id()),
            ("symbol", &symbol, link.text("symbol")),
            ("mode", &mode, link.text("mode")),
        ];
        let other = beside.into_iter().find(|(_, says, want)| says != want);
        let other = other.map(|(name, says, want)| format!("{name} is {says:?} beside the payload, {want:?} is right"));
        Ok((link, other))
    }
}

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
    chain.seals(key);
    chain.ids();
    chain.gaps(walk.absent);
    chain.head = walk.last;
    chain.anchored(anchors, &by_seq);
    chain.repeated();
    chain.tampered.sort_by_key(|fault| (fault.entry, fault.seq, fault.what));
    chain
}

/// An entry after reading: with the difference between payload and fields, or with the reason why it is not a sealed
/// decision.
type Read = Result<(Link, Option<String>), (EntryId, String)>;

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

/// The entries that a service would accept: sealed entries, and those that a sealed one follows.
///
/// An altered entry is identified by its neighbours. A forged entry has none, and nothing of the chain is compared with
/// it.
struct Vouched {
    /// By index: accepted, or confirmed by the entry that follows.
    is_vouched: Vec<bool>,
    /// By number and previous hash: the entries that exist.
    next: BTreeSet<(u64, String)>,
    /// By number and hash.
    ends: BTreeSet<(u64, String)>,
    has_key: bool,
}

impl Vouched {
    fn of(all: &[Read], key: Option<&SigningKey>, anchors: &[ChainHead]) -> Self {
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
    fn refusal(&self, index: usize, link: &Link, last: &ChainHead) -> Option<(Fault, &'static str)> {
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

impl Chain {
    fn fault(&mut self, what: Fault, link: &Link, why: String) {
        self.tampered.push(Tampered { what, seq: Some(link.seq), entry: Some(link.id), why });
    }

    /// Merges copies of an entry in overlapping files. A file that repeats an entry or is out of order is a fault.
    fn once<'a>(&mut self, found: &[Found<'a>]) -> Vec<Found<'a>> {
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
    fn seals(&mut self, key: Option<&SigningKey>) {
        let any_signed = self.links.iter().any(|link| link.signature.is_some());
        let mut faults = Vec::new();
        for link in &mut self.links {
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
                (None, None) if !any_signed => {
                    self.signatures.none += 1;
                    continue;
                }
                (None, _) => "the signature is missing",
            };
            self.signatures.bad += 1;
            // An altered entry is reported already, and its signature cannot match.
            if link.authentic {
                faults.push((link.seq, link.id, why));
            }
            link.authentic = false;
        }
        for (seq, id, why) in faults {
            let what = Fault::Signature;
            self.tampered.push(Tampered { what, seq: Some(seq), entry: Some(id), why: why.to_owned() });
        }
    }

    /// Counts ids that are earlier than their causes, and checks composed ids: if most ids consist of the cause's time
    /// and the number, all must.
    fn ids(&mut self) {
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

    fn gaps(&mut self, absent: Vec<(u64, u64)>) {
        for (from, to) in absent {
            let why = if from == to {
                format!("decision {from} is not there")
            } else {
                format!("decisions {from} to {to} are not there")
            };
            self.tampered.push(Tampered { what: Fault::Gap, seq: Some(from), entry: None, why });
        }
    }

    fn anchored(&mut self, anchors: &[ChainHead], by_seq: &BTreeMap<u64, usize>) {
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
    fn repeated(&mut self) {
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

/// The state of the walk along the stream.
struct Walk {
    /// Number and hash of the entry that the next one follows.
    last: ChainHead,
    /// Expected hash of this entry.
    computed: String,
    /// Missing numbers, as ranges.
    absent: Vec<(u64, u64)>,
    /// Faults of entries that could not be read since the last readable one.
    unread: Vec<usize>,
}

impl Walk {
    /// Begins after a trimmed head: an anchor gives the number and hash of the entry before.
    fn begin_behind(&mut self, link: &Link, anchors: &[ChainHead], chain: &mut Chain) {
        let fits = |anchor: &&ChainHead| anchor.seq + 1 == link.seq && *anchor.hash == link.prev;
        if let Some(anchor) = anchors.iter().find(fits) {
            self.last = anchor.clone();
            chain.begins = link.seq;
        }
    }

    fn step(&mut self, link: &mut Link, known: Option<&Link>, chain: &mut Chain) {
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

fn is_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}
