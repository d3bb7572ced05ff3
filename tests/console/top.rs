//! The terminal view: its screens, its keys, and a real terminal with a real service.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::Arc;

use crate::night;
use crate::support::binary::{harvester, name, run, run_with};
use crate::support::{config, root};
use harvester::cli::top::{Answer, Effect, Top, draw};
use harvester::drive::film::{Film, Origin};
use harvester::drive::sheet::Sheet;
use harvester::drive::state_at::NoRows;
use harvester::drive::stop::Stop;
use harvester::service::report::Report;
use harvester::shell::web::{Client, ClientError, Guard, Page, Site, WebServer};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::{Color, Modifier};
use serde_json::json;

mod terminal;

/// The time of the screens: 2026-02-04T02:08:20Z. [ms since 1970]
const NOW_MS: u64 = 1_770_170_900_000;

/// Returns the positions of the night at a moment.
fn sheet(at: &str) -> Box<Sheet> {
    let path = night();
    let film = Film::read(Origin::Histories(vec![path]), Arc::new(config(None)), &Stop::never()).expect("it reads");
    let at = film.until(at).expect("a moment");
    let engine = film.state(Some(at), &Stop::never()).expect("a state");
    Box::new(Sheet::of_at(&engine, &NoRows, None, false, at.ms).expect("a sheet").expect("all symbols"))
}

/// Returns a report with one silent input.
fn report() -> Box<Report> {
    let input = |stream: &str, kind: &str, lag: u64, age_ms: u64| {
        json!({"stream": stream, "kind": kind, "lag_entries": lag, "lag_ms": lag * 40, "age_ms": age_ms, "pending": lag,
            "cursor": "1770170899000-0", "gap_proof": "counted", "silent_after_ms": 60_000, "watched_ms": 900_000})
    };
    let report = json!({
        "build": "harvester 0.2.0", "role": "leader", "uptime_ms": 900_000, "group": "harvester", "consumer": "one",
        "rules_version": "2", "last": "1770170899000-0",
        "policy": {"mode": "shadow", "mode_configured": "shadow", "hash": "0d09dc2c172b6a1f", "hash_configured": "0d09dc2c172b6a1f"},
        "redis": {"connected": true, "version": "7.0.15", "surveys": 1},
        "positions": {"open": 44, "evaluable": 44},
        "totals": {"applied": 1200, "entries": 1200, "decided": 10, "emitted": 10},
        "rates": {"applied": 12.4},
        "lease": {"fencing_token": 3, "left_ms": 8_000},
        "inputs": [
            input("quantum:stream:market.tick", "price", 0, 700),
            input("quantum:stream:apply.result", "result", 3, 7_200_000),
        ],
    });
    Box::new(serde_json::from_value(report).expect("a report"))
}

fn answer(at: &str) -> Answer {
    Answer { report: Ok(report()), sheet: Some(Ok(sheet(at))) }
}

fn top(at: &str) -> Top {
    let mut top = Top::new("http://127.0.0.1:9464");
    top.take(answer(at), NOW_MS);
    top
}

fn drawn(top: &Top, now_ms: u64, (width, height): (u16, u16), has_colour: bool) -> TestBackend {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal of a test");
    terminal.draw(|frame| draw(top, now_ms, has_colour, frame)).expect("it draws");
    terminal.backend().clone()
}

/// Returns the screen as text, without the blanks at the ends of lines.
fn text(backend: &TestBackend) -> String {
    let buffer = backend.buffer();
    let width = usize::from(buffer.area.width);
    let line = |cells: &[ratatui::buffer::Cell]| {
        let line: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
        format!("{}\n", line.trim_end())
    };
    buffer.content.chunks(width).map(line).collect()
}

fn screen(top: &Top, size: (u16, u16)) -> String {
    text(&drawn(top, NOW_MS, size, true))
}

/// Compares a screen with its golden file; `cargo xtask bless` rewrites the file.
fn golden(name: &str, screen: &str) {
    let path = root().join("tests/console/golden").join(name);
    if std::env::var_os("HARVESTER_BLESS").is_some() {
        fs::write(&path, screen).expect("the golden file is written");
    }
    assert_eq!(screen, fs::read_to_string(&path).unwrap_or_default(), "{name}");
}

fn press(top: &mut Top, code: KeyCode) -> Effect {
    top.press(KeyEvent::new(code, KeyModifiers::NONE))
}

fn type_in(top: &mut Top, letters: &str) {
    for letter in letters.chars() {
        assert_eq!(press(top, KeyCode::Char(letter)), Effect::None, "{letter}");
    }
}

/// Returns the first words of the rows of a table, in order.
fn rows(top: &Top) -> Vec<String> {
    let screen = screen(top, (160, 80));
    let lines = screen.lines().skip_while(|line| !line.contains("[")).skip(2);
    let rows = lines.take_while(|line| line.starts_with("  ") || line.starts_with("> "));
    rows.map(|row| row[2..].split("  ").next().unwrap_or_default().trim().to_owned()).collect()
}

fn selected(top: &Top) -> String {
    let screen = screen(top, (160, 80));
    let row = screen.lines().find_map(|line| line.strip_prefix("> ")).expect("a selected row");
    row.split_whitespace().next().expect("a name").to_owned()
}

#[test]
fn pages_fit_a_small_and_a_large_terminal() {
    let mut top = top("02:08");
    for (key, page) in ["positions", "holds", "decisions", "inputs", "service"].iter().enumerate() {
        let key = char::from_digit(key as u32 + 1, 10).expect("a digit");
        type_in(&mut top, &key.to_string());
        golden(&format!("top_{page}_80x24.txt"), &screen(&top, (80, 24)));
        golden(&format!("top_{page}_120x40.txt"), &screen(&top, (120, 40)));
    }
    type_in(&mut top, "1/doge");
    press(&mut top, KeyCode::Enter);
    press(&mut top, KeyCode::Enter);
    golden("top_detail_80x24.txt", &screen(&top, (80, 24)));
    golden("top_detail_120x40.txt", &screen(&top, (120, 40)));
    type_in(&mut top, "?");
    golden("top_help_80x24.txt", &screen(&top, (80, 24)));
}

#[test]
fn a_narrow_terminal_drops_columns_and_a_tiny_one_names_the_needed_size() {
    let top = top("02:08");
    let narrow = screen(&top, (44, 12));
    golden("top_positions_44x12.txt", &narrow);
    for line in narrow.lines() {
        assert!(line.chars().count() <= 44, "{line}");
    }
    for kept in ["SYMBOL", "HOLD", "price_jump"] {
        assert!(narrow.contains(kept), "{kept}: {narrow}");
    }
    assert!(!narrow.contains("ENTRY"), "{narrow}");
    let tiny = screen(&top, (24, 6));
    assert!(tiny.split_whitespace().collect::<Vec<_>>().join(" ").contains("needs a terminal of 30 × 8"), "{tiny}");
    for size in [(1, 1), (30, 8), (31, 9), (400, 100)] {
        drawn(&top, NOW_MS, size, true);
    }
}

#[test]
fn rows_are_filtered_by_any_cell_and_sorted_by_each_column() {
    let mut top = top("02:08");
    assert_eq!(rows(&top).len(), 44);
    assert_eq!(rows(&top)[0], "DOGEUSDT", "the most urgent comes first: its price is in doubt");
    type_in(&mut top, "/risk_too_large");
    assert_eq!(rows(&top), ["ANKRUSDT", "ARCUSDT", "CHESSUSDT"]);
    type_in(&mut top, " chess");
    assert_eq!(rows(&top), ["CHESSUSDT"]);
    type_in(&mut top, " nothing");
    assert!(screen(&top, (80, 24)).contains("No row has all words of the filter."));
    assert_eq!(press(&mut top, KeyCode::Char('q')), Effect::None, "the key is a letter of the filter");
    press(&mut top, KeyCode::Esc);
    assert_eq!(rows(&top).len(), 44);
    // From the default, HOLD, two further: unsorted, then SYMBOL.
    type_in(&mut top, "sss");
    let by_symbol = rows(&top);
    assert!(by_symbol.is_sorted() && by_symbol[0] == "1000PEPEUSDT", "{by_symbol:?}");
    type_in(&mut top, "r");
    assert!(rows(&top).iter().rev().is_sorted());
    // R is a number: 10 comes after 9, and a minus before both.
    type_in(&mut top, "sssssss");
    let screen = screen(&top, (160, 80));
    assert!(screen.contains("by R ▲"), "{screen}");
    let end = screen.lines().find_map(|line| Some(line.split_once('▲')?.0.chars().count() + 1)).expect("the column");
    let numbers = screen.lines().filter(|line| line.contains("USDT")).map(|line| {
        let until: String = line.chars().take(end).collect();
        until.rsplit(' ').next().unwrap_or_default().parse::<f64>().unwrap_or(f64::MAX)
    });
    let numbers: Vec<f64> = numbers.collect();
    assert!(numbers.is_sorted() && numbers.len() == 44 && numbers[0] < 0.0, "{numbers:?}");
    type_in(&mut top, "S");
    assert!(crate::top::screen(&top, (160, 80)).contains("by PNL ▲"));
}

#[test]
fn the_selected_row_stays_selected_when_it_moves() {
    let mut top = top("02:07");
    for _ in 0..3 {
        type_in(&mut top, "s");
    }
    press(&mut top, KeyCode::Down);
    press(&mut top, KeyCode::Down);
    let chosen = selected(&top);
    assert_eq!(chosen, rows(&top)[2]);
    type_in(&mut top, "r");
    assert_eq!(selected(&top), chosen);
    top.take(answer("02:08"), NOW_MS + 2000);
    assert_eq!(selected(&top), chosen);
    press(&mut top, KeyCode::End);
    assert_eq!(selected(&top), rows(&top)[43]);
    press(&mut top, KeyCode::Home);
    press(&mut top, KeyCode::Up);
    assert_eq!(selected(&top), rows(&top)[0]);
    // The selected row was removed: the row in its place is selected.
    press(&mut top, KeyCode::PageDown);
    let mut less = sheet("02:08");
    less.positions.retain(|position| position.symbol != selected(&top));
    let next = rows(&top)[11].clone();
    top.take(Answer { report: Ok(report()), sheet: Some(Ok(less)) }, NOW_MS + 4000);
    assert_eq!(selected(&top), next);
    // No position is left.
    let mut none = sheet("02:08");
    none.positions.clear();
    top.take(Answer { report: Ok(report()), sheet: Some(Ok(none)) }, NOW_MS + 6000);
    assert!(screen(&top, (80, 24)).contains("No position is open."));
    press(&mut top, KeyCode::Down);
    press(&mut top, KeyCode::Enter);
    top.take(answer("02:08"), NOW_MS + 8000);
    assert_eq!(rows(&top).len(), 44);
}

#[test]
fn keys_lead_to_the_detail_and_back_and_from_a_hold_to_its_positions() {
    let mut top = top("02:08");
    press(&mut top, KeyCode::Enter);
    let detail = screen(&top, (120, 40));
    for part in ["held by", "price_jump", "entry_price", "RUNG", "r_net"] {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    // The detail stays with its position; once that is closed, the view states that.
    let mut without = sheet("02:08");
    without.positions.retain(|position| position.symbol != "DOGEUSDT");
    top.take(Answer { report: Ok(report()), sheet: Some(Ok(without)) }, NOW_MS);
    assert!(screen(&top, (120, 40)).contains("It is not there any more."));
    press(&mut top, KeyCode::Esc);
    assert_eq!(rows(&top).len(), 43);
    top.take(answer("02:08"), NOW_MS);
    press(&mut top, KeyCode::Tab);
    assert!(screen(&top, (120, 40)).contains("[2 Holds]"));
    assert_eq!(selected(&top), "below_min_r", "most positions have this hold");
    press(&mut top, KeyCode::End);
    let hold = selected(&top);
    press(&mut top, KeyCode::Enter);
    assert!(screen(&top, (120, 40)).contains(&format!("filter: {hold}")));
    assert_eq!(rows(&top).len(), 1);
    press(&mut top, KeyCode::BackTab);
    assert!(screen(&top, (120, 40)).contains("[5 Service]"));
    press(&mut top, KeyCode::Enter);
    assert!(screen(&top, (120, 40)).contains("quantum:stream:apply.result"), "what the finding is about");
    // The escape key, and another key at once: a terminal makes Alt of them, and neither is lost.
    type_in(&mut top, "1/eth");
    assert_eq!(top.press(KeyEvent::new(KeyCode::Char('2'), KeyModifiers::ALT)), Effect::None);
    assert!(screen(&top, (120, 40)).contains("[2 Holds]"), "{}", screen(&top, (120, 40)));
    for (key, effect) in [
        (KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), Effect::End),
        (KeyEvent::new(KeyCode::Char('z'), KeyModifiers::CONTROL), Effect::Suspend),
        (KeyEvent::new(KeyCode::Char('w'), KeyModifiers::CONTROL), Effect::None),
        (KeyEvent::new(KeyCode::F(7), KeyModifiers::NONE), Effect::None),
        (KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE), Effect::End),
    ] {
        assert_eq!(top.press(key), effect, "{key:?}");
    }
}

#[test]
fn without_an_answer_the_view_names_the_reason_and_keeps_the_last_rows() {
    let why = "the service at http://127.0.0.1:9464 cannot be reached: Connection refused";
    let none = || Answer { report: Err(why.to_owned()), sheet: None };
    let mut never = Top::new("http://user:password@127.0.0.1:9464");
    assert!(screen(&never, (120, 24)).contains("There is no answer yet."));
    never.take(none(), NOW_MS);
    let screen_of = |top: &Top| text(&drawn(top, NOW_MS + 90_000, (120, 24), true));
    assert!(screen_of(&never).contains(why) && !screen_of(&never).contains("password"), "{}", screen_of(&never));
    for page in ["2", "3", "4", "5"] {
        type_in(&mut never, page);
        press(&mut never, KeyCode::Enter);
        assert!(screen_of(&never).contains(why));
    }
    let mut top = top("02:08");
    top.take(none(), NOW_MS + 30_000);
    top.take(none(), NOW_MS + 60_000);
    let screen = screen_of(&top);
    golden("top_unreachable_120x24.txt", &screen);
    assert!(
        screen.contains("! no answer for 90s; shown is the state of")
            && screen.contains("DOGEUSDT")
            && screen.contains(why),
        "{screen}"
    );
    // A service that starts has a report, and no positions yet.
    let starts = "the service is starting or stopping".to_owned();
    top.take(Answer { report: Ok(report()), sheet: Some(Err(starts.clone())) }, NOW_MS + 80_000);
    assert!(screen_of(&top).contains(&starts));
    top.take(answer("02:08"), NOW_MS + 82_000);
    assert!(!screen_of(&top).contains("no answer"));
}

#[test]
fn names_with_terminal_commands_stay_text() {
    let mut sheet = sheet("02:08");
    sheet.positions[0].flags = vec!["\u{1b}[2J<b>".to_owned()];
    sheet.positions[0].position_id = "币安人生USDT@1\u{202e}".to_owned();
    let mut top = Top::new("http://127.0.0.1:9464");
    top.take(Answer { report: Ok(report()), sheet: Some(Ok(sheet)) }, NOW_MS);
    type_in(&mut top, "/<b>");
    press(&mut top, KeyCode::Enter);
    let table = screen(&top, (200, 24));
    assert!(table.contains("\\u{1b}[2J<b>") && !table.contains('\u{1b}'), "{table}");
    press(&mut top, KeyCode::Enter);
    let detail = screen(&top, (200, 24));
    assert!(detail.contains("\\u{202e}") && !detail.contains('\u{202e}'), "{detail}");
}

/// Every red or yellow text also has a mark or a word, so without colours nothing is lost.
#[test]
fn colour_is_never_the_only_sign_and_no_color_turns_it_off() {
    let mut top = top("02:08");
    for page in ["1", "2", "3", "4", "5"] {
        type_in(&mut top, page);
        let (with, without) = (drawn(&top, NOW_MS, (160, 50), true), drawn(&top, NOW_MS, (160, 50), false));
        assert_eq!(text(&with), text(&without), "page {page}");
        let is_plain = |colour: Color| colour == Color::Reset;
        assert!(without.buffer().content.iter().all(|cell| is_plain(cell.fg) && is_plain(cell.bg)), "page {page}");
        let buffer = with.buffer();
        for (y, line) in text(&with).lines().enumerate() {
            let cells = &buffer.content[y * 160..(y + 1) * 160];
            let is_red = cells.iter().any(|cell| cell.fg == Color::Red);
            assert!(!is_red || line.contains("! "), "page {page}: {line}");
        }
    }
    type_in(&mut top, "1");
    let reversed =
        |backend: &TestBackend| backend.buffer().content.iter().any(|cell| cell.modifier.contains(Modifier::REVERSED));
    assert!(reversed(&drawn(&top, NOW_MS, (160, 50), false)), "the selected row is visible without colours");
}

#[test]
fn the_view_needs_a_terminal_and_an_address() {
    let ran = run_with(&["top", "--url", "http://127.0.0.1:1"]);
    ran.refused(&["not a terminal", "harvester status --url http://127.0.0.1:1"]);
    let folder = tempfile::tempdir().expect("a folder");
    let settings = folder.path().join("harvester.toml");
    fs::write(&settings, "[run]\nlisten = \"\"\n").expect("the settings are written");
    let ran = run(harvester().args(["top", "--config", name(&settings)]));
    ran.refused(&["run.listen is empty", "--url"]);
}

/// A service that asks for a token, as a reverse proxy in front of it would.
struct Guarded {
    runtime: tokio::runtime::Runtime,
    url: String,
    _server: WebServer,
}

const TOKEN: &str = "a token of the test, long enough";

impl Guarded {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let page = |document: String| {
            move |_| {
                let page = Page::json(200, document.clone());
                async move { page }
            }
        };
        let (report, sheet) = (json!(report()).to_string(), json!(sheet("02:08")).to_string());
        let site = Site::default().guarded(Guard::Token(TOKEN.to_owned().into()));
        let site = site.page("/status", page(report)).page("/positions", page(sheet));
        let server = runtime.block_on(WebServer::start("127.0.0.1:0".parse().unwrap(), site)).expect("it starts");
        let url = format!("http://{}", server.address());
        Self { runtime, url, _server: server }
    }
}

#[test]
fn a_token_is_sent_only_to_a_service_that_asks_for_it() {
    let guarded = Guarded::start();
    let get = |token: Option<&str>| {
        let client = Client::new(&guarded.url, token.map(|token| token.to_owned().into())).expect("a client");
        guarded.runtime.block_on(async { (client.get("/status").await, client.get("/positions?whole=1").await) })
    };
    let is_refused =
        |answer: &Result<String, ClientError>| matches!(answer, Err(ClientError::Refused { status: 401, .. }));
    for wrong in [None, Some("another token, also long enough")] {
        let (status, positions) = get(wrong);
        assert!(is_refused(&status) && is_refused(&positions), "{wrong:?}");
    }
    let (status, positions) = get(Some(TOKEN));
    assert!(status.expect("the report").contains("market.tick") && positions.expect("the sheet").contains("DOGEUSDT"));

    // A service that answers without a token never receives it.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    let open = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a request comes");
        let lines = BufReader::new(stream.try_clone().expect("a stream")).lines().map_while(Result::ok);
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").expect("the answer is sent");
        head.join("\n").to_lowercase()
    });
    let client = Client::new(&url, Some(TOKEN.to_owned().into())).expect("a client");
    assert_eq!(guarded.runtime.block_on(client.get("/status")).expect("an answer"), "{}");
    let head = open.join().expect("the server has answered");
    assert!(head.starts_with("get /status") && !head.contains("authorization"), "{head}");
}
