//! A service whose cell is in one slot and whose prices are in another, each slot on its own server.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use harvester::cli::replay::Request;
use harvester::codec::line::{self, Fields};
use harvester::domain::event::ids::EntryId;

use crate::support::cluster::RedisCluster;
use crate::support::service::{Place, chained, payloads, until};
use crate::support::{config, replayed};

/// The primaries that own the cell and the prices at the start.
pub const CELL: usize = 0;
pub const PRICES: usize = 1;

pub const LIVE: &str = "[policy]\nmode = \"live\"\nladder = \"0.5:0.25,1:0.25,1.5:0.25\"\natr_unit = { default = \"absolute\" }\n\
    price_sources = [\"market.tick\"]\non_live = \"take\"\nrequire_instrument = false\nsnapshot_settle_ms = 0\n";

/// Kinds of streams that share a slot, and the ends of their names.
const BESIDE: [(&str, &str); 7] = [
    ("control", "harvest.control"),
    ("observation", "harvest.observation"),
    ("intent", "trade.intent"),
    ("plan", "apply.plan"),
    ("result", "apply.result"),
    ("snapshot", "position.snapshot"),
    ("decision", "harvest.decision"),
];

pub struct Night {
    pub cluster: RedisCluster,
    cell: String,
    prices: String,
    waves: AtomicUsize,
}

impl Night {
    /// Makes a cluster, and a place for a service with its settings.
    pub fn new(cluster: RedisCluster, is_live: bool) -> (Self, Place) {
        let (cell, prices) = (RedisCluster::tag_at(CELL), RedisCluster::tag_at(PRICES));
        let mut place = Place::at(cluster.url());
        place.settings = settings(&cell, &prices, is_live);
        (Self { cluster, cell, prices, waves: AtomicUsize::new(0) }, place)
    }

    /// Returns the name of a stream of the cell.
    pub fn name(&self, of: &str) -> String {
        format!("quantum:{{{}}}:stream:{of}", self.cell)
    }

    pub fn price_stream(&self) -> String {
        format!("quantum:{{{}}}:stream:market.tick", self.prices)
    }

    /// Opens a position. Returns its fill.
    pub fn open(&self, symbol: &str) -> String {
        let intent = format!(r#"{{"symbol":"{symbol}","side":"BUY","atr_value":0.01,"volatility_factor":1.0}}"#);
        self.cluster.add(&self.name("trade.intent"), &[("payload", &intent)]);
        let order = format!("open-{symbol}");
        let fields = [("symbol", symbol), ("side", "BUY"), ("executedQty", "100"), ("avgPrice", "1")];
        self.cluster
            .add(&self.name("apply.result"), &[&fields[..], &[("orderId", &order), ("status", "FILLED")]].concat())
    }

    pub fn price(&self, symbol: &str, price: &str) -> String {
        self.cluster.add(&self.price_stream(), &[("symbol", symbol), ("price", price)])
    }

    /// Opens three positions and moves their prices over the rungs. Returns the last price.
    pub fn wave(&self) -> String {
        let wave = self.waves.fetch_add(1, Ordering::Relaxed) + 1;
        let symbols: Vec<String> = (0..3).map(|n| format!("W{wave}N{n}USDT")).collect();
        let opened = symbols.iter().map(|symbol| self.open(symbol)).last().expect("a position");
        // The clock of the prices may be slow.
        let ms = |id: &str| id.parse::<EntryId>().expect("an id").ms;
        let mut last = String::new();
        until("the clock of the prices is past the fills", || {
            last = self.price("OTHERUSDT", "1");
            ms(&last) > ms(&opened)
        });
        for price in ["1.003", "1.008", "1.013", "1.018"] {
            for symbol in &symbols {
                last = self.price(symbol, price);
            }
        }
        last
    }

    /// Returns the ids of the written decisions.
    pub fn decided(&self) -> Vec<String> {
        self.field(&self.name("harvest.decision"), "decision_id")
    }

    pub fn field(&self, stream: &str, name: &str) -> Vec<String> {
        let of = |fields: Vec<(String, String)>| fields.into_iter().find(|(n, _)| n == name).map(|(_, value)| value);
        self.cluster.entries(stream).into_iter().filter_map(|(_, fields)| of(fields)).collect()
    }

    /// Returns the payloads of the decisions of an undisturbed run over the entries of the streams.
    pub fn wanted(&self, place: &Place) -> Vec<String> {
        let history = place.folder.path().join("history.jsonl");
        let (intents, results) = (self.name("trade.intent"), self.name("apply.result"));
        self.dump(&history, &[&intents, &results, &self.price_stream()]);
        let settings = place.folder.path().join("harvester.toml");
        let (_, lines) =
            replayed(&Request { histories: vec![history], ..Request::default() }, &config(Some(&settings)));
        payloads(&lines)
    }

    fn dump(&self, path: &Path, streams: &[&str]) {
        let mut text = String::new();
        for stream in streams {
            for (id, fields) in self.cluster.entries(stream) {
                let pairs: Vec<(Vec<u8>, Vec<u8>)> =
                    fields.into_iter().map(|(name, value)| (name.into_bytes(), value.into_bytes())).collect();
                text.push_str(&line::write(stream, &id, &Fields::from_bytes(&pairs)));
                text.push('\n');
            }
        }
        std::fs::write(path, text).expect("the dump is written");
    }

    /// Waits until the decisions are those of an undisturbed run, each once and in one chain.
    pub fn check(&self, place: &Place, what: &str) {
        let wanted = self.wanted(place);
        assert!(!wanted.is_empty(), "{what}: there is no decision to compare");
        until(&format!("{what}: {} decisions are written", wanted.len()), || self.decided().len() >= wanted.len());
        let stream = self.name("harvest.decision");
        assert_eq!(chained(self.cluster.entries(&stream)), wanted, "{what}");
        let kinds = self.field(&self.name("harvest.control"), "event_type");
        assert!(!kinds.contains(&"history.gap".to_owned()), "{what}: nothing was lost: {kinds:?}");
    }

    /// Returns true if the group has received entries of a stream of the cell and has acknowledged all of them.
    pub fn is_read(&self, of: &str) -> bool {
        let groups = self.cluster.cli(&["--json", "XINFO", "GROUPS", &self.name(of)]);
        let groups: Vec<serde_json::Value> = serde_json::from_str(&groups).unwrap_or_default();
        let ours = groups.iter().find(|group| group["name"] == "harvester");
        ours.is_some_and(|group| group["pending"] == 0 && group["last-delivered-id"] != "0-0")
    }

    /// Waits until a replica has everything of its primary, while nothing is written except the lease.
    pub fn until_in_step(&self, primary: usize, replica: usize) {
        until("the replica is in step", || self.cluster.is_in_step(primary, replica));
    }

    /// Waits until one node owns the cell, and it is not this one.
    pub fn until_owned_by_another(&self, key: &str, than: usize) -> usize {
        let mut owner = None;
        until("another node owns the slot", || {
            owner = self.cluster.owner_of(key).filter(|owner| *owner != than);
            owner.is_some()
        });
        owner.expect("an owner")
    }
}

pub fn settings(cell: &str, prices: &str, is_live: bool) -> String {
    let mut text = "[streams]\n".to_owned();
    for (kind, end) in BESIDE {
        text += &format!("{kind} = [\"quantum:{{{cell}}}:stream:{end}\"]\n");
    }
    text += &format!("price = [\"quantum:{{{prices}}}:stream:market.tick\"]\n");
    for output in ["suggestions", "quarantine"] {
        text += &format!("{output} = \"quantum:{{{cell}}}:stream:harvest.{output}\"\n");
    }
    text += "[run]\nlease_ms = 2000\n";
    if is_live {
        text += LIVE;
    }
    text += &format!("[emit]\nkill_key = \"quantum:{{{cell}}}:harvest.kill\"\n");
    if is_live {
        text += "format = \"apply_plan\"\nsource = \"harvester\"\nexecutors = [\"executor\"]\nmax_decision_age_ms = 600000\n";
    }
    text
}
