//! The engine's state as rows of a store, and back.
//!
//! Every value is bincode after a version byte. Numbers in keys are big-endian, so that rows sort by number.

mod load;
mod meta;
mod records;
mod row;
mod value;
mod write;

pub use load::{closed_positions, closed_rows, cursors, load};
pub use meta::{Meta, meta, meta_row, meta_rows, provisional_from, provisional_row};
pub use records::{Quarantined, decision_one, decision_row, decisions, quarantine_row, quarantined, quarantined_one};
pub use row::{BadRow, Row, Rows, StoredRow};
pub(super) use row::{decode, encode, entry_key, key, name_key};
pub(super) use value::{cold_value, hot_value};
pub use write::{all_rows, changed_rows};

/// Format of the rows. A store of another format is not read, but folded again. Raise it also if a correction of the
/// code changes the result of existing histories.
///
/// Format 5 has rows for books and accounts. Stores of format 4 netted all accounts, refused LONG and SHORT, and do not
/// contain whether entries named them. Format 6 keeps the rescales of a symbol, ATR as they were stated, and the orders
/// that only refusals have named. Format 7 keeps the account that was named for an order of the account without a name.
/// Format 8 keeps the time of the last kill.
pub const FORMAT_VERSION: u32 = 9;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fmt::Write as _;

    use super::super::decode::{Decoder, Symbols};
    use super::super::view::PositionView;
    use super::row::VALUE_VERSION;
    use super::*;
    use crate::domain::engine::Engine;
    use crate::domain::event::ids::{BookId, EntryId};
    use crate::domain::event::streams::Streams;
    use crate::domain::exit::policy::Policy;

    struct Kept(BTreeMap<Vec<u8>, Vec<u8>>);

    impl Rows for Kept {
        type Error = BadRow;

        fn scan(&self, prefix: &[u8]) -> Result<Vec<StoredRow>, BadRow> {
            let rows = self.0.iter().filter(|(key, _)| key.starts_with(prefix));
            Ok(rows.map(|(key, value)| (key.clone(), value.clone())).collect())
        }
    }

    /// An intent, a plan, a priced and an unpriced fill, a price, a snapshot.
    const LINES: [&str; 6] = [
        r#"{"stream":"quantum:stream:trade.intent","id":"1770163201000-0","fields":{"data":"{\"symbol\":\"ADAUSDT\",\"side\":\"BUY\",\"atr_value\":0.02,\"volatility_factor\":1.5}"}}"#,
        r#"{"stream":"quantum:stream:apply.plan","id":"1770163202000-0","fields":{"plan_id":"p","decision":"EXECUTE","symbol":"ADAUSDT","side":"BUY","qty":"10","entry_price":"0.4"}}"#,
        r#"{"stream":"quantum:stream:apply.result","id":"1770163203000-0","fields":{"plan_id":"p","symbol":"ADAUSDT","executed":"True","filled_qty":"10","order_id":"7","avgPrice":"0.41"}}"#,
        r#"{"stream":"quantum:stream:apply.result","id":"1770163203500-0","fields":{"symbol":"ADAUSDT","executed":"True","filled_qty":"2.5","order_id":"8","side":"SELL","reduceOnly":"True"}}"#,
        r#"{"stream":"quantum:stream:market.tick","id":"1770163204000-0","fields":{"payload":"{\"symbol\":\"ADAUSDT\",\"price\":0.42}"}}"#,
        r#"{"stream":"quantum:stream:position.snapshot","id":"1770163240000-0","fields":{"symbol":"ADAUSDT","position_amt":"7.5"}}"#,
    ];

    fn folded() -> Engine {
        let streams = Streams::default();
        let mut engine = Engine::new(streams.clone(), Policy::default());
        let mut decoder = Decoder::new(streams.clone(), Symbols::default());
        for line in LINES {
            let json: serde_json::Value = serde_json::from_str(line).unwrap();
            let stream = streams.id_of(json["stream"].as_str().unwrap()).unwrap();
            let id = json["id"].as_str().unwrap().parse().unwrap();
            let entry = decoder.decode_line(stream, id, line.as_bytes()).unwrap();
            decoder.symbols.take_new().tell(&mut engine);
            engine.step(&entry);
        }
        engine
    }

    fn kept(engine: &mut Engine) -> Kept {
        let changes = engine.take_changes();
        let rows = changed_rows(engine, &changes, &mut 0);
        Kept(rows.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
    }

    #[test]
    fn what_is_loaded_is_what_was_kept() {
        let mut engine = folded();
        let rows = kept(&mut engine);
        let mut loaded = Engine::new(Streams::default(), Policy::default());
        load(&rows, &Streams::default(), &mut loaded).unwrap();
        let bytes = |engine: &Engine| -> Vec<_> {
            engine.books().map(|b| (b.name.clone(), hot_value(b, b.symbol.mark), cold_value(b))).collect()
        };
        assert_eq!(bytes(&loaded), bytes(&engine));
        assert_eq!(loaded.globals(), engine.globals());
        let of = |engine: &Engine| {
            let book = engine.book(BookId::one_way(engine.find("ADAUSDT").unwrap()));
            PositionView::of(engine, book, book.book.hot.open.as_ref().unwrap())
        };
        assert_eq!(of(&loaded), of(&engine));
        assert!(engine.streams().iter().all(|(stream, _)| loaded.cursor(stream) == engine.cursor(stream)));
    }

    /// The bytes of stored state. A change here needs another [`FORMAT_VERSION`] or [`RULES_VERSION`], because the
    /// former bytes would be read wrongly.
    #[test]
    fn stored_bytes_are_golden() {
        let rows = kept(&mut folded());
        let mut text = String::new();
        for (key, value) in &rows.0 {
            let hex = value.iter().fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            });
            let _ = writeln!(text, "{} {hex}", String::from_utf8_lossy(key).escape_default());
        }
        if std::env::var_os("HARVESTER_BLESS").is_some() {
            let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/codec/state.golden");
            std::fs::write(file, &text).unwrap();
            return;
        }
        let golden = include_str!("state.golden");
        assert_eq!(
            text, golden,
            "stored bytes changed: raise RULES_VERSION or FORMAT_VERSION, then write the file again \
             (HARVESTER_BLESS=1 cargo xtask test --lib stored_bytes_are_golden)"
        );
    }

    #[test]
    fn a_row_that_does_not_read_is_an_error_that_names_it() {
        for (value, why) in [(&b""[..], "empty value"), (&[9, 1], "value version 9"), (&[VALUE_VERSION], "")] {
            let error = decode::<EntryId>(b"c/results", value).unwrap_err();
            assert!(error.to_string().contains("c/results") && error.why.contains(why), "{error}");
        }
        let mut long = encode(&EntryId::new(1, 2));
        long.push(0);
        assert!(decode::<EntryId>(b"c/", &long).unwrap_err().why.contains("1 bytes too many"));
    }
}
