//! `harvester needs`: the values that the projection lacks and a look-up could supply, in the order of the requests.

use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;

use super::json;
use crate::codec::time;
use crate::domain::engine::needs::{Need, Needs, Why};
use crate::drive::projection;
use crate::shell::terminal::{Screen, Tone};

/// Flags of the command.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Folder of the store
    #[arg(long, value_name = "DIR")]
    store: PathBuf,
    /// Only the values of this account
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, out: &mut dyn Write) -> anyhow::Result<()> {
    let (engine, _store) = projection::read(&args.store)?;
    let mut needs = Needs::of(&engine, 0);
    if let Some(account) = &args.account {
        needs.list.retain(|need| *need.book.account == **account);
        needs.open.retain(|open| *open.book.account == **account);
    }
    if args.json {
        return json::write(out, &Document::of(&needs));
    }
    let mut screen = Screen::stdout(out);
    if needs.list.is_empty() {
        let nothing = if needs.positions_known {
            format!("Nothing is lacking: {} open positions.", needs.open.len())
        } else {
            "Positions unknown: no position was ever seen from anywhere (this is not the same as flat).".to_owned()
        };
        screen.line(&nothing)?;
    } else {
        let rows = needs.list.iter().map(|need| cells(need, needs.now_ms)).collect();
        screen.table(&["SYMBOL", "WANTS", "WHY", "SINCE", "AGE", "NEAR RUNG"], &[4], rows)?;
    }
    screen.line(&format!("as of {}", time::iso(needs.now_ms)))?;
    Ok(())
}

/// The needs for other programs.
#[derive(Serialize)]
pub struct Document<'a> {
    as_of: u64,
    positions_open: usize,
    positions_unknown: bool,
    needs: Vec<Item<'a>>,
}

#[derive(Serialize)]
struct Item<'a> {
    symbol: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position_side: Option<&'static str>,
    want: &'static str,
    why: &'static str,
    since: u64,
    age_ms: u64,
    near_rung: bool,
}

impl<'a> Document<'a> {
    pub fn of(needs: &'a Needs) -> Self {
        let item = |need: &'a Need| Item {
            symbol: &need.book.symbol,
            account: (!need.book.account.is_empty()).then_some(&*need.book.account),
            position_side: need.book.side.is_hedge().then(|| need.book.side.name()),
            want: need.want.name(),
            why: need.why.name(),
            since: need.since_ms,
            age_ms: needs.now_ms.saturating_sub(need.since_ms),
            near_rung: need.near_rung,
        };
        Self {
            as_of: needs.now_ms,
            positions_open: needs.open.len(),
            positions_unknown: !needs.positions_known,
            needs: needs.list.iter().map(item).collect(),
        }
    }
}

fn cells(need: &Need, now_ms: u64) -> Vec<(String, Tone)> {
    let tone = if need.why == Why::Due { Tone::Dim } else { Tone::Warning };
    vec![
        (need.book.name().to_string(), Tone::Plain),
        (need.want.name().to_owned(), Tone::Plain),
        (need.why.name().to_owned(), tone),
        (time::iso(need.since_ms), Tone::Dim),
        (time::span(now_ms.saturating_sub(need.since_ms)), Tone::Plain),
        (if need.near_rung { "yes" } else { "-" }.to_owned(), Tone::Plain),
    ]
}
