//! The service against a real server: what it reads, decides and writes is what a replay makes of the same streams.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::support::binary::{harvester, name, run};
use crate::support::lab::entry_line;
use crate::support::redis::RedisServer;
use crate::support::service::{
    CONTROL, DECISION, INTENT, PLAN, PRICE, Place, RESULT, SUGGESTIONS, Service, decisions, entries, field_of_all,
    import, is_read, open_position, payloads, price, until, until_leader,
};
use crate::support::{config, replayed, root, shared_history};
use harvester::cli::replay::Request;
use harvester::codec::state::{self, FORMAT_VERSION, Meta};
use harvester::domain::event::ids::{EntryId, SortKey};
use harvester::shell::store::Store;
use serde_json::Value;

const FIRST_FILE: &str = "journal-00000000000000000000.jsonl.zst";

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

fn is_the_replay_of(history: &Path, server: &RedisServer, place: &Place) {
    place.run_until_idle();
    let folder = tempfile::tempdir().unwrap();
    let (wanted, positions) = replay_of(history, &folder.path().join("replay"));
    assert!(!wanted.is_empty(), "a history without decisions shows nothing");
    assert_eq!(decisions(server), wanted, "the same decisions, byte for byte, in the same order");
    assert_eq!(entries(server, SUGGESTIONS).len(), wanted.len());
    assert_eq!(place.positions(), positions);
    let (of_journal, from_journal) = replay_of(&place.journal(), &folder.path().join("journal"));
    assert_eq!(from_journal, positions, "the journal reproduces the state");
    assert!(of_journal.is_empty(), "its decisions are facts, not made again");
}

/// A night is imported, recorded, and read by a service: it ends as its replay. Then its store is lost in each way, and the
/// streams as well: what is folded again from the journal, or from a snapshot, has the same state and sells nothing again.
#[test]
fn a_night_ends_as_its_replay_and_so_does_each_store_that_is_folded_again() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let history = place.folder.path().join("night.jsonl");
    std::fs::copy(root().join("replay/nights/incident-2026-02-04/events.jsonl"), &history).unwrap();
    import(&history, &server);
    is_recorded(&server, &history);
    is_the_replay_of(&history, &server, &place);
    let (wanted, positions) = (decisions(&server), place.positions());
    let is_the_same = |says: &str| {
        place.run_until_idle();
        assert!(place.log().contains(says), "{says}: {}", place.log());
        assert_eq!((decisions(&server), place.positions()), (wanted.clone(), positions.clone()), "{says}");
    };

    // Who upgrades brings a store of rules 1 along.
    {
        let mut store = Store::open_existing(&place.store(), FORMAT_VERSION).unwrap();
        let meta = state::meta(&store).unwrap().unwrap();
        assert_eq!(meta.rules_version, "2");
        let former = Meta { rules_version: "1".to_owned(), ..meta };
        store.commit([state::meta_row(&former)].into_iter()).unwrap();
    }
    is_the_same("folded by rules 1");

    // The first file of the journal was removed, and then the store was lost.
    let (first, kept) = (place.journal().join(FIRST_FILE), place.folder.path().join(FIRST_FILE));
    std::fs::remove_dir_all(place.store()).unwrap();
    std::fs::rename(&first, &kept).unwrap();
    is_the_same("begins with the snapshot");
    // Without a snapshot nothing is made up.
    std::fs::remove_dir_all(place.store()).unwrap();
    std::fs::remove_dir_all(place.folder.path().join("store.snapshots")).unwrap();
    assert_eq!(place.command().status().unwrap().code(), Some(2));
    std::fs::rename(&kept, &first).unwrap();
    is_the_same("folding the journal beyond the store");

    // The store is damaged. The streams are gone as well: only the journal has the history.
    let control = entries(&server, CONTROL).len();
    for stream in [INTENT, PLAN, RESULT, PRICE] {
        server.cli(&["XTRIM", stream, "MAXLEN", "0"]);
    }
    let db = place.store().join("db");
    let mut bytes = std::fs::read(&db).unwrap();
    let len = bytes.len();
    bytes[..len / 2].fill(0x5a);
    std::fs::write(&db, bytes).unwrap();
    is_the_same("damaged");
    assert_eq!(entries(&server, CONTROL).len(), control, "no gap: the journal has it all");
}

/// What is recorded is what a service would apply, and a record goes on where it ended. Adds a price to the history.
fn is_recorded(server: &RedisServer, history: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal");
    let record = || {
        let mut command = harvester();
        command.args(["record", "--redis", &server.url(), "--journal", name(&journal), "--until-idle", "0.3"]);
        assert_eq!(run(&mut command).code, Some(0));
        journal_lines(&journal)
    };
    let first = record();
    let text = std::fs::read_to_string(history).unwrap();
    assert_eq!(first.len(), text.lines().count());
    let id = price(server, "ARCUSDT", "0.08");
    std::fs::write(history, text + &entry_line(PRICE, &id, &[("symbol", "ARCUSDT"), ("price", "0.08")]) + "\n")
        .unwrap();
    let second = record();
    assert_eq!(second.len(), first.len() + 1, "nothing twice, nothing missing");
    assert!(second[first.len()].contains(&id), "{}", second[first.len()]);
    assert_eq!(second[..first.len()], first);
    let (decided, _) = replay_of(&journal, &folder.path().join("store"));
    assert_eq!(decided, replay_of(history, &folder.path().join("wanted")).0);
}

#[test]
fn the_shared_history_ends_in_the_positions_and_decisions_of_its_replay() {
    if let Some(history) = shared_history() {
        let server = RedisServer::start();
        import(&history, &server);
        is_the_replay_of(&history, &server, &Place::new(&server));
    }
}

const SYMBOLS: [&str; 4] = ["AAAUSDT", "BBBUSDT", "CCCUSDT", "DDDUSDT"];
const WRITTEN: [&str; 4] = [INTENT, RESULT, PRICE, PLAN];

/// Several producers write at the same time, many entries in each millisecond.
fn produce(server: &RedisServer, round: usize) {
    std::thread::scope(|scope| {
        for (writer, stream) in WRITTEN.into_iter().enumerate() {
            scope.spawn(move || {
                let mut client = server.client();
                for batch in 0..10 {
                    let mut pipeline = redis::pipe();
                    for n in 0..20 {
                        let symbol = SYMBOLS[(batch + n + writer) % SYMBOLS.len()];
                        let (text, order) = (format!("1.0{n:02}"), format!("{writer}-{round}-{batch}-{n}"));
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
}

/// The group of the service on a stream, as the server shows it.
fn group(server: &RedisServer, stream: &str) -> Value {
    let groups = server.cli(&["--json", "XINFO", "GROUPS", stream]);
    let groups: Vec<Value> = serde_json::from_str(&groups).unwrap_or_default();
    groups.into_iter().find(|group| group["name"] == "harvester").unwrap_or_default()
}

/// Producers on several streams at the same time, and a service that is killed among them, with a group that remembers what
/// it has delivered and with one that does not: the journal has each entry once, in canonical order, and the state is that of
/// a replay of the streams.
#[test]
fn live_order_is_replay_order_whatever_the_group_remembers() {
    for pending_list in [true, false] {
        let server = RedisServer::start();
        let mut place = Place::new(&server);
        place.settings = format!("[run]\npending_list = {pending_list}\nread_count = 50\ncheckpoint_entries = 40\n");
        // Entries that are pending already, at this consumer and at one that is gone.
        (0..10).for_each(|n| _ = price(&server, "AAAUSDT", &format!("1.00{n}")));
        server.cli(&["XGROUP", "CREATE", PRICE, "harvester", "0"]);
        for consumer in ["one", "gone"] {
            server.cli(&["XREADGROUP", "GROUP", "harvester", consumer, "COUNT", "3", "STREAMS", PRICE, ">"]);
        }
        assert_eq!(group(&server, PRICE)["pending"], 6);
        for round in 0..3 {
            produce(&server, round);
            let service = place.start();
            // How much of it is durable when the process ends is left to chance.
            until("entries were delivered", || group(&server, PRICE)["lag"].as_u64().is_some_and(|lag| lag < 150));
            service.kill();
        }
        let service = place.start();
        // One that begins to lead moves the group over what it has read and not applied yet.
        until_leader(&service);
        produce(&server, 3);
        until("all is read", || is_read(&server, &[INTENT, RESULT, PRICE, PLAN, DECISION]));
        for stream in WRITTEN {
            let group = group(&server, stream);
            assert_eq!((&group["pending"], &group["lag"]), (&Value::from(0), &Value::from(0)), "{stream}: {group}");
        }
        service.stop();
        // The group shows what is left to read.
        ["1.007", "1.006", "1.005"].into_iter().for_each(|reached| _ = price(&server, "AAAUSDT", reached));
        assert_eq!(group(&server, PRICE)["lag"], 3);
        place.run_until_idle();
        let group = group(&server, PRICE);
        assert_eq!((&group["pending"], &group["lag"]), (&Value::from(0), &Value::from(0)), "{group}");
        is_journalled_in_order(&server, &place);
    }
}

fn is_journalled_in_order(server: &RedisServer, place: &Place) {
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
    for stream in WRITTEN {
        let of_stream = streams.id_of(stream).unwrap();
        let journalled: Vec<String> = keys
            .iter()
            .filter(|key| key.stream == of_stream)
            .map(|key| EntryId::new(key.ms, key.seq).to_string())
            .collect();
        let written: Vec<String> = entries(server, stream).into_iter().map(|(id, _)| id).collect();
        assert!(written.len() >= 800 && journalled == written, "{stream}: each entry is in the journal once");
    }
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
    assert_eq!(decisions(server), field_of_all(server, DECISION, "payload"));
}

/// What executors get, in both formats, and what they must not get: a second order before there is a result, one that a
/// second executor would carry out, or one of a decision whose record was lost.
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
        is_the_order(&server, format, stream, &decision);
        // Nothing more is decided before there is a result.
        price(&server, "AAAUSDT", "1.03");
        until("all is read", || is_read(&server, &[PRICE]));
        assert_eq!(entries(&server, DECISION).len(), 1);
        if format == "apply_plan" {
            waits_for_the_second_executor(&server, &service);
        }
        let (before, orders) = (decisions(&server), orders(&server, stream));
        assert_eq!(before.len(), orders.len());

        // Everything that remembers a sent order is gone: its record is written again, and nothing is armed or sent again.
        server.cli(&["DEL", DECISION, "quantum:stream:harvest.decision:emitted"]);
        until("the record is written again", || entries(&server, DECISION).len() == before.len());
        price(&server, "AAAUSDT", "1.009");
        until("the price is read", || is_read(&server, &[PRICE, RESULT]));
        let took = service.stop();
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!(server.cli(&["EXISTS", "quantum:stream:harvest.decision:lease"]).trim(), "0", "it is given back");
        place.run_until_idle();
        assert_eq!((decisions(&server), self::orders(&server, stream)), (before.clone(), orders));
        assert_eq!(entries(&server, SUGGESTIONS), [], "suggestions are of shadow mode");
        let kinds = field_of_all(&server, CONTROL, "event_type");
        assert!(!kinds.contains(&"decision.expired".to_owned()), "{kinds:?}");
        let position = place.positions()[0].clone();
        assert_eq!(position["hold"], "awaiting_result");
        assert_eq!(position["rungs"][0]["state"], "requested");

        // Without a store nothing but the orders themselves shows that they were decided under another name.
        let mut other = Place::new(&server);
        other.settings = format!("{}[streams]\ndecision = [\"quantum:stream:harvest.decision.new\"]\n", place.settings);
        assert_eq!(other.command().args(["--until-idle", "0.3"]).status().unwrap().code(), Some(2), "{}", other.log());
        assert!(other.log().contains("--new-chain") && other.log().contains(stream), "{}", other.log());
        // Under the name in which they were decided, they are known. Nobody reads the log of this one, which goes on without.
        let mut fresh = Place::new(&server);
        fresh.settings.clone_from(&place.settings);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let ended = fresh.command().args(["--until-idle", "0.5"]).stderr(writer).status().unwrap();
        assert_eq!((ended.code(), decisions(&server)), (Some(0), before));
    }
}

/// The orders of a stream of requests: what else is in it are intents of others.
fn orders(server: &RedisServer, stream: &str) -> Vec<Vec<(String, String)>> {
    let all = entries(server, stream).into_iter().map(|(_, fields)| fields);
    let is_order = |fields: &Vec<(String, String)>| {
        fields.iter().any(|(name, value)| name == "decision_id" || value.contains("\"decision_id\""))
    };
    all.filter(is_order).collect()
}

fn is_the_order(server: &RedisServer, format: &str, stream: &str, decision: &Value) {
    let orders = orders(server, stream);
    assert_eq!(orders.len(), 1, "{orders:?}");
    let get = |name: &str| orders[0].iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
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
}

/// A group that nobody configured begins to read the requests of a service at work: two executors of one order close twice.
fn waits_for_the_second_executor(server: &RedisServer, service: &Service<'_>) {
    server.cli(&["XGROUP", "CREATE", PLAN, "second", "$"]);
    service.until_logged(&["EXECUTOR_UNKNOWN"]);
    open_position(server, "BBBUSDT");
    price(server, "BBBUSDT", "1.008");
    until("the price is read", || is_read(server, &[PRICE, RESULT]));
    assert_eq!(orders(server, PLAN).len(), 1);
    server.cli(&["XGROUP", "DESTROY", PLAN, "second"]);
    until("the order is out", || orders(server, PLAN).len() == 2);
}

/// A place of a live service whose one executor reads the stream of the requests.
pub fn live_place(server: &RedisServer, format: &str, stream: &str) -> Place {
    let mut place = Place::new(server);
    place.settings = live_settings(format, r#"executors = ["executor"]"#);
    server.cli(&["XGROUP", "CREATE", stream, "executor", "$", "MKSTREAM"]);
    place
}

pub fn live_settings(format: &str, executors: &str) -> String {
    format!(
        "[policy]\nmode = \"live\"\nladder = \"0.5:0.25,1:0.25,1.5:0.25\"\natr_unit = {{ default = \"absolute\" }}\n\
         price_sources = [\"market.tick\"]\non_live = \"take\"\nrequire_instrument = false\n\
         [emit]\nformat = \"{format}\"\nsource = \"harvester\"\n{executors}\n"
    )
}
