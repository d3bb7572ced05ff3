//! Checks whether the account's socket delivers events, by comparison with REST. Pure: time is an argument.
//!
//! A socket can be open and answer pings, and still deliver nothing. The proof is a position that changed at the
//! exchange between two looks at REST while no event of its symbol came, or a trade that REST lists without an event.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::{Duration, Instant};

use crate::codec::exchange::PositionRow;
use crate::domain::event::PositionSide;
use crate::domain::units::Qty;

/// Symbol and position side: the two sides of a hedge account are rows of their own.
pub(super) type Side = (String, PositionSide);

#[derive(Debug, Default)]
pub(super) struct Delivery {
    /// The last look at REST, and when it began; `None` before the first.
    shown: Option<(Instant, BTreeMap<Side, PositionRow>)>,
    /// The quantity of each row that was written last or waits to be written, from an event or from REST.
    known: BTreeMap<Side, Qty>,
    /// Rows whose quantity at REST differs from the known one.
    unwritten: BTreeSet<Side>,
    /// Those of them that must be written whatever REST shows: the last entry of the stream about them is not known.
    doubted: BTreeSet<Side>,
    /// When the last event of a symbol came.
    received: BTreeMap<String, Instant>,
    /// Symbols that changed without an event, and until when an event may still come.
    awaited: BTreeMap<String, Instant>,
}

impl Delivery {
    /// Notes an event of a symbol.
    pub(super) fn received(&mut self, symbol: &str, now: Instant) {
        self.received.insert(symbol.to_owned(), now);
        self.awaited.remove(symbol);
    }

    /// Notes the quantity of a row from an event.
    pub(super) fn changed(&mut self, side: Side, qty: Qty, now: Instant) {
        self.received(&side.0, now);
        self.wrote(side, qty);
    }

    /// Notes that a row with this quantity was written.
    pub(super) fn wrote(&mut self, side: Side, qty: Qty) {
        self.unwritten.remove(&side);
        self.doubted.remove(&side);
        self.known.insert(side, qty);
    }

    /// Notes that a row was not written, or may not have been.
    pub(super) fn doubt(&mut self, side: Side) {
        self.known.remove(&side);
        self.unwritten.insert(side.clone());
        self.doubted.insert(side);
    }

    /// Does the same for all rows that REST has shown or that were written.
    pub(super) fn doubt_all(&mut self) {
        let shown = self.shown.iter().flat_map(|(_, rows)| rows.keys());
        let sides: Vec<Side> = shown.chain(self.known.keys()).cloned().collect();
        sides.into_iter().for_each(|side| self.doubt(side));
    }

    /// Returns true if rows must be written again.
    pub(super) fn has_doubts(&self) -> bool {
        !self.doubted.is_empty()
    }

    /// Adds a look at REST that began at a time, and compares it with the look before. The first look is only stored.
    ///
    /// `rows` are those with a quantity. A row of the last look that is not among them is flat.
    pub(super) fn look(&mut self, began: Instant, rows: BTreeMap<Side, PositionRow>, grace: Duration) {
        let Some((before, shown)) = self.shown.replace((began, rows.clone())) else { return };
        let sides: BTreeSet<Side> = shown.keys().chain(rows.keys()).chain(self.known.keys()).cloned().collect();
        for side in &sides {
            let qty = |rows: &BTreeMap<Side, PositionRow>| rows.get(side).map_or(Qty::ZERO, |row| row.position_amt);
            let (now, known) = (qty(&rows), self.known.get(side));
            if known == Some(&now) {
                self.unwritten.remove(side);
                continue;
            }
            // REST may show a change late that an event delivered before the last look.
            let is_settled = self.received.get(&side.0).is_none_or(|received| *received + grace < before);
            if qty(&shown) == now {
                // Both looks differ from what was written last.
                if known.is_none() || !is_settled {
                    continue;
                }
            }
            self.unwritten.insert(side.clone());
            if is_settled {
                self.awaited.entry(side.0.clone()).or_insert(began + grace);
            }
        }
    }

    /// Returns the rows to be written, as the last look at REST shows them.
    pub(super) fn unwritten(&self) -> BTreeMap<Side, PositionRow> {
        let Some((_, shown)) = &self.shown else { return BTreeMap::new() };
        let row = |side: &Side| shown.get(side).cloned().unwrap_or_else(|| PositionRow::flat(&side.0, side.1));
        self.unwritten.iter().map(|side| (side.clone(), row(side))).collect()
    }

    /// Expects an event of a symbol up to a time: REST lists a trade of it without an event so far.
    pub(super) fn expect_event(&mut self, symbol: &str, until: Instant) {
        self.awaited.entry(symbol.to_owned()).or_insert(until);
    }

    /// Returns when the first change without an event has waited long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.awaited.values().min().copied()
    }

    /// Returns true if every change that REST showed was delivered.
    pub(super) fn is_consistent(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Removes and returns the symbols that have waited long enough for an event.
    pub(super) fn take_undelivered(&mut self, now: Instant) -> Vec<String> {
        let (overdue, waiting) = std::mem::take(&mut self.awaited).into_iter().partition(|(_, until)| *until <= now);
        self.awaited = waiting;
        let overdue: BTreeMap<String, Instant> = overdue;
        overdue.into_keys().collect()
    }

    /// Returns the symbols with a quantity at the last look, or changed and are not written yet.
    pub(super) fn symbols(&self) -> impl Iterator<Item = &String> {
        let shown = self.shown.iter().flat_map(|(_, rows)| rows.keys());
        shown.chain(&self.unwritten).map(|(symbol, _)| symbol)
    }

    /// Expects no more events of earlier changes, because REST is asked for them.
    pub(super) fn excuse(&mut self) {
        self.awaited.clear();
    }
}

#[cfg(test)]
mod tests {
    use rust_decimal::Decimal;

    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    fn side(symbol: &str, position_side: &str) -> Side {
        (symbol.to_owned(), PositionSide::of_name(position_side).expect("a side"))
    }

    fn rows(given: &[(&str, &str, i64)]) -> BTreeMap<Side, PositionRow> {
        let row = |(symbol, position_side, qty): &(&str, &str, i64)| {
            let qty = Qty::new(Decimal::from(*qty));
            let side = side(symbol, position_side);
            let row = PositionRow { position_amt: qty, ..PositionRow::flat(symbol, side.1) };
            (side, row)
        };
        given.iter().map(row).collect()
    }

    /// Returns the rows to be written.
    fn unwritten(delivery: &Delivery) -> Vec<String> {
        let name =
            |((symbol, side), row): (&Side, &PositionRow)| format!("{symbol} {} {}", side.name(), row.position_amt);
        delivery.unwritten().iter().map(name).collect()
    }

    /// Writes the rows that are to be written.
    fn write_all(delivery: &mut Delivery) {
        for (side, row) in delivery.unwritten() {
            delivery.wrote(side, row.position_amt);
        }
        assert!(delivery.unwritten().is_empty() && !delivery.has_doubts());
    }

    #[test]
    fn i69_a_change_that_no_event_reports_is_found_after_a_grace() {
        let began = Instant::now();
        let at = |s: u64| began + Duration::from_secs(s);
        let mut delivery = Delivery::default();
        delivery.look(at(0), rows(&[("ADAUSDT", "BOTH", 5)]), GRACE);
        assert!(unwritten(&delivery).is_empty(), "the first look is what others are compared with");
        delivery.look(at(60), rows(&[("ADAUSDT", "BOTH", 5)]), GRACE);
        assert!(unwritten(&delivery).is_empty() && delivery.is_consistent());
        delivery.look(at(120), rows(&[("ADAUSDT", "BOTH", 7), ("BTCUSDT", "BOTH", 1)]), GRACE);
        assert_eq!(unwritten(&delivery), ["ADAUSDT BOTH 7", "BTCUSDT BOTH 1"]);
        assert_eq!(delivery.due(), Some(at(125)));
        assert!(delivery.take_undelivered(at(124)).is_empty(), "an event may be late");
        delivery.received("BTCUSDT", at(124));
        assert_eq!(delivery.take_undelivered(at(125)), ["ADAUSDT"]);
        assert!(delivery.is_consistent(), "found once");
        write_all(&mut delivery);
        delivery.look(at(180), rows(&[("BTCUSDT", "BOTH", 1)]), GRACE);
        assert_eq!(unwritten(&delivery), ["ADAUSDT BOTH 0"], "a row that is gone is flat");
        assert_eq!(delivery.symbols().collect::<Vec<_>>(), ["BTCUSDT", "ADAUSDT"], "its trades are asked for too");
    }

    #[test]
    fn what_an_event_reports_is_no_finding_and_is_not_reported_again() {
        let began = Instant::now();
        let at = |s: u64| began + Duration::from_secs(s);
        let mut delivery = Delivery::default();
        delivery.look(at(0), rows(&[]), GRACE);
        delivery.changed(side("ADAUSDT", "BOTH"), Qty::new(Decimal::from(7)), at(30));
        delivery.look(at(60), rows(&[("ADAUSDT", "BOTH", 7)]), GRACE);
        assert!(unwritten(&delivery).is_empty() && delivery.is_consistent());
        // A trade shows that something happened, and not the present quantity.
        delivery.received("ADAUSDT", at(90));
        delivery.look(at(120), rows(&[("ADAUSDT", "BOTH", 9)]), GRACE);
        assert_eq!((unwritten(&delivery), delivery.is_consistent()), (vec!["ADAUSDT BOTH 9".to_owned()], true));
        delivery.changed(side("ADAUSDT", "BOTH"), Qty::new(Decimal::from(9)), at(121));
        assert!(unwritten(&delivery).is_empty(), "the event came after all");
        // An event from before the last look does not explain a later change.
        delivery.look(at(150), rows(&[("ADAUSDT", "BOTH", 9)]), GRACE);
        delivery.look(at(180), rows(&[("ADAUSDT", "BOTH", 8)]), GRACE);
        assert_eq!((unwritten(&delivery).len(), delivery.is_consistent()), (1, false));
        // A row that was written from REST is known. A return to the earlier quantity is a new change.
        write_all(&mut delivery);
        delivery.look(at(210), rows(&[("ADAUSDT", "BOTH", 9)]), GRACE);
        assert_eq!(unwritten(&delivery), ["ADAUSDT BOTH 9"]);
        delivery.expect_event("BTCUSDT", at(181));
        assert_eq!(delivery.due(), Some(at(181)));
        delivery.excuse();
        assert_eq!(delivery.due(), None);
    }

    #[test]
    fn rest_that_shows_late_what_an_event_reported_is_no_finding() {
        let began = Instant::now();
        let at = |s: u64| began + Duration::from_secs(s);
        let mut delivery = Delivery::default();
        delivery.look(at(0), rows(&[]), GRACE);
        delivery.changed(side("ADAUSDT", "BOTH"), Qty::new(Decimal::from(7)), at(30));
        delivery.received("BTCUSDT", at(58));
        delivery.look(at(60), rows(&[]), GRACE);
        delivery.look(at(120), rows(&[("ADAUSDT", "BOTH", 7), ("BTCUSDT", "BOTH", 1)]), GRACE);
        assert_eq!((delivery.is_consistent(), unwritten(&delivery)), (true, vec!["BTCUSDT BOTH 1".to_owned()]));
    }

    #[test]
    fn a_row_that_was_dropped_is_written_as_rest_shows_it_even_if_nothing_changed_there() {
        let began = Instant::now();
        let at = |s: u64| began + Duration::from_secs(s);
        let mut delivery = Delivery::default();
        delivery.look(at(0), rows(&[]), GRACE);
        delivery.changed(side("ADAUSDT", "BOTH"), Qty::new(Decimal::from(10)), at(30));
        delivery.doubt(side("ADAUSDT", "BOTH"));
        delivery.look(at(70), rows(&[]), GRACE);
        assert_eq!((unwritten(&delivery), delivery.has_doubts()), (vec!["ADAUSDT BOTH 0".to_owned()], true));
        assert!(delivery.is_consistent(), "it is not the socket's fault");
        write_all(&mut delivery);
        // After a hole, all that REST or we have stated is written again.
        delivery.look(at(80), rows(&[("BTCUSDT", "BOTH", 1)]), GRACE);
        write_all(&mut delivery);
        delivery.doubt_all();
        assert_eq!(unwritten(&delivery), ["ADAUSDT BOTH 0", "BTCUSDT BOTH 1"]);
        delivery.changed(side("ADAUSDT", "BOTH"), Qty::new(Decimal::from(3)), at(81));
        assert_eq!(unwritten(&delivery), ["BTCUSDT BOTH 1"], "an event is newer");
    }

    #[test]
    fn rest_that_never_shows_what_was_written_last_is_written() {
        let began = Instant::now();
        let at = |s: u64| began + Duration::from_secs(s);
        let mut delivery = Delivery::default();
        delivery.look(at(0), rows(&[]), GRACE);
        delivery.changed(side("ADAUSDT", "BOTH"), Qty::new(Decimal::from(10)), at(30));
        delivery.look(at(60), rows(&[]), GRACE);
        assert!(unwritten(&delivery).is_empty(), "REST may be late");
        delivery.look(at(120), rows(&[]), GRACE);
        assert_eq!((unwritten(&delivery), delivery.is_consistent()), (vec!["ADAUSDT BOTH 0".to_owned()], false));
        assert_eq!(delivery.take_undelivered(at(125)), ["ADAUSDT"], "REST is asked instead");
    }

    #[test]
    fn i66_the_sides_of_a_symbol_are_rows_of_their_own() {
        let began = Instant::now();
        let mut delivery = Delivery::default();
        delivery.look(began, rows(&[("ADAUSDT", "LONG", 4), ("ADAUSDT", "SHORT", -4)]), GRACE);
        let later = began + Duration::from_secs(60);
        delivery.look(later, rows(&[("ADAUSDT", "LONG", 4), ("ADAUSDT", "SHORT", -6)]), GRACE);
        assert_eq!(unwritten(&delivery), ["ADAUSDT SHORT -6"], "4 and -4 are not nothing");
    }
}
