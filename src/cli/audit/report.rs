//! All findings of an audit, and its verdict.

use std::collections::BTreeMap;

use serde::Serialize;

use super::coverage::Covered;
use super::finding::{Copies, Fault, Finding};
use super::ledger::Balance;
use super::sources::Sources;
use super::totals::ExecutionReport;
use super::trust::ControlReport;
use crate::codec::chain::{Chain, Signatures};
use crate::domain::book::counters::Count;
use crate::domain::engine::{Engine, RULES_VERSION};
use crate::domain::named;
use crate::shell::history::History;

named! {
    /// The verdict of an audit.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Verdict {
        Clean => "clean",
        Findings => "findings",
        /// No finding, but something could not be seen.
        Incomplete => "incomplete",
    }
}

/// The findings (docs/spec/commands.md, "audit").
#[derive(Debug, Serialize)]
pub struct Report {
    /// True if only the chain was verified.
    pub chain_only: bool,
    pub matched: u64,
    pub differs: Vec<Finding>,
    pub missing: Vec<Finding>,
    pub unexpected: Vec<Finding>,
    pub duplicated: Vec<Copies>,
    pub tampered: Vec<Fault>,
    pub unseen: Vec<Finding>,
    #[serde(flatten)]
    pub executions: ExecutionReport,
    pub coverage: BTreeMap<String, Covered>,
    /// Streams without a single entry.
    pub silent: Vec<String>,
    /// Decisions of another rules version, by version. [1]
    pub other_rules: BTreeMap<String, u64>,
    pub chain: ChainReport,
    /// `None` if only the chain was verified.
    pub control: Option<ControlReport>,
    #[serde(flatten)]
    counts: Option<Counts>,
    pub notices: Vec<String>,
}

/// The document of `--json`.
#[derive(Serialize)]
pub struct Document<'a> {
    verdict: &'static str,
    #[serde(flatten)]
    report: &'a Report,
}

/// The chain as the audit found it.
#[derive(Debug, Serialize)]
pub struct ChainReport {
    pub entries: u64,
    begins: u64,
    pub written_again: u64,
    clock_back: u64,
    pub head: Head,
    pub signatures: Signatures,
}

#[derive(Debug, Serialize)]
pub struct Head {
    pub seq: u64,
    pub hash: String,
}

/// The counts of the fold. [1]
#[derive(Debug, Serialize)]
struct Counts {
    entries: u64,
    quarantined: u64,
    bad_lines: u64,
    other_streams: u64,
    passed_over: u64,
    rules: &'static str,
    policy: String,
}

impl Report {
    /// Creates the report of the chain alone.
    pub fn of_chain(sources: &Sources, chain: &Chain, faults: Vec<Fault>) -> Self {
        let mut unseen: Vec<Finding> = sources.unseen.iter().map(Finding::unseen).collect();
        if chain.begins > 1 {
            let why =
                format!("decisions before number {} are not there; an anchor vouches for their end", chain.begins);
            unseen.push(Finding::unseen(why));
        }
        let Signatures { unchecked, none, .. } = chain.signatures;
        if unchecked > 0 && none > 0 {
            let why = format!(
                "{} signed and {none} not: without a key (--key-file) it is not known which of them are ours",
                if unchecked == 1 { "1 decision is".to_owned() } else { format!("{unchecked} decisions are") }
            );
            unseen.push(Finding::unseen(why));
        }
        Self {
            chain_only: true,
            matched: 0,
            differs: Vec::new(),
            missing: Vec::new(),
            unexpected: Vec::new(),
            duplicated: chain.duplicated.iter().map(Copies::from).collect(),
            tampered: sources
                .faults
                .iter()
                .cloned()
                .chain(faults)
                .chain(chain.tampered.iter().map(Fault::from))
                .collect(),
            unseen,
            executions: ExecutionReport::default(),
            coverage: BTreeMap::new(),
            silent: Vec::new(),
            other_rules: BTreeMap::new(),
            chain: ChainReport {
                entries: chain.entries,
                begins: chain.begins,
                written_again: chain.written_again,
                clock_back: chain.clock_back,
                head: Head { seq: chain.head.seq, hash: chain.head.hash.to_string() },
                signatures: chain.signatures,
            },
            control: None,
            counts: None,
            notices: Vec::new(),
        }
    }

    /// Creates the report of a history that is too damaged to be read.
    pub fn of_damage(sources: &Sources, chain: &Chain, error: &anyhow::Error) -> Self {
        let mut report = Self::of_chain(sources, chain, vec![Fault::of("history", format!("{error:#}"))]);
        report.unseen.push(Finding::unseen("the history cannot be read: no decision was recomputed"));
        report
    }

    /// Adds the result of the comparison.
    pub fn add(&mut self, balance: Balance) {
        self.chain_only = false;
        self.matched = balance.matched;
        self.differs = balance.differs;
        self.missing = balance.missing;
        self.unexpected = balance.unexpected;
        self.unseen.extend(balance.unseen);
        self.other_rules = balance.other_rules;
    }

    /// Adds the counts of the fold.
    pub fn count(&mut self, engine: &Engine, history: &History) {
        let counters = &engine.counters;
        self.counts = Some(Counts {
            entries: counters.entries(),
            quarantined: counters.quarantined.values().sum(),
            bad_lines: history.bad_lines(),
            other_streams: history.other_streams(),
            passed_over: counters.of(Count::Skipped),
            rules: RULES_VERSION,
            policy: engine.policy().hash.to_string(),
        });
        if counters.entries() == 0 {
            self.unseen.push(Finding::unseen("the history holds no entry"));
        }
    }

    /// Leaves out the findings about decisions of other accounts. Findings about the chain or the history stay.
    pub fn keep_account(&mut self, account: &str) {
        for findings in [&mut self.differs, &mut self.missing, &mut self.unexpected, &mut self.unseen] {
            findings.retain(|finding| finding.account().is_none_or(|of| of == account));
        }
    }

    pub fn document(&self) -> Document<'_> {
        Document { verdict: self.verdict().name(), report: self }
    }

    pub fn verdict(&self) -> Verdict {
        let found =
            [self.differs.len(), self.missing.len(), self.unexpected.len(), self.duplicated.len(), self.tampered.len()];
        if found.iter().any(|n| *n > 0) {
            Verdict::Findings
        } else if !self.unseen.is_empty() {
            Verdict::Incomplete
        } else {
            Verdict::Clean
        }
    }
}
