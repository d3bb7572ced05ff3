//! Takeover of a backlog, at the level of the rules: an instance that continues from recorded decisions makes every
//! later one, once.

use crate::support;
use crate::support::histories::{CONTROL, DECISION, History, INTENT, RESULT, Style, TICK, What, play, scripts};
use crate::support::lab::{Lab, entry_line};
use harvester::codec::checksum::state_checksum_hex;
use harvester::codec::seal;
use harvester::codec::signing::SigningKey;
use harvester::codec::state;
use harvester::config::Config;
use harvester::domain::book::counters::Count;
use harvester::domain::engine::Engine;
use harvester::domain::event::Entry;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config as ProptestConfig, RngSeed};
use serde_json::{Map, Value, json};
use std::path::Path;

fn cases(unless_set: u32) -> ProptestConfig {
    let set = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { set.cases } else { unless_set };
    ProptestConfig { cases, rng_seed: RngSeed::Fixed(20_261_129), failure_persistence: None, ..set }
}

/// Returns decisions as history lines, all written after the last entry: the decisions of a backlog have ids of now.
fn written_now(decisions: &[String], after_ms: u64) -> Vec<String> {
    let moved = |(place, line): (usize, &String)| {
        let mut line: Value = serde_json::from_str(line).expect("a history line");
        line["id"] = json!(format!("{}-{}", after_ms + 5_000, place));
        line.to_string()
    };
    decisions.iter().enumerate().map(moved).collect()
}

/// A fold of a history, and the decisions that it made, as history lines.
struct Folding {
    lab: Lab,
    made: Vec<String>,
}

impl Folding {
    fn new(config: &Config) -> Self {
        Self { lab: Lab::new(config), made: Vec::new() }
    }

    fn fold(&mut self, line: &str) {
        let entry: Entry = self.lab.decode(line);
        let id = entry.id;
        if let Some(sealed) = self.lab.step(entry).sealed {
            let fields: Map<String, Value> =
                sealed.texts().into_iter().map(|(name, value)| (name, value.into())).collect();
            let line = json!({"stream": DECISION, "id": format!("{}-{}", id.ms, sealed.seq), "fields": fields});
            self.made.push(line.to_string());
        }
    }
}

/// Folds the history in one instance from its first entry to its last.
fn undisturbed(history: &History) -> Folding {
    let mut folding = Folding::new(&history.config);
    history.lines().for_each(|line| folding.fold(line));
    folding
}

/// Returns a decision with a changed payload and its correct hash: a decision with a wrong hash is not preloaded.
fn resealed(line: &str) -> String {
    let mut line: Value = serde_json::from_str(line).expect("a history line");
    let text = |name: &str| line["fields"][name].as_str().expect("a decision has it");
    let hash = seal::chained(text("prev"), text("payload"));
    line["fields"]["hash"] = hash.into();
    line.to_string()
}

fn sealed_as(line: &str) -> (Value, Value, Value) {
    let line: Value = serde_json::from_str(line).expect("a history line");
    (line["fields"]["seq"].clone(), line["fields"]["hash"].clone(), line["fields"]["payload"].clone())
}

proptest! {
    #![proptest_config(cases(96))]

    /// An empty instance takes over when so many decisions are written, and is started again later, when more of them
    /// are: it makes all others, in one chain, and its state is that of an undisturbed instance.
    #[test]
    fn an_instance_that_takes_over_makes_every_decision_that_is_not_written(
        mut script in scripts(300),
        known in any::<Index>(),
        again in any::<Index>(),
        place in any::<Index>(),
    ) {
        // After a week the position of a recorded decision is forgotten, and the hourly cleanup is counted from a
        // start.
        script.ops.retain(|op| op.what != What::Skip);
        let history = play(&script, Style { no_weeks: true, no_skips: true, ..Style::default() });
        let wanted = undisturbed(&history);
        let last_ms = history.entries.last().map_or(0, |entry| entry.id().ms);
        let written = written_now(&wanted.made, last_ms);
        let known = known.index(written.len() + 1);
        let again = known + again.index(written.len() + 1 - known);
        let place = place.index(history.entries.len() + 1);

        let mut taking = Folding::new(&history.config);
        taking.lab.preload(&written[..known]);
        for (at, line) in history.lines().enumerate() {
            if at == place {
                taking.lab.preload(&written[..again]);
            }
            taking.fold(line);
        }
        let ours: Vec<_> = taking.made.iter().map(|line| sealed_as(line)).collect();
        let mut all: Vec<_> = wanted.made[..known].iter().map(|line| sealed_as(line)).collect();
        // Decisions that were written before the second start are ours if this instance had made them before.
        let made_first = wanted.made.iter().map(|line| sealed_as(line)).skip(known);
        all.extend(made_first.filter(|decision| ours.contains(decision)));
        let missing: Vec<_> = wanted.made.iter().map(|line| sealed_as(line)).filter(|d| !all.contains(d)).collect();
        prop_assert!(missing.iter().all(|d| wanted.made[known..again].iter().map(|line| sealed_as(line)).any(|w| w == *d)), "{missing:?}");
        prop_assert_eq!(ours.len() + known + missing.len(), wanted.made.len(), "none twice, and no other");
        prop_assert_eq!(&taking.lab.engine.globals().chain, &wanted.lab.engine.globals().chain);
        for mine in taking.lab.engine.books() {
            // One instance can learn of a symbol earlier than the other.
            let Some(theirs) = wanted.lab.book(&mine.name) else { continue };
            prop_assert_eq!((mine.symbol.mark, mine.symbol.held_price), (theirs.symbol.mark, theirs.symbol.held_price));
            prop_assert_eq!(&mine.hot, &theirs.hot);
            prop_assert_eq!(&mine.closed, &theirs.closed);
        }
        // Their own entries come last, and change nothing.
        let state = |lab: &Lab| -> Vec<_> {
            lab.engine.books().map(|book| (book.symbol.clone(), book.book.clone())).collect()
        };
        let before = state(&taking.lab);
        written.iter().for_each(|line| taking.fold(line));
        prop_assert!(state(&taking.lab) == before);
        prop_assert_eq!(taking.made.len(), ours.len());
    }
}

/// Stream, id and fields.
type Flat = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const OPENED: [Flat; 2] = [
    (
        INTENT,
        "1770163200000-0",
        &[("symbol", "ADAUSDT"), ("action", "BUY"), ("atr_value", "0.01"), ("volatility_factor", "1")],
    ),
    (
        RESULT,
        "1770163201000-0",
        &[
            ("symbol", "ADAUSDT"),
            ("side", "BUY"),
            ("executedQty", "100"),
            ("avgPrice", "1"),
            ("orderId", "1"),
            ("status", "FILLED"),
        ],
    ),
];

fn tick(ms: u64, price: &str) -> String {
    entry_line(TICK, &format!("{ms}-0"), &[("symbol", "ADAUSDT"), ("price", price)])
}

fn opened() -> Vec<String> {
    OPENED.iter().map(|(stream, id, fields)| entry_line(stream, id, fields)).collect()
}

/// LONG 100 @ 1, risk 1, cost 0.1: 1.007 is 0.6 R (rung 0.5), 1.012 is 1.1 R (rung 1).
fn decided_at_first_rung() -> (Config, Vec<String>) {
    let config = support::config(None);
    let mut folding = Folding::new(&config);
    opened().iter().for_each(|line| folding.fold(line));
    folding.fold(&tick(1_770_163_203_000, "1.007"));
    assert_eq!(folding.made.len(), 1, "rung 0.5");
    (config, folding.made)
}

/// When the next position of the symbol opens: nine days later. [ms since 1970]
const AGAIN_MS: u64 = 1_770_163_210_000 + 9 * 86_400_000;

/// The position is closed, and the next one opens when it is forgotten.
fn forgotten_and_opened_again() -> [String; 3] {
    let order = |ms: u64, side: &str, id: &str| {
        let fields =
            [("symbol", "ADAUSDT"), ("side", side), ("executedQty", "100"), ("avgPrice", "1"), ("orderId", id)];
        entry_line(RESULT, &format!("{ms}-0"), &[&fields[..], &[("status", "FILLED")]].concat())
    };
    let intent = [("symbol", "ADAUSDT"), ("action", "BUY"), ("atr_value", "0.01"), ("volatility_factor", "1")];
    [
        order(1_770_163_210_000, "SELL", "2"),
        entry_line(INTENT, &format!("{AGAIN_MS}-0"), &intent),
        order(AGAIN_MS + 1_000, "BUY", "3"),
    ]
}

fn rungs(folding: &Folding) -> Vec<Value> {
    let of = |line: &String| -> Value {
        let line: Value = serde_json::from_str(line).unwrap();
        let payload: Value = serde_json::from_str(line["fields"]["payload"].as_str().unwrap()).unwrap();
        payload["rungs"].clone()
    };
    folding.made.iter().map(of).collect()
}

/// The price that caused a decision was trimmed: the rung is taken at the time of that price, not at the decision's
/// own entry, so that the next price does not sell it a second time.
#[test]
fn a_decision_whose_cause_was_trimmed_takes_its_rung_at_the_time_of_the_cause() {
    let (config, made) = decided_at_first_rung();
    let written = written_now(&made, 1_770_163_300_000);
    let mut folding = Folding::new(&config);
    folding.lab.preload(&written);
    opened().iter().for_each(|line| folding.fold(line));
    folding.fold(&tick(1_770_163_209_000, "1.012"));
    assert_eq!(rungs(&folding), [json!(["1"])], "rung 0.5 was sold before");
    written.iter().for_each(|line| folding.fold(line));
    assert_eq!(folding.lab.engine.globals().chain.seq, 2);
    assert_eq!(folding.made.len(), 1);
}

/// The same if the stream of the cause is not read any more.
#[test]
fn a_decision_whose_cause_stream_is_not_read_takes_its_rung_at_the_time_of_the_cause() {
    let (config, made) = decided_at_first_rung();
    let elsewhere: Vec<String> =
        made.iter().map(|line| resealed(&line.replace(&format!("{TICK}/"), "some:other.stream/"))).collect();
    let written = written_now(&elsewhere, 1_770_163_300_000);
    let mut folding = Folding::new(&config);
    folding.lab.preload(&written);
    opened().iter().for_each(|line| folding.fold(line));
    folding.fold(&tick(1_770_163_203_000, "1.007"));
    assert_eq!(rungs(&folding), [json!(null); 0], "in that millisecond our decision is only compared");
    folding.fold(&tick(1_770_163_204_000, "1.007"));
    assert_eq!(rungs(&folding), [json!(null); 0], "the rung is taken");
    folding.fold(&tick(1_770_163_209_000, "1.012"));
    assert_eq!(rungs(&folding), [json!(["1"])]);
}

/// The clock of the server went back after the price that caused a decision, so that the decision's entry comes
/// first. The decision still takes its rung at its cause, as if it had been preloaded, and the chain continues after
/// it.
#[test]
fn a_signed_decision_that_comes_before_its_cause_is_adopted_at_its_cause() {
    let (_, made) = decided_at_first_rung();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = with_key(folder.path());
    let early: Vec<String> = made.iter().map(|line| signed(&with_id(line, "1770163202000-0"))).collect();
    let last_ms = 1_770_163_209_000;
    let folded = |is_preloaded: bool| {
        let mut folding = Folding::new(&config);
        if is_preloaded {
            folding.lab.preload(&early);
        }
        opened().iter().chain(&early).for_each(|line| folding.fold(line));
        assert_eq!(folding.lab.engine.globals().chain.seq, 0, "its place in the chain is at its cause");
        folding.fold(&tick(1_770_163_203_000, "1.007"));
        assert_eq!(folding.lab.engine.globals().chain.seq, 1);
        assert_eq!(rungs(&folding), [json!(null); 0], "our decision is only compared");
        folding.fold(&tick(last_ms, "1.012"));
        folding
    };
    let (live, replayed) = (folded(false), folded(true));
    assert_eq!(rungs(&live), [json!(["1"])]);
    assert_eq!(live.made, replayed.made);
    assert_eq!(live.lab.engine.globals(), replayed.lab.engine.globals());
    assert_eq!(live.lab.symbol("ADAUSDT").unwrap().hot, replayed.lab.symbol("ADAUSDT").unwrap().hot);
    assert_eq!(live.lab.engine.counters.comparison.agree, 1);
}

/// Without a key, anybody can write a decision whose cause is still to come. It suppresses nothing up to that cause,
/// whether it is preloaded or comes in its place; there it is foreign.
#[test]
fn an_unsigned_decision_that_comes_before_its_cause_is_foreign() {
    let (config, made) = decided_at_first_rung();
    let far = made[0].replace("1770163203000-0", "9999999999999-0");
    for forged in [resealed(&far), made[0].clone()].map(|line| with_id(&line, "1770163202000-0")) {
        for is_preloaded in [false, true] {
            let mut folding = Folding::new(&config);
            if is_preloaded {
                folding.lab.preload(std::slice::from_ref(&forged));
            }
            opened().iter().chain([&forged]).for_each(|line| folding.fold(line));
            assert_eq!(folding.lab.engine.counters.of(Count::DecisionForeign), 1);
            assert!(folding.lab.symbol("ADAUSDT").unwrap().hot.history_gap, "its symbol is held");
            let accepted = [("event_type", "gap.accepted"), ("payload", "{}")];
            folding.fold(&entry_line(CONTROL, "1770163202500-0", &accepted));
            folding.fold(&tick(1_770_163_203_000, "1.007"));
            folding.fold(&tick(1_770_163_209_000, "1.012"));
            assert_eq!(rungs(&folding), [json!(["0.5"]), json!(["1"])], "our decisions take effect");
            assert_eq!(folding.lab.engine.globals().chain.seq, 2);
        }
    }
}

/// If a clock went back and there is no key, the instance that made a decision recognises it when its entry comes.
#[test]
fn a_decision_of_ours_is_known_although_its_entry_comes_before_its_cause() {
    let (config, made) = decided_at_first_rung();
    let mut folding = Folding::new(&config);
    opened().iter().for_each(|line| folding.fold(line));
    folding.fold(&tick(1_770_163_203_000, "1.007"));
    folding.fold(&with_id(&made[0], "1770163202000-0"));
    assert_eq!(folding.lab.engine.counters.of(Count::DecisionForeign), 0);
    assert!(!folding.lab.symbol("ADAUSDT").unwrap().hot.history_gap);
}

const KEY: &str = "a key that signs decisions";

fn with_key(folder: &Path) -> Config {
    let (key, file) = (folder.join("key"), folder.join("config.toml"));
    std::fs::write(&key, KEY).expect("the key is written");
    std::fs::write(&file, format!("[emit]\nsigning_key_file = {key:?}\n")).expect("the configuration is written");
    support::config(Some(&file))
}

fn signed(line: &str) -> String {
    let mut line: Value = serde_json::from_str(line).expect("a history line");
    let hash = line["fields"]["hash"].as_str().expect("a decision has a hash");
    line["fields"]["signature"] = SigningKey::new(KEY.as_bytes()).expect("a key").sign(hash).into();
    line.to_string()
}

fn with_id(line: &str, id: &str) -> String {
    let mut line: Value = serde_json::from_str(line).expect("a history line");
    line["id"] = id.into();
    line.to_string()
}

/// An instance that folded a backlog by itself reads the entry of a decision of a position that was closed and
/// forgotten since: the decision does not belong to the position that is open now.
#[test]
fn a_decision_of_a_forgotten_position_takes_nothing_of_the_next_one() {
    let (config, made) = decided_at_first_rung();
    let mut folding = Folding::new(&config);
    opened().iter().for_each(|line| folding.fold(line));
    folding.fold(&tick(1_770_163_203_000, "1.007"));
    forgotten_and_opened_again().iter().for_each(|line| folding.fold(line));
    let before = folding.lab.symbol("ADAUSDT").unwrap().hot.clone();
    written_now(&made, AGAIN_MS).iter().for_each(|line| folding.fold(line));
    let after = folding.lab.symbol("ADAUSDT").unwrap().hot.clone();
    assert_eq!(
        after.open.as_ref().unwrap().decisions,
        before.open.as_ref().unwrap().decisions,
        "none belongs to this position"
    );
    folding.fold(&tick(AGAIN_MS + 20_000, "1.007"));
    assert_eq!(rungs(&folding), [json!(["0.5"]), json!(["0.5"])], "its own rung is sold");
}

struct Kept(Vec<state::StoredRow>);

impl state::Rows for Kept {
    type Error = state::BadRow;

    fn scan(&self, prefix: &[u8]) -> Result<Vec<state::StoredRow>, state::BadRow> {
        let mut rows: Vec<_> = self.0.iter().filter(|(key, _)| key.starts_with(prefix)).cloned().collect();
        rows.sort();
        Ok(rows)
    }
}

/// The instance is killed after a checkpoint, and starts again from its store.
fn restarted(folding: Folding, config: &Config) -> Folding {
    let rows = Kept(state::all_rows(&folding.lab.engine));
    let mut engine = Engine::new(config.streams.clone(), config.policy.clone());
    state::load(&rows, &config.streams, &mut engine).expect("the rows read");
    Folding { lab: Lab::new(config).going_on(engine), made: folding.made }
}

/// A standby folds a backlog of more than a week, is killed anywhere, starts again from its store, and leads. The decision of
/// the closed and forgotten position stands in the stream behind all that it has folded. Its state is that of a replay of its
/// own journal, and nothing is decided twice or missing.
#[test]
fn a_standby_that_starts_again_after_a_position_was_forgotten_comes_to_what_a_replay_comes_to() {
    let (config, made) = decided_at_first_rung();
    let written = written_now(&made, AGAIN_MS);
    let mut journal = opened();
    journal.push(tick(1_770_163_203_000, "1.007"));
    journal.extend(forgotten_and_opened_again());
    let before_entry = journal.len();
    journal.extend(written.iter().cloned());
    journal.push(tick(AGAIN_MS + 20_000, "1.007"));
    journal.push(tick(AGAIN_MS + 21_000, "1.012"));

    let mut replay = Folding::new(&config);
    replay.lab.preload(&written);
    journal.iter().for_each(|line| replay.fold(line));
    assert_eq!(rungs(&replay), [json!(["0.5"]), json!(["1"])], "those of the second position");
    // When old things are forgotten differs by an hour, and does not count.
    let state = |folding: &Folding| state_checksum_hex(&folding.lab.engine);
    // Before its entry is read, the decision is known ahead or not, as it was written before the start or after it.
    for place in 0..=journal.len() {
        for is_preloaded in [true, false] {
            let mut standby = Folding::new(&config);
            for (at, line) in journal.iter().enumerate() {
                if at == place {
                    standby = restarted(standby, &config);
                    if is_preloaded && at <= before_entry {
                        standby.lab.preload(&written);
                    }
                }
                standby.fold(line);
            }
            let what = format!("restarted before entry {place}, preloaded: {is_preloaded}");
            // One that knew the decision before its cause was folded has not made it; the others have, and their entry is known.
            let cause = 2;
            let first = if is_preloaded && place <= cause { vec![] } else { vec![json!(["0.5"])] };
            assert_eq!(rungs(&standby), [first, rungs(&replay)].concat(), "{what}");
            assert_eq!(state(&standby), state(&replay), "{what}");
            let hot = |folding: &Folding| folding.lab.symbol("ADAUSDT").map(|book| book.hot.clone());
            assert_eq!(hot(&standby), hot(&replay), "{what}");
            assert_eq!(standby.lab.engine.globals(), replay.lab.engine.globals(), "{what}");
            assert_eq!(standby.lab.engine.counters.of(Count::DecisionForeign), 0, "{what}");
        }
    }
}

/// The same where the instance has not made the decision itself, because the entry that caused it is lost: its chain is continued
/// by the entry, and the next position keeps its rung.
#[test]
fn a_decision_whose_cause_is_lost_takes_nothing_of_a_position_that_opened_after_it() {
    let (config, made) = decided_at_first_rung();
    let mut folding = Folding::new(&config);
    opened().iter().for_each(|line| folding.fold(line));
    // The price before it was lost.
    folding.fold(&tick(1_770_163_204_000, "1.001"));
    forgotten_and_opened_again().iter().for_each(|line| folding.fold(line));
    written_now(&made, AGAIN_MS).iter().for_each(|line| folding.fold(line));
    assert_eq!(folding.lab.engine.globals().chain.seq, 1, "it is the next one of the chain");
    assert_eq!(folding.lab.symbol("ADAUSDT").unwrap().hot.open.as_ref().unwrap().decisions, [], "and not of this one");
    folding.fold(&tick(AGAIN_MS + 20_000, "1.007"));
    assert_eq!(rungs(&folding), [json!(["0.5"])]);
    assert_eq!(folding.lab.engine.globals().chain.seq, 2);
}
