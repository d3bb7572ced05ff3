//! The service killed at every step of the protocol and at any moment: after the last start every decision of an
//! uninterrupted replay stands in the stream exactly once, the chain is whole, and the state is equal. There are three
//! accounts: one without a name, `main`, and `hedged`, which is in hedge mode.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::support::binary::{harvester, name, run};
use crate::support::power::{Pages, Power};
use crate::support::redis::RedisServer;
use crate::support::service::{
    self, CONTROL, INTENT, PLAN, PRICE, Place, RESULT, decisions, entries, field_of_all, import, open_position,
    payloads, price,
};
use crate::support::{config, replayed, root};
use harvester::cli::replay::Request;
use harvester::domain::event::ids::EntryId;
use harvester::shell::journal::{Journal, Limits};
use serde_json::Value;

/// Kills at random moments. More of them: `HARVESTER_KILLS`.
const KILLS: u64 = 4;
/// Power cuts. More of them: `HARVESTER_POWER_CUTS`.
const POWER_CUTS: u64 = 4;
const READ: [&str; 6] = [INTENT, RESULT, PRICE, PLAN, CONTROL, service::DECISION];
/// A service that does not come to the end in so many starts gets nowhere.
const STARTS_MAX: u32 = 60;

fn number(name: &str, or: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(or)
}

/// An incident with prices that reach rungs, which three accounts had, and the outcome of a replay of it.
struct Recorded {
    folder: tempfile::TempDir,
    settings: String,
    wanted: Vec<String>,
    positions: Value,
}

impl Recorded {
    fn new(is_live: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let history = folder.path().join("night.jsonl");
        let recorded = std::fs::read_to_string(root().join("replay/nights/incident-2026-02-04/events.jsonl")).unwrap();
        // Small batches, so that there are many steps to be killed at.
        let mut settings = "[run]\nread_count = 50\ncheckpoint_entries = 40\nlease_ms = 1000\n".to_owned();
        if is_live {
            settings += "[policy]\nmode = \"live\"\nladder = \"0.5:0.25,1:0.25,1.5:0.25\"\n\
                atr_unit = { default = \"absolute\" }\nprice_sources = [\"market.tick\"]\non_live = \"take\"\n\
                require_instrument = false\nlive_risk_sources = [\"plan\", \"intent\", \"intent_nearest\"]\n\
                [emit]\nformat = \"apply_plan\"\nsource = \"harvester\"\nexecutors = [\"executor\"]\n\
                max_decision_age_ms = 3600000\n";
        }
        settings += "[accounts.main]\n[accounts.hedged]\n\
            [policy.accounts.hedged]\nladder = \"0.5:0.5,1:0.25\"\n";
        let night = brought_forward(&of_three_accounts(&recorded));
        std::fs::write(&history, adopted_before(&night, &settings) + &night).unwrap();
        let file = folder.path().join("wanted.toml");
        std::fs::write(&file, &settings).unwrap();
        let store = folder.path().join("wanted");
        let request = Request { histories: vec![history], store: Some(store.clone()), ..Request::default() };
        let (_, lines) = replayed(&request, &config(Some(&file)));
        let wanted = payloads(&lines);
        let of = |account: &str, side: &str| wanted.iter().any(|line| names_book(line, account, side));
        let books = [("", ""), ("main", ""), ("hedged", "LONG"), ("hedged", "SHORT")];
        let none: Vec<_> = books.iter().filter(|(account, side)| !of(account, side)).collect();
        assert!(none.is_empty(), "no decision of {none:?}: the test shows nothing");
        let positions = run(harvester().args(["positions", "--json", "--all", "--store", name(&store)])).json();
        Self { folder, settings, wanted, positions }
    }
}

/// The recorded entries in the streams of a server, and a service that has not read them yet.
struct Night<'a> {
    recorded: &'a Recorded,
    server: RedisServer,
    place: Place,
}

impl<'a> Night<'a> {
    fn of(recorded: &'a Recorded) -> Self {
        let server = RedisServer::start();
        import(&recorded.folder.path().join("night.jsonl"), &server);
        let mut place = Place::new(&server);
        place.settings.clone_from(&recorded.settings);
        Self { recorded, server, place }
    }

    /// Makes the group on all streams before a service does. One that begins to lead makes it where it has read to, and then
    /// the group does not show what is acknowledged.
    fn make_groups(&self) {
        for stream in READ {
            self.server.cli(&["XGROUP", "CREATE", stream, "harvester", "0", "MKSTREAM"]);
        }
    }

    /// Everything that has to hold once a service has come to the end.
    fn check(&self, is_live: bool, what: &str) {
        let all = decisions(&self.server);
        if !is_live {
            assert_eq!(all, self.recorded.wanted, "{what}");
            assert_eq!(self.place.positions(), self.recorded.positions, "{what}");
            assert_eq!(entries(&self.server, service::SUGGESTIONS).len(), all.len(), "{what}");
        } else {
            // Orders come back as plans, so that live goes on otherwise than a replay without them: what is certain is
            // that each decision has its order, once.
            let ids: Vec<String> = field_of_all(&self.server, service::DECISION, "decision_id");
            let mut orders: Vec<String> = field_of_all(&self.server, PLAN, "decision_id");
            orders.sort();
            let mut sorted = ids.clone();
            sorted.sort();
            sorted.dedup();
            assert_eq!(sorted.len(), ids.len(), "{what}: no decision twice");
            assert_eq!(orders, sorted, "{what}: an order for each decision, once");
            assert_eq!(all, self.recorded.wanted, "{what}");
        }
        let kinds = field_of_all(&self.server, CONTROL, "event_type");
        assert!(!kinds.contains(&"history.gap".to_owned()), "{what}: nothing was lost: {kinds:?}");
        assert!(!kinds.contains(&"entry.skipped".to_owned()), "{what}: no entry is to blame: {kinds:?}");
        for stream in [INTENT, RESULT, PRICE, PLAN, CONTROL] {
            let pending = self.server.cli(&["XPENDING", stream, "harvester"]);
            assert!(pending.starts_with('0'), "{what}: {stream} has pending entries: {pending}");
        }
        // What stands in the streams now, replayed, is what was folded.
        let dump = self.place.folder.path().join("dump.jsonl");
        let streams = config(None).streams;
        self.server.dump(&dump, streams.iter().map(|(_, stream)| stream.name.as_str()));
        for history in [dump, self.place.journal()] {
            self.is_replayed_from(&history, what);
        }
    }

    /// The journal has every entry that is acknowledged, and the cause of every decision that was written.
    fn check_disk(&self, what: &str) {
        let journal = Journal::open(&self.place.journal(), Limits { rotate_bytes: 1 << 30 });
        drop(journal.unwrap_or_else(|error| panic!("{what}: {error}")));
        let head = |line: &String| {
            let line: Value = serde_json::from_str(line).unwrap();
            format!("{}/{}", line["stream"].as_str().unwrap(), line["id"].as_str().unwrap())
        };
        let on_disk: BTreeSet<String> = self.place.journalled().iter().map(head).collect();
        for payload in decisions(&self.server) {
            let payload: Value = serde_json::from_str(&payload).unwrap();
            let cause = payload["cause"].as_str().unwrap();
            assert!(on_disk.contains(cause), "{what}: a decision was written, and its cause {cause} is lost");
        }
        for stream in READ {
            let asked = |words: &[&str]| -> Value {
                serde_json::from_str(&self.server.cli(&[&["--json"], words].concat())).unwrap_or_default()
            };
            let groups = asked(&["XINFO", "GROUPS", stream]);
            let Some(group) = groups.as_array().and_then(|groups| groups.first()) else { continue };
            let delivered: EntryId = group["last-delivered-id"].as_str().unwrap().parse().unwrap();
            let pending = asked(&["XPENDING", stream, "harvester", "-", "+", "100000"]);
            let pending: BTreeSet<&str> =
                pending.as_array().unwrap().iter().filter_map(|one| one[0].as_str()).collect();
            for (id, _) in entries(&self.server, stream) {
                let is_acknowledged = id.parse::<EntryId>().unwrap() <= delivered && !pending.contains(&*id);
                let is_lost = is_acknowledged && !on_disk.contains(&format!("{stream}/{id}"));
                assert!(!is_lost, "{what}: {stream}/{id} is acknowledged and lost");
            }
        }
    }

    fn is_replayed_from(&self, history: &Path, what: &str) {
        let store = self.place.folder.path().join(format!("replayed-{}", fastrand::u32(..)));
        let settings = self.place.folder.path().join("harvester.toml");
        let ran = run(harvester()
            .args(["replay", name(history), "--store", name(&store), "--json"])
            .args(["--config", name(&settings)]));
        assert_eq!(ran.code, Some(0), "{what}: {}", ran.log);
        let from_history = run(harvester().args(["positions", "--json", "--all", "--store", name(&store)])).json();
        assert_eq!(from_history, self.place.positions(), "{what}: {} reproduces the state", history.display());
    }
}

/// Returns the entries that adopt the configured policies, before the first of a history. No order is sent while one of them
/// is on its way.
fn adopted_before(history: &str, settings: &str) -> String {
    let server = RedisServer::start();
    let mut place = Place::new(&server);
    settings.clone_into(&mut place.settings);
    place.run_until_idle();
    let adopted = entries(&server, CONTROL);
    assert!(adopted.iter().all(|(_, fields)| fields.contains(&("event_type".to_owned(), "policy.adopted".to_owned()))));
    let first: Value = serde_json::from_str(history.lines().next().unwrap()).unwrap();
    let first: EntryId = first["id"].as_str().unwrap().parse().unwrap();
    let line = |(seq, (_, fields)): (usize, (String, Vec<(String, String)>))| {
        let fields: serde_json::Map<String, Value> =
            fields.into_iter().map(|(name, value)| (name, Value::from(value))).collect();
        serde_json::json!({"stream": CONTROL, "id": format!("{}-{seq}", first.ms - 1000), "fields": fields}).to_string()
            + "\n"
    };
    adopted.into_iter().enumerate().map(line).collect()
}

/// Returns true if a decision is of a book.
fn names_book(payload: &str, account: &str, side: &str) -> bool {
    let payload: Value = serde_json::from_str(payload).unwrap();
    let text = |name: &str| payload[name].as_str().unwrap_or_default().to_owned();
    text("account") == account && text("position_side") == side
}

/// The same night in three accounts: each has the plans and positions that one had. Intents and prices are for all.
fn of_three_accounts(history: &str) -> String {
    let mut text = String::new();
    for line in history.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        let (ms, seq) = entry["id"].as_str().unwrap().split_once('-').unwrap();
        let is_of_one = entry["stream"] == PLAN || entry["fields"]["event_type"] == "exchange.position";
        let accounts = ["", "main", "hedged"];
        for (at, account) in accounts.into_iter().enumerate().take(if is_of_one { accounts.len() } else { 1 }) {
            let mut entry = entry.clone();
            entry["id"] = format!("{ms}-{}", 3 * seq.parse::<usize>().unwrap() + at).into();
            let fields = &mut entry["fields"];
            let mut payload: Option<Value> =
                fields["payload"].as_str().map(|payload| serde_json::from_str(payload).unwrap());
            let named = payload.as_mut().unwrap_or(&mut *fields);
            let is_short =
                named["side"] == "SELL" || named["positionAmt"].as_str().is_some_and(|amount| amount.starts_with('-'));
            if !account.is_empty() {
                named["account"] = account.into();
            }
            if account == "hedged" {
                named["positionSide"] = if is_short { "SHORT" } else { "LONG" }.into();
            }
            if let Some(payload) = payload {
                fields["payload"] = payload.to_string().into();
            }
            text += &format!("{entry}\n");
        }
    }
    text
}

/// The same night, ending now: orders of the past are not sent.
fn brought_forward(history: &str) -> String {
    let id_ms = |line: &str| -> u64 {
        let line: Value = serde_json::from_str(line).unwrap();
        line["id"].as_str().unwrap().split('-').next().unwrap().parse().unwrap()
    };
    let last_ms = history.lines().map(id_ms).max().unwrap();
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let seconds = (now_ms - last_ms) / 1000;
    // Ids and times of their own are numbers that begin alike, in ms or in s.
    let mut text = String::with_capacity(history.len());
    let mut rest = history;
    while let Some(at) = rest.find("1770") {
        let digits: String = rest[at..].chars().take_while(char::is_ascii_digit).collect();
        let is_time = !rest[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '.');
        text.push_str(&rest[..at]);
        match digits.len() {
            13 if is_time => text.push_str(&(digits.parse::<u64>().unwrap() + seconds * 1000).to_string()),
            10 if is_time => text.push_str(&(digits.parse::<u64>().unwrap() + seconds).to_string()),
            _ => text.push_str(&digits),
        }
        rest = &rest[at + digits.len()..];
    }
    text + rest
}

/// Each step once, in one mode or the other. The simulator ends processes between any two steps, in each mode.
#[test]
fn a_service_killed_at_any_step_loses_nothing_and_repeats_nothing() {
    let steps = ["folded", "journalled", "committed", "handed_over", "offered", "acknowledged"];
    for is_live in [false, true] {
        let recorded = Recorded::new(is_live);
        for step in steps.into_iter().skip(usize::from(is_live)).step_by(2) {
            let night = Night::of(&recorded);
            let mut command = night.place.command();
            let ended = command.args(["--until-idle", "0.3"]).env("HARVESTER_FAIL", format!("{step}:1")).status();
            assert!(!ended.unwrap().success(), "{step} was never reached: the test shows nothing");
            night.place.run_until_idle();
            night.check(is_live, &format!("{step} live={is_live}"));
        }
    }
}

/// Runs a service, and kills it after so long. Returns true if it came to the end before.
fn is_at_end(night: &Night<'_>, mut command: Command, after_ms: u64) -> bool {
    let mut child = command.args(["--until-idle", "0.3"]).spawn().unwrap();
    let until = Instant::now() + Duration::from_millis(after_ms);
    let ended: Option<ExitStatus> = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if Instant::now() >= until => break None,
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    if let Some(status) = ended {
        assert!(status.success(), "{}", night.place.log());
        return true;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    false
}

/// The process is killed, or the power goes: of what the service wrote to its journal and its store since their last syncs,
/// some pages are on disk.
#[test]
fn a_power_cut_or_a_kill_at_a_random_moment_loses_nothing_and_repeats_nothing() {
    let of_each_mode = |name, or| number(name, or).div_ceil(2);
    let wanted = [of_each_mode("HARVESTER_KILLS", KILLS), of_each_mode("HARVESTER_POWER_CUTS", POWER_CUTS)];
    let mut chance = fastrand::Rng::with_seed(11);
    let (mut all, mut pages) = ([0, 0], Pages::default());
    for is_live in [false, true] {
        let recorded = Recorded::new(is_live);
        let [mut kills, mut cuts] = [0, 0];
        while [kills, cuts] != wanted {
            let night = Night::of(&recorded);
            night.make_groups();
            let Some(mut power) = Power::of(night.place.folder.path()) else {
                return eprintln!("without a C compiler no process ends at a random moment");
            };
            for _ in 0..STARTS_MAX {
                let is_cut = kills >= wanted[0] || (cuts < wanted[1] && chance.bool());
                let mut command = night.place.command();
                if is_cut {
                    power.watch(&mut command);
                }
                // A process whose syncs are kept is slower.
                let after_ms = if is_cut { chance.u64(50..700) } else { chance.u64(5..400) };
                if [kills, cuts] == wanted || is_at_end(&night, command, after_ms) {
                    break;
                }
                if is_cut {
                    power.cut(&mut chance);
                    cuts += 1;
                } else {
                    kills += 1;
                }
                night.check_disk(&format!("{kills} kills, {cuts} cuts, live={is_live}"));
            }
            pages.kept += power.pages.kept;
            pages.dropped += power.pages.dropped;
            night.place.run_until_idle();
            night.check(is_live, &format!("after {kills} kills and {cuts} cuts, live={is_live}"));
        }
        all = [all[0] + kills, all[1] + cuts];
    }
    let [kills, cuts] = all;
    assert!(cuts < 50 || pages.dropped > cuts / 10, "{pages:?} of {cuts} cuts are no test");
    writeln!(std::io::stdout(), "{kills} kills, {cuts} cuts: of journal and store, {pages:?}")
        .expect("standard output is there");
}

/// Entries that do not read, a process that ends between their commit and their record, and one that ends just behind it:
/// each has one record, whatever restarts. Then an entry that ends the process whenever it is folded: it is skipped.
#[test]
fn i10_entries_that_do_not_read_or_end_the_process_never_block() {
    const QUARANTINE: &str = "quantum:stream:harvest.quarantine";
    for step in ["quarantined:1", "aside_written:2"] {
        let server = RedisServer::start();
        let mut place = Place::new(&server);
        let mut ids: Vec<String> =
            (0..3).map(|n| service::add(&server, PRICE, &[("payload", "{not json"), ("n", &n.to_string())])).collect();
        let ended = place.command().args(["--until-idle", "0.3"]).env("HARVESTER_FAIL", step).status().unwrap();
        assert!(!ended.success(), "{step} was never reached: the test shows nothing");
        let has_records = |place: &Place, ids: &[String], what: &str| {
            assert_eq!(field_of_all(&server, QUARANTINE, "id"), ids, "{step}: {what}: {}", place.log());
            let pending = server.cli(&["XPENDING", PRICE, "harvester"]);
            assert!(pending.starts_with('0'), "{step}: {what}: {pending}");
        };
        place.run_until_idle();
        has_records(&place, &ids, "started again");
        assert_eq!(field_of_all(&server, QUARANTINE, "reason"), ["bad_json"; 3], "{step}");
        // A store that is folded anew from the journal publishes no record a second time, and the stream goes on.
        std::fs::remove_dir_all(place.store()).unwrap();
        ids.push(service::add(&server, PRICE, &[("symbol", "")]));
        open_position(&server, "AAAUSDT");
        price(&server, "AAAUSDT", "1.008");
        place.run_until_idle();
        has_records(&place, &ids, "folded anew");
        assert_eq!(decisions(&server).len(), 1, "{step}");
        let listed = run(harvester().args(["quarantine", "list", "--json", "--store", name(&place.store())])).json();
        assert_eq!(listed.as_array().map(Vec::len), Some(4), "{step}");
        if step.starts_with("aside_written") {
            is_skipped(&server, &mut place);
        }
    }
}

/// An entry ends the process whenever it is folded.
fn is_skipped(server: &RedisServer, place: &mut Place) {
    // No entry of another stream has the id of the next price.
    server.until_later_ms();
    let poison = price(server, "AAAUSDT", "1.013");
    price(server, "AAAUSDT", "1.013");
    place.environment = vec![("HARVESTER_FAIL".to_owned(), format!("entry {poison}:1"))];
    let mut ends = 0;
    while !place.command().args(["--until-idle", "0.3"]).status().unwrap().success() {
        ends += 1;
        assert!(ends < 5, "a crash loop: {}", place.log());
    }
    assert!(ends >= 2, "the entry does not end the process: the test shows nothing");
    let kinds = field_of_all(server, CONTROL, "event_type");
    assert!(kinds.contains(&"entry.skipped".to_owned()), "{kinds:?}");
    assert_eq!(place.positions()[0]["hold"], "history_gap", "its symbol is held");
    assert_eq!(decisions(server).len(), 1, "and nothing is decided on it");
}
