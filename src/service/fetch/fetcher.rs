//! One tick: asks each source in turn for what is needed, within the budget of calls.

use std::collections::{BTreeMap, BTreeSet};

use super::asked::{Account, Fills, Instruments, Poll, Sent};
use super::report::{Appended, FetchError, TickReport};
use crate::codec::exchange::AccountMode;
use crate::codec::observe::Observation;
use crate::config::{Config, Source};
use crate::domain::engine::needs::{Asked, Need, Needs, Want, order};
use crate::domain::event::ids::EntryId;
use crate::domain::event::streams::{StreamKind, Streams};
use crate::service::exchange::Client;
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

/// Fetches what is lacking. Keeps what was asked and answered, and nothing of the projection.
pub struct Fetcher {
    pub(super) settings: Settings,
    pub(super) sink: Sink,
    address: Address,
    server: Option<Server>,
    pub(super) exchange: Exchange,
    pub(super) no_credentials: Option<String>,
    said_no_credentials: bool,
    pub(super) asked: Asked,
    pub(super) poll: Poll,
    pub(super) sent: Sent,
    pub(super) instruments: Instruments,
    pub(super) fills: Fills,
    pub(super) account: Account,
    /// Refused requests, and until when each is not repeated. [ms since 1970]
    refused: BTreeMap<(Want, Box<str>), u64>,
    /// Symbols that the exchange reports as unknown. They are not requested again until it lists them.
    pub(super) delisted: BTreeSet<Box<str>>,
    trimmed_ms: Option<u64>,
    /// Sequence number of ids that are assigned without a stream.
    dry_seq: u64,
}

/// The remaining budget and the common data of one tick.
pub(super) struct Turn {
    /// By the server's clock. [ms since 1970]
    pub now_ms: u64,
    pub report: TickReport,
    /// Calls that were made before this tick. [1]
    calls_before: u64,
}

impl Fetcher {
    /// Creates a fetcher for the configured server and exchange. Nothing is connected yet.
    pub fn new(config: &Config, address: Address, client: Client) -> Self {
        Self {
            settings: Settings {
                max_api_calls: config.backfill.max_api_calls,
                position_poll_ms: config.backfill.position_poll_ms,
                sources: config.backfill.sources.clone(),
            },
            sink: Sink::Stream(observation_stream(&config.streams).to_owned()),
            address,
            server: None,
            exchange: client.exchange,
            no_credentials: client.no_credentials,
            said_no_credentials: false,
            asked: Asked::new(),
            poll: Poll::default(),
            sent: Sent::default(),
            instruments: Instruments::default(),
            fills: Fills::default(),
            account: Account::default(),
            refused: BTreeMap::new(),
            delisted: BTreeSet::new(),
            trimmed_ms: None,
            dry_seq: 0,
        }
    }

    /// Prepares the fetcher for a service. Its first tick reads the instruments of all held symbols, because they may
    /// have changed while the service was down. It asks for the account mode if no position shows it.
    pub fn for_service(mut self) -> Self {
        self.instruments = Instruments::due();
        self.account.is_wanted = true;
        self
    }

    /// Makes the fetcher append nowhere.
    pub fn dry_run(mut self) -> Self {
        self.sink = Sink::DryRun;
        self
    }

    /// Returns the reason why signed calls cannot be made, if they cannot.
    pub fn no_credentials(&self) -> Option<&str> {
        self.no_credentials.as_deref()
    }

    /// Returns the state of the exchange client, for health and metrics.
    pub fn exchange_health(&self) -> crate::shell::exchange::Health {
        self.exchange.health()
    }

    /// Returns the reason why positions are unknown, if the exchange does not return them.
    pub fn standing_failure(&self) -> Option<&str> {
        self.poll.failure()
    }

    /// Returns the reason why the exchange returns no positions, if it refuses the key, the address or the permission.
    pub fn refusal(&self) -> Option<&str> {
        self.poll.refusal()
    }

    /// Returns true if the account is known to be in hedge mode.
    pub fn is_hedged(&self) -> bool {
        self.account.mode == Some(AccountMode::Hedge)
    }

    /// Returns true if a request was refused a short while ago; the next tick would change nothing.
    pub(super) fn is_refused(&self, want: Want, symbol: &str, now_ms: u64) -> bool {
        self.refused.get(&(want, symbol.into())).is_some_and(|until_ms| now_ms < *until_ms)
    }

    /// Notes the error of a request that must not be repeated soon.
    pub(super) fn note_refusal(&mut self, want: Want, symbol: &str, error: &CallError, now_ms: u64) {
        self.refused.retain(|_, until_ms| now_ms < *until_ms);
        if let Some(again_ms) = again_after(error) {
            self.refused.insert((want, symbol.into()), now_ms.saturating_add(again_ms));
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
    /// A source that fails costs only its own facts. Errors if the server of the streams fails: there is no place to
    /// append to then, and no source is asked.
    pub async fn tick(&mut self, tick: &Tick) -> Result<TickReport, FetchError> {
        self.say_credentials_once();
        // The needs were not computed yet. Unknown needs are not the same as no data at all.
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
        let calls_before = self.exchange.health().sent();
        let mut turn = Turn { now_ms, report: TickReport::default(), calls_before };
        let mut list = tick.needs.list.clone();
        order(&mut list, &self.asked);
        let found = self.positions(&tick.needs, &mut turn).await?;
        list.extend(found);
        self.prices(&tick.needs, &list, &mut turn).await?;
        self.instruments(&tick.needs, &list, &mut turn).await?;
        self.fills(&tick.needs, &list, &mut turn).await?;
        self.trim(tick.journalled, &mut turn).await?;
        self.forget(&tick.needs);
        turn.report.api_calls = self.exchange.health().sent() - calls_before;
        Ok(turn.report)
    }

    fn say_credentials_once(&mut self) {
        if !self.said_no_credentials
            && let Some(reason) = &self.no_credentials
        {
            tracing::warn!("no credentials of the exchange: {reason}; positions and fills are not fetched");
        }
        self.said_no_credentials = true;
    }

    pub(super) async fn server(&mut self) -> Result<&mut Server, ServerError> {
        if self.server.is_none() {
            self.server = Some(Server::connect(&self.address).await?);
        }
        Ok(self.server.as_mut().expect("it was just connected"))
    }

    /// Returns true if this many more calls may be made in this tick. The first signed call also asks for the clock.
    pub(super) fn may_call(&self, turn: &Turn, is_signed: bool) -> bool {
        let health = self.exchange.health();
        let needed = 1 + u64::from(is_signed && health.clock_offset_ms.is_none());
        health.sent() - turn.calls_before + needed <= self.settings.max_api_calls
    }

    /// Appends observations and notes that they were appended.
    pub(super) async fn append(&mut self, observations: Vec<Observation>, turn: &mut Turn) -> Result<(), FetchError> {
        let ids = match &self.sink {
            Sink::DryRun => {
                let from = self.dry_seq;
                self.dry_seq += observations.len() as u64;
                (from..self.dry_seq).map(|seq| EntryId::new(turn.now_ms, seq)).collect()
            }
            Sink::Stream(stream) => {
                let stream = stream.clone();
                let entries: Vec<Vec<(&str, &str)>> = observations.iter().map(|o| o.fields().to_vec()).collect();
                self.server().await?.add_all(&stream, &entries).await?
            }
        };
        let appended = ids.into_iter().zip(observations).map(|(id, observation)| Appended { id, observation });
        turn.report.appended.extend(appended);
        Ok(())
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
        let wanted: BTreeMap<(&str, Want), ()> = needs.list.iter().map(|n| ((&*n.book.symbol, n.want), ())).collect();
        self.asked.retain(|(symbol, want), _| wanted.contains_key(&(&**symbol, *want)));
        self.fills.keep_open(&needs.held);
    }

    pub(super) fn has_credentials(&self) -> bool {
        self.no_credentials.is_none() && self.exchange.has_credentials()
    }

    pub(super) fn uses(&self, source: Source) -> bool {
        self.settings.sources.contains(&source)
    }
}

impl Turn {
    /// Logs and notes a call that failed. It has no other effect.
    pub fn failed(&mut self, error: &CallError) {
        let note = error.to_string();
        if !self.report.notes.contains(&note) {
            self.report.notes.push(note);
        }
    }
}

/// Time before a request is repeated that was refused, or whose answer could not be read. [ms]
const REFUSED_INTERVAL_MS: u64 = 120_000;

/// Returns the time to wait after an error that the next tick would only repeat. [ms]
pub(super) fn again_after(error: &CallError) -> Option<u64> {
    matches!(error, CallError::Refused { .. } | CallError::Unreadable { .. }).then_some(REFUSED_INTERVAL_MS)
}

/// Returns the symbols of a list that have this need, each once, in their order. The credentials are those of the
/// account without a name, so what other accounts need of theirs is not asked for.
pub(super) fn wanting(list: &[Need], want: Want) -> Vec<&str> {
    let mut symbols: Vec<&str> = Vec::new();
    let is_general = matches!(want, Want::Price | Want::Instrument);
    let is_asked = |need: &&Need| need.want == want && (is_general || need.book.account.is_empty());
    for need in list.iter().filter(is_asked) {
        if !symbols.contains(&&*need.book.symbol) {
            symbols.push(&need.book.symbol);
        }
    }
    symbols
}

/// Returns the stream that observations are appended to: the first one of its kind.
pub fn observation_stream(streams: &Streams) -> &str {
    let first = streams.iter().find(|(_, stream)| stream.kind == StreamKind::Observation);
    first.map_or(StreamKind::Observation.default_stream(), |(_, stream)| &stream.name)
}
