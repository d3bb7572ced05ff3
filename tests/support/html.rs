//! A strict parser of our own pages: tags must be closed in order, attributes quoted, text escaped.

use std::collections::BTreeMap;

/// Elements without an end.
const VOID: [&str; 5] = ["meta", "link", "input", "br", "!doctype"];

/// An element with its text, which includes that of its descendants.
#[derive(Clone, Debug, Default)]
pub struct Element {
    pub name: String,
    pub attributes: BTreeMap<String, String>,
    pub text: String,
    /// Indexes of its ancestors, from the outermost.
    pub within: Vec<usize>,
}

impl Element {
    pub fn get(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    pub fn has_class(&self, class: &str) -> bool {
        self.get("class").split(' ').any(|of| of == class)
    }
}

/// All elements of a page, in the order of their beginnings.
pub struct Document(pub Vec<Element>);

impl Document {
    /// Parses a page. Panics with the line if it is not well-formed.
    pub fn read(page: &str) -> Self {
        let mut elements: Vec<Element> = Vec::new();
        let mut open: Vec<usize> = Vec::new();
        let mut rest = page;
        let place = |rest: &str| page[..page.len() - rest.len()].lines().count();
        while !rest.is_empty() {
            let Some(start) = rest.find('<') else {
                assert_eq!(rest.trim(), "", "text after the page");
                break;
            };
            let (text, tag) = rest.split_at(start);
            let text = unescaped(text);
            open.iter().for_each(|&at| elements[at].text.push_str(&text));
            if tag.starts_with("<!--") {
                let end = tag.find("-->").unwrap_or_else(|| panic!("line {}: a comment without an end", place(tag)));
                rest = &tag[end + 3..];
                continue;
            }
            let end = tag.find('>').unwrap_or_else(|| panic!("line {}: a tag without an end", place(tag)));
            let inner = &tag[1..end];
            rest = &tag[end + 1..];
            if let Some(name) = inner.strip_prefix('/') {
                let at = open.pop().unwrap_or_else(|| panic!("line {}: </{name}> ends nothing", place(tag)));
                assert_eq!(elements[at].name, name, "line {}: another element is open", place(tag));
                continue;
            }
            let (inner, is_closed) = inner.strip_suffix('/').map_or((inner, false), |inner| (inner, true));
            let (name, attributes) = inner.split_once(char::is_whitespace).unwrap_or((inner, ""));
            let attributes = attributes_of(attributes, place(tag));
            elements.push(Element { name: name.to_owned(), attributes, text: String::new(), within: open.clone() });
            if !is_closed && !VOID.contains(&&*name.to_lowercase()) {
                open.push(elements.len() - 1);
            }
        }
        let left: Vec<&str> = open.iter().map(|&at| &*elements[at].name).collect();
        assert!(left.is_empty(), "not closed: {left:?}");
        Self(elements)
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Element> {
        self.0.iter().filter(move |element| element.name == name)
    }

    pub fn with_class<'a>(&'a self, class: &'a str) -> impl Iterator<Item = &'a Element> {
        self.0.iter().filter(move |element| element.has_class(class))
    }

    /// Returns the cells of each row that has a link, with their text in one line.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let is_row = |element: &Element| element.name == "tr" && element.attributes.contains_key("data-href");
        let rows = self.0.iter().enumerate().filter(|(_, element)| is_row(element)).map(|(at, _)| at);
        let is_cell = |element: &&Element| matches!(&*element.name, "td" | "th");
        rows.map(|row| {
            let cells = self.0.iter().filter(|element| element.within.last() == Some(&row)).filter(is_cell);
            cells.map(|cell| cell.text.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
        })
        .collect()
    }

    /// Returns the cells of the first row whose head has this text.
    pub fn cells_of(&self, head: &str) -> Vec<String> {
        let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let is_head = |element: &&Element| element.name == "th" && line(&element.text) == head;
        let Some(row) = self.0.iter().find(is_head).and_then(|head| head.within.last()) else { return Vec::new() };
        let is_cell = |element: &&Element| matches!(&*element.name, "td" | "th");
        let cells = self.0.iter().filter(|element| element.within.last() == Some(row)).filter(is_cell);
        cells.map(|cell| line(&cell.text)).collect()
    }

    /// Returns the text of the main part.
    pub fn text(&self) -> &str {
        self.all("main").next().map_or("", |main| &main.text)
    }

    pub fn links(&self) -> Vec<String> {
        self.all("a").map(|link| link.get("href").to_owned()).collect()
    }
}

fn attributes_of(text: &str, line: usize) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest.find(['=', ' ']).unwrap_or(rest.len());
        let name = rest[..end].to_owned();
        let value = match rest[end..].strip_prefix("=\"") {
            None => {
                rest = rest[end..].trim_start();
                String::new()
            }
            Some(quoted) => {
                let close = quoted.find('"').unwrap_or_else(|| panic!("line {line}: {name} is not closed: {text}"));
                rest = quoted[close + 1..].trim_start();
                unescaped(&quoted[..close])
            }
        };
        assert!(!name.is_empty() && !name.contains(['"', '\'', '<']), "line {line}: the attributes {text}");
        assert!(attributes.insert(name, value).is_none(), "line {line}: an attribute twice: {text}");
    }
    attributes
}

/// Replaces the character references that our pages use. Panics at a bare `&`.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let end = rest[at..].find(';').unwrap_or_else(|| panic!("a bare & in {text}")) + at;
        out.push_str(match &rest[at..=end] {
            "&amp;" | "&#38;" => "&",
            "&lt;" | "&#60;" => "<",
            "&gt;" | "&#62;" => ">",
            "&quot;" | "&#34;" => "\"",
            "&#39;" => "'",
            other => panic!("{other} in {text}"),
        });
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}
