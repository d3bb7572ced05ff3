//! `harvester history`: every change of a symbol's positions, in order, with the entry that caused it.

use std::io::Write;
use std::path::PathBuf;

use anyhow::bail;
use serde::{Serialize, Serializer};

use super::{json, moment};
use crate::codec::fields::{self, Field, FieldDifference, NONE};
use crate::codec::{time, view};
use crate::config::Config;
use crate::domain::book::state::Book;
use crate::domain::book::view::BookView;
use crate::domain::engine::{Decisions, Engine};
use crate::domain::event::Entry;
use crate::domain::event::ids::EntryId;
use crate::domain::exit::policy::Policy;
use crate::drive::driver::Driver;
use crate::shell::history::{History, Input, Options};
use crate::shell::terminal::Screen;

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("from").required(true).args(["histories", "journal"])))]
#[command(override_usage = "harvester history [OPTIONS] <SYMBOL> <HISTORY...|--journal <DIR>>")]
#[command(after_help = "Examples: harvester history ARCUSDT replay/nights/incident-2026-02-04/events.jsonl
          harvester history NEARUSDT --journal journal --since \"2 hours ago\" --json")]
pub struct Args {
    /// A symbol, with all its books; or one book, as ACCOUNT/SYMBOL or SYMBOL:LONG. Before the history
    symbol: String,
    /// The account of the symbol
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Files, folders (every *.jsonl and *.jsonl.zst below) or - for standard input
    #[arg(value_name = "HISTORY")]
    histories: Vec<PathBuf>,
    /// Journal of the service
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
    /// Fold from the start, show changes from here on: an entry id, ISO-8601, a time of day in UTC (02:07), or 90m ago
    #[arg(long, value_name = "ID|TIME")]
    since: Option<String>,
    /// Stop after this: an entry id, ISO-8601, a time of day in UTC (02:07), or 90m ago
    #[arg(long, value_name = "ID|TIME")]
    until: Option<String>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// One field that an entry changed.
#[derive(Serialize)]
struct Change {
    /// `stream/id` of the entry.
    cause: String,
    #[serde(rename = "time", serialize_with = "time_of")]
    at: EntryId,
    position_id: String,
    field: String,
    #[serde(serialize_with = "fields::or_null")]
    from: String,
    #[serde(serialize_with = "fields::or_null")]
    to: String,
}

fn time_of<S: Serializer>(id: &EntryId, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&time::iso(id.ms))
}

pub fn run(args: &Args, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let wanted = view::written_name(&args.symbol, args.account.as_deref());
    let inputs: Vec<Input> = args.histories.iter().chain(&args.journal).cloned().map(Input::from).collect();
    let end_ms = || moment::end_of(&inputs, config, Options::default());
    let since = args.since.as_deref().map(|text| moment::since("--since", text, end_ms)).transpose()?;
    let until = args.until.as_deref().map(|text| moment::until("--until", text, end_ms)).transpose()?;
    let mut changes = changes(&wanted, &inputs, until, config)?;
    changes.retain(|change| since.is_none_or(|since| change.at >= since));
    if args.json {
        return json::write(out, &changes);
    }
    show(&changes, &mut Screen::stdout(out))
}

fn changes(wanted: &str, inputs: &[Input], until: Option<EntryId>, config: &Config) -> anyhow::Result<Vec<Change>> {
    let mut history = History::open(inputs, &config.streams, Options { until, ..Options::default() })?;
    let mut driver = Driver::over(&history, config, Decisions::Recorded, until)?;
    let mut watch = Watch::new(wanted);
    driver.fold_all(&mut history, |engine, entry, _, _| watch.look(engine, entry))?;
    if view::named(&driver.engine, wanted).is_empty() {
        bail!("the history names no symbol {wanted}");
    }
    Ok(watch.changes)
}

/// The books as they were after the last entry.
struct Watch<'a> {
    wanted: &'a str,
    books: Vec<Book>,
    policy: Option<Policy>,
    fields: Vec<Field>,
    changes: Vec<Change>,
}

impl<'a> Watch<'a> {
    fn new(wanted: &'a str) -> Self {
        Self { wanted, books: Vec::new(), policy: None, fields: Vec::new(), changes: Vec::new() }
    }

    /// Notes the changes of an entry. Most change only a price, and cost one comparison.
    fn look(&mut self, engine: &Engine, entry: &Entry) {
        let books = view::named(engine, self.wanted);
        let is_same = |book: &Book, before: &Book| {
            book.hot.open == before.hot.open
                && (book.hot.history_gap, book.hot.diverged) == (before.hot.history_gap, before.hot.diverged)
                && book.closed == before.closed
                && book.name == before.name
        };
        let are_same = books.len() == self.books.len()
            && books.iter().zip(&self.books).all(|(book, before)| is_same(book.book, before))
            && self.policy.as_ref() == Some(engine.policy());
        if books.is_empty() || are_same {
            return;
        }
        self.books = books.iter().map(|book| book.book.clone()).collect();
        self.policy = Some(engine.policy().clone());
        let of_book = |book: &BookView<'_>| -> Vec<Field> {
            book.book.positions().flat_map(|i| fields::of_position_fields(engine, *book, i)).collect()
        };
        let fields: Vec<Field> = books.iter().flat_map(of_book).collect();
        let cause = format!("{}/{}", engine.streams().get(entry.stream).name, entry.id);
        for FieldDifference { of, field, a, b } in fields::differing(&self.fields, &fields) {
            // Closed positions are forgotten after a week. That is no change.
            if fields.iter().all(|field| field.of != of) {
                continue;
            }
            self.changes.push(Change { cause: cause.clone(), at: entry.id, position_id: of, field, from: a, to: b });
        }
        self.fields = fields;
    }
}

fn show(changes: &[Change], screen: &mut Screen<'_>) -> anyhow::Result<()> {
    let mut last: Option<(&str, &str)> = None;
    for change in changes {
        if last != Some((&change.cause, &change.position_id)) {
            screen.heading(&format!("{}  {}  {}", time::iso(change.at.ms), change.position_id, change.cause))?;
            last = Some((&change.cause, &change.position_id));
        }
        let from = if change.from == NONE { String::new() } else { format!("{} → ", change.from) };
        screen.line(&format!("    {:<16} {from}{}", change.field, change.to))?;
    }
    screen.line(&format!("{} changes", changes.len()))?;
    Ok(())
}
