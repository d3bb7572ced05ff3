//! Largest memory of replays, each in a new process.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use harvester::config::Config;

use super::stages;
use super::task::MEMORY;
use crate::command::program;

/// Replays with a store in a new process. Returns the largest memory of that process. [kB]
pub fn peak_kb(file: &Path, entries: u64, store: &Path) -> anyhow::Result<u64> {
    let output = program(std::env::current_exe()?)
        .arg(MEMORY)
        .args([file, Path::new(&entries.to_string()), store])
        .output()
        .context("cannot start a replay of its own")?;
    if !output.status.success() {
        bail!("the replay in a child process failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    std::fs::remove_dir_all(store)?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().with_context(|| format!("a replay of its own answered {text:?}"))
}

/// Replays and prints the memory: the child process of [`peak_kb`].
pub fn child(args: &[String]) -> anyhow::Result<()> {
    let [file, entries, store] = args else { bail!("want FILE ENTRIES STORE, got {args:?}") };
    let config = Config::from_parts(None, std::collections::BTreeMap::new())?;
    stages::whole(Path::new(file), entries.parse()?, &config, Some(PathBuf::from(store)))?;
    println!("{}", peak_of_this_process_kb()?);
    Ok(())
}

fn peak_of_this_process_kb() -> anyhow::Result<u64> {
    of_this_process_kb("VmHWM:")
}

/// Returns the present memory of this process. [kB]
pub fn resident_of_this_process_kb() -> anyhow::Result<u64> {
    of_this_process_kb("VmRSS:")
}

fn of_this_process_kb(name: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("the kernel reports no memory of a process")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("there is no {name}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
