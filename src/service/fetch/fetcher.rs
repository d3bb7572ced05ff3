//! One tick: asks each source in turn for what is lacking, within the budget of calls.

use std::collections::{BTreeMap, BTreeSet};

use super::asked::{Account, Fills, Instruments, Pace, Sent};
use super::report::{Appended, FetchError, TickReport};
use crate::codec::observe::Observation;
use crate::config::{Config, Source};
use crate::domain::engine::needs::{Asked, Need, Needs, Want, sort_by_wait};
use crate::domain::event::ids::EntryId;
use crate::domain::event::streams::{StreamKind, Streams};
use crate::service::exchange::{Client, OF_ANOTHER_CELL, of_account};
use crate::service::report::{AccountRefusal, PositionMode};
use crate::service::said::Until;
use crate::shell::exchange::{CallError, Exchange};
use crate::shell::redis::{Address, Server, ServerError};

/// The observation stream keeps entries that are at most this much older than the journal's last one. [ms]
const KEPT_MS: u64 = 24 * 3_600_000;
/// Time between two trims. [ms]
const TRIM_INTERVAL_MS: u64 = 600_000;

/// Where observations are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// The observation stream.
    Stream(String),
    /// Nowhere. The observations get ids of the server's time, and only the report contains them.
    DryRun,
}

/// The input of a tick.
#[derive(Clone, Debug, Default)]
pub struct Tick {
    /// The needs of the projection, as of the time at which they were read.
    pub needs: Needs,
    /// The last entry of the observation stream that is in the journal. Entries that are a day older may be trimmed.
    pub journalled: Option<EntryId>,
}

/// Settings of the fetcher.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub max_api_calls: u64,
    pub position_poll_ms: u64,
    pub sources: Vec<Source>,
}

/// Fetches facts that are lacking. Remembers requests and answers, and nothing of the projection.
pub struct Fetcher {
    pub(super) settings: Settings,
    pub(super) sink: Sink,
    address: Address,
    server: Option<Server>,
    /// For calls that belong to no account.
    pub(super) exchange: Exchange,
    /// The accounts, the one without a name first.
    pub(super) accounts: Vec<Account>,
    /// True if the mode of an account is requested when no row shows it.
    pub(super) wants_mode: bool,
    said_no_credentials: bool,
    pub(super) asked: Asked,
    pub(super) sent: Sent,
    pub(super) instruments: Instruments,
    pub(super) fills: Fills,
    modes_differ: Vec<PositionMode>,
    /// True while no request for positions is sent, for a reason that was noted.
    pub(super) are_positions_held: bool,
    pace: Pace,
    /// Refused requests, and until when each is not repeated. [ms since 1970]
    refused: BTreeMap<(Want, Box<str>), u64>,
    /// Symbols that the exchange reports as unknown. They are not requested again until it lists them.
    pub(super) delisted: BTreeSet<Box<str>>,
    trimmed_ms: Option<u64>,
    /// Sequence number of ids that are assigned without a stream.
    dry_seq: u64,
}

/// The remaining budget and the shared data of one tick.
pub(super) struct Turn {
    /// By the server's clock. [ms since 1970]
    pub now_ms: u64,
    pub report: TickReport,
    /// Calls that were made before this tick. [1]
    calls_before: u64,
}

impl Fetcher {
    /// Creates a fetcher for the configured server and the accounts of the exchange, the one without a name first.
    /// Nothing is connected yet.
    pub fn new(config: &Config, address: Address, clients: Vec<Client>) -> Self {
        let accounts: Vec<Account> = clients.into_iter().map(Account::of).collect();
        Self {
            settings: Settings {
                max_api_calls: config.backfill.max_api_calls,
                position_poll_ms: config.backfill.position_poll_ms,
                sources: config.backfill.sources.clone(),
            },
            sink: Sink::Stream(observation_stream(&config.streams).to_owned()),
            address,
            server: None,
            exchange: accounts[0].exchange.clone(),
            accounts,
            wants_mode: false,
            said_no_credentials: false,
            asked: Asked::new(),
            sent: Sent::default(),
            instruments: Instruments::default(),
            fills: Fills::default(),
            modes_differ: Vec::new(),
            are_positions_held: false,
            pace: Pace::default(),
            refused: BTreeMap::new(),
            delisted: BTreeSet::new(),
            trimmed_ms: None,
            dry_seq: 0,
        }
    }

    /// Prepares the fetcher for a service. Its first tick reads the instruments of all symbols with a position, because
    /// they may have changed while the service was down. It requests the account mode if no position shows it.
    pub fn for_service(mut self) -> Self {
        self.instruments = Instruments::due();
        self.wants_mode = true;
        self
    }

    /// Makes the fetcher append nowhere.
    pub fn dry_run(mut self) -> Self {
        self.sink = Sink::DryRun;
        self
    }

    /// Returns the reason why signed calls of the account without a name cannot be made, if they cannot.
    pub fn no_credentials(&self) -> Option<&str> {
        self.accounts[0].no_credentials.as_deref()
    }

    /// Returns the state of the exchange client, for health and metrics.
    pub fn exchange_health(&self) -> crate::shell::exchange::Health {
        self.exchange.health()
    }

    /// Returns the reason why positions are unknown, if the exchange does not return those of an account.
    pub fn lasting_failure(&self) -> Option<String> {
        self.accounts.iter().find_map(|account| Some(account.says(account.poll.failure()?)))
    }

    /// Returns the reasons why the exchange returns no positions, for each account for which it refuses to, or has
    /// failed more than once in a row.
    pub fn refusals(&self) -> Vec<AccountRefusal> {
        let refusal = |account: &Account| {
            let why = account.poll.refusal()?.to_owned();
            Some(AccountRefusal { account: account.name.to_string(), why })
        };
        self.accounts.iter().filter_map(refusal).collect()
    }

    /// Returns the accounts whose mode at the exchange is not that of their entries.
    pub fn modes_differ(&self) -> &[PositionMode] {
        &self.modes_differ
    }

    /// Returns the number of accounts whose positions were not answered for much longer than the configured interval,
    /// because calls are too few for all of them. [1]
    pub fn accounts_late(&self) -> u64 {
        let poll_ms = self.settings.position_poll_ms;
        if poll_ms == 0 || !self.uses(Source::Api) {
            return 0;
        }
        let is_late = |account: &&Account| {
            account.has_credentials() && account.poll.failure().is_none() && self.pace.is_late(&account.poll, poll_ms)
        };
        self.accounts.iter().filter(is_late).count() as u64
    }

    /// Returns true if a request was refused a short while ago. The next tick would get the same answer.
    pub(super) fn is_refused(&self, want: Want, subject: &str, now_ms: u64) -> bool {
        self.refused.get(&(want, subject.into())).is_some_and(|until_ms| now_ms < *until_ms)
    }

    /// Notes the error of a request that must not be repeated for some time.
    pub(super) fn note_refusal(&mut self, want: Want, subject: &str, error: &CallError, now_ms: u64) {
        self.refused.retain(|_, until_ms| now_ms < *until_ms);
        if let Some(again_ms) = again_after(error) {
            self.refused.insert((want, subject.into()), now_ms.saturating_add(again_ms));
        }
    }

    /// Notes that the exchange does not know a symbol, if the error is about that.
    pub(super) fn note_delisted(&mut self, symbol: &str, error: &CallError) {
        if error.is_no_symbol() && self.delisted.insert(symbol.into()) {
            tracing::warn!(symbol, %error, "the exchange knows the symbol no more; it is not asked for again");
        }
    }

    /// Asks each source in turn for what is lacking, and appends the answers.
    ///
    /// A source that fails affects its own facts only. Errors if the server of the streams fails: then the answers
    /// cannot be appended, and no source is asked.
    pub async fn tick(&mut self, tick: &Tick) -> Result<TickReport, FetchError> {
        self.say_credentials_once();
        // The needs were not computed yet. Unknown needs are not the same as no needs.
        if tick.needs.now_ms == 0 {
            return Ok(TickReport::default());
        }
        let done = self.turn(tick).await;
        if let Err(FetchError::Redis(error)) = &done
            && error.is_unreachable()
        {
            self.server = None;
        }
        done
    }

    async fn turn(&mut self, tick: &Tick) -> Result<TickReport, FetchError> {
        let now_ms = self.server().await?.time_ms().await?;
        self.pace.tick(now_ms);
        let calls_before = self.exchange.health().sent();
        let mut turn = Turn { now_ms, report: TickReport::default(), calls_before };
        let mut list = tick.needs.list.clone();
        sort_by_wait(&mut list, &self.asked);
        let found = self.positions(&tick.needs, &mut turn).await?;
        list.extend(found);
        self.prices(&tick.needs, &list, &mut turn).await?;
        self.instruments(&tick.needs, &list, &mut turn).await?;
        self.fills(&tick.needs, &list, &mut turn).await?;
        self.trim(tick.journalled, &mut turn).await?;
        self.forget(&tick.needs);
        self.modes_differ = self.accounts.iter().filter_map(|account| account.mode_differs(&tick.needs)).collect();
        turn.report.api_calls = self.exchange.health().sent() - calls_before;
        Ok(turn.report)
    }

    fn say_credentials_once(&mut self) {
        if std::mem::replace(&mut self.said_no_credentials, true) {
            return;
        }
        // A configuration that names accounts need not have an account without a name.
        let is_only = self.accounts.len() == 1;
        for account in self.accounts.iter().filter(|account| is_only || !account.name.is_empty()) {
            if let Some(reason) = account.no_credentials.as_deref().filter(|reason| *reason != OF_ANOTHER_CELL) {
                let whose = of_account(&account.name);
                tracing::warn!("{whose}no credentials of the exchange: {reason}; positions and fills are not fetched");
            }
        }
    }

    pub(super) async fn server(&mut self) -> Result<&mut Server, ServerError> {
        if self.server.is_none() {
            self.server = Some(Server::connect(&self.address).await?);
        }
        Ok(self.server.as_mut().expect("it was just connected"))
    }

    /// Returns true if this many more calls may be made in this tick. The first signed call also asks for the clock.
    pub(super) fn may_call(&self, turn: &Turn, is_signed: bool) -> bool {
        let needed = 1 + u64::from(is_signed && self.exchange.health().clock_offset_ms.is_none());
        self.calls(turn) + needed <= self.settings.max_api_calls
    }

    /// Returns the calls of this tick so far. [1]
    pub(super) fn calls(&self, turn: &Turn) -> u64 {
        self.exchange.health().sent() - turn.calls_before
    }

    /// Appends observations that are never out of date, and notes that they were appended.
    pub(super) async fn append(&mut self, observations: Vec<Observation>, turn: &mut Turn) -> Result<(), FetchError> {
        let ids = match self.sink.clone() {
            Sink::DryRun => self.dry_ids(observations.len(), turn.now_ms),
            Sink::Stream(stream) => self.server().await?.add_all(&stream, &entries(&observations)).await?,
        };
        turn.note_appended(ids, observations);
        Ok(())
    }

    /// Appends observations of the present, if that is possible in time, and notes that they were appended. Returns false
    /// if it is too late.
    pub(super) async fn append_in_time(
        &mut self,
        observations: Vec<Observation>,
        until: Until,
        turn: &mut Turn,
    ) -> Result<bool, FetchError> {
        if observations.is_empty() {
            return Ok(!until.is_over());
        }
        let ids = match self.sink.clone() {
            Sink::DryRun => Some(self.dry_ids(observations.len(), turn.now_ms)),
            Sink::Stream(stream) => {
                let entries = entries(&observations);
                self.server().await?.add_in_time(&stream, &entries, || until.left()).await?
            }
        };
        let Some(ids) = ids else { return Ok(false) };
        turn.note_appended(ids, observations);
        Ok(true)
    }

    /// Returns new ids without a stream.
    fn dry_ids(&mut self, count: usize, now_ms: u64) -> Vec<EntryId> {
        let from = self.dry_seq;
        self.dry_seq += count as u64;
        (from..self.dry_seq).map(|seq| EntryId::new(now_ms, seq)).collect()
    }

    /// Trims the entries that are a day older than the journal's last one: the journal has them.
    async fn trim(&mut self, journalled: Option<EntryId>, turn: &mut Turn) -> Result<(), FetchError> {
        let (Some(journalled), Sink::Stream(stream)) = (journalled, self.sink.clone()) else { return Ok(()) };
        if self.trimmed_ms.is_some_and(|trimmed_ms| turn.now_ms.saturating_sub(trimmed_ms) < TRIM_INTERVAL_MS) {
            return Ok(());
        }
        self.trimmed_ms = Some(turn.now_ms);
        let before = EntryId::new(journalled.ms.saturating_sub(KEPT_MS), 0);
        turn.report.trimmed = self.server().await?.trim_before(&stream, before).await?;
        Ok(())
    }

    /// Forgets the requests of needs that no longer exist.
    fn forget(&mut self, needs: &Needs) {
        let wanted: BTreeSet<(Box<str>, Want)> = needs.list.iter().map(|need| (need.subject(), need.want)).collect();
        self.asked.retain(|asked, _| wanted.contains(asked));
        self.fills.keep_open(&needs.open);
    }

    /// Returns the index of an account with this name; `None` if it is not configured.
    pub(super) fn account(&self, name: &str) -> Option<usize> {
        self.accounts.iter().position(|account| *account.name == *name)
    }

    /// Returns why no signed call can be made for an account, if none can.
    pub(super) fn why_not_asked(&self, name: &str) -> Option<String> {
        match self.account(name).map(|at| &self.accounts[at]) {
            Some(account) if account.has_credentials() => None,
            Some(account) => {
                let reason = account.no_credentials.as_deref().unwrap_or_default();
                Some(format!("exchange: no credentials ({reason})"))
            }
            None => Some(format!("exchange: no credentials ([accounts.{name}] is not configured)")),
        }
    }

    pub(super) fn uses(&self, source: Source) -> bool {
        self.settings.sources.contains(&source)
    }
}

impl Turn {
    fn note_appended(&mut self, ids: Vec<EntryId>, observations: Vec<Observation>) {
        let appended = ids.into_iter().zip(observations).map(|(id, observation)| Appended { id, observation });
        self.report.appended.extend(appended);
    }

    /// Logs and notes a call that failed. A failure has no other effect.
    pub fn failed(&mut self, error: &CallError) {
        self.note(error.to_string());
    }

    /// Notes once something that an operator should see.
    pub fn note(&mut self, note: String) {
        if !self.report.notes.contains(&note) {
            self.report.notes.push(note);
        }
    }
}

fn entries(observations: &[Observation]) -> Vec<Vec<(&str, &str)>> {
    observations.iter().map(|observation| observation.fields().to_vec()).collect()
}

/// Time before a request is repeated if it was refused or its answer could not be read. [ms]
const REFUSED_INTERVAL_MS: u64 = 120_000;

/// Returns the time to wait after an error that would occur again in the next tick. [ms]
pub(super) fn again_after(error: &CallError) -> Option<u64> {
    matches!(error, CallError::Refused { .. } | CallError::Unreadable { .. }).then_some(REFUSED_INTERVAL_MS)
}

/// Returns the symbols in a list that have this need, each once, in the order of the list.
pub(super) fn wanting(list: &[Need], want: Want) -> Vec<&str> {
    let mut seen = BTreeSet::new();
    let symbols = list.iter().filter(|need| need.want == want).map(|need| &*need.book.symbol);
    symbols.filter(|symbol| seen.insert(*symbol)).collect()
}

/// Returns the stream that observations are appended to: the first one of its kind.
pub fn observation_stream(streams: &Streams) -> &str {
    let first = streams.iter().find(|(_, stream)| stream.kind == StreamKind::Observation);
    first.map_or(StreamKind::Observation.default_stream(), |(_, stream)| &stream.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::engine::needs::{NeedyBook, Why};
    use crate::domain::event::PositionSide;
    use crate::service::exchange::clients;

    /// With the weight of the minute spent, accounts whose calls were never sent counted as asked. Some never had a turn,
    /// and the finding was about their keys.
    #[tokio::test]
    async fn a_call_that_is_not_sent_costs_no_account_its_turn() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("harvester.toml");
        let account = |name: &str| {
            let at = name.to_uppercase();
            format!("[accounts.{name}]\napi_key_env = \"K{at}\"\napi_secret_env = \"S{at}\"\n")
        };
        let text = format!("[exchange]\nbase_url = \"http://127.0.0.1:9\"\n{}{}", account("a"), account("b"));
        std::fs::write(&file, text).unwrap();
        let credential = |name: &str| (name.to_owned(), format!("{name}{}", "x".repeat(62)));
        let environment = ["KA", "SA", "KB", "SB"].map(credential).into();
        let mut config = Config::from_parts(Some(&file), environment).unwrap();
        config.run.store = folder.path().join("state");
        let address = Address::new("redis://127.0.0.1:9", None).unwrap();
        let mut fetcher = Fetcher::new(&config, address, clients(&config).unwrap()).dry_run();
        // Nothing listens there. At last, no call is sent any more.
        while !fetcher.exchange.instruments().await.unwrap_err().holds_all() {}
        let book = NeedyBook { symbol: "ADAUSDT".into(), account: "b".into(), side: PositionSide::Both };
        let need = Need { book, want: Want::EntryPrice, why: Why::Missing, since_ms: 1, near_rung: false };
        let needs = Needs { now_ms: 1, list: vec![need], ..Needs::default() };
        let calls_before = fetcher.exchange.health().sent();
        let mut notes = Vec::new();
        for now_ms in [100_000, 105_000] {
            let mut turn = Turn { now_ms, report: TickReport::default(), calls_before };
            assert_eq!(fetcher.positions(&needs, &mut turn).await.unwrap(), []);
            assert!(turn.report.misses.keys().any(|(subject, _)| **subject == *"b/ADAUSDT"), "the reason is given");
            notes.extend(turn.report.notes);
        }
        let polls = fetcher.accounts.iter().filter(|account| account.has_credentials()).map(|account| &account.poll);
        let asked: Vec<_> = polls.map(|poll| (poll.asked_ms, poll.failure(), poll.failures)).collect();
        assert_eq!(asked, [(None, None, 0), (None, None, 0)]);
        assert_eq!((fetcher.refusals(), notes.len()), (Vec::new(), 1), "{notes:?}");
    }
}
