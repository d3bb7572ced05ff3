//! The policy for dependencies, `deny.toml`.

use crate::command::{program, run};
use crate::tool::Tool;

const CARGO_DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2", features: &[] };

/// Checks licences, bans and sources. Advisories are not checked: see `deny.toml`.
pub fn check() -> anyhow::Result<()> {
    run(program(CARGO_DENY.path()?)
        .args(["--locked", "--workspace", "check", "--hide-inclusion-graph"])
        .args(["licenses", "bans", "sources"]))
}
