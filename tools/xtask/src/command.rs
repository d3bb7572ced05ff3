//! Programs that a task runs, printed before they run.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// Returns the root of the project.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("xtask lies two folders below the root")
}

/// Returns the folders of all replay cases: every folder below `replay/` with a history.
#[cfg(any(test, feature = "bench"))]
pub fn cases() -> anyhow::Result<Vec<PathBuf>> {
    let mut cases = Vec::new();
    let mut folders = vec![root().join("replay")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            if path.join("events.jsonl").exists() {
                cases.push(path);
            } else if path.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(cases)
}

/// Returns the target folder of cargo: this program is in `TARGET/PROFILE`.
pub fn target() -> anyhow::Result<PathBuf> {
    let exe = std::env::current_exe().context("cannot find the path of this program")?;
    let target = exe.ancestors().nth(2).context("this program lies in no target folder")?;
    Ok(target.to_owned())
}

/// Returns the cargo that runs this task.
pub fn cargo() -> Command {
    program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Returns the command of a program that starts in the root of the project and has no standard input.
pub fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.current_dir(root()).stdin(Stdio::null());
    command
}

/// Returns true if the program exists and succeeds. Its output is dropped.
pub fn answers(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Runs a command to its end. Returns an error unless it succeeds.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    announce(command)?;
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", shown(command));
    }
    Ok(())
}

/// Does the same as [`run`], and also gives each line of standard output to `on_line`.
pub fn run_and_read(command: &mut Command, mut on_line: impl FnMut(&str)) -> anyhow::Result<()> {
    announce(command)?;
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start {}", shown(command)))?;
    for line in BufReader::new(child.stdout.take().context("standard output is a pipe")?).lines() {
        let line = line.context("what it prints is text")?;
        println!("{line}");
        on_line(&line);
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{} failed: {status}", shown(command));
    }
    Ok(())
}

fn announce(command: &Command) -> anyhow::Result<()> {
    println!("\n$ {}", shown(command));
    Ok(std::io::stdout().flush()?)
}

/// Returns the command as one would type it.
fn shown(command: &Command) -> String {
    let settings = command.get_envs().filter_map(|(name, value)| {
        let value = value?.to_string_lossy();
        let quoted = if value.contains(' ') { format!("{value:?}") } else { value.into_owned() };
        Some(format!("{}={quoted}", name.to_string_lossy()))
    });
    let name = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let args = command.get_args().map(|arg| arg.to_string_lossy().into_owned());
    settings.chain([name.to_string_lossy().into_owned()]).chain(args).collect::<Vec<_>>().join(" ")
}
