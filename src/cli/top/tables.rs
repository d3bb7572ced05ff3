//! The rows of each page, from the documents of a service.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

use super::table::{Cell, Column, Row, Sort, Table, left, right};
use crate::cli::positions::{Sheet, age_ms, away, hold_tone, rounded_price};
use crate::cli::replay::rounded;
use crate::cli::status;
use crate::codec::view::{PositionView, Rung, Sourced};
use crate::domain::book::rung::RungState;
use crate::domain::named;
use crate::service::report::{GapProof, InputReport, Report, concerns};
use crate::shell::terminal::Tone;

named! {
    /// A page of the screen.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Page {
        Positions => "Positions",
        /// The number of positions for each hold.
        Holds => "Holds",
        /// Rungs of open positions that were taken, with their decisions.
        Decisions => "Decisions",
        Inputs => "Inputs",
        /// What needs a person, and the facts of the report.
        Service => "Service",
    }
}

/// The name of positions without a hold.
const NOT_HELD: &str = "nothing";

const POSITIONS: [Column; 12] = [
    left("SYMBOL", 0),
    left("SIDE", 1),
    right("QTY", 6),
    right("ENTRY", 5),
    right("MARK", 2),
    right("AGE", 4),
    right("PNL", 3),
    right("R", 0),
    right("NEXT", 8),
    right("AWAY", 1),
    left("HOLD", 0),
    left("MISSING, FLAGS", 7),
];
const HOLDS: [Column; 4] = [left("HOLD", 0), right("POSITIONS", 0), right("SHARE", 2), left("SYMBOLS", 1)];
const DECISIONS: [Column; 6] =
    [left("SYMBOL", 0), left("SIDE", 3), right("R", 0), right("FRACTION", 2), left("STATE", 0), left("DECISION", 1)];
const INPUTS: [Column; 8] = [
    left("INPUT", 4),
    left("STREAM", 0),
    right("LAG", 0),
    right("BEHIND", 1),
    right("LAST", 0),
    right("PENDING", 2),
    right("OLDEST", 3),
    left("GAPS", 5),
];
const SERVICE: [Column; 2] = [left("NAME", 0), left("SAYS", 0)];

impl Page {
    /// Returns the order of the rows until the user chooses another one; `None` for the order of the documents.
    pub const fn sort(self) -> Option<Sort> {
        let (column, is_descending) = match self {
            Self::Positions => (10, false),
            Self::Holds => (1, true),
            Self::Decisions | Self::Inputs | Self::Service => return None,
        };
        Some(Sort { column, is_descending })
    }

    pub const fn columns(self) -> &'static [Column] {
        match self {
            Self::Positions => &POSITIONS,
            Self::Holds => &HOLDS,
            Self::Decisions => &DECISIONS,
            Self::Inputs => &INPUTS,
            Self::Service => &SERVICE,
        }
    }

    /// Returns the rows of the page. A missing document gives no rows.
    pub fn table(self, report: Option<&Report>, sheet: Option<&Sheet>) -> Table {
        let (rows, empty) = match (self, report, sheet) {
            (Self::Positions, _, Some(sheet)) => (positions(sheet), nothing_open(sheet)),
            (Self::Holds, _, Some(sheet)) => (holds(sheet), nothing_open(sheet)),
            (Self::Decisions, _, Some(sheet)) => (decisions(sheet), "No rung of an open position is taken."),
            (Self::Inputs, Some(report), _) => (inputs(report), "The service reads no stream yet."),
            (Self::Service, Some(report), _) => (service(report), ""),
            _ => (Vec::new(), "There is no answer yet."),
        };
        Table::new(self.columns(), rows, empty)
    }
}

fn nothing_open(sheet: &Sheet) -> &'static str {
    if sheet.positions_unknown {
        "Positions unknown: no position was ever seen from anywhere (this is not the same as flat)."
    } else {
        "No position is open."
    }
}

fn positions(sheet: &Sheet) -> Vec<Row> {
    let row = |position: &PositionView| Row::of(&position.position_id, position_cells(sheet, position));
    sheet.positions.iter().map(row).collect()
}

fn position_cells(sheet: &Sheet, position: &PositionView) -> Vec<Cell> {
    let number = |text: Option<&String>| text.and_then(|text| text.parse::<Decimal>().ok());
    let price = |field: Option<&Sourced>| {
        let value = field.map(|field| &field.value);
        Cell::ranked(value.map(|value| rounded_price(Some(value))).as_deref(), number(value))
    };
    let pnl = position.unrealized_pnl.as_ref();
    let r = position.r_net.as_ref();
    let away = away(position);
    // The nearest rung is the one with the least distance, above or below.
    let distance = away.as_ref().and_then(|away| away.trim_end_matches('%').parse::<Decimal>().ok());
    let hold = position.hold.as_deref();
    let missing = position.missing.iter().map(|field| format!("no {field}"));
    let notes: Vec<String> = missing.chain(position.flags.iter().cloned()).collect();
    let notes_tone = match (position.missing.is_empty(), position.flags.is_empty()) {
        (false, _) => Tone::Bad,
        (true, false) => Tone::Warning,
        (true, true) => Tone::Plain,
    };
    vec![
        Cell::text(position.book()),
        Cell::text(&position.side),
        Cell::ranked(Some(&rounded(&position.qty)), number(Some(&position.qty))),
        price(position.entry_price.as_ref()),
        price(position.mark_price.as_ref()),
        Cell::span(age_ms(sheet, position.mark_price.as_ref())).with(Tone::Dim),
        Cell::ranked(pnl.map(|pnl| rounded(pnl)).as_deref(), number(pnl)),
        Cell::ranked(r.map(|r| rounded(r)).as_deref(), number(r)),
        Cell::number(position.next_rung.as_ref().map(|next| &*next.r)),
        Cell::ranked(away.as_deref(), distance.map(|distance| distance.abs())),
        Cell::graded(hold.unwrap_or(NOT_HELD), hold_tone(hold)),
        Cell::text(&notes.join(" ")).with(notes_tone),
    ]
}

fn holds(sheet: &Sheet) -> Vec<Row> {
    let mut by_hold: BTreeMap<Option<&str>, Vec<&str>> = BTreeMap::new();
    for position in &sheet.positions {
        by_hold.entry(position.hold.as_deref()).or_default().push(position.book());
    }
    let row = |(hold, symbols): (Option<&str>, Vec<&str>)| {
        let share = symbols.len() * 100 / sheet.positions.len();
        let name = hold.unwrap_or(NOT_HELD);
        let cells = vec![
            Cell::graded(name, hold_tone(hold)),
            Cell::count(symbols.len() as u64),
            Cell::ranked(Some(&format!("{share} %")), Some(Decimal::from(share))),
            Cell::text(&symbols.join(" ")),
        ];
        Row::of(name, cells)
    };
    by_hold.into_iter().map(row).collect()
}

fn decisions(sheet: &Sheet) -> Vec<Row> {
    let taken = |rung: &&Rung| rung.state != RungState::Armed.name();
    let rows = sheet.positions.iter().flat_map(|position| {
        position.rungs.iter().filter(taken).map(|rung| Row {
            key: format!("{} {}", position.position_id, rung.r),
            about: position.position_id.clone(),
            cells: vec![
                Cell::text(position.book()),
                Cell::text(&position.side),
                Cell::number(Some(&rung.r)),
                Cell::number(Some(&rung.fraction)),
                Cell::graded(&rung.state, state_tone(&rung.state)),
                Cell::text(rung.decision_id.as_deref().unwrap_or_default()),
            ],
        })
    });
    rows.collect()
}

/// Returns the tone of the state of a rung.
pub fn state_tone(state: &str) -> Tone {
    let is = |of: RungState| state == of.name();
    match () {
        () if is(RungState::Failed) || is(RungState::Unknown) => Tone::Bad,
        () if is(RungState::Refused) => Tone::Warning,
        () if is(RungState::Filled) => Tone::Good,
        () => Tone::Plain,
    }
}

fn inputs(report: &Report) -> Vec<Row> {
    let row = |input: &InputReport| {
        let is_wrong = input.is_silent(report.redis.silent_ms) || input.fault.is_some();
        let proof = match input.gap_proof {
            GapProof::Counted => Cell::text("counted").with(Tone::Dim),
            GapProof::Weak => Cell::text("weak").with(Tone::Warning),
        };
        let cells = vec![
            Cell::text(&input.kind),
            Cell::text(&input.stream),
            Cell::count(input.lag_entries),
            Cell::span(input.lag_ms),
            Cell::span(input.age_ms).with(if is_wrong { Tone::Bad } else { Tone::Plain }),
            Cell::count(input.pending),
            Cell::span(input.pending_oldest_ms),
            proof,
        ];
        Row::of(&input.stream, cells)
    };
    report.inputs.iter().map(row).collect()
}

fn service(report: &Report) -> Vec<Row> {
    let findings = concerns(report).into_iter().map(|concern| {
        let key = format!("{} {}", concern.name, concern.about.unwrap_or_default());
        Row::of(&key, vec![Cell::graded(concern.name, Tone::Bad), Cell::text(&concern.says)])
    });
    let facts = status::facts(report)
        .into_iter()
        .map(|(name, says)| Row::of(name, vec![Cell::text(name).with(Tone::Dim), Cell::text(&says)]));
    findings.chain(facts).collect()
}
