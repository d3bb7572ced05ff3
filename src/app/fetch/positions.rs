//! What the exchange holds, of all symbols at once: at the start, at every poll, and when a position is in doubt.

use std::collections::BTreeSet;

use super::fetcher::{Fetcher, Turn};
use super::report::FetchError;
use crate::codec::observe::{self, Observation};
use crate::config::Source;
use crate::domain::needs::{Need, Needs, Want, Why};
use crate::domain::units::Qty;
use crate::shell::exchange::Positions;

/// A doubt is not asked about more often than this. [ms]
const DOUBT_INTERVAL_MS: u64 = 10_000;

/// When positions were asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Poll {
    asked_ms: Option<u64>,
    answered_ms: Option<u64>,
}

impl Poll {
    fn is_due(&self, needs: &Needs, poll_ms: u64, now_ms: u64) -> bool {
        let since = |ms: Option<u64>| ms.map(|ms| now_ms.saturating_sub(ms));
        let (Some(asked), Some(answered)) = (since(self.asked_ms), since(self.answered_ms)) else { return true };
        let in_doubt = || {
            let wants = |need: &Need| matches!(need.want, Want::Confirmation | Want::EntryPrice);
            needs.list.iter().any(|need| wants(need) && Some(need.since_ms) >= self.answered_ms)
        };
        (poll_ms > 0 && answered >= poll_ms) || (asked >= DOUBT_INTERVAL_MS && in_doubt())
    }
}

impl Fetcher {
    /// Asks for all positions where it is time; answers the needs of those that nobody knew of.
    pub(super) async fn positions(&mut self, needs: &Needs, turn: &mut Turn) -> Result<Vec<Need>, FetchError> {
        if !self.uses(Source::Api) {
            return Ok(Vec::new());
        }
        if !self.has_credentials() {
            let reason = self.no_credentials.clone().unwrap_or_default();
            for need in needs.list.iter().filter(|need| matches!(need.want, Want::EntryPrice | Want::Confirmation)) {
                turn.report.miss(&need.symbol, need.want, format!("exchange: no credentials ({reason})"));
            }
            return Ok(Vec::new());
        }
        let is_due = self.poll.is_due(needs, self.settings.position_poll_ms, turn.now_ms);
        if !is_due || !self.may_call(turn, true) {
            return Ok(Vec::new());
        }
        self.poll.asked_ms = Some(turn.now_ms);
        let positions = match self.exchange.position_risk().await {
            Ok(positions) => positions,
            // A call that failed says nothing of any position.
            Err(error) => {
                for need in needs.list.iter().filter(|n| matches!(n.want, Want::EntryPrice | Want::Confirmation)) {
                    turn.report.miss(&need.symbol, need.want, format!("exchange: {error}"));
                }
                turn.failed(&error);
                return Ok(Vec::new());
            }
        };
        self.poll.answered_ms = Some(turn.now_ms);
        turn.report.positions_answered = true;
        self.append(observations(&positions, needs), turn).await?;
        for symbol in needs.symbols(Want::EntryPrice) {
            let answered =
                positions.open().find(|row| row.symbol == symbol).is_some_and(|row| row.entry_price.is_some());
            if !answered {
                turn.report.miss(symbol, Want::EntryPrice, "exchange: no such position there".to_owned());
            }
        }
        Ok(unknown(&positions, needs, turn.now_ms))
    }
}

/// Each row that is not zero, and an explicit zero for every symbol that we hold, or doubt, and that has none.
fn observations(positions: &Positions, needs: &Needs) -> Vec<Observation> {
    let mut list: Vec<Observation> = positions
        .open()
        .map(|row| {
            observe::position(&row.symbol, row.position_amt, row.entry_price, &row.position_side, row.updated_ms)
        })
        .collect();
    let ours = needs.held.iter().map(|held| &*held.symbol).chain(needs.flat_in_doubt.iter().map(|symbol| &**symbol));
    let flat: BTreeSet<&str> = positions.flat_among(ours).into_iter().collect();
    list.extend(flat.into_iter().map(|symbol| observe::position(symbol, Qty::ZERO, None, "BOTH", None)));
    if list.is_empty() && !needs.positions_known {
        // All are flat, and nobody knew: one of them says so.
        let symbol = positions.rows().first().map_or("BTCUSDT", |row| &row.symbol);
        list.push(observe::position(symbol, Qty::ZERO, None, "BOTH", None));
    }
    list
}

/// What positions lack that were not known: they can be asked for in the same tick.
fn unknown(positions: &Positions, needs: &Needs, now_ms: u64) -> Vec<Need> {
    let new = positions.open().filter(|row| needs.held(&row.symbol).is_none());
    let need = |symbol: &str, want| Need {
        symbol: symbol.into(),
        want,
        why: Why::Missing,
        since_ms: now_ms,
        near_rung: false,
    };
    new.flat_map(|row| [need(&row.symbol, Want::Price), need(&row.symbol, Want::Instrument)]).collect()
}
