//! The client of the exchange with a fake server on loopback: its requests, the state that it keeps, and its results
//! for late, partial, refused and missing answers.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::exchange::{ExchangeServer, Fault, KEY, SECRET};
use harvester::codec::exchange::{AccountMode, Credentials, Given, KeyKind, TradesFrom, VENUES};
use harvester::shell::exchange::{CallError, CircuitState, Exchange, Positions, Settings};
use secrecy::ExposeSecret as _;

const POSITIONS: &str = "/fapi/v3/positionRisk";
const PRICES: &str = "/fapi/v1/premiumIndex";
const TIME: &str = "/fapi/v1/time";

fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

fn credentials(key: &str, secret: &str) -> Credentials {
    let given = |name: &'static str, value: &str| Given { name: name.into(), value: value.into(), cleaned: None };
    Credentials::check(&given("KEY", key), &given("SECRET", secret), 64).expect("credentials")
}

fn settings(server: &ExchangeServer) -> Settings {
    Settings {
        credentials: Some(credentials(KEY, SECRET)),
        timeout_ms: 10_000,
        ..Settings::new(VENUES[0], &server.url())
    }
}

fn client(server: &ExchangeServer) -> Exchange {
    Exchange::new(settings(server)).expect("a client")
}

/// Starts a server with two positions, the second short.
fn with_positions() -> ExchangeServer {
    let server = ExchangeServer::start();
    {
        let mut world = server.world();
        world.set_price("ADAUSDT", "0.30100000");
        world.set_price("AVAXUSDT", "13.40000000");
        world.set_price("NEARUSDT", "1.51000000");
        world.set_position("ADAUSDT", "662", "0.3002");
        world.set_position("AVAXUSDT", "-29.6", "13.3724681353");
    }
    server
}

fn open(positions: &Positions) -> Vec<(String, String, Option<String>)> {
    let text = |row: &harvester::codec::exchange::PositionRow| {
        (row.symbol.clone(), row.position_amt.to_string(), row.entry_price.map(|price| price.to_string()))
    };
    positions.open().map(text).collect()
}

// ---- requests and answers ------------------------------------------------------------------------------------------

#[test]
fn a_server_that_checks_every_byte_accepts_signed_calls() {
    let server = with_positions();
    server.world().add_trade("币安USDT", (7, 70), "BUY", ("1.5", "2.25"), 1_770_163_395_196);
    let exchange = client(&server);
    within(async {
        let positions = exchange.positions().await.unwrap();
        assert_eq!(
            open(&positions),
            [
                ("ADAUSDT".to_owned(), "662".to_owned(), Some("0.3002".to_owned())),
                ("AVAXUSDT".to_owned(), "-29.6".to_owned(), Some("13.3724681353".to_owned())),
            ]
        );
        assert_eq!(positions.flat_among(["ADAUSDT", "NEARUSDT"]), ["NEARUSDT"]);
        let trades = exchange.trades("币安USDT", TradesFrom::Id(1)).await.unwrap();
        assert_eq!(trades.len(), 1, "a symbol that is not ASCII is encoded before it is signed");
        assert_eq!((trades[0].qty.to_string(), trades[0].price.to_string()), ("1.5".to_owned(), "2.25".to_owned()));
    });
    let asked: Vec<String> = server.all_calls().into_iter().map(|call| call.path).collect();
    assert_eq!(asked, [TIME, POSITIONS, "/fapi/v1/userTrades"], "the server's clock first, and once");
    assert!(server.calls(POSITIONS)[0].has_signature);
    assert_eq!(server.calls(POSITIONS)[0].parameter("recvWindow"), Some("5000"));
}

#[test]
fn v2_lists_every_symbol_and_v3_those_with_a_position() {
    let server = with_positions();
    let of = |version| Exchange::new(Settings { position_version: version, ..settings(&server) }).unwrap();
    let (v2, v3) = within(async {
        let v2 = of("v2").positions().await.unwrap();
        (v2, of("v3").positions().await.unwrap())
    });
    assert_eq!((v2.rows().len(), v3.rows().len()), (4, 2));
    assert_eq!(open(&v2), open(&v3));
    let flat = v2.rows().iter().find(|row| row.symbol == "NEARUSDT").unwrap();
    assert_eq!(
        (flat.entry_price, flat.updated_ms),
        (None, None),
        "an entry price of 0 is missing, and so is a time of 0"
    );
    server.world().positions.clear();
    assert_eq!(within(of("v3").positions()).unwrap().rows(), [], "nothing open is an answer");
}

#[test]
fn i46_all_symbols_are_one_call() {
    let server = ExchangeServer::start();
    for number in 0..44 {
        server.world().set_price(&format!("S{number}USDT"), "1.5");
    }
    let exchange = client(&server);
    let prices = within(exchange.marks(None)).unwrap();
    assert_eq!(prices.len(), 44);
    assert!(prices.iter().all(|row| row.mark_price.to_string() == "1.5" && row.time_ms > 1_700_000_000_000));
    assert_eq!(server.all_calls().len(), 1, "one call, not 44, and no clock for an unsigned call");
    let health = exchange.health();
    assert_eq!((health.sent(), health.weight(), health.used_weight), (1, 10, Some(10)));
    assert_eq!(within(exchange.marks(Some("S7USDT"))).unwrap().len(), 1);
    assert_eq!(exchange.health().weight(), 11);
}

#[test]
fn filters_and_trades_are_read_in_the_format_of_the_exchange() {
    let server = with_positions();
    {
        let mut world = server.world();
        world.set_filters("ARBUSDT", "0.1", "0.2", "5");
        for id in [3, 1, 2] {
            world.add_trade("ARBUSDT", (id, 42), "SELL", ("10", "0.2148"), 1_770_163_395_000 + id);
        }
    }
    let exchange = client(&server);
    within(async {
        let info = exchange.instruments().await.unwrap();
        assert_eq!(info.len(), 1);
        let text = |value: Option<String>| value.unwrap_or_default();
        assert_eq!(text(info[0].step_size.map(|v| v.to_string())), "0.1");
        assert_eq!(text(info[0].min_qty.map(|v| v.to_string())), "0.2");
        assert_eq!(text(info[0].min_notional.map(|v| v.to_string())), "5");
        let ids = |trades: Vec<harvester::codec::exchange::UserTrade>| trades.iter().map(|t| t.id).collect::<Vec<_>>();
        assert_eq!(ids(exchange.trades("ARBUSDT", TradesFrom::Id(2)).await.unwrap()), [2, 3]);
        // A window that is too long is cut to seven days: the exchange would refuse it.
        let window = TradesFrom::Window { from_ms: 1_770_163_395_000, to_ms: u64::MAX };
        assert_eq!(ids(exchange.trades("ARBUSDT", window).await.unwrap()), [1, 2, 3]);
    });
}

#[test]
fn a_listen_key_is_opened_and_kept_alive_until_it_is_gone() {
    let server = ExchangeServer::start();
    let exchange = client(&server);
    within(async {
        let key = exchange.open_key().await.unwrap();
        exchange.keep_key(&key).await.unwrap();
        server.world().listen_keys.clear();
        let gone = exchange.keep_key(&key).await.unwrap_err();
        assert!(gone.is_no_key() && matches!(gone, CallError::Refused { code: -1125, .. }), "{gone}");
        assert!(!gone.to_string().contains(key.expose_secret()) && !format!("{key:?}").contains(key.expose_secret()));
    });
    let methods: Vec<String> = server.all_calls().into_iter().map(|call| call.method).collect();
    assert_eq!(methods, ["POST", "PUT", "PUT"]);
    assert!(server.all_calls().iter().all(|call| !call.has_signature), "a listen key needs the key only");
}

#[test]
fn an_ed25519_key_signs_for_a_server_that_verifies_with_its_public_half() {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a throwaway key");
    let server = with_positions();
    server.world().ed25519 = Some(pair.public_key_raw().to_vec());
    let pem = pair.serialize_pem();
    let bare: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    for (text, kind) in [(&*pem, KeyKind::Ed25519), (&*bare, KeyKind::Ed25519), (SECRET, KeyKind::Hmac)] {
        let settings = Settings { credentials: Some(credentials(KEY, text)), ..settings(&server) };
        let shown = format!("{settings:?}");
        let exchange = Exchange::new(settings).unwrap();
        assert_eq!(exchange.key_kind(), Some(kind));
        let answered = within(exchange.positions());
        match kind {
            KeyKind::Hmac => {
                let error = answered.unwrap_err();
                assert!(matches!(error, CallError::Refused { code: -1022, .. }), "{error}");
                assert!(error.to_string().ends_with("(signed as HMAC)"), "the kind is named: {error}");
            }
            _ => assert_eq!(open(&answered.unwrap()).len(), 2),
        }
        assert!(!shown.contains(&bare[16..]), "{shown}");
    }
}

#[test]
fn accounts_share_the_weight_of_the_address_and_not_their_refusals() {
    let server = with_positions();
    let other = ("22".to_owned() + &KEY[2..], "22".to_owned() + &SECRET[2..]);
    server.world().add_account(&other.0, &other.1);
    // The limit allows the two calls of the first account, and the clock.
    let first = Exchange::new(Settings { weight_per_min: 0, ..settings(&server) }).expect("a client");
    let second = first.for_account("main", Some(credentials(&other.0, &other.1)));
    let third = first.for_account("wrong", Some(credentials(&KEY.replace('d', "e"), SECRET)));
    within(async {
        assert_eq!(open(&first.positions().await.unwrap()).len(), 2);
        assert!(open(&second.positions().await.unwrap()).is_empty(), "another account");
        assert!(third.positions().await.unwrap_err().is_about_credentials());
        assert!(matches!(third.positions().await, Err(CallError::HeldOff { .. })), "not sent again");
        assert!(second.positions().await.is_ok(), "the refusal does not affect the others");
        assert_eq!((first.health().sent(), second.health().sent()), (5, 5), "one sum for the address");
        let mut last = Ok(());
        for _ in 0..30 {
            last = second.positions().await.map(drop);
        }
        assert!(matches!(last, Err(CallError::WeightSpent { .. })), "{last:?}");
        assert!(matches!(first.positions().await, Err(CallError::WeightSpent { .. })), "the limit is shared");
    });
}

#[test]
fn i66_hedge_mode_is_known_from_the_rows_or_from_the_answer_about_it() {
    let server = with_positions();
    let exchange = client(&server);
    within(async {
        let positions = exchange.positions().await.unwrap();
        assert_eq!(positions.mode(), Some(AccountMode::OneWay), "a quantity without a side");
        assert_eq!(exchange.account_mode().await.unwrap(), AccountMode::OneWay);
        server.world().set_side("ADAUSDT", "LONG", "4", "0.3");
        server.world().set_side("ADAUSDT", "SHORT", "-4", "0.31");
        let positions = exchange.positions().await.unwrap();
        let sides: Vec<&str> = positions.open().map(|row| row.position_side.as_str()).collect();
        assert_eq!((positions.mode(), sides), (Some(AccountMode::Hedge), vec!["LONG", "SHORT"]));
        server.world().sided.clear();
        assert_eq!(exchange.positions().await.unwrap().mode(), None, "without an open position the mode is unknown");
        assert_eq!(exchange.account_mode().await.unwrap(), AccountMode::Hedge);
    });
    assert_eq!(exchange.health().calls["positionSide_dual"].weight, 60);
}

// ---- clocks ---------------------------------------------------------------------------------------------------------

#[test]
fn timestamps_follow_a_server_whose_clock_drifts() {
    let server = with_positions();
    server.world().drift_ms = 3_600_000;
    let exchange = client(&server);
    within(async {
        exchange.positions().await.unwrap();
        let offset = exchange.health().clock_offset_ms.unwrap();
        assert!((3_590_000..=3_610_000).contains(&offset), "{offset}");
        server.world().drift_ms = -3_600_000;
        exchange.positions().await.unwrap();
    });
    let asked: Vec<(String, u16)> = server.all_calls().into_iter().map(|call| (call.path, call.status)).collect();
    let want = [(TIME, 200), (POSITIONS, 200), (POSITIONS, 400), (TIME, 200), (POSITIONS, 200)];
    assert_eq!(
        asked,
        want.map(|(path, status)| (path.to_owned(), status)),
        "refused once, the clock fetched, sent again"
    );
}

#[test]
fn a_timestamp_that_is_refused_again_is_not_sent_a_third_time() {
    let server = with_positions();
    let refused = || Fault::Status(400, vec![], r#"{"code":-1021,"msg":"Timestamp outside."}"#.to_owned());
    server.fail(POSITIONS, [refused(), refused(), refused()]);
    let error = within(client(&server).positions()).unwrap_err();
    assert!(matches!(error, CallError::Refused { code: -1021, status: 400, .. }), "{error}");
    assert_eq!(server.calls(POSITIONS).len(), 2);
}

// ---- failures -------------------------------------------------------------------------------------------------------

#[test]
fn i31_a_failed_call_is_an_error_and_not_an_empty_list() {
    let html = "<html><body>502 Bad Gateway</body></html>";
    let status =
        |status, body: &str| Fault::Status(status, vec![("content-type", "text/html".to_owned())], body.to_owned());
    for (fault, want) in [
        (status(502, html), "GET /fapi/v3/positionRisk: outcome unknown: status 502 with 41 bytes of text/html"),
        (
            Fault::Status(503, vec![], r#"{"code":-1001,"msg":"Internal error; unable to process"}"#.to_owned()),
            "outcome unknown: status 503, code -1001: Internal error; unable to process",
        ),
        (status(408, r#"{"code":-1007,"msg":"Timeout"}"#), "outcome unknown: status 408, code -1007: Timeout"),
        (status(404, html), "the answer (404) cannot be read: status 404 with 41 bytes of text/html"),
        (
            Fault::Status(302, vec![("location", "/fapi/v1/time".to_owned())], String::new()),
            "the answer (302) cannot be read",
        ),
        (Fault::Body(html.to_owned()), "the answer (200) cannot be read"),
        (Fault::Body("{}".to_owned()), "the answer (200) cannot be read"),
        (Fault::Body(String::new()), "the answer (200) cannot be read"),
        (Fault::Body(r#"{"code":-1000,"msg":"An unknown error"}"#.to_owned()), "the answer (200) cannot be read"),
        (
            Fault::Body(r#"[{"symbol":"ADAUSDT"}]"#.to_owned()),
            "the answer (200) cannot be read: missing field `positionAmt`",
        ),
        (
            Fault::Body(r#"[{"symbol":"A","positionAmt":"1"},{"symbol":"B","positionAmt":"x"}]"#.to_owned()),
            "the answer (200) cannot be read: \"x\" is no number",
        ),
        (Fault::Body(r#"[{"symbol":"A","positionAmt":1.5}]"#.to_owned()), "the answer (200) cannot be read"),
        (Fault::Halved, "the answer (200) cannot be read: EOF"),
        (Fault::BreaksOff, "outcome unknown: "),
        (Fault::Silent, "outcome unknown: no answer in time"),
    ] {
        let server = with_positions();
        let timeout_ms = if matches!(fault, Fault::Silent) { 300 } else { 10_000 };
        let exchange = Exchange::new(Settings { timeout_ms, ..settings(&server) }).unwrap();
        server.fail(POSITIONS, [fault.clone()]);
        within(async {
            let error = exchange.positions().await.unwrap_err();
            assert!(error.to_string().contains(want), "{fault:?}: {error}");
            assert!(error.to_string().starts_with("GET /fapi/v3/positionRisk: "), "{error}");
            assert_eq!(server.calls(POSITIONS).len(), 1, "never sent again by itself: {fault:?}");
            assert_eq!(exchange.health().failure, Some(error.to_string()));
            assert_eq!(exchange.health().calls["positionRisk_v3"].failed, 1);
            exchange.positions().await.unwrap();
            assert_eq!(exchange.health().failure, None);
        });
    }
}

#[test]
fn an_empty_list_of_a_version_that_lists_every_symbol_is_an_error() {
    let server = with_positions();
    let exchange = Exchange::new(Settings { position_version: "v2", ..settings(&server) }).unwrap();
    server.fail("/fapi/v2/positionRisk", [Fault::Body("[]".to_owned())]);
    let error = within(exchange.positions()).unwrap_err();
    assert!(error.to_string().contains("v2 lists every symbol"), "{error}");
}

#[test]
fn i03_an_unreadable_price_is_left_out_and_never_0() {
    let server = with_positions();
    let body = r#"[{"symbol":"ADAUSDT","markPrice":"0.00000000","time":1},{"symbol":"NEARUSDT","markPrice":"1.51","time":2},
        {"symbol":"ARCUSDT","time":3}]"#;
    server.fail(PRICES, [Fault::Body(body.to_owned())]);
    let prices = within(client(&server).marks(None)).unwrap();
    let shown: Vec<(String, String)> = prices.into_iter().map(|row| (row.symbol, row.mark_price.to_string())).collect();
    assert_eq!(shown, [("NEARUSDT".to_owned(), "1.51".to_owned())]);
}

#[test]
fn an_absent_server_is_unreachable_and_nothing_was_sent() {
    let server = with_positions();
    let settings = settings(&server);
    drop(server);
    let error = within(Exchange::new(settings).unwrap().marks(None)).unwrap_err();
    assert!(matches!(error, CallError::Unreachable { .. }) && error.is_unreachable(), "{error}");
}

// ---- limits ---------------------------------------------------------------------------------------------------------

#[test]
fn i46_a_wait_is_kept_and_outlives_the_process() {
    let html = || "<html>blocked</html>".to_owned();
    let banned = r#"{"code":-1003,"msg":"Way too many requests; IP banned until 99770163395196."}"#;
    for (fault, status, wait_ms) in [
        (Fault::Status(429, vec![("retry-after", "40".to_owned())], String::new()), 429, 40_000),
        (Fault::Status(429, vec![], r#"{"code":-1003,"msg":"Too many requests"}"#.to_owned()), 429, 60_000),
        (Fault::Status(418, vec![("retry-after", "4500".to_owned())], banned.to_owned()), 418, 4_500_000),
        (Fault::Status(418, vec![], html()), 418, 120_000),
        (Fault::Status(403, vec![], html()), 403, 300_000),
        (Fault::Status(400, vec![], r#"{"code":-1003,"msg":"Too many requests"}"#.to_owned()), 400, 60_000),
    ] {
        let server = with_positions();
        let folder = tempfile::tempdir().unwrap();
        let with_memory = || Settings { state_file: Some(folder.path().join("exchange")), ..settings(&server) };
        let exchange = Exchange::new(with_memory()).unwrap();
        server.fail(PRICES, [fault.clone()]);
        within(async {
            let told = exchange.marks(None).await.unwrap_err();
            assert_eq!(told.wait_ms(), Some(wait_ms), "{fault:?}: {told}");
            assert!(told.was_sent());
            // A restart and a process beside this one keep the wait as well.
            for asking in [exchange.clone(), Exchange::new(with_memory()).unwrap()] {
                let kept = asking.positions().await.unwrap_err();
                assert!(matches!(kept, CallError::Waiting { status: s, .. } if s == status), "{fault:?}: {kept}");
                assert!(!kept.was_sent() && kept.wait_ms().is_some_and(|ms| ms <= wait_ms && ms + 60_000 > wait_ms));
                assert_eq!(asking.health().waiting.map(|(status, _)| status), Some(status));
            }
            assert_eq!(server.all_calls().len(), 1, "nothing was sent during the ban");
            Exchange::new(settings(&server)).unwrap().marks(None).await.expect("a client without the file may send");
        });
    }
}

#[test]
fn i46_a_server_that_bans_clients_that_ignore_a_wait_never_bans_us() {
    let server = with_positions();
    server.world().weight_limit = 35;
    let exchange = client(&server);
    within(async {
        for _ in 0..3 {
            exchange.marks(None).await.unwrap();
        }
        let told = exchange.marks(None).await.unwrap_err();
        assert!(matches!(told, CallError::TooMany { status: 429, wait_ms: 30_000, .. }), "{told}");
        for _ in 0..50 {
            assert!(!exchange.marks(None).await.unwrap_err().was_sent());
        }
    });
    assert_eq!(server.all_calls().len(), 4);
    assert_eq!(server.all_calls().iter().filter(|call| call.status == 418).count(), 0);
    assert_eq!(exchange.health().calls["premiumIndex"].held_back, 50);
}

#[test]
fn i46_the_weight_that_others_use_of_the_address_counts() {
    let server = with_positions();
    server.world().used_weight = 2_150;
    let exchange = client(&server);
    within(async {
        exchange.marks(None).await.unwrap();
        let spent = exchange.marks(None).await.unwrap_err();
        assert!(matches!(spent, CallError::WeightSpent { .. }), "{spent}");
        assert!(spent.wait_ms().is_some_and(|ms| (1..=60_000).contains(&ms)) && !spent.is_unreachable());
    });
    assert_eq!((server.all_calls().len(), exchange.health().used_weight), (1, Some(2_160)));
}

#[test]
fn failures_in_a_row_open_the_circuit_and_a_trial_closes_it() {
    let server = with_positions();
    server.world().always = Some(Fault::Status(500, vec![], String::new()));
    let settings = Settings { circuit_failures: 3, circuit_open_ms: 200, ..settings(&server) };
    let exchange = Exchange::new(settings).unwrap();
    within(async {
        for _ in 0..3 {
            assert!(matches!(exchange.marks(None).await, Err(CallError::OutcomeUnknown { .. })));
        }
        assert!(matches!(exchange.health().circuit, CircuitState::Open { .. } | CircuitState::HalfOpen));
        assert_eq!(exchange.health().failures, 3);
        server.world().always = None;
        let began = Instant::now();
        let mut held_back = 0;
        while let Err(error) = exchange.marks(None).await {
            assert!(matches!(error, CallError::CircuitOpen { failures: 3, .. }), "{error}");
            assert!(began.elapsed() < Duration::from_secs(20), "the circuit stays open");
            held_back += 1;
            tokio::task::yield_now().await;
        }
        assert!(held_back >= 1, "no call was held back");
        assert_eq!(exchange.health().circuit, CircuitState::Closed);
        assert_eq!(server.all_calls().len(), 4, "three failures and the trial");
    });
}

#[test]
fn i46_a_refused_key_is_tried_again_after_minutes_and_not_at_each_tick() {
    let server = with_positions();
    let refused =
        || Fault::Status(401, vec![], r#"{"code":-2015,"msg":"Invalid API-key, IP, or permissions."}"#.to_owned());
    server.fail(POSITIONS, [refused()]);
    let exchange = client(&server);
    within(async {
        let first = exchange.positions().await.unwrap_err();
        assert!(matches!(first, CallError::Refused { code: -2015, .. }) && first.is_about_credentials(), "{first}");
        for _ in 0..3 {
            let held = exchange.positions().await.unwrap_err();
            assert!(matches!(held, CallError::HeldOff { code: -2015, .. }) && held.is_about_credentials(), "{held}");
            assert!(held.wait_ms().is_some_and(|ms| (240_000..=300_000).contains(&ms)), "{held}");
            assert!(!held.was_sent() && held.to_string().contains("asked again in 300 s"), "{held}");
        }
        // Another call may have another permission, and public calls need none.
        exchange.trades("ADAUSDT", TradesFrom::Id(1)).await.unwrap();
        exchange.marks(None).await.unwrap();
    });
    assert_eq!(server.calls(POSITIONS).len(), 1);
    // After the wait, the client tries the key again.
    let server = with_positions();
    server.fail(POSITIONS, [refused()]);
    let exchange = Exchange::new(Settings { refused_wait_ms: 1, ..settings(&server) }).unwrap();
    within(async {
        exchange.positions().await.unwrap_err();
        let began = Instant::now();
        while let Err(held) = exchange.positions().await {
            assert!(matches!(held, CallError::HeldOff { code: -2015, .. }), "{held}");
            assert!(began.elapsed() < Duration::from_secs(20), "the key is not tried again");
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(server.calls(POSITIONS).len(), 2);
}

#[test]
fn i46_a_restricted_location_is_tried_again_after_minutes() {
    let server = with_positions();
    let words = r#"{"code":0,"msg":"Service unavailable from a restricted location"}"#.to_owned();
    server.fail(POSITIONS, [Fault::Status(451, vec![], words)]);
    let exchange = client(&server);
    within(async {
        let first = exchange.positions().await.unwrap_err();
        assert!(matches!(first, CallError::Banned { status: 451, wait_ms: 300_000, .. }), "{first}");
        for _ in 0..3 {
            let held = exchange.marks(None).await.unwrap_err();
            assert!(matches!(held, CallError::Waiting { status: 451, .. }), "{held}");
        }
    });
    assert_eq!(server.all_calls().len(), 2, "the clock, and one call");
}

#[test]
fn i68_endless_pages_and_absurd_numbers_end_no_process() {
    let server = with_positions();
    let row = |id: &str| {
        format!(
            r#"{{"symbol":"ADAUSDT","id":{id},"orderId":1,"side":"BUY","price":"1","qty":"1","time":18446744073709551615}}"#
        )
    };
    let page = |id: &str| format!("[{}]", vec![row(id); 1_000].join(","));
    for (body, want) in [
        (page("7"), "trade 7 of ADAUSDT among those from 8 on"),
        (page("18446744073709551615"), "18446744073709551615 is no id"),
        ("[".repeat(1 << 20), "cannot be read: it nests deeper than 64"),
    ] {
        server.fail("/fapi/v1/userTrades", [Fault::Body(body)]);
        let error = within(client(&server).trades("ADAUSDT", TradesFrom::Id(8))).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
    }
    server.fail(TIME, [Fault::Body(r#"{"serverTime":18446744073709551615}"#.to_owned())]);
    let error = within(client(&server).positions()).unwrap_err();
    assert!(error.to_string().contains("is no time"), "{error}");
    let wait = ("retry-after", u64::MAX.to_string());
    server.fail(PRICES, [Fault::Status(429, vec![wait], String::new())]);
    let error = within(client(&server).marks(None)).unwrap_err();
    assert!(matches!(error, CallError::TooMany { .. }), "{error}");
}

// ---- secrets and addresses -----------------------------------------------------------------------------------------

#[test]
fn i44_refused_or_missing_credentials_are_named() {
    let server = with_positions();
    let without = Exchange::new(Settings { credentials: None, ..settings(&server) }).unwrap();
    let other = credentials(&KEY.replace('d', "e"), SECRET);
    let wrong_key = Exchange::new(Settings { credentials: Some(other), ..settings(&server) }).unwrap();
    let other = credentials(KEY, &SECRET.replace('2', "3"));
    let wrong_secret = Exchange::new(Settings { credentials: Some(other), ..settings(&server) }).unwrap();
    within(async {
        let error = without.positions().await.unwrap_err();
        assert_eq!(error.to_string(), "GET /fapi/v3/positionRisk: no credentials");
        assert!(error.is_about_credentials() && server.all_calls().is_empty(), "nothing was sent");
        without.marks(None).await.expect("public calls work");
        for (exchange, code) in [(wrong_key, -2015), (wrong_secret, -1022)] {
            let error = exchange.positions().await.unwrap_err();
            assert!(matches!(error, CallError::Refused { code: c, .. } if c == code), "{error}");
            assert!(error.is_about_credentials());
            assert_eq!(exchange.health().circuit, CircuitState::Closed, "the server answers");
        }
    });
}

/// All log lines, of every level.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn no_error_no_log_and_no_debug_output_contains_a_secret() {
    let server = with_positions();
    let echo = format!(r#"{{"code":-2015,"msg":"Invalid API-key {KEY} with {SECRET}."}}"#);
    server.fail(
        POSITIONS,
        [
            Fault::Status(400, vec![], echo.replace("-2015", "-1100")),
            Fault::Status(500, vec![], echo.clone()),
            Fault::Body(format!("[{{\"symbol\":\"A\",\"positionAmt\":\"{KEY}\"}}]")),
            Fault::Status(400, vec![], r#"{"code":-1021,"msg":"late"}"#.to_owned()),
            Fault::BreaksOff,
            Fault::Silent,
        ],
    );
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("exchange");
    let settings = Settings { timeout_ms: 300, state_file: Some(memory.clone()), ..settings(&server) };
    let mut shown = format!("{settings:?}");
    let exchange = Exchange::new(settings).unwrap();
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        within(async {
            for _ in 0..5 {
                let error = exchange.positions().await.unwrap_err();
                shown.push_str(&format!("{error} {error:?} {:?}\n", exchange.health()));
            }
            server.fail(POSITIONS, [Fault::Status(418, vec![], echo)]);
            // The circuit is open by now; a new client has its own.
        });
    });
    shown.push_str(&String::from_utf8(logged.0.lock().unwrap().clone()).unwrap());
    assert!(shown.contains("the server refuses our timestamp"), "there are logs: {shown}");
    for secret in [KEY, SECRET, "signature=", &KEY[..16], &SECRET[..16]] {
        assert!(!shown.contains(secret), "{secret} is in {shown}");
    }
}

#[test]
fn a_secure_server_is_trusted_by_its_authority_only() {
    let server = ExchangeServer::start_secure();
    server.world().set_price("ADAUSDT", "0.301");
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    server.write_ca(&ca_file);
    let with = |ca_file: Option<&Path>| Settings { ca_file: ca_file.map(Path::to_owned), ..settings(&server) };
    within(async {
        let exchange = Exchange::new(with(Some(&ca_file))).unwrap();
        assert_eq!(exchange.marks(None).await.unwrap().len(), 1);
        exchange.positions().await.unwrap();
        match Exchange::new(with(None)) {
            // A system without certificates returns this error.
            Err(error) => assert!(error.to_string().contains("no certificates"), "{error}"),
            Ok(exchange) => {
                let error = exchange.marks(None).await.unwrap_err();
                assert!(
                    matches!(&error, CallError::Unreachable { what, .. } if what.contains("certificate")),
                    "{error}"
                );
            }
        }
    });
    assert_eq!(server.calls(PRICES).len(), 1, "nothing was sent to an untrusted server");
    std::fs::write(&ca_file, "no certificate").unwrap();
    let error = Exchange::new(with(Some(&ca_file))).err().expect("a file without a certificate").to_string();
    assert!(error.contains("ca.pem") && error.contains("no certificate"), "{error}");
}

#[test]
fn the_key_is_sent_to_no_plain_or_foreign_address() {
    for base_url in [
        "http://fapi.binance.com",
        "http://127.0.0.1.example.com",
        "ftp://127.0.0.1",
        "https://user:word@fapi.binance.com",
        "https://fapi.binance.com/?x=1",
        "fapi.binance.com",
        "",
    ] {
        let settings = Settings { credentials: Some(credentials(KEY, SECRET)), ..Settings::new(VENUES[0], base_url) };
        let error = Exchange::new(settings).err().unwrap_or_else(|| panic!("{base_url} was accepted"));
        assert!(error.to_string().contains("is no address"), "{error}");
    }
    let server = with_positions();
    let moved = Fault::Status(307, vec![("location", format!("{}/fapi/v1/time", server.url()))], String::new());
    server.fail(PRICES, [moved]);
    assert!(within(client(&server).marks(None)).is_err());
    assert_eq!(server.all_calls().len(), 1, "a redirect is not followed");
}
