//! Live pages: the parts of a page that changed, as server-sent events.
//!
//! ```text
//!  address ─▶ board ─▶ page, at most four times a second ─▶ parts with the version of their last change
//!               └─▶ reader: the parts that changed since its version, after it has taken the last event
//! ```
//!
//! Promises: a page is made once for all of its readers. A reader has no queue: a slow one gets fewer events, each with
//! all changes since its last one, and the server closes a connection that takes nothing. The number of pages that are
//! followed at the same time is bounded, and the server bounds the readers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::feed::PAUSE_MIN;
use super::parts::{self, Piece};
use crate::shell::web::Events;

/// Pages that are followed at a time. [1]
const BOARDS_MAX: usize = 16;
/// The pause after a page was made, as a multiple of the time that making it took. [1]
const PAUSE_SHARE: u32 = 10;
/// An event is sent at least this often, so that each side notices when the other is gone. The script waits for more
/// than two of them.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// A page in its present version.
pub struct Drawn {
    /// The version of the content: two pages with the same token are equal.
    pub token: String,
    pub pieces: Vec<Piece>,
    pub took: Duration,
}

/// A version of a page.
#[derive(Clone, Debug, Default)]
struct Version {
    number: u64,
    token: String,
    pieces: Arc<[Piece]>,
}

/// The pages that are followed.
#[derive(Clone, Default)]
pub struct Live {
    boards: Arc<Mutex<HashMap<String, watch::Sender<Version>>>>,
    readers: Arc<AtomicUsize>,
}

/// Counts a reader while it exists.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Live {
    /// Returns the number of readers. [1]
    pub fn readers(&self) -> usize {
        self.readers.load(Ordering::Relaxed)
    }

    /// Follows the page of an address. `known` is the token of the page that the reader has. `draw` gets the token that
    /// the board has, and returns `None` if the page is unchanged. Returns `None` if too many pages are followed.
    pub fn follow<D, F>(&self, address: &str, known: String, draw: D) -> Option<Events>
    where
        D: Fn(String) -> F + Send + 'static,
        F: Future<Output = Option<Drawn>> + Send + 'static,
    {
        let seen = {
            let mut boards = self.boards();
            // A page without readers is removed after its next pause. It does not count any more.
            let is_followed = |board: &watch::Sender<Version>| board.receiver_count() > 0;
            let has_place = boards.values().filter(|board| is_followed(board)).count() < BOARDS_MAX;
            match boards.get(address) {
                Some(board) if has_place || is_followed(board) => board.subscribe(),
                Some(_) => return None,
                None if !has_place || boards.len() >= 2 * BOARDS_MAX => return None,
                None => {
                    let (board, seen) = watch::channel(Version::default());
                    boards.insert(address.to_owned(), board);
                    tokio::spawn(keep(self.clone(), address.to_owned(), draw));
                    seen
                }
            }
        };
        self.readers.fetch_add(1, Ordering::Relaxed);
        let reader = Reader { seen, version: 0, known: Some(known), _counted: Counted(Arc::clone(&self.readers)) };
        Some(Events(Box::pin(stream::unfold(reader, Reader::next))))
    }

    fn boards(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Version>>> {
        self.boards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the token of a board. If the board has no readers, removes it and returns `None`.
    fn token(&self, address: &str) -> Option<String> {
        let mut boards = self.boards();
        let board = boards.get(address)?;
        if board.receiver_count() == 0 {
            boards.remove(address);
            return None;
        }
        let token = board.borrow().token.clone();
        Some(token)
    }

    fn draw(&self, address: &str, Drawn { token, mut pieces, .. }: Drawn) {
        if let Some(board) = self.boards().get(address) {
            board.send_modify(|version| {
                version.number += 1;
                parts::carry_over(&mut pieces, &version.pieces, version.number);
                version.token = token;
                version.pieces = pieces.into();
            });
        }
    }
}

/// Draws a page again and again while it has readers.
async fn keep<D, F>(live: Live, address: String, draw: D)
where
    D: Fn(String) -> F + Send + 'static,
    F: Future<Output = Option<Drawn>> + Send + 'static,
{
    while let Some(token) = live.token(&address) {
        let mut pause = PAUSE_MIN;
        if let Some(drawn) = draw(token).await {
            pause = pause.max(drawn.took * PAUSE_SHARE);
            live.draw(&address, drawn);
        }
        tokio::time::sleep(pause).await;
    }
}

/// A browser that follows a page.
struct Reader {
    seen: watch::Receiver<Version>,
    /// The version that it has. [1]
    version: u64,
    /// The token of the page that it has loaded, until the first version is made.
    known: Option<String>,
    _counted: Counted,
}

impl Reader {
    /// Returns the next event: the parts that changed since the last one.
    async fn next(mut self) -> Option<(String, Self)> {
        // A page that is made again without a change does not delay the sign.
        let sign = Instant::now() + SIGN_OF_LIFE;
        loop {
            let now = self.seen.borrow_and_update().clone();
            if now.number > 0 && self.known.take().is_some_and(|known| known == now.token) {
                self.version = now.number;
            }
            if now.number > self.version {
                let mut changed = Vec::new();
                parts::since(&now.pieces, self.version, &mut changed);
                self.version = now.number;
                if !changed.is_empty() {
                    let changed: Vec<(&str, &str)> =
                        changed.into_iter().map(|piece| (&*piece.name, &*piece.html)).collect();
                    return Some((format!("data: {}\n\n", serde_json::json!(changed)), self));
                }
            }
            match tokio::time::timeout_at(sign, self.seen.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return None,
                Err(_) => return Some(("event: alive\ndata: 1\n\n".to_owned(), self)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_that_lost_its_readers_takes_a_place_again_when_it_is_followed_again() {
        let live = Live::default();
        let follow = |address: &str| live.follow(address, String::new(), |_| async { None });
        drop(follow("first").expect("a place"));
        let others: Vec<_> = (0..BOARDS_MAX).map(|number| follow(&number.to_string())).collect();
        assert!(others.iter().all(Option::is_some), "a page without readers takes no place");
        assert!(follow("first").is_none(), "all places are taken");
        assert!(follow("0").is_some(), "a page that is followed takes further readers");
        drop(others);
        assert!(follow("first").is_some(), "there are places again");
    }
}
