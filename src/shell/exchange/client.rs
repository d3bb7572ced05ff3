//! Makes one call: admits it, signs it, sends it, and classifies the answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, Url};
use secrecy::{ExposeSecret as _, SecretString};

use super::clock::wall_ms;
use super::counts::Health;
use super::error::{CallError, SetupError};
use super::gate::Gate;
use super::settings::Settings;
use super::tls;
use crate::codec::exchange::{
    Access, Call, Cause, Credentials, KeyKind, Meaning, Message, Method, Parameter, Question, Refusal, RefusalText,
    Stamp, Unreadable, Venue, VenueTerms,
};

/// Maximum length of an answer. The largest one, of all instruments, has a few megabytes. [bytes]
const ANSWER_MAX: usize = 64 << 20;
/// Minimum length of a fragment that is treated as a part of a secret. [characters]
const FRAGMENT_MIN: usize = 8;

/// A client of the exchange for one account. Its clones, and the clients of other accounts that are made from it, share
/// limits, circuit, clock and connections, because these belong to the address.
#[derive(Clone)]
pub struct Exchange {
    inner: Arc<Inner>,
}

struct Inner {
    http: Client,
    base: String,
    pub(super) settings: Settings,
    pub(super) gate: Arc<Gate>,
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
        let gate = Arc::new(Gate::new(&settings));
        Ok(Self { inner: Arc::new(Inner { http, base, settings, gate }) })
    }

    /// Returns a client for another account at the same address.
    #[must_use]
    pub fn for_account(&self, account: &str, credentials: Option<Credentials>) -> Self {
        let Inner { http, base, settings, gate } = &*self.inner;
        let settings = Settings { account: account.into(), credentials, ..settings.clone() };
        Self { inner: Arc::new(Inner { http: http.clone(), base: base.clone(), settings, gate: Arc::clone(gate) }) }
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

    /// Returns the names and limits of the venue.
    pub fn terms(&self) -> &'static VenueTerms {
        self.venue().terms()
    }

    pub(super) fn venue(&self) -> &'static dyn Venue {
        self.inner.settings.venue
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Asks a question.
    pub(super) async fn ask<T>(&self, question: Question<T>) -> Result<T, CallError> {
        self.call(question.call, &question.parameters, question.read).await
    }

    /// Makes a call and parses its answer. If the server refuses the timestamp, it reads the server's clock and repeats
    /// the call once.
    pub(super) async fn call<T>(
        &self,
        call: &'static Call,
        parameters: &[Parameter],
        read: impl Fn(&[u8]) -> Result<T, Unreadable>,
    ) -> Result<T, CallError> {
        if call.access != Access::Public && !self.has_credentials() {
            return Err(CallError::NoCredentials { call });
        }
        if call.access == Access::Signed && self.inner.gate.server_ms().is_none() {
            self.ask_time().await?;
        }
        match self.once(call, parameters, &read).await {
            Err(CallError::Refused { cause: Cause::Timestamp, .. }) if call.access == Access::Signed => {
                tracing::warn!(%call, "the server refuses our timestamp; its clock is asked again");
                self.ask_time().await?;
                self.once(call, parameters, &read).await
            }
            answered => answered,
        }
    }

    /// Reads the server's clock, unless it was read a short while ago: clocks drift apart.
    pub async fn refresh_clock(&self, older_than: Duration) -> Result<(), CallError> {
        let is_fresh = |ago_ms: u64| u128::from(ago_ms) < older_than.as_millis();
        if self.inner.gate.clock_asked_ago_ms().is_some_and(is_fresh) {
            return Ok(());
        }
        self.ask_time().await.map(drop)
    }

    /// Returns the greatest age that a time of the exchange can have now; `None` while its clock is not known.
    pub fn age_of(&self, time_ms: u64) -> Option<Duration> {
        self.inner.gate.age_ms(time_ms).map(Duration::from_millis)
    }

    /// Reads the server's clock and adopts it. [ms since 1970]
    pub(super) async fn ask_time(&self) -> Result<u64, CallError> {
        let sent_ms = self.inner.gate.now_ms();
        let question = self.venue().clock();
        let server_ms = self.once(question.call, &question.parameters, &question.read).await?;
        self.inner.gate.learn_time(server_ms, sent_ms);
        Ok(server_ms)
    }

    async fn once<T>(
        &self,
        call: &'static Call,
        parameters: &[Parameter],
        read: &impl Fn(&[u8]) -> Result<T, Unreadable>,
    ) -> Result<T, CallError> {
        let gate = &self.inner.gate;
        gate.admit(&self.inner.settings.account, call)?;
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
            Err(error) => gate.failed(&self.inner.settings.account, error),
        }
        answered
    }

    async fn send(&self, call: &'static Call, parameters: &[Parameter]) -> Result<Answer, CallError> {
        let Message { target, headers } = self.message(call, parameters);
        let request = self.inner.http.request(method(call.method), format!("{}{target}", self.inner.base));
        let response = request.headers(sensitive(headers)).send().await.map_err(|error| broken(call, error))?;
        if let Some(used) = number_in(response.headers(), self.terms().used_weight_header) {
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
        call: &'static Call,
        status: u16,
        retry_after_ms: Option<u64>,
        content_type: &str,
        body: &[u8],
    ) -> CallError {
        let Refusal { meaning, said } = self.venue().refusal(status, body);
        let what = match &said {
            Some(RefusalText { code, message }) => {
                format!("status {status}, code {code}: {}", self.without_secrets(message))
            }
            None => format!("status {status} with {} bytes of {content_type}", body.len()),
        };
        match (meaning, said) {
            (Meaning::ShutOut { until_ms, wait_ms }, _) => {
                let named_ms = until_ms.and_then(|until_ms| until_ms.checked_sub(wall_ms()));
                let wait_ms = retry_after_ms.or(named_ms).unwrap_or(wait_ms);
                let until_ms = self.inner.gate.wait(status, wait_ms);
                CallError::Banned { call, status, until_ms, wait_ms }
            }
            (Meaning::TooMany { wait_ms }, _) => {
                let wait_ms = retry_after_ms.unwrap_or(wait_ms);
                self.inner.gate.wait(status, wait_ms);
                CallError::TooMany { call, status, wait_ms }
            }
            (Meaning::OutcomeUnknown, _) => CallError::OutcomeUnknown { call, what },
            (Meaning::Refused(cause), Some(RefusalText { code, message })) => {
                let mut message = self.without_secrets(&message);
                // A secret of another kind than the key looks like a wrong secret.
                if let (Cause::Signature, Access::Signed, Some(kind)) = (cause, call.access, self.key_kind()) {
                    message = format!("{message} (signed as {})", kind.name());
                }
                CallError::Refused { call, status, code, message, cause }
            }
            (Meaning::Refused(_), None) => CallError::Unreadable { call, status, what },
        }
    }

    fn message(&self, call: &Call, parameters: &[Parameter]) -> Message {
        let Settings { credentials, recv_window_ms, .. } = &self.inner.settings;
        let now_ms = self.inner.gate.server_ms().unwrap_or_default();
        let stamp = credentials.as_ref().map(|credentials| Stamp { credentials, now_ms, window_ms: *recv_window_ms });
        self.venue().message(call, parameters, stamp.as_ref())
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
    let Some(beginning) = secret.get(..FRAGMENT_MIN) else { return text.to_owned() };
    let mut parts = text.split(beginning);
    let mut shown = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let same = part.bytes().zip(secret.bytes().skip(FRAGMENT_MIN)).take_while(|(a, b)| a == b).count();
        shown.push('…');
        shown.push_str(part.get(same..).unwrap_or_default());
    }
    shown
}

/// Returns headers whose values no log shows. A value that a header cannot contain is left out; then the exchange
/// refuses the call.
fn sensitive(headers: Vec<(&'static str, SecretString)>) -> HeaderMap {
    let value = |text: SecretString| {
        let mut value = HeaderValue::from_str(text.expose_secret()).ok()?;
        value.set_sensitive(true);
        Some(value)
    };
    let header = |(name, text)| Some((HeaderName::from_static(name), value(text)?));
    headers.into_iter().filter_map(header).collect()
}

const fn method(method: Method) -> reqwest::Method {
    match method {
        Method::Get => reqwest::Method::GET,
        Method::Post => reqwest::Method::POST,
        Method::Put => reqwest::Method::PUT,
    }
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
async fn body_of(call: &'static Call, mut response: Response) -> Result<Vec<u8>, CallError> {
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
fn broken(call: &'static Call, error: reqwest::Error) -> CallError {
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
