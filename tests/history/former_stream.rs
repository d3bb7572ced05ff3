//! Decisions of a stream that is no longer configured: facts in a journal, and passed over in any other history.

use std::path::Path;

use crate::fixture::{DECISION, Folder, INTENT, PRICE, RESULT};
use crate::support::lab::entry_line;
use crate::support::{config, replayed};
use harvester::cli::replay::Request;
use harvester::codec::line::head;
use harvester::domain::event::ids::EntryId;
use harvester::shell::journal::{Journal, Limits};
use serde_json::{Value, json};

const FORMER: &str = "quantum:stream:harvest.decision.old";

fn opened() -> Vec<String> {
    let risk = [("symbol", "ADAUSDT"), ("action", "BUY"), ("atr_value", "0.01"), ("volatility_factor", "1")];
    let fill = [("symbol", "ADAUSDT"), ("side", "BUY"), ("executedQty", "100"), ("avgPrice", "1"), ("orderId", "1")];
    vec![
        entry_line(INTENT, "1770163200000-0", &risk),
        entry_line(RESULT, "1770163201000-0", &[&fill[..], &[("status", "FILLED")]].concat()),
    ]
}

fn tick(id: &str, price: &str) -> String {
    entry_line(PRICE, id, &[("symbol", "ADAUSDT"), ("price", price)])
}

fn journal_of(folder: &Path, lines: &[String]) {
    let mut journal = Journal::open(folder, Limits { rotate_bytes: 1 << 20 }).expect("a journal");
    for line in lines {
        let (_, id) = head(line.as_bytes()).expect("a line");
        let id: EntryId = id.parse().expect("an id");
        journal.append(line, id.ms);
    }
    journal.close().expect("it is written");
}

/// The decisions that a replay makes, as history lines, and the rungs of each.
fn replay_of(history: &Path) -> (Vec<String>, Vec<Value>) {
    let (_, lines) = replayed(&Request { histories: vec![history.to_owned()], ..Request::default() }, &config(None));
    let of = |line: &String| {
        let line: Value = serde_json::from_str(line).expect("a line is JSON");
        let payload: Value = serde_json::from_str(line["fields"]["payload"].as_str().unwrap()).expect("a payload");
        json!([line["fields"]["seq"], payload["rungs"]])
    };
    let rungs = lines.iter().map(of).collect();
    (lines, rungs)
}

/// LONG 100 @ 1, risk 1, cost 0.1: 1.007 is 0.6 R (rung 0.5), 1.012 is 1.1 R (rung 1).
#[test]
fn a_decision_of_a_former_stream_is_a_fact_of_a_journal() {
    let folder = Folder::temporary();
    let first: Vec<String> = opened().into_iter().chain([tick("1770163203000-0", "1.007")]).collect();
    let (made, rungs) = replay_of(&folder.lines("first.jsonl", &first));
    assert_eq!(rungs, [json!(["1", ["0.5"]])]);
    let former = made[0].replace(DECISION, FORMER);
    let forged = former.replace(r#"\"qty\":\"25\""#, r#"\"qty\":\"26\""#);
    assert_ne!(forged, former, "the quantity was found");
    let later = [tick("1770163204000-0", "1.007"), tick("1770163209000-0", "1.012")];
    let all = |decision: &String| -> Vec<String> { first.iter().chain([decision]).chain(&later).cloned().collect() };
    let both = [json!(["1", ["0.5"]]), json!(["2", ["1"]])];

    journal_of(&folder.path("journal"), &all(&former));
    let (_, rungs) = replay_of(&folder.path("journal"));
    assert_eq!(rungs, [json!(["1", ["1"]])], "rung 0.5 is taken, and the chain of this stream begins at 1");
    journal_of(&folder.path("forged"), &all(&forged));
    let (_, rungs) = replay_of(&folder.path("forged"));
    assert_eq!(rungs, both, "a decision whose hash is wrong takes nothing");
    let (_, rungs) = replay_of(&folder.lines("other.jsonl", &all(&former)));
    assert_eq!(rungs, both, "another service may have written that stream");
    // So it may beside the journal of another service.
    let histories = ["journal", "forged"].map(|name| folder.path(name)).into();
    let (_, lines) = replayed(&Request { histories, ..Request::default() }, &config(None));
    assert_eq!(lines.len(), 2, "{lines:?}");
}
