//! R as a bar, with the rungs of the ladder as ticks.

use super::scale::Scale;
use super::svg::{Svg, at};

const WIDTH: f64 = 132.0;
const HEIGHT: f64 = 20.0;
/// The left end of the bar. [R]
const LEAST: f64 = -1.0;

/// A rung as a tick.
#[derive(Clone, Debug)]
pub struct Tick {
    /// [R]
    pub r: f64,
    pub text: String,
    pub state: String,
}

impl Tick {
    pub fn is_taken(&self) -> bool {
        is_taken(&self.state)
    }
}

/// Returns true if a rung in this state has a decision that counts.
pub(super) fn is_taken(state: &str) -> bool {
    !matches!(state, "armed" | "not taken" | "refused" | "failed")
}

/// Draws R. `None` draws the ladder alone, with a dashed base: R is not known.
pub fn bar(r: Option<(f64, &str)>, ticks: &[Tick]) -> String {
    let highest = ticks.iter().map(|tick| tick.r).fold(1.0, f64::max) * 1.12;
    let scale = Scale::new((LEAST, highest), (4.0, WIDTH - 4.0));
    let rungs: Vec<String> = ticks.iter().map(|tick| format!("{} {}", tick.text, tick.state)).collect();
    let label = match r {
        Some((_, text)) => format!("{text} R; rungs {}", rungs.join(", ")),
        None => format!("R is not known; rungs {}", rungs.join(", ")),
    };
    let mut svg = Svg::new("rbar", (WIDTH, HEIGHT), &label);
    let middle = HEIGHT / 2.0;
    svg.line(if r.is_some() { "base" } else { "base unknown" }, (4.0, middle), (WIDTH - 4.0, middle));
    let zero = scale.at(0.0);
    if let Some((value, _)) = r {
        let end = scale.at(value.clamp(scale.from, scale.to));
        let (class, from, to) = if value < 0.0 { ("loss", end, zero) } else { ("gain", zero, end) };
        svg.rect(class, (from, middle - 3.5), (to - from, 7.0), "");
        if value > scale.to || value < scale.from {
            let (tip, back) = if value > scale.to { (WIDTH, WIDTH - 5.0) } else { (0.0, 5.0) };
            let d = format!(
                "M{} {}L{} {}L{} {}Z",
                at(tip),
                at(middle),
                at(back),
                at(middle - 5.0),
                at(back),
                at(middle + 5.0)
            );
            svg.path(class, &d, "");
        }
    }
    svg.line("zero", (zero, 2.0), (zero, HEIGHT - 2.0));
    for tick in ticks {
        let x = scale.at(tick.r);
        let class = if tick.is_taken() { "rung taken" } else { "rung" };
        svg.line(class, (x, middle - 6.0), (x, middle + 6.0));
        // A shape in addition to the colour: a taken rung has a dot on its tick.
        if tick.is_taken() {
            svg.circle("rung taken", (x, middle - 6.5), 2.4, "");
        }
    }
    svg.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_its_numbers_and_shows_taken_rungs_by_shape() {
        let tick = |text: &str, state: &str| Tick {
            r: text.parse().expect("a number"),
            text: text.to_owned(),
            state: state.to_owned(),
        };
        let ticks = [tick("0.5", "shadowed"), tick("1", "armed")];
        let drawn = bar(Some((0.566_667, "0.566667")), &ticks);
        assert!(drawn.contains("aria-label=\"0.566667 R; rungs 0.5 shadowed, 1 armed\""), "{drawn}");
        assert_eq!(drawn.matches("<circle class=\"rung taken\"").count(), 1);
        assert!(bar(None, &ticks).contains("R is not known"));
        assert!(bar(Some((9.0, "9")), &ticks).contains("<path class=\"gain\""), "beyond the ladder is an arrow");
    }
}
