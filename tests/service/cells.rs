//! Cells: several services over shared streams, each with its accounts; in one process, killed, taken over, and
//! refused at a start.

mod split;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Map, Value};

use crate::support::binary::{ended, harvester, run};
use crate::support::contract::expect_valid;
use crate::support::lab::entry_line;
use crate::support::redis::{RedisServer, free_port};
use crate::support::service::{INTENT, PRICE, RESULT, add, field_of_all, import, payloads, until};
use crate::support::{config, replayed};
use harvester::cli::replay::Request;

/// Two cells over the shared streams of the default configuration. B is an account of cell 0 and A of cell 1: see the
/// test vectors of docs/spec/streams.md, "Accounts of a cell".
const CELLS: &str = r#"[streams]
control = "quantum:{cell-%cell%}:stream:harvest.control"
observation = "quantum:{cell-%cell%}:stream:harvest.observation"
decision = "quantum:{cell-%cell%}:stream:harvest.decision"
suggestions = "quantum:{cell-%cell%}:stream:harvest.suggestions"
quarantine = "quantum:{cell-%cell%}:stream:harvest.quarantine"
[run]
group = "harvester-%cell%"
store = "store-%cell%"
journal = "journal-%cell%"
shard = "%cell%/2"
cells = 2
lease_ms = 500
"#;
const QUIET: &str = "[backfill]\nsources = [\"redis\"]\n";

fn decision_stream(cell: u32) -> String {
    format!("quantum:{{cell-{cell}}}:stream:harvest.decision")
}

/// A folder with a configuration, in which the program runs.
struct Folder {
    folder: tempfile::TempDir,
    url: String,
}

impl Folder {
    fn new(server: &RedisServer, settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("harvester.toml"), format!("{settings}{QUIET}")).expect("the settings");
        Self { folder, url: server.url() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = harvester();
        command.current_dir(self.path()).args(arguments).args(["--config", "harvester.toml"]);
        command.env("REDIS_URL", &self.url).stdin(Stdio::null());
        command
    }

    /// Starts cells. Their log is a file of this name.
    fn start(&self, log: &str, arguments: &[&str]) -> Child {
        let log = std::fs::File::create(self.path().join(log)).expect("a log");
        let mut command = self.command(&[&["run"], arguments].concat());
        command.stdout(Stdio::null()).stderr(log).spawn().expect("the service starts")
    }

    fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap_or_default()
    }

    fn run_until_idle(&self, arguments: &[&str]) {
        let status = ended(self.start("log", &[arguments, &["--until-idle", "0.5"]].concat())).status;
        assert!(status.success(), "{status}: {}", self.log("log"));
    }

    /// Runs the program, and asserts that it is refused with a sentence that contains these names.
    fn refused(&self, arguments: &[&str], names: &[&str]) {
        let mut command = self.command(&[&["run", "--listen", ""], arguments].concat());
        run(&mut command).refused(names);
    }
}

/// Returns the payloads of the decisions of a cell, after a check that its chain is whole.
fn decisions(server: &RedisServer, cell: u32) -> Vec<String> {
    let stream = decision_stream(cell);
    let seqs = field_of_all(server, &stream, "seq");
    assert!((1..).zip(&seqs).all(|(n, seq)| *seq == n.to_string()), "{seqs:?}");
    field_of_all(server, &stream, "payload")
}

fn account_of(payload: &str) -> String {
    let payload: Map<String, Value> = serde_json::from_str(payload).expect("a payload is JSON");
    payload.get("account").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Returns a history that began an hour before the time of the server: A, B and the account without a name each open a position
/// and reach three rungs. The results of A and B name no account: their plans do.
fn history(server: &RedisServer) -> String {
    let begin_ms = server.now_ms() - 3_600_000;
    let mut lines = Vec::new();
    let intent = [("symbol", "ADAUSDT"), ("action", "BUY"), ("atr_value", "0.01"), ("volatility_factor", "1")];
    lines.push(entry_line(INTENT, &format!("{begin_ms}-0"), &intent));
    for (n, account) in ["A", "B", ""].into_iter().enumerate() {
        let (order, plan, ms) = (format!("{}", 700 + n), format!("plan-{n}"), begin_ms + 1000 + n as u64);
        let planned =
            [("symbol", "ADAUSDT"), ("plan_id", &*plan), ("decision", "EXECUTE"), ("side", "BUY"), ("qty", "100")];
        let account = Some(("account", account)).filter(|_| !account.is_empty());
        let planned: Vec<(&str, &str)> = planned.into_iter().chain(account).collect();
        lines.push(entry_line("quantum:stream:apply.plan", &format!("{ms}-0"), &planned));
        let filled = [("symbol", "ADAUSDT"), ("plan_id", &*plan), ("orderId", &*order), ("side", "BUY")];
        let filled = [&filled[..], &[("executedQty", "100"), ("avgPrice", "1"), ("status", "FILLED")]].concat();
        lines.push(entry_line(RESULT, &format!("{}-0", ms + 1000), &filled));
    }
    for (step, price) in ["1.003", "1.008", "1.009", "1.013", "1.011", "1.018", "1.02"].into_iter().enumerate() {
        let id = format!("{}-0", begin_ms + 60_000 * (step as u64 + 1));
        lines.push(entry_line(PRICE, &id, &[("symbol", "ADAUSDT"), ("price", price)]));
    }
    lines.join("\n") + "\n"
}

/// Returns the decisions of one service over all accounts.
fn wanted(history: &Path) -> Vec<String> {
    let (_, lines) = replayed(&Request { histories: vec![history.to_owned()], ..Request::default() }, &config(None));
    let mut wanted = payloads(&lines);
    wanted.sort();
    wanted
}

#[test]
fn two_cells_in_one_process_make_the_decisions_of_one_service() {
    let server = RedisServer::start();
    let place = Folder::new(&server, CELLS);
    let file = place.path().join("history.jsonl");
    std::fs::write(&file, history(&server)).expect("the history is written");
    import(&file, &server);
    place.run_until_idle(&["--cell", "0..1", "--listen", ""]);
    let log = place.log("log");
    assert!(!log.contains("}:cell{"), "a line names its cell once: {log}");
    let of_no_cell: Vec<&str> = log.lines().filter(|line| !line.contains("cell{cell=")).collect();
    assert_eq!(of_no_cell, Vec::<&str>::new(), "each line of the log names its cell");
    for cell in [0, 1] {
        assert!(log.contains(&format!("cell{{cell={cell}}}: HARVEST_START")), "{log}");
    }
    let of_cells = [decisions(&server, 0), decisions(&server, 1)];
    let accounts = |of: &[String]| -> Vec<String> {
        let mut accounts: Vec<String> = of.iter().map(|payload| account_of(payload)).collect();
        accounts.sort();
        accounts.dedup();
        accounts
    };
    // The account without a name is in cell 0.
    assert_eq!(of_cells.each_ref().map(|of| accounts(of)), [vec!["".to_owned(), "B".to_owned()], vec!["A".to_owned()]]);
    let mut together = of_cells.concat();
    together.sort();
    assert_eq!(together, wanted(&file));
    assert_eq!(together.len(), 9);
    for cell in 0..2 {
        // A replay of the journal needs no configuration.
        let (journal, store) = (format!("journal-{cell}"), format!("again-{cell}"));
        let folded =
            run(harvester().current_dir(place.path()).args(["replay", &journal, "--store", &store, "--json"])).json();
        assert!(folded["counts"]["other_cells"].as_u64() > Some(0), "{folded}");
        let positions = |store: &str| {
            run(harvester().current_dir(place.path()).args(["positions", "--json", "--all", "--store", store])).json()
        };
        assert_eq!(positions(&store), positions(&format!("store-{cell}")), "cell {cell}");
        let derived = ["replay", &journal, "--derive", "--decisions", "derived.jsonl", "--json"];
        run(harvester().current_dir(place.path()).args(derived)).json();
        let text = std::fs::read_to_string(place.path().join("derived.jsonl")).expect("the decisions");
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        assert_eq!(payloads(&lines), of_cells[cell as usize], "cell {cell}");
    }
    // Another start makes no decision twice, and the journals continue.
    place.run_until_idle(&["--cell", "0..1", "--listen", ""]);
    assert_eq!([decisions(&server, 0), decisions(&server, 1)], of_cells);
}

#[test]
fn a_second_process_stands_by_for_all_cells_and_takes_over() {
    let server = RedisServer::start();
    let first = Folder::new(&server, CELLS);
    let second = Folder::new(&server, CELLS);
    let is_led = |by: &Folder, log: &str, count: usize| {
        until("the cells are led", || {
            by.log(log).lines().filter(|line| line.contains("role changed") && line.contains("is_leader=true")).count()
                == count
        });
    };
    let mut leader = first.start("log", &["--consumer", "one", "--cell", "0..1", "--listen", ""]);
    is_led(&first, "log", 2);
    let mut standby = second.start("log", &["--consumer", "two", "--cell", "0..1", "--listen", ""]);
    until("the standby reads", || {
        second.log("log").contains("is_leader=false") || second.log("log").lines().count() > 4
    });
    leader.kill().expect("it runs");
    leader.wait().expect("it ends");
    is_led(&second, "log", 2);
    for account in ["A", "B"] {
        let intent = [("symbol", "ADAUSDT"), ("side", "BUY"), ("atr_value", "0.01"), ("volatility_factor", "1")];
        add(&server, INTENT, &intent);
        let order = format!("open-{account}");
        let filled = [("symbol", "ADAUSDT"), ("account", account), ("side", "BUY"), ("executedQty", "100")];
        let more = [("avgPrice", "1"), ("orderId", &*order), ("status", "FILLED")];
        add(&server, RESULT, &[&filled[..], &more].concat());
    }
    add(&server, PRICE, &[("symbol", "ADAUSDT"), ("price", "1.008")]);
    until("both cells decide", || {
        (0..2).all(|cell| field_of_all(&server, &decision_stream(cell), "payload").len() == 1)
    });
    let accounts: Vec<String> = (0..2).map(|cell| account_of(&decisions(&server, cell)[0])).collect();
    assert_eq!(accounts, ["B", "A"]);
    rustix::process::kill_process(rustix::process::Pid::from_child(&standby), rustix::process::Signal::TERM)
        .expect("it runs");
    assert!(standby.wait().expect("it ends").success(), "{}", second.log("log"));
}

#[test]
fn two_cells_that_share_a_name_are_refused_with_the_next_step() {
    let server = RedisServer::start();
    Folder::new(&server, CELLS).refused(&[], &["%cell%, and no cell is given", "--cell N"]);
    Folder::new(&server, CELLS).refused(&["--cell", "2"], &["run.shard = \"2/2\""]);
    for (line, names) in [
        (
            "decision = \"quantum:{cell-%cell%}:stream:harvest.decision\"\n",
            ["streams.decision", "write %cell% into it"],
        ),
        ("store = \"store-%cell%\"\n", ["run.store = \"state\"", "\"state-%cell%\""]),
        ("journal = \"journal-%cell%\"\n", ["run.journal", "\"journal-%cell%\""]),
        ("group = \"harvester-%cell%\"\n", ["run.group", "\"harvester-%cell%\""]),
        ("shard = \"%cell%/2\"\n", ["the cells 0 and 1 would both act for all accounts", "run.shard"]),
    ] {
        Folder::new(&server, &CELLS.replace(line, "")).refused(&["--cell", "0"], &names);
    }
    // Without an address of pages for each cell.
    let place = Folder::new(&server, CELLS);
    let mut command = place.command(&["run", "--cell", "0..1"]);
    run(&mut command).refused(&["run.listen", "127.0.0.1:9464+%cell%"]);
}

#[test]
fn a_store_and_a_journal_open_only_for_the_accounts_that_they_were_made_for() {
    let server = RedisServer::start();
    let place = Folder::new(&server, CELLS);
    add(
        &server,
        RESULT,
        &[("symbol", "ADAUSDT"), ("account", "A"), ("side", "BUY"), ("executedQty", "1"), ("orderId", "1")],
    );
    place.run_until_idle(&["--cell", "1", "--listen", ""]);
    let changed = CELLS.replace("shard = \"%cell%/2\"\ncells = 2\n", "accounts = [\"A\"]\n");
    std::fs::write(place.path().join("harvester.toml"), format!("{changed}{QUIET}")).expect("the settings");
    // The two cells of this configuration would both act for A.
    place.refused(&["--cell", "1"], &["the cells 1 and 0 would both act for A"]);
    let by_cell = "[run.accounts_by_cell]\n0 = [\"B\"]\n1 = [\"A\"]\n";
    let changed = CELLS.replace("shard = \"%cell%/2\"\ncells = 2\n", "") + by_cell;
    std::fs::write(place.path().join("harvester.toml"), format!("{changed}{QUIET}")).expect("the settings");
    place.refused(
        &["--cell", "1"],
        &["journal-1", "cell 1 (shard 1/2)", "cell 1 (accounts A)", "a journal and a store of its own"],
    );
    std::fs::rename(place.path().join("journal-1"), place.path().join("aside")).expect("the journal is moved");
    place.refused(&["--cell", "1"], &["store-1", "shard 1/2", "accounts A"]);
}

#[test]
fn the_same_account_in_two_cells_is_refused_with_the_name_of_the_other() {
    let server = RedisServer::start();
    let settings = |cell: &str, accounts: &str| {
        format!(
            "[streams]\ncontrol = \"q:{cell}.control\"\nobservation = \"q:{cell}.observation\"\ndecision = \"q:{cell}.decision\"\n\
             [run]\ngroup = \"{cell}\"\naccounts = [{accounts}]\nlease_ms = 60000\n"
        )
    };
    let one = Folder::new(&server, &settings("one", "\"main\", \"sub\""));
    let mut running = one.start("log", &["--listen", ""]);
    until("the first cell leads", || one.log("log").contains("is_leader=true"));
    until("its claim is there", || server.cli(&["HLEN", "q:harvester.cells"]).trim() == "1");
    let two = Folder::new(&server, &settings("two", "\"sub\", \"other\""));
    two.refused(&[], &["the cell of q:one.decision acts for sub as well", "run.accounts"]);
    // One decision stream, other accounts.
    let three = Folder::new(&server, &settings("one", "\"main\"").replace("group = \"one\"", "group = \"three\""));
    three.refused(&[], &["the decision stream q:one.decision is led by a service of other accounts"]);
    // Another cell without a list of its own would act for them as well.
    let all = settings("all", "").replace("accounts = []\n", "cell = 7\n");
    let all = all.replace("\"q:all.", "\"q:all-%cell%.").replace("[run]\n", "intent = \"q:%cell%.i\"\nplan = \"q:%cell%.p\"\n\
        result = \"q:%cell%.r\"\nsnapshot = \"q:%cell%.s\"\n[run]\nstore = \"store-%cell%\"\njournal = \"journal-%cell%\"\n");
    let all = all.replace("group = \"all\"", "group = \"all-%cell%\"");
    Folder::new(&server, &all).refused(&[], &["the cell of q:one.decision acts for main, sub as well"]);
    // In one consumer group, each would get a part of the results.
    let five = settings("five", "\"third\"").replace("group = \"five\"", "group = \"one\"");
    Folder::new(&server, &five)
        .refused(&[], &["the cell of q:one.decision reads in the consumer group \"one\"", "run.group"]);
    // Other cells run beside it.
    Folder::new(&server, &settings("four", "\"other\"")).run_until_idle(&["--listen", ""]);
    rustix::process::kill_process(rustix::process::Pid::from_child(&running), rustix::process::Signal::TERM)
        .expect("it runs");
    assert!(running.wait().expect("it ends").success(), "{}", one.log("log"));
    // It has released its claim.
    assert_eq!(server.cli(&["EXISTS", "q:harvester.cells"]).trim(), "0");
    two.run_until_idle(&["--listen", ""]);
}

#[test]
fn status_shows_the_cells_of_the_configuration() {
    let server = RedisServer::start();
    let port = free_port();
    let place = Folder::new(
        &server,
        &CELLS.replace("cells = 2\n", &format!("cells = 2\nlisten = \"127.0.0.1:{port}+%cell%\"\n")),
    );
    let mut running = place.start("log", &["--cell", "0"]);
    until("the cell leads", || place.log("log").contains("is_leader=true"));
    let shown = run(&mut place.command(&["status", "--cells", "--json"]));
    assert_eq!(shown.code, Some(1), "{}", shown.log);
    let document: Value = serde_json::from_str(&shown.out).expect("a document");
    expect_valid("status --cells", "status.v1#/$defs/several", &document);
    let urls: Vec<&str> =
        document["services"].as_array().expect("services").iter().filter_map(|s| s["url"].as_str()).collect();
    let url = |n: u16| format!("http://127.0.0.1:{}", port + n);
    assert_eq!(urls, [url(1), url(0)], "the most urgent first");
    running.kill().expect("it runs");
    running.wait().expect("it ends");
}

#[test]
fn a_kill_is_for_all_cells_and_one_of_a_single_cell_names_the_others() {
    let server = RedisServer::start();
    let place = Folder::new(&server, &format!("{CELLS}[emit]\nkill_key = \"quantum:{{cell-%cell%}}:kill\"\n"));
    let control = |arguments: &[&str]| run(&mut place.command(&[&["control"], arguments, &["--reason", "r"]].concat()));
    let keys = || [0, 1].map(|cell| server.cli(&["GET", &format!("quantum:{{cell-{cell}}}:kill")]).trim().to_owned());
    let written = || {
        [0, 1].map(|cell| {
            server.cli(&["XLEN", &format!("quantum:{{cell-{cell}}}:stream:harvest.control")]).trim().to_owned()
        })
    };
    // A dry run.
    let document = control(&["kill", "on", "--json"]).json();
    assert_eq!(document["cells"].as_array().map(Vec::len), Some(2), "{document}");
    assert_eq!((keys(), written()), (["", ""].map(str::to_owned), ["0", "0"].map(str::to_owned)));

    let all = control(&["kill", "on", "--yes"]);
    assert_eq!(all.code, Some(0), "{}{}", all.out, all.log);
    for cell in 0..2 {
        let line = format!("quantum:{{cell-{cell}}}:kill is set to 1. Written as ");
        assert!(all.out.lines().any(|l| l.contains(&format!("cell {cell}")) && l.contains(&line)), "{}", all.out);
    }
    assert_eq!((keys(), written()), (["1", "1"].map(str::to_owned), ["1", "1"].map(str::to_owned)));

    let one = control(&["kill", "off", "--cell", "1", "--yes"]);
    assert!(one.code == Some(0) && one.out.contains("Note: cell 0: not changed."), "{}{}", one.out, one.log);
    assert_eq!((keys(), written()), (["1", "0"].map(str::to_owned), ["1", "2"].map(str::to_owned)));
    let one = control(&["kill", "on", "--cell", "0"]);
    for part in ["Note: cell 1: NOT stopped.", "refuses every order of cell 0 from then on"] {
        assert!(one.out.contains(part), "{part}: {}{}", one.out, one.log);
    }
    let of_environment = run(place.command(&["control", "kill", "on", "--reason", "r"]).env("HARVEST_CELL", "0"));
    assert!(of_environment.out.contains("Note: cell 1: NOT stopped."), "{}{}", of_environment.out, of_environment.log);
    let both = control(&["kill", "off", "--cell", "0..1", "--yes"]);
    assert!(both.code == Some(0) && !both.out.contains("not changed"), "{}{}", both.out, both.log);
    assert_eq!(keys(), ["0", "0"]);

    // What concerns one account is for its cell.
    let position = control(&["risk-accept", "A/ADAUSDT@1-0", "--yes"]);
    assert!(position.out.contains("to quantum:{cell-1}:stream:harvest.control"), "{}{}", position.out, position.log);
    assert_eq!(written(), ["2", "4"]);

    // A cell at which it does not work.
    server.cli(&["ACL", "SETUSER", "op", "on", ">pw", "~quantum:{cell-0}:*", "~quantum:{cell-1}:stream:*", "+@all"]);
    let url = server.url().replace("redis://", "redis://op:pw@");
    let failed = run(place.command(&["control", "kill", "on", "--yes", "--reason", "r"]).env("REDIS_URL", url));
    assert_eq!(failed.code, Some(1), "{}{}", failed.out, failed.log);
    assert!(failed.out.lines().any(|line| line.contains("cell 1") && line.contains("FAILED")), "{}", failed.out);
    assert!(failed.log.contains("at 1 cell of 2 it did not work: 1"), "{}", failed.log);
    assert_eq!(keys(), ["1", "0"]);
}

#[test]
fn the_doctor_knows_sibling_cells_and_finds_a_foreign_one_that_acts_for_an_account() {
    let server = RedisServer::start();
    let place = Folder::new(&server, CELLS);
    let plan = [("symbol", "ADAUSDT"), ("plan_id", "p"), ("decision", "EXECUTE"), ("side", "BUY"), ("qty", "1")];
    add(&server, "quantum:stream:apply.plan", &plan);
    let mut running = place.start("log", &["--cell", "0..1", "--listen", ""]);
    until("the cells lead", || place.log("log").matches("is_leader=true").count() == 2);
    let mut executor = ["XGROUP", "CREATE", "quantum:stream:apply.plan", "executor", "0"].to_vec();
    server.cli(&executor);
    executor[3] = "harvester-2";
    server.cli(&executor);
    let checks = |wanted: &str| -> Vec<(String, String, String)> {
        let ran = run(&mut place.command(&["doctor", "--cell", "0", "--json", "--all"]));
        let document: Value = serde_json::from_str(&ran.out).expect("a document");
        let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
        let all = document["checks"].as_array().expect("checks").iter();
        let all = all.map(|check| (text(check, "area"), text(check, "verdict"), text(check, "found")));
        all.filter(|(area, _, found)| area == wanted || found.contains(wanted)).collect()
    };
    let ok = |found: &str| ("cells".to_owned(), "ok".to_owned(), found.to_owned());
    assert_eq!(
        checks("cells"),
        [ok("cell 0 acts for shard 0/2, group harvester-0"), ok("cell 1 acts for shard 1/2, group harvester-1")]
    );
    // A group that is of no cell of this configuration is a reader, its own cells are none.
    let executors = checks("executors read");
    assert!(executors.len() == 1 && executors[0].2.ends_with(": executor, harvester-2"), "{executors:?}");
    server.cli(&["XGROUP", "DESTROY", "quantum:stream:apply.plan", "harvester-2"]);
    server.cli(&["XGROUP", "DESTROY", "quantum:stream:apply.plan", "executor"]);
    assert_eq!(checks("groups read it"), []);
    assert_eq!(checks("executors read"), []);

    let foreign = CELLS.replace("{cell-%cell%}", "{other}").replace("harvester-%cell%", "other");
    let foreign = foreign.replace("shard = \"%cell%/2\"\ncells = 2\n", "accounts = [\"B\"]\n").replace("%cell%", "x");
    let foreign = Folder::new(&server, &foreign);
    let mut other = foreign.start("log", &["--listen", ""]);
    until("the other cell leads", || foreign.log("log").contains("is_leader=true"));
    let found = checks("another configuration");
    let same = "a cell of another configuration acts for B as well (accounts B, group other)";
    assert_eq!(found, [("cells".to_owned(), "problem".to_owned(), same.to_owned())]);
    for child in [&mut running, &mut other] {
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }
}
