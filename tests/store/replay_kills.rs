//! A replay that is killed with SIGKILL again and again gives the same result as one uninterrupted run.
//!
//! `HARVESTER_KILLS` sets the number of kills (default 20).

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::support::binary::{harvester, name, run};
use crate::support::histories::{INTENT, OBSERVATION, RESULT, SNAPSHOT, TICK};
use harvester::codec::state;
use harvester::drive::projection;
use serde_json::Value;

const ENTRIES: u64 = 200_000;
const SYMBOLS: u64 = 24;
const BEGIN_MS: u64 = 1_770_163_200_000;

#[test]
fn a_replay_killed_twenty_times_gives_the_result_of_one_run() {
    let kills: u64 = std::env::var("HARVESTER_KILLS").map_or(20, |n| n.parse().expect("HARVESTER_KILLS is a number"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let history = folder.path().join("history.jsonl");
    fs::write(&history, text()).expect("the history is written");

    let whole = folder.path().join("whole");
    let began = Instant::now();
    let mut once = replay(&history, &whole);
    assert!(once.wait().expect("the replay ends").success());
    let takes = began.elapsed();
    let wanted = Outcome::of(&whole);
    assert!(wanted.decisions.len() > 100, "only {} decisions", wanted.decisions.len());
    assert!(wanted.quarantined.len() > 100, "only {} entries in quarantine", wanted.quarantined.len());

    let mut random = Random(20_260_204);
    let (mut killed, mut stores, mut midway) = (0, 0, 0);
    let mut store = folder.path().join("killed-0");
    while killed < kills {
        let mut child = replay(&history, &store);
        let delay = takes.mul_f64(0.02 + 0.7 * random.below(1_000) as f64 / 1_000.0);
        let ended = wait(&mut child, delay);
        if ended {
            // The replay had finished before the kill: its result is compared, and the next store begins.
            assert_eq!(Outcome::of(&store), wanted, "store {stores}");
            stores += 1;
            store = folder.path().join(format!("killed-{stores}"));
            continue;
        }
        child.kill().expect("SIGKILL is sent");
        child.wait().expect("the replay has ended");
        killed += 1;
        midway += u64::from(opens_midway(&store));
    }
    assert!(midway >= kills / 4, "of {killed} kills only {midway} left a store between begin and end");
    let mut last = replay(&history, &store);
    assert!(last.wait().expect("the replay ends").success());
    assert_eq!(Outcome::of(&store), wanted);
}

/// The result of a replay, from its store.
#[derive(Debug, PartialEq)]
struct Outcome {
    positions: Value,
    decisions: Vec<String>,
    quarantined: Vec<state::Quarantined>,
}

impl Outcome {
    fn of(store: &Path) -> Self {
        let positions = run(harvester().args(["positions", "--all", "--json", "--store", name(store)])).json();
        let (_, rows) = projection::read(store).expect("the store reads");
        Self {
            positions,
            decisions: state::decisions(&rows).expect("the decisions read"),
            quarantined: state::quarantined(&rows).expect("the quarantine reads"),
        }
    }
}

/// Opens what a kill has left. Returns true if it is neither nothing nor all.
fn opens_midway(store: &Path) -> bool {
    match projection::read(store) {
        Ok((engine, _)) => {
            let last_ms = engine.globals().last.ms;
            last_ms > BEGIN_MS && last_ms < at_ms(ENTRIES - 1)
        }
        Err(error) => {
            let error = error.to_string();
            let is_young = error.contains("there is no store") || error.contains("is empty");
            assert!(is_young, "killed, it does not open: {error}");
            false
        }
    }
}

fn replay(history: &Path, store: &Path) -> Child {
    let arguments = ["replay", name(history), "--store", name(store), "--json"];
    let mut command = harvester();
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("the program starts")
}

/// Waits for this long, or until the child has ended, and returns true in the second case.
fn wait(child: &mut Child, delay: Duration) -> bool {
    let until = Instant::now() + delay;
    while Instant::now() < until {
        if let Some(status) = child.try_wait().expect("the child can be asked") {
            assert!(status.success(), "the replay failed by itself: {status}");
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

// ---- a history ----------------------------------------------------------------------------------------------------

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn at_ms(entry: u64) -> u64 {
    BEGIN_MS + 61 * entry
}

/// Returns a history of positions that open, rise, are harvested and closed, with some hundred prices a second of all
/// symbols.
fn text() -> String {
    let mut random = Random(7);
    let mut text = String::with_capacity(ENTRIES as usize * 160);
    // Price of each symbol relative to its entry, in 1/10 000, and its open quantity.
    let mut level = vec![0i64; SYMBOLS as usize];
    let mut held = vec![0u64; SYMBOLS as usize];
    for i in 0..ENTRIES {
        let ms = at_ms(i);
        let symbol = random.below(SYMBOLS) as usize;
        let base = 1_000_000 + 10_000 * symbol as i64;
        let price = |level: i64| {
            let scaled = base * (10_000 + level) / 10_000;
            format!("{}.{:04}", scaled / 10_000, scaled % 10_000)
        };
        let mut line = |stream: &str, fields: &str| {
            let _ = writeln!(text, r#"{{"stream":"{stream}","id":"{ms}-0","fields":{{{fields}}}}}"#);
        };
        let fill = |side: &str, qty: u64, price: &str| {
            format!(
                r#""symbol":"S{symbol}USDT","side":"{side}","orderId":"{}","executedQty":"{qty}","avgPrice":"{price}","order_status":"FILLED""#,
                1_000 + i
            )
        };
        match random.below(200) {
            0 => {
                let payload = format!(
                    r#""payload":"{{\"symbol\":\"S{symbol}USDT\",\"side\":\"BUY\",\"atr_value\":0.5,\"volatility_factor\":1.2}}""#
                );
                line(INTENT, &payload);
            }
            1 if held[symbol] == 0 => {
                level[symbol] = 0;
                held[symbol] = 10 + random.below(90);
                line(RESULT, &fill("BUY", held[symbol], &price(0)));
            }
            2 if held[symbol] > 0 => {
                line(RESULT, &fill("SELL", held[symbol], &price(level[symbol])));
                held[symbol] = 0;
            }
            3 => line(RESULT, &format!(r#""symbol":"S{symbol}USDT","status":"SIDEWAYS","filled_qty":"0""#)),
            4 => line(SNAPSHOT, &format!(r#""symbol":"S{symbol}USDT","position_amt":"{}""#, held[symbol])),
            5 => {
                let payload = format!(
                    r#""event_type":"exchange.position","payload":"{{\"symbol\":\"S{symbol}USDT\",\"positionAmt\":\"{}\"}}""#,
                    held[symbol]
                );
                line(OBSERVATION, &payload);
            }
            _ => {
                level[symbol] = (level[symbol] + random.below(13) as i64 - 5).clamp(-300, 600);
                let payload = format!(
                    r#""event_type":"market.tick","payload":"{{\"symbol\": \"S{symbol}USDT\", \"price\": {}}}""#,
                    price(level[symbol])
                );
                line(TICK, &payload);
            }
        }
    }
    text
}
