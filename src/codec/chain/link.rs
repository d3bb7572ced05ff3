//! One decision of a chain, as its entry has it.

use crate::codec::line::{self, FieldValue};
use crate::codec::payload::Payload;
use crate::domain::event::ids::EntryId;

/// Optional fields: the signature, and the mark of a decision that was written again.
const OPTIONAL: [&str; 2] = ["signature", AGAIN];
/// `1` if the server had lost the decision and it was written again.
const AGAIN: &str = "again";

/// Fields of every decision entry.
const FIELDS: [&str; 9] = ["event_type", "schema", "decision_id", "symbol", "mode", "seq", "prev", "hash", "payload"];

/// An entry of a decision stream, with its file.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    pub id: EntryId,
    /// The entry as a history line.
    pub line: &'a [u8],
    /// The number of its file. Two dumps may overlap, but one file may not repeat an entry.
    pub file: u32,
    pub number: u64,
}

/// A decision that could be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    pub id: EntryId,
    pub seq: u64,
    pub prev: String,
    pub hash: String,
    pub signature: Option<String>,
    pub payload: String,
    /// The payload, read.
    pub object: Payload,
    /// The entry itself has no fault.
    pub authentic: bool,
    /// The server had lost it. Its place in the chain follows from its number, wherever its entry is.
    pub again: bool,
    /// No service would accept it. It has no place in the chain.
    pub forged: bool,
}

impl Link {
    /// Returns the decision id of the payload, or `unknown`, which is no decision id.
    pub fn decision_id(&self) -> &str {
        self.text("decision_id")
    }

    /// Returns a text of the payload; empty if it is absent.
    pub fn text(&self, key: &str) -> &str {
        self.object.text(key)
    }

    /// Returns stream and id of the cause.
    pub fn cause(&self) -> Option<(&str, EntryId)> {
        self.object.cause()
    }

    /// Reads an entry. Errors with the reason if it is not a sealed decision. The fields beside the payload are
    /// compared with it, and the result names a difference.
    pub(super) fn read(id: EntryId, text: &[u8]) -> Result<(Self, Option<String>), String> {
        let fields = line::fields(text).map_err(|error| error.to_string())?;
        for (i, (name, _)) in fields.pairs.iter().enumerate() {
            if !FIELDS.contains(&&**name) && !OPTIONAL.contains(&&**name) {
                return Err(format!("field `{name}` is none of a decision"));
            }
            if fields.pairs[..i].iter().any(|(other, _)| other == name) {
                return Err(format!("field `{name}` stands there twice"));
            }
        }
        let text = |name: &str| match fields.get(name) {
            Some(FieldValue::Text(text)) => Ok(text.to_string()),
            Some(FieldValue::Bytes(_)) => Err(format!("field `{name}` is no text")),
            None => Err(format!("field `{name}` is missing")),
        };
        let values = FIELDS.iter().map(|name| text(name)).collect::<Result<Vec<String>, String>>()?;
        let [event_type, schema, decision_id, symbol, mode, seq, prev, hash, payload] =
            <[String; 9]>::try_from(values).expect("there is a value for each field");
        let seq = seq.parse().map_err(|_| format!("seq {seq:?} is no number"))?;
        let object: Payload =
            serde_json::from_str(&payload).map_err(|error| format!("the payload is no JSON object: {error}"))?;
        let signature = fields.has("signature").then(|| text("signature")).transpose()?;
        let again = fields.has(AGAIN).then(|| text(AGAIN)).transpose()?;
        if let Some(other) = again.as_ref().filter(|mark| *mark != "1") {
            return Err(format!("field `{AGAIN}` is {other:?}, want \"1\""));
        }
        let again = again.is_some();
        let link = Self { id, seq, prev, hash, signature, payload, object, authentic: true, again, forged: false };
        let outside = [
            ("event_type", &*event_type, "harvest.decision"),
            ("schema", &schema, "1"),
            ("decision_id", &decision_id, link.decision_id()),
            ("symbol", &symbol, link.text("symbol")),
            ("mode", &mode, link.text("mode")),
        ];
        let other = outside.into_iter().find(|(_, text, want)| text != want);
        let other = other.map(|(name, text, want)| format!("{name} is {text:?} beside the payload, {want:?} is right"));
        Ok((link, other))
    }
}

/// An entry after reading: with the difference between payload and fields, or with the reason why it is not a sealed
/// decision.
pub(super) type Read = Result<(Link, Option<String>), (EntryId, String)>;
