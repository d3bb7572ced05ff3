//! Instruments: fetched when one is lacking, and again after a day.

use std::collections::BTreeSet;

use super::fetcher::{Fetcher, Turn, wanting};
use super::report::FetchError;
use crate::codec::exchange::InstrumentRow;
use crate::codec::observe::{self, Observation};
use crate::codec::time::DAY_MS;
use crate::config::Source;
use crate::domain::engine::needs::{Need, Needs, Want};

/// Least time between two requests for a symbol that the exchange does not list. [ms]
const UNKNOWN_INTERVAL_MS: u64 = 3_600_000;

impl Fetcher {
    pub(super) async fn instruments(
        &mut self,
        needs: &Needs,
        list: &[Need],
        turn: &mut Turn,
    ) -> Result<(), FetchError> {
        if !self.uses(Source::Api) {
            return Ok(());
        }
        let began_ms = *self.instruments.began_ms.get_or_insert(turn.now_ms);
        let wanted = wanting(list, Want::Instrument);
        let since_ms = turn.now_ms.saturating_sub(self.instruments.answered_ms.unwrap_or(began_ms));
        let is_unlisted = wanted
            .iter()
            .any(|symbol| !self.instruments.rows.contains_key(*symbol) && !self.delisted.contains(*symbol));
        let never = self.instruments.answered_ms.is_none();
        let is_due = since_ms >= DAY_MS || (is_unlisted && (never || since_ms >= UNKNOWN_INTERVAL_MS));
        let mut changed = Vec::new();
        let is_refused = self.is_refused(Want::Instrument, "", turn.now_ms);
        if is_due && !is_refused && !(needs.open.is_empty() && wanted.is_empty()) && self.may_call(turn, false) {
            match self.exchange.instruments().await {
                Ok(rows) => changed = self.learn(rows, needs, turn.now_ms),
                Err(error) => {
                    for symbol in &wanted {
                        turn.report.miss(symbol, Want::Instrument, format!("exchange: {error}"));
                    }
                    self.note_refusal(Want::Instrument, "", &error, turn.now_ms);
                    turn.failed(&error);
                }
            }
        }
        let mut news: Vec<Observation> = changed;
        for symbol in wanted {
            match self.instruments.rows.get(symbol) {
                Some(row) => news.push(observe::instrument(row)),
                None => turn.report.miss(symbol, Want::Instrument, "exchange: not listed there".to_owned()),
            }
            self.asked.insert((symbol.into(), Want::Instrument), turn.now_ms);
        }
        self.append(news, turn).await
    }

    /// Adopts the answer of the exchange. Returns the changes for symbols with a position.
    fn learn(&mut self, rows: Vec<InstrumentRow>, needs: &Needs, now_ms: u64) -> Vec<Observation> {
        self.instruments.answered_ms = Some(now_ms);
        let former = std::mem::take(&mut self.instruments.rows);
        self.delisted.retain(|symbol| rows.iter().all(|row| row.symbol != **symbol));
        self.instruments.rows = rows.into_iter().map(|row| (row.symbol.clone(), row)).collect();
        let lacking: BTreeSet<&str> = needs.books(Want::Instrument).map(|book| &*book.symbol).collect();
        let open = needs
            .open
            .iter()
            .map(|need| &*need.book.symbol)
            .filter(|symbol| !lacking.contains(symbol))
            .collect::<BTreeSet<&str>>()
            .into_iter();
        let is_news = |row: &&InstrumentRow| former.get(&row.symbol) != Some(row);
        open.filter_map(|symbol| self.instruments.rows.get(symbol)).filter(is_news).map(observe::instrument).collect()
    }
}
