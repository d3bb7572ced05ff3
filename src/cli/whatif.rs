//! `harvester whatif`: several policies over one history, side by side.
//!
//! The history is read and decoded once; each policy has an engine of its own. The report is the only output: no store
//! or stream is written.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::config::Config;
use crate::console;
use crate::domain::event::ids::EntryId;
use crate::domain::exit::policy::Policy;
use crate::drive::stop::Stop;
use crate::drive::whatif::{self, Compared, Document};
use crate::shell::terminal::Screen;

mod report;

/// Flags of the command.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Example: harvester whatif --policy cautious.toml --policy bold.toml history/ --csv decisions.csv"
)]
pub struct Args {
    /// Files, folders (every *.jsonl and *.jsonl.zst below) or - for standard input
    #[arg(required = true, value_name = "HISTORY")]
    histories: Vec<PathBuf>,
    /// File with a [policy] table; may be given several times. The others are compared with the first
    #[arg(long, required = true, value_name = "FILE")]
    policy: Vec<PathBuf>,
    /// Skip and count lines that are not entries, instead of stopping at them
    #[arg(long)]
    skip_bad_lines: bool,
    /// Only the decisions of this account; "" is the account without a name. Entries of all accounts are still applied
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Write every decision of every policy as a table
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// One JSON document
    #[arg(long)]
    json: bool,
    /// Write the comparison as one self-contained page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub fn run(args: &Args, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let policies = args.policy.iter().map(|path| named(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let mut compared = whatif::fold_all(&args.histories, policies, args.skip_bad_lines, config, &Stop::never())?;
    if let Some(account) = &args.account {
        compared.keep_account(account);
    }
    if let Some(path) = &args.csv {
        report::write_csv(&compared, path)?;
    }
    if let Some(path) = &args.html {
        let source = args.histories.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ");
        let page = console::whatif_file(&compared, range_ms(&compared), &source)?;
        std::fs::write(path, page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if args.json {
        return super::json::write(out, &Document::of(&compared)?);
    }
    report::show(&compared, &mut Screen::stdout(out))
}

/// Returns the times that a curve of profits spans. [ms since 1970]
pub(super) fn range_ms(compared: &Compared) -> (u64, u64) {
    let fold = compared.variants.first().map(|variant| &variant.engine.counters);
    let ms = |id: Option<EntryId>| id.map_or(0, |id| id.ms);
    fold.map_or((0, 0), |counters| (ms(counters.first), ms(counters.last)))
}

/// Reads a policy from a file, and names it after the file. The environment is ignored: it would change all policies
/// alike.
pub(super) fn named(path: &Path) -> anyhow::Result<(String, Policy)> {
    let config =
        Config::from_parts(Some(path), BTreeMap::new()).with_context(|| format!("the policy of {}", path.display()))?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok((name, config.policy))
}
