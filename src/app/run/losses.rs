//! Are there entries that we can never read: counted, because a stream that was trimmed says nothing.
//!
//! `entries-added` counts what a stream was ever given; `seen` counts what we took or know to be lost. Where nothing
//! is left to read both are the same; where something is, no more can have been trimmed than was seen. A stream that
//! was given less than it said before has lost its history: it was deleted, flushed, or its server was replaced by one
//! that lagged. Servers before 7.0 do not count: there only a first entry behind the cursor gives a hint.

use super::message::Loss;
use crate::codec::live::StreamPlace;
use crate::config::Start;
use crate::domain::ids::{EntryId, StreamId};
use crate::shell::redis::{Consumer, ServerError, Survey};

/// What was counted of each stream.
pub struct Bookkeeping {
    streams: Vec<Option<StreamBook>>,
}

#[derive(Clone, Copy, Debug)]
struct StreamBook {
    place: StreamPlace,
    /// The last entry that was read when nothing was missing.
    whole_to: EntryId,
}

/// What a survey says of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finding {
    Whole,
    /// So many entries were trimmed before we read them.
    Trimmed(u64),
    /// Something was trimmed; the server does not count.
    TrimmedSomewhere,
    /// The server has lost what it had told of.
    Forgotten,
}

impl Bookkeeping {
    pub fn new(places: &[Option<(EntryId, StreamPlace)>]) -> Self {
        let book = |(id, place)| StreamBook { place, whole_to: id };
        Self { streams: places.iter().map(|place| place.map(book)).collect() }
    }

    pub fn has_begun(&self, stream: usize) -> bool {
        self.streams[stream].is_some()
    }

    /// Counts an entry that was read.
    pub fn count(&mut self, stream: usize) {
        if let Some(book) = &mut self.streams[stream] {
            book.place.seen += 1;
        }
    }

    /// Decides where a stream begins that was never read, and what is missing before.
    pub async fn begin(
        &mut self,
        stream: StreamId,
        survey: &Survey,
        from: Start,
        consumer: &mut Consumer,
    ) -> Result<(Option<EntryId>, StreamPlace, Option<Loss>), ServerError> {
        let added = survey.entries_added.unwrap_or(0);
        let (cursor, unread) = match from {
            Start::Earliest => (None, survey.length),
            Start::Latest => (Some(survey.last_id), 0),
            Start::After(id) => (Some(id), consumer.count_after(usize::from(stream.0), id).await?),
        };
        let cursor = cursor.filter(|id| *id != EntryId::default());
        let place = StreamPlace { seen: added.saturating_sub(unread), added };
        let whole_to = cursor.unwrap_or_default();
        self.streams[usize::from(stream.0)] = Some(StreamBook { place, whole_to });
        // What is missing before counts as seen once the gap is in the log: until then a new start finds it again.
        let begun = StreamPlace { seen: 0, added };
        let loss = (place.seen > 0).then_some(Loss {
            stream,
            after: None,
            before: if unread == survey.length { survey.first_id } else { survey.next_id },
            count: Some(place.seen),
            shift: place.seen as i64,
            added,
            why: "not read from its beginning",
        });
        Ok((cursor, if loss.is_some() { begun } else { place }, loss))
    }

    /// Compares a survey with what was counted; `read` is the last entry read.
    pub async fn check(
        &mut self,
        stream: StreamId,
        survey: &Survey,
        read: EntryId,
        consumer: &mut Consumer,
    ) -> Result<Option<Loss>, ServerError> {
        let Some(book) = &mut self.streams[usize::from(stream.0)] else { return Ok(None) };
        let added = if survey.exists { survey.entries_added.unwrap_or(book.place.added) } else { 0 };
        let (count, seen, why) = match find(survey, book.place, read.max(book.whole_to)) {
            Finding::Whole => {
                book.place.added = added;
                book.whole_to = book.whole_to.max(read);
                return Ok(None);
            }
            Finding::Trimmed(count) => (Some(count), book.place.seen + count, "trimmed before it was read"),
            Finding::TrimmedSomewhere => (None, book.place.seen, "trimmed before it was read"),
            Finding::Forgotten => {
                let unread = consumer.count_after(usize::from(stream.0), read).await?;
                (None, added.saturating_sub(unread), "the server has forgotten entries that it had")
            }
        };
        let shift = seen as i64 - book.place.seen as i64;
        book.place = StreamPlace { seen, added };
        let after = Some(book.whole_to).filter(|id| *id != EntryId::default());
        let before = survey.first_id.filter(|first| *first > book.whole_to).or(survey.next_id);
        book.whole_to = read.max(before.unwrap_or_default());
        Ok(Some(Loss { stream, after, before, count, shift, added, why }))
    }
}

/// `whole_to`: the last entry that was read, or before which all is known to be lost.
fn find(survey: &Survey, place: StreamPlace, whole_to: EntryId) -> Finding {
    let added = if survey.exists { survey.entries_added } else { Some(0) };
    let Some(added) = added else {
        let is_behind = survey.first_id.is_some_and(|first| first > whole_to) && place.seen > 0;
        return if is_behind { Finding::TrimmedSomewhere } else { Finding::Whole };
    };
    // What we have seen was added, whether or not the server was asked since.
    if added < place.added.max(place.seen) {
        return Finding::Forgotten;
    }
    // Where nothing is left to read, everything was seen or is lost; else at least what was trimmed must have been.
    let gone = if survey.next_id.is_none() { added } else { added.saturating_sub(survey.length) };
    match gone.saturating_sub(place.seen) {
        0 => Finding::Whole,
        count => Finding::Trimmed(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(added: u64, length: u64, next: Option<u64>) -> Survey {
        Survey {
            exists: true,
            length,
            entries_added: Some(added),
            last_id: EntryId::new(added, 0),
            first_id: Some(EntryId::new(added - length + 1, 0)),
            next_id: next.map(|ms| EntryId::new(ms, 0)),
            ..Survey::default()
        }
    }

    #[test]
    fn i11_a_trimmed_stretch_is_found_by_counting() {
        let place = |seen, added| StreamPlace { seen, added };
        let read = EntryId::new(3, 0);
        // Entries of 10 added, 3 read, and what is left after trimming.
        let cases = [
            (survey(10, 10, Some(4)), place(3, 3), Finding::Whole),
            (survey(10, 7, Some(4)), place(3, 3), Finding::Whole),
            (survey(10, 4, Some(7)), place(3, 3), Finding::Trimmed(3)),
            (survey(10, 1, None), place(10, 10), Finding::Whole),
            // Read on past the hole before anyone looked: only the whole count shows it.
            (survey(10, 4, None), place(7, 3), Finding::Trimmed(3)),
            // An entry of the past was deleted by hand: it had been seen.
            (survey(10, 9, Some(4)), place(3, 10), Finding::Whole),
            (survey(8, 8, Some(4)), place(3, 10), Finding::Forgotten),
            (survey(2, 2, None), place(3, 0), Finding::Forgotten),
            (Survey::default(), place(3, 10), Finding::Forgotten),
            (Survey::default(), place(0, 0), Finding::Whole),
        ];
        for (survey, place, want) in cases {
            assert_eq!(find(&survey, place, read), want, "{survey:?} {place:?}");
        }
        let old = Survey { entries_added: None, ..survey(10, 4, Some(7)) };
        assert_eq!(find(&old, place(3, 0), read), Finding::TrimmedSomewhere, "a server that does not count");
    }
}
