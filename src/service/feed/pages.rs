//! The pages of a feed: `/healthz` and `/metrics`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};

use super::state::{Feed, State};
use crate::codec::exchange::Forced;
use crate::shell::web::{Asked, Page, Site};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What `/healthz` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedHealth {
    /// `None` if the process has no feed.
    #[serde(default)]
    pub feed: Option<Feed>,
    #[serde(default)]
    pub reasons: Vec<String>,
    pub status: Status,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Ok,
    Failing,
}

type Number = Gauge<f64, AtomicU64>;
type Labels = Vec<(&'static str, String)>;

/// Returns the pages of the feeds of this process: one, or one for each account.
pub(super) fn site(states: &[State]) -> Site {
    let of = |make: fn(&[State]) -> Page| {
        let states = states.to_vec();
        move |_: Asked| {
            let page = make(&states);
            async move { page }
        }
    };
    Site::default().page("/healthz", of(health)).page("/metrics", of(metrics))
}

fn health(states: &[State]) -> Page {
    let reasons: Vec<String> = states.iter().flat_map(|state| state.health().reasons).collect();
    let (code, status) = if reasons.is_empty() { (200, Status::Ok) } else { (503, Status::Failing) };
    Page::document(code, &FeedHealth { feed: states.first().map(State::feed), reasons, status })
}

fn metrics(states: &[State]) -> Page {
    match text(states) {
        Ok(body) => Page { content_type: CONTENT_TYPE, ..Page::text(200, body) },
        Err(error) => Page::refusal(500, "cannot_write", &error.to_string()),
    }
}

/// Returns the text that `/metrics` prints for a feed whose values are all known, for the reference page.
pub(super) fn everything() -> Result<String, fmt::Error> {
    let minute = Duration::from_secs(60);
    let state = State::new(Feed::User, minute / 2, minute, 60 * minute);
    {
        let mut facts = state.facts();
        let now = Some(Instant::now());
        (facts.message, facts.event, facts.compared, facts.wrote, facts.key_alive) = (now, now, now, now, now);
        let symbol = "BTCUSDT".to_owned();
        facts.wanted_since.insert(symbol.clone(), Instant::now());
        facts.prices.insert(symbol, Instant::now());
        facts.written.insert("prices", 1);
        facts.endings.insert("silent", 1);
    }
    text(&[state])
}

/// Returns all numbers of this moment. Unknown ages are left out.
fn text(states: &[State]) -> Result<String, fmt::Error> {
    let mut page = Metrics { registry: Registry::with_prefix("harvester_feed"), families: BTreeMap::new() };
    for state in states {
        page.add(state);
    }
    let mut text = String::new();
    encode(&mut text, &page.registry)?;
    Ok(text)
}

struct Metrics {
    registry: Registry,
    families: BTreeMap<&'static str, Numbers>,
}

/// A metric, with its values by labels.
#[derive(Clone)]
enum Numbers {
    Gauge(Family<Labels, Number>),
    Counter(Family<Labels, Counter>),
}

impl Metrics {
    /// Adds the numbers of a feed. For an account with a name, the name is a label.
    fn add(&mut self, state: &State) {
        let stalled = if state.health().reasons.is_empty() { 0.0 } else { 1.0 };
        let whose: Labels = match state.account() {
            "" => Vec::new(),
            account => vec![("account", account.to_owned())],
        };
        let with = |name: &'static str, value: &str| {
            whose.iter().cloned().chain([(name, value.to_owned())]).collect::<Labels>()
        };
        let facts = state.facts();
        self.gauge("stalled", "1 while it does not write what it should", whose.clone(), stalled);
        let connected = if facts.connected { 1.0 } else { 0.0 };
        self.gauge("connected", "1 while the socket is open", whose.clone(), connected);
        let undelivered = if facts.undelivered.is_some() { 1.0 } else { 0.0 };
        self.gauge("undelivered", "1 while REST shows changes that no event reported", whose.clone(), undelivered);
        let age = |at: Option<Instant>| at.map(|at| at.elapsed().as_secs_f64());
        for (name, help, value) in [
            ("message_age_seconds", "Since the last message of the exchange", age(facts.message)),
            ("event_age_seconds", "Since the last event of the account", age(facts.event)),
            ("compare_age_seconds", "Since the account's socket was last compared with REST", age(facts.compared)),
            ("write_age_seconds", "Since something was last written", age(facts.wrote)),
            ("listen_key_age_seconds", "Since the listen key was opened or kept alive", age(facts.key_alive)),
        ] {
            if let Some(value) = value {
                self.gauge(name, help, whose.clone(), value);
            }
        }
        self.declare_gauge("price_age_seconds", "Since a price of the symbol was last written");
        for symbol in facts.wanted_since.keys() {
            if let Some(at) = facts.prices.get(symbol) {
                let (name, help) = ("price_age_seconds", "Since a price of the symbol was last written");
                self.gauge(name, help, with("symbol", symbol), at.elapsed().as_secs_f64());
            }
        }
        let wanted = facts.wanted.as_ref().map_or(0, std::collections::BTreeSet::len) as f64;
        self.gauge("symbols_wanted", "Symbols whose prices are written; 0 while all are", whose.clone(), wanted);
        let reconnects = facts.connects.saturating_sub(1);
        self.count("reconnects", "Connections that were made again", whose.clone(), reconnects);
        self.count("messages", "Messages of the exchange", whose.clone(), facts.messages);
        self.count("unreadable", "Messages or rows that could not be read", whose.clone(), facts.unreadable);
        let count_of = facts.undelivered_count;
        let help = "Symbols that changed at the exchange without an event";
        self.count("undelivered_changes", help, whose.clone(), count_of);
        self.declare_counter("written", "Entries written");
        for (what, value) in &facts.written {
            self.count("written", "Entries written", with("what", what), *value);
        }
        // Starts at 0, so that Prometheus sees the first one as an increase.
        for kind in Forced::ALL {
            let value = facts.forced.get(kind.name()).copied().unwrap_or_default();
            self.count("forced", "Fills that the exchange made by itself", with("kind", kind.name()), value);
        }
        self.declare_counter("endings", "Connections that ended or failed");
        for (why, value) in &facts.endings {
            self.count("endings", "Connections that ended or failed", with("why", why), *value);
        }
    }

    fn gauge(&mut self, name: &'static str, help: &str, labels: Labels, value: f64) {
        if let Numbers::Gauge(family) = self.declare_gauge(name, help) {
            family.get_or_create(&labels).set(value);
        }
    }

    fn count(&mut self, name: &'static str, help: &str, labels: Labels, value: u64) {
        if let Numbers::Counter(family) = self.declare_counter(name, help) {
            family.get_or_create(&labels).inc_by(value);
        }
    }

    fn declare_gauge(&mut self, name: &'static str, help: &str) -> Numbers {
        let registry = &mut self.registry;
        let declared = self.families.entry(name).or_insert_with(|| {
            let family = Family::default();
            registry.register(name, help, family.clone());
            Numbers::Gauge(family)
        });
        declared.clone()
    }

    fn declare_counter(&mut self, name: &'static str, help: &str) -> Numbers {
        let registry = &mut self.registry;
        let declared = self.families.entry(name).or_insert_with(|| {
            let family = Family::default();
            registry.register(name, help, family.clone());
            Numbers::Counter(family)
        });
        declared.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State::new(Feed::Mark, Duration::from_secs(30), Duration::from_secs(60), Duration::from_secs(3_600))
    }

    #[test]
    fn feeds_of_several_accounts_are_series_of_one_metric() {
        let (first, main) = (state(), state().of_account("main"));
        main.received();
        let page = text(&[first, main]).expect("the metrics are written");
        assert_eq!(page.matches("# TYPE harvester_feed_messages counter").count(), 1, "{page}");
        for line in ["harvester_feed_messages_total 0", "harvester_feed_messages_total{account=\"main\"} 1"] {
            assert!(page.lines().any(|l| l == line), "{line} in\n{page}");
        }
        assert!(page.contains("harvester_feed_forced_total{account=\"main\",kind=\"liquidation\"} 0"), "{page}");
    }

    #[test]
    fn alerts_ask_for_metrics_that_a_feed_prints() {
        let page = text(&[state()]).expect("the metrics are written");
        let alerts = include_str!("../../../tools/deploy/alerts.yml");
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut asked = alerts.split(|c| !is_word(c)).filter(|word| word.starts_with("harvester_feed_")).peekable();
        assert!(asked.peek().is_some(), "an alert watches the feeds");
        for name in asked {
            let family = name.trim_end_matches("_total");
            assert!(page.contains(&format!("# TYPE {family} ")), "{name} is not printed:\n{page}");
        }
    }
}
