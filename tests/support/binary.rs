//! The program as a process, started as users start it.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::Value;

/// Longest time of a run. A run that takes longer is killed, and its test fails.
const RUN_LIMIT: Duration = Duration::from_secs(240);

/// Returns the command of the program, without the environment of the process that runs the tests.
pub fn harvester() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harvester"));
    command.env_clear();
    command
}

/// The result of a run.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub log: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        let ran = Self { code: output.status.code(), out: text(output.stdout), log: text(output.stderr) };
        assert!(!ran.log.contains("panicked"), "the program panicked: {}", ran.log);
        ran
    }

    /// Returns the one JSON document on standard output of a run that succeeded.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}", self.log);
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    /// Asserts that the input was refused, with one sentence that contains these names.
    pub fn refused(&self, names: &[&str]) {
        assert_eq!(self.code, Some(2), "{}{}", self.log, self.out);
        assert_eq!(self.out, "", "a refused run writes nothing to standard output");
        let sentence: Vec<&str> = self.log.lines().filter(|line| line.starts_with("harvester: ")).collect();
        assert_eq!(sentence.len(), 1, "the log is one sentence: {}", self.log);
        for name in names {
            assert!(sentence[0].contains(name), "{name:?} is not named: {}", self.log);
        }
    }
}

impl Ran {
    /// Asserts that the arguments were refused.
    pub fn refused_usage(&self) {
        assert_eq!(self.code, Some(2), "{}{}", self.log, self.out);
        assert!(self.log.contains("Usage:"), "{}", self.log);
    }
}

pub fn run(command: &mut Command) -> Ran {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ran::of(ended(command.spawn().expect("the program starts")))
}

/// Waits for the end, at most for [`RUN_LIMIT`].
pub fn ended(child: Child) -> Output {
    let (done, waits) = channel::<()>();
    let pid = rustix::process::Pid::from_child(&child);
    let watch = std::thread::spawn(move || {
        let is_over = waits.recv_timeout(RUN_LIMIT) == Err(RecvTimeoutError::Timeout);
        if is_over {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        is_over
    });
    let output = child.wait_with_output().expect("the program ends");
    drop(done);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!watch.join().expect("the watch does not panic"), "killed after {RUN_LIMIT:?}: {log}");
    output
}

/// Runs the program with arguments.
pub fn run_with(arguments: &[&str]) -> Ran {
    run(harvester().args(arguments))
}

/// Runs a command with these bytes on standard input.
pub fn run_fed(command: &mut Command, input: &[u8]) -> Ran {
    let mut child = piped(command);
    let mut stdin = child.stdin.take().expect("standard input is piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = ended(child);
    // A program that refuses its input early closes the pipe.
    let _ = writer.join().expect("the writer does not panic");
    Ran::of(output)
}

/// Starts a command with all three standard streams piped.
pub fn piped(command: &mut Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
}

/// Returns `path` as an argument.
pub fn name(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}
