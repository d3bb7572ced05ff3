//! The account, the position, the rung or the symbol that a command names, as the running service knows it.

use crate::codec::operator::Word;
use crate::codec::view::{self, PositionView, Rung};
use crate::domain::book::rung::RungState;
use crate::domain::book::state::book_of_position;
use crate::service::report::Report;
use crate::shell::web::{self, ClientError};

/// What a service knows of the account, the position, the rung or the symbol that a command names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Known,
    /// The entry would have no effect. It names the lacking thing and the service.
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

/// Asks the service whether it knows what a command names. Returns `None` if the command concerns all accounts or symbols.
/// `configured` are the accounts that the configuration names.
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
    let positions: Vec<PositionView> = match web::get(url, &page).await {
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
    let Some(found) = positions.iter().find(|known| known.position_id == *position) else {
        let ids: Vec<&str> = positions.iter().map(|known| &*known.position_id).collect();
        let ids = if ids.is_empty() { String::new() } else { format!(" (it knows {})", ids.join(", ")) };
        return Some(Target::Unknown(format!("the service at {url} knows no position {position}{ids}")));
    };
    let Some(r) = rung else { return Some(Target::Known) };
    // A rung that no decision has touched is armed already.
    let is_taken =
        |rung: &Rung| rung.r == r.to_string() && (rung.state != RungState::Armed.name() || rung.decision_id.is_some());
    if found.rungs.iter().any(is_taken) {
        return Some(Target::Known);
    }
    Some(Target::Unknown(format!("by the service at {url}, no rung at {r} R of {position} was ever taken")))
}

/// An account is known if the configuration names it, or if the service has an open position of it. A mistyped name must
/// not look like a success.
async fn account_target(url: Option<&str>, account: &str, configured: &[Box<str>]) -> Target {
    if configured.iter().any(|known| **known == *account) {
        return Target::Known;
    }
    let Some(url) = url else { return Target::Nobody };
    match report_of(Some(url)).await {
        Some(report) if report.positions.accounts.contains_key(account) => Target::Known,
        Some(_) => Target::Unknown(format!(
            "the service at {url} has no open position of the account {account}, and the configuration does not name it"
        )),
        None => Target::Nobody,
    }
}

/// Returns the report of a service, if it answers with one.
pub async fn report_of(url: Option<&str>) -> Option<Report> {
    let body = web::get(url?, "/status").await.ok()?;
    serde_json::from_str(&body).ok()
}
