//! The state of a store after its process was killed, or after a power cut.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::child::{FORMAT, Spawned, assert_whole, commit_next, copy_folder, number_after, spawn, store_with};
use crate::support::random::Random;
use harvester::shell::store::Store;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

const KILLS: u64 = 20;
const PAGE_BYTES: usize = 4096;

/// A writer is killed 20 times at random moments, half of them while it still opens. Each time the store opens, is
/// whole at some commit, and that is the last acknowledged one or the one in progress.
#[test]
fn a_kill_loses_no_acknowledged_commit_and_halves_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    let mut acknowledged = 0;
    for seed in 0..KILLS {
        let mut random = Random(seed);
        let mut writer = spawn("write", &dir);
        if seed.is_multiple_of(2) {
            for _ in 0..=random.below(40) {
                writer.line().expect("another line of the writer");
            }
            spin(Duration::from_micros(random.below(3_000)));
        } else {
            spin(Duration::from_micros(random.below(60_000)));
        }
        for line in writer.kill() {
            acknowledged = number_after(&line, "ack").unwrap_or(acknowledged).max(acknowledged);
        }
        let store = Store::open(&dir, FORMAT).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        let found = assert_whole(&store);
        assert!(found >= acknowledged, "seed {seed}: {acknowledged} was acknowledged, {found} is there");
        acknowledged = found;
    }
    assert!(acknowledged > KILLS, "only {acknowledged} commits were acknowledged");
}

/// A process is killed while it creates a store: the next process creates it.
#[test]
fn a_store_whose_creation_was_killed_is_created_by_the_next_process() {
    let folder = tempfile::tempdir().expect("a folder");
    for seed in 0..KILLS {
        let dir = folder.path().join(seed.to_string());
        let writer = spawn("hold", &dir);
        spin(Duration::from_micros(Random(seed).below(30_000)));
        writer.kill();
        let mut store = Store::open(&dir, FORMAT).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(commit_next(&mut store), 1, "seed {seed}");
    }
}

/// The power is cut at random moments during a commit: some of the pages written since the last fdatasync have
/// reached the disk. A small version of the test below.
#[test]
fn a_power_cut_loses_no_acknowledged_commit() {
    cut_the_power(5);
}

/// The same many times, each time on what the last cut has left.
#[test]
#[ignore = "takes minutes: cargo test --test store -- --ignored power"]
fn many_power_cuts_lose_no_acknowledged_commit() {
    let cuts = std::env::var("HARVESTER_POWER_CUTS").map_or(100, |cuts| cuts.parse().expect("a number"));
    let outcomes = cut_the_power(cuts);
    println!("{cuts} cuts: {outcomes:?}");
    if cuts >= 50 {
        assert!(
            outcomes.mixed > cuts / 4 && outcomes.before > 0 && outcomes.after > 0,
            "{outcomes:?} does not contain every case"
        );
    }
}

#[derive(Debug, Default)]
struct Outcomes {
    /// Cuts after which some pages were old and some new.
    mixed: u64,
    /// Cuts after which the commit in progress was absent.
    before: u64,
    /// Cuts after which it was there.
    after: u64,
}

/// Each cut: a writer makes some commits and waits in the last, which is durable; that is the old image. It continues
/// and is stopped within the next commit, before that is acknowledged; that is the new image. The disk contains any
/// mixture of the two, page by page. The head is never synced, and its old image is the one from before the writer
/// began.
fn cut_the_power(cuts: u64) -> Outcomes {
    let folder = tempfile::tempdir().expect("a folder");
    let mut dir = folder.path().join("0");
    store_with(&dir, 1);
    let mut outcomes = Outcomes::default();
    for cut in 1..=cuts {
        let mut random = Random(cut);
        let image = |name: &str| folder.path().join(format!("{cut}-{name}"));
        let (began, old, new, mixed) =
            (image("began"), image("old"), image("new"), folder.path().join(cut.to_string()));
        copy_folder(&dir, &began);

        let mut writer = spawn("pause", &dir);
        writer.expect_number("open");
        writer.send(&random.below(80).max(1).to_string());
        let durable = writer.expect_number("durable");
        copy_folder(&dir, &old);
        writer.send("continue");
        spin(Duration::from_micros(random.below(6_000)));
        stop(&writer);
        copy_folder(&dir, &new);
        writer.kill();
        fs::copy(began.join("harvester.head"), old.join("harvester.head")).expect("a copy");

        let pages = mix(&old, &new, &mixed, &mut random);
        outcomes.mixed += u64::from(pages.old > 0 && pages.new > 0);
        let store = Store::open(&mixed, FORMAT).unwrap_or_else(|e| panic!("cut {cut}, {pages:?}: {e}"));
        let found = assert_whole(&store);
        assert!((durable..=durable + 1).contains(&found), "cut {cut}, {pages:?}: {found} of {durable}");
        *if found == durable { &mut outcomes.before } else { &mut outcomes.after } += 1;
        drop(store);
        for path in [&dir, &began, &old, &new] {
            fs::remove_dir_all(path).expect("a folder");
        }
        dir = mixed;
    }
    outcomes
}

/// The pages that differ: how many were taken from which image.
#[derive(Debug, Default)]
struct Pages {
    old: u64,
    new: u64,
}

fn mix(old: &Path, new: &Path, mixed: &Path, random: &mut Random) -> Pages {
    let mut pages = Pages::default();
    // Few, half, most or all of the pages have reached the disk.
    let new_of_8 = [1, 4, 7, 8][random.below(4) as usize];
    let takes_new = |random: &mut Random| random.below(8) < new_of_8;
    for file in files(old).union(&files(new)) {
        let (old, new, to) = (fs::read(old.join(file)), fs::read(new.join(file)), mixed.join(file));
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        let (old, new) = match (old, new) {
            (Ok(old), Ok(new)) => (old, new),
            (Ok(only), Err(_)) | (Err(_), Ok(only)) => {
                if takes_new(random) {
                    fs::write(to, only).expect("a file");
                }
                continue;
            }
            (Err(e), Err(_)) => panic!("{e}"),
        };
        let len = if takes_new(random) { new.len() } else { old.len() };
        let mut bytes = vec![0; len];
        for (n, page) in bytes.chunks_mut(PAGE_BYTES).enumerate() {
            let (in_old, in_new) = (page_of(&old, n, page.len()), page_of(&new, n, page.len()));
            if in_old == in_new {
                page.copy_from_slice(&in_old);
            } else if takes_new(random) {
                pages.new += 1;
                page.copy_from_slice(&in_new);
            } else {
                pages.old += 1;
                page.copy_from_slice(&in_old);
            }
        }
        fs::write(to, bytes).expect("a file");
    }
    fs::create_dir_all(mixed.join("blobs")).expect("a folder");
    pages
}

/// Returns a page of a file, filled with zeros after the end of the file.
fn page_of(file: &[u8], n: usize, len: usize) -> Vec<u8> {
    let from = (n * PAGE_BYTES).min(file.len());
    let mut page = file[from..(from + len).min(file.len())].to_vec();
    page.resize(len, 0);
    page
}

/// Returns the files below a folder, by their path within it.
fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir).expect("a folder") {
        let entry = entry.expect("an entry");
        let name = PathBuf::from(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            found.extend(files(&entry.path()).into_iter().map(|below| name.join(below)));
        } else {
            found.insert(name);
        }
    }
    found
}

/// Stops all threads of the child. Returns once they are stopped.
pub fn stop(writer: &Spawned) {
    let pid = Pid::from_child(&writer.child);
    kill_process(pid, Signal::STOP).expect("a child to stop");
    let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).expect("a child").expect("its status");
    assert!(status.stopped(), "{status:?}");
}

/// Busy-waits, for times that are shorter than a sleep can be.
fn spin(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}
