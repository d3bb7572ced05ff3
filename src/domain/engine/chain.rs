//! The chain of decisions (docs/spec/emission.md, "Chain"): its head, and the recorded decisions that continue it.

use serde::{Deserialize, Serialize};

use crate::domain::event::DecisionFact;

/// Head of the chain of decisions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    pub seq: u64,
    /// Hash of the last decision; 64 zeros before the first.
    pub hash: Box<str>,
}

impl Default for ChainHead {
    fn default() -> Self {
        Self { seq: 0, hash: "0".repeat(64).into() }
    }
}

/// Returns the beginning of a hash as a number. It is enough to distinguish two decisions of one chain.
pub fn beginning(hash: &str) -> u64 {
    hash.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

/// Returns the decisions that continue a chain from its head, in order of their numbers. The others are left out: they
/// take no rungs, and the fold judges their entries when it reaches them.
///
/// Missing decisions do not cut off the later ones. A stream is trimmed at its head, and a server may lose some; a rung
/// that was sold must still not be sold again. If two decisions claim one number, the one that is linked to the one
/// before counts.
pub fn following(head: &ChainHead, found: Vec<DecisionFact>) -> Vec<DecisionFact> {
    let (mut numbered, mut unnumbered): (Vec<_>, Vec<_>) =
        found.into_iter().filter(|fact| fact.is_sealed && !fact.is_early).partition(|fact| fact.seq > 0);
    numbered.sort_by_key(|fact| fact.seq);
    let mut last = head.clone();
    let mut chain: Vec<DecisionFact> = Vec::with_capacity(numbered.len());
    // Without numbers the order of the entries is the order of the chain. The first may follow decisions that were
    // trimmed.
    let mut before: Option<Box<str>> = None;
    unnumbered.retain(|fact| {
        let follows = before.as_ref().is_none_or(|hash| *fact.prev == **hash);
        if follows {
            before = Some(fact.hash.clone());
        }
        follows
    });
    chain.append(&mut unnumbered);
    let mut rest = numbered.into_iter().filter(|fact| fact.seq > head.seq).peekable();
    while let Some(first) = rest.next() {
        let seq = first.seq;
        let mut claims = vec![first];
        while let Some(other) = rest.next_if(|fact| fact.seq == seq) {
            claims.push(other);
        }
        let is_linked = |fact: &DecisionFact| *fact.prev == *last.hash;
        let is_next = seq == last.seq + 1;
        let place = claims.iter().position(is_linked);
        // The first of all may follow decisions that were trimmed.
        let place = place.or((!is_next || last.seq == 0).then_some(0));
        if let Some(place) = place {
            let fact = claims.swap_remove(place);
            last = ChainHead { seq, hash: fact.hash.clone() };
            chain.push(fact);
        }
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Side;
    use crate::domain::event::ids::{AccountId, EntryId, SymbolId};
    use crate::domain::units::{Qty, Ratio};

    fn fact(seq: u64, prev: &str, hash: &str) -> DecisionFact {
        DecisionFact {
            decision_id: hash.into(),
            plan_id: hash.into(),
            position_id: "ADAUSDT@1-0".into(),
            symbol: SymbolId(0),
            account: AccountId::NONE,
            position_side: None,
            side: Side::Sell,
            qty: Qty::ZERO,
            share: Ratio::ZERO,
            rungs: Vec::new(),
            attempt: 1,
            live: true,
            seq,
            prev: prev.into(),
            hash: hash.into(),
            is_sealed: true,
            is_early: false,
            is_former: false,
            cause_stream: "s".into(),
            cause_id: EntryId::new(seq, 0),
        }
    }

    fn follow(head: &ChainHead, found: Vec<DecisionFact>) -> Vec<String> {
        following(head, found).iter().map(|fact| fact.hash.to_string()).collect()
    }

    #[test]
    fn what_is_linked_follows_in_whatever_order_it_was_written() {
        let head = ChainHead { seq: 1, hash: "h1".into() };
        let written = vec![fact(2, "h1", "h2"), fact(5, "h4", "h5"), fact(3, "h2", "h3"), fact(4, "h3", "h4")];
        assert_eq!(follow(&head, written.clone()), ["h2", "h3", "h4", "h5"]);
        let trimmed = written[1..2].to_vec();
        assert_eq!(follow(&ChainHead::default(), trimmed.clone()), ["h5"], "what is before was trimmed");
        assert_eq!(follow(&head, trimmed), ["h5"], "some are missing: what was sold stays sold");
        assert_eq!(follow(&ChainHead { seq: 5, hash: "h5".into() }, written), [""; 0], "known already");
    }

    #[test]
    fn what_is_not_sealed_or_claims_a_number_beside_the_chain_is_left_out() {
        let head = ChainHead { seq: 1, hash: "h1".into() };
        let unsealed = DecisionFact { is_sealed: false, ..fact(2, "h1", "forged") };
        assert_eq!(follow(&head, vec![unsealed, fact(2, "h1", "h2")]), ["h2"]);
        let early = DecisionFact { is_early: true, ..fact(2, "h1", "early") };
        assert_eq!(follow(&head, vec![early, fact(2, "h1", "h2")]), ["h2"]);
        assert_eq!(follow(&head, vec![fact(2, "elsewhere", "fork")]), [""; 0]);
        assert_eq!(
            follow(&head, vec![fact(2, "elsewhere", "fork"), fact(2, "h1", "h2"), fact(3, "h2", "h3")]),
            ["h2", "h3"]
        );
        let zeros = "0".repeat(64);
        assert_eq!(
            follow(&ChainHead::default(), vec![fact(0, &zeros, "a"), fact(0, "a", "b"), fact(0, "x", "c")]),
            ["a", "b"]
        );
    }
}
