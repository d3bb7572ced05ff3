//! Access from outside: connections, bytes, names, files. Nothing that others send, write or keep open ends the
//! program, uses up its resources, or writes in its name.

mod doctor;
mod files;
mod names;
mod nesting;
mod pages;
