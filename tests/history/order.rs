//! Canonical order from files in any order, and entries that come twice.

use super::fixture::*;
use harvester::domain::event::ids::EntryId;
use harvester::shell::history::{Limits, Options};
use proptest::prelude::*;

/// So small that a few lines make many runs, and that many parts must be merged in several steps.
fn small_limits() -> Limits {
    Limits { run_bytes_max: 700, open_parts_max: 2, ..Limits::default() }
}

#[test]
fn files_are_merged_by_millisecond_then_rank_then_sequence() {
    let folder = Folder::temporary();
    let prices =
        folder.lines("p.jsonl", &[entry(PRICE, "1-0"), entry(PRICE, "2-0"), entry(PRICE, "2-1"), entry(PRICE, "10-0")]);
    let results = folder.lines("r.jsonl.zst", &[entry(RESULT, "2-5"), entry(RESULT, "9-0"), entry(RESULT, "10-3")]);
    let intents = folder.lines("i.jsonl", &[entry(INTENT, "2-9"), entry(INTENT, "10-7")]);
    let mut history = opened(&[&prices, &results, &intents]);
    assert_eq!(
        names(&mut history),
        [
            "market.tick 1-0 p.jsonl:1",
            "trade.intent 2-9 i.jsonl:1",
            "apply.result 2-5 r.jsonl.zst:1",
            "market.tick 2-0 p.jsonl:2",
            "market.tick 2-1 p.jsonl:3",
            "apply.result 9-0 r.jsonl.zst:2",
            "trade.intent 10-7 i.jsonl:2",
            "apply.result 10-3 r.jsonl.zst:3",
            "market.tick 10-0 p.jsonl:4",
        ]
    );
    assert_eq!(history.notices(), [""; 0]);
}

#[test]
fn equal_milliseconds_written_in_plain_id_order_are_sorted_with_a_notice() {
    let folder = Folder::temporary();
    let lines =
        [entry(PRICE, "1-0"), entry(PRICE, "2-0"), entry(RESULT, "2-1"), entry(INTENT, "2-2"), entry(PRICE, "3-0")];
    let mut history = opened(&[&folder.lines("a.jsonl", &lines)]);
    assert_eq!(notices(&folder, &history), ["a.jsonl is not in canonical order: sorted"]);
    assert_eq!(
        names(&mut history),
        [
            "market.tick 1-0 a.jsonl:1",
            "trade.intent 2-2 a.jsonl:4",
            "apply.result 2-1 a.jsonl:3",
            "market.tick 2-0 a.jsonl:2",
            "market.tick 3-0 a.jsonl:5",
        ]
    );
}

#[test]
fn a_file_out_of_order_is_sorted_in_many_runs_and_equal_entries_keep_their_order() {
    let folder = Folder::temporary();
    // 37 and 1000 have no common divisor: every millisecond comes twice, far apart.
    let lines: Vec<_> =
        (0..2000).map(|i| entry_with_value(PRICE, &format!("{}-0", i * 37 % 1000), &i.to_string())).collect();
    let path = folder.lines("a.jsonl.zst", &lines);
    let mut wanted: Vec<_> = (0..2000).collect();
    wanted.sort_by_key(|i| (i * 37 % 1000, *i));
    let wanted: Vec<_> = wanted.into_iter().map(|i| lines[i].clone()).collect();
    for limits in [Limits::default(), Limits { run_bytes_max: 4000, ..Limits::default() }, small_limits()] {
        let mut history = open(&[&path], Options { limits, ..Options::default() }).unwrap();
        assert_eq!(texts(&mut history), wanted);
        assert_eq!(notices(&folder, &history)[0], "a.jsonl.zst is not in canonical order: sorted");
    }
}

#[test]
fn bad_lines_in_a_file_out_of_order_are_counted_once() {
    let folder = Folder::temporary();
    let lines = [
        "bad".into(),
        entry(PRICE, "1-0"),
        "bad".into(),
        entry(PRICE, "5-0"),
        "bad".into(),
        entry(PRICE, "3-0"),
        "bad".into(),
    ];
    let mut history = open(&[&folder.lines("a.jsonl", &lines)], skipping_bad_lines()).unwrap();
    assert_eq!(history.bad_lines(), 4);
    assert_eq!(
        names(&mut history),
        ["market.tick 1-0 a.jsonl:2", "market.tick 3-0 a.jsonl:6", "market.tick 5-0 a.jsonl:4"]
    );
}

#[test]
fn a_thousand_small_files_are_one_history() {
    let folder = Folder::temporary();
    let consecutive: Vec<_> = (0..500)
        .map(|i| (i, vec![entry(PRICE, &format!("{}-0", 2 * i)), entry(PRICE, &format!("{}-0", 2 * i + 1))]))
        .collect();
    let overlapping =
        (500..1000).map(|i| (i, vec![entry(RESULT, &format!("{}-1", i % 7)), entry(RESULT, &format!("{i}-2"))]));
    let files: Vec<_> = consecutive.into_iter().chain(overlapping).collect();
    for (i, lines) in &files {
        let extension = if i % 2 == 0 { "jsonl" } else { "jsonl.zst" };
        folder.lines(&format!("{}/{i:04}.{extension}", i % 10), lines);
    }
    let mut wanted: Vec<_> = files.into_iter().flat_map(|(_, lines)| lines).collect();
    let key = |line: &String| {
        let (stream, rest) = line.split_once(r#"","id":""#).unwrap();
        let id: EntryId = rest.split('"').next().unwrap().parse().unwrap();
        (id.ms, stream.ends_with("tick"), id.seq)
    };
    wanted.sort_by_key(key);
    let mut history = opened(&[&folder.path("")]);
    assert_eq!(texts(&mut history), wanted);
    assert_eq!(history.notices(), [""; 0]);
}

#[test]
fn a_duplicate_follows_its_first_entry_and_is_marked() {
    let folder = Folder::temporary();
    let long = "y".repeat(300_000);
    let (same, spelled) =
        (entry_with_value(PRICE, "5-0", &long), entry_with_value(PRICE, "5-0", &long).replace("\":", "\": "));
    let first = folder.lines("1.jsonl", &[entry(PRICE, "4-0"), same.clone(), same.clone()]);
    let second = folder.lines("2.jsonl.zst", &[same, spelled, entry(PRICE, "6-0")]);
    let mut history = opened(&[&first, &second]);
    assert_eq!(
        names(&mut history),
        [
            "market.tick 4-0 1.jsonl:1",
            "market.tick 5-0 1.jsonl:2",
            "market.tick 5-0 1.jsonl:3 duplicate",
            "market.tick 5-0 2.jsonl.zst:1 duplicate",
            "market.tick 5-0 2.jsonl.zst:2 duplicate",
            "market.tick 6-0 2.jsonl.zst:3",
        ]
    );
    assert_eq!(history.notices(), [""; 0], "blanks and the order of keys do not matter");
}

#[test]
fn duplicates_that_differ_are_named_with_both_lines() {
    let folder = Folder::temporary();
    let a = folder.lines(
        "a.jsonl",
        &[
            entry_with_value(PRICE, "5-0", "1"),
            entry_with_value(PRICE, "7-0", "1"),
            entry_with_value(PRICE, "7-0", "2"),
        ],
    );
    let b = folder.lines("b.jsonl", &[entry(PRICE, "1-0"), entry_with_value(PRICE, "5-0", "2")]);
    let mut history = opened(&[&b, &a]);
    assert_eq!(names(&mut history).len(), 5);
    assert_eq!(
        notices(&folder, &history),
        [
            "b.jsonl:2 and a.jsonl:1 are both quantum:stream:market.tick 5-0, but differ: the first counts",
            "a.jsonl:2 and a.jsonl:3 are both quantum:stream:market.tick 7-0, but differ: the first counts",
        ]
    );
}

#[test]
fn twenty_duplicates_that_differ_are_named_and_the_rest_is_counted() {
    let folder = Folder::temporary();
    let lines = |value: &str| (0..25).map(|ms| entry_with_value(PRICE, &format!("{ms}-0"), value)).collect::<Vec<_>>();
    let (a, b) = (folder.lines("a.jsonl", &lines("1")), folder.lines("b.jsonl", &lines("2")));
    let mut history = opened(&[&a, &b]);
    assert_eq!(names(&mut history).len(), 50);
    let notices = notices(&folder, &history);
    assert_eq!(notices.len(), 21);
    assert_eq!(notices[20], "5 more entries differ from their duplicates");
}

#[test]
fn the_same_fields_under_keys_in_another_order_are_the_same() {
    let folder = Folder::temporary();
    let lines = [
        r#"{"stream":"quantum:stream:market.tick","id":"1-0","fields":{"a":"1","b":"2"}}"#,
        r#"{"fields": {"b": "2", "a": "\u0031"}, "stream": "quantum:stream:market.tick", "id": "1-0"}"#,
        r#"{"stream":"quantum:stream:market.tick","id":"1-0","fields_b64":{"a":"1","b":"2"}}"#,
    ];
    let mut history = opened(&[&folder.lines("a.jsonl", &lines)]);
    assert_eq!(texts(&mut history), lines);
    assert_eq!(
        notices(&folder, &history),
        ["a.jsonl:2 and a.jsonl:3 are both quantum:stream:market.tick 1-0, but differ: the first counts"]
    );
}

#[test]
fn until_ends_in_canonical_order_with_the_last_entry_that_is_not_later() {
    let folder = Folder::temporary();
    let lines = [
        entry(PRICE, "1-0"),
        entry(CONTROL, "2-7"),
        entry(RESULT, "2-3"),
        entry(PRICE, "2-0"),
        entry(PRICE, "2-1"),
        entry(DECISION, "2-1"),
        entry("quantum:stream:elsewhere", "2-1"),
        entry(PRICE, "3-0"),
        "bad".into(),
    ];
    let path = folder.lines("a.jsonl", &lines);
    // (bound, entries, decisions, control entries, other streams)
    let cases = [
        ("0-9", 0, 0, 0, 0),
        ("1-0", 1, 0, 0, 0),
        // The control entry and the result have later sequence numbers, but come before the price 2-0 in canonical
        // order.
        ("2-0", 4, 0, 1, 0),
        ("2-1", 6, 1, 1, 1),
        ("2-99", 6, 1, 1, 1),
        ("3-0", 7, 1, 1, 1),
        ("18446744073709551615-18446744073709551615", 7, 1, 1, 1),
    ];
    for (until, entries, decisions, controls, others) in cases {
        let options = Options { until: Some(until.parse().unwrap()), ..skipping_bad_lines() };
        let mut history = open(&[&path], options).unwrap();
        assert_eq!(history.decision_lines().count(), decisions, "{until}");
        assert_eq!(history.control_lines().count(), controls, "{until}");
        assert_eq!(history.other_streams(), others, "{until}");
        let wanted: Vec<_> = lines
            .iter()
            .filter(|line| line.contains("market") || line.contains("harvest") || line.contains("apply"))
            .take(entries)
            .collect();
        assert_eq!(texts(&mut history).iter().collect::<Vec<_>>(), wanted, "{until}");
        assert!(history.next_line().unwrap().is_none(), "{until}");
    }
}

#[derive(Clone, Debug)]
struct Written {
    ms: u64,
    stream: usize,
    seq: u64,
    file: usize,
}

const STREAMS: [&str; 5] = [CONTROL, INTENT, RESULT, PRICE, DECISION];

fn written() -> impl Strategy<Value = Written> {
    (0..40u64, 0..STREAMS.len(), 0..3u64, 0..4usize).prop_map(|(ms, stream, seq, file)| Written {
        ms,
        stream,
        seq,
        file,
    })
}

fn line_of(written: &Written) -> String {
    entry(STREAMS[written.stream], &format!("{}-{}", written.ms, written.seq))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A history cut into files in any way, with one of them shuffled, is the same history; also up to a bound.
    #[test]
    fn files_split_differently_give_the_same_sequence(
        entries in prop::collection::vec(written(), 0..120),
        shuffle in any::<u64>(),
        is_small in any::<bool>(),
        until in prop::option::of((0..45u64, 0..4u64)),
    ) {
        let mut sorted = entries;
        sorted.sort_by_key(|e| (e.ms, e.stream, e.seq));
        let until = until.map(|(ms, seq)| EntryId::new(ms, seq));
        let cut = until.map_or(sorted.len(), |until| {
            sorted.iter().rposition(|e| EntryId::new(e.ms, e.seq) <= until).map_or(0, |last| {
                sorted.partition_point(|e| (e.ms, e.stream, e.seq) <= (sorted[last].ms, sorted[last].stream, sorted[last].seq))
            })
        });
        let wanted: Vec<_> = sorted[..cut].iter().map(line_of).collect();

        let folder = Folder::temporary();
        let mut files = vec![Vec::new(); 4];
        for (i, entry) in sorted.iter().enumerate() {
            files[entry.file].push((shuffle.wrapping_mul(2 * i as u64 + 1) >> 32, line_of(entry)));
        }
        files[0].sort();
        for (i, file) in files.iter().enumerate() {
            let extension = if i % 2 == 0 { "jsonl" } else { "jsonl.zst" };
            let lines: Vec<_> = file.iter().map(|(_, line)| line).collect();
            folder.lines(&format!("{i}.{extension}"), &lines);
        }
        let limits = if is_small { small_limits() } else { Limits::default() };
        let mut history = open(&[&folder.path("")], Options { until, limits, ..Options::default() }).unwrap();
        let of_kind = |stream: &str| wanted.iter().filter(|line| line.contains(stream)).count();
        prop_assert_eq!(history.decision_lines().count(), of_kind(DECISION));
        prop_assert_eq!(history.control_lines().count(), of_kind(CONTROL));
        prop_assert_eq!(texts(&mut history), wanted);
    }
}
