//! The pages of a feed: `/healthz` and `/metrics`.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::json;

use super::state::{Feed, State};
use crate::codec::exchange::Forced;
use crate::shell::web::{Asked, Page, Site};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Number = Gauge<f64, AtomicU64>;
type Labels = Vec<(&'static str, String)>;

pub(super) fn site(state: &State) -> Site {
    let of = |make: fn(&State) -> Page| {
        let state = state.clone();
        move |_: Asked| {
            let page = make(&state);
            async move { page }
        }
    };
    Site::default().page("/healthz", of(health)).page("/metrics", of(metrics))
}

fn health(state: &State) -> Page {
    let reasons = state.health().reasons;
    let (status, word) = if reasons.is_empty() { (200, "ok") } else { (503, "failing") };
    Page::json(status, json!({"status": word, "feed": state.feed().name(), "reasons": reasons}).to_string())
}

fn metrics(state: &State) -> Page {
    match text(state) {
        Ok(body) => Page { status: 200, content_type: CONTENT_TYPE, body },
        Err(error) => Page::json(500, json!({"error": "cannot_write", "says": error.to_string()}).to_string()),
    }
}

/// Returns what `/metrics` prints of a feed of which everything is known, for the reference.
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
    text(&state)
}

/// Returns all numbers of this moment. Unknown ages are left out, so that nothing is claimed.
fn text(state: &State) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("harvester_feed");
    let stalled = if state.health().reasons.is_empty() { 0.0 } else { 1.0 };
    {
        let facts = state.facts();
        gauge(&mut registry, "stalled", "1 while it does not write what it should", stalled);
        gauge(&mut registry, "connected", "1 while the socket is open", if facts.connected { 1.0 } else { 0.0 });
        let undelivered = if facts.undelivered.is_some() { 1.0 } else { 0.0 };
        gauge(&mut registry, "undelivered", "1 while REST shows changes that no event told", undelivered);
        let age = |at: Option<Instant>| at.map(|at| at.elapsed().as_secs_f64());
        for (name, help, value) in [
            ("message_age_seconds", "Since the last message of the exchange", age(facts.message)),
            ("event_age_seconds", "Since the last event of the account", age(facts.event)),
            ("compare_age_seconds", "Since the account's socket was last compared with REST", age(facts.compared)),
            ("write_age_seconds", "Since something was last written", age(facts.wrote)),
            ("listen_key_age_seconds", "Since the listen key was opened or kept alive", age(facts.key_alive)),
        ] {
            if let Some(value) = value {
                gauge(&mut registry, name, help, value);
            }
        }
        let ages = Family::<Labels, Number>::default();
        for symbol in facts.wanted_since.keys() {
            if let Some(at) = facts.prices.get(symbol) {
                ages.get_or_create(&vec![("symbol", symbol.clone())]).set(at.elapsed().as_secs_f64());
            }
        }
        registry.register("price_age_seconds", "Since a price of the symbol was last written", ages);
        let wanted = facts.wanted.as_ref().map_or(0, std::collections::BTreeSet::len);
        gauge(&mut registry, "symbols_wanted", "Symbols whose prices are written; 0 while all are", wanted as f64);
        let reconnects = facts.connects.saturating_sub(1);
        count(&mut registry, "reconnects", "Connections that were made again", reconnects);
        count(&mut registry, "messages", "Messages of the exchange", facts.messages);
        count(&mut registry, "unreadable", "Messages or rows that could not be read", facts.unreadable);
        let count_of = facts.undelivered_count;
        count(&mut registry, "undelivered_changes", "Symbols that changed at the exchange without an event", count_of);
        let by_name = |name: &'static str, counts: &std::collections::BTreeMap<&'static str, u64>| {
            let family = Family::<Labels, Counter>::default();
            for (key, value) in counts {
                family.get_or_create(&vec![(name, (*key).to_owned())]).inc_by(*value);
            }
            family
        };
        registry.register("written", "Entries written", by_name("what", &facts.written));
        // Starts at 0, so that the first one is an increase.
        let forced = Forced::ALL.map(|kind| (kind.name(), facts.forced.get(kind.name()).copied().unwrap_or_default()));
        registry.register("forced", "Fills that the exchange made by itself", by_name("kind", &forced.into()));
        registry.register("endings", "Connections that ended or failed", by_name("why", &facts.endings));
    }
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Number::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn count(registry: &mut Registry, name: &str, help: &str, value: u64) {
    let counter: Counter = Counter::default();
    counter.inc_by(value);
    registry.register(name, help, counter);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_ask_for_metrics_that_a_feed_prints() {
        let page =
            text(&State::new(Feed::Mark, Duration::from_secs(30), Duration::from_secs(60), Duration::from_secs(3_600)))
                .expect("the metrics are written");
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
