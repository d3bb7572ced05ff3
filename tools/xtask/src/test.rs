//! `test` and `bless`.

use std::process::Command;

use anyhow::bail;

use crate::command::{self, cargo, program};
use crate::setup;

/// Number of tests that a test binary runs at once.
const THREADS: &str = "RUST_TEST_THREADS";
/// Set in the environment, tests write what they otherwise compare.
pub const BLESS: &str = "HARVESTER_BLESS";

/// Sets up what tests need and runs them all, whatever fails on the way.
///
/// Tests of the service wait for processes most of their time, so two of them share a processor.
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

/// `cargo test` of the workspace, as all tasks call it: another choice of packages or features is another build.
///
/// Tests have all features, the deliberate faults of the simulator among them; a build that is used never has those.
pub fn all() -> Command {
    let mut command = cargo();
    command.args(["test", "--workspace", "--all-features", "--no-fail-fast"]);
    command
}

/// Rewrites the golden lines and the stories; the diff is the review.
pub fn bless() -> anyhow::Result<()> {
    command::run(all().args(["--test", "rules", "--", "cases::"]).env(BLESS, "1"))?;
    command::run(program("git").args(["--no-pager", "diff", "--stat", "--", "replay"]))
}
