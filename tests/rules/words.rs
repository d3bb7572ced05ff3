//! One meaning per word: words that the glossary replaced stay out of code, comments and pages.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::root;

/// A word that is not used, and the word of `docs/glossary.md` for its meaning.
///
/// Identifiers are split at `_` and where the case changes, and compared in lower case: `tally` is found in `Tally`,
/// `tally_ms` and `a_tally_is_kept`. An entry of two words is found where they follow each other in one identifier.
const REPLACED: [(&str, &str); 52] = [
    ("acquit", "clear"),
    ("are_foreseen", "is_read_ahead"),
    ("backoff", "retry delay"),
    ("bookkeeping", "gap detector"),
    ("canonical_key", "sort key"),
    ("circumstances", "EvalContext"),
    ("complete_to_ms", "watermark_ms"),
    ("folded_to_ms", "watermark_ms"),
    ("foresee", "preload"),
    ("foreseen", "preloaded"),
    ("guilty", "culprit"),
    ("heard", "received, or outcome"),
    ("holdback", "reorder buffer"),
    ("homeless", "orphaned"),
    ("instances_mut", "positions_mut"),
    ("movement", "position change"),
    ("passed_over", "skipped"),
    ("place_row", "checkpoint_row"),
    ("put_aside", "quarantined"),
    ("say_again", "retry"),
    ("scene", "page context, or position at a time"),
    ("set_facts", "set_recorded_decisions"),
    ("skip_guilty", "skip_culprit"),
    ("stakes", "exposure"),
    ("standing", "name the state"),
    ("still_holds", "covers"),
    ("stretch", "range, or price run"),
    ("stretches", "ranges, or price runs"),
    ("surprised", "unexpected"),
    ("survey", "stream stats"),
    ("survey_interval", "CHECK_INTERVAL"),
    ("surveyed", "stats_read"),
    ("surveys", "stream stats"),
    ("suspect", "the crash guard, or name the doubt"),
    ("suspects", "the crash guard, or name the doubts"),
    ("take_over", "claim, or adopt"),
    ("tallies", "counters"),
    ("tally", "counters"),
    ("tell_how_far", "publish_watermark"),
    ("telling", "observability"),
    ("told", "published, reported, or name the content"),
    ("trouble", "read error"),
    ("twin", "duplicate"),
    ("twins", "duplicates"),
    ("unforeseen", "provisional"),
    ("unheard", "unanswered"),
    ("unsaid", "pending"),
    ("unsaved", "dirty"),
    ("unsurprised", "expected"),
    ("untold", "pending"),
    ("whoever", "name the actor"),
    ("word_error", "CommandError"),
];

/// The contract once, with its place: `docs/spec/FILE.md, "Heading"`.
const OLD_CONTRACT: &str = "SPEC";

/// Identifiers that stay, although a replaced word is in them. Only the whole identifier is accepted.
const CONTRACT_NAMES: [(&str, &str); 11] = [
    ("CURSOR_STANDING", "log line of the concern `cursor_standing`"),
    ("HarvesterCursorStanding", "alert of the concern `cursor_standing`"),
    ("cursor_standing", "concern of a service"),
    ("cursor_standing_seconds", "metric of the concern `cursor_standing`"),
    ("fills_told", "counter of a summary"),
    ("harvester_cursor_standing_seconds", "metric of the concern `cursor_standing`"),
    ("homeless", "member of `own_decisions` in a summary"),
    ("passed_over", "counter of a summary and of an audit"),
    ("s4_own_decisions_homeless", "a replay case of `homeless`"),
    ("surveys", "member of `redis` in a report"),
    ("twin", "kind of tampering in an audit"),
];

/// Words in which `told` has its everyday meaning.
const EVERYDAY: [(&str, &str); 2] =
    [("told to", "a process is asked to stop"), ("told apart", "two things are distinguished")];

/// Files in which a replaced word is still allowed, by the beginning of their path.
const EXCEPTIONS: [(&str, &str, &str); 3] = [
    ("src/cli/audit/coverage.rs", "told", "member of `coverage` in an audit"),
    ("src/codec/fields.rs", "told", "words of a story: a fill that an order told"),
    ("tests/rules/words.rs", "", "this list"),
];

/// Folders and files that are read, with the endings that count.
const READ: [(&str, &[&str]); 6] = [
    ("src", &["rs", "html", "js", "css"]),
    ("tests", &["rs"]),
    ("tools", &["rs", "py", "md"]),
    ("docs", &["md"]),
    ("README.md", &["md"]),
    ("CONTRIBUTING.md", &["md"]),
];

#[test]
fn replaced_words_stay_out_of_code_and_pages() {
    let mut found = Vec::new();
    let mut read = 0;
    for path in READ.iter().flat_map(|(path, endings)| below(&root().join(path), endings)) {
        let text = fs::read_to_string(&path).expect("a file of text");
        let file = path.strip_prefix(root()).expect("below the root").display().to_string();
        read += 1;
        for (number, line) in text.lines().enumerate() {
            let accepted = |word| {
                EXCEPTIONS.iter().any(|(of, except, _)| file.starts_with(of) && (except.is_empty() || *except == word))
            };
            let replaced = replaced_in(line).into_iter().filter(|(word, _)| !accepted(*word));
            found.extend(replaced.map(|(word, instead)| format!("{file}:{}: `{word}`; use: {instead}", number + 1)));
        }
    }
    assert!(read > 600, "only {read} files were read");
    assert!(found.is_empty(), "{} words that the glossary replaced:\n{}", found.len(), found.join("\n"));
}

/// Returns the files with one of these endings below a folder, or the file itself.
fn below(path: &Path, endings: &[&str]) -> Vec<PathBuf> {
    if path.is_file() {
        let has_ending = path.extension().is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted));
        return if has_ending { vec![path.to_owned()] } else { Vec::new() };
    }
    let entries = fs::read_dir(path).expect("a folder of the project");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry of the folder").path()).collect();
    paths.sort();
    paths.iter().flat_map(|path| below(path, endings)).collect()
}

/// Returns the replaced words of a line.
fn replaced_in(line: &str) -> Vec<(&'static str, &'static str)> {
    let line = EVERYDAY.iter().fold(line.to_owned(), |line, (words, _)| line.replace(words, ""));
    let identifiers = || line.split(|c: char| !c.is_alphanumeric() && c != '_');
    let stays = |identifier: &str| CONTRACT_NAMES.iter().any(|(name, _)| *name == identifier);
    // One after the other: two underscores are between the last word of one and the first word of the next.
    let parts: String = identifiers().filter(|identifier| !stays(identifier)).map(parts_of).collect();
    let is_word = |at: usize, word: &str| parts[..at].ends_with('_') && parts[at + word.len()..].starts_with('_');
    let has = |word: &str| parts.match_indices(word).any(|(at, _)| is_word(at, word));
    let mut found: Vec<_> = REPLACED.into_iter().filter(|(word, _)| has(word)).collect();
    if identifiers().any(|identifier| identifier == OLD_CONTRACT) {
        found.push((OLD_CONTRACT, "docs/spec/FILE.md, \"Heading\""));
    }
    found
}

/// Returns the words of an identifier in lower case, each between underscores: `ReadError` is `_read_error_`.
fn parts_of(identifier: &str) -> String {
    let letters: Vec<char> = identifier.chars().collect();
    let mut parts = String::from("_");
    for (at, letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| letters[before]);
        let is_first = before.is_some_and(|before| !before.is_uppercase() && letter.is_uppercase());
        let ends_capitals = before.is_some_and(char::is_uppercase)
            && letter.is_uppercase()
            && letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        if (is_first || ends_capitals) && !parts.ends_with('_') {
            parts.push('_');
        }
        parts.extend(letter.to_lowercase());
    }
    parts.push('_');
    parts
}

#[test]
fn a_replaced_word_is_found_in_parts_of_identifiers_and_in_prose() {
    let words = |line| replaced_in(line).into_iter().map(|(word, _)| word).collect::<Vec<_>>();
    assert_eq!(words("let tally = Tally::default(); // guilty"), ["guilty", "tally"]);
    assert_eq!(words("heard_ms: Option<u64>"), ["heard"]);
    assert_eq!(words("fn i10_an_entry_that_ended_the_process_twice_is_guilty()"), ["guilty"]);
    assert_eq!(words("fn a_stretch_that_may_be_missing()"), ["stretch"]);
    assert_eq!(
        words("struct CanonicalKey; const SURVEY_INTERVAL: u64 = 1;"),
        ["canonical_key", "survey", "survey_interval"]
    );
    assert_eq!(words("an HTTPTally; SPEC.md"), ["tally", "SPEC"]);
    assert_eq!(words("fn what_was_put_aside_is_told()"), ["put_aside", "told"]);
    assert_eq!(words("put aside, canonical key, stretched, tallying, untolding, spec"), [""; 0]);
}

#[test]
fn names_of_the_contract_and_everyday_words_are_accepted_as_such_only() {
    let words = |line| replaced_in(line).into_iter().map(|(word, _)| word).collect::<Vec<_>>();
    assert_eq!(words("count(\"fills_told\"), `homeless`, passed_over: 3, \"twin\", redis.surveys"), [""; 0]);
    assert_eq!(words("the service is told to stop; told apart by size"), [""; 0]);
    assert_eq!(words("fills_told_twice, is_passed_over, a_twin, the gap is told"), ["passed_over", "told", "twin"]);
}

#[test]
fn every_exception_is_still_needed() {
    let mut unused = Vec::new();
    for (file, word, _) in EXCEPTIONS.iter().filter(|(_, word, _)| !word.is_empty()) {
        let is_below =
            |path: &PathBuf| path.strip_prefix(root()).is_ok_and(|path| path.display().to_string().starts_with(file));
        let mut paths = READ.iter().flat_map(|(path, endings)| below(&root().join(path), endings)).filter(is_below);
        let has_word = |path: PathBuf| {
            let text = fs::read_to_string(path).expect("a file of text");
            text.lines().any(|line| replaced_in(line).iter().any(|(found, _)| *found == *word))
        };
        if !paths.any(has_word) {
            unused.push(format!("{file}: {word}"));
        }
    }
    assert!(unused.is_empty(), "exceptions that are no longer needed: {}", unused.join(", "));
}
