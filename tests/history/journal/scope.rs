//! The head of a journal that does not contain all accounts: its scope, a crash, and the services that must not
//! continue it.

use std::fs;

use harvester::codec::journal::HEAD_BYTES;
use harvester::codec::scope::Scope;
use harvester::domain::event::selection::{Selection, Shard};
use harvester::domain::event::streams::Streams;
use harvester::shell::journal::Journal;

use super::{BEGIN_MS, DAY_MS, LARGE, decompressed, line, lines_from, names};

fn of(cell: Option<u32>, selection: Selection) -> Scope {
    Scope { cell, streams: Streams::default().with_selection(selection) }
}

fn shard(index: u32) -> Scope {
    of(Some(index), Selection::Shard(Shard { index, of: 16 }))
}

#[test]
fn a_journal_states_the_accounts_of_its_service_and_opens_for_no_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = |scope: &Scope| Journal::open(folder.path(), LARGE).and_then(|journal| journal.with_scope(scope));
    let mut journal = open(&shard(3)).expect("a journal");
    for n in 0..20 {
        journal.append(&line(n), BEGIN_MS + n * DAY_MS / 10);
        journal.commit().expect("a commit");
    }
    assert_eq!(Journal::scope_of(folder.path()).expect("it reads"), Some(shard(3)), "also while it is open");
    // The state after a crash.
    drop(journal);
    for other in
        [shard(4), of(Some(4), Selection::Shard(Shard { index: 3, of: 16 })), of(Some(3), Selection::listed(["a"]))]
    {
        let error = open(&other).err().expect("it is refused").to_string();
        assert!(error.contains("is of cell 3 (shard 3/16)") && error.contains("of its own"), "{error}");
    }
    let error = open(&of(None, Selection::All)).err().expect("it is refused").to_string();
    assert!(error.contains("this service reads all accounts"), "{error}");
    let mut journal = open(&shard(3)).expect("the journal opens again");
    journal.append(&line(20), BEGIN_MS + 3 * DAY_MS);
    journal.commit().expect("a commit");
    assert_eq!(lines_from(&journal, 0), (0..=20).map(line).collect::<Vec<_>>());
    journal.close().expect("it closes");
    let report = Journal::verify(folder.path()).expect("it reads");
    assert_eq!(report.findings, []);
    let names = names(folder.path());
    assert_eq!(names.len(), 3, "{names:?}");
    for name in &names {
        let path = folder.path().join(name);
        assert_eq!(Journal::scope_of(&path).expect("it reads"), Some(shard(3)), "{name}");
        assert!(decompressed(&path).starts_with("{\""), "any zstd reader reads it as lines");
        // A changed byte of the scope is found.
        let mut bytes = fs::read(&path).expect("the file");
        bytes[HEAD_BYTES + 12] ^= 1;
        fs::write(&path, &bytes).expect("it is changed");
        let report = Journal::verify(folder.path()).expect("it reads");
        assert!(report.findings.iter().any(|finding| finding.file == path), "{name}: {:?}", report.findings);
        bytes[HEAD_BYTES + 12] ^= 1;
        fs::write(&path, &bytes).expect("it is put back");
    }
}

#[test]
fn a_journal_of_all_accounts_has_the_head_of_earlier_versions() {
    let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    for (folder, scope) in folders.iter().zip([None, Some(of(None, Selection::All))]) {
        let journal = Journal::open(folder.path(), LARGE).expect("a journal");
        let mut journal = match &scope {
            Some(scope) => journal.with_scope(scope).expect("it is for everything"),
            None => journal,
        };
        journal.append(&line(0), BEGIN_MS);
        journal.close().expect("it closes");
    }
    let bytes = folders.each_ref().map(|folder| {
        assert_eq!(Journal::scope_of(folder.path()).expect("it reads"), None);
        fs::read(folder.path().join(&names(folder.path())[0])).expect("the file")
    });
    assert_eq!(bytes[0], bytes[1]);
    assert_eq!(&bytes[0][8..24], b"harvest journal1");
    // A cell that reads all accounts may continue this journal, and any other cell may not.
    let open = |scope: &Scope| Journal::open(folders[0].path(), LARGE).and_then(|journal| journal.with_scope(scope));
    assert!(open(&shard(3)).is_err());
    open(&of(Some(0), Selection::All)).expect("the journal opens again");
}
