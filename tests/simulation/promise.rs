//! What must hold, and the violation of one of these promises.

use std::fmt;

/// One thing that must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// A process starts from whatever its last life has left on the disk.
    Starts,
    /// A process goes on until it is ended, without an error and without a panic.
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
    /// An order is not older than the configuration allows when it is sent.
    OrderIsYoung,
    /// All streams were folded up to at most 2 s before an order is sent.
    OrderIsFresh,
    /// No order is sent while the kill key is set.
    NoOrderWhenKilled,
    /// No order of an account is offered once it was folded that this account is killed.
    NoOrderOfKilledAccount,
    /// A decision names a book and the policy of its account. Its order names the same book, and closes.
    OrderOfItsBook,
    /// An order is offered only while its position holds it.
    OrderHasPosition,
    /// An entry of our own is written once.
    OwnEntryOnce,
    /// An entry that cannot be read has a record in the quarantine stream; one only, while there is one instance.
    Recorded,
    /// A gap is reported only where something is lost.
    GapIsReal,
    /// What cannot be read any more is named by a gap.
    LossIsNamed,
    /// Without a loss and a clock that steps, entries are applied in canonical order.
    CanonicalOrder,
    /// The state is that of the journal, replayed.
    StateOfJournal,
    /// All instances have the same state.
    SameState,
    /// The decisions in the stream are those of a run that nothing disturbs.
    DecisionsOfOracle,
    /// Every decision has one order, or one reason why it has none.
    OneOutcome,
    /// Once nothing is disturbed any more, everything is read, written and acknowledged in the end.
    Settles,
    /// The same seed gives the same run.
    Repeats,
}

/// A promise that was broken, and how.
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
