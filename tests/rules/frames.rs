//! Framing of server replies: compared with the parser of the client library; in any pieces, whole, changed and cut
//! off.

use std::fs;

use crate::support::frames::{check, frame};
use crate::support::root;
use harvester::shell::redis::frame::{
    DEPTH_MAX, ELEMENTS_MAX, FrameError, Framer, LINE_BYTES_MAX, TEXT_BYTES_MAX, Token, Walk,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{RngAlgorithm, RngSeed};

/// Returns the number of cases, unless `PROPTEST_CASES` sets it. The cases are the same each time unless a seed is
/// given.
fn cases(unless_set: u32) -> ProptestConfig {
    let set = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { set.cases } else { unless_set };
    let rng_seed = match set.rng_seed {
        RngSeed::Random => RngSeed::Fixed(20_261_105),
        fixed @ RngSeed::Fixed(_) => fixed,
    };
    ProptestConfig { cases, rng_seed, rng_algorithm: RngAlgorithm::ChaCha, failure_persistence: None, ..set }
}

/// Returns a value as a server writes it.
fn value() -> impl Strategy<Value = Vec<u8>> {
    let line = |kind: &'static str, text: String| format!("{kind}{text}\r\n").into_bytes();
    let text = |kind: char, bytes: &[u8]| [format!("{kind}{}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let double = select(vec!["0", "-0", "1.5", "-2.5e-3", "inf", "-inf", "nan"]);
    let leaf = prop_oneof![
        vec(any::<u8>(), 0..40).prop_map(move |bytes| text('$', &bytes)),
        "[a-z0-9-]{0,12}".prop_map(move |bytes| text('$', bytes.as_bytes())),
        "[^\r\n]{0,12}".prop_map(move |text| line("+", text)),
        "[A-Z]{1,9}( [ -~]{0,20})?".prop_map(move |text| line("-", text)),
        vec(any::<u8>(), 0..40).prop_map(move |bytes| text('!', &bytes)),
        "[a-z]{3}:[^\r\n]{0,9}".prop_map(move |bytes| text('=', bytes.as_bytes())),
        any::<i64>().prop_map(move |number| line(":", number.to_string())),
        double.prop_map(move |number| line(",", number.to_owned())),
        any::<bool>().prop_map(move |is| line("#", if is { "t" } else { "f" }.to_owned())),
        "-?[0-9]{1,40}".prop_map(move |digits| line("(", digits)),
        select(vec!["_\r\n", "$-1\r\n", "*-1\r\n", "~-1\r\n", "+OK\r\n"]).prop_map(|nil| nil.as_bytes().to_vec()),
    ];
    leaf.prop_recursive(4, 60, 6, |value| {
        let all = |kind: char, count: usize, values: Vec<Vec<u8>>| {
            [format!("{kind}{count}\r\n").into_bytes(), values.concat()].concat()
        };
        let kind = |value: Vec<Vec<u8>>| [vec![b"+message\r\n".to_vec()], value].concat();
        let even = |values: &mut Vec<Vec<u8>>| {
            values.truncate(values.len() / 2 * 2);
            values.len() / 2
        };
        prop_oneof![
            vec(value.clone(), 0..6).prop_map(move |values| all('*', values.len(), values)),
            vec(value.clone(), 0..6).prop_map(move |values| all('~', values.len(), values)),
            vec(value.clone(), 0..6).prop_map(move |values| all('>', values.len() + 1, kind(values))),
            vec(value.clone(), 0..6).prop_map(move |mut values| all('%', even(&mut values), values)),
            (vec(value.clone(), 0..4), value).prop_map(move |(mut values, data)| {
                let pairs = even(&mut values);
                all('|', pairs, [values, vec![data]].concat())
            }),
        ]
    })
}

/// A change at one place.
#[derive(Clone, Debug)]
enum Change {
    Byte(Index, u8),
    Remove(Index),
    Insert(Index, &'static str),
    Cut(Index),
    Repeat(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let words = ["\r\n", "\r", "\n", "-", "+", " ", "0", "99", "$-2", "*3\r\n", ">1\r\n", "|1\r\n", "_x", "\u{fffd}"];
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        any::<Index>().prop_map(Change::Remove),
        (any::<Index>(), select(words.to_vec())).prop_map(|(at, word)| Change::Insert(at, word)),
        any::<Index>().prop_map(Change::Cut),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Change::Repeat(from, to)),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        if bytes.is_empty() {
            break;
        }
        let len = bytes.len();
        match change {
            Change::Byte(at, byte) => bytes[at.index(len)] = *byte,
            Change::Remove(at) => drop(bytes.remove(at.index(len))),
            Change::Insert(at, word) => {
                let at = at.index(len);
                bytes.splice(at..at, word.bytes());
            }
            Change::Cut(at) => bytes.truncate(at.index(len)),
            Change::Repeat(from, to) => {
                let (from, to) = (from.index(len), to.index(len));
                let piece = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.splice(to..to, piece);
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn server_replies_are_read_as_the_oracle_reads_them(
        values in vec(value(), 1..4),
        pieces in vec(1..30_usize, 1..6),
    ) {
        let bytes = values.concat();
        let framed = check(&bytes, &pieces);
        let ends: Vec<usize> = values.iter().scan(0, |end, value| { *end += value.len(); Some(*end) }).collect();
        prop_assert_eq!(framed.ends, ends);
        prop_assert_eq!(framed.error, None);
    }

    #[test]
    fn changed_bytes_are_read_as_the_oracle_reads_them_or_refused_by_both(
        values in vec(value(), 1..4),
        changes in vec(change(), 1..5),
        pieces in vec(1..30_usize, 1..6),
    ) {
        check(&changed(values.concat(), &changes), &pieces);
    }
}

#[test]
fn every_file_of_the_corpus_is_read_as_the_oracle_reads_it() {
    let mut seen = Vec::new();
    for file in fs::read_dir(root().join("tools/fuzz/corpus/frames")).expect("there is a corpus") {
        let bytes = fs::read(file.expect("a file of the corpus").path()).expect("a seed reads");
        let (piece, replies) = bytes.split_first().expect("the first byte is the size of the pieces");
        seen.push(check(replies, &[usize::from(*piece)]));
    }
    assert!(seen.len() >= 12 && seen.iter().any(|framed| framed.error.is_some()), "{seen:?}");
    assert!(seen.iter().any(|framed| framed.error.is_none() && framed.ends.len() > 1), "{seen:?}");
}

#[test]
fn a_reply_that_exceeds_a_limit_is_refused_with_its_name() {
    let nested = |depth: usize| "*1\r\n".repeat(depth - 1) + "*0\r\n";
    let cases = [
        (nested(DEPTH_MAX), None),
        (nested(DEPTH_MAX + 1), Some(FrameError::TooDeep)),
        ("*1\r\n".repeat(DEPTH_MAX) + ":1\r\n", None),
        (format!("${}\r\n", TEXT_BYTES_MAX), None),
        (format!("${}\r\n", TEXT_BYTES_MAX + 1), Some(FrameError::TextTooLarge(TEXT_BYTES_MAX as i64 + 1))),
        (format!("*{ELEMENTS_MAX}\r\n"), None),
        (format!("%{}\r\n", ELEMENTS_MAX + 1), Some(FrameError::TooManyElements(ELEMENTS_MAX as i64 + 1))),
        (format!("+{}\r\n", "a".repeat(LINE_BYTES_MAX)), None),
        (format!("+{}", "a".repeat(LINE_BYTES_MAX + 1)), Some(FrameError::LineTooLong)),
        (format!("*3\r\n${0}\r\n", TEXT_BYTES_MAX), None),
        ("*-2\r\n".to_owned(), Some(FrameError::BadLength(-2))),
        ("%-1\r\n".to_owned(), Some(FrameError::BadLength(-1))),
        (">-1\r\n".to_owned(), Some(FrameError::BadLength(-1))),
        ("$9223372036854775808\r\n".to_owned(), Some(FrameError::Malformed("a number"))),
        (": 5\r\n".to_owned(), Some(FrameError::Malformed("a number"))),
        ("_0\r\n".to_owned(), Some(FrameError::Malformed("a null"))),
        ("$2\r\nabc\r\n".to_owned(), Some(FrameError::Malformed("a text that does not end where it should"))),
        ("=3\r\nabc\r\n".to_owned(), Some(FrameError::Malformed("a verbatim text without a format"))),
        ("#x\r\n".to_owned(), Some(FrameError::Malformed("a boolean"))),
        (",1.2.3\r\n".to_owned(), Some(FrameError::Malformed("a number with a fraction"))),
        ("HTTP/1.1 400 Bad Request\r\n".to_owned(), Some(FrameError::UnknownType('H'))),
    ];
    for (bytes, error) in cases {
        assert_eq!(frame(bytes.as_bytes(), &[7]).error, error, "{:.40}", bytes.escape_debug());
    }
}

/// The bytes that the framer has passed are overwritten. A framer that reads a large reply again for each piece would
/// find nonsense, and take minutes for 100 MB.
#[test]
fn a_framer_does_not_read_passed_bytes_again() {
    let payload = "p".repeat(400);
    let entry = format!("*2\r\n$15\r\n1770163200000-0\r\n*2\r\n$7\r\npayload\r\n$400\r\n{payload}\r\n");
    let mut bytes = format!("*2000\r\n{}", entry.repeat(2_000)).into_bytes();
    let (mut framer, mut received, piece) = (Framer::default(), 0, 16 << 10);
    while received + piece < bytes.len() {
        received += piece;
        assert_eq!(framer.next(&bytes[..received]), Ok(None));
        // At most one entry is incomplete.
        let passed = received - entry.len();
        bytes[..passed].fill(b'!');
    }
    let size = bytes.len();
    assert_eq!(framer.next(&bytes), Ok(Some(size)));
}

#[test]
fn a_line_that_comes_byte_by_byte_is_searched_once() {
    let line = format!("+{}\r\n", "a".repeat(LINE_BYTES_MAX));
    assert_eq!(frame(line.as_bytes(), &[1]).ends, [line.len()]);
    let with_returns = format!("+{}\r\n", "\r".repeat(LINE_BYTES_MAX));
    assert_eq!(frame(with_returns.as_bytes(), &[1]).ends, [with_returns.len()]);
}

#[test]
fn a_framer_that_was_reset_keeps_nothing_of_before() {
    let mut framer = Framer::default();
    assert_eq!(framer.next(b"+OK\r\n:1\r\n"), Ok(Some(5)));
    assert_eq!(framer.next(b"+OK\r\n:1\r\n"), Ok(Some(9)));
    assert_eq!(framer.next(b"+OK\r\n:1\r\n"), Ok(None));
    framer.restart();
    assert_eq!(framer.next(b"$3\r\nabc\r\n"), Ok(Some(9)));
    let mut walk = Walk::new(b"$3\r\nabc\r\n");
    assert_eq!(walk.token(), Ok(Token::Text(b"abc")));
    assert!(walk.is_at_end());
}
