//! `harvester schema [NAME]`: the published contract on standard output.

use std::io::Write;

use anyhow::{Context, bail};

use crate::codec::schemas::{self, Schema};

/// Writes the schema called `name`, or without a name one line for each: name and title.
///
/// Errors if the name is unknown, and suggests the nearest one, if one is near.
pub fn run(name: Option<&str>, out: &mut dyn Write) -> anyhow::Result<()> {
    match name {
        None => list(out),
        Some(name) => match schemas::find(name) {
            Some(schema) => out.write_all(schema.text.as_bytes()).context("cannot write the schema"),
            None => match schemas::nearest(name) {
                Some(nearest) => bail!("no schema is called {name:?}; did you mean {:?}?", nearest.name),
                None => bail!("no schema is called {name:?}; `harvester schema` lists them"),
            },
        },
    }
}

fn list(out: &mut dyn Write) -> anyhow::Result<()> {
    let width = schemas::all().iter().map(|schema| schema.name.len()).max().unwrap_or(0);
    for schema in schemas::all() {
        writeln!(out, "{:width$}  {}", schema.name, title(schema)?).context("cannot write the list of schemas")?;
    }
    Ok(())
}

fn title(schema: &Schema) -> anyhow::Result<String> {
    #[derive(serde::Deserialize)]
    struct Titled {
        title: String,
    }
    let titled: Titled = serde_json::from_str(schema.text).with_context(|| format!("schema {}", schema.name))?;
    Ok(titled.title)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: Option<&str>) -> anyhow::Result<String> {
        let mut out = Vec::new();
        run(name, &mut out)?;
        Ok(String::from_utf8(out)?)
    }

    #[test]
    fn without_a_name_every_schema_has_one_line() {
        let list = written(None).unwrap();
        assert_eq!(list.lines().count(), schemas::all().len());
        assert!(list.lines().any(|l| l.starts_with("trade.intent.v1 ") && l.ends_with("  Signal to trade")), "{list}");
    }

    #[test]
    fn with_a_name_the_file_is_written_as_it_is() {
        assert_eq!(written(Some("history-line.v1")).unwrap(), schemas::find("history-line.v1").unwrap().text);
    }

    #[test]
    fn an_unknown_name_suggests_the_nearest() {
        let error = written(Some("aply.plan.v1")).unwrap_err().to_string();
        assert_eq!(error, r#"no schema is called "aply.plan.v1"; did you mean "apply.plan.v1"?"#);
        let error = written(Some("everything there is")).unwrap_err().to_string();
        assert_eq!(error, r#"no schema is called "everything there is"; `harvester schema` lists them"#);
    }
}
