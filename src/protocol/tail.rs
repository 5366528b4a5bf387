//! What a reader may take from a page, and where its marker stands after it (Q2, Q3, Q5).
//!
//! A page tells blocks in one replica's order of arrival. A block may be taken when it is in the
//! log for good: at or below the end of a closed segment, or, in an open one, when every replica
//! has it. The marker's offset stays at the first block that could not be taken yet; its frontier
//! covers all that was, so that nothing is given twice when the walk passes there again, on this
//! replica or on another.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{Offset, ProducerId};
use crate::node::{Entry, Frontier, PageBlock};
use crate::protocol::frontier::covered;
use crate::token::Position;

/// Up to where blocks may be taken.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound<'a> {
    /// Blocks above it do not exist.
    End(&'a Frontier),
    /// Blocks above both may exist: they wait. What was noted as acked counts while nothing
    /// waits; behind a block that waits only what one round of probes found on every replica:
    /// else a block could pass one that was acked before it was posted (Q4).
    Confirmed { noted: &'a Frontier, probed: &'a Frontier },
}

/// How far a walk has come in one segment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Passage {
    /// Where the marker stands in the replica at hand.
    pub(crate) offset: Offset,
    /// What has been passed, by producer.
    pub(crate) frontier: BTreeMap<ProducerId, Position>,
    /// The producers one of whose blocks waits.
    waiting: BTreeSet<ProducerId>,
    /// The age of the oldest block that waits.
    pub(crate) waited_ms: Option<u64>,
}

/// A replica lacks a block that it must have: it is broken, never "no message".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hole {
    /// Whose block is missing.
    pub(crate) producer: ProducerId,
    /// Which.
    pub(crate) block: u32,
}

impl Passage {
    /// A walk that goes on from a marker.
    pub(crate) fn from(offset: Offset, frontier: BTreeMap<ProducerId, Position>) -> Self {
        Self { offset, frontier, waiting: BTreeSet::new(), waited_ms: None }
    }

    /// Whether some block waits.
    pub(crate) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Begins another pass over the replica: what waited is looked at again.
    pub(crate) fn again(&mut self) {
        self.waiting.clear();
        self.waited_ms = None;
    }

    /// The same walk on another replica, from its start.
    pub(crate) fn elsewhere(&mut self) {
        self.offset = Offset::default();
        self.again();
    }

    fn position(&self, producer: ProducerId) -> Position {
        self.frontier.get(&producer).copied().unwrap_or(Position { block: 1, index: 0 })
    }

    /// Whether everything up to `end` has been passed.
    pub(crate) fn reached(&self, end: &Frontier) -> bool {
        end.iter().all(|(producer, block)| self.position(*producer).block > *block)
    }

    /// Takes what may be taken of the page's next block.
    pub(crate) fn take(&mut self, block: PageBlock, bound: Bound<'_>) -> Result<Vec<Entry>, Hole> {
        let at = self.position(block.producer);
        let whole = block.passed >= block.count;
        let after = match u8::try_from(block.passed) {
            Ok(index) if !whole => Offset::new(block.ordinal, index),
            _ => Offset::new(block.ordinal.saturating_add(1), 0),
        };
        let (limit, exists) = match bound {
            Bound::End(end) => (covered(end, block.producer), false),
            Bound::Confirmed { noted, probed } => {
                let probed = covered(probed, block.producer);
                match self.waiting.is_empty() {
                    true => (probed.max(covered(noted, block.producer)), true),
                    false => (probed, true),
                }
            }
        };
        let mut taken = Vec::new();
        // The rest of a block whose first part waits comes after it, even if all replicas have
        // the block by now: what is passed has no gaps (Q2).
        if block.block > limit || self.waiting.contains(&block.producer) {
            if exists {
                self.waiting.insert(block.producer);
                let age = self.waited_ms.unwrap_or(0).max(block.age_ms);
                self.waited_ms = Some(age);
                return Ok(taken);
            }
        } else if block.block > at.block {
            return Err(Hole { producer: block.producer, block: at.block });
        } else if block.block == at.block {
            taken = block.entries;
            taken.retain(|entry| entry.at.index >= at.index);
            let next = match u8::try_from(block.passed) {
                Ok(index) if !whole => Position { block: block.block, index: index.max(at.index) },
                _ => Position { block: block.block + 1, index: 0 },
            };
            self.frontier.insert(block.producer, next);
        }
        if self.waiting.is_empty() {
            self.offset = after;
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::id::MessageRef;

    const ONE: ProducerId = ProducerId(1);
    const TWO: ProducerId = ProducerId(2);

    fn block(ordinal: u32, producer: ProducerId, block: u32) -> PageBlock {
        let entry = Entry {
            at: MessageRef { producer, block, index: 0 },
            envelope: Bytes::new(),
            age_ms: 5,
            ttl_ms: 1000,
            delay_ms: 0,
            client: None,
            claim: None,
            times: 0,
        };
        PageBlock { ordinal, producer, block, count: 1, passed: 1, age_ms: 5, entries: vec![entry] }
    }

    fn frontier(of: &[(ProducerId, u32)]) -> Frontier {
        of.iter().copied().collect()
    }

    fn probed(known: &Frontier) -> Bound<'_> {
        static NONE: Frontier = Frontier::new();
        Bound::Confirmed { noted: &NONE, probed: known }
    }

    #[test]
    fn a_noted_block_does_not_pass_one_that_waits() {
        let mut walk = Passage::default();
        let (noted, nothing) = (frontier(&[(TWO, 1)]), Frontier::new());
        let bound = Bound::Confirmed { noted: &noted, probed: &nothing };
        assert!(walk.take(block(0, ONE, 1), bound).unwrap().is_empty());
        assert!(walk.take(block(1, TWO, 1), bound).unwrap().is_empty());
        let mut other = Passage::default();
        assert_eq!(other.take(block(0, TWO, 1), bound).unwrap().len(), 1);
    }

    #[test]
    fn a_block_that_waits_keeps_the_offset_but_not_later_confirmed_ones() {
        let mut walk = Passage::default();
        let known = frontier(&[(TWO, 1)]);
        assert!(walk.take(block(0, ONE, 1), probed(&known)).unwrap().is_empty());
        assert_eq!(walk.take(block(1, TWO, 1), probed(&known)).unwrap().len(), 1);
        assert_eq!(walk.offset, Offset::default());
        assert_eq!(walk.waited_ms, Some(5));

        // The next pass gives the block that waited, and the other one not again.
        walk.again();
        let known = frontier(&[(ONE, 1), (TWO, 1)]);
        assert_eq!(walk.take(block(0, ONE, 1), probed(&known)).unwrap().len(), 1);
        assert!(walk.take(block(1, TWO, 1), probed(&known)).unwrap().is_empty());
        assert_eq!(walk.offset, Offset::new(2, 0));
    }

    #[test]
    fn the_rest_of_a_block_waits_with_its_first_part() {
        let part = |index: u8| {
            let mut part = block(0, ONE, 1);
            (part.count, part.passed) = (2, u16::from(index) + 1);
            part.entries[0].at.index = index;
            part
        };
        let mut walk = Passage::default();
        let (nothing, known) = (Frontier::new(), frontier(&[(ONE, 1)]));
        // The page ends within the block; the next one finds that all replicas have it.
        assert!(walk.take(part(0), probed(&nothing)).unwrap().is_empty());
        assert!(walk.take(part(1), probed(&known)).unwrap().is_empty());
        assert_eq!(walk.offset, Offset::default());

        walk.again();
        for index in [0, 1] {
            let taken = walk.take(part(index), probed(&known)).unwrap();
            assert_eq!(taken.iter().map(|entry| entry.at.index).collect::<Vec<_>>(), [index]);
        }
        assert!(walk.reached(&known));
    }

    #[test]
    fn blocks_above_the_end_do_not_exist() {
        let mut walk = Passage::default();
        let end = frontier(&[(ONE, 1)]);
        assert_eq!(walk.take(block(0, ONE, 1), Bound::End(&end)).unwrap().len(), 1);
        assert!(walk.take(block(1, ONE, 2), Bound::End(&end)).unwrap().is_empty());
        assert!(walk.take(block(2, TWO, 1), Bound::End(&end)).unwrap().is_empty());
        assert_eq!(walk.offset, Offset::new(3, 0));
        assert!(walk.reached(&end));
    }

    #[test]
    fn a_missing_block_is_a_hole() {
        let mut walk = Passage::default();
        let end = frontier(&[(ONE, 2)]);
        assert_eq!(
            walk.take(block(0, ONE, 2), Bound::End(&end)),
            Err(Hole { producer: ONE, block: 1 })
        );
        assert!(!walk.reached(&end));
    }

    #[test]
    fn another_replicas_order_repeats_nothing() {
        let mut walk = Passage::default();
        let end = frontier(&[(ONE, 1), (TWO, 1)]);
        assert_eq!(walk.take(block(0, ONE, 1), Bound::End(&end)).unwrap().len(), 1);
        walk.elsewhere();
        assert_eq!(walk.take(block(0, TWO, 1), Bound::End(&end)).unwrap().len(), 1);
        assert!(walk.take(block(1, ONE, 1), Bound::End(&end)).unwrap().is_empty());
        assert!(walk.reached(&end));
    }

    #[test]
    fn a_block_is_given_in_parts() {
        let mut walk = Passage::default();
        let end = frontier(&[(ONE, 1)]);
        let part = PageBlock { count: 3, passed: 1, ..block(0, ONE, 1) };
        assert_eq!(walk.take(part, Bound::End(&end)).unwrap().len(), 1);
        assert_eq!(walk.offset, Offset::new(0, 1));
        let mut rest = PageBlock { count: 3, passed: 3, ..block(0, ONE, 1) };
        rest.entries[0].at.index = 2;
        assert_eq!(walk.take(rest, Bound::End(&end)).unwrap().len(), 1);
        assert!(walk.reached(&end));
    }
}
