//! Realized profit over time, one line for each policy.

use std::fmt::Write as _;

use super::position::Size;
use super::scale::{self, Scale};
use super::svg::{Svg, at};
use crate::codec::time;

/// The profit of one policy: its sum after each fill.
#[derive(Clone, Debug)]
pub struct Series {
    pub name: String,
    /// The total, as its document has it.
    pub total: String,
    /// [ms since 1970], [quote]
    pub points: Vec<(u64, f64)>,
}

/// Draws the lines. They differ by colour, dashes and name.
pub fn equity(series: &[Series], (from_ms, to_ms): (u64, u64), size: Size) -> String {
    let (width, height, left, right) = match size {
        Size::Wide => (1120.0, 260.0, 74.0, 150.0),
        Size::Narrow => (380.0, 220.0, 52.0, 76.0),
    };
    let class = if size == Size::Wide { "chart wide" } else { "chart narrow" };
    let totals: Vec<String> = series.iter().map(|of| format!("{} {}", of.name, of.total)).collect();
    let mut svg =
        Svg::new(class, (width, height), &format!("realized profit over time [quote]: {}", totals.join(", ")));
    let (top, bottom, end) = (20.0, height - 26.0, width - right);
    let values = series.iter().flat_map(|of| of.points.iter().map(|(_, value)| *value)).chain([0.0]);
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    let margin = ((high - low) * 0.08).max(0.01);
    let y = Scale::new((low - margin, high + margin), (bottom, top));
    // Before the first fill there is nothing to see.
    let first_ms = series.iter().filter_map(|of| Some(of.points.first()?.0)).min().unwrap_or(from_ms);
    let from_ms = first_ms.saturating_sub(to_ms.saturating_sub(first_ms) / 12).max(from_ms);
    let to_ms = to_ms.max(from_ms + 1000);
    let x = Scale::new((0.0, (to_ms - from_ms) as f64), (left, end));
    let (ticks, places) = scale::ticks((y.from, y.to), 5);
    for tick in ticks {
        svg.line("grid", (left, y.at(tick)), (end, y.at(tick)));
        svg.text("label", (left - 6.0, y.at(tick) + 4.0), "end", &format!("{tick:.places$}"));
    }
    svg.text("label unit", (left - 6.0, top - 8.0), "end", "quote");
    let (times, are_days) = scale::times((from_ms, to_ms), if size == Size::Wide { 8 } else { 3 });
    for ms in times {
        let place = x.at(ms.saturating_sub(from_ms) as f64);
        let iso = time::iso(ms);
        let text = if are_days { iso.get(0..10) } else { iso.get(11..19) };
        svg.line("grid", (place, top), (place, bottom));
        svg.text("label", (place, bottom + 15.0), "middle", text.unwrap_or(&iso));
    }
    svg.line("axis", (left, y.at(0.0)), (end, y.at(0.0)));
    let mut last_label = f64::NEG_INFINITY;
    let mut ends: Vec<(f64, usize)> = Vec::new();
    for (place, of) in series.iter().enumerate() {
        let mut d = format!("M{} {}", at(left), at(y.at(0.0)));
        for (ms, value) in &of.points {
            let _ = write!(d, "H{}V{}", at(x.at(ms.saturating_sub(from_ms) as f64)), at(y.at(*value)));
        }
        let _ = write!(d, "H{}", at(end));
        svg.path(if place == 0 { "equity first" } else { "equity second" }, &d, &format!("{} {}", of.name, of.total));
        ends.push((of.points.last().map_or(y.at(0.0), |(_, value)| y.at(*value)), place));
    }
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    for (end_y, place) in ends {
        let label_y = (end_y + 4.0).max(last_label + 15.0);
        last_label = label_y;
        let of = &series[place];
        let class = if place == 0 { "label equity-first" } else { "label equity-second" };
        svg.text(
            class,
            (end + 6.0, label_y),
            "start",
            &format!("{} {}", of.name, crate::console::format::short(&of.total)),
        );
    }
    svg.finish()
}
