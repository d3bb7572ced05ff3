//! Standard input, which can be read only once. Each case starts this program again with a pipe.

use std::io::Write;
use std::process::{Command, Stdio};

use super::fixture::*;
use harvester::domain::event::streams::Streams;
use harvester::shell::history::{History, Input};

/// Not a test by itself: the process at the other end of the pipe.
#[test]
#[ignore = "run by the other tests with something on standard input"]
fn child_prints_what_it_reads() {
    match History::open(&[Input::Stdin], &Streams::default(), skipping_bad_lines()) {
        Ok(mut history) => {
            let lines = names(&mut history);
            println!("\nREAD {}", lines.join("|"));
            println!("NOTICES {} BAD {}", history.notices().join("|"), history.bad_lines());
        }
        Err(error) => println!("\nERROR {error}"),
    }
}

fn read_from_pipe(bytes: Vec<u8>) -> (String, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "stdin::child_prints_what_it_reads", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&bytes).unwrap();
    let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    let notes = |word: &str| {
        let found = output.lines().find_map(|line| line.strip_prefix(word));
        found.unwrap_or_else(|| panic!("no {word}in {output}")).to_owned()
    };
    (notes("READ "), notes("NOTICES "))
}

fn text(ids: &[&str]) -> Vec<u8> {
    ids.iter().map(|id| entry(PRICE, id) + "\n").collect::<String>().into_bytes()
}

#[test]
fn standard_input_is_read_plain_or_compressed() {
    let ids = ["1-0", "2-0", "3-0"];
    let wanted = "market.tick 1-0 -:1|market.tick 2-0 -:2|market.tick 3-0 -:3".to_owned();
    for bytes in [text(&ids), zstd(&text(&ids)), [zstd(&text(&ids[..1])), zstd(&text(&ids[1..]))].concat()] {
        assert_eq!(read_from_pipe(bytes), (wanted.clone(), " BAD 0".into()));
    }
}

#[test]
fn standard_input_without_anything_is_an_empty_history() {
    assert_eq!(read_from_pipe(Vec::new()), (String::new(), " BAD 0".into()));
}

#[test]
fn standard_input_out_of_order_is_sorted() {
    let ids = ["1-0", "2-0", "4-0", "3-0", "5-0"];
    let wanted = "market.tick 1-0 -:1|market.tick 2-0 -:2|market.tick 3-0 -:4|market.tick 4-0 -:3|market.tick 5-0 -:5";
    for bytes in [text(&ids), zstd(&text(&ids))] {
        assert_eq!(read_from_pipe(bytes), (wanted.into(), "- is not in canonical order: sorted BAD 0".into()));
    }
}

#[test]
fn standard_input_with_bad_lines_or_cut_off_is_read_as_far_as_it_is_whole() {
    let bad = [&text(&["1-0"])[..], b"bad\n", &text(&["2-0"])].concat();
    assert_eq!(read_from_pipe(bad), ("market.tick 1-0 -:1|market.tick 2-0 -:3".into(), " BAD 1".into()));
    let cut = [zstd(&text(&["1-0"])), zstd(&text(&["2-0"]))[..9].to_vec()].concat();
    let notice = "- cut off or damaged";
    let (read, notes) = read_from_pipe(cut);
    assert_eq!(read, "market.tick 1-0 -:1");
    assert!(
        notes.starts_with("-: cut off or damaged after 1 whole lines: ") && notes.ends_with(" BAD 1"),
        "{notice}: {notes}"
    );
}

#[cfg(unix)]
#[test]
fn a_named_pipe_is_read_like_standard_input() {
    let folder = Folder::temporary();
    let path = folder.path("pipe.jsonl");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let writer = std::thread::spawn({
        let path = path.clone();
        move || std::fs::write(path, text(&["1-0", "3-0", "2-0"])).unwrap()
    });
    let mut history = opened(&[&path]);
    writer.join().unwrap();
    let wanted = ["market.tick 1-0 pipe.jsonl:1", "market.tick 2-0 pipe.jsonl:3", "market.tick 3-0 pipe.jsonl:2"];
    assert_eq!(names(&mut history), wanted);
}
