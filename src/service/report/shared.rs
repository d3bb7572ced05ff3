//! The handle through which `run` publishes its report. It is the only file of the report that reads a clock.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::histogram::Histogram;

use super::facts::{Rates, Report};

/// The period of the rates.
const RATE_WINDOW: Duration = Duration::from_secs(10);
/// The time between two samples of that period.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Upper bounds of the latency histograms: a price takes about half a millisecond, a commit a few milliseconds. [s]
const LATENCY_BOUNDS: [f64; 14] =
    [0.0002, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The report that all threads share, with the latencies, which are recorded as they are measured.
#[derive(Clone, Debug)]
pub struct SharedReport {
    /// One write of the journal, until it is on disk. [s]
    pub commit_seconds: Histogram,
    /// One decision through the emission script. [s]
    pub emit_seconds: Histogram,
    /// From the entry that caused a decision to the decision in the output stream, by ids. [s]
    pub price_to_decision_seconds: Histogram,
    state: Arc<Mutex<ReportState>>,
}

#[derive(Debug)]
struct ReportState {
    report: Report,
    began: Instant,
    published: Instant,
    /// The time when the cursor last moved, or when the streams last had nothing to read.
    progressed: Instant,
    samples: VecDeque<Sample>,
}

/// Counters at a time.
#[derive(Clone, Copy, Debug)]
struct Sample {
    at: Instant,
    added: Option<u64>,
    applied: u64,
    emitted: u64,
}

impl SharedReport {
    /// Creates a handle with the values that are known before anything is read: names, build, configuration.
    pub fn new(report: Report) -> Self {
        let now = Instant::now();
        let latency = || Histogram::new(LATENCY_BOUNDS);
        let state = ReportState { report, began: now, published: now, progressed: now, samples: VecDeque::new() };
        Self {
            commit_seconds: latency(),
            emit_seconds: latency(),
            price_to_decision_seconds: latency(),
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Changes the report after a commit or every second, and notes whether that is progress.
    pub fn publish(&self, change: impl FnOnce(&mut Report)) {
        self.publish_at(Instant::now(), change);
    }

    /// Returns the report with the present ages.
    pub fn read(&self) -> Report {
        self.read_at(Instant::now())
    }

    fn publish_at(&self, now: Instant, change: impl FnOnce(&mut Report)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, surveys) = (state.report.progress(), state.report.redis.surveys);
        change(&mut state.report);
        // "Nothing to read" counts as progress only after new statistics of the server.
        let is_idle = state.report.is_idle() && state.report.redis.surveys != surveys;
        if state.report.progress() != before || is_idle {
            state.progressed = now;
        }
        state.published = now;
        state.sample(now);
    }

    fn read_at(&self, now: Instant) -> Report {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut report = state.report.clone();
        let published_age = now.saturating_duration_since(state.published);
        report.uptime_ms = milliseconds(now.saturating_duration_since(state.began));
        report.published_age_ms = milliseconds(published_age);
        report.progress_age_ms = milliseconds(now.saturating_duration_since(state.progressed));
        report.rates = state.rates();
        // Ages have grown since the report was published.
        for input in &mut report.inputs {
            input.age_ms = input.age_ms.map(|age| age.saturating_add(report.published_age_ms));
            input.watched_ms = report.uptime_ms;
        }
        report
    }
}

impl ReportState {
    fn sample(&mut self, now: Instant) {
        if self.samples.back().is_some_and(|last| now.saturating_duration_since(last.at) < SAMPLE_INTERVAL) {
            return;
        }
        // One sample from before the window is kept, so that the samples cover the whole window.
        while self.samples.get(1).is_some_and(|second| now.saturating_duration_since(second.at) >= RATE_WINDOW) {
            self.samples.pop_front();
        }
        let added = self.report.inputs.iter().map(|input| input.entries_added).sum();
        let totals = &self.report.totals;
        self.samples.push_back(Sample { at: now, added, applied: totals.applied, emitted: totals.emitted });
    }

    fn rates(&self) -> Rates {
        let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) else { return Rates::default() };
        let seconds = last.at.saturating_duration_since(first.at).as_secs_f64();
        if seconds <= 0.0 {
            return Rates { added: last.added.map(|_| 0.0), ..Rates::default() };
        }
        let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / seconds;
        Rates {
            added: first.added.zip(last.added).map(|(from, to)| rate(from, to)),
            applied: rate(first.applied, last.applied),
            emitted: rate(first.emitted, last.emitted),
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::{InputReport, STUCK_AFTER_MS, alive};
    use super::*;

    fn at(began: Instant, ms: u64) -> Instant {
        began + Duration::from_millis(ms)
    }

    fn leading() -> (SharedReport, Instant) {
        let shared = SharedReport::new(Report::default());
        let began = Instant::now();
        shared.publish_at(began, |report| {
            report.role = super::super::Role::Leader;
            report.redis.connected = true;
            report.inputs = vec![InputReport { lag_entries: Some(3), ..InputReport::default() }];
        });
        (shared, began)
    }

    /// Incidents 12 and 15: a unit that is "active" and reads nothing, although there are entries to read.
    #[test]
    fn i15_a_cursor_that_stands_before_a_backlog_is_not_alive() {
        let (shared, began) = leading();
        let late = at(began, STUCK_AFTER_MS + 1000);
        shared.publish_at(late, |_| {});
        assert!(!alive(&shared.read_at(late)).ok, "it speaks, but does not read");
        shared.publish_at(late, |report| report.inputs[0].cursor = Some("5-0".to_owned()));
        assert!(alive(&shared.read_at(late)).ok, "the cursor moved");
    }

    #[test]
    fn nothing_to_read_is_progress() {
        let (shared, began) = leading();
        let late = at(began, STUCK_AFTER_MS + 1000);
        shared.publish_at(late, |report| {
            report.inputs[0].lag_entries = Some(0);
            report.redis.surveys += 1;
        });
        assert!(alive(&shared.read_at(late)).ok);
        let later = at(late, STUCK_AFTER_MS + 1000);
        assert_eq!(alive(&shared.read_at(later)).reasons[0].name, "not_speaking", "a loop that hangs is not idle");
    }

    /// Incident 12: the read was lost, and the known statistics of the streams did not change.
    #[test]
    fn i12_a_lag_of_zero_that_nobody_asked_for_again_is_no_progress() {
        let (shared, began) = leading();
        shared.publish_at(began, |report| {
            report.inputs[0].lag_entries = Some(0);
            report.redis.surveys += 1;
        });
        let late = at(began, STUCK_AFTER_MS + 1000);
        shared.publish_at(late, |_| {});
        assert_eq!(alive(&shared.read_at(late)).reasons[0].name, "cursor_standing");
    }

    #[test]
    fn rates_are_taken_over_the_last_seconds() {
        let (shared, began) = leading();
        for second in 1..=30 {
            shared.publish_at(at(began, second * 1000), |report| {
                report.inputs[0].entries_added = Some(second * 50);
                report.totals.applied = second * 20;
                report.totals.emitted = second / 30;
            });
        }
        let rates = shared.read_at(at(began, 30_000)).rates;
        assert_eq!((rates.added, rates.applied, rates.emitted), (Some(50.0), 20.0, 0.1));
    }

    #[test]
    fn ages_grow_while_nothing_is_published() {
        let (shared, began) = leading();
        shared.publish_at(at(began, 1000), |report| report.inputs[0].age_ms = Some(400));
        let report = shared.read_at(at(began, 4000));
        assert_eq!(
            (report.inputs[0].age_ms, report.published_age_ms, report.uptime_ms >= 4000),
            (Some(3400), 3000, true)
        );
    }
}
