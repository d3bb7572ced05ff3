//! Deliberate faults, which the simulator must find. A build without the feature `faults` has none of them.

/// One deliberate fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Entries are acknowledged as soon as they are folded.
    AcknowledgeBeforeSync,
    /// Decisions are offered as soon as they are folded.
    OfferBeforeSync,
    /// The checkpoint has the cursors, and the outbox follows once a decision is written.
    CursorBeforeOutbox,
    /// A checkpoint is written before the journal is on disk up to its position.
    CheckpointBeforeSync,
    /// The script compares the number of the fencing token only.
    TokenNumberOnly,
    /// The script does not compare the lease.
    NoFence,
    /// The script remembers nothing.
    NoMemory,
    /// The script does not look for the decision that was written last.
    NoLookAtLast,
    /// The script does not look for facts that were lost before they were read.
    NoLookForLostFacts,
    /// The script does not read the kill key.
    KillKeyNotRead,
    /// Ages are computed with the clock of the client.
    ClockOfClient,
    /// A decision that the server has lost is written again with its order.
    AgainWithOrder,
    /// Orders that wait are sent although the server has forgotten entries.
    ForgetDoubtAtFailover,
    /// The kill of one account does not stop its orders that wait.
    IgnoreKillOfAccount,
    /// An order is sent without a look at its position.
    OfferWithoutPosition,
    /// Actions that were in flight when the connection broke count as done.
    TakeInFlightForSent,
    /// A new leader does not read the entries that the group has delivered to others.
    SkipOwnRange,
    /// The gap detector does not count.
    NoCount,
    /// The gap detector does not notice that the server has forgotten entries.
    NoticeNothingForgotten,
    /// Entries are released without waiting for the other streams.
    ReleaseAtOnce,
    /// An entry of ours whose answer was lost is written again without looking for it.
    RetryWithoutAsking,
}

impl Fault {
    pub const ALL: [Self; 21] = [
        Self::AcknowledgeBeforeSync,
        Self::OfferBeforeSync,
        Self::CursorBeforeOutbox,
        Self::CheckpointBeforeSync,
        Self::TokenNumberOnly,
        Self::NoFence,
        Self::NoMemory,
        Self::NoLookAtLast,
        Self::NoLookForLostFacts,
        Self::KillKeyNotRead,
        Self::ClockOfClient,
        Self::AgainWithOrder,
        Self::ForgetDoubtAtFailover,
        Self::IgnoreKillOfAccount,
        Self::OfferWithoutPosition,
        Self::TakeInFlightForSent,
        Self::SkipOwnRange,
        Self::NoCount,
        Self::NoticeNothingForgotten,
        Self::ReleaseAtOnce,
        Self::RetryWithoutAsking,
    ];
}

/// The fault that a run has, if it has one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    #[cfg(feature = "faults")]
    chosen: Option<Fault>,
}

impl Faults {
    #[cfg(feature = "faults")]
    pub const fn only(fault: Fault) -> Self {
        Self { chosen: Some(fault) }
    }

    #[cfg(feature = "faults")]
    pub fn has(self, fault: Fault) -> bool {
        self.chosen == Some(fault)
    }

    #[cfg(not(feature = "faults"))]
    pub const fn has(self, _fault: Fault) -> bool {
        false
    }
}
