//! Trust in control entries: their signatures, each adoption of a policy, and orders under a policy that was not the
//! configured one (docs/spec/emission.md, "Signed control entries"; docs/spec/decision.md, "Policy and orders").

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Scope;
use super::finding::Fault;
use crate::codec::chain::{Chain, Link, Signatures};
use crate::codec::line::{self, FieldValue};
use crate::codec::signing::SigningKey;
use crate::config::Config;
use crate::domain::engine::nonces::{Nonces, NotBelieved};
use crate::domain::event::ids::EntryId;
use crate::domain::event::{Control, Event, Reason};
use crate::drive::driver::Driver;
use crate::drive::look_ahead::is_configured;
use crate::shell::history::History;

/// The result of a signature check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signature {
    Good,
    Bad(&'static str),
    /// There is a signature, and no key to verify it.
    Unchecked,
    /// Unsigned, and the configuration states that the entry is older than the key.
    BeforeKey,
    None,
}

impl Signature {
    const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad(_) => "bad",
            Self::Unchecked => "unchecked",
            Self::None | Self::BeforeKey => "none",
        }
    }
}

/// A control entry that loosens.
struct LooseningEntry {
    id: EntryId,
    event_type: &'static str,
    signature: Signature,
    /// A service refused it: a later entry skips it.
    is_skipped: bool,
    /// For a `policy.adopted` that names a policy.
    policy: Option<Adopted>,
}

/// A policy that an entry puts in force.
struct Adopted {
    /// Empty for the general policy.
    account: Box<str>,
    hash: Box<str>,
    /// The entry states that the policy was the configured one of a service.
    is_configured: bool,
}

/// The control entries of a history.
pub struct Trust {
    entries: Vec<LooseningEntry>,
    /// Hashes of the policies in the configuration of this audit, by account; the general one has an empty name.
    configured: BTreeMap<Box<str>, Box<str>>,
    any_signed: bool,
}

impl Trust {
    /// Checks all control entries.
    pub fn of(history: &History, config: &Config, key: Option<&SigningKey>, scope: Scope<'_>) -> Self {
        // The reader has no key: whether an entry was to be believed is part of the audit.
        let (mut reader, mut verifier) = (Driver::as_written(config, None), Driver::as_written(config, key.cloned()));
        let skipped = reader.skipped(history, scope.until);
        let mut nonces = Nonces::default();
        let mut entries = Vec::new();
        for at in history.control_lines().filter(|at| scope.until.is_none_or(|until| at.id <= until)) {
            let Ok(fields) = line::fields(at.bytes) else { continue };
            let entry = reader.decode(at.stream, at.id, &fields);
            let Ok(Event::Control(fact)) = entry.content else { continue };
            if !fact.control.loosens() {
                // An entry that tightens is never refused.
                let _ = nonces.take(&fact, at.id);
                continue;
            }
            let name: Box<str> = reader.streams().get(at.stream).name.as_str().into();
            let is_skipped = skipped.contains(&(name, at.id));
            let signature = match (fields.get("signature"), key) {
                (None, Some(key)) if key.needs_no_signature(at.id) => Signature::BeforeKey,
                (_, Some(_)) => {
                    verified(&verifier.decode(at.stream, at.id, &fields).content, &mut nonces, at.id, is_skipped)
                }
                (Some(FieldValue::Text(_)), None) => Signature::Unchecked,
                (Some(FieldValue::Bytes(_)), None) => Signature::Bad("the signature is not a text"),
                (None, None) => Signature::None,
            };
            let policy = match &fact.control {
                Control::PolicyAdopted(Some(policy)) => Some(Adopted {
                    account: reader.engine.accounts().get(entry.account).name.clone(),
                    hash: policy.hash.clone(),
                    is_configured: is_configured(&fields),
                }),
                _ => None,
            };
            entries.push(LooseningEntry { id: at.id, event_type: entry.shape, signature, is_skipped, policy });
        }
        let any_signed = entries.iter().any(|entry| matches!(entry.signature, Signature::Good | Signature::Unchecked));
        let of_accounts = config.account_policies.iter().map(|(name, policy)| (name.clone(), policy.hash.clone()));
        let configured = of_accounts.chain([("".into(), config.policy.hash.clone())]).collect();
        Self { entries, configured, any_signed }
    }

    /// Returns the entries that loosened and must not be believed. An entry that a service refused is reported, but is
    /// not a finding.
    pub fn faults(&self) -> Vec<Fault> {
        let faults = self.entries.iter().filter(|entry| !entry.is_skipped).filter_map(|entry| {
            let why = match entry.signature {
                Signature::Bad(why) => why,
                Signature::None if self.any_signed => "the signature is missing, others are signed",
                Signature::Good | Signature::Unchecked | Signature::BeforeKey | Signature::None => return None,
            };
            Some(Fault::at("control_signature", None, entry.id, format!("{}: {why}", entry.event_type)))
        });
        faults.collect()
    }

    /// Returns the live decisions that were not withdrawn and were made under a policy that no service had configured.
    pub fn orders_under_other_policies(
        &self,
        chain: &Chain,
        scope: Scope<'_>,
        is_expired: impl Fn(&str) -> bool,
    ) -> Vec<Fault> {
        let configured = self.configured_policies();
        let is_order = |link: &&Link| {
            !link.forged
                && link.text("mode") == "live"
                && link.cause().is_none_or(|(_, cause)| scope.contains(cause))
                && !is_expired(link.decision_id())
        };
        // An account without a policy of its own follows the general one.
        let is_of = |account: &str, link: &Link| configured.contains(&(account, link.text("policy")));
        let other = |link: &&Link| !is_of("", link) && !is_of(link.text("account"), link);
        let fault = |link: &Link| {
            let why =
                format!("the order rests on the policy {}, which was not the configured one", link.text("policy"));
            Fault::at("policy", Some(link.seq), link.id, why)
        };
        chain.links.iter().filter(is_order).filter(other).map(fault).collect()
    }

    /// Returns account and hash of this audit's configured policies, and of those that services stated as configured.
    fn configured_policies(&self) -> BTreeSet<(&str, &str)> {
        let adopted = self.entries.iter().filter(|entry| self.is_believed(entry));
        let adopted = adopted.filter_map(|entry| entry.policy.as_ref()).filter(|adopted| adopted.is_configured);
        let adopted = adopted.map(|adopted| (&*adopted.account, &*adopted.hash));
        adopted.chain(self.configured.iter().map(|(account, hash)| (&**account, &**hash))).collect()
    }

    fn is_believed(&self, entry: &LooseningEntry) -> bool {
        !entry.is_skipped
            && match entry.signature {
                Signature::Good | Signature::Unchecked | Signature::BeforeKey => true,
                Signature::None => !self.any_signed,
                Signature::Bad(_) => false,
            }
    }

    /// Returns the counts of signatures, and each adoption with both hashes.
    pub fn report(&self) -> ControlReport {
        let mut signatures = Signatures::default();
        for entry in &self.entries {
            match entry.signature {
                Signature::Good => signatures.good += 1,
                Signature::Bad(_) => signatures.bad += 1,
                Signature::Unchecked => signatures.unchecked += 1,
                Signature::None | Signature::BeforeKey => signatures.none += 1,
            }
        }
        let mut configured = self.configured.clone();
        let mut adoptions = Vec::new();
        for entry in &self.entries {
            let Some(Adopted { account, hash, is_configured }) = &entry.policy else { continue };
            if *is_configured && self.is_believed(entry) {
                configured.insert(account.clone(), hash.clone());
            }
            adoptions.push(Adoption {
                entry: entry.id.to_string(),
                account: Some(account.clone()).filter(|account| !account.is_empty()),
                adopted: hash.clone(),
                configured: configured.get(account).or_else(|| configured.get("")).cloned().unwrap_or_default(),
                signature: entry.signature.name(),
                refused: !self.is_believed(entry),
            });
        }
        let refused = self.entries.iter().filter(|entry| entry.is_skipped).count();
        ControlReport { signatures, refused, adoptions }
    }
}

/// The control entries that loosen, by their signatures, and the adoptions among them.
#[derive(Debug, Serialize)]
pub struct ControlReport {
    pub signatures: Signatures,
    /// Entries that a service refused. [1]
    pub refused: usize,
    pub adoptions: Vec<Adoption>,
}

/// An adoption of a policy. The hashes are those of the policy that it names and of the policy configured at that time.
#[derive(Debug, Serialize)]
pub struct Adoption {
    pub entry: String,
    /// `None` for the general policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<Box<str>>,
    pub adopted: Box<str>,
    pub configured: Box<str>,
    pub signature: &'static str,
    pub refused: bool,
}

/// Verifies an entry with the key. `nonces` are those of earlier entries that were believed.
fn verified(
    content: &Result<Event, crate::domain::event::Unreadable>,
    nonces: &mut Nonces,
    id: EntryId,
    is_skipped: bool,
) -> Signature {
    match content {
        Ok(Event::Control(fact)) => match &fact.issue {
            Some(_) if is_skipped => Signature::Bad("a copy of an entry that was believed before"),
            Some(_) | None => match nonces.take(fact, id) {
                Ok(()) => Signature::Good,
                Err(NotBelieved::Copy) => Signature::Bad("its nonce was used before: a copy of another entry"),
                Err(NotBelieved::Overtaken) => Signature::Bad("it was issued before the last kill, and clears it"),
            },
        },
        Err(unreadable) if unreadable.reason == Reason::BadSignature => {
            Signature::Bad("not signed with this key, or not issued close to its id")
        }
        Ok(_) | Err(_) => Signature::Bad("it does not read"),
    }
}
