//! Cells: which entries each of them folds, and that together they give the result of one cell over all accounts.

use std::collections::BTreeMap;

use harvester::codec::{scope, state, view};
use harvester::config::Config;
use harvester::domain::book::counters::Count;
use harvester::domain::engine::{Disposition, Engine};
use harvester::domain::event::selection::{NO_NAME, Selection, Shard};
use proptest::prelude::*;
use serde_json::json;

use super::properties::cases;
use crate::support;
use crate::support::histories::{CONTROL, INTENT, OBSERVATION, PLAN, RESULT, SNAPSHOT, TICK};
use crate::support::lab::Lab;

const SYMBOL: &str = "SOLUSDT";
/// The accounts of four cells; the last one has no name.
const ACCOUNTS: [&str; 4] = ["a", "b", "c", ""];

fn config(selection: Selection) -> Config {
    let config = support::config(None);
    Config { streams: config.streams.clone().with_selection(selection), ..config }
}

fn cell(names: &[&str]) -> Lab {
    Lab::new(&config(Selection::listed(names.iter().copied())))
}

/// Feeds an entry of the symbol: the time after the beginning [s], and its fields.
fn feed(lab: &mut Lab, stream: &str, at_s: u64, fields: &[(&str, &str)]) -> Disposition {
    let fields: Vec<(&str, &str)> = [("symbol", SYMBOL)].into_iter().chain(fields.iter().copied()).collect();
    lab.entry(stream, &format!("{}-0", 1_770_163_200_000 + 1000 * at_s), &fields).step.disposition
}

/// Returns the open quantity and the gap of a book; `None` if no entry has named it.
fn held(lab: &Lab, book: &str) -> Option<(String, bool)> {
    lab.book(book).map(|view| (view.book.qty().to_string(), view.book.hot.history_gap))
}

const BOUGHT: [(&str, &str); 3] = [("side", "BUY"), ("filled_qty", "10"), ("executed", "True")];

fn bought<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    BOUGHT.iter().chain(more).copied().collect()
}

fn planned<'a>(more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [("side", "BUY"), ("qty", "10"), ("decision", "EXECUTE")].iter().chain(more).copied().collect()
}

#[test]
fn entries_of_other_accounts_are_skipped_and_counted_and_never_quarantined() {
    let mut a = cell(&["a"]);
    let others = [
        (RESULT, bought(&[("account", "b"), ("order_id", "1")])),
        // This entry would be quarantined if the cell read it.
        (RESULT, vec![("account", "b"), ("filled_qty", "much")]),
        (SNAPSHOT, vec![("account", "b"), ("position_amt", "7")]),
        (SNAPSHOT, vec![("position_amt", "7")]),
        (PLAN, planned(&[("account", "b"), ("plan_id", "p")])),
        (INTENT, vec![("account", "b"), ("side", "BUY"), ("atr_value", "1"), ("volatility_factor", "1")]),
        (OBSERVATION, vec![("event_type", "exchange.position"), ("positionAmt", "3"), ("account", "b")]),
        (OBSERVATION, vec![("event_type", "exchange.position"), ("positionAmt", "3")]),
        (CONTROL, vec![("event_type", "kill.changed"), ("payload", r#"{"kill":true,"account":"b"}"#)]),
    ];
    let count = others.len() as u64;
    for (at, (stream, fields)) in others.into_iter().enumerate() {
        assert_eq!(feed(&mut a, stream, at as u64, &fields), Disposition::Applied, "{stream} {fields:?}");
    }
    assert_eq!((a.engine.counters.of(Count::OtherCells), a.engine.counters.applied), (count, count));
    assert_eq!(held(&a, "b/SOLUSDT"), None);
    assert_eq!(held(&a, SYMBOL), Some(("0".to_owned(), false)));
    assert!(!a.engine.globals().killed);
    // Entries that name no account and concern all of them are read: prices, intents, control entries.
    feed(&mut a, TICK, 20, &[("price", "3")]);
    feed(&mut a, INTENT, 21, &[("side", "BUY"), ("atr_value", "1"), ("volatility_factor", "1")]);
    feed(&mut a, RESULT, 22, &bought(&[("account", "a"), ("order_id", "1")]));
    feed(&mut a, CONTROL, 23, &[("event_type", "kill.changed"), ("payload", r#"{"kill":true}"#)]);
    assert_eq!(a.engine.counters.of(Count::OtherCells), count);
    assert_eq!(held(&a, "a/SOLUSDT").map(|(qty, _)| qty).as_deref(), Some("10"));
    assert!(a.engine.globals().killed && a.symbol(SYMBOL).unwrap().symbol.held_price.is_some());
}

/// Returns four cells over shared streams: accounts a, b and c, and the account without a name.
fn four() -> Vec<(&'static str, Lab)> {
    [("a", ["a"]), ("b", ["b"]), ("c", ["c"]), ("", [NO_NAME])].map(|(name, of)| (name, cell(&of))).into()
}

/// Returns the open quantities of each cell, in its own account.
fn quantities(cells: &[(&'static str, Lab)]) -> Vec<(String, bool)> {
    let of = |(name, lab): &(&str, Lab)| {
        let book = if name.is_empty() { SYMBOL.to_owned() } else { format!("{name}/{SYMBOL}") };
        held(lab, &book).unwrap_or_default()
    };
    cells.iter().map(of).collect()
}

fn feed_all(cells: &mut [(&'static str, Lab)], stream: &str, at_s: u64, fields: &[(&str, &str)]) {
    for (_, lab) in cells {
        feed(lab, stream, at_s, fields);
    }
}

#[test]
fn a_result_without_an_account_is_folded_by_the_one_cell_that_knows_its_order_or_plan() {
    let mut cells = four();
    feed_all(&mut cells, PLAN, 0, &planned(&[("account", "a"), ("plan_id", "p")]));
    feed_all(&mut cells, RESULT, 1, &bought(&[("plan_id", "p"), ("order_id", "1")]));
    // From here on the order is known by its id.
    feed_all(&mut cells, RESULT, 2, &[("order_id", "1"), ("side", "BUY"), ("filled_qty", "14"), ("executed", "True")]);
    feed_all(&mut cells, RESULT, 3, &bought(&[("account", "b"), ("order_id", "2")]));
    feed_all(&mut cells, RESULT, 4, &[("order_id", "2"), ("side", "BUY"), ("filled_qty", "11"), ("executed", "True")]);
    // The result belongs to no known order or plan, so it belongs to the account without a name.
    feed_all(&mut cells, RESULT, 5, &bought(&[("order_id", "3")]));
    let qty = |n: &str| (n.to_owned(), false);
    assert_eq!(quantities(&cells), [qty("14"), qty("11"), ("".to_owned(), false), qty("10")]);
    // The order is known there, so no other cell takes the result by a plan.
    feed_all(&mut cells, PLAN, 6, &planned(&[("account", "c"), ("plan_id", "q")]));
    feed_all(
        &mut cells,
        RESULT,
        7,
        &[("plan_id", "q"), ("order_id", "3"), ("side", "BUY"), ("filled_qty", "12"), ("executed", "True")],
    );
    assert_eq!(quantities(&cells), [qty("14"), qty("11"), ("".to_owned(), false), qty("12")]);
}

#[test]
fn a_result_that_two_cells_could_own_is_folded_by_none_and_both_hold() {
    let mut cells = four();
    for (at, account) in ["a", "b"].into_iter().enumerate() {
        feed_all(&mut cells, RESULT, at as u64, &bought(&[("account", account), ("order_id", "0")]));
        // Two accounts follow one signal with one quantity: a bridge gives their plans one id.
        feed_all(&mut cells, PLAN, 2 + at as u64, &planned(&[("account", account), ("plan_id", "p")]));
    }
    feed_all(&mut cells, RESULT, 5, &bought(&[("plan_id", "p"), ("order_id", "9")]));
    let held = |gap| ("10".to_owned(), gap);
    let none = || (String::new(), false);
    assert_eq!(quantities(&cells), [held(true), held(true), none(), ("0".to_owned(), false)]);
}

#[test]
fn a_fill_that_accounts_without_a_book_could_own_holds_them_all() {
    let mut cells = four();
    for (at, account) in ["a", "b"].into_iter().enumerate() {
        feed_all(&mut cells, PLAN, at as u64, &planned(&[("account", account), ("plan_id", "p")]));
    }
    let none = || (String::new(), false);
    let unheld = || [none(), none(), none(), ("0".to_owned(), false)];
    // A refusal, and an acceptance without an order id, hold nothing and make no book.
    feed_all(
        &mut cells,
        RESULT,
        2,
        &[("plan_id", "p"), ("side", "BUY"), ("executed", "False"), ("error", "too_small")],
    );
    feed_all(&mut cells, RESULT, 3, &[("plan_id", "p"), ("side", "BUY"), ("order_status", "NEW")]);
    assert_eq!(quantities(&cells), unheld());
    feed_all(&mut cells, RESULT, 4, &bought(&[("plan_id", "p")]));
    let flat = || ("0".to_owned(), true);
    assert_eq!(quantities(&cells), [flat(), flat(), none(), ("0".to_owned(), false)]);
    // The first fills after it do not end the hold.
    for (at, account) in ["a", "b"].into_iter().enumerate() {
        feed_all(&mut cells, RESULT, 5 + at as u64, &bought(&[("account", account), ("plan_id", "p")]));
    }
    let held = || ("10".to_owned(), true);
    assert_eq!(quantities(&cells), [held(), held(), none(), ("0".to_owned(), false)]);
}

#[test]
fn a_fill_that_hedged_accounts_without_a_book_could_own_holds_both_sides() {
    let mut cells = four();
    for (at, account) in ["a", "b"].into_iter().enumerate() {
        let fields = [("account", account), ("positionSide", "LONG"), ("plan_id", "p")];
        feed_all(&mut cells, PLAN, at as u64, &planned(&fields));
    }
    feed_all(&mut cells, RESULT, 2, &bought(&[("plan_id", "p")]));
    for (name, lab) in &cells[..2] {
        for side in ["LONG", "SHORT"] {
            assert_eq!(held(lab, &format!("{name}/{SYMBOL}:{side}")), Some(("0".to_owned(), true)), "{name} {side}");
        }
        assert_eq!(held(lab, &format!("{name}/{SYMBOL}")), None);
    }
}

#[test]
fn an_accepted_order_waits_in_every_cell_until_an_entry_names_its_account() {
    let mut cells = four();
    feed_all(&mut cells, RESULT, 0, &[("order_id", "1"), ("order_status", "NEW"), ("side", "BUY")]);
    // The side of the order is the side of the acceptance.
    feed_all(&mut cells, RESULT, 1, &[("account", "b"), ("order_id", "1"), ("filled_qty", "10"), ("executed", "True")]);
    feed_all(&mut cells, RESULT, 2, &[("order_id", "1"), ("filled_qty", "13"), ("executed", "True")]);
    let none = || (String::new(), false);
    assert_eq!(quantities(&cells), [none(), ("13".to_owned(), false), none(), ("0".to_owned(), false)]);
}

/// Returns the state of an engine as a store keeps it.
fn stored(engine: &Engine) -> BTreeMap<Vec<u8>, Vec<u8>> {
    state::all_rows(engine).into_iter().collect()
}

struct Kept(BTreeMap<Vec<u8>, Vec<u8>>);

impl state::Rows for Kept {
    type Error = state::BadRow;

    fn scan(&self, prefix: &[u8]) -> Result<Vec<state::StoredRow>, state::BadRow> {
        let all = self.0.iter().filter(|(key, _)| key.starts_with(prefix));
        Ok(all.map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

#[test]
fn the_orders_and_plans_of_other_cells_survive_in_the_store_of_a_cell() {
    let of = config(Selection::listed([NO_NAME]));
    let mut lab = Lab::noting(&of, harvester::domain::engine::Decisions::Recorded);
    feed(&mut lab, PLAN, 0, &planned(&[("account", "a"), ("plan_id", "p")]));
    feed(&mut lab, RESULT, 1, &bought(&[("account", "b"), ("order_id", "2")]));
    let changes = lab.engine.take_changes();
    let written = state::changed_rows(&lab.engine, &changes, &mut 0);
    let written: BTreeMap<_, _> = written.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    assert_eq!(written.keys().filter(|key| key.starts_with(b"x/")).count(), 2);
    assert_eq!(stored(&lab.engine).keys().filter(|key| key.starts_with(b"x/")).count(), 2);
    let mut engine = Engine::new(of.streams.clone(), of.policy.clone());
    state::load(&Kept(written), &of.streams, &mut engine).expect("the rows read");
    let mut again = Lab::new(&of).going_on(engine);
    for (at, fields) in
        [bought(&[("plan_id", "p"), ("order_id", "1")]), bought(&[("order_id", "2")])].iter().enumerate()
    {
        feed(&mut again, RESULT, 3 + at as u64, fields);
    }
    assert_eq!(held(&again, SYMBOL), Some(("0".to_owned(), false)));
    assert_eq!(again.engine.counters.of(Count::OtherCells), 2);
}

#[test]
fn a_store_states_its_selection_unless_it_has_all_accounts() {
    for (selection, count) in [
        (Selection::All, 1),
        (Selection::Shard(Shard { index: 0, of: 1 }), 1),
        (Selection::Shard(Shard { index: 3, of: 16 }), 2),
        (Selection::listed(["a", NO_NAME]), 2),
    ] {
        let of = config(selection.clone());
        let rows: BTreeMap<_, _> = state::meta_rows(&state::Meta::of(&of.streams, &of.policy)).collect();
        assert_eq!(rows.len(), count, "{selection}");
        let meta = state::meta(&Kept(rows)).expect("it reads").expect("it is there");
        assert_eq!(meta.selection.is_all(), selection.is_all());
        assert!(selection.is_all() || meta.streams().as_ref() == Some(&of.streams), "{selection}");
        assert_eq!(scope::read_selection(&scope::selection_text(&selection)), Ok(selection));
    }
}

/// Returns the result of an account: each of its books with quantity and gap.
fn books_of(engine: &Engine, account: &str) -> Vec<(String, String, bool)> {
    let own = engine.books().filter(|view| &*view.book.account_name == account);
    let mut books: Vec<_> = own
        .map(|view| (view.book.name.to_string(), view.book.qty().to_string(), view.book.hot.history_gap))
        .filter(|(_, qty, gap)| qty != "0" || *gap)
        .collect();
    books.sort();
    books
}

proptest! {
    #![proptest_config(cases(64))]

    /// Each result that names no account is folded by one cell, or by none; in the second case all cells that know
    /// its order or plan hold.
    #[test]
    fn no_result_is_folded_by_two_cells_or_lost_by_all(
        ops in prop::collection::vec((0u8..8, 0usize..4, 0usize..5, 0usize..5, any::<bool>(), 1u32..30), 1..60),
    ) {
        let mut cells = four();
        for (at, (what, account, plan, order, is_named, qty)) in ops.into_iter().enumerate() {
            let at = at as u64;
            let (plan_id, order_id) = (format!("p{plan}"), (700 + order).to_string());
            let qty = qty.to_string();
            let name = ACCOUNTS[account];
            let mut fields: Vec<(&str, &str)> = vec![("side", if qty.len() == 1 { "BUY" } else { "SELL" })];
            let is_named = what == 0 || is_named;
            if is_named && !name.is_empty() {
                fields.push(("account", name));
            }
            if what == 0 {
                fields.extend([("plan_id", &*plan_id), ("qty", &*qty), ("decision", "EXECUTE")]);
                feed_all(&mut cells, PLAN, at, &fields);
                continue;
            }
            fields.extend(Some(("plan_id", &*plan_id)).filter(|_| plan < 4));
            fields.extend(Some(("order_id", &*order_id)).filter(|_| order < 4));
            match what {
                1 => fields.extend([("order_status", "NEW")]),
                2 => fields.extend([("executed", "False"), ("error", "too_small")]),
                _ => fields.extend([("filled_qty", &*qty), ("executed", "True")]),
            }
            let count = |cells: &[(&str, Lab)], of: Count| -> u64 {
                cells.iter().map(|(_, lab)| lab.engine.counters.of(of)).sum()
            };
            let before = (count(&cells, Count::OtherCells), count(&cells, Count::AmbiguousOrder));
            feed_all(&mut cells, RESULT, at, &fields);
            let skipped = count(&cells, Count::OtherCells) - before.0;
            let held = count(&cells, Count::AmbiguousOrder) - before.1;
            if what > 2 {
                prop_assert!(skipped == 3 || (skipped == 4 && held > 0), "{:?}: {} skipped, {} held", fields, skipped, held);
            }
        }
        // The notes of all cells are equal.
        let routes = |lab: &Lab| -> Vec<Vec<u8>> {
            stored(&lab.engine).into_keys().filter(|key| key.starts_with(b"x/")).collect()
        };
        for (name, lab) in &cells {
            prop_assert_eq!(routes(lab), routes(&cells[0].1), "cell of {:?}", name);
        }
    }

    /// If each plan belongs to one account and each order to one plan, results without an account give the same
    /// positions as in one cell over all accounts.
    #[test]
    fn results_without_an_account_are_folded_as_by_one_cell(
        ops in prop::collection::vec((0u8..8, 0usize..12, any::<bool>(), any::<bool>(), any::<bool>(), 1u32..30), 1..60),
    ) {
        let mut one = Lab::new(&config(Selection::All));
        let mut cells = four();
        for plan in 0..8 {
            let (plan_id, name) = (format!("p{plan}"), ACCOUNTS[plan % 4]);
            let account = Some(("account", name)).filter(|_| !name.is_empty());
            let fields: Vec<(&str, &str)> = planned(&[("plan_id", &*plan_id)]).into_iter().chain(account).collect();
            feed(&mut one, PLAN, plan as u64, &fields);
            feed_all(&mut cells, PLAN, plan as u64, &fields);
        }
        for (at, (what, plan, has_plan, has_order, is_named, qty)) in ops.into_iter().enumerate() {
            let at = 100 + at as u64;
            let (plan_id, order_id, qty) = (format!("p{plan}"), (700 + plan).to_string(), qty.to_string());
            // Plans from the eighth on are not known: their results belong to the account without a name.
            let (is_known, name) = (plan < 8, ACCOUNTS[plan % 4]);
            let has_plan = has_plan || (is_known && !has_order);
            let mut fields: Vec<(&str, &str)> = vec![("side", if qty.len() == 1 { "BUY" } else { "SELL" })];
            fields.extend(Some(("account", name)).filter(|_| is_known && !name.is_empty() && is_named));
            fields.extend(Some(("plan_id", &*plan_id)).filter(|_| has_plan));
            // The first entry of an order names its plan.
            let is_new = !has_plan && is_known && one.engine.books().all(|view| view.book.orders_of_id(&order_id).next().is_none());
            if is_new {
                fields.push(("plan_id", &*plan_id));
            }
            fields.extend(Some(("order_id", &*order_id)).filter(|_| has_order));
            match what {
                1 => fields.extend([("order_status", "NEW")]),
                _ => fields.extend([("filled_qty", &*qty), ("executed", "True")]),
            }
            feed(&mut one, RESULT, at, &fields);
            feed_all(&mut cells, RESULT, at, &fields);
            for (name, lab) in &cells {
                prop_assert_eq!(
                    books_of(&lab.engine, name),
                    books_of(&one.engine, name),
                    "account {:?} after {:?}", name, fields
                );
            }
        }
    }
}

#[test]
fn the_cells_of_all_shards_have_the_positions_of_one_cell() {
    let mut one = Lab::new(&config(Selection::All));
    let shard = |index| Lab::new(&config(Selection::Shard(Shard { index, of: 4 })));
    let mut cells: Vec<Lab> = (0..4).map(shard).collect();
    for n in 0..60_u64 {
        let (account, order_id) = (format!("account-{n}"), n.to_string());
        let fields = if n % 7 == 0 { bought(&[]) } else { bought(&[("account", &*account), ("order_id", &*order_id)]) };
        feed(&mut one, RESULT, n, &fields);
        cells.iter_mut().for_each(|lab| _ = feed(lab, RESULT, n, &fields));
    }
    let positions = |lab: &Lab| -> Vec<String> {
        view::positions(&lab.engine, true).iter().map(|position| json!(position).to_string()).collect()
    };
    let mut together: Vec<String> = cells.iter().flat_map(positions).collect();
    let mut alone = positions(&one);
    together.sort();
    alone.sort();
    assert_eq!(together, alone);
    assert!(cells.iter().all(|lab| !positions(lab).is_empty()));
}
