//! The published contract: the JSON Schemas of `schemas/`, included in the program.
//!
//! Promises: the same text as the files, sorted by name. It validates nothing: reading is tolerant and does not depend
//! on a schema (docs/spec/streams.md, "Reading any entry").

/// One JSON Schema of `schemas/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schema {
    /// Kind and version, `trade.intent.v1`: the file name without `.json`.
    pub name: &'static str,
    /// The file, byte for byte.
    pub text: &'static str,
}

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        &[$(Schema { name: $name, text: include_str!(concat!("../../schemas/", $name, ".json")) }),*]
    };
}

const ALL: &[Schema] = embedded![
    "apply.plan.v1",
    "apply.result.v1",
    "apply.result.v2",
    "audit.report.v1",
    "common.v1",
    "doctor.v1",
    "explanation.v1",
    "harvest.control.v1",
    "harvest.decision.v1",
    "harvest.observation.v1",
    "harvest.policy.v1",
    "harvest.quarantine.v1",
    "harvest.suggestions.v1",
    "history-line.v1",
    "market.tick.v1",
    "order.request.apply_plan.v1",
    "order.request.trade_intent.v1",
    "position.snapshot.v1",
    "positions.v1",
    "replay.summary.v1",
    "status.v1",
    "trade.intent.v1",
];

/// Returns every schema, by name.
pub fn all() -> &'static [Schema] {
    ALL
}

/// Returns the schema of this name, with or without `.json`.
pub fn find(name: &str) -> Option<&'static Schema> {
    let name = name.strip_suffix(".json").unwrap_or(name);
    ALL.iter().find(|schema| schema.name == name)
}

/// Returns the schema that a mistyped `name` most likely means: one whose name contains it, or else one a few edits
/// away.
pub fn nearest(name: &str) -> Option<&'static Schema> {
    let name = name.strip_suffix(".json").unwrap_or(name).to_lowercase();
    let within = ALL.iter().find(|schema| !name.is_empty() && schema.name.contains(&name));
    within.or_else(|| find(super::policy::nearest(&name, ALL.iter().map(|schema| schema.name))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_distinct() {
        assert!(all().windows(2).all(|pair| pair[0].name < pair[1].name));
    }

    #[test]
    fn a_schema_is_found_with_and_without_its_extension() {
        assert_eq!(find("apply.result.v2").map(|s| s.name), Some("apply.result.v2"));
        assert_eq!(find("apply.result.v2.json"), find("apply.result.v2"));
        assert_eq!(find("apply.result"), None);
        assert_eq!(find(""), None);
    }

    #[test]
    fn the_nearest_name_is_the_one_that_was_meant() {
        let meant = [
            ("trade.intents.v1", "trade.intent.v1"),
            ("trade.intent.v2", "trade.intent.v1"),
            ("Apply.Plan", "apply.plan.v1"),
            ("snapshot", "position.snapshot.v1"),
            ("posititons.v1.json", "positions.v1"),
            ("history_line.v1", "history-line.v1"),
        ];
        for (written, name) in meant {
            assert_eq!(nearest(written).map(|schema| schema.name), Some(name), "{written}");
        }
        assert_eq!(nearest("what schemas are there?"), None);
        assert_eq!(nearest(""), None);
    }
}
