//! Key and secret, and their problems, reported by the name of the variable that should contain them.

use std::borrow::Cow;
use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

use super::key::{CallKey, KeyKind};

/// A variable as it was given: its name, its value, and the characters that were cleaned off, if any.
#[derive(Clone, Debug)]
pub struct Given {
    pub name: Cow<'static, str>,
    pub value: SecretString,
    pub cleaned: Option<&'static str>,
}

/// Key and secret of an account. `Debug` shows neither, and their texts are wiped from memory when they are dropped.
#[derive(Clone)]
pub struct Credentials {
    key: SecretString,
    signing: CallKey,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// The reason why there are no credentials. It names the variable, never its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialProblem {
    /// It was not given in a form that can be examined: `is not set`, `is empty`, `names a file that …`.
    #[error("{name} {reason}")]
    NotGiven { name: Cow<'static, str>, reason: &'static str },
    #[error("{name} holds {what}{}", after_cleaning(*cleaned))]
    Contains { name: Cow<'static, str>, what: &'static str, cleaned: Option<&'static str> },
    /// A key of a kind that does not belong there.
    #[error("{name} holds {what}{}", after_cleaning(*cleaned))]
    WrongKind { name: Cow<'static, str>, what: String, cleaned: Option<&'static str> },
    #[error("{name} has {found} characters, a key or secret of this exchange has {want}{}", after_cleaning(*cleaned))]
    Length { name: Cow<'static, str>, found: usize, want: usize, cleaned: Option<&'static str> },
    #[error("{key} and {secret} hold the same value")]
    Same { key: Cow<'static, str>, secret: Cow<'static, str> },
}

fn after_cleaning(cleaned: Option<&str>) -> String {
    cleaned.map_or_else(String::new, |cleaned| format!(" (after {cleaned} was taken off)"))
}

impl Credentials {
    /// Checks both, and returns the problem of the first one that has one. `length` is that of a key and of an HMAC
    /// secret. [characters]
    pub fn check(key: &Given, secret: &Given, length: usize) -> Result<Self, CredentialProblem> {
        let wrong = |given: &Given, what: String| {
            Err(CredentialProblem::WrongKind { name: given.name.clone(), what, cleaned: given.cleaned })
        };
        if let Some(Ok(private)) = CallKey::private(&key.value) {
            let what = format!("the {} private key, which belongs in {}", private.kind().name(), secret.name);
            return wrong(key, what);
        }
        checked(key, length)?;
        let signing = match CallKey::private(&secret.value) {
            Some(Ok(private)) => private,
            Some(Err(what)) => return wrong(secret, what.to_owned()),
            None => {
                checked(secret, length)?;
                CallKey::hmac(&secret.value)
            }
        };
        if secret.value.expose_secret() == key.value.expose_secret() {
            return Err(CredentialProblem::Same { key: key.name.clone(), secret: secret.name.clone() });
        }
        Ok(Self { key: key.value.clone(), signing })
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
    pub(crate) fn hidden(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.key()).chain(self.signing.hidden())
    }
}

fn checked(given: &Given, length: usize) -> Result<(), CredentialProblem> {
    let Given { name, cleaned, .. } = given;
    let (name, cleaned) = (name.clone(), *cleaned);
    let text = given.value.expose_secret();
    if let Some(what) = text.chars().find_map(foreign) {
        return Err(CredentialProblem::Contains { name, what, cleaned });
    }
    if text.len() != length {
        return Err(CredentialProblem::Length { name, found: text.len(), want: length, cleaned });
    }
    Ok(())
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

    fn check(key: &str, secret: &str, cleaned: Option<&'static str>) -> Result<Credentials, String> {
        let key = Given { name: "THE_KEY".into(), value: key.into(), cleaned };
        let secret = Given { name: "THE_SECRET".into(), value: secret.into(), cleaned: None };
        Credentials::check(&key, &secret, 64).map_err(|problem| problem.to_string())
    }

    #[test]
    fn i44_what_is_wrong_is_named_and_the_value_is_not() {
        let with = |tail: &str| format!("{KEY}{tail}");
        for (key, secret, want) in [
            ("", SECRET, "THE_KEY has 0 characters, a key or secret of this exchange has 64"),
            (&with("\r"), SECRET, "THE_KEY holds a carriage return"),
            (KEY, &format!("\"{SECRET}\""), "THE_SECRET holds a quote"),
            (&with(" "), SECRET, "THE_KEY holds white space"),
            (&KEY[1..], SECRET, "THE_KEY has 63 characters, a key or secret of this exchange has 64"),
            (&with("é"), SECRET, "THE_KEY holds a character that is neither letter nor digit"),
            (KEY, KEY, "THE_KEY and THE_SECRET hold the same value"),
        ] {
            let said = check(key, secret, None).unwrap_err();
            assert_eq!(said, want);
            assert!(!said.contains(&KEY[..8]) && !said.contains(&SECRET[..8]), "{said}");
        }
        assert_eq!(
            check(&KEY[1..], SECRET, Some("a carriage return at the end")).unwrap_err(),
            "THE_KEY has 63 characters, a key or secret of this exchange has 64 (after a carriage return at the end was taken off)"
        );
        let fine = check(KEY, SECRET, None).unwrap();
        assert_eq!((format!("{fine:?}").as_str(), fine.kind()), ("Credentials(…)", KeyKind::Hmac));
    }

    #[test]
    fn a_key_of_another_kind_is_taken_for_what_it_is_or_named() {
        // It is as long as an HMAC secret and is not one: published for tests in RFC 9421, B.1.4.
        let bare = "MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF";
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{bare}\n-----END PRIVATE KEY-----\n");
        for secret in [bare, &pem] {
            let fine = check(KEY, secret, None).unwrap();
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
            let said = check(key, secret, None).unwrap_err();
            assert!(said.starts_with(want), "{said}");
            assert!(!said.contains(&bare[..8]) && !said.contains(&KEY[..8]), "{said}");
        }
    }
}
