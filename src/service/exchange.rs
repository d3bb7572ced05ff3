//! The exchange of the configuration: a client for each account.

use crate::codec::exchange::{CredentialProblem, Credentials};
use crate::config::Config;
use crate::shell::exchange::{Exchange, Settings, SetupError};

/// Largest difference between the clocks of the exchange and of our machines. [ms]
pub(super) const EXCHANGE_CLOCK_APART_MAX_MS: u64 = 60_000;

/// The reason why a cell makes no signed calls for the account without a name. It is not a fault.
pub const OF_ANOTHER_CELL: &str = "another cell reads the account without a name";

/// The client of an account. An account without credentials has the reason why: the name of the variable, never its
/// value.
pub struct Client {
    /// Empty for the account without a name.
    pub account: Box<str>,
    pub exchange: Exchange,
    pub no_credentials: Option<String>,
}

/// Returns the client of the account without a name. Sends nothing.
pub fn client(config: &Config) -> Result<Client, SetupError> {
    let (credentials, no_credentials) = parts(config.exchange.credentials());
    let settings = Settings {
        recv_window_ms: config.exchange.recv_window_ms,
        timeout_ms: config.exchange.timeout_ms,
        position_version: config.exchange.position_version,
        ca_file: config.exchange.ca_file.clone(),
        credentials,
        // The file is beside the store, so that waits and bans are those of every process of this service, also after a
        // restart.
        state_file: Some(config.run.store.with_extension("exchange")),
        ..Settings::new(config.exchange.venue, &config.exchange.base_url)
    };
    Ok(Client { account: Box::default(), exchange: Exchange::new(settings)?, no_credentials })
}

/// Returns the clients of all accounts, which share the limits of the address. The account without a name is the first.
pub fn clients(config: &Config) -> Result<Vec<Client>, SetupError> {
    let first = client(config)?;
    let mut clients = Vec::with_capacity(1 + config.accounts.len());
    let of_accounts = config.accounts.iter().map(|(account, of)| {
        let (credentials, no_credentials) = parts(of.credentials(config.exchange.venue));
        let exchange = first.exchange.for_account(account, credentials);
        Client { account: account.clone(), exchange, no_credentials }
    });
    clients.extend(of_accounts);
    // A cell that does not read the account without a name skips its entries, so this client makes no signed calls.
    let first = if config.streams.selection().contains("") {
        first
    } else {
        let reason = OF_ANOTHER_CELL.to_owned();
        Client { exchange: first.exchange.for_account("", None), no_credentials: Some(reason), ..first }
    };
    clients.insert(0, first);
    Ok(clients)
}

fn parts(checked: Result<Credentials, CredentialProblem>) -> (Option<Credentials>, Option<String>) {
    match checked {
        Ok(credentials) => (Some(credentials), None),
        Err(problem) => (None, Some(problem.to_string())),
    }
}

/// Returns words that name an account in front of a text; nothing for the account without a name.
pub fn of_account(account: &str) -> String {
    if account.is_empty() { String::new() } else { format!("account {account}: ") }
}
