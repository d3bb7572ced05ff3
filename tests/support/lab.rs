//! A driver in memory: entries go in by hand, and steps come out.

use std::ops::{Deref, DerefMut};

use harvester::codec::line;
use harvester::codec::seal::Sealed;
use harvester::codec::view;
use harvester::config::Config;
use harvester::domain::book::view::BookView;
use harvester::domain::engine::{Decision, Decisions, Disposition, Engine};
use harvester::domain::event::Entry;
use harvester::domain::event::ids::BookId;
use harvester::drive::driver::{Driver, Stepped};
use harvester::drive::look_ahead::LookAhead;
use serde_json::{Map, Value};

/// A driver that gets lines, as a replay does.
pub struct Lab {
    driver: Driver,
    config: Config,
}

/// The result of one line. Most histories have one book of a symbol, and then an entry decides at most once.
pub struct Came {
    pub entry: Entry,
    pub step: OneStep,
    pub sealed: Option<Sealed>,
    /// The decisions after the first, each with its sealed form.
    pub further: Vec<(Decision, Sealed)>,
}

pub struct OneStep {
    pub disposition: Disposition,
    pub decision: Option<Decision>,
}

impl Deref for Lab {
    type Target = Driver;

    fn deref(&self) -> &Driver {
        &self.driver
    }
}

impl DerefMut for Lab {
    fn deref_mut(&mut self) -> &mut Driver {
        &mut self.driver
    }
}

impl Lab {
    pub fn new(config: &Config) -> Self {
        let mut lab = Self::noting(config, Decisions::Recorded);
        lab.engine.ignore_changes();
        lab
    }

    /// Makes a driver whose engine notes the rows that a store has to write.
    pub fn noting(config: &Config, decisions: Decisions) -> Self {
        let driver = Driver::new(config, decisions).expect("the keys of a test read");
        Self { driver, config: config.clone() }
    }

    /// Continues with an engine that has already applied entries.
    pub fn going_on(self, engine: Engine) -> Self {
        let driver = Driver::going_on(engine, &self.config, Decisions::Recorded).expect("the keys of a test read");
        Self { driver, ..self }
    }

    /// Preloads decisions, given as history lines.
    pub fn preload(&mut self, decisions: &[String]) {
        let mut ahead = LookAhead::default();
        for line in decisions {
            let entry = self.decode(line);
            ahead.see(self.streams(), entry);
        }
        assert_eq!(self.driver.preload(ahead), [], "all are decisions");
    }

    /// Decodes a history line. The engine knows its symbol afterwards.
    pub fn decode(&mut self, text: &str) -> Entry {
        let head: Value = serde_json::from_str(text).expect("a line is JSON");
        let stream = head["stream"].as_str().expect("a line has a stream");
        let stream = self.config.streams.id_of(stream).expect("the stream is configured");
        let id = head["id"].as_str().and_then(|id| id.parse().ok()).expect("a line has an id");
        let fields = line::fields(text.as_bytes()).expect("the fields of a line read");
        self.driver.decode(stream, id, &fields)
    }

    /// Folds an entry, decides, and seals the decision.
    pub fn step(&mut self, entry: Entry) -> Came {
        let Stepped { disposition, mut decided } = self.driver.fold(&entry);
        let further = decided.split_off(decided.len().min(1));
        let (decision, sealed) = decided.pop().unzip();
        Came { entry, step: OneStep { disposition, decision }, sealed, further }
    }

    pub fn feed(&mut self, text: &str) -> Came {
        let entry = self.decode(text);
        self.step(entry)
    }

    /// Applies an entry of flat fields.
    pub fn entry(&mut self, stream: &str, id: &str, fields: &[(&str, &str)]) -> Came {
        self.feed(&entry_line(stream, id, fields))
    }

    /// Returns the one-way book of a symbol in the account without a name.
    pub fn symbol(&self, name: &str) -> Option<BookView<'_>> {
        self.engine.find(name).map(|symbol| self.engine.book(BookId::one_way(symbol)))
    }

    /// Returns a book by its name, `ACCOUNT/SYMBOL:SIDE`.
    pub fn book(&self, name: &str) -> Option<BookView<'_>> {
        self.engine.find_book(name).map(|book| self.engine.book(book))
    }

    /// Returns the last position of a book as `positions` shows it.
    pub fn position(&self, name: &str) -> Value {
        let book = self.book(name).unwrap_or_else(|| panic!("{name} was never seen"));
        let position = book.book.positions().last().unwrap_or_else(|| panic!("{name} was never open"));
        serde_json::json!(view::PositionView::of(&self.engine, book, position))
    }
}

/// Returns a history line of flat fields.
pub fn entry_line(stream: &str, id: &str, fields: &[(&str, &str)]) -> String {
    let fields: Map<String, Value> = fields.iter().map(|(k, v)| ((*k).to_owned(), Value::from(*v))).collect();
    serde_json::json!({"stream": stream, "id": id, "fields": fields}).to_string()
}
