//! The one step in which a decision is written: what it looks at before, and what it answers.

use crate::support::redis::RedisServer;
use crate::support::service::{CONTROL, DECISION, PLAN, entries, field_of_all};
use harvester::codec::seal::chained;
use harvester::domain::event::ids::EntryId;
use harvester::shell::redis::{Address, Emission, EmitKeys, Emitter, Offered, Request, Server, WrittenDecision};

const LEASE: &str = "quantum:stream:harvest.decision:lease";
const MEMORY: &str = "quantum:stream:harvest.decision:emitted";

async fn emitter(server: &RedisServer) -> Emitter {
    server.cli(&["SET", LEASE, "1 one"]);
    let keys = EmitKeys {
        lease: LEASE.to_owned(),
        decisions: DECISION.to_owned(),
        control: CONTROL.to_owned(),
        kill_key: "quantum:kill".to_owned(),
        length_max: 0,
        signing: None,
    };
    let address = Address::new(&server.url(), None).expect("an address");
    Emitter::new(Server::connect(&address).await.expect("a server"), keys)
}

fn now_ms(server: &RedisServer) -> u64 {
    server.cli(&["TIME"]).lines().next().expect("seconds").parse::<u64>().expect("a number") * 1000
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// An order, folded a moment ago.
fn order(server: &RedisServer, seq: u64) -> Emission {
    let now_ms = now_ms(server);
    let (id, hash) = (format!("{seq:032x}"), chained("", &seq.to_string()));
    Emission {
        fields: pairs(&[("decision_id", &id), ("seq", &seq.to_string()), ("hash", &hash), ("payload", "{}")]),
        decision_id: id,
        request: Some(Request { stream: PLAN.to_owned(), is_ours: false, fields: pairs(&[("plan_id", "p")]) }),
        cause_ms: now_ms,
        age_max_ms: 30_000,
        kill_was_set: false,
        refusal: None,
        record_only: false,
        hash,
        again: false,
        after: None,
        folded_to_ms: now_ms,
    }
}

fn entry_of(offered: &Offered) -> EntryId {
    match offered {
        Offered::Written { decision, .. } => *decision,
        other => panic!("it was not written: {other:?}"),
    }
}

#[tokio::test]
async fn an_order_that_rests_on_what_was_folded_long_ago_is_not_written() {
    let server = RedisServer::start();
    let mut emitter = emitter(&server).await;
    let late = Emission { folded_to_ms: now_ms(&server) - 10_000, ..order(&server, 1) };
    assert_eq!(emitter.offer(&late, "1 one").await.unwrap(), Offered::Behind);
    assert_eq!((entries(&server, DECISION), entries(&server, PLAN)), (vec![], vec![]));
    // Looked at again, and offered on what is folded now.
    entry_of(&emitter.offer(&order(&server, 1), "1 one").await.unwrap());
    assert_eq!(entries(&server, PLAN).len(), 1);
    // One that is not sent anyway waits for nothing.
    let old = Emission { folded_to_ms: 1, cause_ms: now_ms(&server) - 60_000, ..order(&server, 3) };
    let refused = emitter.offer(&old, "1 one").await.unwrap();
    assert!(
        matches!(&refused, Offered::Written { refusal: Some(reason), .. } if reason == "max_decision_age"),
        "{refused:?}"
    );
    // What does not rest on the streams is written whatever was folded.
    let record = Emission { folded_to_ms: 0, request: None, ..order(&server, 2) };
    entry_of(&emitter.offer(&record, "1 one").await.unwrap());
}

#[tokio::test]
async fn nothing_is_written_behind_a_decision_that_the_server_has_lost() {
    let server = RedisServer::start();
    let mut emitter = emitter(&server).await;
    let first = emitter.offer(&order(&server, 1), "1 one").await.unwrap();
    let lost = entry_of(&first);
    let written = |seq: u64, entry| WrittenDecision { seq, decision_id: format!("{seq:032x}"), entry };
    let second = Emission { after: Some(lost), ..order(&server, 2) };
    assert_eq!(emitter.lost_of(&[written(1, Some(lost))]).await.unwrap(), [0; 0]);
    server.cli(&["DEL", DECISION, MEMORY]);
    assert_eq!(emitter.offer(&second, "1 one").await.unwrap(), Offered::Lost);
    assert_eq!((entries(&server, DECISION), entries(&server, PLAN).len()), (vec![], 1));
    assert_eq!(emitter.lost_of(&[written(1, Some(lost)), written(7, None)]).await.unwrap(), [1, 7]);
    // Written again, marked, and without its order.
    let mut again = Emission { again: true, record_only: true, request: None, ..order(&server, 1) };
    again.fields.extend(pairs(&[("again", "1")]));
    let there = entry_of(&emitter.offer(&again, "1 one").await.unwrap());
    let second = Emission { after: Some(there), ..order(&server, 2) };
    let last = entry_of(&emitter.offer(&second, "1 one").await.unwrap());
    assert_eq!(field_of_all(&server, DECISION, "seq"), ["1", "2"]);
    assert_eq!(entries(&server, PLAN).len(), 2);
    // What was trimmed is not lost: the memory still names it, and the stream begins behind it.
    server.cli(&["XTRIM", DECISION, "MAXLEN", "1"]);
    assert_eq!(
        emitter.lost_of(&[written(1, Some(there)), written(1, None), written(2, Some(last))]).await.unwrap(),
        [0; 0]
    );
    server.cli(&["XDEL", DECISION, &last.to_string()]);
    assert_eq!(emitter.lost_of(&[written(2, Some(last))]).await.unwrap(), [2]);
}

#[tokio::test]
async fn the_memory_is_believed_where_the_stream_says_the_same() {
    let server = RedisServer::start();
    let mut emitter = emitter(&server).await;
    let first = emitter.offer(&order(&server, 1), "1 one").await.unwrap();
    let known = Offered::Written {
        decision: entry_of(&first),
        request: Some(entries(&server, PLAN)[0].0.parse().unwrap()),
        refusal: None,
        is_new: false,
    };
    assert_eq!(emitter.offer(&order(&server, 1), "1 one").await.unwrap(), known, "the answer was lost, say");
    let forged = [
        format!("{}  ", entry_of(&first)),
        "1770163200000-0  ".to_owned(),
        "99999999999999999999999-0  ".to_owned(),
        "nonsense".to_owned(),
        String::new(),
    ];
    for text in forged {
        let id = order(&server, 2).decision_id;
        server.cli(&["HSET", MEMORY, &id, &text]);
        assert_eq!(emitter.offer(&order(&server, 2), "1 one").await.unwrap(), Offered::Doubtful { known: text });
    }
    assert_eq!((entries(&server, DECISION).len(), entries(&server, PLAN).len()), (1, 1));
    server.cli(&["HDEL", MEMORY, &order(&server, 2).decision_id]);
    entry_of(&emitter.offer(&order(&server, 2), "1 one").await.unwrap());
}
