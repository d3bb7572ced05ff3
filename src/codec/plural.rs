//! Numbers with their nouns in texts for people.

use std::fmt::Display;

/// Returns a number with its noun in the right form: `1 entry`, `3 entries`.
pub fn plural(n: impl TryInto<u64> + Copy + Display, noun: &str) -> String {
    if n.try_into().is_ok_and(|n: u64| n == 1) {
        return format!("{n} {noun}");
    }
    match noun.strip_suffix('y') {
        Some(stem) => format!("{n} {stem}ies"),
        None => format!("{n} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_all_others_are_plural() {
        let of = |noun| [0, 1, 2].map(|n: usize| plural(n, noun));
        assert_eq!(of("entry"), ["0 entries", "1 entry", "2 entries"]);
        assert_eq!(of("decision"), ["0 decisions", "1 decision", "2 decisions"]);
    }
}
