//! The source of what the pages show: a history that does not change, or the journal of a service, which grows.
//!
//! ```text
//!  first question ─▶ a thread reads the journal ─▶ film
//!  later question ─▶ new entries are read, at most every PAUSE_MIN ─▶ film
//!  no question for REST_AFTER ─▶ everything is dropped
//! ```
//!
//! Promises: before the first question nothing is read and no thread is started. Each question reads the new entries,
//! so a page shows the end. Following a journal takes at most a tenth of a core.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::codec::causes::with_causes;
use crate::drive::film::{Film, FilmError};
use crate::drive::reel::Reel;
use crate::drive::stop::Stop;

/// The least time between two looks at a journal.
pub const PAUSE_MIN: Duration = Duration::from_millis(250);
/// The pause after a look, as a multiple of the time that the look took. [1]
const PAUSE_SHARE: u32 = 10;
/// How long a look may take. The next question reads the rest.
const LOOK_LIMIT: Duration = Duration::from_secs(1);
/// How long a followed journal is kept in memory without a question.
const REST_AFTER: Duration = Duration::from_secs(600);

/// Reads a history from its beginning, or from a snapshot.
pub type Begin = Arc<dyn Fn(&Stop) -> Result<Reel, FilmError> + Send + Sync>;

/// Why no film can be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotYet {
    /// It is read for the first time.
    Reading,
    Failed(String),
}

/// The source of films.
pub struct Feed {
    shown: Mutex<Option<Arc<Film>>>,
    follow: Option<Follow>,
}

struct Follow {
    begin: Begin,
    following: Mutex<Following>,
    is_reading: AtomicBool,
}

struct Following {
    reel: Option<Reel>,
    asked: Instant,
    looked: Instant,
    took: Duration,
    /// Why the last attempt to read failed. One page shows it; the next question tries again.
    failed: Option<String>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Feed {
    pub fn still(film: Arc<Film>) -> Self {
        Self { shown: Mutex::new(Some(film)), follow: None }
    }

    /// Follows a journal, from the first question on.
    pub fn following(begin: Begin) -> Self {
        let now = Instant::now();
        let following = Following { reel: None, asked: now, looked: now, took: Duration::ZERO, failed: None };
        let follow = Follow { begin, following: Mutex::new(following), is_reading: AtomicBool::new(false) };
        Self { shown: Mutex::default(), follow: Some(follow) }
    }

    /// Follows a journal that was read already.
    #[must_use]
    pub fn begun(self, mut reel: Reel) -> Self {
        if let Some(follow) = &self.follow {
            *locked(&self.shown) = Some(Arc::new(reel.film()));
            locked(&follow.following).reel = Some(reel);
        }
        self
    }

    /// Shows another film from the next page on.
    pub fn show(&self, film: Arc<Film>) {
        *locked(&self.shown) = Some(film);
    }

    /// Returns true if the source may grow.
    pub fn follows(&self) -> bool {
        self.follow.is_some()
    }

    /// Returns the history up to now.
    pub fn film(self: &Arc<Self>) -> Result<Arc<Film>, NotYet> {
        if let Some(follow) = &self.follow {
            let mut following = locked(&follow.following);
            following.asked = Instant::now();
            if following.reel.is_none() {
                let failed = following.failed.take();
                drop(following);
                return Err(match failed {
                    Some(failed) => NotYet::Failed(failed),
                    None => {
                        self.read();
                        NotYet::Reading
                    }
                });
            }
            self.look(&mut following)?;
        }
        locked(&self.shown).clone().ok_or(NotYet::Reading)
    }

    /// Reads the new entries, if it is time to look.
    fn look(&self, following: &mut Following) -> Result<(), NotYet> {
        let pause = (following.took * PAUSE_SHARE).max(PAUSE_MIN);
        let Some(reel) = following.reel.as_mut().filter(|_| following.looked.elapsed() >= pause) else { return Ok(()) };
        let begun = Instant::now();
        match reel.read_on(&Stop::after(LOOK_LIMIT, Arc::default())) {
            Ok(true) => *locked(&self.shown) = Some(Arc::new(reel.film())),
            Ok(false) => {}
            // The next question reads the journal from the beginning.
            Err(error) => {
                following.reel = None;
                *locked(&self.shown) = None;
                return Err(NotYet::Failed(with_causes(&error)));
            }
        }
        (following.looked, following.took) = (Instant::now(), begun.elapsed());
        Ok(())
    }

    /// Reads the journal on a thread, unless a thread reads it already.
    fn read(self: &Arc<Self>) {
        let Some(follow) = &self.follow else { return };
        if follow.is_reading.swap(true, Ordering::AcqRel) {
            return;
        }
        let (feed, begin) = (Arc::clone(self), Arc::clone(&follow.begin));
        let read = move || {
            step_back();
            let read = begin(&Stop::never()).map(|mut reel| (Arc::new(reel.film()), reel));
            let Some(follow) = &feed.follow else { return };
            let mut following = locked(&follow.following);
            match read {
                Ok((film, reel)) => {
                    *locked(&feed.shown) = Some(film);
                    following.reel = Some(reel);
                }
                Err(error) => following.failed = Some(with_causes(&error)),
            }
            follow.is_reading.store(false, Ordering::Release);
        };
        if thread::Builder::new().name("console".to_owned()).spawn(read).is_err() {
            follow.is_reading.store(false, Ordering::Release);
        }
    }

    /// Drops the film and the reel if no page has asked for `REST_AFTER`. Does not wait for the lock: a page that is
    /// being made holds it.
    pub fn rest(&self) {
        let Some(Ok(mut following)) = self.follow.as_ref().map(|follow| follow.following.try_lock()) else { return };
        if following.asked.elapsed() >= REST_AFTER {
            let dropped = (following.reel.take(), locked(&self.shown).take());
            thread::spawn(move || drop(dropped));
        }
    }
}

/// Lowers the priority of this thread below that of the service's threads, on systems that can do so.
pub fn step_back() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::nice(10);
}
