//! The client of the exchange with a fake server on loopback: its requests, the state that it keeps, and its results
//! for late, partial, refused and missing answers.

use crate::support::exchange::{ExchangeServer, Fault, KEY, SECRET};
use harvester::codec::exchange::{AccountMode, Credentials, Given, KeyKind, TradesFrom, VENUES};
use harvester::shell::exchange::{CallError, Exchange, Positions, Settings};
use secrecy::ExposeSecret as _;

mod limits;
mod secrets;

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
        let sides: Vec<&str> = positions.open().map(|row| row.position_side.name()).collect();
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
            "the answer (200) cannot be read: \"x\" is not a number",
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
