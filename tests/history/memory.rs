//! Memory of reading a history does not depend on its length.
//!
//! The allocator counts the memory of all threads, so the measurement has a process of its own.
#![allow(unsafe_code, reason = "an allocator that counts is unsafe by its trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::fixture::*;
use crate::support::run_alone;
use harvester::shell::history::{Limits, Options};

/// Counts the memory that Rust code has allocated: everything that could grow with the history.
struct Counting;

/// Number of allocations. [1]
pub static ASKED: AtomicUsize = AtomicUsize::new(0);
static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: forwards all calls to the system allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(1, Relaxed);
        MOST.fetch_max(HELD.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller's promises are forwarded unchanged.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are forwarded unchanged.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Returns the most bytes allocated at once while a history of so many entries in each of two files is read.
fn most_held(entries: u64, is_sorted: bool) -> usize {
    let folder = Folder::temporary();
    for file in 0..2 {
        let text: String = (0..entries)
            .map(|i| if is_sorted { i } else { i * 7919 % entries })
            .map(|ms| entry(PRICE, &format!("{ms}-{file}")) + "\n")
            .collect();
        folder.write(&format!("{file}.jsonl.zst"), zstd(text.as_bytes()));
    }
    let limits = Limits { run_bytes_max: 1 << 20, open_parts_max: 4, ..Limits::default() };
    MOST.store(HELD.load(Relaxed), Relaxed);
    let before = HELD.load(Relaxed);
    let mut history = open(&[&folder.path("")], Options { limits, ..Options::default() }).unwrap();
    while history.next_line().unwrap().is_some() {}
    assert_eq!(history.yielded(), 2 * entries);
    MOST.load(Relaxed) - before
}

#[test]
fn four_times_the_entries_take_the_same_memory() {
    run_alone("memory::measured_four_times_the_entries");
}

#[test]
#[ignore = "does its work as the child of another test"]
fn measured_four_times_the_entries() {
    for is_sorted in [true, false] {
        let (short, long) = (most_held(30_000, is_sorted), most_held(120_000, is_sorted));
        println!("sorted {is_sorted}: {short} bytes for 60,000 entries, {long} bytes for 240,000");
        assert!(long < short + short / 4, "{short} bytes became {long}");
    }
}
