//! One JSON document on standard output.

use std::io::Write;

use serde::Serialize;

/// Writes a document, with the keys of each object in alphabetical order.
pub(super) fn write(out: &mut dyn Write, document: &impl Serialize) -> anyhow::Result<()> {
    writeln!(out, "{}", serde_json::to_string_pretty(&serde_json::to_value(document)?)?)?;
    Ok(())
}
