//! `cells split`: three cells become five. Account by account, the new cells have the positions and the decisions of
//! the old ones, and no rung is decided again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use harvester::codec::signing::{SigningKey, control_text};
use harvester::config::Config;
use harvester::domain::event::streams::StreamKind;
use harvester::drive::split::Cells;
use harvester::shell::journal::{Journal, Limits};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::support::histories::{CONTROL, DECISION, INTENT, OBSERVATION, RESULT, TICK};
use crate::support::lab::{Lab, entry_line};

const SYMBOL: &str = "SOLUSDT";
const BEGIN_MS: u64 = 1_770_163_200_000;
const KEY: &str = "a secret of enough bytes";
const LIMITS: Limits = Limits { rotate_bytes: 1 << 20 };

/// Returns cells whose own streams, folders and group contain a name.
fn cells(folder: &Path, name: &str, accounts: &str, key: Option<&str>) -> Vec<Config> {
    let own = |kind: &str| format!("{kind} = \"quantum:{{{name}-%cell%}}:stream:harvest.{kind}\"\n");
    let at = |what: &str| format!("{what} = {:?}\n", folder.join(format!("{what}-{name}-%cell%")));
    let text = format!(
        "[streams]\n{}{}{}[run]\n{}{}group = \"{name}-%cell%\"\n{accounts}\n[policy]\nladder = \"0.3:0.2,0.6:0.3,1:0.2\"\n\
         min_r = \"0.2\"\ncost_bps = \"0\"\natr_unit = {{ default = \"absolute\" }}\n",
        own("control"),
        own("observation"),
        own("decision"),
        at("store"),
        at("journal"),
    );
    let path = folder.join(format!("{name}.toml"));
    std::fs::write(&path, text).expect("the settings are written");
    let key = key.map(|key| ("HARVEST_SIGNING_KEY".to_owned(), key.to_owned()));
    let environment: BTreeMap<String, String> = key.into_iter().collect();
    let first = Config::from_parts_of_cell(Some(&path), environment, Some(0)).expect("the settings are valid");
    let count = first.cells().expect("their number is stated");
    (0..count).map(|cell| first.for_cell(cell).expect("a cell")).collect()
}

fn three(folder: &Path, key: Option<&str>) -> Vec<Config> {
    cells(folder, "old", "shard = \"%cell%/3\"\ncells = 3", key)
}

fn five(folder: &Path, key: Option<&str>) -> Vec<Config> {
    cells(folder, "new", "shard = \"%cell%/5\"\ncells = 5", key)
}

fn accounts() -> Vec<String> {
    (0..20).map(|n| format!("account-{n}")).chain([String::new()]).collect()
}

fn of_account<'a>(fields: &[(&'a str, &'a str)], account: &'a str) -> Vec<(&'a str, &'a str)> {
    let account = Some(("account", account)).filter(|(_, name)| !name.is_empty());
    fields.iter().copied().chain(account).collect()
}

/// Returns the entries of the shared streams: every account opens a position, then prices come. Lines with their
/// times.
fn shared() -> Vec<(u64, String)> {
    let intent = [("symbol", SYMBOL), ("side", "BUY"), ("atr_value", "1"), ("volatility_factor", "1")];
    let mut lines = vec![(BEGIN_MS, entry_line(INTENT, &format!("{BEGIN_MS}-0"), &intent))];
    for (n, account) in accounts().iter().enumerate() {
        let ms = BEGIN_MS + 1 + n as u64;
        let (order, price) = (format!("7{n}"), format!("100.{:02}", 3 * n));
        let filled = [("symbol", SYMBOL), ("side", "BUY"), ("executedQty", "10"), ("avgPrice", &*price)];
        let filled = [&filled[..], &[("orderId", &*order), ("status", "FILLED")]].concat();
        lines.push((ms, entry_line(RESULT, &format!("{ms}-0"), &of_account(&filled, account))));
    }
    lines.extend(prices(BEGIN_MS + 5_000, &["100", "100.4", "100.75", "101", "101.25", "100.9"]));
    lines
}

fn prices(from_ms: u64, prices: &[&str]) -> Vec<(u64, String)> {
    let line = |(n, price): (usize, &&str)| {
        let ms = from_ms + 1_000 * n as u64;
        (ms, entry_line(TICK, &format!("{ms}-0"), &[("symbol", SYMBOL), ("price", price)]))
    };
    prices.iter().enumerate().map(line).collect()
}

/// A working cell: its fold and its journal.
struct Cell {
    lab: Lab,
    config: Config,
    journal: Journal,
    /// Ids of its decisions, by account.
    decided: Vec<(String, String)>,
    /// Decisions whose entry is in the stream and not in the journal.
    unread: Vec<String>,
}

impl Cell {
    fn new(config: &Config) -> Self {
        let journal = Journal::open(&config.run.journal, LIMITS).expect("a journal");
        let journal = journal.with_scope(&config.scope()).expect("a journal of the cell");
        let (decided, unread) = Default::default();
        Self { lab: Lab::new(config), config: config.clone(), journal, decided, unread }
    }

    fn own(&self, kind: StreamKind) -> String {
        let (_, stream) =
            self.config.streams.iter().find(|(_, stream)| stream.kind == kind).expect("a stream of its own");
        stream.name.clone()
    }

    /// Folds and journals a line, and the entries of the decisions that it causes.
    fn feed(&mut self, (ms, line): &(u64, String), reads_decisions: bool) {
        let came = self.lab.feed(line);
        self.journal.append(line, *ms);
        for mut sealed in came.sealed.into_iter().chain(came.further.into_iter().map(|(_, sealed)| sealed)) {
            if let Some(key) = key_of(&self.config) {
                sealed.sign(&key);
            }
            let payload: Value = serde_json::from_str(&sealed.payload).expect("a payload is JSON");
            let account = payload["account"].as_str().unwrap_or_default().to_owned();
            self.decided.push((account, sealed.decision_id.clone()));
            let id = format!("{}-{}", ms + 1, sealed.seq);
            let line = harvester::codec::line::write(&self.own(StreamKind::Decision), &id, &sealed.fields());
            if reads_decisions {
                self.lab.feed(&line);
                self.journal.append(&line, ms + 1);
            } else {
                self.unread.push(line);
            }
        }
    }

    /// Feeds an entry of one of its own streams.
    fn own_entry(&mut self, kind: StreamKind, ms: u64, event: &str, payload: &Value) {
        let line = own_line(&self.config, kind, ms, event, payload);
        self.feed(&(ms, line), true);
    }
}

fn key_of(config: &Config) -> Option<SigningKey> {
    let key = config.emit.signing_key().expect("the key reads")?;
    Some(SigningKey::new(key.expose_secret().as_bytes()).expect("a key"))
}

/// Returns an entry of an own stream of a cell, signed if there is a key.
fn own_line(config: &Config, kind: StreamKind, ms: u64, event: &str, payload: &Value) -> String {
    let (_, stream) = config.streams.iter().find(|(_, stream)| stream.kind == kind).expect("a stream of its own");
    let mut payload = payload.clone();
    if kind == StreamKind::Control {
        (payload["issued_ms"], payload["nonce"]) = (ms.into(), format!("nonce-{ms}").into());
    }
    let payload = payload.to_string();
    let mut fields = vec![("event_type", event), ("payload", &*payload)];
    let signature = key_of(config).map(|key| key.sign(&control_text(&stream.name, event, &payload)));
    fields.extend(signature.iter().map(|signature| ("signature", &**signature)));
    entry_line(&stream.name, &format!("{ms}-0"), &fields)
}

/// Returns the state of each account in a cell: the positions with their rungs, without the stream positions of
/// decisions.
fn held(lab: &Lab, account: &str) -> Vec<String> {
    let books = lab.engine.books().filter(|book| *book.account_name == *account);
    let shown = |book: harvester::domain::book::view::BookView<'_>| {
        let positions = book.book.positions().map(|position| {
            let rungs: Vec<String> = position.rungs.iter().map(|rung| format!("{} {:?}", rung.r, rung.state)).collect();
            let decided: Vec<&str> = position.decisions.iter().map(|decision| &*decision.decision_id).collect();
            format!("{} {} {rungs:?} {decided:?}", book.position_id(position), position.totals.qty)
        });
        format!("{} gap {} [{}]", book.name, book.hot.history_gap, positions.collect::<Vec<_>>().join("; "))
    };
    books.map(shown).collect()
}

/// Folds the journal of a new cell as its start does.
fn started(config: &Config) -> Lab {
    let journal = Journal::open(&config.run.journal, LIMITS).expect("the journal opens");
    let lines: Vec<String> = journal.read_from(0).expect("it reads").map(|line| line.expect("a line")).collect();
    let mut lab = Lab::new(config);
    let is_decision = |line: &&String| line.contains("harvest.decision\"");
    lab.preload(&lines.iter().filter(is_decision).cloned().collect::<Vec<_>>());
    lines.iter().for_each(|line| _ = lab.feed(line));
    lab
}

/// Runs three old cells over the shared history and the entries of their own streams.
fn run_old(old: &[Config]) -> Vec<Cell> {
    let mut at_work: Vec<Cell> = old.iter().map(Cell::new).collect();
    let history = shared();
    let (before, after) = history.split_at(history.len() - 3);
    for cell in &mut at_work {
        before.iter().for_each(|line| cell.feed(line, true));
        // The streams of all cells have the same ids.
        let instrument = json!({"symbol": SYMBOL, "stepSize": "0.001", "minQty": "0.001", "minNotional": "1"});
        cell.own_entry(StreamKind::Observation, BEGIN_MS + 7_100, "instrument", &instrument);
    }
    // The first cell has lost results, and an operator has accepted that there; the gap of the second one stays.
    for cell in &mut at_work[..2] {
        let gap = json!({"stream": RESULT, "after": null, "before": null, "reason": "lost"});
        cell.own_entry(StreamKind::Control, BEGIN_MS + 7_200, "history.gap", &gap);
    }
    at_work[0].own_entry(StreamKind::Control, BEGIN_MS + 7_300, "gap.accepted", &json!({"reason": "it was nothing"}));
    for (n, cell) in at_work.iter_mut().enumerate() {
        // The last decisions of one cell are in its stream and were not read back.
        after.iter().for_each(|line| cell.feed(line, n != 2));
        cell.journal.commit().expect("it commits");
    }
    at_work
}

/// Writes the ends of the own streams as files.
fn ends(folder: &Path, cells: &[Cell]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for (n, cell) in cells.iter().enumerate().filter(|(_, cell)| !cell.unread.is_empty()) {
        let file = folder.join(format!("ends-{n}.jsonl"));
        std::fs::write(&file, cell.unread.join("\n") + "\n").expect("the ends are written");
        files.push(file);
    }
    files
}

/// The cell has begun a new chain after its last decision: all that its journal has were made under a former name.
fn begin_chain(cell: &mut Cell, folder: &Path) {
    let own = format!("\"stream\":\"{}", cell.own(StreamKind::Decision));
    let lines: Vec<String> = cell
        .journal
        .read_from(0)
        .expect("it reads")
        .map(|line| line.expect("a line").replace(&own, &format!("{own}.former")))
        .collect();
    assert!(lines.iter().any(|line| line.contains(".former")), "it has decided");
    let dir = cell.config.run.journal.clone();
    cell.journal = Journal::open(&folder.join("no-journal"), LIMITS).expect("a journal in its place, meanwhile");
    std::fs::remove_dir_all(&dir).expect("the journal is removed");
    let journal = Journal::open(&dir, LIMITS).expect("a journal");
    cell.journal = journal.with_scope(&cell.config.scope()).expect("a journal of the cell");
    for line in &lines {
        let (_, id) = harvester::codec::line::head(line.as_bytes()).expect("a line");
        cell.journal.append(line, id.split_once('-').expect("an id").0.parse().expect("a time"));
    }
    cell.journal.commit().expect("it commits");
}

fn split_three_into_five(key: Option<&str>, has_former: bool) {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (three(folder.path(), key), five(folder.path(), key));
    let mut at_work = run_old(&old);
    if has_former {
        begin_chain(&mut at_work[0], folder.path());
    }
    let decided: BTreeSet<(String, String)> = at_work.iter().flat_map(|cell| cell.decided.iter().cloned()).collect();
    assert!(decided.len() > 25 && !at_work[2].unread.is_empty(), "{}", decided.len());
    let cells = Cells { old, new };
    cells.check().expect("the new cells have names of their own");
    let outcome = cells.split(&ends(folder.path(), &at_work), |new| new.run.journal.clone()).expect("they split");
    // The gap of every symbol in one cell also holds accounts of others that share a new cell with it.
    assert_eq!(outcome.differences, Vec::<String>::new());
    assert!(outcome.held.iter().all(|held| held.ends_with(": history_gap")), "{:?}", outcome.held);
    assert_eq!(outcome.cells.iter().map(|cell| cell.decisions).sum::<u64>(), decided.len() as u64);
    assert_eq!(outcome.cells.iter().map(|cell| cell.open).sum::<u64>(), accounts().len() as u64);

    let mut started: Vec<(Config, Lab)> = cells.new.iter().map(|config| (config.clone(), started(config))).collect();
    for account in accounts() {
        let is_of = |config: &Config| config.streams.selection().contains(&account);
        let before = at_work.iter().find(|cell| is_of(&cell.config)).expect("an old cell has it");
        let after: Vec<_> = started.iter().filter(|(config, _)| is_of(config)).collect();
        assert_eq!(after.len(), 1);
        let without_gap = |held: Vec<String>| -> Vec<String> {
            held.into_iter().map(|book| book.replace("gap true", "gap").replace("gap false", "gap")).collect()
        };
        assert_eq!(without_gap(held(&after[0].1, &account)), without_gap(held(&before.lab, &account)), "{account}");
    }
    // The operator accepts the gaps in old and new cells, and prices continue.
    let mut further: BTreeSet<(String, String)> = BTreeSet::new();
    let mut wanted: BTreeSet<(String, String)> = BTreeSet::new();
    let accepted = |lab: &mut Lab, config: &Config, ms: u64| {
        lab.feed(&own_line(config, StreamKind::Control, ms, "gap.accepted", &json!({"reason": "known"})));
    };
    let later = prices(BEGIN_MS + 60_000, &["100.4", "100.9", "101.7", "101.2", "101.9"]);
    for cell in &mut at_work {
        let config = cell.config.clone();
        accepted(&mut cell.lab, &config, BEGIN_MS + 59_000);
        let before = cell.decided.len();
        later.iter().for_each(|line| cell.feed(line, true));
        wanted.extend(cell.decided[before..].iter().cloned());
    }
    for (config, lab) in &mut started {
        accepted(lab, config, BEGIN_MS + 59_000);
        for (_, line) in &later {
            let came = lab.feed(line);
            for sealed in came.sealed.into_iter().chain(came.further.into_iter().map(|(_, sealed)| sealed)) {
                let payload: Value = serde_json::from_str(&sealed.payload).expect("a payload is JSON");
                let account = payload["account"].as_str().unwrap_or_default().to_owned();
                assert!(further.insert((account, sealed.decision_id)), "decided twice");
            }
        }
    }
    assert!(!wanted.is_empty());
    assert_eq!(further, wanted, "the new cells continue as the old ones would");
    assert_eq!(decided.intersection(&further).count(), 0, "no rung is decided again");
}

#[test]
fn three_cells_become_five_account_by_account() {
    split_three_into_five(None, false);
}

#[test]
fn a_split_signs_what_was_signed() {
    split_three_into_five(Some(KEY), false);
}

#[test]
fn a_split_carries_the_decisions_of_a_former_stream() {
    split_three_into_five(None, true);
}

#[test]
fn a_split_that_would_change_anything_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let old = three(folder.path(), None);
    let mut at_work = run_old(&old);
    let unread = ends(folder.path(), &at_work);
    // An account that no new cell has.
    let listed = "[run.accounts_by_cell]\n0 = [\"account-0\"]\n1 = [\"account-1\", \"(none)\"]";
    let few = cells(folder.path(), "few", &format!("cells = 2\n{listed}"), None);
    let outcome =
        Cells { old: old.clone(), new: few }.split(&unread, |new| new.run.journal.clone()).expect("it is tried");
    assert!(outcome.differences.contains(&"the account \"account-2\" is in no new cell".to_owned()), "{outcome:?}");
    // One old cell is killed, and the others are not.
    at_work[1].own_entry(
        StreamKind::Control,
        BEGIN_MS + 20_000,
        "kill.changed",
        &json!({"kill": true, "reason": "why"}),
    );
    at_work[1].journal.commit().expect("it commits");
    let outcome = Cells { old: old.clone(), new: five(folder.path(), None) }
        .split(&unread, |new| new.run.journal.clone())
        .expect("it is tried");
    assert!(outcome.differences.iter().any(|difference| difference.contains("only [1] are killed")), "{outcome:?}");
    // Names of the old cells.
    let error = Cells { old: old.clone(), new: old }.check().expect_err("the names are those of old cells").to_string();
    assert!(error.contains("give streams.") && error.contains("a name of its own"), "{error}");
    let defaults = [CONTROL, OBSERVATION, DECISION];
    assert!(defaults.iter().all(|name| !error.contains(name)), "{error}");
}
