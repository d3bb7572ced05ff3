//! The environment: selects the names that concern us, and cleans their values.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::error::ConfigError;
use crate::codec::exchange::{VENUES, Venue};
use crate::codec::policy::nearest;
use crate::domain::named;

/// Returns the names that set a value or are checked: the credentials of the venues, and ours.
pub fn names() -> impl Iterator<Item = &'static str> {
    let of_venue = |venue: &'static dyn Venue| [venue.terms().key_name, venue.terms().secret_name];
    VENUES.into_iter().flat_map(of_venue).chain(NAMES)
}

const NAMES: [&str; 27] = [
    "HARVEST_CELL",
    "HARVEST_CONSOLE_TOKEN",
    "HARVEST_KILL_SWITCH_KEY",
    "HARVEST_LADDER",
    "HARVEST_LIVE_WRITES_ENABLED",
    "HARVEST_MAX_ACTIONS_PER_MIN",
    "HARVEST_MIN_R",
    "HARVEST_MODE",
    "HARVEST_REDUCE_ONLY",
    "HARVEST_REQUIRE_FRESH_SNAPSHOT_SEC",
    "HARVEST_SCAN_INTERVAL_SEC",
    "HARVEST_SET_BE_AT_R",
    "HARVEST_SIGNING_KEY",
    "HARVEST_TRAIL_ATR_MULT",
    "LOG_LEVEL",
    "REDIS_HOST",
    "REDIS_PORT",
    "REDIS_URL",
    "STREAM_APPLY_PLAN",
    "STREAM_APPLY_RESULT",
    "STREAM_HARVEST_CONTROL",
    "STREAM_HARVEST_DECISION",
    "STREAM_HARVEST_OBSERVATION",
    "STREAM_HARVEST_QUARANTINE",
    "STREAM_HARVEST_SUGGESTIONS",
    "STREAM_POSITION_SNAPSHOT",
    "STREAM_TRADE_INTENT",
];

/// Names that the old service read and that have no effect here.
const RETIRED_NAMES: [&str; 10] = [
    "HARVEST_CONFIG_REFRESH_SEC",
    "HARVEST_CONSUMER_GROUP",
    "HARVEST_CONSUMER_NAME",
    "HARVEST_DEDUP_TTL_SEC",
    "HARVEST_DRY_RUN",
    "HARVEST_LOG_LEVEL",
    "HARVEST_METRICS_PORT",
    "HARVEST_SCAN_BATCH",
    "HARVEST_SYMBOLS",
    "STREAM_PNL_SNAPSHOT",
];

/// The environment variables that concern us, cleaned, with the first flaw that was cleaned off.
#[derive(Clone, Default)]
pub(super) struct Environment(BTreeMap<String, (String, Option<Flaw>)>);

impl Environment {
    /// Keeps the names that concern us: ours, and `more` that the file names.
    pub(super) fn cleaned(
        all: BTreeMap<String, String>,
        more: &BTreeSet<String>,
        warnings: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
        let mut ours = BTreeMap::new();
        let mut of_a_manager = Vec::new();
        for (name, value) in all {
            // In an env file with a byte order mark, the mark is part of the first name.
            let name = name.trim_start_matches('\u{feff}').to_owned();
            if is_of_a_manager(&name, &value) {
                of_a_manager.push(name);
            } else if RETIRED_NAMES.contains(&name.as_str()) {
                warnings.push(format!("{name} does nothing any more: remove it"));
            } else if names().any(|known| known == name) || more.contains(&name) {
                let cleaned = clean(&value);
                let flaw = Flaw::of(&value);
                if let Some(flaw) = flaw {
                    warnings.push(format!("{name}: {} was cleaned", flaw.name()));
                }
                ours.insert(name, (cleaned, flaw));
            } else if name.starts_with("HARVEST_") {
                let names = names().chain(RETIRED_NAMES).filter(|name| name.starts_with("HARVEST_"));
                let nearest = nearest(&name, names).map(str::to_owned);
                return Err(ConfigError::UnknownName { name, nearest });
            }
        }
        if !of_a_manager.is_empty() {
            warnings
                .push(format!("{}: made by a cluster manager for a service; sets nothing", of_a_manager.join(", ")));
        }
        Ok(Self(ours))
    }

    /// Changes each value that is not a secret. Errors with the name and the value for which `render` is false.
    pub(super) fn render(&mut self, render: &impl Fn(&mut String) -> bool) -> Result<(), (String, String)> {
        let is_name_of_ours = |name: &str| name.starts_with("STREAM_") || ["HARVEST_KILL_SWITCH_KEY"].contains(&name);
        for (name, (value, _)) in self.0.iter_mut().filter(|(name, _)| is_name_of_ours(name)) {
            if !render(value) {
                return Err((name.clone(), value.clone()));
            }
        }
        Ok(())
    }

    /// Removes a name, as if it had never been set. Returns false if it was not set.
    pub(super) fn leave_out(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some()
    }

    /// Returns a value that is set and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.set(name).filter(|value| !value.is_empty())
    }

    /// Returns a value that is set, even if it is empty.
    pub(super) fn set(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|(value, _)| value.as_str())
    }

    /// Returns the flaw that was cleaned off a value.
    pub(super) fn flaw(&self, name: &str) -> Option<&'static str> {
        self.0.get(name).and_then(|(_, flaw)| flaw.map(Flaw::name))
    }
}

/// Returns true for a name similar to ours that a cluster manager creates for each service it knows, here one called
/// `harvest-…` or `redis`: `…_SERVICE_HOST`, `…_SERVICE_PORT…`, `…_PORT` with an address, `…_PORT_<n>_TCP…`.
fn is_of_a_manager(name: &str, value: &str) -> bool {
    if !name.starts_with("HARVEST_") && !name.starts_with("REDIS_") {
        return false;
    }
    let value = clean(value);
    let is_address = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let is_of_a_port = |(_, rest): (&str, &str)| {
        let (number, rest) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
        let protocol = ["_TCP", "_UDP", "_SCTP"].iter().find_map(|protocol| rest.strip_prefix(protocol));
        // The parts of an address have values of their own.
        !number.is_empty()
            && match protocol {
                Some("") => is_address,
                Some("_PROTO") => matches!(&*value, "tcp" | "udp" | "sctp"),
                Some("_PORT") => value == number,
                Some("_ADDR") => value.parse::<IpAddr>().is_ok(),
                Some(_) | None => false,
            }
    };
    name.ends_with("_SERVICE_HOST")
        || name.rsplit_once("_SERVICE_PORT").is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with('_'))
        || name.ends_with("_PORT") && is_address
        || name.split_once("_PORT_").is_some_and(is_of_a_port)
}

named! {
    /// A flaw around a value that is cleaned off.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum Flaw {
        CarriageReturn => "a carriage return at the end",
        ByteOrderMark => "a byte order mark",
        WhiteSpace => "white space around the value",
        Quotes => "quotes around the value",
    }
}

impl Flaw {
    /// Returns the first flaw of a value; `None` if cleaning changes nothing.
    pub(super) fn of(value: &str) -> Option<Self> {
        if clean(value) == value {
            return None;
        }
        Some(if value.ends_with('\r') {
            Self::CarriageReturn
        } else if value.starts_with('\u{feff}') {
            Self::ByteOrderMark
        } else if value.trim() != value {
            Self::WhiteSpace
        } else {
            Self::Quotes
        })
    }
}

/// Returns the value without a surrounding byte order mark, carriage returns, quotes and blanks.
pub(super) fn clean(value: &str) -> String {
    let value = value.trim_start_matches('\u{feff}').trim();
    for quote in ['"', '\''] {
        if value.len() >= 2 && value.starts_with(quote) && value.ends_with(quote) {
            return value[1..value.len() - 1].trim().to_owned();
        }
    }
    value.to_owned()
}

/// Returns true for `true`, `1` and `yes`, in upper or lower case.
pub(super) fn is_true(value: &str) -> bool {
    ["true", "1", "yes"].iter().any(|word| value.trim().eq_ignore_ascii_case(word))
}
