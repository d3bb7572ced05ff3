//! Names of symbols: one spelling for each contract (docs/spec/streams.md, "Symbols").

use std::borrow::Cow;

use crate::domain::event::Reason;

/// Longest name of a symbol. [bytes]
pub const NAME_SIZE_MAX: usize = 64;

/// Returns the one spelling of a symbol: trimmed, in upper case, without the marks of the unified form.
///
/// `BTC/USDT` and `btc/usdt:usdt` are `BTCUSDT`, `BTC/USDT:USDT-260327` is `BTCUSDT_260327`.
///
/// Errors: [`Reason::NoSymbol`] for a text that is not a name, options included; [`Reason::InverseContract`] for a
/// contract that is settled in coins.
pub fn normalized(text: &str) -> Result<Cow<'_, str>, Reason> {
    let text = text.trim();
    // Symbols nearly always come in this spelling, and then need no copy.
    let name = if is_plain(text) {
        Cow::Borrowed(text)
    } else {
        let upper = text.to_uppercase();
        match upper.split_once('/') {
            Some((base, rest)) => Cow::Owned(of_unified(base, rest)?),
            None => Cow::Owned(upper),
        }
    };
    let is_known = |c: char| c.is_alphabetic() || matches!(c, '0'..='9' | '_' | '-' | '.');
    if name.is_empty() || name.len() > NAME_SIZE_MAX || !name.chars().all(is_known) {
        return Err(Reason::NoSymbol);
    }
    if is_inverse(&name) { Err(Reason::InverseContract) } else { Ok(name) }
}

/// Returns true if the name has only upper-case letters and digits, as nearly all names do.
pub fn is_plain(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

/// Reads `BASE/QUOTE`, `BASE/QUOTE:SETTLE` or `BASE/QUOTE:SETTLE-YYMMDD` in upper case. `rest` starts after the bar.
fn of_unified(base: &str, rest: &str) -> Result<String, Reason> {
    let (quote, settled) = rest.split_once(':').map_or((rest, None), |(quote, settled)| (quote, Some(settled)));
    let (settle, expiry) = match settled {
        None => (quote, None),
        Some(settled) => settled.split_once('-').map_or((settled, None), |(settle, expiry)| (settle, Some(expiry))),
    };
    let is_asset = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphabetic() || c.is_ascii_digit());
    let is_expiry = |text: &str| text.len() == 6 && text.bytes().all(|b| b.is_ascii_digit());
    let is_pair = !base.is_empty() && is_asset(settle) && expiry.is_none_or(is_expiry);
    // A quote that is not an asset is an exchange name after a bar: `BTC/USD_PERP`.
    if (!is_pair && settled.is_some()) || base.is_empty() || quote.is_empty() {
        return Err(Reason::NoSymbol);
    }
    if settle != quote {
        return Err(Reason::InverseContract);
    }
    Ok(expiry.map_or_else(|| format!("{base}{quote}"), |expiry| format!("{base}{quote}_{expiry}")))
}

/// Returns true for `…USD_PERP` and `…USD_<6 digits>`: contracts that are settled in coins.
fn is_inverse(name: &str) -> bool {
    let Some((pair, suffix)) = name.rsplit_once('_') else { return false };
    let is_dated = suffix.len() == 6 && suffix.bytes().all(|b| b.is_ascii_digit());
    pair.ends_with("USD") && (suffix == "PERP" || is_dated)
}

/// Returns the words of a text that may be symbols, each in its one spelling.
///
/// A word is a run of characters that names consist of. Its parts between `_`, `-` and `.` count as words, too.
pub fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    let is_mark = |c: char| matches!(c, '_' | '-' | '.');
    let is_of_name = move |c: char| c.is_alphabetic() || c.is_ascii_digit() || is_mark(c);
    // In nested JSON an escape such as `\n` is written out. Its letter is not part of the word after it.
    let runs = text.split('\\').enumerate().flat_map(move |(place, piece)| {
        let behind = if place > 0 { piece.strip_prefix(['n', 't', 'r', 'b', 'f']) } else { None };
        let whole = piece.split(move |c: char| !is_of_name(c) && !matches!(c, '/' | ':'));
        let rest = behind.into_iter().flat_map(move |piece| piece.split(move |c: char| !is_of_name(c)));
        whole.chain(rest)
    });
    runs.flat_map(move |run| {
        let trimmed = run.trim_matches(|c| is_mark(c) || matches!(c, '/' | ':'));
        let parts = run.split(move |c: char| !(c.is_alphabetic() || c.is_ascii_digit()));
        let names = run.split(['/', ':']).map(move |name| name.trim_matches(is_mark));
        [trimmed].into_iter().chain(names).chain(parts)
    })
    .filter(|word| !word.is_empty())
    .filter_map(|word| normalized(word).ok().map(Cow::into_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_each_contract_one_spelling() {
        for (text, want) in [
            ("BTCUSDT", Ok("BTCUSDT")),
            (" btcusdt ", Ok("BTCUSDT")),
            ("1000PEPEUSDT", Ok("1000PEPEUSDT")),
            ("币安人生USDT", Ok("币安人生USDT")),
            ("BTCUSDT_260327", Ok("BTCUSDT_260327")),
            ("BTC-USDT", Ok("BTC-USDT")),
            ("BTC/USDT", Ok("BTCUSDT")),
            ("btc/usdt:usdt", Ok("BTCUSDT")),
            ("BTC/USDT:USDT-260327", Ok("BTCUSDT_260327")),
            ("BTC/USD:BTC", Err(Reason::InverseContract)),
            ("ETH/USD:ETH-260327", Err(Reason::InverseContract)),
            ("BTCUSD_PERP", Err(Reason::InverseContract)),
            ("btcusd_260327", Err(Reason::InverseContract)),
            ("BTC/USD_PERP", Err(Reason::InverseContract)),
            ("BTCUSD", Ok("BTCUSD")),
            ("BTCBUSD_260327", Err(Reason::InverseContract)),
            ("BTC/USDT:USDT-260327-70000-C", Err(Reason::NoSymbol)),
            ("/USDT", Err(Reason::NoSymbol)),
            ("BTC/", Err(Reason::NoSymbol)),
            ("BTC/USDT:", Err(Reason::NoSymbol)),
            ("BTC/USDT/ETH", Err(Reason::NoSymbol)),
            ("BTC USDT", Err(Reason::NoSymbol)),
            ("BTC\nUSDT", Err(Reason::NoSymbol)),
            ("BTC\u{202e}USDT", Err(Reason::NoSymbol)),
            ("", Err(Reason::NoSymbol)),
        ] {
            assert_eq!(normalized(text).as_deref().map_err(|reason| *reason), want, "{text:?}");
        }
        assert!(normalized(&"A".repeat(NAME_SIZE_MAX)).is_ok());
        assert_eq!(normalized(&"A".repeat(NAME_SIZE_MAX + 1)), Err(Reason::NoSymbol));
    }

    #[test]
    fn finds_the_names_in_any_text() {
        let text = r#"{\\\"symbol\\\":\\\"ENAUSDT\\\"} enb/usdt:usdt, x\nENCUSDT\t-order_ENDUSDT.7 (ENEUSDT_260327)"#;
        let found: Vec<String> = words(text).collect();
        for name in ["ENAUSDT", "ENBUSDT", "ENCUSDT", "ENDUSDT", "ENEUSDT_260327"] {
            assert!(found.iter().any(|word| word == name), "{name} in {found:?}");
        }
        assert!(!found.iter().any(|word| word == "ENAUSD"));
    }
}
