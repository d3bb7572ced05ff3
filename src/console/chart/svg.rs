//! SVG as text. Every text from outside goes through [`escaped`].

use std::fmt::Write as _;

/// Returns a text that is safe between tags and in attributes.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // XML has no other control characters.
            c if c.is_control() && !matches!(c, '\n' | '\t') => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// Returns a coordinate with one decimal place.
pub fn at(value: f64) -> String {
    let rounded = (value * 10.0).round() / 10.0;
    if rounded == 0.0 { "0".to_owned() } else { format!("{rounded}") }
}

/// A drawing that grows.
pub struct Svg {
    out: String,
}

impl Svg {
    /// Begins a drawing that reads as `label`.
    pub fn new(class: &str, size: (f64, f64), label: &str) -> Self {
        Self::with_role("img", class, size, label)
    }

    /// Begins a drawing that contains links. It is a group, because the content of an image is not read.
    pub fn with_links(class: &str, size: (f64, f64), label: &str) -> Self {
        Self::with_role("group", class, size, label)
    }

    fn with_role(role: &str, class: &str, (width, height): (f64, f64), label: &str) -> Self {
        let mut out = String::new();
        let _ = write!(
            out,
            "<svg class=\"{class}\" viewBox=\"0 0 {} {}\" role=\"{role}\" aria-label=\"{}\" xmlns=\"http://www.w3.org/2000/svg\">",
            at(width),
            at(height),
            escaped(label)
        );
        Self { out }
    }

    pub fn line(&mut self, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
        let _ = write!(
            self.out,
            "<line class=\"{class}\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>",
            at(x1),
            at(y1),
            at(x2),
            at(y2)
        );
    }

    pub fn rect(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64), title: &str) {
        let _ = write!(
            self.out,
            "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"",
            at(x),
            at(y),
            at(width.max(0.0)),
            at(height.max(0.0))
        );
        self.ended("rect", title);
    }

    pub fn path(&mut self, class: &str, d: &str, title: &str) {
        let _ = write!(self.out, "<path class=\"{class}\" d=\"{d}\"");
        self.ended("path", title);
    }

    pub fn circle(&mut self, class: &str, (x, y): (f64, f64), r: f64, title: &str) {
        let _ = write!(self.out, "<circle class=\"{class}\" cx=\"{}\" cy=\"{}\" r=\"{}\"", at(x), at(y), at(r));
        self.ended("circle", title);
    }

    /// Writes a text. `anchor` is `start`, `middle` or `end`.
    pub fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: &str, text: &str) {
        let _ = write!(
            self.out,
            "<text class=\"{class}\" x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            at(x),
            at(y),
            escaped(text)
        );
    }

    /// Writes a text with a title that says more; a title that says the same is left out.
    pub fn titled_text(&mut self, class: &str, place: (f64, f64), anchor: &str, text: &str, title: &str) {
        self.text(class, place, anchor, text);
        if title != text {
            self.out.truncate(self.out.len() - "</text>".len());
            let _ = write!(self.out, "<title>{}</title></text>", escaped(title));
        }
    }

    /// Begins a link that reads as `label`, up to [`Self::end_link`].
    pub fn begin_link(&mut self, href: &str, label: &str) {
        let _ = write!(self.out, "<a href=\"{}\" aria-label=\"{}\">", escaped(href), escaped(label));
    }

    pub fn end_link(&mut self) {
        self.out.push_str("</a>");
    }

    fn ended(&mut self, name: &str, title: &str) {
        if title.is_empty() {
            self.out.push_str("/>");
        } else {
            let _ = write!(self.out, "><title>{}</title></{name}>", escaped(title));
        }
    }

    pub fn finish(mut self) -> String {
        self.out.push_str("</svg>");
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_markup_stay_text() {
        let mut svg = Svg::new("c", (10.0, 10.0), "<b>\"x\"</b>");
        svg.text("t", (0.04, 1.26), "start", "<script>'&\u{1}</script>");
        svg.begin_link("/p?a=1&b=\"", "<i>");
        svg.end_link();
        assert_eq!(
            svg.finish(),
            "<svg class=\"c\" viewBox=\"0 0 10 10\" role=\"img\" aria-label=\"&lt;b&gt;&quot;x&quot;&lt;/b&gt;\" \
             xmlns=\"http://www.w3.org/2000/svg\"><text class=\"t\" x=\"0\" y=\"1.3\" text-anchor=\"start\">\
             &lt;script&gt;&#39;&amp;\u{fffd}&lt;/script&gt;</text><a href=\"/p?a=1&amp;b=&quot;\" aria-label=\"&lt;i&gt;\"></a></svg>"
        );
    }
}
