//! The look-ahead: finds statements of later entries about earlier ones before the first entry is folded.
//!
//! A history and the streams of a running service are read ahead by the same rule: skips are collected first, because
//! they may name a decision; decisions count if they are sealed and continue the chain. A journal also has the decisions
//! of streams that are no longer configured: each of those streams is a chain of its own, and takes its rungs.

use std::collections::{BTreeMap, BTreeSet};

use crate::codec::decode::Decoder;
use crate::codec::line::{self, Fields};
use crate::codec::object::Object;
use crate::codec::own_entry::CONFIGURED;
use crate::domain::engine::skips::{self, At};
use crate::domain::engine::{ChainHead, Decisions, chain};
use crate::domain::event::ids::{EntryId, StreamId};
use crate::domain::event::streams::{StreamKind, Streams};
use crate::domain::event::{Control, DecisionFact, Entry, Event};
use crate::domain::exit::policy::Policy;
use crate::shell::history::{History, Line};

/// The entries that were read ahead.
#[derive(Clone, Default)]
pub struct LookAhead {
    /// Each `entry.skipped`, with the entry that it names.
    skips: Vec<(At, At)>,
    /// Decision entries, with their content if it is readable.
    decisions: Vec<(At, Option<Box<DecisionFact>>)>,
    /// Decisions of former streams.
    former: Vec<(At, DecisionFact)>,
    /// The last decision that is sealed, in the order of reading.
    last_decided: Option<At>,
}

/// Returns true if streams of this kind are read ahead before the first entry is folded.
pub fn is_read_ahead(kind: StreamKind) -> bool {
    matches!(kind, StreamKind::Control | StreamKind::Decision)
}

impl LookAhead {
    /// Reads the control entries of a history up to an id, and its decisions unless they are to be derived again.
    pub(super) fn of(history: &History, decoder: &mut Decoder, until: Option<EntryId>, decisions: Decisions) -> Self {
        let mut ahead = Self::default();
        for at in history.control_lines().filter(|at| until.is_none_or(|until| at.id <= until)) {
            ahead.read(decoder, &at);
        }
        let skipped = match decisions {
            Decisions::Derived => return ahead,
            Decisions::Recorded | Decisions::Audited => ahead.skipped(),
        };
        for at in history.decision_lines().filter(|at| until.is_none_or(|until| at.id <= until)) {
            if !skipped.contains(&place(decoder.streams(), at.stream, at.id)) {
                ahead.read(decoder, &at);
            }
        }
        for at in history.former_decisions().filter(|at| until.is_none_or(|until| at.id <= until)) {
            if let (Some(stream), Ok(fields)) = (decision_stream(decoder.streams()), line::fields(&at.bytes)) {
                let entry = decoder.decode(stream, at.id, &fields);
                ahead.see_former(&at.stream, entry);
            }
        }
        ahead
    }

    fn read(&mut self, decoder: &mut Decoder, at: &Line<'_>) {
        if let Ok(fields) = line::fields(at.bytes) {
            let entry = decoder.decode(at.stream, at.id, &fields);
            self.see(decoder.streams(), entry);
        }
    }

    /// Notes a control or decision entry.
    pub fn see(&mut self, streams: &Streams, entry: Entry) {
        let at = place(streams, entry.stream, entry.id);
        match entry.content {
            Ok(Event::Decision(fact)) => {
                if fact.is_sealed {
                    self.last_decided = Some(at.clone());
                }
                self.decisions.push((at, Some(fact)));
            }
            Err(_) if entry.kind == StreamKind::Decision => self.decisions.push((at, None)),
            Ok(Event::Control(fact)) => {
                if let Control::EntrySkipped { stream, id } = fact.control {
                    self.skips.push((at, (stream, id)));
                }
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// Notes a decision of a stream that is no longer configured, decoded as one of the configured stream.
    pub fn see_former(&mut self, stream: &str, entry: Entry) {
        if let Ok(Event::Decision(fact)) = entry.content
            && fact.is_sealed
        {
            let at: At = (stream.into(), entry.id);
            self.last_decided = Some(at.clone());
            self.former.push((at, DecisionFact { is_former: true, ..*fact }));
        }
    }

    /// Returns the stream of the last decision that was seen.
    pub fn last_decided_in(&self) -> Option<&str> {
        self.last_decided.as_ref().map(|(stream, _)| &**stream)
    }

    /// Returns the former decision streams, each with its last decision.
    pub fn former_ends(&self) -> BTreeMap<Box<str>, EntryId> {
        let mut ends = BTreeMap::new();
        for ((stream, id), _) in &self.former {
            let end: &mut EntryId = ends.entry(stream.clone()).or_default();
            *end = (*end).max(*id);
        }
        ends
    }

    /// Returns the decisions of former streams that are not skipped and follow the chain of their stream.
    pub(super) fn former_decisions(&self, skipped: &BTreeSet<At>) -> Vec<DecisionFact> {
        let mut chains: BTreeMap<&str, Vec<DecisionFact>> = BTreeMap::new();
        for (at, fact) in self.former.iter().filter(|(at, _)| !skipped.contains(at)) {
            chains.entry(&at.0).or_default().push(fact.clone());
        }
        chains.into_values().flat_map(|found| chain::following(&ChainHead::default(), found)).collect()
    }

    /// Returns the entries that are skipped.
    pub(super) fn skipped(&self) -> BTreeSet<At> {
        skips::skipped(self.skips.clone())
    }

    /// Returns the readable decisions that are not skipped, and the streams and ids of the unreadable ones.
    pub(super) fn into_decisions(self, skipped: &BTreeSet<At>) -> (Vec<DecisionFact>, Vec<At>) {
        let (mut found, mut unreadable) = (Vec::new(), Vec::new());
        for (at, fact) in self.decisions.into_iter().filter(|(at, _)| !skipped.contains(at)) {
            match fact {
                Some(fact) => found.push(*fact),
                None => unreadable.push(at),
            }
        }
        (found, unreadable)
    }
}

/// Returns the policy that a service had in its configuration before any was adopted, if the service published it: its
/// first entry in the control stream is the configuration of that time, independent of today's.
pub(super) fn policy_at_first(history: &History, decoder: &mut Decoder) -> Option<Policy> {
    let skipped = LookAhead::of(history, decoder, None, Decisions::Derived).skipped();
    let lines = history.control_lines().filter(|at| !skipped.contains(&place(decoder.streams(), at.stream, at.id)));
    lines.collect::<Vec<_>>().into_iter().find_map(|at| {
        let fields = line::fields(at.bytes).ok()?;
        let entry = decoder.decode(at.stream, at.id, &fields);
        let Ok(Event::Control(fact)) = entry.content else { return None };
        // This is the general policy. The policy of an account comes after it.
        let Control::PolicyAdopted(Some(policy)) = fact.control else { return None };
        (!entry.account.is_named()).then(|| is_configured(&fields).then_some(*policy))
    })?
}

/// Returns true if a `policy.adopted` states that a service had the policy in its configuration.
pub fn is_configured(fields: &Fields<'_>) -> bool {
    let reason = Object::of(fields).ok().and_then(|object| object.text(&["reason"]).ok().flatten());
    reason.as_deref() == Some(CONFIGURED)
}

/// Returns the stream as which the decisions of former streams are decoded.
pub fn decision_stream(streams: &Streams) -> Option<StreamId> {
    streams.iter().find(|(_, stream)| stream.kind == StreamKind::Decision).map(|(id, _)| id)
}

fn place(streams: &Streams, stream: StreamId, id: EntryId) -> At {
    (streams.get(stream).name.as_str().into(), id)
}
