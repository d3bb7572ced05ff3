//! Servers that a service cannot work with: it is refused at once, with the next step. No Redis is needed to show it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};

use crate::support::binary::{harvester, name, run};

/// Asserts that a service at this address ends by itself, and that it names the next step.
fn is_refused(url: &str, names: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, journal) = (folder.path().join("store"), folder.path().join("journal"));
    let ran = run(harvester()
        .args(["run", "--redis", url, "--consumer", "one", "--listen", "", "--until-idle", "0.3"])
        .args(["--store", name(&store), "--journal", name(&journal)]));
    ran.refused(&[names]);
}

/// A server that is too old, one of a cluster, and an address of several servers.
#[test]
fn a_server_that_cannot_be_worked_with_is_refused_with_the_next_step() {
    let cases = [
        ("redis_version:6.0.16\r\nredis_mode:standalone\r\n", "6.2 is the oldest that can be worked with: upgrade it"),
        ("redis_version:7.2.4\r\nredis_mode:cluster\r\n", "redis-cluster://host:port"),
    ];
    for (info, wanted) in cases {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                answer(client, info);
            }
        });
        is_refused(&format!("redis://127.0.0.1:{port}"), wanted);
    }
    is_refused("redis://127.0.0.1:7000,127.0.0.1:7001", "nodes of a cluster (redis-cluster://");
}

/// A server that answers everything with OK, and `INFO` with what it is given.
fn answer(client: TcpStream, info: &str) {
    let mut writer = client.try_clone().expect("a second handle");
    let mut lines = BufReader::new(client).lines().map_while(Result::ok);
    while let Some(count) = lines.next().and_then(|line| line.strip_prefix('*')?.parse::<usize>().ok()) {
        let words: Vec<String> = (0..count).filter_map(|_| lines.nth(1)).collect();
        let answered = match words.first().map(String::as_str) {
            Some("INFO") => write!(writer, "${}\r\n{info}\r\n", info.len()),
            _ => write!(writer, "+OK\r\n"),
        };
        if answered.is_err() {
            return;
        }
    }
}
