//! The task, and the two parts of it that run in a build for speed.

use crate::command;

const ALL: &str = "bench-all";
#[cfg(feature = "bench")]
pub(super) const MEMORY: &str = "bench-memory";

/// Builds the project for speed and measures in that build.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    let build = ["run", "--quiet", "--release", "--package", "xtask", "--features", "bench", "--", ALL];
    command::run(command::cargo().args(build).args(args))
}

/// The parts of the task; `None` for any other name.
#[cfg(feature = "bench")]
pub fn inner(name: &str, args: &[String]) -> Option<anyhow::Result<()>> {
    match name {
        ALL => Some(super::measure::all(args)),
        MEMORY => Some(super::memory::child(args)),
        _ => None,
    }
}

#[cfg(not(feature = "bench"))]
pub fn inner(_: &str, _: &[String]) -> Option<anyhow::Result<()>> {
    None
}
