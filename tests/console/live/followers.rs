//! Clients that follow the pages of a service: quick ones get every event, slow ones are dropped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{Url, place, until_settled};
use crate::support::redis::RedisServer;
use crate::support::service::{DECISION, Service, entries, open_position, price, until, until_leader};

/// Clients that follow a page at the same time. [1]
const READERS: usize = 50;
/// Number of those that read nothing. [1]
const SLOW: usize = 5;
/// Longest time until an effect; a test fails after it. No effect is timed.
const PATIENCE: Duration = Duration::from_secs(240);

/// Follows the positions. A client that reads nothing gets a small receive buffer.
fn reader(url: &Url, is_slow: bool) -> TcpStream {
    let mut stream = if is_slow {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
            socket.set_recv_buffer_size(4096).expect("a small buffer");
            let stream = socket.connect(url.0.parse().expect("an address")).await.expect("a connection");
            let stream = stream.into_std().expect("a stream");
            stream.set_nonblocking(false).expect("a stream that waits");
            stream
        })
    } else {
        TcpStream::connect(&url.0).expect("a connection")
    };
    let path = "/console/live?live-page=/console/positions";
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n").expect("it is asked");
    stream
}

#[test]
fn fifty_browsers_follow_a_service_and_the_slow_ones_are_dropped() {
    let server = RedisServer::start();
    let (place, url) = place(&server, "");
    let service: Service<'_> = place.start();
    until_leader(&service);
    let symbols: Vec<String> = (0..60).map(|n| format!("S{n:02}USDT")).collect();
    for symbol in &symbols {
        open_position(&server, symbol);
        price(&server, symbol, "1.0001");
    }
    until_settled(&url, 180);
    url.page("/console/positions");
    let slow: Vec<TcpStream> = (0..SLOW).map(|_| reader(&url, true)).collect();
    let (events, finals) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let is_over = Arc::new(AtomicBool::new(false));
    let quick: Vec<_> = (SLOW..READERS)
        .map(|_| {
            let stream = reader(&url, false);
            let (events, finals, is_over) = (Arc::clone(&events), Arc::clone(&finals), Arc::clone(&is_over));
            std::thread::spawn(move || {
                stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
                let mut lines = BufReader::new(stream).lines();
                while !is_over.load(Ordering::Relaxed) {
                    let line = lines.next().expect("the next line").expect("a quick reader is not dropped");
                    events.fetch_add(usize::from(line.starts_with("data: ")), Ordering::Relaxed);
                    if line.contains("1.00077") {
                        finals.fetch_add(1, Ordering::Relaxed);
                        break;
                    }
                }
            })
        })
        .collect();
    until("all follow", || url.json("/console/version")["readers"] == READERS);
    let before = url.json("/status")["totals"]["applied"].as_u64().expect("a count");
    // Prices move until the server has dropped the clients that read nothing.
    let (began, mut published) = (Instant::now(), 0_u64);
    let mut connection = server.client();
    while url.json("/console/version")["readers"] != READERS - SLOW {
        assert!(began.elapsed() < PATIENCE, "no client is dropped: {}", url.json("/console/version"));
        let mut pipe = redis::pipe();
        for symbol in &symbols {
            published += 1;
            let price = format!("1.000{}", published % 5 + 1);
            pipe.cmd("XADD")
                .arg("quantum:stream:market.tick")
                .arg("*")
                .arg(&["symbol", symbol, "price", &price])
                .ignore();
        }
        pipe.exec(&mut connection).expect("prices are added");
        until("they are folded", || url.json("/status")["totals"]["applied"].as_u64() >= Some(before + published));
    }
    assert_eq!(decided(&server), 0);
    // The price reaches the rung at 1 R: the decision is made while all clients follow.
    price(&server, "S07USDT", "1.02");
    until("it is decided", || decided(&server) == 1);
    price(&server, "S08USDT", "1.00077");
    until("everybody has seen it", || finals.load(Ordering::Relaxed) == READERS - SLOW);
    is_over.store(true, Ordering::Relaxed);
    for reader in quick {
        reader.join().expect("a quick reader ends well");
    }
    assert!(events.load(Ordering::Relaxed) >= 2 * (READERS - SLOW), "each has got several events");
    until("all have gone", || url.json("/console/version")["readers"] == 0);
    drop(slow);
    service.stop();
}

/// The age of a price changes no row: an event has the row of the new price and no other.
#[test]
fn an_event_has_only_the_rows_in_which_more_than_an_age_changed() {
    let server = RedisServer::start();
    let (place, url) = place(&server, "");
    let service = place.start();
    until_leader(&service);
    for n in 0..20 {
        let symbol = format!("S{n:02}USDT");
        open_position(&server, &symbol);
        price(&server, &symbol, "1.0001");
    }
    until_settled(&url, 60);
    url.page("/console/positions");
    let mut lines = BufReader::new(reader(&url, false)).lines().map(|line| line.expect("a line"));
    let mut next = || -> Vec<(String, String)> {
        let line =
            lines.find_map(|line| line.strip_prefix("data: [").map(|rest| format!("[{rest}"))).expect("an event");
        serde_json::from_str(&line).expect("parts")
    };
    assert!(next().iter().any(|(name, _)| name == "page"), "the first event has the whole page");
    for n in 1..=3 {
        // The clock of the service goes on for more than one second between two prices.
        let wanted = format!("1.0003{n}");
        until_settled(&url, 60);
        std::thread::sleep(Duration::from_millis(1100));
        price(&server, "S07USDT", &wanted);
        loop {
            let parts = next();
            let rows: Vec<&String> =
                parts.iter().map(|(name, _)| name).filter(|name| name.starts_with("row-")).collect();
            assert!(rows.len() <= 1 && parts.iter().all(|(name, _)| name != "page"), "{rows:?}");
            if parts.iter().any(|(_, html)| html.contains(&wanted)) {
                break;
            }
        }
    }
    service.stop();
}

fn decided(server: &RedisServer) -> usize {
    entries(server, DECISION).len()
}
