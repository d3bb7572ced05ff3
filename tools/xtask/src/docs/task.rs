//! The task that writes the pages.

use crate::{command, test};

/// Writes the pages that differ from the code.
///
/// The test that compares them writes them: only tests are linked with the project, so one build is enough for all of
/// them.
pub fn run() -> anyhow::Result<()> {
    command::run(test::all().args(["--bin", "xtask", "--", "docs::"]).env(test::BLESS, "1"))
}
