//! A running process: its parts and their state.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use harvester::domain::delivery::action::{Appended, Looked, OfferAnswer, Recorded};
use harvester::domain::event::ids::EntryId;
use harvester::service::run::processor::{CheckpointRows, Processor};
use harvester::service::run::{Batch, LeaseState, Message, Reader, ReaderStatus};
use tokio::sync::watch;

use super::emitter::Emitting;
use super::reader::ReaderLink;

/// An event for the event loop.
#[derive(Debug)]
pub enum Event {
    Synced { lines: usize },
    Checkpointed,
    EmitterConnected,
    EmitterDisconnected,
    Offered { seq: u64, answer: OfferAnswer },
    Appended { number: u64, outcome: Appended },
    Recorded { number: u64, outcome: Recorded },
    Checked { looked: Vec<Looked> },
    Acknowledged,
    Lease,
    KillKey { kill: bool, began_us: u64 },
}

/// The checkpoint that is being made.
pub enum Checkpoint {
    None,
    Ready { rows: CheckpointRows, knows: BTreeSet<String>, is_asked: bool },
    Writing { is_asked: bool },
}

/// A running process.
pub struct Process {
    pub processor: Processor,
    pub reader: Option<Reader>,
    pub link: ReaderLink,
    pub messages: Receiver<Message>,
    pub folded: Sender<Batch>,
    pub role: watch::Sender<LeaseState>,
    pub status: Arc<ReaderStatus>,
    pub emitting: Emitting,
    /// Start of the process, from which its own clock counts. [µs]
    pub began_us: u64,
    /// The last entry of each stream that was folded at the last barrier.
    pub began_at: Vec<Option<EntryId>>,
    /// The lease, and its end by our clock. [µs]
    pub lease: Option<(String, u64)>,
    pub held_value: Option<String>,
    /// The epoch of the server to which the lease task is connected.
    pub lease_epoch: Option<u64>,
    pub inherits: bool,
    pub owner: String,
    pub events: VecDeque<Event>,
    pub held: Option<Message>,
    pub is_woken: bool,
    pub is_syncing: bool,
    pub checkpoint: Checkpoint,
    pub checkpointed: (u64, u64),
    pub is_checkpoint_asked: bool,
    pub reported_us: u64,
    /// Decisions whose orders the process must not send again: it has learned that they are written, or it knew of a
    /// loss while they waited.
    pub knows: BTreeSet<String>,
    /// Time of the next wake-up. [µs]
    pub timer_us: u64,
}

/// Parts of a process that its start has made.
pub struct Parts {
    pub processor: Processor,
    pub reader: Reader,
    pub messages: Receiver<Message>,
    pub folded: Sender<Batch>,
    pub role: watch::Sender<LeaseState>,
    pub status: Arc<ReaderStatus>,
    pub owner: String,
    pub knows: BTreeSet<String>,
}

impl Process {
    pub fn new(parts: Parts, now_us: u64) -> Self {
        let Parts { processor, reader, messages, folded, role, status, owner, knows } = parts;
        let (position, _) = processor.delivery.journal();
        let began_at = processor.streams().iter().map(|(stream, _)| processor.engine().cursor(stream)).collect();
        Self {
            processor,
            reader: Some(reader),
            link: ReaderLink::default(),
            messages,
            folded,
            role,
            status,
            emitting: Emitting::default(),
            began_us: now_us,
            began_at,
            lease: None,
            held_value: None,
            lease_epoch: None,
            inherits: true,
            owner,
            events: VecDeque::new(),
            held: None,
            is_woken: false,
            is_syncing: false,
            checkpoint: Checkpoint::None,
            checkpointed: (position, now_us),
            is_checkpoint_asked: false,
            reported_us: now_us,
            knows,
            timer_us: u64::MAX,
        }
    }

    pub fn now_ms(&self, now_us: u64) -> u64 {
        (now_us - self.began_us) / 1000
    }

    /// Gives the reader the role, as long as it lasts.
    pub fn set_role(&self, now_us: u64) {
        let role = match &self.lease {
            Some((lease, until_us)) if now_us < *until_us => {
                // The end is in virtual time, which the role does not know.
                LeaseState::Ours { lease: lease.clone(), until: Instant::now() + Duration::from_secs(36_000) }
            }
            Some(_) | None => LeaseState::NotOurs,
        };
        let name = |role: &LeaseState| match role {
            LeaseState::Ours { lease, .. } => Some(lease.clone()),
            LeaseState::NotOurs => None,
        };
        let is_same = name(&self.role.borrow()) == name(&role);
        if !is_same {
            self.role.send_replace(role);
        }
    }

    pub fn takes_entries(&self) -> bool {
        !self.processor.delivery.waits_for_checkpoint()
    }

    /// Returns true if nothing is left to do.
    pub fn is_settled(&self) -> bool {
        let is_read = self.status.is_drained.load(Ordering::Relaxed) && self.messages.is_empty() && self.held.is_none();
        is_read
            && self.events.is_empty()
            && self.processor.journal.is_empty()
            && self.processor.delivery.is_settled()
            && matches!(self.checkpoint, Checkpoint::None)
    }

    /// Describes what a process that does not settle waits for.
    pub fn describe(&self) -> String {
        let delivery = &self.processor.delivery;
        format!(
            "leader {}, drained {}, messages {}, held {}, journal {:?}, unwritten {}, published {}, doubtful {}, idle {}, \
             checkpoint {}, settled {}, emitter {}",
            delivery.is_leader(),
            self.status.is_drained.load(Ordering::Relaxed),
            self.messages.len(),
            self.held.is_some(),
            delivery.journal(),
            delivery.outbox().unwritten(),
            delivery.is_published(),
            delivery.doubtful(),
            delivery.is_idle(),
            delivery.waits_for_checkpoint(),
            delivery.is_settled(),
            self.emitting.is_connected
        )
    }
}
