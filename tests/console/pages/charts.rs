//! Charts of positions: in a page, as a file, and as a picture.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use super::{PAGE_BYTES_MAX, Served, film_of};
use crate::night;
use crate::support::binary::run_with;
use crate::support::html::Document;
use crate::support::{config, root};
use harvester::drive::explain::{Explanation, Subject};
use harvester::drive::stop::Stop;

/// The chart of ETHUSDT, with the numbers of `explain`.
#[test]
fn the_chart_of_the_night_is_golden_and_has_the_numbers_of_explain() {
    let console = Served::night();
    let (_, body) = console.get("/console/position/ETHUSDT?at=02:09");
    let start = body.find("<svg class=\"chart wide\"").expect("a chart");
    let chart = &body[start..body[start..].find("</svg>").expect("its end") + start + "</svg>".len()];
    let lines = chart.replace("><", ">\n<") + "\n";
    let path = root().join("tests/console/golden/chart_ethusdt.svg");
    if std::env::var_os("HARVESTER_BLESS").is_some() {
        fs::write(&path, &lines).expect("the golden chart is written");
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(lines, golden, "cargo xtask bless writes it again");

    let engine = console.film.state(Some(console.film.until("02:09").expect("a time")), &Stop::never()).unwrap();
    let subject = Subject::Symbol { asked: None, later: None };
    let explained = Explanation::of(&engine, "ETHUSDT", None, subject).expect("an explanation");
    let position = explained.at_time.and_then(|at_time| at_time.position).expect("a position");
    let texts: Vec<String> = Document::read(chart).all("text").map(|text| text.text.clone()).collect();
    let entry = &position.entry_price.as_ref().expect("an entry price").value;
    assert!(texts.contains(&format!("entry {entry}")), "{texts:?}");
    let next = position.next_rung.expect("a rung is left");
    let next_price = next.price.expect("with a price");
    assert!(texts.contains(&format!("○ {} R  {next_price}  armed", next.r)), "{next_price}: {texts:?}");
    for rung in position.rungs.iter().filter(|rung| rung.state == "shadowed") {
        assert!(texts.iter().any(|text| text.starts_with(&format!("● {} R", rung.r))), "{texts:?}");
    }
    // Each lane is a hold of the explanation.
    let lanes: Vec<&String> = texts.iter().filter(|text| text.contains('_')).collect();
    assert_eq!(lanes, ["no_price", "below_min_r", "no_rung"]);
}

/// Nothing is cut off at the edge, and no name covers the prices or the marks.
#[test]
fn the_names_of_a_chart_are_not_cut_off() {
    let console = Served::night();
    // The largest width of a letter, in the units of the drawing.
    let wide = |text: &str| 7.8 * text.chars().count() as f64;
    let mut marks = 0;
    for (symbol, at) in
        [("ARCUSDT", "02:06"), ("ARCUSDT", "02:07"), ("NEARUSDT", ""), ("ETHUSDT", "02:09"), ("BTCUSDT", "")]
    {
        let place = format!("{symbol} at {at:?}");
        let (_, body) = console.get(&format!("/console/position/{symbol}?at={at}"));
        let start = body.find("<svg class=\"chart wide\"").expect("a chart");
        let chart =
            Document::read(&body[start..body[start..].find("</svg>").expect("its end") + start + "</svg>".len()]);
        let number = |element: &crate::support::html::Element, name: &str| -> f64 {
            element.get(name).parse().unwrap_or_else(|_| panic!("{place}: {name} of {element:?}"))
        };
        let mut names_begin = f64::INFINITY;
        for text in chart.all("text") {
            let x = number(text, "x");
            match text.get("text-anchor") {
                "start" => assert!(x + wide(&text.text) <= 1120.0, "{place}: {} is cut off", text.text),
                "end" => assert!(x - wide(&text.text) >= 0.0, "{place}: {} is cut off", text.text),
                _ => {}
            }
            let is_name = text.text.starts_with("entry ") || text.has_class("rung") && !text.text.contains(['↑', '↓']);
            if is_name {
                names_begin = names_begin.min(x - wide(&text.text));
            }
        }
        let reaches = |path: &crate::support::html::Element| {
            let d = path.get("d");
            let place = d.rfind('H').map_or(0, |at| at + 1);
            d[place..].split('V').next().and_then(|x| x.parse::<f64>().ok()).unwrap_or(0.0)
        };
        for path in chart.all("path").filter(|path| path.has_class("price")) {
            assert!(
                reaches(path) <= names_begin,
                "{place}: the prices end at {}, names begin at {names_begin}",
                reaches(path)
            );
        }
        for mark in chart.all("path").filter(|path| path.has_class("decision")) {
            let x: f64 = mark.get("d")[1..].split(' ').next().expect("a place").parse().expect("a number");
            assert!(x + 7.0 <= names_begin, "{place}: a decision at {x}, names begin at {names_begin}");
            marks += 1;
        }
        // A narrow chart lists the names below its plot.
        let start = body.find("<svg class=\"chart narrow\"").expect("a narrow chart");
        let narrow =
            Document::read(&body[start..body[start..].find("</svg>").expect("its end") + start + "</svg>".len()]);
        let names: Vec<_> =
            narrow.all("text").filter(|text| text.has_class("entry") || text.has_class("rung")).collect();
        assert!(names.len() > 1, "{place}: entry and rungs are named");
        for name in names {
            assert!(number(name, "y") > 260.0, "{place}: {} is in the plot", name.text);
            assert!(number(name, "x") + wide(&name.text) <= 380.0, "{place}: {} is cut off", name.text);
        }
        if let Some(none) = chart.all("text").find(|text| text.text == "no price was seen") {
            let entry = chart.all("line").find(|line| line.has_class("entry")).expect("the entry price");
            assert!((number(none, "y") - number(entry, "y1")).abs() > 20.0, "{place}: the line crosses the text");
        }
    }
    assert!(marks >= 4, "only {marks} decisions were looked at");
}

#[test]
fn charts_and_pages_as_files_need_no_other_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let film = film_of(&[night()], &config(None));
    let chart = harvester::console::alone(&harvester::console::chart_of(&film, "ETHUSDT", None).expect("a chart"));
    let drawn = Document::read(&chart);
    assert_eq!((drawn.all("a").count(), drawn.all("style").count()), (0, 1), "no links, its own style");
    assert!(drawn.all("text").any(|text| text.text == "entry 3000"));
    let policy = folder.path().join("fraction.toml");
    fs::write(&policy, "[policy]\nrisk_too_large = \"as_fraction\"\n").expect("a policy is written");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (night, policy) = (night().to_string_lossy().into_owned(), policy.to_string_lossy().into_owned());
    let base = path("base.toml");
    fs::write(&base, "[policy]\n").expect("a policy is written");
    for (file, words) in [
        ("whatif.html", vec!["whatif", "--policy", &base, "--policy", &policy, &night, "--html", &path("whatif.html")]),
        ("audit.html", vec!["audit", &night, "--html", &path("audit.html")]),
        ("arc.svg", vec!["chart", "position", "ARCUSDT", &night, "--at", "02:07", "--out", &path("arc.svg")]),
        ("pnl.svg", vec!["chart", "whatif", "--policy", &base, "--policy", &policy, &night, "--out", &path("pnl.svg")]),
    ] {
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_harvester")).args(&words).output().expect("it starts");
        let is_finding = file == "audit.html" && output.status.code() == Some(1);
        assert!(output.status.success() || is_finding, "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        let text = fs::read_to_string(folder.path().join(file)).expect("the file is written");
        let read = Document::read(&text);
        for element in &read.0 {
            for name in ["href", "src", "data-href"] {
                assert_eq!(element.get(name), "", "{file}: {} leads elsewhere", element.name);
            }
        }
        assert!(text.len() < PAGE_BYTES_MAX, "{file}");
        // Wide parts can be scrolled with keys, though a file has no script.
        let wide: Vec<_> = read.with_class("scroll").chain(read.with_class("report")).collect();
        assert!(file.ends_with(".svg") || !wide.is_empty(), "{file}");
        for part in wide {
            let names = ["tabindex", "role", "aria-label"].map(|name| part.get(name));
            assert!(names[0] == "0" && names[1] == "region" && !names[2].is_empty(), "{file}: {names:?}");
        }
    }
}

/// The chart as a picture has the expected size and is not empty. On a machine without fonts, the message names what
/// to install.
#[test]
fn a_chart_is_a_png_if_its_file_name_ends_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let night = night().to_string_lossy().into_owned();
    let chart = |file: &str| run_with(&["chart", "position", "ARCUSDT", &night, "--at", "02:07", "--out", &path(file)]);
    let ran = chart("arc.jpg");
    assert!(ran.code == Some(2) && ran.log.contains("ends in .svg or .png"), "{}", ran.log);
    let ran = chart("arc.PNG");
    if ran.log.contains("has no font") {
        ran.refused(&["apt-get install fonts-dejavu-core"]);
        return eprintln!("skipped: this machine has no font");
    }
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    let png = fs::read(path("arc.PNG")).expect("the file is written");
    assert_eq!(&png[..16], b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR");
    let size = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().expect("four bytes"));
    assert_eq!(size(16), 2240, "two pixels for each unit");
    assert!(size(20) > 600 && png.len() > 20_000, "{} lines in {} bytes", size(20), png.len());
    let kept = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("console");
    fs::create_dir_all(&kept).expect("a folder for pictures");
    fs::write(kept.join("chart-arcusdt.png"), png).expect("the picture is kept");
}

/// A day of prices, one a second, is drawn from the extremes of each column.
#[test]
fn a_chart_of_a_day_of_ticks_stays_small_and_keeps_its_extremes() {
    use std::fmt::Write as _;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("day.jsonl");
    let mut text = String::new();
    let opened = r#"{"stream":"quantum:stream:apply.result","id":"1770163200000-0","fields":{"plan_id":"p","symbol":"SOLUSDT","side":"BUY","executedQty":"10","avgPrice":"100","orderId":"1","status":"FILLED"}}"#;
    let _ = writeln!(text, "{opened}");
    for second in 1..=20_000_u64 {
        let price = match second {
            7_001 => 104,
            15_003 => 96,
            _ => 100 + second % 2,
        };
        let ms = 1_770_163_200_000 + second * 1000;
        let _ = writeln!(
            text,
            r#"{{"stream":"quantum:stream:market.tick","id":"{ms}-0","fields":{{"symbol":"SOLUSDT","price":"{price}"}}}}"#
        );
    }
    fs::write(&path, text).expect("the history is written");
    let film = film_of(&[path], &config(None));
    let chart = harvester::console::alone(&harvester::console::chart_of(&film, "SOLUSDT", None).expect("a chart"));
    let drawn = Document::read(&chart);
    let line = drawn.all("path").find(|path| path.has_class("price")).expect("a line of prices").get("d").to_owned();
    let heights: BTreeSet<String> =
        line.split('V').skip(1).map(|part| part.split('H').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(heights.len(), 4, "both usual prices and both spikes: {heights:?}");
    assert!(chart.len() < 60_000, "{} bytes", chart.len());
}

/// Writes a history of lines: stream, milliseconds after the first, fields.
fn history(folder: &std::path::Path, lines: &[(&str, u64, &str)]) -> PathBuf {
    let line = |(stream, ms, fields): &(&str, u64, &str)| {
        let id = 1_770_163_200_000 + ms;
        format!("{{\"stream\":\"quantum:stream:{stream}\",\"id\":\"{id}-0\",\"fields\":{{{fields}}}}}\n")
    };
    let path = folder.join("history.jsonl");
    fs::write(&path, lines.iter().map(line).collect::<String>()).expect("a history is written");
    path
}

const INTENT: (&str, u64, &str) =
    ("trade.intent", 0, r#""symbol":"AUSDT","side":"BUY","atr_value":"0.01","volatility_factor":"1""#);

/// The lane of holds ends with the hold of the headline, also if time alone has brought it.
#[test]
fn the_lane_of_holds_ends_with_the_hold_of_the_headline() {
    let folder = tempfile::tempdir().expect("a folder");
    let max_age_ms = config(None).policy.max_price_age_ms;
    let lines = [
        INTENT,
        (
            "apply.result",
            1,
            r#""symbol":"AUSDT","side":"BUY","orderId":"1","status":"FILLED","executedQty":"100","avgPrice":"1""#,
        ),
        ("market.tick", 1_000, r#""symbol":"AUSDT","price":"1.001""#),
        ("market.tick", 1_000 + max_age_ms + 7_001, r#""symbol":"BUSDT","price":"1""#),
    ];
    let console = Served::of(film_of(&[history(folder.path(), &lines)], &config(None)), "");
    let page = console.page("/console/position/AUSDT");
    let head = page.with_class("hold-line").next().expect("a headline").text.clone();
    assert!(head.contains("stale_price"), "{head}");
    let holds: Vec<String> = page.with_class("hold").filter(|e| e.name == "rect").map(|e| e.text.clone()).collect();
    assert!(holds.iter().any(|hold| hold.starts_with("stale_price for 7.0s")), "{holds:?}");
    assert!(page.all("text").any(|text| text.has_class("lane") && text.text == "stale_price"));
}

/// A closed position lacks nothing and has no armed rung. Its lines begin where entry and risk had these values.
#[test]
fn a_closed_position_lacks_nothing_and_its_lines_begin_with_its_last_entry_price() {
    let folder = tempfile::tempdir().expect("a folder");
    let fill = |id: u32, side: &str, qty: u32, price: &str| {
        format!(
            r#""symbol":"AUSDT","side":"{side}","orderId":"{id}","status":"FILLED","executedQty":"{qty}","avgPrice":"{price}""#
        )
    };
    let (first, second, out) = (fill(1, "BUY", 100, "1"), fill(2, "BUY", 100, "1.01"), fill(3, "SELL", 200, "1.002"));
    let lines = [
        INTENT,
        ("apply.result", 1, &*first),
        ("market.tick", 1_000, r#""symbol":"AUSDT","price":"1.001""#),
        ("apply.result", 5_000, &second),
        ("market.tick", 9_000, r#""symbol":"AUSDT","price":"1.002""#),
        ("apply.result", 10_000, &out),
    ];
    let console = Served::of(film_of(&[history(folder.path(), &lines)], &config(None)), "");
    let page = console.page("/console/position/AUSDT");
    assert!(page.with_class("hold-line").next().expect("a headline").text.contains("Closed"));
    assert_eq!(page.with_class("missing").map(|e| &*e.text).collect::<Vec<_>>(), [""; 0]);
    let text = &page.all("main").next().expect("a page").text;
    assert!(text.contains("not taken") && !text.contains("armed "), "{text}");
    let chart = page.all("line").filter(|line| line.has_class("entry")).map(|line| line.get("x1").to_owned());
    let begins: Vec<f64> = chart.map(|x| x.parse().expect("a coordinate")).collect();
    // The second fill was in the middle of the life: 74 is the left edge of the wide chart.
    assert!(!begins.is_empty() && begins[0] > 300.0, "{begins:?}");
}

/// Without any price there is nothing that an axis could name.
#[test]
fn a_chart_without_prices_has_no_axis_of_prices() {
    let folder = tempfile::tempdir().expect("a folder");
    let lines = [
        ("apply.result", 1, r#""symbol":"AUSDT","side":"BUY","orderId":"1","status":"FILLED","executedQty":"100""#),
        ("market.tick", 9_000, r#""symbol":"BUSDT","price":"1""#),
    ];
    let console = Served::of(film_of(&[history(folder.path(), &lines)], &config(None)), "");
    let page = console.page("/console/position/AUSDT");
    let labels: Vec<&str> = page.all("text").map(|text| &*text.text).collect();
    assert!(labels.contains(&"no price was seen"), "{labels:?}");
    assert!(!labels.iter().any(|text| *text == "price" || text.starts_with("0.")), "{labels:?}");
    let lines = [
        (
            "apply.result",
            1,
            r#""symbol":"AUSDT","side":"BUY","orderId":"1","status":"FILLED","executedQty":"9","avgPrice":"1""#,
        ),
        ("apply.result", 9_000, r#""symbol":"AUSDT","side":"SELL","orderId":"2","status":"FILLED","executedQty":"9""#),
    ];
    let console = Served::of(film_of(&[history(folder.path(), &lines)], &config(None)), "");
    let all = console.page("/console/position/AUSDT").text().to_owned();
    assert!(all.contains("unknown1 fill without a price"), "{all}");
}

/// No price comes, so no evaluation notes the hold that the unreadable result brings.
#[test]
fn a_hold_without_an_evaluation_has_a_time_and_a_lane() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("events.jsonl");
    let lines = [
        r#"{"stream":"quantum:stream:apply.result","id":"1770163201000-0","fields":{"symbol":"LTCUSDT","executed":"true","executedQty":"10","orderId":"501","order_status":"FILLED","side":"BUY"}}"#,
        r#"{"stream":"quantum:stream:apply.result","id":"1770163202000-0","fields":{"payload":"{\"symbol\": \"XRP<b>USDT</b>\", \"executedQty\": 1}"}}"#,
        r#"{"stream":"quantum:stream:market.tick","id":"1770163260000-0","fields":{"event_type":"market.tick","payload":"{\"symbol\": \"SOLUSDT\", \"price\": 100.3}"}}"#,
    ];
    fs::write(&path, lines.join("\n")).expect("the history is written");
    let console = Served::of(film_of(&[path], &config(None)), "");
    let page = console.page("/console/position/LTCUSDT");
    let head = page.with_class("hold-line").next().expect("a headline").text.clone();
    assert!(head.contains("history_gap for 58s, since 00:00:02"), "{head}");
    let lanes: Vec<String> = page.all("title").map(|title| title.text.clone()).collect();
    for lane in ["missing_entry_price for 1.0s", "history_gap for 58s"] {
        assert!(lanes.iter().any(|title| title.starts_with(lane)), "{lane}: {lanes:?}");
    }
}
