//! The state of a feed, for health and metrics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::codec::time;
use crate::domain::named;
use crate::service::exchange::of_account;

named! {
    /// The kind of feed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    pub enum Feed {
        Mark => "mark",
        User => "user",
    }
}

/// State that the feed writes and its pages read.
#[derive(Clone, Debug)]
pub(super) struct State {
    feed: Feed,
    /// Account of a user feed; empty for the one without a name.
    account: Box<str>,
    stall: Duration,
    /// Time between two comparisons of an account's socket with REST.
    compare: Duration,
    /// A listen key that is not kept alive expires after this time.
    key_life: Duration,
    began: Instant,
    facts: Arc<Mutex<Facts>>,
}

#[derive(Debug, Default)]
pub(super) struct Facts {
    pub connected: bool,
    pub connects: u64,
    pub messages: u64,
    /// Messages or rows that could not be read.
    pub unreadable: u64,
    /// Entries written: prices, trades, positions.
    pub written: BTreeMap<&'static str, u64>,
    /// Ends of connections, by name.
    pub endings: BTreeMap<&'static str, u64>,
    pub message: Option<Instant>,
    pub wrote: Option<Instant>,
    /// Symbols whose price is wanted; `None` if all are.
    pub wanted: Option<BTreeSet<String>>,
    /// When a price of a symbol was last written.
    pub prices: BTreeMap<String, Instant>,
    /// Since when a symbol is wanted.
    pub wanted_since: BTreeMap<String, Instant>,
    /// When the listen key was last opened or kept alive.
    pub key_alive: Option<Instant>,
    /// Symbols that changed at the exchange without an event; kept until an event comes.
    pub undelivered: Option<Vec<String>>,
    /// Changes that REST showed without an event.
    pub undelivered_count: u64,
    /// When an event of the account last came.
    pub event: Option<Instant>,
    /// When the events of the socket were last compared with REST.
    pub compared: Option<Instant>,
    /// Fills that the exchange forced, by their kind.
    pub forced: BTreeMap<&'static str, u64>,
    /// True if trades of a gap are not yet read.
    pub gap_open: bool,
    /// True if Redis rejects our writes.
    pub redis_down: bool,
    /// Since when an answer of Redis is awaited.
    pub redis_asked: Option<Instant>,
    /// Since when a position is not written, because what the exchange said became out of date.
    pub unwritten: Option<Instant>,
    /// The last error, until something is written.
    pub error: Option<String>,
}

/// A question to Redis that is not answered yet.
pub(super) struct AskingRedis(State);

impl Drop for AskingRedis {
    fn drop(&mut self) {
        self.0.facts().redis_asked = None;
    }
}

/// The health of the feed, for people and programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Health {
    pub reasons: Vec<String>,
}

/// More failed comparisons in a row than this are a finding. [1]
const COMPARISONS_MISSED: u32 = 5;
/// Redis is not connected if it has not answered for this time.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// A position that is not written for longer than this is a finding: usually it takes two calls.
const UNWRITTEN_MAX: Duration = Duration::from_secs(5);
/// Maximum number of symbols that are named one by one.
const NAMED_MAX: usize = 10;

impl State {
    pub(super) fn new(feed: Feed, stall: Duration, compare: Duration, key_life: Duration) -> Self {
        Self { feed, account: Box::default(), stall, compare, key_life, began: Instant::now(), facts: Arc::default() }
    }

    /// Returns the state as the state of one account.
    pub(super) fn of_account(self, account: &str) -> Self {
        Self { account: account.into(), ..self }
    }

    pub(super) fn account(&self) -> &str {
        &self.account
    }

    pub(super) fn feed(&self) -> Feed {
        self.feed
    }

    pub(super) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a connection was opened.
    pub(super) fn connected(&self) {
        let mut facts = self.facts();
        facts.connected = true;
        facts.connects += 1;
    }

    /// Notes that a connection ended, or could not be opened.
    pub(super) fn ended(&self, name: &'static str, why: &str) {
        let mut facts = self.facts();
        facts.connected = false;
        *facts.endings.entry(name).or_default() += 1;
        facts.error = Some(why.to_owned());
    }

    /// Notes an event of the account: the socket delivers.
    pub(super) fn delivered(&self) {
        let mut facts = self.facts();
        facts.event = Some(Instant::now());
        facts.undelivered = None;
    }

    /// Notes symbols that changed at the exchange without an event.
    pub(super) fn undelivered(&self, symbols: &[String]) {
        let mut facts = self.facts();
        facts.undelivered_count += symbols.len() as u64;
        facts.undelivered = Some(symbols.to_vec());
    }

    pub(super) fn received(&self) {
        let mut facts = self.facts();
        facts.messages += 1;
        facts.message = Some(Instant::now());
    }

    pub(super) fn wrote(&self, what: &'static str, count: u64) {
        let mut facts = self.facts();
        *facts.written.entry(what).or_default() += count;
        facts.wrote = Some(Instant::now());
        facts.error = None;
        facts.redis_down = false;
    }

    /// Notes that prices of these symbols were written.
    pub(super) fn wrote_prices(&self, symbols: impl Iterator<Item = String>) {
        let now = Instant::now();
        self.facts().prices.extend(symbols.map(|symbol| (symbol, now)));
    }

    /// Notes a question to Redis. It is answered, or given up, when the returned value is dropped.
    pub(super) fn asks_redis(&self) -> AskingRedis {
        self.facts().redis_asked.get_or_insert_with(Instant::now);
        AskingRedis(self.clone())
    }

    /// Sets the symbols whose prices are wanted from now on; `None` for all.
    pub(super) fn want(&self, wanted: Option<BTreeSet<String>>) {
        let now = Instant::now();
        let mut facts = self.facts();
        if let Some(wanted) = &wanted {
            facts.wanted_since.retain(|symbol, _| wanted.contains(symbol));
            for symbol in wanted {
                facts.wanted_since.entry(symbol.clone()).or_insert(now);
            }
        } else {
            facts.wanted_since.clear();
        }
        facts.wanted = wanted;
    }

    /// Returns the health. A feed that is connected and writes nothing is not healthy: the age of the last price of
    /// each wanted symbol counts.
    pub(super) fn health(&self) -> Health {
        let facts = self.facts();
        let mut reasons = match self.feed {
            Feed::Mark => self.price_reasons(&facts),
            Feed::User => self.user_reasons(&facts),
        };
        if facts.redis_down || facts.redis_asked.is_some_and(|at| at.elapsed() >= ANSWER_MAX) {
            reasons.push("not_connected: redis: what is to be written is not taken".to_owned());
        }
        if let (false, Some(error)) = (reasons.is_empty(), &facts.error) {
            reasons.push(format!("last error: {error}"));
        }
        let whose = of_account(&self.account);
        Health { reasons: reasons.into_iter().map(|reason| format!("{whose}{reason}")).collect() }
    }

    /// Returns one line for people.
    pub(super) fn summary(&self) -> String {
        let facts = self.facts();
        let written: Vec<String> = facts.written.iter().map(|(what, count)| format!("{what}={count}")).collect();
        let age = facts.wrote.map_or_else(|| "never".to_owned(), |at| format!("{} ms ago", at.elapsed().as_millis()));
        let written = if written.is_empty() { "nothing written".to_owned() } else { written.join(" ") };
        let whose = if self.account.is_empty() { String::new() } else { format!("account={} ", self.account) };
        format!("{whose}connected={} {written} last={age} connects={}", facts.connected, facts.connects)
    }

    fn price_reasons(&self, facts: &Facts) -> Vec<String> {
        let limit = self.stall * 2;
        let age = |at: Option<&Instant>| at.unwrap_or(&self.began).elapsed();
        let Some(_) = &facts.wanted else {
            let age = age(facts.wrote.as_ref());
            return if age > limit { vec![format!("no price written for {}", words(age))] } else { Vec::new() };
        };
        // Without an open position, it is enough that a message could have been written.
        if facts.wanted_since.is_empty() {
            let age = age(facts.message.as_ref());
            return if age > limit { vec![format!("no message for {}", words(age))] } else { Vec::new() };
        }
        let late = facts.wanted_since.iter().filter_map(|(symbol, since)| {
            let age = facts.prices.get(symbol).filter(|at| *at > since).unwrap_or(since).elapsed();
            (age > limit).then(|| (symbol, age, facts.prices.contains_key(symbol)))
        });
        let late: Vec<_> = late.collect();
        let reason = |(symbol, age, ever): &(&String, Duration, bool)| {
            let ever = if *ever { "" } else { ", and none ever" };
            format!("{symbol}: no price written for {}{ever}", words(*age))
        };
        let mut reasons: Vec<String> = late.iter().take(NAMED_MAX).map(reason).collect();
        if late.len() > NAMED_MAX {
            reasons.push(format!("and {} more symbols without a price", late.len() - NAMED_MAX));
        }
        reasons
    }

    fn user_reasons(&self, facts: &Facts) -> Vec<String> {
        let mut reasons = Vec::new();
        if !facts.connected {
            reasons.push("not connected to the account's stream".to_owned());
        }
        match facts.key_alive {
            None => reasons.push("no listen key yet".to_owned()),
            Some(at) if at.elapsed() > self.key_life => {
                reasons.push(format!("the listen key was not kept alive for {} s", at.elapsed().as_secs()));
            }
            Some(_) => {}
        }
        if let Some(symbols) = &facts.undelivered {
            let more = symbols.len().saturating_sub(NAMED_MAX);
            let named = symbols.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            reasons.push(format!(
                "the account's stream delivers nothing: {named}{more} changed at the exchange and no event came; REST is asked instead"
            ));
        }
        if let Some(at) =
            facts.compared.filter(|at| facts.connected && at.elapsed() > self.compare * COMPARISONS_MISSED)
        {
            reasons.push(format!("not compared with REST for {} s", at.elapsed().as_secs()));
        }
        if let Some(at) = facts.unwritten.filter(|at| at.elapsed() > UNWRITTEN_MAX) {
            let s = at.elapsed().as_secs();
            reasons.push(format!("positions are not written for {s} s: the exchange's answers are late, or not taken"));
        }
        if facts.gap_open {
            reasons.push("trades of a gap are not read yet".to_owned());
        }
        reasons
    }
}

/// Formats an age for people.
fn words(age: Duration) -> String {
    time::span(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}
