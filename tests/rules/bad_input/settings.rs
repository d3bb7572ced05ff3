//! Wrong stores, configurations and arguments.

use std::fs;
use std::path::Path;

use super::{Folder, good};
use crate::support::binary::{harvester, name, run, run_with};

#[test]
fn a_store_in_use_is_refused_in_one_sentence() {
    let folder = Folder::new();
    let history = folder.history(&good());
    run_with(&["replay", &history, "--store", &folder.store(), "--json"]).json();
    let held = harvester::drive::projection::read(Path::new(&folder.store())).expect("the store reads");
    for arguments in [
        vec!["replay", &history, "--store", &folder.store()],
        vec!["positions", "--store", &folder.store()],
        vec!["quarantine", "list", "--store", &folder.store(), "--json"],
    ] {
        run_with(&arguments).refused(&[&folder.store(), "in use"]);
    }
    drop(held);
    run_with(&["positions", "--store", &folder.store(), "--json"]).json();
}

#[test]
fn a_folder_that_is_not_a_store_is_not_changed() {
    let folder = Folder::new();
    let history = folder.history(&good());
    let absent = name(&folder.path("absent")).to_owned();
    run_with(&["positions", "--store", &absent]).refused(&[&absent]);
    assert!(!Path::new(&absent).exists(), "reading creates nothing");

    let foreign = folder.path("foreign");
    fs::create_dir(&foreign).expect("a folder is made");
    fs::write(foreign.join("thesis.txt"), "ten years of work").expect("a file is written");
    run_with(&["replay", &history, "--store", name(&foreign)]).refused(&[name(&foreign)]);
    run_with(&["positions", "--store", name(&foreign)]).refused(&[name(&foreign)]);
    assert_eq!(fs::read_to_string(foreign.join("thesis.txt")).ok().as_deref(), Some("ten years of work"));
    assert_eq!(fs::read_dir(&foreign).expect("the folder reads").count(), 1);

    let file = folder.file("a-file", "x");
    run_with(&["replay", &history, "--store", &file]).refused(&[&file]);
    run_with(&["positions", "NOSUCHUSDT", "--store", &folder.store()]).refused(&[&folder.store()]);
    run_with(&["replay", &history, "--store", &folder.store(), "--json"]).json();
    run_with(&["positions", "NOSUCHUSDT", "--store", &folder.store()]).refused(&["NOSUCHUSDT"]);
}

#[test]
fn a_damaged_store_is_moved_aside_and_rebuilt() {
    let folder = Folder::new();
    let history = folder.history(&good());
    let first = run_with(&["replay", &history, "--store", &folder.store(), "--json"]).json();
    let db = folder.path("store").join("db");
    let mut bytes = fs::read(&db).expect("the store has a log");
    bytes.truncate(bytes.len() / 2);
    for byte in bytes.iter_mut().skip(100) {
        *byte ^= 0x5a;
    }
    fs::write(&db, bytes).expect("the log is damaged");
    run_with(&["positions", "--store", &folder.store()]).refused(&[&folder.store(), "damaged"]);
    let ran = run_with(&["replay", &history, "--store", &folder.store(), "--json"]);
    let again = ran.json();
    assert!(ran.log.contains("quarantine-"), "the notice names the new folder: {}", ran.log);
    assert_eq!(again["applied"], first["applied"]);
    run_with(&["positions", "--store", &folder.store(), "--json"]).json();
}

#[test]
fn a_wrong_configuration_is_refused_with_the_nearest_name() {
    let folder = Folder::new();
    let history = folder.history(&good());
    for (text, names) in [
        ("[policy]\nmin_rr = \"0.5\"\n", ["min_rr", "`min_r`"]),
        ("[policy]\nladdder = \"0.5:0.25\"\n", ["laddder", "`ladder`"]),
        ("[polcy]\nmin_r = \"0.5\"\n", ["polcy", "`policy`"]),
        ("[streams]\nprices = \"x\"\n", ["streams.prices", "`streams.price`"]),
        ("[policy]\nmin_r = \"many\"\n", ["min_r", "many"]),
        ("[policy]\nladder = \"1:0.5,0.5:0.5\"\n", ["ladder", "ascending"]),
        ("[policy]\nmode = \"live\"\n", ["live", "ladder"]),
        ("[policy\n", ["config.toml", "configuration"]),
        ("[redis]\nurl = \"redis://user:a@b#c@host:6379\"\n", ["redis.url", "%23"]),
        ("[streams]\nprice = [\"a\", \"a\"]\n", ["streams", "a is named twice"]),
    ] {
        let config = folder.file("config.toml", text);
        run_with(&["replay", &history, "--config", &config]).refused(&names);
        run_with(&["--config", &config, "replay", &history]).refused(&names);
    }
    let absent = name(&folder.path("absent.toml")).to_owned();
    run_with(&["replay", &history, "--config", &absent]).refused(&[&absent]);
}

#[test]
fn wrong_names_in_the_environment_are_refused_and_values_are_trimmed() {
    let folder = Folder::new();
    let history = folder.history(&good());
    let replay = |name: &str, value: &str| run(harvester().env(name, value).args(["replay", &history, "--json"]));
    replay("HARVEST_MOED", "live").refused(&["HARVEST_MOED", "`HARVEST_MODE`"]);
    replay("HARVEST_REDUCE_ONLY", "false").refused(&["HARVEST_REDUCE_ONLY"]);
    replay("HARVEST_MIN_R", "much").refused(&["HARVEST_MIN_R", "much"]);
    replay("HARVEST_MODE", "live").refused(&["live"]);
    let ran = replay("HARVEST_MIN_R", "3\r");
    assert_eq!(ran.json()["decisions"], 0, "3 R were not reached");
    assert!(ran.log.contains("HARVEST_MIN_R") && ran.log.contains("carriage return"), "{}", ran.log);
    let ran = replay("HARVEST_METRICS_PORT", "9100");
    assert_eq!(ran.json()["decisions"], 1);
    assert!(ran.log.contains("HARVEST_METRICS_PORT"), "{}", ran.log);
    assert_eq!(replay("STREAM_APPLY_RESULT", "somewhere:else").json()["other_streams"], 1);
}

#[test]
fn wrong_usage_is_exit_code_2() {
    for arguments in [
        vec!["replya"],
        vec!["replay", "x", "--jsno"],
        vec!["positions"],
        vec!["quarantine"],
        vec!["schema", "no.such"],
    ] {
        let ran = run_with(&arguments);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{arguments:?}: {}", ran.log);
        assert!(!ran.log.is_empty(), "{arguments:?}");
    }
    for arguments in [vec!["--help"], vec!["--version"], vec!["replay", "--help"], vec!["completions", "bash"]] {
        let ran = run_with(&arguments);
        assert_eq!(ran.code, Some(0), "{arguments:?}: {}", ran.log);
        assert!(!ran.out.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_store_under_another_policy_is_refused_with_the_next_step() {
    let folder = Folder::new();
    let history = folder.history(&good());
    run_with(&["replay", &history, "--store", &folder.store(), "--json"]).json();
    let config = folder.file("config.toml", "[policy]\nmin_r = \"0.7\"\n");
    let arguments = ["replay", &history, "--store", &folder.store(), "--config", &config];
    run_with(&arguments).refused(&[&folder.store(), "policy"]);
}

#[test]
fn a_store_under_another_policy_of_an_account_is_refused_with_the_next_step() {
    let folder = Folder::new();
    let history = folder.history(&good());
    let of_account = |min_r: &str| {
        let text = format!("[policy.accounts.alpha]\nmin_r = \"{min_r}\"\n");
        folder.file(&format!("config-{min_r}.toml"), &text)
    };
    let (before, after) = (of_account("0.6"), of_account("0.7"));
    let replay = |store: &str, config: &[&str]| {
        let store = folder.store() + store;
        run_with(&[&["replay", &history, "--store", &store, "--json"], config].concat())
    };
    replay("one", &["--config", &before]).json();
    replay("one", &["--config", &before]).json();
    replay("one", &["--config", &after]).refused(&["policy of an account", "replay into a new store"]);
    // To name an account also changes the general policy, which contains the accounts.
    replay("one", &[]).refused(&["the configured policy"]);
    replay("two", &[]).json();
    replay("two", &["--config", &before]).refused(&["the configured policy"]);
}

#[test]
fn a_flag_that_would_have_no_effect_is_refused() {
    for arguments in [
        &["record", "--listen", "127.0.0.1:0"][..],
        &["record", "--store", "store"],
        &["record", "--group", "group"],
        &["demo", "--listen", "127.0.0.1:0"],
        &["demo", "--base-path", "/x"],
        &["demo", "--open"],
        &["backfill", "--store", "store"],
    ] {
        run_with(arguments).refused_usage();
    }
}
