//! The driver: decoder, engine and chain in one piece. Every command, the service and the tests use one. A user with a
//! store folds with the rows of its next commit (`commits`), on the engine of its driver.
//!
//! ```text
//!  line ─▶ decoder ─▶ entry ─▶ engine ─▶ decision ─▶ seal ─▶ decision with its hash
//!             │                  ▲                    │
//!             ├─ new symbols ────┤                    │
//!             └─ look-ahead ─────┴──── link ──────────┘
//! ```
//!
//! Promises: the engine knows every symbol of an entry that the driver returned. A decision that it returned is linked
//! into the chain. The same key verifies the look-ahead and the fold.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::{self, KeyError};
use super::look_ahead::{self, LookAhead};
use crate::codec::decode::{Decoder, Symbols};
use crate::codec::line::{self, Fields};
use crate::codec::seal::{self, Sealed};
use crate::codec::signing::SigningKey;
use crate::config::Config;
use crate::domain::engine::recorded::RecordedDecisions;
use crate::domain::engine::skips::At;
use crate::domain::engine::{Decision, Decisions, Disposition, Engine, Step, chain};
use crate::domain::event::ids::{EntryId, StreamId, SymbolId};
use crate::domain::event::streams::Streams;
use crate::domain::event::{DecisionFact, Entry, Event};
use crate::domain::exit::policy::Policy;
use crate::shell::history::History;

/// The effect of one entry.
pub struct Stepped {
    pub disposition: Disposition,
    /// The decisions that it caused, in the order of the chain, each with its sealed form.
    pub decided: Vec<(Decision, Sealed)>,
}

impl Stepped {
    /// Steps an engine by one entry. Seals the decisions that it caused, and links them into the chain.
    #[inline]
    pub(super) fn by(engine: &mut Engine, entry: &Entry) -> Self {
        let Step { disposition, decisions } = engine.step(entry);
        let mut decided = Vec::new();
        for decision in decisions {
            let sealed = seal::sealed(engine, &decision);
            engine.link(&decision, &sealed.hash);
            decided.push((decision, sealed));
        }
        Self { disposition, decided }
    }
}

/// The decision entries of a history that an audit has verified, by their ids.
#[derive(Clone, Debug, Default)]
pub struct VerifiedDecisions {
    /// Those that form the chain, with their seal intact.
    pub intact: BTreeSet<EntryId>,
    /// Those that a service read and refused as foreign.
    pub refused: BTreeSet<EntryId>,
}

/// Returns an engine before the first entry, with the policies of the configuration.
pub(super) fn engine_of(config: &Config, policy: Policy) -> Engine {
    let mut engine = Engine::new(config.streams.clone(), policy);
    for (account, policy) in &config.account_policies {
        engine.configure_account(account, policy.clone());
    }
    engine
}

/// Returns true if the policies under which an engine was begun, general and of accounts, are the configured ones.
/// Policies that an entry has replaced do not count.
pub(super) fn is_under_configured(engine: &Engine, config: &Config) -> bool {
    if engine.globals().policy_adopted {
        return true;
    }
    let accounts = engine.accounts();
    let begun_under: BTreeMap<&str, &str> = accounts
        .iter()
        .filter(|account| !account.policy_adopted)
        .filter_map(|account| Some((&*account.name, &*account.policy.as_ref()?.hash)))
        .collect();
    let adopted = |name: &str| accounts.find(name).is_some_and(|account| accounts.get(account).policy_adopted);
    let configured: BTreeMap<&str, &str> = config
        .account_policies
        .iter()
        .filter(|(name, _)| !adopted(name))
        .map(|(name, policy)| (&**name, &*policy.hash))
        .collect();
    engine.globals().policy.hash == config.policy.hash && begun_under == configured
}

/// Decoder, engine and chain. It can be split: [`Self::pipeline`] decodes on one thread and folds on another.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use harvester::config::Config;
/// use harvester::domain::engine::{Decisions, Disposition};
/// use harvester::domain::event::ids::EntryId;
/// use harvester::drive::driver::Driver;
///
/// let config = Config::from_parts(None, BTreeMap::new())?;
/// let mut driver = Driver::new(&config, Decisions::Derived)?;
/// let ticks = driver.streams().id_of("quantum:stream:market.tick").expect("it is read by default");
/// let fields = r#"{"symbol":"SOLUSDT","price":"100"}"#;
/// let line = format!(r#"{{"stream":"quantum:stream:market.tick","id":"1770163200000-0","fields":{fields}}}"#);
///
/// let entry = driver.decode_line(ticks, EntryId::new(1_770_163_200_000, 0), line.as_bytes())?;
/// assert_eq!(driver.fold(&entry).disposition, Disposition::Applied);
/// // Without a position there is nothing to decide. The same entry again changes nothing.
/// let again = driver.fold(&entry);
/// assert_eq!((again.disposition, again.decided.len()), (Disposition::Duplicate, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Driver {
    pub(super) decoder: Decoder,
    pub engine: Engine,
}

impl Driver {
    /// Creates a driver before the first entry, under the configured policy.
    pub fn new(config: &Config, decisions: Decisions) -> Result<Self, KeyError> {
        Self::going_on(engine_of(config, config.policy.clone()), config, decisions)
    }

    /// Creates a driver that continues from a state.
    pub fn going_on(engine: Engine, config: &Config, decisions: Decisions) -> Result<Self, KeyError> {
        Ok(Self::with_key(engine.with_decisions(decisions), keys::configured(config)?))
    }

    /// Creates a driver that decodes entries of the configured streams and folds none. Without a key every entry is read
    /// as it is written, believed or not.
    pub fn as_written(config: &Config, key: Option<SigningKey>) -> Self {
        Self::with_key(Engine::new(config.streams.clone(), config.policy.clone()), key)
    }

    /// Creates a driver with a key other than the configured one, or with none.
    pub fn with_key(engine: Engine, key: Option<SigningKey>) -> Self {
        let names = Symbols::of(&engine);
        let decoder = Decoder::new(engine.streams().clone(), names).with_key(key);
        let mut driver = Self { decoder, engine };
        // The configuration may give accounts to streams.
        driver.name_new();
        driver
    }

    /// Creates a driver for a whole history, which is read ahead up to `until`. It has no store.
    pub fn over(
        history: &History,
        config: &Config,
        decisions: Decisions,
        until: Option<EntryId>,
    ) -> Result<Self, KeyError> {
        let mut driver = Self::new(config, decisions)?;
        driver.engine.ignore_changes();
        driver.look_ahead(history, until);
        Ok(driver)
    }

    /// Creates a driver that compares the decisions of a history with ours. If the history itself states the policy
    /// under which it begins, the driver begins under that one.
    ///
    /// Decisions after `until` are recorded decisions as well: they come after their causes. `verified` selects them by
    /// their ids; `None` selects those that form a chain.
    pub fn auditing(
        history: &History,
        config: &Config,
        key: Option<SigningKey>,
        until: Option<EntryId>,
        verified: Option<&VerifiedDecisions>,
    ) -> Self {
        let mut driver = Self::with_key(engine_of(config, config.policy.clone()), key);
        let policy = look_ahead::policy_at_first(history, &mut driver.decoder);
        let policy = policy.unwrap_or_else(|| config.policy.clone());
        driver.engine = engine_of(config, policy).with_decisions(Decisions::Audited);
        driver.engine_knows_names();
        let skipped = driver.skipped(history, until);
        let ahead = LookAhead::of(history, &mut driver.decoder, None, Decisions::Audited);
        let skipped_by_any = ahead.skipped();
        let former = ahead.former_decisions(&skipped_by_any);
        let mut recorded = match verified {
            Some(verified) => driver.decisions(history, &verified.intact),
            None => {
                let (found, _) = ahead.into_decisions(&skipped_by_any);
                chain::following(&driver.engine.globals().chain, found)
            }
        };
        recorded.extend(former);
        let refused = verified.map(|verified| verified.refused.clone()).unwrap_or_default();
        driver.adopt(skipped, recorded, refused);
        driver
    }

    /// Returns the entries up to `until` that a history itself skips.
    pub fn skipped(&mut self, history: &History, until: Option<EntryId>) -> BTreeSet<At> {
        LookAhead::of(history, &mut self.decoder, until, Decisions::Derived).skipped()
    }

    /// Returns the decisions of a history with these ids.
    fn decisions(&mut self, history: &History, ids: &BTreeSet<EntryId>) -> Vec<DecisionFact> {
        let lines = history.decision_lines().filter(|at| ids.contains(&at.id));
        let read =
            lines.filter_map(|at| match self.decoder.decode(at.stream, at.id, &line::fields(at.bytes).ok()?).content {
                Ok(Event::Decision(fact)) => Some(*fact),
                Ok(_) | Err(_) => None,
            });
        read.collect()
    }

    /// Reads a history ahead up to `until`; later entries are not known yet.
    pub fn look_ahead(&mut self, history: &History, until: Option<EntryId>) {
        let ahead = LookAhead::of(history, &mut self.decoder, until, self.engine.decisions());
        for (stream, entry) in self.preload(ahead) {
            tracing::warn!(%stream, %entry, "a decision entry does not read and goes to quarantine");
        }
    }

    /// Gives the engine what was read ahead: the skipped entries, the decisions that continue its chain, and those of former
    /// streams. Returns the places of the decisions that cannot be read.
    pub fn preload(&mut self, ahead: LookAhead) -> Vec<At> {
        let skipped = ahead.skipped();
        let former = ahead.former_decisions(&skipped);
        let (found, unreadable) = ahead.into_decisions(&skipped);
        let mut recorded = chain::following(&self.engine.globals().chain, found);
        // A decision that both have is the one of the chain.
        recorded.extend(former);
        self.adopt(skipped, recorded, BTreeSet::new());
        unreadable
    }

    fn adopt(&mut self, skipped: BTreeSet<At>, recorded: Vec<DecisionFact>, refused: BTreeSet<EntryId>) {
        self.name_new();
        for (stream, id) in skipped {
            self.engine.skip(&stream, id);
        }
        let mut facts = RecordedDecisions::default();
        facts.refuse(refused);
        for fact in recorded {
            facts.add(fact, self.decoder.streams());
        }
        self.engine.set_recorded_decisions(facts);
    }

    /// Creates an engine with another policy, in the present state of this one, before the first entry of the history.
    pub fn fork(&self, policy: Policy) -> Engine {
        let mut engine = Engine::new(self.engine.streams().clone(), policy).with_decisions(self.engine.decisions());
        for symbol in self.engine.symbols() {
            engine.intern(&symbol.name);
        }
        for account in self.engine.accounts().iter() {
            engine.intern_account(&account.name);
        }
        for (stream, id) in &self.engine.globals().skipped {
            engine.skip(stream, *id);
        }
        engine
    }

    pub fn streams(&self) -> &Streams {
        self.decoder.streams()
    }

    /// Returns true if a key verifies signatures.
    pub fn has_key(&self) -> bool {
        self.decoder.has_key()
    }

    /// Returns the index of a symbol by name. A new name is added.
    pub fn intern(&mut self, name: &str) -> SymbolId {
        let id = self.decoder.symbols.intern(name);
        self.name_new();
        id
    }

    /// Decodes one history line. Errors if its fields cannot be read.
    pub fn decode_line(&mut self, stream: StreamId, id: EntryId, text: &[u8]) -> Result<Entry, serde_json::Error> {
        let entry = self.decoder.decode_line(stream, id, text)?;
        self.name_new();
        Ok(entry)
    }

    /// Decodes one entry. The content of an unreadable entry is the error.
    pub fn decode(&mut self, stream: StreamId, id: EntryId, fields: &Fields<'_>) -> Entry {
        let entry = self.decoder.decode(stream, id, fields);
        self.name_new();
        entry
    }

    /// Gives a new engine all names that the decoder knows.
    fn engine_knows_names(&mut self) {
        self.decoder.symbols.names().tell(&mut self.engine);
    }

    fn name_new(&mut self) {
        self.decoder.symbols.take_new().tell(&mut self.engine);
    }

    /// Folds one entry, and seals the decisions that it caused. An audit compares decisions and does not seal them, so
    /// it steps the engine directly.
    pub fn fold(&mut self, entry: &Entry) -> Stepped {
        Stepped::by(&mut self.engine, entry)
    }
}
