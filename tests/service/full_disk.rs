//! The disk is full while the service is at work: it says so and ends, acknowledges nothing that is not durable, and goes
//! on where it was once there is room.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::binary::{harvester, name, run};
use crate::support::redis::RedisServer;
use crate::support::service::{
    DECISION, PRICE, Place, RESULT, decisions, entries, open_position, payloads, price, until,
};
use crate::support::{config, replayed};
use harvester::cli::replay::Request;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// The service under a shell that ignores the signal of a file that grows too long, so that the write fails instead; with
/// a limit in blocks of 512 bytes, if there is one.
fn command(place: &Place, blocks: Option<u64>) -> Command {
    let service = place.command();
    let limit = blocks.map_or_else(String::new, |blocks| format!("ulimit -f {blocks}; "));
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("trap '' XFSZ; {limit}exec \"$0\" \"$@\"")]).arg(service.get_program());
    shell.args(service.get_args()).env_clear();
    shell.envs(service.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let log = std::fs::File::options().create(true).append(true).open(place.folder.path().join("log")).unwrap();
    shell.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).stderr(log);
    shell
}

fn journal_file(place: &Place) -> PathBuf {
    let files = std::fs::read_dir(place.journal()).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "zst")).max().expect("a file")
}

fn pending(server: &RedisServer, stream: &str) -> String {
    server.cli(&["XPENDING", stream, "harvester"]).lines().next().unwrap_or_default().to_owned()
}

fn replay_of(history: &Path, store: &Path) -> (Vec<String>, serde_json::Value) {
    let request = Request { histories: vec![history.to_owned()], store: Some(store.to_owned()), ..Request::default() };
    let (_, lines) = replayed(&request, &config(None));
    let positions = run(harvester().args(["positions", "--json", "--all", "--store", name(store)])).json();
    (payloads(&lines), positions)
}

/// `room`: how long files may grow, by what the journal holds; `start`: the same for a later start, in blocks;
/// `left`: pending prices and decisions when the service has ended.
fn is_survived(what: &str, room: impl Fn(u64) -> u64, start: u64, left: (&str, usize)) {
    let server = RedisServer::start();
    let place = Place::new(&server);
    let mut child = command(&place, None).spawn().unwrap();
    open_position(&server, "AAAUSDT");
    price(&server, "AAAUSDT", "1.008");
    until("the first decision is out", || entries(&server, DECISION).len() == 1);
    until("its record has come back", || {
        [PRICE, RESULT, DECISION].iter().all(|stream| pending(&server, stream) == "0")
            && server.cli(&["XINFO", "GROUPS", DECISION]).contains("harvester")
    });

    let held = std::fs::metadata(journal_file(&place)).unwrap().len();
    let limit = Rlimit { current: Some(room(held)), maximum: getrlimit(Resource::Fsize).maximum };
    prlimit(Some(Pid::from_child(&child)), Resource::Fsize, limit).unwrap();
    price(&server, "AAAUSDT", "1.013");
    let mut status = None;
    until("the service ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    let log = place.log();
    assert_eq!(status.and_then(|status| status.code()), Some(3), "worth another start: {log}");
    let said = format!("harvester: the service ended: the disk of the {what}");
    assert!(log.lines().any(|line| line.starts_with(&said) && line.contains(" is full: ")), "{log}");
    assert_eq!((pending(&server, PRICE).as_str(), decisions(&server).len()), left, "{log}");

    // Started again and again while there is no room: it says so, and makes nothing worse.
    for _ in 0..2 {
        let ran = run(command(&place, Some(start)).args(["--until-idle", "0.3"]));
        let said =
            ran.log.lines().find(|line| line.starts_with("harvester: the service ended: the ")).unwrap_or_default();
        assert_eq!((ran.code, said.contains("File too large")), (Some(3), true), "{}", ran.log);
        assert_eq!((pending(&server, PRICE).as_str(), decisions(&server).len()), left, "{}", ran.log);
    }

    // Room is made.
    price(&server, "AAAUSDT", "1.018");
    place.run_until_idle();
    let log = place.log();
    assert!(!log.contains("panicked"), "{log}");
    assert_eq!((pending(&server, PRICE).as_str(), decisions(&server).len()), ("0", 3), "{log}");
    let dump = place.folder.path().join("dump.jsonl");
    let streams = config(None).streams;
    server.dump(&dump, streams.iter().map(|(_, stream)| stream.name.as_str()));
    let (again, positions) = replay_of(&dump, &place.folder.path().join("of-streams"));
    assert_eq!((place.positions(), again), (positions, Vec::new()), "{log}");
    let (_, positions) = replay_of(&place.journal(), &place.folder.path().join("of-journal"));
    assert_eq!(place.positions(), positions, "{log}");
    // Without what was decided: the rules lead to the same.
    let inputs = place.folder.path().join("inputs.jsonl");
    server.dump(&inputs, streams.iter().map(|(_, s)| s.name.as_str()).filter(|name| *name != DECISION));
    assert_eq!(decisions(&server), replay_of(&inputs, &place.folder.path().join("of-inputs")).0, "{log}");
}

#[test]
fn a_full_disk_ends_the_service_and_nothing_is_acknowledged_that_is_not_on_disk() {
    std::thread::scope(|scope| {
        scope.spawn(|| is_survived("journal", |held| held, 1, ("1", 1)));
        // Enough for the journal. What is durable there may be emitted before the checkpoint fails.
        scope.spawn(|| is_survived("store", |held| held + 4_096, 16, ("0", 2)));
    });
}
