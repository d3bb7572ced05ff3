//! `book`: the documentation in `docs/` as a book, and the links of all Markdown files.
//!
//! In reading order: `task` has mdBook build the book; tests check the `proofs` of the incidents, the `links` on each
//! `page`, and the `pointers` into the code.
//!
//! mdBook is built by `cargo install`, as cargo-deny is: as a library it would bring 50 crates into `Cargo.lock`, with
//! a licence of its own, and the lints of all features would compile them once more. Link checkers of the registry
//! bring 250 to 400 crates, most of them for links to the network; ours needs the Markdown parser that mdBook uses.

mod task;

#[cfg(test)]
mod links;
#[cfg(test)]
mod page;
#[cfg(test)]
mod pointers;
#[cfg(test)]
mod proofs;

pub use task::{build, run};
