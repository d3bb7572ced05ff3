//! Signatures of decisions and of control entries: HMAC-SHA256 under a key that is never shown (docs/spec/emission.md,
//! "Chain", "Signed control entries").

use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretSlice};
use sha2::Sha256;

use super::checksum::hex;
use crate::domain::event::ids::EntryId;

/// A shorter key is too weak. [bytes]
const KEY_BYTES_MIN: usize = 16;

/// Why a text is not a key. The message never contains the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a signing key (HARVEST_SIGNING_KEY, or [emit] signing_key_file) of {bytes} bytes is too short: want at least \
     {KEY_BYTES_MIN}. Make one: openssl rand -hex 32"
)]
pub struct WeakKey {
    bytes: usize,
}

/// The key that signs decisions and control entries, with the former keys that are still accepted.
#[derive(Clone, Debug)]
pub struct SigningKey {
    secret: SecretSlice<u8>,
    /// Keys that no longer sign, each with the last id for which it is accepted.
    former: Vec<(SecretSlice<u8>, EntryId)>,
    /// Up to here entries are accepted without a signature.
    unsigned_until: Option<EntryId>,
}

impl SigningKey {
    /// Creates a key from a file or the environment: the bytes without white space around them. Errors if it is too
    /// short.
    pub fn new(text: &[u8]) -> Result<Self, WeakKey> {
        let key = text.trim_ascii();
        if key.len() < KEY_BYTES_MIN {
            return Err(WeakKey { bytes: key.len() });
        }
        Ok(Self { secret: key.to_vec().into(), former: Vec::new(), unsigned_until: None })
    }

    /// Returns the key, with a former one that is accepted for entries up to an id.
    #[must_use]
    pub fn with_former(mut self, key: Self, until: EntryId) -> Self {
        self.former.push((key.secret, until));
        self
    }

    /// Returns the key, with entries up to an id accepted without a signature.
    #[must_use]
    pub fn with_unsigned_until(self, until: Option<EntryId>) -> Self {
        Self { unsigned_until: until, ..self }
    }

    /// Returns true if an entry is ours: signed with this key or with a former one that counts for its id, or unsigned
    /// up to the id where that is accepted.
    pub fn vouches(&self, id: EntryId, text: &str, signature: Option<&str>) -> bool {
        let Some(signature) = signature else { return self.needs_no_signature(id) };
        let mut former = self.former.iter().filter(|(_, until)| id <= *until);
        self.verifies(text, signature) || former.any(|(secret, _)| is_of(secret, text, signature))
    }

    /// Returns true if an entry was written before there was a key.
    pub fn needs_no_signature(&self, id: EntryId) -> bool {
        self.unsigned_until.is_some_and(|until| id <= until)
    }

    /// Returns HMAC-SHA256 of a hash, as 64 lower-case hex digits.
    pub fn sign(&self, hash: &str) -> String {
        hmac_hex(self.secret.expose_secret(), hash)
    }

    /// Returns true if it is the signature of the hash. The comparison takes constant time.
    pub fn verifies(&self, hash: &str, signature: &str) -> bool {
        is_of(&self.secret, hash, signature)
    }
}

/// Returns HMAC-SHA256 of a text, as 64 lower-case hex digits.
pub(super) fn hmac_hex(secret: &[u8], text: &str) -> String {
    hex(&mac(secret, text).finalize().into_bytes())
}

fn mac(secret: &[u8], text: &str) -> Hmac<Sha256> {
    let mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
    mac.chain_update(text.as_bytes())
}

fn is_of(secret: &SecretSlice<u8>, text: &str, signature: &str) -> bool {
    bytes_of_hex(signature).is_some_and(|bytes| mac(secret.expose_secret(), text).verify_slice(&bytes).is_ok())
}

/// Returns the text of a control entry that is signed: its stream, its event type and its payload, as written.
///
/// The first line distinguishes it from the hash of a decision, so that neither signature can be used for the other.
pub fn control_text(stream: &str, event_type: &str, payload: &str) -> String {
    format!("control\n{stream}\n{event_type}\n{payload}")
}

/// Returns the bytes of lower-case hex digits.
fn bytes_of_hex(hex: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|&[high, low]| Some(digit(high)? << 4 | digit(low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 6: a key longer than a block, "Test Using Larger Than Block-Size Key - Hash Key First".
    #[test]
    fn signs_as_the_standard_says() {
        let key = SigningKey::new(&[0xaa; 131]).unwrap();
        let text = "Test Using Larger Than Block-Size Key - Hash Key First";
        let want = "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54";
        assert_eq!(key.sign(text), want);
        assert!(key.verifies(text, want));
        for wrong in ["", "60", &want[..62], &want.to_uppercase(), &want.replace('6', "7"), "zz"] {
            assert!(!key.verifies(text, wrong), "{wrong}");
        }
    }

    #[test]
    fn a_key_of_before_and_none_count_up_to_their_ids() {
        let key = |text: &str| SigningKey::new(text.as_bytes()).unwrap();
        let (at, later) = (EntryId::new(5, 1), EntryId::new(5, 2));
        let now = key("a secret of enough bytes");
        let before = key("the secret of last year");
        let (new, old) = (now.sign("h"), before.sign("h"));
        assert!(now.vouches(later, "h", Some(&new)));
        assert!(!now.vouches(at, "h", Some(&old)) && !now.vouches(at, "h", None));
        let now = now.with_former(before, at).with_unsigned_until(Some(at));
        for id in [at, later] {
            assert!(now.vouches(id, "h", Some(&new)));
            assert_eq!(now.vouches(id, "h", Some(&old)), id == at);
            assert_eq!(now.vouches(id, "h", None), id == at);
            assert!(!now.vouches(id, "h", Some("nonsense")), "a wrong signature is not a missing one");
        }
        assert_eq!(now.sign("h"), new, "nothing is signed with a key of before");
    }

    #[test]
    fn a_key_is_trimmed_never_short_and_never_shown() {
        let key = SigningKey::new(b"  a secret of enough bytes\r\n").unwrap();
        assert_eq!(key.sign("h"), SigningKey::new(b"a secret of enough bytes").unwrap().sign("h"));
        assert!(!format!("{key:?}").contains("secret of"), "{key:?}");
        assert_eq!(SigningKey::new(b"short\n").unwrap_err(), WeakKey { bytes: 5 });
    }
}
