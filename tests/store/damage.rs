//! A store whose files were damaged or changed by others.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::child::{FORMAT, assert_whole, commit_next, copy_folder, spawn, state_after, store_with};
use crate::support::random::Random;
use harvester::shell::store::{OpenError, Store};

/// Enough for a log of several segments, some of them used again.
const COMMITS: u64 = 500;
/// Longest time that opening a damaged store may take.
const OPEN_LIMIT: Duration = Duration::from_secs(60);

/// One byte is changed at random places of the log, and in every other file. Opening either finds that, or the byte
/// does not matter and all rows are exactly right. An older state is wrong, even if it is whole.
#[test]
fn a_flipped_byte_is_found_or_does_not_matter() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut found = Found::default();
    for (store, openings) in [("one", 1), ("many", 4)] {
        let store = folder.path().join(store);
        for _ in 0..openings {
            store_with(&store, COMMITS / openings);
        }
        let mut random = Random(openings);
        for file in files(&store) {
            let places = if file.ends_with("db") { 26 } else { 4 };
            for _ in 0..places {
                let mut bytes = fs::read(&file).expect("a file");
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << random.below(8);
                found.judge(&store, &file, &bytes, &format!("byte {at}"));
            }
        }
    }
    found.assert_both();
}

/// A sector is zeroed, or a file ends too early.
#[test]
fn a_lost_part_of_a_file_is_found_or_does_not_matter() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("store");
    store_with(&store, COMMITS / 2);
    store_with(&store, COMMITS / 2);
    let mut found = Found::default();
    let mut random = Random(1);
    for file in files(&store) {
        // Sled does not write to the same place each time: the test changes its log until it has seen both outcomes.
        let (least, most) = if file.ends_with("db") { (8, 80) } else { (2, 2) };
        for place in 0..most {
            if place >= least && found.is_both() {
                break;
            }
            let mut bytes = fs::read(&file).expect("a file");
            let at = random.below(bytes.len() as u64) as usize / 512 * 512;
            let end = bytes.len().min(at + 512);
            bytes[at..end].fill(0);
            found.judge(&store, &file, &bytes, &format!("sector at {at}"));
            bytes.truncate(at);
            found.judge(&store, &file, &bytes, &format!("end at {at}"));
        }
    }
    found.assert_both();
}

/// If the end of its log cannot be read, sled returns the state before it, which is whole. Only the head shows that
/// it is older.
#[test]
fn an_older_state_is_not_accepted_as_the_last() {
    let folder = tempfile::tempdir().expect("a folder");
    let (before, after) = (folder.path().join("before"), folder.path().join("after"));
    store_with(&before, 7);
    copy_folder(&before, &after);
    store_with(&after, 1);
    let head = "harvester.head";
    fs::copy(after.join(head), before.join(head)).expect("a copy");
    let refused = Store::open(&before, FORMAT).expect_err("an older state");
    let reason = "commit 8 was acknowledged, the last that is there is 7";
    assert_eq!(
        refused.to_string(),
        format!(
            "the store {} is damaged ({reason}): a service makes its own again at its start; make any other with harvester replay HISTORY --store {0}",
            before.display()
        )
    );
}

type Damage<'a> = &'a dyn Fn(&sled::Db);

/// A row is changed, lost, or restored by a program that uses sled: its own checksums are then all correct.
#[test]
fn a_row_changed_by_another_program_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = folder.path().join("whole");
    store_with(&whole, 20);
    let earlier = folder.path().join("earlier");
    store_with(&earlier, 19);
    let slot = b"rslot/07";
    let row_of = |dir: &Path| raw(dir).get(slot).expect("a read").expect("a row");
    let (now, before) = (row_of(&whole), row_of(&earlier));
    let mut changed = now.to_vec();
    changed[4] ^= 1;
    let damages: [(&str, Damage<'_>); 5] = [
        ("changed", &|db| drop(db.insert(slot, changed.clone()).expect("a write"))),
        ("too short", &|db| drop(db.insert(slot, b"short").expect("a write"))),
        ("lost", &|db| drop(db.remove(slot).expect("a write"))),
        ("older", &|db| drop(db.insert(slot, before.clone()).expect("a write"))),
        ("in another place", &|db| drop(db.insert(b"rslot/08", now.clone()).expect("a write"))),
    ];
    for (name, damage) in damages {
        let dir = folder.path().join(name);
        copy_folder(&whole, &dir);
        let db = raw(&dir);
        damage(&db);
        drop(db);
        let refused = Store::open(&dir, FORMAT).expect_err(name);
        assert!(matches!(refused, OpenError::Damaged { .. }), "{name}: {refused:?}");
    }
}

/// Each file is removed: either it is not needed, or its absence is found.
#[test]
fn a_lost_file_is_missed_or_does_not_matter() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("store");
    store_with(&store, 3);
    store_with(&store, 3);
    for file in files(&store) {
        let copy = folder.path().join("copy");
        copy_folder(&store, &copy);
        let name = file.file_name().expect("a name").to_str().expect("a name");
        fs::remove_file(copy.join(name)).expect("a file");
        match (name, Store::open(&copy, FORMAT)) {
            ("db" | "harvester.head", Err(OpenError::Damaged { .. })) => {}
            ("harvester.store", Err(OpenError::Foreign { .. })) => {}
            ("conf", Ok(store)) => assert_eq!(assert_whole(&store), 6),
            (snap, Ok(store)) if snap.starts_with("snap.") => assert_eq!(assert_whole(&store), 6),
            (_, other) => panic!("without {name}: {other:?}"),
        }
        fs::remove_dir_all(&copy).expect("a folder");
    }
}

/// The head has two slots and is whole with either. Without both nothing proves that the store is not an older one.
#[test]
fn one_slot_of_the_head_is_enough() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("store");
    store_with(&store, 3);
    for (slots, whole) in [(&[0][..], true), (&[4096], true), (&[0, 4096], false)] {
        let copy = folder.path().join("copy");
        copy_folder(&store, &copy);
        let mut head = fs::read(copy.join("harvester.head")).expect("a file");
        slots.iter().for_each(|at| head[*at + 7] ^= 1);
        fs::write(copy.join("harvester.head"), head).expect("a file");
        match Store::open(&copy, FORMAT) {
            Ok(store) if whole => assert_eq!(assert_whole(&store), 3),
            Err(OpenError::Damaged { .. }) if !whole => {}
            other => panic!("{slots:?}: {other:?}"),
        }
        fs::remove_dir_all(&copy).expect("a folder");
    }
}

/// After damage the caller moves the folder aside and builds the store anew.
#[test]
fn a_damaged_store_can_be_moved_aside() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    store_with(&dir, 3);
    fs::write(dir.join("harvester.head"), "nonsense").expect("a file");
    assert!(matches!(Store::open(&dir, FORMAT), Err(OpenError::Damaged { .. })));
    let first = Store::move_aside(&dir).expect("moved");
    assert!(first.join("db").exists() && !dir.exists());
    store_with(&dir, 1);
    let second = Store::move_aside(&dir).expect("moved");
    assert_ne!(first, second);
    for aside in [first, second] {
        let name = aside.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(name.starts_with("store.quarantine-20") && name.contains('Z'), "{name}");
    }
    let mut store = Store::open(&dir, FORMAT).expect("a new store");
    commit_next(&mut store);
    assert_eq!(assert_whole(&store), 1);
}

/// How many damages were found, and how many did not matter, by file.
#[derive(Debug, Default)]
struct Found {
    damaged: BTreeMap<String, u64>,
    whole: BTreeMap<String, u64>,
}

impl Found {
    /// Opens a copy of the store with these bytes as `file`, in a child process: sled may end the process.
    fn judge(&mut self, store: &Path, file: &Path, bytes: &[u8], what: &str) {
        let folder = tempfile::tempdir().expect("a folder");
        let copy = folder.path().join("store");
        copy_folder(store, &copy);
        let name = file.strip_prefix(store).expect("a file of the store");
        fs::write(copy.join(name), bytes).expect("a file");
        let began = Instant::now();
        let mut child = spawn("check", &copy);
        let result =
            child.line().unwrap_or_else(|| panic!("{}, {what}: the child ended without a line", name.display()));
        assert!(began.elapsed() < OPEN_LIMIT, "{}, {what}: {result}", name.display());
        let kind = name.to_string_lossy().split('.').take(2).collect::<Vec<_>>().join(".");
        let kind = if kind.starts_with("snap") { "snap".to_owned() } else { kind };
        if result.starts_with("damaged ") {
            *self.damaged.entry(kind).or_default() += 1;
        } else {
            assert_eq!(result, format!("whole {COMMITS}"), "{}, {what}", name.display());
            *self.whole.entry(kind).or_default() += 1;
        }
        child.kill();
    }

    fn is_both(&self) -> bool {
        let count = |found: &BTreeMap<String, u64>| found.get("db").copied().unwrap_or(0);
        count(&self.damaged) >= 3 && count(&self.whole) >= 3
    }

    fn assert_both(&self) {
        println!("{self:?}");
        assert!(self.is_both(), "{self:?} does not contain both outcomes");
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry"));
    let files = entries.filter(|entry| entry.file_type().expect("a type").is_file());
    let mut files: Vec<PathBuf> = files.map(|entry| entry.path()).collect();
    files.sort();
    files
}

/// Returns the sled database itself, with the settings of the store.
fn raw(dir: &Path) -> sled::Db {
    for _ in 0..200 {
        match sled::Config::new().path(dir).segment_size(8 * 1024 * 1024).flush_every_ms(None).open() {
            Ok(db) => return db,
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    panic!("sled keeps its lock")
}

/// The states that these tests compare are not all the same.
#[test]
fn the_workload_changes_with_each_commit() {
    assert_ne!(state_after(1), state_after(2));
    assert_eq!(state_after(COMMITS).len(), 71);
}
