//! A real `redis-server` of one test: on a free port of loopback, in its own folder, stopped by process id.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// An entry as the server returns it: id, names and values.
type Answered = (String, Vec<(Vec<u8>, Vec<u8>)>);

/// Longest time in which a server has to answer.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Ports for the servers of tests.
const FIRST_PORT: u16 = 12_000;
const LAST_PORT: u16 = 32_000;

/// Gives a process its own clock. `libfaketime` does not work with the allocator of Debian's server: each calls the
/// other at the start.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    char *offset = environ ? getenv("CLOCK_OFFSET_S") : 0;
    if (!failed && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += atol(offset);
    return failed;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec precise;
    int failed = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return failed;
}
time_t time(time_t *now) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (now) *now = precise.tv_sec;
    return precise.tv_sec;
}
"#;

/// Returns the library that changes the clock; `None` without a C compiler.
pub fn clock_library() -> Option<std::path::PathBuf> {
    static BUILT: OnceLock<Option<(tempfile::TempDir, std::path::PathBuf)>> = OnceLock::new();
    let build = || {
        let folder = tempfile::tempdir().ok()?;
        let (source, library) = (folder.path().join("clock.c"), folder.path().join("clock.so"));
        std::fs::write(&source, CLOCK).ok()?;
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).status();
        built.is_ok_and(|status| status.success()).then_some((folder, library))
    };
    BUILT.get_or_init(build).as_ref().map(|(_, library)| library.clone())
}

pub struct RedisServer {
    process: Child,
    port: u16,
    settings: Vec<String>,
    folder: tempfile::TempDir,
    /// Offset of its clock from that of the machine. [s]
    clock: Option<String>,
    /// True if it was killed or is stopped.
    is_stopped: std::sync::atomic::AtomicBool,
}

impl RedisServer {
    /// Starts a server and waits until it accepts connections.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with settings, for example `["--requirepass", "word"]`.
    pub fn start_with(settings: &[&str]) -> Self {
        Self::start_on(free_port(), settings)
    }

    /// Starts a server in cluster mode, as the only node so far. Its second port is a free one as well: the default
    /// could be the port of a connection.
    pub fn start_of_cluster() -> Self {
        Self::start_with(&["--cluster-enabled", "yes", "--cluster-port", &free_port().to_string()])
    }

    /// Starts a server on a known port, so that it can be started there again.
    pub fn start_on(port: u16, settings: &[&str]) -> Self {
        Self::start_at(port, settings, None)
    }

    /// Starts a server whose clock differs by seconds, for example `+5`.
    pub fn start_at(port: u16, settings: &[&str], clock: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the server");
        let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        let process = spawn(port, folder.path(), &settings, clock);
        Self { process, port, settings, folder, clock: clock.map(str::to_owned), is_stopped: false.into() }
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        self.process.kill().expect("the server is there");
        self.process.wait().expect("it ends");
        self.is_stopped.store(true, Ordering::Relaxed);
    }

    /// Stops the process of the server, or continues it.
    pub fn pause(&self, is_paused: bool) {
        let signal = if is_paused { rustix::process::Signal::STOP } else { rustix::process::Signal::CONT };
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, signal).expect("the server is there");
        self.is_stopped.store(is_paused, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Returns what `redis-cli` prints for a command; nothing if the server does not answer, or if it refuses and
    /// `-e` is given.
    pub fn try_cli(&self, arguments: &[&str]) -> Option<String> {
        if self.is_stopped() {
            return None;
        }
        // The connection may lead to a server that is stopped.
        let output = Command::new("timeout")
            .args(["5", "redis-cli", "-p", &self.port.to_string()])
            .args(arguments)
            .output()
            .expect("redis-cli is installed");
        let output_text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.success() && !output.stderr.starts_with(b"Could not connect")).then_some(output_text)
    }

    /// Kills the server and starts it again with its files.
    pub fn restart(&mut self) {
        let _ = self.process.kill();
        self.process.wait().expect("it ends");
        self.process = spawn(self.port, self.folder.path(), &self.settings, self.clock.as_deref());
        self.is_stopped.store(false, Ordering::Relaxed);
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Returns a new connection, for many commands.
    pub fn client(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).expect("an address");
        client.get_connection().expect("the server accepts connections")
    }

    /// Writes the entries of streams as a history file.
    pub fn dump<'a>(&self, path: &std::path::Path, streams: impl Iterator<Item = &'a str>) {
        use harvester::codec::line::{self, Fields};
        let mut client = self.client();
        let mut text = String::new();
        for stream in streams {
            let all: Vec<Answered> =
                redis::cmd("XRANGE").arg(stream).arg("-").arg("+").query(&mut client).expect("a stream");
            for (id, pairs) in all {
                text.push_str(&line::write(stream, &id, &Fields::from_bytes(&pairs)));
                text.push('\n');
            }
        }
        std::fs::write(path, text).expect("the dump is written");
    }

    /// Returns the entries of a stream: id, and names and values in their order.
    pub fn entries(&self, stream: &str) -> Vec<(String, Vec<(String, String)>)> {
        let text = self.cli(&["--json", "XRANGE", stream, "-", "+"]);
        let all: Vec<(String, Vec<String>)> =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let pairs = |flat: Vec<String>| flat.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        all.into_iter().map(|(id, flat)| (id, pairs(flat))).collect()
    }

    /// Returns the server's clock. [ms since 1970]
    pub fn now_ms(&self) -> u64 {
        let time = self.cli(&["TIME"]);
        let mut parts = time.lines().map(|part| part.trim().parse::<u64>().expect("a number"));
        let mut part = || parts.next().expect("seconds and microseconds");
        part() * 1000 + part() / 1000
    }

    /// Waits until the server's clock is in another millisecond.
    pub fn until_later_ms(&self) {
        let now_ms = self.now_ms();
        while self.now_ms() <= now_ms {}
    }

    /// Returns what `redis-cli` prints for a command; with `--json` first, as JSON. Most commands go over a
    /// connection of this process, because tests that wait would use the processor for programs that they start.
    pub fn cli(&self, arguments: &[&str]) -> String {
        self.asked(arguments).unwrap_or_else(|| self.redis_cli(arguments))
    }

    /// Sends a command. Returns `None` for options of `redis-cli`, and if the server cannot be reached.
    fn asked(&self, arguments: &[&str]) -> Option<String> {
        let (is_json, words) = match arguments {
            ["--json", words @ ..] => (true, words),
            words => (false, words),
        };
        let (name, rest) = words.split_first().filter(|(name, _)| !name.starts_with('-') && **name != "SHUTDOWN")?;
        let protocol = if is_json { "?protocol=resp3" } else { "" };
        let client = redis::Client::open(format!("{}/{protocol}", self.url())).expect("an address");
        let answer: redis::RedisResult<redis::Value> =
            redis::cmd(name).arg(rest).query(&mut client.get_connection().ok()?);
        match answer {
            Ok(answer) if is_json => Some(json(&answer).to_string() + "\n"),
            Ok(answer) => {
                let mut text = String::new();
                print(&answer, &mut text);
                Some(text)
            }
            Err(error) => Some(format!("{} {}\n", error.code()?, error.detail().unwrap_or_default())),
        }
    }

    fn redis_cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli")
            .args(["-p", &self.port.to_string()])
            .args(arguments)
            .output()
            .expect("redis-cli is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// Prints an answer as `redis-cli` does into a pipe: one value a line.
fn print(answer: &redis::Value, text: &mut String) {
    use redis::Value;
    match answer {
        Value::Array(all) | Value::Set(all) if !all.is_empty() => return all.iter().for_each(|one| print(one, text)),
        Value::Int(number) => *text += &number.to_string(),
        Value::BulkString(bytes) => *text += &String::from_utf8_lossy(bytes),
        Value::SimpleString(word) => *text += word,
        Value::Okay => *text += "OK",
        Value::Nil | Value::Array(_) | Value::Set(_) => {}
        other => panic!("an answer of another protocol: {other:?}"),
    }
    // Some texts of the server already end with a line break.
    if !text.ends_with('\n') || matches!(answer, Value::Nil | Value::Array(_) | Value::Set(_)) {
        text.push('\n');
    }
}

/// Returns an answer as `redis-cli --json` prints it.
fn json(answer: &redis::Value) -> serde_json::Value {
    use redis::Value;
    let text = |value: &Value| match json(value) {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    match answer {
        Value::Array(all) | Value::Set(all) => all.iter().map(json).collect(),
        Value::Map(pairs) => pairs.iter().map(|(name, value)| (text(name), json(value))).collect(),
        Value::Int(number) => (*number).into(),
        Value::Double(number) => (*number).into(),
        Value::Boolean(is) => (*is).into(),
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into(),
        Value::SimpleString(word) => word.as_str().into(),
        Value::Okay => "OK".into(),
        Value::Nil => serde_json::Value::Null,
        other => panic!("an answer that has no JSON: {other:?}"),
    }
}

/// Starts a process and waits until it accepts connections.
fn spawn(port: u16, folder: &std::path::Path, settings: &[String], clock: Option<&str>) -> Child {
    let mut command = Command::new("redis-server");
    if let Some(clock) = clock {
        command.env("LD_PRELOAD", clock_library().expect("there is a C compiler")).env("CLOCK_OFFSET_S", clock);
    }
    let process = command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--enable-debug-command", "local", "--dir"])
        .arg(folder)
        .args(settings)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed (cargo xtask test installs it)");
    let began = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(began.elapsed() < START_LIMIT, "redis-server does not answer");
        // A busy loop would take the processor from the server that is starting.
        std::thread::sleep(Duration::from_millis(1));
    }
    process
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns a port of loopback without a listener, which no other test of this process gets.
///
/// It is below the range from which the system takes ports for connections. A connection that is tried before its
/// server listens could otherwise connect to itself, and a connection could take a port that was just found free.
pub fn free_port() -> u16 {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(389);
    loop {
        let nth = start.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed)) % u32::from(LAST_PORT - FIRST_PORT);
        let port = FIRST_PORT + u16::try_from(nth).expect("a part of the range of ports");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
