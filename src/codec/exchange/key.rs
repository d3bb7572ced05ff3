//! The secret of an account: its kind, detected from its text, and its signatures.
//!
//! The exchange issues HMAC secrets (64 letters and digits) and accepts public keys of Ed25519 and RSA pairs, whose
//! private half is a PEM text, or the base64 inside one. `ring` computes their signatures; TLS depends on it already.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use rustls::SignatureScheme;
use rustls::crypto::ring::sign;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};

use crate::codec::signing::hmac_hex;
use crate::domain::named;

/// Maximum length of a key text that is examined. An RSA key of 8192 bits has about 6,400. [characters]
const TEXT_MAX: usize = 16_384;
/// Minimum length of a base64 line that counts as secret on its own. [characters]
const SECRET_LINE_MIN: usize = 16;

/// Algorithm identifiers as they are written in a key's encoding.
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// Number of bytes at its start that contain the identifier. [bytes]
const HEAD: usize = 40;

named! {
    /// The algorithm that signs calls.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum KeyKind {
        Hmac => "HMAC",
        Ed25519 => "Ed25519",
        Rsa => "RSA",
    }
}

impl KeyKind {
    const fn scheme(self) -> Option<SignatureScheme> {
        match self {
            Self::Hmac => None,
            Self::Ed25519 => Some(SignatureScheme::ED25519),
            Self::Rsa => Some(SignatureScheme::RSA_PKCS1_SHA256),
        }
    }
}

/// A secret that signs.
#[derive(Clone)]
pub(super) struct CallKey {
    kind: KeyKind,
    pair: Pair,
    /// Parts of its text that a message must not contain.
    hidden: Vec<SecretString>,
}

#[derive(Clone)]
enum Pair {
    Secret(SecretString),
    Private(Arc<dyn rustls::sign::SigningKey>),
}

/// Description of a text that looks like a key and cannot sign calls, with the kind that is needed instead.
pub(super) type WrongKind = &'static str;

impl CallKey {
    /// Creates a key from an HMAC secret of letters and digits.
    pub(super) fn hmac(secret: &SecretString) -> Self {
        Self { kind: KeyKind::Hmac, pair: Pair::Secret(secret.clone()), hidden: vec![secret.clone()] }
    }

    /// Reads a private key from a PEM text, or from the base64 inside one. Returns `None` if the text is neither.
    pub(super) fn private(text: &SecretString) -> Option<Result<Self, WrongKind>> {
        let text = text.expose_secret();
        if text.len() > TEXT_MAX {
            return None;
        }
        let (label, body) = match pem(text) {
            Some((label, body)) => (Some(label), body),
            None => (None, text.to_owned()),
        };
        let body = SecretString::from(body.replace("\\n", "\n"));
        let lines = body.expose_secret().split_whitespace().filter(|line| line.len() >= SECRET_LINE_MIN);
        let hidden: Vec<SecretString> = lines.map(SecretString::from).collect();
        let plain: SecretString = body.expose_secret().split_whitespace().collect::<String>().into();
        let decoded = STANDARD.decode(plain.expose_secret()).or_else(|_| STANDARD_NO_PAD.decode(plain.expose_secret()));
        let read = match (label, decoded) {
            (Some(label), decoded) => of_label(label, &SecretSlice::from(decoded.unwrap_or_default())),
            // A text without a label counts as a key only if it has the encoding of one.
            (None, Ok(der)) => of_encoding(&SecretSlice::from(der))?,
            (None, Err(_)) => return None,
        };
        Some(read.map(|(kind, key)| Self { kind, pair: Pair::Private(key), hidden }))
    }

    pub(super) fn kind(&self) -> KeyKind {
        self.kind
    }

    /// Returns the parts of its text that a message must not contain.
    pub(super) fn hidden(&self) -> impl Iterator<Item = &str> {
        self.hidden.iter().map(|part| part.expose_secret())
    }

    /// Signs a query in the exchange's format: hex for HMAC, otherwise base64.
    pub(super) fn sign(&self, query: &str) -> String {
        match (&self.pair, self.kind.scheme()) {
            (Pair::Secret(secret), _) => hmac_hex(secret.expose_secret().as_bytes(), query),
            (Pair::Private(key), scheme) => {
                let signer = scheme.and_then(|scheme| key.choose_scheme(&[scheme]));
                let signed = signer.and_then(|signer| signer.sign(query.as_bytes()).ok());
                // A pair that was read can sign. If it could not, the exchange would refuse the empty signature.
                signed.map_or_else(String::new, |signature| STANDARD.encode(signature))
            }
        }
    }
}

/// Returns label and body of the first PEM section. The body may have lost its line breaks.
fn pem(text: &str) -> Option<(&str, String)> {
    let (_, behind) = text.split_once("-----BEGIN ")?;
    let (label, behind) = behind.split_once("-----")?;
    let body = behind.split_once("-----END ").map_or(behind, |(body, _)| body);
    Some((label, body.to_owned()))
}

type Read = Result<(KeyKind, Arc<dyn rustls::sign::SigningKey>), WrongKind>;

const UNREADABLE: WrongKind = "a PEM private key that is damaged or cut off";
const EC_KEY: WrongKind =
    "a private key of an elliptic curve that the exchange does not take (want HMAC, Ed25519 or RSA)";

fn of_label(label: &str, der: &SecretSlice<u8>) -> Read {
    match label {
        "PRIVATE KEY" => of_encoding(der).unwrap_or(Err(UNREADABLE)),
        "RSA PRIVATE KEY" => rsa(&PrivateKeyDer::Pkcs1(PrivatePkcs1KeyDer::from(der.expose_secret()))),
        "EC PRIVATE KEY" => Err(EC_KEY),
        "ENCRYPTED PRIVATE KEY" => Err("an encrypted private key (decrypt it: openssl pkey -in FILE)"),
        "OPENSSH PRIVATE KEY" => Err("a private key of OpenSSH (want PKCS#8: openssl genpkey -algorithm ed25519)"),
        "PUBLIC KEY" | "RSA PUBLIC KEY" => Err("a public key (the exchange has that one; the private key signs)"),
        "CERTIFICATE" => Err("a certificate (want a private key)"),
        _ => Err("a PEM text that is not a private key"),
    }
}

/// Reads the key in an encoding without a label. Returns `None` if it is not that of a key.
fn of_encoding(der: &SecretSlice<u8>) -> Option<Read> {
    let bytes = der.expose_secret();
    let head = &bytes[..bytes.len().min(HEAD)];
    let names = |algorithm: &[u8]| head.windows(algorithm.len()).any(|part| part == algorithm);
    // Every encoding is a sequence. That of a private key begins with its version, that of a public key with its
    // algorithm.
    let ([0x30, 0x82, _, _, inner @ ..] | [0x30, 0x81, _, inner @ ..] | [0x30, _, inner @ ..]) = head else {
        return None;
    };
    let is_private = inner.starts_with(&[0x02, 0x01]);
    let pkcs8 = || PrivatePkcs8KeyDer::from(bytes);
    match () {
        () if names(ED25519) && is_private => Some(
            sign::any_eddsa_type(&pkcs8())
                .map(|key| (KeyKind::Ed25519, key))
                .map_err(|_| "an Ed25519 private key that is damaged or cut off"),
        ),
        () if names(RSA) && is_private => Some(rsa(&PrivateKeyDer::Pkcs8(pkcs8()))),
        () if names(EC) && is_private => Some(Err(EC_KEY)),
        () if names(ED25519) || names(RSA) || names(EC) => {
            Some(Err("a public key (the exchange has that one; the private key signs)"))
        }
        () => None,
    }
}

fn rsa(der: &PrivateKeyDer<'_>) -> Read {
    match sign::any_supported_type(der) {
        Ok(key) => Ok((KeyKind::Rsa, key)),
        Err(_) => Err("an RSA private key that is damaged, or has not 2048 to 4096 bits"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The secret in the exchange's documentation.
    const SECRET: &str = "2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9";
    /// Published for tests in RFC 9421, B.1.4. It has 64 characters, like an HMAC secret.
    const ED25519_BARE: &str = "MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF";
    /// Published for tests in RFC 9500, 2.1.
    const RSA_PEM: &str = include_str!("../../../tests/support/keys/rfc9500_rsa_2048.pem");

    const RSA_PKCS8_PEM: &str = include_str!("../../../tests/support/keys/rfc9500_rsa_2048.pkcs8.pem");

    const QUERIES: [&str; 2] = [
        "recvWindow=5000&timestamp=1770163200000",
        "symbol=%E5%B8%81%E5%AE%89USDT&recvWindow=5000&timestamp=1770163200000",
    ];

    fn private(text: &str) -> Option<Result<CallKey, WrongKind>> {
        CallKey::private(&SecretString::from(text))
    }

    fn pem_of(label: &str, body: &str) -> String {
        format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
    }

    /// Expected values computed with Python, not with this code: `python3 -c "import hmac; print(hmac.new(SECRET,
    /// QUERY, 'sha256').hexdigest())"`. The exchange's documentation contains the first one too.
    #[test]
    fn hmac_signs_as_the_documentation_and_python_do() {
        let key = CallKey::hmac(&SecretString::from(SECRET));
        for (query, want) in [
            (
                "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=9000&timeInForce=GTC&recvWindow=5000&timestamp=1591702613943",
                "3c661234138461fcc7a7d8746c6558c9842d4e10870d2ecbedf7777cad694af9",
            ),
            (QUERIES[0], "fcacafe4ac2249c857765aacfc599acb265aeaf7d78cb563675443e5a074092f"),
            (QUERIES[1], "a1403742fc9fe209fc4bba867f9cbec660a653f401ffa20fb589a3811a600d85"),
        ] {
            assert_eq!(key.sign(query), want, "{query}");
        }
    }

    /// Expected value computed with the Python package `cryptography` (OpenSSL): `base64(key.sign(QUERY))`.
    #[test]
    fn ed25519_signs_as_openssl_does_from_pem_and_from_bare_base64() {
        let wants = [
            "68YnzudaAW71FuBThpwXYQOp36ivhJYGrZkcjYqtuXey7Ff70qDQZtx1c/SMk5kxIOR98pyqjNr+x4igZ+s0CA==",
            "HiIwhuE618u3+YIVYIBvo6nQsWweSlMZRcuDHJ+RsaRKEFnTboaYVe3NnUTqJWCgax/51Ktb78wZoGINrwcMBg==",
        ];
        let pem = pem_of("PRIVATE KEY", ED25519_BARE);
        // The forms that an env file may contain: one line, escaped line breaks, or lost ones.
        for text in [ED25519_BARE, &pem, &pem.replace('\n', "\r\n"), &pem.replace('\n', "\\n"), &pem.replace('\n', " ")]
        {
            let key = private(text).expect("a key").unwrap_or_else(|what| panic!("{what}"));
            assert_eq!(key.kind(), KeyKind::Ed25519);
            for (query, want) in QUERIES.iter().zip(wants) {
                assert_eq!(key.sign(query), want, "{query}");
            }
        }
    }

    /// Expected value computed with the Python package `cryptography` (OpenSSL): `base64(key.sign(QUERY, PKCS1v15(),
    /// SHA256()))`.
    #[test]
    fn rsa_signs_as_openssl_does() {
        let wants = [
            "gOxqzS8rOkdasA/vB/yonwAKptJiOHr1323KC6OrINDIKIIFt90C7hUMyCRINxtrQ/p8622/72f7kOVYJM14AiRlm73xrts3Qy7wIbOmdHnqPWwYl/SAd7D9qdTpbk6L4L3dX5SWdBeJeJLmItRYbXB7PzWy31Ho8lnqNYjTyjCCrh0hrRenGQC8K8YfkWefBKaTRGKQHT2x8/jKfHhCCCQJk+/kQSimKVlcoAw812LOCwAiDJfy7NB8QAR3UFzaUOzW3Fxk08XTlgpBUnF1M0x1vP6f6eFb8pBWWGTP/+kOq/qIfJuAEgx6C0RecEKwFJAKoudakXysfSSR/dughw==",
            "GZptFTUuEggE5zURymset2lUu2Lh2nDElxRjftclMfn/Twb+PqxYDDSE29vcRlNPLVnKYaiZq55ryQBUQX2Tnn5DT9VBgQiVBpGv0VyxR0U+6gAxgeyU7r6ZzBwhNxsi4MPINXOya5tscX6ObgozFzRAwYg7V5OmxqtQqahK4iL3Ps3aR9R7GogxFnQSbQSTdVipCTW3ShsILmHguxIhR5TmeJhpdZbY3F9aJRPg6sS1Qk1GhmTCsBjLclyU1XPqpkg+IIOxAEgu6bKsNNvGVt71NmT1lfxhl5enYBaItQdv4uzuhKB165OdTY488WjU9KBIAJY+RWOCP8tXhosk4Q==",
        ];
        let bare: String = RSA_PKCS8_PEM.lines().filter(|line| !line.starts_with('-')).collect();
        for text in [RSA_PEM, RSA_PKCS8_PEM, &bare] {
            let key = private(text).expect("a key").unwrap_or_else(|what| panic!("{what}"));
            assert_eq!(key.kind(), KeyKind::Rsa);
            for (query, want) in QUERIES.iter().zip(wants) {
                assert_eq!(key.sign(query), want, "{query}");
            }
        }
    }

    #[test]
    fn what_is_a_key_and_not_one_that_signs_is_named_by_its_kind() {
        // Bodies with a valid label and no content.
        let encoded = |bytes: &[u8]| STANDARD.encode(bytes);
        let spki = [&[0x30, 0x2a, 0x30, 0x05][..], ED25519, &[0x03, 0x21, 0x00], &[7; 32]].concat();
        let ec = [&[0x30, 0x41, 0x02, 0x01, 0x00, 0x30, 0x13][..], EC, &[0; 40]].concat();
        let short = &ED25519_BARE[..60];
        for (text, want) in [
            (pem_of("PUBLIC KEY", &encoded(&spki)), "a public key"),
            (encoded(&spki), "a public key"),
            (pem_of("EC PRIVATE KEY", &encoded(&ec)), "elliptic curve"),
            (pem_of("PRIVATE KEY", &encoded(&ec)), "elliptic curve"),
            (encoded(&ec), "elliptic curve"),
            (pem_of("ENCRYPTED PRIVATE KEY", "AAAA"), "an encrypted private key"),
            (pem_of("OPENSSH PRIVATE KEY", "AAAA"), "OpenSSH"),
            (pem_of("CERTIFICATE", "AAAA"), "a certificate"),
            (pem_of("MESSAGE", "AAAA"), "not a private key"),
            (pem_of("PRIVATE KEY", "AAAA"), "damaged or cut off"),
            (pem_of("PRIVATE KEY", "no base64!"), "damaged or cut off"),
            (pem_of("PRIVATE KEY", short), "an Ed25519 private key that is damaged"),
            (short.to_owned(), "an Ed25519 private key that is damaged"),
            (RSA_PEM[..RSA_PEM.len() / 2].to_owned(), "an RSA private key that is damaged"),
        ] {
            match private(&text) {
                Some(Err(said)) => assert!(said.contains(want), "{said}, want {want}"),
                Some(Ok(_)) => panic!("it was taken, want {want}"),
                None => panic!("it is not a key, want {want}"),
            }
        }
        for text in [SECRET, "", "AAAA", "ordinary words", &"A".repeat(TEXT_MAX + 1)] {
            assert!(private(text).is_none(), "no private key");
        }
    }

    #[test]
    fn no_part_of_a_private_key_is_shown() {
        let key = private(RSA_PEM).expect("a key").unwrap_or_else(|what| panic!("{what}"));
        let lines: Vec<&str> = RSA_PEM.lines().filter(|line| !line.starts_with('-')).collect();
        assert_eq!(key.hidden().collect::<Vec<_>>(), lines);
    }
}
