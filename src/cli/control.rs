//! `harvester control`: commands of an operator to the service, written to the control stream.
//!
//! A kill is written twice: to the kill key, which is checked before every order, and as an entry, which the log keeps.
//! The command then checks whether a service obeys: it asks the service or, if that does not answer, looks at the group
//! with which the service reads. Before a command that names a position or a symbol, it asks the service whether it
//! knows that: an entry that names an unknown one has no effect.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;

use super::exit_code::Found;
use crate::codec::operator::{ControlEntry, OperatorCommand};
use crate::codec::signing::SigningKey;
use crate::config::flags::RedisFlag;
use crate::config::{Cells, Config};
use crate::domain::engine::IDS_AHEAD_MAX_MS;
use crate::domain::event::ids::EntryId;
use crate::domain::event::streams::StreamKind;
use crate::drive::keys;
use crate::service::server;
use crate::shell::redis::{LeaseKeys, Server, ServerError, append_control};
use crate::shell::terminal::Screen;

mod screen;
mod several;
mod target;

use screen::{effect, show, warnings};
use target::Target;

/// How long a service may take to confirm that it obeys.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Time between two requests for that confirmation.
const ASK_INTERVAL: Duration = Duration::from_millis(50);

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    order: Order,
}

#[derive(clap::Subcommand, Debug)]
enum Order {
    /// Stop all decisions and orders, or allow them again
    #[command(after_help = "Example: harvester control kill on --reason \"exchange is down\" --yes")]
    Kill {
        switch: Switch,
        /// Only this account; the kill key, which is for all accounts, is not changed
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        #[command(flatten)]
        how: How,
    },
    /// Accept that entries are lost: harvester decides again for the symbol, or for all
    #[command(after_help = "Example: harvester control gap-accept NEARUSDT --reason \"checked by hand\" --yes")]
    GapAccept {
        /// Symbol; without one, all symbols
        symbol: Option<String>,
        /// Only in this account
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
        #[command(flatten)]
        how: How,
    },
    /// Accept weak sources of entry price and risk fields for one position
    #[command(after_help = "Example: harvester control risk-accept NEARUSDT@1770170700000-7 --reason \"known\" --yes")]
    RiskAccept {
        /// SYMBOL@ID, or ACCOUNT/SYMBOL@ID, as `positions SYMBOL` shows it
        position: String,
        #[command(flatten)]
        how: How,
    },
    /// Arm a rung of one position again
    #[command(after_help = "Example: harvester control rearm NEARUSDT@1770170700000-7 0.5 --reason \"not sold\" --yes")]
    Rearm {
        /// SYMBOL@ID, or ACCOUNT/SYMBOL@ID, as `positions SYMBOL` shows it
        position: String,
        /// R of the rung
        r: String,
        #[command(flatten)]
        how: How,
    },
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Switch {
    On,
    Off,
}

#[derive(clap::Args, Debug)]
struct How {
    /// Reason, which is kept in the log
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Write it; without this, only show what would be written
    #[arg(long)]
    yes: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
    /// Address of the service that is asked whether the command takes effect (default: [run] listen)
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    redis: RedisFlag,
}

/// The entry to be written, and the facts that the operator has to know.
struct Plan {
    entry: ControlEntry,
    effect: String,
    warnings: Vec<String>,
}

/// The ids of the control stream are ahead of the server's clock.
struct Ahead {
    by_ms: u64,
    /// When an entry that is written now has its turn. [ms since 1970]
    turn_ms: u64,
}

/// The actions of the command, and their results.
#[derive(Default)]
struct Done {
    id: Option<String>,
    /// The value that the kill key was set to.
    kill_key: Option<&'static str>,
    /// Why the kill key could not be set, if that was tried: the server answered with a refusal.
    key_refusal: Option<String>,
    /// Why the entry was not appended, or perhaps not, if that was tried.
    refusal: Option<String>,
    /// True if the connection broke while the entry was appended: then it may or may not be written.
    is_in_doubt: bool,
    /// The confirmation that a service obeys, for people.
    answer: Option<Answer>,
    /// Whether a service knows the thing that the command names.
    target: Option<Target>,
}

/// The source that confirms the kill switch.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// The service itself, by its status page.
    Said {
        by: String,
        killed: bool,
    },
    /// The group of the service has read the entry: from a kill on, the service sends no order.
    Read {
        by: String,
    },
    Nobody,
}

impl Answer {
    const fn name(&self) -> &'static str {
        match self {
            Self::Said { killed: true, .. } => "killed",
            Self::Said { killed: false, .. } => "not_killed",
            Self::Read { .. } => "read",
            Self::Nobody => "nobody",
        }
    }

    fn says(&self) -> String {
        match self {
            Self::Said { by, killed: true } => format!("The service {by} says: killed."),
            Self::Said { by, killed: false } => format!("The service {by} says: not killed."),
            Self::Read { by } => format!("The service {by} has read it, and sends no order from now on."),
            Self::Nobody => "No service answered. One that starts later finds the key and the entry.".to_owned(),
        }
    }
}

/// The document of `--json`.
#[derive(Serialize)]
struct Document<'a> {
    stream: &'a str,
    id: Option<&'a str>,
    fields: BTreeMap<&'a str, &'a str>,
    effect: &'a str,
    warnings: &'a [String],
    signed: bool,
    kill_key: Option<&'static str>,
    refusal: Option<&'a str>,
    /// The answer of the service, or whether it knows what the command names.
    service: Option<&'static str>,
}

impl<'a> Document<'a> {
    fn of(plan: &'a Plan, to: &'a To<'_>, done: &'a Done) -> Self {
        Self {
            stream: &to.stream,
            id: done.id.as_deref(),
            fields: plan.entry.fields().into_iter().collect(),
            effect: &plan.effect,
            warnings: &plan.warnings,
            signed: to.key.is_some(),
            kill_key: done.kill_key,
            refusal: done.refusal.as_deref(),
            service: done.answer.as_ref().map(Answer::name).or(done.target.as_ref().map(Target::name)),
        }
    }
}

/// A command with its entry.
struct Command {
    word: OperatorCommand,
    entry: ControlEntry,
    /// False for a dry run.
    is_written: bool,
}

/// Where a command is written, and who is asked about it.
struct To<'a> {
    config: &'a Config,
    /// The control stream.
    stream: String,
    key: Option<SigningKey>,
    /// Address of the service that is asked.
    url: Option<String>,
    /// False if the entry is written for another cell, which reads the same control stream.
    writes_entry: bool,
    others: Others,
}

/// The cells that a kill does not reach.
#[derive(Default)]
struct Others {
    /// The cell that the command is for, if others have another kill key.
    cell: Option<u32>,
    /// Those others, in words; empty if there are none.
    not_reached: String,
}

/// Runs the command. `cells` are those of the command line. Without them, and without a cell in the environment or the
/// file, the command is for all cells of the configuration.
pub fn run(args: &Args, config: &Config, cells: Option<Cells>, out: &mut dyn Write) -> anyhow::Result<()> {
    let (word, how) = match &args.order {
        Order::Kill { switch, account, how } => {
            (OperatorCommand::kill(account.as_deref(), *switch == Switch::On)?, how)
        }
        Order::GapAccept { symbol, account, how } => {
            (OperatorCommand::gap_accepted(symbol.as_deref(), account.as_deref())?, how)
        }
        Order::RiskAccept { position, how } => (OperatorCommand::risk_accepted(position)?, how),
        Order::Rearm { position, r, how } => (OperatorCommand::rung_rearmed(position, r)?, how),
    };
    let config = how.redis.over(config)?;
    let order = Command { entry: word.entry(&how.reason)?, word, is_written: how.yes };
    let cells = several::asked(config, cells, &order.word)?;
    match &cells[..] {
        [one] => run_one(&order, one, how, out),
        all => several::run(&order, all, how, out),
    }
}

/// Carries the command out at one service.
fn run_one(order: &Command, config: &Config, how: &How, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut to = To::of(config, how.url.clone())?;
    to.others = several::others(&[config], &order.word);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (plan, done) = runtime.block_on(to.carry_out(order))?;
    if how.json {
        super::json::write(out, &Document::of(&plan, &to, &done))?;
    } else {
        show(&plan, &to.stream, &done, &mut Screen::stdout(out))?;
    }
    verdict(&order.word, &done)
}

impl<'a> To<'a> {
    fn of(config: &'a Config, url: Option<String>) -> anyhow::Result<Self> {
        let mut streams = config.streams.iter().map(|(_, stream)| stream);
        let stream =
            streams.find(|stream| stream.kind == StreamKind::Control).context("no control stream is configured")?;
        let key = keys::configured(config)?;
        let url = url.or_else(|| config.run.listen.map(|address| format!("http://{address}")));
        Ok(Self { config, stream: stream.name.clone(), key, url, writes_entry: true, others: Others::default() })
    }
}

impl Others {
    /// Returns what an operator must know who kills, or clears a kill, by a key that is not that of all cells.
    fn warning(&self, word: &OperatorCommand) -> Option<String> {
        let OperatorCommand::Kill(kill) = word else { return None };
        let state = if *kill { "NOT stopped" } else { "not changed" };
        let not_reached = Some(&self.not_reached).filter(|text| !text.is_empty())?;
        Some(format!(
            "{not_reached}: {state}. Other cells have another kill key. Without --cell, the command is for all cells"
        ))
    }
}

impl To<'_> {
    /// Looks at what the command would do and, with `write`, does it.
    async fn carry_out(&self, order: &Command) -> anyhow::Result<(Plan, Done)> {
        let Command { word, entry, is_written } = order;
        let mut server = Server::connect(&server::address(self.config)?).await?;
        let ahead = ids_ahead(&mut server, &self.stream).await;
        let effect = effect(word, &self.config.emit.kill_key, ahead.as_ref(), self.others.cell);
        let mut plan = Plan { entry: entry.clone(), effect, warnings: warnings(word, self.key.is_some()) };
        plan.warnings.extend(self.others.warning(word));
        let known_accounts = &self.config.policy.known_accounts;
        let mut done = Done { target: target::of(self.url.as_deref(), word, known_accounts).await, ..Done::default() };
        if !is_written {
            return Ok((plan, done));
        }
        if let &OperatorCommand::Kill(kill) = word {
            // The key is set first: it counts for every order from that moment on, even if the entry cannot be written.
            self.set_kill_key(&mut server, kill, &mut done).await?;
            plan.warnings.extend(done.key_refusal.clone());
        }
        let id = match self.writes_entry {
            true => self.append(&mut server, &plan.entry, &mut done).await?,
            false => None,
        };
        done.id = id.map(|id| id.to_string());
        if let OperatorCommand::Kill(kill) = word {
            let asked = (&*self.stream, id);
            done.answer = Some(answer(&mut server, self.config, self.url.as_deref(), asked, *kill).await?);
        }
        Ok((plan, done))
    }

    /// Sets the kill key. A server that answers and refuses it is noted; errors if it may be set or not.
    async fn set_kill_key(&self, server: &mut Server, kill: bool, done: &mut Done) -> anyhow::Result<()> {
        let kill_key = &self.config.emit.kill_key;
        let value = if kill { "1" } else { "0" };
        match server.set(kill_key, value).await {
            Ok(()) => done.kill_key = Some(value),
            Err(error @ ServerError::Failed { .. }) if !error.is_unreachable() => {
                done.key_refusal =
                    Some(format!("the kill key is not set: {error}; `redis-cli SET {kill_key} {value}`"));
            }
            Err(error) => {
                return Err(error).context(format!(
                    "the kill key may be set to {value}, and the entry was not appended: look with \
                     `redis-cli GET {kill_key}`, or run the command again"
                ));
            }
        }
        Ok(())
    }

    /// Appends the entry. Once the kill key is set, a failure is noted, and not an error.
    async fn append(
        &self,
        server: &mut Server,
        entry: &ControlEntry,
        done: &mut Done,
    ) -> anyhow::Result<Option<EntryId>> {
        let fields = entry.fields().map(|(name, value)| (name.to_owned(), value.to_owned()));
        match append_control(server, self.key.as_ref(), &self.stream, &fields).await {
            Ok(id) => Ok(Some(id)),
            // The key still counts for every order. The output says so, and what is lacking.
            Err(error) if done.kill_key.is_some() => {
                done.is_in_doubt = error.is_unreachable();
                done.refusal = Some(match error.stream_fault() {
                    Some(fault) => format!("{} {}", self.stream, fault.says()),
                    None => error.to_string(),
                });
                Ok(None)
            }
            Err(error) => {
                let said =
                    error.stream_fault().map(|fault| format!("nothing was written: {} {}", self.stream, fault.says()));
                Err(said.map_or_else(|| error.into(), anyhow::Error::msg))
            }
        }
    }
}

/// Returns an error if something is lacking (docs/spec/emission.md, "Kill by command").
fn verdict(word: &OperatorCommand, done: &Done) -> anyhow::Result<()> {
    let found = |what: String| Err(Found(what).into());
    let key = done.kill_key.unwrap_or_default();
    match (&done.key_refusal, &done.refusal, &done.target) {
        (Some(why), ..) => found(format!("the entry is written, and {why}")),
        (None, Some(_), _) if done.is_in_doubt => found(format!(
            "the kill key is set to {key}, and the connection broke: the entry may be missing. Run the command again"
        )),
        (None, Some(_), _) => found(format!("the kill key is set to {key}, and the entry could not be appended")),
        (None, None, Some(Target::Unknown(why))) => found(format!("{why}: the command has no effect there")),
        (None, None, Some(Target::Known | Target::Nobody) | None) => match (&done.answer, word) {
            (Some(Answer::Said { by, killed }), OperatorCommand::Kill(kill)) if killed != kill => {
                found(not_obeyed(by, *kill))
            }
            _ => Ok(()),
        },
    }
}

/// Returns why the command fails although everything was written: the service has not obeyed within the limit.
fn not_obeyed(by: &str, kill: bool) -> String {
    let wait = ANSWER_LIMIT.as_secs();
    if kill {
        return format!("the service {by} is not killed after {wait} s: `harvester status` shows what it waits for");
    }
    format!(
        "the service {by} is still killed after {wait} s: `harvester quarantine` shows whether it has refused the entry, \
         and `harvester status` what it waits for"
    )
}

/// Returns how far the next id of a control stream is ahead of the server's clock, and the time of that id, if entries
/// have to wait for their turn. [ms]
async fn ids_ahead(server: &mut Server, stream: &str) -> Option<Ahead> {
    // Without the permission to look, the operator gets no warning. The entry is still written.
    let (next_ms, now_ms) = (server.next_id_ms(stream).await.ok()?, server.time_ms().await.ok()?);
    let by_ms = next_ms.saturating_sub(now_ms);
    (by_ms > IDS_AHEAD_MAX_MS).then_some(Ahead { by_ms, turn_ms: next_ms })
}

/// Asks until the service confirms the command, or until the time limit.
async fn answer(
    server: &mut Server,
    config: &Config,
    url: Option<&str>,
    (stream, id): (&str, Option<EntryId>),
    kill: bool,
) -> anyhow::Result<Answer> {
    let decisions = config.streams.iter().find(|(_, stream)| stream.kind == StreamKind::Decision);
    let lease = LeaseKeys::beside(decisions.map_or(StreamKind::Decision.default_stream(), |(_, d)| &d.name)).lease;
    let began = Instant::now();
    loop {
        let mut last = Answer::Nobody;
        if let Some(report) = target::report_of(url).await {
            last = Answer::Said { by: report.consumer, killed: report.killed };
            if report.killed == kill {
                return Ok(last);
            }
        }
        // The holder of the lease reads through the group. If it states itself that it obeys, that statement takes
        // precedence.
        let holder = server.get(&lease).await.ok().flatten();
        if let Some(holder) = holder.filter(|_| kill && id.is_some()) {
            let holder = String::from_utf8_lossy(&holder).into_owned();
            let by = holder.split(' ').nth(1).unwrap_or(&holder).to_owned();
            let groups = server.groups(stream).await.unwrap_or_default();
            let read = groups.iter().find(|group| group.name == config.run.group);
            if read.is_some_and(|group| group.last_delivered >= id) && last == Answer::Nobody {
                return Ok(Answer::Read { by });
            }
        } else if last == Answer::Nobody {
            return Ok(last);
        }
        if began.elapsed() >= ANSWER_LIMIT {
            return Ok(last);
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    }
}
