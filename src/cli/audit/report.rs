//! Everything that an audit found, and its verdict.

use serde_json::{Map, Value, json};

use super::ledger::Balance;
use super::sources::Sources;
use crate::codec::chain::Chain;
use crate::domain::book::counters::Count;
use crate::domain::book::execution::Outcome;
use crate::domain::engine::{Engine, RULES_VERSION};
use crate::shell::history::History;

/// The verdict of an audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Clean,
    Findings,
    /// No finding, but not everything was seen.
    Incomplete,
}

impl Verdict {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Findings => "findings",
            Self::Incomplete => "incomplete",
        }
    }
}

/// The findings.
#[derive(Debug)]
pub struct Report {
    /// True if only the chain was verified.
    pub chain_only: bool,
    pub matched: u64,
    pub differs: Vec<Value>,
    pub missing: Vec<Value>,
    pub unexpected: Vec<Value>,
    pub duplicated: Vec<Value>,
    pub tampered: Vec<Value>,
    /// Decisions that could not be judged, with the reason.
    pub unseen: Vec<Value>,
    /// `expired`, `outcomes` and the fields that belong to them.
    pub executions: Map<String, Value>,
    pub coverage: Map<String, Value>,
    /// Streams without a single entry.
    pub silent: Vec<String>,
    pub other_rules: Map<String, Value>,
    pub chain: Value,
    /// Signatures of control entries, and each adoption of a policy.
    pub control: Value,
    pub counts: Map<String, Value>,
    pub notices: Vec<String>,
}

impl Report {
    /// Creates the report of the chain alone.
    pub fn of_chain(sources: &Sources, chain: &Chain, faults: Vec<Value>) -> Self {
        let fault = |fault: &crate::codec::chain::Tampered| {
            let entry = fault.entry.map(|id| id.to_string());
            json!({"what": fault.what.name(), "seq": fault.seq, "entry": entry, "why": fault.why})
        };
        let duplicated = chain.duplicated.iter().map(|copy| {
            let entries: Vec<String> = copy.entries.iter().map(ToString::to_string).collect();
            json!({"decision_id": copy.decision_id, "entries": entries})
        });
        let mut unseen: Vec<Value> = sources.unseen.iter().map(|why| json!({"why": why})).collect();
        if chain.begins > 1 {
            unseen.push(json!({"why": format!("decisions before number {} are not there; an anchor vouches for their end", chain.begins)}));
        }
        let signatures = chain.signatures;
        let outcomes: Map<String, Value> = Outcome::ALL.iter().map(|o| (o.name().to_owned(), 0.into())).collect();
        Self {
            chain_only: true,
            matched: 0,
            differs: Vec::new(),
            missing: Vec::new(),
            unexpected: Vec::new(),
            duplicated: duplicated.collect(),
            tampered: sources.faults.iter().cloned().chain(faults).chain(chain.tampered.iter().map(fault)).collect(),
            unseen,
            executions: Map::from_iter([("expired".to_owned(), 0.into()), ("outcomes".to_owned(), outcomes.into())]),
            coverage: Map::new(),
            silent: Vec::new(),
            other_rules: Map::new(),
            chain: json!({
                "entries": chain.entries,
                "begins": chain.begins,
                "written_again": chain.written_again,
                "clock_back": chain.clock_back,
                "head": {"seq": chain.head.seq, "hash": *chain.head.hash},
                "signatures": {
                    "good": signatures.good,
                    "bad": signatures.bad,
                    "unchecked": signatures.unchecked,
                    "none": signatures.none,
                },
            }),
            control: Value::Null,
            counts: Map::new(),
            notices: Vec::new(),
        }
    }

    /// Creates the report of a history that is too damaged to be read.
    pub fn of_damage(sources: &Sources, chain: &Chain, error: &anyhow::Error) -> Self {
        let fault = json!({"what": "history", "seq": null, "entry": null, "why": format!("{error:#}")});
        let mut report = Self::of_chain(sources, chain, vec![fault]);
        report.unseen.push(json!({"why": "the history cannot be read: no decision was recomputed"}));
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
        self.other_rules = balance.other_rules.into_iter().map(|(rules, n)| (rules, n.into())).collect();
    }

    /// Adds the counts of the fold.
    pub fn count(&mut self, engine: &Engine, history: &History) {
        let counters = &engine.counters;
        let counts = json!({
            "entries": counters.entries(),
            "quarantined": counters.quarantined.values().sum::<u64>(),
            "bad_lines": history.bad_lines(),
            "other_streams": history.other_streams(),
            "passed_over": counters.of(Count::Skipped),
            "rules": RULES_VERSION,
            "policy": *engine.policy().hash,
        });
        self.counts = counts.as_object().cloned().unwrap_or_default();
        if counters.entries() == 0 {
            self.unseen.push(json!({"why": "the history holds no entry"}));
        }
    }

    pub fn verdict(&self) -> Verdict {
        let found = [&self.differs, &self.missing, &self.unexpected, &self.duplicated, &self.tampered];
        if found.iter().any(|list| !list.is_empty()) {
            Verdict::Findings
        } else if !self.unseen.is_empty() {
            Verdict::Incomplete
        } else {
            Verdict::Clean
        }
    }

    /// Returns the document (docs/spec/commands.md, "audit"), with the other findings.
    pub fn json(&self) -> Value {
        let mut document = json!({
            "verdict": self.verdict().name(),
            "matched": self.matched,
            "differs": self.differs,
            "missing": self.missing,
            "unexpected": self.unexpected,
            "duplicated": self.duplicated,
            "tampered": self.tampered,
            "unseen": self.unseen,
            "coverage": self.coverage,
            "silent": self.silent,
            "other_rules": self.other_rules,
            "chain": self.chain,
            "control": self.control,
            "chain_only": self.chain_only,
            "notices": self.notices,
        });
        if let Some(object) = document.as_object_mut() {
            object.extend(self.executions.clone());
            object.extend(self.counts.clone());
        }
        document
    }
}
