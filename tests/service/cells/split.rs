//! A split of two running cells into three: what it checks, writes and leaves, and that each decision is made once.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Map, Value};

use super::{CELLS, Folder, QUIET, decision_stream, decisions, history, wanted};
use crate::support::binary::{harvester, run};
use crate::support::redis::RedisServer;
use crate::support::service::{PRICE, RESULT, add, field_of_all, import, until};

/// Returns the settings of three cells with names of their own.
fn three_cells() -> String {
    let names = CELLS.replace("{cell-%cell%}", "{v2-cell-%cell%}").replace("\"store-", "\"v2-store-");
    let names = names.replace("\"journal-", "\"v2-journal-").replace("\"harvester-", "\"v2-harvester-");
    names.replace("%cell%/2", "%cell%/3").replace("cells = 2", "cells = 3")
}

#[test]
fn two_cells_are_split_into_three_and_each_decision_is_made_once() {
    let server = RedisServer::start();
    let place = Folder::new(&server, CELLS);
    std::fs::write(place.path().join("three.toml"), format!("{}{QUIET}", three_cells())).expect("the settings");
    let of_three = |arguments: &[&str]| {
        let mut command = harvester();
        command.current_dir(place.path()).args(arguments).args(["--config", "three.toml"]);
        command.env("REDIS_URL", &place.url).stdin(Stdio::null());
        command
    };
    let split =
        |more: &[&str]| run(&mut of_three(&[&["cells", "split", "--from", "harvester.toml", "--json"], more].concat()));
    let file = place.path().join("history.jsonl");
    let all = history(&server);
    let (before, after) =
        all.split_at(all.trim_end().rfind("1.011").map_or(0, |at| all[..at].rfind('\n').expect("a line") + 1));
    std::fs::write(&file, before).expect("the history is written");
    import(&file, &server);
    place.run_until_idle(&["--cell", "0..1", "--listen", ""]);
    let by_old = [decisions(&server, 0), decisions(&server, 1)].concat();
    assert!(by_old.len() >= 3, "{by_old:?}");

    // A running service is named, and nothing is changed.
    let mut running = place.start("log", &["--cell", "0..1", "--listen", ""]);
    until("the cells lead", || place.log("log").matches("is_leader=true").count() == 2);
    for more in [&[][..], &["--write"]] {
        let refused = split(more);
        assert!(refused.code == Some(2) && refused.log.contains("the old cell 0 is led by"), "{}", refused.log);
    }
    running.kill().expect("it runs");
    running.wait().expect("it ends");
    let leases: Vec<String> = (0..2).map(|cell| format!("{}:lease", decision_stream(cell))).collect();
    until("the leases run out", || leases.iter().all(|lease| server.cli(&["EXISTS", lease]).trim() == "0"));

    let tried = split(&[]).json();
    assert_eq!((&tried["written"], &tried["differences"]), (&Value::from(false), &Value::from(Vec::<Value>::new())));
    let v2 = |cell: u32| format!("quantum:{{v2-cell-{cell}}}:stream:harvest.decision");
    let is_there = |name: &str| place.path().join(name).exists();
    assert!(!is_there("v2-journal-0") && !is_there("v2-journal-0.split") && !is_there("v2-journal-0.ends"));
    assert!(leases.iter().all(|lease| server.cli(&["EXISTS", lease]).trim() == "0"));
    assert!((0..3).all(|cell| server.cli(&["EXISTS", &v2(cell)]).trim() == "0"));

    let made = split(&["--write"]).json();
    assert_eq!(made["written"], Value::from(true), "{made}");
    let in_v2 = || -> Vec<String> {
        (0..3)
            .flat_map(|cell| {
                let seqs = field_of_all(&server, &v2(cell), "seq");
                assert!((1..).zip(&seqs).all(|(n, seq)| *seq == n.to_string()), "{seqs:?}");
                field_of_all(&server, &v2(cell), "payload")
            })
            .collect()
    };
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    assert_eq!(sorted(in_v2()), sorted(by_old.clone()), "the decisions are adopted unchanged");

    let start_three = || {
        let ended = run(&mut of_three(&["run", "--cell", "0..2", "--listen", "", "--until-idle", "0.5"]));
        assert_eq!(ended.code, Some(0), "{}", ended.log);
        ended.log
    };
    let log = start_three();
    assert!(!log.contains("history.gap") && !log.contains("written again"), "{log}");
    assert_eq!(sorted(in_v2()), sorted(by_old.clone()), "nothing is decided again, and nothing is written again");

    // Prices continue. The old cells are started by mistake as well: they do not lead any more.
    std::fs::write(&file, after).expect("the history is written");
    for line in after.lines() {
        let line: Value = serde_json::from_str(line).expect("a line is JSON");
        let price = line["fields"]["price"].as_str().expect("a price");
        add(&server, PRICE, &[("symbol", "ADAUSDT"), ("price", price)]);
    }
    let mut mistaken = place.start("log", &["--cell", "0..1", "--listen", ""]);
    start_three();
    until("the old cells stand by", || place.log("log").lines().count() > 2);
    mistaken.kill().expect("it runs");
    mistaken.wait().expect("it ends");
    assert!(!place.log("log").contains("is_leader=true"), "{}", place.log("log"));
    assert_eq!(
        [decisions(&server, 0), decisions(&server, 1)].concat(),
        by_old,
        "the old cells make no further decision"
    );
    let ids = |list: Vec<String>| -> Vec<String> {
        let id = |payload: &String| {
            let payload: Map<String, Value> = serde_json::from_str(payload).expect("a payload is JSON");
            payload["decision_id"].as_str().expect("an id").to_owned()
        };
        sorted(list.iter().map(id).collect())
    };
    std::fs::write(&file, &all).expect("the history is written");
    assert_eq!(ids(in_v2()), ids(wanted(&file)), "each decision once, as one service over all accounts makes them");
    for cell in 0..3 {
        let journal = format!("v2-journal-{cell}");
        let verified = run(harvester().current_dir(place.path()).args(["journal", "verify", &journal]));
        assert_eq!(verified.code, Some(0), "{}", verified.out);
        // The carried decisions have their causes in the journal, and their own chain.
        let audited = run(harvester().current_dir(place.path()).args(["audit", "--journal", &journal, "--json"]));
        let audited: Value = serde_json::from_str(&audited.out).expect("a document");
        for findings in ["tampered", "differs", "missing", "unexpected", "duplicated"] {
            assert_eq!(audited[findings], Value::from(Vec::<Value>::new()), "{findings}: {audited}");
        }
    }
}

/// The commands of `harvester-live` in tools/deploy/redis.acl, and those that the pages add for a split.
const OF_LIVE: &str = "+multi +exec +time +info +script|load +xadd +xrange +xrevrange +xread +xreadgroup +xack +xautoclaim \
    +xpending +type +xinfo|stream +xinfo|groups +xinfo|consumers +xgroup|create +evalsha +watch +get +set +incr +pexpire \
    +del +hget +hset";
const OF_SPLIT: &str = "+xlen +xsetid +xgroup|destroy";

#[test]
fn a_split_that_was_stopped_names_what_it_left_and_is_completed_by_another_run() {
    let server = RedisServer::start();
    for page in ["docs/more-than-one-machine.md", "tools/deploy/README.md"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).expect("the page");
        assert!(OF_SPLIT.split(' ').all(|command| text.contains(command)), "{page} names the rights");
    }
    let requests = |settings: &str, tag: &str, more: &str| {
        let own = format!("\"quantum:{{{tag}cell-%cell%}}:stream:apply.plan\"");
        settings.replace("[run]\n", &format!("plan = [{own}{more}]\n[emit]\nstream = {own}\n[run]\n"))
    };
    let place = Folder::new(&server, &requests(CELLS, "", ""));
    let file = place.path().join("three.toml");
    std::fs::write(&file, format!("{}{QUIET}", requests(&three_cells(), "v2-", ""))).expect("the settings");
    server.cli(
        &[
            &["ACL", "SETUSER", "split", "on", ">pw", "~*"][..],
            &OF_LIVE.split(' ').chain(OF_SPLIT.split(' ')).collect::<Vec<_>>(),
        ]
        .concat(),
    );
    let of_three = |arguments: &[&str]| {
        let mut command = harvester();
        command.current_dir(place.path()).args(arguments).args(["--config", "three.toml"]);
        command.env("REDIS_URL", server.url().replace("redis://", "redis://split:pw@")).stdin(Stdio::null());
        run(&mut command)
    };
    let split = |more: &[&str]| of_three(&[&["cells", "split", "--from", "harvester.toml"], more].concat());
    for (cell, account) in ["B", "A"].into_iter().enumerate() {
        let planned = [("symbol", "ADAUSDT"), ("account", account), ("plan_id", account), ("decision", "EXECUTE")];
        let planned = [&planned[..], &[("side", "BUY"), ("qty", "100")]].concat();
        add(&server, &format!("quantum:{{cell-{cell}}}:stream:apply.plan"), &planned);
        let order = format!("open-{account}");
        let filled = [("symbol", "ADAUSDT"), ("account", account), ("plan_id", account), ("side", "BUY")];
        let more = [("executedQty", "100"), ("avgPrice", "1"), ("orderId", &*order), ("status", "FILLED")];
        add(&server, RESULT, &[&filled[..], &more].concat());
    }
    place.run_until_idle(&["--cell", "0..1", "--listen", ""]);

    // The request streams of the old cells are inputs of the new ones.
    let refused = split(&[]);
    let names = "Add to streams.plan of the new cells, beside their own: \"quantum:{cell-0}:stream:apply.plan\", \
                 \"quantum:{cell-1}:stream:apply.plan\"";
    assert!(refused.code == Some(2) && refused.log.contains(names), "{}", refused.log);
    let old = ", \"quantum:{cell-0}:stream:apply.plan\", \"quantum:{cell-1}:stream:apply.plan\"";
    std::fs::write(&file, format!("{}{QUIET}", requests(&three_cells(), "v2-", old))).expect("the settings");

    // All keys that an earlier run has begun are named at once.
    let left = [
        "quantum:{v2-cell-0}:stream:harvest.decision",
        "quantum:{v2-cell-1}:stream:harvest.decision:emitted",
        "quantum:{v2-cell-2}:stream:harvest.control",
    ];
    server.cli(&["XADD", left[0], "*", "a", "b"]);
    server.cli(&["HSET", left[1], "a", "b"]);
    server.cli(&["XADD", left[2], "*", "a", "b"]);
    for more in [&[][..], &["--write"]] {
        let refused = split(more);
        let names_all = left.iter().all(|key| refused.log.contains(key));
        assert!(refused.code == Some(2) && names_all, "{}", refused.log);
    }
    for key in left {
        server.cli(&["DEL", key]);
    }

    server.cli(&["ACL", "LOG", "RESET"]);
    let made = split(&["--write"]);
    assert_eq!(made.code, Some(0), "{}{}", made.out, made.log);
    assert_eq!(server.cli(&["ACL", "LOG"]).trim(), "", "the rights are enough");
    let again = split(&["--write"]);
    assert!(again.code == Some(0) && again.out.contains("the split is complete"), "{}{}", again.out, again.log);

    // It was killed between the names of two journals.
    let journal = |end: &str| place.path().join(format!("v2-journal-1{end}"));
    std::fs::rename(journal(""), journal(".split")).expect("the journal is there");
    let tried = split(&[]);
    assert!(tried.code == Some(2) && tried.log.contains("repeat it with --write"), "{}{}", tried.out, tried.log);
    let completed = split(&["--write", "--json"]).json();
    assert_eq!(completed["written"], Value::from(true), "{completed}");
    assert!(journal("").exists() && !journal(".split").exists());

    let mut command = harvester();
    command.current_dir(place.path()).args(["run", "--cell", "0..2", "--listen", "", "--until-idle", "0.5"]);
    let started = run(command.args(["--config", "three.toml"]).env("REDIS_URL", server.url()));
    assert_eq!(started.code, Some(0), "{}", started.log);
    let open = |cell: u32| {
        let store = format!("v2-store-{cell}");
        let shown = run(harvester().current_dir(place.path()).args(["positions", "--json", "--store", &store])).json();
        shown.as_array().map_or(0, Vec::len)
    };
    // sha256 modulo 3: A is in cell 0, B in cell 2.
    assert_eq!([0, 1, 2].map(open), [1, 0, 1]);
}
