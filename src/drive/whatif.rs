//! Several policies over one history, side by side.
//!
//! The history is read and decoded once; each policy has an engine of its own. Nothing is written: no store, no stream.
//!
//! In reading order: this file (the fold), `variant` (one policy), `document` (the result).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, channel, sync_channel};
use std::thread;

use super::driver::Driver;
use super::keys::KeyError;
use super::pipeline::{EntryBatch, PassError, single_pass_or_restart};
use super::scope::{self, ScopesDiffer};
use super::stop::{Stop, Stopped};
use crate::codec::chain;
use crate::codec::policy::knowing;
use crate::config::Config;
use crate::domain::engine::Decisions;
use crate::domain::exit::policy::Policy;
use crate::shell::history::{History, HistoryError, Input, Options};

mod document;
mod variant;

pub use document::{DecisionResult, Document, PolicyResult, Sums, SumsError, SymbolSums, ids, sums};
pub use variant::{FILL_MODEL, Fill, Made, Variant};

/// Maximum number of batches that wait for each thread of policies. [1]
const BATCHES_WAITING: usize = 4;

/// A comparison that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum WhatIfError {
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error(transparent)]
    Scope(#[from] ScopesDiffer),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Pass(#[from] PassError),
    /// The thread of a policy has ended.
    #[error("a policy could not be folded")]
    PolicyFailed,
}

impl WhatIfError {
    /// Returns true if a single pass was insufficient.
    fn is_not_plain(&self) -> bool {
        matches!(self, Self::Pass(error) if error.is_not_plain())
    }
}

/// All policies, folded over one history.
pub struct Compared {
    pub variants: Vec<Variant>,
    /// Decisions in the history.
    pub recorded: BTreeSet<String>,
    /// [1]
    pub entries: u64,
}

impl Compared {
    /// Leaves out the decisions of other accounts. Counts of holds and entries still include all accounts.
    pub fn keep_account(&mut self, account: &str) {
        for variant in &mut self.variants {
            let engine = &variant.engine;
            variant.made.retain(|made| *engine.book(made.decision.book).account_name == *account);
        }
    }
}

/// Folds a history once for each policy.
pub fn fold_all(
    histories: &[PathBuf],
    policies: Vec<(String, Policy)>,
    skip_bad_lines: bool,
    config: &Config,
    stop: &Stop,
) -> Result<Compared, WhatIfError> {
    // Which accounts there are is no question of the policies that are compared.
    let known = |(name, policy)| (name, knowing(policy, config.account_names()));
    let policies: Vec<(String, Policy)> = policies.into_iter().map(known).collect();
    let inputs: Vec<Input> = histories.iter().cloned().map(Input::from).collect();
    let config = &*scope::over(config, &inputs)?;
    let options = Options { skip_bad_lines, ..Options::default() };
    let at_once = History::in_one_pass(&inputs, &[], &config.streams, options.clone())?;
    let again = || Ok(History::open(&inputs, &config.streams, options)?);
    let read = |history| fold(history, policies.clone(), skip_bad_lines, config, stop);
    single_pass_or_restart(at_once, again, read, WhatIfError::is_not_plain)
}

fn fold(
    mut history: History,
    policies: Vec<(String, Policy)>,
    skip_bad_lines: bool,
    config: &Config,
    stop: &Stop,
) -> Result<Compared, WhatIfError> {
    let mut driver = Driver::over(&history, config, Decisions::Derived, None)?;
    let recorded = Arc::new(recorded(&history));
    let mut variants: Vec<Variant> = policies
        .into_iter()
        .map(|(name, policy)| Variant::new(name, policy.cost, driver.fork(policy), Arc::clone(&recorded)))
        .collect();
    let mut entries = 0;
    let (to_reader, emptied) = channel();
    // A thread folds one batch for several policies while the batch is in its cache.
    let of_thread = variants.len().div_ceil(thread::available_parallelism().map_or(1, usize::from)).max(1);
    thread::scope(|scope| {
        let to_variants: Vec<SyncSender<Arc<EntryBatch>>> = variants
            .chunks_mut(of_thread)
            .map(|variants| {
                let (to_variant, batches) = sync_channel::<Arc<EntryBatch>>(BATCHES_WAITING);
                let to_reader = to_reader.clone();
                scope.spawn(move || {
                    for batch in batches {
                        variants.iter_mut().for_each(|variant| variant.fold(&batch));
                        // The last thread that uses a batch returns it, so that its memory is reused.
                        if let Some(batch) = Arc::into_inner(batch) {
                            let _ = to_reader.send(batch);
                        }
                    }
                });
                to_variant
            })
            .collect();
        driver.decode_all(&mut history, skip_bad_lines, |batch| {
            stop.check_now()?;
            entries += batch.entries.len() as u64;
            let batch = Arc::new(batch);
            for to_variant in &to_variants {
                to_variant.send(Arc::clone(&batch)).map_err(|_| WhatIfError::PolicyFailed)?;
            }
            Ok::<_, WhatIfError>(emptied.try_recv().ok())
        })
    })?;
    Ok(Compared { variants, recorded: Arc::unwrap_or_clone(recorded), entries })
}

/// Returns the ids of the decisions in a history.
fn recorded(history: &History) -> BTreeSet<String> {
    let lines = history.decision_lines();
    let found = lines.map(|at| chain::Found { id: at.id, line: at.bytes, file: at.file, number: at.number });
    let chain = chain::verify(&found.collect::<Vec<_>>(), None, &[]);
    chain.links.iter().map(|link| link.decision_id().to_owned()).collect()
}
