//! The pointers of `CONTRIBUTING.md` and `docs/architecture.md` into the code: each path exists, and the file
//! contains the names that the page mentions with it.
//!
//! A pointer is a path in backticks. It may be the end of a path: `exit/guards.rs`. Names
//! before a path, as in "`a` and `b` in `exit/guards.rs`", are names in that file.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::command::root;

const PAGES: [&str; 3] = ["CONTRIBUTING.md", "docs/architecture.md", "docs/internals.md"];
const FOLDERS: [&str; 6] = ["src", "tests", "docs", "schemas", "replay", "tools"];

#[test]
fn each_pointer_into_the_code_resolves() -> anyhow::Result<()> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        list(Path::new(folder), &mut files)?;
        files.push(folder.into());
    }
    for page in PAGES {
        let text = fs::read_to_string(root().join(page)).with_context(|| format!("cannot read {page}"))?;
        let pointers = pointers(&text);
        assert!(pointers.len() > 20, "{page}: pointers are not found");
        let read = |path: &Path| fs::read_to_string(root().join(path)).unwrap_or_default();
        let wrong = wrong(&pointers, &files, &read);
        assert!(wrong.is_empty(), "{} pointers of {page} are wrong:\n  {}", wrong.len(), wrong.join("\n  "));
    }
    Ok(())
}

/// Adds the files and folders below a folder, by their paths below the root.
fn list(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = fs::read_dir(root().join(folder)).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = folder.join(entry.file_name());
        if entry.path().is_dir() && entry.file_name() != "target" {
            list(&path, files)?;
        }
        files.push(path);
    }
    Ok(())
}

/// A path of a page, and the names that the page mentions with it.
#[derive(Debug, PartialEq, Eq)]
struct Pointer<'a> {
    path: &'a str,
    names: Vec<&'a str>,
}

/// Returns the pointers of a page. A path with a placeholder, as in `src/config/TABLE.rs`, is not a pointer.
fn pointers(page: &str) -> Vec<Pointer<'_>> {
    let mut pointers = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    // Outside of code blocks, each second piece between backticks is code.
    let text: Vec<&str> = page.split("```").step_by(2).collect();
    for part in text {
        let pieces: Vec<&str> = part.split('`').collect();
        for (code, before) in pieces.iter().skip(1).step_by(2).zip(pieces.iter().step_by(2)) {
            let between = before.trim();
            if is_path(code) {
                let of_path = if between == "in" { std::mem::take(&mut names) } else { Vec::new() };
                pointers.push(Pointer { path: code, names: of_path });
                names.clear();
            } else {
                if !matches!(between, "and" | ",") {
                    names.clear();
                }
                names.push(code);
            }
        }
        names.clear();
    }
    pointers
}

fn is_path(code: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-./".contains(c);
    let is_file = [".rs", ".md", ".json", ".toml"].iter().any(|end| code.ends_with(end));
    let is_of_tree = FOLDERS.iter().any(|folder| code.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')));
    code.chars().all(is_plain) && (is_file && code.contains('/') || is_of_tree)
}

/// Returns a line for each path that does not exist, and for each name that its file does not contain.
fn wrong(pointers: &[Pointer<'_>], files: &[PathBuf], read: &dyn Fn(&Path) -> String) -> Vec<String> {
    let mut wrong = Vec::new();
    for Pointer { path, names } in pointers {
        let found: Vec<&PathBuf> = files.iter().filter(|file| file.ends_with(path.trim_end_matches('/'))).collect();
        if found.is_empty() {
            wrong.push(format!("there is no {path}"));
        }
        for name in names.iter().filter(|_| !found.is_empty()) {
            let last = name.rsplit("::").next().unwrap_or(name);
            if !found.iter().any(|file| has_name(&read(file), last)) {
                wrong.push(format!("{path} has no {name}"));
            }
        }
    }
    wrong
}

/// Returns true if a text contains a name as a whole word.
fn has_name(text: &str, name: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_to_an_absent_file_or_name_is_named() {
        let page = "`a` in `src/x.rs`, `B::b` and `c`\nin `domain/y.rs`; `d` is in `z/gone.rs`, `src/config/TABLE.rs`, `src/z/`.";
        let pointers = pointers(page);
        let wanted =
            [("src/x.rs", vec!["a"]), ("domain/y.rs", vec!["B::b", "c"]), ("z/gone.rs", vec![]), ("src/z/", vec![])];
        let wanted = wanted.map(|(path, names)| Pointer { path, names });
        assert_eq!(pointers, wanted);
        let files = ["src/x.rs", "src/domain/y.rs", "src/z"].map(PathBuf::from);
        let read =
            |path: &Path| if path.ends_with("x.rs") { "fn a()".to_owned() } else { "fn b(); call_c()".to_owned() };
        assert_eq!(wrong(&pointers, &files, &read), ["domain/y.rs has no c", "there is no z/gone.rs"]);
    }
}
