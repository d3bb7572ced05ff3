//! The same client with nothing behind it: fenced rounds through a group, acknowledged on a second connection meanwhile.

use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use harvester::config::Config;
use harvester::domain::event::ids::EntryId;
use harvester::shell::redis::{
    Address, Answer, Consumer, EmitKeys, Emitter, Lease, LeaseKeys, Membership, RawEntry, Server, Take,
};

use super::place::RedisServer;

const GROUP: &str = "bare";
/// As many batches as wait for the fold of a service. [1]
const BATCHES_WAITING: usize = 8;
/// Longer than any pass.
const LEASE_LASTS: Duration = Duration::from_secs(600);

type Acks = Vec<(String, Vec<EntryId>)>;

/// Reads and acknowledges so many entries; answers how long that took.
pub async fn read_and_acknowledge(server: &RedisServer, entries: u64, config: &Config) -> anyhow::Result<Duration> {
    let keys = LeaseKeys::beside(GROUP);
    let mut lease = Lease::new(server.connect().await?, keys.clone(), GROUP.to_owned(), LEASE_LASTS);
    let (Some(fence), _) = lease.hold(None).await? else { anyhow::bail!("another holds the lease") };
    let streams: Vec<String> = config.streams.iter().map(|(_, stream)| stream.name.clone()).collect();
    let membership = Membership { group: GROUP.to_owned(), consumer: GROUP.to_owned(), lease_key: keys.lease };
    let mut consumer = Consumer::new(server.connect().await?, streams.clone(), membership);
    for stream in 0..streams.len() {
        consumer.join(stream, EntryId::default()).await?;
    }
    let (to_acknowledge, acks) = sync_channel::<Acks>(BATCHES_WAITING);
    let url = server.url();
    let acknowledging = std::thread::spawn(move || acknowledge(&url, &acks));

    let takes = vec![Take::New; streams.len()];
    let began = Instant::now();
    let mut read = 0;
    while read < entries {
        let Answer::Read(round) = consumer.round(&takes, config.run.read_count, Some(&fence)).await? else { continue };
        let count: usize = round.entries.iter().map(Vec::len).sum();
        ensure!(count > 0, "{read} of {entries} entries were there");
        read += count as u64;
        let ids = |entries: Vec<RawEntry>| entries.iter().map(|entry| entry.id).collect();
        let acks = streams.iter().cloned().zip(round.entries.into_iter().map(ids));
        let acks: Acks = acks.filter(|(_, ids): &(String, Vec<EntryId>)| !ids.is_empty()).collect();
        to_acknowledge.send(acks).ok().context("acknowledging ended")?;
    }
    drop(to_acknowledge);
    acknowledging.join().ok().context("acknowledging panicked")??;
    Ok(began.elapsed())
}

fn acknowledge(url: &str, acks: &Receiver<Acks>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let address = Address::new(url, None)?;
        let server = Server::connect(&address).await?;
        let name = || GROUP.to_owned();
        let keys = EmitKeys {
            lease: name(),
            decisions: name(),
            control: name(),
            kill_key: name(),
            length_max: 0,
            signing: None,
        };
        let mut emitter = Emitter::new(server, keys);
        while let Ok(acks) = acks.recv() {
            emitter.acknowledge(GROUP, &acks).await?;
        }
        Ok(())
    })
}
