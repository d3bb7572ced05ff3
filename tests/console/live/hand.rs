//! A live update leaves the reader what he has in hand: the focus, opened details, a scrolled table.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Url;
use crate::browser::Browser;
use crate::night;
use crate::support::config;
use harvester::console::{Console, site};
use harvester::domain::event::ids::EntryId;
use harvester::drive::film::Origin;
use harvester::drive::reel::{Bounds, Reel};
use harvester::shell::journal::{Journal, Limits};
use harvester::shell::web::{Guard, Site, WebServer};

/// An entry that nothing can read, so that it is quarantined.
const JUNK: &str = r#"{"stream":"quantum:stream:apply.result","id":"1770170000000-0","fields":{"symbol":"ADAUSDT","executed":"maybe"}}"#;

/// The console of a journal that grows.
struct Growing {
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
    journal: Journal,
    url: String,
    _server: WebServer,
}

impl Growing {
    fn of(lines: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("journal");
        let mut journal = Journal::open(&dir, Limits { rotate_bytes: 1_000_000 }).expect("a journal");
        append(&mut journal, lines);
        let config = Arc::new(config(None));
        let begin = Arc::new(move |stop: &_| {
            Reel::read(Origin::Journal(dir.clone()), Arc::clone(&config), &Bounds::default(), stop)
        });
        let console = Console::following(begin, None, "a journal", "");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let site = site(&console, Site::default(), Guard::Open);
        let server = runtime.block_on(WebServer::start("127.0.0.1:0".parse().unwrap(), site)).expect("a server");
        let url = format!("http://{}", server.address());
        Self { runtime, _folder: folder, journal, url, _server: server }
    }

    fn grow(&mut self, lines: &[&str]) {
        append(&mut self.journal, lines);
    }
}

fn append(journal: &mut Journal, lines: &[&str]) {
    for line in lines {
        let head: Value = serde_json::from_str(line).expect("JSON");
        let id: EntryId = head["id"].as_str().expect("an id").parse().expect("an id");
        journal.append(line, id.ms);
    }
    journal.commit().expect("a commit");
}

/// Opens a live page.
fn go(browser: &Browser, growing: &Growing, path: &str) {
    browser.go(&format!("{}{path}", growing.url));
    browser.until("document.documentElement.classList.contains('live')");
}

const SHOWN: &str = "document.querySelector('.moment').textContent";

#[test]
fn an_update_keeps_the_focus_and_opened_details() {
    let Some(browser) = Browser::start() else { return };
    let text = std::fs::read_to_string(night()).expect("the night");
    let lines: Vec<&str> = text.lines().collect();
    let mut growing = Growing::of(&[&[JUNK][..], &lines[..600]].concat());
    browser.size(1440, 900);
    let mut at = 600;
    let mut update = |browser: &Browser, growing: &mut Growing| {
        let before = browser.eval(SHOWN);
        growing.grow(&lines[at..at + 20]);
        at += 20;
        browser.until(&format!("{SHOWN} !== {before}"));
    };
    go(&browser, &growing, "/console/streams");
    browser.eval("document.querySelector('summary').click()");
    browser.eval("document.querySelector('summary').focus()");
    browser.eval("(() => { window.old = document.activeElement; })()");
    update(&browser, &mut growing);
    browser.until("!window.old.isConnected");
    assert_eq!(browser.eval("document.querySelector('details').open"), json!(true));
    assert_eq!(browser.eval("document.activeElement.textContent"), json!("1770170000000-0"));

    go(&browser, &growing, "/console/positions");
    // The link to the entry of the last price, and that to the entry price, which stays.
    for (cell, is_same) in [(6, false), (11, true)] {
        let held =
            format!("[...document.querySelectorAll('tr[data-href*=ETHUSDT] td')][{}].querySelector('a')", cell - 1);
        browser.eval(&format!("{held}.focus()"));
        let before = browser.eval("document.activeElement.getAttribute('href')");
        for _ in 0..4 {
            update(&browser, &mut growing);
        }
        assert_eq!(browser.eval(&format!("document.activeElement === {held}")), json!(true), "cell {cell}");
        assert_eq!(browser.eval("document.activeElement.getAttribute('href')") == before, is_same, "cell {cell}");
    }
    drop(growing.runtime);
}

/// Each Tab comes after an update of the whole page.
#[test]
fn tab_reaches_everything_while_the_page_is_updated() {
    let Some(browser) = Browser::start() else { return };
    let text = std::fs::read_to_string(night()).expect("the night");
    let lines: Vec<&str> = text.lines().collect();
    let growing = Growing::of(&[&[JUNK][..], &lines].concat());
    browser.size(1440, 900);
    for path in ["/", "/console/streams", "/console/position/ETHUSDT"] {
        go(&browser, &growing, path);
        browser.eval("(() => { document.querySelector('.skip').focus(); window.seen = new Set(); })()");
        let all = "[...document.querySelectorAll(\"main a[href], main summary, main button, main [tabindex='0']\")]
            .filter((e) => e.getClientRects().length > 0).length";
        let count = browser.eval(all).as_u64().expect("a number");
        assert!(count >= 8, "{path}: {count}");
        let update = "(() => { parts.set('page', document.querySelector('main').innerHTML); apply(); \
                      const here = known(REACHED).find(([, e]) => e === document.activeElement); \
                      if (here && here[1].closest('main')) seen.add(here[0]); \
                      return document.activeElement.closest('footer, dialog') !== null; })()";
        for _ in 0..count + 40 {
            browser.press("\u{e004}");
            browser.eval(update);
        }
        assert_eq!(browser.eval("seen.size"), json!(count), "{path}");
    }
}

/// While the journal is read for the first time, the page reloads itself, by a header and not by its content.
#[test]
fn a_page_that_waits_for_the_journal_is_loaded_again() {
    let growing = Growing::of(&[JUNK]);
    let url = Url(growing.url.trim_start_matches("http://").to_owned());
    let (status, head, body) = url.ask("/", "").expect("an answer");
    assert_eq!(status, 503);
    assert!(head.contains("\r\nrefresh: 1\r\n") && !body.contains("http-equiv"), "{head}{body}");
    url.page("/");
    let (_, head, _) = url.ask("/", "").expect("an answer");
    assert!(!head.contains("refresh"), "{head}");
}
