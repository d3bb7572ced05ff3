//! The account, position, rung or symbol that a command names, and whether the running service knows it.

use serde_json::Value;

use crate::codec::operator::Word;
use crate::codec::view;
use crate::domain::book::state::book_of_position;
use crate::shell::web::{self, ClientError};

/// Whether a service knows the account, position, rung or symbol that a command names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Known,
    /// The entry would have no effect. The text names the service and the unknown thing.
    Unknown(String),
    Nobody,
}

impl Target {
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Unknown(_) => "unknown",
            Self::Nobody => "nobody",
        }
    }

    pub fn says(&self) -> Option<String> {
        match self {
            Self::Known => None,
            Self::Unknown(why) => Some(format!("{why}: no effect.")),
            Self::Nobody => Some("No service answered whether it knows that.".to_owned()),
        }
    }
}

/// Asks the service whether it knows the thing that a command names. Returns `None` if the command concerns all
/// accounts or symbols. `configured` are the accounts that the configuration names.
pub async fn of(url: Option<&str>, word: &Word, configured: &[Box<str>]) -> Option<Target> {
    let symbol_of = |position: &str| book_of_position(position).unwrap_or(position).to_owned();
    let (symbol, position, rung) = match word {
        Word::Kill(_) | Word::GapAccepted { symbol: None, .. } => return None,
        Word::AccountKill { account, .. } => return Some(account_target(url, account, configured).await),
        Word::GapAccepted { symbol: Some(symbol), account } => {
            (view::written_name(symbol, account.as_deref()), None, None)
        }
        Word::RiskAccepted(position) => (symbol_of(position), Some(position), None),
        Word::RungRearmed(position, r) => (symbol_of(position), Some(position), Some(*r)),
    };
    let Some(url) = url else { return Some(Target::Nobody) };
    let page = format!("/positions/{}?all=1", web::path_part(&symbol));
    let positions: Vec<Value> = match web::get(url, &page).await {
        Ok(body) => match serde_json::from_str(&body) {
            Ok(positions) => positions,
            Err(_) => return Some(Target::Nobody),
        },
        Err(ClientError::Refused { status: 404, body, .. }) if body.contains("no_such_symbol") => {
            return Some(Target::Unknown(format!("the service at {url} knows no symbol {symbol}")));
        }
        Err(_) => return Some(Target::Nobody),
    };
    let Some(position) = position else { return Some(Target::Known) };
    let Some(found) = positions.iter().find(|known| known["position_id"] == position.as_str()) else {
        let ids: Vec<&str> = positions.iter().filter_map(|known| known["position_id"].as_str()).collect();
        let ids = if ids.is_empty() { String::new() } else { format!(" (it knows {})", ids.join(", ")) };
        return Some(Target::Unknown(format!("the service at {url} knows no position {position}{ids}")));
    };
    let Some(r) = rung else { return Some(Target::Known) };
    // A rung without a decision is armed already.
    let is_taken = |rung: &Value| {
        rung["r"] == r.to_string().as_str() && (rung["state"] != "armed" || rung["decision_id"].is_string())
    };
    if found["rungs"].as_array().is_some_and(|rungs| rungs.iter().any(is_taken)) {
        return Some(Target::Known);
    }
    Some(Target::Unknown(format!("by the service at {url}, no rung at {r} R of {position} was ever taken")))
}

/// An account is known if the configuration names it, or if the service has an open position in it. So a command with a
/// mistyped name does not look successful.
async fn account_target(url: Option<&str>, account: &str, configured: &[Box<str>]) -> Target {
    if configured.iter().any(|known| **known == *account) {
        return Target::Known;
    }
    let Some(url) = url else { return Target::Nobody };
    let Ok(body) = web::get(url, "/status").await else { return Target::Nobody };
    match serde_json::from_str::<Value>(&body) {
        Ok(status) if !status["positions"]["accounts"][account].is_null() => Target::Known,
        Ok(_) => Target::Unknown(format!(
            "the service at {url} has no open position of the account {account}, and the configuration does not name it"
        )),
        Err(_) => Target::Nobody,
    }
}
