//! Prices that take the shortcut have the result of an evaluation: builds with debug assertions compare each of them.
//! These are the cases that were wrong once.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{config, replayed};
use harvester::cli::replay::Request;
use harvester::config::Config;
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
    json!(replayed(&request, config).0.summary)
}

/// A recorded decision is adopted at a price at which our own rules decide nothing. From then on every price waits
/// for its result.
#[test]
fn an_adopted_decision_ends_the_band() {
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

/// The band reads a rung that was taken as well, and its number may not fit.
#[test]
fn a_taken_rung_that_does_not_fit_is_not_a_part_of_the_band() {
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

/// A price that could be of a rescaled contract is in doubt until a look-up. The band from before must not answer in
/// the meantime.
#[test]
fn a_price_in_doubt_does_not_return_to_the_earlier_band() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h.jsonl");
    let text = OPENED.trim_start().to_owned()
        + &prices(4000, &["1.0", "1.001", "1.4"])
        + &prices(9000, &["1.4", "1.335", "1.27", "1.21", "1.15", "1.095", "1.045", "1.0005"]);
    fs::write(&path, text).unwrap();
    let found = summary(&[path], &policy(folder.path(), "min_r = \"0.5\"\n"));
    assert_eq!(found["holds"], json!({"below_min_r": 2, "no_price": 1, "price_jump": 9}));
}
