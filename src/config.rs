//! Merges flags, environment and file into one validated configuration. No other module reads any of them.
//!
//! Precedence: flags over environment over file over defaults. Each setting is recorded with its origin, and each
//! command sees only valid settings. Secrets have types that cannot be displayed by accident.
//!
//! In reading order: `environment` and `file` (the sources), `cell` (names with the number of a cell), `table` (one
//! table of settings), a file for each table, `origin` (the origin of each setting, for display), `partly` (the valid
//! part of an invalid configuration).

mod accounts;
mod backfill;
mod cell;
mod console;
mod emit;
mod environment;
mod error;
mod exchange;
mod feed;
mod file;
pub mod flags;
mod journal;
mod log;
mod origin;
mod partly;
mod policy;
mod redis;
mod run;
mod streams;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use tracing::level_filters::LevelFilter;

pub use crate::codec::shown::{MASK, masked_url};
pub use accounts::{Account, Accounts};
pub use backfill::{Backfill, Source};
pub use cell::{CELLS_MAX, Cells};
pub use console::{Console, TOKEN_LETTERS_MIN, base_path};
pub use emit::{Emit, Live};
pub use environment::names as environment_names;
pub use error::ConfigError;
pub use exchange::Exchange;
pub use feed::{Feed, FeedSymbols};
pub use journal::Journal;
pub use origin::{Origin, Setting};
pub use redis::Redis;
pub use run::{Run, SilentAfter, Start, StartSetting};
pub use streams::Outputs;

use crate::codec::policy as codec_policy;
use crate::codec::scope::Scope;
use crate::domain::book::plans::sha256_hex;
use crate::domain::event::streams::Streams;
use crate::domain::exit::policy::{Mode, Policy};
use environment::Environment;
use file::File;
use table::{Flags, Sheet};

/// All settings, validated.
#[derive(Clone)]
pub struct Config {
    /// The input streams, by kind.
    pub streams: Streams,
    /// The output streams other than decisions and requests.
    pub outputs: Outputs,
    /// The policy in force until a `policy.adopted` is applied.
    pub policy: Policy,
    /// The policies of accounts that differ from the general one.
    pub account_policies: BTreeMap<Box<str>, Policy>,
    pub redis: Redis,
    pub run: Run,
    pub journal: Journal,
    pub console: Console,
    pub emit: Emit,
    pub backfill: Backfill,
    pub exchange: Exchange,
    /// The accounts with a name, and the credentials of each. Those that another cell reads are left out.
    pub accounts: Accounts,
    /// The accounts that any setting names, those of all cells.
    pub names: BTreeSet<Box<str>>,
    pub feed: Feed,
    /// The level of messages on standard error.
    pub log_level: LevelFilter,
    /// Every setting in a form that may be displayed, with its origin.
    pub settings: Vec<Setting>,
    /// Warnings about values that were cleaned or overridden, or have no effect. To be displayed once.
    pub warnings: Vec<String>,
    pub sources: Sources,
}

/// The sources of a configuration, kept so that flags can be applied over them.
#[derive(Clone, Default)]
pub struct Sources {
    file: File,
    environment: Environment,
    /// The cell that the command line gives for all commands.
    cell: Option<u32>,
    flags: Flags,
    /// Warnings from reading the sources.
    warnings: Vec<String>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("settings", &self.settings)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Reads the file, if one is named, and the environment of the process, for a cell if one is given.
    pub fn load(file: Option<&Path>, cell: Option<u32>) -> Result<Self, ConfigError> {
        Self::from_parts_of_cell(file, environment_of_process(), cell)
    }

    /// Reads the file, if one is named, and the given environment.
    pub fn from_parts(file: Option<&Path>, environment: BTreeMap<String, String>) -> Result<Self, ConfigError> {
        Self::from_parts_of_cell(file, environment, None)
    }

    /// Does the same for a cell, if one is given.
    pub fn from_parts_of_cell(
        file: Option<&Path>,
        environment: BTreeMap<String, String>,
        cell: Option<u32>,
    ) -> Result<Self, ConfigError> {
        let mut warnings = Vec::new();
        let file = file.map(|path| File::read(path, &mut warnings)).transpose()?.unwrap_or_default();
        let environment = Environment::cleaned(environment, &accounts::variables(&file), &mut warnings)?;
        file.refuse_unknown()?;
        Self::of(Sources { file, environment, cell, warnings, ..Sources::default() }, Flags::new())
    }

    /// Does the same with flags of the command line applied over everything else: `("run.group", "harvester")`. The
    /// keys are those of the file.
    pub fn with_flags(&self, flags: impl IntoIterator<Item = (&'static str, String)>) -> Result<Self, ConfigError> {
        Self::of(self.sources.clone(), flags.into_iter().collect())
    }

    fn of(sources: Sources, flags: Flags) -> Result<Self, ConfigError> {
        let cell = sources.cell(&flags)?;
        let sources = Sources { flags, ..sources };
        let (file, environment, flags) = sources.rendered(&sources.flags, cell)?;
        let mut sheet = Sheet {
            flags: &flags,
            environment: &environment,
            file,
            settings: Vec::new(),
            warnings: sources.warnings.clone(),
        };
        let (policy, account_policies) = policy::read(&mut sheet)?;
        let redis = redis::read(&mut sheet)?;
        let (streams, outputs) = streams::read(&mut sheet)?;
        let (run, selection) = run::read(&mut sheet, cell)?;
        let streams = streams.with_symbols_max(run.max_symbols);
        let journal = journal::read(&mut sheet)?;
        let console = console::read(&mut sheet)?;
        let emit = emit::read(&mut sheet)?;
        let backfill = backfill::read(&mut sheet)?;
        let exchange = exchange::read(&mut sheet)?;
        let accounts = accounts::read(&mut sheet)?;
        let feed = feed::read(&mut sheet, &exchange)?;
        let log_level = log::read(&mut sheet);
        let of_streams = streams.iter().filter_map(|(_, stream)| stream.account.clone());
        let of_tables = accounts.keys().chain(account_policies.keys()).cloned();
        let of_run = run.accounts_named.iter().map(|name| name.as_str().into());
        // All cells know the same names, so that one policy is in force in all of them.
        let names: BTreeSet<Box<str>> = of_tables.chain(of_streams).chain(of_run).collect();
        let policy = codec_policy::knowing(policy, names.iter().map(|name| &**name));
        let is_read = |name: &str| selection.contains(name);
        let accounts: Accounts = accounts.into_iter().filter(|(name, _)| is_read(name)).collect();
        let account_policies = account_policies.into_iter().filter(|(name, _)| is_read(name)).collect();
        let streams = streams::of_selection(streams, selection)?;
        let Sheet { settings, warnings, .. } = sheet;
        let nowhere = flags.keys().find(|key| settings.iter().all(|setting| setting.key != **key));
        assert_eq!(nowhere, None, "a flag names a setting");
        Ok(Self {
            streams,
            outputs,
            policy,
            account_policies,
            redis,
            run,
            journal,
            console,
            emit,
            backfill,
            exchange,
            accounts,
            names,
            feed,
            log_level,
            settings,
            warnings,
            sources,
        })
    }

    /// Returns the settings of live requests; `None` in shadow mode. Returns an error if live mode lacks a setting.
    pub fn live(&self) -> Result<Option<Live>, ConfigError> {
        self.emit.live(self.live_policy(), &self.streams)
    }

    /// Returns the scope of this service, as its journal states it.
    pub fn scope(&self) -> Scope {
        Scope { cell: self.run.cell, streams: self.streams.clone() }
    }

    /// Returns the same configuration for the streams and accounts that a journal states.
    #[must_use]
    pub fn with_scope(&self, scope: &Scope) -> Self {
        let streams = scope.streams.clone().with_symbols_max(self.run.max_symbols);
        Self { streams, ..self.clone() }
    }

    /// Returns the accounts that any setting names: credentials, a policy, a stream, or a cell.
    pub fn account_names(&self) -> BTreeSet<&str> {
        self.names.iter().map(|name| &**name).collect()
    }

    /// Returns true if orders are sent, and no key verifies the control entries that decide about them.
    pub fn is_live_without_key(&self) -> bool {
        self.live_policy().mode == Mode::Live && matches!(self.emit.signing_key(), Ok(None))
    }

    /// Returns the general policy, or that of an account which is live while the general one is not.
    fn live_policy(&self) -> &Policy {
        let mut all = std::iter::once(&self.policy).chain(self.account_policies.values());
        all.find(|policy| policy.mode == Mode::Live).unwrap_or(&self.policy)
    }

    /// Returns the SHA-256 in hex of all effective settings, with secrets masked. It distinguishes configurations.
    pub fn hash(&self) -> String {
        let lines = self.settings.iter().map(|setting| format!("{}={}\n", setting.key, setting.value));
        sha256_hex(lines.collect::<String>().as_bytes())
    }
}

fn environment_of_process() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .collect()
}
