//! The pages of the console, over HTTP on loopback.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::night;
use crate::support::binary::run_with;
use crate::support::html::Document;
use crate::support::service::until;
use crate::support::{cases, config, root};
use harvester::codec::checksum::state_checksum;
use harvester::config::Config;
use harvester::console::{Console, site};
use harvester::domain::event::ids::EntryId;
use harvester::drive::explain::{Explanation, Subject};
use harvester::drive::film::{Film, Origin};
use harvester::drive::sheet::Sheet;
use harvester::drive::state_at::{NoRows, Sources, state_at};
use harvester::drive::stop::Stop;
use harvester::shell::web::{ClientError, Guard, Site, WebServer, get};

/// Pages that are read on a walk along the links. [1]
const PAGES_MAX: usize = 160;
/// Size of a page. [bytes]
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

    fn page(&self, path: &str) -> Document {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        Document::read(&body)
    }
}

/// What must hold of every page.
fn expect_sound(path: &str, body: &str) -> Document {
    let page = Document::read(body);
    assert!(body.len() < PAGE_BYTES_MAX, "{path} has {} bytes", body.len());
    assert_eq!(page.all("h1").count(), 1, "{path}: one heading");
    assert_eq!(page.all("main").count(), 1, "{path}: one main part");
    for element in &page.0 {
        for (name, value) in &element.attributes {
            assert!(name != "style" && !name.starts_with("on"), "{path}: {} has {name} in line", element.name);
            let is_address = matches!(&**name, "href" | "src" | "action" | "data-href");
            assert!(!is_address || value.starts_with('/') || value == "#main", "{path}: leads to {value}");
        }
        assert!(element.name != "style", "{path}: a style in line");
        assert!(element.name != "script" || element.text.is_empty(), "{path}: a script in line");
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
        assert!(svg.get("role") == "img" && !svg.get("aria-label").is_empty(), "{path}: a picture without a text");
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
        // The kind of page that was met least often comes next.
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
        assert!(kinds.contains_key(kind), "no page of {kind} was met: {kinds:?}");
    }
    assert!(kinds.values().sum::<usize>() >= 100, "only {kinds:?}");
}

#[test]
fn the_questions_of_the_night_are_answered_by_the_pages() {
    let console = Served::night();
    let now = console.page("/");
    let tiles: Vec<String> = now.all("b").map(|b| b.text.trim().to_owned()).collect();
    assert_eq!(tiles[1..6], ["44", "44 of 44", "10", "whole", "off"], "the first is the clock");
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

/// All numbers of the table are those of `positions --as-of`, at several moments and in every spelling of a time.
#[test]
fn a_page_as_of_a_moment_shows_the_state_of_that_moment() {
    let console = Served::night();
    let sources = Sources { histories: vec![night()], ..Sources::default() };
    let config = config(None);
    for (spelling, at) in [
        ("1770170870000-0", EntryId::new(1_770_170_870_000, 0)),
        ("02:07", EntryId::new(1_770_170_879_999, u64::MAX)),
        ("02:08:11", EntryId::new(1_770_170_891_999, u64::MAX)),
        ("2026-02-04T02:05:00Z", EntryId::new(1_770_170_700_000, u64::MAX)),
        ("2026-02-04%2002:05:00", EntryId::new(1_770_170_700_000, u64::MAX)),
        ("1m%20ago", EntryId::new(1_770_170_998_600, u64::MAX)),
        ("1770170891000", EntryId::new(1_770_170_891_000, u64::MAX)),
    ] {
        let past = state_at(&sources, Some(at), &config).expect("the state of then");
        let now_ms = at.ms.max(past.engine.evaluated_ms());
        let sheet = Sheet::of_at(&past.engine, &NoRows, None, false, now_ms).unwrap().expect("all symbols");
        let rows = console.page(&format!("/console/positions?at={spelling}")).rows();
        assert_eq!(rows.len(), sheet.positions.len(), "{spelling}");
        for (row, position) in rows.iter().zip(&sheet.positions) {
            let of = |text: Option<&String>| text.map_or_else(|| "–".to_owned(), |text| short(text));
            assert_eq!(row[0], position.symbol, "{spelling}");
            assert_eq!(row[1], position.side, "{spelling}");
            assert_eq!(row[2], short(&position.qty), "{spelling} {}", position.symbol);
            assert_eq!(row[6], of(position.unrealized_pnl.as_ref()), "{spelling} {}: all are open", position.symbol);
            assert_eq!(row[7], of(position.r_net.as_ref()), "{spelling} {}", position.symbol);
            assert_eq!(row[11], position.hold.clone().unwrap_or_else(|| "nothing".to_owned()), "{spelling}");
        }
        // The same state, to the last bit.
        let state = console.film.state(Some(at), &Stop::never()).expect("the state of then");
        assert_eq!(state_checksum(&state), state_checksum(&past.engine), "{spelling}");
    }
    for wrong in ["yesterday", "25:00", "%3Cscript%3E"] {
        let (status, body) = console.get(&format!("/?at={wrong}"));
        assert_eq!(status, 400, "{wrong}");
        assert!(expect_sound(wrong, &body).all("p").any(|p| p.text.contains("how long ago (90m ago")), "{body}");
    }
}

fn short(text: &str) -> String {
    let number: rust_decimal::Decimal = text.parse().expect("a number");
    let rounded = if number.abs() >= rust_decimal::Decimal::ONE {
        number.round_dp(4)
    } else {
        number.round_sf(5).unwrap_or(number)
    };
    rounded.normalize().to_string()
}

/// Of all cases without recorded decisions: the state at a moment is that of a fold from the start.
#[test]
fn a_film_shows_the_same_state_as_a_fold_from_the_start() {
    let mut compared = 0;
    for case in cases() {
        let history = case.join("events.jsonl");
        let text = fs::read_to_string(&history).expect("a history");
        if text.contains("harvest.decision") || text.contains("entry.skipped") {
            continue;
        }
        let config = config(Some(&case.join("policy.toml")));
        let Ok(film) = Film::read(Origin::Histories(vec![history.clone()]), Arc::new(config.clone()), &Stop::never())
        else {
            continue;
        };
        let sources = Sources { histories: vec![history], ..Sources::default() };
        let span = film.last.ms - film.first.ms;
        for part in [0, 1, 2, 3] {
            let at = EntryId::new(film.first.ms + span * part / 3, u64::MAX);
            let past = state_at(&sources, Some(at), &config).expect("a state");
            let state = film.state(Some(at), &Stop::never()).expect("a state");
            let place = format!("{} at {at}", case.display());
            let sheet = |engine| Sheet::of(engine, &NoRows, None, true).expect("a sheet");
            assert_eq!(sheet(&state), sheet(&past.engine), "{place}");
            // An account that only a later control entry names is known to the look-ahead already.
            if !text.contains("account") {
                assert_eq!(state_checksum(&state), state_checksum(&past.engine), "{place}");
            }
            compared += 1;
        }
    }
    assert!(compared > 100, "only {compared} states were compared");
}

#[test]
fn filters_and_order_are_in_the_address_and_do_what_they_say() {
    let console = Served::night();
    let rows = console.page("/console/positions?at=02:08&hold=price_jump").rows();
    assert_eq!(rows.iter().map(|row| &*row[0]).collect::<Vec<_>>(), ["DOGEUSDT"]);
    let rows = console.page("/console/positions?flag=risk_too_large&sort=symbol&dir=desc").rows();
    assert_eq!(rows.iter().map(|row| &*row[0]).collect::<Vec<_>>(), ["CHESSUSDT", "ARCUSDT", "ANKRUSDT"]);
    let rows = console.page("/console/positions?q=eth").rows();
    assert_eq!(rows.iter().map(|row| &*row[0]).collect::<Vec<_>>(), ["ETHUSDT"]);
    let near = console.page("/console/positions?within=0.4&sort=away").rows();
    assert!(!near.is_empty() && near.len() < 44);
    let away = |row: &Vec<String>| -> f64 { row[10].trim_end_matches(" %").parse().expect("a distance") };
    assert!(near.iter().all(|row| away(row).abs() <= 0.4), "{near:?}");
    assert!(near.is_sorted_by(|a, b| away(a).abs() <= away(b).abs()));
    let by_r = console.page("/console/positions?sort=r&dir=desc").rows();
    let r = |row: &Vec<String>| -> f64 { row[7].parse().expect("an R") };
    assert!(by_r.is_sorted_by(|a, b| r(a) >= r(b)) && by_r.len() == 44);
    // A link of the head keeps the filter and the moment.
    let page = console.page("/console/positions?at=02:08&side=SHORT");
    let head = page.links().into_iter().find(|link| link.contains("sort=r&")).expect("a head that sorts");
    assert!(head.contains("at=02:08") && head.contains("side=SHORT"), "{head}");
    assert!(console.page(&head).rows().iter().all(|row| row[1] == "SHORT"));
}

#[test]
fn steps_lead_from_change_to_change_up_to_the_end() {
    let console = Served::night();
    let step = |path: &str, rel: &str| {
        let page = console.page(path);
        let link = page.all("a").find(|link| link.get("rel") == rel).map(|link| link.get("href").to_owned());
        (page.with_class("moment").next().expect("a moment").text.clone(), link)
    };
    let mut path = "/console/position/DOGEUSDT?at=02:06".to_owned();
    let mut moments = Vec::new();
    while let (moment, Some(next)) = step(&path, "next") {
        moments.push(moment);
        path = next;
    }
    assert!(moments.len() >= 4, "{moments:?}");
    let end = step(&path, "prev").1.expect("a way back");
    let holds = console.page(&end);
    assert!(holds.with_class("verdict").next().is_some());
}

/// Time alone brings a hold as well: the page says since when.
#[test]
fn a_hold_that_time_has_brought_has_lasted_since_then() {
    let line = |stream: &str, ms: u64, fields: &str| {
        format!(r#"{{"stream":"quantum:stream:{stream}","id":"{ms}-0","fields":{{{fields}}}}}"#)
    };
    let begin = 1_770_163_200_000_u64;
    let max_age_ms = config(None).policy.max_price_age_ms;
    let lines = [
        line("trade.intent", begin, r#""symbol":"AUSDT","side":"BUY","atr_value":"0.01","volatility_factor":"1""#),
        line(
            "apply.result",
            begin + 1,
            r#""symbol":"AUSDT","side":"BUY","orderId":"1","status":"FILLED","executedQty":"100","avgPrice":"1""#,
        ),
        line("market.tick", begin + 1_000, r#""symbol":"AUSDT","price":"1.001""#),
        line("market.tick", begin + 1_000 + max_age_ms + 7_001, r#""symbol":"BUSDT","price":"1""#),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let history = folder.path().join("history.jsonl");
    fs::write(&history, lines.join("\n") + "\n").expect("a history is written");
    let console = Served::of(film_of(&[history], &config(None)), "");
    let rows = console.page("/console/positions").rows();
    assert_eq!((&*rows[0][11], &*rows[0][12]), ("stale_price", "7.0s"), "{rows:?}");
    let now = console.page("/").rows();
    let held = now.iter().find(|row| row[0] == "stale_price").expect("the hold");
    assert_eq!(held.last().map(String::as_str), Some("7.0s"), "{held:?}");
    // Before that, the entry counts that has brought the hold.
    let path = format!("/console/positions?at={}", begin + 6_000);
    let rows = console.page(&path).rows();
    assert_eq!((&*rows[0][11], &*rows[0][12]), ("below_min_r", "5.0s"), "{rows:?}");
}

/// A position whose order and plan contain markup, and an entry that is nothing else. (A symbol with markup is no symbol.)
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
fn a_field_that_is_missing_is_seen_to_be_missing() {
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

/// Returns the golden decisions of the night, as history lines.
fn decisions_of_the_night() -> Vec<String> {
    let lines = fs::read_to_string(night().with_file_name("expected.jsonl")).expect("the golden lines");
    let read = |line: &str| -> serde_json::Value { serde_json::from_str(line).expect("a golden line is JSON") };
    let decisions = lines.lines().map(read).filter(|line| line["decision"].is_object());
    decisions.map(|line| line["decision"].to_string()).collect()
}

#[test]
fn a_chain_that_was_altered_is_broken_on_its_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let decisions = decisions_of_the_night();
    assert_eq!(decisions.len(), 10, "ten decisions");
    let altered = |n: usize| {
        let lines: Vec<String> = decisions
            .iter()
            .enumerate()
            .map(|(at, line)| if at == n { line.replace("qty\\\":\\\"", "qty\\\":\\\"1") } else { line.clone() })
            .collect();
        lines.join("\n")
    };
    for (text, is_whole) in [(decisions.join("\n"), true), (altered(4), false)] {
        let path = folder.path().join("decisions.jsonl");
        fs::write(&path, text).expect("the decisions are written");
        let console = Served::of(film_of(&[night(), path], &config(None)), "");
        let page = console.page("/console/decisions");
        let verdict = page.with_class("verdict").next().expect("a verdict").text.clone();
        assert_eq!(verdict.contains("The chain is whole"), is_whole, "{verdict}");
        let wrong = page.rows().iter().filter(|row| row.iter().any(|cell| cell.starts_with('✗'))).count();
        assert_eq!(wrong > 0, !is_whole);
        let now = console.page("/");
        assert_eq!(now.0.iter().any(|element| element.text == "broken"), !is_whole);
    }
}

/// Without its last decisions a chain is whole, and these rules make what it lacks.
#[test]
fn a_chain_whose_end_was_cut_off_needs_someone() {
    let folder = tempfile::tempdir().expect("a folder");
    let decisions = decisions_of_the_night();
    for (kept, is_lacking) in [(8, true), (10, false)] {
        let path = folder.path().join("decisions.jsonl");
        fs::write(&path, decisions[..kept].join("\n")).expect("the decisions are written");
        let console = Served::of(film_of(&[night(), path], &config(None)), "");
        let verdict = console.page("/console/decisions").with_class("verdict").next().expect("a verdict").text.clone();
        assert_eq!(verdict.contains("make 2 more, which are not recorded"), is_lacking, "{verdict}");
        let now = console.page("/");
        let needs = now.with_class("needs").next().expect("needs").text.clone();
        assert_eq!(needs.contains("2 decisions are made here and not recorded"), is_lacking, "{needs}");
        let tile = now.all("li").find(|tile| tile.text.contains("chain")).expect("a tile").text.clone();
        assert_eq!(tile.contains("2 more made than recorded"), is_lacking, "{tile}");
        // The audit compares: its page says nothing else.
        assert_eq!(console.page("/console/audit").with_class("notice").count(), 0);
    }
}

/// The moment is the one that was asked for, which may be later than the last entry before it.
#[test]
fn the_head_names_the_moment_and_the_last_entry_before_it() {
    let console = Served::night();
    for (at, shown, entry) in [
        ("02:06", "02:06:59.999", "last entry 02:05:00"),
        ("02:07", "02:07:59.999", "last entry 02:07:58.600"),
        ("2026-02-04T02:07", "02:07:00", ""),
        ("1770170700000-43", "02:05:00", ""),
        ("2020-01-01", "2020-01-01 00:00:00", "before the first entry"),
    ] {
        for page in ["/", "/console/position/ARCUSDT@1770170700000-0"] {
            let page = console.page(&format!("{page}?at={at}"));
            let moment = page.with_class("moment").next().expect("a moment").text.clone();
            let moment = moment.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(moment.contains(&format!("{shown} UTC")), "{at}: {moment}");
            assert!(moment.contains(entry) && moment.contains("entry") != entry.is_empty(), "{at}: {moment}");
        }
    }
    // Both pages are of the same entries, and the holds have lasted up to the moment.
    let held = |at: &str| {
        let page = console.page(&format!("/console/position/ARCUSDT@1770170700000-0?at={at}"));
        page.with_class("hold-line").next().expect("a hold").text.clone()
    };
    assert!(held("02:06").contains("for 119s") && held("1770170700000-43").contains("for 0.0s"));
}

/// Entries and rates are those up to the moment, counted here from the file.
#[test]
fn inputs_are_counted_up_to_the_moment() {
    let console = Served::night();
    let text = fs::read_to_string(night()).expect("the night");
    let entries: Vec<(String, EntryId)> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line is JSON"))
        .map(|line| {
            let field = |name: &str| line[name].as_str().expect("a text").to_owned();
            (field("stream"), field("id").parse().expect("an entry id"))
        })
        .collect();
    let cells = |path: &str, stream: &str| console.page(path).cells_of(stream);
    for at in ["1770166800000-0", "02:05", "02:07", "02:08:11", ""] {
        let until = if at.is_empty() { console.film.last } else { console.film.until(at).expect("a moment") };
        for stream in ["trade.intent", "apply.plan", "harvest.observation", "market.tick", "harvest.decision"] {
            let name = format!("quantum:stream:{stream}");
            let ids: Vec<EntryId> =
                entries.iter().filter(|(of, id)| *of == name && *id <= until).map(|(_, id)| *id).collect();
            let of_stream = cells(&format!("/console/streams?at={at}"), &name);
            assert_eq!(of_stream[2], ids.len().to_string(), "{at} {stream}: {of_stream:?}");
            let span_ms = ids.iter().max().map_or(0, |last| last.ms - ids.iter().min().expect("a first").ms);
            let rate = if span_ms < 10_000 { None } else { Some(ids.len() as f64 * 60_000.0 / span_ms as f64) };
            let of_now = cells(&format!("/?at={at}"), stream);
            let shown = of_now.last().expect("a rate").parse::<f64>().ok();
            assert_eq!(shown.is_some(), rate.is_some(), "{at} {stream}: {of_now:?}");
            let off = shown.zip(rate).map_or(0.0, |(shown, rate)| (shown - rate).abs() / rate);
            assert!(off < 0.01, "{at} {stream}: {of_now:?}, {rate:?}");
        }
    }
    assert_eq!(cells("/", "market.tick").last().map(String::as_str), Some("266"));
    assert_eq!(cells("/", "apply.plan").last().map(String::as_str), Some("0.82"));
}

#[test]
fn a_decision_shows_how_old_its_numbers_were_then() {
    let console = Served::night();
    let page = console.page("/console/decision/0d09dc2c172b6a1fe23fb784f2910cba");
    let age = |field: &str| page.cells_of(field).last().cloned().unwrap_or_default();
    assert_eq!((&*age("mark_price"), &*age("entry_price")), ("0.0s", "3m"));
    let cause = console.page("/console/decision/0d09dc2c172b6a1fe23fb784f2910cba?at=1770170891000-0");
    assert_eq!(cause.cells_of("mark_price"), page.cells_of("mark_price"), "at any moment");
}

/// A profit that is not known is not zero.
#[test]
fn an_open_position_without_a_price_has_no_profit() {
    let console = Served::night();
    let rows = console.page("/console/positions?at=1770170700000-3").rows();
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| row[6] == "–" && row[7] == "–"), "{rows:?}");
}

#[test]
fn a_distance_that_is_none_is_refused_and_not_passed_over() {
    let console = Served::night();
    for (within, is_refused) in
        [("abc", true), ("NaN", true), ("-1", true), ("0.5", false), ("0.5%25", false), ("", false)]
    {
        let page = console.page(&format!("/console/positions?within={within}"));
        assert_eq!(page.with_class("refused").count() == 1, is_refused, "{within}");
        assert_eq!(page.rows().len() == 44, is_refused || within.is_empty(), "{within}");
    }
}

/// The pages over the whole history lead back to the moment that one came from.
#[test]
fn the_moment_is_kept_by_the_forms_of_what_if_and_audit() {
    let console = audited();
    for path in ["/console/whatif", "/console/audit"] {
        let kept = |path: &str| {
            let page = console.page(path);
            page.all("input").find(|field| field.get("name") == "at").map(|field| field.get("value").to_owned())
        };
        assert_eq!(kept(&format!("{path}?at=02:07")).as_deref(), Some("02:07"), "{path}");
        assert_eq!(kept(path), None, "{path}");
    }
}

#[test]
fn a_page_that_is_not_there_and_a_host_that_is_not_ours_are_refused() {
    let console = Served::night();
    for path in ["/nothing", "/console/position/NOPE", "/console/decision/00", "/console/entry/1-1", "/console/entry/x"]
    {
        let (status, body) = console.get(path);
        assert_eq!(status, 404, "{path}");
        expect_sound(path, &body);
    }
    let address = console.url.trim_start_matches("http://").to_owned();
    let ask = |head: &str| {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(&address).expect("a connection");
        stream.write_all(head.as_bytes()).expect("the request is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    };
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
fn behind_a_prefix_every_address_begins_with_it() {
    let console = Served::of(film_of(&[night()], &config(None)), "/ops/h");
    let page = console.page("/ops/h/?at=02:07");
    let inner = page.0.iter().flat_map(|element| ["href", "src", "action"].map(|name| element.get(name)));
    for address in inner.filter(|address| !address.is_empty() && *address != "#main") {
        assert!(address.starts_with("/ops/h/"), "{address}");
        assert_eq!(console.get(address).0, 200, "{address}");
    }
}

/// The chart of ETHUSDT, whose numbers are those of `explain`.
#[test]
fn the_chart_of_the_night_is_golden_and_has_the_numbers_of_explain() {
    let console = Served::night();
    let (_, body) = console.get("/console/position/ETHUSDT?at=02:09");
    let start = body.find("<svg class=\"chart wide\"").expect("a chart");
    let chart = &body[start..body[start..].find("</svg>").expect("its end") + start + "</svg>".len()];
    let lines = chart.replace("><", ">\n<") + "\n";
    let path = root().join("tests/console/golden/chart_ethusdt.svg");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &lines).expect("the golden chart is written");
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(lines, golden, "BLESS=1 writes it again");

    let engine = console.film.state(Some(console.film.until("02:09").expect("a time")), &Stop::never()).unwrap();
    let subject = Subject::Symbol { asked: None, later: None };
    let explained = Explanation::of(&engine, "ETHUSDT", None, subject).expect("an explanation");
    let position = explained.scene.and_then(|scene| scene.position).expect("a position");
    let texts: Vec<String> = Document::read(chart).all("text").map(|text| text.text.clone()).collect();
    let entry = &position.entry_price.as_ref().expect("an entry price").value;
    assert!(texts.contains(&format!("entry {entry}")), "{texts:?}");
    let next = position.next_rung.expect("a rung is left");
    let next_price = next.price.expect("with a price");
    assert!(texts.contains(&format!("○ {} R  {next_price}  armed", next.r)), "{next_price}: {texts:?}");
    for rung in position.rungs.iter().filter(|rung| rung.state == "shadowed") {
        assert!(texts.iter().any(|text| text.starts_with(&format!("● {} R", rung.r))), "{texts:?}");
    }
    // Each lane is a hold of the explanation.
    let lanes: Vec<&String> = texts.iter().filter(|text| text.contains('_')).collect();
    assert_eq!(lanes, ["no_price", "below_min_r", "no_rung"]);
}

/// Nothing is cut off at the edge, and no name covers the prices or the marks.
#[test]
fn the_names_of_a_chart_have_room() {
    let console = Served::night();
    // A letter is at most as wide as this, in the units of the drawing.
    let wide = |text: &str| 7.8 * text.chars().count() as f64;
    let mut marks = 0;
    for (symbol, at) in
        [("ARCUSDT", "02:06"), ("ARCUSDT", "02:07"), ("NEARUSDT", ""), ("ETHUSDT", "02:09"), ("BTCUSDT", "")]
    {
        let place = format!("{symbol} at {at:?}");
        let (_, body) = console.get(&format!("/console/position/{symbol}?at={at}"));
        let start = body.find("<svg class=\"chart wide\"").expect("a chart");
        let chart =
            Document::read(&body[start..body[start..].find("</svg>").expect("its end") + start + "</svg>".len()]);
        let number = |element: &crate::support::html::Element, name: &str| -> f64 {
            element.get(name).parse().unwrap_or_else(|_| panic!("{place}: {name} of {element:?}"))
        };
        let mut names_begin = f64::INFINITY;
        for text in chart.all("text") {
            let x = number(text, "x");
            match text.get("text-anchor") {
                "start" => assert!(x + wide(&text.text) <= 1120.0, "{place}: {} is cut off", text.text),
                "end" => assert!(x - wide(&text.text) >= 0.0, "{place}: {} is cut off", text.text),
                _ => {}
            }
            let is_name = text.text.starts_with("entry ") || text.has_class("rung") && !text.text.contains(['↑', '↓']);
            if is_name {
                names_begin = names_begin.min(x - wide(&text.text));
            }
        }
        let reaches = |path: &crate::support::html::Element| {
            let d = path.get("d");
            let place = d.rfind('H').map_or(0, |at| at + 1);
            d[place..].split('V').next().and_then(|x| x.parse::<f64>().ok()).unwrap_or(0.0)
        };
        for path in chart.all("path").filter(|path| path.has_class("price")) {
            assert!(
                reaches(path) <= names_begin,
                "{place}: the prices end at {}, names begin at {names_begin}",
                reaches(path)
            );
        }
        for mark in chart.all("path").filter(|path| path.has_class("decision")) {
            let x: f64 = mark.get("d")[1..].split(' ').next().expect("a place").parse().expect("a number");
            assert!(x + 7.0 <= names_begin, "{place}: a decision at {x}, names begin at {names_begin}");
            marks += 1;
        }
        if let Some(none) = chart.all("text").find(|text| text.text == "no price was seen") {
            let entry = chart.all("line").find(|line| line.has_class("entry")).expect("the entry price");
            assert!((number(none, "y") - number(entry, "y1")).abs() > 20.0, "{place}: the line crosses the text");
        }
    }
    assert!(marks >= 4, "only {marks} decisions were looked at");
}

#[test]
fn words_are_explained_and_findings_lead_on_where_they_stand() {
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
    // Two empty policies are compared as well: with nothing typed that is what was asked for.
    assert!(console.page("/console/whatif?compare=1").with_class("equity").count() > 0);
}

/// A console over the night, with the audit of the command line.
fn audited() -> Served {
    let config = config(None);
    let audit = Arc::new(move |origin: &Origin, stop: &Stop| {
        harvester::cli::audit::of_origin(origin, &config, stop).map_err(|error| format!("{error:#}"))
    });
    Served::by(film_of(&[night()], &self::config(None)), |film| Console::new(film, "a test", "").with_audit(audit))
}

#[test]
fn two_policies_are_compared_in_the_page_and_a_wrong_one_is_refused_there() {
    let console = Served::night();
    let path = "/console/whatif?b=risk_too_large+%3D+%22as_fraction%22";
    let (_, body) = console.get(path);
    let page = expect_sound(path, &body);
    let cells: Vec<String> = page.all("td").map(|cell| cell.text.trim().to_owned()).collect();
    // As the demonstration has it: 11 decisions instead of 10.
    assert_eq!((&*cells[2], &*cells[10]), ("10", "11"), "{cells:?}");
    assert_eq!((&*cells[14], &*cells[15]), ("1", "0"), "one decision is made only by B");
    assert!(page.with_class("equity-second").next().is_some_and(|label| label.text.starts_with("B ")));
    for (wrong, says) in [("min_rr+%3D+1", "did you mean `min_r`"), ("min_r+%3D", "value"), ("min_r%3D-1", "min_r")] {
        let (status, body) = console.get(&format!("/console/whatif?b={wrong}"));
        let page = expect_sound(wrong, &body);
        let refused = page.with_class("refused").next().unwrap_or_else(|| panic!("{wrong} is taken")).text.clone();
        assert!(status == 200 && refused.contains(says), "{wrong}: {refused}");
        assert_eq!(page.with_class("equity").count(), 0, "nothing is folded");
    }
    let form = console.page("/console/whatif");
    assert_eq!(form.with_class("equity").count(), 0, "nothing is folded before it is asked for");
}

#[test]
fn the_audit_runs_on_request_and_says_what_the_command_says() {
    let console = audited();
    let before = console.page("/console/audit");
    assert!(before.all("pre").next().is_none());
    let notice = before.with_class("notice").next().expect("nothing is recorded").text.clone();
    assert!(notice.contains("counts each decision that these rules make as missing"), "{notice}");
    let run = before.all("input").find(|field| field.get("name") == "run").expect("a button that runs it");
    let path = format!("/console/audit?run={}", run.get("value"));
    let (_, body) = console.get(&path);
    let page = expect_sound("audit", &body);
    let loads_again = page.all("meta").any(|meta| meta.get("http-equiv") == "refresh");
    assert!(loads_again || page.all("pre").next().is_some(), "it runs, and the page asks how far it is: {body}");
    until("the audit has ended", || console.page(&path).all("pre").next().is_some());
    let (_, body) = console.get(&path);
    let page = expect_sound("audit", &body);
    assert!(page.all("meta").all(|meta| meta.get("http-equiv") != "refresh"), "it is over");
    assert!(page.with_class("verdict").next().expect("a verdict").text.contains("findings"), "nothing was emitted");
    let text = &page.with_class("report").next().expect("a report").text;
    for part in ["matched 0, differ 0, missing 10", "MISSING: should have been emitted", "symbol ETHUSDT"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn charts_and_pages_as_files_stand_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let film = film_of(&[night()], &config(None));
    let chart = harvester::console::alone(&harvester::console::chart_of(&film, "ETHUSDT", None).expect("a chart"));
    let drawn = Document::read(&chart);
    assert_eq!((drawn.all("a").count(), drawn.all("style").count()), (0, 1), "no links, its own style");
    assert!(drawn.all("text").any(|text| text.text == "entry 3000"));
    let policy = folder.path().join("fraction.toml");
    fs::write(&policy, "[policy]\nrisk_too_large = \"as_fraction\"\n").expect("a policy is written");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (night, policy) = (night().to_string_lossy().into_owned(), policy.to_string_lossy().into_owned());
    let base = path("base.toml");
    fs::write(&base, "[policy]\n").expect("a policy is written");
    for (file, words) in [
        ("whatif.html", vec!["whatif", "--policy", &base, "--policy", &policy, &night, "--html", &path("whatif.html")]),
        ("audit.html", vec!["audit", &night, "--html", &path("audit.html")]),
        ("arc.svg", vec!["chart", "position", "ARCUSDT", &night, "--at", "02:07", "--out", &path("arc.svg")]),
        ("pnl.svg", vec!["chart", "whatif", "--policy", &base, "--policy", &policy, &night, "--out", &path("pnl.svg")]),
    ] {
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_harvester")).args(&words).output().expect("it starts");
        let is_finding = file == "audit.html" && output.status.code() == Some(1);
        assert!(output.status.success() || is_finding, "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        let text = fs::read_to_string(folder.path().join(file)).expect("the file is written");
        let read = Document::read(&text);
        for element in &read.0 {
            for name in ["href", "src", "data-href"] {
                assert_eq!(element.get(name), "", "{file}: {} leads elsewhere", element.name);
            }
        }
        assert!(text.len() < PAGE_BYTES_MAX, "{file}");
    }
}

/// The same chart as a picture: as large, and not empty. A machine without fonts says what to install.
#[test]
fn a_chart_is_a_png_where_its_file_is_called_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let night = night().to_string_lossy().into_owned();
    let chart = |file: &str| run_with(&["chart", "position", "ARCUSDT", &night, "--at", "02:07", "--out", &path(file)]);
    let ran = chart("arc.jpg");
    assert!(ran.code == Some(2) && ran.log.contains("ends in .svg or .png"), "{}", ran.log);
    let ran = chart("arc.PNG");
    if ran.log.contains("has no font") {
        ran.refused(&["apt-get install fonts-dejavu-core"]);
        return eprintln!("skipped: this machine has no font");
    }
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    let png = fs::read(path("arc.PNG")).expect("the file is written");
    assert_eq!(&png[..16], b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR");
    let size = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().expect("four bytes"));
    assert_eq!(size(16), 2240, "two pixels for each unit");
    assert!(size(20) > 600 && png.len() > 20_000, "{} lines in {} bytes", size(20), png.len());
    let kept = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("console");
    fs::create_dir_all(&kept).expect("a folder for pictures");
    fs::write(kept.join("chart-arcusdt.png"), png).expect("it is kept to be looked at");
}

/// A day of prices, one a second, is drawn from the extremes of each column.
#[test]
fn a_chart_of_a_day_of_ticks_stays_small_and_keeps_its_extremes() {
    use std::fmt::Write as _;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("day.jsonl");
    let mut text = String::new();
    let opened = r#"{"stream":"quantum:stream:apply.result","id":"1770163200000-0","fields":{"plan_id":"p","symbol":"SOLUSDT","side":"BUY","executedQty":"10","avgPrice":"100","orderId":"1","status":"FILLED"}}"#;
    let _ = writeln!(text, "{opened}");
    for second in 1..=20_000_u64 {
        let price = match second {
            7_001 => 104,
            15_003 => 96,
            _ => 100 + second % 2,
        };
        let ms = 1_770_163_200_000 + second * 1000;
        let _ = writeln!(
            text,
            r#"{{"stream":"quantum:stream:market.tick","id":"{ms}-0","fields":{{"symbol":"SOLUSDT","price":"{price}"}}}}"#
        );
    }
    fs::write(&path, text).expect("the history is written");
    let film = film_of(&[path], &config(None));
    let chart = harvester::console::alone(&harvester::console::chart_of(&film, "SOLUSDT", None).expect("a chart"));
    let drawn = Document::read(&chart);
    let line = drawn.all("path").find(|path| path.has_class("price")).expect("a line of prices").get("d").to_owned();
    let heights: BTreeSet<String> =
        line.split('V').skip(1).map(|part| part.split('H').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(heights.len(), 4, "both usual prices and both spikes: {heights:?}");
    assert!(chart.len() < 60_000, "{} bytes", chart.len());
}

#[test]
fn pages_show_a_history_that_was_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.jsonl");
    let text = fs::read_to_string(night()).expect("the night");
    let lines: Vec<&str> = text.lines().collect();
    fs::write(&path, lines[..900].join("\n")).expect("the first part is written");
    let config = config(None);
    let console = Served::of(film_of(std::slice::from_ref(&path), &config), "");
    let before = console.get("/console/version").1;
    let decisions = |console: &Served| console.page("/console/decisions").rows().len();
    let first = decisions(&console);
    fs::write(&path, &text).expect("the rest is written");
    console.console.show(Arc::new(film_of(&[path], &config)));
    assert_ne!(console.get("/console/version").1, before);
    assert!(first < 10, "{first}");
    assert_eq!(decisions(&console), 10);
}

/// A page of 500 positions has a part of them, and stays small.
#[test]
fn a_long_table_comes_in_parts_that_the_address_names() {
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
