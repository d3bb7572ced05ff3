//! The reasons why a page cannot be shown.

use std::error::Error;

use crate::codec::state::BadRow;
use crate::drive::explain::{ExplainError, UnknownSymbol};
use crate::drive::film::{FilmError, TooEarly};
use crate::drive::keys::KeyError;
use crate::drive::stop::Stopped;
use crate::drive::whatif::{SumsError, WhatIfError};

/// A page that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// A position, decision or entry does not exist at the moment.
    #[error("{0}")]
    NotFound(String),
    #[error(transparent)]
    TooEarly(#[from] TooEarly),
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// An error that no address and no patience of the reader would avoid.
    #[error(transparent)]
    Failed(Box<dyn Error + Send + Sync>),
}

impl PageError {
    pub(super) fn failed(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Failed(error.into())
    }
}

impl From<FilmError> for PageError {
    fn from(error: FilmError) -> Self {
        match error {
            FilmError::TooEarly(early) => Self::TooEarly(early),
            FilmError::Stopped(stopped) => Self::Stopped(stopped),
            other => Self::failed(other),
        }
    }
}

impl From<ExplainError> for PageError {
    fn from(error: ExplainError) -> Self {
        match error {
            ExplainError::Stopped(stopped) => Self::Stopped(stopped),
            other => Self::failed(other),
        }
    }
}

impl From<WhatIfError> for PageError {
    fn from(error: WhatIfError) -> Self {
        match error {
            WhatIfError::Stopped(stopped) => Self::Stopped(stopped),
            other => Self::failed(other),
        }
    }
}

impl From<UnknownSymbol> for PageError {
    fn from(error: UnknownSymbol) -> Self {
        Self::failed(error)
    }
}

impl From<SumsError> for PageError {
    fn from(error: SumsError) -> Self {
        Self::failed(error)
    }
}

impl From<BadRow> for PageError {
    fn from(error: BadRow) -> Self {
        Self::failed(error)
    }
}

impl From<KeyError> for PageError {
    fn from(error: KeyError) -> Self {
        Self::failed(error)
    }
}

impl From<serde_json::Error> for PageError {
    fn from(error: serde_json::Error) -> Self {
        Self::failed(error)
    }
}

impl From<askama::Error> for PageError {
    fn from(error: askama::Error) -> Self {
        Self::failed(error)
    }
}
