//! The one step in which a decision is written: what it looks at before, and what it answers.

use std::collections::BTreeMap;

use crate::support::redis::RedisServer;
use crate::support::service::{CONTROL, DECISION, PLAN, RESULT, add, entries, field_of_all};
use harvester::codec::seal::chained;
use harvester::domain::delivery::action::{FactsFolded, Looked, Needed, Offer, Remembered, Tried, WrittenDecision};
use harvester::domain::delivery::row::OutboxRow;
use harvester::domain::event::ids::{EntryId, StreamId};
use harvester::shell::redis::{Address, EmitKeys, Emitter, Offered, OutputFault, Server, StreamFault};

/// The stream of results.
const FACTS: StreamId = StreamId(2);
const LEASE: &str = "quantum:stream:harvest.decision:lease";
const MEMORY: &str = "quantum:stream:harvest.decision:emitted";

/// An emitter of an empty server. Output streams are trimmed to a length, if it is not 0.
async fn emitter(server: &RedisServer, length_max: u64) -> Emitter {
    server.cli(&["FLUSHALL"]);
    server.cli(&["SET", LEASE, "1 one"]);
    let keys = EmitKeys {
        lease: LEASE.to_owned(),
        decisions: DECISION.to_owned(),
        control: CONTROL.to_owned(),
        kill_key: "quantum:kill".to_owned(),
        facts: BTreeMap::from([(FACTS, RESULT.to_owned())]),
        length_max,
        signing: None,
    };
    let address = Address::new(&server.url(), None).expect("an address");
    Emitter::new(Server::connect(&address).await.expect("a server"), keys)
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// An order, folded a moment ago.
fn order(server: &RedisServer, seq: u64) -> Offer {
    let now_ms = server.now_ms();
    let (id, hash) = (format!("{seq:032x}"), chained("", &seq.to_string()));
    let row = OutboxRow {
        seq,
        fields: pairs(&[("decision_id", &id), ("seq", &seq.to_string()), ("hash", &hash), ("payload", "{}")]),
        decision_id: id,
        request: Some((PLAN.to_owned(), pairs(&[("plan_id", "p")]))),
        live: true,
        policy: String::new(),
        account: String::new(),
        cause_ms: now_ms,
        written: None,
        record_only: false,
        again: false,
    };
    Offer {
        row,
        lease: "1 one".to_owned(),
        refusal: None,
        age_max_ms: 30_000,
        watermark_ms: now_ms,
        facts: Vec::new(),
        kill_was_set: false,
        after: None,
        needs: None,
    }
}

/// Offers one decision.
async fn offer(emitter: &mut Emitter, offer: &Offer) -> Offered {
    match emitter.offer(std::slice::from_ref(offer)).await {
        (mut answers, None) if answers.len() == 1 => answers.remove(0),
        other => panic!("{other:?}"),
    }
}

/// A decision that was written, with the entry that its process knows.
fn written(seq: u64, entry: Option<EntryId>) -> WrittenDecision {
    WrittenDecision { seq, decision_id: format!("{seq:032x}"), hash: chained("", &seq.to_string()), entry }
}

const fn remembered(entry: EntryId, is_there: bool, is_trimmed: bool) -> Remembered {
    Remembered { entry, is_there, is_trimmed }
}

/// Looks for one decision: whether it is there, and what is remembered of it.
async fn look(emitter: &mut Emitter, seq: u64, entry: Option<EntryId>) -> (bool, Option<Remembered>) {
    let mut looked = emitter.look_for(&[written(seq, entry)]).await.expect("looked for");
    assert_eq!(looked.len(), 1);
    let Looked { seq: of, entry: asked, is_there, remembered } = looked.remove(0);
    assert_eq!((of, asked), (seq, entry));
    (is_there, remembered)
}

fn entry_of(offered: &Offered) -> EntryId {
    match offered {
        Offered::Written { decision, .. } => *decision,
        other => panic!("it was not written: {other:?}"),
    }
}

/// The lease, the age of the data, the kill key and the keys that are written to; then the length of the streams.
#[tokio::test]
async fn an_order_is_written_only_while_everything_allows_it() {
    let server = &RedisServer::start_with(&["--stream-node-max-entries", "1"]);
    without_the_lease_nothing_is_written(server).await;
    an_order_that_rests_on_what_was_folded_long_ago_is_not_written(server).await;
    an_order_ahead_of_the_clock_is_not_sent(server).await;
    an_order_that_lacks_a_fact_which_is_gone_is_not_written(server).await;
    an_order_that_lacks_a_fact_which_another_reader_took_is_not_written(server).await;
    a_kill_key_refuses_the_order_and_never_the_record(server).await;
    nothing_is_written_where_one_key_takes_nothing(server).await;
    nothing_is_written_where_a_right_is_missing(server).await;
    output_streams_are_trimmed_only_where_that_is_set(server).await;
}

#[tokio::test]
async fn what_is_written_is_written_once_and_behind_nothing_that_is_lost() {
    let server = &RedisServer::start();
    nothing_is_written_behind_a_decision_that_the_server_has_lost(server).await;
    a_lost_decision_that_was_written_again_and_trimmed_is_not_written_behind_later_ones(server).await;
    the_memory_is_believed_where_the_stream_says_the_same(server).await;
    in_one_pipeline_nothing_is_written_after_a_decision_that_was_not(server).await;
    an_entry_whose_answer_was_lost_is_not_appended_again(server).await;
}

async fn without_the_lease_nothing_is_written(server: &RedisServer) {
    let mut emitter = emitter(server, 0).await;
    for lease in ["1 two", "2 one"] {
        server.cli(&["SET", LEASE, lease]);
        assert_eq!(offer(&mut emitter, &order(server, 1)).await, Offered::Stale, "{lease}");
    }
    server.cli(&["DEL", LEASE]);
    assert_eq!(offer(&mut emitter, &order(server, 1)).await, Offered::Stale, "it has ended");
    assert_eq!((entries(server, DECISION), entries(server, PLAN)), (vec![], vec![]));
}

async fn an_order_that_rests_on_what_was_folded_long_ago_is_not_written(server: &RedisServer) {
    let mut emitter = emitter(server, 0).await;
    let late = Offer { watermark_ms: server.now_ms() - 10_000, ..order(server, 1) };
    assert_eq!(offer(&mut emitter, &late).await, Offered::Behind);
    assert_eq!((entries(server, DECISION), entries(server, PLAN)), (vec![], vec![]));
    // Looked at again, and offered on what is folded now.
    entry_of(&offer(&mut emitter, &order(server, 1)).await);
    assert_eq!(entries(server, PLAN).len(), 1);
    // One that is not sent anyway waits for nothing.
    let mut old = Offer { watermark_ms: 1, ..order(server, 3) };
    old.row.cause_ms -= 60_000;
    let refused = offer(&mut emitter, &old).await;
    assert!(
        matches!(&refused, Offered::Written { refusal: Some(reason), .. } if reason == "max_decision_age"),
        "{refused:?}"
    );
    // What does not rest on the streams is written whatever was folded.
    let mut record = Offer { watermark_ms: 0, ..order(server, 2) };
    record.row.request = None;
    entry_of(&offer(&mut emitter, &record).await);
}

/// The clock of the server went back after the decision was made, so its age is unknown.
async fn an_order_ahead_of_the_clock_is_not_sent(server: &RedisServer) {
    let mut emitter = emitter(server, 0).await;
    let ahead = Offer { watermark_ms: server.now_ms() + 10_000, ..order(server, 1) };
    assert_eq!(offer(&mut emitter, &ahead).await, Offered::Behind);
    let mut ahead = order(server, 1);
    ahead.row.cause_ms += 10_000;
    let refused = offer(&mut emitter, &ahead).await;
    let is_too_old = |reason: &Option<String>| reason.as_deref() == Some("max_decision_age");
    assert!(matches!(&refused, Offered::Written { refusal, .. } if is_too_old(refusal)), "{refused:?}");
    assert_eq!(entries(server, PLAN), []);
    // The clocks of two servers may differ a little.
    let mut near = order(server, 2);
    near.row.cause_ms += 1_000;
    entry_of(&offer(&mut emitter, &near).await);
    assert_eq!(entries(server, PLAN).len(), 1);
}

/// A result that may close the position was added and removed before it was read.
async fn an_order_that_lacks_a_fact_which_is_gone_is_not_written(server: &RedisServer) {
    let mut emitter = emitter(server, 0).await;
    let result = || add(server, RESULT, &[("payload", "{}")]);
    // Made before any of the results, in an earlier millisecond: they may all be unread.
    let begun = order(server, 0);
    server.until_later_ms();
    let after = |id: &str, seen: u64, seq: u64| {
        let made = order(server, seq);
        Offer {
            facts: vec![FactsFolded { stream: FACTS, after: id.parse().expect("an id"), seen }],
            watermark_ms: begun.watermark_ms,
            row: OutboxRow { cause_ms: begun.row.cause_ms, ..made.row },
            ..made
        }
    };
    let mut seq = 0;
    let mut is_written = async |id: &str, seen: u64| {
        seq += 1;
        match offer(&mut emitter, &after(id, seen, seq)).await {
            Offered::Behind => false,
            offered => {
                entry_of(&offered);
                true
            }
        }
    };
    assert!(is_written("0-0", 0).await, "no result was ever added");
    let (first, second) = (result(), result());
    assert!(is_written(&second, 2).await, "all are read");
    assert!(is_written(&first, 1).await, "one is unread, and there");
    server.cli(&["XTRIM", RESULT, "MAXLEN", "1"]);
    assert!(is_written(&first, 1).await, "only what is read was trimmed");
    server.cli(&["XTRIM", RESULT, "MAXLEN", "0"]);
    assert!(!is_written(&first, 1).await, "an unread one was trimmed");
    assert!(is_written(&second, 2).await, "all are read, or known to be lost");
    let (third, _fourth) = (result(), result());
    server.cli(&["XDEL", RESULT, &third]);
    assert!(!is_written(&second, 2).await, "one of two unread ones was deleted");
    assert!(!is_written(&second, 5).await, "the server has forgotten what was read");
}

/// A result is there that another reader of the group took: it is not folded, although everything of its time is.
async fn an_order_that_lacks_a_fact_which_another_reader_took_is_not_written(server: &RedisServer) {
    let mut emitter = emitter(server, 0).await;
    let result = || add(server, RESULT, &[("payload", "{}")]);
    let first = result();
    let taken = result();
    server.until_later_ms();
    let lacking = |after: &str, seen: u64, offer: Offer| Offer {
        facts: vec![FactsFolded { stream: FACTS, after: after.parse().expect("an id"), seen }],
        ..offer
    };
    // The cause is later than the result, or all streams are folded to later than that.
    let (by_cause, mut by_watermark) = (order(server, 1), order(server, 1));
    by_watermark.row.cause_ms -= 1_000;
    let before = by_cause.row.cause_ms - 1_000;
    for made in [Offer { watermark_ms: before, ..by_cause }, by_watermark] {
        assert_eq!(offer(&mut emitter, &lacking(&first, 1, made)).await, Offered::Behind);
    }
    assert_eq!((entries(server, DECISION), entries(server, PLAN)), (vec![], vec![]));
    entry_of(&offer(&mut emitter, &lacking(&taken, 2, order(server, 1))).await);
    assert_eq!(entries(server, PLAN).len(), 1);
}

async fn a_kill_key_refuses_the_order_and_never_the_record(server: &RedisServer) {
    let mut emitter = emitter(server, 0).await;
    server.cli(&["RPUSH", "quantum:kill", "0"]);
    let refused = offer(&mut emitter, &order(server, 1)).await;
    let killed = Some("killed".to_owned());
    let want = Offered::Written { decision: entry_of(&refused), request: None, refusal: killed, is_new: true };
    assert_eq!(refused, want);
    assert_eq!(field_of_all(server, DECISION, "seq"), ["1"]);
    assert_eq!(field_of_all(server, CONTROL, "event_type"), ["decision.expired"]);
    assert_eq!(entries(server, PLAN), []);
    // A record alone has no order that could be refused.
    let mut record = order(server, 2);
    record.row.record_only = true;
    let written = offer(&mut emitter, &record).await;
    assert!(matches!(&written, Offered::Written { refusal: None, .. }), "{written:?}");
    assert_eq!((field_of_all(server, DECISION, "seq").len(), entries(server, CONTROL).len()), (2, 1));
    // The next order goes out once the key is gone, if it was not set before.
    server.cli(&["DEL", "quantum:kill"]);
    entry_of(&offer(&mut emitter, &order(server, 3)).await);
    assert_eq!(entries(server, PLAN).len(), 1);
    let refusal = |offered: Offered| match offered {
        Offered::Written { refusal, .. } => refusal,
        other => panic!("it was not written: {other:?}"),
    };
    let vanished = Offer { kill_was_set: true, ..order(server, 4) };
    assert_eq!(refusal(offer(&mut emitter, &vanished).await).as_deref(), Some("killed"), "a key that vanishes");
    for (seq, value, is_killed) in
        [(5, "1", true), (6, " True ", true), (7, "0", false), (8, " FALSE", false), (9, "", false)]
    {
        server.cli(&["SET", "quantum:kill", value]);
        let of_key = Offer { kill_was_set: true, ..order(server, seq) };
        let refused = refusal(offer(&mut emitter, &of_key).await);
        assert_eq!(refused.as_deref(), is_killed.then_some("killed"), "{value:?}");
    }
    assert_eq!(entries(server, PLAN).len(), 4);
}

/// A key, what makes it refuse entries, and the fault that is named.
type Fails<'a> = (&'a str, &'a dyn Fn(&str), OutputFault);

/// A stream whose last id is the greatest, or a key of another type: neither decision nor order nor expiry is half written.
async fn nothing_is_written_where_one_key_takes_nothing(server: &RedisServer) {
    const GREATEST: &str = "18446744073709551615-18446744073709551615";
    let exhausts = |key: &str| _ = server.cli(&["XADD", key, GREATEST, "event_type", "note"]);
    let exhausted_once = |key: &str| {
        exhausts(key);
        server.cli(&["XDEL", key, GREATEST]);
    };
    let replaces = |key: &str| _ = server.cli(&["SET", key, "no stream"]);
    let (exhausted, no_stream) =
        (OutputFault::Stream(StreamFault::IdsExhausted), OutputFault::Stream(StreamFault::NotAStream));
    let cases: [Fails<'_>; 9] = [
        (CONTROL, &exhausts, exhausted),
        (DECISION, &exhausts, exhausted),
        (PLAN, &exhausts, exhausted),
        (DECISION, &exhausted_once, exhausted),
        (PLAN, &exhausted_once, exhausted),
        (CONTROL, &replaces, no_stream),
        (DECISION, &replaces, no_stream),
        (PLAN, &replaces, no_stream),
        (MEMORY, &replaces, OutputFault::NotAHash),
    ];
    for (key, fails, why) in cases {
        let mut emitter = emitter(server, 0).await;
        fails(key);
        let refused = offer(&mut emitter, &order(server, 1)).await;
        assert_eq!(refused, Offered::Unfit { key: key.to_owned(), why }, "{key} {why:?}");
        let others = [CONTROL, DECISION, PLAN, MEMORY].into_iter().filter(|other| *other != key);
        for other in others {
            assert_eq!(server.cli(&["EXISTS", other]).trim(), "0", "{key} {why:?}: {other} is written");
        }
        server.cli(&["DEL", key]);
        entry_of(&offer(&mut emitter, &order(server, 1)).await);
        assert_eq!((entries(server, DECISION).len(), entries(server, PLAN).len()), (1, 1), "{key} {why:?}");
    }
}

/// Our user may only read one of the keys. Half of what belongs to a decision would be written again and again.
async fn nothing_is_written_where_a_right_is_missing(server: &RedisServer) {
    let all = [LEASE, "quantum:kill", CONTROL, DECISION, PLAN, MEMORY];
    for key in [CONTROL, DECISION, PLAN, MEMORY] {
        let mut emitter = emitter(server, 0).await;
        let read_only = format!("%R~{key}");
        let others: Vec<String> = all.iter().filter(|other| **other != key).map(|other| format!("~{other}")).collect();
        let mut rights = vec!["ACL", "SETUSER", "default", "resetkeys", "(+evalsha ~*)", &read_only];
        rights.extend(others.iter().map(String::as_str));
        server.cli(&rights);
        let refused = offer(&mut emitter, &order(server, 1)).await;
        server.cli(&["ACL", "SETUSER", "default", "clearselectors", "~*"]);
        assert_eq!(refused, Offered::Unfit { key: key.to_owned(), why: OutputFault::NotPermitted });
        assert_eq!((entries(server, DECISION), entries(server, PLAN)), (vec![], vec![]), "{key}");
        entry_of(&offer(&mut emitter, &order(server, 1)).await);
        assert_eq!((entries(server, DECISION).len(), entries(server, PLAN).len()), (1, 1), "{key}");
    }
}

/// Our own streams are trimmed where that is set; orders are for others, who trim their own.
async fn output_streams_are_trimmed_only_where_that_is_set(server: &RedisServer) {
    const SUGGESTIONS: &str = "quantum:stream:harvest.suggestions";
    for (length_max, decisions, suggestions) in [(0, 6, 3), (2, 2, 2)] {
        let mut emitter = emitter(server, length_max).await;
        for seq in 1..=3 {
            entry_of(&offer(&mut emitter, &order(server, seq)).await);
            let mut suggestion = order(server, 10 + seq);
            (suggestion.row.live, suggestion.row.request) =
                (false, Some((SUGGESTIONS.to_owned(), pairs(&[("s", "1")]))));
            entry_of(&offer(&mut emitter, &suggestion).await);
        }
        let length = |stream: &str| entries(server, stream).len();
        assert_eq!((length(DECISION), length(SUGGESTIONS)), (decisions, suggestions), "{length_max}");
        assert_eq!(length(PLAN), 3, "{length_max}: streams of others are not ours to trim");
    }
}

async fn nothing_is_written_behind_a_decision_that_the_server_has_lost(server: &RedisServer) {
    let mut emitter = emitter(server, 0).await;
    let first = offer(&mut emitter, &order(server, 1)).await;
    let lost = entry_of(&first);
    let second = Offer { after: Some(lost), ..order(server, 2) };
    assert_eq!(look(&mut emitter, 1, Some(lost)).await, (true, Some(remembered(lost, true, false))));
    server.cli(&["DEL", DECISION, MEMORY]);
    assert_eq!(offer(&mut emitter, &second).await, Offered::Lost);
    assert_eq!((entries(server, DECISION), entries(server, PLAN).len()), (vec![], 1));
    assert_eq!(look(&mut emitter, 1, Some(lost)).await, (false, None));
    assert_eq!(look(&mut emitter, 7, None).await, (false, None));
    // Written again, marked, and without its order.
    let mut again = order(server, 1);
    (again.row.again, again.row.record_only) = (true, true);
    let there = entry_of(&offer(&mut emitter, &again).await);
    let second = Offer { after: Some(there), ..order(server, 2) };
    let last = entry_of(&offer(&mut emitter, &second).await);
    assert_eq!(field_of_all(server, DECISION, "seq"), ["1", "2"]);
    assert_eq!(entries(server, PLAN).len(), 2);
    // The memory names the newer entry to a process that knows of the first one only.
    assert_eq!(look(&mut emitter, 1, Some(lost)).await, (false, Some(remembered(there, true, false))));
    assert_eq!(look(&mut emitter, 1, None).await, (false, Some(remembered(there, true, false))));
    // What was trimmed is not lost: the memory still names it, and the stream begins behind it.
    server.cli(&["XTRIM", DECISION, "MAXLEN", "1"]);
    let decisions = [(1, Some(there)), (1, None), (2, Some(last))].map(|(seq, entry)| written(seq, entry));
    let looked = |seq, entry, is_there, remembered| Looked { seq, entry, is_there, remembered: Some(remembered) };
    assert_eq!(
        emitter.look_for(&decisions).await.unwrap(),
        [
            looked(1, Some(there), false, remembered(there, false, true)),
            looked(1, None, false, remembered(there, false, true)),
            looked(2, Some(last), true, remembered(last, true, false)),
        ]
    );
    server.cli(&["XDEL", DECISION, &last.to_string()]);
    assert_eq!(look(&mut emitter, 2, Some(last)).await, (false, Some(remembered(last, false, false))));
    // An entry with the same id is not enough: it has another hash.
    server.cli(&["XADD", DECISION, "9999999999999-0", "hash", "another"]);
    let other: EntryId = "9999999999999-0".parse().unwrap();
    assert_eq!(look(&mut emitter, 2, Some(other)).await, (false, Some(remembered(last, false, true))));
    server.cli(&["HSET", MEMORY, &order(server, 2).row.decision_id, "nonsense"]);
    assert_eq!(look(&mut emitter, 2, Some(last)).await, (false, None));
}

/// It was lost, and an instance wrote it again; later ones were written behind it. Another process knows of the loss alone.
async fn a_lost_decision_that_was_written_again_and_trimmed_is_not_written_behind_later_ones(server: &RedisServer) {
    let mut emitter = emitter(server, 0).await;
    let again = |seq| {
        let mut again = order(server, seq);
        (again.row.again, again.row.record_only) = (true, true);
        again
    };
    let there = entry_of(&offer(&mut emitter, &again(1)).await);
    entry_of(&offer(&mut emitter, &order(server, 2)).await);
    server.cli(&["XTRIM", DECISION, "MAXLEN", "1"]);
    let known = Offered::Written { decision: there, request: None, refusal: None, is_new: false };
    assert_eq!(offer(&mut emitter, &again(1)).await, known);
    // One whose order may have been sent, and one that may be sent.
    let mut record = order(server, 1);
    record.row.record_only = true;
    assert_eq!(offer(&mut emitter, &record).await, known);
    assert_eq!(offer(&mut emitter, &order(server, 1)).await, Offered::Doubtful { known: format!("{there}  ") });
    assert_eq!(field_of_all(server, DECISION, "seq"), ["2"]);
    // The stream is lost as a whole, and the memory is not: nothing was trimmed.
    server.cli(&["DEL", DECISION]);
    for seq in 1..=2 {
        entry_of(&offer(&mut emitter, &again(seq)).await);
    }
    assert_eq!(field_of_all(server, DECISION, "seq"), ["1", "2"]);
    assert_eq!(entries(server, PLAN).len(), 1);
}

async fn the_memory_is_believed_where_the_stream_says_the_same(server: &RedisServer) {
    let mut emitter = emitter(server, 0).await;
    let first = offer(&mut emitter, &order(server, 1)).await;
    let known = Offered::Written {
        decision: entry_of(&first),
        request: Some(entries(server, PLAN)[0].0.parse().unwrap()),
        refusal: None,
        is_new: false,
    };
    assert_eq!(offer(&mut emitter, &order(server, 1)).await, known, "the answer was lost, say");
    let forged = [
        format!("{}  ", entry_of(&first)),
        "1770163200000-0  ".to_owned(),
        "99999999999999999999999-0  ".to_owned(),
        "nonsense".to_owned(),
        String::new(),
    ];
    for text in forged {
        let id = order(server, 2).row.decision_id;
        server.cli(&["HSET", MEMORY, &id, &text]);
        assert_eq!(offer(&mut emitter, &order(server, 2)).await, Offered::Doubtful { known: text });
    }
    assert_eq!((entries(server, DECISION).len(), entries(server, PLAN).len()), (1, 1));
    server.cli(&["HDEL", MEMORY, &order(server, 2).row.decision_id]);
    entry_of(&offer(&mut emitter, &order(server, 2)).await);
}

async fn in_one_pipeline_nothing_is_written_after_a_decision_that_was_not(server: &RedisServer) {
    let mut emitter = emitter(server, 0).await;
    let pipeline = |server: &RedisServer| {
        let mut offers: Vec<Offer> = (1..=3).map(|seq| order(server, seq)).collect();
        for at in 1..3 {
            let before = &offers[at - 1].row;
            let (decision_id, hash) = (before.decision_id.clone(), before.field("hash").to_owned());
            offers[at].needs = Some(Needed { decision_id, hash });
        }
        offers
    };
    let mut offers = pipeline(server);
    offers[1].watermark_ms -= 10_000;
    let (answers, failed) = emitter.offer(&offers).await;
    assert!(failed.is_none());
    assert!(matches!(answers[..], [Offered::Written { .. }, Offered::Behind, Offered::Halted]), "{answers:?}");
    assert_eq!(field_of_all(server, DECISION, "seq"), ["1"]);
    // Offered again, the first is known, and the others follow it.
    let (answers, _) = emitter.offer(&pipeline(server)).await;
    assert!(answers.iter().all(|answer| matches!(answer, Offered::Written { .. })), "{answers:?}");
    assert_eq!(field_of_all(server, DECISION, "seq"), ["1", "2", "3"]);
    // A memory that names a decision is not enough: its entry must be there, with its hash.
    server.cli(&["DEL", DECISION]);
    let (answers, _) = emitter.offer(&pipeline(server)[1..2]).await;
    assert!(matches!(answers[..], [Offered::Doubtful { .. }]), "{answers:?}");
    let mut fourth = order(server, 4);
    fourth.needs = pipeline(server)[2].needs.clone();
    assert_eq!(offer(&mut emitter, &fourth).await, Offered::Halted);
    assert_eq!(entries(server, PLAN).len(), 3);
}

async fn an_entry_whose_answer_was_lost_is_not_appended_again(server: &RedisServer) {
    let mut emitter = emitter(server, 0).await;
    let fields = pairs(&[("event_type", "policy.adopted"), ("payload", "{}")]);
    add(server, CONTROL, &[("event_type", "policy.adopted"), ("payload", "{}")]);
    let mut tried = None;
    let first = emitter.append(CONTROL, &fields, &mut tried).await.expect("appended");
    assert_eq!(entries(server, CONTROL).len(), 2, "the first one is another's");
    add(server, CONTROL, &[("n", "1")]);
    let again = emitter.append(CONTROL, &fields, &mut tried).await.expect("found");
    assert_eq!((again, entries(server, CONTROL).len()), (first, 3));
    // An attempt that never arrived is made up for.
    let mut tried = Some(Tried { after: EntryId::new(u64::MAX, 0), fields: fields.clone(), issued_ms: 0 });
    emitter.append(CONTROL, &fields, &mut tried).await.expect("appended");
    assert_eq!(entries(server, CONTROL).len(), 4);
}
