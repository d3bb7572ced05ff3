//! Exit code 1: a check did its work and found something.

/// What a check found, in one sentence for standard error; the findings themselves are on standard output.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Found(pub String);
