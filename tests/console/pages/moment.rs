//! Pages at a moment: the state, the counts and the ages of that moment.

use std::fs;
use std::sync::Arc;

use super::{Served, expect_sound, film_of};
use crate::night;
use crate::support::{cases, config};
use harvester::codec::checksum::state_checksum;
use harvester::domain::event::ids::EntryId;
use harvester::drive::film::{Film, Origin};
use harvester::drive::sheet::Sheet;
use harvester::drive::state_at::{NoRows, Sources, state_at};
use harvester::drive::stop::Stop;

/// All numbers of the table equal those of `positions --as-of`, at several moments and in every form of a time.
#[test]
fn a_page_at_a_moment_shows_the_state_of_that_moment() {
    let console = Served::night();
    let sources = Sources { histories: vec![night()], ..Sources::default() };
    let config = config(None);
    for (spelling, at) in [
        ("1770170870000-0", EntryId::new(1_770_170_870_000, 0)),
        ("02:07", EntryId::new(1_770_170_879_999, u64::MAX)),
        ("02:08:11", EntryId::new(1_770_170_891_999, u64::MAX)),
        ("2026-02-04T02:05:00Z", EntryId::new(1_770_170_700_000, u64::MAX)),
        ("2026-02-04%2002:05:00", EntryId::new(1_770_170_700_000, u64::MAX)),
        ("1m%20ago", EntryId::new(1_770_170_998_600, u64::MAX)),
        ("1770170891000", EntryId::new(1_770_170_891_000, u64::MAX)),
    ] {
        let past = state_at(&sources, Some(at), &config).expect("the state of then");
        let now_ms = at.ms.max(past.engine.evaluated_ms());
        let sheet = Sheet::of_at(&past.engine, &NoRows, None, false, now_ms).unwrap().expect("all symbols");
        let rows = console.page(&format!("/console/positions?at={spelling}")).rows();
        assert_eq!(rows.len(), sheet.positions.len(), "{spelling}");
        for (row, position) in rows.iter().zip(&sheet.positions) {
            let of = |text: Option<&String>, places| text.map_or_else(|| "–".to_owned(), |text| rounded(text, places));
            assert_eq!(row[0], position.symbol, "{spelling}");
            assert_eq!(row[1], position.side, "{spelling}");
            assert_eq!(row[10], short(&position.qty), "{spelling} {}", position.symbol);
            assert_eq!(
                row[12],
                of(position.unrealized_pnl.as_ref(), 2),
                "{spelling} {}: all are open",
                position.symbol
            );
            assert_eq!(row[2], of(position.r_net.as_ref(), 3), "{spelling} {}", position.symbol);
            assert_eq!(row[4], position.hold.clone().unwrap_or_else(|| "nothing".to_owned()), "{spelling}");
        }
        // The same state, to the last bit.
        let state = console.film.state(Some(at), &Stop::never()).expect("the state of then");
        assert_eq!(state_checksum(&state), state_checksum(&past.engine), "{spelling}");
    }
    for wrong in ["yesterday", "25:00", "%3Cscript%3E"] {
        let (status, body) = console.get(&format!("/?at={wrong}"));
        assert_eq!(status, 400, "{wrong}");
        assert!(expect_sound(wrong, &body).all("p").any(|p| p.text.contains("how long ago (90m ago")), "{body}");
    }
}

fn rounded(text: &str, places: u32) -> String {
    let number: rust_decimal::Decimal = text.parse().expect("a number");
    number.round_dp(places).normalize().to_string()
}

fn short(text: &str) -> String {
    let number: rust_decimal::Decimal = text.parse().expect("a number");
    let rounded = if number.abs() >= rust_decimal::Decimal::ONE {
        number.round_dp(4)
    } else {
        number.round_sf(5).unwrap_or(number)
    };
    rounded.normalize().to_string()
}

/// For all cases without recorded decisions, the state at a moment equals that of a fold from the start.
#[test]
fn a_film_shows_the_same_state_as_a_fold_from_the_start() {
    let mut compared = 0;
    for case in cases() {
        let history = case.join("events.jsonl");
        let text = fs::read_to_string(&history).expect("a history");
        if text.contains("harvest.decision") || text.contains("entry.skipped") {
            continue;
        }
        let config = config(Some(&case.join("policy.toml")));
        let Ok(film) = Film::read(Origin::Histories(vec![history.clone()]), Arc::new(config.clone()), &Stop::never())
        else {
            continue;
        };
        let sources = Sources { histories: vec![history], ..Sources::default() };
        let span = film.last.ms - film.first.ms;
        for part in [0, 1, 2, 3] {
            let at = EntryId::new(film.first.ms + span * part / 3, u64::MAX);
            let past = state_at(&sources, Some(at), &config).expect("a state");
            let state = film.state(Some(at), &Stop::never()).expect("a state");
            let place = format!("{} at {at}", case.display());
            let sheet = |engine| Sheet::of(engine, &NoRows, None, true).expect("a sheet");
            assert_eq!(sheet(&state), sheet(&past.engine), "{place}");
            // The look-ahead already knows an account that only a later control entry names.
            if !text.contains("account") {
                assert_eq!(state_checksum(&state), state_checksum(&past.engine), "{place}");
            }
            compared += 1;
        }
    }
    assert!(compared > 100, "only {compared} states were compared");
}

#[test]
fn step_links_lead_from_change_to_change_up_to_the_end() {
    let console = Served::night();
    let step = |path: &str, rel: &str| {
        let page = console.page(path);
        let link = page.all("a").find(|link| link.get("rel") == rel).map(|link| link.get("href").to_owned());
        (page.with_class("moment").next().expect("a moment").text.clone(), link)
    };
    let mut path = "/console/position/NEARUSDT?at=02:06".to_owned();
    let mut moments = Vec::new();
    while let (moment, Some(next)) = step(&path, "next") {
        moments.push(moment);
        path = next;
    }
    assert!(moments.len() >= 4, "{moments:?}");
    let end = step(&path, "prev").1.expect("a way back");
    let holds = console.page(&end);
    assert!(holds.with_class("verdict").next().is_some());
}

/// Time alone can cause a hold: the page shows since when.
#[test]
fn a_hold_that_time_has_caused_is_shown_since_that_time() {
    let line = |stream: &str, ms: u64, fields: &str| {
        format!(r#"{{"stream":"quantum:stream:{stream}","id":"{ms}-0","fields":{{{fields}}}}}"#)
    };
    let begin = 1_770_163_200_000_u64;
    let max_age_ms = config(None).policy.max_price_age_ms;
    let lines = [
        line("trade.intent", begin, r#""symbol":"AUSDT","side":"BUY","atr_value":"0.01","volatility_factor":"1""#),
        line(
            "apply.result",
            begin + 1,
            r#""symbol":"AUSDT","side":"BUY","orderId":"1","status":"FILLED","executedQty":"100","avgPrice":"1""#,
        ),
        line("market.tick", begin + 1_000, r#""symbol":"AUSDT","price":"1.001""#),
        line("market.tick", begin + 1_000 + max_age_ms + 7_001, r#""symbol":"BUSDT","price":"1""#),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let history = folder.path().join("history.jsonl");
    fs::write(&history, lines.join("\n") + "\n").expect("a history is written");
    let console = Served::of(film_of(&[history], &config(None)), "");
    let rows = console.page("/console/positions").rows();
    assert_eq!((&*rows[0][4], &*rows[0][5]), ("stale_price", "7.0s"), "{rows:?}");
    let now = console.page("/").rows();
    let held = now.iter().find(|row| row[0] == "stale_price").expect("the hold");
    assert_eq!(held.last().map(String::as_str), Some("7.0s"), "{held:?}");
    // Before that, the entry counts that caused the hold.
    let path = format!("/console/positions?at={}", begin + 6_000);
    let rows = console.page(&path).rows();
    assert_eq!((&*rows[0][4], &*rows[0][5]), ("below_min_r", "5.0s"), "{rows:?}");
}

/// The moment is the requested one, which may be later than the last entry before it.
#[test]
fn the_head_names_the_moment_and_the_last_entry_before_it() {
    let console = Served::night();
    for (at, shown, entry) in [
        ("02:06", "02:06:59.999", "last entry 02:05:00"),
        ("02:07", "02:07:59.999", "last entry 02:07:58.600"),
        ("2026-02-04T02:07", "02:07:00", ""),
        ("1770170700000-43", "02:05:00", ""),
        ("2020-01-01", "2020-01-01 00:00:00", "before the first entry"),
    ] {
        for page in ["/", "/console/position/ARCUSDT@1770170700000-0"] {
            let page = console.page(&format!("{page}?at={at}"));
            let moment = page.with_class("moment").next().expect("a moment").text.clone();
            let moment = moment.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(moment.contains(&format!("{shown} UTC")), "{at}: {moment}");
            assert!(moment.contains(entry) && moment.contains("entry") != entry.is_empty(), "{at}: {moment}");
        }
    }
    // Both pages are of the same entries, and the holds have lasted up to the moment.
    let held = |at: &str| {
        let page = console.page(&format!("/console/position/ARCUSDT@1770170700000-0?at={at}"));
        page.with_class("hold-line").next().expect("a hold").text.clone()
    };
    assert!(held("02:06").contains("for 119s") && held("1770170700000-43").contains("for 0.0s"));
}

/// Entries and rates up to the moment equal those that the test counts in the file.
#[test]
fn inputs_are_counted_up_to_the_moment() {
    let console = Served::night();
    let text = fs::read_to_string(night()).expect("the night");
    let entries: Vec<(String, EntryId)> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line is JSON"))
        .map(|line| {
            let field = |name: &str| line[name].as_str().expect("a text").to_owned();
            (field("stream"), field("id").parse().expect("an entry id"))
        })
        .collect();
    let cells = |path: &str, stream: &str| console.page(path).cells_of(stream);
    for at in ["1770166800000-0", "02:05", "02:07", "02:08:11", ""] {
        let until = if at.is_empty() { console.film.last } else { console.film.until(at).expect("a moment") };
        for stream in ["trade.intent", "apply.plan", "harvest.observation", "market.tick", "harvest.decision"] {
            let name = format!("quantum:stream:{stream}");
            let ids: Vec<EntryId> =
                entries.iter().filter(|(of, id)| *of == name && *id <= until).map(|(_, id)| *id).collect();
            let of_stream = cells(&format!("/console/streams?at={at}"), &name);
            assert_eq!(of_stream[2], ids.len().to_string(), "{at} {stream}: {of_stream:?}");
            let span_ms = ids.iter().max().map_or(0, |last| last.ms - ids.iter().min().expect("a first").ms);
            let rate = if span_ms < 10_000 { None } else { Some(ids.len() as f64 * 60_000.0 / span_ms as f64) };
            let of_now = cells(&format!("/?at={at}"), stream);
            let shown = of_now.last().expect("a rate").parse::<f64>().ok();
            assert_eq!(shown.is_some(), rate.is_some(), "{at} {stream}: {of_now:?}");
            let off = shown.zip(rate).map_or(0.0, |(shown, rate)| (shown - rate).abs() / rate);
            assert!(off < 0.01, "{at} {stream}: {of_now:?}, {rate:?}");
        }
    }
    assert_eq!(cells("/", "market.tick").last().map(String::as_str), Some("266"));
    assert_eq!(cells("/", "apply.plan").last().map(String::as_str), Some("0.82"));
}

#[test]
fn a_decision_shows_how_old_its_numbers_were_then() {
    let console = Served::night();
    let page = console.page("/console/decision/0d09dc2c172b6a1fe23fb784f2910cba");
    let age = |field: &str| page.cells_of(field).last().cloned().unwrap_or_default();
    assert_eq!((&*age("mark_price"), &*age("entry_price")), ("0.0s", "3m"));
    let cause = console.page("/console/decision/0d09dc2c172b6a1fe23fb784f2910cba?at=1770170891000-0");
    assert_eq!(cause.cells_of("mark_price"), page.cells_of("mark_price"), "at any moment");
}

#[test]
fn pages_show_new_entries_of_a_history_that_was_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("history.jsonl");
    let text = fs::read_to_string(night()).expect("the night");
    let lines: Vec<&str> = text.lines().collect();
    fs::write(&path, lines[..900].join("\n")).expect("the first part is written");
    let config = config(None);
    let console = Served::of(film_of(std::slice::from_ref(&path), &config), "");
    let before = console.get("/console/version").1;
    let decisions = |console: &Served| console.page("/console/decisions").rows().len();
    let first = decisions(&console);
    fs::write(&path, &text).expect("the rest is written");
    console.console.show(Arc::new(film_of(&[path], &config)));
    assert_ne!(console.get("/console/version").1, before);
    assert!(first < 10, "{first}");
    assert_eq!(decisions(&console), 10);
}
