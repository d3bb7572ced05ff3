//! Fields of entries, flat or as JSON, and the decimals in them.

use serde_json::Value;

/// A value of a field: text, or a number or literal that JSON writes without quotes.
#[derive(Clone, Debug)]
pub(super) enum V {
    T(String),
    N(String),
}

impl From<&str> for V {
    fn from(text: &str) -> Self {
        Self::T(text.to_owned())
    }
}

impl From<String> for V {
    fn from(text: String) -> Self {
        Self::T(text)
    }
}

pub(super) type Members = Vec<(&'static str, V)>;
/// Fields of an entry; `None` is a value that is not UTF-8.
pub(super) type Raw = Vec<(&'static str, Option<String>)>;

pub(super) fn object(members: &Members) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|(name, value)| match value {
            V::T(text) => format!("\"{name}\": {}", Value::from(text.as_str())),
            V::N(text) => format!("\"{name}\": {text}"),
        })
        .collect();
    format!("{{{}}}", members.join(", "))
}

pub(super) fn flat(members: Members) -> Raw {
    members.into_iter().map(|(name, V::T(text) | V::N(text))| (name, Some(text))).collect()
}

/// Returns `whole × 10^exponent`, written out.
pub(super) fn decimal(whole: i64, exponent: i32) -> String {
    if exponent >= 0 {
        return format!("{whole}{}", "0".repeat(exponent as usize));
    }
    let places = exponent.unsigned_abs() as usize;
    let digits = format!("{:0>width$}", whole.unsigned_abs(), width = places + 1);
    let (before, behind) = digits.split_at(digits.len() - places);
    format!("{}{before}.{behind}", if whole < 0 { "-" } else { "" })
}
