//! The pages, the log and the service manager of a running service, with a real server and a real process.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::binary::{Ran, harvester, name, run, run_with};
use crate::support::contract::expect_valid;
use crate::support::redis::{RedisServer, free_port};
use crate::support::root;
use harvester::service::report::{Report, Role};
use harvester::shell::web::{Page, Site, WebServer};
use serde_json::Value;

const TICK: &str = "quantum:stream:market.tick";
const RESULT: &str = "quantum:stream:apply.result";

/// Longest time that a test waits for an effect.
const LIMIT: Duration = Duration::from_secs(60);

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LIMIT, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A running service, killed with the test.
struct Service {
    child: Child,
    folder: tempfile::TempDir,
    address: SocketAddr,
}

impl Service {
    fn start(server: &RedisServer, settings: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let file = folder.path().join("harvester.toml");
        std::fs::write(&file, settings).expect("the settings are written");
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let child = harvester()
            .args(["run", "--config", name(&file), "--redis", &server.url(), "--consumer", "one"])
            .args(["--store", name(&folder.path().join("store")), "--journal", name(&folder.path().join("journal"))])
            .args(["--listen", &address.to_string()])
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the service starts");
        Self { child, folder, address }
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("the log reads")
    }

    fn has_logged(&self, words: &[&str]) -> bool {
        self.log().lines().any(|line| words.iter().all(|word| line.contains(word)))
    }

    /// Returns status and body of a page; `None` while no server answers.
    fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    fn report(&self) -> Value {
        let answered = self.get("/status").filter(|(status, _)| *status == 200);
        answered.map_or(Value::Null, |(_, body)| serde_json::from_str(&body).expect("a report is JSON"))
    }

    /// Waits until the report meets a condition.
    fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        until(&format!("{what}: {}\n{}", self.report(), self.log()), || is_so(&self.report()));
    }

    /// Waits until all entries are consumed and acknowledged, and all decisions sent.
    fn until_settled(&self, applied: u64) {
        self.until("all is consumed", |report| {
            let input_is_done = |input: &Value| input["lag_entries"] == 0 && input["pending"] == 0;
            report["role"] == "leader"
                && report["totals"]["applied"].as_u64() >= Some(applied)
                && report["outbox"]["waiting"] == 0
                && report["policy"]["pending"] == false
                && report["inputs"].as_array().is_some_and(|inputs| inputs.iter().all(input_is_done))
        });
    }

    fn ask(&self, arguments: &[&str]) -> Ran {
        let url = self.url();
        let (command, rest) = arguments.split_first().expect("a command");
        run_with(&[&[*command, "--url", &url], rest].concat())
    }

    /// Returns the names of the concerns, as `status --json` has them.
    fn concerns(&self) -> BTreeSet<String> {
        let ran = self.ask(&["status", "--json"]);
        let document: Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{}{}", ran.out, ran.log));
        expect_valid("status", "status.v1", &document);
        let concerns = document["concerns"].as_array().expect("a list");
        assert_eq!(ran.code, Some(i32::from(!concerns.is_empty())), "{}", ran.log);
        concerns.iter().filter_map(|concern| concern["name"].as_str().map(str::to_owned)).collect()
    }

    fn stop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the service is there");
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}: {}", self.log());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn pages_and_commands_agree_with_the_store_after_the_end() {
    let server = RedisServer::start();
    let history = root().join("replay/nights/incident-2026-02-04/events.jsonl");
    let imported = run_with(&["import", name(&history), "--redis", &server.url()]);
    assert_eq!(imported.code, Some(0), "{}", imported.log);
    let mut service = Service::start(&server, "[run]\nlease_ms = 2000\ntick_ms = 1000\n", &[]);
    service.until_settled(1235);

    assert_eq!(service.get("/healthz").map(|(status, _)| status), Some(200));
    until("it is ready", || service.get("/readyz").is_some_and(|(status, _)| status == 200));
    let (_, metrics) = service.get("/metrics").expect("metrics");
    for line in
        ["harvester_positions_open 44.0", "harvester_positions_evaluable 44.0", "harvester_role{role=\"leader\"} 1.0"]
    {
        assert!(metrics.lines().any(|of_page| of_page == line), "{line} is missing in\n{metrics}");
    }
    let decided = service.report()["totals"]["decided"].as_u64().expect("a count");
    assert!(decided >= 10, "{decided} decisions");
    for line in [
        format!("harvester_decided_total {decided}"),
        format!("harvester_emitted_total {decided}"),
        format!("harvester_emit_seconds_count {decided}"),
        format!("harvester_price_to_decision_seconds_count {decided}"),
    ] {
        assert!(metrics.lines().any(|of_page| of_page == line), "{line} is missing in\n{metrics}");
    }
    assert!(
        service.has_logged(&["HARVEST_START", "mode=shadow", "in_force=shadow/", "consumer=one"]),
        "{}",
        service.log()
    );
    until("a tick is logged", || service.has_logged(&["HARVEST_TICK", "scanned=44", "skipped_price=44"]));
    assert!(service.has_logged(&["HARVEST_EMIT", "symbol=NEARUSDT", "reduceOnly=true"]), "{}", service.log());
    // The night was months ago: all streams of then are silent, and the status names them.
    assert!(service.concerns().contains("input_silent"));
    until("it is logged", || service.has_logged(&["WARN", "INPUT_SILENT", TICK]));
    assert!(service.ask(&["status"]).out.contains("44 open, 44 evaluable"));

    // At one moment, all of them evaluate by the server's clock: the prices of that night are stale.
    assert_eq!(service.report()["positions"]["held"], serde_json::json!({"stale_price": 44}));
    let page: Value = serde_json::from_str(&service.get("/positions").expect("positions").1).expect("JSON");
    assert!(page.as_array().expect("a list").iter().all(|position| position["hold"] == "stale_price"), "{page:#}");
    let table = service.ask(&["positions"]);
    assert_eq!((table.code, table.out.matches(" stale_price ").count()), (Some(0), 44), "{}", table.out);
    let last = table.out.lines().last().expect("a last line");
    assert!(last.starts_with("as of ") && last.contains("; holds and ages at "), "{last}");
    let story = service.ask(&["positions", "ARCUSDT"]).out;
    assert!(story.contains("hold               stale_price\n") && story.contains("; holds and ages at "), "{story}");
    // The journal does not know that clock: its hold is that of the last price, and that of its own last entry.
    let journal = service.folder.path().join("journal");
    let explained = run_with(&["explain", "ARCUSDT", "--journal", name(&journal)]).out;
    let mut lines = explained.lines();
    assert_eq!(lines.next(), Some("ARCUSDT at 2026-02-04T02:10:58.600Z: not harvested: below_min_r"), "{explained}");
    assert!(lines.any(|line| line.starts_with("  At ") && line.ends_with("since: stale_price.")), "{explained}");
    let asked = run_with(&["explain", "ARCUSDT", "--journal", name(&journal), "--at", "2026-02-04T03:00:00Z"]).out;
    assert!(
        asked.contains("  At 2026-02-04T03:00:00.000Z, with no entry that evaluates it since: stale_price."),
        "{asked}"
    );

    let views: [&[&str]; 3] = [&["--json"], &["--all", "--json"], &["nearusdt", "--json"]];
    let running: Vec<Ran> = views.iter().map(|view| service.ask(&[&["positions"], *view].concat())).collect();
    assert_eq!(service.get("/positions/NOSUCHUSDT").map(|(status, _)| status), Some(404));
    // While the lease is renewed, all checks of the streams see them.
    until("some ticks are logged", || service.log().matches("HARVEST_TICK").count() >= 5);
    service.stop();
    assert!(!service.log().contains("INPUT_SILENT_OVER"), "{}", service.log());
    let store = service.store();
    for (view, running) in views.iter().zip(running) {
        let ended = run_with(&[&["positions", "--store", name(&store)], *view].concat());
        let (mut running, mut ended) = (running.json(), ended.json());
        let mut holds = BTreeSet::new();
        for (running, ended) in
            running.as_array_mut().into_iter().zip(ended.as_array_mut()).flat_map(|(a, b)| a.iter_mut().zip(b))
        {
            assert_eq!(running["hold"].take(), "stale_price", "{view:?}");
            holds.extend(ended["hold"].take().as_str().map(str::to_owned));
        }
        assert!(!holds.is_empty() && !holds.contains("stale_price"), "{view:?}: {holds:?}");
        assert_eq!(running, ended, "{view:?}: only the time of the holds differs");
    }
    let stats = run_with(&["stats", "--store", name(&store), "--json"]).json();
    // 02:07:05 to the last price of ARCUSDT, 02:10:50: 225 s. Then its feed is silent for months.
    assert_eq!(stats["symbols"]["ARCUSDT"]["below_min_r"]["ms"], 225_000, "{stats:#}");
    assert!(stats["symbols"]["ARCUSDT"]["not_evaluated"]["ms"].as_u64() > Some(86_400_000), "{stats:#}");
    assert_eq!(service.ask(&["status"]).code, Some(3), "the service has ended");
}

/// A command that names an unknown position, rung or symbol reports that it has no effect.
#[test]
fn control_reports_that_a_command_has_no_effect() {
    let server = RedisServer::start();
    let history = root().join("replay/nights/incident-2026-02-04/events.jsonl");
    assert_eq!(run_with(&["import", name(&history), "--redis", &server.url()]).code, Some(0));
    let service = Service::start(&server, "[run]\nlease_ms = 2000\n", &[]);
    service.until_settled(1235);
    let control = |arguments: &[&str]| {
        let url = service.url();
        let how = ["--reason", "r", "--redis", &server.url(), "--url", &url].map(str::to_owned);
        let how: Vec<&str> = how.iter().map(String::as_str).collect();
        run_with(&[&["control"], arguments, &how].concat())
    };
    let fill =
        "symbol SOLUSDT executed true side BUY executedQty 10 avgPrice 100 orderId 7 order_status FILLED account c";
    let added: Vec<&str> = ["XADD", RESULT, "*"].into_iter().chain(fill.split(' ')).collect();
    let of_account = format!("c/SOLUSDT@{}", server.cli(&added).trim());
    until("the fill is folded", || control(&["risk-accept", &of_account]).code == Some(0));
    until("its account is in the report", || control(&["kill", "on", "--account", "c"]).code == Some(0));
    let (near, absent) = ("NEARUSDT@1770170700000-7", "NEARUSDT@1770163205000-0");
    for (arguments, lacking) in [
        (
            &["risk-accept", absent][..],
            "knows no position NEARUSDT@1770163205000-0 (it knows NEARUSDT@1770170700000-7)",
        ),
        (&["rearm", absent, "0.5"], "knows no position NEARUSDT@1770163205000-0"),
        (&["rearm", "ARCUSDT@1770170700000-0", "0.5"], "no rung at 0.5 R of ARCUSDT@1770170700000-0 was ever taken"),
        (&["gap-accept", "NOSUCHUSDT"], "knows no symbol NOSUCHUSDT"),
        (&["kill", "on", "--account", "nosuch"], "has no open position of the account nosuch"),
    ] {
        let ran = control(arguments);
        assert_eq!(ran.code, Some(1), "{arguments:?}: {}{}", ran.out, ran.log);
        assert!(ran.out.contains(lacking) && ran.out.contains("no effect"), "{arguments:?}: {}", ran.out);
        assert!(!ran.out.contains("is traded live") && !ran.out.contains("taken again"), "{}", ran.out);
    }
    for arguments in [
        &["risk-accept", near][..],
        &["rearm", near, "0.5"],
        &["gap-accept", "NEARUSDT"],
        &["gap-accept"],
        &["gap-accept", "SOLUSDT", "--account", "c"],
    ] {
        let ran = control(arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}{}", ran.out, ran.log);
    }
    let written = control(&["risk-accept", absent, "--yes"]);
    assert!(written.code == Some(1) && written.out.contains("Written as "), "{}{}", written.out, written.log);
    until("the service names it", || service.has_logged(&["WARN", "UNKNOWN_POSITION", absent]));
    assert!(!service.has_logged(&["UNKNOWN_POSITION", near]));
}

/// Incident 43: a stream was silent for two and a half hours, and every unit was "active".
#[test]
fn i43_an_input_without_a_producer_is_named_and_so_is_its_return() {
    let server = RedisServer::start();
    let settings = "[run.silent_after_ms]\nprice = 3000\nresult = 0\nsnapshot = 0\n";
    let service = Service::start(&server, settings, &[]);
    let is_silent = |report: &Value| {
        let inputs = report["inputs"].as_array().into_iter().flatten();
        inputs.filter(|input| input["stream"] == TICK).any(|input| {
            input["age_ms"].as_u64() > input["silent_after_ms"].as_u64() && input["silent_after_ms"] == 3000
        })
    };
    for round in 0..2 {
        // Each check writes a price, as a feed does.
        until("prices are read", || {
            server.cli(&["XADD", TICK, "*", "symbol", "SOLUSDT", "price", "100"]);
            let report = service.report();
            report["totals"]["shapes"]["price"].is_object() && !is_silent(&report)
        });
        until("its return is logged", || {
            server.cli(&["XADD", TICK, "*", "symbol", "SOLUSDT", "price", "100"]);
            round == 0 || service.has_logged(&["INPUT_SILENT_OVER", TICK])
        });
        service.until("the input counts as silent", is_silent);
        until("it is logged", || service.log().matches(&format!("INPUT_SILENT stream={TICK}")).count() == round + 1);
        assert!(service.concerns().contains("input_silent"));
        let (_, metrics) = service.get("/metrics").expect("metrics");
        let silent = format!("harvester_input_silent{{stream=\"{TICK}\",kind=\"price\"}} 1.0");
        assert!(metrics.contains(&silent), "{metrics}");
    }
    assert_eq!(service.get("/healthz").map(|(status, _)| status), Some(200), "our own cursor has nothing to read");
}

#[test]
fn a_kill_switch_and_an_absent_server_are_reported() {
    let server = RedisServer::start();
    let settings = "[run.silent_after_ms]\nprice = 0\nresult = 0\nsnapshot = 0\n";
    let service = Service::start(&server, settings, &[]);
    service.until("it leads", |report| report["role"] == "leader");
    server.cli(&["SET", "quantum:kill", "1"]);
    service.until("it is killed", |report| report["killed"] == true);
    assert_eq!(service.concerns(), ["killed", "positions_unknown"].map(str::to_owned).into());
    until("it is logged", || service.has_logged(&["WARN", "KILLED"]));
    assert_eq!(
        service.get("/readyz").map(|(status, _)| status),
        Some(200),
        "the service reads, and emits nothing by design"
    );
    server.cli(&["SET", "quantum:kill", "0"]);
    service.until("it is no longer killed", |report| report["killed"] == false);
    until("that is logged as well", || service.has_logged(&["INFO", "KILLED_OVER"]));

    drop(server);
    service.until("the server is missed", |report| report["redis"]["connected"] == false);
    let (status, body) = service.get("/readyz").expect("the page answers");
    assert!(status == 503 && body.contains("\"not_connected\""), "{status} {body}");
    assert_eq!(service.get("/healthz").map(|(status, _)| status), Some(200), "a restart would not help");
    assert!(service.concerns().contains("not_connected"));
    assert!(service.report()["redis"]["last_error"].as_str().is_some_and(|error| error.contains("127.0.0.1")));
}

/// The messages of `sd_notify`, received by a socket as systemd has one.
#[test]
fn the_service_manager_is_notified_of_start_progress_and_end() {
    let server = RedisServer::start();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(LIMIT)).expect("a limit");
    let received = || {
        let mut message = [0; 4096];
        let length = socket.recv(&mut message).expect("a message of the service");
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let until_received = |what: &str| loop {
        let message = received();
        if message.lines().any(|line| line == what) {
            return message;
        }
    };
    let environment = [("NOTIFY_SOCKET", name(&path)), ("WATCHDOG_USEC", "1000000")];
    let mut service = Service::start(&server, "", &environment);
    let ready = until_received("READY=1");
    assert!(ready.contains("STATUS="), "{ready}");
    assert!(service.get("/healthz").is_some(), "a ready service answers");
    until_received("STATUS=leader");
    for _ in 0..3 {
        until_received("WATCHDOG=1");
    }
    service.stop();
    until_received("STOPPING=1");
}

#[test]
fn several_services_are_one_screen_the_most_urgent_first() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let serve = |report: Report| {
        let body = serde_json::to_string(&report).unwrap();
        let site = Site::default().page("/status", move |_| {
            let body = body.clone();
            async move { Page::json(200, body) }
        });
        let server = runtime.block_on(WebServer::start(SocketAddr::from(([127, 0, 0, 1], 0)), site)).unwrap();
        (format!("http://{}", server.address()), server)
    };
    let mut fine = Report { role: Role::Leader, ..Report::default() };
    fine.redis.connected = true;
    let (first, _first) = serve(fine.clone());
    let (killed, _killed) = serve(Report { killed: true, ..fine.clone() });
    let absent = format!("http://127.0.0.1:{}", free_port());
    let status = |urls: &[&str], json: bool| {
        let mut command = harvester();
        command.arg("status").args(urls.iter().flat_map(|url| ["--url", url]));
        command.args(json.then_some("--json"));
        run(&mut command)
    };
    let ran = status(&[&first, &first], true);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.log);
    let ran = status(&[&first, &killed, &absent], true);
    assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.log);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    let services = document["services"].as_array().unwrap();
    let states: Vec<(&str, &str)> =
        services.iter().map(|s| (s["url"].as_str().unwrap(), s["state"].as_str().unwrap())).collect();
    assert_eq!(states, [(&*absent, "unreachable"), (&*killed, "findings"), (&*first, "fine")]);
    assert_eq!(services[1]["concerns"][0]["name"], "killed");
    let ran = status(&[&first, &killed], false);
    assert!(ran.code == Some(1) && ran.out.contains("the kill switch is on"), "{}{}", ran.out, ran.log);
    assert!(ran.out.find(&killed) < ran.out.find(&first), "{}", ran.out);
    assert_eq!(status(&[&absent, &absent], true).code, Some(3), "no service answers");
}
