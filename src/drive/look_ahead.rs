//! The look-ahead: finds statements of later entries about earlier ones before the first entry is folded.
//!
//! The same rule applies to a history and to the streams of a running service: skips are collected first, because they
//! may name a decision; then decisions count if they are sealed and continue the chain.

use std::collections::BTreeSet;

use crate::codec::decode::Decoder;
use crate::codec::line::{self, Fields};
use crate::codec::object::Object;
use crate::codec::own_entry::CONFIGURED;
use crate::domain::engine::Decisions;
use crate::domain::engine::skips::{self, At};
use crate::domain::event::ids::{EntryId, StreamId};
use crate::domain::event::streams::{StreamKind, Streams};
use crate::domain::event::{Control, DecisionFact, Entry, Event};
use crate::domain::exit::policy::Policy;
use crate::shell::history::{History, Line};

/// The entries that were read ahead.
#[derive(Default)]
pub struct LookAhead {
    /// Each `entry.skipped`, with the entry that it names.
    skips: Vec<(At, At)>,
    /// Decision entries, with their content if it is readable.
    decisions: Vec<(At, Option<Box<DecisionFact>>)>,
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
            Ok(Event::Decision(fact)) => self.decisions.push((at, Some(fact))),
            Err(_) if entry.kind == StreamKind::Decision => self.decisions.push((at, None)),
            Ok(Event::Control(fact)) => {
                if let Control::EntrySkipped { stream, id } = fact.control {
                    self.skips.push((at, (stream, id)));
                }
            }
            Ok(_) | Err(_) => {}
        }
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

fn place(streams: &Streams, stream: StreamId, id: EntryId) -> At {
    (streams.get(stream).name.as_str().into(), id)
}
