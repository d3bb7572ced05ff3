//! Key and secret, and their problems, reported by the name of the variable that should contain them.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

use super::key::{KeyKind, SigningKey};

/// Length of a key and of an HMAC secret. [characters]
const LENGTH: usize = 64;

/// A variable as it was given: its name, its value if it is set, and the characters that were cleaned off, if any.
#[derive(Debug)]
pub struct Given<'a> {
    pub name: &'a str,
    pub value: Option<&'a SecretString>,
    pub cleaned: Option<&'a str>,
}

/// Key and secret of an account. `Debug` shows neither, and their texts are wiped from memory when they are dropped.
#[derive(Clone)]
pub struct Credentials {
    key: SecretString,
    signing: SigningKey,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// The reason why there are no credentials. It names the variable, never its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialProblem {
    #[error("{name} is not set")]
    NotSet { name: String },
    #[error("{name} is empty{}", after_cleaning(cleaned))]
    Empty { name: String, cleaned: Option<String> },
    #[error("{name} holds {what}{}", after_cleaning(cleaned))]
    Holds { name: String, what: &'static str, cleaned: Option<String> },
    /// A key of a kind that does not belong there.
    #[error("{name} holds {what}{}", after_cleaning(cleaned))]
    WrongKind { name: String, what: String, cleaned: Option<String> },
    #[error("{name} has {found} characters, a key or secret of this exchange has {LENGTH}{}", after_cleaning(cleaned))]
    Length { name: String, found: usize, cleaned: Option<String> },
    #[error("{key} and {secret} hold the same value")]
    Same { key: String, secret: String },
}

fn after_cleaning(cleaned: &Option<String>) -> String {
    cleaned.as_ref().map_or_else(String::new, |cleaned| format!(" (after {cleaned} was taken off)"))
}

impl Credentials {
    /// Checks both, and returns the problem of the first one that has one.
    pub fn check(key: &Given<'_>, secret: &Given<'_>) -> Result<Self, CredentialProblem> {
        if let Some(Ok(private)) = key.value.and_then(SigningKey::private) {
            let what = format!("the {} private key, which belongs in {}", private.kind().name(), secret.name);
            return Err(CredentialProblem::WrongKind {
                name: key.name.to_owned(),
                what,
                cleaned: key.cleaned.map(str::to_owned),
            });
        }
        let key_value = checked(key)?;
        let signing = match secret.value.and_then(SigningKey::private) {
            Some(Ok(private)) => private,
            Some(Err(what)) => {
                return Err(CredentialProblem::WrongKind {
                    name: secret.name.to_owned(),
                    what: what.to_owned(),
                    cleaned: secret.cleaned.map(str::to_owned),
                });
            }
            None => SigningKey::hmac(checked(secret)?),
        };
        if secret.value.is_some_and(|secret| secret.expose_secret() == key_value.expose_secret()) {
            return Err(CredentialProblem::Same { key: key.name.to_owned(), secret: secret.name.to_owned() });
        }
        Ok(Self { key: key_value.clone(), signing })
    }

    /// Returns the algorithm that signs calls.
    pub fn kind(&self) -> KeyKind {
        self.signing.kind()
    }

    pub(super) fn key(&self) -> &str {
        self.key.expose_secret()
    }

    /// Returns the signature of a query, before it is encoded for a query.
    pub(super) fn sign(&self, query: &str) -> String {
        self.signing.sign(query)
    }

    /// Returns the texts that a message must not contain.
    pub(super) fn hidden(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.key()).chain(self.signing.hidden())
    }
}

fn checked<'a>(given: &Given<'a>) -> Result<&'a SecretString, CredentialProblem> {
    let name = || given.name.to_owned();
    let cleaned = || given.cleaned.map(str::to_owned);
    let value = given.value.ok_or_else(|| CredentialProblem::NotSet { name: name() })?;
    let text = value.expose_secret();
    if text.is_empty() {
        return Err(CredentialProblem::Empty { name: name(), cleaned: cleaned() });
    }
    if let Some(what) = text.chars().find_map(foreign) {
        return Err(CredentialProblem::Holds { name: name(), what, cleaned: cleaned() });
    }
    if text.len() != LENGTH {
        return Err(CredentialProblem::Length { name: name(), found: text.len(), cleaned: cleaned() });
    }
    Ok(value)
}

/// Returns a description of a character that no key contains.
fn foreign(c: char) -> Option<&'static str> {
    match c {
        '\r' => Some("a carriage return"),
        '\n' => Some("a line break"),
        '"' | '\'' | '`' => Some("a quote"),
        '\u{feff}' => Some("a byte order mark"),
        c if c.is_whitespace() => Some("white space"),
        c if c.is_control() => Some("a control character"),
        c if !c.is_ascii_alphanumeric() => Some("a character that is neither letter nor digit"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "dbefbc809e3e83c283a984c3a1459732ea7db1360ca80c5c2c8867408d28cc83";
    const SECRET: &str = "2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9";

    fn check(key: Option<&str>, secret: Option<&str>, cleaned: Option<&str>) -> Result<Credentials, String> {
        let (key, secret) = (key.map(SecretString::from), secret.map(SecretString::from));
        let key = Given { name: "THE_KEY", value: key.as_ref(), cleaned };
        let secret = Given { name: "THE_SECRET", value: secret.as_ref(), cleaned: None };
        Credentials::check(&key, &secret).map_err(|problem| problem.to_string())
    }

    #[test]
    fn i44_what_is_wrong_is_named_and_the_value_is_not() {
        let with = |tail: &str| format!("{KEY}{tail}");
        for (key, secret, want) in [
            (None, Some(SECRET), "THE_KEY is not set"),
            (Some(KEY), None, "THE_SECRET is not set"),
            (Some(""), Some(SECRET), "THE_KEY is empty"),
            (Some(with("\r").as_str()), Some(SECRET), "THE_KEY holds a carriage return"),
            (Some(KEY), Some(format!("\"{SECRET}\"").as_str()), "THE_SECRET holds a quote"),
            (Some(with(" ").as_str()), Some(SECRET), "THE_KEY holds white space"),
            (Some(&KEY[1..]), Some(SECRET), "THE_KEY has 63 characters, a key or secret of this exchange has 64"),
            (Some(with("é").as_str()), Some(SECRET), "THE_KEY holds a character that is neither letter nor digit"),
            (Some(KEY), Some(KEY), "THE_KEY and THE_SECRET hold the same value"),
        ] {
            let said = check(key, secret, None).unwrap_err();
            assert_eq!(said, want);
            assert!(!said.contains(&KEY[..8]) && !said.contains(&SECRET[..8]), "{said}");
        }
        assert_eq!(
            check(Some(&KEY[1..]), Some(SECRET), Some("a carriage return at the end")).unwrap_err(),
            "THE_KEY has 63 characters, a key or secret of this exchange has 64 (after a carriage return at the end was taken off)"
        );
        let fine = check(Some(KEY), Some(SECRET), None).unwrap();
        assert_eq!((format!("{fine:?}").as_str(), fine.kind()), ("Credentials(…)", KeyKind::Hmac));
    }

    #[test]
    fn a_key_of_another_kind_is_taken_for_what_it_is_or_named() {
        // It is as long as an HMAC secret and is not one: published for tests in RFC 9421, B.1.4.
        let bare = "MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF";
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{bare}\n-----END PRIVATE KEY-----\n");
        for secret in [bare, &pem] {
            let fine = check(Some(KEY), Some(secret), None).unwrap();
            assert_eq!((fine.kind(), format!("{fine:?}").as_str()), (KeyKind::Ed25519, "Credentials(…)"));
        }
        for (key, secret, want) in [
            (bare, SECRET, "THE_KEY holds the Ed25519 private key, which belongs in THE_SECRET"),
            (KEY, &pem.replace("PRIVATE", "PUBLIC"), "THE_SECRET holds a public key"),
            (KEY, &pem.replace("PRIVATE", "ENCRYPTED PRIVATE"), "THE_SECRET holds an encrypted private key"),
            (
                KEY,
                &pem.replace(bare, &bare[..60]),
                "THE_SECRET holds an Ed25519 private key that is damaged or cut off",
            ),
        ] {
            let said = check(Some(key), Some(secret), None).unwrap_err();
            assert!(said.starts_with(want), "{said}");
            assert!(!said.contains(&bare[..8]) && !said.contains(&KEY[..8]), "{said}");
        }
    }
}
