//! Mark prices: from the hashes of the feed first, then from the exchange. If more than a few are lacking, one call
//! fetches all.

use super::fetcher::{Fetcher, Turn, wanting};
use super::report::FetchError;
use crate::codec::hashes::{self, NoPrice};
use crate::codec::observe::{self, Observation};
use crate::config::Source;
use crate::domain::engine::needs::{Need, Needs, Want};
use crate::domain::event::PriceSource;
use crate::domain::units::Price;
use crate::service::said::Until;
use crate::shell::redis::{PriceText, PriceTexts};

/// Up to this many prices are requested one by one, each by a light call; more are requested in one heavy call.
const FEW: usize = 3;

const API: &str = PriceSource::API;
/// The reason why a symbol is not requested.
pub(super) const DELISTED: &str = "delisted there, not asked for again";
const LATE: &str = "came too late to be appended";
pub(super) const REFUSED: &str = "refused a short while ago, not asked for yet";

/// A price that was found.
struct Found {
    symbol: Box<str>,
    price: Price,
    source: &'static str,
    observed_ms: u64,
}

impl Fetcher {
    pub(super) async fn prices(&mut self, needs: &Needs, list: &[Need], turn: &mut Turn) -> Result<(), FetchError> {
        let mut wanted: Vec<Box<str>> = wanting(list, Want::Price).into_iter().map(Into::into).collect();
        wanted.retain(|symbol| !self.sent.is_early(symbol, turn.now_ms, needs));
        if wanted.is_empty() {
            return Ok(());
        }
        for symbol in &wanted {
            self.asked.insert((symbol.clone(), Want::Price), turn.now_ms);
        }
        for source in self.settings.sources.clone() {
            let until = Until::of_call();
            let found = match source {
                Source::Redis => self.ask_hashes(needs, &wanted, turn).await?,
                Source::Api => self.ask_exchange(needs, &wanted, turn).await,
            };
            let symbols: Vec<Box<str>> = found.iter().map(|price| price.symbol.clone()).collect();
            if !self.append_news(found, until, needs, turn).await? {
                let of = match source {
                    Source::Redis => "redis",
                    Source::Api => API,
                };
                symbols.iter().for_each(|symbol| turn.report.miss(symbol, Want::Price, format!("{of}: {LATE}")));
                continue;
            }
            symbols.iter().for_each(|symbol| turn.report.met(symbol, Want::Price));
            wanted.retain(|symbol| !symbols.contains(symbol));
        }
        Ok(())
    }

    /// Appends the prices that are news. Returns false if they are late: then none is appended.
    async fn append_news(
        &mut self,
        found: Vec<Found>,
        until: Until,
        needs: &Needs,
        turn: &mut Turn,
    ) -> Result<bool, FetchError> {
        let mut news: Vec<Observation> = Vec::new();
        let mut sent = Vec::new();
        for Found { symbol, price, source, observed_ms } in found {
            if self.sent.is_news(&symbol, price, turn.now_ms, needs) {
                news.push(observe::price(&symbol, price, source, Some(observed_ms)));
                sent.push((symbol, (price, turn.now_ms)));
            }
        }
        let is_in_time = news.is_empty() || self.append_in_time(news, until, turn).await?;
        if is_in_time {
            self.sent.0.extend(sent);
        }
        Ok(is_in_time)
    }

    /// Reads both hashes of all symbols in one round trip. The ticker hash comes first, because it has the mark.
    async fn ask_hashes(
        &mut self,
        needs: &Needs,
        wanted: &[Box<str>],
        turn: &mut Turn,
    ) -> Result<Vec<Found>, FetchError> {
        if wanted.is_empty() || !(needs.accepts(PriceSource::REDIS_TICKER) || needs.accepts(PriceSource::REDIS_MARKET))
        {
            return Ok(Vec::new());
        }
        let symbols: Vec<&str> = wanted.iter().map(|symbol| &**symbol).collect();
        let texts = self.server().await?.price_hashes(&symbols).await?;
        let mut found = Vec::new();
        for (symbol, PriceTexts { ticker, market }) in wanted.iter().zip(&texts) {
            for (source, text) in [(PriceSource::REDIS_TICKER, ticker), (PriceSource::REDIS_MARKET, market)] {
                if !needs.accepts(source) {
                    continue;
                }
                let PriceText { price, timestamp } = text;
                match hashes::price(price.as_deref(), timestamp.as_deref(), turn.now_ms, needs.max_price_age_ms) {
                    Ok(read) => {
                        let (price, observed_ms) = (read.price, read.observed_ms);
                        found.push(Found { symbol: symbol.clone(), price, source, observed_ms });
                        break;
                    }
                    Err(why) => turn.report.miss(symbol, Want::Price, format!("{source}: {}", said(&why))),
                }
            }
        }
        Ok(found)
    }

    async fn ask_exchange(&mut self, needs: &Needs, wanted: &[Box<str>], turn: &mut Turn) -> Vec<Found> {
        if wanted.is_empty() {
            return Vec::new();
        }
        if !needs.accepts(API) {
            for symbol in wanted {
                turn.report.miss(symbol, Want::Price, format!("{API}: the policy does not accept it"));
            }
            return Vec::new();
        }
        let (delisted, wanted): (Vec<Box<str>>, Vec<Box<str>>) =
            wanted.iter().cloned().partition(|symbol| self.delisted.contains(symbol));
        for symbol in delisted {
            turn.report.miss(&symbol, Want::Price, format!("{API}: {DELISTED}"));
        }
        let calls: Vec<Option<&str>> =
            if wanted.len() > FEW { vec![None] } else { wanted.iter().map(|symbol| Some(&**symbol)).collect() };
        let mut found = Vec::new();
        for asked in calls {
            let covered = wanted.iter().filter(|symbol| asked.is_none_or(|asked| *asked == ***symbol));
            if self.is_refused(Want::Price, asked.unwrap_or_default(), turn.now_ms) {
                covered.for_each(|symbol| turn.report.miss(symbol, Want::Price, format!("{API}: {REFUSED}")));
                continue;
            }
            if !self.may_call(turn, false) {
                covered.for_each(|symbol| {
                    turn.report.miss(symbol, Want::Price, format!("{API}: the calls of this tick are spent"));
                });
                continue;
            }
            match self.exchange.marks(asked).await {
                Ok(rows) => {
                    for symbol in covered {
                        match rows.iter().find(|row| *row.symbol == **symbol) {
                            Some(row) => found.push(Found {
                                symbol: symbol.clone(),
                                price: row.mark_price,
                                source: API,
                                observed_ms: row.time_ms,
                            }),
                            None => turn.report.miss(symbol, Want::Price, format!("{API}: no mark price there")),
                        }
                    }
                }
                Err(error) => {
                    covered.for_each(|symbol| turn.report.miss(symbol, Want::Price, format!("{API}: {error}")));
                    self.note_refusal(Want::Price, asked.unwrap_or_default(), &error, turn.now_ms);
                    if let Some(symbol) = asked {
                        self.note_delisted(symbol, &error);
                    }
                    turn.failed(&error);
                }
            }
        }
        found
    }
}

fn said(why: &NoPrice) -> String {
    match why {
        NoPrice::Absent => "absent".to_owned(),
        NoPrice::Unbelievable(text) => format!("{text:?} is not a price"),
        NoPrice::NoTime => "it has no time".to_owned(),
        NoPrice::TooOld { age_ms } => format!("{}.{} s old", age_ms / 1000, age_ms % 1000 / 100),
        NoPrice::Ahead { by_ms } => format!("{} s ahead of the clock", by_ms / 1000),
    }
}
