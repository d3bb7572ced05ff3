//! A store call that hangs ends the process, and nothing else does.

use std::io::Read;
use std::time::{Duration, Instant};

use super::child::{FORMAT, assert_whole, spawn};
use harvester::shell::store::{EXIT_CODE_HUNG, Store};
use rustix::process::{Pid, Signal, kill_process};

/// The second commit never returns: the process says so in one line and ends, the first commit is there.
#[test]
fn a_call_that_hangs_ends_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    let mut child = spawn("hang", &dir);
    let began = Instant::now();
    child.expect_number("ack");
    assert_eq!(child.line(), None);
    assert_eq!(child.child.wait().expect("an end").code(), Some(EXIT_CODE_HUNG));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let mut last_words = String::new();
    child.child.stderr.take().expect("its errors").read_to_string(&mut last_words).expect("text");
    let store = dir.display();
    let line = format!(
        "STORE_HUNG call=Commit limit_ms=300 store={store}: ending the process, nothing acknowledged is lost\n"
    );
    assert_eq!(last_words, line);
    assert!(assert_whole(&Store::open(&dir, FORMAT).expect("the store")) >= 1);
}

/// Many calls, each shorter than the limit, and time between calls: no reason to end.
#[test]
fn calls_that_are_only_slow_end_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = spawn("slow", &folder.path().join("store"));
    child.expect_number("open");
    assert_eq!(child.expect_number("ack"), 9);
    assert!(child.child.wait().expect("an end").success());
}

/// A process that was stopped within a call for longer than the limit has not hung.
#[test]
fn a_process_that_was_stopped_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = spawn("slow", &folder.path().join("store"));
    let pid = Pid::from_child(&child.child);
    child.expect_number("open");
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(100));
        kill_process(pid, Signal::STOP).expect("a child to stop");
        std::thread::sleep(Duration::from_millis(1_500));
        kill_process(pid, Signal::CONT).expect("a child to go on");
    }
    assert_eq!(child.expect_number("ack"), 9);
    assert!(child.child.wait().expect("an end").success());
}
