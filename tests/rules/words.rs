//! One meaning per word: words that the glossary replaced stay out of the code and of its comments.

use std::fs;

use crate::support::root;
use crate::support::rust::files;

/// A word that is not used, and the word of `docs/glossary.md` for its meaning.
const REPLACED: [(&str, &str); 36] = [
    ("instances_mut", "positions_mut"),
    ("Movement", "PositionChange"),
    ("Holdback", "ReorderBuffer"),
    ("holdback", "reorder buffer"),
    ("CanonicalKey", "SortKey"),
    ("Tally", "Counters"),
    ("tally", "counters"),
    ("Stakes", "Exposure"),
    ("Circumstances", "EvalContext"),
    ("Heard", "DecisionOutcome"),
    ("heard", "received, or outcome"),
    ("foresee", "preload"),
    ("unforeseen", "provisional"),
    ("guilty", "culprit"),
    ("acquit", "clear"),
    ("say_again", "retry"),
    ("surprised", "unexpected"),
    ("stretch", "range"),
    ("whoever", "name the actor"),
    ("Trouble", "ReadError"),
    ("Bookkeeping", "GapDetector"),
    ("Surveyed", "StreamStats"),
    ("surveyed", "stats_read"),
    ("SURVEY_INTERVAL", "CHECK_INTERVAL"),
    ("are_foreseen", "is_read_ahead"),
    ("set_facts", "set_recorded_decisions"),
    ("skip_guilty", "skip_culprit"),
    ("tell_how_far", "publish_watermark"),
    ("told_to_ms", "published_to_ms"),
    ("take_over", "claim"),
    ("put_aside", "quarantined"),
    ("place_row", "checkpoint_row"),
    ("twins", "duplicates"),
    ("Told", "name the content"),
    ("unsaid", "pending"),
    ("SPEC", "docs/spec/FILE.md, \"Heading\""),
];

#[test]
fn replaced_words_stay_out_of_the_code() {
    let mut found = Vec::new();
    for path in files(&root().join("src")) {
        let text = fs::read_to_string(&path).expect("a source file");
        let file = path.strip_prefix(root()).expect("below the root").display().to_string();
        for (number, line) in text.lines().enumerate() {
            for (word, instead) in replaced_in(line) {
                found.push(format!("{file}:{}: `{word}`; use: {instead}", number + 1));
            }
        }
    }
    assert!(found.is_empty(), "words that the glossary replaced:\n{}", found.join("\n"));
}

/// Returns the replaced words of a line, as whole words only.
fn replaced_in(line: &str) -> Vec<(&'static str, &'static str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let words: Vec<&str> = line.split(|c| !is_word(c)).collect();
    REPLACED.into_iter().filter(|(word, _)| words.contains(word)).collect()
}

#[test]
fn a_replaced_word_is_found_as_a_whole_word_only() {
    let words = |line| replaced_in(line).into_iter().map(|(word, _)| word).collect::<Vec<_>>();
    assert_eq!(words("let tally = Tally::default(); // guilty"), ["Tally", "tally", "guilty"]);
    assert_eq!(words("let counters = stretched(tally_ms);"), [""; 0]);
}
