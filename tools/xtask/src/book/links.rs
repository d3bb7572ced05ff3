//! Links between the project's Markdown files: each points to a file that exists, and to a heading of that file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;

use super::page::Page;
use crate::command::root;

/// The folder of the book.
const BOOK: &str = "docs";
/// The table of contents. A page that it does not list is not in the book.
const SUMMARY: &str = "docs/SUMMARY.md";

/// Pages by their path below the root.
type Pages = BTreeMap<PathBuf, Page>;

/// Links to the network are not followed.
#[test]
fn every_relative_link_resolves() -> anyhow::Result<()> {
    let pages = read(root())?;
    assert!(pages.values().map(|page| page.links.len()).sum::<usize>() > 100, "links are not found");
    let wrong = wrong(&pages, &|path| root().join(path).exists());
    assert!(wrong.is_empty(), "{} links or pages are wrong:\n  {}", wrong.len(), wrong.join("\n  "));
    Ok(())
}

/// Reads all Markdown files below a folder, except in hidden folders and in build output.
fn read(root: &Path) -> anyhow::Result<Pages> {
    let mut pages = Pages::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    folders.push(path);
                }
            } else if name.ends_with(".md") {
                let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                pages.insert(path.strip_prefix(root)?.to_owned(), Page::read(&text));
            }
        }
    }
    Ok(pages)
}

/// Returns a line for each link that does not resolve, and for each page that the table of contents does not list.
fn wrong(pages: &Pages, exists: &dyn Fn(&Path) -> bool) -> Vec<String> {
    let listed: BTreeSet<PathBuf> = pages
        .get(Path::new(SUMMARY))
        .into_iter()
        .flat_map(|summary| &summary.links)
        .filter_map(|link| resolved(Path::new(SUMMARY), &link.to))
        .collect();
    let is_in_book = |path: &Path| listed.contains(path) || path == Path::new(SUMMARY);
    let mut wrong = Vec::new();
    for (path, page) in pages {
        if path.starts_with(BOOK) && !is_in_book(path) {
            wrong.push(format!("{}: {SUMMARY} does not list this page", path.display()));
        }
        for link in &page.links {
            if let Err(why) = resolves(path, &link.to, pages, &is_in_book, exists) {
                wrong.push(format!("{}:{}: {}: {why}", path.display(), link.line, link.to));
            }
        }
    }
    wrong
}

fn resolves(
    from: &Path,
    to: &str,
    pages: &Pages,
    is_in_book: &dyn Fn(&Path) -> bool,
    exists: &dyn Fn(&Path) -> bool,
) -> Result<(), String> {
    if to.contains("://") || to.starts_with("mailto:") {
        return Ok(());
    }
    let target = resolved(from, to).ok_or("the link leaves the project")?;
    if !exists(&target) {
        return Err(format!("there is no {}", target.display()));
    }
    let is_page = target.extension().is_some_and(|extension| extension == "md");
    if from.starts_with(BOOK) && !(target.starts_with(BOOK) && (!is_page || is_in_book(&target))) {
        return Err("the link leaves the book, so it would be broken there: name the file as code".to_owned());
    }
    match (to.split_once('#'), pages.get(&target)) {
        (Some((_, anchor)), Some(page)) if !page.anchors.contains(anchor) => {
            Err(format!("{} has no heading with this anchor", target.display()))
        }
        _ => Ok(()),
    }
}

/// Returns the file that a link points to, as a path below the root; `None` if it is outside of the project.
fn resolved(from: &Path, to: &str) -> Option<PathBuf> {
    let file = to.split('#').next().unwrap_or_default();
    if file.is_empty() {
        return Some(from.to_owned());
    }
    let mut path = from.parent()?.to_owned();
    for part in Path::new(file).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong_in(files: &[(&str, &str)]) -> Vec<String> {
        let pages: Pages = files.iter().map(|(path, text)| (PathBuf::from(path), Page::read(text))).collect();
        wrong(&pages, &|path| pages.contains_key(path) || path == Path::new("LICENSE"))
    }

    #[test]
    fn links_that_resolve_are_not_named() {
        let files = [
            ("README.md", "[a](docs/a.md#one) [b](LICENSE) [c](https://example.invalid/x.md#y) [d](#e)\n# E"),
            ("docs/SUMMARY.md", "- [A](a.md)\n- [B](deep/b.md)"),
            ("docs/a.md", "# One\n[b](deep/b.md)"),
            ("docs/deep/b.md", "[a](../a.md#one)"),
        ];
        assert_eq!(wrong_in(&files), Vec::<String>::new());
    }

    #[test]
    fn each_broken_link_is_named_with_its_line() {
        let files = [
            ("README.md", "[a](docs/none.md)\n\n[b](docs/a.md#none)\n\n[c](../x.md)"),
            ("docs/SUMMARY.md", "[A](a.md)"),
            ("docs/a.md", "[r](../README.md)\n\n[o](orphan.md)"),
            ("docs/orphan.md", ""),
        ];
        let expected = [
            "README.md:1: docs/none.md: there is no docs/none.md",
            "README.md:3: docs/a.md#none: docs/a.md has no heading with this anchor",
            "README.md:5: ../x.md: the link leaves the project",
            "docs/a.md:1: ../README.md: the link leaves the book, so it would be broken there: name the file as code",
            "docs/a.md:3: orphan.md: the link leaves the book, so it would be broken there: name the file as code",
            "docs/orphan.md: docs/SUMMARY.md does not list this page",
        ];
        assert_eq!(wrong_in(&files), expected);
    }
}
