//! The fast path for the most frequent line: a price in `payload`, well formed and plain. Without it a replay takes five
//! times as many instructions (docs/decisions/0010).
//!
//! It makes no decision of its own. A line that is not exactly as expected goes to the general decoder
//! ([`crate::codec::line::fields`] and [`super::Decoder::decode`]), and both must return the same entry (a test and the
//! fuzz target compare them).

use super::Symbols;
use super::layout::{Layout, Role, Value, Within};
use super::market::NAMES;
use crate::codec::{number, time};
use crate::domain::event::ids::{AccountId, EntryId, StreamId};
use crate::domain::event::streams::StreamKind;
use crate::domain::event::{Entry, Event, EventTime, PriceFact, PriceSource, StatedTime};
use crate::domain::units::Price;

/// Reads the history line of a price. Returns `None` if the general decoder has to read it. `layout` is the layout of
/// the line before it in the stream.
pub(super) fn decode(
    stream: StreamId,
    id: EntryId,
    line: &[u8],
    symbols: &mut Symbols,
    layout: &mut Layout,
) -> Option<Entry> {
    let tick = layout.read_or_learn(line, Within::Payload, |layout| Tick::read(line, layout))?;
    let (price, shape) = tick.price()?;
    let time = match tick.timestamp {
        Some(value) if shape != "close" => EventTime::of(stated(value)?, id),
        _ => EventTime::Absent,
    };
    let fact = PriceFact { price, source: PriceSource::Stream(stream), time };
    let symbol = Some(symbols.intern_plain_priced(tick.symbol)?);
    let (account, position_side) = (AccountId::NONE, None);
    let content = Ok(Event::Price(fact));
    Some(Entry { stream, kind: StreamKind::Price, id, shape, symbol, account, position_side, content })
}

/// The values of the payload that a rule may use.
#[derive(Default)]
struct Tick<'a> {
    symbol: &'a [u8],
    /// The preferred price, with its index in [`NAMES`].
    price: Option<(usize, Value<'a>)>,
    timestamp: Option<Value<'a>>,
}

impl<'a> Tick<'a> {
    #[inline]
    fn read(line: &'a [u8], layout: &Layout) -> Option<Self> {
        let mut tick = Self::default();
        layout.read(line, |role, value| match role {
            Role::Symbol => tick.symbol = value.text(),
            Role::Timestamp => tick.timestamp = Some(value),
            // Of two values with one name the last counts.
            Role::Price(rank) if tick.price.is_none_or(|(other, _)| rank <= other) => {
                tick.price = Some((rank, value));
            }
            _ => {}
        })?;
        Some(tick)
    }

    /// Returns the preferred price. An absent, zero or unreadable one goes to the general decoder.
    fn price(&self) -> Option<(Price, &'static str)> {
        let (rank, value) = self.price?;
        let value = match value {
            Value::Number(plain) => plain.decimal(),
            Value::Text(text) => number::decimal_of_bytes(text).ok()?,
        };
        (!value.is_zero() && value.is_sign_positive()).then(|| (Price::new(value), NAMES[rank].1))
    }
}

fn stated(value: Value<'_>) -> Option<StatedTime> {
    match value {
        Value::Number(plain) => time::plain(plain),
        Value::Text(text) => time::of_bytes(text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Decoder;
    use super::*;
    use crate::codec::line;
    use crate::domain::event::streams::Streams;

    /// Payloads, and whether the fast path accepts them.
    const PAYLOADS: &[(&str, bool)] = &[
        (r#"{\"symbol\": \"ADAUSDT\", \"price\": 0.41, \"timestamp\": 1770163200.062}"#, true),
        (r#"{\"symbol\":\"ADAUSDT\",\"price\":\"0.41\",\"qty\":null,\"is_buyer_maker\":true}"#, true),
        (r#"{\"symbol\":\"ADAUSDT\",\"close\":1e-3,\"timestamp\":\"2026-02-04T00:00:00\"}"#, true),
        (r#"{\"symbol\":\"ADAUSDT\",\"price\":1,\"markPrice\":\"2\"}"#, true),
        (r#"{\"symbol\":\"ADAUSDT\",\"price\":1,\"price\":2}"#, true),
        (r#"{\"symbol\":\"adausdt\",\"price\":1}"#, false),
        (r#"{\"symbol\":\"NONE\",\"price\":1}"#, false),
        (r#"{\"symbol\":\"ADAUSDT\",\"price\":0}"#, false),
        (r#"{\"symbol\":\"ADAUSDT\",\"price\":-1}"#, false),
        (r#"{\"symbol\":\"ADAUSDT\",\"markPrice\":0,\"price\":1}"#, false),
        (r#"{\"symbol\":\"ADAUSDT\",\"price\":01}"#, false),
        (r#"{\"symbol\":\"ADAUSDT\",\"price\":NaN}"#, false),
        (r#"{\"symbol\":\"ADAUSDT\",\"price\":1,}"#, false),
        (r#"{\"symbol\":\"ADAUSDT\",\"price\":1} x"#, false),
        (r#"{\"symbol\":\"ADAUSDT\",\"price\":1,\"timestamp\":\"now\"}"#, false),
        (r#"{\"symbol\":\"ADAUSDT\",\"price\":1,\"timestamp\":0}"#, false),
        (r#"{\"symbol\":\"ADAUSDT\",\"price\":1,\"n\":{\"price\":2}}"#, false),
        (r#"{\"sym\\u0062ol\":\"ADAUSDT\",\"price\":1}"#, false),
        (r#"{\"symbol\":\"ADAUSDT\",\"note\":\"\\\"\",\"price\":1}"#, false),
        ("", false),
    ];

    /// Returns lines around the payloads, and whether the fast path accepts them.
    fn lines() -> impl Iterator<Item = (String, bool)> {
        PAYLOADS.iter().flat_map(|&(payload, is_short)| {
            [
                (format!(r#"{{"stream":"s","id":"1-0","fields":{{"payload":"{payload}"}}}}"#), is_short),
                (format!(r#"{{"stream":"s","id":"1-1","fields":{{"a":"","payload":"{payload}"}}}}"#), is_short),
                (
                    format!(
                        r#"{{"stream": "s", "id": "1-0", "fields": {{"a": "", "payload": "{payload}", "b": "x\"y"}}}} "#
                    ),
                    is_short,
                ),
                (format!(r#"{{"id":"1-0","stream":"s","fields":{{"payload":"{payload}"}}}}"#), false),
                (format!(r#"{{"stream":"s","id":"1-0","fields":{{"payload":"","payload":"{payload}"}}}}"#), false),
            ]
        })
    }

    fn short(line: &str, layout: &mut Layout) -> Option<Entry> {
        let stream = Streams::default().id_of(StreamKind::Price.default_stream()).unwrap();
        decode(stream, EntryId::new(1_770_163_200_100, 0), line.as_bytes(), &mut Symbols::default(), layout)
    }

    #[test]
    fn both_ways_come_to_the_same_entry() {
        for (text, is_short) in lines() {
            let short = short(&text, &mut Layout::default());
            assert_eq!(short.is_some(), is_short, "{text}");
            let streams = Streams::default();
            let stream = streams.id_of(StreamKind::Price.default_stream()).unwrap();
            let fields = line::fields(text.as_bytes()).unwrap();
            let long =
                Decoder::new(streams, Symbols::default()).decode(stream, EntryId::new(1_770_163_200_100, 0), &fields);
            assert!(short.is_none_or(|short| short == long), "{text}");
        }
    }

    #[test]
    fn a_line_reads_as_it_does_by_itself_whatever_came_before() {
        let others = [
            r#"{"stream":"s","id":"1-0","fields":{"payload":"{\"symbol\":\"ADAUSDT\",\"price\":1.5e3}"}}"#,
            r#"{"stream":"s","id":"1-0","fields":{"payload":"{\"symbol\":\"ADAUSDT\",\"price\":1.}"}}"#,
            r#"{"stream":"s","id":"1-0","fields":{"payload":"{\"symbol\":\"A\",\"price\":1}"}"#,
            r#"{"stream":"s","id":"1-0","fields":{"payload":"{\"symbol\":\"A\",\"price\":1}"}} x"#,
            "",
        ];
        let texts: Vec<String> = lines().map(|(text, _)| text).chain(others.map(str::to_owned)).collect();
        let alone: Vec<Option<Entry>> = texts.iter().map(|text| short(text, &mut Layout::default())).collect();
        let mut of_all = Layout::default();
        for before in &texts {
            for (text, alone) in texts.iter().zip(&alone) {
                let mut of_one = Layout::default();
                for layout in [&mut of_one, &mut of_all] {
                    short(before, layout);
                    assert_eq!(short(text, layout), *alone, "{before}\n{text}");
                }
            }
        }
    }

    #[test]
    fn the_next_line_of_a_producer_is_read_by_its_layout() {
        let line = |id, price: &str, note, trace| {
            format!(
                r#"{{"stream":"s","id":"{id}","fields":{{"payload":"{{\"symbol\":\"ADAUSDT\",\"price\":{price}}}","note":"{note}","trace":"{trace}"}}}}"#
            )
        };
        let mut layout = Layout::default();
        let learn = |layout: &mut Layout, text: String| layout.learn(text.as_bytes(), Within::Payload).is_some();
        let reads = |layout: &Layout, text: &str| Tick::read(text.as_bytes(), layout).is_some();
        assert!(!reads(&layout, &line("1-0", "0.41", "", "")), "nothing was learnt");
        assert!(learn(&mut layout, line("1-0", "0.41", "", "")));
        assert!(reads(&layout, &line("1-0", "2", "", "")), "the price is another in every line");
        assert!(!reads(&layout, &line("2-0", "2", "new", "")), "the others were the same up to now");
        assert!(learn(&mut layout, line("2-0", "2", "new", "")));
        for text in [line("3-0", "1e-3", "", ""), line("17-4", "null", "newer", ""), line("5-0", "1", r#"\""#, "")] {
            assert!(reads(&layout, &text), "{text}");
        }
        for text in [
            line("3-0", "01", "", ""),
            line("3-0", r#"\"1\""#, "", ""),
            line("3-0", "1", r"\n", ""),
            line("3-0", "1", "\t", ""),
            line("3-0", "1", "", "new"),
            String::new(),
        ] {
            assert!(!reads(&layout, &text), "{text}");
        }
    }

    #[test]
    fn what_is_no_line_goes_the_long_way() {
        for text in [
            r#"{"stream":"s","id":"1-0","fields":{"payload":"{\"symbol\":\"A\",\"price\":1}"}"#,
            r#"{"stream":"s","id":"1-0","fields":{"payload":"{\"symbol\":\"A\",\"price\":1}"}} x"#,
            r#"{"stream":"s","id":"1-0","fields":{"payload":"{\"symbol\":\"A\",\"price\":1}","n":1}}"#,
            "{\"stream\":\"s\",\"id\":\"1-0\",\"fields\":{\"a\":\"\t\",\"payload\":\"{\\\"symbol\\\":\\\"A\\\",\\\"price\\\":1}\"}}",
        ] {
            assert!(short(text, &mut Layout::default()).is_none(), "{text}");
        }
    }
}
