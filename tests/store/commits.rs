//! Commits of a store, and its lock.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::child::{FORMAT, Spawned, assert_whole, commit_next, own_path, spawn, spawn_by, state_of, store_with};
use harvester::shell::store::{KEY_BYTES_MAX, OpenError, Store, StoreError};

fn row(key: &[u8], value: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    (key.to_vec(), Some(value.to_vec()))
}

/// Rows are written, replaced and removed, and the store is opened again in between: each opening finds exactly the
/// committed rows.
#[test]
fn an_opened_store_has_the_committed_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    let mut store = Store::open(&dir, FORMAT).expect("a new store");
    assert_eq!((store.commit_number(), store.row_count()), (0, 0));
    drop(store);
    for opening in 1..=12 {
        store = Store::open(&dir, FORMAT).expect("the store again");
        assert_eq!(assert_whole(&store), (opening - 1) * 5);
        for _ in 0..5 {
            commit_next(&mut store);
        }
        assert_whole(&store);
        drop(store);
    }
    let store = Store::open_existing(&dir, FORMAT).expect("the store for reading");
    assert_eq!(assert_whole(&store), 60);
    assert!(store.size_on_disk().expect("a size") > 100_000);
}

/// One commit contains a key twice, removes a key that is there and one that is not, and has an empty key and value.
#[test]
fn the_last_change_of_a_key_in_a_commit_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    let mut store = Store::open(&dir, FORMAT).expect("a new store");
    store.commit([row(b"a", b"1"), row(b"b", b"2"), row(b"", b"")].into_iter()).expect("a commit");
    let changes = [row(b"a", b"3"), row(b"a", b"4"), (b"b".to_vec(), None), (b"c".to_vec(), None), row(b"b/c", b"5")];
    store.commit(changes.into_iter()).expect("a commit");
    store.commit(std::iter::empty()).expect("an empty commit");
    assert_eq!(store.get(b"a").expect("a read"), Some(b"4".to_vec()));
    assert_eq!(store.get(b"b").expect("a read"), None);
    assert_eq!(store.get(b"").expect("a read"), Some(Vec::new()));
    drop(store);
    let store = Store::open(&dir, FORMAT).expect("the store again");
    assert_eq!((store.commit_number(), store.row_count()), (3, 3));
    let all: Vec<_> = store.scan_prefix(b"").map(|r| r.expect("a row")).collect();
    assert_eq!(all, [(vec![], vec![]), (b"a".to_vec(), b"4".to_vec()), (b"b/c".to_vec(), b"5".to_vec())]);
    let some: Vec<_> = store.scan_prefix(b"b/").map(|r| r.expect("a row").0).collect();
    assert_eq!(some, [b"b/c".to_vec()]);
}

/// Values around the size of a piece grow, shrink and disappear: no piece of an earlier value is left in a later one,
/// and none goes to sled's blob files, which sled never syncs.
#[test]
fn long_values_read_back_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    let mut store = Store::open(&dir, FORMAT).expect("a new store");
    for (n, len) in [65_536, 5_000_000, 65_537, 0, 131_072, 131_073, 10].into_iter().enumerate() {
        let value: Vec<u8> = (0..len).map(|i| (i % 251) as u8 ^ n as u8).collect();
        let rows = (0..40).map(|i| row(format!("key/{i}").as_bytes(), &value[..len.min(60_000)]));
        store.commit(rows.chain([row(b"long", &value)])).expect("a commit");
        assert_eq!(store.get(b"long").expect("a read"), Some(value), "{len}");
    }
    store.commit([(b"long".to_vec(), None)].into_iter()).expect("a commit");
    drop(store);
    let store = Store::open(&dir, FORMAT).expect("the store again");
    assert_eq!(store.get(b"long").expect("a read"), None);
    assert_eq!(state_of(&store).len(), 40);
    assert_eq!(fs::read_dir(dir.join("blobs")).expect("a folder").count(), 0);
}

/// A rebuild commits far more than one segment at once.
#[test]
fn one_commit_may_span_several_segments() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    let rows = || (0..60_000_u32).map(|i| row(&i.to_be_bytes(), &[i as u8; 300]));
    let mut store = Store::open(&dir, FORMAT).expect("a new store");
    store.commit(rows()).expect("a commit");
    drop(store);
    let store = Store::open(&dir, FORMAT).expect("the store again");
    assert_eq!((store.commit_number(), store.row_count()), (1, 60_000));
    assert!(store.size_on_disk().expect("a size") > 3 * 8 * 1024 * 1024);
}

/// A key that is too long is refused before anything is written, and the store continues.
#[test]
fn a_key_that_is_too_long_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    let mut store = Store::open(&dir, FORMAT).expect("a new store");
    let refused = store.commit([row(b"a", b"1"), row(&[0; KEY_BYTES_MAX + 1], b"2")].into_iter());
    let refused = refused.expect_err("too long");
    assert_eq!(
        refused.to_string(),
        format!("a key of 1025 bytes is too long for the store {}, the limit is 1024", dir.display())
    );
    assert_eq!((store.commit_number(), store.get(b"a").expect("a read")), (0, None));
    store.commit([row(&[0; KEY_BYTES_MAX], b"2")].into_iter()).expect("a commit");
    assert_eq!((store.commit_number(), store.row_count()), (1, 1));
}

/// Another process holds the lock of the store: opening fails within a second, and so does moving the folder. Once
/// that process has ended, the store opens.
#[test]
fn a_store_in_use_is_refused_until_it_is_free() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    let mut other = spawn("hold", &dir);
    other.expect_number("open");
    let asked = Instant::now();
    let refused = Store::open(&dir, FORMAT).expect_err("in use");
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused:?}");
    let message = refused.to_string();
    assert!(message.starts_with(&format!("the store {} is in use by another process", dir.display())), "{message}");
    assert!(message.contains("--url") && message.contains("its journal"), "the next step is missing: {message}");
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    let refused = Store::move_aside(&dir).expect_err("in use");
    assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
    other.kill();
    Store::open(&dir, FORMAT).expect("free");
}

/// Within one process, sled releases its lock some time after the drop.
#[test]
fn a_store_opens_again_right_after_a_drop() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    for n in 0..20 {
        let mut store = Store::open(&dir, FORMAT).expect("free");
        assert_eq!(assert_whole(&store), n);
        commit_next(&mut store);
    }
}

/// Two handles in one process exclude each other like two processes.
#[test]
fn a_second_handle_in_the_same_process_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    let _first = Store::open(&dir, FORMAT).expect("a new store");
    assert!(matches!(Store::open(&dir, FORMAT), Err(OpenError::InUse { .. })));
}

#[test]
fn a_store_of_another_format_is_named_and_not_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    store_with(&dir, 3);
    let refused = Store::open(&dir, FORMAT + 1).expect_err("another format");
    assert!(matches!(refused, OpenError::OtherFormat { found: FORMAT, want: 4, .. }), "{refused:?}");
    assert_eq!(
        refused.to_string(),
        format!(
            "the store {} has format 3, this program reads format 4: a service makes its own again at its start; make any other with harvester replay HISTORY --store {0}",
            dir.display()
        )
    );
    assert_eq!(assert_whole(&Store::open(&dir, FORMAT).expect("the store")), 3);
}

/// A folder of something else, and a sled database that is not ours, stay as they are.
#[test]
fn a_folder_that_is_not_a_store_is_never_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("photos");
    fs::create_dir(&dir).expect("a folder");
    fs::write(dir.join("db"), "not sled").expect("a file");
    for refused in [Store::open(&dir, FORMAT), Store::open_existing(&dir, FORMAT)] {
        let refused = refused.expect_err("not ours");
        assert_eq!(
            refused.to_string(),
            format!(
                "{} is not a store of harvester: it contains db. Nothing was changed: give another folder with --store",
                dir.display()
            )
        );
    }
    assert_eq!(Store::move_aside(&dir).expect_err("not ours").kind(), std::io::ErrorKind::InvalidInput);
    let names: Vec<_> = fs::read_dir(&dir).expect("a folder").map(|e| e.expect("an entry").file_name()).collect();
    assert_eq!(names, ["db"]);
    assert_eq!(fs::read(dir.join("db")).expect("a file"), b"not sled");

    let file = folder.path().join("file");
    fs::write(&file, "a file").expect("a file");
    assert!(matches!(Store::open(&file, FORMAT), Err(OpenError::Foreign { .. })));
    assert_eq!(fs::read(&file).expect("a file"), b"a file");
}

#[test]
fn opening_an_absent_store_for_reading_creates_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    let refused = Store::open_existing(&dir, FORMAT).expect_err("absent");
    let message = refused.to_string();
    assert!(message.starts_with(&format!("there is no store at {}: ", dir.display())), "{message}");
    assert!(!dir.exists());

    fs::create_dir(&dir).expect("a folder");
    assert!(matches!(Store::open_existing(&dir, FORMAT), Err(OpenError::Absent { .. })));
    assert_eq!(fs::read_dir(&dir).expect("a folder").count(), 0);
}

/// The creation of a store was killed before its marker was in place: the files that it left are replaced by a new
/// store.
#[test]
fn a_half_created_store_is_created_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    fs::create_dir_all(dir.join("blobs")).expect("a folder");
    for (name, text) in [("harvester.store.new", ""), ("harvester.head", "half"), ("conf", "segment_size: 83")] {
        fs::write(dir.join(name), text).expect("a file");
    }
    assert!(matches!(Store::open_existing(&dir, FORMAT), Err(OpenError::Absent { .. })));
    store_with(&dir, 2);
    assert_eq!(assert_whole(&Store::open(&dir, FORMAT).expect("the store")), 2);
    assert!(!dir.join("harvester.store.new").exists());
}

/// The file system refuses to let the log grow: the commit fails with that reason, every later call is refused, the
/// process neither panics nor hangs, and all acknowledged commits are there afterwards.
#[test]
fn a_full_disk_is_an_error_and_loses_nothing() {
    for blocks in [3_000, 16_384, 16_390, 20_000, 40_000] {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("store");
        let mut shell = Command::new("sh");
        // Blocks of 512 bytes; the signal that would end the process is ignored, so that the write fails instead.
        shell.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")]).arg(own_path());
        let mut child = spawn_by(shell, "fill", &dir);
        let acknowledged = assert_full(&mut child, &dir);
        assert_eq!(child.line(), None);
        assert!(child.child.wait().expect("an end").success());
        let found = assert_whole(&Store::open(&dir, FORMAT).expect("the store"));
        assert!((acknowledged..=acknowledged + 1).contains(&found), "{found} of {acknowledged}");
    }
}

/// The same on a small disk of its own, which another child checks afterwards.
#[test]
#[ignore = "needs the right to mount"]
fn a_disk_without_room_is_an_error_and_loses_nothing() {
    for size_kb in (18_000..36_000).step_by(2_321) {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("store");
        let mount = format!("mount -t tmpfs -o size={size_kb}k small {}", folder.path().display());
        let script = format!("{mount} && \"$0\" \"$@\" && STORE_CHILD=check exec \"$0\" \"$@\"");
        let mut shell = Command::new("unshare");
        shell.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]).arg(own_path());
        let mut child = spawn_by(shell, "fill", &dir);
        let acknowledged = assert_full(&mut child, &dir);
        assert_eq!(child.expect_number("whole"), acknowledged);
        assert!(child.child.wait().expect("an end").success());
    }
}

/// Asserts that a child fails for lack of room, with one sentence, and that all later calls are refused. Returns the
/// last commit.
fn assert_full(child: &mut Spawned, dir: &Path) -> u64 {
    let acknowledged = child.expect_number("ack");
    assert!(acknowledged > 0);
    let failure = child.line().expect("a failure");
    assert!(failure.starts_with("DiskFull"), "{failure}");
    let sentence = child.line().expect("a sentence");
    assert!(sentence.starts_with(&format!("the disk of the store {} is full: ", dir.display())), "{sentence}");
    for _ in 0..2 {
        assert!(child.line().expect("a refusal").starts_with("Poisoned"));
    }
    assert!(child.line().expect("a refusal").starts_with("[Err(Poisoned"));
    assert_eq!(child.line().expect("an end"), "closed");
    acknowledged
}

/// An error is one sentence.
#[test]
fn an_error_names_the_store_and_the_fault() {
    let error = StoreError::Poisoned { dir: "state/store".into() };
    let says = "an earlier call of the store state/store failed, so it refuses further calls: restart the process";
    assert_eq!(error.to_string(), says);
}
