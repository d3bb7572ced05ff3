//! A journal whose few bytes expand to one line without an end: reading it takes no more memory than the limit of a line.

use crate::support::lab::entry_line;
use harvester::shell::journal::{Journal, JournalError, Limits, Tail};

/// More than the limit of a line. [bytes]
const LONG_BYTES: usize = 65 << 20;

#[test]
fn a_line_of_a_journal_is_bounded_for_reader_and_tail() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut journal = Journal::open(folder.path(), Limits { rotate_bytes: 1 << 30 }).expect("a journal");
    let first = entry_line("s", "1770163200000-0", &[("k", "v")]);
    journal.append(&first, 1_770_163_200_000);
    journal.append(&entry_line("s", "1770163200001-0", &[("k", &"x".repeat(LONG_BYTES))]), 1_770_163_200_001);
    journal.commit().expect("a commit");
    assert!(journal.bytes() < 1 << 20, "{} bytes on disk", journal.bytes());

    let is_too_long = |error: &JournalError| matches!(error, JournalError::Damaged { why, .. } if why == "a line is longer than 67108864 bytes");
    let mut lines = journal.read_from(0).expect("it opens");
    assert_eq!(lines.next().expect("a line").expect("it reads"), first);
    let error = lines.next().expect("an error").expect_err("it is too long");
    assert!(is_too_long(&error), "{error}");
    assert!(lines.next().is_none(), "there is no more after an error");

    let mut tail = Tail::at(folder.path(), 0);
    let error = loop {
        match tail.next_lines() {
            Ok(text) => assert_eq!(text.map(String::from_utf8), Some(Ok(format!("{first}\n"))), "only the first line"),
            Err(error) => break error,
        }
    };
    assert!(is_too_long(&error), "{error}");
}
