//! Merges sorted parts line by line.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::error::HistoryError;
use super::source::{Context, MergeKey, Part, Source};

/// The next line of the merge.
pub(super) struct Merged<'a> {
    pub key: MergeKey,
    pub bytes: &'a [u8],
    /// The previous line, if it is the same entry.
    pub duplicate: Option<(MergeKey, &'a [u8])>,
}

/// The parts of a history, each open from its first line to its last.
pub(super) struct Merge {
    /// Parts that are not open yet, the next one last.
    waiting: Vec<Part>,
    slots: Vec<Option<Source>>,
    /// The open parts except the active one, by their current lines.
    heads: BinaryHeap<Reverse<(MergeKey, usize)>>,
    /// The slot of the part that returned the last line.
    active: Option<usize>,
    /// The first line of all other parts.
    others: MergeKey,
    /// The last line of the most recently closed part.
    closed: Vec<u8>,
    /// Lines of streams that are not configured, in closed parts that were not read before. [1]
    other_lines: u64,
}

impl Merge {
    pub fn new(mut waiting: Vec<Part>) -> Self {
        waiting.sort_by_key(|part| Reverse(part.first));
        Self {
            waiting,
            slots: Vec::new(),
            heads: BinaryHeap::new(),
            active: None,
            others: MergeKey::MAX,
            closed: Vec::new(),
            other_lines: 0,
        }
    }

    /// Does the same with files that are already open at their first lines.
    pub fn with_open(waiting: Vec<Part>, sources: Vec<Source>) -> Self {
        let mut merge = Self::new(waiting);
        merge.heads = sources.iter().enumerate().map(|(slot, source)| Reverse((source.key, slot))).collect();
        merge.slots = sources.into_iter().map(Some).collect();
        merge
    }

    /// Returns the number of skipped lines of streams that are not configured, if no earlier pass has counted them. [1]
    pub fn other_lines(&self) -> u64 {
        self.other_lines + self.slots.iter().flatten().map(Source::others).sum::<u64>()
    }

    /// Returns the next line. After an error the merge is unusable.
    #[inline(always)]
    pub fn next(&mut self, context: &Context) -> Result<Option<Merged<'_>>, HistoryError> {
        let mut key_before = None;
        let mut slot_before = None;
        if let Some(slot) = self.active {
            let source = self.slots[slot].as_mut().expect("the active part is open");
            key_before = Some(source.key);
            if !source.advance(context)? {
                self.close(slot);
                self.activate(context)?;
            } else {
                slot_before = Some(slot);
                if source.key > self.others {
                    self.heads.push(Reverse((source.key, slot)));
                    self.activate(context)?;
                }
            }
        } else {
            self.activate(context)?;
        }
        let Some(slot) = self.active else { return Ok(None) };
        let source = self.slots[slot].as_ref().expect("the active part is open");
        let duplicate = match key_before {
            Some(key) if key.entry == source.key.entry => Some((key, self.former(slot_before))),
            _ => None,
        };
        Ok(Some(Merged { key: source.key, bytes: source.line(), duplicate }))
    }

    /// Returns the previous line: of the part in this slot, which has moved on since, or of a closed part.
    fn former(&self, slot: Option<usize>) -> &[u8] {
        match slot.and_then(|slot| self.slots[slot].as_ref()) {
            Some(source) => source.former(),
            None => &self.closed,
        }
    }

    fn close(&mut self, slot: usize) {
        if let Some(source) = self.slots[slot].take() {
            self.closed.clear();
            self.closed.extend_from_slice(source.line());
            self.other_lines += source.others();
        }
    }

    fn vacant_slot(&mut self) -> usize {
        self.slots.iter().position(Option::is_none).unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        })
    }

    /// Opens the parts that come next and activates the one with the first line.
    fn activate(&mut self, context: &Context) -> Result<(), HistoryError> {
        while let Some(part) = self.waiting.last() {
            if self.heads.peek().is_some_and(|Reverse((head, _))| *head < part.first) {
                break;
            }
            let source = Source::open(part, context)?;
            let slot = self.vacant_slot();
            self.heads.push(Reverse((source.key, slot)));
            self.slots[slot] = Some(source);
            self.waiting.pop();
        }
        self.active = self.heads.pop().map(|Reverse((_, slot))| slot);
        let open = self.heads.peek().map_or(MergeKey::MAX, |Reverse((head, _))| *head);
        self.others = self.waiting.last().map_or(open, |part| open.min(part.first));
        Ok(())
    }
}
