//! The fast path for a plain position snapshot: flat fields, the side in upper case, the quantity without a sign.
//! Without it a replay takes 16 % more instructions (docs/decisions/0010).
//!
//! It follows the rules of [`super::tick`]: every other line goes to the general decoder.

use rust_decimal::Decimal;

use super::Symbols;
use super::layout::{Layout, Role, Within};
use crate::codec::number;
use crate::domain::event::ids::{AccountId, EntryId, StreamId};
use crate::domain::event::streams::StreamKind;
use crate::domain::event::{Direction, Entry, Event, PositionFact};
use crate::domain::units::{Price, Qty};

/// Reads the history line of a snapshot. Returns `None` if the general decoder has to read it. `layout` is the layout
/// of the line before it in the stream.
pub(super) fn decode(
    stream: StreamId,
    id: EntryId,
    line: &[u8],
    symbols: &mut Symbols,
    layout: &mut Layout,
) -> Option<Entry> {
    let snapshot = layout.read_or_learn(line, Within::Fields, |layout| Snapshot::read(line, layout))?;
    let fact = snapshot.fact()?;
    let symbol = Some(symbols.intern_plain(snapshot.symbol)?);
    let content = Ok(Event::Position(fact));
    let (account, position_side) = (AccountId::NONE, None);
    Some(Entry { stream, kind: StreamKind::Snapshot, id, shape: "flat", symbol, account, position_side, content })
}

/// The fields that a rule may use, as written.
#[derive(Default)]
struct Snapshot<'a> {
    symbol: &'a [u8],
    side: &'a [u8],
    qty: &'a [u8],
    entry_price: &'a [u8],
    amount: &'a [u8],
    /// A position side or an account, which the general decoder reads.
    book: &'a [u8],
}

impl<'a> Snapshot<'a> {
    #[inline]
    fn read(line: &'a [u8], layout: &Layout) -> Option<Self> {
        let mut snapshot = Self::default();
        layout.read(line, |role, value| {
            let field = match role {
                Role::Symbol => &mut snapshot.symbol,
                Role::Side => &mut snapshot.side,
                Role::Quantity => &mut snapshot.qty,
                Role::EntryPrice => &mut snapshot.entry_price,
                Role::Amount if value.text().is_empty() => return,
                // Which of two counts is for the general decoder.
                Role::Amount if !snapshot.amount.is_empty() => &mut snapshot.book,
                Role::Amount => &mut snapshot.amount,
                // An empty one does not hide another.
                Role::Book if value.text().is_empty() => return,
                Role::Book => &mut snapshot.book,
                _ => return,
            };
            *field = value.text();
        })?;
        Some(snapshot)
    }

    /// Returns the fact. An absent, zero or unreadable entry price goes to the general decoder, unless the quantity is
    /// zero.
    fn fact(&self) -> Option<PositionFact> {
        let direction = match self.side {
            b"LONG" => Direction::Long,
            b"SHORT" => Direction::Short,
            _ => return None,
        };
        if !self.book.is_empty() {
            return None;
        }
        let qty = not_negative(self.qty)?;
        if qty.is_zero() {
            return Some(PositionFact { qty: Qty::ZERO, entry_price: None, looked_up: false });
        }
        let entry_price = not_negative(self.entry_price).filter(|price| !price.is_zero())?;
        if !self.amount.is_empty() {
            let amount = Qty::new(number::decimal_of_bytes(self.amount).ok()?);
            if direction.signed(amount) != amount {
                return None;
            }
        }
        let qty = direction.signed(Qty::new(qty));
        Some(PositionFact { qty, entry_price: Some(Price::new(entry_price)), looked_up: false })
    }
}

fn not_negative(text: &[u8]) -> Option<Decimal> {
    number::decimal_of_bytes(text).ok().filter(Decimal::is_sign_positive)
}

#[cfg(test)]
mod tests {
    use super::super::Decoder;
    use super::*;
    use crate::codec::line;
    use crate::domain::event::streams::Streams;

    /// Fields, and whether the fast path accepts them.
    const FIELDS: &[(&str, bool)] = &[
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"29.6","entry_price":"0.41","mark_price":"0.4""#, true),
        (r#""symbol":"ADAUSDT","side":"SHORT","position_qty":"29.6","entry_price":"0.55134390075809680""#, true),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":" 1e3 ","entry_price":"+5""#, true),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"0","entry_price":"-1""#, true),
        (r#""symbol":"ADAUSDT","side":"SHORT","position_qty":"0""#, true),
        (r#""symbol":"ADAUSDT","side":"SHORT","position_qty":"-0.0""#, true),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"1","position_qty":"2","entry_price":"1""#, true),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"1","entry_price":"1","note":"\"""#, true),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"1","entry_price":"1","position_amt":"-2""#, false),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"1","entry_price":"1","position_amt":"1""#, true),
        (r#""symbol":"ADAUSDT","side":"SHORT","position_qty":"1","entry_price":"1","positionAmt":"-1""#, true),
        (r#""symbol":"ADAUSDT","side":"SHORT","position_qty":"1","entry_price":"1","positionAmt":"1""#, false),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"1","entry_price":"1","position_amt":"x""#, false),
        (
            r#""symbol":"ADAUSDT","side":"LONG","position_qty":"1","entry_price":"1","position_amt":"1","positionAmt":"-1""#,
            false,
        ),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"1","entry_price":"1","positionSide":"""#, true),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"1","entry_price":"1","positionSide":"LONG""#, false),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"1","entry_price":"1","positionSide":"BOTH""#, false),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"1","entry_price":"1","account":"""#, true),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"1","entry_price":"1","account":"main""#, false),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"1","entry_price":"1","account_id":"7""#, false),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"1","entry_price":"0""#, false),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"1","entry_price":"0","entryPrice":"2""#, false),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"1","entry_price":"-1""#, false),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"1","entry_price":"None""#, false),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"1""#, false),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"-1","entry_price":"1""#, false),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"","entry_price":"1""#, false),
        (r#""symbol":"ADAUSDT","side":"FLAT","position_qty":"0""#, false),
        (r#""symbol":"ADAUSDT","side":"long","position_qty":"1","entry_price":"1""#, false),
        (r#""symbol":"ADAUSDT","side":"LONG\"","position_qty":"1","entry_price":"1""#, false),
        (r#""symbol":"ADAUSDT","position_qty":"1","entry_price":"1""#, false),
        (r#""symbol":"ADAUSDT","side":"LONG""#, false),
        (r#""symbol":"adausdt","side":"LONG","position_qty":"1","entry_price":"1""#, false),
        (r#""symbol":"NULL","side":"LONG","position_qty":"1","entry_price":"1""#, false),
        (r#""side":"LONG","position_qty":"1","entry_price":"1""#, false),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"1","entry_price":"1","data":"""#, false),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"1","entry_price":"1","payload":"{}""#, false),
        (r#""symbol":"ADAUSDT","side":"LONG","position_qty":"1","entry_price":"1","note":"é""#, false),
        ("", false),
    ];

    fn lines() -> Vec<(String, bool)> {
        let line = |fields: &str| format!(r#"{{"stream":"s","id":"1-0","fields":{{{fields}}}}}"#);
        FIELDS.iter().map(|&(fields, is_short)| (line(fields), is_short)).collect()
    }

    fn short(line: &str, layout: &mut Layout) -> Option<Entry> {
        let stream = Streams::default().id_of(StreamKind::Snapshot.default_stream()).unwrap();
        decode(stream, EntryId::new(1, 0), line.as_bytes(), &mut Symbols::default(), layout)
    }

    #[test]
    fn both_ways_come_to_the_same_entry_whatever_came_before() {
        let mut of_all = Layout::default();
        for (before, _) in lines() {
            for (text, is_short) in lines() {
                let streams = Streams::default();
                let stream = streams.id_of(StreamKind::Snapshot.default_stream()).unwrap();
                let fields = line::fields(text.as_bytes()).unwrap();
                let long = Decoder::new(streams, Symbols::default()).decode(stream, EntryId::new(1, 0), &fields);
                let mut of_one = Layout::default();
                for layout in [&mut of_one, &mut of_all] {
                    short(&before, layout);
                    let short = short(&text, layout);
                    assert_eq!(short.is_some(), is_short, "{before}\n{text}");
                    assert!(short.is_none_or(|short| short == long), "{before}\n{text}");
                }
            }
        }
    }

    #[test]
    fn the_next_snapshot_is_read_by_its_layout() {
        let line = |symbol, qty, mark| {
            format!(
                r#"{{"stream":"s","id":"1-0","fields":{{"symbol":"{symbol}","side":"LONG","position_qty":"{qty}","entry_price":"1","mark_price":"{mark}"}}}}"#
            )
        };
        let mut layout = Layout::default();
        assert!(short(&line("ADAUSDT", "29.6", "0.41"), &mut layout).is_some());
        assert!(Snapshot::read(line("XRPUSDT", "1", "2").as_bytes(), &layout).is_some());
        assert!(Snapshot::read(line("XRPUSDT", "1", r"\n").as_bytes(), &layout).is_none());
    }
}
