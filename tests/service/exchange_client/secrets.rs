//! Credentials and secrets of the client, and the addresses that it trusts.

use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::{POSITIONS, PRICES, client, credentials, settings, with_positions, within};
use crate::support::exchange::{ExchangeServer, Fault, KEY, SECRET};
use harvester::codec::exchange::VENUES;
use harvester::shell::exchange::{CallError, CircuitState, Exchange, Settings};

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
        assert_eq!(error.to_string(), "GET /fapi/v3/positionRisk: no credentials: set key and secret of the account");
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
        assert!(error.to_string().contains("is not the address"), "{error}");
    }
    let server = with_positions();
    let moved = Fault::Status(307, vec![("location", format!("{}/fapi/v1/time", server.url()))], String::new());
    server.fail(PRICES, [moved]);
    assert!(within(client(&server).marks(None)).is_err());
    assert_eq!(server.all_calls().len(), 1, "a redirect is not followed");
}
