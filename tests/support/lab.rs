//! The engine and its decoder on a table: entries in by hand, steps out.

use harvester::codec::decode::{Decoder, Symbols};
use harvester::codec::line;
use harvester::codec::seal::{self, Sealed};
use harvester::codec::view;
use harvester::config::Config;
use harvester::domain::book::symbol::Symbol;
use harvester::domain::engine::{Engine, Step};
use harvester::domain::event::Entry;
use serde_json::{Map, Value};

/// An engine that is fed by lines, as a replay feeds it.
pub struct Lab {
    pub engine: Engine,
    decoder: Decoder,
    config: Config,
}

/// What one line came to.
pub struct Came {
    pub entry: Entry,
    pub step: Step,
    pub sealed: Option<Sealed>,
}

impl Lab {
    pub fn new(config: &Config) -> Self {
        let mut lab = Self::noting(config);
        lab.engine.ignore_changes();
        lab
    }

    /// One whose engine notes what a store has to write.
    pub fn noting(config: &Config) -> Self {
        let engine = Engine::new(config.streams.clone(), config.policy.clone());
        let decoder = Decoder::new(config.streams.clone(), Symbols::default());
        Self { engine, decoder, config: config.clone() }
    }

    /// The same with an engine that has a past.
    pub fn going_on(mut self, engine: Engine) -> Self {
        let names = Symbols::new(engine.symbols());
        self.decoder = Decoder::new(self.config.streams.clone(), names);
        self.engine = engine;
        self
    }

    /// Names a symbol before any entry does.
    pub fn intern(&mut self, name: &str) {
        self.decoder.symbols.intern(name);
        for name in self.decoder.symbols.take_new() {
            self.engine.intern(&name);
        }
    }

    /// Decodes a history line; its symbol is known to the engine afterwards.
    pub fn decode(&mut self, text: &str) -> Entry {
        let head: Value = serde_json::from_str(text).expect("a line is JSON");
        let stream = head["stream"].as_str().expect("a line has a stream");
        let stream = self.config.streams.id_of(stream).expect("the stream is configured");
        let id = head["id"].as_str().and_then(|id| id.parse().ok()).expect("a line has an id");
        let fields = line::fields(text.as_bytes()).expect("the fields of a line read");
        let entry = self.decoder.decode(stream, id, &fields);
        for name in self.decoder.symbols.take_new() {
            self.engine.intern(&name);
        }
        entry
    }

    /// Folds an entry, decides, and seals the decision.
    pub fn step(&mut self, entry: Entry) -> Came {
        let step = self.engine.step(&entry);
        let sealed = step.decision.as_ref().map(|decision| seal::seal(&mut self.engine, decision));
        Came { entry, step, sealed }
    }

    pub fn feed(&mut self, text: &str) -> Came {
        let entry = self.decode(text);
        self.step(entry)
    }

    /// Feeds an entry of flat fields.
    pub fn entry(&mut self, stream: &str, id: &str, fields: &[(&str, &str)]) -> Came {
        self.feed(&entry_line(stream, id, fields))
    }

    pub fn symbol(&self, name: &str) -> Option<&Symbol> {
        self.engine.find(name)
    }

    /// The last instance of a symbol as `positions` shows it.
    pub fn position(&self, name: &str) -> Value {
        let symbol = self.symbol(name).unwrap_or_else(|| panic!("{name} was never seen"));
        let position = symbol.positions().last().unwrap_or_else(|| panic!("{name} was never open"));
        view::position_document(&self.engine, symbol, position)
    }
}

/// A history line of flat fields.
pub fn entry_line(stream: &str, id: &str, fields: &[(&str, &str)]) -> String {
    let fields: Map<String, Value> = fields.iter().map(|(k, v)| ((*k).to_owned(), Value::from(*v))).collect();
    serde_json::json!({"stream": stream, "id": id, "fields": fields}).to_string()
}
