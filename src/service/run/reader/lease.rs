//! Leader or standby: how the reader follows a change of the lease.

use super::{ReadError, Reader, Shutdown};
use crate::domain::delivery::fault::Fault;
use crate::domain::event::ids::{EntryId, StreamId};
use crate::service::run::message::Message;
use crate::service::run::source::Source;
use crate::shell::redis::RawEntry;

/// How streams are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Not yet agreed with the server.
    Unsettled,
    Standby,
    /// Entries are read with the group.
    Leader {
        lease: String,
    },
}

impl Reader {
    /// Becomes leader or standby if the lease changed.
    pub(super) fn settle(&mut self, consumer: &mut impl Source) -> Result<(), ReadError> {
        if self.is_settled() {
            return Ok(());
        }
        let lease = self.setup.role.borrow().lease().map(str::to_owned);
        self.send(Message::DeliveredAnew)?;
        match lease {
            None => {
                self.range_to.fill(None);
                self.mode = Mode::Standby;
            }
            Some(lease) => {
                self.claim_pending(consumer)?;
                self.mode = Mode::Leader { lease };
            }
        }
        Ok(())
    }

    /// Returns true if the mode fits the lease.
    pub(super) fn is_settled(&self) -> bool {
        match (self.setup.role.borrow().lease(), &self.mode) {
            (None, Mode::Standby) => true,
            (Some(lease), Mode::Leader { lease: settled }) => lease == settled,
            (None | Some(_), Mode::Unsettled | Mode::Standby | Mode::Leader { .. }) => false,
        }
    }

    /// Claims the entries that the group has delivered: reads our own pending entries and those of consumers that are
    /// gone, and notes our own range up to the last delivery.
    fn claim_pending(&mut self, consumer: &mut impl Source) -> Result<(), ReadError> {
        let is_ours = |stream: &usize| self.barred[*stream].is_none() && !self.is_ungrouped[*stream];
        for stream in (0..self.setup.streams.len()).filter(is_ours).collect::<Vec<usize>>() {
            let state = consumer.join(stream, self.read[stream])?;
            if !self.setup.faults.has(Fault::SkipOwnRange) {
                self.range_to[stream] = Some(state.last_delivered).filter(|to| *to > self.read[stream]);
            }
            let mut after = EntryId::default();
            loop {
                let page = consumer.own_pending(stream, after)?;
                let Some(last) = page.last() else { break };
                after = last.id;
                self.send_delivered(stream, &page)?;
            }
            let mut from = Some(EntryId::default());
            while let Some(start) = from {
                let (page, next) = consumer.claim(stream, start)?;
                self.send_delivered(stream, &page)?;
                from = next;
            }
        }
        Ok(())
    }

    fn send_delivered(&self, stream: usize, page: &[RawEntry]) -> Result<(), Shutdown> {
        if page.is_empty() {
            return Ok(());
        }
        let ids = page.iter().map(|entry| entry.id).collect();
        self.send(Message::Delivered(vec![(StreamId(stream as u16), ids)]))
    }
}
