//! From files to entries: reading, sorting, memory, standard input, and the journal.

#[path = "../support/mod.rs"]
mod support;

mod endless_line;
mod fixture;
mod former_stream;
mod journal;
mod lines;
mod live;
mod memory;
mod one_pass;
mod order;
mod refused;
mod stdin;
