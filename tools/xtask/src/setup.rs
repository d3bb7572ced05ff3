//! Programs that the tests need beside cargo.

use crate::command::{answers, program, run};

use anyhow::{Context as _, bail};

/// Checks that the programs exist which tests start.
///
/// A Redis server, a browser and `tmux` are installed if that needs no question: as root, on Debian. Otherwise, and
/// if the installation fails, a message names what to install, and so do the tests that need it.
pub fn for_tests() -> anyhow::Result<()> {
    if !answers(program("python3").arg("--version")) {
        bail!("the tests of tools/producer need `python3`: install it (Debian: apt-get install python3)");
    }
    // For the tests of the console in a browser, and of `harvester top` in a terminal.
    optional("chromedriver", "--version", &["chromium", "chromium-driver"]);
    optional("tmux", "-V", &["tmux"]);
    if answers(program("redis-server").arg("--version")) {
        return Ok(());
    }
    if is_root() && answers(program("apt-get").arg("--version")) {
        let installed = install(&["redis-server"]).context("redis-server could not be installed");
        if let Err(error) = &installed {
            eprintln!("xtask: {error:#}");
        }
        if installed.is_ok() {
            return Ok(());
        }
    }
    eprintln!("xtask: there is no `redis-server`, which tests of the Redis reader need: install Redis 6.2 or newer");
    Ok(())
}

fn is_root() -> bool {
    program("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Installs a program that some tests use, as root on Debian. Without it these tests are skipped.
fn optional(name: &str, version: &str, packages: &[&str]) {
    if answers(program(name).arg(version)) {
        return;
    }
    if is_root() && answers(program("apt-get").arg("--version")) && install(packages).is_ok() {
        return;
    }
    eprintln!("xtask: there is no `{name}`: the tests that need it are skipped (Debian: {})", packages.join(" "));
}

fn install(packages: &[&str]) -> anyhow::Result<()> {
    let apt = |args: &[&str]| {
        // With RUNLEVEL=1 the package does not start a server on the default port.
        let settings = [("DEBIAN_FRONTEND", "noninteractive"), ("RUNLEVEL", "1")];
        run(program("apt-get").args(args).envs(settings))
    };
    apt(&["update", "--quiet"])?;
    apt(&[&["install", "--quiet", "--yes", "--no-install-recommends"], packages].concat())
}
