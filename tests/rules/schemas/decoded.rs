//! The decoder as an oracle of the schemas: they may refuse nothing that it reads.

use harvester::codec::decode::{Decoder, Symbols};
use harvester::codec::line;
use harvester::domain::event::ids::EntryId;
use harvester::domain::event::streams::Streams;
use harvester::domain::event::{Event, FillFact, Outcome, Reason};
use serde_json::Value;

/// Returns the reason why the entry of a history line is not read; `None` if it is, or if its stream is not a default
/// one.
pub fn refusal(entry: &Value) -> Option<Reason> {
    let mut decoder = Decoder::new(Streams::default(), Symbols::default());
    let stream = decoder.streams().id_of(entry["stream"].as_str()?)?;
    let id: EntryId = entry["id"].as_str()?.parse().ok()?;
    let text = entry.to_string();
    let fields = line::fields(text.as_bytes()).expect("a line of a history file");
    match decoder.decode(stream, id, &fields).content {
        Err(unreadable) => Some(unreadable.reason),
        Ok(event) => is_sideless(&event).then_some(Reason::NoSide),
    }
}

/// Returns true for a fill without any source of its side, which the engine refuses.
fn is_sideless(event: &Event) -> bool {
    let unknown = |fill: &FillFact| fill.side.is_none() && !fill.closes;
    match event {
        Event::Result(result) => match &result.outcome {
            Outcome::Fills(fills) => result.plan_id.is_none() && fills.iter().any(unknown),
            _ => false,
        },
        _ => false,
    }
}
