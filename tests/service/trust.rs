//! Trust: a live service with a signing key, and the entries of others in its streams (incidents 60, 67, 68).

use std::path::Path;

use crate::support::binary::{harvester, name, run};
use crate::support::redis::{RedisServer, free_port};
use crate::support::service::{
    CONTROL, DECISION, PLAN, PRICE, Place, RESULT, Service, add, entries, field_of_all, is_read_to, open_position,
    price, until,
};
use harvester::codec::issue::{Stamp, sign};
use harvester::codec::signing::SigningKey;
use serde_json::{Value, json};

mod ahead;
mod decisions;
mod kill_key;

const KEY: &str = "a secret of enough bytes";

const SYMBOL: &str = "SAFEUSDT";

/// Returns a live configuration for one symbol.
fn settings(live_symbols: &str) -> String {
    format!(
        "[policy]\nmode = \"live\"\nladder = \"0.5:0.25,1:0.25,1.5:0.25\"\natr_unit = {{ default = \"absolute\" }}\n\
         price_sources = [\"market.tick\"]\non_live = \"take\"\nrequire_instrument = false\n\
         live_symbols = {live_symbols}\nresult_timeout_ms = 3600000\n\
         [emit]\nformat = \"apply_plan\"\nsource = \"harvester\"\nexecutors = [\"executor\"]\n"
    )
}

fn place(server: &RedisServer, key: Option<&str>) -> Place {
    server.cli(&["XGROUP", "CREATE", PLAN, "executor", "0", "MKSTREAM"]);
    let mut place = Place::new(server);
    place.settings = settings("[\"SAFEUSDT\"]");
    place.environment.extend(key.map(|key| ("HARVEST_SIGNING_KEY".to_owned(), key.to_owned())));
    place
}

/// Starts a service, and waits until it has adopted its policy.
fn at_work<'a>(server: &RedisServer, place: &'a Place) -> Service<'a> {
    let service = place.start();
    service.until_logged(&["HARVEST_START"]);
    until("the policy is adopted", || {
        field_of_all(server, CONTROL, "event_type").contains(&"policy.adopted".to_owned())
    });
    service
}

/// Writes to the control stream, unsigned.
fn write_control(server: &RedisServer, event_type: &str, payload: &Value) -> String {
    add(server, CONTROL, &[("event_type", event_type), ("payload", &payload.to_string())])
}

/// Returns the symbol of each entry of ours in the request stream.
fn ordered(server: &RedisServer) -> Vec<String> {
    field_of_all(server, PLAN, "symbol")
}

/// Waits until the service has read a stream up to its present end.
fn until_read(server: &RedisServer, stream: &str, id: &str) {
    until(&format!("{stream} is read to {id}"), || is_read_to(server, stream, id));
}

fn skipped(server: &RedisServer) -> Vec<String> {
    let is_ours = |fields: &[(String, String)]| fields[0].1 == "entry.skipped" && fields.len() == 3;
    let all = entries(server, CONTROL).into_iter().filter(|(_, fields)| is_ours(fields));
    all.map(|(_, fields)| {
        let payload: Value = serde_json::from_str(&fields[1].1).expect("a payload");
        payload["id"].as_str().expect("an id").to_owned()
    })
    .collect()
}

fn replay_is_the_same(place: &Place, key: Option<&str>) {
    let folder = tempfile::tempdir().expect("a folder");
    let store = folder.path().join("replayed");
    let settings = place.folder.path().join("harvester.toml");
    let mut command = harvester();
    command.args(["replay", name(&place.journal()), "--store", name(&store), "--config", name(&settings), "--json"]);
    command.envs(key.map(|key| ("HARVEST_SIGNING_KEY", key)));
    assert_eq!(run(&mut command).code, Some(0));
    let positions = run(harvester().args(["positions", "--json", "--all", "--store", name(&store)])).json();
    assert_eq!(positions, place.positions(), "with the key: {}", key.is_some());
}

/// Incident 67, with a key: the entry is refused, and the log states that.
#[test]
fn i67_an_unsigned_line_changes_no_policy() {
    let server = RedisServer::start();
    let place = place(&server, Some(KEY));
    let service = at_work(&server, &place);
    for symbol in [SYMBOL, "VICTIMUSDT"] {
        open_position(&server, symbol);
        price(&server, symbol, "1");
    }
    let policy = json!({
        "mode": "live", "ladder": "0.5:0.5", "atr_unit": {"default": "absolute"}, "price_sources": ["market.tick"],
        "on_live": "take", "require_instrument": false,
    });
    let forged = [
        write_control(&server, "policy.adopted", &json!({"policy": policy, "reason": "configured"})),
        write_control(&server, "gap.accepted", &json!({"reason": "r"})),
        write_control(&server, "entry.skipped", &json!({"stream": RESULT, "id": entries(&server, RESULT)[0].0})),
    ];
    until("each is answered", || skipped(&server).len() == forged.len());
    assert_eq!(skipped(&server), forged);
    for symbol in [SYMBOL, "VICTIMUSDT"] {
        price(&server, symbol, "1.007");
    }
    until("the policy of the configuration sends its order", || ordered(&server) == [SYMBOL]);
    for id in &forged {
        service.until_logged(&["bad_signature", id]);
    }
    service.stop();
    assert_eq!(ordered(&server), [SYMBOL]);
    for key in [None, Some(KEY)] {
        replay_is_the_same(&place, key);
    }
    // After a start, a refused entry hides nothing either.
    place.run_until_idle();
    assert_eq!(place.positions().as_array().map(Vec::len), Some(2));
    let audit = |arguments: &[&str], key: Option<&str>| {
        let mut command = harvester();
        let settings = place.folder.path().join("harvester.toml");
        command
            .args(["audit", "--journal", name(&place.journal()), "--json", "--config", name(&settings)])
            .args(arguments);
        command.envs(key.map(|key| ("HARVEST_SIGNING_KEY", key)));
        let ran = run(&mut command);
        serde_json::from_str::<Value>(&ran.out).unwrap_or_else(|error| panic!("{error}: {}{}", ran.out, ran.log))
    };
    let mut shown = harvester();
    let settings = place.folder.path().join("harvester.toml");
    shown.args(["audit", "--journal", name(&place.journal()), "--config", name(&settings)]);
    let shown = run(&mut shown).out;
    let refused = format!("  refused      {}: policy", forged[0]);
    for part in ["CLEAN", "  adoption ", &refused, "refused 3"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("NOT THE CONFIGURED ONE"), "a refused policy was never in force: {shown}");
    for key in [None, Some(KEY)] {
        let report = audit(&[], key);
        assert_eq!(report["verdict"], "clean", "a refused entry is not a finding: {report:#}");
        assert_eq!(report["control"]["refused"], 3, "{report:#}");
        let adoptions = report["control"]["adoptions"].as_array().expect("adoptions");
        assert_eq!(adoptions.len(), 2, "{adoptions:?}");
        assert_eq!(adoptions[0]["adopted"], adoptions[0]["configured"], "{adoptions:?}");
        assert_ne!(adoptions[1]["adopted"], adoptions[1]["configured"], "{adoptions:?}");
        assert_eq!(adoptions[1]["refused"], true, "{adoptions:?}");
    }
}

/// Incident 67, without a key: the entry counts in the fold, and no order rests on it.
#[test]
fn i67_no_order_is_sent_under_another_policy_than_the_configured_one() {
    let server = RedisServer::start();
    let place = place(&server, None);
    let service = at_work(&server, &place);
    open_position(&server, "VICTIMUSDT");
    price(&server, "VICTIMUSDT", "1");
    let policy = json!({
        "mode": "live", "ladder": "0.5:0.5", "atr_unit": {"default": "absolute"}, "price_sources": ["market.tick"],
        "on_live": "take", "require_instrument": false,
    });
    let adopted = write_control(&server, "policy.adopted", &json!({"policy": policy}));
    service.until_logged(&["not the configured one", "configured=", &adopted]);
    price(&server, "VICTIMUSDT", "1.007");
    until("the decision is withdrawn", || {
        entries(&server, CONTROL)
            .iter()
            .any(|(_, fields)| fields[0].1 == "decision.expired" && fields[1].1.contains("policy_differs"))
    });
    service.stop();
    assert_eq!(ordered(&server), [""; 0]);
}

/// With a key, each entry of ours has its own signature, which the test computes from the contract.
#[test]
fn entries_of_ours_in_the_control_stream_are_signed() {
    let server = RedisServer::start();
    let place = place(&server, Some(KEY));
    let service = at_work(&server, &place);
    open_position(&server, SYMBOL);
    price(&server, SYMBOL, "1");
    server.cli(&["SET", "quantum:kill", "1"]);
    until("the kill is published", || {
        field_of_all(&server, CONTROL, "event_type").contains(&"kill.changed".to_owned())
    });
    let id = price(&server, SYMBOL, "1.007");
    until_read(&server, PRICE, &id);
    let messages = run(harvester()
        .args(["control", "kill", "off", "--reason", "r", "--yes", "--json"])
        .env("REDIS_URL", server.url())
        .env("HARVEST_SIGNING_KEY", KEY));
    assert_eq!(messages.json()["signed"], true);
    let id = price(&server, SYMBOL, "1.0071");
    until("decisions continue", || ordered(&server) == [SYMBOL]);
    until_read(&server, PRICE, &id);
    service.stop();
    let key = SigningKey::new(KEY.as_bytes()).expect("a key");
    let written = entries(&server, CONTROL);
    assert!(written.len() >= 3, "{written:?}");
    for (id, fields) in written {
        let of =
            |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone()).unwrap_or_default();
        let text = format!("control\n{CONTROL}\n{}\n{}", of("event_type"), of("payload"));
        assert!(key.verifies(&text, &of("signature")), "{id}: {fields:?}");
        let payload: Value = serde_json::from_str(&of("payload")).expect("JSON");
        let issued_ms = payload["issued_ms"].as_u64().expect("a time of issue");
        let id_ms: u64 = id.split('-').next().unwrap().parse().unwrap();
        assert!(id_ms.abs_diff(issued_ms) < 60_000 && payload["nonce"].is_string(), "{id}: {payload}");
    }
}

/// Entries of the future that need no signature, or that of a former key, could be written by anybody.
#[test]
fn a_start_is_refused_if_a_future_id_is_believed_without_the_key() {
    let server = RedisServer::start();
    let now_ms = server.now_ms();
    let (past, future) = (format!("{}-0", now_ms - 3_600_000), format!("{}-0", now_ms + 3_600_000));
    let started = |setting: &dyn Fn(&Path) -> String| {
        let mut place = place(&server, Some(KEY));
        let former = place.folder.path().join("former");
        std::fs::write(&former, "a former secret of enough bytes").expect("a key");
        place.settings += &setting(&former);
        run(place.command().args(["--until-idle", "0.3"]))
    };
    let unsigned = |id: &str| format!("believe_unsigned_until = \"{id}\"\n");
    let former = |file: &Path, id: &str| format!("former_keys = [\"{} until {id}\"]\n", name(file));
    started(&|_| unsigned(&future)).refused(&["emit.believe_unsigned_until", &future, "later than the server's clock"]);
    started(&|file| former(file, &future)).refused(&["emit.former_keys", &future, "later than the server's clock"]);
    assert_eq!(server.cli(&["EXISTS", CONTROL]).trim(), "0", "nothing was written");
    for ran in [started(&|_| unsigned(&past)), started(&|file| former(file, &past))] {
        assert_eq!(ran.code, Some(0), "{}", ran.log);
    }
}

/// Writes the answer of the executor to the last order: sold.
fn sold(server: &RedisServer) {
    let (_, request) = entries(server, PLAN).pop().expect("a request");
    let of = |name: &str| request.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str()).expect("a field");
    let fields = [
        ("plan_id", of("plan_id")),
        ("symbol", SYMBOL),
        ("side", "SELL"),
        ("executedQty", of("qty")),
        ("avgPrice", "1.007"),
        ("orderId", of("plan_id")),
        ("status", "FILLED"),
    ];
    add(server, RESULT, &fields);
}

/// Entries from before the key, and of another key: believed up to the ids that the configuration names.
#[test]
fn entries_from_before_the_key_are_believed_up_to_the_configured_id() {
    let server = RedisServer::start();
    let mut place = place(&server, None);
    let service = at_work(&server, &place);
    open_position(&server, SYMBOL);
    price(&server, SYMBOL, "1");
    write_control(&server, "kill.changed", &json!({"kill": true, "reason": "r"}));
    let off = write_control(&server, "kill.changed", &json!({"kill": false, "reason": "r"}));
    until_read(&server, CONTROL, &off);
    price(&server, SYMBOL, "1.007");
    until("the order", || ordered(&server) == [SYMBOL]);
    sold(&server);
    until_read(&server, RESULT, &entries(&server, RESULT).last().unwrap().0);
    service.stop();
    let wanted = place.positions();
    let last = |server: &RedisServer| {
        let of = |stream| entries(server, stream).last().map(|(id, _)| id.clone()).expect("an entry");
        let read = |id: &String| harvester::domain::event::ids::EntryId::parse(id.as_bytes());
        [of(CONTROL), of(DECISION)].into_iter().max_by_key(read).unwrap()
    };
    let refolded = |place: &Place| {
        std::fs::remove_dir_all(place.store()).expect("there is a store");
        place.run_until_idle();
        place.positions()
    };
    // The key is set: entries from before it are named.
    let settings = place.settings.clone();
    place.settings += &format!("believe_unsigned_until = \"{}\"\n", last(&server));
    place.environment = vec![("HARVEST_SIGNING_KEY".to_owned(), KEY.to_owned())];
    assert_eq!(refolded(&place), wanted);
    assert_eq!(skipped(&server), [""; 0]);
    let service = place.start();
    let signed_off = run(harvester()
        .args(["control", "kill", "off", "--reason", "r", "--yes", "--json"])
        .env("REDIS_URL", server.url())
        .env("HARVEST_SIGNING_KEY", KEY));
    assert_eq!(signed_off.json()["signed"], true);
    price(&server, SYMBOL, "1.013");
    until("the second order", || ordered(&server).len() == 2);
    sold(&server);
    until_read(&server, RESULT, &entries(&server, RESULT).last().unwrap().0);
    service.stop();
    let wanted = place.positions();
    // Another key follows: the former one is named for the entries that it signed.
    let former = place.folder.path().join("former");
    std::fs::write(&former, KEY).expect("a key");
    place.settings += &format!("former_keys = [\"{} until {}\"]\n", name(&former), last(&server));
    place.environment = vec![("HARVEST_SIGNING_KEY".to_owned(), "another secret of enough bytes".to_owned())];
    assert_eq!(refolded(&place), wanted);
    assert_eq!(skipped(&server), [""; 0]);
    let audited = |place: &Place| {
        let file = place.folder.path().join("harvester.toml");
        let mut command = harvester();
        command.args(["audit", "--journal", name(&place.journal()), "--json", "--config", name(&file)]);
        command.envs(place.environment.clone());
        serde_json::from_str::<Value>(&run(&mut command).out).expect("JSON")
    };
    let report = audited(&place);
    assert_eq!(report["verdict"], "clean", "{report:#}");
    // A forged entry of now is still not believed.
    let service = place.start();
    let forged = write_control(&server, "gap.accepted", &json!({"reason": "r"}));
    service.until_logged(&["bad_signature", &forged]);
    service.stop();
    // Without these settings none of them is believed.
    place.settings = settings;
    place.command();
    let report = audited(&place);
    assert_eq!(report["verdict"], "findings", "{report:#}");
}

/// Findings about past entries are reported again by the process that starts after a kill, word for word.
#[test]
fn refused_and_unreadable_entries_are_reported_again_after_a_kill() {
    let server = RedisServer::start();
    let mut place = place(&server, Some(KEY));
    place.listen = format!("127.0.0.1:{}", free_port());
    let url = format!("http://{}", place.listen);
    let past = || {
        let ran = run(harvester().args(["status", "--json", "--url", &url]));
        let report: Value = serde_json::from_str(&ran.out).unwrap_or_default();
        let of = |found: &Value| Some((found["name"].as_str()?.to_owned(), found["about"].clone()));
        let found: Vec<_> = report["concerns"].as_array().into_iter().flatten().filter_map(of).collect();
        let is_past = |(name, _): &(String, Value)| {
            ["bad_signature", "decision_foreign", "unreadable", "gap_open"].contains(&name.as_str())
        };
        let counts = json!([report["totals"]["refused"], report["totals"]["unreadable"]]).to_string();
        let entries: Vec<String> =
            counts.split(',').filter(|part| part.contains("entries")).map(str::to_owned).collect();
        (found.into_iter().filter(is_past).collect::<Vec<_>>(), entries)
    };
    let service = at_work(&server, &place);
    open_position(&server, SYMBOL);
    price(&server, SYMBOL, "1");
    write_control(&server, "gap.accepted", &json!({"reason": "r"}));
    write_control(&server, "gap.accepted", &json!({"reason": "r"}));
    price(&server, SYMBOL, "1.007");
    until("the first decision", || entries(&server, DECISION).len() == 1);
    let (_, mut forged) = entries(&server, DECISION).remove(0);
    for (name, value) in &mut forged {
        match name.as_str() {
            "seq" => *value = "900".to_owned(),
            "decision_id" => *value = "00112233445566778899aabbccddeeff".to_owned(),
            _ => {}
        }
    }
    let fields: Vec<(&str, &str)> = forged.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    add(&server, DECISION, &fields);
    add(&server, RESULT, &[("symbol", SYMBOL), ("side", "SELL"), ("executedQty", "many"), ("status", "FILLED")]);
    let id = price(&server, SYMBOL, "1.001");
    until_read(&server, PRICE, &id);
    until("all is found", || past().0.len() == 4);
    let before = past();
    assert_eq!(before.1.len(), 3, "{before:?}");
    service.kill();
    let service = place.start();
    until("the service has reported", || !past().0.is_empty());
    let id = price(&server, SYMBOL, "1.001");
    until_read(&server, PRICE, &id);
    until("it reports the same", || past() == before);
    write_control(&server, "gap.accepted", &json!({"reason": "r"}));
    until("a new finding is added", || past().1.iter().any(|entries| entries.ends_with("3")));
    // The service publishes a refused entry as skipped, so a fold of the journal skips it, and still reports it.
    until("what was refused is skipped", || skipped(&server).len() >= 3);
    let before = past();
    service.stop();
    std::fs::remove_dir_all(place.store()).expect("there is a store");
    let service = place.start();
    until("a store that is folded again finds the same", || past() == before);
    service.stop();
}

/// Incident 68: an entry that nests deeply lifts no kill and ends no process; and a signed entry is believed once.
#[test]
fn i68_a_policy_of_brackets_kills_and_does_not_end_the_process() {
    let server = RedisServer::start();
    let place = place(&server, Some(KEY));
    let service = at_work(&server, &place);
    let brackets = "[".repeat(20_000) + &"]".repeat(20_000);
    let payload = format!(r#"{{"policy":{brackets}}}"#);
    add(&server, CONTROL, &[("event_type", "policy.adopted"), ("payload", &payload)]);
    open_position(&server, SYMBOL);
    price(&server, SYMBOL, "1");
    let id = price(&server, SYMBOL, "1.007");
    until_read(&server, PRICE, &id);
    assert_eq!(ordered(&server), [""; 0], "an unreadable policy kills");
    service.kill();
    place.run_until_idle();
    let replayed = run(harvester().args(["replay", name(&place.journal()), "--json"])).json();
    assert_eq!(replayed["quarantined"]["bad_json"], 1, "{replayed:#}");
}

#[test]
fn a_signed_entry_is_believed_once() {
    let server = RedisServer::start();
    let place = place(&server, Some(KEY));
    let service = at_work(&server, &place);
    let now_ms = server.now_ms();
    let key = SigningKey::new(KEY.as_bytes()).expect("a key");
    let (payload, signature) =
        sign(&key, CONTROL, "kill.changed", r#"{"kill":false,"reason":"r"}"#, &Stamp::new(now_ms, 7));
    let fields = [("event_type", "kill.changed"), ("payload", &*payload), ("signature", &*signature)];
    add(&server, CONTROL, &fields);
    write_control(&server, "kill.changed", &json!({"kill": true, "reason": "r"}));
    let copy = add(&server, CONTROL, &fields);
    service.until_logged(&["bad_signature", &copy]);
    until("it is answered", || skipped(&server) == [copy.clone()]);
    open_position(&server, SYMBOL);
    price(&server, SYMBOL, "1");
    let id = price(&server, SYMBOL, "1.007");
    until_read(&server, PRICE, &id);
    service.stop();
    assert_eq!(ordered(&server), [""; 0], "the kill is in force");
    for key in [None, Some(KEY)] {
        replay_is_the_same(&place, key);
    }
}
