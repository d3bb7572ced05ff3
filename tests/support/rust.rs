//! Reads Rust: the files below a folder, and what the code in them names. Comments, texts and tests do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Returns the Rust files below a folder, or the file itself.
pub fn files(path: &Path) -> Vec<PathBuf> {
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

/// Returns the text of a file.
pub fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the name of a file without its ending.
pub fn stem(path: &Path) -> Option<String> {
    path.file_stem()?.to_str().map(str::to_owned)
}

/// Returns a file without its tests.
pub fn ships(text: &str) -> &str {
    text.split_once("#[cfg(test)]\nmod tests {").map_or(text, |(ships, _)| ships)
}

/// Returns the code of a file without tests, comments, texts, characters and lifetimes.
pub fn code_of(text: &str) -> String {
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

/// Returns the names in a code.
pub fn words(code: &str) -> Vec<&str> {
    tokens(code).into_iter().filter(|token| is_name(token)).collect()
}

/// Returns every path of two parts or more, groups taken apart: `a::{b, c::d}` is `a::b` and `a::c::d`; and `use a`.
pub fn paths_of(code: &str) -> Vec<String> {
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

/// Returns the modules that a file has below it, and the paths that it brings in with `use`.
pub fn brought_in(code: &str) -> (BTreeSet<String>, Vec<String>) {
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

/// Returns true if a path is another one, or goes on from it.
pub fn is_within(path: &str, way: &str) -> bool {
    path.strip_prefix(way).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Returns the module that a file below `source` is: `engine/mod.rs` and `engine.rs` are `engine`.
pub fn module_of(source: &Path, path: &Path) -> Vec<String> {
    let inside = path.strip_prefix(source).expect("a file of the source").with_extension("");
    let parts = inside.iter().map(|part| part.to_string_lossy().into_owned());
    parts.filter(|part| part != "mod").collect()
}

/// Returns the modules that use themselves through others, and those between two circles. Each is given with its code.
pub fn circles(modules: &BTreeMap<Vec<String>, String>) -> Vec<String> {
    let uses = |module: &Vec<String>| -> BTreeSet<Vec<String>> {
        let used = paths_of(&modules[module]).into_iter().filter_map(|path| leads_to(modules, module, &path));
        used.filter(|used| used != module).collect()
    };
    let mut left: BTreeMap<&Vec<String>, BTreeSet<Vec<String>>> =
        modules.keys().map(|module| (module, uses(module))).collect();
    // A module is in no circle if it uses nothing that is left, or nothing that is left uses it.
    let is_free = |left: &BTreeMap<&Vec<String>, BTreeSet<Vec<String>>>, module: &Vec<String>| {
        left[module].iter().all(|used| !left.contains_key(used)) || left.values().all(|uses| !uses.contains(module))
    };
    while let Some(free) = left.keys().copied().find(|module| is_free(&left, module)) {
        left.remove(free);
    }
    left.keys().map(|module| module.join("/")).collect()
}

/// Returns the module that a path leads to. A name that a module has from elsewhere leads to where it is from.
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

/// Reads a path, with the groups in it, from an index of the tokens. Returns the index after it.
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
                let end = path_from(tokens, at, &path, paths);
                at = end.max(at + 1);
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

/// Returns names, `::` and single other characters.
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
