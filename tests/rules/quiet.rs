//! Prices that are not evaluated come to what an evaluation would: builds with debug assertions compare each of them. Here
//! are the cases that were wrong once.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::lab::{Lab, entry_line};
use crate::support::{config, replayed};
use harvester::cli::replay::Request;
use harvester::config::Config;
use harvester::domain::engine::shortcut::price_run::Ahead;
use harvester::domain::engine::{Decisions, Disposition, Step};
use serde_json::{Value, json};

/// Entries are later than this. [ms since 1970]
const BEGIN_MS: u64 = 1_770_163_200_000;

const OPENED: &str = r#"
{"stream":"quantum:stream:harvest.observation","id":"1770163201000-0","fields":{"event_type":"instrument","payload":"{\"symbol\":\"ADAUSDT\",\"stepSize\":\"0.001\",\"minQty\":\"0.001\",\"minNotional\":\"1\"}"}}
{"stream":"quantum:stream:trade.intent","id":"1770163202000-0","fields":{"payload":"{\"symbol\":\"ADAUSDT\",\"side\":\"BUY\",\"entry_price\":1.0,\"atr_value\":0.02,\"volatility_factor\":0.5}"}}
{"stream":"quantum:stream:apply.result","id":"1770163203000-0","fields":{"symbol":"ADAUSDT","side":"BUY","qty":"100","price":"1.0","status":"FILLED","order_id":"1"}}
"#;
/// A risk so small that the products of rungs and risk have more places than a decimal.
const OPENED_TINY: &str = r#"
{"stream":"quantum:stream:trade.intent","id":"1770163202000-0","fields":{"payload":"{\"symbol\":\"ADAUSDT\",\"side\":\"BUY\",\"entry_price\":\"0.000001\",\"atr_value\":\"0.00000001\",\"volatility_factor\":\"1\"}"}}
{"stream":"quantum:stream:apply.result","id":"1770163203000-0","fields":{"symbol":"ADAUSDT","side":"BUY","qty":"100","price":"0.000001","status":"FILLED","order_id":"1"}}
"#;

fn prices(from_ms: u64, prices: &[&str]) -> String {
    let line = |(ms, price): (u64, &&str)| {
        format!(
            r#"{{"stream":"quantum:stream:market.tick","id":"{ms}-0","fields":{{"payload":"{{\"symbol\":\"ADAUSDT\",\"price\":\"{price}\"}}"}}}}"#
        )
    };
    (0..).map(|n| BEGIN_MS + from_ms + 1000 * n).zip(prices).map(line).collect::<Vec<_>>().join("\n") + "\n"
}

fn policy(folder: &Path, keys: &str) -> Config {
    let path = folder.join("policy.toml");
    fs::write(&path, format!("[policy]\natr_unit = {{ default = \"absolute\" }}\ncost_bps = \"0\"\n{keys}")).unwrap();
    config(Some(&path))
}

fn summary(histories: &[PathBuf], config: &Config) -> Value {
    let request = Request { histories: histories.to_vec(), ..Request::default() };
    Value::Object(replayed(&request, config).0.summary)
}

/// A decision that the history holds is taken over at a price at which our own rules decide nothing: from then on its result
/// is awaited, at each price.
#[test]
fn a_decision_that_is_taken_over_ends_the_band() {
    let folder = tempfile::tempdir().unwrap();
    let (path, emitted) = (folder.path().join("h.jsonl"), folder.path().join("decisions.jsonl"));
    let text = OPENED.trim_start().to_owned() + &prices(4000, &["1.0", "1.006", "1.0061", "1.0062", "1.0061"]);
    fs::write(&path, text).unwrap();
    let live = "mode = \"live\"\non_live = \"take\"\nprice_sources = [\"market.tick\"]\nladder = \"0.5:0.25,1:0.25\"\n";
    let request = Request { histories: vec![path.clone()], ..Request::default() };
    let (_, decisions) = replayed(&request, &policy(folder.path(), live));
    assert_eq!(decisions.len(), 1);
    fs::write(&emitted, decisions.join("\n")).unwrap();
    let found = summary(&[path, emitted], &policy(folder.path(), &format!("{live}min_r = \"2\"\n")));
    assert_eq!(found["holds"], json!({"awaiting_result": 3, "below_min_r": 2, "no_price": 1}));
}

/// A rung that is taken is asked for all the same, and may not fit.
#[test]
fn a_taken_rung_that_does_not_fit_is_no_part_of_the_band() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h.jsonl");
    let sold = |ms: u64, qty, order| {
        let ms = BEGIN_MS + ms;
        format!(
            r#"{{"stream":"quantum:stream:apply.result","id":"{ms}-0","fields":{{"symbol":"ADAUSDT","side":"SELL","qty":"{qty}","price":"0.000001015","status":"FILLED","order_id":"{order}"}}}}"#
        ) + "\n"
    };
    let text = OPENED_TINY.trim_start().to_owned()
        + &prices(4000, &["0.000001001", "0.000001015"])
        + &sold(6000, "99.9999", 2)
        + &sold(6500, "0.00009999", 3)
        + &prices(7000, &["0.000001004", "0.0000010045", "0.000001007", "0.000001015", "0.00000102"]);
    fs::write(&path, text).unwrap();
    let keys = "mode = \"shadow\"\nladder = \"0.5:0.25,1.0000000000001:0.25,5:0.25\"\nmin_r = \"0.3\"\n\
                min_notional = \"0.000000001\"\nrisk_floor_bps = \"0\"\nmax_price_jump = \"0.5\"\n";
    let found = summary(&[path], &policy(folder.path(), keys));
    assert_eq!(found["quarantined"], json!({"out_of_range": 3}), "{found:#}");
}

/// One source may write into several streams; prices ahead of one another in different streams are not taken as one: each
/// stream has its cursor.
#[test]
fn prices_of_several_streams_are_no_stretch() {
    let folder = tempfile::tempdir().unwrap();
    let config = policy(folder.path(), "\n[streams]\nobservation = [\"seen.a\", \"seen.b\"]\n");
    let seen = |stream: &str, id: &str, price: &str| {
        let payload = json!({"symbol": "ADAUSDT", "price": price, "source": "redis_ticker"}).to_string();
        entry_line(stream, id, &[("event_type", "price"), ("payload", &payload)])
    };
    let opened = OPENED.lines().filter(|line| line.contains("trade.intent") || line.contains("apply.result"));
    let first: Vec<String> = opened
        .map(ToOwned::to_owned)
        .chain(
            [
                ("seen.b", "1770163204000-0", "1.001"),
                ("seen.b", "1770163205000-0", "1.002"),
                ("seen.a", "1770163206000-9", "1.003"),
            ]
            .map(|(stream, id, price)| seen(stream, id, price)),
        )
        .collect();
    // In its millisecond behind the last one, with a smaller number.
    let second = vec![seen("seen.b", "1770163206000-3", "1.02"), seen("seen.a", "1770163207000-0", "1.0")];
    let (mut by_one, mut ahead_of) = (Lab::new(&config), Lab::new(&config));
    let mut ahead = Ahead::default();
    for batch in [first, second] {
        let entries: Vec<_> = batch.iter().map(|line| (by_one.decode(line), ahead_of.decode(line)).1).collect();
        ahead.look(entries.iter(), |_| false);
        for (at, entry) in entries.iter().enumerate() {
            let wanted = by_one.engine.step(entry);
            assert_eq!(wanted.disposition, Disposition::Applied);
            let nothing = Step { disposition: Disposition::Applied, decision: None };
            assert_eq!(ahead_of.engine.step_ahead(entry, &ahead, at).unwrap_or(nothing), wanted, "{entry:?}");
        }
        ahead_of.engine.end_batch();
        for (stream, _) in config.streams.iter() {
            assert_eq!(ahead_of.engine.cursor(stream), by_one.engine.cursor(stream));
        }
    }
    assert_eq!(by_one.engine.counters.decisions, 1, "the price behind the stretch reaches a rung");
}

/// A decision that was emitted for a price at which our rules change nothing is taken over there all the same.
#[test]
fn a_decision_emitted_among_prices_ahead_is_taken_over_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        OPENED.trim_start().to_owned() + &prices(4000, &["1.001", "1.002", "1.0021", "1.003", "1.0022", "1.0023"]);
    let path = folder.path().join("h.jsonl");
    fs::write(&path, &text).unwrap();
    let bold = policy(folder.path(), "ladder = \"0.25:0.25\"\nmin_r = \"0.25\"\n");
    let (_, decisions) = replayed(&Request { histories: vec![path], ..Request::default() }, &bold);
    assert_eq!(decisions.len(), 1);

    let config = policy(folder.path(), "ladder = \"0.5:0.25,1:0.25\"\n");
    let audited = || Lab::noting(&config, Decisions::Audited);
    let (mut by_one, mut ahead_of) = (audited(), audited());
    let mut entries = Vec::new();
    for lab in [&mut by_one, &mut ahead_of] {
        lab.preload(&decisions);
        entries = text.lines().map(|line| lab.decode(line)).collect();
    }
    let mut ahead = Ahead::default();
    ahead.look(entries.iter(), |_| false);
    let mut taken = 0;
    for (at, entry) in entries.iter().enumerate() {
        by_one.engine.step(entry);
        taken += u64::from(ahead_of.engine.step_ahead(entry, &ahead, at).is_none());
    }
    ahead_of.engine.end_batch();
    assert_eq!(ahead_of.engine.symbols(), by_one.engine.symbols());
    let decisions = by_one.symbol("ADAUSDT").unwrap().positions().map(|position| position.decisions.len());
    assert_eq!((decisions.sum::<usize>(), taken), (1, 0), "the decision stands among all of them");
}

/// A price that could be of a rescaled contract is doubted until a look-up; the band of before says nothing meanwhile.
#[test]
fn a_doubted_price_does_not_go_back_to_the_band_of_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h.jsonl");
    let text = OPENED.trim_start().to_owned()
        + &prices(4000, &["1.0", "1.001", "1.4"])
        + &prices(9000, &["1.4", "1.335", "1.27", "1.21", "1.15", "1.095", "1.045", "1.0005"]);
    fs::write(&path, text).unwrap();
    let found = summary(&[path], &policy(folder.path(), "min_r = \"0.5\"\n"));
    assert_eq!(found["holds"], json!({"below_min_r": 2, "no_price": 1, "price_jump": 9}));
}
