//! A store is built anew beside the old one and replaces it, at whatever moment the process is killed.

use std::fs;
use std::path::{Path, PathBuf};

use super::child::{FORMAT, assert_whole, commit_next, spawn, store_with};
use crate::support::binary::{harvester, name, run};
use crate::support::lab::entry_line;
use crate::support::{config, replayed};
use harvester::cli::replay::Request;
use harvester::shell::store::{OpenError, Rebuild, Store};

fn rebuild_with(dir: &Path, commits: u64) -> Rebuild {
    let mut rebuild = Rebuild::start(dir, FORMAT).expect("a rebuild");
    for _ in 0..commits {
        commit_next(rebuild.store());
    }
    rebuild
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Makes a finished rebuild as a kill leaves it before the swap: whole, marked, not yet in place.
fn finished_rebuild(dir: &Path, n: u32, commits: u64) -> PathBuf {
    let building = dir.with_file_name(format!("store.rebuild-{n}"));
    store_with(&building, commits);
    fs::write(building.join("harvester.finished"), "").expect("a file");
    building
}

/// The old store is in use while the new one is built; after the swap the new one is in place and the old one is
/// aside.
#[test]
fn a_rebuilt_store_takes_the_place_of_the_old_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    let mut old = Store::open(&dir, FORMAT - 1).expect("a store");
    commit_next(&mut old);
    let rebuild = rebuild_with(&dir, 5);
    assert_eq!(names(folder.path()), ["store", "store.rebuild-1"]);
    commit_next(&mut old);
    drop(old);
    let aside = rebuild.swap().expect("a swap").expect("an old store");
    let store = Store::open(&dir, FORMAT).expect("the new store");
    assert_eq!(assert_whole(&store), 5);
    assert!(!dir.join("harvester.finished").exists());
    assert_eq!(assert_whole(&Store::open(&aside, FORMAT - 1).expect("the old store")), 2);
    assert_eq!(names(folder.path()).len(), 2);
}

#[test]
fn a_rebuild_needs_no_old_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("state/store");
    assert_eq!(rebuild_with(&dir, 4).swap().expect("a swap"), None);
    assert_eq!(assert_whole(&Store::open(&dir, FORMAT).expect("the new store")), 4);

    let empty = folder.path().join("state/empty");
    fs::create_dir(&empty).expect("a folder");
    assert_eq!(rebuild_with(&empty, 2).swap().expect("a swap"), None);
    assert_eq!(assert_whole(&Store::open(&empty, FORMAT).expect("the new store")), 2);
}

/// After a kill between the two renames there is no store in place: the next open puts the finished rebuild there.
#[test]
fn a_swap_killed_between_its_renames_is_completed_by_the_next_open() {
    for open in [Store::open, Store::open_existing] {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("store");
        store_with(&dir, 2);
        finished_rebuild(&dir, 1, 6);
        fs::rename(&dir, folder.path().join("store.quarantine-20260101T000000Z")).expect("the first rename");
        let store = open(&dir, FORMAT).expect("the rebuilt store");
        assert_eq!(assert_whole(&store), 6);
        assert!(!dir.join("harvester.finished").exists());
        assert_eq!(names(folder.path()), ["store", "store.quarantine-20260101T000000Z"]);
    }
}

/// After a kill after the second rename the marker of the finished rebuild is still there, and has no effect.
#[test]
fn a_swap_killed_after_its_renames_is_complete() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    store_with(&dir, 3);
    fs::write(dir.join("harvester.finished"), "").expect("a file");
    assert_eq!(assert_whole(&Store::open(&dir, FORMAT).expect("the store")), 3);
    assert!(!dir.join("harvester.finished").exists());
}

/// After a kill before the first rename, or during the build, the store in place counts and the rebuild is removed.
#[test]
fn a_rebuild_that_never_took_its_place_is_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    store_with(&dir, 3);
    finished_rebuild(&dir, 1, 6);
    store_with(&dir.with_file_name("store.rebuild-7"), 1);
    fs::create_dir(dir.with_file_name("store.rebuild-8")).expect("a folder");
    assert_eq!(assert_whole(&Store::open(&dir, FORMAT).expect("the store")), 3);
    assert_eq!(names(folder.path()), ["store"]);

    store_with(&dir.with_file_name("store.rebuild-1"), 1);
    let rebuild = rebuild_with(&dir, 1);
    assert_eq!(names(folder.path()), ["store", "store.rebuild-1"]);
    drop(rebuild);
    assert_eq!(names(folder.path()), ["store"]);
}

/// An unfinished rebuild is never taken for the store.
#[test]
fn an_unfinished_rebuild_is_not_adopted() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    store_with(&dir.with_file_name("store.rebuild-1"), 9);
    assert!(matches!(Store::open_existing(&dir, FORMAT), Err(OpenError::Absent { .. })));
    assert_eq!(Store::open(&dir, FORMAT).expect("a new store").commit_number(), 0);
}

/// A folder with such a name that is not ours, or that another process works on, stays.
#[test]
fn rebuilds_of_others_are_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    let foreign = dir.with_file_name("store.rebuild-1");
    fs::create_dir(&foreign).expect("a folder");
    fs::write(foreign.join("letter"), "text").expect("a file");
    fs::create_dir(dir.with_file_name("store.rebuild-x")).expect("a folder");
    let mut other = spawn("hold", &dir.with_file_name("store.rebuild-2"));
    other.expect_number("open");
    store_with(&dir, 1);
    let rebuild = rebuild_with(&dir, 1);
    let found = names(folder.path());
    assert_eq!(found, ["store", "store.rebuild-1", "store.rebuild-2", "store.rebuild-3", "store.rebuild-x"]);
    drop(rebuild);
    assert_eq!(fs::read(foreign.join("letter")).expect("a file"), b"text");
    other.kill();
}

/// Another process uses the store in place: the swap is refused and that store stays.
#[test]
fn a_swap_does_not_move_a_store_in_use() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    store_with(&dir, 2);
    let mut other = spawn("hold", &dir);
    other.expect_number("open");
    let refused = rebuild_with(&dir, 5).swap().expect_err("in use");
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused:?}");
    other.kill();
    assert_eq!(assert_whole(&Store::open(&dir, FORMAT).expect("the store")), 2);
    assert_eq!(names(folder.path()), ["store"]);
}

/// A folder that is not a store stays where it is.
#[test]
fn a_swap_does_not_move_a_folder_that_is_not_a_store() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    fs::create_dir(&dir).expect("a folder");
    fs::write(dir.join("letter"), "text").expect("a file");
    let refused = rebuild_with(&dir, 5).swap().expect_err("not ours");
    assert!(matches!(refused, OpenError::Foreign { .. }), "{refused:?}");
    assert_eq!(fs::read(dir.join("letter")).expect("a file"), b"text");
}

const LADDER: &str = "mode = \"live\"\nladder = \"0.5:0.25,1:0.25\"\natr_unit = { default = \"absolute\" }\n\
    price_sources = [\"market.tick\"]\non_live = \"take\"\nrequire_instrument = false\n";

/// The second process knows another account from its configuration before it reads the store.
#[test]
fn a_store_is_continued_when_the_configuration_names_another_account() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |file: &str, text: &str| {
        let path = folder.path().join(file);
        fs::write(&path, text).expect("a file");
        path
    };
    let adopted = |id: u64, account: &str| {
        let policy = format!(
            r#"{{{account}"policy":{{"mode":"live","ladder":[{{"r":"0.5","fraction":"0.25"}},{{"r":"1","fraction":"0.25"}}],"atr_unit":{{"default":"absolute"}},"price_sources":["market.tick"],"on_live":"take","require_instrument":false}}}}"#
        );
        entry_line(
            "quantum:stream:harvest.control",
            &format!("{id}-0"),
            &[("event_type", "policy.adopted"), ("payload", &policy)],
        )
    };
    let opened = |seq: u64, account: &str| {
        let fields = [
            ("symbol", "SOLUSDT"),
            ("executed", "true"),
            ("side", "BUY"),
            ("executedQty", "10"),
            ("avgPrice", "100"),
            ("order_status", "FILLED"),
            ("account", account),
            ("orderId", account),
        ];
        entry_line("quantum:stream:apply.result", &format!("1770163201000-{seq}"), &fields)
    };
    let intent = r#"{"symbol":"SOLUSDT","side":"BUY","entry_price":100,"atr_value":2,"volatility_factor":1}"#;
    let intent = [("event_type", "trade.intent"), ("payload", intent)];
    let before = [
        adopted(1_770_163_200_000, ""),
        entry_line("quantum:stream:trade.intent", "1770163200500-0", &intent),
        opened(0, "a"),
        opened(1, "c"),
    ];
    let price = [("event_type", "market.tick"), ("payload", r#"{"symbol":"SOLUSDT","price":101.2}"#)];
    let after = [
        adopted(1_770_163_203_000, r#""account":"c","#),
        entry_line("quantum:stream:market.tick", "1770163204000-0", &price),
    ];
    let first = write("1.jsonl", &(before.join("\n") + "\n"));
    let second = write("2.jsonl", &(after.join("\n") + "\n"));
    let plain = write("plain.toml", &format!("[policy]\n{LADDER}"));
    let named = write("named.toml", &format!("[policy]\n{LADDER}[policy.accounts.c]\nmin_r = \"0.6\"\n"));
    let store = folder.path().join("store");
    for (history, file) in [(&first, &plain), (&second, &named)] {
        let request = Request { histories: vec![history.clone()], store: Some(store.clone()), ..Request::default() };
        replayed(&request, &config(Some(file)));
    }
    let both = folder.path().join("both");
    let request = Request { histories: vec![first, second], store: Some(both.clone()), ..Request::default() };
    replayed(&request, &config(Some(&named)));
    let same = run(harvester().args(["diff", name(&store), name(&both)]));
    assert!(same.out.contains("They are the same"), "{}", same.out);
}
