//! `test` and `bless`.

use crate::command::{self, cargo, program};
use crate::setup;

/// Sets up what tests need and runs them all, whatever fails on the way.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    setup::for_tests()?;
    command::run(cargo().args(["test", "--workspace", "--no-fail-fast"]).args(args))
}

/// Rewrites the golden lines; the diff is the review.
pub fn bless() -> anyhow::Result<()> {
    command::run(cargo().args(["test", "--test", "rules", "--", "cases::"]).env("HARVESTER_BLESS", "1"))?;
    command::run(program("git").args(["--no-pager", "diff", "--stat", "--", "replay"]))
}
