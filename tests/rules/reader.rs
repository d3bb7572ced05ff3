//! The reader as a machine: given what a server holds, what it sends to the fold. What can never be read is reported as a
//! gap, and nothing else is; a stream that nothing can be read from keeps no other from being read.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use harvester::config::Start;
use harvester::domain::delivery::StreamPosition;
use harvester::domain::delivery::fault::Faults;
use harvester::domain::delivery::gap::{GapReason, StreamGap};
use harvester::domain::event::ids::EntryId;
use harvester::domain::event::streams::StreamKind;
use harvester::service::run::source::Source as _;
use harvester::service::run::{Connect, LeaseState, Message, ReadError, Reader, ReaderSetup, ReaderStatus};
use harvester::shell::redis::{Address, Membership, StreamFault};
use tokio::sync::watch;

use server::{BEGAN_MS, Key, Server, US};

mod server;

const KINDS: [StreamKind; 5] =
    [StreamKind::Control, StreamKind::Intent, StreamKind::Result, StreamKind::Price, StreamKind::Decision];
const CONTROL: usize = 0;
const INTENT: usize = 1;
const RESULT: usize = 2;
const PRICE: usize = 3;
const DECISION: usize = 4;
/// One of each kind that the reader treats in a way of its own.
const TREATED: [usize; 4] = [CONTROL, RESULT, PRICE, DECISION];
/// Long enough for two looks at the statistics of the streams.
const A_WHILE: Duration = Duration::from_millis(2_500);

/// What the reader has sent.
#[derive(Debug, Default)]
struct Sent {
    /// By stream, in the order in which they came.
    entries: BTreeMap<usize, Vec<EntryId>>,
    gaps: Vec<StreamGap>,
    delivered: Vec<EntryId>,
    /// Whether orders wait for entries about positions, and how many entries had come when that was sent.
    facts_ahead: Vec<(bool, usize)>,
    /// Of the last statistics: what keeps a stream from being read, and whether its next id is ahead.
    faults: Vec<Option<StreamFault>>,
    ahead: Vec<bool>,
    ended: Option<String>,
    /// Cursor and counts of each stream, as the process would keep them.
    begun: BTreeMap<usize, (EntryId, StreamPosition)>,
}

impl Sent {
    fn of(&self, stream: usize) -> &[EntryId] {
        self.entries.get(&stream).map_or(&[], Vec::as_slice)
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Entries(batch) => {
                for (released, line) in batch.iter() {
                    assert!(line.is_some(), "an entry has its line");
                    let stream = usize::from(released.stream.0);
                    self.entries.entry(stream).or_default().push(released.id);
                    let (cursor, position) = self.begun.entry(stream).or_default();
                    (*cursor, position.seen) = (released.id, position.seen + 1);
                }
            }
            Message::Begin { stream, cursor, position } => {
                let begun = (cursor.unwrap_or_default(), position);
                self.begun.insert(usize::from(stream.0), begun);
            }
            Message::Gap(gap) => {
                let (_, position) = self.begun.entry(usize::from(gap.stream.0)).or_default();
                *position = position.over(&gap);
                self.gaps.push(gap);
            }
            Message::Delivered(all) => self.delivered.extend(all.into_iter().flat_map(|(_, ids)| ids)),
            Message::FactsAhead(are_ahead) => {
                self.facts_ahead.push((are_ahead, self.entries.values().map(Vec::len).sum()));
            }
            Message::StreamStats(stats, ahead) => {
                self.faults = stats.iter().map(|stats| stats.fault).collect();
                self.ahead = ahead;
            }
            Message::Ended(error) => self.ended = Some(error.to_string()),
            Message::Watermark { .. } | Message::KillRead { .. } | Message::DeliveredAnew => {}
        }
    }
}

/// A reader of a leader, the server that it reads from, and what it has sent.
struct Rig {
    server: Server,
    reader: Reader,
    messages: Receiver<Message>,
    sent: Sent,
    /// Where the process began to read each stream.
    began: BTreeMap<usize, EntryId>,
    _role: watch::Sender<LeaseState>,
}

impl Rig {
    fn new() -> Self {
        Self::over(Server::new(&KINDS.map(StreamKind::name)), Start::Earliest, &BTreeMap::new())
    }

    /// A process that goes on from cursors and counts.
    fn over(server: Server, from: Start, begun: &BTreeMap<usize, (EntryId, StreamPosition)>) -> Self {
        let lease = LeaseState::Ours { lease: "1 a".to_owned(), until: Instant::now() + Duration::from_secs(36_000) };
        let (role, role_seen) = watch::channel(lease);
        let (to_fold, messages) = unbounded();
        let reader = Reader::new(ReaderSetup {
            connect: Connect::new(Address::new("redis://model", None).expect("an address")),
            membership: Membership {
                group: "harvester".to_owned(),
                consumer: US.to_owned(),
                lease_key: "lease".to_owned(),
                pending_list: server.keeps_pending,
            },
            streams: KINDS.map(|kind| kind.name().to_owned()).into(),
            kinds: KINDS.into(),
            kill_gate: Arc::default(),
            cursors_and_counts: (0..KINDS.len()).map(|stream| begun.get(&stream).copied()).collect(),
            from: vec![from; KINDS.len()],
            count: 100,
            role: role_seen,
            stop: Arc::default(),
            status: Arc::new(ReaderStatus::default()),
            to_fold,
            folded: unbounded().1,
            faults: Faults::default(),
        });
        let sent = Sent { begun: begun.clone(), ..Sent::default() };
        let began = begun.iter().map(|(stream, (cursor, _))| (*stream, *cursor)).collect();
        let mut rig = Self { server, reader, messages, sent, began, _role: role };
        rig.connect();
        rig
    }

    /// The connection is there, or there again.
    fn connect(&mut self) {
        let begun = self.reader.begin(&mut self.server);
        begun.unwrap_or_else(|error| panic!("the server answers: {error:?}"));
        self.receive();
    }

    fn receive(&mut self) {
        self.messages.try_iter().for_each(|message| self.sent.take(message));
    }

    /// Reads for a while, with a new connection after each failure. Returns how often that was.
    fn read(&mut self) -> usize {
        self.read_for(A_WHILE)
    }

    fn read_for(&mut self, length: Duration) -> usize {
        let (until, mut failures) = (self.server.clock() + length, 0);
        while self.server.clock() < until {
            let done = match self.reader.prepare(&mut self.server) {
                Ok(true) => self.reader.cycle(&mut self.server),
                done => done.map(drop),
            };
            self.receive();
            if let Err(ReadError::Server(_)) = done {
                failures += 1;
                self.connect();
            }
        }
        failures
    }

    /// The process ends. The next one has its cursors and counts.
    fn next_process(self) -> Self {
        Self::over(self.server, Start::Earliest, &self.sent.begun)
    }

    /// A price that was read, and time for two looks at the statistics.
    fn at_work() -> Self {
        let mut rig = Self::new();
        rig.server.add(PRICE, 10);
        rig.read();
        assert_eq!(rig.sent.of(PRICE).len(), 10);
        rig
    }

    /// Every entry that the stream has is read once, in order. Every one that is lost lies in a gap.
    fn check(&self, stream: usize, lost: &[EntryId], gaps: usize, what: &str) {
        let began = self.began.get(&stream).copied().unwrap_or_default();
        let there = self.server.keys[stream].after(began);
        let read = self.sent.of(stream).iter().filter(|id| there.binary_search(id).is_ok());
        assert!(read.eq(there), "{what}: each entry is read once, in order");
        for id in lost {
            let is_reported = self.sent.gaps.iter().any(|gap| {
                usize::from(gap.stream.0) == stream
                    && gap.after.is_none_or(|after| after < *id)
                    && gap.before.is_none_or(|before| *id < before)
            });
            assert!(is_reported, "{what}: {id} is in none of {:?}", self.sent.gaps);
        }
        assert_eq!(self.sent.gaps.len(), gaps, "{what}: {:?}", self.sent.gaps);
    }

    /// All that is written into the other streams is read.
    fn others_are_read(&mut self, stream: usize) {
        let others = [INTENT, RESULT, PRICE].into_iter().filter(|other| *other != stream);
        let ids: Vec<(usize, EntryId)> = others.map(|other| (other, self.server.add(other, 1)[0])).collect();
        self.read();
        for (other, id) in ids {
            assert!(self.sent.of(other).contains(&id), "{} is read beside {stream}", KINDS[other].name());
        }
    }
}

/// Entries that nobody has read are deleted in the middle, or trimmed, while the process runs or is away.
#[test]
fn i11_every_entry_that_is_gone_unread_lies_in_the_one_gap_that_is_reported() {
    type Goes = fn(&mut Server, &[EntryId]) -> std::ops::Range<usize>;
    let cases: [(&str, Goes); 3] = [
        ("deleted", |server, ids| {
            server.keys[PRICE].delete(&ids[100..220]);
            100..220
        }),
        ("trimmed to 50", |server, _| {
            server.keys[PRICE].trim(50);
            0..250
        }),
        ("trimmed to nothing", |server, _| {
            server.keys[PRICE].trim(0);
            0..300
        }),
    ];
    for ((what, goes), is_running) in cases.into_iter().flat_map(|case| [(case, true), (case, false)]) {
        let mut rig = Rig::at_work();
        let ids = rig.server.add(PRICE, 300);
        let lost = goes(&mut rig.server, &ids);
        if !is_running {
            rig = rig.next_process();
        }
        rig.read();
        let what = format!("{what}, running: {is_running}");
        rig.check(PRICE, &ids[lost.clone()], 1, &what);
        assert_eq!(rig.sent.gaps[0].count, Some(lost.len() as u64), "{what}");
        assert_eq!(rig.sent.gaps[0].why, GapReason::Trimmed, "{what}");
        let mut rig = rig.next_process();
        rig.read();
        rig.check(PRICE, &[], 0, "the gap is counted");
    }
}

/// The group's cursor was moved. What it skipped is read by its ids, or lies in a gap if later entries were read before.
#[test]
fn i13_what_the_group_was_made_to_skip_is_read_by_its_ids_or_lies_in_a_gap() {
    let mut rig = Rig::at_work();
    rig.server.add(PRICE, 40);
    rig.server.keys[PRICE].skip();
    rig.read();
    rig.check(PRICE, &[], 0, "nothing new");

    let mut rig = Rig::at_work();
    let skipped = rig.server.add(PRICE, 40);
    rig.server.keys[PRICE].skip();
    rig.server.add(PRICE, 5);
    rig.read();
    let read = rig.sent.of(PRICE);
    let lost: Vec<EntryId> = skipped.iter().copied().filter(|id| !read.contains(id)).collect();
    assert!(!lost.is_empty(), "all is read: the test shows nothing");
    rig.server.keys[PRICE].delete(&lost);
    rig.check(PRICE, &lost, 1, "among new entries");
}

/// An older backup: what it lacks, read or not, lies in one gap, though nothing comes any more; of a server that counts, and
/// of one that does not.
#[test]
fn what_a_restored_backup_lacks_lies_in_the_one_gap_that_is_reported() {
    for counts in [true, false] {
        let what = format!("counts: {counts}");
        let mut server = Server::new(&KINDS.map(StreamKind::name));
        server.counts = counts;
        let mut rig = Rig::over(server, Start::Earliest, &BTreeMap::new());
        rig.server.add(PRICE, 20);
        rig.read();
        // A stream that is read and trimmed as it goes proves nothing.
        rig.server.keys[PRICE].trim(5);
        rig.server.add(PRICE, 3);
        rig.read();
        let backup = rig.server.keys.clone();
        let read = rig.server.add(PRICE, 20);
        rig.read();
        assert!(rig.sent.gaps.is_empty(), "{what}: {:?}", rig.sent.gaps);
        let unread = rig.server.add(PRICE, 20);
        rig.server.keys = backup;
        rig.connect();
        rig.read();
        rig.check(PRICE, &[read, unread].concat(), 1, &what);
        assert_eq!(rig.sent.gaps[0].why, GapReason::Forgotten, "{what}");
        rig.server.add(PRICE, 3);
        rig.read();
        rig.connect();
        rig.read();
        rig.check(PRICE, &[], 1, &what);
    }
}

/// The stream is gone, and with it what was written and not read; or there is something else in its place.
#[test]
fn i11_a_stream_that_was_deleted_is_a_gap_and_reading_goes_on() {
    for (stream, is_other) in TREATED.into_iter().flat_map(|stream| [(stream, false), (stream, true)]) {
        let what = format!("{}, replaced: {is_other}", KINDS[stream].name());
        let mut rig = Rig::new();
        let read = rig.server.add(stream, 5);
        rig.read();
        let unread = rig.server.add(stream, 2);
        rig.server.keys[stream] = Key::default();
        rig.server.keys[stream].is_other = is_other;
        rig.read();
        rig.check(stream, &[read, unread].concat(), 1, &what);
        assert_eq!(rig.sent.gaps[0].why, GapReason::Forgotten, "{what}");
        rig.others_are_read(stream);
        rig.check(stream, &[], 1, &what);
    }
}

/// Another server answers that has everything, and more comes before and after.
#[test]
fn a_failover_to_a_server_in_step_reports_no_loss() {
    let mut rig = Rig::at_work();
    for _ in 0..3 {
        rig.server.add(PRICE, 300);
        rig.connect();
        rig.server.busy = Some((PRICE, 1));
        rig.read_for(Duration::from_millis(50));
        rig.server.busy = None;
    }
    rig.read();
    rig.check(PRICE, &[], 0, "in step");
}

/// Entries come with each request while the process begins in the middle of them.
#[test]
fn a_start_in_the_middle_of_a_busy_stream_reports_no_trimming() {
    for per_request in [1, 7, 150] {
        let mut server = Server::new(&KINDS.map(StreamKind::name));
        let ids = server.add(PRICE, 30);
        server.busy = Some((PRICE, per_request));
        let mut rig = Rig::over(server, Start::After(ids[14]), &BTreeMap::new());
        rig.read_for(Duration::from_millis(30));
        rig.server.busy = None;
        rig.read();
        let reasons: Vec<_> = rig.sent.gaps.iter().map(|gap| (gap.why, gap.count)).collect();
        assert_eq!(reasons, [(GapReason::NotFromBeginning, Some(15))]);
        rig.server.keys[PRICE].delete(&ids[..15]);
        rig.check(PRICE, &ids[..15], 1, &format!("{per_request} with each request"));
    }
}

/// Entries that are pending already, at this consumer and at one that is gone, are acknowledged, and read once.
#[test]
fn what_is_pending_already_is_delivered_to_us_and_read_once() {
    for keeps_pending in [true, false] {
        let mut server = Server::new(&KINDS.map(StreamKind::name));
        server.keeps_pending = keeps_pending;
        server.add(PRICE, 10);
        server.keys[PRICE].deliver_to(US, 3);
        server.keys[PRICE].deliver_to("gone", 3);
        let mut rig = Rig::over(server, Start::Earliest, &BTreeMap::new());
        rig.read();
        assert_eq!(rig.sent.delivered, rig.server.keys[PRICE].entries[..6], "keeps pending: {keeps_pending}");
        rig.check(PRICE, &[], 0, "pending");
    }
}

#[test]
fn a_group_that_was_deleted_is_made_again_where_we_are() {
    let mut rig = Rig::at_work();
    for stream in [PRICE, RESULT] {
        rig.server.keys[stream].forget_group();
    }
    rig.server.add(PRICE, 3);
    assert_eq!(rig.read(), 1, "one connection fails");
    rig.check(PRICE, &[], 0, "made again");
}

/// A close is in the stream of results with an id ahead of the clock. Orders wait for it before anything else is released.
#[test]
fn orders_wait_for_a_result_whose_id_is_ahead_of_the_clock() {
    let mut rig = Rig::at_work();
    let ahead = EntryId::new(rig.server.now_ms() + 3_000, 0);
    rig.server.keys[RESULT].add(ahead);
    rig.server.add(PRICE, 1);
    rig.read();
    assert_eq!((rig.sent.of(RESULT).len(), rig.sent.of(PRICE).len()), (0, 11), "it waits, and prices do not");
    assert_eq!(rig.sent.facts_ahead, [(true, 10)], "before the price that may cause an order");
    rig.read();
    assert_eq!(rig.sent.of(RESULT), [ahead]);
    assert_eq!(rig.sent.facts_ahead, [(true, 10), (false, 12)], "once it is released");
}

/// Ids ahead of the clock, up to the last millisecond that there is: they wait, and so does all that follows them in their
/// stream; nothing else does.
#[test]
fn ids_ahead_of_the_clock_wait_and_keep_no_other_stream_from_being_read() {
    for (stream, ms) in TREATED.into_iter().flat_map(|stream| [(stream, BEGAN_MS + 7_200_000), (stream, u64::MAX)]) {
        let mut rig = Rig::new();
        rig.server.keys[stream].add(EntryId::new(ms, 5));
        rig.server.add(stream, 1);
        rig.others_are_read(stream);
        assert_eq!(rig.sent.of(stream), [], "{}: they wait", KINDS[stream].name());
        let ahead: Vec<usize> = (0..KINDS.len()).filter(|other| rig.sent.ahead[*other]).collect();
        assert_eq!((ahead, &*rig.sent.gaps), (vec![stream], &[][..]), "{}", KINDS[stream].name());
    }
}

/// The greatest id in any stream: it is named, the others are read, also by the next process.
#[test]
fn the_greatest_id_in_a_stream_keeps_no_other_stream_from_being_read() {
    for stream in TREATED {
        let mut rig = Rig::new();
        rig.server.keys[stream].add(EntryId::MAX);
        for _ in 0..2 {
            rig.others_are_read(stream);
            assert_eq!(rig.sent.faults[stream], Some(StreamFault::IdsExhausted), "{}", KINDS[stream].name());
            assert_eq!(rig.sent.gaps, [], "{}", KINDS[stream].name());
            rig = rig.next_process();
        }
    }
}

/// The smallest id that there is, and ids of somebody's own counting, are read.
#[test]
fn the_smallest_ids_are_read() {
    let mut rig = Rig::new();
    let ids = [EntryId::new(0, 1), EntryId::new(7, 0)].map(|id| rig.server.keys[PRICE].add(id));
    rig.read();
    assert_eq!(rig.sent.of(PRICE), ids);
    rig.check(PRICE, &[], 0, "small ids");
}

/// A key of another type in the place of any stream, from the beginning or since: it is named, the others are read, and it
/// is read once it is a stream again. One that must be looked through before the first entry is folded ends the process.
#[test]
fn a_key_that_is_no_stream_keeps_no_other_stream_from_being_read() {
    for (stream, is_first) in TREATED.into_iter().flat_map(|stream| [(stream, true), (stream, false)]) {
        let what = format!("{}, from the beginning: {is_first}", KINDS[stream].name());
        let mut server = Server::new(&KINDS.map(StreamKind::name));
        server.keys[stream].is_other = is_first;
        let mut rig = Rig::over(server, Start::Earliest, &BTreeMap::new());
        rig.read();
        rig.server.keys[stream].is_other = true;
        rig.others_are_read(stream);
        assert_eq!(rig.sent.faults[stream], Some(StreamFault::NotAStream), "{what}");
        rig.server.keys[stream].is_other = false;
        rig.others_are_read(stream);
        assert_eq!((rig.sent.faults[stream], &rig.sent.ended), (None, &None), "{what}: it is gone");
        let id = rig.server.add(stream, 1)[0];
        rig.read();
        assert_eq!(rig.sent.of(stream), [id], "{what}");
        assert_eq!(rig.sent.gaps, [], "{what}");
    }
    for (stream, is_looked_through) in [(CONTROL, true), (DECISION, true), (RESULT, false), (PRICE, false)] {
        let mut server = Server::new(&KINDS.map(StreamKind::name));
        server.keys[stream].is_other = true;
        let mut rig = Rig::over(server, Start::Earliest, &BTreeMap::new());
        rig.read();
        rig.server.keys[stream].is_other = false;
        rig.server.add(stream, 1);
        rig.read();
        let name = KINDS[stream].name();
        let says = rig.sent.ended.as_deref().unwrap_or_default();
        assert_eq!(says.starts_with(&format!("{name} is a stream again")), is_looked_through, "{name}: {says}");
    }
}
