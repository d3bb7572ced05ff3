//! Cells: one configuration for several services. `%cell%` in a name is the number of the cell; each cell has its own
//! decision stream, store and journal, and reads the accounts of its own.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use super::environment::Environment;
use super::error::ConfigError;
use super::file::File;
use super::table::Flags;
use super::{Config, Sources};
use crate::domain::event::selection::{SHARDS_MAX, Selection};
use crate::domain::event::streams::StreamKind;

/// The word that is replaced by the number of the cell.
pub const PLACEHOLDER: &str = "%cell%";
/// Cells that one configuration may have. [1]
pub const CELLS_MAX: u32 = SHARDS_MAX;
/// Configurations of more cells are not all compared at a start, only those of neighbours. [1]
const COMPARED_MAX: u32 = 64;

const KEY: &str = "run.cell";
const VARIABLE: &str = "HARVEST_CELL";
/// The end of each error about a configuration of cells without a cell.
pub(super) const NO_CELL: &str = "and no cell is given: give --cell N, HARVEST_CELL or run.cell";

/// The cells of a process: one, or several in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cells {
    pub first: u32,
    /// The last one, which is one of them.
    pub last: u32,
}

impl Cells {
    pub fn iter(self) -> impl Iterator<Item = u32> {
        self.first..=self.last
    }

    pub const fn is_one(self) -> bool {
        self.first == self.last
    }
}

impl fmt::Display for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_one() { write!(f, "{}", self.first) } else { write!(f, "{}..{}", self.first, self.last) }
    }
}

impl FromStr for Cells {
    type Err = String;

    /// Parses `3` or `0..15`, where both ends are cells.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let number = |text: &str| cell_of(text.trim());
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(format!("want a cell from 0 to {}, or several, as 0..15", CELLS_MAX - 1)),
        }
    }
}

fn cell_of(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|cell| is_number && *cell < CELLS_MAX)
}

impl Sources {
    /// Returns the number of the cell that flags, environment or file give.
    pub(super) fn cell(&self, flags: &Flags) -> Result<Option<u32>, ConfigError> {
        let want = format!("want a cell from 0 to {}", CELLS_MAX - 1);
        let refused = |location: String, name: &str, value: String| ConfigError::Value {
            location,
            name: name.to_owned(),
            value,
            want: want.clone(),
        };
        if let Some(text) = flags.get(KEY) {
            return cell_of(text).map(Some).ok_or_else(|| refused("flag".to_owned(), KEY, text.clone()));
        }
        if self.cell.is_some() {
            return Ok(self.cell);
        }
        if let Some(text) = self.environment.get(VARIABLE) {
            return cell_of(text)
                .map(Some)
                .ok_or_else(|| refused("environment".to_owned(), VARIABLE, format!("{text:?}")));
        }
        let of_file = self.file.below("run").find(|(key, _)| *key == "cell").map(|(_, value)| value);
        match of_file {
            None => Ok(None),
            Some(value) if value.as_str() == Some("") => Ok(None),
            Some(value) => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                cell_of(&text).map(Some).ok_or_else(|| refused(self.file.location(), KEY, value.to_string()))
            }
        }
    }

    /// Replaces the placeholder by the number of the cell, everywhere. Errors if there is one and no cell is given.
    pub(super) fn rendered(&self, flags: &Flags, cell: Option<u32>) -> Result<(File, Environment, Flags), ConfigError> {
        let (mut file, mut environment, mut flags) = (self.file.clone(), self.environment.clone(), flags.clone());
        let number = cell.map(|cell| cell.to_string());
        let render = |text: &mut String| match &number {
            _ if !text.contains(PLACEHOLDER) => true,
            Some(number) => {
                *text = text.replace(PLACEHOLDER, number);
                true
            }
            None => false,
        };
        let location = file.location();
        let refused = |location: &str, name: &str, value: &str| ConfigError::Value {
            location: location.to_owned(),
            name: name.to_owned(),
            value: format!("{value:?}"),
            want: format!("it contains %cell%, {NO_CELL}"),
        };
        file.render(&render).map_err(|(key, value)| refused(&location, &key, &value))?;
        environment.render(&render).map_err(|(name, value)| refused("environment", &name, &value))?;
        for (key, text) in &mut flags {
            if !render(text) {
                return Err(refused("flag", key, text));
            }
        }
        Ok((file, environment, flags))
    }
}

impl ConfigError {
    /// Returns true if the configuration is one of cells, and no cell is given.
    pub fn needs_cell(&self) -> bool {
        matches!(self, Self::Value { want, .. } if want.ends_with(NO_CELL))
    }
}

impl Config {
    /// Returns the configuration of another cell: the same sources and flags.
    pub fn for_cell(&self, cell: u32) -> Result<Self, ConfigError> {
        let mut flags = self.sources.flags.clone();
        flags.remove(KEY);
        Self::of(Sources { cell: Some(cell), ..self.sources.clone() }, flags)
    }

    /// Returns the number of cells, if the configuration states it: `run.cells`, or the parts of a shard by cell.
    pub fn cells(&self) -> Option<u32> {
        match (self.run.cells, self.streams.selection()) {
            (Some(cells), _) => Some(cells),
            (None, Selection::Shard(shard)) if self.run.cell.is_some() => Some(shard.of),
            (None, _) => None,
        }
    }

    /// Returns true if the environment or the file gives the cell.
    pub fn states_its_cell(&self) -> bool {
        let sources = Sources { cell: None, ..self.sources.clone() };
        sources.cell(&Flags::new()).is_ok_and(|cell| cell.is_some())
    }

    /// Returns the cells of the configuration; `None` if it does not state how many there are.
    pub fn all_cells(&self) -> Option<Vec<u32>> {
        match (self.cells(), &self.run.listed_cells) {
            (Some(cells), _) => Some((0..cells).collect()),
            (None, listed) if !listed.is_empty() => Some(listed.clone()),
            (None, _) => None,
        }
    }

    /// Returns the consumer groups of this configuration: its own, and those of its other cells as far as they are
    /// known.
    pub fn groups(&self) -> BTreeSet<String> {
        let own = std::iter::once(self.run.group.clone());
        if self.run.cell.is_none() {
            return own.collect();
        }
        let cells = self.all_cells().unwrap_or_else(|| (0..COMPARED_MAX).collect());
        own.chain(cells.into_iter().filter_map(|other| Some(self.for_cell(other).ok()?.run.group))).collect()
    }

    /// Checks that the cell is one of the configuration.
    pub fn check_number(&self) -> Result<(), ConfigError> {
        match (self.run.cell, self.cells()) {
            (Some(cell), Some(cells)) if cell >= cells => {
                Err(self.shared("run.cell", &cell.to_string(), &format!("there are {cells} cells, from 0 on")))
            }
            _ => Ok(()),
        }
    }

    /// Checks that this cell shares nothing with another cell of the same configuration that each must have for itself.
    /// Without a cell there is nothing to check.
    pub fn check_cell(&self) -> Result<(), ConfigError> {
        let Some(cell) = self.run.cell else { return Ok(()) };
        self.check_number()?;
        let others: Vec<u32> = match self.cells() {
            Some(cells) if cells <= COMPARED_MAX => (0..cells).filter(|other| *other != cell).collect(),
            Some(_) | None if cell > 0 => vec![cell - 1],
            Some(_) | None => vec![1],
        };
        // A cell that does not exist has no configuration.
        let others = others.into_iter().filter_map(|other| Some((other, self.for_cell(other).ok()?)));
        others.into_iter().try_for_each(|(other, of_other)| self.check_against(cell, other, &of_other))
    }

    fn check_against(&self, cell: u32, other: u32, of_other: &Self) -> Result<(), ConfigError> {
        let who = format!("the cells {cell} and {other} would share it");
        for kind in [StreamKind::Decision, StreamKind::Observation] {
            let named = self.streams.iter().filter(|(_, stream)| stream.kind == kind);
            for (_, stream) in named {
                if of_other.streams.id_of(&stream.name).is_some() {
                    let example = kind.default_stream().replacen(':', ":{cell-%cell%}:", 1);
                    let want = format!("{who}, and each needs its own: write %cell% into it, as {example:?}");
                    return Err(self.shared(&format!("streams.{}", kind.name()), &stream.name, &want));
                }
            }
        }
        for (key, own, others) in [
            ("run.store", &self.run.store, &of_other.run.store),
            ("run.journal", &self.run.journal, &of_other.run.journal),
        ] {
            if own == others {
                let own = own.display().to_string();
                let want =
                    format!("{who}, and each needs its own: write %cell% into it, as {:?}", format!("{own}-%cell%"));
                return Err(self.shared(key, &own, &want));
            }
        }
        let shared = self.streams.iter().find(|(_, stream)| of_other.streams.id_of(&stream.name).is_some());
        if let Some((_, stream)) = shared.filter(|_| self.run.group == of_other.run.group) {
            let group = &self.run.group;
            let want = format!(
                "{who}, and each would read a part of {}: write %cell% into it, as {:?}",
                stream.name,
                format!("{group}-%cell%")
            );
            return Err(self.shared("run.group", group, &want));
        }
        let of_accounts = [StreamKind::Result, StreamKind::Plan, StreamKind::Snapshot, StreamKind::Intent];
        let shared = self
            .streams
            .iter()
            .find(|(_, stream)| of_accounts.contains(&stream.kind) && of_other.streams.id_of(&stream.name).is_some());
        if let (Some((_, stream)), Some(both)) =
            (shared, self.streams.selection().shared_with(of_other.streams.selection()))
        {
            let want = format!(
                "the cells {cell} and {other} would both act for {both}: deal the accounts with run.shard = \"%cell%/N\" or \
                 run.accounts_by_cell, or give each cell a stream of its own"
            );
            return Err(self.shared(&format!("streams.{}", stream.kind.name()), &stream.name, &want));
        }
        Ok(())
    }

    fn shared(&self, key: &str, value: &str, want: &str) -> ConfigError {
        let origin = self.settings.iter().find(|setting| setting.key == key).map(|setting| setting.origin.to_string());
        ConfigError::Value {
            location: origin.unwrap_or_else(|| "configuration".to_owned()),
            name: key.to_owned(),
            value: format!("{value:?}"),
            want: want.to_owned(),
        }
    }
}

/// Parses an address to listen on, whose port may be a sum: `127.0.0.1:9464+3`.
pub(super) fn address_of(text: &str) -> Option<SocketAddr> {
    let Some((address, more)) = text.rsplit_once('+') else { return text.parse().ok() };
    let mut address: SocketAddr = address.trim().parse().ok()?;
    address.set_port(address.port().checked_add(more.trim().parse().ok()?)?);
    Some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CELLS: &str = "[streams]\ncontrol = \"q:{cell-%cell%}:control\"\nobservation = \"q:{cell-%cell%}:observation\"\n\
        decision = \"q:{cell-%cell%}:decision\"\n[streams.accounts]\n\"quantum:stream:apply.result\" = \"main\"\n\
        [run]\nstore = \"state-%cell%\"\njournal = \"journal-%cell%\"\ngroup = \"harvester-%cell%\"\nshard = \"%cell%/4\"\n\
        listen = \"127.0.0.1:9464+%cell%\"\n";

    fn read(text: &str, cell: Option<u32>) -> Result<Config, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let base = Config::from_parts_of_cell(Some(file.path()), std::collections::BTreeMap::new(), cell);
        base.map_err(|error| error.to_string())
    }

    #[test]
    fn a_cell_is_one_number_or_several_in_a_row() {
        let cells = |text: &str| text.parse::<Cells>().ok().map(|cells| (cells.first, cells.last));
        assert_eq!(cells("3"), Some((3, 3)));
        assert_eq!(cells("0..15"), Some((0, 15)));
        for text in ["", "..", "3..", "4..3", "-1", "+1", "4096", "a", "1..2..3"] {
            assert_eq!(cells(text), None, "{text}");
        }
    }

    #[test]
    fn the_number_of_the_cell_goes_everywhere() {
        let config = read(CELLS, Some(3)).unwrap();
        assert_eq!(config.run.cell, Some(3));
        assert!(config.streams.id_of("q:{cell-3}:decision").is_some(), "{:?}", config.streams);
        assert_eq!((config.run.store.to_str(), &*config.run.group), (Some("state-3"), "harvester-3"));
        assert_eq!(config.streams.selection().to_string(), "shard 3/4");
        assert_eq!(config.run.listen.unwrap().to_string(), "127.0.0.1:9467");
        assert_eq!(config.cells(), Some(4));
        config.check_cell().unwrap();
        let other = config.with_flags([("run.store", "live-%cell%".to_owned())]).unwrap().for_cell(1).unwrap();
        assert_eq!((other.run.cell, other.run.store.to_str()), (Some(1), Some("live-1")));
    }

    #[test]
    fn what_cells_would_share_is_refused_with_the_next_step() {
        let without = |line: &str| {
            read(&CELLS.replace(line, ""), Some(1)).and_then(|config| config.check_cell().map_err(|e| e.to_string()))
        };
        for (line, want) in [
            (
                "decision = \"q:{cell-%cell%}:decision\"\n",
                "streams.decision = \"quantum:stream:harvest.decision\": the cells 1 and 0 would share it",
            ),
            ("observation = \"q:{cell-%cell%}:observation\"\n", "streams.observation"),
            ("store = \"state-%cell%\"\n", "write %cell% into it, as \"state-%cell%\""),
            ("journal = \"journal-%cell%\"\n", "run.journal = \"journal\""),
            ("group = \"harvester-%cell%\"\n", "as \"harvester-%cell%\""),
            ("shard = \"%cell%/4\"\n", "would both act for all accounts"),
        ] {
            let said = without(line).unwrap_err();
            assert!(said.contains(want), "{said}");
        }
        let said = read(CELLS, None).unwrap_err();
        assert!(said.contains("%cell%, and no cell is given: give --cell N"), "{said}");
        let said = read(CELLS, Some(4)).unwrap_err();
        assert!(said.contains("run.shard = \"4/4\""), "{said}");
        let twice = "[run.accounts_by_cell]\n0 = [\"a\", \"b\"]\n1 = [\"c\", \"b\"]\n";
        let said = read(twice, Some(0)).unwrap_err();
        assert!(said.contains("run.accounts_by_cell.1") && said.contains("b is an account of cell 0, too"), "{said}");
        let said = read("[run.accounts_by_cell]\n0 = [\"a\"]\n", Some(1)).unwrap_err();
        assert!(said.contains("run.accounts_by_cell") && said.contains("no accounts for cell 1"), "{said}");
    }

    #[test]
    fn without_a_cell_nothing_changes() {
        let config = read("", None).unwrap();
        assert_eq!((config.run.cell, config.cells()), (None, None));
        assert!(config.streams.selection().is_all());
        config.check_cell().unwrap();
    }
}
