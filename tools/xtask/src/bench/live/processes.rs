//! Processor time and memory of processes, as the kernel counts them.

use std::collections::BTreeMap;

use anyhow::Context as _;

/// The unit in which the kernel counts. [1/s]
const TICKS_PER_SECOND: f64 = 100.0;

/// Returns the user and system time of a process by name of its threads. [s]
pub fn threads(process: u32) -> anyhow::Result<BTreeMap<String, f64>> {
    let mut seconds = BTreeMap::new();
    for task in std::fs::read_dir(format!("/proc/{process}/task")).context("the process is gone")? {
        // A thread may have ended.
        let Ok(stat) = std::fs::read_to_string(task?.path().join("stat")) else { continue };
        let Some((name, ticks)) = parse(&stat) else { continue };
        *seconds.entry(name.to_owned()).or_insert(0.0) += ticks as f64 / TICKS_PER_SECOND;
    }
    Ok(seconds)
}

/// Returns the processor time of a whole process. [s]
pub fn whole(process: u32) -> anyhow::Result<f64> {
    Ok(threads(process)?.values().sum())
}

/// Returns the largest memory that a process has had. [kB]
pub fn peak_kb(process: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).context("the process is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("there is no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Returns name, user time and system time of a thread. [ticks]
fn parse(stat: &str) -> Option<(&str, u64)> {
    // The name may contain any character, including brackets.
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1;
    let mut times = tail.split_whitespace().skip(11);
    Some((name, times.next()?.parse::<u64>().ok()? + times.next()?.parse::<u64>().ok()?))
}
