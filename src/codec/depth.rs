//! The limit of nesting in JSON (docs/spec/history-files.md, "Hostile input"). A text that nests deeper is unreadable
//! in every place.
//!
//! A parser uses stack space for each level, so the depth is checked before anything is parsed.

use memchr::memchr2_iter;

/// Largest number of open brackets. [1]
pub const DEPTH_MAX: usize = 64;

/// Returns true if a JSON text nests no deeper than [`DEPTH_MAX`]. For a text that is not JSON it only means that a
/// parser stops before that depth.
pub fn is_bounded(text: &[u8]) -> bool {
    // Nearly every text has fewer brackets than the limit.
    if memchr2_iter(b'{', b'[', text).nth(DEPTH_MAX).is_none() {
        return true;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return false;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_count_where_they_are_open_at_a_time() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for (text, wanted) in [
            (String::new(), true),
            (nested(DEPTH_MAX), true),
            (nested(DEPTH_MAX + 1), false),
            (nested(20_000), false),
            ("{\"a\":".repeat(20_000), false),
            (format!("[{}]", "[],".repeat(1000)), true),
            (format!("[\"{}\"]", "[".repeat(1000)), true),
            (format!("[\"\\\"{}\"]", "[".repeat(1000)), true),
            (format!("[\"\\\\\"{}]", "[".repeat(1000)), false),
            (format!("[\"x\",{}", nested(DEPTH_MAX)), false),
        ] {
            assert_eq!(is_bounded(text.as_bytes()), wanted, "{:.40}", text);
        }
    }
}
