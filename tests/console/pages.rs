//! The pages of the console, over HTTP on loopback.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::night;
use crate::support::config;
use crate::support::html::Document;
use harvester::config::Config;
use harvester::console::{Console, site};
use harvester::drive::film::{Film, Origin};
use harvester::drive::stop::Stop;
use harvester::shell::web::{ClientError, Guard, Site, WebServer, get};

mod accounts;
mod charts;
mod judged;
mod moment;
mod recorded;

/// Number of pages that a walk along the links reads. [1]
const PAGES_MAX: usize = 160;

/// Largest size of a page. [bytes]
const PAGE_BYTES_MAX: usize = 150_000;

fn film_of(paths: &[PathBuf], config: &Config) -> Film {
    let origin = Origin::Histories(paths.to_vec());
    Film::read(origin, Arc::new(config.clone()), &Stop::never()).expect("the history reads")
}

/// A console that serves until it is dropped.
struct Served {
    runtime: tokio::runtime::Runtime,
    url: String,
    film: Arc<Film>,
    console: Console,
    _server: WebServer,
}

impl Served {
    fn of(film: Film, base: &str) -> Self {
        Self::by(film, |film| Console::new(film, "<i>a test</i>", base))
    }

    fn by(film: Film, make: impl FnOnce(Arc<Film>) -> Console) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let film = Arc::new(film);
        let console = make(Arc::clone(&film));
        let address = "127.0.0.1:0".parse().expect("an address");
        let server = runtime.block_on(WebServer::start(address, site(&console, Site::default(), Guard::Open)));
        let server = server.expect("the server starts");
        let url = format!("http://{}", server.address());
        Self { runtime, url, film, console, _server: server }
    }

    fn night() -> Self {
        Self::of(film_of(&[night()], &config(None)), "")
    }

    /// Returns status and body of a page.
    fn get(&self, path: &str) -> (u16, String) {
        match self.runtime.block_on(get(&self.url, path)) {
            Ok(body) => (200, body),
            Err(ClientError::Refused { status, body, .. }) => (status, body),
            Err(error) => panic!("{path}: {error}"),
        }
    }

    /// Returns the head of an answer, in small letters.
    fn head(&self, path: &str) -> String {
        let answer = self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        answer.split_once("\r\n\r\n").map_or_else(String::new, |(head, _)| format!("{}\r\n", head.to_lowercase()))
    }

    /// Returns the whole answer to a request.
    fn ask(&self, request: &str) -> String {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(self.url.trim_start_matches("http://")).expect("a connection");
        stream.write_all(request.as_bytes()).expect("the request is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    fn page(&self, path: &str) -> Document {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        Document::read(&body)
    }
}

/// Asserts the properties of every page.
fn expect_sound(path: &str, body: &str) -> Document {
    let page = Document::read(body);
    assert!(body.len() < PAGE_BYTES_MAX, "{path} has {} bytes", body.len());
    assert_eq!(page.all("h1").count(), 1, "{path}: one heading");
    assert_eq!(page.all("main").count(), 1, "{path}: one main part");
    for element in &page.0 {
        for (name, value) in &element.attributes {
            assert!(name != "style" && !name.starts_with("on"), "{path}: {} has {name} inline", element.name);
            let is_address = matches!(&**name, "href" | "src" | "action" | "data-href");
            assert!(!is_address || value.starts_with('/') || value == "#main", "{path}: leads to {value}");
        }
        assert!(element.name != "style", "{path}: an inline style");
        assert!(element.name != "script" || element.text.is_empty(), "{path}: an inline script");
    }
    let is_labelled = |field: &&crate::support::html::Element| {
        field.get("type") == "hidden"
            || !field.get("aria-label").is_empty()
            || !field.get("id").is_empty()
            || field.within.iter().any(|&at| page.0[at].name == "label")
    };
    let fields = page.0.iter().filter(|element| matches!(&*element.name, "input" | "select"));
    for field in fields {
        assert!(is_labelled(&field), "{path}: the field {} has no label", field.get("name"));
    }
    for svg in page.all("svg") {
        assert!(!svg.get("aria-label").is_empty(), "{path}: a picture without a text");
        let place = page.0.iter().position(|element| std::ptr::eq(element, svg)).expect("it is of this page");
        let mut links = page.all("a").filter(|link| link.within.contains(&place)).peekable();
        // The content of an image is not read, so an image has no links.
        let role = if links.peek().is_some() { "group" } else { "img" };
        assert!(svg.get("role") == role || svg.has_class("chart"), "{path}: a picture of role {}", svg.get("role"));
        assert!(links.all(|link| !link.get("aria-label").is_empty()), "{path}: a link without a text");
        assert!(role == "img" || svg.get("role") == "group", "{path}: links inside an image");
    }
    page
}

#[test]
fn every_link_of_the_night_leads_to_a_sound_page() {
    let console = Served::night();
    let kind_of = |path: &str| {
        let path = path.split(['?', '@']).next().unwrap_or_default();
        path.split('/').take(3).collect::<Vec<_>>().join("/")
    };
    let mut known: BTreeSet<String> = BTreeSet::from(["/".to_owned()]);
    let mut waiting: BTreeMap<String, VecDeque<String>> = BTreeMap::from([("/".to_owned(), ["/".to_owned()].into())]);
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..PAGES_MAX {
        // The kind of page that was read least often comes next.
        let next = waiting.iter_mut().filter(|(_, links)| !links.is_empty());
        let Some((kind, links)) = next.min_by_key(|(kind, _)| kinds.get(*kind).copied().unwrap_or(0)) else { break };
        let path = links.pop_front().expect("a link waits");
        *kinds.entry(kind.clone()).or_default() += 1;
        let (status, body) = console.get(&path);
        assert_eq!(status, 200, "{path}: {body}");
        for link in expect_sound(&path, &body).links() {
            if link.starts_with('/') && known.insert(link.clone()) {
                waiting.entry(kind_of(&link)).or_default().push_back(link);
            }
        }
    }
    for kind in
        ["/", "/console/positions", "/console/position", "/console/decisions", "/console/decision", "/console/entry"]
    {
        assert!(kinds.contains_key(kind), "no page of {kind} was found: {kinds:?}");
    }
    assert!(kinds.values().sum::<usize>() >= 100, "only {kinds:?}");
}

#[test]
fn the_pages_answer_the_questions_of_the_night() {
    let console = Served::night();
    let now = console.page("/");
    let tiles: Vec<String> = now.all("b").map(|b| b.text.trim().to_owned()).collect();
    assert_eq!(tiles[1..6], ["44", "44 of 44", "10", "not recorded", "off"], "the first is the clock");
    let arc = console.page("/console/position/ARCUSDT?at=02:07");
    let verdict = arc.with_class("verdict").next().expect("a verdict").text.clone();
    for part in
        ["below_min_r", "r_net is 0.022553", "0.3136636, +318.55 % from 0.07494", "above the entry price 0.0636"]
    {
        assert!(verdict.contains(part), "{part}: {verdict}");
    }
    let decided = console.page("/console/decisions?q=ETH");
    let rows = decided.rows();
    assert_eq!(rows.len(), 1);
    for part in ["6", "ETHUSDT", "SELL", "0.03", "0.5, 1", "1.05", "3034.5", "✓ right", "✓ follows"] {
        assert!(rows[0].iter().any(|cell| cell == part), "{part}: {:?}", rows[0]);
    }
    let link = decided.links().into_iter().find(|link| link.starts_with("/console/decision/")).expect("a decision");
    let decision = console.page(&link);
    let arithmetic = &decision.with_class("arithmetic").next().expect("the arithmetic").text;
    for part in
        ["(3034.5 − 3000) × 0.06 = 2.07", "(2.07 − 0.18) / 1.8 = 1.05", "0.5 of 0.06, the largest quantity = 0.03"]
    {
        assert!(arithmetic.contains(part), "{part}: {arithmetic}");
    }
    let held: Vec<Vec<String>> = decision.rows();
    assert!(held.contains(&vec!["below_min_r".to_owned(), "38".to_owned()]), "{held:?}");
}

#[test]
fn the_filters_and_the_order_in_the_address_take_effect() {
    let console = Served::night();
    let rows = console.page("/console/positions?at=02:08&hold=price_jump").rows();
    assert_eq!(rows.iter().map(|row| &*row[0]).collect::<Vec<_>>(), ["DOGEUSDT"]);
    let rows = console.page("/console/positions?flag=risk_too_large&sort=symbol&dir=desc").rows();
    assert_eq!(rows.iter().map(|row| &*row[0]).collect::<Vec<_>>(), ["CHESSUSDT", "ARCUSDT", "ANKRUSDT"]);
    let rows = console.page("/console/positions?q=eth").rows();
    assert_eq!(rows.iter().map(|row| &*row[0]).collect::<Vec<_>>(), ["ETHUSDT"]);
    let near = console.page("/console/positions?within=0.4&sort=away").rows();
    assert!(!near.is_empty() && near.len() < 44);
    let away = |row: &Vec<String>| -> f64 { row[9].trim_end_matches(" %").parse().expect("a distance") };
    assert!(near.iter().all(|row| away(row).abs() <= 0.4), "{near:?}");
    assert!(near.is_sorted_by(|a, b| away(a).abs() <= away(b).abs()));
    let by_r = console.page("/console/positions?sort=r&dir=desc").rows();
    let r = |row: &Vec<String>| -> f64 { row[2].parse().expect("an R") };
    assert!(by_r.is_sorted_by(|a, b| r(a) >= r(b)) && by_r.len() == 44);
    // A link of the table head keeps the filter and the moment.
    let page = console.page("/console/positions?at=02:08&side=SHORT");
    let head = page.links().into_iter().find(|link| link.contains("sort=r&")).expect("a head that sorts");
    assert!(head.contains("at=02:08") && head.contains("side=SHORT"), "{head}");
    assert!(console.page(&head).rows().iter().all(|row| row[1] == "SHORT"));
}

/// Writes a history with markup in order, plan and an unreadable entry. (A symbol with markup is not a symbol.)
fn markup_history(folder: &Path) -> PathBuf {
    const NAME: &str = "币安人生USDT";
    const ORDER: &str = "<b onclick=x>\\\"'&7";
    let line = |stream: &str, id: &str, fields: &str| {
        format!(r#"{{"stream":"quantum:stream:{stream}","id":"{id}","fields":{fields}}}"#)
    };
    let lines = [
        line(
            "apply.plan",
            "1770163200000-0",
            &format!(
                r#"{{"plan_id":"<script>p</script>","symbol":"{NAME}","side":"BUY","qty":"10","atr_value":"2","volatility_factor":"1"}}"#
            ),
        ),
        line(
            "apply.result",
            "1770163201000-0",
            &format!(
                r#"{{"plan_id":"<script>p</script>","symbol":"{NAME}","side":"BUY","executedQty":"10","avgPrice":"100","orderId":"{ORDER}","status":"FILLED"}}"#
            ),
        ),
        line("market.tick", "1770163202000-0", &format!(r#"{{"symbol":"{NAME}","price":"100"}}"#)),
        line("market.tick", "1770163203000-0", &format!(r#"{{"symbol":"{NAME}","price":"101"}}"#)),
        line("market.tick", "1770163203500-0", &format!(r#"{{"symbol":"{NAME}","price":"101.3"}}"#)),
        line(
            "apply.result",
            "1770163204000-0",
            r#"{"symbol":"</pre><img src=x><b onclick=x>","executed":"maybe","filled_qty":"<u>"}"#,
        ),
    ];
    let path = folder.join("markup.jsonl");
    fs::write(&path, lines.join("\n")).expect("the history is written");
    path
}

#[test]
fn names_with_markup_stay_text_on_every_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let console = Served::of(film_of(&[markup_history(folder.path())], &config(None)), "");
    let position = console.page("/console/positions").links();
    let position = position.iter().find(|link| link.starts_with("/console/position/")).expect("a position");
    let decision = console.page("/console/decisions").links();
    let decision = decision.iter().find(|link| link.starts_with("/console/decision/")).expect("a decision");
    let paths = [
        "/",
        "/console/positions",
        position,
        "/console/decisions",
        decision,
        "/console/streams",
        "/console/entry/1770163201000-0",
        "/console/entry/1770163204000-0",
        "/%3Cscript%3Ealert(1)%3C/script%3E",
        "/console/position/%3Cscript%3E",
        "/console/positions?q=%22%3E%3Cscript%3E&hold=%3Ci%3E",
    ];
    let mut named = 0;
    for path in paths {
        let (_, body) = console.get(path);
        let page = expect_sound(path, &body);
        let allowed = ["script", "img", "i", "u", "b"];
        for element in page.0.iter().filter(|element| allowed.contains(&&*element.name)) {
            let is_ours = element.name == "b" && element.attributes.keys().all(|name| name == "class")
                || element.name == "script" && element.get("src") == "/console/assets/console.js";
            assert!(is_ours, "{path}: {element:?}");
        }
        named += usize::from(page.0.iter().any(|element| element.text.contains("<b onclick=x>")));
    }
    assert!(named >= 3, "the name was shown on {named} pages only");
}

#[test]
fn a_missing_field_is_shown_as_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.jsonl");
    let line = r#"{"stream":"quantum:stream:apply.result","id":"1770163201000-0","fields":{"symbol":"SOLUSDT","side":"BUY","executedQty":"10","orderId":"1","status":"FILLED","executed":"True"}}"#;
    fs::write(&path, line).expect("the history is written");
    let console = Served::of(film_of(&[path], &config(None)), "");
    let page = console.page("/console/positions");
    assert_eq!(page.with_class("missing").filter(|element| element.text == "missing").count(), 2, "entry and mark");
    let position = console.page("/console/position/SOLUSDT");
    let missing: Vec<&str> = position.with_class("missing").map(|element| &*element.text).collect();
    assert_eq!(missing.iter().filter(|text| **text == "missing").count(), 4, "{missing:?}");
    let now = console.page("/").with_class("needs").next().expect("needs").text.clone();
    assert!(now.contains("entry_price is missing: 1 open position"), "{now}");
}

/// An unknown profit is not zero.
#[test]
fn an_open_position_without_a_price_has_no_profit() {
    let console = Served::night();
    let rows = console.page("/console/positions?at=1770170700000-3").rows();
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| row[12] == "–" && row[2] == "–"), "{rows:?}");
}

#[test]
fn an_invalid_distance_is_refused_and_not_ignored() {
    let console = Served::night();
    for (within, is_refused) in
        [("abc", true), ("NaN", true), ("-1", true), ("0.5", false), ("0.5%25", false), ("", false)]
    {
        let page = console.page(&format!("/console/positions?within={within}"));
        assert_eq!(page.with_class("refused").count() == 1, is_refused, "{within}");
        assert_eq!(page.rows().len() == 44, is_refused || within.is_empty(), "{within}");
    }
}

/// The newest quarantined entries come first, and a long list has parts.
#[test]
fn the_newest_quarantined_entry_comes_first_and_none_is_left_out() {
    use std::fmt::Write as _;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bad.jsonl");
    let mut text = String::new();
    for n in 0..97_u64 {
        let ms = 1_770_163_200_000 + n * 1_000;
        let _ = writeln!(
            text,
            r#"{{"stream":"quantum:stream:apply.result","id":"{ms}-0","fields":{{"symbol":"SOLUSDT","executed":"maybe"}}}}"#
        );
    }
    fs::write(&path, text).expect("the history is written");
    let console = Served::of(film_of(&[path], &config(None)), "");
    let times = |page: &Document| -> Vec<String> {
        page.all("summary").map(|summary| summary.text.trim().to_owned()).collect()
    };
    let first = console.page("/console/streams");
    let next = first.all("a").find(|link| link.text == "Next part →").expect("a next part").get("href").to_owned();
    let second = console.page(&next);
    let listed = [times(&first), times(&second)].concat();
    assert_eq!(listed.len(), 97);
    assert!(listed.is_sorted_by(|a, b| a > b), "{listed:?}");
}

/// A path that is not UTF-8 gets a page, as any other unknown one.
#[test]
fn a_path_that_is_not_text_gets_a_page() {
    let console = Served::night();
    for path in ["/console/position/%ff", "/console/decision/%ff", "/console/entry/%ff"] {
        let (status, body) = console.get(path);
        assert_eq!(status, 404, "{path}: {body}");
        expect_sound(path, &body);
    }
}

#[test]
fn an_unknown_page_and_a_foreign_host_are_refused() {
    let console = Served::night();
    for path in ["/nothing", "/console/position/NOPE", "/console/decision/00", "/console/entry/1-1", "/console/entry/x"]
    {
        let (status, body) = console.get(path);
        assert_eq!(status, 404, "{path}");
        expect_sound(path, &body);
    }
    let address = console.url.trim_start_matches("http://").to_owned();
    let ask = |head: &str| console.ask(head);
    let refused = ask("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 421"), "{refused}");
    let posted = ask(&format!("POST / HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\n\r\n"));
    assert!(posted.starts_with("HTTP/1.1 405"), "{posted}");
    let answered = ask(&format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    for header in ["content-security-policy: default-src 'none'; script-src 'self'", "x-content-type-options: nosniff"]
    {
        assert!(answered.contains(header), "{header}: {}", &answered[..600.min(answered.len())]);
    }
    assert!(!answered.to_lowercase().contains("set-cookie"), "no cookies");
}

#[test]
fn pages_are_compressed_for_a_browser_that_accepts_it() {
    use std::io::{Read as _, Write as _};
    let console = Served::night();
    let address = console.url.trim_start_matches("http://");
    let ask = |path: &str, accepted: &str| {
        let mut stream = std::net::TcpStream::connect(address).expect("a connection");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept-Encoding: {accepted}\r\n\r\n").expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
        let body = answer.split_off(end);
        (String::from_utf8(answer).expect("a head of text").to_lowercase(), body)
    };
    for path in ["/", "/console/positions", "/console/assets/console.css"] {
        let (head, plain) = ask(path, "gzip;q=0, zstd");
        assert!(!head.contains("content-encoding"), "{path}: {head}");
        assert!(head.contains("vary: accept-encoding"), "a cache keeps the two apart: {head}");
        let (head, packed) = ask(path, "gzip, deflate, br, zstd");
        assert!(head.contains("content-encoding: gzip"), "{path}: {head}");
        let body = unchunked(&packed);
        assert!(body.len() < plain.len() / 2, "{path}: {} of {} bytes", body.len(), plain.len());
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&*body).read_to_end(&mut unpacked).expect("the page unpacks");
        assert_eq!(String::from_utf8(unpacked), String::from_utf8(plain), "{path}");
    }
}

/// Returns a body that was sent in chunks, whole.
fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&body[..end]).expect("a size in hexadecimal digits");
        let size = usize::from_str_radix(size, 16).expect("a size");
        whole.extend(&body[end + 2..end + 2 + size]);
        body = &body[end + 2 + size + 2..];
    }
    whole
}

#[test]
fn with_a_prefix_every_address_begins_with_it() {
    let console = Served::of(film_of(&[night()], &config(None)), "/ops/h");
    let page = console.page("/ops/h/?at=02:07");
    let inner = page.0.iter().flat_map(|element| ["href", "src", "action"].map(|name| element.get(name)));
    for address in inner.filter(|address| !address.is_empty() && *address != "#main") {
        assert!(address.starts_with("/ops/h/"), "{address}");
        assert_eq!(console.get(address).0, 200, "{address}");
    }
}

#[test]
fn words_are_explained_and_findings_have_links_in_place() {
    let console = Served::night();
    let now = console.page("/");
    let held = now.cells_of("below_min_r");
    assert_eq!((&*held[1], &*held[2]), ("The net gain is below min_r.", "41"), "{held:?}");
    let positions = console.page("/console/positions");
    let hold = positions.with_class("hold").next().expect("a hold");
    assert_eq!(hold.get("title"), "The net gain is below min_r.");
    let compare =
        now.all("a").find(|link| link.text == "Compare it in What if").expect("a way on").get("href").to_owned();
    let compared = console.page(&compare);
    assert!(compared.with_class("equity").count() > 0, "{compare} compares");
    let text = |path: &str| console.get(path).1;
    let story = text("/console/position/ARCUSDT@1770170700000-0?at=02:06");
    assert!(story.contains("1 entry changed it") && story.contains("0 prices"));
    // Two empty policies are compared as well: that is the request of an empty form.
    assert!(console.page("/console/whatif?compare=1").with_class("equity").count() > 0);
}

/// A page of 500 positions shows a part of them, and stays small.
#[test]
fn a_long_table_is_split_into_parts_that_the_address_names() {
    use std::fmt::Write as _;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("many.jsonl");
    let mut text = String::new();
    for n in 0..500 {
        let _ = writeln!(
            text,
            r#"{{"stream":"quantum:stream:apply.result","id":"{}-0","fields":{{"plan_id":"p{n}","symbol":"S{n:03}USDT","side":"BUY","executedQty":"10","avgPrice":"100","orderId":"{n}","status":"FILLED"}}}}"#,
            1_770_163_200_000_u64 + n
        );
    }
    fs::write(&path, text).expect("the history is written");
    let console = Served::of(film_of(&[path], &config(None)), "");
    let (mut path, mut seen) = ("/console/positions?sort=symbol&dir=desc".to_owned(), Vec::new());
    loop {
        let (_, body) = console.get(&path);
        let page = expect_sound(&path, &body);
        seen.extend(page.rows().into_iter().map(|row| row[0].clone()));
        let next = page.all("a").find(|link| link.text == "Next part →").map(|link| link.get("href").to_owned());
        let Some(next) = next else { break };
        path = next;
    }
    assert_eq!(seen.len(), 500);
    assert!(seen.is_sorted_by(|a, b| a > b) && path.contains("part=7"), "{path}");
}

/// A request that cannot be answered gets a page with a sentence, and not a bare status.
#[test]
fn a_policy_that_is_too_large_is_refused_with_a_sentence() {
    let console = Served::night();
    for bytes in [17_000, 60_000] {
        let path = format!("/console/whatif?b={}", "x".repeat(bytes));
        let (status, body) = console.get(&path);
        assert_eq!(status, 431, "{body}");
        let text = expect_sound("/console/whatif", &body).text().to_owned();
        assert!(text.contains("at most 16384 are read") && text.contains("whatif --policy"), "{text}");
    }
}

/// Who typed a wrong moment finds it in the field again, and the other links lead to pages.
#[test]
fn the_page_of_an_error_keeps_the_field_for_the_moment() {
    let console = Served::night();
    for (path, typed) in [
        ("/console/positions?at=25:00&side=LONG", "25:00"),
        ("/console/position/NOPE?at=02:07", "02:07"),
        ("/console/entry/1-1?at=02:07", "02:07"),
    ] {
        let (_, body) = console.get(path);
        let page = expect_sound(path, &body);
        let field = page.all("input").find(|field| field.get("id") == "at").expect("a field");
        assert_eq!(field.get("value"), typed, "{path}");
        let tabs = page.all("a").filter(|link| link.within.iter().any(|&at| page.0[at].name == "nav"));
        for link in tabs {
            assert_eq!(console.get(link.get("href")).0, 200, "{path}: {}", link.get("href"));
        }
    }
}
