//! How long a statement of the exchange may be on its way into a stream.
//!
//! The fold takes an entry as true at its id. A quantity that is appended later than it was stated would be a state of
//! the past under an id of now. So every statement has the moment from which it may be out of date, and a limit. One that
//! is late is dropped, and the exchange is asked again.

use std::time::Duration;

use crate::shell::uptime::Moment;

/// From the start of a call to the entry with its answer. A call alone may take as long.
const CALL_MAX: Duration = Duration::from_secs(5);
/// From an event at the exchange to its entry.
const EVENT_MAX: Duration = Duration::from_secs(3);

/// The moment until which a statement may be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Until(Moment);

impl Until {
    /// Returns the limit of the answer to a call that begins now.
    pub fn of_call() -> Self {
        Self(Moment::now().plus(CALL_MAX))
    }

    /// Returns the limit of an event that has this age.
    pub fn of_event(age: Duration) -> Self {
        Self(Moment::now().minus(age).plus(EVENT_MAX))
    }

    /// Returns the time that is left.
    pub fn left(self) -> Duration {
        self.0.left()
    }

    pub fn is_over(self) -> bool {
        self.left().is_zero()
    }
}
