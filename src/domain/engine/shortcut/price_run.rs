//! Price runs: a price and the following prices of its symbol, up to the next entry that may change their outcome. They
//! do not depend on a policy, so one look-ahead serves all engines that fold the same entries.

use crate::domain::event::ids::{EntryId, SortKey, StreamId, SymbolId};
use crate::domain::event::{Entry, Event, PriceFact, PriceSource};
use crate::domain::units::Price;

/// A price and the following prices of its symbol and source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PriceRun {
    /// [1]
    pub prices: u32,
    /// The lowest and the highest price. [quote per base]
    pub low: Price,
    pub high: Price,
    /// Decimal places that the prices need. [1]
    pub scale: u32,
    /// Largest age of a price: entry id minus event time. [ms]
    pub lag_ms: u64,
    pub source: PriceSource,
    pub stream: StreamId,
    /// Name of their shape.
    pub shape: &'static str,
    /// The last price. [quote per base]
    pub last: Price,
    pub last_entry: EntryId,
}

impl PriceRun {
    fn of(fact: PriceFact, entry: &Entry) -> Self {
        let PriceFact { price, source, time } = fact;
        // A price whose event time is unreadable is never used.
        let lag_ms = time.age_ms(entry.id.ms).unwrap_or(u64::MAX);
        Self {
            prices: 1,
            low: price,
            high: price,
            scale: price.scale(),
            lag_ms,
            source,
            stream: entry.stream,
            shape: entry.shape,
            last: price,
            last_entry: entry.id,
        }
    }

    /// Returns true if this price and those of `others` can form one run.
    fn goes_on_with(&self, others: &Self) -> bool {
        // One source may write into several streams, and each stream has its own cursor.
        (self.source, self.stream, self.shape) == (others.source, others.stream, others.shape)
    }

    /// Returns the run of this price followed by the others.
    fn before(self, others: &Self) -> Self {
        Self {
            prices: others.prices + 1,
            low: self.low.min(others.low),
            high: self.high.max(others.high),
            scale: self.scale.max(others.scale),
            lag_ms: self.lag_ms.max(others.lag_ms),
            ..*others
        }
    }
}

/// The time and symbol of an entry, in few bytes.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// [ms since 1970]
    pub ms: u64,
    pub symbol: Option<SymbolId>,
}

/// The price runs of a batch, by entry.
#[derive(Debug, Default)]
pub struct Ahead {
    /// By entry.
    scale: Vec<Place>,
    runs: Vec<Option<PriceRun>>,
    /// By symbol, the entry whose run an earlier price would join.
    next: Vec<Option<usize>>,
}

impl Ahead {
    /// Examines the entries of a batch, from the last to the first. Entries for which `stands_alone` is true join no
    /// run.
    pub fn look<'a>(
        &mut self,
        entries: impl DoubleEndedIterator<Item = &'a Entry> + ExactSizeIterator + Clone,
        stands_alone: impl Fn(&Entry) -> bool,
    ) {
        self.scale.clear();
        self.scale.extend(entries.clone().map(|entry| Place { ms: entry.id.ms, symbol: entry.symbol }));
        self.runs.clear();
        let mut keys = entries.clone().map(|entry| SortKey::new(entry.stream, entry.id));
        let mut before = keys.next();
        // Runs are formed only if the entries are in canonical order.
        if !keys.all(|key| before.replace(key).is_some_and(|before| before < key)) {
            return;
        }
        self.runs.resize(entries.len(), None);
        self.next.fill(None);
        for (at, entry) in entries.enumerate().rev() {
            // An entry that may change more than its own symbol ends all runs.
            let (Some(symbol), Ok(event)) = (entry.symbol, &entry.content) else {
                self.next.fill(None);
                continue;
            };
            let symbol = symbol.0 as usize;
            if symbol >= self.next.len() {
                self.next.resize(symbol + 1, None);
            }
            match event {
                Event::Price(fact) if !stands_alone(entry) => {
                    let own = PriceRun::of(*fact, entry);
                    let others = self.next[symbol].and_then(|next| self.runs[next].as_ref());
                    let others = others.filter(|others| own.goes_on_with(others));
                    self.runs[at] = Some(others.map_or(own, |others| own.before(others)));
                    self.next[symbol] = Some(at);
                }
                Event::Control(_) | Event::Decision(_) => self.next.fill(None),
                Event::Price(_)
                | Event::Intent(_)
                | Event::ExitIntent(_)
                | Event::Plan(_)
                | Event::PlanIgnored
                | Event::Result(_)
                | Event::Position(_)
                | Event::Trade(_)
                | Event::Legacy(_)
                | Event::Instrument(_) => self.next[symbol] = None,
            }
        }
    }

    /// Returns time and symbol of an entry of the batch.
    #[inline]
    pub fn place(&self, at: usize) -> Place {
        self.scale[at]
    }

    /// Returns the price run that begins at this entry, if it has several prices.
    #[inline]
    pub fn of(&self, at: usize) -> Option<&PriceRun> {
        self.runs.get(at)?.as_ref().filter(|run| run.prices > 1)
    }
}
