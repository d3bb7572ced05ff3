//! The proofs of `docs/incidents.md`: each name in the last column is a replay case or a test, so that none is
//! renamed or removed by accident.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::command::{cases, root};

const PAGE: &str = "docs/incidents.md";

#[test]
fn each_incident_has_a_proof_that_exists() -> anyhow::Result<()> {
    let text = fs::read_to_string(root().join(PAGE)).with_context(|| format!("cannot read {PAGE}"))?;
    let mut code = String::new();
    for folder in ["src", "tests"] {
        read_code(&root().join(folder), &mut code)?;
    }
    let cases: Vec<PathBuf> = cases()?;
    let exists = |name: &str| cases.iter().any(|case| case.ends_with(name)) || code.contains(&format!("fn {name}("));
    let wrong = wrong(&text, &exists);
    assert!(wrong.is_empty(), "{} incidents of {PAGE} lack their proof:\n  {}", wrong.len(), wrong.join("\n  "));
    Ok(())
}

fn read_code(folder: &Path, code: &mut String) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            read_code(&path, code)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            code.push_str(&fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?);
        }
    }
    Ok(())
}

/// Returns a line for each incident without a proof, and for each name that is neither a case nor a test.
fn wrong(page: &str, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [number, .., proofs] = cells.as_slice() else { continue };
        if !number.chars().all(|c| c.is_ascii_digit()) {
            continue;
        }
        let names: Vec<&str> = proofs.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            wrong.push(format!("{number}: no proof is named"));
        }
        wrong
            .extend(names.into_iter().filter(|name| !exists(name)).map(|name| format!("{number}: there is no {name}")));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incident_without_its_proof_is_named() {
        let page = "| # | What | Does | Proof |\n|---|---|---|---|\n\
                    | 1 | a `x` | b | `is_there` |\n| 2 | a | b | `is_there`, `is_gone` |\n| 3 | a | b | none |\n";
        assert_eq!(wrong(page, &|name| name == "is_there"), ["2: there is no is_gone", "3: no proof is named"]);
    }
}
