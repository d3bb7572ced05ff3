//! `feed mark`: mark prices of all symbols, each second, from the exchange's socket.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::lag::{Lag, ms};
use super::reconnect::delay_after;
use super::sink::Sink;
use super::state::State;
use super::symbols;
use crate::codec::exchange::{MarkPrice, Venue, mark_payload};
use crate::config::{Config, FeedSymbols};
use crate::service::retry_delay::RetryDelay;
use crate::service::said::Until;
use crate::service::server;
use crate::shell::exchange::{Socket, SocketError};
use crate::shell::redis::{MarkPlaces, MarkText};
use crate::shell::uptime::Moment;

/// How long the price hashes exist after their last price.
const HASH_EXPIRY: Duration = Duration::from_secs(10);
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How to read the messages of a socket.
#[derive(Clone, Copy)]
struct SocketSettings {
    venue: &'static dyn Venue,
    /// Longest silence.
    stall: Duration,
    connection_age: Duration,
}

pub(super) struct MarkFeed {
    url: String,
    ca_file: Option<PathBuf>,
    settings: SocketSettings,
    places: MarkPlaces,
    /// The service that knows the open positions; `None` if the prices of all symbols are wanted.
    service: Option<String>,
    sink: Sink,
    state: State,
}

impl MarkFeed {
    pub(super) fn new(config: &Config, state: State, connection_age: Duration) -> anyhow::Result<Self> {
        let service = match config.feed.symbols {
            FeedSymbols::Open => config.run.listen.map(|address| format!("http://{address}")),
            FeedSymbols::All => None,
        };
        Ok(Self {
            url: config.feed.mark_url.clone(),
            ca_file: config.exchange.ca_file.clone(),
            settings: SocketSettings {
                venue: config.exchange.venue,
                stall: Duration::from_millis(config.feed.stall_ms),
                connection_age,
            },
            places: MarkPlaces {
                stream: config.feed.mark_stream.clone(),
                entries_max: config.feed.mark_maxlen,
                expiry: HASH_EXPIRY,
            },
            service,
            sink: Sink::new(server::address(config)?, state.clone()),
            state,
        })
    }

    /// Runs without end.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let following = async {
            match &self.service {
                Some(service) => symbols::follow(service.clone(), self.state.clone()).await,
                None => std::future::pending().await,
            }
        };
        let following = Box::pin(following);
        let (url, ca_file) = (self.url.clone(), self.ca_file.clone());
        let (settings, state) = (self.settings, self.state.clone());
        let (places, sink) = (&self.places, &mut self.sink);
        let feeding = async {
            let mut delay = RetryDelay::of_feed();
            loop {
                let ended = match Socket::connect(&url, ca_file.as_deref(), CONNECT_LIMIT).await {
                    Ok(socket) => {
                        state.connected();
                        listen(socket, settings, places, sink, &state, &mut delay).await
                    }
                    Err(error) => Some(error),
                };
                let Some(error) = ended else { continue };
                state.ended(error.name(), &error.to_string());
                let wait = delay_after(&error, &mut delay);
                tracing::warn!(name = error.name(), %error, wait_ms = wait.as_millis(), "FEED_MARK_DOWN");
                tokio::time::sleep(wait).await;
            }
        };
        tokio::select! {
            () = following => Ok(()),
            ended = feeding => ended,
        }
    }
}

/// Writes the messages of a socket until it ends. Returns `None` if the end is a planned renewal.
async fn listen(
    mut socket: Socket,
    settings: SocketSettings,
    places: &MarkPlaces,
    sink: &mut Sink,
    state: &State,
    delay: &mut RetryDelay,
) -> Option<SocketError> {
    let began = Instant::now();
    // For the differences of times only.
    let (start, mut lag) = (Moment::now(), Lag::default());
    loop {
        let text = match socket.text(settings.stall).await {
            Ok(text) => text,
            Err(error) => {
                // A silent socket is still open. Closing it tells the exchange that this client is gone.
                socket.close().await;
                return Some(error);
            }
        };
        // Messages that have waited are read before anything is written, so that only the newest prices are.
        let mut newest: BTreeMap<String, MarkText> = BTreeMap::new();
        let mut next = Some(text);
        while let Some(text) = next {
            state.received();
            if let Some(marks) = read(settings.venue, &text, state) {
                delay.reset();
                let arrived_ms = ms(start.age());
                let in_time = marks.into_iter().filter(|mark| !lag.is_late(arrived_ms, mark.time_ms));
                newest.extend(in_time.map(|mark| (mark.symbol.clone(), mark)));
            }
            next = socket.text_at_hand();
        }
        let marks: Vec<MarkText> = newest.into_values().collect();
        if marks.is_empty() {
            continue;
        }
        match sink.marks(places, &marks, Until::of_event(Duration::ZERO)).await {
            Ok(true) => {
                state.wrote("prices", marks.len() as u64);
                state.wrote_prices(marks.into_iter().map(|mark| mark.symbol));
            }
            Ok(false) => tracing::warn!(prices = marks.len(), "FEED_MARK_NOT_WRITTEN too late"),
            Err(error) => tracing::warn!(%error, prices = marks.len(), "FEED_MARK_NOT_WRITTEN"),
        }
        if began.elapsed() >= settings.connection_age {
            tracing::info!("the connection is renewed before the exchange ends it");
            *state.facts().endings.entry("renewed").or_default() += 1;
            socket.close().await;
            return None;
        }
    }
}

/// Returns the wanted prices of a message; `None` if it is not a message of prices.
fn read(venue: &dyn Venue, text: &str, state: &State) -> Option<Vec<MarkText>> {
    let (marks, bad) = match venue.mark_updates(text) {
        Ok(read) => read,
        Err(error) => {
            state.facts().unreadable += 1;
            tracing::warn!(%error, "a message of the exchange cannot be read");
            return None;
        }
    };
    if let Some(first) = bad.first() {
        state.facts().unreadable += bad.len() as u64;
        tracing::warn!(rows = bad.len(), %first, "mark prices that cannot be read are left out");
    }
    let facts = state.facts();
    let is_wanted = |mark: &MarkPrice| facts.wanted.as_ref().is_none_or(|wanted| wanted.contains(&mark.symbol));
    let written = |mark: MarkPrice| MarkText {
        payload: mark_payload(&mark),
        price: mark.mark_price.to_string(),
        time_ms: mark.time_ms,
        symbol: mark.symbol,
    };
    Some(marks.into_iter().filter(is_wanted).map(written).collect())
}
