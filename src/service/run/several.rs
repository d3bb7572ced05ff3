//! Several cells in one process, each with a service of its own: lease, store, journal, threads, pages.
//!
//! A cell that fails is started again without the others. The process ends on a signal, or if a cell cannot even begin.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::command::{Failed, How, run_one};
use crate::config::{Cells, Config};
use crate::service::retry_delay::RetryDelay;
use crate::shell::systemd;

/// Maximum delay until the end of the process is noticed.
const STEP: Duration = Duration::from_millis(50);
/// A cell that worked for this long is started again at once.
const SETTLED: Duration = Duration::from_secs(60);

/// Runs a service for each cell until a signal stops them.
pub(super) fn run(config: &Config, cells: Cells, how: How) -> anyhow::Result<()> {
    let all: Vec<Config> = cells.iter().map(|cell| config.for_cell(cell)).collect::<Result<_, _>>()?;
    for (index, of_cell) in all.iter().enumerate() {
        of_cell.check_cell()?;
        let Some(address) = of_cell.run.listen else { continue };
        if all[..index].iter().any(|other| other.run.listen == of_cell.run.listen) {
            bail!(
                "run.listen gives {address} to several cells: write the cell into it, as \"127.0.0.1:9464+%cell%\", or \"\" for no \
                 pages"
            );
        }
    }
    systemd::expect(all.len());
    let ended = Arc::new(AtomicBool::new(false));
    let keep = |of_cell: Config| {
        let (name, ended) = (format!("cell-{}", of_cell.run.cell.unwrap_or_default()), Arc::clone(&ended));
        let kept = move || {
            let kept = keep(&of_cell, how, &ended);
            if kept.is_err() {
                ended.store(true, Ordering::Relaxed);
            }
            kept
        };
        std::thread::Builder::new().name(name).spawn(kept)
    };
    let threads: Vec<JoinHandle<anyhow::Result<()>>> = all.into_iter().map(keep).collect::<Result<_, _>>()?;
    let mut done = Ok(());
    for thread in threads {
        let cell = thread.thread().name().unwrap_or_default().to_owned();
        let kept = thread.join().unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked"))).context(cell);
        done = done.and(kept);
    }
    done
}

/// Runs the service of one cell, and starts it again when it fails.
fn keep(config: &Config, how: How, ended: &Arc<AtomicBool>) -> anyhow::Result<()> {
    let cell = config.run.cell.unwrap_or_default();
    let mut delay = RetryDelay::of_server();
    let mut is_first = true;
    while !ended.load(Ordering::Relaxed) {
        let began = Instant::now();
        let (of_cell, of_process) = (config.clone(), Arc::clone(ended));
        // A panic ends only this service.
        let service = std::thread::Builder::new()
            .name(format!("cell-{cell}"))
            .spawn(move || run_one(&of_cell, how, Some(of_process)))?;
        let error = match service.join() {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if is_first && !error.is::<Failed>() => return Err(error),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "it panicked".to_owned(),
        };
        is_first = false;
        systemd::lost(cell);
        if began.elapsed() >= SETTLED {
            delay.reset();
        }
        let pause = delay.next();
        tracing::error!(cell, error, pause_ms = pause.as_millis() as u64, "a cell ended and is started again");
        let until = Instant::now() + pause;
        while Instant::now() < until && !ended.load(Ordering::Relaxed) {
            std::thread::sleep(STEP);
        }
    }
    Ok(())
}
