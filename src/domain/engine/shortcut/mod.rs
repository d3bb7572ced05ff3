//! Shortcuts for prices that change nothing. The slow way is their oracle in builds with debug assertions.

pub mod bands;
pub(crate) mod many_prices;
pub mod price_run;
