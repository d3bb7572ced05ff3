//! The exchange: environment and addresses, its clock, the key and its kind, the account mode, and whether the
//! account's socket delivers, as far as the feed itself reports it.

use std::net::SocketAddr;

use super::check::Check;
use crate::codec::exchange::{AccountMode, KeyKind, place_of};
use crate::config::Config;
use crate::service::exchange::{self, Client};
use crate::service::feed::{self, Feed, FeedHealth};
use crate::shell::exchange::CallError;
use crate::shell::web::{self, ClientError};

const AREA: &str = "exchange";
/// Clocks further apart than this make prices appear late. [ms]
const CLOCKS_APART_MS: u64 = 1_000;

pub async fn checks(config: &Config) -> Vec<Check> {
    let mut checks = addresses(config);
    let clients = match exchange::clients(config) {
        Ok(clients) => clients,
        Err(error) => {
            checks.push(Check::problem(AREA, "settings", error.to_string(), "correct [exchange]"));
            return checks;
        }
    };
    checks.push(reachable(config, &clients[0]).await);
    // Who names accounts need not have one without a name.
    let is_only = clients.len() == 1;
    for client in clients.iter().filter(|client| is_only || !client.account.is_empty() || has_credentials(client)) {
        checks.extend(of_account(client).await);
    }
    if clients.iter().any(has_credentials) {
        checks.push(delivery(config).await);
    }
    checks
}

fn has_credentials(client: &Client) -> bool {
    client.no_credentials.is_none()
}

/// Checks the credentials and the mode of an account.
async fn of_account(client: &Client) -> Vec<Check> {
    let whose = exchange::of_account(&client.account);
    if let Some(reason) = &client.no_credentials {
        if reason == exchange::OF_ANOTHER_CELL {
            return Vec::new();
        }
        let next = "set key and secret of the account in the environment file, without quotes, blanks and carriage returns; a private key also as a file (api_secret_file)";
        return vec![Check::problem(AREA, "credentials", format!("{whose}{reason}"), next)];
    }
    let (credentials, shown) = credentials(client, &whose).await;
    match shown {
        Some(shown) => vec![credentials, mode(client, &whose, shown).await],
        None => vec![credentials],
    }
}

/// Checks that all addresses are of one environment, and of the present form.
fn addresses(config: &Config) -> Vec<Check> {
    let (environment, feed) = (config.exchange.environment, &config.feed);
    let found = format!(
        "{}: {}, prices {}, account {} with the listen key as a {}",
        environment.name, config.exchange.base_url, feed.mark_url, feed.user_url, feed.key_form
    );
    let mut checks = vec![Check::ok(AREA, "environment", found)];
    let market = environment.market;
    for (name, url) in [("mark_url", &feed.mark_url), ("user_url", &feed.user_url)] {
        let Some((_, of_url)) = place_of(url) else { continue };
        let path = if name == "mark_url" { of_url.mark_path } else { of_url.user_path };
        if of_url.market != market {
            let found =
                format!("feed.{name} is of the {} market, exchange.base_url of the {market} market", of_url.market);
            checks.push(Check::problem(AREA, "environment", found, "leave it out: exchange.environment sets it"));
        } else if !url.contains(path) {
            let found = format!("feed.{name} is not below {path}: such a socket connects and stays silent");
            checks.push(Check::problem(AREA, "environment", found, "leave it out: exchange.environment sets it"));
        }
    }
    checks
}

async fn reachable(config: &Config, client: &Client) -> Check {
    let base = &config.exchange.base_url;
    match client.exchange.server_time().await {
        Ok(_) => {
            let offset_ms = client.exchange.health().clock_offset_ms.unwrap_or(0);
            let found = format!("{base} answers; its clock is {offset_ms} ms off ours");
            if offset_ms.unsigned_abs() > CLOCKS_APART_MS {
                let next = "synchronise this machine's clock: prices of the exchange look late";
                return Check::warning(AREA, "reachable", found, next);
            }
            Check::ok(AREA, "reachable", found)
        }
        Err(CallError::Banned { status: 451, .. } | CallError::Waiting { status: 451, .. }) => {
            let found = format!("{base}: refused (451): the exchange does not serve this location");
            Check::problem(
                AREA,
                "reachable",
                found,
                "run it where the exchange serves; it is asked again after minutes",
            )
        }
        Err(error) => {
            let next = "look at network, firewall and base_url; during a ban, wait: more calls make it longer";
            Check::problem(AREA, "reachable", format!("{base}: {error}"), next)
        }
    }
}

/// Tries a signed call. Returns the check and, if the call was answered, the mode that its rows show.
async fn credentials(client: &Client, whose: &str) -> (Check, Option<Option<AccountMode>>) {
    let kind = client.exchange.key_kind().map_or("no", KeyKind::name);
    match client.exchange.positions().await {
        Ok(positions) => {
            let open = positions.open().count();
            let found = format!("{whose}a call signed with an {kind} key was answered: {open} open positions");
            (Check::ok(AREA, "credentials", found), Some(positions.mode()))
        }
        Err(error) if error.is_about_credentials() => {
            let next = "make a key with the right to read futures, allow this address, and set it for this environment (keys of one are none of another); the secret has to be of the kind that the key was made with";
            (Check::problem(AREA, "credentials", format!("{whose}{error}"), next), None)
        }
        Err(error @ CallError::Refused { .. }) => {
            (Check::problem(AREA, "credentials", format!("{whose}{error}"), "see the exchange's message"), None)
        }
        Err(error) => {
            let found = format!("{whose}the call could not be made: {error}");
            (Check::warning(AREA, "credentials", found, "see exchange reachable"), None)
        }
    }
}

async fn mode(client: &Client, whose: &str, shown: Option<AccountMode>) -> Check {
    let mode = match shown {
        Some(AccountMode::Hedge) => Ok(AccountMode::Hedge),
        _ => client.exchange.account_mode().await,
    };
    match (mode, shown) {
        (Ok(mode), _) | (Err(_), Some(mode)) => Check::ok(AREA, "account", format!("{whose}{} mode", mode.name())),
        (Err(error), None) => {
            let found = format!("{whose}whether it is in hedge mode is not known: {error}");
            Check::warning(AREA, "account", found, "look at the exchange: the entries have to be of the same mode")
        }
    }
}

/// Checks the report of the user feed, if it runs with this configuration.
async fn delivery(config: &Config) -> Check {
    const SUBJECT: &str = "account socket";
    let Some(address) = config.feed.listen.and_then(feed::user_address) else {
        return Check::ok(AREA, SUBJECT, "not looked at: [feed] listen is not set");
    };
    match web::get(&base(address), "/healthz").await {
        Ok(body) => match health_of_user_feed(&body) {
            Some(_) => Check::ok(AREA, SUBJECT, format!("the user feed at {address} delivers, as far as REST shows")),
            None => Check::ok(AREA, SUBJECT, format!("not looked at: what answers at {address} is no user feed")),
        },
        Err(error) => {
            let health = match &error {
                ClientError::Refused { body, .. } => health_of_user_feed(body),
                _ => None,
            };
            let Some(FeedHealth { reasons, .. }) = health else {
                return Check::ok(AREA, SUBJECT, format!("not looked at: no user feed at {address}"));
            };
            let found = format!("the user feed at {address} has findings: {}", reasons.join("; "));
            let next = "see its log; fills and positions come from REST meanwhile, within [backfill] position_poll_ms";
            Check::problem(AREA, SUBJECT, found, next)
        }
    }
}

fn base(address: SocketAddr) -> String {
    format!("http://{address}")
}

fn health_of_user_feed(body: &str) -> Option<FeedHealth> {
    let health: FeedHealth = serde_json::from_str(body).ok()?;
    (health.feed == Some(Feed::User)).then_some(health)
}
