//! Waits, bans, weights and the circuit of the client.

use std::time::{Duration, Instant};

use super::{POSITIONS, PRICES, TIME, client, settings, with_positions, within};
use crate::support::exchange::Fault;
use harvester::codec::exchange::TradesFrom;
use harvester::shell::exchange::{CallError, CircuitState, Exchange, Settings};

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
            let asked_to_wait = exchange.marks(None).await.unwrap_err();
            assert_eq!(asked_to_wait.wait_ms(), Some(wait_ms), "{fault:?}: {asked_to_wait}");
            assert!(asked_to_wait.was_sent());
            // A restart and a process beside this one keep the wait as well.
            for asking in [exchange.clone(), Exchange::new(with_memory()).unwrap()] {
                let kept = asking.positions().await.unwrap_err();
                assert!(matches!(kept, CallError::Waiting { status: s, .. } if s == status), "{fault:?}: {kept}");
                assert!(!kept.was_sent() && kept.wait_ms().is_some_and(|ms| ms <= wait_ms && ms + 60_000 > wait_ms));
                assert_eq!(asking.health().waiting.map(|(status, _)| status), Some(status));
            }
            assert_eq!(server.all_calls().len(), 1, "nothing was sent during the ban");
            // The clients of a process share the wait. A process without the file does not know it.
            drop(exchange);
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
        let asked_to_wait = exchange.marks(None).await.unwrap_err();
        assert!(matches!(asked_to_wait, CallError::TooMany { status: 429, wait_ms: 30_000, .. }), "{asked_to_wait}");
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
        (page("18446744073709551615"), "18446744073709551615 is not an id"),
        ("[".repeat(1 << 20), "cannot be read: it nests deeper than 64"),
    ] {
        server.fail("/fapi/v1/userTrades", [Fault::Body(body)]);
        let error = within(client(&server).trades("ADAUSDT", TradesFrom::Id(8))).unwrap_err();
        assert!(error.to_string().contains(want), "{error}");
    }
    server.fail(TIME, [Fault::Body(r#"{"serverTime":18446744073709551615}"#.to_owned())]);
    let error = within(client(&server).positions()).unwrap_err();
    assert!(error.to_string().contains("is not a time"), "{error}");
    let wait = ("retry-after", u64::MAX.to_string());
    server.fail(PRICES, [Fault::Status(429, vec![wait], String::new())]);
    let error = within(client(&server).marks(None)).unwrap_err();
    assert!(matches!(error, CallError::TooMany { .. }), "{error}");
}
