//! A journal as a history: its order of application is kept, alone and when it is merged with other histories.

use std::path::Path;

use harvester::cli::replay::Request;
use harvester::domain::event::streams::Streams;
use harvester::shell::history::{History, HistoryError, Input, Options};
use harvester::shell::journal::{Journal, Limits};

use crate::support::{config, replayed};

const TICK: &str = "quantum:stream:market.tick";
const RESULT: &str = "quantum:stream:apply.result";
const CONTROL: &str = "quantum:stream:harvest.control";

/// Returns an entry of which only stream and id matter.
fn entry(stream: &str, ms: u64) -> String {
    format!(r#"{{"stream":"{stream}","id":"{ms}-0","fields":{{"symbol":"A","price":"1"}}}}"#)
}

/// Writes entries in this order, with a commit and a file for each group. The last file is closed if `is_closed`.
fn journal(dir: &Path, files: &[&[(&str, u64)]], is_closed: bool) {
    let mut journal = Journal::open(dir, Limits { rotate_bytes: 0 }).expect("a journal");
    for file in files {
        file.iter().for_each(|(stream, ms)| journal.append(&entry(stream, *ms), *ms));
        journal.commit().expect("a commit");
    }
    if is_closed {
        journal.close().expect("the journal closes");
    }
}

fn opened(inputs: &[&Path], until: Option<&str>) -> Result<History, HistoryError> {
    let inputs: Vec<Input> = inputs.iter().map(|path| Input::from(path.to_path_buf())).collect();
    let until = until.map(|id| id.parse().expect("an id"));
    History::open(&inputs, &Streams::default(), Options { until, ..Options::default() })
}

/// Returns the milliseconds of a history in its order.
fn order(mut history: History) -> Vec<u64> {
    let mut order = Vec::new();
    while let Some(line) = history.next_line().expect("a line") {
        order.push(line.id.ms);
    }
    assert_eq!(history.total_entries(), Some(order.len() as u64));
    assert_eq!(history.notices(), Vec::<String>::new());
    order
}

/// A late result in the middle of a file, one that is late against the file before, and an open file at the end.
const LATE: [&[(&str, u64)]; 3] = [
    &[(TICK, 10), (TICK, 20), (RESULT, 15), (TICK, 30)],
    &[(RESULT, 25), (TICK, 40), (TICK, 50), (RESULT, 45)],
    &[(RESULT, 48), (TICK, 60)],
];
const APPLIED: [u64; 10] = [10, 20, 15, 30, 25, 40, 50, 45, 48, 60];

#[test]
fn a_journal_is_read_in_the_order_of_application() {
    for is_closed in [true, false] {
        let folder = tempfile::tempdir().expect("a folder");
        journal(folder.path(), &LATE, is_closed);
        assert_eq!(order(opened(&[folder.path()], None).expect("a history")), APPLIED, "closed: {is_closed}");
        // The same files, named one by one in another order, one of them twice.
        let mut files: Vec<_> = super::names(folder.path()).iter().map(|name| folder.path().join(name)).collect();
        files.rotate_left(1);
        files.push(files[0].clone());
        let named: Vec<&Path> = files.iter().map(|path| &**path).collect();
        assert_eq!(order(opened(&named, None).expect("a history")), APPLIED, "closed: {is_closed}");
    }
}

#[test]
fn other_histories_are_merged_with_a_journal_without_changing_its_order() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("journal");
    journal(&dir, &LATE, true);
    let beside = folder.path().join("beside.jsonl");
    let lines: Vec<String> = [12, 22, 35, 44, 46, 55].map(|ms| entry(TICK, ms)).into();
    std::fs::write(&beside, lines.join("\n")).expect("a history");
    let wanted = [10, 12, 20, 15, 22, 30, 25, 35, 40, 44, 46, 50, 45, 48, 55, 60];
    assert_eq!(order(opened(&[&dir, &beside], None).expect("a history")), wanted);
    assert_eq!(order(opened(&[folder.path()], None).expect("a history")), wanted, "a folder with both");
}

/// The state at a time contains all entries that were applied before the first later one.
#[test]
fn a_bound_ends_a_journal_where_the_first_later_entry_was_applied() {
    let folder = tempfile::tempdir().expect("a folder");
    journal(folder.path(), &LATE, true);
    for (until, count) in
        [("9-0", 0), ("10-0", 1), ("19-0", 1), ("29-0", 3), ("30-0", 5), ("49-0", 6), ("50-0", 9), ("70-0", 10)]
    {
        let found = order(opened(&[folder.path()], Some(until)).expect("a history"));
        assert_eq!(found, APPLIED[..count], "until {until}");
    }
}

#[test]
fn control_entries_of_a_journal_are_known_before_its_first_line() {
    let folder = tempfile::tempdir().expect("a folder");
    journal(folder.path(), &[&[(TICK, 10), (CONTROL, 11)], &[(CONTROL, 9), (TICK, 12)]], false);
    let history = opened(&[folder.path()], None).expect("a history");
    let ids: Vec<u64> = history.control_lines().map(|line| line.id.ms).collect();
    assert_eq!(ids, [11, 9]);
}

#[test]
fn entries_missing_between_two_files_are_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    journal(folder.path(), &LATE, true);
    let names = super::names(folder.path());
    std::fs::remove_file(folder.path().join(&names[1])).expect("a file to remove");
    let error = opened(&[folder.path()], None).err().expect("a gap").to_string();
    let wanted = "begins with entry 8 of its journal, the file before it ends with 4 entries in all";
    assert!(error.contains(&names[2]) && error.ends_with(wanted), "{error}");
}

/// The parts of a journal that have to be merged on disk first keep its order and its ids.
#[test]
fn more_files_than_may_be_open_at_once_keep_the_order_of_a_journal() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("journal");
    journal(&dir, &LATE, true);
    for (i, ms) in [12, 13, 14, 16, 17, 18, 19].into_iter().enumerate() {
        let text = [entry(TICK, ms), entry(TICK, 70 + ms)].join("\n");
        std::fs::write(folder.path().join(format!("{i}.jsonl")), text).expect("a history");
    }
    let mut options = Options::default();
    options.limits.open_parts_max = 2;
    let history = History::open(&[folder.path().to_path_buf().into()], &Streams::default(), options);
    let found = order(history.expect("a history"));
    let of_journal: Vec<u64> = found.iter().copied().filter(|ms| APPLIED.contains(ms)).collect();
    assert_eq!((found.len(), of_journal), (24, APPLIED.to_vec()));
}

#[test]
fn a_replay_of_a_journal_counts_its_late_entries() {
    let folder = tempfile::tempdir().expect("a folder");
    journal(folder.path(), &LATE, false);
    let request = Request { histories: vec![folder.path().to_path_buf()], ..Request::default() };
    let (replayed, _) = replayed(&request, &config(None));
    assert_eq!(replayed.summary.entries, 10);
    assert_eq!(replayed.summary.counts["late_order"], 4);
    assert_eq!(replayed.summary.duplicates, 0);
}
