//! The pages in a real browser: Debian's chromium, driven through chromedriver. Without them the tests write a note
//! and skip.
//!
//! The protocol (W3C WebDriver) is spoken here, in a few requests: `fantoccini` and `thirtyfour` would each bring a
//! second version of a crate that is here (base64, syn).

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::night;
use crate::support::config;
use harvester::console::{Console, site};
use harvester::drive::film::{Film, Origin};
use harvester::drive::stop::Stop;
use harvester::shell::web::{Guard, Site, WebServer};

/// Longest time until an effect; a test fails after it. No effect is timed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A browser with one window. Dropping it ends both processes.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

impl Drop for Browser {
    fn drop(&mut self) {
        let path = format!("/session/{}", self.session);
        let _ = request(self.port, "DELETE", &path, None);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Sends one request, and returns the value of the answer.
fn request(port: u16, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).map_err(|error| error.to_string())?;
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).map_err(|error| error.to_string())?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().map_err(|_| "no length".to_owned())?;
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut answer = vec![0; length];
    reader.read_exact(&mut answer).map_err(|error| error.to_string())?;
    let answer: Value = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
    match answer["value"]["error"].as_str() {
        Some(error) => Err(format!("{error}: {}", answer["value"]["message"])),
        None => Ok(answer["value"].clone()),
    }
}

impl Browser {
    /// Starts a browser. Without one, writes a note and returns `None`.
    pub fn start() -> Option<Self> {
        let driver = Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let Ok(mut driver) = driver else {
            eprintln!("skipped: chromedriver is not installed (Debian: apt-get install chromium chromium-driver)");
            return None;
        };
        let lines = BufReader::new(driver.stdout.take().expect("its output")).lines().map_while(Result::ok);
        let port = lines.into_iter().find_map(|line| {
            let port = line.strip_prefix("ChromeDriver was started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        let port = port.expect("chromedriver names its port");
        let options = json!({"args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]});
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        match request(port, "POST", "/session", Some(&wanted)) {
            Ok(session) => {
                let session = session["sessionId"].as_str().expect("an id").to_owned();
                Some(Self { driver, port, session })
            }
            Err(error) => {
                let _ = driver.kill();
                let _ = driver.wait();
                eprintln!("skipped: the browser does not start: {error}");
                None
            }
        }
    }

    fn ask(&self, what: &str, body: &Value) -> Value {
        let path = format!("/session/{}/{what}", self.session);
        request(self.port, "POST", &path, Some(body)).unwrap_or_else(|error| panic!("{what} {body}: {error}"))
    }

    pub fn go(&self, url: &str) {
        self.ask("url", &json!({"url": url}));
    }

    /// Evaluates an expression in the page.
    pub fn eval(&self, expression: &str) -> Value {
        self.ask("execute/sync", &json!({"script": format!("return {expression}"), "args": []}))
    }

    /// Waits until an expression is true.
    pub fn until(&self, expression: &str) {
        let from = Instant::now();
        while self.eval(expression) != json!(true) {
            assert!(from.elapsed() < PATIENCE, "{expression} did not become true at {}", self.eval("location.href"));
        }
    }

    pub fn press(&self, key: &str) {
        let actions = json!([{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]);
        self.ask("actions", &json!({"actions": [{"type": "key", "id": "keys", "actions": actions}]}));
    }

    pub fn command(&self, name: &str, parameters: &Value) -> Value {
        self.ask("goog/cdp/execute", &json!({"cmd": name, "params": parameters}))
    }

    pub fn size(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.command("Emulation.setDeviceMetricsOverride", &size);
    }

    pub fn scheme(&self, scheme: &str) {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.command("Emulation.setEmulatedMedia", &features);
    }

    /// Writes a picture of the whole page as an artefact.
    pub fn picture(&self, name: &str) {
        let taken = self.command("Page.captureScreenshot", &json!({"captureBeyondViewport": true}));
        let png = base64_of(taken["data"].as_str().expect("a picture"));
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("console");
        fs::create_dir_all(&folder).expect("a folder for pictures");
        fs::write(folder.join(format!("{name}.png")), png).expect("the picture is written");
    }

    /// Returns what the page wrote to the console of the browser.
    pub fn log(&self) -> Vec<Value> {
        let log = self.ask("se/log", &json!({"type": "browser"}));
        log.as_array().cloned().unwrap_or_default()
    }
}

fn base64_of(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).expect("base64")
}

struct Night {
    _runtime: tokio::runtime::Runtime,
    _server: WebServer,
    url: String,
}

impl Night {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let path = night();
        let film = Film::read(Origin::Histories(vec![path]), Arc::new(config(None)), &Stop::never()).expect("it reads");
        let console = Console::new(Arc::new(film), "the night of 4 February 2026", "");
        let server = runtime
            .block_on(WebServer::start("127.0.0.1:0".parse().unwrap(), site(&console, Site::default(), Guard::Open)));
        let server = server.expect("the server starts");
        let url = format!("http://{}", server.address());
        Self { _runtime: runtime, _server: server, url }
    }
}

const PAGES: [(&str, &str); 9] = [
    ("now", "/"),
    ("positions", "/console/positions?at=02:08"),
    ("position", "/console/position/ETHUSDT"),
    ("position-arc", "/console/position/ARCUSDT?at=02:07"),
    ("decisions", "/console/decisions"),
    ("decision", "/console/decision/0d09dc2c172b6a1fe23fb784f2910cba"),
    ("streams", "/console/streams"),
    ("whatif", "/console/whatif?b=risk_too_large%20%3D%20%22as_fraction%22"),
    ("entry", "/console/entry/1770170891000-0"),
];

/// Texts with too little contrast to their background: WCAG 2.1, 1.4.3 (4.5, or 3 for large text).
pub const LOW_CONTRAST: &str = r"(() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = ([r, g, b]) => { const f = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
  const behind = (element) => { for (let e = element; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] === 255) return c; } return rgba(getComputedStyle(document.documentElement).backgroundColor); };
  const bad = [];
  for (const element of document.querySelectorAll('body *')) {
    const has = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!has || !element.getClientRects().length || element.closest('.visually-hidden, .skip')) continue;
    const style = getComputedStyle(element);
    if (style.visibility === 'hidden') continue;
    const paper = behind(element);
    let seen = 1;
    for (let e = element; e; e = e.parentElement) seen *= Number(getComputedStyle(e).opacity);
    const ink = rgba(element.closest('svg') ? style.fill : style.color).map((v, i) => seen * v + (1 - seen) * paper[i]);
    const [a, b] = [light(ink), light(paper)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05), size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) bad.push(`${element.tagName}.${element.getAttribute('class')} ${element.textContent.trim().slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return bad.slice(0, 10);
})()";

/// Elements that make the page wider than the window.
pub const TOO_WIDE: &str = r"(() => {
  if (document.documentElement.scrollWidth <= innerWidth) return [];
  const all = [...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll, nav, .steps, pre'));
  return all.slice(0, 4).map((e) => `${e.tagName}.${e.getAttribute('class')} ${Math.round(e.getBoundingClientRect().right)}`);
})()";

#[test]
fn every_page_is_shown_in_each_size_and_both_modes_without_an_error() {
    let Some(browser) = Browser::start() else { return };
    let night = Night::start();
    let mut wrong: Vec<String> = Vec::new();
    for (name, path) in PAGES {
        for (width, height) in [(390, 844), (1440, 900), (2560, 1200)] {
            browser.size(width, height);
            for scheme in ["light", "dark"] {
                browser.scheme(scheme);
                browser.go(&format!("{}{path}", night.url));
                browser.until(
                    "document.readyState === 'complete' && document.documentElement.classList.contains('scripted')",
                );
                let place = format!("{name} at {width} px, {scheme}");
                let wide = browser.eval(TOO_WIDE);
                if wide != json!([]) {
                    wrong.push(format!("{place}: too wide: {wide}"));
                }
                let others = browser.eval(
                    "performance.getEntriesByType('resource').map((r) => r.name).filter((n) => !n.startsWith(location.origin))",
                );
                assert_eq!(others, json!([]), "{place} loads from another host");
                let pale = browser.eval(LOW_CONTRAST);
                if pale != json!([]) {
                    wrong.push(format!("{place}: hard to read: {pale}"));
                }
                if width < 2000 {
                    browser.picture(&format!("{name}-{width}-{scheme}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let errors: Vec<Value> = browser.log().into_iter().filter(|line| line["level"] == "SEVERE").collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[test]
fn keys_move_to_filter_rows_help_and_changes() {
    let Some(browser) = Browser::start() else { return };
    let night = Night::start();
    browser.size(1440, 900);
    browser.go(&format!("{}/console/positions?at=02:08", night.url));
    browser.until("document.documentElement.classList.contains('scripted')");
    browser.press("/");
    browser.until("document.activeElement.name === 'q'");
    for key in ["n", "e", "a", "r", "\u{e007}"] {
        browser.press(key);
    }
    browser.until("location.search.includes('q=near') && document.readyState === 'complete'");
    assert_eq!(browser.eval("document.querySelectorAll('tbody tr').length"), json!(1));
    assert_eq!(browser.eval("new URLSearchParams(location.search).get('at')"), json!("02:08"), "the moment is kept");
    assert_eq!(
        browser.eval("location.search.includes('side=')"),
        json!(false),
        "an unset filter is not in the address"
    );
    browser.press("?");
    browser.until("document.querySelector('#keys').open");
    browser.press("\u{e00c}");
    browser.until("!document.querySelector('#keys').open");
    browser.press("\u{e015}");
    browser.until("document.querySelector('tr.at') !== null");
    browser.press("\u{e007}");
    browser.until("location.pathname.startsWith('/console/position/NEARUSDT') && document.readyState === 'complete'");
    let before = browser.eval("document.querySelector('.moment time').dateTime");
    browser.press("]");
    browser.until(&format!("document.querySelector('.moment time')?.dateTime > {before}"));
    browser.press("[");
    browser.until(&format!("document.querySelector('.moment time')?.dateTime <= {before}"));
    browser.press("\u{e00c}");
    browser.until("document.readyState === 'complete'");
}

/// Who comes back to a list with Esc finds the row from which he left.
#[test]
fn esc_leads_back_to_the_row_of_the_list() {
    let Some(browser) = Browser::start() else { return };
    let night = Night::start();
    browser.size(1440, 900);
    browser.go(&format!("{}/console/positions", night.url));
    browser.until("document.documentElement.classList.contains('scripted')");
    for _ in 0..30 {
        browser.press("\u{e015}");
    }
    browser.until("document.querySelectorAll('tbody tr')[29].classList.contains('at')");
    browser.press("\u{e007}");
    browser.until("location.pathname.startsWith('/console/position/') && document.readyState === 'complete'");
    browser.press("\u{e00c}");
    browser.until("location.pathname === '/console/positions' && document.readyState === 'complete'");
    browser.until("document.querySelectorAll('tbody tr')[29]?.classList.contains('at') === true");
    browser.until("document.activeElement.closest('tr') === document.querySelectorAll('tbody tr')[29]");
    browser.press("\u{e015}");
    browser.until("document.querySelectorAll('tbody tr')[30].classList.contains('at')");
}

/// On every page the keys do what the list of keys states, and leave the browser's own keys alone.
#[test]
fn keys_work_on_pages_without_a_filter_or_rows() {
    let Some(browser) = Browser::start() else { return };
    let night = Night::start();
    let ready = "document.readyState === 'complete' && document.documentElement.classList.contains('scripted')";
    let go = |path: &str| {
        browser.go(&format!("{}{path}", night.url));
        browser.until(ready);
    };
    browser.size(1440, 900);
    go("/?at=02:08");
    // The moment that is shown is replaced by the next one that is typed.
    browser.press("t");
    browser.until("(({ id, selectionStart, selectionEnd }) => id === 'at' && selectionStart === 0 && selectionEnd === 5)(document.activeElement)");
    browser.press("\u{e00c}");
    browser.press("/");
    browser.until("location.pathname === '/console/positions' && document.activeElement.name === 'q'");
    assert_eq!(browser.eval("new URLSearchParams(location.search).get('at')"), json!("02:08"), "the moment is kept");
    // A selected row has the focus, in the table that scrolls and not below its head.
    go("/console/positions");
    browser.press("\u{e015}");
    browser.press("\u{e015}");
    browser.until("document.activeElement.closest('tr.at') === document.querySelectorAll('tbody tr')[1]");
    // Without rows the arrow keys scroll, as they do everywhere.
    browser.size(1440, 400);
    go("/console/whatif");
    browser.eval("document.body.style.minHeight = '3000px'");
    browser.press("\u{e015}");
    browser.until("scrollY > 0");
    // A field that was empty when a form was sent can be filled after the way back.
    go("/console/positions");
    browser
        .eval("(() => { const q = document.querySelector('[name=q]'); q.value = 'eth'; q.form.requestSubmit(); })()");
    browser.until("location.search === '?q=eth' && document.readyState === 'complete'");
    browser.eval("history.back()");
    browser.until("location.search === '' && document.readyState === 'complete'");
    assert_eq!(browser.eval("document.querySelectorAll('.filters :disabled').length"), json!(0));
    // Keys move along the choices of a filter and select none.
    browser.eval("document.querySelector('[name=side]').focus()");
    browser.press("L");
    browser.until("document.querySelector('[name=side]').value === 'LONG'");
    assert_eq!(browser.eval("location.search"), json!(""));
    // The slider moves in visible steps, and has the focus again.
    browser.eval("document.querySelector('.slider input[type=range]').focus()");
    browser.press("\u{e012}");
    browser.until("document.querySelector('.time.past') !== null && document.readyState === 'complete'");
    browser.until("document.activeElement.type === 'range' && document.activeElement.ariaValueText?.endsWith(' UTC')");
    let stepped = "1770171058600 - Number(new URLSearchParams(location.search).get('at'))";
    assert_eq!(browser.eval(&format!("({stepped}) >= 20000")), json!(true));
}

#[test]
fn the_slider_shows_the_moment_of_its_position() {
    let Some(browser) = Browser::start() else { return };
    let night = Night::start();
    browser.go(&format!("{}/console/positions", night.url));
    browser.until("document.documentElement.classList.contains('scripted')");
    assert_eq!(browser.eval("document.querySelector('.time').classList.contains('past')"), json!(false));
    browser.eval(
        "(() => { const s = document.querySelector('.slider input[type=range]'); s.value = 1770170830000; \
         s.dispatchEvent(new Event('input', { bubbles: true })); s.dispatchEvent(new Event('change', { bubbles: true })); })()",
    );
    browser.until("location.search === '?at=1770170830000' && document.readyState === 'complete'");
    browser.until("document.querySelector('.time.past .moment b')?.textContent.startsWith('02:07:')");
    assert_eq!(browser.eval("document.querySelectorAll('tbody tr').length"), json!(44));
    // A tooltip shows a time in the reader's own zone.
    browser.eval("document.querySelector('tbody time').dispatchEvent(new MouseEvent('mouseover', { bubbles: true }))");
    browser.until("document.querySelector('tbody time').title.includes('· here ')");
}
