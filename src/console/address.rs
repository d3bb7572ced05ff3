//! Addresses of pages: a path and a query that contains the whole state of the page.

use std::fmt;

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

/// Characters that are encoded in a value. Colons, commas and at signs stay readable.
const VALUE: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'&')
    .add(b'+')
    .add(b'<')
    .add(b'>')
    .add(b'%')
    .add(b'=')
    .add(b'\'')
    .add(b'`');
/// Characters that are encoded in one part of a path.
const PART: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'@').remove(b':');

/// An address on this server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Address {
    path: String,
    query: Vec<(String, String)>,
    /// The id of a part of the page; empty for its beginning.
    part: &'static str,
}

impl Address {
    pub fn new(path: impl Into<String>, query: Vec<(String, String)>) -> Self {
        Self { path: path.into(), query: query.into_iter().filter(|(_, value)| !value.is_empty()).collect(), part: "" }
    }

    /// Returns the address with a parameter set; an empty value removes it.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.query.retain(|(known, _)| known != name);
        if !value.is_empty() {
            self.query.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Returns the address of a part of the page.
    #[must_use]
    pub fn at_part(self, part: &'static str) -> Self {
        Self { part, ..self }
    }

    /// Returns the parameters.
    pub fn query(&self) -> &[(String, String)] {
        &self.query
    }

    pub fn path(&self) -> &str {
        &self.path
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        for (place, (name, value)) in self.query.iter().enumerate() {
            let mark = if place == 0 { '?' } else { '&' };
            write!(f, "{mark}{}={}", utf8_percent_encode(name, VALUE), utf8_percent_encode(value, VALUE))?;
        }
        if self.part.is_empty() { Ok(()) } else { write!(f, "#{}", self.part) }
    }
}

/// Encodes a name as one part of a path.
pub fn part(name: &str) -> String {
    utf8_percent_encode(name, PART).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_state_and_encodes_what_would_end_it() {
        let address = Address::new("/console/positions", vec![("hold".into(), "no_price".into())]);
        assert_eq!(address.to_string(), "/console/positions?hold=no_price");
        let sorted = address.with("sort", "r_net").with("at", "2 hours ago").with("hold", "");
        assert_eq!(sorted.to_string(), "/console/positions?sort=r_net&at=2%20hours%20ago");
        let lower = sorted.with("at", "").at_part("filter");
        assert_eq!(lower.to_string(), "/console/positions?sort=r_net#filter");
        let markup = Address::new("/p", Vec::new()).with("q", "\"><script>&x=1#");
        assert_eq!(markup.to_string(), "/p?q=%22%3E%3Cscript%3E%26x%3D1%23");
        assert_eq!(part("A/B?<i>@1-0/2"), "A%2FB%3F%3Ci%3E@1-0%2F2");
    }
}
