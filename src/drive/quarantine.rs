//! Quarantined entries: the result of the present decoder for each.

use super::driver::Driver;
use super::keys::{self, KeyError};
use crate::codec::state::Quarantined;
use crate::config::Config;
use crate::domain::engine::Engine;
use crate::domain::event::streams::Streams;
use crate::domain::exit::policy::Policy;

/// The result of one attempt.
pub enum Now {
    /// The shape of the entry, which is readable now.
    Reads(&'static str),
    /// The reason why it is still unreadable.
    Still(String),
}

/// Decodes quarantined entries again. Changes nothing.
pub fn tried(streams: Streams, all: Vec<Quarantined>, config: &Config) -> Result<Vec<(Quarantined, Now)>, KeyError> {
    let mut driver = Driver::with_key(Engine::new(streams, Policy::default()), keys::configured(config)?);
    let each = |quarantined: Quarantined| {
        let now = decoded(&mut driver, &quarantined);
        (quarantined, now)
    };
    Ok(all.into_iter().map(each).collect())
}

fn decoded(driver: &mut Driver, quarantined: &Quarantined) -> Now {
    let Some(stream) = driver.streams().id_of(&quarantined.stream) else {
        return Now::Still("of a stream that the store does not read".to_owned());
    };
    match driver.decode_line(stream, quarantined.id, quarantined.line.as_bytes()) {
        Err(error) => Now::Still(format!("no history line: {error}")),
        Ok(entry) => match entry.content {
            Ok(_) => Now::Reads(entry.shape),
            Err(unreadable) => Now::Still(unreadable.reason.name().to_owned()),
        },
    }
}
