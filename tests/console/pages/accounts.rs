//! Accounts with a kill switch or a policy of their own.

use super::{Served, film_of};
use crate::support::{config, root};

fn case(name: &str) -> Served {
    let folder = root().join("replay/books").join(name);
    Served::of(film_of(&[folder.join("events.jsonl")], &config(Some(&folder.join("policy.toml")))), "")
}

#[test]
fn the_kill_switch_of_one_account_is_shown() {
    let console = case("s5_killed_by_account");
    for (at, is_general, is_own) in [
        ("1770163202000-0", false, false),
        ("1770163204000-0", false, true),
        ("1770163205000-0", true, true),
        ("1770163207000-0", true, false),
        ("1770163209000-0", false, false),
    ] {
        let page = console.page(&format!("/?at={at}"));
        let tile = page.all("li").find(|tile| tile.text.contains("kill switch")).expect("a tile");
        assert_eq!(tile.has_class("bad"), is_general || is_own, "{at}: {}", tile.text);
        assert_eq!(tile.text.contains("set for a"), is_own && !is_general, "{at}: {}", tile.text);
        let needs = page.with_class("needs").next().map_or_else(String::new, |needs| needs.text.clone());
        assert_eq!(needs.contains("The kill switch of account a is set"), is_own, "{at}: {needs}");
        assert_eq!(needs.contains("The kill switch is set: nothing is harvested"), is_general, "{at}: {needs}");
        assert_eq!(needs.contains("control kill off --account a"), is_own, "{at}: {needs}");
        let chips = page.with_class("chips").next().expect("chips").text.clone();
        assert_eq!(chips.contains("killed"), is_general || is_own, "{at}: {chips}");
    }
    // The switch of an account is a change that the steps lead to.
    let page = console.page("/?at=1770163202000-0");
    let next = page.all("a").find(|link| link.get("rel") == "next").expect("a next change").get("href");
    assert!(next.contains("1770163203000-0"), "{next}");
}

#[test]
fn the_policy_of_one_account_is_not_that_of_all() {
    let console = case("s5_policy_by_account");
    let tile = |at: &str| {
        let page = console.page(&format!("/?at={at}"));
        let tile = page.all("li").find(|tile| tile.text.contains("policy")).expect("a tile").text.clone();
        (tile, page.cells_of("a"))
    };
    let (general, own) = tile("1770163204000-0");
    assert!(general.contains("general policy") && general.contains("configured"), "{general}");
    assert!(own.iter().any(|cell| cell == "adopted 00:00:03") && own.iter().any(|cell| cell == "1"), "{own:?}");
    // The account follows the general policy again.
    let (general, own) = tile("1770163206000-0");
    assert!(!general.contains("general policy") && general.contains("configured"), "{general}");
    assert_eq!(own, [""; 0]);
}

/// A gap is of a book, which has the name of its account.
#[test]
fn an_open_position_of_an_account_with_a_gap_is_not_called_closed() {
    let console = case("s4_gap_accepted_by_account");
    let page = console.page("/console/positions?at=1770163203000-0");
    let rows = page.rows();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row.iter().any(|cell| cell.contains("history_gap"))), "{rows:?}");
    let text = &page.all("main").next().expect("a page").text;
    let closed = text.split_once("nothing open:").map_or("", |(_, names)| names);
    assert!(closed.split_whitespace().all(|name| !name.contains('/')), "{closed}");
}
