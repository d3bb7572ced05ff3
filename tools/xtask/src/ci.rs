//! `ci`: all checks that must pass before a change is merged.

use std::time::Instant;

use anyhow::Context as _;

use crate::command::{cargo, program, run as run_command};
use crate::{book, deny, simulate, test};

type Check = (&'static str, fn() -> anyhow::Result<()>);

/// Runs all checks, the quick ones first and the tests last. Ends at the first that fails.
pub fn run() -> anyhow::Result<()> {
    let checks: [Check; 7] = [
        ("format", format),
        ("dependencies", deny::check),
        ("lints", lints),
        ("documentation", documentation),
        ("book", book::build),
        ("tests", || test::run(&["--locked".to_owned()])),
        ("simulator", simulate::check),
    ];
    let mut took = Vec::new();
    for (name, check) in checks {
        let began = Instant::now();
        check().with_context(|| format!("ci: {name}"))?;
        took.push(format!("{name} {} s", began.elapsed().as_secs()));
    }
    println!("\nci: all passed ({})", took.join(", "));
    Ok(())
}

fn format() -> anyhow::Result<()> {
    run_command(cargo().args(["fmt", "--all", "--check"]))?;
    // A workspace of its own, which `--all` does not see.
    let targets = ["decoder", "control", "frames"].map(|name| format!("tools/fuzz/fuzz_targets/{name}.rs"));
    run_command(program("rustfmt").args(["--edition", "2024", "--check"]).args(targets))
}

fn lints() -> anyhow::Result<()> {
    let what = ["clippy", "--workspace", "--all-targets", "--all-features", "--locked"];
    run_command(cargo().args(what).args(["--", "--deny", "warnings"]))
}

fn documentation() -> anyhow::Result<()> {
    let what = ["doc", "--workspace", "--all-features", "--no-deps", "--document-private-items", "--locked"];
    run_command(cargo().args(what).env("RUSTDOCFLAGS", "--deny warnings"))
}
