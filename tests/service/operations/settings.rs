//! `harvester config`, and the file that documents every setting.

use std::collections::{BTreeMap, BTreeSet};

use harvester::config::{Config, Origin};

use crate::support::binary::{harvester, name, run, run_with};
use crate::support::root;

/// Settings that the example must not set to their default: it has none, or depends on the host, or is a secret, or
/// the service calls the exchange once a file sets it.
const NOT_SET: [&str; 10] = [
    "policy.on_live",
    "run.consumer",
    "emit.signing_key",
    "backfill.sources",
    "exchange.environment",
    "exchange.base_url",
    "exchange.api_key",
    "exchange.api_secret",
    "console.token",
    "log_level",
];

#[test]
fn the_example_has_every_setting_with_its_default() {
    let path = root().join("harvester.example.toml");
    let example = Config::from_parts(Some(&path), BTreeMap::new()).expect("the example is valid");
    let defaults = Config::from_parts(None, BTreeMap::new()).expect("the defaults are valid");
    assert_eq!(example.warnings, Vec::<String>::new());
    for (shown, default) in example.settings.iter().zip(&defaults.settings) {
        assert_eq!((&shown.key, &shown.value), (&default.key, &default.value), "the example differs from the default");
    }
    assert_eq!(example.hash(), defaults.hash());
    let left_out = example.settings.iter().filter(|setting| setting.origin == Origin::Default);
    let left_out: BTreeSet<&str> = left_out.map(|setting| &*setting.key).collect();
    assert_eq!(left_out, BTreeSet::from(NOT_SET), "settings that the example does not have");
    let text = std::fs::read_to_string(&path).unwrap();
    for key in ["# on_live = ", "# consumer = ", "# sources = ", "# environment = ", "# base_url = "] {
        assert!(text.lines().any(|line| line.starts_with(key)), "{key} is not documented");
    }
    for name in ["HARVEST_SIGNING_KEY", "BINANCE_TESTNET_API_KEY", "BINANCE_TESTNET_API_SECRET"] {
        assert!(text.contains(name), "{name} is not documented");
    }
}

#[test]
fn settings_are_shown_with_their_origin_and_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("harvester.toml");
    std::fs::write(&file, "[run]\r\ngroup = \"of the file\"\r\n").unwrap();
    let mut command = harvester();
    command.args(["config", "--json", "--store", "elsewhere", "--config", name(&file)]);
    command.env("REDIS_URL", "redis://me:hush@127.0.0.1:1/2").env("BINANCE_TESTNET_API_SECRET", "hush\r");
    command.env("HARVEST_MIN_R", "\"0.75\"").env("LOG_LEVEL", "WARNING");
    let ran = run(&mut command);
    let document = ran.json();
    let setting = |key: &str| {
        let all = document["settings"].as_array().unwrap();
        let found = all.iter().find(|setting| setting["key"] == key).unwrap_or_else(|| panic!("{key} is not shown"));
        (found["value"].to_string(), found["origin"].as_str().unwrap().to_owned())
    };
    for (key, value, origin) in [
        ("run.group", r#""of the file""#, "file"),
        ("run.store", r#""elsewhere""#, "flag"),
        ("run.lease_ms", "5000", "default"),
        ("policy.min_r", r#""0.75""#, "environment HARVEST_MIN_R"),
        ("redis.url", r#""redis://me:***@127.0.0.1:1/2""#, "environment REDIS_URL"),
        ("exchange.api_secret", r#""***""#, "environment BINANCE_TESTNET_API_SECRET"),
        ("exchange.api_key", r#""""#, "default"),
        ("log_level", r#""warn""#, "environment LOG_LEVEL"),
    ] {
        assert_eq!(setting(key), (value.to_owned(), origin.to_owned()), "{key}");
    }
    assert_eq!(document["policy_hash"].as_str().unwrap().len(), 64);
    assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
    assert!(!format!("{}{}", ran.out, ran.log).contains("hush"), "{}{}", ran.out, ran.log);
    // Each warning once, on standard error.
    for (name, times) in [("HARVEST_MIN_R: quotes around the value was cleaned", 1), ("carriage return", 1)] {
        assert_eq!(ran.log.matches(name).count(), times, "{name}: {}", ran.log);
    }
    let people = run_with(&["config", "--listen", ""]);
    assert_eq!(people.code, Some(0), "{}", people.log);
    assert!(people.out.contains("BINANCE_TESTNET_API_KEY is not set"), "{}", people.out);
}

#[test]
fn settings_that_a_service_would_refuse_are_shown_and_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("harvester.toml");
    let policy = "[policy]\nmode = \"live\"\nladder = \"1:0.5\"\natr_unit = { default = \"absolute\" }\n\
                  price_sources = [\"market.tick\"]\non_live = \"skip\"\n[emit]\nformat = \"apply_plan\"\n";
    std::fs::write(&file, policy).unwrap();
    let ran = run_with(&["config", "--config", name(&file)]);
    assert_eq!(ran.code, Some(2), "{}", ran.log);
    assert!(ran.out.contains("policy.mode"), "{}", ran.out);
    assert!(ran.log.contains("mode = live needs `emit.source` to be set"), "{}", ran.log);
}
