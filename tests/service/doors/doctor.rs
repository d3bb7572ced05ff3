//! `doctor` with invalid configurations and faulty servers: it reports them, and checks everything else.

use std::process::Command;

use serde_json::Value;

use crate::support::binary::{harvester, name, run};
use crate::support::contract::expect_valid;
use crate::support::redis::RedisServer;

const TICK: &str = "quantum:stream:market.tick";
const INTENT: &str = "quantum:stream:trade.intent";

struct DoctorReport {
    document: Value,
    _folder: tempfile::TempDir,
}

impl DoctorReport {
    /// Returns the report of a `doctor` that has findings.
    fn by(arguments: &[&str], settings: Option<&str>, prepare: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = harvester();
        command.args(["doctor", "--json", "--all"]).args(arguments).current_dir(folder.path());
        if let Some(settings) = settings {
            let file = folder.path().join("harvester.toml");
            std::fs::write(&file, settings).expect("the file is written");
            command.args(["--config", name(&file)]);
        }
        // An exchange that is not called.
        command.env("BINANCE_TESTNET_API_KEY", "");
        prepare(&mut command);
        let ran = run(&mut command);
        assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.log);
        let document = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}{}", ran.out, ran.log));
        expect_valid("the doctor", "doctor.v1", &document);
        Self { document, _folder: folder }
    }

    fn checks(&self) -> impl Iterator<Item = &Value> {
        self.document["checks"].as_array().expect("a list").iter()
    }

    /// Returns the problem whose texts contain these words.
    fn problem(&self, words: &[&str]) -> &Value {
        let holds =
            |check: &&Value| check["verdict"] == "problem" && words.iter().all(|word| check.to_string().contains(word));
        let found = self.checks().find(holds).unwrap_or_else(|| panic!("no problem of {words:?}: {:#}", self.document));
        assert_ne!(found["next"], "", "it has a next step");
        found
    }

    fn first(&self) -> &Value {
        self.checks().next().expect("a check")
    }

    fn areas(&self) -> Vec<&str> {
        let mut areas: Vec<&str> = self.checks().filter_map(|check| check["area"].as_str()).collect();
        areas.dedup();
        areas
    }
}

#[test]
fn an_invalid_configuration_is_the_first_finding_and_all_other_checks_run() {
    let server = RedisServer::start();
    server.cli(&["XADD", TICK, "*", "symbol", "ADAUSDT", "price", "1"]);
    let report = DoctorReport::by(&["--redis", &server.url()], None, |command| {
        command.env("HARVEST_MODE", "live\r");
    });
    assert_eq!((&report.first()["area"], &report.first()["verdict"]), (&"configuration".into(), &"problem".into()));
    for key in ["ladder", "atr_unit", "price_sources", "on_live"] {
        report.problem(&["live needs", key]);
    }
    report.problem(&["emit.format"]);
    for area in ["redis", "streams", "positions", "exchange", "store", "clock"] {
        assert!(report.areas().contains(&area), "{area} is looked at: {:?}", report.areas());
    }
    assert!(
        report.checks().any(|check| check.to_string().contains("HARVEST_MODE: a carriage return")),
        "the cleaned values"
    );

    // Each fault: a file that is not a configuration, unknown names, values out of range, an invalid address.
    for (settings, names, words) in [
        (Some("[run\n"), &[][..], &["harvester.toml", "line 1"][..]),
        (Some("[run]\nread_count = 0\n[rnu]\n"), &[("HARVEST_MDOE", "live")], &["HARVEST_MDOE"]),
        (Some("[run]\nread_count = 0\n"), &[], &["run.read_count = 0"]),
        (Some("[streams]\nprice = [\"a\", \"a\"]\n"), &[], &["named twice"]),
        (Some("[policy]\nladder = []\n"), &[], &["ladder"]),
        (None, &[("HARVEST_REDUCE_ONLY", "false")], &["HARVEST_REDUCE_ONLY"]),
        (None, &[("REDIS_PORT", "0")], &["REDIS_PORT"]),
    ] {
        let report = DoctorReport::by(&["--redis", &server.url()], settings, |command| {
            command.envs(names.iter().copied());
        });
        report.problem(words);
        assert_eq!(report.first()["area"], "configuration");
        assert!(report.areas().contains(&"streams"), "{words:?}: {:?}", report.areas());
    }
    let report = DoctorReport::by(&["--redis", "hush://hush", "--config", "/nowhere/harvester.toml"], None, |_| {});
    report.problem(&["/nowhere/harvester.toml"]);
    report.problem(&["redis.url"]);
    assert!(!report.document.to_string().contains("hush"));
}

#[test]
fn ids_ahead_of_the_clock_or_without_a_time_and_a_cluster_are_found() {
    let server = RedisServer::start();
    let ahead = format!("{}-0", server.now_ms() + 7_200_000);
    server.cli(&["XADD", INTENT, &ahead, "payload", "{}"]);
    server.cli(&["XADD", TICK, "1-1", "symbol", "ADAUSDT", "price", "1"]);
    let report = DoctorReport::by(&["--redis", &server.url()], None, |_| {});
    report.problem(&[INTENT, "ids_ahead", &ahead]);
    report.problem(&[TICK, "ids_not_time", "1-1"]);

    let cluster = RedisServer::start_of_cluster();
    let report = DoctorReport::by(&["--redis", &cluster.url()], None, |_| {});
    report.problem(&["redis", "mode", "cluster"]);
}

#[test]
fn all_other_checks_run_if_our_user_has_no_permission_for_one() {
    let server = RedisServer::start();
    server.cli(&["XADD", TICK, "*", "symbol", "ADAUSDT", "price", "1"]);
    server.cli(&["XADD", INTENT, "*", "payload", "{}"]);
    let user = ["ACL", "SETUSER", "blind", "on", ">hush", "allcommands", "resetkeys", "~quantum:stream:market.*"];
    server.cli(&user);
    let url = server.url().replace("redis://", "redis://blind:hush@");
    let report = DoctorReport::by(&["--redis", &url], None, |_| {});
    report.problem(&[INTENT, "cannot be checked"]);
    assert!(report.checks().any(|check| check["subject"] == TICK && check["verdict"] == "ok"), "{:#}", report.document);
    for area in ["exchange", "store"] {
        assert!(report.areas().contains(&area), "{area}: {:?}", report.areas());
    }
    assert!(!report.document.to_string().contains("hush"));
}

/// A setting that cannot be read has a default, which names another server or another exchange: neither is called.
#[test]
fn a_server_with_an_invalid_address_is_not_replaced_by_the_default() {
    for (settings, names) in [
        (None, &[("REDIS_URL", "http://127.0.0.1:6379")][..]),
        (None, &[("REDIS_URL", "user:hush@127.0.0.1")]),
        (None, &[("REDIS_PORT", "0")]),
        (Some("[redis]\nurl = \"127.0.0.1\"\n"), &[]),
        (Some("[redis]\nulr = \"redis://127.0.0.1:1\"\n"), &[]),
        (Some("[redis\n"), &[]),
    ] {
        let report = DoctorReport::by(&[], settings, |command| {
            command.envs(names.iter().copied());
        });
        report.problem(&["redis", "address", "not known"]);
        assert!(!report.areas().contains(&"streams"), "{names:?}: {:#}", report.document);
        assert!(!report.document.to_string().contains("hush"));
    }
    let report = DoctorReport::by(&[], Some("[exchange]\nenvironment = \"prodution\"\n"), |_| {});
    report.problem(&["exchange", "address", "not known"]);
    assert_eq!(report.checks().filter(|check| check["area"] == "exchange").count(), 1, "{:#}", report.document);
}
