//! Entries of our own for the control stream.

use super::gap::StreamGap;
use crate::domain::event::ids::EntryId;

/// An entry of our own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnEntry {
    /// `policy.adopted`: the configured policy, which was not in force before.
    NewPolicy,
    /// `policy.adopted`: the configured policy, which is in force and is not in the log.
    PolicyInForce,
    /// `policy.adopted` for one account: its configured policy as JSON, or null where it has none of its own any more.
    AccountPolicy { account: Box<str>, policy: Box<str> },
    /// `history.gap`
    Gap(StreamGap),
    /// `kill.changed`: the kill key was set or cleared.
    Kill(bool),
    /// `entry.skipped`
    Skipped { stream: Box<str>, id: EntryId, why: &'static str },
}

impl OwnEntry {
    /// Returns the gap that the entry is about.
    pub fn into_gap(self) -> Option<StreamGap> {
        match self {
            Self::Gap(gap) => Some(gap),
            Self::NewPolicy
            | Self::PolicyInForce
            | Self::AccountPolicy { .. }
            | Self::Kill(_)
            | Self::Skipped { .. } => None,
        }
    }
}
