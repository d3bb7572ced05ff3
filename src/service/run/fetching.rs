//! The fetcher of a service: the needs go out on one channel, the outcome of a tick comes back on another.
//!
//! The processor never waits for it. It hands over its needs, and gets facts as entries of the observation stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::message::LeaseState;
use crate::config::{Account, Config, Origin, Source};
use crate::service::exchange;
use crate::service::fetch::{Fetcher, Tick};
use crate::service::report::{AccountRefusal, PositionMode};
use crate::service::write_back::{Goal, Legacy};
use crate::shell::exchange::CircuitState;
use crate::shell::redis::{Address, Server};

/// The longest wait between two checks whether the service stops.
const STEP: Duration = Duration::from_millis(50);

/// The needs of the projection, and the values that other services should know.
#[derive(Clone, Debug, Default)]
pub struct Lacking {
    pub tick: Tick,
    /// The desired content of the hashes of other services; empty if they are not written back.
    pub goals: Vec<Goal>,
}

/// The state of the fetcher.
#[derive(Clone, Debug, Default)]
pub struct Fetched {
    /// Calls to the exchange since the service began. [1]
    pub api_calls: u64,
    pub is_circuit_open: bool,
    /// The status that demanded a wait, and its end. [ms since 1970]
    pub wait: Option<(u16, u64)>,
    pub weight_used: Option<u64>,
    pub last_error: Option<String>,
    /// Why the exchange returns no positions, for each account for which it refuses to.
    pub refusals: Vec<AccountRefusal>,
    pub modes_differ: Vec<PositionMode>,
    /// Accounts that wait too long for a look-up of their positions. [1]
    pub accounts_late: u64,
}

/// Everything that the fetcher needs to begin.
pub struct FetchSetup {
    pub config: Config,
    pub address: Address,
    pub role: watch::Receiver<LeaseState>,
    pub lacking: watch::Receiver<Lacking>,
    pub fetched: watch::Sender<Fetched>,
    pub stop: Arc<AtomicBool>,
}

/// Returns the configured sources. The exchange is one of them only if its address, its environment, its credentials or
/// the list of sources is configured.
fn sources(config: &Config) -> Vec<Source> {
    let is_named =
        |key: &str| config.settings.iter().any(|setting| setting.key == key && setting.origin != Origin::Default);
    let asks = ["exchange.base_url", "exchange.environment", "backfill.sources"].into_iter().any(is_named)
        || config.exchange.given().is_ok()
        || config.accounts.values().any(Account::has_credentials_named);
    config.backfill.sources.iter().copied().filter(|source| *source != Source::Api || asks).collect()
}

/// Fetches until it is stopped, only while this instance has the lease.
pub async fn run(setup: FetchSetup) {
    let mut config = setup.config.clone();
    config.backfill.sources = sources(&config);
    let clients = match exchange::clients(&config) {
        Ok(clients) => clients,
        Err(error) => return tracing::error!(%error, "nothing is fetched: the exchange's client cannot be set up"),
    };
    let mut fetcher = Fetcher::new(&config, setup.address.clone(), clients).for_service();
    let legacy = Legacy::new(&config.backfill.hash_prefix);
    let interval = Duration::from_millis(config.backfill.tick_ms);
    let mut api_calls = 0;
    while !setup.stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        if setup.role.borrow().lease().is_some() {
            let lacking = setup.lacking.borrow().clone();
            let last_error = match fetcher.tick(&lacking.tick).await {
                Ok(report) => {
                    api_calls += report.api_calls;
                    for note in &report.notes {
                        tracing::warn!("[BACKFILL] {note}");
                    }
                    report.notes.last().cloned()
                }
                Err(error) => {
                    tracing::warn!(%error, "fetching failed");
                    Some(error.to_string())
                }
            };
            if !lacking.goals.is_empty() {
                write_back(&legacy, &setup.address, &lacking.goals).await;
            }
            let health = fetcher.exchange_health();
            setup.fetched.send_replace(Fetched {
                api_calls,
                wait: health.waiting,
                is_circuit_open: health.circuit != CircuitState::Closed,
                weight_used: health.used_weight,
                last_error: last_error.or_else(|| fetcher.lasting_failure()).or(health.failure),
                refusals: fetcher.refusals(),
                modes_differ: fetcher.modes_differ().to_vec(),
                accounts_late: fetcher.accounts_late(),
            });
        }
        while began.elapsed() < interval && !setup.stop.load(Ordering::Relaxed) {
            tokio::time::sleep(STEP).await;
        }
    }
}

async fn write_back(legacy: &Legacy, address: &Address, goals: &[Goal]) {
    let mut server = match Server::connect(address).await {
        Ok(server) => server,
        Err(error) => return tracing::warn!(%error, "hashes are not kept in step"),
    };
    for goal in goals {
        match legacy.write(&mut server, goal, false).await {
            Ok(change) => change.lines().iter().for_each(|line| tracing::info!("[BACKFILL] {line}")),
            Err(error) => return tracing::warn!(%error, "hashes are not kept in step"),
        }
    }
}
