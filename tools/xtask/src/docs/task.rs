//! The task.

use crate::{command, test};

/// Writes the pages that differ from the code.
///
/// The test that compares them does it: only tests have the project built in, so one build serves all of them.
pub fn run() -> anyhow::Result<()> {
    command::run(test::all().args(["--bin", "xtask", "--", "docs::"]).env(test::BLESS, "1"))
}
