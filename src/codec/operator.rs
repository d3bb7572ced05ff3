//! Commands of operators, and the control entries that carry them (docs/spec/streams/control.md).
//!
//! `decode/control.rs` reads them; a test here checks that both agree.

use serde_json::{Map, Value, json};

use super::decode::is_account_name;
use super::number;
use crate::domain::book::state::{book_name, parts_of_name};
use crate::domain::event::ids::EntryId;
use crate::domain::units::RMultiple;

/// The author of the entry, for later readers.
const SOURCE: &str = "operator";

/// One command of an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperatorCommand {
    Kill(bool),
    /// Stops one account, or lets it go on.
    AccountKill {
        account: String,
        kill: bool,
    },
    /// For one symbol, or for all without one; in one account, or in all.
    GapAccepted {
        symbol: Option<String>,
        account: Option<String>,
    },
    /// Names the position.
    RiskAccepted(String),
    /// Names the position and the rung.
    RungRearmed(String, RMultiple),
}

/// Why a text is not a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("{0:?} is not a symbol (want one like BTCUSDT)")]
    NoSymbol(String),
    #[error("{0:?} is not an account (want 1 to 64 letters, digits, `_`, `-` and `.`)")]
    NoAccount(String),
    #[error("{0:?} is not a position (want SYMBOL@ms-seq, as `harvester positions --json` shows it)")]
    NoPosition(String),
    #[error("{0:?} is not a rung (want its R, like 0.5)")]
    NoRung(String),
    #[error("the reason (--reason) is empty: write why, because others will read it in the log")]
    NoReason,
}

/// A control entry before it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlEntry {
    pub event_type: &'static str,
    /// One JSON object.
    pub payload: String,
}

impl ControlEntry {
    /// Returns the fields of a stream entry.
    pub fn fields(&self) -> [(&str, &str); 3] {
        [("event_type", self.event_type), ("payload", &self.payload), ("source", SOURCE)]
    }
}

impl OperatorCommand {
    pub fn kill(account: Option<&str>, kill: bool) -> Result<Self, CommandError> {
        Ok(match account {
            None => Self::Kill(kill),
            Some(account) => Self::AccountKill { account: account_of(account)?, kill },
        })
    }

    pub fn gap_accepted(symbol: Option<&str>, account: Option<&str>) -> Result<Self, CommandError> {
        let symbol = symbol.map(symbol_of).transpose()?;
        Ok(Self::GapAccepted { symbol, account: account.map(account_of).transpose()? })
    }

    pub fn risk_accepted(position: &str) -> Result<Self, CommandError> {
        Ok(Self::RiskAccepted(position_of(position)?))
    }

    pub fn rung_rearmed(position: &str, r: &str) -> Result<Self, CommandError> {
        let rung = number::decimal(r.trim()).ok().map(RMultiple::new).filter(|r| *r > RMultiple::ZERO);
        Ok(Self::RungRearmed(position_of(position)?, rung.ok_or_else(|| CommandError::NoRung(r.to_owned()))?))
    }

    /// Returns the entry of the command, with the reason for people.
    pub fn entry(&self, reason: &str) -> Result<ControlEntry, CommandError> {
        let reason = reason.trim();
        if reason.is_empty() {
            return Err(CommandError::NoReason);
        }
        let (event_type, payload) = match self {
            Self::Kill(kill) => ("kill.changed", json!({"kill": kill, "reason": reason})),
            Self::AccountKill { account, kill } => {
                ("kill.changed", json!({"account": account, "kill": kill, "reason": reason}))
            }
            Self::GapAccepted { symbol, account } => {
                // An absent name means all. A null would mean the same, but would look like a mistake.
                let mut payload = Map::new();
                payload.extend(symbol.iter().map(|symbol| ("symbol".to_owned(), symbol.as_str().into())));
                payload.extend(account.iter().map(|account| ("account".to_owned(), account.as_str().into())));
                payload.insert("reason".to_owned(), reason.into());
                ("gap.accepted", Value::Object(payload))
            }
            Self::RiskAccepted(position) => ("risk.accepted", json!({"position_id": position, "reason": reason})),
            Self::RungRearmed(position, r) => {
                ("rung.rearmed", json!({"position_id": position, "r": r.to_string(), "reason": reason}))
            }
        };
        Ok(ControlEntry { event_type, payload: payload.to_string() })
    }
}

/// Returns true if the value of a kill key kills: any value except empty, 0 and false.
pub fn kills(value: &[u8]) -> bool {
    let value = value.trim_ascii().to_ascii_lowercase();
    !matches!(value.as_slice(), b"" | b"0" | b"false")
}

fn symbol_of(text: &str) -> Result<String, CommandError> {
    let symbol = text.trim().to_uppercase();
    let is_symbol = !symbol.is_empty() && !symbol.contains(|c: char| c.is_whitespace() || c == '@');
    // These words mean "absent": the gap of every symbol would be accepted.
    if is_symbol && !["NONE", "NULL", "NAN"].contains(&symbol.as_str()) {
        Ok(symbol)
    } else {
        Err(CommandError::NoSymbol(text.to_owned()))
    }
}

fn account_of(text: &str) -> Result<String, CommandError> {
    let account = text.trim();
    // The words for "absent" would name no account: all of them would be meant.
    if is_account_name(account) && !number::is_absent_word(account) {
        Ok(account.to_owned())
    } else {
        Err(CommandError::NoAccount(text.to_owned()))
    }
}

/// Reads `SYMBOL@ms-seq`, with `/2`, `/3` … for further openings under one id. In front of the `@` is the book:
/// `ACCOUNT/` before the symbol, `:LONG` or `:SHORT` behind it.
fn position_of(text: &str) -> Result<String, CommandError> {
    let wrong = || CommandError::NoPosition(text.to_owned());
    let (book, opening) = text.trim().split_once('@').ok_or_else(wrong)?;
    let (account, symbol, side) = parts_of_name(book);
    if !(account.is_empty() || is_account_name(account)) {
        return Err(wrong());
    }
    let symbol = book_name(account, &symbol_of(symbol).map_err(|_| wrong())?, side);
    let (id, further) = match opening.split_once('/') {
        None => (opening, None),
        Some((id, further)) => (id, Some(further.parse::<u32>().ok().filter(|n| *n >= 2).ok_or_else(wrong)?)),
    };
    let id: EntryId = id.parse().map_err(|_| wrong())?;
    Ok(match further {
        None => format!("{symbol}@{id}"),
        Some(further) => format!("{symbol}@{id}/{further}"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::decode::{Decoder, Symbols};
    use super::super::line::{FieldValue, Fields};
    use super::*;
    use crate::domain::event::streams::Streams;
    use crate::domain::event::{Control, Event};

    /// Returns the event that the decoder reads from an entry, with its symbol.
    fn read(command: &OperatorCommand) -> (Control, Option<String>) {
        let entry = command.entry(" because ").unwrap();
        let streams = Streams::default();
        let stream = streams.id_of("quantum:stream:harvest.control").unwrap();
        let pairs = entry.fields().map(|(name, value)| (name.into(), FieldValue::Text(value.into())));
        let mut decoder = Decoder::new(streams, Symbols::default());
        let read = decoder.decode(stream, EntryId::new(5, 0), &Fields { pairs: pairs.into() });
        let symbol = read.symbol.map(|_| decoder.symbols.take_new().symbols.remove(0).into());
        let Ok(Event::Control(fact)) = read.content else { panic!("{:?}", read.content) };
        (fact.control, symbol)
    }

    #[test]
    fn what_is_said_is_what_is_read() {
        let position = "NEARUSDT@1770163205000-0/2";
        assert_eq!(read(&OperatorCommand::Kill(true)), (Control::KillChanged { kill: true }, None));
        assert_eq!(read(&OperatorCommand::Kill(false)), (Control::KillChanged { kill: false }, None));
        assert_eq!(read(&OperatorCommand::gap_accepted(None, None).unwrap()), (Control::GapAccepted, None));
        let of_one = OperatorCommand::gap_accepted(Some(" nearusdt "), None).unwrap();
        assert_eq!(read(&of_one), (Control::GapAccepted, Some("NEARUSDT".to_owned())));
        let of_account = OperatorCommand::gap_accepted(Some("NEARUSDT"), Some("main-2")).unwrap();
        assert_eq!(
            of_account.entry("why").unwrap().payload,
            r#"{"account":"main-2","reason":"why","symbol":"NEARUSDT"}"#
        );
        assert_eq!(
            OperatorCommand::kill(Some("main-2"), true).unwrap().entry("why").unwrap().payload,
            r#"{"account":"main-2","kill":true,"reason":"why"}"#
        );
        for no_account in ["", "a b", "None"] {
            assert_eq!(
                OperatorCommand::kill(Some(no_account), true),
                Err(CommandError::NoAccount(no_account.to_owned()))
            );
        }
        let hedged = OperatorCommand::risk_accepted("main-2/nearusdt:SHORT@1770163205000-0").unwrap();
        let position_id = "main-2/NEARUSDT:SHORT@1770163205000-0".into();
        assert_eq!(read(&hedged).0, Control::RiskAccepted { position_id });
        let accepted = OperatorCommand::risk_accepted(" nearusdt@1770163205000-0/2").unwrap();
        assert_eq!(read(&accepted).0, Control::RiskAccepted { position_id: position.into() });
        let r = RMultiple::new("0.5".parse().unwrap());
        let rearmed = OperatorCommand::rung_rearmed(position, "0.50").unwrap();
        assert_eq!(read(&rearmed).0, Control::RungRearmed { position_id: position.into(), r });
        assert_eq!(
            rearmed.entry("why").unwrap().payload,
            format!(r#"{{"position_id":"{position}","r":"0.5","reason":"why"}}"#)
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for symbol in ["", " ", "None", "A B"] {
            assert_eq!(
                OperatorCommand::gap_accepted(Some(symbol), None),
                Err(CommandError::NoSymbol(symbol.to_owned()))
            );
        }
        for position in ["NEARUSDT", "@1-0", "NEARUSDT@5", "NEARUSDT@1-0/1", "NEARUSDT@1-0/x", "None@1-0"] {
            assert_eq!(OperatorCommand::risk_accepted(position), Err(CommandError::NoPosition(position.to_owned())));
        }
        for r in ["", "0", "-1", "half"] {
            assert_eq!(OperatorCommand::rung_rearmed("A@1-0", r), Err(CommandError::NoRung(r.to_owned())));
        }
        assert_eq!(OperatorCommand::Kill(true).entry(" "), Err(CommandError::NoReason));
    }

    #[test]
    fn any_value_kills_but_empty_zero_and_false() {
        for (value, want) in
            [(&b"1"[..], true), (b"true", true), (b"no", true), (b" 0 ", false), (b"False", false), (b"", false)]
        {
            assert_eq!(kills(value), want, "{value:?}");
        }
    }
}
