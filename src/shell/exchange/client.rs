//! Makes one call: admits it, signs it, sends it, and classifies the answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, Url};

use super::call::{Access, Call};
use super::counts::Health;
use super::credentials::Credentials;
use super::error::{CallError, SetupError};
use super::gate::Gate;
use super::key::KeyKind;
use super::settings::Settings;
use super::{signed, tls};
use crate::codec::exchange::{self, Unreadable};

/// Maximum length of an answer. The largest one, exchangeInfo, has a few megabytes. [bytes]
const ANSWER_MAX: usize = 64 << 20;
/// Waits that apply if the exchange names none. [ms]
const TOO_MANY_WAIT_MS: u64 = 60_000;
const BAN_WAIT_MS: u64 = 120_000;
/// For 403, and for 451 (a blocked region): a retry within minutes would not help.
const SHUT_OUT_WAIT_MS: u64 = 300_000;
/// Minimum length of a fragment that is treated as a part of a secret. [characters]
const TELLING: usize = 8;
/// "Timestamp for this request is outside of the recvWindow". The exchange executed nothing.
const BAD_TIMESTAMP: i64 = -1021;
/// "Too many requests", with any status.
const TOO_MANY: i64 = -1003;
/// Refusals that a secret of the wrong kind causes, among other reasons.
const OF_SIGNATURE: [i64; 3] = [-1022, -2014, -2015];
/// "Execution status unknown."
const UNKNOWN_OUTCOMES: [i64; 2] = [-1006, -1007];

/// A client of the exchange. Clones share limits, circuit, clock and connections.
#[derive(Clone)]
pub struct Exchange {
    inner: Arc<Inner>,
}

struct Inner {
    http: Client,
    base: String,
    pub(super) settings: Settings,
    pub(super) gate: Gate,
}

/// An answer of the exchange with status 2xx.
struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Exchange {
    /// Creates a client and sends nothing. Returns an error if the base URL is invalid or certificates cannot be read.
    pub fn new(settings: Settings) -> Result<Self, SetupError> {
        let base = base_of(&settings)?;
        let mut builder = Client::builder()
            .timeout(Duration::from_millis(settings.timeout_ms))
            .connect_timeout(Duration::from_millis(settings.timeout_ms))
            // A redirect must not carry the key elsewhere, and the HTTP client must not repeat a request by itself.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .user_agent(concat!("harvester/", env!("CARGO_PKG_VERSION")));
        if let Some(tls) = tls::config(settings.ca_file.as_deref(), base.starts_with("https:"))? {
            builder = builder.tls_backend_preconfigured((*tls).clone());
        }
        let http = builder.build().map_err(|error| SetupError::Tls(error.without_url().to_string()))?;
        let gate = Gate::new(&settings);
        Ok(Self { inner: Arc::new(Inner { http, base, settings, gate }) })
    }

    pub fn has_credentials(&self) -> bool {
        self.inner.settings.credentials.is_some()
    }

    /// Returns the algorithm that signs calls; `None` without credentials.
    pub fn key_kind(&self) -> Option<KeyKind> {
        self.inner.settings.credentials.as_ref().map(Credentials::kind)
    }

    /// Returns the state of the exchange and the number of calls.
    pub fn health(&self) -> Health {
        self.inner.gate.health()
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Makes a call and parses its answer. If the server refuses the timestamp, reads its clock and repeats the call
    /// once.
    pub(super) async fn call<T>(
        &self,
        call: Call,
        parameters: &[(&'static str, String)],
        read: impl Fn(&[u8]) -> Result<T, Unreadable>,
    ) -> Result<T, CallError> {
        if call.access() != Access::Public && !self.has_credentials() {
            return Err(CallError::NoCredentials { call });
        }
        if call.access() == Access::Signed && self.inner.gate.server_ms().is_none() {
            self.ask_time().await?;
        }
        match self.once(call, parameters, &read).await {
            Err(CallError::Refused { code: BAD_TIMESTAMP, .. }) if call.access() == Access::Signed => {
                tracing::warn!(%call, "the server refuses our timestamp; its clock is asked again");
                self.ask_time().await?;
                self.once(call, parameters, &read).await
            }
            answered => answered,
        }
    }

    /// Reads the server's clock and adopts it. [ms since 1970]
    pub(super) async fn ask_time(&self) -> Result<u64, CallError> {
        let sent_ms = self.inner.gate.now_ms();
        let server_ms = self.once(Call::ServerTime, &[], &exchange::server_time).await?;
        self.inner.gate.learn_time(server_ms, sent_ms);
        Ok(server_ms)
    }

    async fn once<T>(
        &self,
        call: Call,
        parameters: &[(&'static str, String)],
        read: &impl Fn(&[u8]) -> Result<T, Unreadable>,
    ) -> Result<T, CallError> {
        let gate = &self.inner.gate;
        gate.admit(call)?;
        let answered = self.send(call, parameters).await.and_then(|answer| {
            let unreadable = |error: Unreadable| CallError::Unreadable {
                call,
                status: answer.status,
                what: self.without_secrets(&error.to_string()),
            };
            read(&answer.body).map_err(unreadable)
        });
        match &answered {
            Ok(_) => gate.answered(),
            Err(error) => gate.failed(error),
        }
        answered
    }

    async fn send(&self, call: Call, parameters: &[(&'static str, String)]) -> Result<Answer, CallError> {
        let request = self.inner.http.request(call.method(), self.url(call, parameters)).headers(self.headers(call));
        let response = request.send().await.map_err(|error| broken(call, error))?;
        if let Some(used) = number_in(response.headers(), "x-mbx-used-weight-1m") {
            self.inner.gate.learn_used(used);
        }
        let status = response.status();
        if status.is_success() {
            return Ok(Answer { status: status.as_u16(), body: body_of(call, response).await? });
        }
        let retry_after_ms = number_in(response.headers(), RETRY_AFTER.as_str()).map(|s| s.saturating_mul(1_000));
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("none");
        let content_type: String = content_type.chars().take(40).collect();
        // The body of a refusal may be missing. The status still counts.
        let body = body_of(call, response).await.unwrap_or_default();
        Err(self.refusal(call, status.as_u16(), retry_after_ms, &content_type, &body))
    }

    /// Returns the error for an answer other than 2xx.
    fn refusal(
        &self,
        call: Call,
        status: u16,
        retry_after_ms: Option<u64>,
        content_type: &str,
        body: &[u8],
    ) -> CallError {
        let gate = &self.inner.gate;
        let said = exchange::error(body);
        let code = said.as_ref().map_or(0, |said| said.code);
        let what = match &said {
            Some(said) => format!("status {status}, code {code}: {}", self.without_secrets(&said.message)),
            None => format!("status {status} with {} bytes of {content_type}", body.len()),
        };
        match status {
            418 | 403 | 451 => {
                let default_ms = if status == 418 { BAN_WAIT_MS } else { SHUT_OUT_WAIT_MS };
                let named_ms = said.and_then(|said| wait_named(&said.message));
                let wait_ms = retry_after_ms.or(named_ms).unwrap_or(default_ms);
                let until_ms = gate.wait(status, wait_ms);
                CallError::Banned { call, status, until_ms, wait_ms }
            }
            408 | 500.. => CallError::OutcomeUnknown { call, what },
            _ if UNKNOWN_OUTCOMES.contains(&code) => CallError::OutcomeUnknown { call, what },
            _ if status == 429 || code == TOO_MANY => {
                let wait_ms = retry_after_ms.unwrap_or(TOO_MANY_WAIT_MS);
                gate.wait(status, wait_ms);
                CallError::TooMany { call, status, wait_ms }
            }
            _ => match said {
                Some(said) => {
                    let mut message = self.without_secrets(&said.message);
                    // A secret of another kind than the key looks like a wrong secret.
                    if let (Access::Signed, Some(kind)) = (call.access(), self.key_kind())
                        && OF_SIGNATURE.contains(&code)
                    {
                        message = format!("{message} (signed as {})", kind.name());
                    }
                    CallError::Refused { call, status, code, message }
                }
                None => CallError::Unreadable { call, status, what },
            },
        }
    }

    fn url(&self, call: Call, parameters: &[(&'static str, String)]) -> String {
        let mut query = signed::query(parameters);
        if let (Access::Signed, Some(credentials)) = (call.access(), &self.inner.settings.credentials) {
            let timestamp = self.inner.gate.server_ms().unwrap_or_default().to_string();
            let window = self.inner.settings.recv_window_ms.to_string();
            let stamp = signed::query(&[("recvWindow", window), ("timestamp", timestamp)]);
            query = if query.is_empty() { stamp } else { format!("{query}&{stamp}") };
            // Base64 contains characters that must be encoded in a query.
            let signature = signed::query(&[("signature", credentials.sign(&query))]);
            query = format!("{query}&{signature}");
        }
        let separator = if query.is_empty() { "" } else { "?" };
        format!("{}{}{separator}{query}", self.inner.base, call.path())
    }

    fn headers(&self, call: Call) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let (Access::Key | Access::Signed, Some(credentials)) = (call.access(), &self.inner.settings.credentials) {
            headers.insert("x-mbx-apikey", key_header(credentials));
        }
        headers
    }

    /// Returns a text of the exchange with key and secret removed.
    fn without_secrets(&self, text: &str) -> String {
        match &self.inner.settings.credentials {
            Some(credentials) => credentials.hidden().fold(text.to_owned(), |text, hidden| without(&text, hidden)),
            None => text.to_owned(),
        }
    }
}

/// Returns a text with a secret, or the beginning of it, removed. A quoted answer may have been cut inside the secret.
fn without(text: &str, secret: &str) -> String {
    let Some(beginning) = secret.get(..TELLING) else { return text.to_owned() };
    let mut parts = text.split(beginning);
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let told = part.bytes().zip(secret.bytes().skip(TELLING)).take_while(|(a, b)| a == b).count();
        shown.push('…');
        shown.push_str(part.get(told..).unwrap_or_default());
    }
    shown
}

fn key_header(credentials: &Credentials) -> HeaderValue {
    let mut value = HeaderValue::from_str(credentials.key()).expect("checked keys are letters and digits");
    value.set_sensitive(true);
    value
}

/// Returns `https://host[:port]`; plain `http` is allowed on loopback only.
fn base_of(settings: &Settings) -> Result<String, SetupError> {
    let refused = || SetupError::BaseUrl { base_url: settings.base_url.clone() };
    let url = Url::parse(settings.base_url.trim()).map_err(|_| refused())?;
    let host = url.host_str().ok_or_else(refused)?;
    let number = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_loopback = host == "localhost" || number.is_ok_and(|number| number.is_loopback());
    let is_plain = url.path() == "/" && url.query().is_none() && url.username().is_empty() && url.password().is_none();
    match url.scheme() {
        "https" if is_plain => {}
        "http" if is_plain && is_loopback => {}
        _ => return Err(refused()),
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Reads an answer to its end. An answer that is cut off, or does not end, is an error.
async fn body_of(call: Call, mut response: Response) -> Result<Vec<u8>, CallError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(call, error))? {
        if body.len() + chunk.len() > ANSWER_MAX {
            let what = format!("an answer of more than {ANSWER_MAX} bytes");
            return Err(CallError::OutcomeUnknown { call, what });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Returns the error for a call without an answer. It omits the URL, which contains the signature.
fn broken(call: Call, error: reqwest::Error) -> CallError {
    let error = error.without_url();
    if error.is_connect() {
        return CallError::Unreachable { call, what: innermost(&error) };
    }
    let what = if error.is_timeout() { "no answer in time".to_owned() } else { innermost(&error) };
    CallError::OutcomeUnknown { call, what }
}

/// Returns the innermost cause, which is more specific than "error sending request".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

fn number_in(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// Returns the wait in "IP banned until 1770163395196". [ms]
fn wait_named(message: &str) -> Option<u64> {
    let (_, behind) = message.split_once("until ")?;
    let digits: String = behind.chars().take_while(char::is_ascii_digit).collect();
    digits.parse::<u64>().ok()?.checked_sub(super::clock::wall_ms())
}
