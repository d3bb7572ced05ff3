//! The pages of a service with clients that keep connections open, ask for another host, or send endless heads.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit, setrlimit};
use serde_json::Value;

use crate::support::binary::{harvester, name};
use crate::support::redis::{RedisServer, free_port};

/// Longest time that a test waits for an effect.
const LIMIT: Duration = Duration::from_secs(60);
const LEASE: &str = "quantum:stream:harvest.decision:lease";
const LEASE_MS: i64 = 1000;
/// Number of descriptors that the service of a test may have: fewer than others open connections. [1]
const DESCRIPTORS: u64 = 256;
const OUTSIDERS: usize = 1500;
/// Largest number of connections of a service. [1]
const HELD_MAX: usize = 64;

struct Service {
    child: Child,
    _folder: tempfile::TempDir,
    address: SocketAddr,
}

impl Service {
    /// Starts a service, and waits until it leads.
    fn start(server: &RedisServer, settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let file = folder.path().join("harvester.toml");
        std::fs::write(&file, settings).expect("the settings are written");
        let child = harvester()
            .args(["run", "--config", name(&file), "--redis", &server.url(), "--consumer", "one"])
            .args(["--store", name(&folder.path().join("store")), "--journal", name(&folder.path().join("journal"))])
            .args(["--listen", &address.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the service starts");
        let limit = Rlimit { current: Some(DESCRIPTORS), maximum: Some(DESCRIPTORS) };
        prlimit(Some(Pid::from_child(&child)), Resource::Nofile, limit).expect("a limit of descriptors");
        let service = Self { child, _folder: folder, address };
        until("it leads", || service.report()["role"] == "leader");
        service
    }

    /// Returns the answer to these bytes; `None` if the connection ends without an answer.
    fn ask(&self, request: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(LIMIT)).ok()?;
        // The answer may come, and the connection end, before the whole request was received.
        let _ = stream.write_all(request.as_bytes());
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut piece) {
            answer.extend_from_slice(&piece[..read]);
        }
        let answer = String::from_utf8(answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
    }

    fn report(&self) -> Value {
        let answered = self.get("/status").filter(|(status, _)| *status == 200);
        answered.and_then(|(_, body)| serde_json::from_str(&body).ok()).unwrap_or(Value::Null)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LIMIT, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Opens connections with half a request each, and keeps them open.
fn half_requests(address: SocketAddr) -> Vec<TcpStream> {
    let half = |_| {
        let mut stream = TcpStream::connect_timeout(&address, LIMIT).expect("a connection");
        // It may be closed already.
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n");
        stream
    };
    (0..OUTSIDERS).map(half).collect()
}

fn is_held(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket");
    matches!(stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}

/// Incident 73: idle connections to the status page used up all descriptors, and the lease was lost.
#[test]
fn i73_half_requests_block_neither_the_pages_nor_the_lease() {
    let ours = Rlimit { current: Some(4096), maximum: None };
    let _ = setrlimit(Resource::Nofile, ours);
    let server = RedisServer::start();
    let service = Service::start(&server, &format!("[run]\nlease_ms = {LEASE_MS}\n"));
    let half_requests = half_requests(service.address);
    assert_eq!(service.get("/healthz").map(|(status, _)| status), Some(200), "it answers before them");
    // Connections that wait for a refusal look as if they were kept.
    until("the others are refused", || {
        let held = half_requests.iter().filter(|stream| is_held(stream)).count();
        println!("{OUTSIDERS} connections with half a request each were opened, {held} are held");
        held <= HELD_MAX
    });

    // All connections to Redis are cut: new ones need descriptors.
    server.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
    // The holder shortens a long lease at the next renewal.
    until("the lease is renewed", || {
        server.cli(&["PEXPIRE", LEASE, "600000", "GT"]);
        let left = || server.cli(&["PTTL", LEASE]).trim().parse::<i64>().unwrap_or(0);
        let began = Instant::now();
        loop {
            match left() {
                1..=LEASE_MS => return true,
                _ if began.elapsed() > Duration::from_secs(5) => return false,
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    });
    let id = server.cli(&["XADD", "quantum:stream:market.tick", "*", "symbol", "ADAUSDT", "price", "1"]);
    until("it reads on", || {
        let report = service.report();
        let inputs = report["inputs"].as_array().cloned().unwrap_or_default();
        inputs.iter().any(|input| input["stream"] == "quantum:stream:market.tick" && input["lag_entries"] == 0)
            && report["totals"]["shapes"]["price"].is_object()
    });
    assert!(!id.is_empty());
    assert_eq!(service.get("/healthz").map(|(status, _)| status), Some(200));
    drop(half_requests);
}

#[test]
fn a_request_for_another_host_is_refused() {
    let server = RedisServer::start();
    let service = Service::start(&server, "[run]\nhosts = [\"harvester\", \"10.0.0.9\"]\n");
    let port = service.address.port();
    let asked = |head: &str| service.ask(&format!("{head}\r\nConnection: close\r\n\r\n")).map(|(status, _)| status);
    for host in ["localhost", "127.0.0.1", "[::1]", "harvester", "HARVESTER", "10.0.0.9"] {
        for host in [host.to_owned(), format!("{host}:{port}")] {
            assert_eq!(asked(&format!("GET /healthz HTTP/1.1\r\nHost: {host}")), Some(200), "{host}");
        }
    }
    for (head, page) in [
        ("HTTP/1.1\r\nHost: evil.example", "/positions?all=1"),
        ("HTTP/1.1\r\nHost: harvester.evil.example", "/status"),
        ("HTTP/1.1\r\nHost: 203.0.113.7", "/metrics"),
        ("HTTP/1.1\r\nHost:", "/healthz"),
        ("HTTP/1.1\r\nHost: localhost\r\nHost: evil.example", "/healthz"),
        ("HTTP/1.1\r\nHost: localhost", "http://evil.example/status"),
        ("HTTP/1.1", "/healthz"),
        ("HTTP/1.0\r\nHost: evil.example", "/healthz"),
    ] {
        let (status, body) =
            service.ask(&format!("GET {page} {head}\r\nConnection: close\r\n\r\n")).unwrap_or((400, String::new()));
        assert!(
            (status, body.contains("unknown_host")) == (421, true) || status == 400,
            "{page} {head}: {status} {body}"
        );
    }
    assert_eq!(asked("GET /healthz HTTP/1.0"), Some(200), "older clients send no host");
}

#[test]
fn endless_heads_and_bodies_are_cut_off() {
    let server = RedisServer::start();
    let service = Service::start(&server, "");
    let plain = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n";
    let long = format!("{plain}X: {}\r\n\r\n", "x".repeat(128 << 10));
    let many = format!("{plain}{}\r\n", "X: x\r\n".repeat(1000));
    let path = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(128 << 10));
    for request in [&long, &many, &path] {
        let status = service.ask(request).map(|(status, _)| status);
        assert!(matches!(status, None | Some(400 | 414 | 431)), "{status:?}: {}…", &request[..60]);
    }
    // A body that is announced and does not come: the service does not wait for it.
    let body = service.ask(&format!("{plain}Content-Length: 99999999999\r\n\r\n")).map(|(status, _)| status);
    assert_eq!(body, Some(200));
    // One client that never sends, and one that has hung up.
    let silent = TcpStream::connect(service.address).expect("a connection");
    let gone = TcpStream::connect(service.address).expect("a connection");
    gone.shutdown(Shutdown::Both).expect("a socket");
    assert_eq!(service.get("/healthz").map(|(status, _)| status), Some(200));
    // The connection is closed when the time for a request is over.
    let mut silent = silent;
    silent.set_read_timeout(Some(LIMIT)).expect("a limit");
    let closed = silent.read(&mut [0]);
    assert!(matches!(closed, Ok(0)) || closed.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
}
