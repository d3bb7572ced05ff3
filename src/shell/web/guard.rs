//! Protects pages that need a token.
//!
//! The browser itself asks the user (HTTP Basic), and sends the password with every request to this server. So there is
//! no cookie, and no page of ours contains a password. Programs send `Authorization: Bearer TOKEN`.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::server::Page;

/// The sentence of a request without the token.
pub const NEEDS_TOKEN: &str = "The console needs its token, as the password.";

/// Who may read the protected pages.
#[derive(Clone, Debug, Default)]
pub enum Guard {
    /// Everybody.
    #[default]
    Open,
    /// Clients that know the token.
    Token(SecretString),
    /// No client: every page is this sentence.
    Closed(String),
}

impl Guard {
    /// Returns the refusal of a request; `None` if it may read the page. `asks` is the page of a request without the
    /// token.
    pub(super) fn refusal(&self, headers: &HeaderMap, asks: Option<&str>) -> Option<Response> {
        match self {
            Self::Open => None,
            Self::Closed(says) => Some(Page::text(403, format!("{says}\n")).into_response()),
            Self::Token(token) if knows(token, headers) => None,
            Self::Token(_) => {
                let page = match asks {
                    Some(html) => Page::html(401, html.to_owned()),
                    None => Page::text(401, format!("{NEEDS_TOKEN}\n")),
                };
                let mut refused = page.into_response();
                *refused.status_mut() = StatusCode::UNAUTHORIZED;
                let asks = HeaderValue::from_static("Basic realm=\"harvester console\", charset=\"UTF-8\"");
                refused.headers_mut().insert(header::WWW_AUTHENTICATE, asks);
                Some(refused)
            }
        }
    }
}

/// Returns true if a request has the token: as a bearer token, or as the password of any user.
fn knows(token: &SecretString, headers: &HeaderMap) -> bool {
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(given), None) = (all.next(), all.next()) else { return false };
    let Some((scheme, given)) = given.to_str().ok().and_then(|given| given.split_once(' ')) else { return false };
    let given = given.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return is_same(given.as_bytes(), token);
    }
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(given).ok()).flatten();
    let Some(decoded) = decoded else { return false };
    let password = decoded.iter().position(|byte| *byte == b':').map(|colon| &decoded[colon + 1..]);
    password.is_some_and(|password| is_same(password, token))
}

/// Compares digests, so that the time of the comparison depends on no part of the token.
fn is_same(given: &[u8], token: &SecretString) -> bool {
    Sha256::digest(given) == Sha256::digest(token.expose_secret().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_as_a_bearer_or_as_a_password_and_nothing_else_does() {
        let guard = Guard::Token("a token: of sixteen".to_owned().into());
        let refused = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::AUTHORIZATION, value.parse().expect("a header"));
            }
            guard.refusal(&headers, None)
        };
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        for given in [
            "Bearer a token: of sixteen",
            "bearer  a token: of sixteen",
            &basic("anyone:a token: of sixteen"),
            &basic(":a token: of sixteen"),
        ] {
            assert!(refused(&[given]).is_none(), "{given}");
        }
        for given in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer a token",
            "Bearer a token: of sixteen.",
            "a token: of sixteen",
            "Basic a token: of sixteen",
            &basic("a token: of sixteen"),
            &basic("a token: of sixteen:"),
            &basic("x:A token: of sixteen"),
        ] {
            let refused = refused(&[given]).unwrap_or_else(|| panic!("{given:?} opens"));
            assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{given}");
            assert!(refused.headers()[header::WWW_AUTHENTICATE].to_str().expect("text").starts_with("Basic realm="));
        }
        assert!(refused(&[]).is_some() && refused(&["Bearer a token: of sixteen"; 2]).is_some());
        assert!(Guard::Open.refusal(&HeaderMap::new(), None).is_none());
        let closed = Guard::Closed("no".to_owned()).refusal(&HeaderMap::new(), None).expect("a refusal");
        assert_eq!(closed.status(), StatusCode::FORBIDDEN);
        assert!(!format!("{guard:?}").contains("sixteen"), "it is never shown");
    }
}
