//! Scales: coordinates of values, and the values that an axis names.

/// A linear scale.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub from: f64,
    pub to: f64,
    pub at_from: f64,
    pub at_to: f64,
}

impl Scale {
    /// Creates a scale. Equal ends are moved apart, so that every value has a coordinate.
    pub fn new((from, to): (f64, f64), (at_from, at_to): (f64, f64)) -> Self {
        let apart = (from.abs() * 0.001).max(f64::MIN_POSITIVE);
        let (from, to) = if to > from { (from, to) } else { (from - apart, to + apart) };
        Self { from, to, at_from, at_to }
    }

    pub fn at(&self, value: f64) -> f64 {
        self.at_from + (value - self.from) / (self.to - self.from) * (self.at_to - self.at_from)
    }

    pub fn contains(&self, value: f64) -> bool {
        (self.from..=self.to).contains(&value)
    }
}

/// Returns round values within a range, about `count` of them, and the number of their decimal places.
pub fn ticks((from, to): (f64, f64), count: u32) -> (Vec<f64>, usize) {
    let span = to - from;
    if !span.is_finite() || span <= 0.0 || count == 0 {
        return (Vec::new(), 0);
    }
    let rough = span / f64::from(count);
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let places = (-step.log10().floor()).max(0.0);
    let mut ticks = Vec::new();
    let mut number = (from / step).ceil();
    while number * step <= to && ticks.len() < 100 {
        // Adding zero turns a negative zero into zero.
        ticks.push(number * step + 0.0);
        number += 1.0;
    }
    // A step of at least 1e-12 has few places; others do not occur in prices.
    (ticks, if places <= 12.0 { places as usize } else { 12 })
}

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// Distances of times on an axis. [ms]
const TIME_STEPS: [u64; 22] = [
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    MINUTE,
    2 * MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    15 * MINUTE,
    30 * MINUTE,
    HOUR,
    2 * HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
    DAY,
    2 * DAY,
    7 * DAY,
    30 * DAY,
    365 * DAY,
];

/// Returns round times within a range, at most `count` of them, and true if they are whole days. [ms since 1970]
pub fn times((from, to): (u64, u64), count: u64) -> (Vec<u64>, bool) {
    let span = to.saturating_sub(from);
    let step = TIME_STEPS.into_iter().find(|step| span / step <= count).unwrap_or(span.max(1));
    let first = from.div_ceil(step).saturating_mul(step);
    let times = (0..=count).map(|n| first.saturating_add(n * step)).take_while(|time| *time <= to);
    (times.collect(), step >= DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_names_round_values_inside_its_range() {
        let (values, places) = ticks((2998.2, 3041.7), 5);
        assert_eq!((values, places), (vec![3000.0, 3010.0, 3020.0, 3030.0, 3040.0], 0));
        let (values, places) = ticks((0.0634, 0.0752), 4);
        assert_eq!((values.len(), places), (3, 3), "0.065, 0.07, 0.075");
        assert_eq!(ticks((1.0, 1.0), 4).0, Vec::<f64>::new());
        // 02:05:00 to 02:10:58.
        let from = 1_770_170_700_000;
        let (times_, days) = times((from, from + 358_000), 6);
        assert_eq!((times_.len(), times_[0], days), (6, from, false));
        assert_eq!(times((0, 0), 6).0, [0]);
    }

    #[test]
    fn a_scale_without_extent_still_has_a_middle() {
        let scale = Scale::new((5.0, 5.0), (0.0, 100.0));
        assert!((scale.at(5.0) - 50.0).abs() < 1e-6);
    }
}
