//! `harvester console`: the console over a history, a journal or a store.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, ensure};

use crate::codec::shown::shown;
use crate::config::{Config, base_path};
use crate::console::{self, Begin, Console};
use crate::drive::film::{Film, Origin};
use crate::drive::reel::{Bounds, Reel};
use crate::drive::stop::Stop;
use crate::shell::web::{Guard, Site, WebServer};

/// The default address of the console. The service has port 9464.
const LISTEN: &str = "127.0.0.1:9470";

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
    address: ConsoleAddress,
}

/// The address of the console.
#[derive(Clone, Debug, clap::Args)]
pub struct ConsoleAddress {
    /// Address to listen on; port 0 takes a free one. An address that other machines reach needs a token
    /// (HARVEST_CONSOLE_TOKEN)
    #[arg(long, value_name = "HOST:PORT", default_value = LISTEN, value_parser = address_of)]
    pub listen: SocketAddr,
    /// Prefix of all addresses, behind a reverse proxy
    #[arg(long, value_name = "PATH", default_value = "")]
    pub base_path: String,
    /// Open it in the browser
    #[arg(long)]
    pub open: bool,
}

/// Reads an address to listen on. `localhost` is the address of loopback.
fn address_of(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix("localhost:").and_then(|port| port.parse::<u16>().ok());
    match port {
        Some(port) => Ok((Ipv4Addr::LOCALHOST, port).into()),
        None => text.parse().map_err(|_| "want ADDRESS:PORT, like 127.0.0.1:9470 or localhost:9470".to_owned()),
    }
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
    serve(origin, &title, config, &args.address, out)
}

/// Serves the console until it is interrupted.
pub fn serve(
    origin: Origin,
    title: &str,
    config: &Config,
    address: &ConsoleAddress,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let guard = config.console.token()?.map_or(Guard::Open, Guard::Token);
    ensure!(
        address.listen.ip().is_loopback() || matches!(guard, Guard::Token(_)),
        "{} is not a loopback address, and there is no token: set HARVEST_CONSOLE_TOKEN or console.token_file (openssl rand \
         -hex 32), or listen on 127.0.0.1",
        address.listen
    );
    let base = base_path(&address.base_path).map_err(|why| anyhow!("--base-path {why}"))?;
    let of_film = Arc::new(config.clone());
    let reading = "reading the history";
    let console = match &origin {
        Origin::Journal(_) => {
            let begin: Begin = {
                let (origin, of_film) = (origin.clone(), Arc::clone(&of_film));
                Arc::new(move |stop| Reel::read(origin.clone(), Arc::clone(&of_film), &Bounds::default(), stop))
            };
            let read = begin(&Stop::never()).context(reading)?;
            Console::following(begin, Some(read), title, &base)
        }
        Origin::Histories(_) | Origin::Store(_) => {
            let film = Film::read(origin, of_film, &Stop::never()).context(reading)?;
            Console::new(Arc::new(film), title, &base)
        }
    };
    let audited = config.clone();
    let console = console.with_audit(Arc::new(move |origin, stop| {
        super::audit::of_origin(origin, &audited, stop).map_err(|error| format!("{error:#}"))
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let site = Site::default().known_as(&config.run.hosts);
        let server = WebServer::start(address.listen, console::site(&console, site, guard)).await?;
        let url = format!("http://{}{base}/", server.address());
        writeln!(out, "The console is at {url}   (Ctrl-C ends it)")?;
        out.flush()?;
        if address.open {
            open(&url);
        }
        interrupted().await?;
        server.stop().await;
        Ok(())
    })
}

/// Waits for Ctrl-C or a request to end.
async fn interrupted() -> std::io::Result<()> {
    let mut ended = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        done = tokio::signal::ctrl_c() => done,
        _ = ended.recv() => Ok(()),
    }
}

/// Opens an address in the browser. If there is no browser, the user has the printed address.
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
    fn localhost_is_the_address_of_loopback() {
        let of = |text| address_of(text).map(|address| address.to_string());
        assert_eq!(of("localhost:9490").as_deref(), Ok("127.0.0.1:9490"));
        assert_eq!(of("[::1]:0").as_deref(), Ok("[::1]:0"));
        assert!(of("localhost").is_err_and(|why| why.contains("localhost:9470")));
        assert!(of("example.org:80").is_err());
    }
}
