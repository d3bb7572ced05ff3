//! The symbols whose prices are wanted: those of the open positions, as the running service knows them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::state::State;
use crate::domain::book::state::parts_of_name;
use crate::shell::web;

/// Time between two requests.
const INTERVAL: Duration = Duration::from_secs(2);
/// An answer that is older than this is not used.
const BELIEVED_FOR: Duration = Duration::from_secs(30);

/// Requests the open positions of the service again and again. While they are unknown, the prices of all symbols are
/// wanted: an unneeded price costs some memory, and without its price a position has a hold.
pub(super) async fn follow(service: String, state: State) {
    let mut answered: Option<Instant> = None;
    loop {
        match ask(&service).await {
            Ok(open) => {
                if answered.is_none() {
                    tracing::info!(%service, "symbols with open positions are asked of the service");
                }
                answered = open.is_some().then(Instant::now);
                state.want(open);
            }
            Err(error) if answered.is_some_and(|at| at.elapsed() > BELIEVED_FOR) => {
                tracing::warn!(%error, "the open positions are not known: prices of all symbols are written");
                answered = None;
                state.want(None);
            }
            Err(error) => tracing::debug!(%error, "the service does not say which positions are open"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The part of a sheet of positions that a feed needs. It has few fields, because the service may have another version.
#[derive(Deserialize)]
struct OpenSymbols {
    positions_unknown: bool,
    unconfirmed: Vec<String>,
    positions: Vec<OpenSymbol>,
}

#[derive(Deserialize)]
struct OpenSymbol {
    symbol: String,
    #[serde(default)]
    account: String,
}

/// Returns the symbols with an open position, of all accounts; `None` if the service does not know any position.
pub(super) async fn ask(service: &str) -> anyhow::Result<Option<BTreeSet<String>>> {
    ask_for(service, None).await
}

/// Returns the symbols with an open position of an account. Otherwise like [`ask`].
pub(super) async fn ask_of(service: &str, account: &str) -> anyhow::Result<Option<BTreeSet<String>>> {
    ask_for(service, Some(account)).await
}

async fn ask_for(service: &str, account: Option<&str>) -> anyhow::Result<Option<BTreeSet<String>>> {
    let body = web::get(service, "/positions?whole=1").await?;
    let sheet: OpenSymbols = serde_json::from_str(&body)?;
    if sheet.positions_unknown {
        return Ok(None);
    }
    let open = sheet.positions.iter().map(|position| (&*position.account, &*position.symbol));
    // A position that is not confirmed yet will need a price a moment later.
    let unconfirmed = sheet.unconfirmed.iter().map(|book| {
        let (account, symbol, _) = parts_of_name(book);
        (account, symbol)
    });
    let is_wanted = |(of, _): &(&str, &str)| account.is_none_or(|account| account == *of);
    Ok(Some(open.chain(unconfirmed).filter(is_wanted).map(|(_, symbol)| symbol.to_owned()).collect()))
}
