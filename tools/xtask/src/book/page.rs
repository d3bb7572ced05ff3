//! One Markdown file: its links, and the anchors of its headings.

use std::collections::BTreeSet;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// A link, and the line where it is.
#[derive(Debug, PartialEq, Eq)]
pub struct Link {
    pub line: usize,
    pub to: String,
}

#[derive(Debug, Default)]
pub struct Page {
    pub links: Vec<Link>,
    pub anchors: BTreeSet<String>,
}

impl Page {
    /// Reads a file's text. Links in code are text and do not count.
    pub fn read(text: &str) -> Self {
        let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_FOOTNOTES;
        let mut page = Self::default();
        let mut heading: Option<String> = None;
        for (event, range) in Parser::new_ext(text, options).into_offset_iter() {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::End(TagEnd::Heading(_)) => page.add_anchor(&heading.take().unwrap_or_default()),
                Event::Text(part) | Event::Code(part) => {
                    if let Some(heading) = &mut heading {
                        heading.push_str(&part);
                    }
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    let line = text[..range.start].matches('\n').count() + 1;
                    page.links.push(Link { line, to: dest_url.into_string() });
                }
                _ => {}
            }
        }
        page
    }

    /// Adds the anchor of a heading. The second heading with the same text gets a number, as in mdBook.
    fn add_anchor(&mut self, heading: &str) {
        let anchor = anchor(heading);
        let numbered = (1..).map(|n| format!("{anchor}-{n}"));
        let free = std::iter::once(anchor.clone()).chain(numbered).find(|name| !self.anchors.contains(name));
        self.anchors.extend(free);
    }
}

/// Returns the anchor that mdBook and the usual forges make of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter_map(|c| match c {
        c if c.is_whitespace() => Some('-'),
        c if c.is_alphanumeric() || matches!(c, '_' | '-') => Some(c),
        _ => None,
    });
    kept.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_are_numbered_where_headings_repeat() {
        let page = Page::read("# The `fold`, §4\n\n## Hold\n\n## Hold\n");
        assert_eq!(page.anchors, ["hold", "hold-1", "the-fold-4"].map(str::to_owned).into());
    }

    #[test]
    fn links_in_tables_count_and_links_in_code_do_not() {
        let page = Page::read("| a |\n|---|\n| [x](y.md#z) |\n\n`[n](no.md)`\n\n```text\n[n](no.md)\n```\n");
        assert_eq!(page.links, [Link { line: 3, to: "y.md#z".to_owned() }]);
    }
}
