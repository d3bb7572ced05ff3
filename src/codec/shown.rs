//! Makes texts from outside safe to show: in a log line, on a screen, in an error.
//!
//! Promises: the result is one line, reads from left to right, and contains neither a command to a terminal nor the
//! password of an address, whatever the text contained.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Returns the text with all characters escaped that would not show as themselves: controls, line ends, characters
/// without width, and those that change the direction of writing. Passwords of addresses in it are masked.
pub fn shown(text: &str) -> Cow<'_, str> {
    match masked(text) {
        Cow::Borrowed(text) => escaped(text),
        Cow::Owned(masked) => Cow::Owned(escaped(&masked).into_owned()),
    }
}

fn escaped(text: &str) -> Cow<'_, str> {
    // Nearly every text is plain ASCII.
    if text.bytes().all(|byte| matches!(byte, 0x20..0x7f)) || !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    Shown(&mut shown).write_str(text).expect("writing to a string does not fail");
    Cow::Owned(shown)
}

/// Escapes everything that is written through it.
struct Shown<W>(W);

impl<W: Write> Write for Shown<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut plain_from = 0;
        for (at, hidden) in text.char_indices().filter(|(_, c)| is_hidden(*c)) {
            self.0.write_str(&text[plain_from..at])?;
            match hidden {
                '\n' => self.0.write_str("\\n")?,
                '\r' => self.0.write_str("\\r")?,
                '\t' => self.0.write_str("\\t")?,
                other => write!(self.0, "{}", other.escape_unicode())?,
            }
            plain_from = at + hidden.len_utf8();
        }
        self.0.write_str(&text[plain_from..])
    }
}

/// Returns the same for a text that is JSON. The result is JSON too.
pub fn json(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_hidden(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(shown, "\\u{unit:04x}").expect("writing to a string does not fail");
            }
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Masks the passwords of the addresses in a text, `scheme://user:password@host`. An address ends at a blank or a
/// quote.
fn masked(text: &str) -> Cow<'_, str> {
    const BEGINS: &str = "://";
    if !text.contains(BEGINS) || !text.contains('@') {
        return Cow::Borrowed(text);
    }
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(BEGINS) {
        let (before, address) = rest.split_at(at + BEGINS.len());
        masked.push_str(before);
        let end = address.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>'));
        let (address, behind) = address.split_at(end.unwrap_or(address.len()));
        let scheme = before.trim_end_matches(BEGINS);
        match address.rsplit_once('@').filter(|_| !names_host_alone(scheme, address)) {
            None => masked.push_str(address),
            Some((user, host)) => {
                if let Some((name, _)) = user.split_once(':') {
                    masked.push_str(name);
                    masked.push(':');
                }
                masked.push_str(MASK);
                masked.push('@');
                masked.push_str(host);
            }
        }
        rest = behind;
    }
    masked.push_str(rest);
    Cow::Owned(masked)
}

/// Returns true if an address of the web (`http`, `ws`) names a host before its path, and no user: an `@` in the path
/// is no sign of a password then. A password of other schemes may contain a `/`.
fn names_host_alone(scheme: &str, address: &str) -> bool {
    let is_web = ["http", "https", "ws", "wss"].iter().any(|web| scheme.ends_with(web));
    let authority = address.split(['/', '?', '#']).next().unwrap_or_default();
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
    is_web
        && (host.contains('.') || host == "localhost")
        && !host.contains('@')
        && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{00ad}'
                | '\u{061c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Replaces a secret.
pub const MASK: &str = "***";

/// Returns a URL without its password. A text that is not plainly a URL is masked completely.
pub fn masked_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return MASK.to_owned() };
    let (user, host) = match rest.rsplit_once('@') {
        // The last `@` counts: a password that was not encoded may contain more of them.
        Some((user, host)) if !scheme.ends_with("unix") => (Some(user), host),
        _ => (None, rest),
    };
    // Parameters may contain a password, too: redis+unix:///socket?pass=…
    let host = match host.split_once('?') {
        Some((host, _)) => format!("{host}?{MASK}"),
        None => host.to_owned(),
    };
    match user.map(|user| user.split_once(':')) {
        None => format!("{scheme}://{host}"),
        Some(Some((name, _))) => format!("{scheme}://{name}:{MASK}@{host}"),
        Some(None) => format!("{scheme}://{MASK}@{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_one_plain_line() {
        for (text, wanted) in [
            ("BTCUSDT", "BTCUSDT"),
            ("币安人生USDT é ×", "币安人生USDT é ×"),
            ("A\nHARVEST_EMIT symbol=B", "A\\nHARVEST_EMIT symbol=B"),
            ("A\r\tB\0", "A\\r\\tB\\u{0}"),
            ("\u{1b}[2J\u{9b}31m\u{7f}", "\\u{1b}[2J\\u{9b}31m\\u{7f}"),
            ("A\u{85}B\u{2028}C\u{2029}D", "A\\u{85}B\\u{2028}C\\u{2029}D"),
            ("\u{202e}TDSU\u{202c}\u{2066}x\u{2069}\u{200f}", "\\u{202e}TDSU\\u{202c}\\u{2066}x\\u{2069}\\u{200f}"),
            ("B\u{200b}TC\u{feff}\u{e0041}", "B\\u{200b}TC\\u{feff}\\u{e0041}"),
        ] {
            assert_eq!(shown(text), wanted);
        }
    }

    #[test]
    fn json_stays_what_it_is() {
        let text = "{\"a\":\"\u{202e}\u{9b}\u{e0041}é\"}";
        assert_eq!(json(text), "{\"a\":\"\\u202e\\u009b\\udb40\\udc41é\"}");
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&json(text)), read(text));
    }

    #[test]
    fn urls_are_shown_without_what_they_hide() {
        for (url, want) in [
            ("redis://127.0.0.1:6379", "redis://127.0.0.1:6379"),
            ("rediss://:word@host:6380/2", "rediss://:***@host:6380/2"),
            ("redis://me:word@host", "redis://me:***@host"),
            ("redis://me:w@rd/x@host/1", "redis://me:***@host/1"),
            ("redis://word@host", "redis://***@host"),
            ("redis+unix:///run/redis.sock?user=me&pass=word", "redis+unix:///run/redis.sock?***"),
            ("redis://me:w?rd@host?protocol=resp3", "redis://me:***@host?***"),
            ("redis+unix:///run/redis.sock?pass=w@rd", "redis+unix:///run/redis.sock?***"),
            ("word", "***"),
        ] {
            assert_eq!(masked_url(url), want, "{url}");
        }
    }

    #[test]
    fn passwords_of_addresses_are_masked_wherever_they_stand() {
        for (text, wanted) in [
            ("at redis://me:word@host:6379/0, said: no", "at redis://me:***@host:6379/0, said: no"),
            ("\"rediss://:w%40rd%2F@host\"", "\"rediss://:***@host\""),
            ("`redis://word@host` and http://a/b", "`redis://***@host` and http://a/b"),
            ("redis://me:w@rd/x?y#z@host redis://me:word@host", "redis://me:***@host redis://me:***@host"),
            ("mail me@host of http://a/b", "mail me@host of http://a/b"),
            // An `@` in a path does not mark a password; one in an address does, whatever follows it.
            ("wss://fstream.host.com/ws/!prices@arr@1s", "wss://fstream.host.com/ws/!prices@arr@1s"),
            ("ws://127.0.0.1:8080/ws/a@b?c=d@e", "ws://127.0.0.1:8080/ws/a@b?c=d@e"),
            ("https://me:w/rd@host.com/a@b", "https://me:***@b"),
            ("https://me:word@host.com/a@b", "https://me:***@b"),
            ("https://me.too:ab/c@host.com", "https://me.too:***@host.com"),
            ("ws://localhost:80/a@b", "ws://localhost:80/a@b"),
            ("redis://10.0.0.1/w@rd", "redis://***@rd"),
            ("redis://", "redis://"),
        ] {
            assert_eq!(shown(text), wanted);
        }
    }
}
