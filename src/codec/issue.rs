//! Control entries as we write them: with a time of issue and a nonce, signed (docs/spec/emission.md, "Signed control
//! entries").
//!
//! `decode/control.rs` reads them; a test here checks that both agree. Without a key the entry has no stamp.

use serde_json::{Map, Value};

use super::request::FieldTexts;
use super::signing::{SigningKey, control_text};

/// Distinguishes signed entries from each other, and an entry from a later copy of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// By the server's clock, or the last id of the stream if that is later. [ms since 1970]
    pub issued_ms: u64,
    pub nonce: String,
}

impl Stamp {
    /// Creates a stamp. `nonce` is a number that no other entry carries.
    pub fn new(issued_ms: u64, nonce: u128) -> Self {
        Self { issued_ms, nonce: format!("{nonce:032x}") }
    }
}

/// Returns the payload of a control entry with its stamp, and the signature of both.
///
/// `payload` must be a JSON object, as all our payloads are.
pub fn sign(key: &SigningKey, stream: &str, event_type: &str, payload: &str, stamp: &Stamp) -> (String, String) {
    let stamped = stamped(payload, stamp);
    let signature = key.sign(&control_text(stream, event_type, &stamped));
    (stamped, signature)
}

/// Returns the fields of a control entry, signed: `event_type`, `payload`, and the other given fields.
pub fn sign_fields(key: &SigningKey, stream: &str, fields: &[(String, String)], stamp: &Stamp) -> FieldTexts {
    let of = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map_or("", |(_, value)| value);
    let (payload, signature) = sign(key, stream, of("event_type"), of("payload"), stamp);
    let mut signed: FieldTexts = fields.to_vec();
    for (name, value) in &mut signed {
        if name == "payload" {
            value.clone_from(&payload);
        }
    }
    signed.push(("signature".to_owned(), signature));
    signed
}

/// Appends the stamp to the other keys, which stay as written.
fn stamped(payload: &str, stamp: &Stamp) -> String {
    let own = Map::from_iter([
        ("issued_ms".to_owned(), Value::from(stamp.issued_ms)),
        ("nonce".to_owned(), stamp.nonce.as_str().into()),
    ]);
    let own = Value::Object(own).to_string();
    let body = payload.trim_end().strip_suffix('}').unwrap_or(payload).trim_end();
    let comma = if body.trim_start() == "{" { "" } else { "," };
    format!("{body}{comma}{}", &own[1..])
}

#[cfg(test)]
mod tests {
    use super::super::decode::{Decoder, Symbols};
    use super::super::line::{FieldValue, Fields};
    use super::*;
    use crate::domain::event::ids::EntryId;
    use crate::domain::event::streams::Streams;
    use crate::domain::event::{Entry, Event, Reason};

    const CONTROL: &str = "quantum:stream:harvest.control";
    const ID: EntryId = EntryId::new(1_770_163_200_000, 7);

    fn key() -> SigningKey {
        SigningKey::new(b"a secret of enough bytes").unwrap()
    }

    fn decode(id: EntryId, fields: &[(String, String)]) -> Entry {
        let streams = Streams::default();
        let stream = streams.id_of(CONTROL).unwrap();
        let pairs = fields.iter().map(|(name, value)| (name.as_str().into(), FieldValue::Text(value.as_str().into())));
        let fields = Fields { pairs: pairs.collect() };
        Decoder::new(streams, Symbols::default()).with_key(Some(key())).decode(stream, id, &fields)
    }

    fn unsigned(event_type: &str, payload: &str) -> FieldTexts {
        vec![("event_type".to_owned(), event_type.to_owned()), ("payload".to_owned(), payload.to_owned())]
    }

    fn signed(event_type: &str, payload: &str) -> FieldTexts {
        sign_fields(&key(), CONTROL, &unsigned(event_type, payload), &Stamp::new(ID.ms - 5, 0xfeed))
    }

    /// Each kind that loosens, and kinds that do not.
    const LOOSENS: [(&str, &str); 7] = [
        ("policy.adopted", r#"{"policy":{"mode":"shadow"}}"#),
        ("kill.changed", r#"{"kill":false,"reason":"r"}"#),
        ("gap.accepted", "{}"),
        ("risk.accepted", r#"{"position_id":"ADAUSDT@1-0"}"#),
        ("rung.rearmed", r#"{"position_id":"ADAUSDT@1-0","r":"0.5"}"#),
        ("entry.skipped", r#"{"stream":"quantum:stream:apply.result","id":"1-0"}"#),
        ("decision.expired", r#"{"decision_id":"d","reason":"killed"}"#),
    ];
    const TIGHTENS: [(&str, &str); 2] = [
        ("kill.changed", r#"{"kill":true,"reason":"r"}"#),
        ("history.gap", r#"{"stream":"quantum:stream:apply.result"}"#),
    ];

    /// Signed by `openssl dgst -sha256 -hmac` over the four lines, with the keys in the order in which they are
    /// written.
    #[test]
    fn the_signature_is_that_of_the_four_lines() {
        let (payload, signature) =
            sign(&key(), CONTROL, "kill.changed", r#"{"kill":false}"#, &Stamp::new(1_770_163_199_995, 0xfeed));
        assert_eq!(payload, r#"{"kill":false,"issued_ms":1770163199995,"nonce":"0000000000000000000000000000feed"}"#);
        assert_eq!(signature, "2aec8b9a9695d87d6bc0dfc2d2f20346fd7580dca64245e9bd0d45e31e44c5c3");
    }

    #[test]
    fn what_loosens_is_believed_only_with_its_own_signature() {
        for (event_type, payload) in LOOSENS {
            let good = signed(event_type, payload);
            let read = decode(ID, &good);
            let Ok(Event::Control(fact)) = &read.content else { panic!("{event_type}: {:?}", read.content) };
            assert!(fact.issue.as_ref().is_some_and(|issue| issue.is_verified), "{event_type}");
            let altered = |name: &str, value: &str| -> FieldTexts {
                let mut fields = good.clone();
                for (_, old) in fields.iter_mut().filter(|(of, _)| of == name) {
                    value.clone_into(old);
                }
                fields
            };
            let longer = good[1].1.replacen('{', r#"{"more":1,"#, 1);
            for (what, id, fields) in [
                ("no signature", ID, unsigned(event_type, payload)),
                ("no stamp", ID, {
                    let mut fields = unsigned(event_type, payload);
                    let text = control_text(CONTROL, event_type, payload);
                    fields.push(("signature".to_owned(), key().sign(&text)));
                    fields
                }),
                ("another payload", ID, altered("payload", &longer)),
                ("another signature", ID, altered("signature", &"0".repeat(64))),
                ("issued long before", EntryId::new(ID.ms + 60_001, 0), good.clone()),
                ("issued long after", EntryId::new(ID.ms - 60_010, 0), good.clone()),
                ("of a decision", ID, altered("signature", &key().sign(&good[1].1))),
            ] {
                let content = decode(id, &fields).content;
                let unreadable = content.expect_err(what);
                assert_eq!(unreadable.reason, Reason::BadSignature, "{event_type}: {what}");
                assert!(!unreadable.kills && !unreadable.gap, "{event_type}: {what}");
            }
        }
    }

    #[test]
    fn what_tightens_always_counts() {
        for (event_type, payload) in TIGHTENS {
            assert!(decode(ID, &unsigned(event_type, payload)).content.is_ok(), "{event_type}");
        }
        let unreadable = decode(ID, &unsigned("policy.adopted", r#"{"policy":{"laddr":[]}}"#)).content.unwrap_err();
        assert!(unreadable.kills && unreadable.reason == Reason::UnknownWord, "{unreadable:?}");
        let unreadable = decode(ID, &unsigned("kill.changed", r#"{"kill":"perhaps"}"#)).content.unwrap_err();
        assert!(unreadable.kills, "{unreadable:?}");
    }

    #[test]
    fn without_a_key_nothing_is_asked() {
        let streams = Streams::default();
        let stream = streams.id_of(CONTROL).unwrap();
        for (event_type, payload) in LOOSENS {
            let fields = unsigned(event_type, payload);
            let pairs = fields.iter().map(|(n, v)| (n.as_str().into(), FieldValue::Text(v.as_str().into())));
            let fields = Fields { pairs: pairs.collect() };
            let read = Decoder::new(streams.clone(), Symbols::default()).decode(stream, ID, &fields);
            assert!(read.content.is_ok(), "{event_type}");
        }
    }
}
