//! Live pages that the server refuses: too many pages are followed, or the token is wrong.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::browser::Browser;
use crate::night;
use crate::support::config;
use crate::support::redis::free_port;
use crate::support::service::until;
use harvester::console::{Begin, Console, site};
use harvester::domain::event::ids::EntryId;
use harvester::drive::film::Origin;
use harvester::drive::reel::{Bounds, Reel};
use harvester::shell::journal::{Journal, Limits};
use harvester::shell::web::{Guard, Site, WebServer};

/// Number of pages that a server allows to be followed at a time. [1]
const PAGES_FOLLOWED: usize = 16;

/// A growing journal with a console over it.
struct Followed {
    runtime: tokio::runtime::Runtime,
    _folder: tempfile::TempDir,
    journal: Journal,
    lines: Vec<String>,
    written: usize,
    address: SocketAddr,
    console: Console,
}

impl Followed {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("journal");
        let night = std::fs::read_to_string(night());
        let lines = night.expect("the night").lines().map(str::to_owned).collect();
        let journal = Journal::open(&dir, Limits { rotate_bytes: 1 << 20 }).expect("a journal");
        let console = Console::following(begin(&dir), None, "a test", "");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut followed = Self { runtime, _folder: folder, journal, lines, written: 0, address, console };
        followed.append(400);
        followed
    }

    fn append(&mut self, lines: usize) {
        for line in &self.lines[self.written..self.written + lines] {
            let head: Value = serde_json::from_str(line).expect("JSON");
            let id: EntryId = head["id"].as_str().expect("an id").parse().expect("an id");
            self.journal.append(line, id.ms);
        }
        self.written += lines;
        self.journal.commit().expect("a commit");
    }

    fn serve(&self, guard: Guard) -> WebServer {
        let site = site(&self.console, Site::default(), guard);
        self.runtime.block_on(WebServer::start(self.address, site)).expect("the server starts")
    }

    fn stop(&self, server: WebServer) {
        self.runtime.block_on(server.stop());
    }
}

fn begin(dir: &Path) -> Begin {
    let (origin, config) = (Origin::Journal(dir.to_owned()), Arc::new(config(None)));
    Arc::new(move |stop| Reel::read(origin.clone(), Arc::clone(&config), &Bounds::default(), stop))
}

/// Follows a page until it is dropped.
fn reader(address: SocketAddr, number: usize) -> BufReader<TcpStream> {
    let mut stream = TcpStream::connect(address).expect("a connection");
    let path = format!("/console/live?live-page=/console/positions&q={number}");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n").expect("it is asked");
    let mut reader = BufReader::new(stream);
    let mut status = String::new();
    reader.read_line(&mut status).expect("an answer");
    assert!(status.contains(" 200 "), "{status}");
    reader
}

const IS_LIVE: &str = "document.documentElement.classList.contains('live')";
/// A refusal has ended the event source, and the next attempt waits longer.
const IS_REFUSED: &str =
    "!document.documentElement.classList.contains('live') && source === null && pause > RETRY_MIN_MS";

#[test]
fn a_page_that_is_refused_because_of_too_many_others_asks_again_by_itself() {
    let Some(browser) = Browser::start() else { return };
    let mut followed = Followed::start();
    let server = followed.serve(Guard::Open);
    let url = format!("http://{}", followed.address);
    browser.go(&format!("{url}/console/positions"));
    browser.until("document.querySelectorAll('tbody tr').length > 0");
    let readers: Vec<_> = {
        // The open page gives up its event source.
        browser.go("about:blank");
        let is_alone = || browser_readers(&followed) == 0;
        until("no page is followed", is_alone);
        (0..PAGES_FOLLOWED).map(|number| reader(followed.address, number)).collect()
    };
    browser.go(&format!("{url}/console/positions"));
    browser.until(IS_REFUSED);
    browser.eval("(() => { window.stayed = 1; })()");
    drop(readers);
    browser.until(IS_LIVE);
    let before = browser.eval("document.querySelector('.moment time').dateTime");
    followed.append(400);
    browser.until(&format!("document.querySelector('.moment time').dateTime > {before}"));
    assert_eq!(browser.eval("window.stayed"), json!(1), "the page was not loaded again");
    assert_eq!(browser.eval("pause === RETRY_MIN_MS"), json!(true), "the pause starts again at its minimum");
    browser.go("about:blank");
    followed.stop(server);
}

fn browser_readers(followed: &Followed) -> u64 {
    let body = followed
        .runtime
        .block_on(harvester::shell::web::get(&format!("http://{}", followed.address), "/console/version"));
    let version: Value = serde_json::from_str(&body.unwrap_or_default()).unwrap_or_default();
    version["readers"].as_u64().unwrap_or(u64::MAX)
}

#[test]
fn a_page_whose_token_is_refused_asks_again_at_growing_intervals() {
    let Some(browser) = Browser::start() else { return };
    let followed = Followed::start();
    let token = |text: &str| Guard::Token(text.to_owned().into());
    let server = followed.serve(token("a-token-of-the-test"));
    let url = format!("http://reader:a-token-of-the-test@{}", followed.address);
    browser.go(&format!("{url}/console/positions"));
    browser.until("document.querySelectorAll('tbody tr').length > 0");
    browser.until(IS_LIVE);
    followed.stop(server);
    browser.until("!document.documentElement.classList.contains('live')");
    let server = followed.serve(token("another-token-of-the-test"));
    browser.until(IS_REFUSED);
    assert_eq!(
        browser.eval("document.querySelectorAll('tbody tr').length > 0"),
        json!(true),
        "the last known rows stay"
    );
    followed.stop(server);
    // With its token, the page loads again.
    let server = followed.serve(token("a-token-of-the-test"));
    browser.go(&format!("{url}/console/positions"));
    browser.until(IS_LIVE);
    browser.go("about:blank");
    followed.stop(server);
}

/// An open page says how old its data is by the clock, that it waits while a field has the focus, and that the server is
/// gone.
#[test]
fn an_open_page_says_how_old_it_is_when_it_waits_and_when_the_server_is_gone() {
    let Some(browser) = Browser::start() else { return };
    let followed = Followed::start();
    let server = followed.serve(Guard::Open);
    let url = format!("http://{}", followed.address);
    browser.size(1440, 900);
    browser.go(&format!("{url}/console/positions"));
    browser.until("document.querySelectorAll('tbody tr').length > 0");
    browser.until(IS_LIVE);
    browser.until("document.querySelector('.state')?.textContent === '● Live'");
    // The night was long ago: no service writes this journal.
    browser.until("document.querySelector('.moment .age.old') !== null");
    let age = "Number(document.querySelector('.moment .age').textContent.match(/^(\\d+)d/)?.[1]) > 2";
    browser.until(age);
    // The ages of the prices are counted by the clock, too.
    browser.until("/^\\d+d/.test(document.querySelector('tbody .age').textContent)");
    browser.eval("(() => { document.querySelector('.filter').focus(); })()");
    browser.until("document.querySelector('.state').textContent.startsWith('❚❚ Paused')");
    browser.eval("(() => { document.querySelector('.filter').blur(); })()");
    browser.until("document.querySelector('.state').textContent === '● Live'");
    followed.stop(server);
    browser.until("document.querySelector('.state.bad')?.textContent.startsWith('✗ Not connected since ') === true");
    browser.picture("lost-1440-light");
    let server = followed.serve(Guard::Open);
    browser.until("document.querySelector('.state').textContent === '● Live'");
    browser.go("about:blank");
    followed.stop(server);
}
