//! The accounts whose entries are read: all of them, a list, or a shard (docs/spec/streams.md, "Accounts of a cell").

use std::collections::BTreeSet;
use std::fmt;

use sha2::{Digest as _, Sha256};

/// The word for the account without a name. No account can have it as its name.
pub const NO_NAME: &str = "(none)";

/// Largest number of shards. [1]
pub const SHARDS_MAX: u32 = 4096;

/// The accounts whose entries are read. Entries of other accounts are skipped and counted.
///
/// ```
/// use harvester::domain::event::selection::Selection;
///
/// let listed = Selection::listed(["main", "(none)"]);
/// assert!(listed.contains("main") && !listed.contains("hedged"));
/// // The account without a name is listed as "(none)".
/// assert!(listed.contains(""));
///
/// // Two services must not read one account: these share "main".
/// let other = Selection::listed(["main", "hedged"]);
/// assert_eq!(listed.shared_with(&other).as_deref(), Some("main"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    #[default]
    All,
    /// These accounts. The account without a name has the empty name.
    Listed(BTreeSet<Box<str>>),
    /// One of several equal parts of all accounts.
    Shard(Shard),
}

/// One of several parts of all accounts: those whose hash leaves this remainder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 0 on.
    pub index: u32,
    /// Number of parts. [1]
    pub of: u32,
}

impl Shard {
    /// Parses `3/16`.
    ///
    /// ```
    /// use harvester::domain::event::selection::Shard;
    ///
    /// let shard = Shard::parse("3/16").expect("a shard");
    /// assert_eq!((shard.index, shard.of), (3, 16));
    ///
    /// // Shards count from 0: of 16, the last one is 15.
    /// assert!(Shard::parse("15/16").is_some() && Shard::parse("16/16").is_none());
    ///
    /// // Each account is in exactly one of four.
    /// let four = (0..4).map(|index| Shard { index, of: 4 });
    /// assert_eq!(four.filter(|shard| shard.contains("main")).count(), 1);
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let (index, of) = text.split_once('/')?;
        let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u32>().ok())?;
        let shard = Self { index: number(index.trim())?, of: number(of.trim())? };
        ((1..=SHARDS_MAX).contains(&shard.of) && shard.index < shard.of).then_some(shard)
    }

    /// Returns true if an account belongs to this part.
    pub fn contains(self, account: &str) -> bool {
        hash_of_account(account) % u64::from(self.of) == u64::from(self.index)
    }

    /// Returns true if an account could belong to both parts: the remainders agree modulo the greatest common divisor.
    fn meets(self, other: Self) -> bool {
        let (mut a, mut b) = (self.of, other.of);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        self.index % a == other.index % a
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.of)
    }
}

/// Returns the hash that deals accounts to shards: the first eight bytes of the SHA-256 of the name, the first one most
/// significant. It never changes: with another hash, accounts would move between cells.
pub fn hash_of_account(name: &str) -> u64 {
    let digest = Sha256::digest(name.as_bytes());
    let first = digest.first_chunk().expect("a SHA-256 has 32 bytes");
    u64::from_be_bytes(*first)
}

impl Selection {
    /// Returns a list of accounts. [`NO_NAME`] is the account without a name.
    pub fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let name = |name: &str| if name == NO_NAME { "" } else { name }.into();
        Self::Listed(names.into_iter().map(name).collect())
    }

    /// Returns true if the entries of an account are read. The account without a name has the empty name.
    pub fn contains(&self, account: &str) -> bool {
        match self {
            Self::All => true,
            Self::Listed(names) => names.contains(account),
            Self::Shard(shard) => shard.contains(account),
        }
    }

    /// Returns true if entries of all accounts are read.
    pub fn is_all(&self) -> bool {
        match self {
            Self::All => true,
            Self::Shard(shard) => shard.of == 1,
            Self::Listed(_) => false,
        }
    }

    /// Returns, in words, the accounts that both could read; `None` if no account can be in both.
    pub fn shared_with(&self, other: &Self) -> Option<String> {
        let named =
            |name: &str| if name.is_empty() { "the account without a name".to_owned() } else { name.to_owned() };
        match (self, other) {
            (Self::Listed(names), of) | (of, Self::Listed(names)) => {
                let shared: Vec<String> =
                    names.iter().filter(|name| of.contains(name)).map(|name| named(name)).collect();
                (!shared.is_empty()).then(|| shared.join(", "))
            }
            (Self::Shard(a), Self::Shard(b)) => a.meets(*b).then(|| format!("accounts of the shards {a} and {b}")),
            (Self::All, Self::All) => Some("all accounts".to_owned()),
            (Self::All, Self::Shard(shard)) | (Self::Shard(shard), Self::All) => {
                Some(format!("accounts of the shard {shard}"))
            }
        }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all accounts"),
            Self::Shard(shard) => write!(f, "shard {shard}"),
            Self::Listed(names) => {
                let name = |name: &'_ str| if name.is_empty() { NO_NAME.to_owned() } else { name.to_owned() };
                let names: Vec<String> = names.iter().map(|n| name(n)).collect();
                write!(f, "accounts {}", names.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of docs/spec/streams.md. They were computed with `sha256sum`.
    #[test]
    fn the_hash_of_an_account_is_that_of_the_contract() {
        for (name, hash, of_16) in [
            ("", 0xe3b0_c442_98fc_1c14_u64, 4),
            ("main", 0x0d6e_4079_e367_03eb, 11),
            ("sub.1", 0x4c56_396f_4355_f573, 3),
            ("hedged", 0xe95d_fd10_423d_2935, 5),
            ("account-1", 0x07e9_9801_2c11_37de, 14),
        ] {
            assert_eq!(hash_of_account(name), hash, "{name}");
            assert!(Shard { index: of_16, of: 16 }.contains(name), "{name}");
        }
    }

    #[test]
    fn a_shard_is_a_part_that_exists() {
        assert_eq!(Shard::parse("3/16"), Some(Shard { index: 3, of: 16 }));
        assert_eq!(Shard::parse(" 0 / 1 "), Some(Shard { index: 0, of: 1 }));
        for text in ["16/16", "3", "/16", "3/", "-1/2", "+1/2", "0/0", "0/4097", "a/b", "1/2/3"] {
            assert_eq!(Shard::parse(text), None, "{text}");
        }
    }

    #[test]
    fn each_account_is_in_one_shard_and_shared_accounts_are_named() {
        for n in 0..500 {
            let name = format!("account-{n}");
            let shard = |index| Selection::Shard(Shard { index, of: 16 });
            assert_eq!((0..16).filter(|index| shard(*index).contains(&name)).count(), 1, "{name}");
        }
        let shard = |text| Selection::Shard(Shard::parse(text).expect("a shard"));
        let listed = |names: &[&str]| Selection::listed(names.iter().copied());
        assert_eq!(shard("1/4").shared_with(&shard("2/4")), None);
        assert_eq!(shard("1/4").shared_with(&shard("2/8")), None);
        assert!(shard("1/4").shared_with(&shard("5/8")).is_some());
        assert!(shard("1/4").shared_with(&shard("0/3")).is_some());
        assert_eq!(listed(&["a", "b"]).shared_with(&listed(&["c", "b", "a"])).as_deref(), Some("a, b"));
        assert_eq!(listed(&["a"]).shared_with(&listed(&[NO_NAME])), None);
        assert_eq!(listed(&[NO_NAME]).shared_with(&Selection::All).as_deref(), Some("the account without a name"));
        assert!(listed(&[NO_NAME]).contains("") && !listed(&["a"]).contains(""));
        assert!(shard("0/1").is_all() && Selection::All.is_all() && !listed(&["a"]).is_all());
    }
}
