//! `harvester status`: the report of a running service for people, and whether anything needs an operator.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::exit_code::Found;
use super::json;
use crate::codec::plural::plural;
use crate::codec::time::{iso, span};
use crate::config::{Cells, Config};
use crate::service::report::{Concern, GapProof, InputReport, Report, Role, concerns};
use crate::shell::terminal::{Screen, Tone};
use crate::shell::web;

mod several;

/// Maximum number of accounts whose open positions are counted one by one.
const ACCOUNTS_SHOWN_MAX: usize = 10;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples: harvester status --url http://127.0.0.1:9464
          harvester status --url http://10.0.0.1:9464 --url http://10.0.0.2:9464
          harvester status --cells
Exit code 1 if something needs a person, 3 if no service answers. Of several services, one that
does not answer needs a person.")]
pub struct Args {
    /// Address of the service; else that of [run] listen. Given several times, all services are shown, the worst first
    #[arg(long, value_name = "URL")]
    url: Vec<String>,
    /// All cells of the configuration: those of --cell 0..15, else as many as run.cells or run.shard states
    #[arg(long, conflicts_with = "url")]
    cells: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Returns true if the services of all cells are asked.
    pub fn is_of_cells(&self) -> bool {
        self.cells
    }
}

#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    report: &'a Report,
    concerns: &'a [Concern],
}

/// Runs the command. Fails with [`Found`] if something needs an operator.
pub fn run(args: &Args, config: &Config, cells: Option<Cells>, out: &mut dyn Write) -> anyhow::Result<()> {
    if args.cells {
        return several::run(&urls_of_cells(config, cells)?, args.json, out);
    }
    let url = match (&args.url[..], config.run.listen) {
        ([url], _) => url.clone(),
        ([], Some(address)) => format!("http://{address}"),
        ([], None) => bail!("run.listen is empty, so the address of the service is not known: give --url URL"),
        (urls, _) => return several::run(urls, args.json, out),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(report_of(&url))?;
    let concerns = concerns(&report);
    if args.json {
        json::write(out, &Document { report: &report, concerns: &concerns })?;
    } else {
        print(&report, &concerns, &mut Screen::stdout(out))?;
    }
    match concerns.len() {
        0 => Ok(()),
        1 => Err(Found("1 finding needs a person: see the report".to_owned()).into()),
        n => Err(Found(format!("{n} findings need a person: see the report")).into()),
    }
}

/// Returns the addresses of the services of cells, as the configuration gives them.
fn urls_of_cells(config: &Config, cells: Option<Cells>) -> anyhow::Result<Vec<String>> {
    let stated = config.cells().map(|count| Cells { first: 0, last: count - 1 });
    let Some(cells) = cells.or(stated) else {
        bail!("the configuration does not state how many cells there are: set run.cells, or give --cell 0..15");
    };
    let mut urls: Vec<String> = Vec::new();
    for cell in cells.iter() {
        let of_cell = config.for_cell(cell)?;
        let Some(address) = of_cell.run.listen else { bail!("run.listen is empty for cell {cell}: give --url URL") };
        let url = format!("http://{address}");
        if urls.contains(&url) {
            bail!(
                "run.listen gives {url} to several cells: write the cell into it, as \"127.0.0.1:9464+%cell%\", or give --url URL \
                 for each"
            );
        }
        urls.push(url);
    }
    Ok(urls)
}

async fn report_of(url: &str) -> anyhow::Result<Report> {
    let body = web::get(url, "/status").await?;
    serde_json::from_str(&body).with_context(|| {
        format!("the service at {url} did not answer with a report: is that the address of `harvester run`?")
    })
}

/// Prints the report for people.
pub fn print(report: &Report, concerns: &[Concern], screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let cell = report.cell.as_ref().map_or_else(String::new, |cell| format!("  {cell}"));
    screen.heading(&format!("{}  {} for {}{cell}", report.build, report.role.name(), span(report.uptime_ms)))?;
    if concerns.is_empty() {
        screen.line("Nothing needs anyone.")?;
    } else {
        screen.line("Needs someone:")?;
        let row =
            |concern: &Concern| vec![(format!("  {}", concern.name), Tone::Bad), (concern.says.clone(), Tone::Plain)];
        screen.rows(concerns.iter().map(row).collect())?;
    }
    screen.line("")?;
    inputs(report, screen)?;
    screen.line("")?;
    let row = |(name, says): (&str, String)| vec![(name.to_owned(), Tone::Dim), (says, Tone::Plain)];
    screen.rows(facts(report).into_iter().map(row).collect())?;
    Ok(())
}

fn inputs(report: &Report, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let row = |input: &InputReport| {
        let number = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let time = |ms: Option<u64>| ms.map_or_else(|| "-".to_owned(), span);
        let age = if input.is_silent(report.redis.silent_ms) { Tone::Bad } else { Tone::Plain };
        let proof = match input.gap_proof {
            GapProof::Counted => ("counted", Tone::Dim),
            GapProof::Weak => ("weak", Tone::Warning),
        };
        vec![
            (input.kind.clone(), Tone::Dim),
            (input.stream.clone(), Tone::Plain),
            (number(input.lag_entries), Tone::Plain),
            (time(input.lag_ms), Tone::Plain),
            (time(input.age_ms), age),
            (input.pending.to_string(), Tone::Plain),
            (time(input.pending_oldest_ms), Tone::Plain),
            (proof.0.to_owned(), proof.1),
        ]
    };
    let head = ["INPUT", "STREAM", "LAG", "BEHIND", "LAST", "PENDING", "OLDEST", "GAPS"];
    screen.table(&head, &[2, 3, 4, 5, 6], report.inputs.iter().map(row).collect())?;
    Ok(())
}

/// Returns one line for each fact, its name first.
pub fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("positions", positions(report)),
        ("held", counted(&report.positions.held)),
        ("decisions", decisions(report)),
        ("entries", entries(report)),
        ("quarantined", counted(&report.totals.quarantined)),
        ("outbox", outbox(report)),
        ("policy", policy(report)),
        ("lease", lease(report)),
        ("redis", redis(report)),
        ("journal", journal(report)),
        ("last entry", report.last.clone().unwrap_or_else(|| "-".to_owned())),
    ];
    if let Some(checksum) = &report.state_checksum {
        facts.push(("state", format!("{} at {}", short(&checksum.sha256), checksum.last)));
    }
    if let Some(backfill) = &report.backfill {
        let circuit = match backfill.wait.filter(|wait| wait.left_ms > 0) {
            Some(wait) => format!("no call until {} (HTTP {})", iso(wait.until_ms), wait.status),
            None if backfill.circuit_open => "circuit open".to_owned(),
            None => "circuit closed".to_owned(),
        };
        let weight = backfill.weight_used.map_or_else(String::new, |n| format!(", weight {n} this minute"));
        facts.push(("exchange", format!("{} calls, {circuit}{weight}", backfill.api_calls)));
    }
    facts
}

fn positions(report: &Report) -> String {
    let positions = &report.positions;
    if positions.unknown && positions.no_accounts {
        return "none: this cell has no account".to_owned();
    }
    if positions.unknown {
        return "unknown: none was ever seen from anywhere".to_owned();
    }
    let mut says = format!("{} open, {} evaluable", positions.open, positions.evaluable);
    for (field, n) in &positions.missing {
        says.push_str(&format!(", {n} lack {field}"));
    }
    if !positions.unconfirmed.is_empty() {
        says.push_str(&format!(", unconfirmed: {}", positions.unconfirmed.join(" ")));
    }
    for (account, totals) in positions.accounts.iter().take(ACCOUNTS_SHOWN_MAX) {
        let name = if account.is_empty() { "without a name" } else { account };
        says.push_str(&format!(", {} of account {name}", totals.open));
    }
    if positions.accounts.len() > ACCOUNTS_SHOWN_MAX {
        says.push_str(&format!(", the others of {} more accounts", positions.accounts.len() - ACCOUNTS_SHOWN_MAX));
    }
    if positions.gap_flat > 0 {
        says.push_str(&format!(", {} with a gap and without a position", plural(positions.gap_flat, "symbol")));
    }
    says
}

fn decisions(report: &Report) -> String {
    let (open, closed) = (&report.positions.decisions_open, &report.positions.decisions_closed);
    let made = format!("{} made, {} emitted since the start", report.totals.decided, report.totals.emitted);
    format!("{made}; of open positions: {}; of closed ones: {}", counted(open), counted(closed))
}

fn entries(report: &Report) -> String {
    let (totals, rates) = (&report.totals, &report.rates);
    let added = rates.added.map_or_else(String::new, |rate| format!("{rate:.1}/s written, "));
    let mut says = format!(
        "{} applied, {} duplicates; {added}{:.1}/s applied, {:.1}/s emitted",
        totals.applied, totals.duplicates, rates.applied, rates.emitted
    );
    if let Some(late) = totals.counts.get("late_order") {
        says.push_str(&format!("; {late} in late order"));
    }
    if let Some(others) = totals.counts.get("other_cells") {
        says.push_str(&format!("; {others} of accounts of other cells"));
    }
    says
}

fn outbox(report: &Report) -> String {
    let age = report.outbox.oldest_ms.filter(|_| report.outbox.waiting > 0);
    format!(
        "{} waiting{}",
        report.outbox.waiting,
        age.map_or_else(String::new, |ms| format!(", the oldest {}", span(ms)))
    )
}

fn policy(report: &Report) -> String {
    let policy = &report.policy;
    let configured = match () {
        () if policy.pending => ", the configured one is not folded yet".to_owned(),
        () if policy.mode == policy.mode_configured => String::new(),
        () => format!(", configured: {}", policy.mode_configured),
    };
    let killed = match (report.killed, report.killed_accounts.len()) {
        (true, _) => ", KILLED".to_owned(),
        (false, 0) => String::new(),
        (false, n) => format!(", {} KILLED", plural(n as u64, "account")),
    };
    format!("{} {}, rules {}{configured}{killed}", policy.mode, short(&policy.hash), report.rules_version)
}

fn lease(report: &Report) -> String {
    let lease = &report.lease;
    let holder = match (&lease.holder, report.role) {
        (Some(holder), _) => holder.clone(),
        (None, Role::Leader) => report.consumer.clone(),
        (None, Role::Starting | Role::Rebuilding | Role::Standby | Role::Stopping) => "nobody".to_owned(),
    };
    let left = lease.left_ms.map_or_else(String::new, |ms| format!(", {} left", span(ms)));
    format!("{holder}, token {}{left}", lease.fencing_token)
}

fn redis(report: &Report) -> String {
    let redis = &report.redis;
    let state = match redis.connected {
        true if redis.is_silent() => format!("no answer for {}", span(redis.silent_ms)),
        true => "connected".to_owned(),
        false => "not connected".to_owned(),
    };
    let error = redis.last_error.as_deref().map_or_else(String::new, |error| format!("; last error: {error}"));
    format!("{state}, version {}, {} reconnects{error}", redis.version, redis.reconnects)
}

fn journal(report: &Report) -> String {
    let journal = &report.journal;
    format!("{} in {}, position {}", size(journal.bytes), plural(journal.files, "file"), journal.position)
}

fn counted(counts: &BTreeMap<String, u64>) -> String {
    let counts: Vec<String> = counts.iter().map(|(name, n)| format!("{n} {name}")).collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}
