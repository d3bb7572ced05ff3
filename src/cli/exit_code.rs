//! Exit code 1: a check was completed and has a finding.

/// The finding of a check, in one sentence for standard error; the details are on standard output.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Found(pub String);
