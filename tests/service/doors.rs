//! What outsiders may do to the program: connections, bytes, names, files. Nothing that they send, write or hold open ends it,
//! takes what it needs, or speaks in its name.

mod doctor;
mod files;
mod names;
mod nesting;
mod pages;
