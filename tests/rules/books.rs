//! Books of several accounts and hedge books do not influence each other, on random histories.

use std::collections::BTreeMap;

use harvester::codec::view;
use harvester::domain::book::hold_log::HoldLog;
use harvester::domain::event::selection::Selection;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::properties::cases;
use crate::support;
use crate::support::histories::{
    CONTROL, INTENT, OBSERVATION, PLAN, RESULT, SNAPSHOT, SYMBOLS, Style, TICK, play, scripts,
};
use crate::support::lab::{Came, Lab, entry_line};

const ACCOUNTS: [&str; 3] = ["b", "B-2", "a_long.name"];
const SYMBOL: &str = "SOLUSDT";

/// Returns the payloads of the decisions that a line caused, in their order.
fn payloads(came: &Came) -> Vec<Map<String, Value>> {
    let further = came.further.iter().map(|(_, sealed)| sealed);
    let sealed = came.sealed.iter().chain(further);
    sealed.map(|sealed| serde_json::from_str(&sealed.payload).expect("a payload is JSON")).collect()
}

/// The result of an account: its positions, and its decisions with the line that caused each.
#[derive(Debug, PartialEq)]
struct OfAccount {
    positions: Vec<Value>,
    decisions: Vec<(usize, Map<String, Value>)>,
}

/// Folds the lines that are meant for any of these accounts.
fn folded(lab: &mut Lab, lines: &[(Option<usize>, String)], accounts: &[usize]) -> Vec<OfAccount> {
    let mut decisions = Vec::new();
    for (at, (account, line)) in lines.iter().enumerate() {
        if account.is_none_or(|account| accounts.contains(&account)) {
            decisions.extend(payloads(&lab.feed(line)).into_iter().map(|payload| (at, payload)));
        }
    }
    let positions: Vec<Value> = view::positions(&lab.engine, true).iter().map(|position| json!(position)).collect();
    let of = |account: usize| {
        let is_of = |document: Option<&Value>| document.and_then(Value::as_str) == Some(ACCOUNTS[account]);
        OfAccount {
            positions: positions.iter().filter(|position| is_of(position.get("account"))).cloned().collect(),
            decisions: decisions.iter().filter(|(_, payload)| is_of(payload.get("account"))).cloned().collect(),
        }
    };
    accounts.iter().map(|account| of(*account)).collect()
}

/// Gives a line to an account, unless it is for all accounts.
fn dealt(line: &str, account: usize) -> (Option<usize>, String) {
    let mut entry: Value = serde_json::from_str(line).expect("a line is JSON");
    let stream = entry["stream"].as_str().expect("a line has a stream").to_owned();
    let fields = entry["fields"].as_object_mut().expect("the fields are an object");
    let event = fields.get("event_type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let name = ACCOUNTS[account];
    let is_dealt = match &*stream {
        // A price in the stream of results is for all accounts.
        RESULT if fields.get("status").is_some_and(|status| status == "PRICE_UPDATE") => false,
        RESULT | SNAPSHOT | INTENT | PLAN => true,
        OBSERVATION => ["exchange.position", "exchange.trade", "legacy.position"].contains(&&*event),
        CONTROL => {
            ["kill.changed", "policy.adopted", "gap.accepted", "risk.accepted", "rung.rearmed"].contains(&&*event)
        }
        _ => false,
    };
    if !is_dealt {
        return (None, line.to_owned());
    }
    let payload = fields.get("payload").and_then(Value::as_str).and_then(|text| serde_json::from_str(text).ok());
    match payload {
        Some(Value::Object(mut payload)) => {
            match payload.get("position_id").and_then(Value::as_str).map(|id| format!("{name}/{id}")) {
                Some(id) => payload.insert("position_id".to_owned(), id.into()),
                None => payload.insert("account".to_owned(), name.into()),
            };
            fields.insert("payload".to_owned(), Value::from(Value::Object(payload).to_string()));
        }
        _ => _ = fields.insert("account".to_owned(), name.into()),
    }
    (Some(account), entry.to_string())
}

/// An intent counts for a day, whether or not an entry of another account has let the symbol forget it since then. Trades
/// explain the opening of `b` a day after its intent, which is then only the nearest one.
#[test]
fn an_intent_of_yesterday_is_only_the_nearest_one() {
    const BEGAN_MS: u64 = 1_770_163_200_000;
    const DAY_S: u64 = 24 * 3600;
    let at = |s: u64| format!("{}-0", BEGAN_MS + 1000 * s);
    let sources_of_b = |is_other_there: bool, explained_s: u64| {
        let mut lab = Lab::new(&support::config(None));
        let intent =
            json!({"symbol": SYMBOL, "side": "BUY", "entry_price": 100, "atr_value": 2, "volatility_factor": 1});
        lab.entry(INTENT, &at(0), &[("payload", &*intent.to_string())]);
        let stated = json!({"symbol": SYMBOL, "positionAmt": "10", "entryPrice": "100", "account": "b"}).to_string();
        lab.entry(OBSERVATION, &at(27), &[("event_type", "exchange.position"), ("payload", &*stated)]);
        if is_other_there {
            let fill =
                [("account", "B-2"), ("symbol", SYMBOL), ("side", "BUY"), ("order_id", "7"), ("filled_qty", "1")];
            lab.entry(RESULT, &at(explained_s - 1), &[&fill[..], &[("executed", "True")]].concat());
        }
        let trade = json!({
            "symbol": SYMBOL, "orderId": 501, "id": 1, "side": "BUY", "qty": "10", "price": "100",
            "time": BEGAN_MS + 20_000, "account": "b",
        });
        let trade = trade.to_string();
        lab.entry(OBSERVATION, &at(explained_s), &[("event_type", "exchange.trade"), ("payload", &*trade)]);
        let shown = view::positions(&lab.engine, true);
        let mut shown = shown.iter().map(|position| json!(position)).filter(|position| position["account"] == "b");
        let of_b = shown.next().expect("b has a position");
        (of_b["fills"][0]["source"].clone(), of_b["atr_value"]["source"].clone())
    };
    for is_other_there in [false, true] {
        assert_eq!(sources_of_b(is_other_there, DAY_S), (json!("fill"), json!("intent")), "{is_other_there}");
        assert_eq!(
            sources_of_b(is_other_there, DAY_S + 2),
            (json!("fill"), json!("intent_nearest")),
            "{is_other_there}"
        );
    }
}

proptest! {
    #![proptest_config(cases(48))]

    /// Several accounts in one history give the same positions and decisions as each of them alone.
    ///
    /// This is true only while prices are near all entry prices, without jumps. The used and the deferred price of a
    /// symbol are shared by its books (docs/spec/fold.md, "Used prices"), so a price near the entry price of one
    /// account's book is used for the books of the others as well. Alone, these would hold with `price_jump`.
    #[test]
    fn accounts_do_not_influence_each_other(
        script in scripts(150),
        deals in prop::collection::vec((0usize..ACCOUNTS.len(), 0u8..8), 40),
    ) {
        let history = play(&script, Style { no_weeks: true, calm: true, ..Style::default() });
        // Other tests read entries that are not UTF-8.
        let texts = history.lines().filter(|line| !line.contains("fields_b64"));
        let mut lines: Vec<_> = texts.zip(deals.iter().cycle()).map(|(line, (account, shared))| {
            // An intent, a policy, a kill or an accepted gap is for all accounts if it names none.
            let is_general = [INTENT, CONTROL].iter().any(|stream| line.contains(stream)) && !line.contains("position_id");
            if is_general && *shared > 2 { (None, line.to_owned()) } else { dealt(line, *account) }
        }).collect();
        // The first used price of a symbol depends on all of its books (docs/spec/fold.md, "Used prices").
        let began = history.entries.first().map_or(0, |entry| entry.key.ms);
        for (at, price) in [(0, "0.4109"), (1, "90150.3"), (2, "0.0045829")] {
            for ms in [began - 9_000, began - 5_000] {
                let fields = [("symbol", SYMBOLS[at]), ("price", price)];
                lines.insert(0, (None, entry_line(TICK, &format!("{ms}-{at}"), &fields)));
            }
        }
        lines[..6].sort_by(|(_, a), (_, b)| a.cmp(b));
        let last = history.entries.last().map_or(0, |entry| entry.key.ms) + 1;
        lines.push((None, entry_line(TICK, &format!("{last}-0"), &[("symbol", "NILUSDT"), ("price", "1")])));

        let all: Vec<usize> = (0..ACCOUNTS.len()).collect();
        let together = folded(&mut Lab::new(&history.config), &lines, &all);
        for (account, among_others) in all.iter().zip(together) {
            let alone = folded(&mut Lab::new(&history.config), &lines, &[*account]).pop();
            prop_assert_eq!(Some(among_others), alone);
        }

        // Each account in a cell of its own, which skips the entries of the others.
        let together = folded(&mut Lab::new(&history.config), &lines, &all);
        for (account, among_others) in all.iter().zip(together) {
            let selection = Selection::listed([ACCOUNTS[*account]]);
            let streams = history.config.streams.clone().with_selection(selection);
            let mut cell = Lab::new(&harvester::config::Config { streams, ..history.config.clone() });
            let in_cell = folded(&mut cell, &lines, &all).swap_remove(*account);
            prop_assert_eq!(among_others, in_cell);
        }
    }

    /// A LONG and a SHORT book of one account give the same results as one-way books of two accounts.
    #[test]
    fn a_hedge_book_gives_the_results_of_a_one_way_book_in_its_own_account(
        ops in prop::collection::vec((0u8..10, any::<bool>(), 1u32..40), 1..120),
        ladder in 0usize..3,
    ) {
        let ladder = ["0.3:0.2,0.6:0.3,1:0.4", "0.5:0.5,1:0.5", "1:0.1"][ladder];
        let policy = json!({
            "min_r": "0.2", "cost_bps": "0", "require_instrument": false, "max_actions_per_min": 1000,
            "ladder": ladder,
            "live_entry_sources": ["fill"], "mode": "live", "atr_unit": {"default": "absolute"},
            "price_sources": ["market.tick"], "on_live": "take",
        });
        let config = harvester::config::Config {
            policy: harvester::codec::policy::from_json(&policy.to_string()).expect("the policy is valid"),
            ..support::config(None)
        };
        let mut lab = Lab::new(&config);
        let (mut ms, mut order, mut level) = (1_770_163_200_000_u64, 100, 1000_u32);
        // The hedge book and the one-way book: first LONG, then SHORT.
        let books = [("h/SOLUSDT:LONG", "l/SOLUSDT"), ("h/SOLUSDT:SHORT", "s/SOLUSDT")];
        for (what, is_short, n) in ops {
            ms += 1_000 * u64::from(n % 7 + 1);
            let (hedge_name, one_way_name) = books[usize::from(is_short)];
            let held = lab.book(one_way_name).map_or_else(Default::default, |book| book.qty().abs().get());
            let (opens, closes) = if is_short { ("SELL", "BUY") } else { ("BUY", "SELL") };
            let side_name = if is_short { "SHORT" } else { "LONG" };
            let account = if is_short { "s" } else { "l" };
            match what {
                0..5 => {
                    level = (level + n).saturating_sub(20).max(500);
                    let id = format!("{ms}-0");
                    let came = lab.entry(TICK, &id, &[("symbol", SYMBOL), ("price", &format!("{}.{}", level / 10, level % 10))]);
                    // By account: `h` LONG, `h` SHORT, `l`, `s`.
                    let decided = payloads(&came);
                    let of = |account: &str| -> Vec<Value> {
                        let mine = decided.iter().filter(|payload| payload["account"] == account);
                        mine.map(|payload| alike(&Value::from(payload.clone()))).collect()
                    };
                    let one_way: Vec<Value> = [of("l"), of("s")].concat();
                    prop_assert_eq!(of("h"), one_way);
                }
                5 => {
                    let fields = [("symbol", SYMBOL), ("side", opens), ("atr_value", "4"), ("volatility_factor", "1"), ("entry_price", "100")];
                    lab.entry(INTENT, &format!("{ms}-0"), &fields);
                }
                6 | 7 => fill(&mut lab, [ms, order], opens, &n.to_string(), side_name, account),
                8 if !held.is_zero() => {
                    let part = (held / rust_decimal::Decimal::from(n % 3 + 1)).round_dp(3);
                    if !part.is_zero() {
                        fill(&mut lab, [ms, order], closes, &part.to_string(), side_name, account);
                    }
                }
                9 => {
                    let signed = if is_short { -held } else { held };
                    let amount = if held.is_zero() { "0".to_owned() } else { signed.normalize().to_string() };
                    let id = format!("{ms}-0");
                    let fields = [("symbol", SYMBOL), ("position_amt", &*amount), ("account", "h"), ("positionSide", side_name)];
                    lab.entry(SNAPSHOT, &id, &fields);
                    let id = format!("{ms}-1");
                    lab.entry(SNAPSHOT, &id, &[("symbol", SYMBOL), ("position_amt", &*amount), ("account", account)]);
                }
                _ => {}
            }
            order += 2;
            let shown = |name: &str| {
                let book = lab.book(name)?;
                let positions = book.book.positions();
                Some(positions.map(|position| alike(&serde_json::json!(view::PositionView::of(&lab.engine, book, position)))).collect::<Vec<_>>())
            };
            prop_assert_eq!(shown(hedge_name).unwrap_or_default(), shown(one_way_name).unwrap_or_default());
        }
    }
}

/// Number of accounts of the history in which most prices do not concern most books. [1]
const MANY: usize = 24;

fn name_of(account: usize) -> String {
    format!("account-{account}")
}

/// The result of an account, with the holds of its position over time.
#[derive(Debug, PartialEq)]
struct WithHolds {
    positions: Vec<Value>,
    decisions: Vec<(usize, Map<String, Value>)>,
    holds: Vec<HoldLog>,
}

/// Folds the lines that are meant for any of these accounts. Returns the result of each, and the count of each hold.
fn folded_with_holds(
    config: &harvester::config::Config,
    lines: &[(Option<usize>, String)],
    accounts: &[usize],
) -> (Vec<WithHolds>, BTreeMap<&'static str, u64>) {
    let mut lab = Lab::new(config);
    let mut decisions = Vec::new();
    for (at, (account, line)) in lines.iter().enumerate() {
        if account.is_none_or(|account| accounts.contains(&account)) {
            decisions.extend(payloads(&lab.feed(line)).into_iter().map(|payload| (at, payload)));
        }
    }
    let positions: Vec<Value> = view::positions(&lab.engine, true).iter().map(|position| json!(position)).collect();
    let of = |account: &usize| {
        let name = name_of(*account);
        let is_of = |document: Option<&Value>| document.and_then(Value::as_str) == Some(&name);
        let book = lab.book(&format!("{name}/{SYMBOL}"));
        WithHolds {
            positions: positions.iter().filter(|position| is_of(position.get("account"))).cloned().collect(),
            decisions: decisions.iter().filter(|(_, payload)| is_of(payload.get("account"))).cloned().collect(),
            holds: book.into_iter().flat_map(|book| book.book.positions()).map(|of| of.holds.clone()).collect(),
        }
    };
    let holds = lab.engine.counters.holds().map(|(hold, times)| (hold.name(), times));
    (accounts.iter().map(of).collect(), holds.collect())
}

/// Returns a history of many books of one symbol: each operation is its kind, an account and a number.
fn lines_of_many(ops: &[(u8, usize, u32)]) -> Vec<(Option<usize>, String)> {
    let (mut ms, mut level, mut lines) = (1_770_163_200_000_u64, 10_000_i64, Vec::new());
    let mut held = [0_i64; MANY];
    for at in [0, 4_000] {
        lines.push((None, entry_line(TICK, &format!("{}-0", ms + at), &[("symbol", SYMBOL), ("price", "100")])));
    }
    let intent = [("symbol", SYMBOL), ("side", "BUY"), ("atr_value", "1"), ("volatility_factor", "1")];
    lines.push((None, entry_line(INTENT, &format!("{}-0", ms + 4_001), &intent)));
    ms += 5_000;
    for &(what, account, n) in ops {
        ms += 100 * u64::from(n);
        let (id, name, order) = (format!("{ms}-0"), name_of(account), format!("{ms}"));
        let of_account = ("account", &*name);
        let fill = |side: &'static str, qty: i64, price: i64| {
            let (qty, price) = (qty.to_string(), format!("{}.{:02}", price / 100, price % 100));
            let fields = [
                ("symbol", SYMBOL),
                of_account,
                ("side", side),
                ("executedQty", &*qty),
                ("avgPrice", &*price),
                ("orderId", &*order),
                ("order_status", "FILLED"),
            ];
            (Some(account), entry_line(RESULT, &id, &fields))
        };
        match what {
            0..7 => {
                level = (level + i64::from(n) - 30).clamp(9_800, 10_250);
                // Numbers of decimal places differ, and so do the bands.
                let price = match n % 4 {
                    0 => format!("{}.{:02}", level / 100, level % 100),
                    1 => format!("{}.{:02}00", level / 100, level % 100),
                    2 => format!("{}", level / 100),
                    _ => format!("{}.{:02}37", level / 100, level % 100),
                };
                lines.push((None, entry_line(TICK, &id, &[("symbol", SYMBOL), ("price", &price)])));
            }
            7 | 8 => {
                held[account] += i64::from(n);
                lines.push(fill("BUY", i64::from(n), level - i64::from(n % 40)));
            }
            9 if held[account] > 0 => {
                let qty = if n % 2 == 0 { held[account] } else { 1 };
                held[account] -= qty;
                lines.push(fill("SELL", qty, level));
            }
            10 => {
                let amount = held[account].to_string();
                let fields = [("symbol", SYMBOL), of_account, ("position_amt", &*amount)];
                lines.push((Some(account), entry_line(SNAPSHOT, &id, &fields)));
            }
            11 => {
                let kill = json!({"account": name, "kill": n % 2 == 0, "reason": "why"}).to_string();
                let fields = [("event_type", "kill.changed"), ("payload", &*kill)];
                lines.push((Some(account), entry_line(CONTROL, &id, &fields)));
            }
            12 => lines.push((Some(account), entry_line(INTENT, &id, &[&intent[..], &[of_account]].concat()))),
            // Prices and confirmations become too old.
            13 => ms += 100_000,
            _ => {}
        }
    }
    let last = format!("{}-0", ms + 1);
    lines.push((None, entry_line(TICK, &last, &[("symbol", "NILUSDT"), ("price", "1")])));
    lines
}

proptest! {
    #![proptest_config(cases(48))]

    /// Of many books of one symbol, most are not evaluated at most prices. They still give the same result as each
    /// alone: the same positions and decisions, the same holds since the same entries, and the same number of
    /// evaluations in all.
    #[test]
    fn many_books_of_a_symbol_give_the_results_of_each_alone(
        ops in prop::collection::vec((0u8..14, 0usize..MANY, 1u32..60), 40..400),
        is_live in any::<bool>(),
    ) {
        let policy = json!({
            "min_r": "0.2", "cost_bps": "0", "require_instrument": false, "max_actions_per_min": 2,
            "ladder": "0.3:0.2,0.6:0.3,1:0.4", "max_position_age_ms": 30_000, "max_price_age_ms": 30_000,
            "live_entry_sources": ["fill"], "live_risk_sources": ["plan", "intent", "intent_nearest"],
            "mode": if is_live { "live" } else { "shadow" }, "atr_unit": {"default": "absolute"},
            "price_sources": ["market.tick"], "on_live": "take",
        });
        let config = harvester::config::Config {
            policy: harvester::codec::policy::from_json(&policy.to_string()).expect("the policy is valid"),
            ..support::config(None)
        };
        let lines = lines_of_many(&ops);
        let all: Vec<usize> = (0..MANY).collect();
        let (together, holds) = folded_with_holds(&config, &lines, &all);
        let mut summed: BTreeMap<&str, u64> = BTreeMap::new();
        for (account, among_others) in all.iter().zip(together) {
            let (mut alone, holds) = folded_with_holds(&config, &lines, &[*account]);
            prop_assert_eq!(Some(among_others), alone.pop());
            holds.into_iter().for_each(|(hold, times)| *summed.entry(hold).or_default() += times);
        }
        prop_assert_eq!(holds, summed);
    }
}

/// Feeds the same fill to the hedge book and to the one-way book.
fn fill(lab: &mut Lab, [ms, order]: [u64; 2], side: &str, qty: &str, position_side: &str, account: &str) {
    let price = "100";
    for (seq, extra) in [[("account", "h"), ("positionSide", position_side)], [("account", account), ("note", "")]]
        .into_iter()
        .enumerate()
    {
        let order_id = order.to_string();
        let fields = [
            ("symbol", SYMBOL),
            ("side", side),
            ("executedQty", qty),
            ("avgPrice", price),
            ("orderId", &*order_id),
            ("order_status", "FILLED"),
            extra[0],
            extra[1],
        ];
        lab.entry(RESULT, &format!("{ms}-{seq}"), &fields);
    }
}

/// Returns a decision or a position without the fields that name the book and the entries.
fn alike(document: &Value) -> Value {
    let mut document = document.clone();
    let fields = document.as_object_mut().expect("an object");
    let names = ["account", "position_side", "position_id", "plan_id", "decision_id", "opened", "closed", "evidence"];
    names.iter().for_each(|name| _ = fields.remove(*name));
    strip(&mut document);
    document
}

/// Removes ids of entries and decisions at any depth.
fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !["entry", "decision_id", "seq"].contains(&name.as_str()));
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}
