//! `LOG_LEVEL`: the level of messages on standard error.

use tracing::level_filters::LevelFilter;

use super::origin::Origin;
use super::table::Sheet;

const NAME: &str = "LOG_LEVEL";

/// Reads the level. An unknown word adds a warning, and the default applies.
pub(super) fn read(sheet: &mut Sheet<'_>) -> LevelFilter {
    let (word, origin) = match sheet.environment.get(NAME) {
        Some(word) => (word, Origin::Environment(NAME)),
        None => ("info", Origin::Default),
    };
    let level = level_of(word).unwrap_or_else(|| {
        sheet
            .warnings
            .push(format!("{NAME} = {word:?} is not a level (off, error, warn, info, debug, trace): info is used"));
        LevelFilter::INFO
    });
    sheet.note("log_level".to_owned(), level.to_string().into(), origin);
    level
}

fn level_of(word: &str) -> Option<LevelFilter> {
    match word.to_ascii_lowercase().as_str() {
        // Words of Python's logging, which existing env files use.
        "warning" => Some(LevelFilter::WARN),
        "critical" | "fatal" => Some(LevelFilter::ERROR),
        word => word.parse().ok().filter(|_| !word.bytes().all(|byte| byte.is_ascii_digit())),
    }
}
