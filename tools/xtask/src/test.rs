//! `test` and `bless`.

use std::process::Command;

use anyhow::bail;

use crate::command::{self, cargo, program};
use crate::setup;

/// Number of tests that a test binary runs at once.
const THREADS: &str = "RUST_TEST_THREADS";
/// If it is set in the environment, tests write the files that they otherwise compare.
pub const BLESS: &str = "HARVESTER_BLESS";

/// Installs what tests need and runs them all, even after a failure.
///
/// Tests of the service mostly wait for processes, so two of them share a processor.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    setup::for_tests()?;
    if args.iter().any(|arg| arg != "--locked") {
        return command::run(all().args(args));
    }
    let mut service = all();
    service.args(["--test", "service"]).args(args);
    if std::env::var_os(THREADS).is_none() {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        service.env(THREADS, (2 * processors).to_string());
    }
    let parts = [
        "--lib",
        "--bins",
        "--test",
        "rules",
        "--test",
        "history",
        "--test",
        "store",
        "--test",
        "console",
        "--test",
        "simulation",
    ];
    let done = [
        command::run(all().args(parts).args(args)),
        command::run(all().arg("--doc").args(args)),
        command::run(&mut service),
    ];
    let failed: Vec<String> = done.into_iter().filter_map(|part| Some(format!("{:#}", part.err()?))).collect();
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("; ")) }
}

/// Returns the `cargo test` of the workspace that all tasks use: another choice of packages or features would be
/// another build.
///
/// Tests have all features, including the deliberate faults of the simulator; a build for use never has those.
pub fn all() -> Command {
    let mut command = cargo();
    command.args(["test", "--workspace", "--all-features", "--no-fail-fast"]);
    command
}

/// Writes the golden lines, the stories and the golden screens again; the diff is the review.
///
/// The stored bytes (`src/codec/state.golden`) are not among them: they need another version, too.
pub fn bless() -> anyhow::Result<()> {
    command::run(all().args(["--test", "rules", "--", "cases::"]).env(BLESS, "1"))?;
    let of_screens = ["audit::", "time::compared::", "top::", "pages::charts::", "--skip", "top::terminal::"];
    command::run(all().args(["--test", "console", "--"]).args(of_screens).env(BLESS, "1"))?;
    command::run(program("git").args(["--no-pager", "diff", "--stat", "--", "replay", "tests/console/golden"]))
}
