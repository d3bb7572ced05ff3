//! Audits that a page asks for: one at a time, on a thread of its own.
//!
//! ```text
//!            another one is asked for
//!        ┌──────────────────────────────┐
//!        ▼                              │
//!  none ─▶ running ── it has ended ──▶ done
//!           ▲   │ pages that ask how far it is
//!           └───┘ none for LEFT_AFTER: it ends
//! ```
//!
//! Promises: no page waits for an audit. An audit ends if no page asks about it any more, or if it takes longer than
//! the limit. In a service the thread of the audit has a lower priority than the threads of the service.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

use super::feed::step_back;
use crate::drive::film::Origin;
use crate::drive::stop::Stop;

/// How long an audit may take.
const LIMIT: Duration = Duration::from_secs(1800);
/// An audit ends if no page has asked about its progress for this time. A page asks each second.
const LEFT_AFTER: Duration = Duration::from_secs(10);
/// Interval between two checks whether a page still asks.
const LOOK: Duration = Duration::from_millis(500);

/// The result of an audit: its verdict, and its screen.
#[derive(Clone, Debug)]
pub struct Audited {
    pub verdict: String,
    pub text: String,
}

/// Audits a source; a text says why it cannot. The command line provides it, because an audit is a command.
pub type Audit = Arc<dyn Fn(&Origin, &Stop) -> Result<Audited, String> + Send + Sync>;

/// The progress of the audit that a page has asked for.
#[derive(Clone, Debug)]
pub enum Stage {
    /// `read` entries are folded. `is_other` is true if another audit runs, and the one that the page asks for has to
    /// wait.
    Running {
        read: u64,
        lasts: Duration,
        is_other: bool,
    },
    Done(Result<Audited, String>),
}

/// Runs audits.
pub struct Auditor {
    audit: Audit,
    last: Mutex<Option<Run>>,
}

/// An audit that runs or has ended.
struct Run {
    /// The name that it was asked for with. Another name is another audit.
    name: String,
    begun: Instant,
    asked: Arc<Mutex<Instant>>,
    read: Arc<AtomicU64>,
    end: Arc<Mutex<Option<Result<Audited, String>>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Auditor {
    pub fn new(audit: Audit) -> Self {
        Self { audit, last: Mutex::default() }
    }

    /// Returns the progress of the audit with this name. Begins it if it is new and no other one runs.
    pub fn stage(&self, name: &str, origin: &Origin) -> Stage {
        let mut last = locked(&self.last);
        if let Some(run) = &*last {
            let end = locked(&run.end).clone();
            *locked(&run.asked) = Instant::now();
            let is_other = run.name != name;
            match end {
                None => {
                    let (read, lasts) = (run.read.load(Ordering::Relaxed), run.begun.elapsed());
                    return Stage::Running { read, lasts, is_other };
                }
                Some(end) if !is_other => return Stage::Done(end),
                Some(_) => {}
            }
        }
        match Run::begin(name, Arc::clone(&self.audit), origin.clone()) {
            Ok(run) => {
                *last = Some(run);
                Stage::Running { read: 0, lasts: Duration::ZERO, is_other: false }
            }
            Err(error) => Stage::Done(Err(format!("no thread can be started for it: {error}"))),
        }
    }
}

impl Run {
    fn begin(name: &str, audit: Audit, origin: Origin) -> std::io::Result<Self> {
        let now = Instant::now();
        let run = Self {
            name: name.to_owned(),
            begun: now,
            asked: Arc::new(Mutex::new(now)),
            read: Arc::default(),
            end: Arc::default(),
        };
        let (read, end, has_left) = (Arc::clone(&run.read), Arc::clone(&run.end), Arc::<AtomicBool>::default());
        let (running, ends) = bounded::<()>(0);
        let (asked, leaves) = (Arc::clone(&run.asked), Arc::clone(&has_left));
        thread::Builder::new().name("audit-watch".to_owned()).spawn(move || watch(&ends, &asked, &leaves))?;
        thread::Builder::new().name("audit".to_owned()).spawn(move || {
            let _running = running;
            step_back();
            let stop = Stop::after(LIMIT, has_left).counting(read);
            let audited = catch_unwind(AssertUnwindSafe(|| audit(&origin, &stop)));
            let audited = audited.unwrap_or_else(|_| Err("the audit panicked".to_owned()));
            *locked(&end) = Some(audited);
        })?;
        Ok(run)
    }
}

/// Ends an audit if no page asks about it any more.
fn watch(ends: &Receiver<()>, asked: &Mutex<Instant>, has_left: &AtomicBool) {
    while ends.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        if locked(asked).elapsed() >= LEFT_AFTER {
            has_left.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Origin {
        Origin::Histories(Vec::new())
    }

    /// Waits for the end of an audit.
    fn ended(auditor: &Auditor, name: &str) -> Result<Audited, String> {
        loop {
            match auditor.stage(name, &origin()) {
                Stage::Done(end) => return end,
                Stage::Running { .. } => thread::yield_now(),
            }
        }
    }

    #[test]
    fn one_audit_runs_at_a_time_and_its_result_stays_until_the_next_one() {
        let (gate, opened) = bounded::<()>(0);
        let begun = Arc::new(AtomicU64::new(0));
        let of_audit = Arc::clone(&begun);
        let auditor = Auditor::new(Arc::new(move |_, stop| {
            let number = of_audit.fetch_add(1, Ordering::Relaxed);
            let _ = opened.recv();
            for _ in 0..1000 {
                stop.check().map_err(|stopped| stopped.to_string())?;
            }
            Ok(Audited { verdict: number.to_string(), text: String::new() })
        }));
        assert!(matches!(auditor.stage("a", &origin()), Stage::Running { is_other: false, .. }));
        assert!(matches!(auditor.stage("b", &origin()), Stage::Running { is_other: true, .. }), "it waits for a");
        drop(gate);
        assert_eq!(ended(&auditor, "a").expect("a result").verdict, "0");
        assert_eq!(ended(&auditor, "a").expect("a result").verdict, "0", "it does not run again");
        assert_eq!(ended(&auditor, "b").expect("a result").verdict, "1");
        assert_eq!(begun.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn an_audit_shows_how_far_it_is_and_ends_when_nobody_asks() {
        let (at_300, reached) = bounded::<()>(0);
        let auditor = Auditor::new(Arc::new(move |_, stop| {
            let check = || stop.check().map_err(|stopped| stopped.to_string());
            for _ in 0..300 {
                check()?;
            }
            at_300.send(()).expect("the test waits for it");
            loop {
                check()?;
            }
        }));
        auditor.stage("a", &origin());
        reached.recv().expect("it has begun");
        let Stage::Running { read, .. } = auditor.stage("a", &origin()) else { panic!("it never ends by itself") };
        assert!(read >= 256, "{read}");
        // As if the last page had asked long ago.
        let past = Instant::now().checked_sub(LEFT_AFTER).expect("the clock is not that young");
        let run = locked(&auditor.last).take().expect("it runs");
        *locked(&run.asked) = past;
        let end = loop {
            if let Some(end) = locked(&run.end).clone() {
                break end;
            }
            thread::yield_now();
        };
        assert_eq!(end.expect_err("nobody reads it"), "the reader has left");
    }

    #[test]
    fn an_audit_that_fails_or_panics_says_so() {
        let auditor = Auditor::new(Arc::new(|_, _| Err("no history".to_owned())));
        assert_eq!(ended(&auditor, "a").expect_err("it fails"), "no history");
        let auditor = Auditor::new(Arc::new(|_, _| panic!("an audit of a test panics")));
        assert_eq!(ended(&auditor, "a").expect_err("it panics"), "the audit panicked");
    }
}
