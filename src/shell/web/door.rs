//! Decides which connections are kept and which are closed for new ones.
//!
//! ```text
//! accepted ──▶ waiting for its request ──▶ answering ──▶ closed
//!                  │ HEAD_LIMIT                │ CONNECTION_LIMIT
//!                  └──────────▶ closed ◀───────┘
//! ```
//!
//! Promises: at most [`CONNECTIONS_MAX`] connections exist at a time, and a new one is never the one to be closed. The
//! oldest one that still waits for its request is closed first, then the oldest of all. So a client cannot lock others
//! out by keeping connections open.
//!
//! Streams of events have no time limit. There are at most [`STREAMS_MAX`], and they are not counted as connections:
//! they never close another connection, and are never closed for one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

/// Maximum number of connections. Each takes one file descriptor. [1]
pub(super) const CONNECTIONS_MAX: usize = 64;
/// Maximum number of streams of events. Each takes one file descriptor. [1]
pub const STREAMS_MAX: usize = 64;
/// Time limit for the head of a request to arrive.
pub(super) const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// Time limit of a connection, which includes its request, the answer, and the client's reading of it.
pub(super) const CONNECTION_LIMIT: Duration = Duration::from_secs(30);
/// Maximum length of the head of a request. A page refuses a shorter query with a sentence. [bytes]
pub(super) const HEAD_BYTES_MAX: usize = 80 * 1024;
/// Maximum number of headers of a request. [1]
pub(super) const HEADERS_MAX: usize = 64;

/// The open connections by number, in order of arrival.
#[derive(Clone, Debug, Default)]
pub(super) struct Door(Arc<Mutex<OpenConnections>>);

#[derive(Debug, Default)]
struct OpenConnections {
    arrived: u64,
    connections: BTreeMap<u64, Connection>,
    streams: BTreeMap<u64, AbortHandle>,
}

#[derive(Debug)]
struct Connection {
    task: AbortHandle,
    is_answering: bool,
}

/// The slot of a connection, freed when it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    door: Door,
    number: u64,
}

impl Door {
    /// Admits a connection that `serve` starts as a task. Closes another one first if there are too many.
    pub(super) fn admit(&self, serve: impl FnOnce(Arc<ConnectionSlot>) -> AbortHandle) {
        let mut open = self.open();
        while open.connections.len() >= CONNECTIONS_MAX {
            let gives_way = open.gives_way();
            if let Some(closed) = gives_way.and_then(|number| open.connections.remove(&number)) {
                closed.task.abort();
            }
        }
        let number = open.arrived;
        open.arrived += 1;
        let task = serve(Arc::new(ConnectionSlot { door: self.clone(), number }));
        open.connections.insert(number, Connection { task, is_answering: false });
    }

    /// Closes the connections that still wait for a request, and the streams.
    pub(super) fn close_waiting(&self) {
        let mut open = self.open();
        for stream in std::mem::take(&mut open.streams).into_values() {
            stream.abort();
        }
        open.connections.retain(|_, connection| {
            if !connection.is_answering {
                connection.task.abort();
            }
            connection.is_answering
        });
    }

    /// Locks the state. A panic under the lock leaves no change incomplete.
    fn open(&self) -> MutexGuard<'_, OpenConnections> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenConnections {
    /// Returns the connection to close for a new one.
    fn gives_way(&self) -> Option<u64> {
        let waiting = self.connections.iter().find(|(_, connection)| !connection.is_answering);
        waiting.or_else(|| self.connections.iter().next()).map(|(number, _)| *number)
    }
}

impl ConnectionSlot {
    /// Records that the request has arrived.
    pub(super) fn answers(&self) {
        if let Some(connection) = self.door.open().connections.get_mut(&self.number) {
            connection.is_answering = true;
        }
    }
}

impl ConnectionSlot {
    /// Makes the connection a stream, which has no time limit. Returns false if there are too many.
    pub(super) fn streams(&self) -> bool {
        let mut open = self.door.open();
        if open.streams.len() >= STREAMS_MAX {
            return false;
        }
        // A connection that was just closed for a new one has no slot any more.
        let Some(connection) = open.connections.remove(&self.number) else { return false };
        open.streams.insert(self.number, connection.task);
        true
    }

    /// Returns true if the connection is a stream.
    pub(super) fn is_stream(&self) -> bool {
        self.door.open().streams.contains_key(&self.number)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut open = self.door.open();
        open.connections.remove(&self.number);
        open.streams.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connections that never end by themselves.
    #[derive(Default)]
    struct Room {
        door: Door,
        tasks: Vec<tokio::task::JoinHandle<()>>,
        places: Vec<Arc<ConnectionSlot>>,
    }

    impl Room {
        fn admit(&mut self) {
            self.door.admit(|slot| {
                let task = tokio::spawn(std::future::pending::<()>());
                let abort = task.abort_handle();
                self.tasks.push(task);
                self.places.push(slot);
                abort
            });
        }

        fn numbers(&self) -> Vec<u64> {
            self.door.open().connections.keys().copied().collect()
        }
    }

    #[tokio::test]
    async fn the_oldest_that_waits_gives_way_then_the_oldest_of_all() {
        let mut room = Room::default();
        for _ in 0..CONNECTIONS_MAX {
            room.admit();
        }
        room.places[0].answers();
        room.admit();
        assert_eq!(room.numbers()[..2], [0, 2], "the first answers; the second waited longest");
        room.places.iter().for_each(|slot| slot.answers());
        room.admit();
        assert_eq!((room.numbers()[0], room.numbers().len()), (2, CONNECTIONS_MAX), "all answer: the oldest goes");
        for gone in [0, 1] {
            assert!((&mut room.tasks[gone]).await.is_err_and(|error| error.is_cancelled()), "its task was ended");
        }
        room.door.close_waiting();
        assert_eq!(room.numbers().len(), CONNECTIONS_MAX - 1, "only the newest waited");
    }

    #[tokio::test]
    async fn streams_are_bounded_and_take_no_place_of_a_connection() {
        let mut room = Room::default();
        for _ in 0..STREAMS_MAX {
            room.admit();
            assert!(room.places.last().expect("one").streams());
        }
        for _ in 0..CONNECTIONS_MAX {
            room.admit();
        }
        assert!(room.places[..STREAMS_MAX].iter().all(|slot| slot.is_stream()), "no connection closed a stream");
        assert!(!room.places.last().expect("one").streams(), "one more stream is refused");
        room.places.remove(0);
        assert!(room.places.last().expect("one").streams(), "there is room again");
        room.door.close_waiting();
        assert!(room.places.iter().all(|slot| !slot.is_stream()), "the end closes all streams");
    }
}
