//! `feed user`: fills and positions of the account, from the exchange's socket into the observation stream.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant, interval_at, sleep, sleep_until};

use super::backoff::Backoff;
use super::gaps::{Written, missed};
use super::sink::Sink;
use super::state::State;
use super::symbols;
use crate::app::{exchange, fetch, server};
use crate::codec::exchange::{AccountPosition, FEED_SOURCE, UserEvent, UserTrade, user_event};
use crate::codec::observe::{self, Observation};
use crate::config::Config;
use crate::shell::exchange::{CallError, Exchange, Socket, SocketError};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Entries of the observation stream that are looked through for trades that were written before. [1]
const LOOKED_BACK: usize = 10_000;
/// Positions wait so long for the trade that made them: what comes first is taken for the cause.
const HELD_BACK: Duration = Duration::from_secs(2);
/// Before a gap that could not be read is asked for again.
const GAP_RETRY: Duration = Duration::from_secs(30);
/// Before a listen key that could not be kept alive is tried again.
const KEEP_RETRY: Duration = Duration::from_secs(60);
/// Before credentials that were refused are tried again.
const REFUSED_WAIT: Duration = Duration::from_secs(300);
/// "This listenKey does not exist."
const NO_SUCH_KEY: i64 = -1125;

pub(super) struct UserFeed {
    url: String,
    ca_file: Option<PathBuf>,
    exchange: Exchange,
    stall: Duration,
    connection_age: Duration,
    keep_alive: Duration,
    stream: String,
    /// The service that knows the open positions, if it shows them.
    service: Option<String>,
    written: Written,
    /// Positions that wait for their trades, and until when.
    waiting: BTreeMap<String, (AccountPosition, u64, Instant)>,
    /// Everything is written that happened up to the last event.
    is_whole: bool,
    sink: Sink,
    state: State,
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the connection is renewed before the exchange ends it")]
    Renewed,
    #[error("the listen key has expired")]
    KeyExpired,
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Socket(#[from] SocketError),
}

impl End {
    const fn name(&self) -> &'static str {
        match self {
            Self::Renewed => "renewed",
            Self::KeyExpired => "listen_key_expired",
            Self::Call(_) => "call",
            Self::Socket(error) => error.name(),
        }
    }
}

impl UserFeed {
    pub(super) fn new(
        config: &Config,
        state: State,
        connection_age: Duration,
        keep_alive: Duration,
    ) -> anyhow::Result<Self> {
        let client = exchange::client(config)?;
        if let Some(reason) = client.no_credentials {
            bail!("feed user: no credentials: {reason}");
        }
        Ok(Self {
            url: config.feed.user_url.trim_end_matches('/').to_owned(),
            ca_file: config.exchange.ca_file.clone(),
            exchange: client.exchange,
            stall: Duration::from_millis(config.feed.stall_ms),
            connection_age,
            keep_alive: keep_alive.max(Duration::from_secs(1)),
            stream: fetch::observation_stream(&config.streams).to_owned(),
            service: config.run.listen.map(|address| format!("http://{address}")),
            written: Written::default(),
            waiting: BTreeMap::new(),
            is_whole: false,
            sink: Sink::new(server::address(config)?, state.clone()),
            state,
        })
    }

    /// Runs for good.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let newest = self.sink.newest(&self.stream, LOOKED_BACK).await;
        self.written.learn(&newest);
        drop(newest);
        let mut backoff = Backoff::default();
        loop {
            let end = self.session(&mut backoff).await;
            self.state.ended(end.name(), &end.to_string());
            let wait = match &end {
                End::Renewed | End::KeyExpired => Duration::ZERO,
                End::Call(error) if error.is_about_credentials() => REFUSED_WAIT,
                End::Call(error) => backoff.next().max(Duration::from_millis(error.wait_ms().unwrap_or(0))),
                End::Socket(_) => backoff.next(),
            };
            tracing::warn!(name = end.name(), %end, wait_ms = wait.as_millis(), "FEED_USER_DOWN");
            sleep(wait).await;
        }
    }

    /// One listen key and one connection, until either ends.
    async fn session(&mut self, backoff: &mut Backoff) -> End {
        match self.connect().await {
            Ok((socket, key)) => {
                let Err(end) = self.listen(socket, &key, backoff).await;
                // Later they would be old news.
                self.write_positions(Instant::now() + HELD_BACK).await;
                end
            }
            Err(end) => end,
        }
    }

    async fn connect(&mut self) -> Result<(Socket, SecretString), End> {
        let key = self.exchange.open_listen_key().await?;
        self.state.facts().key_alive = Some(std::time::Instant::now());
        let url = SecretString::from(format!("{}/{}", self.url, key.expose_secret()));
        let socket = Socket::connect(url.expose_secret(), self.ca_file.as_deref(), CONNECT_LIMIT).await?;
        self.state.connected();
        Ok((socket, key))
    }

    async fn listen(
        &mut self,
        mut socket: Socket,
        key: &SecretString,
        backoff: &mut Backoff,
    ) -> Result<std::convert::Infallible, End> {
        // What happens meanwhile waits in the socket; a trade that comes both ways is written once.
        self.is_whole = false;
        let mut heard_before = self.written.heard_ms();
        let mut gap_at = Some(Instant::now());
        let mut keep_alive = interval_at(Instant::now() + self.keep_alive, self.keep_alive);
        let ends_at = Instant::now() + self.connection_age;
        loop {
            let due = self.waiting.values().map(|(_, _, due)| *due).min();
            tokio::select! {
                biased;
                () = sleep_until(ends_at) => {
                    socket.close().await;
                    return Err(End::Renewed);
                }
                () = sleep_until(gap_at.unwrap_or(ends_at)), if gap_at.is_some() => {
                    self.fill_gaps(heard_before).await;
                    gap_at = (!self.is_whole).then(|| Instant::now() + GAP_RETRY);
                }
                _ = keep_alive.tick() => {
                    if !self.keep(key).await? {
                        keep_alive.reset_after(KEEP_RETRY.min(self.keep_alive));
                    }
                }
                () = sleep_until(due.unwrap_or(ends_at)), if due.is_some() => self.write_positions(Instant::now()).await,
                text = socket.text_or_life(self.stall) => {
                    let text = text?;
                    backoff.reset();
                    if let Some(text) = text {
                        self.state.heard();
                        self.take(&text).await?;
                    }
                    if self.is_whole {
                        self.written.heard(now_ms());
                    } else if gap_at.is_none() {
                        // A gap begins where the account was heard whole.
                        heard_before = self.written.heard_ms();
                        gap_at = Some(Instant::now());
                    }
                }
            }
        }
    }

    /// Takes one event.
    async fn take(&mut self, text: &str) -> Result<(), End> {
        match user_event(text) {
            Ok(UserEvent::Trade(trade)) => {
                let symbol = trade.symbol.clone();
                self.write_trades(vec![trade]).await;
                if self.is_whole {
                    self.written.fill_to_last(&symbol);
                }
                Ok(())
            }
            Ok(UserEvent::Account(update)) => {
                let due = Instant::now() + HELD_BACK;
                for position in update.positions {
                    self.waiting.insert(position.symbol.clone(), (position, update.time_ms, due));
                }
                Ok(())
            }
            Ok(UserEvent::ListenKeyExpired) => Err(End::KeyExpired),
            Ok(UserEvent::Other(name)) => {
                tracing::debug!(name, "an event that no rule uses");
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "an event of the account cannot be read; the trades are asked for instead");
                self.state.facts().unreadable += 1;
                self.is_whole = false;
                Ok(())
            }
        }
    }

    /// Keeps the listen key alive; answers whether it worked. It is never closed: an account has one, and others may
    /// listen with it.
    async fn keep(&mut self, key: &SecretString) -> Result<bool, End> {
        match self.exchange.keep_listen_key(key).await {
            Ok(()) => {
                self.state.facts().key_alive = Some(std::time::Instant::now());
                Ok(true)
            }
            Err(CallError::Refused { code: NO_SUCH_KEY, .. }) => Err(End::KeyExpired),
            Err(error) => {
                tracing::warn!(%error, "the listen key was not kept alive");
                Ok(false)
            }
        }
    }

    /// Asks for trades that were missed, of all symbols that are known.
    async fn fill_gaps(&mut self, heard_before: Option<u64>) {
        let mut symbols: BTreeSet<String> = self.written.symbols().cloned().collect();
        symbols.extend(self.waiting.keys().cloned());
        if let Some(service) = &self.service
            && let Ok(Some(open)) = symbols::ask(service).await
        {
            symbols.extend(open);
        }
        let mut is_open = false;
        for symbol in symbols {
            match missed(&self.exchange, &self.written, &symbol, heard_before, now_ms()).await {
                Ok(trades) => {
                    if !trades.is_empty() {
                        tracing::info!(symbol, trades = trades.len(), "trades that were missed");
                    }
                    self.write_trades(trades).await;
                    self.written.fill_to_last(&symbol);
                }
                Err(error) => {
                    tracing::warn!(symbol, %error, "trades that may have been missed are not read yet");
                    is_open = true;
                }
            }
        }
        self.is_whole = !is_open;
        self.state.facts().gap_open = is_open;
    }

    /// Writes those of these trades that are new.
    async fn write_trades(&mut self, trades: Vec<UserTrade>) {
        let new: Vec<UserTrade> = trades.into_iter().filter(|trade| self.written.is_new(trade)).collect();
        self.append("trades", new.iter().map(observe::trade).collect()).await;
        for trade in new {
            self.written.remember(&trade.symbol, trade.id);
        }
    }

    /// Writes the positions that are due at a time.
    async fn write_positions(&mut self, now: Instant) {
        let due: Vec<String> =
            self.waiting.iter().filter(|(_, (.., due))| *due <= now).map(|(symbol, _)| symbol.clone()).collect();
        let positions = due.iter().filter_map(|symbol| self.waiting.remove(symbol)).map(|(row, time_ms, _)| {
            observe::position(&row.symbol, row.position_amt, row.entry_price, &row.position_side, Some(time_ms))
        });
        let positions: Vec<Observation> = positions.collect();
        self.append("positions", positions).await;
    }

    async fn append(&mut self, what: &'static str, observations: Vec<Observation>) {
        if observations.is_empty() {
            return;
        }
        let entries: Vec<Vec<(&str, &str)>> = observations
            .iter()
            .map(|observation| observation.fields().into_iter().chain([("source", FEED_SOURCE)]).collect())
            .collect();
        self.sink.append(&self.stream, &entries).await;
        self.state.wrote(what, observations.len() as u64);
    }
}

/// The clock of this machine. [ms since 1970]
fn now_ms() -> u64 {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_millis());
    u64::try_from(passed).unwrap_or(u64::MAX)
}
