//! Cells with hash tags of their own, on three primaries: they start, and see the claims of each other.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::binary::{Ran, harvester, run};
use crate::support::cluster::RedisCluster;
use crate::support::service::until;

/// The tags of the cells 0, 1 and 2 are in slots 5488, 1361 and 13618, each of another primary.
const OWNERS: [usize; 3] = [1, 0, 2];
const CELLS: &str = r#"[streams]
control = "quantum:{cell-%cell%}:stream:harvest.control"
observation = "quantum:{cell-%cell%}:stream:harvest.observation"
intent = "quantum:{cell-%cell%}:stream:trade.intent"
plan = "quantum:{cell-%cell%}:stream:apply.plan"
result = "quantum:{cell-%cell%}:stream:apply.result"
snapshot = "quantum:{cell-%cell%}:stream:position.snapshot"
price = "quantum:{cell-%cell%}:stream:market.tick"
decision = "quantum:{cell-%cell%}:stream:harvest.decision"
suggestions = "quantum:{cell-%cell%}:stream:harvest.suggestions"
quarantine = "quantum:{cell-%cell%}:stream:harvest.quarantine"
[emit]
kill_key = "quantum:{cell-%cell%}:harvest.kill"
[run]
group = "harvester-%cell%"
store = "store-%cell%"
journal = "journal-%cell%"
lease_ms = 5000
listen = ""
"#;
const SHARDS: &str = "shard = \"%cell%/3\"\ncells = 3\n[backfill]\nsources = [\"redis\"]\n";

struct Cells {
    cluster: RedisCluster,
    folder: tempfile::TempDir,
}

impl Cells {
    fn start() -> Self {
        let cells = Self { cluster: RedisCluster::start(), folder: tempfile::tempdir().expect("a folder") };
        std::fs::write(cells.path().join("harvester.toml"), format!("{CELLS}{SHARDS}")).expect("the settings");
        for (cell, owner) in OWNERS.into_iter().enumerate() {
            let decisions = format!("quantum:{{cell-{cell}}}:stream:harvest.decision");
            assert_eq!(cells.cluster.owner_of(&decisions), Some(owner), "cell {cell}");
        }
        cells
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = harvester();
        command.current_dir(self.path()).args(arguments).env("REDIS_URL", self.cluster.url()).stdin(Stdio::null());
        command
    }

    fn run_until_idle(&self, cell: &str) -> Ran {
        run(&mut self.command(&["run", "--config", "harvester.toml", "--cell", cell, "--until-idle", "0.3"]))
    }

    /// Starts cells, and waits until all of them lead. Their log is a file of this name.
    fn led(&self, config: &str, cells: &str, log: &str, count: usize) -> Child {
        let file = std::fs::File::create(self.path().join(log)).expect("a log");
        let mut command = self.command(&["run", "--config", config, "--cell", cells]);
        let running = command.stdout(Stdio::null()).stderr(file).spawn().expect("the service starts");
        until("the cells lead", || {
            let log = std::fs::read_to_string(self.path().join(log)).unwrap_or_default();
            log.matches("is_leader=true").count() == count
        });
        running
    }
}

/// Returns the file of the page on cells, for this cluster and without pages.
fn file_of_the_page(cluster: &RedisCluster) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/more-than-one-machine.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let (_, section) = page.split_once("### Cells on a cluster\n").expect("the section");
    let (_, block) = section.split_once("```toml\n").expect("a block");
    let (file, _) = block.split_once("```\n").expect("its end");
    let file = file.replace("redis-cluster://127.0.0.1:7001,127.0.0.1:7002", &cluster.url());
    file.replace("127.0.0.1:9464+%cell%", "")
}

const LIVE: &str = "[policy]\nmode = \"live\"\nladder = \"0.5:0.25\"\natr_unit = { default = \"absolute\" }\n\
    price_sources = [\"market.tick\"]\non_live = \"take\"\nrequire_instrument = false\n\
    [accounts.A]\n[accounts.main]\n[backfill]\nsources = [\"redis\"]\n";

#[test]
fn the_file_of_the_page_runs_and_each_cell_sends_into_its_own_stream() {
    let cells = Cells::start();
    std::fs::write(cells.path().join("live.toml"), file_of_the_page(&cells.cluster) + LIVE).expect("the settings");
    let requests = |cell: u32| format!("quantum:{{cell-{cell}}}:stream:apply.plan");
    for cell in 0..4 {
        cells.cluster.cli(&["XGROUP", "CREATE", &requests(cell), "executor", "0", "MKSTREAM"]);
    }
    let mut running = cells.led("live.toml", "0..3", "live.log", 4);
    // A is an account of cell 1 of 4, and main of cell 3.
    for account in ["A", "main"] {
        let intent = r#"{"symbol":"ADAUSDT","side":"BUY","atr_value":0.01,"volatility_factor":1.0}"#;
        cells.cluster.add("quantum:stream:trade.intent", &[("payload", intent)]);
        let filled = [("symbol", "ADAUSDT"), ("account", account), ("side", "BUY"), ("executedQty", "100")];
        let more = [("avgPrice", "1"), ("orderId", account), ("status", "FILLED")];
        cells.cluster.add("quantum:stream:apply.result", &[&filled[..], &more].concat());
    }
    std::thread::sleep(std::time::Duration::from_millis(50));
    cells.cluster.add("quantum:stream:market.tick", &[("symbol", "ADAUSDT"), ("price", "1.008")]);
    let sent = || [0, 1, 2, 3].map(|cell| cells.cluster.entries(&requests(cell)).len());
    until("both cells send", || sent() == [0, 1, 0, 1]);
    let kill = ["control", "kill", "on", "--config", "live.toml", "--reason", "r", "--yes"];
    let killed = run(&mut cells.command(&kill));
    assert_eq!(killed.code, Some(0), "{}{}", killed.out, killed.log);
    for cell in 0..4 {
        assert_eq!(cells.cluster.cli(&["GET", &format!("quantum:{{cell-{cell}}}:harvest.kill")]).trim(), "1");
    }
    running.kill().expect("it runs");
    running.wait().expect("it ends");
}

#[test]
fn cells_of_three_primaries_start_and_see_the_claims_of_each_other() {
    let cells = Cells::start();
    // A cell 0 of another configuration acts for `sub`, an account of cell 1 of 3.
    let other = CELLS.replace("\"store-", "\"other-store-").replace("\"journal-", "\"other-journal-");
    let other = other.replace("\"harvester-", "\"other-") + "[run.accounts_by_cell]\n0 = [\"sub\"]\n";
    std::fs::write(cells.path().join("other.toml"), other).expect("the settings");
    let mut running = cells.led("other.toml", "0", "other.log", 1);
    let refused = cells.run_until_idle("1");
    assert_eq!(refused.code, Some(2), "{}", refused.log);
    let named = "the cell of quantum:{cell-0}:stream:harvest.decision acts for sub as well";
    assert!(refused.log.contains(named), "{}", refused.log);
    rustix::process::kill_process(rustix::process::Pid::from_child(&running), rustix::process::Signal::TERM)
        .expect("it runs");
    assert!(running.wait().expect("it ends").success());

    // Without the other one, a cell starts. It names the cell whose server does not answer.
    let started = cells.run_until_idle("1");
    assert_eq!(started.code, Some(0), "{}", started.log);
    for node in &cells.cluster.nodes {
        node.cli(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
    }
    let port = cells.cluster.nodes[OWNERS[2]].port();
    let mut cells = cells;
    for node in [OWNERS[2] + 3, OWNERS[2]] {
        cells.cluster.nodes[node].kill();
    }
    let without_owner = cells.run_until_idle("1");
    assert_eq!(without_owner.code, Some(0), "{}", without_owner.log);
    let named = format!("of=\"quantum:{{cell-2}}:stream:harvest.decision\" error=\"Redis at 127.0.0.1:{port}");
    let lines: Vec<&str> = without_owner.log.lines().filter(|line| line.contains("cannot be read")).collect();
    assert!(lines.len() == 1 && lines[0].contains(&named), "{}", without_owner.log);
}
