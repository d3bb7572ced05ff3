//! `harvester config`: the effective settings, and the origin of each.

use std::io::Write;

use serde::Serialize;

use crate::config::flags::RunFlags;
use crate::config::{Config, Origin, Setting};
use crate::domain::engine::RULES_VERSION;
use crate::shell::terminal::{Screen, Tone};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    flags: RunFlags,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// Shows all effective settings. Errors afterwards if the service would not start with them.
pub fn run(args: &Args, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let config = args.flags.over(config)?;
    if args.json {
        super::json::write(out, &Document::of(&config))?;
    } else {
        show(&config, &mut Screen::stdout(out))?;
    }
    out.flush()?;
    config.live()?;
    config.emit.signing_key()?;
    config.emit.former_keys()?;
    Ok(())
}

/// The document of `--json`.
#[derive(Serialize)]
struct Document<'a> {
    version: &'static str,
    rules: &'static str,
    mode: &'static str,
    policy_hash: &'a str,
    settings_hash: String,
    settings: &'a [Setting],
    warnings: &'a [String],
}

impl<'a> Document<'a> {
    fn of(config: &'a Config) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            rules: RULES_VERSION,
            mode: config.policy.mode.name(),
            policy_hash: &config.policy.hash,
            settings_hash: config.hash(),
            settings: &config.settings,
            warnings: &config.warnings,
        }
    }
}

fn show(config: &Config, screen: &mut Screen<'_>) -> anyhow::Result<()> {
    screen.heading(&format!(
        "harvester {}, rules {RULES_VERSION}, mode {}",
        env!("CARGO_PKG_VERSION"),
        config.policy.mode.name()
    ))?;
    screen.line(&format!("policy   {}", config.policy.hash))?;
    screen.line(&format!("settings {}", config.hash()))?;
    screen.line("")?;
    let cells = |setting: &Setting| {
        let tone = if setting.origin == Origin::Default { Tone::Dim } else { Tone::Plain };
        vec![(setting.key.clone(), Tone::Plain), (setting.shown(), tone), (setting.origin.to_string(), tone)]
    };
    screen.table(&["SETTING", "VALUE", "FROM"], &[], config.settings.iter().map(cells).collect())?;
    if let Err(reason) = config.exchange.given() {
        screen.line("")?;
        screen.line(&format!("no signed calls of the exchange: {reason}"))?;
    }
    Ok(())
}
