//! How decisions become rows of the outbox: with a suggestion in shadow mode, with an order request in live mode.

use std::collections::BTreeMap;

use crate::codec::request::{self, OrderTerms};
use crate::codec::seal::Sealed;
use crate::config::Live;
use crate::domain::delivery::AccountPolicy;
use crate::domain::delivery::row::OutboxRow;
use crate::domain::engine::{Decision, Engine};
use crate::domain::exit::policy::Mode;

/// How to write orders. It contains no orders while the running configuration is in shadow mode.
#[derive(Clone, Debug)]
pub struct OrderSettings {
    pub live: Option<Live>,
    /// Hash of the configured policy. An order is sent only under this policy.
    pub policy: Box<str>,
    /// The configured policies of accounts that have one of their own.
    pub account_policies: BTreeMap<Box<str>, AccountPolicy>,
    /// A decision older than this is not sent. [ms]
    pub age_max_ms: u64,
}

impl OrderSettings {
    /// Returns the row of a decision that was just made.
    pub fn row(&self, engine: &Engine, decision: &Decision, sealed: &Sealed, suggestions: &str) -> OutboxRow {
        let is_live = decision.mode == Mode::Live;
        let request = if is_live {
            self.order(engine, decision)
        } else {
            Some((suggestions.to_owned(), request::suggestion(engine, decision)))
        };
        OutboxRow {
            seq: sealed.seq,
            decision_id: sealed.decision_id.clone(),
            fields: sealed.texts(),
            request,
            live: is_live,
            account: engine.book(decision.book).account_name.to_string(),
            policy: decision.policy_hash.to_string(),
            cause_ms: decision.cause.ms,
            written: None,
            record_only: false,
            again: false,
        }
    }

    /// Returns the order request of a decision. If its numbers do not fit, no order is sent: it never gets a result,
    /// and the position keeps a hold (docs/spec/emission.md, "Format apply_plan").
    fn order(&self, engine: &Engine, decision: &Decision) -> Option<(String, request::FieldTexts)> {
        let live = self.live.as_ref()?;
        let terms = OrderTerms { format: live.format, source: &live.source, valid_ms: self.age_max_ms };
        match request::order(engine, decision, terms) {
            Ok(fields) => Some((live.stream.clone(), fields)),
            Err(error) => {
                tracing::error!(decision_id = %decision.decision_id, %error, "the order cannot be written");
                None
            }
        }
    }
}
