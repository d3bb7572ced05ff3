//! A doctor on configurations that do not hold, and on servers that are not as they should be: it says so, and looks at the rest.

use std::process::Command;

use serde_json::Value;

use crate::support::binary::{harvester, name, run};
use crate::support::contract::expect_valid;
use crate::support::redis::RedisServer;

const TICK: &str = "quantum:stream:market.tick";
const INTENT: &str = "quantum:stream:trade.intent";

struct Said {
    document: Value,
    _folder: tempfile::TempDir,
}

impl Said {
    /// Of a doctor that found something.
    fn by(arguments: &[&str], settings: Option<&str>, prepare: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = harvester();
        command.args(["doctor", "--json", "--all"]).args(arguments).current_dir(folder.path());
        if let Some(settings) = settings {
            let file = folder.path().join("harvester.toml");
            std::fs::write(&file, settings).expect("the file is written");
            command.args(["--config", name(&file)]);
        }
        // An exchange that is not asked.
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

    /// The problem whose texts hold these words.
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
fn a_configuration_that_does_not_hold_is_the_first_finding_and_keeps_nothing_else_back() {
    let server = RedisServer::start();
    server.cli(&["XADD", TICK, "*", "symbol", "ADAUSDT", "price", "1"]);
    let said = Said::by(&["--redis", &server.url()], None, |command| {
        command.env("HARVEST_MODE", "live\r");
    });
    assert_eq!((&said.first()["area"], &said.first()["verdict"]), (&"configuration".into(), &"problem".into()));
    for key in ["ladder", "atr_unit", "price_sources", "on_live"] {
        said.problem(&["live needs", key]);
    }
    said.problem(&["emit.format"]);
    for area in ["redis", "streams", "positions", "exchange", "store", "clock"] {
        assert!(said.areas().contains(&area), "{area} is looked at: {:?}", said.areas());
    }
    assert!(
        said.checks().any(|check| check.to_string().contains("HARVEST_MODE: a carriage return")),
        "what was cleaned"
    );

    // Whatever is wrong: a file that is none, names that nobody knows, values out of range, an address that is none.
    for (settings, names, words) in [
        (Some("[run\n"), &[][..], &["harvester.toml", "line 1"][..]),
        (Some("[run]\nread_count = 0\n[rnu]\n"), &[("HARVEST_MDOE", "live")], &["HARVEST_MDOE"]),
        (Some("[run]\nread_count = 0\n"), &[], &["run.read_count = 0"]),
        (Some("[streams]\nprice = [\"a\", \"a\"]\n"), &[], &["named twice"]),
        (Some("[policy]\nladder = []\n"), &[], &["ladder"]),
        (None, &[("HARVEST_REDUCE_ONLY", "false")], &["HARVEST_REDUCE_ONLY"]),
        (None, &[("REDIS_PORT", "0")], &["REDIS_PORT"]),
    ] {
        let said = Said::by(&["--redis", &server.url()], settings, |command| {
            command.envs(names.iter().copied());
        });
        said.problem(words);
        assert_eq!(said.first()["area"], "configuration");
        assert!(said.areas().contains(&"streams"), "{words:?}: {:?}", said.areas());
    }
    let said = Said::by(&["--redis", "hush://hush", "--config", "/nowhere/harvester.toml"], None, |_| {});
    said.problem(&["/nowhere/harvester.toml"]);
    said.problem(&["redis.url"]);
    assert!(!said.document.to_string().contains("hush"));
}

#[test]
fn ids_that_are_ahead_or_no_time_and_a_cluster_are_found() {
    let server = RedisServer::start();
    let ahead = format!("{}-0", server.now_ms() + 7_200_000);
    server.cli(&["XADD", INTENT, &ahead, "payload", "{}"]);
    server.cli(&["XADD", TICK, "1-1", "symbol", "ADAUSDT", "price", "1"]);
    let said = Said::by(&["--redis", &server.url()], None, |_| {});
    said.problem(&[INTENT, "ids_ahead", &ahead]);
    said.problem(&[TICK, "ids_not_time", "1-1"]);

    let cluster = RedisServer::start_of_cluster();
    let said = Said::by(&["--redis", &cluster.url()], None, |_| {});
    said.problem(&["redis", "mode", "cluster"]);
}

#[test]
fn what_our_user_may_not_look_at_keeps_nothing_else_back() {
    let server = RedisServer::start();
    server.cli(&["XADD", TICK, "*", "symbol", "ADAUSDT", "price", "1"]);
    server.cli(&["XADD", INTENT, "*", "payload", "{}"]);
    let user = ["ACL", "SETUSER", "blind", "on", ">hush", "allcommands", "resetkeys", "~quantum:stream:market.*"];
    server.cli(&user);
    let url = server.url().replace("redis://", "redis://blind:hush@");
    let said = Said::by(&["--redis", &url], None, |_| {});
    said.problem(&[INTENT, "cannot be checked"]);
    assert!(said.checks().any(|check| check["subject"] == TICK && check["verdict"] == "ok"), "{:#}", said.document);
    for area in ["exchange", "store"] {
        assert!(said.areas().contains(&area), "{area}: {:?}", said.areas());
    }
    assert!(!said.document.to_string().contains("hush"));
}

/// A setting that cannot be read has a default, which names another server or another exchange: neither is asked.
#[test]
fn a_server_whose_address_is_invalid_is_not_looked_for_elsewhere() {
    for (settings, names) in [
        (None, &[("REDIS_URL", "http://127.0.0.1:6379")][..]),
        (None, &[("REDIS_URL", "user:hush@127.0.0.1")]),
        (None, &[("REDIS_PORT", "0")]),
        (Some("[redis]\nurl = \"127.0.0.1\"\n"), &[]),
        (Some("[redis]\nulr = \"redis://127.0.0.1:1\"\n"), &[]),
        (Some("[redis\n"), &[]),
    ] {
        let said = Said::by(&[], settings, |command| {
            command.envs(names.iter().copied());
        });
        said.problem(&["redis", "address", "not known"]);
        assert!(!said.areas().contains(&"streams"), "{names:?}: {:#}", said.document);
        assert!(!said.document.to_string().contains("hush"));
    }
    let said = Said::by(&[], Some("[exchange]\nenvironment = \"prodution\"\n"), |_| {});
    said.problem(&["exchange", "address", "not known"]);
    assert_eq!(said.checks().filter(|check| check["area"] == "exchange").count(), 1, "{:#}", said.document);
}
