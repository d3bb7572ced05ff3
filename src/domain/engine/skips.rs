//! Skipped entries that the look-ahead found (`entry.skipped`, docs/spec/streams/control.md, "Skipped entries").

use std::collections::BTreeSet;

use crate::domain::event::ids::EntryId;

/// An entry, by stream and id.
pub type At = (Box<str>, EntryId);

/// Returns the entries that are skipped. `skips` are the `entry.skipped` of a history in its order, each with the entry
/// that it names.
///
/// A skip that a later one skips has no effect: a service answers a forged `entry.skipped` with one of its own, and the
/// last one counts. So they are examined from the last to the first.
pub fn skipped(skips: Vec<(At, At)>) -> BTreeSet<At> {
    let mut skipped_so_far = BTreeSet::new();
    for (skip, named) in skips.into_iter().rev() {
        if !skipped_so_far.contains(&skip) {
            skipped_so_far.insert(named);
        }
    }
    skipped_so_far
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(stream: &str, ms: u64) -> At {
        (stream.into(), EntryId::new(ms, 0))
    }

    #[test]
    fn what_is_skipped_so_far_over_hides_nothing() {
        let (fill, forged) = (at("result", 5), at("control", 10));
        let hides = (forged.clone(), fill.clone());
        assert_eq!(skipped(vec![hides.clone()]), BTreeSet::from([fill.clone()]));
        let refused = (at("control", 11), forged.clone());
        assert_eq!(skipped(vec![hides.clone(), refused.clone()]), BTreeSet::from([forged.clone()]));
        // Forged again, against the skip by the service, which is the last.
        let again = (at("control", 12), at("control", 11));
        let refused_again = (at("control", 13), at("control", 12));
        let all = vec![hides.clone(), refused.clone(), again, refused_again];
        assert_eq!(skipped(all), BTreeSet::from([forged.clone(), at("control", 12)]));
        // Written in advance, for an entry that comes later.
        let beforehand = (at("control", 9), at("control", 11));
        assert_eq!(skipped(vec![beforehand, hides, refused]), BTreeSet::from([forged, at("control", 11)]));
    }
}
