//! Tests of the rules: replay cases, tables, properties, bad input, published schemas, and the structure of the code.

#[path = "../support/mod.rs"]
mod support;

mod account;
mod bad_input;
mod books;
mod cases;
mod cells;
mod delivery;
mod frames;
mod fuzz_corpus;
mod hash_seeds;
mod limits;
mod properties;
mod reader;
mod schemas;
mod shortcuts;
mod split;
mod story;
mod tables;
mod takeover;
mod venues;
mod wall;
mod words;
