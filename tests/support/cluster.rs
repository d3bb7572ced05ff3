//! A Redis Cluster of real servers: three primaries and three replicas on free ports of loopback, stopped by process id.

use std::time::{Duration, Instant};

use harvester::shell::redis::{SLOTS, slot_of};

use super::redis::{RedisServer, free_port};
use super::service::until;

/// Primaries; each has one replica.
const PRIMARIES: usize = 3;
/// A node counts as failed after so long without an answer. [ms]
pub const NODE_TIMEOUT_MS: u64 = 1_000;
/// A test fails if a write is refused for longer than this.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

pub struct RedisCluster {
    /// The first three were the primaries at the start, the others their replicas in the same order.
    pub nodes: Vec<RedisServer>,
    buses: Vec<u16>,
}

impl RedisCluster {
    /// Starts six servers and waits until every replica has all data of its primary.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Does the same with clocks of some nodes that differ by seconds, for example `(1, "+5")`.
    pub fn start_with(clocks: &[(usize, &str)]) -> Self {
        let mut cluster = Self { nodes: Vec::new(), buses: Vec::new() };
        for index in 0..2 * PRIMARIES {
            let clock = clocks.iter().find(|(node, _)| *node == index).map(|(_, clock)| *clock);
            cluster.add_node(clock);
        }
        let ids: Vec<String> = cluster.nodes.iter().map(id_of).collect();
        for index in 0..PRIMARIES {
            let (first, last) = slots_of(index);
            let node = &cluster.nodes[index];
            node.cli(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
        }
        for (index, node) in cluster.nodes.iter().enumerate() {
            node.cli(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
        }
        (1..2 * PRIMARIES).for_each(|index| cluster.meet(index));
        until("all nodes know each other", || {
            cluster.nodes.iter().all(|node| node.cli(&["CLUSTER", "NODES"]).lines().count() == 2 * PRIMARIES)
        });
        for index in PRIMARIES..2 * PRIMARIES {
            let primary = &ids[index - PRIMARIES];
            until("a node knows its primary", || {
                cluster.nodes[index].cli(&["CLUSTER", "REPLICATE", primary]).trim() == "OK"
            });
        }
        until("the cluster is up", || {
            let is_up = |node: &RedisServer| node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok");
            cluster.nodes.iter().all(is_up) && (0..PRIMARIES).all(|node| cluster.has_replica_in_step(node))
        });
        cluster
    }

    /// Starts another server, which is not part of the cluster yet. Returns its number.
    pub fn add_node(&mut self, clock: Option<&str>) -> usize {
        let (port, bus) = (free_port(), free_port());
        let (timeout, bus_text) = (NODE_TIMEOUT_MS.to_string(), bus.to_string());
        let settings = [
            ["--cluster-enabled", "yes"],
            ["--cluster-port", &bus_text],
            ["--cluster-node-timeout", &timeout],
            ["--cluster-allow-replica-migration", "no"],
            ["--repl-diskless-sync-delay", "0"],
            ["--repl-ping-replica-period", "1"],
            ["--enable-debug-command", "yes"],
        ];
        self.nodes.push(RedisServer::start_at(port, &settings.concat(), clock));
        self.buses.push(bus);
        self.nodes.len() - 1
    }

    /// Introduces a node to the first node.
    pub fn meet(&self, node: usize) {
        let (port, bus) = (self.nodes[node].port().to_string(), self.buses[node].to_string());
        self.nodes[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
    }

    pub fn id(&self, node: usize) -> String {
        id_of(&self.nodes[node])
    }

    /// Returns the address for a service: two of the six nodes, one of which the tests disturb.
    pub fn url(&self) -> String {
        format!("redis-cluster://127.0.0.1:{},127.0.0.1:{}", self.nodes[0].port(), self.nodes[5].port())
    }

    fn has_replica_in_step(&self, primary: usize) -> bool {
        self.is_in_step(primary, primary + PRIMARIES)
    }

    /// Returns true if a replica has everything that its primary has.
    pub fn is_in_step(&self, primary: usize, replica: usize) -> bool {
        let replication = |node: usize| self.nodes[node].cli(&["INFO", "replication"]);
        let offset = |info: &str, name: &str| -> Option<u64> {
            info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        };
        let of_replica = replication(replica);
        of_replica.contains("master_link_status:up")
            && offset(&of_replica, "slave_repl_offset:") >= offset(&replication(primary), "master_repl_offset:")
    }

    /// Returns the owner of the slot of a key, as all nodes that answer see it; `None` while they disagree.
    pub fn owner_of(&self, key: &str) -> Option<usize> {
        let slot = i32::from(slot_of(key));
        let owned = |index: &usize| {
            let text = self.nodes[*index].try_cli(&["CLUSTER", "NODES"]).unwrap_or_default();
            text.lines().any(|line| line.contains("myself,master") && owns(line, slot))
        };
        let owners: Vec<usize> = (0..self.nodes.len()).filter(owned).collect();
        if let [only] = owners[..] { Some(only) } else { None }
    }

    /// Returns the owner of the slot of a key, as one node sees it.
    pub fn owner_seen_by(&self, node: usize, key: &str) -> Option<usize> {
        let slot = i32::from(slot_of(key));
        let text = self.nodes[node].cli(&["CLUSTER", "NODES"]);
        let id = text.lines().find(|line| owns(line, slot))?.split(' ').next()?;
        (0..self.nodes.len()).filter(|node| !self.nodes[*node].is_stopped()).find(|node| self.id(*node) == id)
    }

    /// Cuts a primary off: it reaches no other node, and continues to serve clients as if it were alone.
    pub fn cut_off(&self, node: usize) {
        let alone = &self.nodes[node];
        alone.cli(&["CONFIG", "SET", "cluster-require-full-coverage", "no"]);
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            assert_eq!(alone.cli(&["CLUSTER", "FORGET", &self.id(other)]).trim(), "OK");
        }
    }

    /// Ends the cut of [`Self::cut_off`].
    pub fn heal(&self, node: usize) {
        let (port, bus) = (self.nodes[node].port().to_string(), self.buses[node].to_string());
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            self.nodes[other].cli(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
        }
    }

    /// Returns a hash tag whose slot this primary owned at the start.
    pub fn tag_at(primary: usize) -> String {
        let (first, last) = slots_of(primary);
        (0..).map(|n| format!("t{n}")).find(|tag| (first..=last).contains(&slot_of(tag))).expect("there is a tag")
    }

    /// Returns the answer to a command with one key, from the node that owns it. Repeats a command that was refused:
    /// a refused command has no effect.
    pub fn cli(&self, arguments: &[&str]) -> String {
        let began = Instant::now();
        loop {
            for node in self.nodes.iter().filter(|node| !node.is_stopped()) {
                let command = [&["-c", "-e"], arguments].concat();
                if let Some(answer) = node.try_cli(&command) {
                    return answer;
                }
            }
            assert!(began.elapsed() < WRITE_LIMIT, "no node accepts {arguments:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns the entries of a stream: id, and names and values in their order.
    pub fn entries(&self, stream: &str) -> Vec<(String, Vec<(String, String)>)> {
        let text = self.cli(&["--json", "XRANGE", stream, "-", "+"]);
        let all: Vec<(String, Vec<String>)> =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let pairs = |flat: Vec<String>| flat.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        all.into_iter().map(|(id, flat)| (id, pairs(flat))).collect()
    }

    pub fn add(&self, stream: &str, fields: &[(&str, &str)]) -> String {
        let mut arguments = vec!["XADD", stream, "*"];
        arguments.extend(fields.iter().flat_map(|(name, value)| [*name, *value]));
        self.cli(&arguments).trim().to_owned()
    }
}

/// Returns true if a line of `CLUSTER NODES` states that its node owns a slot.
fn owns(line: &str, slot: i32) -> bool {
    let number = |text: &str| text.trim().parse::<i32>().unwrap_or(-1);
    // Slots that are being migrated are in brackets.
    line.split(' ').skip(8).filter(|range| !range.starts_with('[')).any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        (number(first)..=number(last)).contains(&slot)
    })
}

/// Returns the slots of a primary at the start.
const fn slots_of(primary: usize) -> (u16, u16) {
    let share = SLOTS as usize / PRIMARIES;
    let last = if primary + 1 == PRIMARIES { SLOTS as usize } else { (primary + 1) * share };
    ((primary * share) as u16, (last - 1) as u16)
}

fn id_of(node: &RedisServer) -> String {
    node.cli(&["CLUSTER", "MYID"]).trim().to_owned()
}
