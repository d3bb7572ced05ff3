//! Files and folders with data of an account: only their owner can read them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::support::binary::{harvester, name, run, run_with};
use crate::support::redis::RedisServer;
use crate::support::root;

const HISTORY: &str = "replay/nights/incident-2026-02-04/events.jsonl";

/// Returns all files and folders below a folder that others may read, enter or write, and their number.
fn open_to_others(folder: &Path) -> (Vec<PathBuf>, usize) {
    let mut open = Vec::new();
    let mut all = vec![folder.to_owned()];
    let mut at = 0;
    while let Some(path) = all.get(at).cloned() {
        at += 1;
        let metadata = fs::symlink_metadata(&path).expect("it is there");
        if path != folder && metadata.permissions().mode() & 0o077 != 0 {
            open.push(path.clone());
        }
        if metadata.is_dir() {
            all.extend(fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        }
    }
    (open, all.len())
}

#[test]
fn written_files_are_readable_by_their_owner_alone() {
    let server = RedisServer::start();
    let imported = run_with(&["import", name(&root().join(HISTORY)), "--redis", &server.url()]);
    assert_eq!(imported.code, Some(0), "{}", imported.log);
    let folder = tempfile::tempdir().expect("a folder");
    let at = |part: &str| folder.path().join(part);
    // Folders of an earlier version, which left them open.
    for former in ["journal", "service"] {
        fs::create_dir(at(former)).expect("a folder");
        fs::set_permissions(at(former), fs::Permissions::from_mode(0o755)).expect("its mode");
    }
    let ran = run(harvester().args(["run", "--redis", &server.url(), "--until-idle", "1", "--listen", ""]).args([
        "--store",
        name(&at("service")),
        "--journal",
        name(&at("journal")),
    ]));
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    let ran = run_with(&[
        "replay",
        name(&root().join(HISTORY)),
        "--store",
        name(&at("store")),
        "--snapshot-every",
        "500",
        "--decisions",
        name(&at("decisions.jsonl")),
    ]);
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    // A damaged store is moved aside, and stays closed there.
    fs::write(at("store").join("db"), "no database").expect("a write");
    let ran = run_with(&["replay", name(&root().join(HISTORY)), "--store", name(&at("store"))]);
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    let (open, all) = open_to_others(folder.path());
    println!("{all} files and folders were written");
    assert_eq!(open, Vec::<PathBuf>::new());
    assert!(all > 12, "{all}");
    for part in ["store", "store.snapshots", "journal", "service"] {
        assert_eq!(fs::metadata(at(part)).expect("it is there").permissions().mode() & 0o777, 0o700, "{part}");
    }
    assert_eq!(fs::metadata(at("decisions.jsonl")).expect("it is there").permissions().mode() & 0o777, 0o600);
}

/// Incident of a disk: a closed file of the journal changes, and the service that is killed later never reads it
/// again.
#[test]
fn after_a_crash_closed_files_of_the_journal_are_compared_once() {
    let server = RedisServer::start();
    let imported = run_with(&["import", name(&root().join(HISTORY)), "--redis", &server.url()]);
    assert_eq!(imported.code, Some(0), "{}", imported.log);
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("journal");
    let service = || {
        let mut command = harvester();
        command.args(["run", "--redis", &server.url(), "--listen", "", "--consumer", "one"]);
        command.args(["--store", name(&folder.path().join("store")), "--journal", name(&journal)]);
        command
    };
    let files = || {
        let mut files: Vec<PathBuf> = fs::read_dir(&journal)
            .expect("a journal")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "zst"))
            .collect();
        files.sort();
        files
    };
    let ended = |what: &str| {
        let ran = run(service().args(["--until-idle", "1"]));
        assert_eq!(ran.code, Some(0), "{what}: {}", ran.log);
        ran.log
    };
    assert!(!ended("the first start").contains("JOURNAL_DAMAGED"));
    let closed = files();
    let crash = || {
        let before = files().len();
        let mut child = service()
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("the service starts");
        server.cli(&["XADD", "quantum:stream:market.tick", "*", "symbol", "ADAUSDT", "price", "1"]);
        let began = std::time::Instant::now();
        while files().len() == before {
            assert!(began.elapsed().as_secs() < 60, "a new file begins");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        child.kill().expect("SIGKILL is sent");
        child.wait().expect("the service has ended");
    };
    crash();
    let log = ended("after a crash");
    assert!(!log.contains("JOURNAL_DAMAGED") && log.contains("closed journal files were compared"), "{log}");

    let mut bytes = fs::read(&closed[0]).expect("the file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&closed[0], bytes).expect("a write");
    crash();
    let log = ended("after a crash, with damage");
    let file = closed[0].file_name().and_then(|file| file.to_str()).expect("a name");
    let log_line = log.lines().find(|line| line.contains("JOURNAL_DAMAGED")).unwrap_or_else(|| panic!("{log}"));
    assert!(log_line.contains("ERROR") && log_line.contains(file) && log_line.contains("journal verify"), "{log_line}");
    // It is a finding of the service too, and of the doctor.
    assert!(log.contains("JOURNAL_DAMAGED: 1 closed file of the journal is not as written"), "{log}");
    let store = folder.path().join("no store");
    fs::write(&store, "a text").expect("a file");
    let doctor = run_with(&["doctor", "--redis", &server.url(), "--journal", name(&journal), "--store", name(&store)]);
    let of_file = doctor.out.lines().find(|line| line.contains(file)).unwrap_or_else(|| panic!("{}", doctor.out));
    assert!(of_file.contains("problem") && of_file.contains("its bytes are not those that were closed"), "{of_file}");
    // No command folds a history into a file that is no store.
    assert!(doctor.out.contains("is not a store of harvester"), "{}", doctor.out);
    assert!(
        doctor.out.contains("name another folder in [run] store") && !doctor.out.contains("harvester replay JOURNAL")
    );
}
