//! The start of a process, as in `src/service/run/start.rs`: from its store, the tail of its journal, and the entries
//! that the streams already contain.

use std::sync::Arc;

use crossbeam_channel::unbounded;
use harvester::codec::line::{self, Fields};
use harvester::codec::policy;
use harvester::codec::state::{self, Meta};
use harvester::config::Start;
use harvester::domain::delivery::AccountPolicy;
use harvester::domain::engine::{Decisions, Engine};
use harvester::domain::event::ids::EntryId;
use harvester::domain::event::streams::StreamKind;
use harvester::domain::exit::policy::Policy;
use harvester::drive::commits::PendingRows;
use harvester::drive::driver::Driver;
use harvester::drive::keys;
use harvester::drive::look_ahead::{LookAhead, is_read_ahead};
use harvester::service::run::crash_guard::CrashGuard;
use harvester::service::run::orders::OrderSettings;
use harvester::service::run::processor::{OutputStreams, Processor, ProcessorParts, Stored};
use harvester::service::run::{Connect, LeaseState, Reader, ReaderSetup, ReaderStatus};
use harvester::shell::redis::{Address, Membership};
use tokio::sync::watch;

use super::process::{Parts, Process};
use super::promise::Promise;
use super::redis::StreamEntry;
use super::run::{CONTROL, LEASE};
use super::world::World;

impl World {
    /// Starts a process at an instance after some time.
    pub fn start_after(&mut self, instance: usize, us: u64) {
        let life = self.instances[instance].life;
        self.after(us, move |world| {
            if world.instances[instance].life == life && world.instances[instance].process.is_none() {
                world.start(instance);
            }
        });
    }

    /// Reads the streams, and begins. Is repeated while the server is not reached.
    fn start(&mut self, instance: usize) {
        if self.now_us < self.instances[instance].disk.full_until_us {
            return self.start_after(instance, 500_000);
        }
        let mut processor = match self.opened(instance) {
            Ok(processor) => processor,
            Err(error) => {
                let text = format!("{} does not start: {error:#}", self.instances[instance].name);
                return self.violate(Promise::Starts, text);
            }
        };
        let effect = |world: &mut World, _: bool| -> Vec<(String, Vec<StreamEntry>)> {
            let ahead = world.config.streams.iter().filter(|(_, stream)| is_read_ahead(stream.kind));
            ahead
                .map(|(_, stream)| {
                    (stream.name.clone(), world.redis.entries_after(&stream.name, EntryId::default()).to_vec())
                })
                .collect()
        };
        self.call(instance, effect, move |world, looked| {
            let Ok(looked) = looked else { return world.start_after(instance, 300_000) };
            match world.begun(instance, &mut processor, &looked) {
                Ok(()) => world.run_process(instance, processor),
                Err(error) => {
                    let text = format!("{} does not start: {error:#}", world.instances[instance].name);
                    world.violate(Promise::Starts, text);
                }
            }
        });
    }

    /// Opens the store.
    fn opened(&mut self, instance: usize) -> anyhow::Result<Processor> {
        let config = self.config.clone();
        let disk = &self.instances[instance].disk;
        let mut engine = Engine::new(config.streams.clone(), config.policy.clone());
        if let Some(meta) = state::meta(&disk.store)? {
            let made_with = meta.streams().expect("the streams of the store read");
            state::load(&disk.store, &made_with, &mut engine)?;
        } else {
            config.account_policies.iter().for_each(|(account, of)| engine.configure_account(account, of.clone()));
        }
        let mut rows = PendingRows::new(engine.symbols().len());
        rows.stage(state::meta_row(&Meta::of(&config.streams, &config.policy)));
        let stored = Stored::read(&disk.store, &config.streams)?;
        anyhow::ensure!(
            stored.checkpoint.journal <= disk.lines.len() as u64,
            "the checkpoint rests on {} entries of the journal, which has {}",
            stored.checkpoint.journal,
            disk.lines.len()
        );
        Ok(Processor::new(ProcessorParts {
            driver: Driver::going_on(engine, &config, Decisions::Recorded)?,
            rows,
            signing: keys::configured(&config)?,
            order_settings: OrderSettings {
                live: config.emit.live(&config.policy, &config.streams)?,
                policy: config.policy.hash.clone(),
                account_policies: config
                    .account_policies
                    .iter()
                    .map(|(account, of)| (account.clone(), account_policy(of)))
                    .collect(),
                age_max_ms: config.emit.max_decision_age_ms,
            },
            outputs: OutputStreams { control: CONTROL.to_owned(), suggestions: config.outputs.suggestions.clone() },
            crash_guard: CrashGuard::off(),
            stored,
            faults: self.request.faults,
        }))
    }

    /// Gives the engine the results of the look-ahead, and folds the journal after the checkpoint.
    fn begun(
        &mut self,
        instance: usize,
        processor: &mut Processor,
        looked: &[(String, Vec<StreamEntry>)],
    ) -> anyhow::Result<()> {
        let disk = &mut self.instances[instance].disk;
        let mut ahead = LookAhead::default();
        let streams = processor.streams().clone();
        let (from, _) = processor.delivery.journal();
        for text in &disk.lines[from as usize..] {
            let (name, id) = line::head(text.as_bytes())?;
            let (Some(stream), Ok(id)) = (streams.id_of(&name), id.parse()) else { continue };
            if is_read_ahead(streams.kind(stream)) {
                processor.look(&mut ahead, stream, id, &line::fields(text.as_bytes())?);
            }
        }
        for (name, entries) in looked {
            let stream = streams.id_of(name).expect("it is configured");
            let cursor = processor.engine().cursor(stream);
            for entry in entries.iter().filter(|entry| cursor.is_none_or(|cursor| entry.id > cursor)) {
                let pairs = entry.fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
                processor.look(&mut ahead, stream, entry.id, &Fields::of(pairs));
            }
        }
        processor.driver.preload(ahead);
        for text in &disk.lines[from as usize..] {
            processor.fold_again(text)?;
        }
        processor.delivery.handle_synced(disk.lines.len() as u64);
        let rows = processor.checkpoint().rows;
        disk.store.commit(rows);
        Ok(())
    }

    /// Runs the process from here on.
    fn run_process(&mut self, instance: usize, processor: Processor) {
        let config = self.config.clone();
        let (role, role_seen) = watch::channel(LeaseState::NotOurs);
        let status = Arc::new(ReaderStatus::default());
        let (to_fold, messages) = unbounded();
        let (folded, to_fill) = unbounded();
        let start_of = |kind| match kind {
            StreamKind::Control | StreamKind::Decision => Start::Earliest,
            _ => config.run.from.start(0),
        };
        let reader = Reader::new(ReaderSetup {
            connect: Connect::new(Address::new("redis://simulated", None).expect("an address")),
            membership: Membership {
                group: config.run.group.clone(),
                consumer: self.instances[instance].name.clone(),
                lease_key: LEASE.to_owned(),
                pending_list: config.run.pending_list,
            },
            streams: config.streams.iter().map(|(_, stream)| stream.name.clone()).collect(),
            kinds: config.streams.iter().map(|(_, stream)| stream.kind).collect(),
            kill_gate: Arc::clone(&processor.kill_gate),
            cursors_and_counts: processor.cursors_and_counts(),
            from: config.streams.iter().map(|(_, stream)| start_of(stream.kind)).collect(),
            count: config.run.read_count,
            role: role_seen,
            stop: Arc::default(),
            status: Arc::clone(&status),
            to_fold,
            folded: to_fill,
            faults: self.request.faults,
        });
        let owner = format!("{} {:016x}", self.instances[instance].name, self.rng.next());
        let (name, (position, _)) = (self.instances[instance].name.clone(), processor.delivery.journal());
        self.note(&name, format!("runs: {position} entries, {} decisions", processor.engine().globals().chain.seq));
        let knows = self.instances[instance].disk.knows.clone();
        let parts = Parts { processor, reader, messages, folded, role, status, owner, knows };
        self.instances[instance].process = Some(Box::new(Process::new(parts, self.now_us)));
        self.instances[instance].starts += 1;
        let life = self.instances[instance].life;
        let parts: [fn(&mut Self, usize); 4] =
            [Self::keep_lease, Self::watch_kill_key, Self::connect_emitter, Self::read];
        for part in parts {
            let us = self.rng.within(50, 3_000);
            self.at_instance(instance, life, us, move |world| part(world, instance));
        }
        self.wake(instance);
    }
}

fn account_policy(of: &Policy) -> AccountPolicy {
    AccountPolicy { hash: of.hash.clone(), json: policy::to_json(of).into() }
}
