//! Updates the position hashes of the old service, for services that still read them.
//!
//! Writes only our own fields, only those that differ, and all fields of a key in one step. Creates and removes no key.
//! Does not change a hash whose position differs from ours: an entry price with another quantity is worse than none.

use rust_decimal::Decimal;
use serde::Serialize;

use crate::codec::hashes::{self, LegacyPosition, same_value};
use crate::domain::book::position::Position;
use crate::domain::engine::Engine;
use crate::domain::event::Direction;
use crate::domain::exit;
use crate::domain::units::Qty;
use crate::shell::redis::{FieldChange, HashText, Server, ServerError, Written};

/// The known prefixes of those hashes, before the symbol.
const PREFIXES: [&str; 2] = ["quantum:position:", "quantum:state:positions:"];

/// How often a write is tried when the hash changes in between.
const TRIES: u32 = 3;

/// One field, before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldWritten {
    pub key: String,
    pub field: &'static str,
    pub old: Option<String>,
    pub new: String,
}

/// The result for the hashes of one symbol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HashChange {
    /// The fields written; in a dry run, those that would be written.
    pub fields: Vec<FieldWritten>,
    /// Why some hashes were not changed.
    pub left: Vec<String>,
}

impl HashChange {
    pub fn has_changed(&self) -> bool {
        !self.fields.is_empty()
    }

    /// Returns one line for each field and for each hash that was not changed.
    pub fn lines(&self) -> Vec<String> {
        let old = |field: &FieldWritten| field.old.as_ref().map_or_else(|| "none".to_owned(), |old| format!("{old:?}"));
        let written = self.fields.iter().map(|f| format!("{} {}: {} -> {:?}", f.key, f.field, old(f), f.new));
        written.chain(self.left.iter().cloned()).collect()
    }
}

/// The desired content of the hashes of one open position. It is a copy, so that writing does not need the projection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    pub symbol: Box<str>,
    side: Direction,
    /// Magnitude. [base]
    qty: Qty,
    /// [base]
    step_size: Option<Qty>,
    /// Our fields. An unknown value is left out, so that nothing is overwritten with a blank.
    fields: Vec<(&'static str, String)>,
}

/// Returns the goals of all open positions of one-way books without an account. The hashes contain no others.
pub fn goals(engine: &Engine) -> Vec<Goal> {
    let open = engine.books().filter(|book| book.is_plain());
    let open = open.filter_map(|book| book.book.hot.open.as_ref().map(|open| (book, open)));
    open.map(|(book, open)| Goal {
        symbol: book.name.clone(),
        side: open.direction,
        qty: open.totals.qty.abs(),
        step_size: book.step_size(),
        fields: wanted(engine, open),
    })
    .collect()
}

/// The hashes of the old service: a prefix before the symbol.
#[derive(Clone, Debug)]
pub struct Legacy {
    prefixes: Vec<String>,
}

impl Legacy {
    /// Creates the set of prefixes: the configured one, and the other one in use.
    pub fn new(prefix: &str) -> Self {
        let others = PREFIXES.into_iter().filter(|known| *known != prefix);
        Self { prefixes: std::iter::once(prefix).chain(others).map(str::to_owned).collect() }
    }

    pub fn prefixes(&self) -> &[String] {
        &self.prefixes
    }

    fn keys(&self, symbol: &str) -> Vec<String> {
        self.prefixes.iter().map(|prefix| format!("{prefix}{symbol}")).collect()
    }

    /// Updates the hashes of one symbol for its open position. In a dry run, writes nothing.
    pub async fn write(&self, server: &mut Server, goal: &Goal, dry_run: bool) -> Result<HashChange, ServerError> {
        let mut done = HashChange::default();
        for key in self.keys(&goal.symbol) {
            for attempt in 1..=TRIES {
                let Some(hash) = server.hashes(std::slice::from_ref(&key)).await?.pop().flatten() else { break };
                if let Err(why) = is_of(&hash, goal) {
                    done.left.push(format!("{key} is left as it is: {why}"));
                    break;
                }
                let changes = differing(&hash, &goal.fields);
                if changes.is_empty() {
                    break;
                }
                let written = if dry_run { Written::Done } else { server.write_back(&key, &changes).await? };
                match written {
                    Written::Done => {
                        let of_key =
                            |c: FieldChange| FieldWritten { key: key.clone(), field: c.field, old: c.old, new: c.new };
                        done.fields.extend(changes.into_iter().map(of_key));
                        break;
                    }
                    Written::Missing => break,
                    Written::Overtaken if attempt < TRIES => {}
                    Written::Overtaken => done.left.push(format!("{key} is left as it is: others keep writing to it")),
                }
            }
        }
        Ok(done)
    }
}

/// Checks that the hash describes our position: the same side and quantity. The error states the difference.
fn is_of(hash: &HashText, goal: &Goal) -> Result<(), String> {
    let (LegacyPosition { side, quantity, .. }, _) = hashes::legacy_position(hash, None);
    if let Some(side) = side
        && side != goal.side
    {
        return Err(format!("it tells of a {} position, ours is {}", side.name(), goal.side.name()));
    }
    match quantity.map(|quantity| Qty::new(quantity.abs())) {
        Some(stated) if !stated.same(goal.qty, goal.step_size) => {
            Err(format!("it tells of a quantity of {stated}, ours is {}", goal.qty))
        }
        _ => Ok(()),
    }
}

fn wanted(engine: &Engine, open: &Position) -> Vec<(&'static str, String)> {
    let mut wanted = Vec::new();
    if let Some(entry) = open.totals.entry {
        wanted.push(("entry_price", entry.price.to_string()));
    }
    if let Some(fields) = &open.risk {
        let atr = exit::atr_value(open, engine.policy()).unwrap_or(fields.atr_value);
        wanted.push(("atr_value", atr.to_string()));
        wanted.push(("volatility_factor", fields.volatility_factor.to_string()));
    }
    let risk = exit::risk(open, engine.policy()).ok().flatten();
    if let Some(risk) = risk {
        wanted.push(("risk_price", risk.risk_price.to_string()));
        if let Ok(entry_risk) = risk.risk_price.for_qty(open.totals.qty.abs()) {
            wanted.push(("entry_risk_usdt", entry_risk.to_string()));
        }
    }
    wanted.push(("risk_missing", u8::from(risk.is_none()).to_string()));
    wanted
}

fn differing(hash: &HashText, wanted: &[(&'static str, String)]) -> Vec<FieldChange> {
    let old = |field: &str| hash.iter().find(|(name, _)| name == field).map(|(_, value)| value.clone());
    let is_same = |field: &str, old: &str, new: &str| match field {
        "risk_missing" => is_true(old) == is_true(new),
        // The old value was written from a float: a difference within its precision does not count.
        _ => same_value(old, new) || is_close(old, new),
    };
    wanted
        .iter()
        .map(|(field, new)| FieldChange { field, old: old(field), new: new.clone() })
        .filter(|change| match &change.old {
            Some(old) => !is_same(change.field, old, &change.new),
            // A missing flag is the same as a false one.
            None => change.field != "risk_missing" || is_true(&change.new),
        })
        .collect()
}

fn is_true(text: &str) -> bool {
    ["1", "true", "yes"].iter().any(|word| text.trim().eq_ignore_ascii_case(word))
}

/// Returns true if the values differ by at most a millionth: `1567.8896` is how the old service rounded
/// 1567.8896205707117.
fn is_close(old: &str, new: &str) -> bool {
    let (Ok(old), Ok(new)) = (crate::codec::number::decimal(old), crate::codec::number::decimal(new)) else {
        return false;
    };
    let apart = (old - new).abs().checked_mul(Decimal::from(1_000_000));
    !new.is_zero() && apart.is_some_and(|apart| apart <= new.abs())
}
