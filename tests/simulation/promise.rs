//! The promises of the service, and the violation of one of them.

use std::fmt;

/// One promise: a sentence that must be true in every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// A process starts from any state that an earlier process has left on the disk.
    Starts,
    /// A process runs until it is ended, without an error and without a panic.
    GoesOn,
    /// An entry is acknowledged only once it is durable.
    AcknowledgedWhenDurable,
    /// A decision is written only once its cause is durable.
    WrittenWhenDurable,
    /// Only the holder of the lease writes decisions.
    WrittenByHolder,
    /// The decisions of the stream form a chain without a hole.
    Chain,
    /// No decision has two orders.
    OneOrder,
    /// When an order is sent, it is not older than the configuration allows.
    OrderIsYoung,
    /// All streams were folded up to at most 2 s before an order is sent.
    OrderIsFresh,
    /// No order is sent while an entry about positions is gone that its sender has not read and that no gap names.
    NoOrderOverLoss,
    /// No order is sent while the kill key is set.
    NoOrderWhenKilled,
    /// No order of an account is offered once an entry was folded that kills this account.
    NoOrderOfKilledAccount,
    /// A decision names a book and the policy of its account. Its order names the same book, and closes.
    OrderOfItsBook,
    /// An order is offered only while its position is open with at least its quantity.
    OrderHasPosition,
    /// An entry of our own is written once.
    OwnEntryOnce,
    /// An unreadable entry has a record in the quarantine stream; exactly one, while there is one instance.
    Recorded,
    /// A gap is reported only if entries are lost.
    GapIsReal,
    /// Every entry that cannot be read any more is named by a gap.
    LossIsNamed,
    /// Without a loss and a clock that steps, entries are applied in canonical order.
    CanonicalOrder,
    /// The state equals that of a replay of the journal.
    StateOfJournal,
    /// All instances have the same state.
    SameState,
    /// The decisions in the stream are those of an undisturbed run.
    DecisionsOfOracle,
    /// Every decision has one order, or one reason why it has none.
    OneOutcome,
    /// After the end of all disturbances, everything is read, written and acknowledged.
    Settles,
    /// The same seed gives the same run.
    Repeats,
}

/// A broken promise, with details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub promise: Promise,
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.promise, self.text)
    }
}
