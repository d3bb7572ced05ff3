//! One exchange, described without effects: its addresses and limits, the calls and their signatures, the meaning of
//! its refusals, and how its answers and events are read.

use std::fmt;
use std::panic::RefUnwindSafe;

use secrecy::SecretString;

use super::credentials::Credentials;
use super::facts::{AccountMode, InstrumentRow, Marks, PositionRow, Unreadable, UserEvent, UserTrade};
use crate::domain::named;

/// The properties of one exchange. The client, its limits, the feeds and the fetcher know a venue only through this
/// trait.
///
/// It assumes a REST interface whose calls have weights, and sockets that are addressed by their URL alone. The socket
/// of the account needs a key, which a call opens and other calls keep alive.
pub trait Venue: fmt::Debug + Sync + RefUnwindSafe {
    fn terms(&self) -> &'static VenueTerms;

    /// Returns the environment of an address; `None` for hosts that the venue does not publish.
    fn environment_of(&self, url: &str) -> Option<&'static Environment>;

    // ---- what is asked
    // -----------------------------------------------------------------------------------------------

    /// The server's clock. [ms since 1970]
    fn clock(&self) -> Question<u64>;

    /// The mark price of one symbol, or those of all symbols.
    fn marks(&self, symbol: Option<&str>) -> Question<Marks>;

    /// The filters of every instrument.
    fn instruments(&self) -> Question<Vec<InstrumentRow>>;

    /// The positions of all symbols, from one of the versions that [`VenueTerms`] names.
    fn positions(&self, version: &str) -> Question<Vec<PositionRow>>;

    fn account_mode(&self) -> Question<AccountMode>;

    /// The account's trades in a symbol, oldest first.
    fn trades(&self, symbol: &str, from: TradesFrom) -> Question<Vec<UserTrade>>;

    /// A key for the account's socket.
    fn open_key(&self) -> Question<SecretString>;

    /// Another life for that key.
    fn keep_key(&self, key: &SecretString) -> Question<()>;

    // ---- how it is sent, and refused
    // ---------------------------------------------------------------------------------

    /// Returns a call as it is sent. `stamp` is `None` without credentials.
    fn message(&self, call: &Call, parameters: &[Parameter], stamp: Option<&Stamp<'_>>) -> Message;

    /// Returns the meaning of an answer with a status other than 2xx.
    fn refusal(&self, status: u16, body: &[u8]) -> Refusal;

    // ---- sockets
    // -----------------------------------------------------------------------------------------------------

    /// Returns where the address of the account's socket has its key, for people.
    fn key_form(&self, user_url: &str, environment: &Environment) -> &'static str;

    /// Returns the address of the account's socket with its key.
    fn account_url(&self, user_url: &str, environment: &Environment, key: &SecretString) -> SecretString;

    /// Reads a message of the socket of mark prices.
    fn mark_updates(&self, text: &str) -> Result<Marks, Unreadable>;

    /// Reads a message of the account's socket.
    fn user_event(&self, text: &str) -> Result<UserEvent, Unreadable>;
}

/// The names and limits of a venue.
#[derive(Debug)]
pub struct VenueTerms {
    pub environments: &'static [Environment],
    /// Name of the environment that counts if none is configured: one without real money.
    pub preset: &'static str,
    /// Environment variables of key and secret.
    pub key_name: &'static str,
    pub secret_name: &'static str,
    /// Length of a key and of an HMAC secret. [characters]
    pub credential_length: usize,
    /// Name of the call for positions, for people.
    pub positions_name: &'static str,
    /// Its versions; the first one is the default.
    pub position_versions: &'static [&'static str],
    /// Weight that an address may use per minute. [weight]
    pub weight_per_min: u64,
    /// Weight of the heaviest call. [weight]
    pub weight_max: u64,
    /// Header of an answer that contains the weight which the address has used in this minute.
    pub used_weight_header: &'static str,
    /// Maximum number of trades in one answer. [1]
    pub trades_max: usize,
    /// Maximum length of a window of trades. [ms]
    pub trades_window_ms: u64,
    /// How far back the venue keeps trades. [ms]
    pub trades_kept_ms: u64,
    /// A key of the account's socket that is not kept alive expires after this time. [ms]
    pub key_life_ms: u64,
    /// A symbol that the venue always lists.
    pub symbol: &'static str,
}

/// A market with its own prices, positions and keys, and its addresses.
#[derive(Debug, PartialEq, Eq)]
pub struct Environment {
    /// Name in the configuration.
    pub name: &'static str,
    /// The market whose prices and positions it has. Test environments do not have the real ones.
    pub market: &'static str,
    pub rest_url: &'static str,
    /// Socket of mark prices.
    pub mark_url: &'static str,
    /// Socket of the account, without its key.
    pub user_url: &'static str,
    /// Part of these two addresses without which a socket connects and stays silent; empty if there is none.
    pub mark_path: &'static str,
    pub user_path: &'static str,
}

/// A call of the venue's REST interface.
#[derive(Debug, PartialEq, Eq)]
pub struct Call {
    /// Name for counts and reports.
    pub name: &'static str,
    pub method: Method,
    pub path: &'static str,
    /// The weight that counts against the limit of the address. [weight]
    pub weight: u64,
    pub access: Access,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method.name(), self.path)
    }
}

named! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Method {
        Get => "GET",
        Post => "POST",
        Put => "PUT",
    }
}

/// The authentication of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Public,
    /// The key, without a signature.
    Key,
    /// The key, and a signature.
    Signed,
}

/// Name and value of a parameter, not encoded.
pub type Parameter = (&'static str, String);

/// A call with its parameters, and how its answer is read. Not `Debug`, because a parameter may be a secret.
pub struct Question<T> {
    pub call: &'static Call,
    pub parameters: Vec<Parameter>,
    pub read: fn(&[u8]) -> Result<T, Unreadable>,
}

/// The selection of a symbol's trades.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TradesFrom {
    /// Trades from this id on, oldest first.
    Id(u64),
    /// Trades in a window, oldest first; a longer one than the venue's is cut at its end. [ms since 1970]
    Window { from_ms: u64, to_ms: u64 },
}

/// The values from which a signature is made.
pub struct Stamp<'a> {
    pub credentials: &'a Credentials,
    /// The server's present time. [ms since 1970]
    pub now_ms: u64,
    /// Maximum age of the call when it arrives. [ms]
    pub window_ms: u64,
}

/// A call as it is sent. Not `Debug`, because it contains key and signature.
pub struct Message {
    /// Path and query.
    pub target: String,
    pub headers: Vec<(&'static str, SecretString)>,
}

/// A refusal as the venue means it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub meaning: Meaning,
    /// The venue's own words; `None` if the body has none, such as a page of HTML.
    pub said: Option<RefusalText>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalText {
    /// The venue's code. 0 if it gave none.
    pub code: i64,
    /// The message, shortened, without line breaks.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The address is blocked, for its behaviour or its region: the end that the venue names [ms since 1970], and the
    /// wait if it names none. [ms]
    ShutOut { until_ms: Option<u64>, wait_ms: u64 },
    /// Too many calls: the wait if the venue names none. [ms]
    TooMany { wait_ms: u64 },
    /// The call may have been executed.
    OutcomeUnknown,
    /// Nothing was executed.
    Refused(Cause),
}

/// Why a call was refused, as far as the client acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The timestamp is too far from the server's clock.
    Timestamp,
    /// Key, address or permission.
    Credentials,
    /// The same, or a signature of another kind.
    Signature,
    /// The exchange does not have the symbol: it was delisted, or never existed.
    NoSymbol,
    /// The key of the account's socket has expired.
    NoKey,
    Other,
}
