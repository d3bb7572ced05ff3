//! The environments of the exchange: markets with separate prices, positions and keys, and the addresses of each.

/// An environment of the exchange. It presets the addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    Production,
    Demo,
    /// The older of the two test environments.
    Testnet,
}

/// The position of the listen key in the address of the account's socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenKeyForm {
    /// `?listenKey=KEY&events=…`.
    Parameter,
    /// `/KEY`. Except on the old testnet, such a socket is accepted and then stays silent.
    Path,
}

impl ListenKeyForm {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Parameter => "parameter",
            Self::Path => "path",
        }
    }

    /// Returns the form for a socket address: that of its scheme or host if these determine it, otherwise that of the
    /// environment.
    pub fn of(user_url: &str, environment: Environment) -> Self {
        if path_of(user_url).starts_with("/private") {
            return Self::Parameter;
        }
        Environment::of(user_url).unwrap_or(environment).listen_key_form()
    }
}

impl Environment {
    pub const ALL: [Self; 3] = [Self::Production, Self::Demo, Self::Testnet];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Demo => "demo",
            Self::Testnet => "testnet",
        }
    }

    pub const fn rest_url(self) -> &'static str {
        match self {
            Self::Production => "https://fapi.binance.com",
            Self::Demo => "https://demo-fapi.binance.com",
            Self::Testnet => "https://testnet.binancefuture.com",
        }
    }

    /// Returns the socket of mark prices.
    pub const fn mark_url(self) -> &'static str {
        match self {
            Self::Production => "wss://fstream.binance.com/market/ws/!markPrice@arr@1s",
            Self::Demo => "wss://demo-fstream.binance.com/market/ws/!markPrice@arr@1s",
            Self::Testnet => "wss://fstream.binancefuture.com/ws/!markPrice@arr@1s",
        }
    }

    /// Returns the socket of the account, without its listen key.
    pub const fn user_url(self) -> &'static str {
        match self {
            Self::Production => "wss://fstream.binance.com/private/ws",
            Self::Demo => "wss://demo-fstream.binance.com/private/ws",
            Self::Testnet => "wss://fstream.binancefuture.com/ws",
        }
    }

    pub const fn listen_key_form(self) -> ListenKeyForm {
        match self {
            Self::Production | Self::Demo => ListenKeyForm::Parameter,
            Self::Testnet => ListenKeyForm::Path,
        }
    }

    /// Returns the market whose prices and positions it has. Test environments do not have the real ones.
    pub const fn market(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Demo | Self::Testnet => "test",
        }
    }

    /// Returns the environment of an address; `None` for hosts that the exchange does not publish, such as loopback.
    pub fn of(url: &str) -> Option<Self> {
        let host = host_of(url);
        let is_below =
            |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        match () {
            () if is_below("binancefuture.com") => Some(Self::Testnet),
            () if is_below("binance.com") && host.starts_with("demo-") => Some(Self::Demo),
            () if is_below("binance.com") => Some(Self::Production),
            () => None,
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
            ("https://fapi.binance.com", Some(Environment::Production)),
            ("HTTPS://FAPI.BINANCE.COM.:443/", Some(Environment::Production)),
            ("wss://fstream.binance.com/market/ws/!markPrice@arr@1s", Some(Environment::Production)),
            ("https://testnet.binancefuture.com", Some(Environment::Testnet)),
            ("https://demo-fapi.binance.com", Some(Environment::Demo)),
            ("wss://fstream.binancefuture.com/ws/", Some(Environment::Testnet)),
            ("https://notbinance.com", None),
            ("https://binance.com.example.net", None),
            ("http://127.0.0.1:8080", None),
            ("nonsense", None),
        ] {
            assert_eq!(Environment::of(url), want, "{url}");
        }
        for environment in Environment::ALL {
            for url in [environment.rest_url(), environment.mark_url(), environment.user_url()] {
                assert_eq!(Environment::of(url), Some(environment), "{url}");
            }
            assert_eq!(ListenKeyForm::of(environment.user_url(), environment), environment.listen_key_form());
        }
    }

    #[test]
    fn i69_the_listen_key_is_a_parameter_wherever_a_path_would_stay_silent() {
        for (url, environment, want) in [
            ("wss://fstream.binance.com/ws", Environment::Testnet, ListenKeyForm::Parameter),
            ("ws://127.0.0.1:1/private/ws", Environment::Testnet, ListenKeyForm::Parameter),
            ("ws://127.0.0.1:1/ws", Environment::Testnet, ListenKeyForm::Path),
            ("ws://127.0.0.1:1/ws", Environment::Production, ListenKeyForm::Parameter),
            ("wss://fstream.binancefuture.com/ws", Environment::Production, ListenKeyForm::Path),
        ] {
            assert_eq!(ListenKeyForm::of(url, environment), want, "{url}");
        }
    }
}
