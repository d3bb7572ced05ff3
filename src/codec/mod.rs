//! Bytes ↔ domain, pure. It is the only place that knows shapes, field names and schemas.

pub mod bounded;
pub mod causes;
pub mod depth;
pub mod moment;
pub mod number;
pub mod plural;
pub mod shown;
pub mod time;

pub mod hashes;
pub mod issue;
pub mod line;
pub mod object;
pub mod observe;
pub mod operator;

pub mod decode;
pub mod policy;

pub mod checksum;
pub mod fields;
pub mod journal;
pub mod live;
pub mod own_entry;
pub mod payload;
pub mod request;
pub mod scope;

pub mod exchange;

pub mod chain;
pub mod schemas;
pub mod seal;
pub mod signing;
pub mod snapshot;
pub mod state;
pub mod symbol;
pub mod view;
