//! The ledger: compares each decision that the audit recomputes with the one that was emitted for the same entry.

use std::collections::{BTreeMap, HashMap};

use super::Scope;
use super::finding::{Both, Finding};
use crate::codec::chain::{Chain, Link};
use crate::codec::payload::Payload;
use crate::codec::{seal, view};
use crate::domain::book::state::book_of_position;
use crate::domain::engine::{Decision, Engine, RULES_VERSION};
use crate::domain::event::Entry;
use crate::domain::event::ids::{EntryId, StreamId};
use crate::domain::event::streams::Streams;

/// The reason why a decision cannot be judged: its position may depend on missing entries.
const LACKING: &str = "its position was opened before the history begins, or before a stream that was trimmed does";

/// Whether an emitted decision was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Met {
    Not,
    /// Its cause was folded.
    Yes,
}

/// A recomputed decision that was not emitted for its entry.
struct Ours {
    decision_id: String,
    payload: Payload,
    cause: EntryId,
}

/// The comparison, up to the last folded entry.
pub struct Ledger<'a> {
    pub chain: &'a Chain,
    scope: Scope<'a>,
    by_cause: HashMap<(StreamId, EntryId), Vec<usize>, foldhash::fast::RandomState>,
    met: Vec<Met>,
    missing: Vec<Ours>,
    /// Emitted decisions that the audit did not recompute, with the reason.
    unexpected: Vec<(usize, String)>,
    pub matched: u64,
    pub differs: Vec<Finding>,
    /// Decisions of another rules version, by version. [1]
    pub other_rules: BTreeMap<String, u64>,
}

/// The result of the comparison.
pub struct Balance {
    pub matched: u64,
    pub differs: Vec<Finding>,
    pub missing: Vec<Finding>,
    pub unexpected: Vec<Finding>,
    /// Decisions that cannot be judged from this history.
    pub unseen: Vec<Finding>,
    pub other_rules: BTreeMap<String, u64>,
}

impl<'a> Ledger<'a> {
    pub fn new(chain: &'a Chain, streams: &Streams, scope: Scope<'a>) -> Self {
        let mut by_cause: HashMap<_, Vec<usize>, _> = HashMap::default();
        for (index, link) in chain.links.iter().enumerate() {
            if let Some((stream, cause)) = link.cause()
                && let Some(stream) = streams.id_of(stream)
            {
                by_cause.entry((stream, cause)).or_default().push(index);
            }
        }
        Self {
            chain,
            scope,
            by_cause,
            met: vec![Met::Not; chain.links.len()],
            missing: Vec::new(),
            unexpected: Vec::new(),
            matched: 0,
            differs: Vec::new(),
            other_rules: BTreeMap::new(),
        }
    }

    /// Compares the decision that an entry caused with the one that was emitted for it.
    pub fn meet(&mut self, engine: &Engine, entry: &Entry, ours: &[Decision]) {
        let emitted = self.by_cause.get(&(entry.stream, entry.id)).cloned().unwrap_or_default();
        if (ours.is_empty() && emitted.is_empty()) || !self.scope.contains(entry.id) {
            for index in emitted {
                self.met[index] = Met::Yes;
            }
            return;
        }
        let mut left: Vec<(&Decision, Payload)> =
            ours.iter().map(|decision| (decision, seal::payload(engine, decision))).collect();
        let mut paired: Vec<(usize, Option<Payload>)> = Vec::new();
        for &index in &emitted {
            let is_it = |(ours, _): &(&Decision, Payload)| ours.decision_id == self.chain.links[index].decision_id();
            let place = left.iter().position(is_it);
            paired.push((index, place.map(|place| left.remove(place).1)));
        }
        // An entry causes one decision for a book. So another decision about the same book is the same one with other
        // content.
        for (index, payload) in paired.iter_mut().filter(|(_, payload)| payload.is_none()) {
            let link = &self.chain.links[*index];
            let is_of_book = |(_, payload): &(&Decision, Payload)| {
                ["symbol", "account", "position_side"].iter().all(|field| payload.text(field) == link.text(field))
            };
            let place = left.iter().position(is_of_book).or((ours.len() == 1 && !left.is_empty()).then_some(0));
            *payload = place.map(|place| left.remove(place).1);
        }
        for (index, payload) in paired {
            self.met[index] = Met::Yes;
            match payload {
                Some(payload) => self.compare(index, &payload),
                // A forged decision is already a finding.
                None if self.chain.links[index].forged => {}
                None => self.unexpected.push((index, why_not(engine, &self.chain.links[index]))),
            }
        }
        for (ours, payload) in left {
            self.missing.push(Ours { decision_id: ours.decision_id.clone(), payload, cause: entry.id });
        }
    }

    /// Compares two decisions field by field. The rules version is counted separately: a decision of another version
    /// may have the same content.
    fn compare(&mut self, index: usize, ours: &Payload) {
        let link = &self.chain.links[index];
        let counted = u64::from(self.scope.has_account_of(link));
        if *ours == link.object {
            self.matched += counted;
            return;
        }
        let (theirs, ours) = (link.object.fields(), ours.fields());
        let rules = link.text("engine");
        if rules != RULES_VERSION && counted > 0 {
            *self.other_rules.entry(rules.to_owned()).or_default() += counted;
        }
        let mut apart = BTreeMap::new();
        for name in theirs.keys().chain(ours.keys()).filter(|name| *name != "engine") {
            if theirs.get(name) != ours.get(name) {
                let both = Both { emitted: theirs.get(name).cloned(), recomputed: ours.get(name).cloned() };
                apart.insert(name.clone(), both);
            }
        }
        if apart.is_empty() {
            self.matched += counted;
            return;
        }
        self.differs.push(Finding::differs(link, apart));
    }

    /// Returns the balance after everything was folded. `in_coverage` returns true if the history covers an entry. The
    /// history begins at `begins`, and may lack entries before `lacks_before_ms`. Decisions caused from
    /// `in_flight_from_ms` on may not have been written yet. [ms since 1970]
    pub fn balance(
        mut self,
        in_coverage: impl Fn(&str, EntryId) -> bool,
        begins_ms: Option<u64>,
        lacks_before_ms: Option<u64>,
        in_flight_from_ms: Option<u64>,
    ) -> Balance {
        let (differs, unsure): (Vec<Finding>, Vec<Finding>) = std::mem::take(&mut self.differs)
            .into_iter()
            .partition(|item: &Finding| !is_opened_before(item.position_id(), lacks_before_ms));
        self.differs = differs;
        let mut unseen: Vec<Finding> = unsure.into_iter().map(|item| item.because(LACKING)).collect();
        self.expect_causes(in_coverage, &mut unseen);
        self.settle_unexpected(begins_ms.max(lacks_before_ms), &mut unseen);
        let first_cause = self.chain.links.iter().filter_map(|link| Some(link.cause()?.1)).min();
        let decision_stream = Seen { from: first_cause.filter(|_| self.chain.begins > 1), in_flight_from_ms };
        let mut missing = Vec::new();
        for ours in std::mem::take(&mut self.missing) {
            let item = Finding::missing(&ours.payload);
            match decision_stream.why_not(ours.cause, item.position_id(), lacks_before_ms) {
                Some(why) => unseen.push(item.because(why)),
                None => missing.push(item),
            }
        }
        let unexpected =
            self.unexpected.into_iter().map(|(index, why)| Finding::emitted(&self.chain.links[index], why)).collect();
        Balance {
            matched: self.matched,
            differs: self.differs,
            missing,
            unexpected,
            unseen,
            other_rules: self.other_rules,
        }
    }

    /// Notes the emitted decisions whose cause was not folded.
    fn expect_causes(&mut self, in_coverage: impl Fn(&str, EntryId) -> bool, unseen: &mut Vec<Finding>) {
        for (index, link) in self.chain.links.iter().enumerate() {
            if self.met[index] == Met::Yes || link.forged {
                continue;
            }
            match link.cause() {
                Some((_, cause)) if !self.scope.contains(cause) => {}
                Some((stream, cause)) if !in_coverage(stream, cause) => {
                    let why = format!("the history does not reach over its cause {stream}/{cause}");
                    unseen.push(Finding::emitted(link, why));
                }
                Some((stream, cause)) => {
                    self.unexpected.push((index, format!("its cause {stream}/{cause} is not in the history")));
                }
                None => self.unexpected.push((index, "it names no cause".to_owned())),
            }
        }
    }

    /// Takes the unexpected decisions that have an explanation from the others.
    fn settle_unexpected(&mut self, begins_ms: Option<u64>, unseen: &mut Vec<Finding>) {
        for (index, why) in std::mem::take(&mut self.unexpected) {
            let link = &self.chain.links[index];
            // The same decision at another entry is one with a wrong cause.
            let same = self.missing.iter().position(|ours| ours.decision_id == link.decision_id());
            if let Some(same) = same {
                let ours = self.missing.remove(same);
                self.compare(index, &ours.payload);
            } else if link.again && link.authentic {
                // The server lost entries together with it, so it cannot be judged
                // (docs/spec/emission.md, "Decisions written again").
                let why = format!("it was written again after a loss, and its history was lost with it ({why})");
                unseen.push(Finding::emitted(link, why));
            } else if is_opened_before(link.text("position_id"), begins_ms) {
                unseen.push(Finding::emitted(link, LACKING));
            } else {
                self.unexpected.push((index, why));
            }
        }
    }
}

/// The part of the decision stream that can be expected to have a decision.
struct Seen {
    /// Cause of its first decision, if an anchor states that others were before it.
    from: Option<EntryId>,
    /// Decisions caused from this time on may still be on their way. [ms since 1970]
    in_flight_from_ms: Option<u64>,
}

impl Seen {
    /// Returns why a decision that was not emitted is no finding, if there is a reason.
    fn why_not(&self, cause: EntryId, position_id: &str, lacks_before_ms: Option<u64>) -> Option<&'static str> {
        if self.in_flight_from_ms.is_some_and(|from| cause.ms >= from) {
            Some("it was decided so shortly before that it may still be on its way")
        } else if self.from.is_some_and(|first| cause < first) {
            Some("the decision stream begins behind it, where an anchor says")
        } else if is_opened_before(position_id, lacks_before_ms) {
            Some(LACKING)
        } else {
            None
        }
    }
}

/// Returns why the rules do not make an emitted decision: the hold of its book, or that nothing is open.
fn why_not(engine: &Engine, link: &Link) -> String {
    let name = book_of_position(link.text("position_id")).unwrap_or_else(|| link.text("symbol"));
    let Some(book) = view::named_one(engine, name) else { return "its symbol was never seen".to_owned() };
    let Some(open) = &book.hot.open else { return "nothing is open".to_owned() };
    let hold = open.holds.last().and_then(|change| change.hold);
    let held = hold.map_or_else(|| "it is decided elsewhere".to_owned(), |hold| format!("held: {}", hold.name()));
    let policy = &*engine.policy_of(book.account).hash;
    if link.text("policy") == policy {
        return held;
    }
    format!("{held}; it was decided under policy {}, recomputed under {}", short(link.text("policy")), short(policy))
}

/// Returns the beginning of a hash.
fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// Returns true if a position was opened before a time. [ms since 1970]
fn is_opened_before(position_id: &str, ms: Option<u64>) -> bool {
    let opened = position_id.rsplit_once('@').map(|(_, id)| id.split('/').next().unwrap_or(id));
    let opened: Option<EntryId> = opened.and_then(|id| id.parse().ok());
    opened.zip(ms).is_some_and(|(opened, ms)| opened.ms < ms)
}
