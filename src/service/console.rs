//! The console of the running service: shows its own journal, read by threads of its own, and the report of the
//! service.
//!
//! Promises: nothing is read before the first request for a page. No page asks the fold, and the fold waits for no
//! page: pages use the journal on disk.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::report::{self, Report, SharedReport};
use crate::codec::shown::shown;
use crate::config::Config;
use crate::console::{self, Audited, Console, Finding, Present, PresentInput};
use crate::drive::film::Origin;
use crate::drive::reel::{Bounds, Reel};
use crate::drive::snapshots;
use crate::drive::stop::Stop;
use crate::shell::exchange::wall_ms;
use crate::shell::web::{Guard, Site};

/// A journal with more entries is read from a snapshot on, and not from its beginning. [1]
const ENTRIES_READ: u64 = 2_000_000;
/// States along the journal that are kept in the memory of the service. [1]
const FRAMES_MAX: usize = 8;
/// Interval between two checks whether a page still asks.
const REST_CHECK: Duration = Duration::from_secs(60);

/// Findings that the pages name themselves, with the positions that they are about.
const SHOWN_BY_PAGES: [&str; 6] =
    ["killed", "positions_unknown", "gap_open", "diverged", "stale_position", "evaluable_low"];

/// The audit of the command line, which is above this layer.
pub type AuditOf = fn(&Origin, &Config, &Stop) -> anyhow::Result<Audited>;

/// Adds the console to the pages of a service, unless it is switched off.
pub fn with_console(
    config: &Config,
    address: SocketAddr,
    shared: &SharedReport,
    site: Site,
    (runtime, audit): (&Handle, AuditOf),
) -> Site {
    if !config.console.enabled {
        return site;
    }
    let guard = guard(config, address);
    if let Guard::Closed(why) = &guard {
        tracing::warn!("{why}");
    }
    let audited = config.clone();
    let console = of_service(config, address, shared.clone())
        .with_audit(Arc::new(move |origin, stop| audit(origin, &audited, stop).map_err(|error| format!("{error:#}"))));
    let rests = console.clone();
    runtime.spawn(async move {
        loop {
            tokio::time::sleep(REST_CHECK).await;
            rests.rest();
        }
    });
    console::site(&console, site, guard)
}

/// Returns who may read the console. If other machines can reach it, it needs a token, unless the configuration opens
/// it. The service runs in any case.
pub fn guard(config: &Config, address: SocketAddr) -> Guard {
    match config.console.token() {
        Ok(Some(token)) => Guard::Token(token),
        Ok(None) if address.ip().is_loopback() || config.console.open => Guard::Open,
        Ok(None) => Guard::Closed(format!(
            "The console is closed, because other machines reach {address} and there is no token: set HARVEST_CONSOLE_TOKEN \
             or console.token_file (openssl rand -hex 32), or console.open = true."
        )),
        // The reason may contain the path of a file, which only the operator may see.
        Err(_) => Guard::Closed(
            "The console is closed, because its token cannot be used: harvester doctor says why.".to_owned(),
        ),
    }
}

fn of_service(config: &Config, address: SocketAddr, shared: SharedReport) -> Console {
    let of_reel = Arc::new(config.clone());
    let begin = move |stop: &Stop| {
        let bounds = Bounds {
            snapshots: Some(snapshots::folder_of(&of_reel.run.store)),
            entries: ENTRIES_READ,
            frames_max: FRAMES_MAX,
        };
        Reel::read(Origin::Journal(of_reel.run.journal.clone()), Arc::clone(&of_reel), &bounds, stop)
    };
    let title = match config.run.cell {
        Some(cell) => format!("cell {cell}, {}", config.run.consumer),
        None => config.run.consumer.clone(),
    };
    Console::following(Arc::new(begin), None, &shown(&title), &config.console.base_path)
        .of_service(Arc::new(move || present(&shared.read(), address)))
}

/// Returns the address of a server on its own machine.
fn url_of(address: SocketAddr) -> String {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

/// Returns the part of the report of `/status` that the pages show.
fn present(report: &Report, address: SocketAddr) -> Present {
    let findings = report::concerns(report).into_iter().filter(|concern| !SHOWN_BY_PAGES.contains(&concern.name));
    Present {
        role: report.role.name(),
        build: report.build.clone(),
        url: url_of(address),
        consumer: report.consumer.clone(),
        group: report.group.clone(),
        cell: report.cell.clone(),
        uptime_ms: report.uptime_ms,
        now_ms: wall_ms(),
        mode: report.policy.mode.clone(),
        mode_configured: report.policy.mode_configured.clone(),
        policy: report.policy.hash.clone(),
        policy_configured: report.policy.hash_configured.clone(),
        is_policy_pending: report.policy.pending,
        killed: report.killed,
        holder: report.lease.holder.clone(),
        fencing_token: report.lease.fencing_token,
        lease_left_ms: report.lease.left_ms,
        is_connected: report.redis.is_usable(),
        applied_rate: report.rates.applied,
        outbox: report.outbox.waiting,
        outbox_oldest_ms: report.outbox.oldest_ms,
        inputs: report
            .inputs
            .iter()
            .map(|input| PresentInput {
                stream: input.stream.clone(),
                lag: input.lag_entries,
                lag_ms: input.lag_ms,
                age_ms: input.age_ms,
                pending: input.pending,
                is_silent: input.is_silent(report.redis.silent_ms),
                has_fault: input.fault.is_some(),
            })
            .collect(),
        accounts: report
            .positions
            .accounts
            .iter()
            .map(|(name, totals)| (name.clone(), totals.open, totals.evaluable))
            .collect(),
        findings: findings
            .map(|concern| Finding { name: concern.name, about: concern.about, says: concern.says })
            .collect(),
    }
}
