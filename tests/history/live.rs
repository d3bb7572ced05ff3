//! Entries between a server and the fold: an entry allocates nothing, and wrong answers of a server do no harm.
//!
//! The server is a fake of the test: it gives the answers that the test chooses, as fast as it is asked.

use crossbeam_channel::{Receiver, Sender, bounded};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::memory::ASKED;
use crate::support::run_alone;
use harvester::config::Start;
use harvester::domain::delivery::fault::Faults;
use harvester::domain::event::ids::EntryId;
use harvester::domain::event::streams::StreamKind;
use harvester::service::run::{Batch, Connect, LeaseState, Message, ReaderSetup, ReaderStatus, read_streams};
use harvester::shell::redis::frame::{Framer, Token, Walk};
use harvester::shell::redis::{Address, Membership};
use tokio::sync::watch;

const STREAM: &str = "quantum:stream:market.tick";
/// Number of entries per read. [1]
const COUNT: usize = 1000;
/// Longest time that a test waits for an effect.
const LIMIT: Duration = Duration::from_secs(20);

/// The answers of the server to reads, in turn; the last answer is repeated.
type Answers = Vec<Vec<u8>>;

/// A server with one endless stream.
struct Server {
    url: String,
    /// Number of reads so far. [1]
    asked: Arc<AtomicUsize>,
}

impl Server {
    fn start(answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("redis://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        // The thread ends with the process of the test.
        std::thread::spawn(move || {
            let mut reads = Reads { answers, next: 0, seq: 1_000_000, asked: counted };
            for client in listener.incoming().flatten() {
                serve(client, &mut reads);
            }
        });
        Self { url, asked }
    }
}

/// The reads of the stream, and their answers.
struct Reads {
    answers: Answers,
    next: usize,
    /// The last sequence number that was given out.
    seq: u64,
    asked: Arc<AtomicUsize>,
}

impl Reads {
    /// Writes the next answer. Each `#######` in it becomes the next sequence number.
    fn answer(&mut self, out: &mut Vec<u8>) {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let start = out.len();
        out.extend_from_slice(&self.answers[self.next]);
        self.next = (self.next + 1).min(self.answers.len() - 1);
        let mut at = start;
        while let Some(found) = out[at..].iter().position(|byte| *byte == b'#') {
            at += found;
            self.seq += 1;
            let mut left = self.seq;
            for digit in out[at..at + 7].iter_mut().rev() {
                *digit = b'0' + (left % 10) as u8;
                left /= 10;
            }
            at += 7;
        }
    }
}

/// Answers the commands of one connection until it ends.
fn serve(mut client: TcpStream, reads: &mut Reads) {
    let (mut framer, mut space, mut filled) = (Framer::default(), vec![0; 64 << 10], 0);
    let mut out = Vec::new();
    let mut queued: Option<usize> = None;
    let mut start = 0;
    while let Ok(read @ 1..) = client.read(&mut space[filled..]) {
        filled += read;
        while let Some(end) = framer.next(&space[..filled]).expect("a client sends commands") {
            answer(&space[start..end], reads, &mut queued, &mut out);
            start = end;
        }
        if start == filled {
            framer.restart();
            (start, filled) = (0, 0);
        }
        if client.write_all(&out).is_err() {
            break;
        }
        out.clear();
    }
}

fn answer(command: &[u8], reads: &mut Reads, queued: &mut Option<usize>, out: &mut Vec<u8>) {
    let mut walk = Walk::new(command);
    let Ok(Token::List(1..)) = walk.token() else { panic!("a client sends lists") };
    let name = walk.bytes("a name").expect("a command has a name");
    let has = |word: &[u8]| command.windows(word.len()).any(|window| window == word);
    if let Some(commands) = queued {
        if name != b"EXEC" {
            *commands += 1;
            return out.extend_from_slice(b"+QUEUED\r\n");
        }
        assert_eq!(*commands, 3, "only the stream stats are read in a transaction here");
        *queued = None;
        out.extend_from_slice(b"*3\r\n*6\r\n+length\r\n:1000000000\r\n+entries-added\r\n:1000000000\r\n");
        out.extend_from_slice(b"+last-generated-id\r\n+1770163200000-9999999\r\n");
        out.extend_from_slice(b"*1\r\n*2\r\n+1770163200000-9999999\r\n*2\r\n+a\r\n+b\r\n");
        return out.extend_from_slice(b"-NOGROUP No such key or consumer group\r\n");
    }
    match name {
        b"MULTI" => {
            *queued = Some(0);
            out.extend_from_slice(b"+OK\r\n");
        }
        b"TIME" => out.extend_from_slice(b"*2\r\n$10\r\n1770163201\r\n$1\r\n0\r\n"),
        b"XREAD" if has(b"BLOCK") => out.extend_from_slice(b"*-1\r\n"),
        b"XREAD" => reads.answer(out),
        _ => out.extend_from_slice(b"+OK\r\n"),
    }
}

/// Returns an answer with so many entries.
fn entries(count: usize) -> Vec<u8> {
    let entry = "*2\r\n$21\r\n1770163200000-#######\r\n*2\r\n$7\r\npayload\r\n$41\r\n\
                 {\"symbol\":\"ADAUSDT\",\"price\":\"0.31420000\"}\r\n";
    format!("*1\r\n*2\r\n${}\r\n{STREAM}\r\n*{count}\r\n{}", STREAM.len(), entry.repeat(count)).into_bytes()
}

/// A reader of that stream.
struct Reader {
    messages: Receiver<Message>,
    folded: Sender<Batch>,
    status: Arc<ReaderStatus>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    _role: watch::Sender<LeaseState>,
}

impl Reader {
    fn start(server: &Server) -> Self {
        let (role, role_seen) = watch::channel(LeaseState::NotOurs);
        let (to_fold, messages) = bounded(8);
        let (folded, to_fill) = bounded(8);
        let status = Arc::new(ReaderStatus::default());
        let stop = Arc::new(AtomicBool::new(false));
        let setup = ReaderSetup {
            connect: Connect::new(Address::new(&server.url, None).expect("an address")),
            membership: Membership {
                group: "g".to_owned(),
                consumer: "c".to_owned(),
                lease_key: "l".to_owned(),
                pending_list: true,
            },
            streams: vec![STREAM.to_owned()],
            kinds: vec![StreamKind::Price],
            kill_gate: Arc::default(),
            cursors_and_counts: vec![None],
            from: vec![Start::Earliest],
            count: COUNT,
            role: role_seen,
            stop: Arc::clone(&stop),
            status: Arc::clone(&status),
            to_fold,
            folded: to_fill,
            faults: Faults::default(),
        };
        let thread = std::thread::spawn(move || read_streams(setup));
        Self { messages, folded, status, stop, thread, _role: role }
    }

    /// Takes batches until there were so many entries, and gives each with its line to `look`.
    fn take(&self, entries: usize, mut look: impl FnMut(EntryId, &str)) {
        let mut taken = 0;
        let began = Instant::now();
        while taken < entries {
            let message = self.messages.recv_timeout(LIMIT).expect("entries come");
            assert!(began.elapsed() < LIMIT, "entries do not come: {:?}", self.status.last_error());
            let Message::Entries(mut batch) = message else { continue };
            for (released, line) in batch.iter() {
                look(released.id, line.expect("an entry has fields"));
                taken += 1;
            }
            batch.clear();
            let _ = self.folded.try_send(batch);
        }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(self.messages);
        self.thread.join().expect("the reader ends");
    }
}

#[test]
fn an_entry_allocates_nothing_on_its_way_to_the_fold() {
    run_alone("live::measured_allocations_of_the_reader");
}

#[test]
#[ignore = "does its work as the child of another test"]
fn measured_allocations_of_the_reader() {
    const ENTRIES: usize = 300 * COUNT;
    let server = Server::start(vec![entries(COUNT)]);
    let reader = Reader::start(&server);
    // Reads until all buffers have their final size.
    reader.take(50 * COUNT, |_, _| {});
    let (before, asked_before) = (ASKED.load(Ordering::SeqCst), server.asked.load(Ordering::SeqCst));
    reader.take(ENTRIES, |_, _| {});
    let asked = ASKED.load(Ordering::SeqCst) - before;
    let rounds = server.asked.load(Ordering::SeqCst) - asked_before;
    println!("{asked} allocations for {ENTRIES} entries in {rounds} rounds");
    // The allocations of a round, on both sides, with one reading of the stream stats each second.
    assert!(asked < 60 * rounds + 1000, "{asked} allocations for {ENTRIES} entries in {rounds} rounds");
    reader.stop();
}

/// Each of these answers ends the connection. The reader connects again and gets all later entries.
#[test]
fn the_reader_connects_again_after_a_malformed_answer() {
    let nonsense = [
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$1\r\n5\r\n*0\r\n",
        "$99999999999\r\n",
        ":5\r\n",
        "-LOADING Redis is loading the dataset in memory\r\n",
        "*1\r\n*2\r\n$26\r\nquantum:stream:market.tick\r\n-ERR not today\r\n",
    ];
    let mut answers: Answers = nonsense.iter().map(|text| text.as_bytes().to_vec()).collect();
    answers.push(entries(3));
    // A message that the reader did not ask for, an empty answer, and a stream that it did not ask for.
    answers.push([b">2\r\n+message\r\n+a\r\n".to_vec(), entries(2)].concat());
    answers.push(b"_\r\n".to_vec());
    answers.push(b"*1\r\n*2\r\n+other\r\n*1\r\n*2\r\n+1-0\r\n*2\r\n+a\r\n+b\r\n".to_vec());
    answers.push(entries(1));
    answers.push(b"*-1\r\n".to_vec());
    let server = Server::start(answers);
    let reader = Reader::start(&server);
    let mut seen = Vec::new();
    reader.take(6, |id, line| {
        assert!(line.starts_with(r#"{"stream":"quantum:stream:market.tick","id":"1770163200000-1"#), "{line}");
        assert!(
            line.ends_with(r#"","fields":{"payload":"{\"symbol\":\"ADAUSDT\",\"price\":\"0.31420000\"}"}}"#),
            "{line}"
        );
        seen.push(id.seq);
    });
    assert_eq!(seen, [1_000_001, 1_000_002, 1_000_003, 1_000_004, 1_000_005, 1_000_006]);
    assert_eq!(reader.status.reconnects.load(Ordering::SeqCst), nonsense.len() as u64);
    assert!(
        reader.status.last_error().is_some_and(|error| error.contains("not today")),
        "{:?}",
        reader.status.last_error()
    );
    reader.stop();
}
