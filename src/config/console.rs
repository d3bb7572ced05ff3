//! `[console]`: the pages of the running service in a browser.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};

use super::emit::key_of_file;
use super::error::ConfigError;
use super::table::Sheet;

/// A shorter token can be guessed. [1]
pub const TOKEN_LETTERS_MIN: usize = 16;

/// Settings of the console.
#[derive(Clone, Debug)]
pub struct Console {
    pub enabled: bool,
    /// True if everybody who reaches the address may read, without a token.
    pub open: bool,
    /// Prefix of all addresses of the console, as `/ops`; empty for none.
    pub base_path: String,
    token: Option<SecretString>,
    token_file: Option<PathBuf>,
}

impl Console {
    /// Returns the token that a reader needs, from the environment or else from its file; `None` if there is none.
    pub fn token(&self) -> Result<Option<SecretString>, ConfigError> {
        let token = match (&self.token, self.token_file.as_deref()) {
            (Some(token), _) => token.clone(),
            (None, Some(path)) => key_of_file("console.token_file", path)?,
            (None, None) => return Ok(None),
        };
        if token.expose_secret().chars().count() < TOKEN_LETTERS_MIN {
            return Err(ConfigError::Value {
                location: "configuration".to_owned(),
                name: "console.token".to_owned(),
                value: "(not shown)".to_owned(),
                want: format!(
                    "want at least {TOKEN_LETTERS_MIN} characters, or it can be guessed: openssl rand -hex 32"
                ),
            });
        }
        Ok(Some(token))
    }
}

/// Returns a prefix of addresses with a slash before it and none after it, or the reason why it is invalid.
pub fn base_path(path: &str) -> Result<String, String> {
    let trimmed = path.trim_matches('/');
    let is_plain = trimmed.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'));
    if !is_plain {
        return Err(format!("{path:?} has other characters than letters, digits, '-', '_', '.' and '/'"));
    }
    Ok(if trimmed.is_empty() { String::new() } else { format!("/{trimmed}") })
}

pub(super) fn read(sheet: &mut Sheet<'_>) -> Result<Console, ConfigError> {
    let mut table = sheet.table("console")?;
    table.not_cleaned_away("HARVEST_CONSOLE_TOKEN")?;
    let console = Console {
        enabled: table.boolean("enabled", true)?,
        open: table.boolean("open", false)?,
        base_path: table.parsed(
            "base_path",
            "",
            "want a path of letters, digits, '-', '_' and '.', as \"/ops\"",
            |text| base_path(text).ok(),
        )?,
        token_file: table.some_path("token_file")?,
        token: table.secret("token", "HARVEST_CONSOLE_TOKEN"),
    };
    table.finish()?;
    Ok(console)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_one_form() {
        for (text, want) in [("", ""), ("/", ""), ("h", "/h"), ("/ops/harvester/", "/ops/harvester")] {
            assert_eq!(base_path(text).as_deref(), Ok(want), "{text}");
        }
        assert!(base_path("/a?b").is_err() && base_path("/{x}").is_err());
    }

    #[test]
    fn a_short_token_is_refused_and_not_shown() {
        let with = |token: &str| Console {
            enabled: true,
            open: false,
            base_path: String::new(),
            token: Some(token.to_owned().into()),
            token_file: None,
        };
        assert!(with("sixteen letters.").token().is_ok_and(|token| token.is_some()));
        let refused = with("fifteen letters").token().expect_err("it is short").to_string();
        assert!(refused.contains("openssl rand") && !refused.contains("fifteen"), "{refused}");
    }
}
