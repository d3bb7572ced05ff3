//! A cluster as its nodes describe it: which node owns which slot.
//!
//! All nodes are asked at the same time, so a node that does not answer delays no other one. Their views may differ: a
//! node that is cut off continues with the owners that it knows. The view of a node whose cluster is up has priority;
//! among those, the view with the latest epoch.

use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use redis::{ErrorKind, Pipeline, RedisError, Value};

use super::address::{Address, Limits};
use super::inspect::info_of;
use super::reply;
use super::server::{ServerError, failed};
use super::wire::Wire;

/// The limits for a node that is asked for its view. Other nodes are asked, too.
const OF_VIEW: Limits = Limits { connect: Duration::from_secs(1), response: Duration::from_secs(1) };
/// How long to wait for the other nodes after the first answer. Live nodes answer in a fraction of this time.
const OTHERS: Duration = Duration::from_millis(250);

/// Host and port of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Node {
    pub host: String,
    pub port: u16,
}

impl Node {
    pub fn name(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Parses `host:port` as a redirection names it. An empty host means the node that answered.
    pub(super) fn of_redirection(text: &str, answered: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = if host.is_empty() { answered } else { host };
        Some(Self { host: host.to_owned(), port: port.parse().ok()? })
    }
}

/// Slots with their primary and its replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    pub slots: Vec<RangeInclusive<u16>>,
    pub primary: Node,
    pub replicas: Vec<Node>,
}

/// A cluster as one of its nodes sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// True if that node serves commands.
    pub is_up: bool,
    /// The number of the last change of owners that the node has seen. [1]
    pub epoch: u64,
    /// Shards with slots.
    pub shards: Vec<Shard>,
}

impl View {
    /// Returns the shard of a slot.
    pub fn shard(&self, slot: u16) -> Option<&Shard> {
        self.shards.iter().find(|shard| shard.slots.iter().any(|slots| slots.contains(&slot)))
    }

    /// Returns the number of slots that have an owner. [1]
    pub fn slots_owned(&self) -> u64 {
        self.shards.iter().flat_map(|shard| &shard.slots).map(|slots| slots.len() as u64).sum()
    }

    pub(super) fn owner(&self, address: &Address, slot: u16) -> Result<&Node, ServerError> {
        let no_owner = || ServerError::NoOwner { server: address.name().to_owned(), slot };
        self.shard(slot).map(|shard| &shard.primary).ok_or_else(no_owner)
    }
}

/// The nodes of a cluster that are known.
#[derive(Debug)]
pub(super) struct Cluster {
    /// The nodes that the address names.
    seeds: Vec<Node>,
    /// The nodes of the last view.
    known: Mutex<Vec<Node>>,
}

impl Cluster {
    pub const fn new(seeds: Vec<Node>) -> Self {
        Self { seeds, known: Mutex::new(Vec::new()) }
    }

    fn nodes(&self) -> Vec<Node> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut nodes: Vec<Node> = self.seeds.iter().chain(known.iter()).cloned().collect();
        nodes.sort();
        nodes.dedup();
        nodes
    }

    fn learn(&self, view: &View) {
        let nodes = view.shards.iter().flat_map(|shard| std::iter::once(&shard.primary).chain(&shard.replicas));
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = nodes.cloned().collect();
    }
}

/// Asks the nodes of a cluster for their views, and returns the one with priority. Blocks for at most some seconds.
pub(super) fn view(address: &Address) -> Result<View, ServerError> {
    let Some(cluster) = &address.cluster else {
        return Err(ServerError::NotACluster { server: address.name().to_owned() });
    };
    let nodes = cluster.nodes();
    let (sender, views) = bounded(nodes.len());
    for node in nodes {
        let (sender, address) = (sender.clone(), address.of_node(&node)?.within(OF_VIEW));
        // A node that does not answer blocks only its own thread.
        std::thread::spawn(move || sender.send(view_of(&address, &node)));
    }
    drop(sender);
    let mut found: Option<View> = None;
    let mut failure = None;
    let mut until = Instant::now() + OF_VIEW.connect + 2 * OF_VIEW.response;
    while let Ok(view) = views.recv_deadline(until) {
        match view {
            Ok(view) => {
                until = until.min(Instant::now() + OTHERS);
                let rank = |view: &View| (view.is_up, view.epoch);
                if found.as_ref().is_none_or(|found| rank(&view) > rank(found)) {
                    found = Some(view);
                }
            }
            Err(error) => {
                failure.get_or_insert(error);
            }
        }
    }
    match (found, failure) {
        (Some(view), _) => {
            cluster.learn(&view);
            Ok(view)
        }
        (None, Some(error)) => Err(error),
        (None, None) => {
            let source = std::io::Error::new(std::io::ErrorKind::TimedOut, "no node answers").into();
            Err(ServerError::Unreachable { server: address.name().to_owned(), source })
        }
    }
}

fn view_of(address: &Address, node: &Node) -> Result<View, ServerError> {
    let mut wire = Wire::connect(address)?;
    let mut pipeline = Pipeline::new();
    pipeline.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("SHARDS");
    let failed = || failed(address.name(), "to tell its cluster");
    let mut answers = wire.ask(&pipeline).map_err(failed())?.into_iter();
    let info = reply::text(answers.next().unwrap_or_default(), "CLUSTER INFO is not a text");
    let info = match info {
        Ok(info) => info_of(&info),
        Err(error) if error.detail().is_some_and(|detail| detail.contains("cluster support disabled")) => {
            return Err(ServerError::NotACluster { server: address.name().to_owned() });
        }
        Err(error) => return Err(failed()(error)),
    };
    let shards = match reply::checked(answers.next().unwrap_or_default()) {
        Ok(shards) => shards_of(shards, node, address.is_tls()),
        // A server before 7.0 does not know the command.
        Err(_) => {
            let mut slots = redis::cmd("CLUSTER");
            slots.arg("SLOTS");
            wire.ask_one(slots).and_then(|slots| shards_of_slots(slots, node))
        }
    };
    Ok(View {
        is_up: info.get("cluster_state").is_some_and(|state| state == "ok"),
        epoch: info.get("cluster_current_epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0),
        shards: shards.map_err(failed())?,
    })
}

/// Reads the answer to `CLUSTER SHARDS`.
fn shards_of(answer: Value, asked: &Node, is_tls: bool) -> Result<Vec<Shard>, RedisError> {
    let mut shards = Vec::new();
    for shard in reply::array(answer, "CLUSTER SHARDS is not a list")? {
        let (mut slots, mut primary, mut replicas) = (Vec::new(), None, Vec::new());
        for (name, value) in reply::named(shard)? {
            match name.as_str() {
                "slots" => slots = ranges(reply::array(value, "slots are not a list")?)?,
                "nodes" => {
                    for node in reply::array(value, "nodes are not a list")? {
                        let Some((node, is_primary, is_online)) = node_of_shard(node, asked, is_tls)? else { continue };
                        match primary {
                            None if is_primary => primary = Some((node, is_online)),
                            // A failed primary may be listed next to its successor.
                            Some((_, false)) if is_primary && is_online => primary = Some((node, is_online)),
                            _ => replicas.push(node),
                        }
                    }
                }
                _ => {}
            }
        }
        if let Some((primary, _)) = primary
            && !slots.is_empty()
        {
            shards.push(Shard { slots, primary, replicas });
        }
    }
    Ok(shards)
}

/// Returns a node, whether it is a primary, and whether it is online.
fn node_of_shard(answer: Value, asked: &Node, is_tls: bool) -> Result<Option<(Node, bool, bool)>, RedisError> {
    let (mut endpoint, mut ip, mut port, mut tls_port, mut role, mut health) =
        (String::new(), String::new(), None, None, String::new(), String::new());
    let text = |value| reply::text(value, "a field of a node is not a text");
    for (name, value) in reply::named(answer)? {
        match (name.as_str(), value) {
            (_, Value::Nil) => {}
            ("endpoint", value) => endpoint = text(value)?,
            ("ip", value) => ip = text(value)?,
            ("port", value) => port = Some(reply::number(value, "a port is not a number")?),
            ("tls-port", value) => tls_port = Some(reply::number(value, "a port is not a number")?),
            ("role", value) => role = text(value)?,
            ("health", value) => health = text(value)?,
            _ => {}
        }
    }
    // The other port does not use TLS.
    if is_tls && tls_port.is_none() {
        return Err((ErrorKind::UnexpectedReturnType, "the nodes announce no port for TLS: set tls-cluster yes").into());
    }
    let port = if is_tls { tls_port } else { port };
    let Some(port) = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0) else { return Ok(None) };
    let host = [endpoint, ip].into_iter().find(|host| !matches!(host.as_str(), "" | "?"));
    let host = host.unwrap_or_else(|| asked.host.clone());
    Ok(Some((Node { host, port }, role == "master", health == "online")))
}

fn ranges(numbers: Vec<Value>) -> Result<Vec<RangeInclusive<u16>>, RedisError> {
    let number =
        |value| reply::number(value, "a slot is not a number").map(|slot| u16::try_from(slot).unwrap_or(u16::MAX));
    let numbers = numbers.into_iter().map(number).collect::<Result<Vec<u16>, RedisError>>()?;
    Ok(numbers.chunks_exact(2).map(|range| range[0]..=range[1]).collect())
}

/// Reads the answer to `CLUSTER SLOTS`: for each range its ends, its primary and the replicas.
fn shards_of_slots(answer: Value, asked: &Node) -> Result<Vec<Shard>, RedisError> {
    let mut shards: Vec<Shard> = Vec::new();
    for range in reply::array(answer, "CLUSTER SLOTS is not a list")? {
        let mut parts = reply::array(range, "a range is not a list")?.into_iter();
        let slots = ranges(parts.by_ref().take(2).collect())?;
        let node = |value| {
            let mut parts = reply::array(value, "a node is not a list")?.into_iter();
            let host = match parts.next() {
                None | Some(Value::Nil) => String::new(),
                Some(host) => reply::text(host, "a host is not a text")?,
            };
            let port = reply::number(parts.next().unwrap_or_default(), "a port is not a number")?;
            let host = if matches!(host.as_str(), "" | "?") { asked.host.clone() } else { host };
            Ok::<Node, RedisError>(Node { host, port: u16::try_from(port).unwrap_or(0) })
        };
        let mut nodes = parts.map(node).collect::<Result<Vec<Node>, RedisError>>()?.into_iter();
        let Some(primary) = nodes.next() else { continue };
        match shards.iter_mut().find(|shard| shard.primary == primary) {
            Some(shard) => shard.slots.extend(slots),
            None => shards.push(Shard { slots, primary, replicas: nodes.collect() }),
        }
    }
    Ok(shards)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Node {
        Node { host: "asked".to_owned(), port: 1 }
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn list(values: Vec<Value>) -> Value {
        Value::Array(values)
    }

    fn node(port: i64, host: Value, role: &str, health: &str) -> Value {
        let ports = vec![text("id"), text("x"), text("port"), Value::Int(port), text("tls-port"), Value::Int(port + 1)];
        let names = vec![text("endpoint"), host, text("role"), text(role), text("health"), text(health)];
        list([ports, names].concat())
    }

    #[test]
    fn the_owner_of_a_slot_is_the_primary_that_is_online() {
        let nodes = || {
            list(vec![
                node(7000, text("a"), "master", "fail"),
                node(7002, text("?"), "slave", "online"),
                node(7004, Value::Nil, "master", "online"),
            ])
        };
        let slots = || list(vec![Value::Int(0), Value::Int(100), Value::Int(200), Value::Int(200)]);
        let shard = list(vec![text("slots"), slots(), text("nodes"), nodes()]);
        let none = list(vec![text("slots"), list(vec![]), text("nodes"), nodes()]);
        let shards = shards_of(list(vec![none, shard.clone()]), &asked(), false).expect("an answer");
        let view = View { shards, ..View::default() };
        assert_eq!(view.slots_owned(), 102);
        assert_eq!(view.shard(200).map(|shard| shard.primary.name()).as_deref(), Some("asked:7004"));
        assert_eq!(view.shard(101), None);
        let secure = shards_of(list(vec![shard]), &asked(), true).expect("an answer");
        assert_eq!(secure[0].primary.port, 7005);
    }

    #[test]
    fn an_older_server_tells_ranges() {
        let node = |port| list(vec![text("a"), Value::Int(port), text("id")]);
        let range = |from, to, nodes: Vec<Value>| list([vec![Value::Int(from), Value::Int(to)], nodes].concat());
        let answer = list(vec![range(0, 9, vec![node(1), node(2)]), range(20, 29, vec![node(1), node(2)])]);
        let shards = shards_of_slots(answer, &asked()).expect("an answer");
        let name = |port| Node { host: "a".to_owned(), port };
        assert_eq!(shards, [Shard { slots: vec![0..=9, 20..=29], primary: name(1), replicas: vec![name(2)] }]);
    }

    #[test]
    fn a_redirection_without_a_host_is_to_the_one_that_answered() {
        let of = |text| Node::of_redirection(text, "b").map(|node| node.name());
        assert_eq!(of("a:7000").as_deref(), Some("a:7000"));
        assert_eq!(of(":7000").as_deref(), Some("b:7000"));
        assert_eq!(of("::1:7000").as_deref(), Some("::1:7000"));
        assert_eq!(of("a"), None);
    }
}
