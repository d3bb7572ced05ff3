//! An account whose fills are known, and are reported late, in parts, twice, by results and by trades, beside
//! look-ups: the program has the quantity of the account, or states that it is in doubt. No quantity is counted twice
//! without a flag.

use std::collections::BTreeMap;

use crate::support;
use crate::support::histories::{OBSERVATION, RESULT, SNAPSHOT};
use crate::support::lab::{Lab, entry_line};
use rust_decimal::Decimal;
use serde_json::json;

const BEGIN_MS: u64 = 1_770_163_200_000;
const SYMBOL: &str = "SOLUSDT";

/// Random numbers from a seed (splitmix64).
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize]
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// One fill of the account.
#[derive(Clone, Copy)]
struct Traded {
    ms: u64,
    order: u64,
    buys: bool,
    qty: i64,
    price: i64,
    id: u64,
}

/// Reports, by the time at which they arrive.
#[derive(Default)]
struct Reports(BTreeMap<(u64, u64), Report>);

struct Report {
    stream: &'static str,
    fields: Vec<(String, String)>,
}

impl Reports {
    fn add(&mut self, ms: u64, stream: &'static str, fields: &[(&str, String)]) {
        let nth = self.0.len() as u64;
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        self.0.insert((ms, nth), Report { stream, fields });
    }

    fn observe(&mut self, ms: u64, event: &str, payload: &serde_json::Value) {
        self.add(ms, OBSERVATION, &[("event_type", event.to_owned()), ("payload", payload.to_string())]);
    }

    fn last_ms(&self) -> u64 {
        self.0.last_key_value().map_or(0, |((ms, _), _)| *ms)
    }
}

fn side(buys: bool) -> String {
    if buys { "BUY" } else { "SELL" }.to_owned()
}

/// Draws the fills of up to three orders, each with up to three trades.
fn fills(draw: &mut Draw) -> Vec<Traded> {
    let mut fills = Vec::new();
    let mut ms = 1_000;
    for order in 1..=1 + draw.below(3) {
        let buys = draw.percent(66);
        for _ in 0..=draw.below(3) {
            ms += draw.one_of(&[10, 500, 1_500, 3_000, 9_000, 25_000, 70_000]);
            let (qty, price) = (draw.one_of(&[1, 2, 4, 5, 10]), draw.one_of(&[99, 100, 101]));
            fills.push(Traded { ms, order, buys, qty, price, id: fills.len() as u64 + 1 });
        }
        ms += draw.one_of(&[100, 5_000, 30_000, 130_000]);
    }
    fills
}

fn held(fills: &[Traded], before_ms: u64) -> i64 {
    let signed =
        fills.iter().filter(|fill| fill.ms < before_ms).map(|fill| if fill.buys { fill.qty } else { -fill.qty });
    signed.sum()
}

fn report_results(draw: &mut Draw, reports: &mut Reports, order: &[Traded], late_ms: u64) {
    let (mut cumulative, mut cost) = (0, 0);
    for (nth, fill) in order.iter().enumerate() {
        cumulative += fill.qty;
        cost += fill.qty * fill.price;
        let is_last = nth + 1 == order.len();
        if !is_last && draw.percent(40) {
            continue;
        }
        let status = if is_last { "FILLED" } else { "PARTIALLY_FILLED" };
        let mut fields = vec![
            ("symbol", SYMBOL.to_owned()),
            ("order_id", fill.order.to_string()),
            ("side", side(fill.buys)),
            ("filled_qty", cumulative.to_string()),
            ("order_status", status.to_owned()),
            ("timestamp", (BEGIN_MS + fill.ms).to_string()),
        ];
        if draw.percent(70) {
            fields.push(("cumQuote", cost.to_string()));
        }
        let at_ms = fill.ms + late_ms + 1 + draw.below(200);
        for _ in 0..1 + draw.below(10) / 9 {
            reports.add(at_ms, RESULT, &fields);
        }
    }
}

fn report_trades(draw: &mut Draw, reports: &mut Reports, order: &[Traded], late_ms: u64) {
    let is_shuffled = draw.percent(30);
    let end_ms = order.last().map_or(0, |fill| fill.ms);
    for fill in order {
        let at_ms = if is_shuffled { end_ms + draw.below(50) } else { fill.ms } + late_ms + 1 + draw.below(200);
        let payload = json!({
            "symbol": SYMBOL, "orderId": fill.order.to_string(), "id": fill.id, "side": side(fill.buys),
            "qty": fill.qty.to_string(), "price": fill.price.to_string(), "time": BEGIN_MS + fill.ms,
        });
        for _ in 0..1 + draw.below(10) / 9 {
            reports.observe(at_ms, "exchange.trade", &payload);
        }
    }
}

fn report(draw: &mut Draw, fills: &[Traded]) -> Reports {
    const LATE_MS: [u64; 7] = [0, 0, 50, 3_000, 12_000, 40_000, 150_000];
    let mut reports = Reports::default();
    for order in fills.chunk_by(|a, b| a.order == b.order) {
        if draw.percent(30) {
            let named = [("symbol", SYMBOL.to_owned()), ("order_id", order[0].order.to_string())];
            let status = [("side", side(order[0].buys)), ("order_status", "NEW".to_owned())];
            reports.add(order[0].ms - 5, RESULT, &[named, status].concat());
        }
        let by = draw.below(3);
        if by != 0 {
            let late_ms = draw.one_of(&LATE_MS);
            report_results(draw, &mut reports, order, late_ms);
        }
        if by != 1 {
            let late_ms = draw.one_of(&LATE_MS);
            report_trades(draw, &mut reports, order, late_ms);
        }
    }
    let end_ms = reports.last_ms();
    let mut ms = draw.one_of(&[500, 3_000, 15_000]);
    while ms <= end_ms {
        let qty = held(fills, ms).to_string();
        if draw.percent(40) {
            reports.observe(
                ms,
                "exchange.position",
                &json!({"symbol": SYMBOL, "positionAmt": qty, "entryPrice": "100"}),
            );
        } else if draw.percent(40) {
            let price = ("entry_price", "100".to_owned());
            reports.add(ms, SNAPSHOT, &[("symbol", SYMBOL.to_owned()), ("position_amt", qty), price]);
        }
        ms += draw.one_of(&[1_000, 7_000, 20_500, 31_000, 61_000]);
    }
    reports
}

#[test]
fn a_quantity_that_a_look_up_has_shown_is_never_counted_twice_without_a_flag() {
    let config = support::config(None);
    let mut wrong = Vec::new();
    let mut doubted = 0;
    for seed in 0..SEEDS {
        let mut draw = Draw(seed);
        let fills = fills(&mut draw);
        let reports = report(&mut draw, &fills);
        let mut lab = Lab::new(&config);
        for ((ms, nth), Report { stream, fields }) in &reports.0 {
            let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (&**name, &**value)).collect();
            lab.feed(&entry_line(stream, &format!("{}-{nth}", BEGIN_MS + ms), &fields));
        }
        let symbol = lab.symbol(SYMBOL).expect("it was reported");
        let (program, account) = (symbol.qty().get(), Decimal::from(held(&fills, u64::MAX)));
        if program == account {
            continue;
        }
        doubted += 1;
        let is_flagged = symbol.hot.history_gap || symbol.hot.diverged || symbol.hot.disagreement.is_some();
        if !is_flagged {
            wrong.push(format!("seed {seed}: the program holds {program}, the account {account}"));
        }
    }
    assert!(doubted > 0, "no history caused a doubt");
    assert!(wrong.is_empty(), "{} of {SEEDS} histories:\n{}", wrong.len(), wrong.join("\n"));
}

const SEEDS: u64 = 2_000;
