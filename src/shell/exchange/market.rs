//! Which of the exchange's markets an address belongs to: prices of one are not those of the other.

use std::fmt;

/// A market with prices and positions of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Market {
    Production,
    Test,
}

impl Market {
    /// The market of an address; `None` for hosts that the exchange does not publish, such as loopback.
    pub fn of(url: &str) -> Option<Self> {
        let url = reqwest::Url::parse(url).ok()?;
        let host = url.host_str()?;
        let is_below =
            |domain: &str| host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        match () {
            () if is_below("binancefuture.com") || host.starts_with("demo-") || host.starts_with("testnet.") => {
                Some(Self::Test)
            }
            () if is_below("binance.com") => Some(Self::Production),
            () => None,
        }
    }
}

impl fmt::Display for Market {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Production => "production",
            Self::Test => "test",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i50_knows_the_test_market_from_production() {
        for (url, want) in [
            ("https://fapi.binance.com", Some(Market::Production)),
            ("wss://fstream.binance.com/market/ws/!markPrice@arr@1s", Some(Market::Production)),
            ("https://testnet.binancefuture.com", Some(Market::Test)),
            ("https://demo-fapi.binance.com", Some(Market::Test)),
            ("wss://fstream.binancefuture.com/ws/", Some(Market::Test)),
            ("https://notbinance.com", None),
            ("http://127.0.0.1:8080", None),
            ("nonsense", None),
        ] {
            assert_eq!(Market::of(url), want, "{url}");
        }
    }
}
