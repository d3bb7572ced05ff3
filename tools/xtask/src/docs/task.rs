//! The task, and the part of it that runs in a build with the project.

use anyhow::bail;

use crate::command;

const PAGES: &str = "docs-pages";
const CHECK: &str = "--check";

/// Writes the pages, or with `--check` compares them.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    if args.iter().any(|arg| arg != CHECK) {
        bail!("`docs` takes `{CHECK}` only, got {args:?}");
    }
    let build = ["run", "--quiet", "--locked", "--package", "xtask", "--features", "docs", "--", PAGES];
    command::run(command::cargo().args(build).args(args))
}

/// Returns an error if a page differs from the code.
pub fn check() -> anyhow::Result<()> {
    run(&[CHECK.to_owned()])
}

/// The part of the task; `None` for any other name.
#[cfg(feature = "docs")]
pub fn inner(name: &str, args: &[String]) -> Option<anyhow::Result<()>> {
    (name == PAGES).then(|| super::pages::all(args.iter().any(|arg| arg == CHECK)))
}

#[cfg(not(feature = "docs"))]
pub fn inner(_: &str, _: &[String]) -> Option<anyhow::Result<()>> {
    None
}
