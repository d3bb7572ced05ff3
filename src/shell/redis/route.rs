//! Commands of a cluster: each goes to the owner of its key, and follows the slot when it moves.
//!
//! A node that answers `MOVED`, `ASK`, `TRYAGAIN` or `CLUSTERDOWN` has not executed the command. So the command is sent
//! again, to the owner that is then known. A broken connection is an error, as with a single server: the command may
//! have been executed.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, ServerErrorKind, Value};

use super::address::Address;
use super::cluster::{self, Node, Shard, View};
use super::reply;
use super::server::{Server, ServerError, is_redirect, open};
use super::slot::slot_of;

/// The first delay after a redirection that names no node, and after one that did not help.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// Maximum number of redirections of a command. The delays between them double, and are about 2.5 s in total. [1]
const REDIRECTIONS_MAX: u32 = 8;

/// The connections to the nodes of a cluster.
pub(super) struct Routes {
    address: Address,
    view: View,
    connections: BTreeMap<Node, MultiplexedConnection>,
}

impl Routes {
    async fn connection(&mut self, node: &Node) -> RedisResult<MultiplexedConnection> {
        if let Some(connection) = self.connections.get(node) {
            return Ok(connection.clone());
        }
        let unreachable = |error: ServerError| match error {
            ServerError::Unreachable { source, .. } | ServerError::Refused { source, .. } => source,
            other => std::io::Error::other(other).into(),
        };
        let address = self.address.of_node(node).map_err(unreachable)?;
        let connection = open(&address).await.map_err(unreachable)?;
        self.connections.insert(node.clone(), connection.clone());
        Ok(connection)
    }
}

/// Returns the view of a cluster that has priority now.
async fn view(address: &Address) -> Result<View, ServerError> {
    let (of, name) = (address.clone(), address.name());
    let viewed = tokio::task::spawn_blocking(move || cluster::view(&of)).await;
    viewed.unwrap_or_else(|error| {
        let source = std::io::Error::other(error).into();
        Err(ServerError::Unreachable { server: name.to_owned(), source })
    })
}

impl Server {
    /// Connects to the owner of the home slot.
    pub(super) async fn connect_home(address: &Address) -> Result<Self, ServerError> {
        let view = view(address).await?;
        let node = view.owner(address, address.home)?.clone();
        let connection = open(&address.of_node(&node)?).await?;
        let connections = BTreeMap::from([(node.clone(), connection.clone())]);
        let routes = Routes { address: address.clone(), view, connections };
        Ok(Self { name: node.name(), connection, routes: Some(routes) })
    }

    /// Returns true if this is a cluster.
    pub const fn is_cluster(&self) -> bool {
        self.routes.is_some()
    }

    /// Returns the last view of the cluster; `None` if there is a single server.
    pub fn view(&self) -> Option<&View> {
        self.routes.as_ref().map(|routes| &routes.view)
    }

    /// Returns the shard of the home slot, if this is a cluster.
    pub fn home(&self) -> Option<(u16, Option<&Shard>)> {
        self.routes.as_ref().map(|routes| (routes.address.home, routes.view.shard(routes.address.home)))
    }

    /// Returns the name of the server that owns a key. [host:port]
    pub fn owner_of(&self, key: &str) -> Option<String> {
        match &self.routes {
            None => Some(self.name.clone()),
            Some(routes) => routes.view.shard(slot_of(key)).map(|shard| shard.primary.name()),
        }
    }

    /// Returns the names of the primaries. [host:port]
    pub fn primaries(&self) -> Vec<String> {
        self.view().map_or_else(
            || vec![self.name.clone()],
            |view| view.shards.iter().map(|shard| shard.primary.name()).collect(),
        )
    }

    /// Sends a command that names one key, or several of one slot.
    pub(super) async fn query<T: FromRedisValue>(&mut self, key: &str, command: &Cmd) -> RedisResult<T> {
        if self.routes.is_none() {
            return command.query_async(&mut self.connection).await;
        }
        let answer = self.query_routed(&[(key, command)]).await?.pop().unwrap_or_default();
        Ok(redis::from_redis_value(reply::checked(answer)?)?)
    }

    /// Sends commands, each with one of its keys, in one round trip to each server. Returns their answers. An error of
    /// a server is returned as the answer. Commands of one slot are executed in their order.
    pub(super) async fn query_all(&mut self, commands: &[(String, Cmd)]) -> RedisResult<Vec<Value>> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        if self.routes.is_some() {
            let borrowed: Vec<(&str, &Cmd)> = commands.iter().map(|(key, command)| (key.as_str(), command)).collect();
            return self.query_routed(&borrowed).await;
        }
        let mut pipeline = Pipeline::with_capacity(commands.len());
        pipeline.ignore_errors();
        for (_, command) in commands {
            pipeline.add_command(command.clone());
        }
        pipeline.query_async(&mut self.connection).await
    }

    /// Sends a command to one of the primaries, by its index in [`Server::primaries`].
    pub(super) async fn query_primary<T: FromRedisValue>(&mut self, primary: usize, command: &Cmd) -> RedisResult<T> {
        let Some(routes) = &mut self.routes else { return command.query_async(&mut self.connection).await };
        let node = routes.view.shards[primary].primary.clone();
        let mut connection = routes.connection(&node).await?;
        command.query_async(&mut connection).await
    }

    async fn query_routed(&mut self, commands: &[(&str, &Cmd)]) -> RedisResult<Vec<Value>> {
        let routes = self.routes.as_mut().expect("a cluster");
        let mut answers = vec![Value::Nil; commands.len()];
        let mut waiting: Vec<(usize, Option<Node>)> = (0..commands.len()).map(|index| (index, None)).collect();
        for redirections in 0..=REDIRECTIONS_MAX {
            let mut refused: Vec<(usize, Option<Node>)> = Vec::new();
            let mut by_node: BTreeMap<Node, Vec<(usize, bool)>> = BTreeMap::new();
            for (index, asked) in waiting {
                let owner = routes.view.shard(slot_of(commands[index].0)).map(|shard| shard.primary.clone());
                match asked.clone().or(owner) {
                    Some(node) => by_node.entry(node).or_default().push((index, asked.is_some())),
                    None => {
                        answers[index] = no_owner();
                        refused.push((index, None));
                    }
                }
            }
            for (node, indexes) in by_node {
                let mut pipeline = Pipeline::with_capacity(indexes.len());
                pipeline.ignore_errors();
                for (index, is_asked) in &indexes {
                    if *is_asked {
                        pipeline.cmd("ASKING");
                    }
                    pipeline.add_command(commands[*index].1.clone());
                }
                let replies = match routes.connection(&node).await {
                    Ok(mut connection) => pipeline.query_async(&mut connection).await,
                    Err(error) => Err(error),
                };
                let replies: Vec<Value> = replies.inspect_err(|_| drop(routes.connections.remove(&node)))?;
                let mut replies = replies.into_iter();
                for (index, is_asked) in indexes {
                    if is_asked {
                        replies.next();
                    }
                    let answer = replies.next().unwrap_or_default();
                    if let Some(error) = redirection(&answer) {
                        refused.push((index, asked_of(&error, &node)));
                    }
                    answers[index] = answer;
                }
            }
            if refused.is_empty() || redirections == REDIRECTIONS_MAX {
                break;
            }
            refused.sort_by_key(|(index, _)| *index);
            // A slot that moves to another node names that node. In all other cases the owner is looked up again.
            if refused.iter().any(|(_, asked)| asked.is_none()) {
                if redirections > 0 {
                    tokio::time::sleep(PAUSE_MIN * (1 << redirections.min(7))).await;
                }
                if let Ok(view) = view(&routes.address).await {
                    routes.view = view;
                }
            }
            waiting = refused;
        }
        Ok(answers)
    }
}

/// Returns the error of a node that has not executed a command, because another node may have to.
fn redirection(answer: &Value) -> Option<RedisError> {
    let Value::ServerError(error) = answer else { return None };
    Some(RedisError::from(error.clone())).filter(is_redirect)
}

/// Returns the node to which a slot is moving.
fn asked_of(error: &RedisError, node: &Node) -> Option<Node> {
    let is_ask = error.kind() == redis::ErrorKind::Server(ServerErrorKind::Ask);
    let (to, _) = error.redirect_node().filter(|_| is_ask)?;
    Node::of_redirection(to, &node.host)
}

/// Returns the answer for a slot that no node of the cluster owns.
fn no_owner() -> Value {
    redis::parse_redis_value(b"-CLUSTERDOWN Hash slot not served\r\n").unwrap_or_default()
}
