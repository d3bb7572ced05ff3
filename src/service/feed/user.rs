//! `feed user`: fills and positions of an account, from the exchange's socket into the observation stream.
//!
//! The socket is trusted while REST agrees with it (`delivery`). An event that it omits is a finding, ends the
//! connection, and is taken from REST (`rest`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{Instant, interval_at, sleep, sleep_until};

use super::delivery::{Delivery, Side};
use super::gaps::Written;
use super::reconnect::delay_after;
use super::sink::Sink;
use super::state::State;
use crate::codec::exchange::{Environment, FEED_SOURCE, Forced, PositionRow, UserEvent, UserTrade, Venue};
use crate::codec::observe::{self, Observation};
use crate::config::Config;
use crate::service::exchange::{Client, of_account};
use crate::service::retry_delay::RetryDelay;
use crate::service::said::Until;
use crate::service::{fetch, server};
use crate::shell::exchange::{CallError, Exchange, Socket, SocketError};

const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Entries of the observation stream that are searched for trades that were written before. [1]
const LOOKED_BACK: usize = 10_000;
/// How long after its event a position waits for its trade: the fold takes the first of the two as the cause.
const POSITION_DELAY: Duration = Duration::from_secs(2);
/// Most rows of positions that wait at once; an account has some hundreds. [1]
const WAITING_MAX: usize = 20_000;
/// Time before a gap that could not be read is requested again.
const GAP_RETRY: Duration = Duration::from_secs(30);
/// Time before positions that could not be written are requested. The socket may contain more of them.
const RESTORE_DELAY: Duration = Duration::from_millis(250);
/// Time before positions that are still not written are requested again.
const RESTORE_RETRY: Duration = Duration::from_secs(2);
/// Time before a listen key that could not be kept alive is tried again.
const KEEP_RETRY: Duration = Duration::from_secs(60);
/// Time before refused credentials are tried again.
const REFUSED_WAIT: Duration = Duration::from_secs(300);

pub(super) struct UserFeed {
    /// Empty for the account without a name.
    pub(super) account: Box<str>,
    venue: &'static dyn Venue,
    environment: &'static Environment,
    url: String,
    ca_file: Option<PathBuf>,
    pub(super) exchange: Exchange,
    stall: Duration,
    /// Time between two comparisons with REST.
    pub(super) compare: Duration,
    connection_age: Duration,
    keep_alive: Duration,
    pub(super) stream: String,
    /// The service that knows the open positions, if it shows them.
    pub(super) service: Option<String>,
    pub(super) written: Written,
    pub(super) delivery: Delivery,
    /// Symbols that the exchange no longer knows.
    pub(super) delisted: BTreeSet<String>,
    /// The symbol whose trades were last compared.
    pub(super) compared: Option<String>,
    /// Positions that wait for their trades.
    pub(super) waiting: BTreeMap<Side, Waiting>,
    /// True if everything up to the last event was written.
    pub(super) is_whole: bool,
    pub(super) sink: Sink,
    pub(super) state: State,
}

/// A position from an event.
pub(super) struct Waiting {
    row: PositionRow,
    /// When it is written.
    due: Instant,
    /// Until when it may be written.
    until: Until,
}

/// The reason why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("the connection is renewed before the exchange ends it")]
    Renewed,
    #[error("the listen key has expired")]
    KeyExpired,
    #[error("the socket sends no events: {} changed at the exchange", .0.join(", "))]
    NotDelivering(Vec<String>),
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
            Self::NotDelivering(_) => "not_delivering",
            Self::Call(_) => "call",
            Self::Socket(error) => error.name(),
        }
    }
}

impl UserFeed {
    pub(super) fn new(
        config: &Config,
        client: Client,
        state: State,
        connection_age: Duration,
        keep_alive: Duration,
    ) -> anyhow::Result<Self> {
        if let Some(reason) = client.no_credentials {
            bail!("feed user: {}no credentials: {reason}", of_account(&client.account));
        }
        Ok(Self {
            written: Written::new(&client.account, config.exchange.venue.terms()),
            account: client.account,
            venue: config.exchange.venue,
            environment: config.exchange.environment,
            url: config.feed.user_url.clone(),
            ca_file: config.exchange.ca_file.clone(),
            exchange: client.exchange,
            stall: Duration::from_millis(config.feed.stall_ms),
            compare: Duration::from_millis(config.feed.compare_ms),
            connection_age,
            keep_alive: keep_alive.max(Duration::from_secs(1)),
            stream: fetch::observation_stream(&config.streams).to_owned(),
            service: config.run.listen.map(|address| format!("http://{address}")),
            delivery: Delivery::default(),
            delisted: BTreeSet::new(),
            compared: None,
            waiting: BTreeMap::new(),
            is_whole: false,
            sink: Sink::new(server::address(config)?, state.clone()),
            state,
        })
    }

    /// Runs without end.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let newest = self.sink.newest(&self.stream, LOOKED_BACK).await;
        self.written.learn(&newest);
        drop(newest);
        let mut delay = RetryDelay::of_feed();
        loop {
            let end = self.session(&mut delay).await;
            self.state.ended(end.name(), &end.to_string());
            let wait = match &end {
                End::Renewed | End::KeyExpired => Duration::ZERO,
                End::Call(error) => match error.wait_ms() {
                    Some(wait_ms) => delay.next().max(Duration::from_millis(wait_ms)),
                    None if error.is_about_credentials() => REFUSED_WAIT,
                    None => delay.next(),
                },
                End::NotDelivering(_) => delay.next(),
                End::Socket(error) => delay_after(error, &mut delay),
            };
            tracing::warn!(account = %self.account, name = end.name(), %end, wait_ms = wait.as_millis(), "FEED_USER_DOWN");
            sleep(wait).await;
        }
    }

    /// Runs one listen key and one connection, until either ends.
    async fn session(&mut self, delay: &mut RetryDelay) -> End {
        match self.connect().await {
            Ok((mut socket, key)) => {
                let Err(end) = self.listen(&mut socket, &key, delay).await;
                // They are written now, because later they would be out of date.
                self.write_positions(Instant::now() + POSITION_DELAY).await;
                // If it is still open, closing it tells the exchange that this client is gone.
                socket.close().await;
                end
            }
            Err(end) => end,
        }
    }

    async fn connect(&mut self) -> Result<(Socket, SecretString), End> {
        let key = self.exchange.open_key().await?;
        self.state.facts().key_alive = Some(std::time::Instant::now());
        let url = self.venue.account_url(&self.url, self.environment, &key);
        let socket = Socket::connect(url.expose_secret(), self.ca_file.as_deref(), CONNECT_LIMIT).await?;
        // Earlier events are not known yet. Such a connection is not healthy yet.
        self.state.facts().gap_open = true;
        self.state.connected();
        Ok((socket, key))
    }

    async fn listen(
        &mut self,
        socket: &mut Socket,
        key: &SecretString,
        delay: &mut RetryDelay,
    ) -> Result<std::convert::Infallible, End> {
        // Events that come meanwhile wait in the socket. A trade that comes from both sources is written once.
        self.is_whole = false;
        self.delivery.excuse();
        let mut gap_at = Some(Instant::now());
        let mut look_at = Instant::now() + self.compare;
        let mut restore_at = None;
        let mut keep_alive = interval_at(Instant::now() + self.keep_alive, self.keep_alive);
        let ends_at = Instant::now() + self.connection_age;
        loop {
            let due = self.waiting.values().map(|waiting| waiting.due).min();
            self.note_doubts();
            // The request for a gap restores the positions, too.
            if self.is_whole && self.delivery.has_doubts() {
                restore_at.get_or_insert_with(|| Instant::now() + RESTORE_DELAY);
            } else {
                restore_at = None;
            }
            let overdue = self.delivery.due();
            tokio::select! {
                biased;
                () = sleep_until(ends_at) => return Err(End::Renewed),
                () = sleep_until(gap_at.unwrap_or(ends_at)), if gap_at.is_some() => {
                    self.fill_gaps().await?;
                    gap_at = (!self.is_whole).then(|| Instant::now() + GAP_RETRY);
                    look_at = Instant::now() + self.compare;
                }
                _ = keep_alive.tick() => {
                    if !self.keep(key).await? {
                        keep_alive.reset_after(KEEP_RETRY.min(self.keep_alive));
                    }
                }
                () = sleep_until(due.unwrap_or(ends_at)), if due.is_some() => self.write_positions(Instant::now()).await,
                () = sleep_until(restore_at.unwrap_or(ends_at)), if restore_at.is_some() => {
                    self.restore().await?;
                    restore_at = Some(Instant::now() + RESTORE_RETRY);
                }
                () = sleep_until(look_at), if self.is_whole => {
                    self.look_again().await?;
                    look_at = Instant::now() + self.compare;
                }
                text = socket.text_or_life(self.stall) => {
                    let text = text?;
                    delay.reset();
                    if let Some(text) = text {
                        self.state.received();
                        self.take(&text).await?;
                    }
                }
                // This branch comes after that of the socket, because the missing event may be waiting there.
                () = sleep_until(overdue.unwrap_or(ends_at)), if overdue.is_some() => self.miss(Instant::now())?,
            }
            if !self.is_whole && gap_at.is_none() {
                gap_at = Some(Instant::now());
            }
        }
    }

    /// Applies one event.
    async fn take(&mut self, text: &str) -> Result<(), End> {
        match self.venue.user_event(text) {
            Ok(UserEvent::Trade { trade, forced }) => {
                let symbol = trade.symbol.clone();
                self.delivery.received(&symbol, Instant::now());
                self.state.delivered();
                if let Some(forced) = forced {
                    self.say_forced(&trade, forced);
                }
                self.write_trades(vec![(trade, forced)]).await;
                if self.is_whole {
                    self.written.fill_to_last(&symbol);
                }
                Ok(())
            }
            Ok(UserEvent::Positions(rows)) => {
                self.take_positions(rows);
                Ok(())
            }
            Ok(UserEvent::KeyExpired) => Err(End::KeyExpired),
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

    fn take_positions(&mut self, rows: Vec<PositionRow>) {
        let now = Instant::now();
        self.state.delivered();
        for row in rows {
            let side = (row.symbol.clone(), row.position_side);
            self.delivery.changed(side.clone(), row.position_amt, now);
            // An event may have waited on its way, or in the socket. Its age shows that, by the exchange's clock.
            let age = row.updated_ms.and_then(|time_ms| self.exchange.age_of(time_ms));
            let until = age.map(Until::of_event).filter(|until| !until.is_over());
            let (Some(age), Some(until)) = (age, until) else {
                self.waiting.remove(&side);
                self.drop_late(side);
                continue;
            };
            if self.waiting.len() < WAITING_MAX || self.waiting.contains_key(&side) {
                let due = now + POSITION_DELAY.saturating_sub(age);
                self.waiting.insert(side, Waiting { row, due, until });
            } else {
                self.drop_late(side);
            }
        }
    }

    /// Drops a position that is out of date. REST is asked for the present one.
    fn drop_late(&mut self, side: Side) {
        tracing::info!(symbol = side.0, "a position came late; it is looked up again");
        self.delivery.doubt(side);
    }

    /// Tells the pages since when positions are not written.
    fn note_doubts(&self) {
        let mut facts = self.state.facts();
        if self.delivery.has_doubts() {
            facts.unwritten.get_or_insert_with(std::time::Instant::now);
        } else {
            facts.unwritten = None;
        }
    }

    /// Reports a position that the exchange itself reduced, because no decision of ours did it.
    fn say_forced(&self, trade: &UserTrade, forced: Forced) {
        *self.state.facts().forced.entry(forced.name()).or_default() += 1;
        tracing::warn!(
            account = %self.account,
            kind = forced.name(),
            symbol = trade.symbol,
            side = trade.side.name(),
            qty = %trade.qty,
            price = %trade.price,
            order_id = trade.order_id,
            trade_id = trade.id,
            "FEED_USER_FORCED the exchange closed by itself"
        );
    }

    /// Reports changes at the exchange that have waited long enough for their events.
    fn miss(&mut self, now: Instant) -> Result<(), End> {
        let symbols = self.delivery.take_undelivered(now);
        if symbols.is_empty() {
            return Ok(());
        }
        self.state.undelivered(&symbols);
        Err(End::NotDelivering(symbols))
    }

    /// Keeps the listen key alive. Returns true if it worked. The key is never closed: an account has one, and other
    /// clients may use it.
    async fn keep(&mut self, key: &SecretString) -> Result<bool, End> {
        match self.exchange.keep_key(key).await {
            Ok(()) => {
                self.state.facts().key_alive = Some(std::time::Instant::now());
                Ok(true)
            }
            Err(error) if error.is_no_key() => Err(End::KeyExpired),
            Err(error) => {
                tracing::warn!(%error, "the listen key was not kept alive");
                Ok(false)
            }
        }
    }

    /// Writes those of these trades that are new.
    pub(super) async fn write_trades(&mut self, trades: Vec<(UserTrade, Option<Forced>)>) {
        let new: Vec<(UserTrade, Option<Forced>)> =
            trades.into_iter().filter(|(trade, _)| self.written.is_new(trade)).collect();
        let observed = new.iter().map(|(trade, forced)| observe::trade_of(trade, *forced).of_account(&self.account));
        let observed: Vec<Observation> = observed.collect();
        self.append_trades(&observed).await;
        for (trade, _) in new {
            self.written.remember(&trade.symbol, trade.id);
        }
    }

    /// Writes the positions that are due at a time. One that is late by now is dropped, and looked up again.
    pub(super) async fn write_positions(&mut self, now: Instant) {
        let waiting = std::mem::take(&mut self.waiting);
        let (due, later) = waiting.into_iter().partition(|(_, waiting)| waiting.due <= now);
        self.waiting = later;
        let due: BTreeMap<Side, Waiting> = due;
        let (late, due): (BTreeMap<_, _>, BTreeMap<_, _>) =
            due.into_iter().partition(|(_, waiting)| waiting.until.is_over());
        late.into_keys().for_each(|side| self.drop_late(side));
        let Some(until) = due.values().map(|waiting| waiting.until).min() else { return };
        let rows: BTreeMap<Side, PositionRow> = due.into_iter().map(|(side, waiting)| (side, waiting.row)).collect();
        if !self.append_positions(&rows, until).await {
            rows.into_keys().for_each(|side| self.drop_late(side));
        }
    }

    /// Appends positions, if that is possible in time. Returns true if they were appended. If it is not known, they count
    /// as not appended.
    pub(super) async fn append_positions(&mut self, rows: &BTreeMap<Side, PositionRow>, until: Until) -> bool {
        let observed: Vec<Observation> =
            rows.values().map(|row| observe::position(row).of_account(&self.account)).collect();
        let appended = self.sink.append_in_time(&self.stream, &entries(&observed), until).await;
        match &appended {
            Ok(true) => self.state.wrote("positions", observed.len() as u64),
            // Redis has used up the time.
            Ok(false) => self.lost_redis(),
            Err(error) => {
                tracing::warn!(%error, "positions are not written; they are looked up again");
                self.lost_redis();
            }
        }
        matches!(appended, Ok(true))
    }

    async fn append_trades(&mut self, observed: &[Observation]) {
        if observed.is_empty() {
            return;
        }
        if self.sink.append(&self.stream, &entries(observed)).await > 0 {
            self.lost_redis();
        }
        self.state.wrote("trades", observed.len() as u64);
    }

    /// Notes that Redis was away. The stream may lack what was written before, so all positions are looked up again. A
    /// position that waits is newer.
    fn lost_redis(&mut self) {
        self.delivery.doubt_all();
        for (side, waiting) in &self.waiting {
            self.delivery.wrote(side.clone(), waiting.row.position_amt);
        }
    }
}

/// Returns the fields of entries.
fn entries(observed: &[Observation]) -> Vec<Vec<(&str, &str)>> {
    observed.iter().map(|one| one.fields().into_iter().chain([("source", FEED_SOURCE)]).collect()).collect()
}
