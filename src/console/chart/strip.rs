//! The whole history as a strip: the number of entries over time, the times of decisions, and the moment that is shown.

use super::scale::Scale;
use super::svg::{Svg, at};
use crate::codec::plural::plural;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 28.0;

/// Draws the strip. `parts` are the entries in equal parts of the time. [ms since 1970]
pub fn strip(parts: &[u32], (from_ms, to_ms): (u64, u64), decided_ms: &[u64], shown_ms: u64) -> String {
    let most = parts.iter().copied().max().unwrap_or(0).max(1);
    let label = format!("entries over time, with {}", plural(decided_ms.len(), "decision"));
    let mut svg = Svg::new("strip", (WIDTH, HEIGHT), &label);
    let width = WIDTH / parts.len().max(1) as f64;
    let mut d = format!("M0 {HEIGHT}");
    for (place, count) in parts.iter().enumerate() {
        // The square root keeps times with few entries visible beside times with many.
        let share = (f64::from(*count) / f64::from(most)).sqrt();
        let y = HEIGHT - share * (HEIGHT - 9.0);
        let x = place as f64 * width;
        d.push_str(&format!("L{} {}L{} {}", at(x), at(y), at(x + width), at(y)));
    }
    d.push_str(&format!("L{WIDTH} {HEIGHT}Z"));
    svg.path("density", &d, "");
    let scale = Scale::new((0.0, to_ms.saturating_sub(from_ms) as f64), (0.0, WIDTH));
    let x = |ms: u64| scale.at(ms.saturating_sub(from_ms) as f64);
    let mut last = f64::NEG_INFINITY;
    for ms in decided_ms {
        let place = x(*ms);
        if place - last >= 1.0 {
            svg.line("decided", (place, 0.0), (place, 7.0));
            last = place;
        }
    }
    svg.line("shown", (x(shown_ms), 0.0), (x(shown_ms), HEIGHT));
    svg.finish().replacen("<svg ", "<svg preserveAspectRatio=\"none\" ", 1)
}
