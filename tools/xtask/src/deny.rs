//! The policy for dependencies, `deny.toml`.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::command::{answers, cargo, program, run, target};

const VERSION: &str = "0.20.2";

/// Checks licences, bans and sources. Advisories are left out: see `deny.toml`.
pub fn check() -> anyhow::Result<()> {
    let cargo_deny = installed().or_else(|_| install())?;
    run(program(cargo_deny)
        .args(["--locked", "--workspace", "check", "--hide-inclusion-graph"])
        .args(["licenses", "bans", "sources"]))
}

fn folder() -> anyhow::Result<PathBuf> {
    Ok(target()?.join("tools"))
}

fn installed() -> anyhow::Result<PathBuf> {
    let ours = folder()?.join("bin/cargo-deny");
    [ours, "cargo-deny".into()]
        .into_iter()
        .find(|path| answers(program(path).arg("--version")))
        .context("cargo-deny is not installed")
}

/// Builds cargo-deny into the target folder, where the next run finds it.
///
/// Without optimization it takes a quarter of the time that the tests take to build, and checks in a second: so the
/// tool itself is run, not an imitation of it.
fn install() -> anyhow::Result<PathBuf> {
    let folder = folder()?;
    let built = folder.join("build");
    run(cargo()
        .args(["install", "cargo-deny", "--version", VERSION, "--locked", "--quiet", "--debug", "--root"])
        .arg(&folder)
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
        .env("CARGO_TARGET_DIR", &built))?;
    std::fs::remove_dir_all(&built).with_context(|| format!("cannot remove {}", built.display()))?;
    Ok(folder.join("bin/cargo-deny"))
}
