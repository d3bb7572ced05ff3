//! Entries that occur twice under one id with different content.

use serde::Deserialize;
use serde_json::Value;

use super::source::{Context, MergeKey};

/// Maximum number of differing duplicates that are named one by one. [1]
const NAMED_MAX: usize = 20;

/// The duplicates found so far.
#[derive(Default)]
pub(super) struct Duplicates {
    named: Vec<String>,
    unnamed: u64,
}

impl Duplicates {
    /// Compares a line with the one before it, which has the same stream and id.
    #[cold]
    pub fn compare(&mut self, former: (MergeKey, &[u8]), line: (MergeKey, &[u8]), context: &Context) {
        if former.1 == line.1 || is_same(former.1, line.1) {
            return;
        }
        if self.named.len() == NAMED_MAX {
            self.unnamed += 1;
            return;
        }
        let location = |at: MergeKey| context.location(at.file, at.number);
        let (stream, id) = (context.names.name(line.0.entry.stream), line.0.id());
        self.named.push(format!(
            "{} and {} are both {stream} {id}, but differ: the first counts",
            location(former.0),
            location(line.0)
        ));
    }

    pub fn notices(&self) -> impl Iterator<Item = String> {
        let more = (self.unnamed > 0).then(|| format!("{} more entries differ from their duplicates", self.unnamed));
        self.named.iter().cloned().chain(more)
    }
}

/// The content of an entry, independent of the order of its keys and of blanks between them.
#[derive(Deserialize, PartialEq)]
struct Content {
    fields: Option<Value>,
    fields_b64: Option<Value>,
}

fn is_same(a: &[u8], b: &[u8]) -> bool {
    let content = |line| serde_json::from_slice::<Content>(line).ok();
    matches!((content(a), content(b)), (Some(a), Some(b)) if a == b)
}
