//! The exchanges: the properties of each, and the facts that all of them report. Nothing is sent here.
//!
//! A venue is a folder below this one that implements [`Venue`], and a line in [`VENUES`]. A test keeps the words of a
//! venue inside its folder.
//!
//! Promises: numbers are read from their text, never through a float; a reply is read completely or not at all where a
//! missing row would mean "no position".
//!
//! In reading order: `venue` (the trait), `facts` (what a venue reports), `number`, `query`, `key` (its kind, its
//! signatures), `credentials` (their problems, by name), `binance` (a venue), `written` (entries of the feeds).

mod binance;
mod credentials;
mod facts;
mod key;
mod number;
mod query;
mod venue;
mod written;

pub use credentials::{CredentialProblem, Credentials, Given};
pub use facts::{AccountMode, Forced, InstrumentRow, MarkPrice, Marks, PositionRow, Unreadable, UserEvent, UserTrade};
pub use key::KeyKind;
pub use venue::{
    Access, Call, Cause, Environment, Meaning, Message, Method, Parameter, Question, Refusal, RefusalText, Stamp,
    TradesFrom, Venue, VenueTerms,
};
pub use written::{FEED_SOURCE, WrittenTrade, mark_payload, observed_position, written_trade};

/// All venues. The configuration selects one by the name of an environment, which is unique among them; the first one
/// has the default environment.
pub static VENUES: [&dyn Venue; 1] = [&binance::Binance];

/// A venue and one of its environments.
pub type VenueEnvironment = (&'static dyn Venue, &'static Environment);

/// Returns the environments of all venues.
pub fn environments() -> impl Iterator<Item = VenueEnvironment> {
    VENUES.into_iter().flat_map(|venue| venue.terms().environments.iter().map(move |environment| (venue, environment)))
}

/// Returns the venue and the environment of an address; `None` for hosts that no venue publishes, such as loopback.
pub fn environment_of(url: &str) -> Option<VenueEnvironment> {
    VENUES.into_iter().find_map(|venue| Some((venue, venue.environment_of(url)?)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_name_and_an_address_select_one_environment() {
        let names: BTreeSet<&str> = environments().map(|(_, environment)| environment.name).collect();
        assert_eq!(names.len(), environments().count(), "each name is that of one environment");
        for (_, environment) in environments() {
            for url in [environment.rest_url, environment.mark_url, environment.user_url] {
                assert_eq!(environment_of(url).map(|(_, environment)| environment), Some(environment), "{url}");
            }
        }
        for venue in VENUES {
            let terms = venue.terms();
            assert!(terms.environments.iter().any(|environment| environment.name == terms.preset), "{}", terms.preset);
        }
        assert!(environment_of("http://127.0.0.1:1").is_none());
    }
}
