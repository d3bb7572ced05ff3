//! A stream gap that another history covers: the store is folded anew with it, and nothing is sold a second time.

use serde_json::Value;

use crate::support::binary::{Ran, harvester, name, run};
use crate::support::redis::RedisServer;
use crate::support::service::{
    self, CONTROL, DECISION, INTENT, PRICE, Place, RESULT, add, decisions, entries, field_of_all, open_position, price,
    until,
};

fn is_read(server: &RedisServer) -> bool {
    service::is_read(server, &[INTENT, PRICE, RESULT, CONTROL])
}

fn gaps(server: &RedisServer) -> usize {
    field_of_all(server, CONTROL, "event_type").iter().filter(|kind| *kind == "history.gap").count()
}

fn fill(place: &Place, more: &[&str]) -> Ran {
    let settings = place.folder.path().join("harvester.toml");
    let (store, journal) = (place.store(), place.journal());
    let how = ["backfill", "--gap", "--store", name(&store), "--journal", name(&journal), "--config", name(&settings)];
    run(harvester().args(how).args(more))
}

/// Returns quantity, hold and state of the first rung of a symbol.
fn of(place: &Place, symbol: &str) -> Option<(Value, Value, Value)> {
    let positions = place.positions();
    let position = positions.as_array().unwrap().iter().find(|position| position["symbol"] == symbol)?.clone();
    Some((position["qty"].clone(), position["hold"].clone(), position["rungs"][0]["state"].clone()))
}

fn shown(qty: &str, hold: &str, rung: &str) -> Option<(Value, Value, Value)> {
    Some((qty.into(), hold.into(), rung.into()))
}

/// The service was stopped while two fills were written and trimmed.
#[test]
fn i11_a_gap_is_filled_from_an_archive_and_no_rung_is_taken_twice() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let service = place.start();
    service.until_logged(&["role changed", "is_leader=true"]);
    open_position(&server, "AAAUSDT");
    price(&server, "AAAUSDT", "1.008");
    until("the first decision is out", || entries(&server, DECISION).len() == 1 && is_read(&server));
    service.stop();

    let sold = [("symbol", "AAAUSDT"), ("side", "SELL"), ("executedQty", "20"), ("avgPrice", "1"), ("orderId", "s1")];
    add(&server, RESULT, &[&sold[..], &[("status", "FILLED"), ("reduceOnly", "true")]].concat());
    open_position(&server, "BBBUSDT");
    add(&server, RESULT, &[("symbol", "AAAUSDT"), ("executed", "false"), ("error", "no")]);
    // Another program keeps an archive of the stream.
    let archive = place.folder.path().join("archive.jsonl");
    server.dump(&archive, std::iter::once(RESULT));
    server.cli(&["XTRIM", RESULT, "MAXLEN", "1"]);
    let service = place.start();
    until("the gap is published", || gaps(&server) == 1 && is_read(&server));
    service.stop();
    assert_eq!(of(&place, "AAAUSDT"), shown("100", "history_gap", "shadowed"));
    assert_eq!(of(&place, "BBBUSDT"), None);

    // The given history does not contain the entries: a message states that, and nothing is changed.
    let ran = fill(&place, &[]);
    assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.log);
    assert!(ran.out.contains("[BACKFILL] gap of quantum:stream:apply.result after"), "{}", ran.out);
    assert!(ran.out.contains("not in what was given"), "{}", ran.out);
    let ran = fill(&place, &["--dry-run", name(&archive)]);
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.log);
    assert!(ran.out.contains(": 2 entries found") && !ran.out.contains("folded anew"), "{}", ran.out);
    assert_eq!(of(&place, "AAAUSDT"), shown("100", "history_gap", "shadowed"));

    let before = decisions(&server);
    let ran = fill(&place, &["--json", name(&archive)]);
    let document = ran.json();
    assert_eq!(
        (&document["gaps"][0]["entries"], &document["replay"]["positions_open"]),
        (&2.into(), &2.into()),
        "{document:#}"
    );
    // The gap is filled, and the positions are held until the exchange or an operator has confirmed the quantities.
    assert_eq!(of(&place, "AAAUSDT"), shown("80", "history_gap", "shadowed"));
    assert_eq!(of(&place, "BBBUSDT"), shown("100", "history_gap", "armed"));
    assert_eq!(decisions(&server), before, "a rebuild emits nothing");

    // The service continues from there: no further gap, no rung again, and the next rung once.
    let service = place.start();
    service.until_logged(&["role changed", "is_leader=true"]);
    let accept = ["control", "gap-accept", "--yes", "--reason", "the archive is complete"];
    let accepted = run(harvester().args(accept).env("REDIS_URL", &place.url));
    assert_eq!(accepted.code, Some(0), "{}", accepted.log);
    price(&server, "AAAUSDT", "1.009");
    price(&server, "AAAUSDT", "1.013");
    until("the second decision is out", || entries(&server, DECISION).len() >= 2 && is_read(&server));
    service.stop();
    assert_eq!(gaps(&server), 1, "{}", place.log());
    let all = decisions(&server);
    assert_eq!((all.len(), &all[..1]), (2, &before[..]), "{all:?}");
    let second: Value = serde_json::from_str(&all[1]).unwrap();
    assert_eq!((&second["rungs"], &second["seq"]), (&serde_json::json!(["1"]), &Value::Null), "{second:#}");
    // A quarter of the opened quantity, of which others have sold a part since: 25 × 80 / 100.
    assert_eq!(second["qty"], "20", "{second:#}");
}

/// A decision that the journal does not contain would be made again, and perhaps differently: such a store is not
/// changed.
#[test]
fn a_store_with_an_unwritten_decision_is_not_filled() {
    let server = RedisServer::start();
    let place = Place::new(&server);
    open_position(&server, "AAAUSDT");
    price(&server, "AAAUSDT", "1.008");
    let ended = place.command().args(["--until-idle", "0.3"]).env("HARVESTER_FAIL", "offered:1").status().unwrap();
    assert!(!ended.success(), "the decision is written: the test needs an unwritten decision");
    let archive = place.folder.path().join("archive.jsonl");
    server.dump(&archive, std::iter::once(RESULT));
    let ran = fill(&place, &[name(&archive)]);
    ran.refused(&[]);
    // The journal may have the service's own entry already, and the store not yet.
    let reasons = ["decision 1 has not come back to the service yet", "start the service and stop it first"];
    assert!(reasons.iter().any(|word| ran.log.contains(word)), "{}", ran.log);
    let store = place.store();
    let without = ["backfill", "--gap", "--store", name(&store), name(&archive)];
    run(harvester().args(without)).refused(&["give its --journal DIR"]);
    place.run_until_idle();
    assert_eq!(decisions(&server).len(), 1);
    let ran = fill(&place, &[name(&archive)]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "[BACKFILL] the store knows of no gap\n"), "{}", ran.log);
}
