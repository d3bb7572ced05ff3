//! Binance USDⓈ-M futures.
//!
//! In reading order: `environments` (addresses), `calls` (weights, signatures), `replies` and `events` (formats),
//! `refusals` (codes).

mod calls;
mod environments;
mod events;
mod refusals;
mod replies;

use secrecy::{ExposeSecret as _, SecretString};

use super::facts::{AccountMode, InstrumentRow, Marks, PositionRow, Unreadable, UserEvent, UserTrade};
use super::venue::{Call, Environment, Message, Parameter, Question, Refusal, Stamp, TradesFrom, Venue, VenueTerms};
use environments::KeyForm;

#[derive(Debug)]
pub(super) struct Binance;

static TERMS: VenueTerms = VenueTerms {
    environments: &environments::ALL,
    preset: environments::TESTNET.name,
    key_name: "BINANCE_TESTNET_API_KEY",
    secret_name: "BINANCE_TESTNET_API_SECRET",
    credential_length: 64,
    positions_name: "positionRisk",
    position_versions: &["v3", V2],
    weight_per_min: 2_400,
    weight_max: calls::WEIGHT_MAX,
    used_weight_header: "x-mbx-used-weight-1m",
    trades_max: 1_000,
    trades_window_ms: 7 * 24 * 3_600_000,
    trades_kept_ms: 90 * 24 * 3_600_000,
    key_life_ms: 3_600_000,
    symbol: "BTCUSDT",
};

/// The version of `positionRisk` that lists every symbol. Version 3 omits those without position and open orders.
const V2: &str = "v2";

impl Venue for Binance {
    fn terms(&self) -> &'static VenueTerms {
        &TERMS
    }

    fn environment_of(&self, url: &str) -> Option<&'static Environment> {
        environments::of(url)
    }

    fn clock(&self) -> Question<u64> {
        Question { call: &calls::TIME, parameters: Vec::new(), read: replies::server_time }
    }

    fn marks(&self, symbol: Option<&str>) -> Question<Marks> {
        let (call, parameters) = match symbol {
            Some(symbol) => (&calls::MARK_OF_ONE, vec![("symbol", symbol.to_owned())]),
            None => (&calls::MARKS_OF_ALL, Vec::new()),
        };
        Question { call, parameters, read: replies::mark_prices }
    }

    fn instruments(&self) -> Question<Vec<InstrumentRow>> {
        Question { call: &calls::INSTRUMENTS, parameters: Vec::new(), read: replies::instruments }
    }

    fn positions(&self, version: &str) -> Question<Vec<PositionRow>> {
        if version == V2 {
            Question { call: &calls::POSITIONS_V2, parameters: Vec::new(), read: replies::positions_of_all }
        } else {
            Question { call: &calls::POSITIONS_V3, parameters: Vec::new(), read: replies::positions }
        }
    }

    fn account_mode(&self) -> Question<AccountMode> {
        Question { call: &calls::ACCOUNT_MODE, parameters: Vec::new(), read: replies::account_mode }
    }

    fn trades(&self, symbol: &str, from: TradesFrom) -> Question<Vec<UserTrade>> {
        let mut parameters = vec![("symbol", symbol.to_owned())];
        match from {
            TradesFrom::Id(id) => parameters.push(("fromId", id.to_string())),
            TradesFrom::Window { from_ms, to_ms } => {
                let to_ms = to_ms.min(from_ms.saturating_add(TERMS.trades_window_ms));
                parameters.extend([("startTime", from_ms.to_string()), ("endTime", to_ms.to_string())]);
            }
        }
        parameters.push(("limit", TERMS.trades_max.to_string()));
        Question { call: &calls::TRADES, parameters, read: replies::user_trades }
    }

    fn open_key(&self) -> Question<SecretString> {
        Question { call: &calls::OPEN_KEY, parameters: Vec::new(), read: replies::listen_key }
    }

    fn keep_key(&self, key: &SecretString) -> Question<()> {
        let parameters = vec![("listenKey", key.expose_secret().to_owned())];
        Question { call: &calls::KEEP_KEY, parameters, read: |_| Ok(()) }
    }

    fn message(&self, call: &Call, parameters: &[Parameter], stamp: Option<&Stamp<'_>>) -> Message {
        calls::message(call, parameters, stamp)
    }

    fn refusal(&self, status: u16, body: &[u8]) -> Refusal {
        refusals::refusal(status, body)
    }

    fn key_form(&self, user_url: &str, environment: &Environment) -> &'static str {
        KeyForm::of(user_url, environment).name()
    }

    fn account_url(&self, user_url: &str, environment: &Environment, key: &SecretString) -> SecretString {
        KeyForm::of(user_url, environment).address(user_url, key.expose_secret()).into()
    }

    fn mark_updates(&self, text: &str) -> Result<Marks, Unreadable> {
        events::mark_updates(text)
    }

    fn user_event(&self, text: &str) -> Result<UserEvent, Unreadable> {
        events::user_event(text)
    }
}
