//! The lease task renews the lease, whatever the processor is doing. In addition, one task reads the kill key, and in
//! live mode one task checks which groups read the order requests. Each task has a connection.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use tokio::sync::watch;

use super::claim::OwnClaim;
use super::connect::Connect;
use super::event::LoopEvent;
use super::message::{LeaseHolder, LeaseState};
use super::preflight::unnamed_executors;
use super::reader_status::ReaderStatus;
use crate::codec::operator;
use crate::config::Live;
use crate::shell::redis::{HeldLease, Lease, LeaseKeys, ServerError, StreamFault};

/// Time between two reads of the kill key.
const KILL_INTERVAL: Duration = Duration::from_millis(200);
/// Time between two checks of the groups that read order requests.
const EXECUTORS_INTERVAL: Duration = Duration::from_secs(2);
/// Maximum delay until a task notices the end of the service.
const STEP: Duration = Duration::from_millis(50);
/// If the reader has had no answer for this time, the lease is left to an instance that can read.
const UNREAD_MAX: Duration = Duration::from_secs(10);
/// Time before a failed read is repeated.
const AGAIN: Duration = Duration::from_millis(300);

/// Everything that the lease task needs.
pub struct LeaseSetup {
    pub connect: Connect,
    pub keys: LeaseKeys,
    /// Name of the consumer. If a process of the same name was killed, we take over its lease.
    pub consumer: String,
    pub lasts: Duration,
    /// The accounts that this cell acts for; `None` if it acts for all.
    pub claim: Option<OwnClaim>,
    pub role: watch::Sender<LeaseState>,
    /// The holder of the lease, for the report.
    pub holder: watch::Sender<LeaseHolder>,
    pub reader: Arc<ReaderStatus>,
    pub stop: Arc<AtomicBool>,
    pub events: Sender<LoopEvent>,
}

/// Keeps the lease until it is stopped, then releases it.
pub async fn keep_lease(setup: LeaseSetup) {
    let owner = format!("{} {:016x}", setup.consumer, fastrand::u64(..));
    let mut lease: Option<Lease> = None;
    let mut inherits = true;
    let mut has_duplicate = false;
    let mut failed = String::new();
    while !setup.stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let kept = keep(&setup, &owner, &mut lease, inherits).await;
        if kept.is_ok() {
            failed.clear();
        }
        match kept {
            Ok(Some(value)) => {
                inherits = false;
                setup.role.send_if_modified(|role| {
                    let is_new = !matches!(role, LeaseState::Ours { lease, .. } if *lease == value);
                    *role = LeaseState::Ours { lease: value, until: began + setup.lasts };
                    is_new
                });
            }
            Ok(None) => {
                // If another process takes over the lease under our name, it has seen us at work, or we have seen it.
                let is_duplicate = !inherits && setup.holder.borrow().name.as_deref() == Some(&*setup.consumer);
                if is_duplicate && !std::mem::replace(&mut has_duplicate, true) {
                    log_duplicate(&setup.consumer);
                }
                inherits = false;
                setup.role.send_if_modified(|role| std::mem::replace(role, LeaseState::NotOurs) != LeaseState::NotOurs);
            }
            Err(error) => {
                report_failure(&setup, &error, &mut failed);
                // We keep the lease until its time is over. The role knows that time.
                tokio::time::sleep(AGAIN).await;
                lease = reconnected(&setup, lease).await;
                continue;
            }
        }
        let _ = setup.events.send(LoopEvent::Lease);
        pause(&setup.stop, setup.lasts / 4).await;
    }
    setup.role.send_replace(LeaseState::NotOurs);
    if let Some(mut lease) = lease {
        let claim = setup.claim.as_ref().map(|own| &own.claim);
        if let Err(error) = lease.give_back(claim).await {
            tracing::warn!(%error, "the lease was not given back and ends by itself");
        }
    }
}

fn log_duplicate(consumer: &str) {
    tracing::error!(
        consumer,
        "another process runs under this consumer name and holds the lease: give each a name of its own (run.consumer), or \
         stop one of them"
    );
}

/// Reports that the lease could not be kept. Logs each cause once, and not three times a second.
fn report_failure(setup: &LeaseSetup, error: &ServerError, logged: &mut String) {
    if !error.is_unreachable() {
        let LeaseKeys { lease, token } = &setup.keys;
        let stuck = format!("{error}; find who writes {lease} or {token}, and delete the one that is wrong (DEL)");
        setup.holder.send_replace(LeaseHolder { name: None, stuck: Some(stuck) });
    }
    let error = error.to_string();
    if *logged != error {
        let lease_ms = setup.lasts.as_millis() as u64;
        tracing::warn!(
            %error,
            lease_ms,
            "the lease could not be kept: if it is not renewed within lease_ms, this instance stops emitting"
        );
        *logged = error;
    }
}

/// Sleeps, and returns early at the end of the service.
async fn pause(stop: &AtomicBool, length: Duration) {
    let until = Instant::now() + length;
    while Instant::now() < until && !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(STEP.min(length)).await;
    }
}

async fn keep(
    setup: &LeaseSetup,
    owner: &str,
    lease: &mut Option<Lease>,
    inherits: bool,
) -> Result<Option<String>, ServerError> {
    if lease.is_none() {
        let server = setup.connect.server().await?;
        *lease = Some(Lease::new(server, setup.keys.clone(), owner.to_owned(), setup.lasts));
    }
    let Some(lease) = lease else { return Ok(None) };
    let from = inherits.then_some(setup.consumer.as_str());
    let unread = setup.reader.silent();
    let (mut mine, holder) = if unread > UNREAD_MAX {
        // Another instance may be able to read. Without one, the lease is taken again when the reader has an answer.
        if lease.is_ours() && setup.role.borrow().lease().is_some() {
            tracing::error!(
                unread_ms = unread.as_millis() as u64,
                "the reader has no answer from the server: the lease is left to another instance"
            );
        }
        lease.give_back(setup.claim.as_ref().map(|own| &own.claim)).await?;
        (None, lease.look().await?)
    } else {
        lease.take_or_renew(from).await?
    };
    if let (Some(own), true) = (&setup.claim, mine.is_some())
        && let Some(other) = lease.claim(&own.claim, &|other| own.shared_with(other).is_some()).await?
    {
        let accounts = own.shared_with(&other).unwrap_or_default();
        tracing::error!(
            finding = "accounts_claimed",
            other = other.decisions,
            accounts,
            "another cell acts for accounts of this one: nothing is sent here; stop one of the two"
        );
        // The lease of a process that must not lead would keep the right process from leading.
        lease.release().await?;
        mine = None;
    }
    let stuck = holder.as_ref().and_then(|held| held.stuck(&setup.keys));
    let name = holder.as_ref().and_then(HeldLease::holder).map(str::to_owned);
    let holder = LeaseHolder { name, stuck };
    setup.holder.send_if_modified(|known| std::mem::replace(known, holder.clone()) != holder);
    Ok(mine)
}

async fn reconnected(setup: &LeaseSetup, lease: Option<Lease>) -> Option<Lease> {
    let lease = lease?;
    match setup.connect.server().await {
        Ok(server) => Some(lease.reconnected(server)),
        Err(_) => Some(lease),
    }
}

/// Checks which groups read order requests. Sends those that are not configured as executors whenever they change
/// (docs/spec/emission.md, "Executors").
pub async fn watch_executors(
    connect: Connect,
    live: Live,
    own: BTreeSet<String>,
    events: Sender<LoopEvent>,
    stop: Arc<AtomicBool>,
) {
    let mut server = None;
    let mut known = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        if server.is_none() {
            server = connect.server().await.ok();
        }
        if let Some(connection) = &mut server {
            match unnamed_executors(&live, &own, connection).await {
                Ok(groups) if groups != known => {
                    known.clone_from(&groups);
                    let _ = events.send(LoopEvent::UnnamedExecutors(groups));
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "the groups of the order requests could not be read");
                    server = None;
                }
            }
        }
        pause(&stop, EXECUTORS_INTERVAL).await;
    }
}

/// Turns the error of a key that is not a string into a value that kills. The script refuses every order while the key
/// has another type.
fn kills_by_its_type(error: ServerError) -> Result<Option<Vec<u8>>, ServerError> {
    if error.stream_fault() == Some(StreamFault::NotAStream) { Ok(Some(b"1".to_vec())) } else { Err(error) }
}

/// Sends the value of the kill key each time it is read: set or cleared. A key that disappears changes nothing.
pub async fn watch_kill_key(connect: Connect, key: String, events: Sender<LoopEvent>, stop: Arc<AtomicBool>) {
    let mut server = None;
    while !stop.load(Ordering::Relaxed) {
        if server.is_none() {
            server = connect.server().await.ok();
        }
        let began = Instant::now();
        let looked = match &mut server {
            Some(server) => server.get(&key).await.or_else(kills_by_its_type),
            None => {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        match looked {
            Ok(Some(value)) => {
                // Every read counts: if the key was cleared and set again, that must be published again.
                let _ = events.send(LoopEvent::KillKey { kill: operator::kills(&value), began });
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "the kill key could not be read");
                server = None;
                tokio::time::sleep(AGAIN).await;
            }
        }
        tokio::time::sleep(KILL_INTERVAL).await;
    }
}
