//! The service reports lost entries as a gap that contains each of them. Without a loss it reports no gap.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;
use crate::support::service::{
    self, CONTROL, PRICE, Place, Service, add, entries, is_read, is_read_to, price, until, until_leader,
};
use harvester::domain::event::ids::EntryId;
use rustix::process::Signal;
use serde_json::Value;

/// A gap as it was told.
#[derive(Debug)]
struct Told {
    after: Option<EntryId>,
    before: Option<EntryId>,
    reason: String,
}

impl Told {
    fn holds(&self, id: EntryId) -> bool {
        self.after.is_none_or(|after| after < id) && self.before.is_none_or(|before| id < before)
    }
}

fn gaps(server: &RedisServer, stream: &str) -> Vec<Told> {
    let told = |fields: &[(String, String)]| {
        let get = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        let payload: Value = serde_json::from_str(get("payload")?).ok()?;
        let id = |name: &str| payload[name].as_str().map(|id| id.parse().expect("an id"));
        let is_it = get("event_type") == Some("history.gap") && payload["stream"] == stream;
        let reason = payload["reason"].as_str().unwrap_or_default().to_owned();
        is_it.then(|| Told { after: id("after"), before: id("before"), reason })
    };
    entries(server, CONTROL).iter().filter_map(|(_, fields)| told(fields)).collect()
}

fn id(text: &str) -> EntryId {
    text.parse().expect("an id")
}

/// A service that has read what there is.
fn at_work<'a>(server: &RedisServer, place: &'a Place) -> Service<'a> {
    let service = place.start();
    until_leader(&service);
    price(server, "AAAUSDT", "1");
    until("the price is read", || is_read(server, &[PRICE]));
    service
}

/// Stops the process for a while, and waits until the server has answered what it asked before.
fn stand_still(server: &RedisServer, service: &Service<'_>) {
    service.signal(Signal::STOP);
    let stat = format!("/proc/{}/stat", service.child.id());
    until("the process is stopped", || std::fs::read_to_string(&stat).is_ok_and(|text| text.contains(") T ")));
    // A round that is on its way is taken at the next turn of the server at the latest.
    for _ in 0..2 {
        server.cli(&["PING"]);
    }
}

fn some(server: &RedisServer, count: usize) -> Vec<EntryId> {
    let mut pipeline = redis::pipe();
    for _ in 0..count {
        pipeline.cmd("XADD").arg(PRICE).arg("*").arg("symbol").arg("AAAUSDT").arg("price").arg("1");
    }
    let ids: Vec<String> = pipeline.query(&mut server.client()).expect("the server takes them");
    ids.iter().map(|text| id(text)).collect()
}

/// Every lost entry lies in a gap, and no entry that is there does.
fn check(server: &RedisServer, lost: &[EntryId], count: usize, what: &str) {
    until("the gap is told", || !gaps(server, PRICE).is_empty());
    let told = gaps(server, PRICE);
    for id in lost {
        assert!(told.iter().any(|gap| gap.holds(*id)), "{what}: {id} is in none of {told:?}");
    }
    assert_eq!(told.len(), count, "{what}: {told:?}");
}

/// Entries that nobody has read are deleted in the middle of what waits.
#[test]
fn every_entry_that_was_deleted_unread_lies_in_the_gap_that_is_told() {
    for is_running in [true, false] {
        let server = RedisServer::start();
        let place = Place::new(&server);
        let service = at_work(&server, &place);
        let service = if is_running {
            stand_still(&server, &service);
            Some(service)
        } else {
            service.stop();
            None
        };
        let ids = some(&server, 300);
        let lost = &ids[100..220];
        let texts: Vec<String> = lost.iter().map(EntryId::to_string).collect();
        let mut command = vec!["XDEL", PRICE];
        command.extend(texts.iter().map(String::as_str));
        assert_eq!(server.cli(&command).trim(), "120");
        let service = match service {
            Some(service) => {
                service.signal(Signal::CONT);
                service
            }
            None => place.start(),
        };
        check(&server, lost, 1, &format!("running: {is_running}"));
        assert!(place.log().contains("count=120"), "{}", place.log());
        service.stop();
    }
}

/// … and where the stream was trimmed past where we stand.
#[test]
fn every_entry_that_was_trimmed_unread_lies_in_the_gap_that_is_told() {
    for left in [0, 50] {
        let server = RedisServer::start();
        let place = Place::new(&server);
        let service = at_work(&server, &place);
        stand_still(&server, &service);
        let ids = some(&server, 300);
        server.cli(&["XTRIM", PRICE, "MAXLEN", &left.to_string()]);
        service.signal(Signal::CONT);
        check(&server, &ids[..300 - left], 1, &format!("{left} left"));
        assert!(place.log().contains(&format!("count={}", 300 - left)), "{}", place.log());
        service.stop();
    }
}

/// What the group was made to skip, while more comes, is told as a gap, or read by its ids where we see it in time.
#[test]
fn what_a_group_was_made_to_skip_among_new_entries_is_read_or_lies_in_the_gap_that_is_told() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let service = at_work(&server, &place);
    stand_still(&server, &service);
    let skipped = some(&server, 40);
    server.cli(&["XGROUP", "SETID", PRICE, "harvester", "$"]);
    some(&server, 5);
    service.signal(Signal::CONT);
    until("each is read or told", || {
        let (told, journal) = (gaps(&server, PRICE), place.journalled().concat());
        let is_read = |id: &EntryId| journal.contains(&format!("\"{id}\""));
        // The gap may reach over entries that were read: it begins where nothing was known to be missing.
        skipped.iter().all(|id| is_read(id) || told.iter().any(|gap| gap.holds(*id)))
    });
    service.stop();
}

/// An older backup: what it lacks, read or not, lies in the gap, which is told though nothing comes any more.
#[test]
fn what_a_restored_backup_lacks_lies_in_the_gap_that_is_told() {
    let mut server = RedisServer::start();
    let place = Place::new(&server);
    let service = at_work(&server, &place);
    server.cli(&["SAVE"]);
    let read = some(&server, 20);
    until("they are read", || is_read(&server, &[PRICE]));
    stand_still(&server, &service);
    let unread = some(&server, 20);
    server.restart();
    service.signal(Signal::CONT);
    check(&server, &[read, unread].concat(), 1, "restored");
    let came = some(&server, 3);
    until("it goes on", || is_read(&server, &[PRICE]));
    service.stop();
    place.run_until_idle();
    let told = gaps(&server, PRICE);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(came.iter().all(|id| told[0].after < Some(*id)));
}

/// Three thousand entries a second come while the service starts in the middle of them: nothing was trimmed, and nothing
/// is said to have been.
#[test]
fn a_start_in_the_middle_of_a_busy_stream_tells_of_no_trimming() {
    let server = RedisServer::start();
    let ids = some(&server, 30);
    let stop = Arc::new(AtomicBool::new(false));
    let (mut client, stopped) = (server.client(), Arc::clone(&stop));
    let writer = std::thread::spawn(move || {
        let mut pipeline = redis::pipe();
        for _ in 0..300 {
            pipeline.cmd("XADD").arg(PRICE).arg("*").arg("symbol").arg("AAAUSDT").arg("price").arg("1").ignore();
        }
        while !stopped.load(Ordering::Relaxed) {
            pipeline.query::<()>(&mut client).expect("the server takes them");
        }
    });
    let place = Place::new(&server);
    let child = place.command().args(["--from", &ids[14].to_string()]).spawn().expect("the service starts");
    let service = place.service(child);
    until_leader(&service);
    until("much is written", || server.cli(&["XLEN", PRICE]).trim().parse::<u64>().unwrap() > 50_000);
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("it wrote");
    until("all is read", || is_read(&server, &[PRICE]) && server.cli(&["XINFO", "GROUPS", PRICE]).contains("lag\n0"));
    // What is read at the end is compared with what was counted.
    let last = price(&server, "AAAUSDT", "1");
    until("the last one is read", || is_read_to(&server, PRICE, &last));
    service.stop();
    place.run_until_idle();
    let told = gaps(&server, PRICE);
    assert!(told.iter().all(|gap| gap.reason == "not read from its beginning"), "{told:?}");
}

/// One id of two hours from now: it waits, and so does all behind it; what is said is that, and not that we are behind.
#[test]
fn ids_ahead_of_the_clock_wait_and_are_named_so() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let service = at_work(&server, &place);
    let ahead = format!("{}-0", server.now_ms() + 7_200_000);
    server.cli(&["XADD", PRICE, &ahead, "symbol", "AAAUSDT", "price", "1.008"]);
    service.until_logged(&["IDS_AHEAD", "ahead of the server's clock"]);
    // Other streams go on.
    add(&server, service::INTENT, &[("payload", r#"{"symbol":"AAAUSDT","side":"BUY"}"#)]);
    until("the intent is read", || is_read(&server, &[service::INTENT]));
    service.stop();
    assert!(!place.log().contains("INPUT_BEHIND"), "{}", place.log());
    assert!(!place.log().contains("CURSOR_STANDING"), "{}", place.log());
}

/// Ids of somebody's own counting: the entries are folded, and the stream is named.
#[test]
fn ids_that_are_no_time_are_named_so() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let service = place.start();
    until_leader(&service);
    server.cli(&["XADD", PRICE, "7-0", "symbol", "AAAUSDT", "price", "1"]);
    service.until_logged(&["IDS_NOT_TIME", PRICE]);
    until("it is read", || is_read(&server, &[PRICE]));
    price(&server, "AAAUSDT", "1");
    service.until_logged(&["IDS_NOT_TIME_OVER", PRICE]);
    service.stop();
}

/// A server of 6.2 counts nothing: that a stream ends before what was read is proof, and a stream that is read and trimmed
/// as it goes is none.
#[test]
fn a_server_that_does_not_count_proves_what_a_restored_backup_lacks() {
    let mut server = RedisServer::start();
    let wire = Proxy::to(server.port()).counting_nothing();
    let mut place = Place::new(&server);
    place.url = wire.url();
    let service = at_work(&server, &place);
    some(&server, 20);
    until("they are read", || is_read(&server, &[PRICE]));
    server.cli(&["XTRIM", PRICE, "MAXLEN", "5"]);
    some(&server, 3);
    until("they are read", || is_read(&server, &[PRICE]));
    server.cli(&["SAVE"]);
    let read = some(&server, 20);
    until("they are read", || is_read(&server, &[PRICE]));
    assert!(gaps(&server, PRICE).is_empty(), "{:?}", gaps(&server, PRICE));
    stand_still(&server, &service);
    let unread = some(&server, 20);
    server.restart();
    service.signal(Signal::CONT);
    check(&server, &[read, unread].concat(), 1, "restored");
    some(&server, 3);
    until("it goes on", || is_read(&server, &[PRICE]));
    service.stop();
    place.run_until_idle();
    assert_eq!(gaps(&server, PRICE).len(), 1, "{:?}", gaps(&server, PRICE));
}

/// A failover to a replica that is in step, under load before and after: nothing was lost, and nothing is said to have been.
#[test]
fn a_failover_to_a_replica_in_step_tells_of_no_loss() {
    let server = RedisServer::start();
    let (replica, wire, mut place) = service::with_replica(&server);
    let service = at_work(&server, &place);
    let write = |server: &RedisServer, count: usize| {
        let mut pipeline = redis::pipe();
        for _ in 0..300 {
            pipeline.cmd("XADD").arg(PRICE).arg("*").arg("symbol").arg("AAAUSDT").arg("price").arg("1").ignore();
        }
        let mut client = server.client();
        (0..count).for_each(|_| pipeline.query::<()>(&mut client).expect("the server takes them"));
    };
    write(&server, 40);
    let length = || server.cli(&["XLEN", PRICE]).trim().to_owned();
    until("the replica has all", || replica.cli(&["XLEN", PRICE]).trim() == length());
    wire.lead_to(None);
    // What was acknowledged, and who leads, changes until the connections are gone.
    service.until_logged(&["reading failed"]);
    until("the replica is in step", || {
        let offset = |server: &RedisServer, name: &str| {
            let info = server.cli(&["INFO", "replication"]);
            info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
        };
        offset(&replica, "slave_repl_offset:") == offset(&server, "master_repl_offset:")
    });
    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    write(&replica, 20);
    wire.lead_to(Some(replica.port()));
    write(&replica, 40);
    let last = id(&price(&replica, "AAAUSDT", "1"));
    until("all is read", || is_read_to(&replica, PRICE, &last.to_string()));
    service.stop();
    place.url = replica.url();
    place.run_until_idle();
    assert!(gaps(&replica, PRICE).is_empty(), "{:?}", gaps(&replica, PRICE));
}
