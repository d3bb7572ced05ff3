//! Encodes the query of a call.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The characters that are not encoded in a query (RFC 3986). All others are encoded before the query is signed.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Returns names and values as an encoded query.
pub(super) fn encoded(parameters: &[(&str, String)]) -> String {
    let mut query = String::new();
    for (name, value) in parameters {
        let separator = if query.is_empty() { "" } else { "&" };
        let _ = write!(query, "{separator}{name}={}", utf8_percent_encode(value, ENCODED));
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ascii_is_encoded_before_it_is_signed() {
        let parameters = [("symbol", "币安USDT".to_owned()), ("note", "a b&c=d~-_.".to_owned())];
        assert_eq!(encoded(&parameters), "symbol=%E5%B8%81%E5%AE%89USDT&note=a%20b%26c%3Dd~-_.");
    }
}
