//! The Redis server of the configuration, or its cluster.

use secrecy::ExposeSecret as _;

use crate::config::Config;
use crate::domain::event::streams::{StreamKind, Streams};
use crate::shell::redis::{Address, LeaseKeys, ServerError, SlotsDiffer, memory_of, one_slot};

/// Returns the address of the server and the certificates to trust. In a cluster, commands without a key go to the node
/// that owns the lease.
pub fn address(config: &Config) -> Result<Address, ServerError> {
    let address = Address::new(config.redis.url.expose_secret(), config.redis.ca_file.as_deref())?;
    Ok(address.at_home(&LeaseKeys::beside(&decision_stream(&config.streams)).lease))
}

/// Returns the decision stream. The keys of lease and memory are derived from its name.
pub fn decision_stream(streams: &Streams) -> String {
    first_of(streams, StreamKind::Decision)
}

/// Returns the control stream that the service writes to.
pub fn control_stream(streams: &Streams) -> String {
    first_of(streams, StreamKind::Control)
}

fn first_of(streams: &Streams, kind: StreamKind) -> String {
    let first = streams.iter().find(|(_, stream)| stream.kind == kind);
    first.map_or(kind.default_stream(), |(_, stream)| &stream.name).to_owned()
}

/// Returns the names that the emission script touches, without the streams whose entries cause its decisions. In a
/// cluster they share a slot.
pub fn names_of_script(config: &Config) -> Vec<String> {
    let decisions = decision_stream(&config.streams);
    let LeaseKeys { lease, token } = LeaseKeys::beside(&decisions);
    let memory = memory_of(&decisions);
    let (control, kill_key) = (control_stream(&config.streams), config.emit.kill_key.clone());
    // Another check names settings that a live service lacks.
    let requests = config.live().ok().flatten().map(|live| live.stream);
    let names = [decisions, lease, token, memory, control, kill_key, config.outputs.suggestions.clone()];
    names.into_iter().chain(requests).collect()
}

/// Checks that one script may touch all names that it needs.
pub fn check_slots(config: &Config, address: &Address) -> Result<(), SlotsDiffer> {
    let names = names_of_script(config);
    if address.is_cluster() { one_slot(names.iter().map(String::as_str)) } else { Ok(()) }
}
