//! The frame of every page: navigation, the moment that is shown, and links to other moments.

use std::sync::Arc;

use super::address::{Address, part};
use super::auditor::Auditor;
use super::chart;
use super::format::{Age, When};
use super::running::Present;
use crate::codec::state::BadRow;
use crate::domain::engine::Engine;
use crate::domain::event::ids::EntryId;
use crate::drive::film::{DecisionSource, Film, FilmError, Origin};
use crate::drive::sheet::Sheet;
use crate::drive::stop::Stop;
use crate::shell::exchange::wall_ms;

/// The input of a page: the film, the moment and the address.
pub struct PageContext<'a> {
    pub film: &'a Film,
    pub engine: Arc<Engine>,
    /// The moment as it was asked for; `None` for the end.
    pub at: Option<EntryId>,
    pub here: Address,
    pub base: &'a str,
    pub title: &'a str,
    /// `None` if no audit can run.
    pub auditor: Option<&'a Auditor>,
    /// The report of a running service about now; `None` for a past moment.
    pub present: Option<&'a Present>,
    /// The address of the events of the page, if it follows a history that grows.
    pub live: Option<Address>,
}

impl PageContext<'_> {
    /// Returns the last entry up to which the page looks.
    pub fn until(&self) -> EntryId {
        self.at.unwrap_or(self.film.last)
    }

    /// Returns the time for which holds and ages are computed: the moment that was asked for, the present time of a
    /// running service, or otherwise the time of the last entry after which symbols are evaluated. [ms since 1970]
    pub fn now_ms(&self) -> u64 {
        if let Some(present) = self.present {
            return present.now_ms.max(self.engine.evaluated_ms());
        }
        match self.at {
            Some(at) if at.ms <= self.film.last.ms => at.ms.max(self.engine.evaluated_ms()),
            _ => self.engine.evaluated_ms(),
        }
    }

    pub fn parameter(&self, name: &str) -> &str {
        self.here.query().iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Returns the address of another page at the same moment.
    pub fn to(&self, path: &str) -> Address {
        Address::new(format!("{}{path}", self.base), Vec::new()).with("at", self.parameter("at"))
    }

    pub fn entry(&self, id: &str) -> Address {
        self.to(&format!("/console/entry/{}", part(id)))
    }

    /// Returns the address of an entry; `None` if the source is a store, which keeps no entries.
    pub fn entry_link(&self, id: &str) -> Option<Address> {
        self.film.has_past().then(|| self.entry(id))
    }

    pub fn position(&self, position_id: &str) -> Address {
        self.to(&format!("/console/position/{}", part(position_id)))
    }

    pub fn decision(&self, decision_id: &str) -> Address {
        self.to(&format!("/console/decision/{}", part(decision_id)))
    }

    /// Returns the address of a decision; `None` if the source has no sealed entry of it, and so no page.
    pub fn decision_link(&self, decision_id: &str) -> Option<Address> {
        let is_known = self.film.all_decisions().any(|link| link.decision_id() == decision_id);
        is_known.then(|| self.decision(decision_id))
    }

    /// Returns the entries of each stream up to the moment, in the order of the film. [1]
    pub fn counts(&self, stop: &Stop) -> Result<Arc<[u64]>, FilmError> {
        self.film.counts(self.at, stop)
    }

    /// Returns the command that audits the decisions. A store has no entries to audit: its service has a journal, which
    /// the configuration names.
    pub fn audit_command(&self) -> String {
        match &self.film.origin {
            Origin::Store(_) => format!("harvester audit --journal {}", self.film.config.run.journal.display()),
            origin @ (Origin::Histories(_) | Origin::Journal(_)) => format!("harvester audit {}", origin.arguments()),
        }
    }

    /// Returns the positions at the moment.
    pub fn sheet(&self, closed_too: bool) -> Result<Sheet, BadRow> {
        let sheet = Sheet::of_at(&self.engine, &self.film.rows, None, closed_too, self.now_ms())?;
        Ok(sheet.expect("all symbols were asked for"))
    }
}

pub struct Tab {
    pub name: &'static str,
    pub href: Address,
    pub is_here: bool,
}

/// A part of a long list. It keeps the page small, and the address names the part.
pub struct Part {
    /// Rows of all parts. [1]
    pub rows: usize,
    /// The first and last row of this part, from 1. [1]
    pub shown: (usize, usize),
    pub before: Option<Address>,
    pub after: Option<Address>,
}

impl Part {
    /// Cuts a list to the part that the address names (`?part=2`), of at most `size` rows.
    pub fn of<T>(context: &PageContext<'_>, rows: &mut Vec<T>, size: usize) -> Self {
        let all = rows.len();
        let last = all.div_ceil(size).max(1);
        let part = context.parameter("part").parse().unwrap_or(1).clamp(1, last);
        let (from, to) = ((part - 1) * size, (part * size).min(all));
        rows.truncate(to);
        rows.drain(..from);
        let link =
            |part: usize| context.here.clone().with("part", &if part > 1 { part.to_string() } else { String::new() });
        Self {
            rows: all,
            shown: (from + 1, to),
            before: (part > 1).then(|| link(part - 1)),
            after: (part < last).then(|| link(part + 1)),
        }
    }

    pub fn is_whole(&self) -> bool {
        self.before.is_none() && self.after.is_none()
    }
}

/// The last entry up to a moment.
pub enum LastEntry {
    /// The moment is exactly that of the entry.
    Same,
    Before(When),
    /// The moment is before the first entry.
    None,
}

/// The moment that is shown, and the links to others.
pub struct TimeBar {
    pub is_past: bool,
    /// The moment as it was typed.
    pub typed: String,
    /// The moment that was asked for, or the time of the last entry.
    pub shown: When,
    /// The entry after which the state is shown.
    pub since: LastEntry,
    /// Its id.
    pub entry: String,
    /// The age of the last entry by the clock, on a page that follows a history.
    pub age: Option<Age>,
    pub first: When,
    pub last: When,
    pub first_ms: u64,
    pub last_ms: u64,
    pub shown_ms: u64,
    /// Parameters of the address that a form has to keep.
    pub kept: Vec<(String, String)>,
    pub action: String,
    pub earliest: Option<Address>,
    pub before: Option<Address>,
    pub after: Option<Address>,
    pub latest: Option<Address>,
    pub play: Option<Address>,
    pub stop: Option<Address>,
    /// An SVG.
    pub strip: String,
}

pub struct Frame {
    pub title: String,
    pub base: String,
    pub source: String,
    pub tabs: Vec<Tab>,
    /// `None` if the source has no past.
    pub time: Option<TimeBar>,
    pub killed: bool,
    /// The accounts whose own kill switch is set.
    pub killed_accounts: Vec<String>,
    pub mode: &'static str,
    /// Accounts with a policy of another mode, each with its mode.
    pub other_modes: Vec<(String, &'static str)>,
    /// The role of a running service.
    pub role: &'static str,
    pub notices: Vec<String>,
    /// True if the history contains decision entries.
    pub is_recorded: bool,
    /// The address of the events of the page, if it shows the end of a history that may grow.
    pub live: Option<Address>,
    /// The clock of this machine. [ms since 1970]
    pub clock_ms: u64,
}

/// The pages of the navigation: name, path, and beginnings of the paths that belong to it.
const TABS: [(&str, &str, &str); 6] = [
    ("Now", "/", "/"),
    ("Positions", "/console/positions", "/console/position"),
    ("Decisions", "/console/decisions", "/console/decision"),
    ("Streams", "/console/streams", "/console/streams"),
    ("What if", "/console/whatif", "/console/whatif"),
    ("Audit", "/console/audit", "/console/audit"),
];

impl Frame {
    /// Returns the frame of a page. The links to other moments lead to changes of `symbol`, or to all changes.
    pub fn of(context: &PageContext<'_>, title: impl Into<String>, symbol: Option<&str>) -> Self {
        let path = context.here.path().strip_prefix(context.base).unwrap_or_default().to_owned();
        let tabs = TABS.iter().map(|(name, to, prefix)| Tab {
            name,
            href: context.to(to),
            is_here: if *prefix == "/" { path == "/" } else { path.starts_with(prefix) },
        });
        let (accounts, mode) = (context.engine.accounts(), context.engine.policy().mode.name());
        let own = accounts.iter().filter_map(|of| Some((of.name.to_string(), of.policy.as_ref()?.mode.name())));
        let other_modes = own.filter(|(_, own)| *own != mode);
        Self {
            title: title.into(),
            base: context.base.to_owned(),
            source: context.title.to_owned(),
            tabs: tabs.collect(),
            time: context.film.has_past().then(|| TimeBar::of(context, symbol)),
            killed: context.engine.globals().killed,
            killed_accounts: accounts.iter().filter(|of| of.killed).map(|of| of.name.to_string()).collect(),
            mode,
            other_modes: other_modes.collect(),
            role: context.present.map_or("", |present| present.role),
            notices: context.film.notices.clone(),
            is_recorded: context.film.source == DecisionSource::Recorded,
            live: context.live.clone(),
            clock_ms: wall_ms(),
        }
    }

    /// Returns the frame of a page that has no moment: an error.
    pub fn plain(title: &str, base: &str, source: &str) -> Self {
        let tabs = TABS.iter().map(|(name, to, _)| Tab {
            name,
            href: Address::new(format!("{base}{to}"), Vec::new()),
            is_here: false,
        });
        Self {
            title: title.to_owned(),
            base: base.to_owned(),
            source: source.to_owned(),
            tabs: tabs.collect(),
            time: None,
            killed: false,
            killed_accounts: Vec::new(),
            mode: "",
            other_modes: Vec::new(),
            role: "",
            notices: Vec::new(),
            is_recorded: false,
            live: None,
            clock_ms: 0,
        }
    }
}

impl TimeBar {
    fn of(context: &PageContext<'_>, symbol: Option<&str>) -> Self {
        let film = context.film;
        let at = context.until();
        let (before, after) = film.around(at, symbol);
        let here = context.here.clone().with("play", "");
        let to = |id: EntryId| {
            // The last entry is the end, whose address has no time.
            if id >= film.last { here.clone().with("at", "") } else { here.clone().with("at", &id.to_string()) }
        };
        let is_playing = !context.parameter("play").is_empty();
        let kept = here.query().iter().filter(|(name, _)| name != "at").cloned().collect();
        let decided: Vec<u64> = film.all_decisions().map(|link| link.id.ms).collect();
        let shown = at.min(film.last).max(film.first);
        let past = context.at.filter(|at| *at < film.last);
        let last = context.engine.globals().last;
        Self {
            is_past: past.is_some(),
            typed: context.parameter("at").to_owned(),
            shown: past.map_or_else(|| When::of(last), When::of),
            since: match past {
                Some(_) if last == EntryId::default() => LastEntry::None,
                Some(at) if at.ms != last.ms => LastEntry::Before(When::of(last)),
                Some(_) | None => LastEntry::Same,
            },
            entry: last.to_string(),
            age: context.live.is_some().then(|| Age::of(last, wall_ms())),
            first: When::of(film.first),
            last: When::of(film.last),
            first_ms: film.first.ms,
            last_ms: film.last.ms,
            shown_ms: shown.ms,
            kept,
            action: here.path().to_owned(),
            earliest: (at > film.first).then(|| to(film.first)),
            before: before.map(to),
            after: after.map(to),
            latest: past.is_some().then(|| here.clone().with("at", "")),
            play: after.filter(|_| !is_playing).map(|id| to(id).with("play", "1")),
            stop: is_playing.then(|| here.clone()),
            strip: chart::strip(&film.parts, (film.first.ms, film.last.ms), &decided, shown.ms),
        }
    }
}
