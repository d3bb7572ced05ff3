//! `harvester feed`: services that write the messages of the exchange's sockets to the streams.
//!
//! Promises: a feed is healthy if it delivers, not if it is connected. Every loss is reported by name.
//!
//! In reading order: `state` (the data of health and metrics), `pages`, `reconnect`, `symbols` (whose prices), `sink`
//! (writes), `mark` with `lag` (late messages), `user` with `gaps` (trades that were missed), `delivery` (compares the
//! socket with REST) and `rest` (the requests to REST).

mod delivery;
mod gaps;
mod lag;
mod mark;
mod pages;
mod reconnect;
mod rest;
mod sink;
mod state;
mod symbols;
mod user;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};

use crate::codec::exchange::environment_of;
use crate::config::flags::RedisFlag;
use crate::config::{self, Config};
use crate::service::exchange::{self, Client};
use crate::shell::systemd::Manager;
use crate::shell::web::WebServer;
use state::State;

pub use pages::FeedHealth;
pub use state::Feed;

/// An exchange may end a connection after a day. The feed renews it earlier. [s]
const CONNECTION_AGE_S: u64 = 23 * 3_600;
/// A listen key expires after an hour or later. [s]
const KEEP_ALIVE_S: u64 = 30 * 60;

/// Returns the text that `/metrics` prints for a feed whose values are all known. The reference page is generated from
/// it.
pub fn all_metrics() -> Result<String, std::fmt::Error> {
    pages::everything()
}

#[derive(Debug, clap::Subcommand)]
pub enum Args {
    /// Mark prices of all symbols, from the exchange's socket into the price stream and the price hashes
    #[command(after_help = "Example: harvester feed mark --listen 127.0.0.1:9465
Writes to [feed] mark_stream, quantum:ticker:SYMBOL and quantum:market:SYMBOL. Runs until it is told to stop.")]
    Mark(MarkArgs),
    /// Fills and positions of the accounts, from the exchange's socket into the observation stream
    #[command(after_help = "Examples: harvester feed user --listen 127.0.0.1:9466
          harvester feed user --account main
Needs the credentials of the exchange. Runs until it is told to stop.")]
    User(UserArgs),
}

#[derive(Debug, clap::Args)]
pub struct MarkArgs {
    #[command(flatten)]
    redis: RedisFlag,
    /// Address of its health and metrics; else [feed] listen
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Renew the connection after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = CONNECTION_AGE_S)]
    connection_age: u64,
}

#[derive(Debug, clap::Args)]
pub struct UserArgs {
    #[command(flatten)]
    redis: RedisFlag,
    /// The account; else every account with configured credentials
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Address of its health and metrics (default: the port of [feed] listen plus 1)
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Renew the connection after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = CONNECTION_AGE_S)]
    connection_age: u64,
    /// Renew the listen key every this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = KEEP_ALIVE_S)]
    keep_alive: u64,
}

/// Runs a feed until it is stopped.
pub fn run(args: &Args, config: &Config) -> anyhow::Result<()> {
    let (Args::Mark(MarkArgs { redis, .. }) | Args::User(UserArgs { redis, .. })) = args;
    let config = &redis.over(config)?;
    one_market(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (stall, compare) = (Duration::from_millis(config.feed.stall_ms), Duration::from_millis(config.feed.compare_ms));
    let key_life = Duration::from_millis(config.exchange.venue.terms().key_life_ms);
    runtime.block_on(async {
        match args {
            Args::Mark(args) => {
                let state = State::new(Feed::Mark, stall, compare, key_life);
                let feed = mark::MarkFeed::new(config, state.clone(), Duration::from_secs(args.connection_age))?;
                let listen = args.listen.or(config.feed.listen);
                Box::pin(serve(&[state], listen, &config.feed.hosts, feed.run())).await
            }
            Args::User(args) => {
                let (age, keep_alive) =
                    (Duration::from_secs(args.connection_age), Duration::from_secs(args.keep_alive));
                let (mut states, mut feeds) = (Vec::new(), Vec::new());
                for client in listening(clients(args.account.as_deref(), config)?) {
                    let state = State::new(Feed::User, stall, compare, key_life).of_account(&client.account);
                    feeds.push(user::UserFeed::new(config, client, state.clone(), age, keep_alive)?.run());
                    states.push(state);
                }
                let all = async { futures_util::future::try_join_all(feeds).await.map(drop) };
                let listen = args.listen.or_else(|| user_address(config.feed.listen?));
                Box::pin(serve(&states, listen, &config.feed.hosts, all)).await
            }
        }
    })
}

/// Returns the clients of the accounts to listen to: the named account, or all with configured credentials. The account
/// without a name is one of them if it has credentials, or if no other account has any.
fn clients(account: Option<&str>, config: &Config) -> anyhow::Result<Vec<Client>> {
    let mut clients = exchange::clients(config)?;
    if let Some(account) = account {
        clients.retain(|client| *client.account == *account && !account.is_empty());
        if clients.is_empty() {
            bail!("feed user: there is no account {account}: want [accounts.{account}] in the configuration");
        }
        return Ok(clients);
    }
    let is_named =
        |client: &Client| config.accounts.get(&client.account).is_some_and(config::Account::has_credentials_named);
    let has_named = clients.iter().any(is_named);
    clients.retain(|client| match &*client.account {
        "" => client.no_credentials.is_none() || !has_named,
        _ => is_named(client),
    });
    Ok(clients)
}

/// Leaves out accounts without credentials, and logs each: one missing variable must not stop the feeds of the others. If
/// no account has credentials, all are returned, and the feed names the reason and ends.
fn listening(clients: Vec<Client>) -> Vec<Client> {
    let (with, without): (Vec<Client>, Vec<Client>) =
        clients.into_iter().partition(|client| client.no_credentials.is_none());
    if with.is_empty() {
        return without;
    }
    for Client { account, no_credentials, .. } in &without {
        let reason = no_credentials.as_deref().unwrap_or_default();
        tracing::warn!(
            "feed user: {}no credentials: {reason}; this account is not listened to",
            exchange::of_account(account)
        );
    }
    with
}

/// Checks that all addresses are of one market: prices and fills of one market do not apply to positions of another.
fn one_market(config: &Config) -> anyhow::Result<()> {
    let market = |url: &str| environment_of(url).map(|(_, environment)| environment.market);
    let rest = market(&config.exchange.base_url);
    for (name, url) in [("mark_url", &config.feed.mark_url), ("user_url", &config.feed.user_url)] {
        if let (Some(rest), Some(feed)) = (rest, market(url))
            && rest != feed
        {
            bail!("[feed] {name} is of the {feed} market and [exchange] base_url of the {rest} market");
        }
    }
    Ok(())
}

/// Returns the address of the user feed's pages: the address of `[feed] listen` with the next port. So both feeds can
/// run with one configuration.
pub fn user_address(address: SocketAddr) -> Option<SocketAddr> {
    let port = if address.port() == 0 { 0 } else { address.port().checked_add(1)? };
    Some(SocketAddr::new(address.ip(), port))
}

/// Serves the pages of the feeds of this process until a feed ends or the process is stopped.
async fn serve(
    states: &[State],
    listen: Option<SocketAddr>,
    hosts: &[String],
    feed: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let manager = Manager::from_environment();
    let name = states.first().map_or("", |state| state.feed().name());
    let summary = || states.iter().map(State::summary).collect::<Vec<_>>().join("; ");
    let web = match listen {
        Some(address) => Some(WebServer::start(address, pages::site(states).known_as(hosts)).await?),
        None => None,
    };
    if let Some(web) = &web {
        tracing::info!(address = %web.address(), feed = name, "FEED_START");
    }
    manager.ready(name);
    let mut terminated = signal(SignalKind::terminate()).context("no signals")?;
    let beats = async {
        loop {
            tokio::time::sleep(manager.watchdog_interval().unwrap_or(Duration::from_secs(5))).await;
            // The service manager restarts a feed that does not report. A restart does not help if the exchange keeps
            // the socket closed.
            manager.alive();
            manager.status(&summary());
        }
    };
    let ended = tokio::select! {
        ended = Box::pin(feed) => ended,
        () = beats => Ok(()),
        _ = terminated.recv() => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    manager.stopping();
    tracing::info!(feed = name, "FEED_STOP {}", summary());
    if let Some(web) = web {
        web.stop().await;
    }
    ended
}
