//! A server, and a service that reads from it: child processes, ended by their ids.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use harvester::config::Config;
use harvester::domain::event::ids::EntryId;
use harvester::domain::event::streams::StreamKind;
use harvester::shell::journal::Journal;
use harvester::shell::redis::{Address, Server};

use crate::command::target;

/// Longest time for a server to answer, and for a service to end.
const LIMIT: Duration = Duration::from_secs(20);
/// Pause between two checks for an effect.
const LOOK: Duration = Duration::from_millis(10);
/// The group of the service.
pub const GROUP: &str = "harvester";

/// A `redis-server` without persistence, on a free port of loopback.
pub struct RedisServer {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl RedisServer {
    pub fn start() -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = tempfile::tempdir()?;
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start redis-server")?;
        let server = Self { process, port, _folder: folder };
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(began.elapsed() < LIMIT, "redis-server does not answer");
            std::thread::sleep(LOOK);
        }
        Ok(server)
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub async fn connect(&self) -> anyhow::Result<Server> {
        Ok(Server::connect(&Address::new(&self.url(), None)?).await?)
    }

    /// Fills the streams with a history.
    pub fn import(&self, file: &Path) -> anyhow::Result<()> {
        let imported = Command::new(harvester()?).arg("import").arg(file).args(["--redis", &self.url()]).output()?;
        ensure!(imported.status.success(), "import failed: {}", String::from_utf8_lossy(&imported.stderr));
        Ok(())
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the command of the program, which is in the folder of this one.
fn harvester() -> anyhow::Result<PathBuf> {
    Ok(target()?.join("release/harvester"))
}

/// A service with default settings except for the given ones, and without an exchange.
pub struct Service {
    process: Child,
    folder: tempfile::TempDir,
    port: u16,
    url: String,
}

impl Service {
    pub fn start(server: &RedisServer, settings: &str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let settings = format!("{settings}\n[backfill]\nsources = [\"redis\"]\nposition_poll_ms = 0\n");
        std::fs::write(folder.path().join("harvester.toml"), settings)?;
        let process = spawn(&server.url(), folder.path(), port)?;
        Ok(Self { process, folder, port, url: server.url() })
    }

    /// Kills the service as a power cut would, and starts it again. Returns the time until it serves.
    pub fn killed_and_started(mut self) -> anyhow::Result<(Self, Duration)> {
        self.process.kill()?;
        self.process.wait()?;
        let began = Instant::now();
        self.process = spawn(&self.url, self.folder.path(), self.port)?;
        while !std::fs::read_to_string(self.folder.path().join("log"))?.contains("HARVEST_START") {
            self.check()?;
            ensure!(began.elapsed() < LIMIT, "the service does not begin to serve");
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok((self, began.elapsed()))
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns the address of its pages.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns the mean of a latency that the service measures itself. [ms]
    pub fn mean_ms(&self, metric: &str) -> anyhow::Result<f64> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\r\n", self.port)?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        let value = |suffix: &str| -> anyhow::Result<f64> {
            let name = format!("harvester_{metric}_{suffix} ");
            let value = page.lines().find_map(|line| line.strip_prefix(&name));
            value.with_context(|| format!("there is no {name}"))?.parse().context("a metric is no number")
        };
        Ok(1000.0 * value("sum")? / value("count")?)
    }

    /// Waits until the group of a stream exists: reading begins.
    pub async fn until_reading(&mut self, server: &mut Server, stream: &str) -> anyhow::Result<()> {
        while server.groups(stream).await?.iter().all(|group| group.name != GROUP) {
            self.check()?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Waits until the group has received and acknowledged everything up to these entries.
    pub async fn until_done(&mut self, server: &mut Server, lasts: &[(String, EntryId)]) -> anyhow::Result<()> {
        for (stream, last) in lasts {
            loop {
                let groups = server.groups(stream).await?;
                let ours = groups.iter().find(|group| group.name == GROUP);
                if ours.is_some_and(|group| group.pending == 0 && group.last_delivered >= Some(*last)) {
                    break;
                }
                self.rest().await?;
            }
        }
        Ok(())
    }

    /// Waits a moment. Returns an error if the service has ended.
    pub async fn rest(&mut self) -> anyhow::Result<()> {
        self.check()?;
        tokio::time::sleep(LOOK).await;
        Ok(())
    }

    fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.process.try_wait()? {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            bail!("the service ended: {status}: {}", log.lines().last().unwrap_or_default());
        }
        Ok(())
    }

    /// Stops the service. Returns the number of entries in its journal, after a check of every byte.
    pub fn stop(mut self) -> anyhow::Result<u64> {
        ensure!(
            Command::new("kill").arg(self.process.id().to_string()).status()?.success(),
            "the service does not run"
        );
        let began = Instant::now();
        while self.process.try_wait()?.is_none() {
            ensure!(began.elapsed() < LIMIT, "the service does not end");
            std::thread::sleep(LOOK);
        }
        let journal = Journal::verify(&self.folder.path().join("journal"))?;
        ensure!(journal.findings.is_empty(), "the journal is damaged: {:?}", journal.findings);
        Ok(journal.count())
    }
}

/// Starts the program in a folder with its settings and a log.
fn spawn(url: &str, folder: &Path, port: u16) -> anyhow::Result<Child> {
    let at = |name: &str| folder.join(name);
    Command::new(harvester()?)
        .args(["run", "--redis", url, "--group", GROUP, "--consumer", "bench"])
        .args(["--listen", &format!("127.0.0.1:{port}")])
        .args([Path::new("--store"), &at("store"), Path::new("--journal"), &at("journal")])
        .args([Path::new("--config"), &at("harvester.toml")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(at("log"))?)
        .spawn()
        .context("cannot start the service")
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the name of the first stream of a kind.
pub fn name_of(config: &Config, kind: StreamKind) -> anyhow::Result<String> {
    let found = config.streams.iter().find(|(_, stream)| stream.kind == kind);
    Ok(found.context("a kind of stream has no name")?.1.name.clone())
}

/// Returns the last entry of each stream that is not empty.
pub async fn lasts(server: &mut Server, config: &Config) -> anyhow::Result<Vec<(String, EntryId)>> {
    let mut lasts = Vec::new();
    for (_, stream) in config.streams.iter() {
        if let Some(last) = server.newest(&stream.name, 1).await?.first() {
            lasts.push((stream.name.clone(), last.id));
        }
    }
    Ok(lasts)
}

/// Opens positions in `S0USDT` and so on, each long 1000 at 1, with a risk of 0.01 per unit.
pub async fn open_positions(server: &mut Server, config: &Config, count: u64) -> anyhow::Result<()> {
    let (intents, results) = (name_of(config, StreamKind::Intent)?, name_of(config, StreamKind::Result)?);
    for n in 0..count {
        let symbol = format!("S{n}USDT");
        let intent = format!(r#"{{"symbol":"{symbol}","side":"BUY","atr_value":0.01,"volatility_factor":1.0}}"#);
        server.add(&intents, &[("payload", &intent)]).await?;
        let order = format!("order-{n}");
        let fill = [("symbol", symbol.as_str()), ("side", "BUY"), ("executedQty", "1000"), ("avgPrice", "1")];
        let order = [("orderId", order.as_str()), ("status", "FILLED")];
        server.add(&results, &[&fill[..], &order[..]].concat()).await?;
    }
    Ok(())
}
