//! The life of a position: price and R on two axes, entry and rungs as lines, fills and decisions as marks. Bands show
//! the times in which something kept it from being evaluated as usual. Below is a lane for each hold.

use std::fmt::Write as _;

use rust_decimal::prelude::ToPrimitive as _;

use super::rungs::is_taken;
use super::scale::{self, Scale};
use super::svg::{Svg, at};
use crate::codec::time;
use crate::console::format;
use crate::drive::life::{HoldPoint, Obstacle, PricePoint, thinned};

/// A rung as a line.
#[derive(Clone, Debug)]
pub struct RungLine {
    pub r_text: String,
    pub price: f64,
    pub price_text: String,
    pub state: String,
}

/// The lines of the last entry price and risk, and the numbers that R is computed from.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// The entry price: number and text.
    pub entry: Option<(f64, String)>,
    /// Risk per unit and cost per unit. If they are missing, the chart has no axis of R. [quote per base]
    pub risk: Option<(f64, f64)>,
    pub is_short: bool,
    pub rungs: Vec<RungLine>,
    /// The time since which entry and risk are as the lines show them. Earlier the lines were elsewhere. [ms since 1970]
    pub since_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkKind {
    Decision,
    Buy,
    Sell,
    /// A quantity that came from the exchange, without an order of ours.
    Adopted,
}

/// An event at a time.
#[derive(Clone, Debug)]
pub struct Mark {
    pub kind: MarkKind,
    /// [ms since 1970]
    pub ms: u64,
    pub price: Option<f64>,
    pub title: String,
    pub href: String,
}

/// Everything that the chart shows.
pub struct PositionChart<'a> {
    pub label: String,
    pub prices: &'a [PricePoint],
    /// [ms since 1970]
    pub range_ms: (u64, u64),
    pub lines: Lines,
    pub marks: Vec<Mark>,
    pub obstacles: &'a [Obstacle],
    pub holds: &'a [HoldPoint],
}

/// The space of a chart. Text has the same size in both: a narrow page gets a narrow chart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Wide,
    Narrow,
}

/// Lanes for holds; further ones share the last. [1]
const LANES_MAX: usize = 8;
const LANE_HEIGHT: f64 = 26.0;
/// Height of a name below a narrow chart. [units of the drawing]
const LIST_STEP: f64 = 17.0;
/// A rung that is further away than this share of the range of prices is named at the edge and not drawn. [1]
const FAR: f64 = 1.5;

/// Width of a letter of a label, bold ones included. [units of the drawing]
const LETTER: f64 = 7.8;

struct Area {
    x: Scale,
    y: Scale,
    left: f64,
    /// The x coordinate at which the time ends. The names of the lines are to the right of it.
    end: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

/// Draws the chart.
pub fn draw(chart: &PositionChart<'_>, size: Size) -> String {
    let (width, plot_height, left_margin, right_margin) = match size {
        Size::Wide => (1120.0, 320.0, 74.0, 58.0),
        Size::Narrow => (380.0, 240.0, 58.0, 34.0),
    };
    let lanes = lanes(chart.holds);
    let top = 20.0;
    let bottom = top + plot_height;
    let list_top = bottom + 26.0 + LANE_HEIGHT * lanes.len() as f64 + 4.0;
    let (from_ms, to_ms) = (chart.range_ms.0, chart.range_ms.1.max(chart.range_ms.0 + 1000));
    let range = range(chart);
    let (low, high) = range.unwrap_or((0.0, 1.0));
    // Both axes reserve as much room for their values as the longest of them needs.
    let axis = range.map_or_else(Axes::default, |range| Axes::of(chart, range, size));
    let room = |values: &[(f64, String)], least: f64| {
        values.iter().map(|(_, text)| 11.0 + LETTER * text.chars().count() as f64).fold(least, f64::max)
    };
    let (left, right) = (room(&axis.prices, left_margin), width - room(&axis.r, right_margin));
    let names = names(chart, (low, high));
    let list = if size == Size::Wide { Vec::new() } else { listed(chart, (low, high)) };
    let height = list_top + LIST_STEP * list.len() as f64;
    let longest = names.iter().map(|name| name.text.chars().count()).max().unwrap_or(0);
    let end = if size == Size::Wide { right - 8.0 - LETTER * longest as f64 } else { right };
    let area = Area {
        x: Scale::new((0.0, (to_ms - from_ms) as f64), (left, end)),
        y: Scale::new((low, high), (bottom, top)),
        left,
        end,
        right,
        top,
        bottom,
    };
    let class = match size {
        Size::Wide => "chart wide",
        Size::Narrow => "chart narrow",
    };
    let mut svg = Svg::with_links(class, (width, height), &chart.label);
    let x = |ms: u64| area.x.at(ms.clamp(from_ms, to_ms).saturating_sub(from_ms) as f64);
    obstacles(&mut svg, chart, &area, x);
    axes(&mut svg, &axis, &area, (from_ms, to_ms), size);
    if !chart.prices.is_empty() {
        let columns = (end - left) as usize;
        svg.path("price", &price_path(&thinned(chart.prices, columns / 4), &area, x, to_ms), "");
    }
    lines(&mut svg, &names, &area, x(chart.lines.since_ms), size);
    if size == Size::Wide {
        far_rungs(&mut svg, chart, &area);
    }
    for (place, name) in list.iter().enumerate() {
        let y = list_top + LIST_STEP * (place as f64 + 0.5);
        svg.line(name.line, (left, y), (left + 24.0, y));
        svg.titled_text(name.label, (left + 32.0, y + 4.0), "start", &name.text, &name.title);
    }
    if chart.prices.is_empty() {
        // The entry price may be in the middle.
        svg.text("label none", (f64::midpoint(left, end), top + 24.0), "middle", "no price was seen");
    }
    marks(&mut svg, chart, &area, x);
    hold_lanes(&mut svg, chart, &lanes, &area, x, (from_ms, to_ms));
    svg.finish()
}

/// Returns the range of prices: all prices, the entry, and the rungs that are not far away; `None` if there is nothing
/// with a price.
fn range(chart: &PositionChart<'_>) -> Option<(f64, f64)> {
    let prices = chart.prices.iter().filter_map(|point| point.price.to_f64());
    let entry = chart.lines.entry.as_ref().map(|(price, _)| *price);
    let marks = chart.marks.iter().filter_map(|mark| mark.price);
    let all = prices.chain(entry).chain(marks);
    let (mut low, mut high) = all.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), p| (low.min(p), high.max(p)));
    if low > high {
        let rungs = chart.lines.rungs.iter().map(|rung| rung.price);
        (low, high) = rungs.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), p| (low.min(p), high.max(p)));
    }
    if low > high {
        return None;
    }
    let reach = (high - low).max(high.abs() * 0.002) * FAR;
    let near = chart.lines.rungs.iter().map(|rung| rung.price).filter(|p| *p <= high + reach && *p >= low - reach);
    let near: Vec<f64> = near.collect();
    for price in near {
        (low, high) = (low.min(price), high.max(price));
    }
    let margin = ((high - low) * 0.07).max(high.abs() * 0.0005);
    Some((low - margin, high + margin))
}

fn price_path(prices: &[PricePoint], area: &Area, x: impl Fn(u64) -> f64, to_ms: u64) -> String {
    let mut d = String::new();
    for point in prices {
        let Some(price) = point.price.to_f64() else { continue };
        let (x, y) = (at(x(point.ms)), at(area.y.at(price)));
        // A price counts until the next one: the line is a staircase.
        let _ = if d.is_empty() { write!(d, "M{x} {y}") } else { write!(d, "H{x}V{y}") };
    }
    let _ = write!(d, "H{}", at(x(to_ms)));
    d
}

fn obstacles(svg: &mut Svg, chart: &PositionChart<'_>, area: &Area, x: impl Fn(u64) -> f64) {
    for obstacle in chart.obstacles {
        let (from, to) = (x(obstacle.from_ms), x(obstacle.until_ms).max(x(obstacle.from_ms) + 2.0));
        let title =
            format!("{} from {} to {}", obstacle.what, time::iso(obstacle.from_ms), time::iso(obstacle.until_ms));
        svg.rect("band", (from, area.top), (to - from, area.bottom - area.top), &title);
        svg.text("label band", (from + 3.0, area.top - 6.0), "start", obstacle.what);
    }
}

/// The values that the axes of price and R name, each with its text.
#[derive(Default)]
struct Axes {
    prices: Vec<(f64, String)>,
    /// By price.
    r: Vec<(f64, String)>,
}

impl Axes {
    fn of(chart: &PositionChart<'_>, (low, high): (f64, f64), size: Size) -> Self {
        let rows = if size == Size::Wide { 6 } else { 5 };
        let (prices, places) = scale::ticks((low, high), rows);
        let prices = prices.into_iter().map(|price| (price, format!("{price:.places$}"))).collect();
        let mut r = Vec::new();
        if let (Some((entry, _)), Some((risk, cost))) = (&chart.lines.entry, chart.lines.risk) {
            let sign = if chart.lines.is_short { -1.0 } else { 1.0 };
            let r_of = |price: f64| (sign * (price - entry) - cost) / risk;
            let price_of = |r: f64| entry + sign * (r * risk + cost);
            let (a, b) = (r_of(low), r_of(high));
            let (values, places) = scale::ticks((a.min(b), a.max(b)), rows);
            r.extend(values.into_iter().map(|r| (price_of(r), format!("{r:.places$}"))));
        }
        Self { prices, r }
    }
}

fn axes(svg: &mut Svg, axis: &Axes, area: &Area, range_ms: (u64, u64), size: Size) {
    for (price, text) in &axis.prices {
        let y = area.y.at(*price);
        svg.line("grid", (area.left, y), (area.right, y));
        svg.text("label", (area.left - 6.0, y + 4.0), "end", text);
    }
    for (price, text) in &axis.r {
        let y = area.y.at(*price);
        svg.line("tick", (area.right, y), (area.right + 4.0, y));
        svg.text("label", (area.right + 7.0, y + 4.0), "start", text);
    }
    if !axis.r.is_empty() {
        svg.text("label unit", (area.right + 7.0, area.top - 6.0), "start", "R");
    }
    if !axis.prices.is_empty() {
        svg.text("label unit", (area.left - 6.0, area.top - 6.0), "end", "price");
    }
    let (times, are_days) = scale::times(range_ms, if size == Size::Wide { 9 } else { 3 });
    for ms in times {
        let x = area.x.at(ms.saturating_sub(range_ms.0) as f64);
        let iso = time::iso(ms);
        let text = if are_days { iso.get(0..10) } else { iso.get(11..if ms % 60_000 == 0 { 16 } else { 19 }) };
        svg.line("grid", (x, area.top), (x, area.bottom));
        svg.text("label", (x, area.bottom + 15.0), "middle", text.unwrap_or(&iso));
    }
    svg.line("axis", (area.left, area.bottom), (area.right, area.bottom));
}

/// A line across the chart: the entry price, or a rung that is not far away.
struct Named {
    price: f64,
    text: String,
    /// The same with all digits.
    title: String,
    line: &'static str,
    label: &'static str,
}

/// Returns a rung as text, with a sign for its state.
fn rung_text(rung: &RungLine) -> String {
    rung_with(rung, &format::name(&rung.price_text))
}

fn rung_with(rung: &RungLine, price: &str) -> String {
    format!("{} {} R  {price}", if is_taken(&rung.state) { "●" } else { "○" }, rung.r_text)
}

/// Returns the entry price and all rungs, as a narrow chart lists them below.
fn listed(chart: &PositionChart<'_>, (low, high): (f64, f64)) -> Vec<Named> {
    let mut list = names(chart, (f64::NEG_INFINITY, f64::INFINITY));
    for name in &mut list {
        let arrow = if name.price > high {
            "↑ "
        } else if name.price < low {
            "↓ "
        } else {
            ""
        };
        name.text.insert_str(0, arrow);
        name.title.insert_str(0, arrow);
    }
    list
}

fn names(chart: &PositionChart<'_>, (low, high): (f64, f64)) -> Vec<Named> {
    let entry = chart.lines.entry.iter().map(|(price, text)| Named {
        price: *price,
        text: format!("entry {}", format::name(text)),
        title: format!("entry {text}"),
        line: "entry",
        label: "label entry",
    });
    let near = chart.lines.rungs.iter().filter(|rung| (low..=high).contains(&rung.price));
    let rungs = near.map(|rung| {
        let taken = is_taken(&rung.state);
        Named {
            price: rung.price,
            text: format!("{}  {}", rung_text(rung), rung.state),
            title: format!("{}  {}", rung_with(rung, &rung.price_text), rung.state),
            line: if taken { "rung taken" } else { "rung" },
            label: if taken { "label rung taken" } else { "label rung" },
        }
    });
    entry.chain(rungs).collect()
}

/// Draws entry and rungs from a coordinate on, in a wide chart each with its price. Labels that would cover each other
/// move apart. A narrow chart lists them below, where they cover nothing.
fn lines(svg: &mut Svg, names: &[Named], area: &Area, from: f64, size: Size) {
    let mut labels: Vec<(f64, &Named)> = names.iter().map(|name| (area.y.at(name.price), name)).collect();
    for (y, name) in &labels {
        svg.line(name.line, (from, *y), (area.right, *y));
    }
    if size == Size::Narrow {
        return;
    }
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut last, step) = (f64::NEG_INFINITY, 13.0);
    for (y, name) in labels {
        let y = (y - 4.0).max(last + step).max(area.top + 10.0);
        last = y;
        svg.titled_text(name.label, (area.right - 4.0, y), "end", &name.text, &name.title);
    }
}

fn far_rungs(svg: &mut Svg, chart: &PositionChart<'_>, area: &Area) {
    let far_ones = chart.lines.rungs.iter().filter(|rung| !area.y.contains(rung.price));
    let (above, below): (Vec<&RungLine>, Vec<&RungLine>) = far_ones.partition(|rung| rung.price > area.y.to);
    let texts = |rungs: Vec<&RungLine>| rungs.into_iter().map(rung_text).collect::<Vec<_>>();
    far(svg, "↑", &texts(above), (area.right - 4.0, area.top - 6.0));
    far(svg, "↓", &texts(below), (area.right - 4.0, area.bottom - 6.0));
}

/// Names the rungs that are far away in one line at the edge.
fn far(svg: &mut Svg, arrow: &str, rungs: &[String], place: (f64, f64)) {
    if !rungs.is_empty() {
        svg.text("label rung", place, "end", &format!("{arrow} {}", rungs.join(", ").replace("  ", " ")));
    }
}

fn marks(svg: &mut Svg, chart: &PositionChart<'_>, area: &Area, x: impl Fn(u64) -> f64) {
    for mark in &chart.marks {
        let x = x(mark.ms);
        let y = mark.price.map_or(area.bottom - 8.0, |price| area.y.at(price).clamp(area.top, area.bottom));
        svg.begin_link(&mark.href, &mark.title);
        match mark.kind {
            MarkKind::Decision => {
                svg.line("decided", (x, area.top), (x, area.bottom));
                let d = format!("M{} {}l7 7l-7 7l-7 -7Z", at(x), at(y - 7.0));
                svg.path("mark decision", &d, &mark.title);
            }
            MarkKind::Buy => {
                let d = format!("M{} {}l7 12h-14Z", at(x), at(y - 7.0));
                svg.path("mark buy", &d, &mark.title);
            }
            MarkKind::Sell => {
                let d = format!("M{} {}l7 -12h-14Z", at(x), at(y + 7.0));
                svg.path("mark sell", &d, &mark.title);
            }
            MarkKind::Adopted => {
                svg.rect("mark adopted", (x - 5.0, y - 5.0), (10.0, 10.0), &mark.title);
            }
        }
        svg.end_link();
    }
}

/// Returns the holds in the order in which each one first came.
fn lanes(holds: &[HoldPoint]) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for hold in holds.iter().filter_map(|point| point.hold) {
        if !names.contains(&hold) {
            names.push(hold);
        }
    }
    if names.len() > LANES_MAX {
        names.truncate(LANES_MAX - 1);
        names.push("others");
    }
    names
}

fn hold_lanes(
    svg: &mut Svg,
    chart: &PositionChart<'_>,
    lanes: &[&'static str],
    area: &Area,
    x: impl Fn(u64) -> f64,
    (from_ms, to_ms): (u64, u64),
) {
    let lane_of = |hold: &str| lanes.iter().position(|name| *name == hold).unwrap_or(lanes.len().saturating_sub(1));
    let top = area.bottom + 26.0;
    for (place, name) in lanes.iter().enumerate() {
        let y = top + LANE_HEIGHT * place as f64;
        svg.line("lane", (area.left, y + 20.0), (area.end, y + 20.0));
        svg.text("label lane", (area.left, y + 10.0), "start", name);
    }
    let ends = chart.holds.iter().skip(1).map(|point| point.since.ms).chain([to_ms]);
    for (point, end_ms) in chart.holds.iter().zip(ends) {
        let Some(hold) = point.hold else { continue };
        let y = top + LANE_HEIGHT * lane_of(hold) as f64;
        let from = x(point.since.ms.max(from_ms));
        let span = time::span(end_ms.saturating_sub(point.since.ms));
        let title = format!("{hold} for {span}, from {}", time::iso(point.since.ms));
        svg.rect("hold", (from, y + 14.0), ((x(end_ms) - from).max(1.5), 7.0), &title);
    }
    for point in chart.holds.iter().filter(|point| point.is_decided) {
        let x = x(point.since.ms);
        svg.line("decided", (x, top), (x, top + LANE_HEIGHT * lanes.len() as f64));
    }
}
