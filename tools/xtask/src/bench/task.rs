//! The task, and its two parts that run in a build for speed.

use crate::{command, setup};

const ALL: &str = "bench-all";
const LIVE: &str = "bench-live";
const BOOKS: &str = "bench-books";
#[cfg(feature = "bench")]
pub(super) const MEMORY: &str = "bench-memory";
#[cfg(feature = "bench")]
pub(super) const BOOKS_MEMORY: &str = "bench-books-memory";

/// Builds the project for speed and measures in that build: a replay, with `live` the service, with `books` many
/// accounts.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    let build = ["run", "--quiet", "--release", "--package", "xtask", "--features", "bench", "--"];
    match args.split_first() {
        Some((first, rest)) if first == "live" => {
            setup::for_tests()?;
            command::run(command::cargo().args(["build", "--quiet", "--release", "--package", "harvester"]))?;
            command::run(command::cargo().args(build).arg(LIVE).args(rest))
        }
        Some((first, rest)) if first == "books" => command::run(command::cargo().args(build).arg(BOOKS).args(rest)),
        _ => command::run(command::cargo().args(build).arg(ALL).args(args)),
    }
}

/// Runs a part of the task. Returns `None` for any other name.
#[cfg(feature = "bench")]
pub fn inner(name: &str, args: &[String]) -> Option<anyhow::Result<()>> {
    match name {
        ALL => Some(super::measure::all(args)),
        LIVE => Some(super::live::all(args)),
        MEMORY => Some(super::memory::child(args)),
        BOOKS => Some(super::books::all(args)),
        BOOKS_MEMORY => Some(super::books::memory_child(args)),
        _ => None,
    }
}

#[cfg(not(feature = "bench"))]
pub fn inner(_: &str, _: &[String]) -> Option<anyhow::Result<()>> {
    None
}
