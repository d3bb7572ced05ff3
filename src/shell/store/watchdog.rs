//! Ends the process when a store call hangs.
//!
//! Sled can deadlock, and a thread that waits inside it cannot be woken. Everything that the process has committed is
//! durable, and the rest is in the history: ending is safe, waiting is not. Time is counted in ticks of the watching
//! thread, so a process that was stopped and resumes is not mistaken for one that hangs.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Default time limit of a store call.
pub const CALL_LIMIT: Duration = Duration::from_secs(10);
/// Exit code of a process that ended because a store call hung.
pub const EXIT_CODE_HUNG: i32 = 70;

/// Opening reads the whole log, so it may take this many times the limit.
const OPEN_FACTOR: u32 = 60;
const TICKS_PER_LIMIT: u32 = 20;
/// Number of calls that are watched at the same time. Further ones are not watched; they would hang together with
/// these.
const SLOTS: usize = 16;
const EXIT_GRACE: Duration = Duration::from_secs(1);

/// The kind of a call, for the last line of a process that hung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreCall {
    Open,
    Commit,
    Read,
    Close,
}

/// One thread that watches the store calls of one folder.
#[derive(Debug)]
pub struct Watchdog {
    watch: Arc<Watch>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Watch {
    dir: PathBuf,
    limit: Duration,
    /// The running calls: number and kind of each, 0 for a free slot.
    calls: [AtomicU64; SLOTS],
    calls_begun: AtomicU64,
    ended: AtomicBool,
}

/// A running call, watched until dropped.
#[derive(Debug)]
pub struct WatchedCall {
    watch: Arc<Watch>,
    slot: Option<usize>,
}

impl Watchdog {
    /// Starts the thread. A call longer than `limit` (opening: 60 times that) ends the process with [`EXIT_CODE_HUNG`].
    pub fn start(dir: &Path, limit: Duration) -> std::io::Result<Self> {
        let watch = Arc::new(Watch {
            dir: dir.to_owned(),
            limit,
            calls: [const { AtomicU64::new(0) }; SLOTS],
            calls_begun: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let watching = Arc::clone(&watch);
        let thread = thread::Builder::new().name("store-watchdog".to_owned()).spawn(move || watching.run())?;
        Ok(Self { watch, thread: Some(thread) })
    }

    /// Watches a call from now until the returned value is dropped.
    pub fn call(&self, call: StoreCall) -> WatchedCall {
        let number = self.watch.calls_begun.fetch_add(1, Ordering::Relaxed) + 1;
        let entry = number << 2 | call as u64;
        let free = |slot: &AtomicU64| slot.compare_exchange(0, entry, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        WatchedCall { slot: self.watch.calls.iter().position(free), watch: Arc::clone(&self.watch) }
    }
}

impl Drop for WatchedCall {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.watch.calls[slot].store(0, Ordering::Release);
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.watch.ended.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // The thread only sleeps and compares numbers, so it has no panic to pass on.
            let _ = thread.join();
        }
    }
}

impl Watch {
    fn run(&self) {
        let mut seen = [(0, 0); SLOTS];
        while !self.ended.load(Ordering::Acquire) {
            thread::park_timeout(self.limit / TICKS_PER_LIMIT);
            for (slot, (entry_before, ticks)) in self.calls.iter().zip(&mut seen) {
                let entry = slot.load(Ordering::Acquire);
                *ticks = if entry == *entry_before { *ticks + 1 } else { 0 };
                *entry_before = entry;
                if entry != 0 {
                    let call = StoreCall::from_entry(entry);
                    if *ticks > call.patience() {
                        self.end_process(call);
                    }
                }
            }
        }
    }

    fn end_process(&self, call: StoreCall) -> ! {
        // Neither a full stderr pipe nor a lock that is held at exit may keep the process alive.
        let _ = thread::Builder::new().spawn(|| {
            thread::sleep(EXIT_GRACE);
            std::process::abort();
        });
        let Self { dir, limit, .. } = self;
        let _ = writeln!(
            std::io::stderr(),
            "STORE_HUNG call={call:?} limit_ms={} store={}: ending the process, nothing acknowledged is lost",
            call.factor() as u128 * limit.as_millis(),
            dir.display(),
        );
        std::process::exit(EXIT_CODE_HUNG)
    }
}

impl StoreCall {
    fn from_entry(entry: u64) -> Self {
        match entry & 3 {
            0 => Self::Open,
            1 => Self::Commit,
            2 => Self::Read,
            _ => Self::Close,
        }
    }

    fn factor(self) -> u32 {
        match self {
            Self::Open => OPEN_FACTOR,
            Self::Commit | Self::Read | Self::Close => 1,
        }
    }

    fn patience(self) -> u32 {
        TICKS_PER_LIMIT * self.factor()
    }
}
