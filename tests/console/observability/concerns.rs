//! Liveness, readiness and concerns of a service, and when they are logged.

use std::collections::{BTreeMap, BTreeSet};

use harvester::config::Config;
use harvester::service::report::{
    AccountRefusal, Change, ExchangeWait, Past, PositionMode, Report, Role, Watch, alive, concerns, has_no_accounts,
    ready,
};
use harvester::shell::redis::StreamFault;

use super::well;
use crate::support;
use crate::support::histories::{CONTROL, RESULT};
use crate::support::lab::Lab;

/// A situation, the change that makes it, and the names that /healthz, /readyz and `status` return.
type Case = (&'static str, fn(&mut Report), &'static [&'static str], &'static [&'static str], &'static [&'static str]);

const CASES: [Case; 52] = [
    ("all is well", |_| {}, &[], &[], &[]),
    // Incidents 12 and 15.
    (
        "a cursor does not move although there are entries to read",
        |r| r.progress_age_ms = 30_001,
        &["cursor_standing"],
        &["cursor_standing"],
        &["cursor_standing"],
    ),
    (
        "the cursor of a standby does not move",
        |r| (r.role, r.progress_age_ms) = (Role::Standby, 30_001),
        &["cursor_standing"],
        &["cursor_standing"],
        &["cursor_standing"],
    ),
    ("the cursor stood for a moment", |r| r.progress_age_ms = 30_000, &[], &[], &[]),
    ("the loop hangs", |r| r.published_age_ms = 30_001, &["not_speaking"], &["not_speaking"], &["not_speaking"]),
    (
        "the server is away: a restart would not help",
        |r| (r.redis.connected, r.progress_age_ms) = (false, 600_000),
        &[],
        &["not_connected"],
        &["not_connected"],
    ),
    ("the server answers slowly", |r| r.redis.silent_ms = 5_000, &[], &[], &[]),
    (
        "the server does not answer, and the connection is open",
        |r| r.redis.silent_ms = 5_001,
        &[],
        &["not_connected"],
        &["not_connected"],
    ),
    ("clocks differ by less than is named", |r| r.redis.clocks_apart_ms = 999, &[], &[], &[]),
    ("the clocks of a cluster are apart", |r| r.redis.clocks_apart_ms = 1_000, &[], &[], &["clocks_apart"]),
    ("another process reads in the group", |r| r.redis.group_shared = true, &[], &[], &["group_shared"]),
    ("it starts", |r| (r.role, r.redis.connected) = (Role::Starting, false), &[], &["starting"], &[]),
    ("it stops", |r| (r.role, r.published_age_ms) = (Role::Stopping, 60_000), &[], &["stopping"], &[]),
    ("it rebuilds", |r| r.role = Role::Rebuilding, &[], &["rebuilding"], &["rebuilding"]),
    (
        "a rebuild makes no progress",
        |r| (r.role, r.progress_age_ms) = (Role::Rebuilding, 31_000),
        &["cursor_standing"],
        &["cursor_standing", "rebuilding"],
        &["cursor_standing", "rebuilding"],
    ),
    ("a warm standby", |r| r.role = Role::Standby, &[], &[], &[]),
    (
        "a standby that is still behind",
        |r| (r.role, r.inputs[0].lag_ms) = (Role::Standby, Some(5001)),
        &[],
        &["not_warm"],
        &[],
    ),
    ("no instance leads", |r| (r.role, r.lease.holder) = (Role::Standby, None), &[], &[], &["no_leader"]),
    (
        "a stranger has the lease for ever",
        |r| (r.role, r.lease.stuck) = (Role::Standby, Some("it does not expire".to_owned())),
        &[],
        &[],
        &["no_leader"],
    ),
    ("a file of the journal is damaged", |r| r.journal.damaged = 1, &[], &[], &["journal_damaged"]),
    ("killed: reading continues", |r| r.killed = true, &[], &[], &["killed"]),
    ("a gap is open", |r| r.positions.gap_open = 2, &[], &["gap_open"], &["gap_open"]),
    (
        "results that cannot be read",
        |r| r.totals.unreadable = [("results".to_owned(), Past { entries: 2, last_age_ms: 3_600_000 })].into(),
        &[],
        &[],
        &["unreadable"],
    ),
    (
        "results that could not be read long ago",
        |r| r.totals.unreadable = [("results".to_owned(), Past { entries: 2, last_age_ms: 3_600_001 })].into(),
        &[],
        &[],
        &[],
    ),
    ("a gap of a symbol that holds nothing", |r| r.positions.gap_flat = 2, &[], &[], &[]),
    ("no position was ever seen", |r| r.positions.unknown = true, &[], &[], &["positions_unknown"]),
    (
        "a cell without an account has read everything",
        |r| {
            (r.positions.unknown, r.positions.no_accounts) = (true, true);
            r.inputs.iter_mut().for_each(|input| (input.lag_entries, input.lag_ms) = (Some(0), Some(0)));
        },
        &[],
        &[],
        &[],
    ),
    (
        "a cell without an account has entries to read, which may name one",
        |r| {
            (r.positions.unknown, r.positions.no_accounts) = (true, true);
            r.inputs[0].lag_entries = Some(1);
        },
        &[],
        &[],
        &["positions_unknown"],
    ),
    (
        "two accounts are killed, not all",
        |r| r.killed_accounts = vec!["main".to_owned(), "sub".to_owned()],
        &[],
        &[],
        &["killed", "killed"],
    ),
    (
        "calls are too few for all accounts",
        |r| r.backfill.as_mut().expect("known").accounts_late = 7,
        &[],
        &[],
        &["lookups_late"],
    ),
    // Incident 1; 40 of 44 are 0.909.
    ("four of 44 cannot be evaluated", |r| r.positions.evaluable = 40, &[], &[], &[]),
    ("five of 44 cannot be evaluated", |r| r.positions.evaluable = 39, &[], &[], &["evaluable_low"]),
    ("nothing is open: there is no share", |r| (r.positions.open, r.positions.evaluable) = (0, 0), &[], &[], &[]),
    (
        "decisions without an answer, and refused ones",
        |r| r.positions.decisions_open = super::counts(&[("unknown", 1), ("failed", 2), ("filled", 3)]),
        &[],
        &[],
        &["decision_unknown", "decision_failed"],
    ),
    ("an input is silent", |r| r.inputs[1].age_ms = Some(30_001), &[], &[], &["input_silent"]),
    // Incident 43: the stream need not have had an entry before.
    ("an input never spoke", |r| r.inputs[1].age_ms = None, &[], &[], &["input_silent"]),
    ("an input that may be silent is", |r| r.inputs[0].age_ms = Some(86_400_000), &[], &[], &[]),
    (
        "behind, with old pending entries and an outbox that does not empty",
        |r| {
            r.inputs[0].lag_ms = Some(60_001);
            r.inputs[1].pending_oldest_ms = Some(60_001);
            r.outbox.oldest_ms = Some(60_001);
        },
        &[],
        &[],
        &["outbox_waiting", "input_behind", "pending_old"],
    ),
    ("an id is ahead of the clock", |r| r.inputs[0].ahead_ms = Some(7_200_000), &[], &[], &["ids_ahead"]),
    ("the ids of a stream are no time", |r| r.inputs[0].ids_not_time = true, &[], &[], &["ids_not_time"]),
    ("a decision is in doubt", |r| r.outbox.doubtful = 1, &[], &[], &["decision_doubtful"]),
    (
        "the configuration is live, the policy in force is not; the exchange is down",
        |r| {
            r.policy.mode_configured = "live".to_owned();
            r.backfill.as_mut().expect("known").circuit_open = true;
        },
        &[],
        &[],
        &["mode_differs", "circuit_open"],
    ),
    (
        "the exchange has banned the address",
        |r| r.backfill.as_mut().expect("known").wait = Some(ExchangeWait { status: 418, until_ms: 9, left_ms: 1 }),
        &[],
        &[],
        &["exchange_banned"],
    ),
    (
        "the ban is over",
        |r| r.backfill.as_mut().expect("known").wait = Some(ExchangeWait { status: 418, until_ms: 9, left_ms: 0 }),
        &[],
        &[],
        &[],
    ),
    (
        "the weight of the minute is spent",
        |r| r.backfill.as_mut().expect("known").wait = Some(ExchangeWait { status: 429, until_ms: 9, left_ms: 60_000 }),
        &[],
        &[],
        &[],
    ),
    (
        "the exchange states other quantities, and confirms nothing",
        |r| r.positions.held = [("diverged".to_owned(), 1), ("stale_position".to_owned(), 2)].into(),
        &[],
        &[],
        &["diverged", "stale_position"],
    ),
    (
        "the exchange refuses the key, and is in another mode than the entries",
        |r| {
            let backfill = r.backfill.as_mut().expect("known");
            backfill.refusals =
                vec![AccountRefusal { account: "main".to_owned(), why: "refused (401, code -2015)".to_owned() }];
            backfill.modes_differ = vec![PositionMode::default()];
        },
        &[],
        &[],
        &["position_mode", "exchange_refused"],
    ),
    (
        "another program adopted another policy, and wrote unsigned entries",
        |r| {
            r.policy.hash = "cd".repeat(32);
            let past = |entries| Past { entries, last_age_ms: 86_400_000 };
            r.totals.refused = [("bad_signature".to_owned(), past(2)), ("decision_foreign".to_owned(), past(1))].into();
        },
        &[],
        &[],
        &["policy_differs", "bad_signature", "decision_foreign"],
    ),
    (
        "a day later it was looked into",
        |r| r.totals.refused = [("bad_signature".to_owned(), Past { entries: 2, last_age_ms: 86_400_001 })].into(),
        &[],
        &[],
        &[],
    ),
    (
        "another group reads the requests",
        |r| r.outbox.unnamed_executors = vec!["second".to_owned()],
        &[],
        &[],
        &["executor_unknown"],
    ),
    (
        "nothing can be read from a stream, or added to another",
        |r| {
            r.inputs[0].fault = Some(StreamFault::NotAStream);
            r.inputs[1].fault = Some(StreamFault::IdsExhausted);
            r.outbox.refusing = [("quantum:stream:harvest.quarantine".to_owned(), "is no stream".to_owned())].into();
        },
        &[],
        &[],
        &["output_refused", "not_a_stream", "ids_exhausted"],
    ),
    (
        "the configured policy is not adopted yet",
        |r| (r.policy.hash, r.policy.pending) = ("cd".repeat(32), true),
        &[],
        &[],
        &["policy_pending"],
    ),
];

#[test]
fn each_situation_gives_its_reasons_and_concerns() {
    for (situation, change, not_alive, not_ready, someone) in CASES {
        let mut report = well();
        change(&mut report);
        let names = |concerns: &[harvester::service::report::Concern]| -> Vec<&str> {
            concerns.iter().map(|concern| concern.name).collect()
        };
        let (health, readiness) = (alive(&report), ready(&report));
        assert_eq!(names(&health.reasons), not_alive, "{situation}: /healthz");
        assert_eq!(names(&readiness.reasons), not_ready, "{situation}: /readyz");
        assert_eq!(names(&concerns(&report)), someone, "{situation}: status");
        assert_eq!(health.status(), if not_alive.is_empty() { 200 } else { 503 }, "{situation}");
        assert_eq!((health.ok, readiness.ok), (not_alive.is_empty(), not_ready.is_empty()), "{situation}");
    }
}

/// Incident 43: a snapshot stream was silent for two and a half hours.
#[test]
fn i43_a_silent_input_is_logged_once_and_so_is_its_return() {
    let mut watch = Watch::default();
    let mut report = well();
    assert_eq!(watch.look(&report), []);
    report.inputs[1].age_ms = Some(31_000);
    let lines: Vec<String> = watch.look(&report).iter().map(Change::to_string).collect();
    assert_eq!(
        lines,
        [
            "INPUT_SILENT stream=quantum:stream:market.tick: quantum:stream:market.tick has been silent for 31s, more than 30s"
        ]
    );
    report.inputs[1].age_ms = Some(60_000);
    assert_eq!(watch.look(&report), [], "it is logged once");
    report.inputs[0].silent_after_ms = Some(500);
    let lines: Vec<String> = watch.look(&report).iter().map(Change::to_string).collect();
    assert_eq!(lines.len(), 1, "each stream is named by itself: {lines:?}");
    report.inputs[1].age_ms = Some(100);
    let lines: Vec<String> = watch.look(&report).iter().map(Change::to_string).collect();
    assert_eq!(lines, ["INPUT_SILENT_OVER stream=quantum:stream:market.tick"]);
}

/// The console alone showed it once: `status` needed no one, and the log was silent.
#[test]
fn an_account_that_is_killed_alone_is_named_in_status_and_log() {
    let mut lab = Lab::new(&support::config(None));
    let kill = r#"{"kill":true,"reason":"looked odd","account":"main"}"#;
    lab.entry(CONTROL, "1770163200000-0", &[("event_type", "kill.changed"), ("payload", kill)]);
    let (mut report, mut watch) = (well(), Watch::default());
    watch.look(&report);
    report.take_from(&lab.engine, 1_770_163_200_000, &BTreeSet::new());
    (report.positions, report.policy) = (well().positions, well().policy);
    assert_eq!((report.killed, &*report.killed_accounts), (false, &["main".to_owned()][..]));
    let lines: Vec<String> = watch.look(&report).iter().map(Change::to_string).collect();
    assert_eq!(
        lines,
        [
            "KILLED account=main: account main is killed: no order of it is sent; end it with `harvester control kill off \
          --account main`"
        ]
    );
    let killed = |n: usize| (0..n).map(|n| format!("a{n:02}")).collect::<Vec<_>>();
    report.killed_accounts = killed(10);
    assert_eq!(concerns(&report).len(), 10);
    report.killed_accounts = killed(13);
    let last = concerns(&report).pop().expect("a concern").says;
    assert!(last.starts_with("3 more accounts killed"), "{last}");
    assert_eq!(concerns(&report).len(), 11);
}

const CELL: &str = r#"
[streams]
control = "quantum:stream:cell-%cell%.control"
observation = "quantum:stream:cell-%cell%.observation"
decision = "quantum:stream:cell-%cell%.decision"
suggestions = "quantum:stream:cell-%cell%.suggestions"
quarantine = "quantum:stream:cell-%cell%.quarantine"

[run]
cells = 4
shard = "%cell%/4"
group = "harvester-%cell%"
store = "state-%cell%"
journal = "journal-%cell%"
"#;

/// A cell with an account that can have positions does not know them before a source has stated them.
#[test]
fn a_cell_without_an_account_is_known_by_configuration_and_entries() {
    let config = || -> Config {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("cell.toml");
        std::fs::write(&file, CELL).expect("a file");
        Config::from_parts_of_cell(Some(&file), BTreeMap::new(), Some(0)).expect("a configuration")
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>();
    let of_others = names(&["main", "hedged", "account-1"]);
    // Cell 0 of 4 has none of these, and not the account without a name.
    let mut lab = Lab::new(&config());
    assert!(has_no_accounts(&lab.engine, &of_others, false));
    assert!(!has_no_accounts(&lab.engine, &names(&[]), false), "entries of every account are expected");
    let own = (0..).map(|n| format!("a{n}")).find(|name| lab.engine.streams().selection().contains(name)).expect("one");
    assert!(!has_no_accounts(&lab.engine, &names(&["main", &own]), false), "one of its accounts is configured");
    let mut fill = |id: &str, account: &str| {
        let names = [("symbol", "ADAUSDT"), ("account", account), ("side", "BUY"), ("orderId", account)];
        let filled = [("executedQty", "100"), ("avgPrice", "1"), ("order_status", "FILLED")];
        lab.entry(RESULT, id, &[&names[..], &filled[..]].concat());
        has_no_accounts(&lab.engine, &of_others, false)
    };
    assert!(fill("1770163200000-0", "main"), "an entry of another cell");
    assert!(!fill("1770163201000-0", &own), "an entry has named an account of the cell");
    let all = Lab::new(&support::config(None));
    assert!(!has_no_accounts(&all.engine, &of_others, false), "it reads every account");
}

#[test]
fn a_report_reads_back_from_json_unchanged() {
    let report = well();
    let text = serde_json::to_string(&report).expect("a report is JSON");
    assert_eq!(serde_json::from_str::<Report>(&text).expect("it reads"), report);
    // A service of another version: a field that it lacks is unknown, and a field that we do not know is ignored.
    let other: Report = serde_json::from_str(r#"{"role":"leader","moon":"full"}"#).expect("it reads");
    assert_eq!((other.role, other.inputs.len()), (Role::Leader, 0));
}
