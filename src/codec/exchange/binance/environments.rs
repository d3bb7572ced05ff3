//! The environments: markets with separate prices, positions and keys, and the addresses of each.

use crate::codec::exchange::venue::Environment;
use crate::domain::named;

/// The events of the account's socket.
const EVENTS: &str = "ORDER_TRADE_UPDATE/ACCOUNT_UPDATE/listenKeyExpired";

const PRODUCTION: Environment = Environment {
    name: "production",
    market: "production",
    rest_url: "https://fapi.binance.com",
    mark_url: "wss://fstream.binance.com/market/ws/!markPrice@arr@1s",
    user_url: "wss://fstream.binance.com/private/ws",
    mark_path: "/market/",
    user_path: "/private/",
};

const DEMO: Environment = Environment {
    name: "demo",
    market: "test",
    rest_url: "https://demo-fapi.binance.com",
    mark_url: "wss://demo-fstream.binance.com/market/ws/!markPrice@arr@1s",
    user_url: "wss://demo-fstream.binance.com/private/ws",
    mark_path: "/market/",
    user_path: "/private/",
};

/// The older of the two test environments.
pub(super) const TESTNET: Environment = Environment {
    name: "testnet",
    market: "test",
    rest_url: "https://testnet.binancefuture.com",
    mark_url: "wss://fstream.binancefuture.com/ws/!markPrice@arr@1s",
    user_url: "wss://fstream.binancefuture.com/ws",
    mark_path: "",
    user_path: "",
};

pub(super) static ALL: [Environment; 3] = [PRODUCTION, DEMO, TESTNET];

/// Returns the environment of an address; `None` for hosts that the exchange does not publish, such as loopback.
pub(super) fn of(url: &str) -> Option<&'static Environment> {
    let host = host_of(url);
    let is_below = |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let [production, demo, testnet] = &ALL;
    match () {
        () if is_below("binancefuture.com") => Some(testnet),
        () if is_below("binance.com") && host.starts_with("demo-") => Some(demo),
        () if is_below("binance.com") => Some(production),
        () => None,
    }
}

named! {
    /// The position of the listen key in the address of the account's socket.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum KeyForm {
        /// `?listenKey=KEY&events=…`.
        Parameter => "parameter",
        /// `/KEY`. Except on the old testnet, such a socket is accepted and then stays silent.
        Path => "path",
    }
}

impl KeyForm {
    /// Returns the form for a socket address: that of its scheme or host if these determine it, otherwise that of the
    /// environment.
    pub(super) fn of(user_url: &str, environment: &Environment) -> Self {
        if path_of(user_url).starts_with("/private") {
            return Self::Parameter;
        }
        let environment = of(user_url).unwrap_or(environment);
        if environment.name == TESTNET.name { Self::Path } else { Self::Parameter }
    }

    /// Returns the address of the account's socket with its key.
    pub(super) fn address(self, user_url: &str, key: &str) -> String {
        match self {
            Self::Parameter => format!("{user_url}?listenKey={key}&events={EVENTS}"),
            Self::Path => format!("{user_url}/{key}"),
        }
    }
}

/// Returns the host of a URL in lower case, without its port; empty if there is none.
fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    host.split(':').next().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase()
}

/// Returns the path of a URL, from its first slash on.
fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    rest.find('/').map_or("", |at| &rest[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i50_knows_the_environments_apart_by_their_hosts() {
        for (url, want) in [
            ("https://fapi.binance.com", Some("production")),
            ("HTTPS://FAPI.BINANCE.COM.:443/", Some("production")),
            ("wss://fstream.binance.com/market/ws/!markPrice@arr@1s", Some("production")),
            ("https://testnet.binancefuture.com", Some("testnet")),
            ("https://demo-fapi.binance.com", Some("demo")),
            ("wss://fstream.binancefuture.com/ws/", Some("testnet")),
            ("https://notbinance.com", None),
            ("https://binance.com.example.net", None),
            ("http://127.0.0.1:8080", None),
            ("nonsense", None),
        ] {
            assert_eq!(of(url).map(|environment| environment.name), want, "{url}");
        }
        for environment in &ALL {
            assert!(environment.mark_url.contains(environment.mark_path), "{}", environment.name);
            assert!(environment.user_url.contains(environment.user_path), "{}", environment.name);
        }
    }

    #[test]
    fn i69_the_listen_key_is_a_parameter_wherever_a_path_would_stay_silent() {
        for (url, environment, want) in [
            (PRODUCTION.user_url, &PRODUCTION, KeyForm::Parameter),
            (DEMO.user_url, &DEMO, KeyForm::Parameter),
            (TESTNET.user_url, &TESTNET, KeyForm::Path),
            ("wss://fstream.binance.com/ws", &TESTNET, KeyForm::Parameter),
            ("ws://127.0.0.1:1/private/ws", &TESTNET, KeyForm::Parameter),
            ("ws://127.0.0.1:1/ws", &TESTNET, KeyForm::Path),
            ("ws://127.0.0.1:1/ws", &PRODUCTION, KeyForm::Parameter),
            ("wss://fstream.binancefuture.com/ws", &PRODUCTION, KeyForm::Path),
        ] {
            assert_eq!(KeyForm::of(url, environment), want, "{url}");
        }
        assert_eq!(KeyForm::Path.address("ws://h/ws", "k"), "ws://h/ws/k");
        let want = "ws://h/ws?listenKey=k&events=ORDER_TRADE_UPDATE/ACCOUNT_UPDATE/listenKeyExpired";
        assert_eq!(KeyForm::Parameter.address("ws://h/ws", "k"), want);
    }
}
