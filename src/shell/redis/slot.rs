//! Hash slots of Redis Cluster: keys of one slot are on one server, and only these can be in one script or transaction.

use std::collections::BTreeMap;

/// Number of hash slots of a cluster. [1]
pub const SLOTS: u16 = 16_384;

/// Returns the hash slot of a key: the CRC-16 (XMODEM) of its tag, or of the whole key if it has none, modulo
/// [`SLOTS`].
///
/// ```
/// use harvester::shell::redis::slot_of;
/// // CRC-16 of the test vector of the specification, `123456789`, is 0x31C3.
/// assert_eq!(slot_of("123456789"), 0x31C3);
/// assert_eq!(slot_of("{user1000}.following"), slot_of("{user1000}.followers"));
/// ```
pub fn slot_of(key: &str) -> u16 {
    let hashed = tag_of(key).unwrap_or(key);
    let step = |crc: u16, byte: &u8| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
            },
        )
    };
    hashed.as_bytes().iter().fold(0, step) % SLOTS
}

/// Returns the tag of a key: the text between its first `{` and the next `}`, if that is not empty.
pub fn tag_of(key: &str) -> Option<&str> {
    let (_, after) = key.split_once('{')?;
    let (tag, _) = after.split_once('}')?;
    (!tag.is_empty()).then_some(tag)
}

/// Names that one script uses and that are not in one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotsDiffer {
    /// The names by their slots.
    pub of_slot: BTreeMap<u16, Vec<String>>,
    /// A tag that would put all of them into one slot.
    pub tag: String,
}

impl SlotsDiffer {
    /// Returns the names with their slots, and a tag that would put them into one slot.
    pub fn says(&self) -> String {
        let slots: Vec<String> =
            self.of_slot.iter().map(|(slot, names)| format!("{} in slot {slot}", names.join(", "))).collect();
        let first = self.of_slot.values().flatten().next().map_or("", String::as_str);
        format!(
            "one script touches all of these names, and a cluster has them in {} slots ({}): put one tag into each of them, \
             such as {{{tag}}}:{first}",
            slots.len(),
            slots.join("; "),
            tag = self.tag,
        )
    }
}

/// Checks that names share a slot. The error proposes the first tag among the names, or `harvest` if there is none.
pub fn one_slot<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<(), SlotsDiffer> {
    let mut of_slot: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    let mut tag = None;
    for name in names {
        tag = tag.or_else(|| tag_of(name));
        let of = of_slot.entry(slot_of(name)).or_default();
        if !of.iter().any(|known| known == name) {
            of.push(name.to_owned());
        }
    }
    match of_slot.len() {
        0 | 1 => Ok(()),
        _ => Err(SlotsDiffer { of_slot, tag: tag.unwrap_or("harvest").to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples in the specification of Redis Cluster, and slots that `CLUSTER KEYSLOT` of a server returns.
    #[test]
    fn slots_are_those_of_the_servers() {
        assert_eq!(tag_of("foo{}{bar}"), None, "an empty tag is none");
        assert_eq!(tag_of("foo{{bar}}zap"), Some("{bar"));
        assert_eq!(tag_of("foo{bar}{zap}"), Some("bar"));
        assert_eq!(tag_of("foo{bar"), None);
        for (key, slot) in [("foo", 12_182), ("bar", 5_061), ("", 0), ("foo{bar}", 5_061), ("foo{}{bar}", 8_363)] {
            assert_eq!(slot_of(key), slot, "{key}");
        }
    }

    #[test]
    fn names_in_several_slots_are_named_with_a_tag_that_would_do() {
        assert_eq!(one_slot(["{a}:x", "{a}:y", "{a}:x"]), Ok(()));
        let differ = one_slot(["q:decision", "{cell-1}:control"]).unwrap_err();
        assert_eq!(differ.tag, "cell-1");
        let says = differ.says();
        for wanted in ["q:decision in slot ", "{cell-1}:control in slot ", "such as {cell-1}:"] {
            assert!(says.contains(wanted), "{says}");
        }
        assert_eq!(one_slot(["a", "b"]).unwrap_err().tag, "harvest");
    }
}
