//! `[feed]`: market data and fills from the exchange's sockets.

use std::net::SocketAddr;

use super::error::ConfigError;
use super::exchange::guarded;
use super::market::{Environment, ListenKeyForm};
use super::table::Sheet;

/// Whose marks are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedSymbols {
    /// Symbols with an open position.
    Open,
    All,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feed {
    pub mark_url: String,
    /// Without the listen key.
    pub user_url: String,
    /// Where the listen key goes in it.
    pub listen_key_form: ListenKeyForm,
    pub mark_stream: String,
    /// About how many entries the stream of marks keeps. [1]
    pub mark_maxlen: u64,
    pub symbols: FeedSymbols,
    /// Without a message for so long the socket is opened anew. [ms]
    pub stall_ms: u64,
    /// Between two comparisons of what the account's socket brought with what REST shows. [ms]
    pub compare_ms: u64,
    /// Where the health of the feed is served; `None` = nowhere.
    pub listen: Option<SocketAddr>,
    /// Names beside its own under which that is asked for.
    pub hosts: Vec<String>,
}

pub(super) fn read(sheet: &mut Sheet<'_>, environment: Environment) -> Result<Feed, ConfigError> {
    let mut table = sheet.table("feed")?;
    let want = "want wss://host/…, without user (ws:// only on this host)";
    let socket = |url: &str| guarded(url, "wss://", "ws://").then(|| url.to_owned());
    let mark_url = table.parsed("mark_url", environment.mark_url(), want, socket)?;
    let without_key = "want wss://host/…, without user, listen key and query (ws:// only on this host)";
    let user_url = table.parsed("user_url", environment.user_url(), without_key, |url| {
        socket(url).filter(|url| !url.contains(['?', '#'])).map(|url| url.trim_end_matches('/').to_owned())
    })?;
    let feed = Feed {
        listen_key_form: ListenKeyForm::of(&user_url, environment),
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
