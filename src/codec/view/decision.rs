//! One decision as its history line has it.

use serde::Deserialize;

use crate::codec::payload::text_of_line;
use crate::domain::book::state::book_of_position;
use crate::domain::event::ids::EntryId;

/// The part of a decision's payload that screens show.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct DecisionView {
    pub symbol: String,
    pub position_id: String,
    pub side: String,
    pub qty: String,
    pub close_fraction: String,
    pub rungs: Vec<String>,
    pub r_net: String,
    pub mark_price: String,
    pub unrealized_pnl: String,
    pub mode: String,
}

impl DecisionView {
    /// Returns the name of the book, which its position has: that of the symbol, with account and position side where
    /// there is one.
    pub fn book(&self) -> &str {
        book_of_position(&self.position_id).unwrap_or(&self.symbol)
    }

    /// Reads a history line, with the id of its entry; `None` if it is not one of our decisions.
    pub fn of_line(line: &str) -> Option<(EntryId, Self)> {
        let (id, payload) = text_of_line(line)?;
        Some((id, serde_json::from_str(&payload).ok()?))
    }
}
