//! `harvester import-hashes`: converts the hashes of the old service to history, once, at a migration.
//!
//! It is the weakest source: it supplies only what no other source has, and opens no position
//! (docs/spec/streams/observation.md, "Legacy position"). A value that is not believed is reported with the reason.

use std::collections::BTreeMap;
use std::io::Write;

use rust_decimal::Decimal;
use serde::Serialize;

use super::backfill::Legacy;
use crate::codec::hashes::{self, Disbelief, LegacyPosition};
use crate::codec::number;
use crate::codec::observe::{self, LegacyRow};
use crate::codec::shown::shown;
use crate::config::Config;
use crate::config::flags::RedisFlag;
use crate::service::fetch::observation_stream;
use crate::service::server;
use crate::shell::redis::{HashText, Server};

/// Flags of the command.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Only these; else every hash with the configured prefix
    #[arg(value_name = "SYMBOL")]
    symbols: Vec<String>,
    #[command(flatten)]
    redis: RedisFlag,
    /// Show what would be appended
    #[arg(long)]
    dry_run: bool,
    /// One JSON document
    #[arg(long)]
    json: bool,
}

/// The result for one hash.
struct Imported {
    key: String,
    symbol: String,
    position: LegacyPosition,
    doubts: Vec<Disbelief>,
    /// Its observation, if there was something to append.
    entry: Option<String>,
}

pub fn run(args: &Args, config: &Config, out: &mut dyn Write) -> anyhow::Result<()> {
    let config = &args.redis.over(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let imported = runtime.block_on(import(args, config))?;
    show(args, &imported, Legacy::new(&config.backfill.hash_prefix).prefixes(), out)
}

async fn import(args: &Args, config: &Config) -> anyhow::Result<Vec<Imported>> {
    let mut server = Server::connect(&server::address(config)?).await?;
    let mut imported: Vec<Imported> = Vec::new();
    for prefix in Legacy::new(&config.backfill.hash_prefix).prefixes() {
        let symbols = match args.symbols.as_slice() {
            [] => server.symbol_hashes(prefix).await?,
            named => named.iter().map(|symbol| symbol.trim().to_uppercase()).collect(),
        };
        let keys: Vec<String> = symbols.iter().map(|symbol| format!("{prefix}{symbol}")).collect();
        let found = server.hashes(&keys).await?;
        let prices = prices(&mut server, &symbols).await?;
        for ((key, symbol), hash) in keys.into_iter().zip(symbols).zip(found) {
            if let Some(hash) = hash {
                imported.push(read(key, symbol, &hash, &prices));
            }
        }
    }
    append(&mut server, args, config, &mut imported).await?;
    Ok(imported)
}

/// Reads the present prices from the feed's hashes, whatever their age: they only serve to detect absurd values.
async fn prices(server: &mut Server, symbols: &[String]) -> anyhow::Result<BTreeMap<String, Decimal>> {
    let names: Vec<&str> = symbols.iter().map(String::as_str).collect();
    let texts = server.price_hashes(&names).await?;
    let positive =
        |text: &Option<String>| number::decimal(text.as_deref()?).ok().filter(|price| *price > Decimal::ZERO);
    let known = symbols.iter().zip(&texts).filter_map(|(symbol, texts)| {
        Some((symbol.clone(), positive(&texts.ticker.price).or_else(|| positive(&texts.market.price))?))
    });
    Ok(known.collect())
}

fn read(key: String, symbol: String, hash: &HashText, prices: &BTreeMap<String, Decimal>) -> Imported {
    let (position, doubts) = hashes::legacy_position(hash, prices.get(&symbol).copied());
    Imported { key, symbol, position, doubts, entry: None }
}

async fn append(server: &mut Server, args: &Args, config: &Config, imported: &mut [Imported]) -> anyhow::Result<()> {
    let text = |value: Option<Decimal>| value.map(|value| value.normalize().to_string());
    let observations: Vec<_> = imported
        .iter()
        .map(|hash| {
            let position = &hash.position;
            position.has_something().then(|| {
                observe::legacy(&LegacyRow {
                    symbol: &hash.symbol,
                    side: position.side,
                    quantity: text(position.quantity),
                    entry_price: text(position.entry_price),
                    atr_value: text(position.atr_value),
                    volatility_factor: text(position.volatility_factor),
                })
            })
        })
        .collect();
    let entries: Vec<Vec<(&str, &str)>> = observations.iter().flatten().map(|o| o.fields().to_vec()).collect();
    let ids = if args.dry_run {
        vec!["not appended".to_owned(); entries.len()]
    } else {
        let ids = server.add_all(observation_stream(&config.streams), &entries).await?;
        ids.into_iter().map(|id| id.to_string()).collect()
    };
    let mut ids = ids.into_iter();
    for (hash, observation) in imported.iter_mut().zip(&observations) {
        if observation.is_some() {
            hash.entry = ids.next();
        }
    }
    Ok(())
}

fn show(args: &Args, imported: &[Imported], prefixes: &[String], out: &mut dyn Write) -> anyhow::Result<()> {
    let appended = imported.iter().filter(|hash| hash.entry.is_some()).count();
    let doubts: usize = imported.iter().map(|hash| hash.doubts.len()).sum();
    if args.json {
        let document = Document {
            hashes: imported.len(),
            appended,
            not_believed: doubts,
            dry_run: args.dry_run,
            list: imported.iter().map(HashDocument::of).collect(),
        };
        return super::json::write(out, &document);
    }
    for hash in imported {
        let position = &hash.position;
        let field = |name: &str, value: Option<Decimal>| value.map(|value| format!("{name}={}", value.normalize()));
        let fields = [
            field("entry_price", position.entry_price),
            field("atr", position.atr_value),
            field("vol", position.volatility_factor),
        ];
        let fields: Vec<String> = fields.into_iter().flatten().collect();
        match &hash.entry {
            Some(entry) => writeln!(out, "[OK] {}: {} (legacy {entry})", shown(&hash.key), shown(&fields.join(" ")))?,
            None => writeln!(out, "[SKIP] {}: nothing in it to believe", shown(&hash.key))?,
        }
        for doubt in &hash.doubts {
            writeln!(out, "      {}={:?} is not believed: {}", doubt.field, doubt.value, doubt.why)?;
        }
    }
    let dry = if args.dry_run { " (dry run: nothing was appended)" } else { "" };
    if imported.is_empty() {
        writeln!(out, "[IMPORT] no key of a position begins with {}{dry}", prefixes.join(" or "))?;
        return Ok(());
    }
    writeln!(out, "[IMPORT] {} hashes / appended {appended} / not believed {doubts} fields{dry}", imported.len())?;
    Ok(())
}

/// The document of `--json`.
#[derive(Serialize)]
struct Document<'a> {
    hashes: usize,
    appended: usize,
    not_believed: usize,
    dry_run: bool,
    list: Vec<HashDocument<'a>>,
}

#[derive(Serialize)]
struct HashDocument<'a> {
    key: &'a str,
    symbol: &'a str,
    side: Option<&'static str>,
    quantity: Option<String>,
    entry_price: Option<String>,
    atr_value: Option<String>,
    volatility_factor: Option<String>,
    entry: Option<&'a str>,
    not_believed: Vec<DoubtDocument<'a>>,
}

#[derive(Serialize)]
struct DoubtDocument<'a> {
    field: &'a str,
    value: &'a str,
    why: &'a str,
}

impl<'a> HashDocument<'a> {
    fn of(hash: &'a Imported) -> Self {
        let text = |value: Option<Decimal>| value.map(|value| value.normalize().to_string());
        let doubt = |doubt: &'a Disbelief| DoubtDocument { field: doubt.field, value: &doubt.value, why: &doubt.why };
        Self {
            key: &hash.key,
            symbol: &hash.symbol,
            side: hash.position.side,
            quantity: text(hash.position.quantity),
            entry_price: text(hash.position.entry_price),
            atr_value: text(hash.position.atr_value),
            volatility_factor: text(hash.position.volatility_factor),
            entry: hash.entry.as_deref(),
            not_believed: hash.doubts.iter().map(doubt).collect(),
        }
    }
}
