//! The wall around the rules, and the direction of all arrows. Lints ban types and methods; this reads what is named at
//! all. Comments and texts do not count.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::root;
use crate::support::rust::{brought_in, circles, code_of, files, is_within, module_of, paths_of, read, stem, words};

/// A layer: a folder or a file of `src`.
struct Layer {
    name: &'static str,
    /// The layers below it, which it may use.
    uses: &'static [&'static str],
    /// Crates and modules that it must not use.
    never: &'static [&'static [&'static str]],
    /// Words that it must not contain, and calls as `.call(`.
    no_words: &'static [&'static str],
}

const fn layer(
    name: &'static str,
    uses: &'static [&'static str],
    never: &'static [&'static [&'static str]],
    no_words: &'static [&'static str],
) -> Layer {
    Layer { name, uses, never, no_words }
}

/// The layers, from the bottom up.
const LAYERS: [Layer; 9] = [
    layer("domain", &[], &[EFFECTS, ANY_ERROR], IMPURE_WORDS),
    layer("codec", &["domain"], &[EFFECTS, ANY_ERROR], &[]),
    layer("config", &["domain", "codec"], &[ANY_ERROR], &[]),
    layer("shell", &["domain", "codec"], &[ANY_ERROR], &[]),
    layer("drive", &["domain", "codec", "config", "shell"], &[ANY_ERROR], &[]),
    layer("console", &["domain", "codec", "config", "shell", "drive"], &[ANY_ERROR], OF_THE_DRIVER),
    layer("service", &["domain", "codec", "config", "shell", "drive", "console"], &[], OF_THE_DRIVER),
    layer("cli", &["domain", "codec", "config", "shell", "drive", "console", "service"], &[], OF_THE_DRIVER),
    layer("main", &["domain", "codec", "config", "shell", "drive", "console", "service", "cli"], &[], OF_THE_DRIVER),
];

/// Touches the outside: only the shell, and what is above it, may.
const EFFECTS: &[&str] = &[
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::thread",
    "std::time",
    "sled",
    "redis",
    "tokio",
    "reqwest",
];
/// An error of any kind. Below the edge each operation has an enum of its errors, so that its callers can match them.
const ANY_ERROR: &[&str] = &["anyhow"];
/// Decoding, look-ahead, batches and the chain: commands and services go through the driver.
const OF_THE_DRIVER: &[&str] = &["Decoder", "set_recorded_decisions", "take_new", ".link("];
/// No clock, no chance, no order that depends on a hash, no float, no effect.
const IMPURE_WORDS: &[&str] = &[
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

#[test]
fn a_layer_uses_only_what_its_row_allows() {
    let source = root().join("src");
    let mut wrong = Vec::new();
    for layer in &LAYERS {
        let paths = [source.join(layer.name), source.join(layer.name).with_extension("rs")];
        let paths: Vec<_> = paths.iter().filter(|path| path.exists()).flat_map(|path| files(path)).collect();
        assert!(!paths.is_empty(), "there is no layer {}", layer.name);
        for path in paths {
            let found = forbidden(layer, &code_of(&read(&path)));
            wrong.extend(found.into_iter().map(|what| format!("{} uses {what}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let all = fs::read_dir(&source).expect("the source is a folder");
    let all = all.filter_map(|entry| stem(&entry.expect("an entry of the folder").path())).filter(|name| name != "lib");
    assert_eq!(all.collect::<BTreeSet<_>>(), LAYERS.iter().map(|layer| layer.name.to_owned()).collect());
}

/// Returns what a code of a layer names and must not.
fn forbidden(layer: &Layer, code: &str) -> Vec<String> {
    let others = LAYERS.iter().map(|other| other.name).filter(|other| *other != layer.name);
    let above = others.filter(|other| !layer.uses.contains(other) && names_layer(code, other));
    let paths = paths_of(code);
    let never = layer.never.iter().copied().flatten().copied();
    let never = never.filter(|never| paths.iter().any(|path| is_within(path, never)));
    let all: BTreeSet<&str> = words(code).into_iter().collect();
    let has = |word: &&str| if word.starts_with('.') { code.contains(word) } else { all.contains(word) };
    let words = layer.no_words.iter().copied().filter(has);
    above.map(|other| format!("crate::{other}")).chain(never.chain(words).map(str::to_owned)).collect()
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

/// The crates and modules that the domain is made of.
const PURE_CRATES: [&str; 4] = ["rust_decimal", "serde", "sha2", "thiserror"];
const PURE_STD: [&str; 12] =
    ["borrow", "cmp", "collections", "convert", "error", "fmt", "iter", "mem", "num", "ops", "result", "str"];

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

fn is_primitive(name: &str) -> bool {
    ["u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize", "char", "str", "bool"]
        .contains(&name)
}

/// What every part of the shell may use.
const COMMON: [&str; 2] = ["folder_lock", "uptime"];

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
    let of = |name: &str, code: &str| {
        let layer = LAYERS.iter().find(|layer| layer.name == name).expect("a layer");
        forbidden(layer, &code_of(code))
    };
    assert_eq!(of("drive", "use crate::shell::history::History;\nfn f() -> Result<(), FilmError> {}"), [""; 0]);
    assert_eq!(of("drive", "fn f() -> anyhow::Result<()> {}"), ["anyhow"]);
    assert_eq!(of("console", "use anyhow::Context as _;"), ["anyhow"]);
    assert_eq!(of("cli", "use anyhow::{Context as _, bail}; // crate::main"), [""; 0]);
    assert_eq!(of("shell", "use crate::config::Config;"), ["crate::config"]);
    assert_eq!(of("codec", "fn f() { std::fs::read(p) }"), ["std::fs"]);
    assert_eq!(of("cli", "let decoder = Decoder::new(); engine.link(&decision, hash);"), ["Decoder", ".link("]);
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
