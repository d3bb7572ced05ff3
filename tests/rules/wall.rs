//! The wall around the rules, and the direction of all arrows:
//! `main → cli → service → console → drive → shell → codec → domain`, with `config` beside them.
//!
//! Lints ban types and methods; this reads what is named at all. Comments and texts do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::root;

/// What the rules may be made of, beside each other.
const PURE_CRATES: [&str; 4] = ["rust_decimal", "serde", "sha2", "thiserror"];
const PURE_STD: [&str; 12] =
    ["borrow", "cmp", "collections", "convert", "error", "fmt", "iter", "mem", "num", "ops", "result", "str"];
/// No clock, no chance, no order that depends on a hash, no float, no effect.
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
/// What touches the outside, which only the shell may.
const OUTSIDE: [&str; 5] = ["std::fs", "std::net", "std::env", "std::process", "std::thread"];

/// What a driver does for its callers.
const OF_THE_DRIVER: [&str; 3] = ["Decoder", "set_recorded_decisions", "take_new"];

#[test]
fn the_rules_are_made_of_pure_parts_only() {
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

/// Commands and services go through the driver: decoding, look-ahead, batches and the chain are its business.
#[test]
fn only_the_driver_decodes_and_links() {
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

/// What every part of the shell may use.
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
            // The table of venues names the folder, and nothing that is in it.
            let is_table = *path == venues.join("mod.rs");
            let ships = ships(&read(path)).to_lowercase();
            let told = its.iter().filter(|word| !(is_table && **word == venue) && ships.contains(*word));
            wrong.extend(told.map(|word| format!("{} says {word}", path.display())));
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

/// A wall is only as good as what it has been seen to stop.
#[test]
fn the_wall_stops_what_it_is_for() {
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

// ---- reading --------------------------------------------------------------------------------------------------------

/// Everything in a file that the rules may not be made of; `depth` is how many modules lead to it.
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
            // A type or a parameter: whatever it is, it was named where it came in.
            first if first.starts_with(|c: char| c.is_ascii_uppercase()) => true,
            first if PURE_CRATES.contains(&first) || modules.contains(first) || is_primitive(first) => true,
            "clippy" => true,
            // A macro that the file defines.
            first if code.contains(&format!("macro_rules! {first} ")) => true,
            // What `use` brings in cannot vouch for itself.
            first => brought.contains(first) && !used.contains(&path),
        };
        if !fine {
            wrong.push(path);
        }
    }
    wrong
}

/// How many modules lead to a file of the domain: 1 for the domain itself.
fn depth(domain: &Path, path: &Path) -> usize {
    let inside = path.strip_prefix(domain).expect("a file of the domain");
    inside.components().count() + usize::from(!path.ends_with("mod.rs"))
}

/// Modules that a file has below it, and the paths that it brings in with `use`.
fn brought_in(code: &str) -> (BTreeSet<String>, Vec<String>) {
    let tokens = tokens(code);
    let (mut modules, mut used) = (BTreeSet::new(), Vec::new());
    for at in 0..tokens.len() {
        match tokens[at] {
            "use" => {
                path_from(&tokens, at + 1, "", &mut used);
            }
            "mod" => modules.extend(tokens.get(at + 1).map(|name| (*name).to_owned())),
            _ => {}
        }
    }
    (modules, used)
}

fn is_primitive(name: &str) -> bool {
    ["u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize", "char", "str", "bool"]
        .contains(&name)
}

fn names_layer(code: &str, layer: &str) -> bool {
    paths_of(code).iter().any(|path| {
        let mut parts = path.split("::");
        match parts.next() {
            Some("crate" | "harvester") => parts.next() == Some(layer),
            Some("super") => parts.find(|part| *part != "super") == Some(layer),
            _ => false,
        }
    })
}

/// The module that a file below `source` is: `engine/mod.rs` and `engine.rs` are `engine`.
fn module_of(source: &Path, path: &Path) -> Vec<String> {
    let inside = path.strip_prefix(source).expect("a file of the source").with_extension("");
    let parts = inside.iter().map(|part| part.to_string_lossy().into_owned());
    parts.filter(|part| part != "mod").collect()
}

/// Returns the modules that use themselves through others, and those between two circles. Each is given with its code.
fn circles(modules: &BTreeMap<Vec<String>, String>) -> Vec<String> {
    let uses = |module: &Vec<String>| -> BTreeSet<Vec<String>> {
        let used = paths_of(&modules[module]).into_iter().filter_map(|path| leads_to(modules, module, &path));
        used.filter(|used| used != module).collect()
    };
    let mut left: BTreeMap<&Vec<String>, BTreeSet<Vec<String>>> =
        modules.keys().map(|module| (module, uses(module))).collect();
    // What uses nothing that is left, or is used by nothing that is left, is in no circle.
    let is_free = |left: &BTreeMap<&Vec<String>, BTreeSet<Vec<String>>>, module: &Vec<String>| {
        left[module].iter().all(|used| !left.contains_key(used)) || left.values().all(|uses| !uses.contains(module))
    };
    while let Some(free) = left.keys().copied().find(|module| is_free(&left, module)) {
        left.remove(free);
    }
    left.keys().map(|module| module.join("/")).collect()
}

/// The module that a path leads to. A name that a module has from elsewhere leads to where it is from.
fn leads_to(modules: &BTreeMap<Vec<String>, String>, from: &[String], path: &str) -> Option<Vec<String>> {
    let is_module = |path: &[String]| modules.keys().any(|module| module.starts_with(path));
    let below = |at: &[String], part: &str| [at, &[part.to_owned()]].concat();
    let mut parts = path.split("::").peekable();
    let mut at = match *parts.peek()? {
        "crate" => Vec::new(),
        "super" | "self" => from.to_vec(),
        first if is_module(&below(from, first)) => from.to_vec(),
        _ => return None,
    };
    for part in parts {
        match part {
            "crate" | "self" => {}
            "super" => drop(at.pop()),
            _ if is_module(&below(&at, part)) => at.push(part.to_owned()),
            _ => {
                let brought = modules.get(&at).map(|code| brought_in(code).1).unwrap_or_default();
                let origin = brought.iter().find(|path| path.rsplit("::").next() == Some(part));
                return origin.and_then(|path| leads_to(modules, &at, path)).or(Some(at));
            }
        }
    }
    Some(at)
}

fn is_within(path: &str, way: &str) -> bool {
    path.strip_prefix(way).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Every path of two parts or more, groups taken apart: `a::{b, c::d}` is `a::b` and `a::c::d`; and `use a`.
fn paths_of(code: &str) -> Vec<String> {
    let tokens = tokens(code);
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let is_use = at > 0 && tokens[at - 1] == "use";
        let begins = is_name(tokens[at]) && (at == 0 || !matches!(tokens[at - 1], "::" | "."));
        if begins && (is_use || tokens.get(at + 1) == Some(&"::")) {
            at = path_from(&tokens, at, "", &mut paths);
        } else {
            at += 1;
        }
    }
    paths
}

/// Reads a path, with the groups in it, from a place in the tokens; answers the place behind it.
fn path_from(tokens: &[&str], mut at: usize, before: &str, paths: &mut Vec<String>) -> usize {
    let mut path = before.to_owned();
    while let Some(&token) = tokens.get(at) {
        if is_name(token) || token == "*" {
            path = if path.is_empty() { token.to_owned() } else { format!("{path}::{token}") };
            at += 1;
            if tokens.get(at) != Some(&"::") {
                break;
            }
            at += 1;
        } else if token == "{" && !path.is_empty() {
            at += 1;
            while tokens.get(at).is_some_and(|token| *token != "}") {
                let behind = path_from(tokens, at, &path, paths);
                at = behind.max(at + 1);
            }
            return at + 1;
        } else {
            break;
        }
    }
    paths.push(path);
    at
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

pub(super) fn words(code: &str) -> Vec<&str> {
    tokens(code).into_iter().filter(|token| is_name(token)).collect()
}

/// Names, `::` and single other characters.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = if is_part(first) {
            rest.find(|c| !is_part(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(&rest[..end]);
        rest = rest[end..].trim_start();
    }
    tokens
}

/// A file without its tests.
fn ships(text: &str) -> &str {
    text.split_once("#[cfg(test)]\nmod tests {").map_or(text, |(ships, _)| ships)
}

/// What ships of a file: without tests, comments, texts, characters and lifetimes.
pub(super) fn code_of(text: &str) -> String {
    let text = ships(text);
    let bytes: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let next = bytes.get(at + 1).copied();
        match bytes[at] {
            '/' if next == Some('/') => at += bytes[at..].iter().take_while(|c| **c != '\n').count(),
            '/' if next == Some('*') => {
                let end = bytes[at..].windows(2).position(|pair| pair == ['*', '/']);
                at += end.map_or(bytes.len(), |end| end + 2);
            }
            'r' if matches!(next, Some('"' | '#')) && !code.ends_with(|c: char| c.is_alphanumeric() || c == '_') => {
                let hashes = bytes[at + 1..].iter().take_while(|c| **c == '#').count();
                let mut end = at + 2 + hashes;
                let closes = |end: usize| {
                    bytes[end] == '"' && bytes[end + 1..].iter().take_while(|c| **c == '#').count() >= hashes
                };
                while end < bytes.len() && !closes(end) {
                    end += 1;
                }
                at = end + 1 + hashes;
            }
            '"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != '"' {
                    at += if bytes[at] == '\\' { 2 } else { 1 };
                }
                at += 1;
            }
            '\'' if next == Some('\\') => {
                at += 3 + bytes[(at + 3).min(bytes.len())..].iter().take_while(|c| **c != '\'').count();
            }
            '\'' if bytes.get(at + 2) == Some(&'\'') => at += 3,
            '\'' => at += 1 + bytes[at + 1..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count(),
            other => {
                code.push(other);
                at += 1;
                continue;
            }
        }
        code.push(' ');
    }
    code
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn stem(path: &Path) -> Option<String> {
    path.file_stem()?.to_str().map(str::to_owned)
}

/// The Rust files below a folder, or the file itself.
pub(super) fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let mut found: Vec<PathBuf> = fs::read_dir(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .flat_map(|entry| files(&entry.expect("an entry of the folder").path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    found.sort();
    assert!(!found.is_empty() || !path.ends_with("src"), "{} holds no Rust", path.display());
    found
}
