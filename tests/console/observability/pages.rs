//! The pages over real HTTP, and the commands that read them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use crossbeam_channel::{Sender, bounded};
use harvester::cli::positions::Sheet;
use harvester::cli::replay::Request;
use harvester::drive::projection;
use harvester::service::pages::{QUESTIONS_WAITING, Question, site};
use harvester::service::report::{Report, SharedReport};
use harvester::shell::web::WebServer;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::well;
use crate::night;
use crate::support::binary::{Ran, name, run_with};
use crate::support::{config, replayed};

/// Pages of a report, served on a free port until this is dropped.
struct Served {
    runtime: Runtime,
    server: Option<WebServer>,
    shared: SharedReport,
}

impl Served {
    fn new(report: Report, questions: Option<Sender<Question>>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let shared = SharedReport::new(report);
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = runtime.block_on(WebServer::start(free, site(&shared, questions))).expect("it listens");
        assert!(!server.is_exposed());
        Self { runtime, server: Some(server), shared }
    }

    /// Serves the pages of a store. Another thread answers their questions, as the fold does.
    fn of_store(store: &Path) -> Self {
        let (ask, asked) = bounded(QUESTIONS_WAITING);
        let (engine, rows) = projection::read(store).expect("the store reads");
        std::thread::spawn(move || {
            while let Ok(Question::Positions { symbol, all, answer }) = asked.recv() {
                let sheet = Sheet::of(&engine, &rows, symbol.as_deref(), all).expect("the store reads");
                let _ = answer.send(sheet);
            }
        });
        Self::new(well(), Some(ask))
    }

    fn address(&self) -> SocketAddr {
        self.server.as_ref().expect("it runs").address()
    }

    fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Returns status, head and body of a page.
    fn get(&self, path: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address()).expect("it answers");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the answer is text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, head.to_lowercase(), body.to_owned())
    }

    fn json(&self, path: &str) -> (u16, Value) {
        let (status, head, body) = self.get(path);
        assert!(head.contains("content-type: application/json"), "{head}");
        (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
    }
}

/// Writes the store of the night of the incident, in which ADAUSDT closes afterwards: the exchange states twice that
/// it is flat.
fn incident_store(folder: &Path) -> std::path::PathBuf {
    let store = folder.join("store");
    let flat = r#"{\"symbol\":\"ADAUSDT\",\"positionAmt\":\"0\",\"entryPrice\":\"0\"}"#;
    let line = |id: u64| {
        format!(
            r#"{{"stream":"quantum:stream:harvest.observation","id":"{id}-0","fields":{{"event_type":"exchange.position","payload":"{flat}"}}}}"#
        )
    };
    let closing = folder.join("closing.jsonl");
    // 02:12:00 and 02:13:10: more than the grace period lies between them.
    std::fs::write(&closing, format!("{}\n{}\n", line(1_770_171_120_000), line(1_770_171_190_000))).expect("written");
    let request = Request { histories: vec![night(), closing], store: Some(store.clone()), ..Request::default() };
    replayed(&request, &config(None));
    store
}

#[test]
fn probes_return_a_status_and_named_reasons() {
    let served = Served::new(well(), None);
    served.shared.publish(|_| {});
    assert_eq!(served.json("/healthz"), (200, serde_json::json!({"status": "ok", "reasons": []})));
    assert_eq!(served.json("/readyz").0, 200);
    served.shared.publish(|report| report.positions.gap_open = 1);
    let (status, body) = served.json("/readyz");
    assert_eq!((status, &body["status"], &body["reasons"][0]["name"]), (503, &"failing".into(), &"gap_open".into()));
    assert_eq!(served.json("/healthz").0, 200, "a gap is not a reason for a restart");
    assert_eq!(served.get("/nothing").0, 404);
    assert_eq!(served.get("/positions").0, 404, "without a fold there are no positions");
}

#[test]
fn status_prints_the_concerns_and_its_exit_code_agrees() {
    let served = Served::new(well(), None);
    served.shared.publish(|_| {});
    let ask = |arguments: &[&str]| -> Ran {
        let url = served.url();
        run_with(&[&["status", "--url", &url], arguments].concat())
    };
    let ran = ask(&[]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.log);
    for expected in
        ["leader", "Nothing needs anyone.", "44 open, 43 evaluable, 1 lack entry_price", "token 3", "apply.result"]
    {
        assert!(ran.out.contains(expected), "{expected:?} is missing:\n{}", ran.out);
    }
    assert!(!ran.out.contains('\x1b'), "no colour without a terminal");
    served.shared.publish(|report| {
        report.killed = true;
        report.inputs[1].age_ms = Some(95_000);
    });
    let ran = ask(&[]);
    assert_eq!(ran.code, Some(1), "{}", ran.log);
    for expected in ["Needs someone:", "killed", "input_silent", "KILLED"] {
        assert!(ran.out.contains(expected), "{expected:?} is missing:\n{}", ran.out);
    }
    let ran = ask(&["--json"]);
    assert_eq!(ran.code, Some(1));
    let document: Value = serde_json::from_str(&ran.out).expect("one document");
    let names: Vec<&str> =
        document["concerns"].as_array().expect("a list").iter().filter_map(|c| c["name"].as_str()).collect();
    assert_eq!(names, ["killed", "input_silent"]);
    assert_eq!((&document["role"], &document["killed"]), (&"leader".into(), &true.into()));
}

#[test]
fn an_absent_service_is_exit_code_3_and_a_missing_address_is_2() {
    let served = Served::new(well(), None);
    let url = served.url();
    drop(served);
    for command in ["status", "positions"] {
        let ran = run_with(&[command, "--url", &url]);
        assert_eq!(ran.code, Some(3), "{command}: {}", ran.log);
        assert!(ran.log.contains("cannot be reached"), "{}", ran.log);
        run_with(&[command, "--url", "not an address"]).refused(&["not an address"]);
    }
}

#[test]
fn positions_of_a_service_and_of_its_store_are_printed_alike() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = incident_store(folder.path());
    let views: [&[&str]; 8] = [
        &[],
        &["ADAUSDT"],
        &["--json"],
        &["--all"],
        &["--all", "--json"],
        &["arcusdt"],
        &["ARCUSDT", "--json"],
        &["DOGEUSDT", "--all", "--json"],
    ];
    let of_store: Vec<Ran> =
        views.iter().map(|view| run_with(&[&["positions", "--store", name(&store)], *view].concat())).collect();
    let served = Served::of_store(&store);
    let url = served.url();
    for (view, of_store) in views.iter().zip(of_store) {
        let of_service = run_with(&[&["positions", "--url", &url], *view].concat());
        assert_eq!((of_store.code, of_service.code), (Some(0), Some(0)), "{view:?}: {}", of_service.log);
        assert!(of_store.out.len() > 100, "{view:?}: {}", of_store.out);
        assert_eq!(of_service.out, of_store.out, "{view:?}");
        if view.contains(&"--all") && !view.contains(&"DOGEUSDT") {
            assert!(of_service.out.contains("ADAUSDT"), "{view:?}: the closed position is shown");
        }
    }
    run_with(&["positions", "--url", &url, "NOSUCHUSDT"]).refused(&["NOSUCHUSDT"]);
    run_with(&["positions", "--url", &url, "--store", name(&store)]).refused_usage();
}

#[test]
fn positions_are_a_list_on_their_page() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let served = Served::of_store(&incident_store(folder.path()));
    let (status, all) = served.json("/positions");
    assert_eq!((status, all.as_array().map(Vec::len)), (200, Some(43)));
    let (status, one) = served.json("/positions/arcusdt");
    assert_eq!((status, one.as_array().map(Vec::len)), (200, Some(1)));
    assert_eq!(one[0], *all.as_array().expect("a list").iter().find(|p| p["symbol"] == "ARCUSDT").expect("ARCUSDT"));
    let (status, none) = served.json("/positions/%C3%84USDT");
    assert_eq!((status, &none["error"]), (404, &"no_such_symbol".into()));
    assert_eq!(none["says"], "no symbol ÄUSDT was ever seen");
}

#[test]
fn a_service_whose_fold_takes_no_questions_names_that_in_its_refusal() {
    let (ask, asked) = bounded(1);
    let served = Served::new(well(), Some(ask));
    drop(asked);
    let (status, body) = served.json("/positions");
    assert_eq!((status, &body["error"]), (503, &"busy".into()));
    let ran = run_with(&["positions", "--url", &served.url()]);
    assert_eq!(ran.code, Some(3), "the service runs, but takes no questions: {}", ran.log);
}

/// A client that never ends its request must not keep the service from stopping.
#[test]
fn a_stop_does_not_wait_for_clients() {
    let mut served = Served::new(well(), None);
    let address = served.address();
    let mut half = TcpStream::connect(address).expect("it answers");
    half.write_all(b"GET /status HTTP/1.1\r\nhost").expect("it reads");
    // The answer to a second request shows that the server has accepted the first connection.
    assert_eq!(served.get("/status").0, 200);
    let server = served.server.take().expect("it runs");
    served.runtime.block_on(server.stop());
    assert!(TcpStream::connect(address).is_err(), "the port is closed");
}
