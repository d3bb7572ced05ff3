//! Decisions as stream entries: payload and hash chain (docs/spec/emission.md, "The decision stream", "Chain").

use serde_json::{Map, Value};

use super::line::{FieldValue, Fields};
use super::payload::Payload;
use super::signing::SigningKey;
use crate::domain::book::plans::sha256_hex;
use crate::domain::engine::{Decision, Engine, RULES_VERSION};

/// A decision, ready to be written to `harvest.decision`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub decision_id: String,
    pub symbol: String,
    pub mode: &'static str,
    pub seq: u64,
    pub prev: String,
    pub hash: String,
    /// HMAC-SHA256 of `hash`, if a key is set.
    pub signature: Option<String>,
    pub payload: String,
}

impl Sealed {
    /// Signs the hash.
    pub fn sign(&mut self, key: &SigningKey) {
        self.signature = Some(key.sign(&self.hash));
    }

    /// Returns the fields of the entry, in the order of docs/spec/emission.md, "Fields of a decision".
    pub fn fields(&self) -> Fields<'static> {
        let text = |(name, value): (String, String)| (name.into(), FieldValue::Text(value.into()));
        Fields { pairs: self.texts().into_iter().map(text).collect() }
    }

    /// Returns the fields as plain names and values.
    pub fn texts(&self) -> Vec<(String, String)> {
        let signature = self.signature.clone().map(|signature| ("signature", signature));
        let pairs = [
            ("event_type", "harvest.decision".to_owned()),
            ("schema", "1".to_owned()),
            ("decision_id", self.decision_id.clone()),
            ("symbol", self.symbol.clone()),
            ("mode", self.mode.to_owned()),
            ("seq", self.seq.to_string()),
            ("prev", self.prev.clone()),
            ("hash", self.hash.clone()),
        ];
        let pairs = pairs.into_iter().chain(signature).chain([("payload", self.payload.clone())]);
        pairs.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// Seals a decision that a step has just made: it follows the last one of the chain.
pub fn sealed(engine: &Engine, decision: &Decision) -> Sealed {
    let payload = payload(engine, decision).to_string();
    let prev = engine.globals().chain.hash.to_string();
    let hash = chained(&prev, &payload);
    Sealed {
        decision_id: decision.decision_id.clone(),
        symbol: engine.book(decision.book).symbol.name.to_string(),
        mode: decision.mode.name(),
        seq: decision.seq,
        prev,
        hash,
        signature: None,
        payload,
    }
}

/// Returns the hash of a decision: SHA-256 hex of `prev + "\n" + payload`.
pub fn chained(prev: &str, payload: &str) -> String {
    sha256_hex(format!("{prev}\n{payload}").as_bytes())
}

/// Returns the sealed content: the decision, and all that it rests on.
pub fn payload(engine: &Engine, decision: &Decision) -> Payload {
    let valuation = &decision.valuation;
    let book = engine.book(decision.book);
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("decision_id", decision.decision_id.as_str().into());
    put("plan_id", decision.plan_id.as_str().into());
    put("position_id", decision.position_id.as_str().into());
    put("symbol", (*book.symbol.name).into());
    if !book.account_name.is_empty() {
        put("account", (*book.account_name).into());
    }
    if book.side.is_hedge() {
        put("position_side", book.side.name().into());
    }
    put("side", decision.side.name().into());
    put("qty", decision.qty.to_string().into());
    put("close_fraction", decision.share.to_string().into());
    put("base", decision.base.name().into());
    put("rungs", decision.rungs.iter().map(|r| Value::from(r.to_string())).collect());
    put("attempt", decision.attempt.into());
    put("r_net", valuation.r_net.to_string().into());
    put("mark_price", valuation.mark.price.to_string().into());
    put("entry_price", valuation.entry_price.price.to_string().into());
    put("risk_price", valuation.risk.risk_price.to_string().into());
    put("entry_risk_usdt", valuation.entry_risk.to_string().into());
    put("unrealized_pnl", valuation.pnl.to_string().into());
    put("cost", valuation.cost.to_string().into());
    put("mode", decision.mode.name().into());
    put("policy", (*decision.policy_hash).into());
    put("engine", RULES_VERSION.into());
    put("flags", decision.flags.iter().map(|flag| Value::from(flag.name())).collect());
    let cause = format!("{}/{}", engine.streams().get(decision.cause_stream).name, decision.cause);
    put("cause", cause.into());
    let mut evidence = Map::new();
    let mut prove = |field: &str, source: &str, entry: String| {
        let proof = [("source".to_owned(), Value::from(source)), ("entry".to_owned(), entry.into())];
        evidence.insert(field.to_owned(), Value::from(Map::from_iter(proof)));
    };
    let risk = &decision.risk_fields;
    prove("entry_price", valuation.entry_price.source.name(), valuation.entry_price.entry.id.to_string());
    prove("atr_value", risk.source.name(), risk.entry.id.to_string());
    prove("volatility_factor", risk.source.name(), risk.entry.id.to_string());
    prove("mark_price", engine.source_name(valuation.mark.source), valuation.mark.entry.to_string());
    put("evidence", evidence.into());
    Payload(object)
}
