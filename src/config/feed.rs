//! `[feed]`: market data and fills from the exchange's sockets.

use std::net::SocketAddr;

use super::error::ConfigError;
use super::exchange::{Exchange, guarded};
use super::table::Sheet;

/// The symbols whose mark prices are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedSymbols {
    /// Symbols with an open position.
    Open,
    All,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    pub mark_url: String,
    /// Address of the account's socket, without the listen key.
    pub user_url: String,
    /// Where that address has the listen key, for people.
    pub key_form: &'static str,
    pub mark_stream: String,
    /// Approximate number of entries that the stream of mark prices keeps. [1]
    pub mark_maxlen: u64,
    pub symbols: FeedSymbols,
    /// Time without a message after which the socket is reopened. [ms]
    pub stall_ms: u64,
    /// Interval between two comparisons of the account's socket with the REST interface. [ms]
    pub compare_ms: u64,
    /// Address that serves the health of the feed; `None` = not served.
    pub listen: Option<SocketAddr>,
    /// Additional host names for that address.
    pub hosts: Vec<String>,
}

pub(super) fn read(sheet: &mut Sheet<'_>, exchange: &Exchange) -> Result<Feed, ConfigError> {
    let mut table = sheet.table("feed")?;
    let want = "want wss://host/…, without user (ws:// only on this host)";
    let socket = |url: &str| guarded(url, "wss://", "ws://").then(|| url.to_owned());
    let mark_url = table.parsed("mark_url", exchange.environment.mark_url, want, socket)?;
    let without_key = "want wss://host/…, without user, listen key and query (ws:// only on this host)";
    let user_url = table.parsed("user_url", exchange.environment.user_url, without_key, |url| {
        socket(url).filter(|url| !url.contains(['?', '#'])).map(|url| url.trim_end_matches('/').to_owned())
    })?;
    let feed = Feed {
        key_form: exchange.venue.key_form(&user_url, exchange.environment),
        mark_url,
        user_url,
        mark_stream: table.name("mark_stream", None, "quantum:stream:market.mark")?,
        mark_maxlen: table.whole("mark_maxlen", 10_000, 100..=1_000_000_000)?,
        symbols: table.word("symbols", "open", &[("open", FeedSymbols::Open), ("all", FeedSymbols::All)])?,
        stall_ms: table.whole("stall_ms", 10_000, 500..=600_000)?,
        compare_ms: table.whole("compare_ms", 60_000, 500..=3_600_000)?,
        listen: table.listen("listen", "127.0.0.1:9465")?,
        hosts: table.hosts("hosts")?,
    };
    table.finish()?;
    Ok(feed)
}
