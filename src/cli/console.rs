//! `harvester console`: the console over a history, a journal or a store.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::codec::shown::shown;
use crate::config::Config;
use crate::console::{self, Console};
use crate::drive::film::{Film, Origin};
use crate::drive::stop::Stop;
use crate::shell::web::{Site, WebServer};

/// The address of the console, if none is given. The service has 9464.
const LISTEN: &str = "127.0.0.1:9470";

/// The least pause between two readings of a journal that grows.
const FOLLOW_PAUSE_MIN: Duration = Duration::from_millis(500);

#[derive(Clone, Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("from").required(true).args(["histories", "journal", "store"])))]
#[command(after_help = "Examples: harvester console replay/nights/incident-2026-02-04/events.jsonl --open
          harvester console --journal journal
          harvester console --store state")]
pub struct Args {
    /// Files and folders (every *.jsonl and *.jsonl.zst below)
    #[arg(value_name = "HISTORY")]
    histories: Vec<PathBuf>,
    /// The journal of a service; it may be in use
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Folder of a store that is not in use: its present state only
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

/// Where the console is found.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// Address to listen on, loopback only; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = LISTEN)]
    pub listen: SocketAddr,
    /// Prefix of all addresses, behind a reverse proxy
    #[arg(long, value_name = "PATH", default_value = "")]
    pub base_path: String,
    /// Open it in the browser
    #[arg(long)]
    pub open: bool,
}

pub fn run(args: &Args, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let origin = match (&args.journal, &args.store) {
        (Some(journal), _) => Origin::Journal(journal.clone()),
        (None, Some(store)) => Origin::Store(store.clone()),
        (None, None) => Origin::Histories(args.histories.clone()),
    };
    ensure!(
        !args.histories.iter().any(|path| path.as_os_str() == "-"),
        "standard input can be read once only, and the console reads a history again: give a file"
    );
    let title = shown(&origin.arguments()).into_owned();
    serve(origin, &title, config, &args.place, out)
}

/// Serves the console until it is interrupted.
pub fn serve(origin: Origin, title: &str, config: &Config, place: &Place, out: &mut dyn Write) -> anyhow::Result<()> {
    ensure!(
        place.listen.ip().is_loopback(),
        "{} is not a loopback address: the console of a history has no password; listen on 127.0.0.1, and let a reverse \
         proxy with one answer for it",
        place.listen
    );
    let base = base(&place.base_path)?;
    let config_of_film = Arc::new(config.clone());
    let begun = Instant::now();
    let film =
        Film::read(origin.clone(), Arc::clone(&config_of_film), &Stop::never()).context("reading the history")?;
    let took = begun.elapsed();
    let audited = config.clone();
    let console = Console::new(Arc::new(film), title, &base)
        .with_audit(Arc::new(move |origin| super::audit::of_origin(origin, &audited)));
    if let Origin::Journal(dir) = &origin {
        follow(&console, dir.clone(), config_of_film, took);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let server =
            WebServer::start(place.listen, console::site(&console, Site::default().known_as(&config.run.hosts)))
                .await?;
        let url = format!("http://{}{base}/", server.address());
        writeln!(out, "The console is at {url}   (Ctrl-C ends it)")?;
        out.flush()?;
        if place.open {
            open(&url);
        }
        interrupted().await?;
        server.stop().await;
        Ok(())
    })
}

/// Reads a journal again when it has grown, so that the pages follow it. A tenth of a core at most goes into this.
fn follow(console: &Console, dir: PathBuf, config: Arc<Config>, took: Duration) {
    let console = console.clone();
    let mut pause = (took * 10).max(FOLLOW_PAUSE_MIN);
    let mut size = size_of(&dir);
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(pause);
            let now = size_of(&dir);
            if now == size {
                continue;
            }
            let begun = Instant::now();
            match Film::read(Origin::Journal(dir.clone()), Arc::clone(&config), &Stop::never()) {
                Ok(film) => console.show(Arc::new(film)),
                // A line may be half written; the next reading has it.
                Err(error) => tracing::debug!(error = format!("{error:#}"), "the journal is not read again"),
            }
            size = now;
            pause = (begun.elapsed() * 10).max(FOLLOW_PAUSE_MIN);
        }
    });
}

/// Returns the size of all files of a folder. [bytes]
fn size_of(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

/// Returns a prefix with a slash before it and none behind it.
fn base(path: &str) -> anyhow::Result<String> {
    let trimmed = path.trim_matches('/');
    let is_plain = trimmed.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'));
    ensure!(is_plain, "--base-path {path:?} has other characters than letters, digits, '-', '_', '.' and '/'");
    Ok(if trimmed.is_empty() { String::new() } else { format!("/{trimmed}") })
}

/// Waits for Ctrl-C or a request to end.
async fn interrupted() -> std::io::Result<()> {
    let mut ended = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        done = tokio::signal::ctrl_c() => done,
        _ = ended.recv() => Ok(()),
    }
}

/// Opens an address in the browser. Without one, the printed address remains.
fn open(url: &str) {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let started =
        Command::new(program).arg(url).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    if let Err(error) = started {
        tracing::warn!(program, %error, "the browser cannot be opened: use the address above");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_one_form() {
        for (text, want) in [("", ""), ("/", ""), ("h", "/h"), ("/ops/harvester/", "/ops/harvester")] {
            assert_eq!(base(text).expect("a prefix"), want, "{text}");
        }
        assert!(base("/a?b").is_err() && base("/{x}").is_err());
    }
}
