//! The wall around the domain, and the direction of all arrows: `main → cli → service → console → drive → shell →
//! codec → domain`, with `config` beside them.
//!
//! Lints ban types and methods; this test reads every name in the code. Comments and texts do not count.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::root;
use code::{
    brought_in, circles, code_of, files, is_primitive, is_within, module_of, names_layer, paths_of, read, ships, stem,
    words,
};

pub mod code;

/// What the domain may use, beside its own modules.
const PURE_CRATES: [&str; 4] = ["rust_decimal", "serde", "sha2", "thiserror"];

const PURE_STD: [&str; 12] =
    ["borrow", "cmp", "collections", "convert", "error", "fmt", "iter", "mem", "num", "ops", "result", "str"];

/// No clock, no randomness, no order that depends on a hash, no float, no effect.
const IMPURE_WORDS: [&str; 23] = [
    "HashMap",
    "HashSet",
    "Instant",
    "SystemTime",
    "Utc",
    "Local",
    "RandomState",
    "f32",
    "f64",
    "async",
    "await",
    "unsafe",
    "println",
    "eprintln",
    "print",
    "eprint",
    "dbg",
    "todo",
    "tracing",
    "tokio",
    "rand",
    "thread_local",
    "static",
];

/// Names of effects, which only the shell may use.
const OUTSIDE: [&str; 5] = ["std::fs", "std::net", "std::env", "std::process", "std::thread"];

/// Names of work that the driver does for its callers.
const OF_THE_DRIVER: [&str; 3] = ["Decoder", "set_recorded_decisions", "take_new"];

#[test]
fn the_domain_uses_pure_parts_only() {
    let folder = root().join("src/domain");
    let mut wrong = Vec::new();
    for path in files(&folder) {
        let code = code_of(&read(&path));
        wrong
            .extend(impure(&code, depth(&folder, &path)).into_iter().map(|what| format!("{}: {what}", path.display())));
    }
    assert!(wrong.is_empty(), "the wall around the domain is broken:\n{}", wrong.join("\n"));
    let head = read(&folder.join("mod.rs"));
    for lint in ["clippy::disallowed_types", "clippy::disallowed_methods", "clippy::float_arithmetic"] {
        assert!(head.lines().any(|line| line.starts_with("#![deny(") && line.contains(lint)), "{lint} is not denied");
    }
}

#[test]
fn no_arrow_points_up() {
    let mut wrong = Vec::new();
    let layers = ["domain", "codec", "shell", "drive", "console", "service", "cli"];
    let above = |layer: &str| match layers.iter().position(|name| *name == layer) {
        Some(at) if at < 3 => [&layers[at + 1..], &["config"]].concat(),
        Some(at) => layers[at + 1..].to_vec(),
        None => layers[2..].to_vec(),
    };
    for layer in layers.iter().chain(&["config", "config.rs"]) {
        for path in files(&root().join("src").join(layer)) {
            let code = code_of(&read(&path));
            for name in above(layer).iter().filter(|name| names_layer(&code, name)) {
                wrong.push(format!("{} uses crate::{name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_shell_touches_the_outside() {
    let mut wrong = Vec::new();
    for layer in ["domain", "codec"] {
        for path in files(&root().join("src").join(layer)) {
            let code = code_of(&read(&path));
            let paths = paths_of(&code);
            for outside in OUTSIDE.into_iter().chain(["sled", "redis", "tokio", "reqwest", "std::time"]) {
                if paths.iter().any(|path| path == outside || path.starts_with(&format!("{outside}::"))) {
                    wrong.push(format!("{} uses {outside}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Commands and services use the driver: it decodes, looks ahead, makes batches and links the chain.
#[test]
fn only_the_driver_decodes_entries_and_links_decisions() {
    let mut wrong = Vec::new();
    for layer in ["console", "service", "cli"] {
        for path in files(&root().join("src").join(layer)) {
            let code = code_of(&read(&path));
            let taken = words(&code).into_iter().filter(|word| OF_THE_DRIVER.contains(word));
            let links = code.contains(".link(").then_some("link");
            wrong.extend(taken.chain(links).map(|word| format!("{} uses {word}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// JSON is a format, not a model: a command or a service takes and gives typed documents.
#[test]
fn commands_and_services_have_types_for_their_documents() {
    let mut wrong = Vec::new();
    for layer in ["service", "cli"] {
        for path in files(&root().join("src").join(layer)) {
            let untyped = untyped(&code_of(&read(&path)));
            wrong.extend(untyped.into_iter().map(|what| format!("{} uses {what}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Parts that every part of the shell may use.
const COMMON: [&str; 1] = ["folder_lock"];

#[test]
fn parts_of_the_shell_do_not_know_each_other() {
    let shell = root().join("src/shell");
    let parts: BTreeSet<String> = fs::read_dir(&shell)
        .expect("the shell is a folder")
        .filter_map(|entry| stem(&entry.expect("an entry of the folder").path()))
        .filter(|name| name != "mod")
        .collect();
    assert!(parts.len() >= 3, "only {parts:?}");
    let mut wrong = Vec::new();
    for part in &parts {
        let paths = [shell.join(part), shell.join(format!("{part}.rs"))];
        for path in paths.iter().filter(|path| path.exists()).flat_map(|path| files(path)) {
            let code = code_of(&read(&path));
            let above = "super::".repeat(path.strip_prefix(&shell).map_or(0, |inside| inside.components().count()));
            for other in parts.iter().filter(|other| *other != part && !COMMON.contains(&other.as_str())) {
                let ways = [format!("crate::shell::{other}"), format!("{above}{other}")];
                if paths_of(&code).iter().any(|path| ways.iter().any(|way| is_within(path, way))) {
                    wrong.push(format!("{} uses {other}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Words by which a venue is known, in lower case: its name, its paths, headers, parameters, events and codes.
const OF_VENUES: [(&str, &[&str]); 1] = [(
    "binance",
    &[
        "binance",
        "fapi",
        "x-mbx",
        "listenkey",
        "premiumindex",
        "positionrisk",
        "positionside/dual",
        "usertrades",
        "exchangeinfo",
        "recvwindow",
        "servertime",
        "fromid",
        "order_trade_update",
        "account_update",
        "markprice@",
        "autoclose",
        "-1003",
        "-1006",
        "-1007",
        "-1021",
        "-1022",
        "-1121",
        "-1125",
        "-2008",
        "-2014",
        "-2015",
        "-2015",
    ],
)];

#[test]
fn the_words_of_a_venue_stay_in_its_folder() {
    let src = root().join("src");
    let venues = src.join("codec/exchange");
    let folders: BTreeSet<String> = fs::read_dir(&venues)
        .expect("the exchanges are a folder")
        .map(|entry| entry.expect("an entry of the folder").path())
        .filter(|path| path.is_dir())
        .filter_map(|path| stem(&path))
        .collect();
    assert_eq!(folders, OF_VENUES.iter().map(|(venue, _)| (*venue).to_owned()).collect(), "each venue has its words");
    let mut wrong = Vec::new();
    for (venue, its) in OF_VENUES {
        let folder = venues.join(venue);
        let others = files(&src).into_iter().filter(|path| !path.starts_with(&folder) && !path.ends_with("tests.rs"));
        for path in &others.collect::<Vec<_>>() {
            // The table of venues names the folder, and nothing inside it.
            let is_table = *path == venues.join("mod.rs");
            let ships = ships(&read(path)).to_lowercase();
            let named = its.iter().filter(|word| !(is_table && **word == venue) && ships.contains(*word));
            wrong.extend(named.map(|word| format!("{} contains {word}", path.display())));
        }
        let own: String = files(&folder).iter().map(|path| read(path).to_lowercase()).collect();
        wrong.extend(its.iter().filter(|word| !own.contains(*word)).map(|word| format!("{venue} does not say {word}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_file_uses_itself_through_others() {
    for folder in ["domain", "shell/history", "service/fetch"] {
        let source = root().join("src");
        let paths = files(&source.join(folder));
        let modules = paths.iter().map(|path| (module_of(&source, path), code_of(&read(path)))).collect();
        assert_eq!(circles(&modules), Vec::<String>::new(), "these use each other");
    }
}

/// The wall is tested with code that it must accept and code that it must stop.
#[test]
fn the_wall_stops_impure_code_and_passes_pure_code() {
    for pure in [
        "use std::collections::{BTreeMap, VecDeque};\nuse super::units::Qty;\nuse crate::domain::units;",
        "use serde::{Deserialize, Serialize};\nuse rust_decimal::Decimal; // std::fs\nfn f() { text.parse::<u64>(\"std::fs\") }",
        "use std::fmt;\nuse super::exit::{self, Hold};\nmod kept;\nfn f() -> fmt::Result { exit::g(); kept::h() }",
        "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}",
        "fn longest<'a>(a: &'a str) -> char { '\"' }\nlet x = \"f64 \\\" tokio::spawn\"; /* HashMap */",
        "#![deny(clippy::disallowed_types)]\nimpl serde::Serialize for Price {}",
        "use rust_decimal::prelude::ToPrimitive as _;\nfn f<'static_>(text: &'static str) {}",
    ] {
        assert_eq!(impure(&code_of(pure), 2), Vec::<String>::new(), "{pure}");
    }
    for broken in [
        "use std::fs;",
        "use chrono;\nfn f() { chrono::g() }",
        "use chrono as clock;\nfn f() { clock::g() }",
        "use std::{fmt, time::Duration};",
        "use std::collections::HashMap;",
        "use std::collections::{BTreeMap, HashSet};",
        "fn f() { std::env::var(\"X\"); }",
        "fn f(x: f64) {}",
        "use chrono::Utc;",
        "fn f() { let now = chrono::Utc::now(); }",
        "use crate::codec::line;",
        "use crate::{codec, domain};",
        "fn f() { crate::shell::store::open(); }",
        "use super::super::shell::store;",
        "async fn f() {}",
        "use tokio::sync::mpsc;",
        "static mut COUNT: u64 = 0;",
        "fn f() { println!(\"{}\", 1); }",
        "use harvester::cli;",
        "fn f() { rand::random::<u8>(); }",
    ] {
        assert_ne!(impure(&code_of(broken), 2), Vec::<String>::new(), "{broken}");
    }
    for typed in ["fn f() { serde_json::from_str::<Report>(body) }", "use serde::Serialize;\nenum Value {}"] {
        assert_eq!(untyped(&code_of(typed)), [""; 0], "{typed}");
    }
    for broken in ["use serde_json::{Map, Value};", "fn f() { serde_json::json!({}) }", "use serde_json as format;"] {
        assert_ne!(untyped(&code_of(broken)), [""; 0], "{broken}");
    }
    assert!(names_layer("use crate::{cli::replay, domain};", "cli"));
    assert!(names_layer("fn f() { crate::cli::run() }", "cli"));
    assert!(names_layer("use super::super::cli::replay;", "cli"));
    assert!(!names_layer("use crate::domain::{clients, engine};", "cli"));
    let circles_of = |files: &[(&str, &str)]| {
        circles(
            &files.iter().map(|(name, code)| (name.split('/').map(str::to_owned).collect(), code_of(code))).collect(),
        )
    };
    let (front, leaf) = (("a", "mod b;\nmod c;\npub use c::Leaf;"), ("a/c", "pub struct Leaf;"));
    assert_eq!(circles_of(&[front, leaf, ("a/b", "use super::Leaf;")]), [""; 0]);
    assert_eq!(circles_of(&[front, ("a/c", "use super::b::B;"), ("a/b", "use crate::a::Leaf;")]), ["a/b", "a/c"]);
    assert_eq!(circles_of(&[("a", "mod b;\nuse b::B;"), ("a/b", "fn f() { super::g() }")]), ["a", "a/b"]);
}

// ---- reading -------------------------------------------------------------------------------------------------------

/// Returns everything in a file that the domain may not use; `depth` is the number of modules above the file.
fn impure(code: &str, depth: usize) -> Vec<String> {
    let mut wrong: Vec<String> =
        words(code).into_iter().filter(|word| IMPURE_WORDS.contains(word)).map(str::to_owned).collect();
    let (modules, used) = brought_in(code);
    let brought: BTreeSet<&str> =
        used.iter().filter_map(|path| path.trim_end_matches("::self").rsplit("::").next()).collect();
    for path in paths_of(code) {
        let parts: Vec<&str> = path.split("::").collect();
        let above = parts.iter().take_while(|part| **part == "super").count();
        let fine = match parts[0] {
            "super" => above < depth || parts.get(above) == Some(&"domain"),
            "crate" => parts.get(1) == Some(&"domain"),
            "std" => parts.get(1).is_some_and(|part| PURE_STD.contains(part)),
            "self" => true,
            // A type or a parameter: it was checked where the file brought it in.
            first if first.starts_with(|c: char| c.is_ascii_uppercase()) => true,
            first if PURE_CRATES.contains(&first) || modules.contains(first) || is_primitive(first) => true,
            "clippy" => true,
            // A macro that the file defines.
            first if code.contains(&format!("macro_rules! {first} ")) => true,
            // A name that `use` brings in does not permit its own path.
            first => brought.contains(first) && !used.contains(&path),
        };
        if !fine {
            wrong.push(path);
        }
    }
    wrong
}

/// Returns the number of modules above a file of the domain: 1 for the domain itself.
fn depth(domain: &Path, path: &Path) -> usize {
    let inside = path.strip_prefix(domain).expect("a file of the domain");
    inside.components().count() + usize::from(!path.ends_with("mod.rs"))
}

/// Reads and writes documents that have a type.
const OF_TYPES: [&str; 6] =
    ["::Error", "::from_str", "::from_slice", "::to_string", "::to_string_pretty", "::to_value"];

/// Returns what a file uses of `serde_json` to make or read JSON without a type.
fn untyped(code: &str) -> Vec<String> {
    let is_untyped = |path: &String| match path.strip_prefix("serde_json") {
        Some(part) => !OF_TYPES.contains(&part),
        None => false,
    };
    let mut paths = paths_of(code);
    paths.retain(is_untyped);
    paths
}
