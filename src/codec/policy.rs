//! The policy as JSON and TOML, and its hash.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use strsim::levenshtein;

use super::decode::is_account_name;
use super::depth;
use super::number;
use crate::domain::book::plans::sha256_hex;
use crate::domain::event::Reason;
use crate::domain::exit::policy::{
    AtrUnit, Base, EntrySource, LadderStep, Mode, OnLive, Policy, PolicyError, RiskSource, RiskTooLarge,
};
use crate::domain::units::{Quote, RMultiple, Ratio};

/// Keys that a live policy has to state itself.
pub const LIVE_KEYS: [&str; 4] = ["ladder", "atr_unit", "price_sources", "on_live"];

/// Why a text is not a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("the policy is no JSON object: {0}")]
    NoObject(String),
    #[error("policy key `{key}` is unknown{}", suggestion(.nearest))]
    UnknownKey { key: String, nearest: Option<&'static str> },
    #[error("policy key `{key}`: {value} is not {want}")]
    Value { key: String, value: String, want: &'static str, reason: Reason },
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |key| format!(" (did you mean `{key}`?)"))
}

impl ReadError {
    /// Returns the reason under which an entry with such a policy is quarantined.
    pub fn reason(&self) -> Reason {
        match self {
            Self::NoObject(_) => Reason::BadJson,
            Self::UnknownKey { .. } => Reason::UnknownWord,
            Self::Value { reason, .. } => *reason,
            Self::Policy(_) => Reason::OutOfRange,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        from_object(Map::new()).expect("the defaults are a valid policy")
    }
}

/// Reads a policy from JSON. A missing key gets its default.
pub fn from_json(text: &str) -> Result<Policy, ReadError> {
    if !depth::is_bounded(text.as_bytes()) {
        return Err(ReadError::NoObject(format!("it nests deeper than {}", depth::DEPTH_MAX)));
    }
    match exact(text) {
        Ok(Value::Object(object)) => from_object(object),
        Ok(other) => Err(ReadError::NoObject(other.to_string())),
        Err(error) => Err(ReadError::NoObject(error.to_string())),
    }
}

/// Parses JSON with its numbers as texts: none passes through a float. The caller must bound its depth.
fn exact(text: &str) -> Result<Value, serde_json::Error> {
    match text.trim_start().as_bytes().first() {
        Some(b'{') => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
            members.into_iter().map(|(key, raw)| Ok((key, exact(raw.get())?))).collect()
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            items.into_iter().map(|raw| exact(raw.get())).collect()
        }
        Some(b'-' | b'0'..=b'9') => serde_json::from_str::<&RawValue>(text).map(|raw| raw.get().into()),
        _ => serde_json::from_str(text),
    }
}

/// Returns the `[policy]` table of a TOML document as a JSON object.
pub fn object_of_toml(table: &toml::Table) -> Map<String, Value> {
    table.iter().map(|(key, value)| (key.clone(), json_of(value.clone()))).collect()
}

fn json_of(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(n) => n.into(),
        // As text: the shortest form that reads back equals the written one.
        toml::Value::Float(n) => n.to_string().into(),
        toml::Value::Boolean(b) => b.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(json_of).collect(),
        toml::Value::Table(table) => table.into_iter().map(|(key, value)| (key, json_of(value))).collect(),
    }
}

/// Reads a policy from a JSON object.
pub fn from_object(object: Map<String, Value>) -> Result<Policy, ReadError> {
    let mut keys = Keys { object, known: BTreeSet::new() };
    let policy = Policy {
        mode: keys.word("mode", "shadow", "shadow or live", &[("shadow", Mode::Shadow), ("live", Mode::Live)])?,
        ladder: keys.ladder()?,
        base: keys.word(
            "base",
            "initial",
            "initial or current",
            &[("initial", Base::Initial), ("current", Base::Current)],
        )?,
        min_r: RMultiple::new(keys.decimal("min_r", "0.5")?),
        cost_bps: Ratio::new(keys.decimal("cost_bps", "10")?),
        max_actions_per_min: keys.whole("max_actions_per_min", 30)?,
        min_notional: Quote::new(keys.decimal("min_notional", "5")?),
        atr_unit: keys.atr_unit()?,
        risk_too_large: keys.word(
            "risk_too_large",
            "flag",
            "flag, refuse or as_fraction",
            &[
                ("flag", RiskTooLarge::Flag),
                ("refuse", RiskTooLarge::Refuse),
                ("as_fraction", RiskTooLarge::AsFraction),
            ],
        )?,
        risk_floor_bps: Ratio::new(keys.decimal("risk_floor_bps", "10")?),
        price_sources: keys.texts("price_sources", &[])?,
        max_price_age_ms: keys.whole("max_price_age_ms", 10_000)?,
        max_price_jump: Ratio::new(keys.decimal("max_price_jump", "0.05")?),
        price_confirm_ms: keys.whole("price_confirm_ms", 3_000)?,
        intent_max_age_ms: keys.whole("intent_max_age_ms", 3_600_000)?,
        snapshot_settle_ms: keys.whole("snapshot_settle_ms", 20_000)?,
        divergence_grace_ms: keys.whole("divergence_grace_ms", 60_000)?,
        result_timeout_ms: keys.whole("result_timeout_ms", 60_000)?,
        retry_after_ms: keys.whole("retry_after_ms", 30_000)?,
        max_attempts: keys.whole("max_attempts", 3)?,
        require_instrument: keys.boolean("require_instrument", true)?,
        max_position_age_ms: keys.whole("max_position_age_ms", 300_000)?,
        live_symbols: upper(keys.texts("live_symbols", &[])?),
        live_entry_sources: keys.sources("live_entry_sources", &["fill", "exchange"], entry_source)?,
        live_risk_sources: keys.sources("live_risk_sources", &["plan", "intent"], risk_source)?,
        known_accounts: keys.account_names("known_accounts")?,
        on_live: keys.on_live()?,
        cost: Ratio::ZERO,
        risk_floor: Ratio::ZERO,
        hash: "".into(),
    };
    keys.refuse_unknown()?;
    if policy.mode == Mode::Live {
        let missing: Vec<&str> = LIVE_KEYS.into_iter().filter(|key| !keys.object.contains_key(*key)).collect();
        if !missing.is_empty() {
            return Err(PolicyError::LiveNeeds(missing.join(", ")).into());
        }
    }
    Ok(hashed(policy.checked()?))
}

fn hashed(mut policy: Policy) -> Policy {
    policy.hash = sha256_hex(to_json(&policy).as_bytes()).into();
    policy
}

/// Returns a policy that knows more accounts.
pub fn knowing<'a>(mut policy: Policy, accounts: impl IntoIterator<Item = &'a str>) -> Policy {
    policy.known_accounts.extend(accounts.into_iter().map(Into::into));
    policy.known_accounts.sort();
    policy.known_accounts.dedup();
    hashed(policy)
}

/// Returns the canonical JSON: all keys but an empty `known_accounts`, sorted, no spaces, decimals as plain strings.
pub fn to_json(policy: &Policy) -> String {
    // serde_json's map sorts its keys.
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    let texts = |texts: &[Box<str>]| texts.iter().map(|t| Value::from(&**t)).collect::<Value>();
    put("mode", policy.mode.name().into());
    let step = |s: &LadderStep| {
        Value::from(Map::from_iter([
            ("fraction".to_owned(), s.fraction.to_string().into()),
            ("r".to_owned(), s.r.to_string().into()),
        ]))
    };
    put("ladder", policy.ladder.iter().map(step).collect());
    put("base", policy.base.name().into());
    put("min_r", policy.min_r.to_string().into());
    put("cost_bps", policy.cost_bps.to_string().into());
    put("max_actions_per_min", policy.max_actions_per_min.into());
    put("min_notional", policy.min_notional.to_string().into());
    let unit = |unit: &AtrUnit| match unit {
        AtrUnit::Absolute => "absolute",
        AtrUnit::Fraction => "fraction",
    };
    put("atr_unit", policy.atr_unit.iter().map(|(name, u)| (name.to_string(), Value::from(unit(u)))).collect());
    let too_large = match policy.risk_too_large {
        RiskTooLarge::Flag => "flag",
        RiskTooLarge::Refuse => "refuse",
        RiskTooLarge::AsFraction => "as_fraction",
    };
    put("risk_too_large", too_large.into());
    put("risk_floor_bps", policy.risk_floor_bps.to_string().into());
    put("price_sources", texts(&policy.price_sources));
    put("max_price_age_ms", policy.max_price_age_ms.into());
    put("max_price_jump", policy.max_price_jump.to_string().into());
    put("price_confirm_ms", policy.price_confirm_ms.into());
    put("intent_max_age_ms", policy.intent_max_age_ms.into());
    put("snapshot_settle_ms", policy.snapshot_settle_ms.into());
    put("divergence_grace_ms", policy.divergence_grace_ms.into());
    put("result_timeout_ms", policy.result_timeout_ms.into());
    put("retry_after_ms", policy.retry_after_ms.into());
    put("max_attempts", policy.max_attempts.into());
    put("require_instrument", policy.require_instrument.into());
    put("max_position_age_ms", policy.max_position_age_ms.into());
    put("live_symbols", texts(&policy.live_symbols));
    put("live_entry_sources", policy.live_entry_sources.iter().map(|s| Value::from(s.name())).collect());
    put("live_risk_sources", policy.live_risk_sources.iter().map(|s| Value::from(s.name())).collect());
    let on_live = policy.on_live.map(|on_live| match on_live {
        OnLive::Skip => "skip",
        OnLive::Take => "take",
    });
    put("on_live", on_live.into());
    // Policies of services without accounts keep their bytes.
    if !policy.known_accounts.is_empty() {
        put("known_accounts", texts(&policy.known_accounts));
    }
    Value::Object(object).to_string()
}

fn upper(texts: Vec<Box<str>>) -> Vec<Box<str>> {
    texts.into_iter().map(|text| text.to_uppercase().into()).collect()
}

fn entry_source(name: &str) -> Option<EntrySource> {
    use EntrySource::{Exchange, Fill, Intent, Legacy, Plan};
    [Legacy, Intent, Plan, Exchange, Fill].into_iter().find(|source| source.name() == name)
}

fn risk_source(name: &str) -> Option<RiskSource> {
    use RiskSource::{Intent, IntentNearest, Legacy, Plan};
    [Legacy, IntentNearest, Intent, Plan].into_iter().find(|source| source.name() == name)
}

/// The keys of a policy object, with those that were read.
struct Keys {
    object: Map<String, Value>,
    known: BTreeSet<&'static str>,
}

impl Keys {
    fn get(&mut self, key: &'static str) -> Option<&Value> {
        self.known.insert(key);
        self.object.get(key)
    }

    fn refuse_unknown(&self) -> Result<(), ReadError> {
        match self.object.keys().find(|key| !self.known.contains(key.as_str())) {
            None => Ok(()),
            Some(key) => {
                Err(ReadError::UnknownKey { key: key.clone(), nearest: nearest(key, self.known.iter().copied()) })
            }
        }
    }

    fn word<T: Copy>(
        &mut self,
        key: &'static str,
        default: &str,
        want: &'static str,
        words: &[(&str, T)],
    ) -> Result<T, ReadError> {
        let value = self.get(key);
        let text = match value {
            None => default.to_owned(),
            Some(Value::String(text)) => text.trim().to_ascii_lowercase(),
            Some(other) => return Err(wrong(key, other, want, Reason::UnknownWord)),
        };
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.ok_or_else(|| wrong(key, &text.into(), want, Reason::UnknownWord))
    }

    fn decimal(&mut self, key: &'static str, default: &str) -> Result<rust_decimal::Decimal, ReadError> {
        match self.get(key) {
            None => Ok(number::decimal(default).expect("defaults are numbers")),
            Some(value) => decimal_of(key, value),
        }
    }

    fn whole<N: TryFrom<u64>>(&mut self, key: &'static str, default: N) -> Result<N, ReadError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let number = match value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        };
        let want = "a whole number that is not negative";
        number.and_then(|n| N::try_from(n).ok()).ok_or_else(|| wrong(key, value, want, Reason::BadNumber))
    }

    fn boolean(&mut self, key: &'static str, default: bool) -> Result<bool, ReadError> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(value)) => Ok(*value),
            Some(other) => match other.as_str().map(str::trim) {
                Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
                Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
                _ => Err(wrong(key, other, "true or false", Reason::UnknownWord)),
            },
        }
    }

    fn texts(&mut self, key: &'static str, default: &[&str]) -> Result<Vec<Box<str>>, ReadError> {
        let want = "a list of names";
        match self.get(key) {
            None => Ok(default.iter().map(|text| (*text).into()).collect()),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| match item.as_str().map(str::trim) {
                    Some(text) if !text.is_empty() => Ok(text.into()),
                    _ => Err(wrong(key, item, "a name", Reason::UnknownWord)),
                })
                .collect(),
            Some(other) => Err(wrong(key, other, want, Reason::UnknownWord)),
        }
    }

    /// Reads a list of names of accounts. It is returned sorted, each name once.
    fn account_names(&mut self, key: &'static str) -> Result<Vec<Box<str>>, ReadError> {
        let names: BTreeSet<Box<str>> = self.texts(key, &[])?.into_iter().collect();
        if let Some(name) = names.iter().find(|name| !is_account_name(name)) {
            let want = "a name of 1 to 64 letters, digits, _, - and .";
            return Err(wrong(key, &Value::from(&**name), want, Reason::UnknownWord));
        }
        Ok(names.into_iter().collect())
    }

    fn sources<T>(
        &mut self,
        key: &'static str,
        default: &[&str],
        of: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, ReadError> {
        self.texts(key, default)?
            .iter()
            .map(|name| {
                of(&name.to_ascii_lowercase())
                    .ok_or_else(|| wrong(key, &Value::from(&**name), "a source of this field", Reason::UnknownWord))
            })
            .collect()
    }

    fn on_live(&mut self) -> Result<Option<OnLive>, ReadError> {
        if self.get("on_live").is_none_or(Value::is_null) {
            return Ok(None);
        }
        let words = [("skip", OnLive::Skip), ("take", OnLive::Take)];
        self.word("on_live", "", "skip or take", &words).map(Some)
    }

    fn atr_unit(&mut self) -> Result<BTreeMap<Box<str>, AtrUnit>, ReadError> {
        const KEY: &str = "atr_unit";
        let want = "an object of `absolute` or `fraction` by producer";
        match self.get(KEY) {
            None => Ok(BTreeMap::from([("default".into(), AtrUnit::Absolute)])),
            Some(Value::Object(units)) => units
                .iter()
                .map(|(name, unit)| {
                    let unit = match unit.as_str().map(|word| word.trim().to_ascii_lowercase()).as_deref() {
                        Some("absolute") => AtrUnit::Absolute,
                        Some("fraction") => AtrUnit::Fraction,
                        _ => return Err(wrong(KEY, unit, "absolute or fraction", Reason::UnknownWord)),
                    };
                    Ok((name.trim().to_lowercase().into(), unit))
                })
                .collect(),
            Some(other) => Err(wrong(KEY, other, want, Reason::UnknownWord)),
        }
    }

    fn ladder(&mut self) -> Result<Vec<LadderStep>, ReadError> {
        const KEY: &str = "ladder";
        let want = "a list of {r, fraction}, or `r:fraction,r:fraction`";
        match self.get(KEY) {
            None => ladder_of_text("0.5:0.25,1.0:0.25,1.5:0.25"),
            Some(Value::String(text)) => ladder_of_text(&text.clone()),
            Some(Value::Array(items)) => items
                .iter()
                .map(|item| {
                    let object = item.as_object().ok_or_else(|| wrong(KEY, item, want, Reason::UnknownWord))?;
                    if let Some(key) = object.keys().find(|key| !["r", "fraction"].contains(&key.as_str())) {
                        let key = format!("ladder.{key}");
                        return Err(ReadError::UnknownKey { key, nearest: None });
                    }
                    let part = |name: &str| {
                        let value = object.get(name).ok_or_else(|| wrong(KEY, item, want, Reason::UnknownWord))?;
                        decimal_of(KEY, value)
                    };
                    Ok(LadderStep { r: RMultiple::new(part("r")?), fraction: Ratio::new(part("fraction")?) })
                })
                .collect(),
            Some(other) => Err(wrong(KEY, other, want, Reason::UnknownWord)),
        }
    }
}

/// Reads `0.5:0.25,1.0:0.25`: R and fraction of each rung.
pub fn ladder_of_text(text: &str) -> Result<Vec<LadderStep>, ReadError> {
    const KEY: &str = "ladder";
    text.split(',')
        .map(|step| {
            let (r, fraction) =
                step.split_once(':').ok_or_else(|| wrong(KEY, &step.into(), "r:fraction", Reason::UnknownWord))?;
            let part = |text: &str| decimal_of(KEY, &Value::from(text.trim()));
            Ok(LadderStep { r: RMultiple::new(part(r)?), fraction: Ratio::new(part(fraction)?) })
        })
        .collect()
}

fn decimal_of(key: &str, value: &Value) -> Result<rust_decimal::Decimal, ReadError> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        other => return Err(wrong(key, other, "a number", Reason::BadNumber)),
    };
    number::decimal(&text).map_err(|reason| wrong(key, value, "a number of at most 28 digits, as \"0.5\"", reason))
}

fn wrong(key: &str, value: &Value, want: &'static str, reason: Reason) -> ReadError {
    ReadError::Value { key: key.to_owned(), value: value.to_string(), want, reason }
}

/// Returns the known name that a mistyped one most likely means.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (levenshtein(&name.to_ascii_lowercase(), &candidate.to_ascii_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_it_does_not_know_and_names_the_nearest() {
        let error = from_json(r#"{"mdoe":"live"}"#).unwrap_err();
        assert_eq!(error.to_string(), "policy key `mdoe` is unknown (did you mean `mode`?)");
        for (json, reason) in [
            ("[]", Reason::BadJson),
            (r#"{"mode":"liev"}"#, Reason::UnknownWord),
            (r#"{"min_r":"x"}"#, Reason::BadNumber),
            (r#"{"min_r":-1}"#, Reason::OutOfRange),
            (r#"{"max_attempts":-1}"#, Reason::BadNumber),
            (r#"{"ladder":[]}"#, Reason::OutOfRange),
            (r#"{"ladder":"1:0.5,0.5:0.25"}"#, Reason::OutOfRange),
            (r#"{"ladder":"0.5:0.6,1:0.5"}"#, Reason::OutOfRange),
            (r#"{"ladder":[{"r":1,"fraction":1,"x":1}]}"#, Reason::UnknownWord),
        ] {
            assert_eq!(from_json(json).unwrap_err().reason(), reason, "{json}");
        }
    }

    #[test]
    fn live_takes_no_default_for_what_moves_money() {
        let full = r#"{"mode":"live","ladder":"1:0.5","atr_unit":{"default":"fraction"},"price_sources":["market.tick"],"on_live":"skip"}"#;
        assert!(from_json(full).is_ok());
        for key in LIVE_KEYS {
            let mut object: Map<String, Value> = serde_json::from_str(full).unwrap();
            object.remove(key);
            assert!(from_object(object).unwrap_err().to_string().contains(key), "{key}");
        }
        let bare = from_json(r#"{"mode":"live"}"#).unwrap_err().to_string();
        assert!(bare.contains("needs ladder, atr_unit, price_sources, on_live to be named"), "all at once: {bare}");
        assert!(from_json(&full.replace(r#"["market.tick"]"#, "[]")).is_err());
    }

    #[test]
    fn the_hash_is_of_the_canonical_json() {
        let policy = from_json(r#"{"min_r":0.50}"#).unwrap();
        assert_eq!(policy.hash, Policy::default().hash);
        assert_eq!(*policy.hash, *sha256_hex(to_json(&policy).as_bytes()));
        let json = to_json(&policy);
        assert!(json.starts_with(r#"{"atr_unit":{"default":"absolute"},"base":"initial","cost_bps":"10","#), "{json}");
        assert_eq!(from_json(&json).unwrap(), policy);
        let exact = from_json(r#"{"cost_bps":10.123456789012345678}"#).unwrap();
        assert_eq!(exact.cost_bps.to_string(), "10.123456789012345678");
    }
}
