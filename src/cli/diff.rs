//! `harvester diff`: finds where two states, or two replays, differ.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Serialize;

use super::exit_code::Found;
use super::json;
use crate::codec::checksum::state_checksum_hex;
use crate::codec::fields::{self, FieldDifference};
use crate::codec::plural::plural;
use crate::codec::policy::knowing;
use crate::config::Config;
use crate::domain::book::state::account_of_position;
use crate::domain::engine::{Decisions, Engine};
use crate::shell::terminal::{Screen, Tone};

mod lockstep;
mod side;

use lockstep::{Entries, Parting};
use side::Side;

/// Fields that are named one by one. [1]
const NAMED_MAX: usize = 50;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples: harvester diff state journal
          harvester diff history/ history/ --policy other.toml --derive
A and B are stores, snapshots, journals, or histories; two histories are replayed in lockstep.
Exit code 1: they differ.")]
pub struct Args {
    /// A store, a snapshot, a journal, or a history
    a: PathBuf,
    /// What it is compared with
    b: PathBuf,
    /// Replay B under the policy of this file (TOML)
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Ignore decisions in the histories: derive all of them anew
    #[arg(long)]
    derive: bool,
    /// Only the fields of this account; "" is the account without a name. Entries of all accounts are still applied
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// The result of a comparison.
#[derive(Serialize)]
struct Difference {
    a: State,
    b: State,
    /// Present only if two histories were replayed.
    first: Option<Parting>,
    entries: Option<Entries>,
    decisions: Option<DecisionIds>,
    /// The fields that differ at the end.
    fields: Vec<FieldDifference>,
    /// Only the fields of an account count.
    #[serde(skip)]
    is_of_account: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    verdict: &'static str,
    fields_differing: usize,
    #[serde(flatten)]
    difference: &'a Difference,
}

/// A state at its end.
#[derive(Serialize)]
struct State {
    what: String,
    last: String,
    #[serde(rename = "state")]
    checksum: String,
    policy: String,
}

/// Decisions by their ids.
#[derive(Default, Serialize)]
struct DecisionIds {
    both: usize,
    only_a: Vec<String>,
    only_b: Vec<String>,
}

pub fn run(args: &Args, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let other = match &args.policy {
        Some(file) => {
            let read = Config::load(Some(file), config.run.cell)
                .with_context(|| format!("the policy of {}", file.display()))?;
            Config { policy: knowing(read.policy, config.account_names()), ..config.clone() }
        }
        None => config.clone(),
    };
    let decisions = if args.derive { Decisions::Derived } else { Decisions::Recorded };
    let a = Side::open(&args.a, config, decisions)?;
    let b = Side::open(&args.b, &other, decisions)?;
    let mut difference = compare(&args.a, a, &args.b, b)?;
    if let Some(account) = &args.account {
        difference.keep_account(account);
    }
    if args.json {
        let verdict = if difference.is_none() { "same" } else { "differ" };
        let fields_differing = difference.fields.len();
        json::write(out, &Document { verdict, fields_differing, difference: &difference })?;
    } else {
        difference.show(&mut Screen::stdout(out))?;
    }
    if difference.is_none() {
        return Ok(());
    }
    Err(Found(format!("{} and {} differ", args.a.display(), args.b.display())).into())
}

fn compare(a_path: &Path, a: Side, b_path: &Path, b: Side) -> anyhow::Result<Difference> {
    let (a, b, met) = match (a, b) {
        (Side::Replay(a), Side::Replay(b)) => {
            let met = lockstep::run(*a, *b)?;
            (met.a, met.b, Some((met.first, met.entries, met.decisions_a, met.decisions_b)))
        }
        (a, b) => (a.state()?, b.state()?, None),
    };
    let fields = differing(&a, &b);
    let state = |what: &Path, engine: &Engine| State {
        what: what.display().to_string(),
        last: engine.globals().last.to_string(),
        checksum: state_checksum_hex(engine),
        policy: engine.policy().hash.to_string(),
    };
    let (a, b) = (state(a_path, &a), state(b_path, &b));
    let (first, entries, decisions) = match met {
        Some((first, entries, of_a, of_b)) => (first, Some(entries), Some(DecisionIds::of(&of_a, &of_b))),
        None => (None, None, None),
    };
    Ok(Difference { a, b, first, entries, decisions, fields, is_of_account: false })
}

/// Returns all fields that differ, in the order of their symbols.
fn differing(a: &Engine, b: &Engine) -> Vec<FieldDifference> {
    let whole = |engine: &Engine| [fields::of_whole(engine), fields::of_cursors(engine)].concat();
    let mut all = fields::differing(&whole(a), &whole(b));
    let names = a.symbols().chain(b.symbols()).map(|symbol| &*symbol.name);
    for name in names.collect::<BTreeSet<_>>() {
        all.extend(lockstep::of_symbol(a, b, name));
    }
    all
}

impl DecisionIds {
    fn of(a: &[String], b: &[String]) -> Self {
        let missing = |of: &[String], from: &[String]| -> Vec<String> {
            of.iter().filter(|decision| !from.contains(decision)).cloned().collect()
        };
        let only_a = missing(a, b);
        Self { both: a.len() - only_a.len(), only_a, only_b: missing(b, a) }
    }
}

impl Difference {
    /// Leaves out what does not belong to an account: fields of other accounts and of none, checksums, entries, decisions.
    fn keep_account(&mut self, account: &str) {
        let is_of = |of: &str| of != fields::WHOLE && account_of_position(of) == account;
        self.fields.retain(|field| is_of(&field.of));
        self.first = self.first.take().filter(|first| is_of(first.of()));
        (self.entries, self.decisions) = (None, None);
        self.is_of_account = true;
    }

    fn is_none(&self) -> bool {
        if self.is_of_account {
            return self.first.is_none() && self.fields.is_empty();
        }
        let decisions = self.decisions.as_ref();
        self.a.checksum == self.b.checksum
            && self.first.is_none()
            && self.fields.is_empty()
            && self.entries.as_ref().is_none_or(Entries::agree)
            && decisions.is_none_or(|decisions| decisions.only_a.is_empty() && decisions.only_b.is_empty())
    }

    /// Returns the sentence about the two states at their ends: how many fields differ, and what they belong to.
    fn at_the_end(&self) -> String {
        if self.fields.is_empty() {
            return if self.a.checksum == self.b.checksum || self.is_of_account {
                "At the end the states are the same".to_owned()
            } else {
                "At the end no field differs, but the checksums do: in what is remembered for later entries".to_owned()
            };
        }
        let is_whole = |of: &str| of == fields::WHOLE;
        let part = |one: &str, is_meant: &dyn Fn(&str) -> bool| {
            let owners: Vec<&str> = self.fields.iter().map(|field| &*field.of).filter(|of| is_meant(of)).collect();
            let distinct = owners.iter().collect::<BTreeSet<_>>().len();
            (distinct > 0).then(|| format!("{} of {}", owners.len(), plural(distinct, one)))
        };
        let whole = self.fields.iter().filter(|field| is_whole(&field.of)).count();
        let parts = [
            part("position", &|of| of.contains('@')),
            part("symbol", &|of| !of.contains('@') && !is_whole(of)),
            (whole > 0).then(|| format!("{whole} of no symbol")),
        ];
        let verb = if self.fields.len() == 1 { "differs" } else { "differ" };
        let parts = parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        format!("At the end {} {verb}: {parts}", plural(self.fields.len(), "field"))
    }

    fn show(&self, screen: &mut Screen<'_>) -> anyhow::Result<()> {
        for (side, state) in [("A", &self.a), ("B", &self.b)] {
            let (checksum, policy) = (&state.checksum[..16], &state.policy[..12]);
            screen.line(&format!("{side}  {}: up to {}, state {checksum}, policy {policy}", state.what, state.last))?;
        }
        if self.is_none() {
            screen.heading("They are the same.")?;
            return Ok(());
        }
        if let Some(first) = &self.first {
            first.show(screen)?;
        }
        if let Some(entries) = &self.entries {
            entries.show(screen)?;
        }
        if let Some(DecisionIds { both, only_a, only_b }) = &self.decisions {
            screen.line(&format!(
                "decisions: {both} in both, {} only in A, {} only in B",
                only_a.len(),
                only_b.len()
            ))?;
        }
        screen.heading(&self.at_the_end())?;
        if self.fields.is_empty() {
            return Ok(());
        }
        let row = |FieldDifference { of, field, a, b }: &FieldDifference| {
            vec![
                (of.clone(), Tone::Plain),
                (field.clone(), Tone::Plain),
                (a.clone(), Tone::Warning),
                (b.clone(), Tone::Warning),
            ]
        };
        let rows = self.fields.iter().take(NAMED_MAX).map(row).collect();
        screen.table(&["OF", "FIELD", "A", "B"], &[], rows)?;
        if self.fields.len() > NAMED_MAX {
            screen.line(&format!("… and {} more (--json names all)", self.fields.len() - NAMED_MAX))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(owners: &[&str], checksum_b: &str) -> String {
        let state = |checksum: &str| State {
            what: String::new(),
            last: String::new(),
            checksum: checksum.to_owned(),
            policy: String::new(),
        };
        let field = |of: &&str| {
            let [of, field, a, b] = [*of, "qty", "1", "2"].map(str::to_owned);
            FieldDifference { of, field, a, b }
        };
        let fields = owners.iter().map(field).collect();
        let (a, b) = (state("a"), state(checksum_b));
        Difference { a, b, first: None, entries: None, decisions: None, fields, is_of_account: false }.at_the_end()
    }

    #[test]
    fn the_sentence_about_the_end_counts_fields_by_what_they_belong_to() {
        let (near, sol) = ("NEARUSDT@1770170700000-7", "SOLUSDT@1770170700000-6");
        for (owners, wanted) in [
            (&[near][..], "At the end 1 field differs: 1 of 1 position"),
            (&["all"], "At the end 1 field differs: 1 of no symbol"),
            (&["NEARUSDT", "NEARUSDT"], "At the end 2 fields differ: 2 of 1 symbol"),
            (
                &["all", near, near, sol, "SOLUSDT", "all"],
                "At the end 6 fields differ: 3 of 2 positions, 1 of 1 symbol, 2 of no symbol",
            ),
        ] {
            assert_eq!(said(owners, "b"), wanted);
        }
        assert_eq!(said(&[], "a"), "At the end the states are the same");
        assert!(said(&[], "b").starts_with("At the end no field differs, but the checksums do"));
    }
}
