//! Texts from outside as they may be shown: in a log line, on a screen, in an error.
//!
//! Promises: what was shown is one line, reads from left to right, and holds no command to a terminal, whatever it held.

use std::borrow::Cow;
use std::fmt::{self, Write};

/// Returns the text with all characters that would not show as themselves escaped: controls, line ends, characters without
/// width, and those that turn the direction of writing.
pub fn shown(text: &str) -> Cow<'_, str> {
    // Plain ASCII is nearly every text.
    if text.bytes().all(|byte| matches!(byte, 0x20..0x7f)) || !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    Shown(&mut shown).write_str(text).expect("writing to a string does not fail");
    Cow::Owned(shown)
}

/// Escapes all that is written through it as [`shown`] does.
#[derive(Debug)]
pub struct Shown<W>(pub W);

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

/// The same for a text that is JSON, and stays it.
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
}
