//! The state of the fake exchange, its faults, and the log of its calls.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// Key and secret from the exchange's documentation.
pub const KEY: &str = "dbefbc809e3e83c283a984c3a1459732ea7db1360ca80c5c2c8867408d28cc83";
pub const SECRET: &str = "2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9";

/// The way in which one call fails.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Another status, with headers and a body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// The correct answer, with a delay.
    Slow(Duration),
    /// No answer.
    Silent,
    /// The connection ends in the middle of the answer.
    BreaksOff,
    /// Half of the answer, with a length that fits the half.
    Halved,
    /// Another body, with status 200.
    Body(String),
}

/// A call as it arrived.
#[derive(Clone, Debug)]
pub struct LoggedCall {
    pub method: String,
    pub path: String,
    /// Names and values, decoded, without the signature.
    pub parameters: BTreeMap<String, String>,
    pub has_signature: bool,
    pub status: u16,
    /// The API key of the call.
    pub key: Option<String>,
}

impl LoggedCall {
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

/// A further account, with the same values that [`World`] has for the first.
#[derive(Debug, Default)]
pub struct Account {
    pub key: String,
    pub secret: String,
    pub positions: BTreeMap<String, (String, String)>,
    pub sided: BTreeMap<(String, String), (String, String)>,
    pub is_hedged: bool,
    pub trades: Vec<Value>,
    pub listen_keys: Vec<String>,
}

pub struct World {
    /// Further accounts.
    pub accounts: Vec<Account>,
    /// Mark prices by symbol.
    pub prices: BTreeMap<String, String>,
    /// Signed quantity and entry price by symbol.
    pub positions: BTreeMap<String, (String, String)>,
    /// Rows of `userTrades`.
    pub trades: Vec<Value>,
    /// The same by symbol and side, for a hedge account.
    pub sided: BTreeMap<(String, String), (String, String)>,
    /// The account is in hedge mode (dual-side).
    pub is_hedged: bool,
    /// Symbols that the exchange does not list any more.
    pub delisted: BTreeSet<String>,
    /// stepSize, minQty and minNotional by symbol.
    pub filters: BTreeMap<String, (String, String, String)>,
    pub key: String,
    pub secret: String,
    /// Raw public key of an Ed25519 pair, if calls are signed with it instead of the secret.
    pub ed25519: Option<Vec<u8>>,
    /// The server's clock minus this machine's. [ms]
    pub drift_ms: i64,
    /// Weight used in the current minute, and its limit. [weight]
    pub used_weight: u64,
    pub weight_limit: u64,
    /// How long the calls of a path continue to fail, after those of `faults`.
    pub faults: VecDeque<(String, Fault)>,
    pub always: Option<Fault>,
    /// The client is banned until then; every call before that extends the ban.
    pub banned_until: Option<Instant>,
    pub listen_keys: Vec<String>,
    pub listen_keys_opened: u64,
    pub log: Vec<LoggedCall>,
    /// Paths of the open sockets.
    pub sockets: BTreeMap<u64, String>,
    pub sockets_opened: u64,
    /// Number of pings that arrived, all of them answered.
    pub pings: u64,
    /// True for the old testnet: the listen key is a part of the path there. Elsewhere such a socket opens and sends
    /// nothing.
    pub takes_key_in_path: bool,
    /// New sockets are refused.
    pub refuses_sockets: bool,
    /// Interval at which mark prices of all symbols are sent.
    pub ticks: Option<Duration>,
}

impl World {
    pub fn new() -> Self {
        Self {
            accounts: Vec::new(),
            prices: BTreeMap::new(),
            positions: BTreeMap::new(),
            trades: Vec::new(),
            sided: BTreeMap::new(),
            is_hedged: false,
            delisted: BTreeSet::new(),
            filters: BTreeMap::new(),
            key: KEY.to_owned(),
            secret: SECRET.to_owned(),
            ed25519: None,
            drift_ms: 0,
            used_weight: 0,
            weight_limit: 2_400,
            faults: VecDeque::new(),
            always: None,
            banned_until: None,
            listen_keys: Vec::new(),
            listen_keys_opened: 0,
            log: Vec::new(),
            sockets: BTreeMap::new(),
            sockets_opened: 0,
            pings: 0,
            takes_key_in_path: false,
            refuses_sockets: false,
            ticks: None,
        }
    }

    /// Returns the server's clock. [ms since 1970]
    pub fn now_ms(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        u64::try_from(now).expect("before the end of time").saturating_add_signed(self.drift_ms)
    }

    /// Adds a further account.
    pub fn add_account(&mut self, key: &str, secret: &str) -> &mut Account {
        self.accounts.push(Account { key: key.to_owned(), secret: secret.to_owned(), ..Account::default() });
        self.accounts.last_mut().expect("it was added")
    }

    /// Exchanges the first account with a further one, or back, for one call.
    pub(super) fn swap(&mut self, account: usize) {
        let Self { accounts, key, secret, positions, sided, is_hedged, trades, listen_keys, .. } = self;
        let other = &mut accounts[account];
        std::mem::swap(key, &mut other.key);
        std::mem::swap(secret, &mut other.secret);
        std::mem::swap(positions, &mut other.positions);
        std::mem::swap(sided, &mut other.sided);
        std::mem::swap(is_hedged, &mut other.is_hedged);
        std::mem::swap(trades, &mut other.trades);
        std::mem::swap(listen_keys, &mut other.listen_keys);
    }

    pub fn set_price(&mut self, symbol: &str, price: &str) {
        self.prices.insert(symbol.to_owned(), price.to_owned());
    }

    pub fn set_position(&mut self, symbol: &str, amount: &str, entry_price: &str) {
        self.positions.insert(symbol.to_owned(), (amount.to_owned(), entry_price.to_owned()));
    }

    /// Sets a position of a hedge account.
    pub fn set_side(&mut self, symbol: &str, side: &str, amount: &str, entry_price: &str) {
        self.is_hedged = true;
        self.sided.insert((symbol.to_owned(), side.to_owned()), (amount.to_owned(), entry_price.to_owned()));
    }

    pub fn set_filters(&mut self, symbol: &str, step_size: &str, min_qty: &str, min_notional: &str) {
        let filters = (step_size.to_owned(), min_qty.to_owned(), min_notional.to_owned());
        self.filters.insert(symbol.to_owned(), filters);
    }

    /// Adds a trade, in the format of `userTrades`: ids of trade and order, quantity and price.
    pub fn add_trade(&mut self, symbol: &str, ids: (u64, u64), side: &str, fill: (&str, &str), time_ms: u64) {
        let ((id, order_id), (qty, price)) = (ids, fill);
        self.trades.push(json!({
            "symbol": symbol, "id": id, "orderId": order_id, "side": side, "price": price, "qty": qty,
            "realizedPnl": "0", "quoteQty": "1.00", "commission": "0.0001", "commissionAsset": "USDT",
            "time": time_ms, "positionSide": "BOTH", "buyer": side == "BUY", "maker": false,
        }));
    }

    /// Removes and returns the next fault of a path.
    pub fn take_fault(&mut self, path: &str) -> Option<Fault> {
        match self.faults.iter().position(|(of, _)| of == path) {
            Some(at) => self.faults.remove(at).map(|(_, fault)| fault),
            None => self.always.clone(),
        }
    }
}

/// Returns a message of `!markPrice@arr@1s`.
pub fn mark_message(rows: &[(&str, &str)], now_ms: u64) -> String {
    let row = |(symbol, price): &(&str, &str)| {
        json!({
            "e": "markPriceUpdate", "E": now_ms, "s": symbol, "p": price, "i": price, "P": price,
            "r": "0.00010000", "T": now_ms + 3_600_000,
        })
    };
    Value::Array(rows.iter().map(row).collect()).to_string()
}

/// Returns the `ORDER_TRADE_UPDATE` of a fill.
pub fn trade_event(trade: &Value) -> Value {
    json!({
        "e": "ORDER_TRADE_UPDATE", "E": trade["time"], "T": trade["time"],
        "o": {
            "s": trade["symbol"], "c": "web_1", "S": trade["side"], "o": "MARKET", "f": "GTC", "q": trade["qty"],
            "p": "0", "ap": trade["price"], "sp": "0", "x": "TRADE", "X": "FILLED", "i": trade["orderId"],
            "l": trade["qty"], "z": trade["qty"], "L": trade["price"], "N": "USDT", "n": "0.0001", "T": trade["time"],
            "t": trade["id"], "b": "0", "a": "0", "m": false, "R": false, "wt": "CONTRACT_PRICE", "ot": "MARKET",
            "ps": "BOTH", "cp": false, "rp": "0",
        },
    })
}

/// Returns the `ACCOUNT_UPDATE` of one position.
pub fn account_event(symbol: &str, amount: &str, entry_price: &str, time_ms: u64) -> Value {
    json!({
        "e": "ACCOUNT_UPDATE", "E": time_ms, "T": time_ms,
        "a": {
            "m": "ORDER",
            "B": [{"a": "USDT", "wb": "122624.12345678", "cw": "100.12345678", "bc": "50.12345678"}],
            "P": [{
                "s": symbol, "pa": amount, "ep": entry_price, "bep": entry_price, "cr": "200", "up": "0",
                "mt": "cross", "iw": "0", "ps": "BOTH",
            }],
        },
    })
}
