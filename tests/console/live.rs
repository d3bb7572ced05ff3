//! The console of a running service: a real server, a real process, its pages in a browser, and clients that follow
//! them.

mod followers;
mod hand;
mod journal;

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::browser::{Browser, LOW_CONTRAST, TOO_WIDE};
use crate::night;
use crate::support::binary::{name, run_with};
use crate::support::html::Document;
use crate::support::redis::{RedisServer, free_port};
use crate::support::service::{Place, RESULT, add, import, open_position, price, until, until_leader};

/// Cards whose table is wider than the card.
const WIDER_THAN_CARD: &str = "[...document.querySelectorAll('.columns > section')]
    .filter((card) => card.scrollWidth > card.clientWidth).map((card) => card.dataset.part)";

struct Url(String);

impl Url {
    /// Returns status, head and body of a page; `None` while no server answers.
    fn ask(&self, path: &str, headers: &str) -> Option<(u16, String, String)> {
        let mut stream = TcpStream::connect(&self.0).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, head.to_lowercase(), body.to_owned()))
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.ask(path, "").map_or((0, String::new()), |(status, _, body)| (status, body))
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path).1).unwrap_or(Value::Null)
    }

    /// Waits until the page is there: the first request makes the service read the journal.
    fn page(&self, path: &str) -> String {
        until(path, || self.get(path).0 == 200);
        self.get(path).1
    }
}

/// Returns a place with an address for its pages.
fn place(server: &RedisServer, settings: &str) -> (Place, Url) {
    let address = format!("127.0.0.1:{}", free_port());
    let mut place = Place::new(server);
    (place.listen, place.settings) = (address.clone(), settings.to_owned());
    (place, Url(address))
}

/// Waits until the service has folded so many entries and sent all decisions.
fn until_settled(url: &Url, applied: u64) {
    until("all is folded", || {
        let report = url.json("/status");
        let is_done = |input: &Value| input["lag_entries"] == 0;
        report["role"] == "leader"
            && report["totals"]["applied"].as_u64() >= Some(applied)
            && report["outbox"]["waiting"] == 0
            && report["policy"]["pending"] == false
            && report["inputs"].as_array().is_some_and(|inputs| inputs.iter().all(is_done))
    });
}

#[test]
fn the_pages_of_a_service_follow_it_in_a_browser() {
    let server = RedisServer::start();
    import(&night(), &server);
    let (place, url) = place(&server, "");
    let _service = place.start();
    until_settled(&url, 1235);
    // A name with markup: its entry is quarantined, and the page shows the name as it is written.
    add(&server, RESULT, &[("symbol", "<b>X</b>USDT"), ("side", "BUY"), ("status", "FILLED"), ("executedQty", "1")]);
    let now = Document::read(&url.page("/"));
    let service = now.all("section").find(|section| section.get("data-part") == "service").expect("the service");
    for text in ["leader", "held by this instance", "in force as configured", "connected"] {
        assert!(service.text.contains(text), "{text}: {}", service.text);
    }
    let Some(browser) = Browser::start() else { return };
    let home = format!("http://{}", url.0);
    let mut wrong: Vec<String> = Vec::new();
    for path in [
        "/",
        "/console/positions",
        "/console/position/ETHUSDT",
        "/console/decisions",
        "/console/streams",
        "/console/whatif",
        "/console/audit",
        "/?at=2026-02-04T02:08:00Z",
    ] {
        for (width, height) in [(390, 844), (1440, 900)] {
            for scheme in ["light", "dark"] {
                browser.size(width, height);
                browser.scheme(scheme);
                browser.go(&format!("{home}{path}"));
                browser.until(
                    "document.readyState === 'complete' && document.documentElement.classList.contains('scripted')",
                );
                for (what, script) in [("too wide", TOO_WIDE), ("hard to read", LOW_CONTRAST)] {
                    let found = browser.eval(script);
                    if found != json!([]) {
                        wrong.push(format!("{path} at {width} px, {scheme}: {what}: {found}"));
                    }
                }
                let others = "performance.getEntriesByType('resource').map((r) => r.name).filter((n) => !n.startsWith(location.origin))";
                assert_eq!(browser.eval(others), json!([]), "{path} loads from another host");
                assert_eq!(
                    browser.eval("[...document.querySelectorAll('b')].some((b) => b.textContent === 'X')"),
                    json!(false)
                );
                if path == "/" {
                    let over = browser.eval(WIDER_THAN_CARD);
                    assert_eq!(over, json!([]), "a card of {width} px is too small for its table");
                    browser.picture(&format!("service-{width}-{scheme}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    browser.go(&format!("{home}/console/streams"));
    browser.until("document.querySelector('main').textContent.includes('<b>X</b>USDT')");

    // New entries are shown in the open page.
    browser.go(&format!("{home}/"));
    browser.until("document.documentElement.classList.contains('live')");
    browser.eval("(() => { window.stayed = 1; })()");
    let open = "document.querySelector('.tiles b').textContent";
    let before = browser.eval(open);
    let before: u64 = before.as_str().and_then(|text| text.parse().ok()).expect("a number");
    assert!(before >= 44, "{before}");
    open_position(&server, "NEWUSDT");
    browser.until(&format!("{open} === '{}'", before + 1));
    assert_eq!(browser.eval("window.stayed"), json!(1), "the page was not loaded again");
    browser.go(&format!("{home}/console/positions?q=newusdt"));
    browser.until("document.documentElement.classList.contains('live')");
    browser.eval("(() => { window.stayed = 2; })()");
    price(&server, "NEWUSDT", "1.0037");
    browser.until("document.querySelector('main').textContent.includes('1.0037')");
    assert_eq!(browser.eval("window.stayed"), json!(2), "the page was not loaded again");
    // Nothing is replaced while a user types; the update comes afterwards.
    browser.eval("(() => { document.querySelector('.filter').focus(); })()");
    price(&server, "NEWUSDT", "1.0042");
    until_settled(&url, 1239);
    browser.eval("(() => { document.querySelector('.filter').blur(); })()");
    browser.until("document.querySelector('main').textContent.includes('1.0042')");
    let errors: Vec<Value> = browser.log().into_iter().filter(|line| line["level"] == "SEVERE").collect();
    assert!(errors.is_empty(), "{errors:?}");

    // A refusal ends an event source. The page asks again by itself.
    let refused = format!(
        "(() => {{ source.close(); source = null; const was = EventSource; let first = true;
        EventSource = function (url) {{ const to = first ? '{home}/console/nothing' : url; first = false; return new was(to); }};
        EventSource.CLOSED = was.CLOSED; document.documentElement.classList.remove('live'); follow(); }})()"
    );
    browser.eval(&refused);
    browser.until("document.documentElement.classList.contains('live')");
    price(&server, "NEWUSDT", "1.0051");
    browser.until("document.querySelector('main').textContent.includes('1.0051')");

    browser.command("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    browser.go(&format!("{home}/console/positions?q=newusdt"));
    browser.until("document.readyState === 'complete'");
    assert_eq!(browser.eval("document.documentElement.classList.contains('scripted')"), json!(false));
    assert_eq!(browser.eval("document.querySelectorAll('tbody tr').length"), json!(1));
}

#[test]
fn a_page_of_a_service_equals_the_page_of_its_journal() {
    let server = RedisServer::start();
    import(&night(), &server);
    let (place, url) = place(&server, "");
    let service = place.start();
    until_settled(&url, 1235);
    let known: BTreeSet<u16> =
        ["/metrics", "/status", "/healthz", "/positions"].iter().map(|path| url.get(path).0).collect();
    assert_eq!(known, BTreeSet::from([200]), "the plain pages stay");
    assert_eq!(url.get("/console/nothing").0, 404);
    let rows = |page: &str| Document::read(page).rows();
    let of_service: Vec<_> =
        ["/console/positions?at=2026-02-04T02:08:00Z", "/console/decisions"].map(|path| rows(&url.page(path))).into();
    assert_eq!(of_service[0].len(), 44, "{:?}", of_service[0].first());
    service.stop();
    let shown =
        run_with(&["positions", "--journal", name(&place.journal()), "--as-of", "2026-02-04T02:08:00Z", "--json"])
            .json();
    let shown = shown["positions"].as_array().or(shown.as_array()).expect("a list").clone();
    assert_eq!(shown.len(), 44);
    for position in shown {
        let symbol = position["symbol"].as_str().expect("a symbol");
        let hold = position["hold"].as_str().unwrap_or("nothing");
        let row = of_service[0].iter().find(|row| row[0].starts_with(symbol)).expect("its row");
        assert!(row.iter().any(|cell| cell == hold), "{symbol}: {hold} in {row:?}");
    }
}

/// The audit of a running service is that of its journal, which contains all decisions.
#[test]
fn the_audit_runs_in_the_service_and_finds_what_the_command_finds() {
    let server = RedisServer::start();
    import(&night(), &server);
    let (place, url) = place(&server, "");
    let service = place.start();
    until_settled(&url, 1235);
    let page = Document::read(&url.page("/console/audit"));
    let run = page.all("input").find(|field| field.get("name") == "run").expect("a button").get("value").to_owned();
    let path = format!("/console/audit?run={run}");
    until("the audit has ended", || Document::read(&url.page(&path)).all("pre").next().is_some());
    let page = Document::read(&url.page(&path));
    let of_page = page.with_class("report").next().expect("a report").text.clone();
    assert_eq!(url.json("/status")["role"], "leader", "the service continues");
    service.stop();
    let ran = run_with(&["audit", "--journal", name(&place.journal())]);
    let lines = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.trim().to_owned()).filter(|line| line.starts_with("matched")).collect()
    };
    assert_eq!(lines(&of_page), lines(&ran.out), "{of_page}\n{}", ran.out);
    assert!(of_page.contains("matched 10"), "{of_page}");
}

#[test]
fn on_an_address_that_other_machines_reach_the_console_needs_a_token_or_is_closed() {
    let server = RedisServer::start();
    let token = "a token of the test, long enough";
    let started = |settings: &str, environment: &[(&str, &str)]| {
        let port = free_port();
        let mut place = Place::new(&server);
        place.listen = format!("0.0.0.0:{port}");
        place.consumer = format!("of-{port}");
        settings.clone_into(&mut place.settings);
        place.environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        (place, Url(format!("127.0.0.1:{port}")))
    };

    let (place, url) = started("", &[]);
    let service = place.start();
    until_leader(&service);
    for path in ["/", "/console/positions", "/console/assets/console.js", "/console/live", "/nowhere"] {
        let (status, body) = url.get(path);
        assert_eq!(status, 403, "{path}");
        assert!(body.contains("HARVEST_CONSOLE_TOKEN") && body.lines().count() == 1, "{body}");
    }
    assert_eq!(url.get("/status").0, 200, "the plain pages need no token");
    assert!(url.get("/metrics").1.contains("harvester_"));
    service.stop();

    let (place, url) = started("[console]\nbase_path = \"/ops\"\n", &[("HARVEST_CONSOLE_TOKEN", token)]);
    let service = place.start();
    until_leader(&service);
    let (status, head, body) = url.ask("/ops/", "").expect("an answer");
    assert_eq!(status, 401);
    assert!(head.contains("www-authenticate: basic realm=") && !head.contains("set-cookie"), "{head}");
    assert!(!body.contains(token) && !body.contains("of-"), "{body}");
    assert!(head.contains("text/html") && Document::read(&body).text().contains("needs its token"), "{body}");
    let bearer = format!("Authorization: Bearer {token}\r\n");
    until("the page comes", || url.ask("/ops/", &bearer).is_some_and(|(status, ..)| status == 200));
    let (_, _, page) = url.ask("/ops/", &bearer).expect("the page");
    let links = Document::read(&page).links();
    assert!(links.iter().all(|link| link.starts_with("/ops/") || link.starts_with('#')), "{links:?}");
    assert_eq!(
        url.ask("/ops/", "Authorization: Bearer another token, also long\r\n").map(|(status, ..)| status),
        Some(401)
    );
    assert_eq!(url.get("/status").0, 200);
    let shown = run_with(&["config", "--config", name(&place.folder.path().join("harvester.toml"))]);
    assert!(!shown.out.contains(token) && !place.log().contains(token));
    service.stop();

    let (place, url) = started("[console]\nopen = true\n", &[]);
    let service = place.start();
    until_leader(&service);
    until("the page comes", || url.get("/").0 == 200);
    service.stop();

    let (place, url) = started("[console]\nenabled = false\n", &[]);
    let service = place.start();
    until_leader(&service);
    assert_eq!((url.get("/").0, url.get("/status").0), (404, 200));
    service.stop();
    assert!(!place.log().contains("console"), "{}", place.log());
}
