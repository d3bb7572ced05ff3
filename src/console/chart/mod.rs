//! Charts as SVG.
//!
//! They are drawn here and not by a library. The candidate `plotters` writes colours into each element, and has no
//! classes, links or titles. These charts follow the light or dark style of the page, each mark links to its entry, and
//! the text of the page contains the numbers.
//!
//! In reading order: `svg` (text that is escaped), `scale`, `position`, `equity` (profits of
//! policies), `rungs` (R as a bar), `strip` (the history), `file` (a chart as a file of its own), `png`.

mod equity;
mod file;
#[cfg(feature = "png")]
mod png;
mod position;
mod rungs;
mod scale;
mod strip;
mod svg;

pub use equity::{Series, equity};
pub use file::alone;
#[cfg(feature = "png")]
pub use png::{PngError, png};
pub use position::{Lines, Mark, MarkKind, PositionChart, RungLine, Size, draw};
pub use rungs::{Tick, bar};
pub use strip::strip;
pub use svg::escaped;
