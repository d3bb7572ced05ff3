//! From files and folders to lines: which lines are entries, which are skipped, which are refused, and with which
//! error.

use std::fs;
use std::path::Path;

use super::fixture::*;
use harvester::domain::event::streams::Streams;
use harvester::shell::history::{History, Input, Limits, Options, raw_scan};

#[test]
fn a_folder_means_all_histories_below_it_sorted_by_path() {
    let folder = Folder::temporary();
    folder.lines("b.jsonl", &[entry(PRICE, "1-0")]);
    folder.lines("a/z.jsonl.zst", &[entry(PRICE, "1-0")]);
    folder.lines("a/b/c.jsonl", &[entry(PRICE, "1-0")]);
    folder.lines("a/notes.txt", &["not a history"]);
    folder.lines("a/d.zst", &["not a history"]);
    let mut history = opened(&[&folder.path("")]);
    assert_eq!(
        names(&mut history),
        ["market.tick 1-0 c.jsonl:1", "market.tick 1-0 z.jsonl.zst:1 duplicate", "market.tick 1-0 b.jsonl:1 duplicate"]
    );
}

#[cfg(unix)]
#[test]
fn a_link_to_a_parent_folder_is_not_followed_without_end() {
    let folder = Folder::temporary();
    folder.lines("a/b.jsonl", &[entry(PRICE, "1-0")]);
    std::os::unix::fs::symlink(folder.path(""), folder.path("a/up")).unwrap();
    std::os::unix::fs::symlink(folder.path("a/b.jsonl"), folder.path("c.jsonl")).unwrap();
    assert_eq!(
        names(&mut opened(&[&folder.path("")])),
        ["market.tick 1-0 b.jsonl:1", "market.tick 1-0 c.jsonl:1 duplicate"]
    );
}

#[test]
fn an_input_that_cannot_be_found_is_named() {
    let folder = Folder::temporary();
    folder.lines("empty/notes.txt", &["not a history"]);
    let cases = [
        ("empty", "empty: no *.jsonl or *.jsonl.zst in this folder or below"),
        ("gone.jsonl", "gone.jsonl: cannot be read: No such file or directory (os error 2)"),
    ];
    for (name, wanted) in cases {
        assert_eq!(refusal(&folder, open(&[&folder.path(name)], Options::default())), wanted);
    }
    assert_eq!(
        refusal(&folder, open(&[], Options::default())),
        "no history is named: want files, folders or - for standard input"
    );
    let twice = History::open(&["-".into(), "-".into()], &Streams::default(), Options::default());
    assert_eq!(refusal(&folder, twice), "-: standard input is named twice, and can be read once");
}

/// A change of a file between the passes, and the error that it gives.
type Change<'a> = (&'a dyn Fn(&Path), &'a str);

#[test]
fn a_file_that_was_removed_or_cut_between_the_passes_is_named() {
    let folder = Folder::temporary();
    let first = folder.lines("1.jsonl", &[entry(PRICE, "1-0")]);
    let second = folder.lines("2.jsonl", &[entry(PRICE, "2-0"), entry(PRICE, "3-0")]);
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    let empty = |path: &Path| fs::write(path, "").unwrap();
    let rewrite = |path: &Path| fs::write(path, entry(PRICE, "1-0")).unwrap();
    let changes: [Change<'_>; 3] = [
        (&remove, "2.jsonl: cannot be read: No such file or directory (os error 2)"),
        (&empty, "2.jsonl: changed while it was being read"),
        (&rewrite, "2.jsonl: changed while it was being read"),
    ];
    for (change, wanted) in changes {
        let whole = fs::read(&second).ok();
        let mut history = opened(&[&first, &second]);
        change(&second);
        assert_eq!(history.next_line().unwrap().unwrap().bytes, entry(PRICE, "1-0").as_bytes());
        assert_eq!(without_folder(&folder, &history.next_line().unwrap_err().to_string()), wanted);
        fs::write(&second, whole.unwrap()).unwrap();
    }
}

#[test]
fn a_history_can_be_read_on_another_thread() {
    let folder = Folder::temporary();
    let mut history = opened(&[&folder.lines("a.jsonl", &[entry(PRICE, "1-0")])]);
    let read = std::thread::spawn(move || texts(&mut history)).join().unwrap();
    assert_eq!(read, [entry(PRICE, "1-0")]);
}

#[test]
fn lines_appended_after_the_opening_are_not_read() {
    let folder = Folder::temporary();
    let path = folder.lines("a.jsonl", &[entry(PRICE, "1-0")]);
    let mut history = opened(&[&path]);
    folder.lines("a.jsonl", &[entry(PRICE, "1-0"), entry(PRICE, "2-0")]);
    assert_eq!(names(&mut history), ["market.tick 1-0 a.jsonl:1"]);
}

#[test]
fn blank_lines_carriage_returns_and_a_byte_order_mark_are_ignored() {
    let folder = Folder::temporary();
    let (first, second) = (entry(PRICE, "1-0"), entry(PRICE, "2-0"));
    let text = format!("\u{FEFF}{first}\r\n\r\n   \t\n\n{second}\r\n \r\n");
    for path in [folder.write("a.jsonl", &text), folder.write("a.jsonl.zst", zstd(text.as_bytes()))] {
        let mut history = opened(&[&path]);
        let line = history.next_line().unwrap().unwrap();
        assert_eq!((line.bytes, line.number), (first.as_bytes(), 1));
        let line = history.next_line().unwrap().unwrap();
        assert_eq!((line.bytes, line.number), (second.as_bytes(), 5));
        assert!(history.next_line().unwrap().is_none());
        assert_eq!(history.bad_lines(), 0);
    }
}

#[test]
fn a_last_line_without_line_end_is_a_line() {
    let folder = Folder::temporary();
    let path = folder.write("a.jsonl", entry(PRICE, "1-0"));
    assert_eq!(texts(&mut opened(&[&path])), [entry(PRICE, "1-0")]);
}

#[test]
fn files_without_entries_give_none() {
    let folder = Folder::temporary();
    let empty = zstd(b"");
    for bytes in [&b""[..], b"\n", b"\xEF\xBB\xBF", b"\r\n\r\n", &empty] {
        for name in ["a.jsonl", "a.jsonl.zst"] {
            let is_named_wrong = name.ends_with(".zst") && !bytes.is_empty() && bytes != empty;
            if !is_named_wrong {
                let mut history = opened(&[&folder.write(name, bytes)]);
                assert_eq!((history.total_entries(), history.first(), history.last()), (Some(0), None, None));
                assert_eq!(texts(&mut history), [""; 0]);
            }
        }
    }
}

#[test]
fn compression_is_recognised_by_content_and_frames_may_follow_each_other() {
    let folder = Folder::temporary();
    let lines: Vec<_> = (0..6).map(|ms| entry(PRICE, &format!("{ms}-0")) + "\n").collect();
    let skippable = [0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 1, 2, 3];
    let frames =
        [&skippable[..], &zstd(lines[..2].concat().as_bytes()), &zstd(b""), &zstd(lines[2..].concat().as_bytes())];
    for name in ["a.jsonl", "a.jsonl.zst", "noextension"] {
        let path = folder.write(name, frames.concat());
        assert_eq!(texts(&mut opened(&[&path])).join("\n") + "\n", lines.concat());
        assert_eq!(raw_scan(&[Input::from(path)]).unwrap(), (lines.concat().len() as u64, 6));
    }
}

#[test]
fn a_line_that_is_not_an_entry_is_refused_with_file_and_line_or_counted() {
    let cases: [(&[u8], &str); 9] = [
        (b"nonsense", "not JSON: expected ident at byte 2"),
        (
            br#"{"stream":"quantum:stream:market.tick","id":"1-0","fields":{"k":"v"#,
            "not JSON: EOF while parsing a string at byte 66",
        ),
        (b"[]", "not a JSON object"),
        (br#"{"id":"1-0","fields":{}}"#, "no stream"),
        (br#"{"stream":"quantum:stream:market.tick","fields":{}}"#, "no id"),
        (br#"{"stream":"quantum:stream:market.tick","id":7,"fields":{}}"#, "id is 7, want a string"),
        (
            br#"{"stream":"quantum:stream:market.tick","id":"1.0","fields":{}}"#,
            r#"id "1.0" is not ms-seq, two whole numbers"#,
        ),
        (
            br#"{"stream":"quantum:stream:market.tick","id":"1-0","fields":[]}"#,
            "neither fields nor fields_b64 is an object",
        ),
        (
            b"{\"stream\":\"quantum:stream:market.tick\",\"id\":\"1-0\",\"fields\":{\"k\":\"\xFF\"}}",
            "not UTF-8 at byte 66",
        ),
    ];
    let folder = Folder::temporary();
    for (bad, why) in cases {
        let (before, after) = (entry(PRICE, "5-0") + "\n", entry(PRICE, "6-0"));
        let text = [before.as_bytes(), b"\n", bad, b"\n", after.as_bytes()].concat();
        for path in [folder.write("a.jsonl", &text), folder.write("a.jsonl.zst", zstd(&text))] {
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(refusal(&folder, open(&[&path], Options::default())), format!("{name}:3: {why}"));
            let mut history = open(&[&path], skipping_bad_lines()).unwrap();
            assert_eq!(history.bad_lines(), 1, "{why}");
            assert_eq!(names(&mut history), [format!("market.tick 5-0 {name}:1"), format!("market.tick 6-0 {name}:4")]);
        }
    }
}

#[test]
fn of_bad_lines_in_several_files_the_first_is_named() {
    let folder = Folder::temporary();
    let good: Vec<_> = (0..2000).map(|ms| entry(PRICE, &format!("{ms}-0"))).collect();
    folder.lines("1.jsonl", &good);
    folder.lines("2.jsonl", &[&good[..], &["bad".into()]].concat());
    folder.lines("3.jsonl", &["bad"]);
    folder.lines("4.jsonl", &["bad"]);
    let error = refusal(&folder, open(&[&folder.path("")], Options::default()));
    assert_eq!(error, "2.jsonl:2001: not JSON: expected value at byte 1");
}

#[test]
fn characters_beyond_ascii_are_read_in_any_place() {
    let folder = Folder::temporary();
    let lines: Vec<_> = (0..5000)
        .map(|ms| entry_with_value(PRICE, &format!("{ms}-0"), if ms % 700 == 3 { "币安人生 — ½" } else { "plain" }))
        .collect();
    let path = folder.lines("a.jsonl.zst", &lines);
    assert_eq!(texts(&mut opened(&[&path])), lines);
}

#[test]
fn every_spelling_of_an_entry_is_read() {
    let folder = Folder::temporary();
    let spellings = [
        r#"{"stream":"quantum:stream:market.tick","id":"1-0","fields":{}}"#,
        r#"{"stream": "quantum:stream:market.tick", "id": "2-0", "fields": {"k": "v"}}"#,
        r#"{"id":"3-0","fields":{"k":"{}"},"stream":"quantum:stream:market.tick"}"#,
        r#"  { "stream" : "quantum:stream:market\u002etick" , "id" : "4-0" , "fields_b64" : {} }  "#,
    ];
    let mut history = opened(&[&folder.lines("a.jsonl", &spellings)]);
    assert_eq!(texts(&mut history), spellings);
}

#[test]
fn entries_of_streams_that_are_not_configured_are_skipped_and_counted() {
    let folder = Folder::temporary();
    let other = "quantum:stream:elsewhere";
    let lines =
        [entry(other, "9-0"), entry(PRICE, "1-0"), entry(other, "0-1"), entry(PRICE, "2-0"), entry(other, "2-0")];
    let mut history = opened(&[&folder.lines("a.jsonl", &lines)]);
    assert_eq!(history.other_streams(), 3);
    assert_eq!(names(&mut history), ["market.tick 1-0 a.jsonl:2", "market.tick 2-0 a.jsonl:4"]);
    assert_eq!(history.notices(), [""; 0], "the order of other streams does not matter");
}

#[test]
fn a_compressed_file_that_is_cut_off_is_refused_or_read_as_far_as_it_is_whole() {
    let folder = Folder::temporary();
    let lines: Vec<_> =
        (0..4000).map(|ms| entry_with_value(PRICE, &format!("{ms}-0"), &format!("{:x}", ms * 7919))).collect();
    let whole = zstd((lines.join("\n") + "\n").as_bytes());
    for length in [1, 3, 4, 5, 12, whole.len() / 2, whole.len() - 1] {
        let path = folder.write("a.jsonl.zst", &whole[..length]);
        let error = refusal(&folder, open(&[&path], Options::default()));
        let mut history = open(&[&path], skipping_bad_lines()).unwrap();
        let read = texts(&mut history);
        assert_eq!(read, lines[..read.len()], "cut at {length}");
        let wanted = format!("a.jsonl.zst: cut off or damaged after {} whole lines: incomplete frame", read.len());
        assert_eq!(error, wanted, "cut at {length}");
        assert_eq!(history.bad_lines(), 1);
        assert_eq!(notices(&folder, &history), [wanted]);
    }
    assert_eq!(texts(&mut opened(&[&folder.write("a.jsonl.zst", &whole)])), lines);
}

#[test]
fn a_compressed_file_with_damage_inside_is_read_as_far_as_it_is_whole() {
    let folder = Folder::temporary();
    let lines: Vec<_> =
        (0..9000).map(|ms| entry_with_value(PRICE, &format!("{ms}-0"), &format!("{:x}", ms * 7919))).collect();
    let (first, second) =
        (zstd((lines[..5000].join("\n") + "\n").as_bytes()), zstd(lines[5000..].join("\n").as_bytes()));
    for behind in [&b"garbage"[..], &second[2..]] {
        let path = folder.write("a.jsonl.zst", [&first, behind].concat());
        let error = refusal(&folder, open(&[&path], Options::default()));
        assert!(error.starts_with("a.jsonl.zst: cut off or damaged after 5000 whole lines: "), "{error}");
        let mut history = open(&[&path], skipping_bad_lines()).unwrap();
        assert_eq!(texts(&mut history), lines[..5000]);
        assert_eq!(history.bad_lines(), 1);
    }
    let path = folder.write("plain.jsonl.zst", lines.join("\n"));
    let error = refusal(&folder, open(&[&path], Options::default()));
    assert_eq!(error, "plain.jsonl.zst: cut off or damaged after 0 whole lines: Unknown frame descriptor");
}

#[test]
fn a_line_of_a_mebibyte_is_read_and_one_over_the_limit_is_bad() {
    let folder = Folder::temporary();
    let long = entry_with_value(PRICE, "2-0", &"x".repeat(1 << 20));
    let lines = [entry(PRICE, "1-0"), long.clone(), entry(PRICE, "3-0")];
    let path = folder.lines("a.jsonl.zst", &lines);
    assert_eq!(texts(&mut opened(&[&path])), lines);

    let limits = Limits { line_bytes_max: long.len() - 1, ..Limits::default() };
    let error = refusal(&folder, open(&[&path], Options { limits: limits.clone(), ..Options::default() }));
    assert_eq!(error, format!("a.jsonl.zst:2: longer than {} bytes", long.len() - 1));
    let mut history = open(&[&path], Options { limits, ..skipping_bad_lines() }).unwrap();
    assert_eq!(names(&mut history), ["market.tick 1-0 a.jsonl.zst:1", "market.tick 3-0 a.jsonl.zst:3"]);
    assert_eq!(history.bad_lines(), 1);
}

#[test]
fn a_line_of_65_mebibytes_is_bad_by_default() {
    let folder = Folder::temporary();
    let text = [entry(PRICE, "1-0"), "x".repeat(65 << 20), entry(PRICE, "2-0")].join("\n");
    let path = folder.write("a.jsonl.zst", zstd(text.as_bytes()));
    assert_eq!(refusal(&folder, open(&[&path], Options::default())), "a.jsonl.zst:2: longer than 67108864 bytes");
    assert_eq!(open(&[&path], skipping_bad_lines()).unwrap().total_entries(), Some(2));
}

#[test]
fn decisions_and_control_entries_are_known_before_the_first_line() {
    let folder = Folder::temporary();
    let late = folder.lines("late.jsonl.zst", &[entry(DECISION, "8-0"), entry(CONTROL, "9-0"), entry(DECISION, "9-0")]);
    let early = [entry(PRICE, "3-0"), entry(DECISION, "3-0"), entry(CONTROL, "1-0"), entry(DECISION, "8-0")];
    let early = folder.lines("early.jsonl", &early);
    let mut history = opened(&[&late, &early]);
    let kept = |history: &History| {
        let of =
            |line: harvester::shell::history::Line<'_>| (line.id.to_string(), line.file, line.number, line.duplicate);
        (history.decision_lines().map(of).collect::<Vec<_>>(), history.control_lines().map(of).collect::<Vec<_>>())
    };
    let decisions = vec![
        ("3-0".into(), 1, 2, false),
        ("8-0".into(), 0, 1, false),
        ("8-0".into(), 1, 4, true),
        ("9-0".into(), 0, 3, false),
    ];
    let controls = vec![("1-0".into(), 1, 3, false), ("9-0".into(), 0, 2, false)];
    assert_eq!(kept(&history), (decisions.clone(), controls.clone()));
    assert_eq!(history.decision_lines().next().unwrap().bytes, entry(DECISION, "3-0").as_bytes());
    assert_eq!(names(&mut history).len(), 7, "they are also read in their place");
    assert_eq!(kept(&history), (decisions, controls));
}

#[test]
fn too_many_decisions_for_memory_are_refused_at_the_line_that_exceeds_the_limit() {
    let folder = Folder::temporary();
    let lines: Vec<_> = (0..9).map(|ms| entry_with_value(DECISION, &format!("{ms}-0"), &"x".repeat(1000))).collect();
    let path = folder.lines("a.jsonl", &lines);
    let limits = Limits { kept_bytes_max: 5000, ..Limits::default() };
    let error = refusal(&folder, open(&[&path], Options { limits, ..Options::default() }));
    assert_eq!(error, "a.jsonl:5: decision and control entries up to here take more than 5000 bytes, the limit");
    assert_eq!(opened(&[&path]).decision_lines().count(), 9);
}

#[test]
fn the_shared_history_is_read_whole() {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/history");
    if !shared.is_dir() {
        println!("skipped: there is no {}", shared.display());
        return;
    }
    let mut history = opened(&[&shared]);
    let (_, lines) = raw_scan(&[Input::from(shared)]).unwrap();
    assert_eq!(history.total_entries().unwrap() + history.other_streams(), lines);
    let mut last = history.first().unwrap();
    while let Some(line) = history.next_line().unwrap() {
        let key = harvester::domain::event::ids::SortKey::new(line.stream, line.id);
        assert!(last <= key, "{last:?} before {key:?}");
        last = key;
    }
    assert_eq!((Some(last), Some(history.yielded())), (history.last(), history.total_entries()));
}
