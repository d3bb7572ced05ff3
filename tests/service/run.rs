//! The service against a real server: what it reads, decides and writes is what a replay makes of the same streams.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::support::binary::{harvester, name, run};
use crate::support::redis::RedisServer;
use crate::support::service::{
    CONTROL, DECISION, INTENT, PLAN, PRICE, Place, RESULT, SUGGESTIONS, add, decisions, entries, field_of_all, import,
    is_read, is_read_to, open_position, payloads, price, until, until_leader,
};
use crate::support::{case, config, replayed, root, shared_history};
use harvester::cli::replay::Request;
use harvester::codec::state::{self, FORMAT_VERSION, Meta};
use harvester::domain::event::ids::{EntryId, SortKey};
use harvester::shell::store::{OpenError, Store};
use serde_json::Value;

fn replay_of(history: &Path, store: &Path) -> (Vec<String>, Value) {
    let request = Request { histories: vec![history.to_owned()], store: Some(store.to_owned()), ..Request::default() };
    let (_, lines) = replayed(&request, &config(None));
    let positions = run(harvester().args(["positions", "--json", "--all", "--store", name(store)])).json();
    (payloads(&lines), positions)
}

/// The lines of a journal, in the order in which they were applied.
fn journal_lines(journal: &Path) -> Vec<String> {
    let mut files: Vec<_> = std::fs::read_dir(journal).expect("a journal").map(|file| file.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "zst"));
    files.sort();
    files
        .iter()
        .flat_map(|path| {
            let bytes = zstd::decode_all(std::fs::File::open(path).unwrap()).expect("a journal file is zstd");
            String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

fn is_the_replay_of(history: &Path) {
    let server = RedisServer::start();
    import(history, &server);
    let place = Place::new(&server);
    place.run_until_idle();
    let folder = tempfile::tempdir().unwrap();
    let (wanted, positions) = replay_of(history, &folder.path().join("replay"));
    assert!(!wanted.is_empty(), "a history without decisions shows nothing");
    assert_eq!(decisions(&server), wanted, "the same decisions, byte for byte, in the same order");
    assert_eq!(entries(&server, SUGGESTIONS).len(), wanted.len());
    assert_eq!(place.positions(), positions);
    let (of_journal, from_journal) = replay_of(&place.journal(), &folder.path().join("journal"));
    assert_eq!(from_journal, positions, "the journal reproduces the state");
    assert!(of_journal.is_empty(), "its decisions are facts, not made again");
}

#[test]
fn an_imported_history_ends_in_the_positions_and_decisions_of_its_replay() {
    is_the_replay_of(&root().join("replay/nights/incident-2026-02-04/events.jsonl"));
}

#[test]
fn the_shared_history_ends_in_the_positions_and_decisions_of_its_replay() {
    if let Some(history) = shared_history() {
        is_the_replay_of(&history);
    }
}

/// Writers on several streams at the same time, many entries in each millisecond.
#[test]
fn live_order_is_replay_order() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let service = place.start();
    // One that begins to lead moves the group over what it has read and not applied yet.
    until_leader(&service);
    let symbols = ["AAAUSDT", "BBBUSDT", "CCCUSDT", "DDDUSDT"];
    std::thread::scope(|scope| {
        for (writer, stream) in [INTENT, RESULT, PRICE, PLAN].into_iter().enumerate() {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.client();
                for batch in 0..30 {
                    let mut pipeline = redis::pipe();
                    for n in 0..20 {
                        let symbol = symbols[(batch + n + writer) % symbols.len()];
                        let text = format!("1.0{n:02}");
                        let order = format!("{writer}-{batch}-{n}");
                        let fields: Vec<(&str, &str)> = match stream {
                            INTENT => vec![
                                ("symbol", symbol),
                                ("side", "BUY"),
                                ("atr_value", "0.01"),
                                ("volatility_factor", "1"),
                            ],
                            RESULT => vec![
                                ("symbol", symbol),
                                ("side", "BUY"),
                                ("executedQty", "1"),
                                ("avgPrice", &text),
                                ("orderId", &order),
                                ("status", "FILLED"),
                            ],
                            PLAN => vec![
                                ("plan_id", &order),
                                ("decision", "EXECUTE"),
                                ("symbol", symbol),
                                ("side", "BUY"),
                                ("qty", "1"),
                            ],
                            _ => vec![("symbol", symbol), ("price", &text)],
                        };
                        pipeline.cmd("XADD").arg(stream).arg("*").arg(&fields).ignore();
                    }
                    let () = pipeline.query(&mut client).expect("the entries are written");
                }
            });
        }
    });
    for stream in [INTENT, RESULT, PRICE, PLAN] {
        let last = server.cli(&["XREVRANGE", stream, "+", "-", "COUNT", "1"]);
        let last = last.lines().next().expect("an entry");
        until("all is read", || is_read_to(&server, stream, last));
    }
    service.stop();
    assert!(journal_count(&place) >= 2400);

    let streams = config(None).streams;
    let keys: Vec<SortKey> = journal_lines(&place.journal())
        .iter()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let id: EntryId = line["id"].as_str().unwrap().parse().unwrap();
            SortKey::new(streams.id_of(line["stream"].as_str().unwrap()).unwrap(), id)
        })
        .collect();
    let mut sorted = keys.clone();
    sorted.sort();
    assert!(keys == sorted, "the order of application is canonical");
    let mut by_ms: BTreeMap<u64, std::collections::BTreeSet<u16>> = BTreeMap::new();
    for key in &keys {
        by_ms.entry(key.ms).or_default().insert(key.stream.0);
    }
    assert!(by_ms.values().any(|streams| streams.len() > 1), "no millisecond was shared: the test shows nothing");
    // What the streams hold, dumped and replayed, is what the service has folded.
    let dump = place.folder.path().join("dump.jsonl");
    server.dump(&dump, streams.iter().map(|(_, stream)| stream.name.as_str()));
    let (_, positions) = replay_of(&dump, &place.folder.path().join("replayed"));
    assert_eq!(place.positions(), positions);
    assert_eq!(decisions(&server), field_of_all(&server, DECISION, "payload"));
}

fn journal_count(place: &Place) -> usize {
    place.journalled().len()
}

#[test]
fn a_service_that_is_told_to_stop_ends_within_five_seconds() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let service = place.start();
    open_position(&server, "AAAUSDT");
    price(&server, "AAAUSDT", "1.02");
    until("the decision is out", || entries(&server, DECISION).len() == 1);
    let took = service.stop();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(server.cli(&["EXISTS", "quantum:stream:harvest.decision:lease"]).trim(), "0", "the lease is given back");
}

/// Whoever read the log is gone: the service goes on without.
#[test]
fn a_service_whose_log_nobody_reads_goes_on() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = place.command();
    command.args(["--until-idle", "0.5"]).stderr(writer);
    open_position(&server, "AAAUSDT");
    price(&server, "AAAUSDT", "1.02");
    assert_eq!(command.status().unwrap().code(), Some(0));
    assert_eq!(decisions(&server).len(), 1);
}

/// Our own streams are trimmed where the settings say so: the chain goes on, and what we trimmed is no gap.
#[test]
fn output_streams_are_trimmed_only_where_that_is_set() {
    for (maxlen, kept) in [("0", 3), ("2", 2)] {
        // Trimming by whole nodes: of one entry each.
        let server = RedisServer::start_with(&["--stream-node-max-entries", "1"]);
        let mut place = Place::new(&server);
        place.settings = format!("[emit]\noutput_maxlen = {maxlen}\n");
        open_position(&server, "AAAUSDT");
        let mut last = String::new();
        for (number, mark) in [(1, "1.008"), (2, "1.013"), (3, "1.018")] {
            price(&server, "AAAUSDT", mark);
            place.run_until_idle();
            let all = entries(&server, DECISION);
            assert_eq!(all.len(), number.min(kept), "{maxlen}: {all:?}");
            let of = |name: &str| all.last().unwrap().1.iter().find(|(n, _)| n == name).unwrap().1.clone();
            assert_eq!(of("seq"), number.to_string());
            assert!(last.is_empty() || of("prev") == last, "the chain is whole");
            last = of("hash");
        }
        assert_eq!(entries(&server, SUGGESTIONS).len(), kept);
        let kinds = field_of_all(&server, CONTROL, "event_type");
        assert!(!kinds.contains(&"history.gap".to_owned()), "{maxlen}: {kinds:?}");
        assert_eq!(server.cli(&["XLEN", RESULT]).trim(), "1", "streams of others are not ours to trim");
    }
}

#[test]
fn i17_an_entry_that_does_not_read_is_put_aside_and_the_stream_goes_on() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let service = place.start();
    add(&server, PRICE, &[("payload", "{not json")]);
    open_position(&server, "AAAUSDT");
    price(&server, "AAAUSDT", "1.02");
    until("the decision is out", || entries(&server, DECISION).len() == 1);
    until("the entry is put aside", || !entries(&server, "quantum:stream:harvest.quarantine").is_empty());
    let aside = entries(&server, "quantum:stream:harvest.quarantine");
    let reasons = field_of_all(&server, "quantum:stream:harvest.quarantine", "reason");
    assert_eq!((aside.len(), reasons), (1, vec!["bad_json".to_owned()]));
    until("everything is acknowledged", || is_read(&server, &[PRICE]));
    service.stop();
    let listed = run(harvester().args(["quarantine", "list", "--json", "--store", name(&place.store())])).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
}

#[test]
fn the_kill_key_stops_decisions_and_a_key_that_vanishes_goes_on_stopping_them() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let service = place.start();
    open_position(&server, "AAAUSDT");
    server.cli(&["SET", "quantum:kill", "1"]);
    until("the kill key is in the log", || {
        !field_of_all(&server, CONTROL, "event_type").is_empty()
            && entries(&server, CONTROL).iter().any(|(_, fields)| fields[0].1 == "kill.changed")
    });
    price(&server, "AAAUSDT", "1.02");
    server.cli(&["DEL", "quantum:kill"]);
    price(&server, "AAAUSDT", "1.03");
    until("the prices are read", || is_read(&server, &[PRICE]));
    assert_eq!(entries(&server, DECISION), [], "killed");
    server.cli(&["SET", "quantum:kill", "0"]);
    until("the kill key is cleared in the log", || {
        field_of_all(&server, CONTROL, "event_type").iter().filter(|kind| *kind == "kill.changed").count() == 2
    });
    price(&server, "AAAUSDT", "1.02");
    until("the decision is out", || entries(&server, DECISION).len() == 1);
    service.stop();
}

/// Shadow, then live in both formats: what executors get, and what they must not get.
#[test]
fn i18_i19_orders_are_written_once_reduce_only_and_only_by_a_live_configuration() {
    for (format, stream) in [("apply_plan", PLAN), ("trade_intent", INTENT)] {
        let server = RedisServer::start();
        let place = live_place(&server, format, stream);
        let service = place.start();
        until("the policy is adopted", || !entries(&server, CONTROL).is_empty());
        open_position(&server, "AAAUSDT");
        // 0.7 R after costs: the first rung.
        price(&server, "AAAUSDT", "1.008");
        until("the decision is out", || entries(&server, DECISION).len() == 1);
        let decision: Value = serde_json::from_str(&decisions(&server)[0]).unwrap();
        assert_eq!(decision["mode"], "live");
        let orders: Vec<_> = entries(&server, stream).into_iter().map(|(_, fields)| fields).collect();
        let order = orders.last().expect("an order");
        let get = |name: &str| order.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        if format == "apply_plan" {
            assert_eq!((get("reduceOnly"), get("side"), get("type")), (Some("true"), Some("SELL"), Some("MARKET")));
            assert_eq!((get("qty"), get("close_qty")), (decision["qty"].as_str(), decision["qty"].as_str()));
            assert_eq!(get("action"), Some("PARTIAL_25"));
            let steps: Value = serde_json::from_str(get("steps").unwrap()).unwrap();
            assert_eq!((&steps[0]["step"], &steps[0]["pct"]), (&Value::from("CLOSE"), &Value::from(25)));
        } else {
            let payload: Value = serde_json::from_str(get("payload").unwrap()).unwrap();
            assert_eq!((&payload["reduceOnly"], &payload["reduce_only"]), (&true.into(), &true.into()));
            assert_eq!(payload["decision_id"], decision["decision_id"]);
        }
        // Nothing more is decided before there is a result.
        price(&server, "AAAUSDT", "1.03");
        until("all is read", || is_read(&server, &[PRICE]));
        service.stop();
        assert_eq!(entries(&server, DECISION).len(), 1);
        assert_eq!(entries(&server, SUGGESTIONS), [], "suggestions are of shadow mode");
        assert_eq!(place.positions()[0]["hold"], "awaiting_result");
    }
}

/// A place of a live service whose one executor reads the stream of the requests.
pub fn live_place(server: &RedisServer, format: &str, stream: &str) -> Place {
    let mut place = Place::new(server);
    place.settings = live_settings(format, r#"executors = ["executor"]"#);
    server.cli(&["XGROUP", "CREATE", stream, "executor", "$", "MKSTREAM"]);
    place
}

fn live_settings(format: &str, executors: &str) -> String {
    format!(
        "[policy]\nmode = \"live\"\nladder = \"0.5:0.25,1:0.25,1.5:0.25\"\natr_unit = {{ default = \"absolute\" }}\n\
         price_sources = [\"market.tick\"]\non_live = \"take\"\nrequire_instrument = false\n\
         [emit]\nformat = \"{format}\"\nsource = \"harvester\"\n{executors}\n"
    )
}

#[test]
fn i34_live_refuses_an_executor_that_it_does_not_know() {
    let server = RedisServer::start();
    let mut place = Place::new(&server);
    place.settings = live_settings("apply_plan", r#"executors = ["executor"]"#);
    server.cli(&["XGROUP", "CREATE", PLAN, "another", "$", "MKSTREAM"]);
    let status = place.command().status().unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(place.log().contains("another"), "{}", place.log());
}

#[test]
fn live_refuses_to_start_beside_an_old_service_at_work() {
    let server = RedisServer::start();
    let mut place = Place::new(&server);
    place.settings = live_settings("apply_plan", r#"executors = ["executor"]"#) + "[run]\nold_group = \"old\"\n";
    add(&server, RESULT, &[("symbol", "AAAUSDT")]);
    server.cli(&["XGROUP", "CREATE", RESULT, "old", "0"]);
    server.cli(&["XREADGROUP", "GROUP", "old", "worker", "STREAMS", RESULT, ">"]);
    let status = place.command().status().unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(place.log().contains("worker"), "{}", place.log());
}

/// A backlog in live mode: everything is decided, nothing is ordered, and the rungs are armed again.
#[test]
fn i09_a_backlog_places_no_orders() {
    let server = RedisServer::start();
    let mut place = Place::new(&server);
    place.settings = live_settings("apply_plan", r#"executors = ["executor"]"#);
    let old = |stream: &str, id: &str, fields: &[(&str, &str)]| {
        let mut arguments = vec!["XADD", stream, id];
        arguments.extend(fields.iter().flat_map(|(name, value)| [*name, *value]));
        server.cli(&arguments);
    };
    old(
        INTENT,
        "1770163200000-0",
        &[("symbol", "AAAUSDT"), ("side", "BUY"), ("atr_value", "0.01"), ("volatility_factor", "1")],
    );
    old(
        RESULT,
        "1770163201000-0",
        &[
            ("symbol", "AAAUSDT"),
            ("side", "BUY"),
            ("executedQty", "100"),
            ("avgPrice", "1"),
            ("orderId", "1"),
            ("status", "FILLED"),
        ],
    );
    old(PRICE, "1770163202000-0", &[("symbol", "AAAUSDT"), ("price", "1.02")]);
    place.run_until_idle();
    assert_eq!(decisions(&server).len(), 1);
    assert_eq!(entries(&server, PLAN), [], "no order");
    let kinds = field_of_all(&server, CONTROL, "event_type");
    assert!(kinds.contains(&"decision.expired".to_owned()), "{kinds:?}");
    let rungs = place.positions()[0]["rungs"].clone();
    assert!(rungs.as_array().unwrap().iter().all(|rung| rung["state"] == "armed"), "{rungs}");
}

#[test]
fn i11_a_trimmed_stretch_is_told_and_positions_are_held() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let service = place.start();
    open_position(&server, "AAAUSDT");
    until("the position is read", || {
        server.cli(&["XPENDING", RESULT, "harvester"]).starts_with('0')
            && server.cli(&["XINFO", "GROUPS", RESULT]).contains("entries-read")
    });
    service.stop();
    for n in 0..10 {
        add(&server, RESULT, &[("symbol", "BBBUSDT"), ("executed", "false"), ("error", "no"), ("n", &n.to_string())]);
    }
    server.cli(&["XTRIM", RESULT, "MAXLEN", "4"]);
    let service = place.start();
    until("the gap is told", || field_of_all(&server, CONTROL, "event_type").contains(&"history.gap".to_owned()));
    price(&server, "AAAUSDT", "1.02");
    until("the price is read", || is_read(&server, &[PRICE]) && journal_count(&place) >= 9);
    service.stop();
    assert_eq!(entries(&server, DECISION), []);
    assert_eq!(place.positions()[0]["hold"], "history_gap");
    assert_eq!(field_of_all(&server, CONTROL, "event_type").iter().filter(|kind| *kind == "history.gap").count(), 1);
    assert!(place.log().contains("entries are lost"), "{}", place.log());
}

/// An entry that ends the process whenever it is folded.
#[test]
fn i10_an_entry_that_ended_the_process_twice_is_passed_over() {
    let server = RedisServer::start();
    let mut place = Place::new(&server);
    open_position(&server, "AAAUSDT");
    // No entry of another stream has the id of the next price.
    price(&server, "BBBUSDT", "1");
    let poison = price(&server, "AAAUSDT", "1.02");
    price(&server, "AAAUSDT", "1.02");
    place.environment = vec![("HARVESTER_FAIL".to_owned(), format!("entry {poison}:1"))];
    let mut ends = 0;
    while !place.command().args(["--until-idle", "0.5"]).status().unwrap().success() {
        ends += 1;
        assert!(ends < 5, "a crash loop: {}", place.log());
    }
    assert!(ends >= 2, "the entry does not end the process: the test shows nothing");
    let kinds = field_of_all(&server, CONTROL, "event_type");
    assert!(kinds.contains(&"entry.skipped".to_owned()), "{kinds:?}");
    assert_eq!(place.positions()[0]["hold"], "history_gap", "its symbol is held");
}

/// The store is gone or damaged: it is folded anew from the journal, and nothing is sold again.
#[test]
fn a_damaged_store_is_folded_anew_from_the_journal() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    import(&root().join("replay/nights/incident-2026-02-04/events.jsonl"), &server);
    place.run_until_idle();
    let (wanted, positions) = (decisions(&server), place.positions());
    // The streams are gone as well: only the journal has the history.
    let control = entries(&server, CONTROL).len();
    for stream in [INTENT, PLAN, RESULT, PRICE] {
        server.cli(&["XTRIM", stream, "MAXLEN", "0"]);
    }
    let db = place.store().join("db");
    let mut bytes = std::fs::read(&db).unwrap();
    let len = bytes.len();
    bytes[..len / 2].fill(0x5a);
    std::fs::write(&db, bytes).unwrap();
    place.run_until_idle();
    assert!(place.log().contains("damaged"), "{}", place.log());
    assert_eq!(decisions(&server), wanted);
    assert_eq!(place.positions(), positions);
    assert_eq!(entries(&server, CONTROL).len(), control, "no gap: the journal has it all");
}

/// Who upgrades brings a store of rules 1 along: it is folded anew from the journal, and what was decided stays decided.
#[test]
fn a_store_of_rules_1_is_folded_anew_and_no_rung_is_sold_twice() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    import(&root().join("replay/nights/incident-2026-02-04/events.jsonl"), &server);
    place.run_until_idle();
    let (wanted, positions) = (decisions(&server), place.positions());
    assert_eq!(wanted.len(), 10);
    {
        let mut store = Store::open_existing(&place.store(), FORMAT_VERSION).unwrap();
        let meta = state::meta(&store).unwrap().unwrap();
        assert_eq!(meta.rules_version, "2");
        let former = Meta { rules_version: "1".to_owned(), ..meta };
        store.commit([state::meta_row(&former)].into_iter()).unwrap();
    }
    place.run_until_idle();
    assert!(place.log().contains("folded by rules 1"), "{}", place.log());
    assert_eq!((decisions(&server), place.positions()), (wanted, positions));
}

/// Real stores of rules 1 have format 3, and their decisions may be such that rules 2 would not make them. The state is folded
/// anew from the journal, by the service and by a replay, and no rung is sold twice.
#[test]
fn a_store_of_format_3_is_folded_anew_and_decisions_of_rules_1_stay_facts() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    import(&case("s4_decisions_of_rules_1").join("events.jsonl"), &server);
    place.run_until_idle();
    let (written, positions) = (entries(&server, DECISION), place.positions());
    assert_eq!(written.len(), 3, "two of rules 1, and the one that follows");
    assert_eq!(rungs_of(&positions, "SOLUSDT"), ["shadowed"; 3], "sold by rules 1 at a price that rules 2 hold back");
    assert_eq!(rungs_of(&positions, "AVAXUSDT"), ["shadowed", "shadowed", "armed"]);
    let of_rules_1 = |store: &Path| {
        std::fs::remove_dir_all(store).unwrap();
        drop(Store::open(store, 3).unwrap());
        assert!(matches!(Store::open(store, FORMAT_VERSION), Err(OpenError::OtherFormat { .. })));
    };

    of_rules_1(&place.store());
    // At these prices every rung that is not taken would be sold.
    price(&server, "SOLUSDT", "103.2");
    price(&server, "AVAXUSDT", "102.2");
    place.run_until_idle();
    assert!(place.log().contains("format 3"), "{}", place.log());
    assert_eq!(entries(&server, DECISION), written);
    let after = place.positions();
    for symbol in ["SOLUSDT", "AVAXUSDT"] {
        assert_eq!(rungs_of(&after, symbol), rungs_of(&positions, symbol));
    }

    let store = place.folder.path().join("replayed");
    std::fs::create_dir(&store).unwrap();
    of_rules_1(&store);
    let replayed = run(harvester().args(["replay", name(&place.journal()), "--store", name(&store), "--json"]));
    assert_eq!(replayed.code, Some(0), "{}", replayed.log);
    assert!(replayed.log.contains("format 3"), "{}", replayed.log);
    assert_eq!(replayed.json()["decisions"], 0, "all are facts");
    assert_eq!(run(harvester().args(["positions", "--json", "--all", "--store", name(&store)])).json(), after);
}

/// The states of the rungs of the one position of a symbol.
fn rungs_of(positions: &Value, symbol: &str) -> Vec<String> {
    let positions = positions.as_array().or_else(|| positions["positions"].as_array()).expect("a list of positions");
    let position = positions.iter().find(|position| position["symbol"] == symbol).expect("a position");
    let rungs = position["rungs"].as_array().expect("rungs").iter();
    rungs.map(|rung| rung["state"].as_str().expect("a state").to_owned()).collect()
}

/// Old files of the journal were removed, and then the store was lost.
#[test]
fn a_journal_without_its_beginning_goes_on_from_a_snapshot() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    import(&root().join("replay/nights/incident-2026-02-04/events.jsonl"), &server);
    place.run_until_idle();
    let (wanted, positions) = (decisions(&server), place.positions());
    std::fs::remove_dir_all(place.store()).unwrap();
    std::fs::remove_file(place.journal().join("journal-00000000000000000000.jsonl.zst")).unwrap();
    place.run_until_idle();
    assert!(place.log().contains("begins with the snapshot"), "{}", place.log());
    assert_eq!((decisions(&server), place.positions()), (wanted, positions));

    // Without a snapshot nothing is made up.
    std::fs::remove_dir_all(place.store()).unwrap();
    std::fs::remove_dir_all(place.folder.path().join("store.snapshots")).unwrap();
    assert_eq!(place.command().status().unwrap().code(), Some(2));
}

#[test]
fn recording_keeps_what_a_service_would_apply_and_goes_on_where_it_ended() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let history = root().join("replay/nights/incident-2026-02-04/events.jsonl");
    import(&history, &server);
    let record = || {
        let journal = place.journal();
        let mut command = harvester();
        command.args(["record", "--redis", &server.url(), "--journal", name(&journal), "--until-idle", "0.3"]);
        assert_eq!(run(&mut command).code, Some(0));
        journal_lines(&journal)
    };
    let first = record();
    let recorded = std::fs::read_to_string(&history).unwrap().lines().count();
    assert_eq!(first.len(), recorded);
    let id = price(&server, "ARCUSDT", "0.08");
    let second = record();
    assert_eq!(second.len(), recorded + 1, "nothing twice, nothing missing");
    assert!(second[recorded].contains(&id), "{}", second[recorded]);
    assert_eq!(second[..recorded], first);
    let folder = tempfile::tempdir().unwrap();
    let (decided, _) = replay_of(&place.journal(), &folder.path().join("store"));
    assert_eq!(decided, replay_of(&history, &folder.path().join("wanted")).0);
}
