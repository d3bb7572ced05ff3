//! A history that is folded in the pass that first reads it gives the same result as one that was read before.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::histories::{CONTROL, DECISION, TICK};
use crate::support::{cases, config, four_at_once};
use harvester::cli::replay::{DecisionSink, Replayed, Request, replay};
use harvester::codec::checksum::state_checksum_hex;
use harvester::config::Config;
use harvester::domain::event::streams::Streams;
use harvester::drive::projection;
use harvester::shell::history::{History, HistoryError, Input, Options};

/// A decision sink that cannot take decisions back: the history is then read once before it is folded.
#[derive(Default)]
struct Final(Vec<String>);

impl DecisionSink for Final {
    fn take(&mut self, line: &str) -> anyhow::Result<()> {
        self.0.take(line)
    }

    fn may_start_over(&self) -> bool {
        false
    }

    fn start_over(&mut self) -> anyhow::Result<()> {
        assert!(self.0.is_empty(), "taken back");
        Ok(())
    }
}

/// The result of a replay: its summary without the time it took, its decisions, the state, and its notices.
type Came = (String, Vec<String>, String, Vec<String>);

fn came(replayed: anyhow::Result<Replayed>, decisions: Vec<String>) -> Result<Came, String> {
    let Replayed { engine, mut summary, notices } = replayed.map_err(|error| format!("{error:#}"))?;
    summary.seconds = 0.0;
    let summary = serde_json::to_string_pretty(&summary).unwrap();
    Ok((summary, decisions, state_checksum_hex(&engine), notices))
}

fn in_two_passes(request: &Request, config: &Config) -> Result<Came, String> {
    let mut decisions = Final::default();
    let replayed = replay(request, config, &mut decisions);
    came(replayed, decisions.0)
}

fn in_one_pass(request: &Request, config: &Config) -> Result<Came, String> {
    let mut decisions = Vec::new();
    let replayed = replay(request, config, &mut decisions);
    came(replayed, decisions)
}

/// Replays without a store, then with one, and compares with a reading in two passes.
fn assert_same(histories: &[PathBuf], config: &Config) {
    let folder = tempfile::tempdir().unwrap();
    for skip_bad_lines in [false, true] {
        let request = Request { histories: histories.to_vec(), skip_bad_lines, ..Request::default() };
        let wanted = in_two_passes(&request, config);
        assert_eq!(in_one_pass(&request, config), wanted, "{histories:?}");
        if skip_bad_lines {
            continue;
        }
        let dir = folder.path().join("store");
        let stored = Request { store: Some(dir.clone()), ..request };
        assert_eq!(in_one_pass(&stored, config), wanted, "{histories:?} with a store");
        if let Ok((_, _, state, _)) = &wanted {
            let (engine, _) = projection::read(&dir).unwrap();
            assert_eq!(state_checksum_hex(&engine), *state, "{histories:?} as it is stored");
        }
    }
}

/// Returns true if the history can be read to its end in one pass.
fn is_plain(histories: &[PathBuf]) -> bool {
    let inputs: Vec<Input> = histories.iter().cloned().map(Input::from).collect();
    let opened = History::in_one_pass(&inputs, &[], &Streams::default(), Options::default()).unwrap();
    let Some(mut history) = opened else { return false };
    loop {
        match history.next_line() {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(HistoryError::NotPlain { .. }) => return false,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn every_case_gives_the_same_in_one_pass_and_in_two() {
    let plain = four_at_once(cases(), |case| {
        let histories = [case.join("events.jsonl")];
        assert_same(&histories, &config(Some(&case.join("policy.toml"))));
        usize::from(is_plain(&histories))
    });
    let plain: usize = plain.into_iter().sum();
    assert!(plain > 20, "{plain} histories are plain");
}

/// Entries are later than this. [ms since 1970]
const BEGIN_MS: u64 = 1_770_163_200_000;

fn line(stream: &str, ms: u64, fields: &str) -> String {
    let ms = BEGIN_MS + ms;
    format!("{{\"stream\":\"{stream}\",\"id\":\"{ms}-0\",\"fields\":{{{fields}}}}}\n")
}

/// Returns a position that opens and rises once more than half of the prices are over: some decisions among prices.
/// `count` is the number of prices. [1]
fn rising(count: u64) -> String {
    let symbol = r#""symbol":"ADAUSDT","side":"BUY""#;
    let mut text =
        line("quantum:stream:trade.intent", 1_000, &format!(r#"{symbol},"atr_value":"0.01","volatility_factor":"1""#));
    let fill = format!(r#"{symbol},"orderId":"7","status":"FILLED","executedQty":"100","avgPrice":"1""#);
    text += &line("quantum:stream:apply.result", 2_000, &fill);
    for i in 0..count {
        let price = format!(r#""symbol":"ADAUSDT","price":"{}""#, 1.0 + 0.1 * (i as f64 / count as f64 - 0.6).max(0.0));
        text += &line(TICK, 3_000 + i, &price);
    }
    text
}

fn absolute() -> Config {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("harvester.toml");
    fs::write(&path, "[policy]\natr_unit = { default = \"absolute\" }\n").unwrap();
    config(Some(&path))
}

fn decision(ms: u64) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("h.jsonl");
    fs::write(&path, rising(100)).unwrap();
    let request = Request { histories: vec![path], ..Request::default() };
    let (_, decisions, ..) = in_two_passes(&request, &absolute()).unwrap();
    let made = &decisions[0];
    let id = made.find(r#""id":""#).unwrap() + 6;
    let end = id + made[id..].find('"').unwrap();
    let ms = BEGIN_MS + ms;
    format!("{}{ms}-0{}\n", &made[..id], &made[end..])
}

/// Entries at the end of a history that change the meaning of what came before.
#[test]
fn a_history_that_needs_the_look_ahead_is_read_again() {
    let config = absolute();
    let folder = tempfile::tempdir().unwrap();
    let base = rising(500);
    let skipped =
        r#""event_type":"entry.skipped","stream":"quantum:stream:apply.result","entry":"2000-0","reason":"poison""#;
    let ends = [
        ("nothing", String::new(), true),
        ("a foreign stream", line("elsewhere", 9_000, r#""a":"b""#), true),
        ("a duplicate", line(TICK, 3_499, r#""symbol":"ADAUSDT","price":"7""#), true),
        ("a decision", decision(9_000), false),
        ("a control entry", line(CONTROL, 9_000, skipped), false),
        ("a line out of order", line(TICK, 2_500, r#""symbol":"ADAUSDT","price":"1.02""#), false),
        ("no entry", "hello\n".to_owned(), false),
        ("fields that do not read", line(TICK, 9_000, r#""symbol":7"#), true),
        ("half a line", "{\"stream\":".to_owned(), false),
    ];
    assert!(ends.iter().any(|(_, end, _)| end.contains(DECISION)));
    for (what, end, plain) in ends {
        let path = folder.path().join("h.jsonl");
        fs::write(&path, format!("{base}{end}")).unwrap();
        assert_eq!(is_plain(std::slice::from_ref(&path)), plain, "{what}");
        assert_same(std::slice::from_ref(&path), &config);
        let packed = folder.path().join("h.jsonl.zst");
        fs::write(&packed, zstd::encode_all(&fs::read(&path).unwrap()[..], 1).unwrap()).unwrap();
        assert_same(std::slice::from_ref(&packed), &config);
        let whole = fs::read(&packed).unwrap();
        fs::write(&packed, &whole[..whole.len() - 9]).unwrap();
        assert!(!is_plain(std::slice::from_ref(&packed)), "{what}, cut off");
        assert_same(&[packed], &config);
    }
}

/// Files that overlap, each of them in order, are merged while they are read.
#[test]
fn overlapping_files_are_merged_in_one_pass() {
    let config = absolute();
    let folder = tempfile::tempdir().unwrap();
    let mut parts = [String::new(), String::new(), String::new(), String::new(), String::new()];
    for (i, entry) in rising(500).lines().enumerate() {
        let part = &mut parts[i % 4];
        part.push_str(entry);
        part.push('\n');
    }
    let mut paths = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        paths.push(folder.path().join(format!("{i}.jsonl")));
        fs::write(&paths[i], part).unwrap();
    }
    assert!(is_plain(&paths[..4]), "four files are plain");
    assert!(!is_plain(&paths), "more are not kept open");
    assert_same(&paths[..4], &config);
    assert_same(&paths, &config);
    assert_same(&[folder.path().to_owned()], &config);
}

/// Fails at its second decision, like a replay that is cut off.
struct CutOff(usize);

impl DecisionSink for CutOff {
    fn take(&mut self, _: &str) -> anyhow::Result<()> {
        self.0 += 1;
        anyhow::ensure!(self.0 < 2, "cut off");
        Ok(())
    }

    fn may_start_over(&self) -> bool {
        true
    }

    fn start_over(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
}

fn continued(dir: &Path, history: &str, config: &Config) -> Came {
    let path = dir.with_file_name("h.jsonl");
    fs::write(&path, history).unwrap();
    in_one_pass(&Request { histories: vec![path], store: Some(dir.to_owned()), ..Request::default() }, config).unwrap()
}

/// A replay that was cut off has folded its store without knowledge of the later entries. The store remembers that.
#[test]
fn a_store_cut_off_half_way_is_continued_or_rebuilt() {
    let config = absolute();
    let base = rising(200_000);
    for (end, is_rebuilt) in [(String::new(), false), (decision(9_000_000), true)] {
        let folder = tempfile::tempdir().unwrap();
        let (path, dir) = (folder.path().join("h.jsonl"), folder.path().join("store"));
        fs::write(&path, &base).unwrap();
        let request = Request { histories: vec![path], store: Some(dir.clone()), ..Request::default() };
        let error = replay(&request, &config, &mut CutOff(0)).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("cut off"), "{error:#}");
        let last = projection::read(&dir).unwrap().0.globals().last;
        assert!(last.ms > BEGIN_MS + 3_000 && last.ms < BEGIN_MS + 202_000, "the store ends half way: {last}");

        let (_, _, state, notices) = continued(&dir, &format!("{base}{end}"), &config);
        let alone = Request { store: None, ..request };
        assert_eq!(state, in_two_passes(&alone, &config).unwrap().2, "the state is that of one replay");
        assert_eq!(notices.iter().any(|notice| notice.contains("was cut off")), is_rebuilt, "{notices:?}");
        // The replay has reached its end: nothing is left to remember.
        let (.., notices) = continued(&dir, &format!("{base}{end}{}", decision(9_500_000)), &config);
        assert_eq!(notices.iter().filter(|notice| notice.contains("was cut off")).count(), 0, "{notices:?}");
    }
}
