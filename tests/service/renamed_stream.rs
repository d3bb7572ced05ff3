//! A decision stream of another name. What was decided under the former name stays decided, whatever became of the store.

use std::path::Path;

use crate::run::live_place;
use crate::support::binary::{harvester, name, run};
use crate::support::redis::RedisServer;
use crate::support::service::{
    CONTROL, DECISION, PLAN, PRICE, Place, RESULT, add, entries, field_of_all, is_read, open_position, price, until,
    until_leader,
};
use crate::support::{config, replayed, root};
use harvester::cli::replay::Request;
use harvester::shell::store::Store;
use serde_json::Value;

const RENAMED: &str = "quantum:stream:harvest.decision.new";

/// The exit code of a start, which ends by itself.
fn started(place: &Place, arguments: &[&str]) -> Option<i32> {
    place.command().args(["--until-idle", "0.5"]).args(arguments).status().expect("the service runs").code()
}

fn rename(place: &mut Place) {
    place.settings.push_str(&format!("[streams]\ndecision = [\"{RENAMED}\"]\n"));
}

/// A position whose rung 0.5 was decided under the former name, by a service that has stopped.
fn decided(server: &RedisServer, place: &Place) {
    let service = place.start();
    until_leader(&service);
    open_position(server, "AAAUSDT");
    price(server, "AAAUSDT", "1.008");
    until("the decision is out", || {
        entries(server, DECISION).len() == 1 && is_read(server, &[PRICE, RESULT, DECISION])
    });
    service.stop();
}

fn lose(store: &Path) {
    std::fs::remove_dir_all(store).expect("there is a store");
}

fn damage(store: &Path) {
    std::fs::write(store.join("harvester.head"), "no head").expect("there is a store");
}

/// A store of rules 1, as 0.1.0 wrote it: its format is 3.
fn bring_back(store: &Path) {
    lose(store);
    drop(Store::open(store, 3).expect("a store of another format"));
}

/// The rungs of each decision of a stream.
fn rungs(server: &RedisServer, stream: &str) -> Vec<Value> {
    let payloads = field_of_all(server, stream, "payload");
    payloads.iter().map(|text| serde_json::from_str::<Value>(text).expect("a payload")["rungs"].clone()).collect()
}

/// The decisions that a replay of the journal makes, and the positions that it comes to.
fn replay_of(place: &Place) -> (usize, Value) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("replay");
    let request = Request { histories: vec![place.journal()], store: Some(store.clone()), ..Request::default() };
    let (_, made) = replayed(&request, &config(Some(&place.folder.path().join("harvester.toml"))));
    (made.len(), run(harvester().args(["positions", "--json", "--all", "--store", name(&store)])).json())
}

/// Changes a store.
type Fate = fn(&Path);

#[test]
fn a_renamed_decision_stream_is_refused_and_counted_whatever_became_of_the_store() {
    let cases: [(&str, Fate); 3] = [("deleted", lose), ("damaged", damage), ("of another format", bring_back)];
    for (what, become_of) in cases {
        let server = RedisServer::start();
        let mut place = Place::new(&server);
        decided(&server, &place);
        rename(&mut place);
        become_of(&place.store());
        price(&server, "AAAUSDT", "1.009");
        let journalled = place.journalled();
        assert_eq!(started(&place, &[]), Some(2), "{what}: {}", place.log());
        let words = [
            "the journal",
            "has decisions of quantum:stream:harvest.decision, the configuration names",
            RENAMED,
            "--new-chain",
        ];
        assert!(
            place.log().lines().any(|line| words.iter().all(|word| line.contains(word))),
            "{what}: {}",
            place.log()
        );
        assert_eq!((entries(&server, RENAMED).len(), place.journalled()), (0, journalled), "{what}");

        // With the word for it, the rung that was decided under the former name is taken.
        price(&server, "AAAUSDT", "1.013");
        assert_eq!(started(&place, &["--new-chain"]), Some(0), "{what}: {}", place.log());
        assert_eq!(rungs(&server, RENAMED), [serde_json::json!(["1"])], "{what}: rung 0.5 was sold before");
        assert_eq!(field_of_all(&server, RENAMED, "seq"), ["1"], "{what}: a chain of its own");
        let positions = place.positions();
        assert_eq!(replay_of(&place), (0, positions.clone()), "{what}: the journal reproduces the state");

        // The new chain has begun: a store that is folded again from the journal needs no word, and counts both chains.
        become_of(&place.store());
        assert_eq!(started(&place, &[]), Some(0), "{what}: {}", place.log());
        assert_eq!((entries(&server, DECISION).len(), entries(&server, RENAMED).len()), (1, 1), "{what}");
        assert_eq!(place.positions(), positions, "{what}");
    }
}

/// In live mode the same rung would be sold a second time.
#[test]
fn no_order_goes_out_twice_after_the_decision_stream_was_renamed() {
    let server = RedisServer::start();
    let mut place = live_place(&server, "apply_plan", PLAN);
    decided(&server, &place);
    assert_eq!(entries(&server, PLAN).len(), 1);
    let plan = field_of_all(&server, PLAN, "plan_id").pop().expect("an order has a plan id");
    rename(&mut place);
    lose(&place.store());
    price(&server, "AAAUSDT", "1.009");
    assert_eq!(started(&place, &[]), Some(2), "{}", place.log());
    let child = place.command().arg("--new-chain").spawn().expect("the service starts");
    let service = place.service(child);
    until("the price is read", || is_read(&server, &[PRICE]));
    price(&server, "AAAUSDT", "1.009");
    until("the price is read", || is_read(&server, &[PRICE]));
    assert_eq!((entries(&server, PLAN).len(), entries(&server, RENAMED).len()), (1, 0), "{}", place.log());
    let filled = [("plan_id", &*plan), ("symbol", "AAAUSDT"), ("side", "SELL"), ("executedQty", "25")];
    let filled = [&filled[..], &[("avgPrice", "1.008"), ("orderId", "77"), ("status", "FILLED")]].concat();
    add(&server, RESULT, &filled);
    until("the result is read", || is_read(&server, &[RESULT]));
    price(&server, "AAAUSDT", "1.013");
    until("the next rung is sold", || entries(&server, PLAN).len() == 2);
    service.stop();
    assert_eq!(rungs(&server, RENAMED), [serde_json::json!(["1"])]);
}

/// The store itself has decided nothing, and the former stream has a decision of another instance, which it has not read.
#[test]
fn what_the_former_stream_has_beyond_the_journal_is_read_before_a_new_chain_begins() {
    let server = RedisServer::start();
    let mut behind = Place::new(&server);
    behind.consumer = "two".to_owned();
    behind.run_until_idle();
    decided(&server, &Place::new(&server));
    rename(&mut behind);
    assert_eq!(started(&behind, &[]), Some(2), "{}", behind.log());
    assert!(behind.log().contains("the server has decisions of quantum:stream:harvest.decision"), "{}", behind.log());
    price(&server, "AAAUSDT", "1.009");
    price(&server, "AAAUSDT", "1.013");
    assert_eq!(started(&behind, &["--new-chain"]), Some(0), "{}", behind.log());
    assert_eq!(rungs(&server, RENAMED), [serde_json::json!(["1"])], "{}", behind.log());
    let of_former = |line: &&String| line.contains(r#""stream":"quantum:stream:harvest.decision","#);
    assert_eq!(behind.journalled().iter().filter(of_former).count(), 1, "the journal has it from now on");
    let positions = behind.positions();
    lose(&behind.store());
    assert_eq!(started(&behind, &[]), Some(0), "{}", behind.log());
    assert_eq!((entries(&server, RENAMED).len(), behind.positions()), (1, positions));
}

/// A live service whose journal knows no decision, beside an order of ours.
#[test]
fn a_journal_without_decisions_does_not_hide_an_order_of_ours() {
    let server = RedisServer::start();
    let mut behind = live_place(&server, "apply_plan", PLAN);
    behind.consumer = "two".to_owned();
    behind.run_until_idle();
    let mut first = Place::new(&server);
    first.settings.clone_from(&behind.settings);
    decided(&server, &first);
    lose(&behind.store());
    rename(&mut behind);
    assert!(!entries(&server, CONTROL).is_empty(), "the journal has entries: the policy that was adopted");
    assert_eq!(started(&behind, &[]), Some(2), "{}", behind.log());
    assert!(behind.log().contains("has the order") && behind.log().contains("--new-chain"), "{}", behind.log());
    assert_eq!((entries(&server, PLAN).len(), entries(&server, RENAMED).len()), (1, 0));
}

#[test]
fn a_service_that_has_decided_nothing_takes_another_name_without_a_word() {
    let server = RedisServer::start();
    let mut place = Place::new(&server);
    open_position(&server, "AAAUSDT");
    price(&server, "AAAUSDT", "1.001");
    place.run_until_idle();
    rename(&mut place);
    price(&server, "AAAUSDT", "1.008");
    place.run_until_idle();
    assert_eq!((rungs(&server, RENAMED), entries(&server, DECISION).len()), (vec![serde_json::json!(["0.5"])], 0));
}

/// The service that follows may not read what was decided under the former name: it does not begin.
#[test]
fn a_new_chain_does_not_begin_where_the_former_stream_may_not_be_read() {
    let server = RedisServer::start();
    let mut place = Place::new(&server);
    decided(&server, &place);
    rename(&mut place);
    let keys = ["harvest.decision.new*", "harvest.control", "harvest.observation", "trade.*", "apply.*", "market.*"];
    let others = ["harvest.suggestions", "harvest.quarantine", "position.*"];
    let keys: Vec<String> = keys.iter().chain(&others).map(|key| format!("~quantum:stream:{key}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).chain(["~quantum:kill", "~quantum:ticker:*"]).collect();
    server.cli(&[&["ACL", "SETUSER", "limited", "on", ">hush", "+@all"][..], &keys].concat());
    place.url = server.url().replace("redis://", "redis://limited:hush@");
    assert_ne!(started(&place, &["--new-chain"]), Some(0), "{}", place.log());
    let words = [
        "what was decided in quantum:stream:harvest.decision must be known",
        "it needs XRANGE there",
        "no permissions",
    ];
    assert!(place.log().lines().any(|line| words.iter().all(|word| line.contains(word))), "{}", place.log());
    assert_eq!(entries(&server, RENAMED), []);
    server.cli(&["ACL", "SETUSER", "limited", "(+xrange ~quantum:stream:harvest.decision)"]);
    assert_eq!(started(&place, &["--new-chain"]), Some(0), "{}", place.log());
}

/// The access list lets the live service read what the shadow service decided before it, and no more of it.
#[test]
fn the_live_user_may_read_the_decisions_of_shadow_mode() {
    let folder = tempfile::tempdir().expect("a folder");
    let list = std::fs::read_to_string(root().join("tools/deploy/redis.acl")).expect("the access list");
    let file = folder.path().join("users.acl");
    std::fs::write(&file, list.replace("CHANGE-ME", "hush")).expect("it is written");
    let server = RedisServer::start_with(&["--aclfile", name(&file)]);
    let says = |command: &str| {
        let words: Vec<&str> = ["ACL", "DRYRUN", "harvester-live"].into_iter().chain(command.split(' ')).collect();
        server.cli(&words).trim().to_owned()
    };
    assert_eq!(says("XRANGE quantum:stream:harvest.shadow.decision - + COUNT 5"), "OK");
    for refused in [
        "XADD quantum:stream:harvest.shadow.decision * a b",
        "DEL quantum:stream:harvest.shadow.decision",
        "XRANGE quantum:stream:harvest.shadow.control - +",
    ] {
        assert!(says(refused).contains("has no permissions"), "{refused}: {}", says(refused));
    }
}
