//! The REST interface of the fake exchange.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Response, StatusCode};
use axum::serve::Listener;
use base64::Engine as _;
use futures_util::stream;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Shared;
use super::world::{Fault, LoggedCall, World};

/// A ban grows by this much with each call that ignores it.
const BAN_STEP: Duration = Duration::from_secs(120);
/// Longest window of `userTrades`. [ms]
const WINDOW_MAX_MS: u64 = 7 * 24 * 3_600_000;

/// A refusal: status, code and message.
type Refusal = (u16, i64, &'static str);

pub(super) async fn serve(shared: Arc<Shared>, acceptor: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of loopback");
    let address = listener.local_addr().expect("its address");
    let router = Router::new().fallback(answer).with_state(shared);
    match acceptor {
        None => drop(tokio::spawn(async move { axum::serve(listener, router).await })),
        Some(acceptor) => {
            let listener = Secure { listener, acceptor };
            drop(tokio::spawn(async move { axum::serve(listener, router).await }));
        }
    }
    address
}

/// Accepts connections that complete the TLS handshake and drops the others.
struct Secure {
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Listener for Secure {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            let Ok((stream, address)) = self.listener.accept().await else { continue };
            if let Ok(stream) = self.acceptor.accept(stream).await {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let method = request.method().as_str().to_owned();
    let (fault, (status, mut headers, body)) = {
        let mut world = shared.world();
        let fault = world.take_fault(&path);
        let (parameters, has_signature) = parameters_of(&query);
        let answered = match &fault {
            Some(Fault::Status(status, headers, body)) => {
                let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
                world.used_weight += weight(&path, &parameters);
                (*status, headers, body.clone())
            }
            Some(Fault::Body(body)) => (200, BTreeMap::new(), body.clone()),
            _ => world.answer(&method, &path, &query, &parameters, request.headers()),
        };
        let key = request.headers().get("x-mbx-apikey").and_then(|key| key.to_str().ok()).map(str::to_owned);
        world.log.push(LoggedCall { method, path, parameters, has_signature, status: answered.0, key });
        (fault, answered)
    };
    headers.entry("content-type".to_owned()).or_insert_with(|| "application/json;charset=UTF-8".to_owned());
    headers.insert("x-mbx-used-weight-1m".to_owned(), shared.world().used_weight.to_string());
    let body = match fault {
        Some(Fault::Slow(time)) => {
            tokio::time::sleep(time).await;
            Body::from(body)
        }
        Some(Fault::Silent) => std::future::pending().await,
        Some(Fault::BreaksOff) => {
            let half = body[..body.len() / 2].to_owned();
            headers.insert("content-length".to_owned(), body.len().to_string());
            Body::from_stream(stream::iter([Ok(half), Err(std::io::Error::other("the exchange hangs up"))]))
        }
        Some(Fault::Halved) => Body::from(body[..body.len() / 2].to_owned()),
        _ => Body::from(body),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    for (name, value) in headers {
        let name: axum::http::HeaderName = name.parse().expect("a header's name");
        response.headers_mut().insert(name, value.parse().expect("a header's value"));
    }
    Ok(response)
}

/// Returns names and values, decoded, without the signature; and whether there was a signature.
fn parameters_of(query: &str) -> (BTreeMap<String, String>, bool) {
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut parameters: BTreeMap<String, String> = pairs.map(|(name, value)| (decoded(name), decoded(value))).collect();
    let has_signature = parameters.remove("signature").is_some();
    (parameters, has_signature)
}

fn weight(path: &str, parameters: &BTreeMap<String, String>) -> u64 {
    match path {
        "/fapi/v1/premiumIndex" if !parameters.contains_key("symbol") => 10,
        "/fapi/v1/positionSide/dual" => 30,
        "/fapi/v2/positionRisk" | "/fapi/v3/positionRisk" | "/fapi/v1/userTrades" => 5,
        _ => 1,
    }
}

type Answered = (u16, BTreeMap<String, String>, String);

impl World {
    fn answer(
        &mut self,
        method: &str,
        path: &str,
        query: &str,
        parameters: &BTreeMap<String, String>,
        headers: &HeaderMap,
    ) -> Answered {
        if let Some(until) = self.banned_until.filter(|until| Instant::now() < *until) {
            self.banned_until = Some(until + BAN_STEP);
            return refused(418, -1003, "Way too many requests; IP banned.", Some(BAN_STEP.as_secs()));
        }
        self.used_weight += weight(path, parameters);
        if self.used_weight > self.weight_limit {
            // The next call is banned if it does not wait.
            self.banned_until = Some(Instant::now() + BAN_STEP);
            return refused(429, -1003, "Too many requests.", Some(30));
        }
        let key = headers.get("x-mbx-apikey").map(|key| key.as_bytes().to_vec());
        let other = self.accounts.iter().position(|other| key.as_deref() == Some(other.key.as_bytes()));
        if let Some(other) = other {
            self.swap(other);
        }
        let known = self.known(method, path, query, parameters, headers);
        if let Some(other) = other {
            self.swap(other);
        }
        match known {
            Ok(body) => (200, BTreeMap::new(), body.to_string()),
            Err((status, code, message)) => refused(status, code, message, None),
        }
    }

    fn known(
        &mut self,
        method: &str,
        path: &str,
        query: &str,
        parameters: &BTreeMap<String, String>,
        headers: &HeaderMap,
    ) -> Result<Value, Refusal> {
        let symbol = parameters.get("symbol").map(String::as_str);
        if symbol.is_some_and(|symbol| self.delisted.contains(symbol)) {
            return Err((400, -1121, "Invalid symbol."));
        }
        match (method, path) {
            ("GET", "/fapi/v1/positionSide/dual") => {
                self.check_signed(query, parameters, headers).map(|()| json!({"dualSidePosition": self.is_hedged}))
            }
            ("GET", "/fapi/v1/time") => Ok(json!({"serverTime": self.now_ms()})),
            ("GET", "/fapi/v1/premiumIndex") => self.premium_index(symbol),
            ("GET", "/fapi/v1/exchangeInfo") => Ok(self.exchange_info()),
            ("GET", "/fapi/v2/positionRisk") => {
                self.check_signed(query, parameters, headers).map(|()| self.position_risk(true))
            }
            ("GET", "/fapi/v3/positionRisk") => {
                self.check_signed(query, parameters, headers).map(|()| self.position_risk(false))
            }
            ("GET", "/fapi/v1/userTrades") => {
                self.check_signed(query, parameters, headers)?;
                self.user_trades(symbol.ok_or((400, -1102, "Mandatory parameter 'symbol' was not sent."))?, parameters)
            }
            (_, "/fapi/v1/listenKey") => {
                self.check_key(headers)?;
                self.listen_key(method, parameters.get("listenKey"))
            }
            _ => Err((404, -5000, "Path is not valid.")),
        }
    }

    fn check_key(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match headers.get("x-mbx-apikey").map(|key| key.as_bytes() == self.key.as_bytes()) {
            Some(true) => Ok(()),
            Some(false) => Err((401, -2015, "Invalid API-key, IP, or permissions for action.")),
            None => Err((401, -2014, "API-key format invalid.")),
        }
    }

    fn check_signed(
        &self,
        query: &str,
        parameters: &BTreeMap<String, String>,
        headers: &HeaderMap,
    ) -> Result<(), Refusal> {
        self.check_key(headers)?;
        let (signed, signature) =
            query.rsplit_once("&signature=").ok_or((400, -1102, "Mandatory parameter 'signature' was not sent."))?;
        if !self.is_signature(signed, signature) {
            return Err((400, -1022, "Signature for this request is not valid."));
        }
        let number = |name: &str| parameters.get(name).and_then(|text| text.parse::<u64>().ok());
        let timestamp = number("timestamp").ok_or((400, -1102, "Mandatory parameter 'timestamp' was not sent."))?;
        let (now, window) = (self.now_ms(), number("recvWindow").unwrap_or(5_000));
        if timestamp >= now + 1_000 {
            return Err((400, -1021, "Timestamp for this request was 1000ms ahead of the server's time."));
        }
        if now.saturating_sub(timestamp) > window {
            return Err((400, -1021, "Timestamp for this request is outside of the recvWindow."));
        }
        Ok(())
    }

    fn is_signature(&self, signed: &str, signature: &str) -> bool {
        let Some(public_key) = &self.ed25519 else {
            let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).expect("any length");
            mac.update(signed.as_bytes());
            let want: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            return signature == want;
        };
        // Base64 has to be encoded for a query: a plus sign in it means a blank.
        if signature.contains(['+', '/', '=']) {
            return false;
        }
        let text = percent_encoding::percent_decode_str(signature).decode_utf8_lossy();
        let Ok(signature) = base64::engine::general_purpose::STANDARD.decode(text.as_bytes()) else { return false };
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let ed25519 = algorithms.mapping.iter().find(|(scheme, _)| *scheme == rustls::SignatureScheme::ED25519);
        let (_, verifiers) = ed25519.expect("the provider knows Ed25519");
        verifiers.iter().any(|v| v.verify_signature(public_key, signed.as_bytes(), &signature).is_ok())
    }

    fn premium_index(&self, symbol: Option<&str>) -> Result<Value, Refusal> {
        let now_ms = self.now_ms();
        let row = |symbol: &str, price: &str| {
            json!({
                "symbol": symbol, "markPrice": price, "indexPrice": price, "estimatedSettlePrice": price,
                "lastFundingRate": "0.00010000", "interestRate": "0.00010000", "nextFundingTime": now_ms + 3_600_000,
                "time": now_ms,
            })
        };
        match symbol {
            None => Ok(self.prices.iter().map(|(symbol, price)| row(symbol, price)).collect()),
            Some(symbol) => {
                self.prices.get(symbol).map(|price| row(symbol, price)).ok_or((400, -1121, "Invalid symbol."))
            }
        }
    }

    fn exchange_info(&self) -> Value {
        let symbol = |(symbol, (step, min, notional)): (&String, &(String, String, String))| {
            json!({
                "symbol": symbol, "pair": symbol, "contractType": "PERPETUAL", "status": "TRADING",
                "pricePrecision": 4, "quantityPrecision": 1,
                "filters": [
                    {"filterType": "PRICE_FILTER", "minPrice": "0.0001", "maxPrice": "10000", "tickSize": "0.0001"},
                    {"filterType": "LOT_SIZE", "stepSize": step, "minQty": min, "maxQty": "1000000"},
                    {"filterType": "MARKET_LOT_SIZE", "stepSize": step, "minQty": min, "maxQty": "100000"},
                    {"filterType": "MAX_NUM_ORDERS", "limit": 200},
                    {"filterType": "MIN_NOTIONAL", "notional": notional},
                    {"filterType": "PERCENT_PRICE", "multiplierUp": "1.1", "multiplierDown": "0.9"},
                ],
            })
        };
        let symbols: Vec<Value> = self.filters.iter().map(symbol).collect();
        json!({"timezone": "UTC", "serverTime": self.now_ms(), "rateLimits": [], "symbols": symbols})
    }

    /// Returns positions: `v2` lists every symbol that it knows, `v3` those with a quantity.
    fn position_risk(&self, all: bool) -> Value {
        let mut symbols: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
        if all {
            let known = self.prices.keys().chain(self.filters.keys());
            symbols.extend(known.map(|symbol| (symbol.as_str(), ("0", "0.0"))));
            symbols.insert("BTCUSDT", ("0.000", "0.0"));
        }
        for (symbol, (amount, entry)) in &self.positions {
            symbols.insert(symbol, (amount, entry));
        }
        let now_ms = self.now_ms();
        let row = |(symbol, (amount, entry)): (&str, (&str, &str))| {
            json!({
                "symbol": symbol, "positionAmt": amount, "entryPrice": entry, "breakEvenPrice": entry,
                "markPrice": self.prices.get(symbol).map_or("0.00000000", String::as_str),
                "unRealizedProfit": "0.00000000", "liquidationPrice": "0", "leverage": "10", "marginType": "cross",
                "isolatedMargin": "0.00000000", "isAutoAddMargin": "false", "positionSide": "BOTH", "notional": "0",
                "updateTime": if amount.starts_with('0') { 0 } else { now_ms },
            })
        };
        let mut rows: Vec<Value> = if self.is_hedged { Vec::new() } else { symbols.into_iter().map(row).collect() };
        for ((symbol, side), (amount, entry)) in &self.sided {
            let mut sided = row((symbol, (amount, entry)));
            sided["positionSide"] = json!(side);
            rows.push(sided);
        }
        Value::Array(rows)
    }

    fn user_trades(&self, symbol: &str, parameters: &BTreeMap<String, String>) -> Result<Value, Refusal> {
        let number = |name: &str| parameters.get(name).and_then(|text| text.parse::<u64>().ok());
        let (from_id, start, end) = (number("fromId"), number("startTime"), number("endTime"));
        if from_id.is_some() && (start.is_some() || end.is_some()) {
            return Err((400, -1128, "Combination of optional parameters invalid."));
        }
        let now_ms = self.now_ms();
        let (start, end) = match (start, end) {
            (None, None) => (now_ms.saturating_sub(WINDOW_MAX_MS), u64::MAX),
            (Some(start), None) => (start, start + WINDOW_MAX_MS),
            (None, Some(end)) => (end.saturating_sub(WINDOW_MAX_MS), end),
            (Some(start), Some(end)) => (start, end),
        };
        if from_id.is_none() && end != u64::MAX && end.saturating_sub(start) > WINDOW_MAX_MS {
            return Err((400, -4163, "Invalid time interval, over 7 days."));
        }
        let is_asked = |row: &&Value| {
            let (id, time) = (row["id"].as_u64().unwrap_or(0), row["time"].as_u64().unwrap_or(0));
            row["symbol"] == symbol && from_id.map_or(time >= start && time <= end, |from| id >= from)
        };
        let limit = usize::try_from(number("limit").unwrap_or(500).min(1_000)).expect("fits");
        let mut rows: Vec<Value> = self.trades.iter().filter(is_asked).cloned().collect();
        rows.sort_by_key(|row| row["id"].as_u64());
        rows.truncate(limit);
        Ok(Value::Array(rows))
    }

    fn listen_key(&mut self, method: &str, key: Option<&String>) -> Result<Value, Refusal> {
        match method {
            "POST" => {
                // If a client asks again while a key is valid, the exchange returns the same key.
                if self.listen_keys.is_empty() {
                    self.listen_keys_opened += 1;
                    self.listen_keys.push(format!(
                        "pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61cv6a81va65sdf19v8a{:04}",
                        self.listen_keys_opened
                    ));
                }
                Ok(json!({"listenKey": self.listen_keys[0]}))
            }
            "PUT" if key.is_some_and(|key| self.listen_keys.contains(key)) => Ok(json!({})),
            _ => Err((400, -1125, "This listenKey does not exist.")),
        }
    }
}

fn refused(status: u16, code: i64, message: &str, retry_after_s: Option<u64>) -> Answered {
    let headers = retry_after_s.map(|seconds| ("retry-after".to_owned(), seconds.to_string()));
    (status, headers.into_iter().collect(), json!({"code": code, "msg": message}).to_string())
}
