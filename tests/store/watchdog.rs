//! A store call that hangs ends the process, and nothing else does.

use std::io::Read;

use super::child::{FORMAT, assert_whole, spawn};
use super::crashes::stop;
use harvester::shell::store::{EXIT_CODE_HUNG, Store};
use rustix::process::{Pid, Signal, kill_process};

/// The second commit never returns: the process writes one line and ends, and the first commit is there.
#[test]
fn a_call_that_hangs_ends_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("store");
    let mut child = spawn("hang", &dir);
    child.expect_number("ack");
    assert_eq!(child.line(), None);
    assert_eq!(child.child.wait().expect("an end").code(), Some(EXIT_CODE_HUNG));
    let mut last_words = String::new();
    child.child.stderr.take().expect("its errors").read_to_string(&mut last_words).expect("text");
    let store = dir.display();
    let line = format!(
        "STORE_HUNG call=Commit limit_ms=2000 store={store}: ending the process, nothing acknowledged is lost\n"
    );
    assert_eq!(last_words, line);
    assert!(assert_whole(&Store::open(&dir, FORMAT).expect("the store")) >= 1);
}

/// Many calls, each shorter than the limit, and idle time between calls: the process does not end.
#[test]
fn slow_calls_and_idle_time_do_not_end_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = spawn("slow", &folder.path().join("store"));
    child.expect_number("open");
    assert_eq!(child.expect_number("idle"), 8);
    until_another_process_hangs();
    child.send("continue");
    assert_eq!(child.expect_number("ack"), 9);
    assert!(child.child.wait().expect("an end").success());
}

/// A process that was stopped within a call for longer than the limit has not hung.
#[test]
fn a_process_that_was_stopped_within_a_call_does_not_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = spawn("stall", &folder.path().join("store"));
    assert_eq!(child.expect_number("within"), 1);
    stop(&child);
    until_another_process_hangs();
    kill_process(Pid::from_child(&child.child), Signal::CONT).expect("a child to continue");
    child.send("continue");
    assert_eq!(child.expect_number("ack"), 1);
    assert!(child.child.wait().expect("an end").success());
}

/// Waits for longer than the limit of a call: until another process with that limit has ended because it hung.
fn until_another_process_hangs() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut other = spawn("hang", &folder.path().join("store"));
    assert_eq!(other.child.wait().expect("an end").code(), Some(EXIT_CODE_HUNG));
}
