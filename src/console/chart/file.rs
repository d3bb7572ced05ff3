//! A chart as a file of its own: with its style, and without links, which lead nowhere outside of the console.

/// The style of the pages, of which a file takes the colours and the charts.
const STYLE: &str = include_str!("../assets/console.css");

/// Returns a chart as a file that any viewer can show.
pub fn alone(chart: &str) -> String {
    dressed(chart, &style())
}

/// Returns a chart in the light style with its colours written out: few programs except browsers know CSS variables.
#[cfg(feature = "png")]
pub fn light(chart: &str) -> String {
    let light = colours(0);
    let alone = dressed(chart, &rules());
    let variables = light.split_once('{').map_or("", |(_, variables)| variables).split(';');
    variables
        .filter_map(|line| line.trim().split_once(':'))
        .fold(alone, |text, (name, value)| text.replace(&format!("var({name})"), value.trim()))
}

fn dressed(chart: &str, style: &str) -> String {
    let chart = chart.replacen("class=\"chart wide\"", "class=\"chart\" width=\"1120\" font-size=\"12\"", 1);
    let without_links = without_links(&chart).replacen("role=\"group\"", "role=\"img\"", 1);
    let at = without_links.find('>').map_or(0, |end| end + 1);
    let (head, rest) = without_links.split_at(at);
    format!("{head}<style>{style}</style><rect class=\"paper\" width=\"100%\" height=\"100%\"/>{rest}\n")
}

/// Returns the rules of the style that concern charts, with the colours of both modes.
pub fn style() -> String {
    let light = colours(0);
    let dark = STYLE.find("@media (prefers-color-scheme: dark)").map_or("", colours);
    format!("{light}}}\n{dark}}}}}\n{}", rules())
}

/// Returns the block of variables that begins at this offset of the style, without its last brace.
fn colours(from: usize) -> &'static str {
    STYLE[from..].split_once('}').map_or("", |(colours, _)| colours)
}

fn rules() -> String {
    let is_of_chart = |line: &&str| line.starts_with(".chart");
    let rules: Vec<&str> = STYLE.lines().filter(is_of_chart).filter(|line| !line.contains("display")).collect();
    format!("{}\n.paper{{fill:var(--card)}}", rules.join("\n"))
}

fn without_links(chart: &str) -> String {
    let mut out = String::with_capacity(chart.len());
    let mut rest = chart;
    while let Some(at) = rest.find("<a ") {
        out.push_str(&rest[..at]);
        rest = rest[at..].split_once('>').map_or("", |(_, rest)| rest);
    }
    out.push_str(rest);
    out.replace("</a>", "")
}
