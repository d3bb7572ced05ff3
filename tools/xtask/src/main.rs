//! `cargo xtask TASK`: every task of the project.

mod bench;
mod book;
mod ci;
mod command;
mod deny;
mod docs;
mod setup;
mod simulate;
mod soak;
mod test;
mod tool;

use std::process::ExitCode;

use anyhow::bail;

const USAGE: &str = "\
cargo xtask TASK

  ci            what has to pass before a change lands: format, dependencies, lints, documentation, book, tests,
                simulator
  test [ARG…]   set up what the tests need, then run them; arguments go to `cargo test`
  bless         rewrite the golden lines and stories of replay/ and the golden screens, and show which changed
  book          check the links of all Markdown files and build docs/ as a book, into target/book
  docs          write the pages of docs/reference/ from the code
  bench         rates of reading, decoding, folding and replaying, from one run
                [--entries N] [--passes N] [--history PATH]
  bench live    the service on a Redis server of its own: entries/s against only reading and acknowledging, latency from
                a price to its decision, memory, starts, the console
                [--entries N] [--passes N] [--history PATH] [--only latency | start | memory | console]
  bench books   many accounts: speed and memory, and a price that changes nothing for 10,000 books
                [--passes N]
  simulate      the protocol of the service over a model of servers, disks and networks, by seeds
                [--seed N [--trace]] [--seeds K] [--faults | --fault NAME] (how soon each is found)
  soak          the long versions of the tests, and fuzzing
                [--minutes N] (of fuzzing) [--seeds K] (of the simulator)";

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut args: Vec<String>) -> anyhow::Result<()> {
    if args.is_empty() {
        bail!("no task is named\n\n{USAGE}");
    }
    let task = args.remove(0);
    if !args.is_empty() && matches!(task.as_str(), "ci" | "bless" | "book" | "docs") {
        bail!("`{task}` takes no arguments, got {args:?}");
    }
    match task.as_str() {
        "ci" => ci::run(),
        "test" => test::run(&args),
        "bless" => test::bless(),
        "book" => book::run(),
        "docs" => docs::run(),
        "bench" => bench::run(&args),
        "simulate" => simulate::run(&args),
        "soak" => soak::run(&args),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        other => bench::inner(other, &args).unwrap_or_else(|| bail!("there is no task `{other}`\n\n{USAGE}")),
    }
}
