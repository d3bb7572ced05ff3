//! One side of a comparison: an existing state, or a replay that computes one.

use std::path::Path;

use anyhow::Context as _;

use crate::codec::snapshot;
use crate::config::Config;
use crate::domain::engine::{Decisions, Engine};
use crate::domain::event::Entry;
use crate::domain::event::ids::SortKey;
use crate::drive::driver::Driver;
use crate::drive::{projection, scope, snapshots};
use crate::shell::history::{History, Input, Options};
use crate::shell::store::Store;

pub enum Side {
    State(Box<Engine>),
    Replay(Box<Walk>),
}

impl Side {
    /// Opens a side. The path determines the kind of the side.
    pub fn open(path: &Path, config: &Config, decisions: Decisions) -> anyhow::Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if Store::is_at(path) {
            let (engine, _) = projection::read(path)?;
            return Ok(Self::State(Box::new(engine)));
        }
        if snapshot::last_of_name(name).is_some() {
            let (engine, _) =
                snapshots::restored(path, config).with_context(|| format!("the snapshot {}", path.display()))?;
            return Ok(Self::State(Box::new(engine)));
        }
        Ok(Self::Replay(Box::new(Walk::open(path, config, decisions)?)))
    }

    /// Returns the state. Runs a replay to its end.
    pub fn state(self) -> anyhow::Result<Engine> {
        match self {
            Self::State(engine) => Ok(*engine),
            Self::Replay(mut walk) => {
                while walk.next.is_some() {
                    walk.step()?;
                }
                Ok(walk.driver.engine)
            }
        }
    }
}

/// A replay that goes entry by entry.
pub struct Walk {
    history: History,
    pub driver: Driver,
    /// The next entry.
    pub next: Option<Next>,
    /// Ids of the decisions that took effect.
    pub decisions: Vec<String>,
}

/// An entry with its position in the order.
pub struct Next {
    pub key: SortKey,
    pub entry: Entry,
    pub text: Vec<u8>,
}

impl Walk {
    fn open(path: &Path, config: &Config, decisions: Decisions) -> anyhow::Result<Self> {
        let inputs = [Input::from(path.to_owned())];
        let config = &*scope::over(config, &inputs)?;
        let history = History::open(&inputs, &config.streams, Options::default())?;
        let driver = Driver::over(&history, config, decisions, None)?;
        let mut walk = Self { history, driver, next: None, decisions: Vec::new() };
        walk.advance()?;
        Ok(walk)
    }

    /// Folds the next entry and returns it, so that its changes can be examined.
    pub fn step(&mut self) -> anyhow::Result<Option<Next>> {
        let Some(next) = self.next.take() else { return Ok(None) };
        let folded = self.driver.fold(&next.entry);
        self.decisions.extend(folded.decided.into_iter().map(|(decision, _)| decision.decision_id));
        self.advance()?;
        Ok(Some(next))
    }

    fn advance(&mut self) -> anyhow::Result<()> {
        let Some(line) = self.history.next_line()? else { return Ok(()) };
        let (key, file, number, text) = (line.key, line.file, line.number, line.bytes.to_vec());
        let (stream, id) = (line.stream, line.id);
        let entry = self.driver.decode_line(stream, id, &text);
        let entry = entry.with_context(|| self.history.location(file, number))?;
        self.next = Some(Next { key, entry, text });
        Ok(())
    }
}
