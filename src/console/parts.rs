//! The parts of a page that change on their own: only the parts that differ between two renderings are sent.
//!
//! A template marks a part with comments inside an element that has the same name. Parts may be inside parts:
//!
//! ```html
//! <tbody data-part="rows"><!--[rows-->…<!--rows]--></tbody>
//! ```
//!
//! A text between the marks `<!--~-->` and `<!--/~-->` is an age: it changes with the clock alone, the browser counts it
//! itself, and no part is sent because of it.
//!
//! Values are escaped, so no value can contain a mark.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

const OPENS: &str = "<!--[";
const ENDS: &str = "-->";
const AGE: &str = "<!--~-->";
const AGE_ENDS: &str = "<!--/~-->";

/// A part of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub name: String,
    /// Its content, with all parts inside it.
    pub html: Arc<str>,
    /// The version of the page in which its own text, without the parts inside it, changed last. [1]
    changed: u64,
    /// Digest of its own text.
    own: u64,
    inner: Vec<Piece>,
}

/// Reads the parts of a page.
pub fn pieces(html: &str) -> Vec<Piece> {
    read(html).1
}

/// Returns the digest of a text without its parts, and the parts.
fn read(mut html: &str) -> (u64, Vec<Piece>) {
    let (mut own, mut inner) = (DefaultHasher::new(), Vec::new());
    while let Some((before, name, within, after)) = next(html) {
        hash_without_ages(before, &mut own);
        name.hash(&mut own);
        let (of_piece, of_inner) = read(within);
        inner.push(Piece { name: name.to_owned(), html: within.into(), changed: 0, own: of_piece, inner: of_inner });
        html = after;
    }
    hash_without_ages(html, &mut own);
    (own.finish(), inner)
}

fn hash_without_ages(mut html: &str, own: &mut DefaultHasher) {
    while let Some((before, rest)) = html.split_once(AGE) {
        before.hash(own);
        html = rest.split_once(AGE_ENDS).map_or("", |(_, after)| after);
    }
    html.hash(own);
}

/// Returns the first part of a text: the text before it, its name, its content, and the text after it.
fn next(html: &str) -> Option<(&str, &str, &str, &str)> {
    let (before, rest) = html.split_once(OPENS)?;
    let (name, rest) = rest.split_once(ENDS)?;
    let (within, after) = rest.split_once(&format!("<!--{name}]-->"))?;
    Some((before, name, within, after))
}

/// Notes in the parts of a new version when each of them changed last.
pub fn carry_over(pieces: &mut [Piece], before: &[Piece], version: u64) {
    for (place, piece) in pieces.iter_mut().enumerate() {
        // Most parts are where they were in the last version.
        let same_place = before.get(place).filter(|known| known.name == piece.name);
        let known = same_place.or_else(|| before.iter().find(|known| known.name == piece.name));
        piece.changed = known.filter(|known| known.own == piece.own).map_or(version, |known| known.changed);
        carry_over(&mut piece.inner, known.map_or(&[], |known| &known.inner), version);
    }
}

/// Returns the parts that changed after a version: the smallest ones that contain all changes.
pub fn since<'a>(pieces: &'a [Piece], version: u64, found: &mut Vec<&'a Piece>) {
    for piece in pieces {
        if piece.changed > version {
            found.push(piece);
        } else {
            since(&piece.inner, version, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(title: &str, rows: &[&str]) -> String {
        let rows: Vec<String> =
            (1..).zip(rows).map(|(n, row)| format!("<tr><!--[row-{n}-->{row}<!--row-{n}]--></tr>")).collect();
        format!("<h1><!--[title-->{title}<!--title]--></h1><main><!--[page-->a{}b<!--page]--></main>", rows.concat())
    }

    #[test]
    fn an_age_alone_changes_no_part() {
        let row = |since: u64, age: &str| format!("<td data-since=\"{since}\"><!--~-->{age}<!--/~--></td>");
        let mut before = pieces(&page("now", &[&row(1, "2.0s"), "3"]));
        carry_over(&mut before, &[], 1);
        let changed = |row: String| {
            let mut later = pieces(&page("now", &[&row, "3"]));
            carry_over(&mut later, &before, 2);
            let mut found = Vec::new();
            since(&later, 1, &mut found);
            found.into_iter().map(|piece| piece.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(changed(row(1, "3.0s")), [""; 0]);
        assert_eq!(changed(row(2, "0.0s")), ["row-1"]);
    }

    #[test]
    fn only_the_smallest_parts_that_changed_are_sent() {
        let mut versions: Vec<Vec<Piece>> = Vec::new();
        for (version, html) in (1..).zip([
            page("now", &["1", "2"]),
            page("now", &["1", "3"]),
            page("now", &["1", "3", "4"]),
            page("later", &["1", "3", "4"]),
        ]) {
            let mut next = pieces(&html);
            carry_over(&mut next, versions.last().map_or(&[], Vec::as_slice), version);
            versions.push(next);
        }
        let changes = |at: usize, since_version| {
            let mut found = Vec::new();
            since(&versions[at], since_version, &mut found);
            found.into_iter().map(|piece| (&*piece.name, &*piece.html)).collect::<Vec<_>>()
        };
        assert_eq!(changes(0, 0).iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["title", "page"]);
        assert_eq!(changes(0, 1), []);
        assert_eq!(changes(1, 1), [("row-2", "3")]);
        let whole = "a<tr><!--[row-1-->1<!--row-1]--></tr><tr><!--[row-2-->3<!--row-2]--></tr><tr><!--[row-3-->4<!--row-3]--></tr>b";
        assert_eq!(changes(2, 2), [("page", whole)], "another row changes the table");
        assert_eq!(changes(2, 1), [("page", whole)], "two versions at a time");
        assert_eq!(changes(3, 3), [("title", "later")]);
        assert_eq!(changes(3, 4), []);
    }
}
