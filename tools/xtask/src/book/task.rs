//! The task that builds the book.

use crate::tool::Tool;
use crate::{command, test};

const MDBOOK: Tool =
    Tool { name: "mdbook", version: "0.5.4", features: &["--no-default-features", "--features", "search"] };

/// Checks incidents and links, which are tests, then builds the book.
pub fn run() -> anyhow::Result<()> {
    command::run(test::all().args(["--bin", "xtask", "--", "book::"]))?;
    build()
}

/// Builds the book into `target/book`.
pub fn build() -> anyhow::Result<()> {
    command::run(command::program(MDBOOK.path()?).args(["build", "docs"]))
}
