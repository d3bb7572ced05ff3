//! Prices that stand ahead: a price and those of its symbol behind it, up to the next entry that may change what they come
//! to. They say the same under every policy: looked for once, they serve all engines that fold the same entries.

use crate::domain::event::ids::{EntryId, SortKey, StreamId, SymbolId};
use crate::domain::event::{Entry, Event, PriceFact, PriceSource};
use crate::domain::units::Price;

/// A price and those of its symbol and source that follow it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PriceRun {
    /// [1]
    pub prices: u32,
    /// The lowest and the highest of them. [quote per base]
    pub low: Price,
    pub high: Price,
    /// Places behind the point that they need. [1]
    pub scale: u32,
    /// How much older than its entry any of them is by its own word. [ms]
    pub lag_ms: u64,
    pub source: PriceSource,
    pub stream: StreamId,
    /// Name of the shape they were read as.
    pub shape: &'static str,
    /// The last of them. [quote per base]
    pub last: Price,
    pub last_entry: EntryId,
}

impl PriceRun {
    fn of(fact: PriceFact, entry: &Entry) -> Self {
        let PriceFact { price, source, time } = fact;
        // One whose time is unreadable is never used.
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

    /// Can a price and those of `others` be taken as one.
    fn goes_on_with(&self, others: &Self) -> bool {
        // One source may write into several streams, and each has a cursor of its own.
        (self.source, self.stream, self.shape) == (others.source, others.stream, others.shape)
    }

    /// This price, and behind it the others.
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

/// Where an entry stands, in few bytes.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// [ms since 1970]
    pub ms: u64,
    pub symbol: Option<SymbolId>,
}

/// What stands ahead of each entry of a batch.
#[derive(Debug, Default)]
pub struct Ahead {
    /// By entry.
    scale: Vec<Place>,
    runs: Vec<Option<PriceRun>>,
    /// By symbol, the entry whose stretch an earlier price would go on with.
    next: Vec<Option<usize>>,
}

impl Ahead {
    /// Looks at the entries of a batch, from the last to the first. What `stands_alone` is never taken with others.
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
        // Prices are taken only in the order in which they stand.
        if !keys.all(|key| before.replace(key).is_some_and(|before| before < key)) {
            return;
        }
        self.runs.resize(entries.len(), None);
        self.next.fill(None);
        for (at, entry) in entries.enumerate().rev() {
            // Whatever may change more than its own symbol ends everything.
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

    /// Where an entry of the batch stands.
    #[inline]
    pub fn place(&self, at: usize) -> Place {
        self.scale[at]
    }

    /// The price at this place of the batch, with those behind it, if they are several.
    #[inline]
    pub fn of(&self, at: usize) -> Option<&PriceRun> {
        self.runs.get(at)?.as_ref().filter(|run| run.prices > 1)
    }
}
