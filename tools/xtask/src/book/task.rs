//! The task, and the part of it that runs in a build with the Markdown parser.

use super::proofs;
use crate::command;
use crate::tool::Tool;

const MDBOOK: Tool =
    Tool { name: "mdbook", version: "0.5.4", features: &["--no-default-features", "--features", "search"] };

const LINKS: &str = "book-links";

/// Checks incidents and links, then builds the book into `target/book`.
pub fn run() -> anyhow::Result<()> {
    proofs::check()?;
    // The other tests do not build the check of links, nor its tests.
    let with_parser = ["--quiet", "--locked", "--package", "xtask", "--features", "book"];
    command::run(command::cargo().arg("test").args(with_parser))?;
    command::run(command::cargo().arg("run").args(with_parser).args(["--", LINKS]))?;
    command::run(command::program(MDBOOK.path()?).args(["build", "docs"]))
}

/// The part of the task; `None` for any other name.
#[cfg(feature = "book")]
pub fn inner(name: &str) -> Option<anyhow::Result<()>> {
    (name == LINKS).then(super::links::check)
}

#[cfg(not(feature = "book"))]
pub fn inner(_: &str) -> Option<anyhow::Result<()>> {
    None
}
