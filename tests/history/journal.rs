//! The journal: a committed entry survives any end of the process, and a later change of a file is found.
//!
//! The child that is killed is this test binary: its test `child` does nothing unless another test starts it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::random::Random;
use files::{
    ack, commits, decompressed, empty_commit, head, line, lines_from, names, open_file, written, written_with,
};
use harvester::codec::journal::{FOOT_BYTES, HEAD_BYTES, Head};
use harvester::shell::journal::{Journal, JournalError, Limits};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

mod files;
mod reading;
mod scope;

const DAY_MS: u64 = 86_400_000;

/// Midnight of a day. [ms since 1970]
const BEGIN_MS: u64 = 20_480 * DAY_MS;

const LARGE: Limits = Limits { rotate_bytes: u64::MAX };

/// So small that a file is closed every few commits.
const SMALL: Limits = Limits { rotate_bytes: 1_500 };

const CHILD: &str = "JOURNAL_CHILD";

const CHILD_DIR: &str = "JOURNAL_DIR";

const CHILD_SEED: &str = "JOURNAL_SEED";

/// A writer is killed by SIGKILL at random moments, again and again in one folder: every acknowledged entry is there,
/// in order, once, and the next writer continues after it.
#[test]
fn a_committed_entry_survives_a_kill_at_any_moment() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut random = Random(20_260_204);
    let mut kept = 0;
    let mut midway = 0;
    for seed in 0..20 {
        let mut writer = spawn("write", folder.path(), seed);
        let mut lines = BufReader::new(writer.stdout.take().expect("its output")).lines();
        let mut acknowledged = kept;
        for _ in 0..4 + random.below(120) {
            acknowledged = acknowledged.max(ack(&lines.next().expect("another line of the writer").expect("a line")));
        }
        writer.kill().expect("SIGKILL is sent");
        writer.wait().expect("the writer has ended");
        // Lines that it wrote before it ended count as well.
        for line in lines.map_while(Result::ok) {
            acknowledged = acknowledged.max(ack(&line));
        }
        midway += u64::from(open_file(folder.path()).is_some());

        let journal = Journal::open(folder.path(), SMALL).expect("the journal opens");
        kept = journal.position();
        assert!(kept >= acknowledged, "seed {seed}: {kept} of {acknowledged}");
        assert_eq!(lines_from(&journal, 0), (0..kept).map(line).collect::<Vec<_>>(), "seed {seed}");
        journal.close().expect("the journal closes");
    }
    let report = Journal::verify(folder.path()).expect("the journal reads");
    assert_eq!((report.findings, report.files.iter().map(|file| file.count).sum()), (vec![], kept));
    assert!(midway >= 10, "only {midway} kills left an open file");
}

#[test]
fn files_are_plain_histories_in_the_order_of_their_names() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = written(folder.path(), 300, 7);
    let names = names(folder.path());
    assert!(names.len() > 3, "{names:?}");
    let all: String = names.iter().map(|name| decompressed(&folder.path().join(name))).collect();
    assert_eq!(all, text);
    assert_eq!(names[0], "journal-00000000000000000000.jsonl.zst");
}

#[test]
fn reading_starts_at_any_position_and_ends_with_what_is_durable() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut journal = Journal::open(folder.path(), SMALL).expect("a journal");
    for n in 0..300 {
        journal.append(&line(n), BEGIN_MS + n);
        if n % 7 == 6 {
            assert_eq!(journal.commit().expect("a commit"), n + 1);
        }
    }
    // 300 is not a multiple of 7: some lines are not committed.
    assert_eq!(journal.position(), 294);
    for position in [0, 1, 6, 7, 100, 293, 294] {
        assert_eq!(lines_from(&journal, position), (position..294).map(line).collect::<Vec<_>>(), "from {position}");
    }
    let error = journal.read_from(295).expect_err("not there yet");
    assert!(error.to_string().ends_with("holds entries from 0 up to 294, not 295"), "{error}");
}

/// After a power cut the note of the last commit can be there without its bytes, or with other bytes.
#[test]
fn a_torn_end_is_cut_off_and_damage_before_it_is_named() {
    let made = tempfile::tempdir().expect("a folder");
    let mut journal = Journal::open(made.path(), LARGE).expect("a journal");
    for n in 0..30 {
        journal.append(&line(n), BEGIN_MS);
        if n % 10 == 9 {
            journal.commit().expect("a commit");
        }
    }
    drop(journal);
    let name = names(made.path()).remove(0);
    let bytes = fs::read(made.path().join(&name)).expect("the file");
    let [before, last] = commits(&bytes);
    assert_eq!((before.count, last.count, last.len), (20, 30, bytes.len() as u64));

    let opened = |bytes: &[u8]| {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(&name), bytes).expect("a copy");
        let opened = Journal::open(folder.path(), LARGE).map(|journal| lines_from(&journal, 0).len());
        if opened.is_ok() {
            assert_eq!(Journal::verify(folder.path()).expect("the journal reads").findings, vec![]);
        }
        opened
    };
    for (tail, what) in
        [(vec![], "nothing"), (vec![0; 4096], "zeros"), (vec![0xFF; 9], "noise"), (vec![1, 0], "a start")]
    {
        assert_eq!(opened(&[&bytes[..], &tail].concat()).expect(what), 30, "after the last commit: {what}");
    }
    for len in [before.len, before.len + 1, last.len - 1] {
        assert_eq!(opened(&bytes[..len as usize]).expect("a torn end"), 20, "{len} bytes of {}", bytes.len());
    }
    let zeroed = [&bytes[..before.len as usize], &vec![0; (last.len - before.len) as usize]].concat();
    assert_eq!(opened(&zeroed).expect("a torn end"), 20);
    for len in [before.len - 1, HEAD_BYTES as u64 + 1, HEAD_BYTES as u64, 3, 0] {
        let error = opened(&bytes[..len as usize]).expect_err("damage").to_string();
        assert!(error.contains(&name) && error.contains("is damaged at byte "), "{len} bytes: {error}");
    }
    for at in [0, 30, 70, 200, HEAD_BYTES + 20, before.len as usize - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        let error = opened(&changed).expect_err("damage").to_string();
        assert!(error.contains(&name) && error.contains("is damaged at byte "), "byte {at}: {error}");
    }
}

#[test]
fn a_file_without_a_commit_or_without_a_head_is_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    written(folder.path(), 10, 5);
    let kept = names(folder.path());
    let mut journal = Journal::open(folder.path(), LARGE).expect("a journal");
    journal.append(&line(10), BEGIN_MS);
    journal.commit().expect("a commit");
    drop(journal);
    let open = open_file(folder.path()).expect("an open file");
    let mut bytes = fs::read(&open).expect("the file");
    let empty = Head { commits: Some([empty_commit(&bytes); 2]), ..head(&bytes) };
    bytes[..HEAD_BYTES].copy_from_slice(&empty.bytes());
    fs::write(&open, &bytes[..HEAD_BYTES + 7]).expect("a file that was just begun");
    fs::write(folder.path().join("journal.new"), "half a head").expect("a file that has no name yet");

    let journal = Journal::open(folder.path(), LARGE).expect("the journal opens");
    assert_eq!(journal.position(), 10);
    drop(journal);
    assert_eq!(names(folder.path()), kept);
    assert!(!folder.path().join("journal.new").exists());
}

/// Closed files, and one that is open with two commits: a changed byte is found in its file, whichever byte it is.
#[test]
fn any_changed_byte_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path();
    written(dir, 80, 5);
    let mut journal = Journal::open(dir, LARGE).expect("a journal");
    for n in 80..90 {
        journal.append(&line(n), BEGIN_MS);
        journal.commit().expect("a commit");
    }
    drop(journal);
    assert_eq!(Journal::verify(dir).expect("the journal reads").findings, vec![]);
    assert!(names(dir).len() >= 3 && open_file(dir).is_some());
    let mut tried = 0;
    for name in names(dir) {
        let path = dir.join(&name);
        let bytes = fs::read(&path).expect("the file");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << (at % 8);
            fs::write(&path, &changed).expect("the changed file");
            let report = Journal::verify(dir).unwrap_or_else(|error| panic!("{name} byte {at}: {error}"));
            assert!(report.findings.iter().any(|finding| finding.file == path), "{name} byte {at}: {report:?}");
            tried += 1;
        }
        fs::write(&path, &bytes).expect("the file as it was");
    }
    println!("{tried} of {tried} changed bytes found");
    assert!(tried > 2_000, "only {tried} bytes were tried");
}

#[test]
fn a_missing_an_exchanged_and_a_cut_file_are_found_and_nothing_is_appended_to_them() {
    let made = tempfile::tempdir().expect("a folder");
    written(made.path(), 300, 7);
    let names = names(made.path());
    let other = tempfile::tempdir().expect("a folder");
    written_with(other.path(), 300, 7, |n| line(n).replace("\"v\"", "\"w\""));

    let tried = |change: &dyn Fn(&Path)| {
        let folder = tempfile::tempdir().expect("a folder");
        for name in &names {
            fs::copy(made.path().join(name), folder.path().join(name)).expect("a copy");
        }
        change(folder.path());
        let findings = Journal::verify(folder.path()).expect("the journal reads").findings;
        let refused = Journal::open(folder.path(), LARGE).map(|journal| journal.position());
        (findings.iter().map(|finding| finding.what.clone()).collect::<Vec<_>>().join("; "), refused)
    };
    let (found, refused) = tried(&|dir| fs::remove_file(dir.join(&names[1])).expect("a file to remove"));
    assert!(found.contains("does not follow the one before it: it begins with entry"), "{found}");
    assert!(matches!(refused, Err(JournalError::Unchained { .. })), "{refused:?}");

    let foreign = other.path().join(&names[1]);
    let (found, refused) = tried(&|dir| {
        fs::copy(&foreign, dir.join(&names[1])).expect("a foreign file");
    });
    assert!(found.contains("names another file as the one before"), "{found}");
    assert!(matches!(refused, Err(JournalError::Unchained { .. })), "{refused:?}");

    let (found, refused) = tried(&|dir| {
        let bytes = fs::read(dir.join(&names[1])).expect("the file");
        fs::write(dir.join(&names[1]), &bytes[..bytes.len() - FOOT_BYTES]).expect("a file without its foot");
    });
    assert!(
        found.contains("is not closed by a foot: put back a copy of it, or move it and all older files aside"),
        "{found}"
    );
    assert!(matches!(refused, Err(JournalError::Damaged { .. })), "{refused:?}");

    let next = "put back a copy of it, or move it and all older files aside (what they hold is then missing";
    let (found, refused) = tried(&|dir| {
        let mut bytes = fs::read(dir.join(&names[1])).expect("the file");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(dir.join(&names[1]), bytes).expect("a file with another byte");
    });
    assert!(found.contains(&format!("the digest differs: {next}")), "{found}");
    assert!(refused.is_ok(), "the store has what it held: {refused:?}");

    let open = tempfile::tempdir().expect("a folder");
    let mut growing = Journal::open(open.path(), LARGE).expect("a journal");
    growing.append(&line(0), BEGIN_MS);
    growing.commit().expect("a commit");
    let (found, refused) = tried(&|dir| {
        fs::copy(open.path().join(&names[0]), dir.join(&names[0])).expect("a file that is still open");
    });
    assert!(found.contains(&format!("it is not the last file and was never closed: {next}")), "{found}");
    assert!(matches!(refused, Err(JournalError::Unchained { .. })), "{refused:?}");

    let (found, refused) = tried(&|dir| {
        fs::rename(dir.join(&names[1]), dir.join("journal-00000000000000000003.jsonl.zst")).expect("a renamed file");
    });
    assert!(found.contains("its name says that it begins with entry 3"), "{found}");
    assert!(refused.is_err());
}

#[test]
fn a_new_day_or_a_full_file_begins_a_new_file_and_a_late_entry_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut journal = Journal::open(folder.path(), LARGE).expect("a journal");
    // One commit crosses midnight twice, and its fourth entry is late.
    for (n, ms) in
        [BEGIN_MS, BEGIN_MS + 1, BEGIN_MS + DAY_MS, BEGIN_MS + 7, BEGIN_MS + 2 * DAY_MS].into_iter().enumerate()
    {
        journal.append(&line(n as u64), ms);
    }
    assert_eq!(journal.commit().expect("a commit"), 5);
    assert_eq!(lines_from(&journal, 0), (0..5).map(line).collect::<Vec<_>>());
    journal.close().expect("the journal closes");
    let counts: Vec<u64> =
        Journal::verify(folder.path()).expect("it reads").files.iter().map(|file| file.count).collect();
    assert_eq!(counts, [2, 2, 1]);
}

#[test]
fn retention_removes_whole_old_files_and_never_the_last() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut journal = Journal::open(folder.path(), LARGE).expect("a journal");
    for day in 0..4 {
        for n in 0..10 {
            journal.append(&line(day * 10 + n), BEGIN_MS + day * DAY_MS);
        }
        journal.commit().expect("a commit");
    }
    let bytes = journal.bytes();
    assert_eq!(journal.retain(9, None).expect("nothing to remove"), 0, "the first file ends after the ninth entry");
    assert_eq!(journal.retain(40, Some(BEGIN_MS)).expect("nothing to remove"), 0, "nothing is that old");
    let freed = journal.retain(25, Some(BEGIN_MS + DAY_MS)).expect("a file to remove");
    assert_eq!((journal.first(), journal.bytes()), (10, bytes - freed), "one file is old enough and not needed");
    assert!(journal.retain(25, None).expect("a file to remove") > 0);
    assert_eq!(journal.first(), 20, "entries from 25 on are needed");
    let error = journal.read_from(19).expect_err("given up");
    assert!(error.to_string().ends_with("holds entries from 20 up to 40, not 19"), "{error}");
    assert_eq!(lines_from(&journal, 25), (25..40).map(line).collect::<Vec<_>>());
    journal.close().expect("the journal closes");

    let mut journal = Journal::open(folder.path(), LARGE).expect("the journal opens");
    journal.retain(u64::MAX, None).expect("files to remove");
    assert_eq!((names(folder.path()).len(), journal.position()), (1, 40), "the last file holds the position");
    journal.append(&line(40), BEGIN_MS);
    assert_eq!(journal.commit().expect("a commit"), 41);
    journal.close().expect("the journal closes");
    assert_eq!(Journal::verify(folder.path()).expect("the journal reads").findings, vec![]);
}

#[test]
fn a_journal_has_one_writer() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("made/on/the/way");
    let journal = Journal::open(&dir, LARGE).expect("a journal");
    let error = Journal::open(&dir, LARGE).err().expect("it is in use");
    let message = error.to_string();
    assert!(message.starts_with(&format!("the journal {} is in use by another process", dir.display())), "{message}");
    assert!(message.contains("another --journal"), "the next step is missing: {message}");
    drop(journal);
    Journal::open(&dir, LARGE).expect("it is free again");
}

/// The file system refuses to let a file grow, and then has room again: the commit fails with that reason, and the
/// same commit, tried again, neither loses nor repeats an entry.
#[test]
fn a_commit_on_a_full_disk_fails_and_succeeds_once_there_is_room() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = spawn("fill", folder.path(), 0);
    let output = child.wait_with_output_text();
    assert!(child.child.wait().expect("an end").success(), "{output}");
    let full: Vec<&str> = output.lines().filter(|line| line.starts_with("full ")).collect();
    assert!(full.len() >= 3, "{output}");
    assert!(full.iter().all(|line| line.contains("the disk of the journal is full: ")), "{output}");
    let journal = Journal::open(folder.path(), SMALL).expect("the journal opens");
    assert!(journal.position() > 1_000);
    assert_eq!(lines_from(&journal, 0), (0..journal.position()).map(line).collect::<Vec<_>>());
    drop(journal);
    assert_eq!(Journal::verify(folder.path()).expect("the journal reads").findings, vec![]);
}

// ---- the child -----------------------------------------------------------------------------------------------------

#[test]
fn child() {
    let Ok(what) = std::env::var(CHILD) else { return };
    let dir = PathBuf::from(std::env::var(CHILD_DIR).expect("a folder"));
    let seed = std::env::var(CHILD_SEED).expect("a seed").parse().expect("a number");
    match what.as_str() {
        "write" => write_for_ever(&dir, Random(seed)),
        "fill" => fill(&dir),
        other => panic!("no child can {other}"),
    }
}

fn write_for_ever(dir: &Path, mut random: Random) {
    let mut journal = Journal::open(dir, SMALL).expect("a journal");
    loop {
        let position = journal.position();
        for n in position..position + random.below(12) {
            journal.append(&line(n), BEGIN_MS + n * 1000);
        }
        print_line(&format!("ack {}", journal.commit().expect("a commit")));
    }
}

/// Lets files grow to a length that ends in the middle of a commit, of a closing, of a head, and then without limit.
fn fill(dir: &Path) {
    let hard = getrlimit(Resource::Fsize).maximum;
    let limited = |bytes| setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum: hard }).expect("a limit");
    let mut journal = Journal::open(dir, SMALL).expect("a journal");
    let mut limits = [100, 1_000, 1_400, 1_600, 1_700, 1_800, 2_000, 2_300].into_iter().cycle();
    let mut n = 0;
    while n < 2_000 {
        limited(Some(limits.next().expect("a limit")));
        for _ in 0..37 {
            journal.append(&line(n), BEGIN_MS);
            n += 1;
        }
        let committed = journal.commit();
        limited(None);
        match committed {
            Err(error @ JournalError::DiskFull { .. }) => {
                print_line(&format!("full {error}"));
                assert!(journal.position() < n);
                assert_eq!(
                    lines_from(&journal, 0).len() as u64,
                    journal.position(),
                    "the position counts whole lines only"
                );
            }
            committed => assert_eq!(committed.expect("a commit"), n),
        }
        assert_eq!(journal.commit().expect("a commit"), n);
    }
    journal.close().expect("the journal closes");
}

struct Spawned {
    child: Child,
}

impl std::ops::Deref for Spawned {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.child
    }
}

impl std::ops::DerefMut for Spawned {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Spawned {
    fn wait_with_output_text(&mut self) -> String {
        let mut text = String::new();
        self.child.stdout.take().expect("its output").read_to_string(&mut text).expect("text");
        text
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The signal that would end a process over its limit is ignored, so that the write fails instead.
fn spawn(what: &str, dir: &Path, seed: u64) -> Spawned {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(std::env::current_exe().expect("this test"));
    command.args(["journal::child", "--exact", "--nocapture", "--test-threads=1"]);
    command.env(CHILD, what).env(CHILD_DIR, dir).env(CHILD_SEED, seed.to_string());
    Spawned { child: command.stdout(Stdio::piped()).spawn().expect("the child starts") }
}

/// Writes one line of output. The test harness writes to the same place.
fn print_line(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line}").and_then(|()| out.flush()).expect("output");
}
