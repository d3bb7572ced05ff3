//! The files of a deployment, compared with the programs that read them.

use std::fs;
use std::path::Path;
use std::process::Command;

use harvester::shell::redis::{Address, MarkPlaces, MarkText, Server};

use crate::support::binary::{Ran, harvester, name, run, run_with};
use crate::support::redis::RedisServer;
use crate::support::root;

const HISTORY: &str = "replay/nights/incident-2026-02-04/events.jsonl";
const UNITS: [&str; 3] = ["harvester.service", "harvester@.service", "harvester-feed@.service"];

fn deploy() -> std::path::PathBuf {
    root().join("tools/deploy")
}

/// Writes a unit unchanged, except for the path of the program.
fn unit(folder: &Path, file: &str) -> std::path::PathBuf {
    let text = fs::read_to_string(deploy().join(file)).unwrap();
    let here = text.replace("/usr/local/bin/harvester", env!("CARGO_BIN_EXE_harvester"));
    assert_ne!(here, text, "{file} names the program");
    let instance = if file == "harvester@.service" { "@3" } else { "@mark" };
    let path = folder.join(file.replace('@', instance));
    fs::write(&path, here).unwrap();
    path
}

#[test]
fn units_are_valid_and_closed() {
    let folder = tempfile::tempdir().unwrap();
    for file in UNITS {
        let unit = unit(folder.path(), file);
        let analyze = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).arg(&unit).output();
        let Ok(verified) = analyze(&["verify", "--man=no"]) else {
            eprintln!("skipped: systemd-analyze is not installed");
            return;
        };
        let answer = String::from_utf8_lossy(&verified.stderr).into_owned();
        // Units of the machine itself are read as well, and may have faults of their own.
        let ours: Vec<&str> = answer.lines().filter(|line| line.contains("harvester")).collect();
        assert!(ours.is_empty(), "{file}: {ours:?}");
        // The computed exposure is between 0 (closed) and 100.
        let exposure = analyze(&["security", "--offline=yes", "--threshold=15", "--no-pager"]).unwrap();
        assert!(exposure.status.success(), "{file}: {}", String::from_utf8_lossy(&exposure.stdout));
    }
}

#[test]
fn a_unit_with_a_misspelt_setting_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let unit = unit(folder.path(), UNITS[0]);
    fs::write(&unit, fs::read_to_string(&unit).unwrap().replace("WatchdogSec", "WatchdogSecs")).unwrap();
    let Ok(verified) = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output() else {
        eprintln!("skipped: systemd-analyze is not installed");
        return;
    };
    let answer = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(answer.contains("WatchdogSecs"), "{answer}");
}

#[test]
fn the_compose_file_matches_the_program_and_the_access_list() {
    let text = fs::read_to_string(deploy().join("compose.yaml")).unwrap();
    let compose: serde_json::Value = serde_saphyr::from_str(&text).expect("compose.yaml is YAML");
    let service = &compose["services"]["harvester"];
    let command: Vec<&str> = service["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let shown = run_with(&[&["config", "--json"], &command[1..]].concat()).json();
    assert!(shown.to_string().contains("0.0.0.0:9464"), "{shown}");
    let url = service["environment"]["REDIS_URL"].as_str().unwrap();
    let list = fs::read_to_string(deploy().join("redis.acl")).unwrap();
    let user = url.trim_start_matches("redis://").split(':').next().unwrap();
    assert!(list.lines().any(|line| line.starts_with(&format!("user {user} on >CHANGE-ME "))), "{user}");
    let ignored = fs::read_to_string(deploy().join("Dockerfile.dockerignore")).unwrap();
    assert!(ignored.lines().any(|line| line == "**/*.env"), "secrets stay out of the image");
}

/// The users of the compose file, on a server: no user is admitted without a password.
#[test]
fn the_compose_file_leaves_no_user_open() {
    let text = fs::read_to_string(deploy().join("compose.yaml")).unwrap();
    let compose: serde_json::Value = serde_saphyr::from_str(&text).expect("compose.yaml is YAML");
    let redis = &compose["services"]["redis"];
    let script = redis["command"][2].as_str().expect("a script").replace("$$", "$");
    assert!(!script.contains("--protected-mode no"), "{script}");
    // All of it except the server, which the test starts.
    let (users, _) = script.split_once("&& exec redis-server").expect("it starts a server");
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("users.acl");
    let users =
        users.replace("/tmp/users.acl", name(&list)).replace("/etc/harvester.acl", name(&deploy().join("redis.acl")));
    let made = Command::new("sh").args(["-c", users.trim()]).env("HARVESTER_REDIS_PASSWORD", "hush").status().unwrap();
    assert!(made.success());
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&list).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "the file contains passwords");
    let server = RedisServer::start_with(&["--aclfile", name(&list)]);
    assert!(server.cli(&["PING"]).contains("NOAUTH"), "a client without a password is refused");
    assert_eq!(server.cli(&["-a", "hush", "--no-auth-warning", "PING"]).trim(), "PONG");
    let healthcheck = redis["healthcheck"]["test"][1].as_str().expect("a command").replace("$$", "$");
    assert!(healthcheck.contains("REDISCLI_AUTH=$HARVESTER_REDIS_PASSWORD"), "{healthcheck}");
}

/// Returns the documents of a file of Kubernetes.
fn documents() -> Vec<serde_json::Value> {
    let text = fs::read_to_string(deploy().join("kubernetes.yaml")).unwrap();
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).expect("it is YAML")).collect()
}

#[test]
fn the_stateful_set_has_the_cells_of_its_configuration() {
    let documents = documents();
    let of_kind = |kind: &str| documents.iter().find(|document| document["kind"] == kind).expect("it is there");
    let (service, set) = (of_kind("Service"), of_kind("StatefulSet"));
    let (spec, pod) = (&set["spec"], &set["spec"]["template"]["spec"]);
    assert_eq!(spec["serviceName"], service["metadata"]["name"]);
    assert_eq!(spec["selector"]["matchLabels"], spec["template"]["metadata"]["labels"]);
    assert_eq!(service["spec"]["selector"], spec["selector"]["matchLabels"]);
    let container = &pod["containers"][0];
    let volumes: Vec<&str> = pod["volumes"].as_array().unwrap().iter().filter_map(|v| v["name"].as_str()).collect();
    let claims = spec["volumeClaimTemplates"].as_array().unwrap().iter().filter_map(|c| c["metadata"]["name"].as_str());
    let known: Vec<&str> = volumes.into_iter().chain(claims).collect();
    let mounts = container["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().all(|mount| known.contains(&mount["name"].as_str().unwrap())), "{known:?}");
    // The ordinal is the cell, and the program accepts the configuration for each of them.
    let variables = container["env"].as_array().unwrap();
    let cell = variables.iter().find(|variable| variable["name"] == "HARVEST_CELL").expect("the cell");
    let path = &cell["valueFrom"]["fieldRef"]["fieldPath"];
    assert_eq!(path, "metadata.labels['apps.kubernetes.io/pod-index']");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("harvester.toml");
    fs::write(&file, of_kind("ConfigMap")["data"]["harvester.toml"].as_str().unwrap()).unwrap();
    let cells = spec["replicas"].as_u64().unwrap() as u32;
    for ordinal in 0..cells {
        let environment = [("HARVEST_CELL".to_owned(), ordinal.to_string())].into();
        let config = harvester::config::Config::from_parts(Some(&file), environment).expect("it is valid");
        config.check_cell().expect("the cells share no forbidden name");
        assert_eq!((config.run.cell, config.cells()), (Some(ordinal), Some(cells)));
        let port = config.run.listen.expect("pages").port();
        assert_eq!(container["ports"][0]["containerPort"], port);
        let mount = mounts.iter().find(|mount| mount["name"] == "state").unwrap()["mountPath"].as_str().unwrap();
        assert!(config.run.store.starts_with(mount) && config.run.journal.starts_with(mount));
    }
}

#[test]
fn the_stateful_set_is_valid_by_the_schema_of_kubernetes() {
    let file = deploy().join("kubernetes.yaml");
    let Ok(checked) = Command::new("kubernetes-validate").arg("--strict").arg(&file).output() else {
        eprintln!("skipped: kubernetes-validate is not installed (pip install kubernetes-validate)");
        return;
    };
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn units_limit_the_resources_of_a_service() {
    for file in UNITS {
        let text = fs::read_to_string(deploy().join(file)).unwrap();
        for setting in
            ["LimitNOFILE=", "LimitCORE=0", "TasksMax=", "MemoryMax=", "UMask=0077", "StateDirectoryMode=0700"]
        {
            assert!(text.lines().any(|line| line.starts_with(setting)), "{file} has no {setting}");
        }
    }
}

/// A start without a network takes ten seconds and ends with exit code 3. With a limit of starts, systemd would give up
/// after some minutes, and a person would have to start the service after an outage.
#[test]
fn units_start_a_service_again_for_ever() {
    for file in UNITS {
        let text = fs::read_to_string(deploy().join(file)).unwrap();
        let has = |setting: &str| text.lines().any(|line| line == setting);
        assert!(has("StartLimitIntervalSec=0") && has("Restart=on-failure") && has("RestartSec=5"), "{file}");
        assert!(!text.contains("StartLimitBurst"), "{file}: without an interval it has no effect");
        assert!(has("RestartPreventExitStatus=2"), "{file}: a wrong configuration is not tried again");
    }
}

/// A server with the users of the list.
struct Guarded {
    server: RedisServer,
    folder: tempfile::TempDir,
}

impl Guarded {
    fn empty() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let list = fs::read_to_string(deploy().join("redis.acl")).unwrap().replace("CHANGE-ME", "hush");
        let file = folder.path().join("users.acl");
        fs::write(&file, list).unwrap();
        let server = RedisServer::start_with(&["--aclfile", name(&file)]);
        Self { server, folder }
    }

    /// Starts it with the night of the incident in its streams.
    fn with_history() -> Self {
        let guarded = Self::empty();
        // Entries that the service has fetched itself are in its own stream.
        let text = fs::read_to_string(root().join(HISTORY)).unwrap();
        let file = guarded.folder.path().join("events.jsonl");
        fs::write(&file, text.replace("quantum:stream:harvest.", "quantum:stream:harvest.shadow.")).unwrap();
        let mut import = harvester();
        import.args(["import", name(&file), "--redis", &guarded.server.url()]).envs(shadow_streams());
        let imported = run(&mut import);
        assert_eq!(imported.code, Some(0), "{}", imported.log);
        guarded
    }

    fn run_as(&self, user: &str, arguments: &[&str]) -> Ran {
        let url = self.server.url().replace("redis://", &format!("redis://{user}:hush@"));
        let mut command = harvester();
        command.args(arguments).current_dir(self.folder.path());
        if user == "harvester" {
            command.envs(shadow_streams());
        }
        run(command.env("REDIS_URL", url))
    }

    /// Returns the answer of the server to a command of a user, without running it.
    fn answer(&self, user: &str, command: &str) -> String {
        let words: Vec<&str> = ["ACL", "DRYRUN", user].into_iter().chain(command.split(' ')).collect();
        self.server.cli(&words).trim().to_owned()
    }
}

/// Returns the streams of a shadow service, as the env file names them.
fn shadow_streams() -> Vec<(String, String)> {
    let text = fs::read_to_string(deploy().join("harvester.env")).unwrap();
    let streams = text.lines().filter_map(|line| line.split_once('=')).filter(|(name, _)| name.starts_with("STREAM_"));
    let streams: Vec<_> = streams.map(|(name, stream)| (name.to_owned(), stream.to_owned())).collect();
    assert_eq!(streams.len(), 5, "{streams:?}");
    let compose = fs::read_to_string(deploy().join("compose.yaml")).unwrap();
    for (name, stream) in &streams {
        assert!(compose.contains(&format!("{name}: {stream}\n")), "{name} in compose.yaml");
    }
    streams
}

#[test]
fn the_service_runs_as_the_user_of_the_access_list() {
    let guarded = Guarded::with_history();
    let service = ["run", "--until-idle", "1", "--listen", "", "--store", "state", "--journal", "journal"];
    for _ in 0..2 {
        let ran = guarded.run_as("harvester", &service);
        assert_eq!(ran.code, Some(0), "{}", ran.log);
    }
    for switch in ["on", "off"] {
        let answer = guarded.run_as("harvester-operator", &["control", "kill", switch, "--reason", "r", "--yes"]);
        assert_eq!(answer.code, Some(0), "{}", answer.log);
    }
    let replayed = run_with(&["replay", name(&root().join(HISTORY)), "--json"]).json();
    let written = guarded.server.cli(&["XLEN", "quantum:stream:harvest.shadow.decision"]);
    assert_eq!(written.trim(), replayed["decisions"].to_string());
    assert_ne!(written.trim(), "0", "a decision was written");
    // The server logs everything that it has refused.
    assert_eq!(guarded.server.cli(&["ACL", "LOG"]).trim(), "", "something was refused");
}

#[test]
fn the_doctor_names_the_user_of_the_access_list() {
    let guarded = Guarded::empty();
    for user in ["harvester", "harvester-live"] {
        let ran = guarded.run_as(user, &["doctor", "--all"]);
        assert!(ran.out.contains(&format!("rights: user {user}; the server cannot say")), "{}{}", ran.out, ran.log);
    }
    assert_eq!(guarded.answer("harvester-operator", "ACL WHOAMI"), "OK");
}

#[test]
fn the_live_user_of_the_access_list_can_send_an_order() {
    let guarded = Guarded::empty();
    let policy = r#"
        [policy]
        mode = "live"
        ladder = "0.5:0.25"
        atr_unit = { default = "absolute" }
        price_sources = ["market.tick"]
        on_live = "take"
        require_instrument = false
        [emit]
        format = "apply_plan"
        source = "harvester"
        executors = ["executor"]
    "#;
    fs::write(guarded.folder.path().join("live.toml"), policy).unwrap();
    guarded.server.cli(&["XGROUP", "CREATE", "quantum:stream:apply.plan", "executor", "0", "MKSTREAM"]);
    // Ids by the server's clock, as producers write them: an older decision would not be sent.
    let answer = |stream: &str, fields: &str| {
        let stream = format!("quantum:stream:{stream}");
        let words: Vec<&str> = ["XADD", &stream, "*"].into_iter().chain(fields.split(' ')).collect();
        guarded.server.cli(&words);
    };
    answer("trade.intent", r#"payload {"symbol":"ADAUSDT","side":"BUY","atr_value":0.02,"volatility_factor":1}"#);
    answer(
        "apply.result",
        "symbol ADAUSDT side BUY status FILLED order_id 7 filled_qty 100 avgPrice 1.5 reduceOnly False",
    );
    answer("market.tick", "symbol ADAUSDT price 1.5");
    answer("market.tick", "symbol ADAUSDT price 1.52");
    let mut service = vec!["run", "--config", "live.toml", "--until-idle", "1", "--listen", ""];
    service.extend(["--store", "state", "--journal", "journal"]);
    let ran = guarded.run_as("harvester-live", &service);
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    let orders = guarded.server.cli(&["XRANGE", "quantum:stream:apply.plan", "-", "+"]);
    assert!(orders.contains("reduceOnly\ntrue") && orders.contains("side\nSELL"), "{orders}{}", ran.log);
    assert_eq!(guarded.server.cli(&["ACL", "LOG"]).trim(), "", "something was refused");
}

#[test]
fn commands_that_the_service_does_not_need_are_refused() {
    let guarded = Guarded::empty();
    for user in ["harvester", "harvester-live", "harvester-feed"] {
        for foreign in [
            "FLUSHALL",
            "KEYS *",
            "CONFIG GET requirepass",
            "ACL LIST",
            "SET quantum:kill 0",
            "DEL quantum:stream:apply.result",
            "DEL quantum:stream:harvest.decision",
            "XTRIM quantum:stream:apply.result MAXLEN 1",
            "XDEL quantum:stream:harvest.decision 1-1",
            "XADD quantum:stream:apply.result * a b",
            "XADD elsewhere * a b",
            "XGROUP SETID quantum:stream:apply.result harvester 0",
            "XGROUP DESTROY quantum:stream:apply.result harvester",
            "HSET quantum:position:ADAUSDT qty 0",
            "EVAL x 0",
        ] {
            let answer = guarded.answer(user, foreign);
            assert!(answer.contains("has no permissions"), "{user}: {foreign}: {answer}");
        }
    }
    for needed in [
        "XADD quantum:stream:market.mark MAXLEN ~ 10 * a b",
        "XADD quantum:stream:harvest.observation * a b",
        "XREVRANGE quantum:stream:harvest.observation + - COUNT 5",
        "TIME",
        "SCRIPT LOAD x",
        "EVALSHA x 3 quantum:stream:market.mark quantum:ticker:ADAUSDT quantum:market:ADAUSDT",
        "EVALSHA x 1 quantum:stream:harvest.observation",
        "HSET quantum:ticker:ADAUSDT markPrice 1",
        "PEXPIRE quantum:market:ADAUSDT 5",
    ] {
        assert_eq!(guarded.answer("harvester-feed", needed), "OK", "{needed}");
    }
    let address = guarded.server.url().replace("redis://", "redis://harvester-feed:hush@");
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let mut server = Server::connect(&Address::new(&address, None).unwrap()).await.unwrap();
        let left = || std::time::Duration::from_secs(60);
        let entries = [vec![("event_type", "exchange.position")]];
        let ids = server.add_in_time("quantum:stream:harvest.observation", &entries, left).await;
        assert_eq!(ids.expect("an append").map(|ids| ids.len()), Some(1));
        let (payload, price, symbol) = ("{}".to_owned(), "1".to_owned(), "ADAUSDT".to_owned());
        let stream = "quantum:stream:market.mark".to_owned();
        let places = MarkPlaces { stream, entries_max: 10, expiry: left() };
        assert!(server.write_marks(&places, &[MarkText { symbol, payload, price, time_ms: 1 }], left).await.unwrap());
    });
    // A shadow service writes nothing that a live service believes.
    for loosening in [
        "XADD quantum:stream:harvest.control * event_type policy.adopted payload {}",
        "XADD quantum:stream:harvest.observation * event_type exchange.position payload {}",
        "XADD quantum:stream:harvest.decision * event_type harvest.decision",
        "HSET quantum:stream:harvest.decision:emitted x y",
        "SET quantum:stream:harvest.decision:lease x",
        "DEL quantum:stream:harvest.decision:lease",
        "SET quantum:kill 0",
    ] {
        let answer = guarded.answer("harvester", loosening);
        assert!(answer.contains("has no permissions"), "{loosening}: {answer}");
    }
    for (allowed, command) in [
        ("OK", "XADD quantum:stream:harvest.control * event_type kill.changed payload {}"),
        ("OK", "SET quantum:kill 1"),
        ("no permissions", "XADD quantum:stream:apply.plan * a b"),
        ("no permissions", "XADD quantum:stream:harvest.decision * a b"),
        ("no permissions", "SET quantum:stream:harvest.decision:lease x"),
        ("no permissions", "DEL quantum:kill"),
    ] {
        let answer = guarded.answer("harvester-operator", command);
        assert!(answer.contains(allowed), "{command}: {answer}");
    }
    // Orders: only for the live user.
    for stream in ["quantum:stream:apply.plan", "quantum:stream:trade.intent"] {
        let order = format!("XADD {stream} * a b");
        assert!(guarded.answer("harvester", &order).contains("has no permissions"), "shadow writes no order");
        assert_eq!(guarded.answer("harvester-live", &order), "OK");
    }
}
