//! From the history of a futures trading system to trustworthy positions and harvest decisions.
//!
//! harvester reads entries of Redis Streams or of recorded files, folds them into positions in which every number has a
//! source, decides when to take profit on a part of a position, and writes each decision exactly once.
//!
//! ```text
//!  streams ─▶ reader ─▶ reorder buffer ─▶ decoder ─▶ engine ─▶ outbox ─▶ emitter ─▶ streams
//!                                           │         step = fold + decide
//!  files ───▶ merge ────────────────────────┤           │
//!                                           ▼           ▼
//!                                        journal      store
//!                                        (the log)    (a checkpoint of it)
//! ```
//!
//! # Layers, in reading order
//!
//! An arrow may skip downward, and never points up: [`cli`] (one file per command) → [`service`] (long-lived processes)
//! → [`console`] (web pages) → [`drive`] (histories and streams through the engine) → [`shell`] (effects) → [`codec`]
//! (bytes ↔ domain) → [`domain`] (pure rules). [`config`] is beside them.
//!
//! To read one entry from top to bottom: [`codec::decode`], then [`domain::engine::Engine::step`], which folds
//! ([`domain::book::apply`]) and decides ([`domain::exit`]). The contract is `docs/spec`, the map
//! `docs/architecture.md`.
//!
//! # Example
//!
//! A history of five entries: a plan, its execution, and three prices. The risk taken at entry is ATR 2 × factor 1 × 10
//! SOL = 20 USDT. At 101.1 the net gain is 10 × 1.1 − 1 (cost) = 10 USDT, which is 0.5 R: the first rung.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use harvester::cli::replay::{Request, replay};
//! use harvester::config::Config;
//!
//! let history = r#"
//! {"stream":"quantum:stream:apply.plan","id":"1770163200000-0","fields":{"plan_id":"p1","symbol":"SOLUSDT","side":"BUY","qty":"10","atr_value":"2","volatility_factor":"1"}}
//! {"stream":"quantum:stream:apply.result","id":"1770163201000-0","fields":{"plan_id":"p1","symbol":"SOLUSDT","side":"BUY","executedQty":"10","avgPrice":"100","orderId":"1","status":"FILLED"}}
//! {"stream":"quantum:stream:market.tick","id":"1770163202000-0","fields":{"symbol":"SOLUSDT","price":"100"}}
//! {"stream":"quantum:stream:market.tick","id":"1770163203000-0","fields":{"symbol":"SOLUSDT","price":"101"}}
//! {"stream":"quantum:stream:market.tick","id":"1770163204000-0","fields":{"symbol":"SOLUSDT","price":"101.1"}}
//! "#;
//! let file = std::env::temp_dir().join(format!("harvester-example-{}.jsonl", std::process::id()));
//! std::fs::write(&file, history)?;
//!
//! let mut decisions: Vec<String> = Vec::new();
//! let request = Request { histories: vec![file.clone()], ..Request::default() };
//! let defaults = Config::from_parts(None, BTreeMap::new())?;
//! let replayed = replay(&request, &defaults, &mut decisions)?;
//! std::fs::remove_file(&file)?;
//!
//! assert_eq!(replayed.summary.entries, 5);
//! assert_eq!(replayed.summary.positions_open, 1);
//! assert_eq!(decisions.len(), 1);
//! # Ok::<(), anyhow::Error>(())
//! ```

pub mod cli;
pub mod codec;
pub mod config;
pub mod console;
pub mod domain;
pub mod drive;
pub mod service;
pub mod shell;
