//! The blocks of one producer that are in flight in one open segment.
//!
//! A block keeps its number and its bytes once it is sent. It is acked when every replica of the
//! segment has taken it, in order; a block that a replica lacks is sent to it again, which is
//! harmless where it was taken.

use std::collections::VecDeque;

/// Blocks in flight, each with what its sender wants back (`T`).
#[derive(Debug)]
pub(crate) struct Flight<T> {
    replicas: usize,
    next: u32,
    sent: VecDeque<Sent<T>>,
    /// The last block of this flight that each replica took, or may have taken without saying so.
    reached: Vec<u32>,
    /// The lowest block that a replica refused for good: it and all after it were never on all
    /// replicas.
    refused_from: Option<u32>,
}

#[derive(Debug)]
struct Sent<T> {
    block: u32,
    taken: Vec<bool>,
    resent: u32,
    load: T,
}

/// How often a block is sent again to one segment before the producer moves on.
const RESENDS: u32 = 5;

impl<T> Flight<T> {
    /// Nothing in flight on `replicas` replicas, going on after block `acked`.
    pub(crate) fn after(acked: u32, replicas: usize) -> Self {
        let (sent, reached) = (VecDeque::new(), vec![0; replicas]);
        Self { replicas, next: acked + 1, sent, reached, refused_from: None }
    }

    /// Takes off with the next block; returns its number.
    pub(crate) fn send(&mut self, load: T) -> u32 {
        let block = self.next;
        self.next += 1;
        self.sent.push_back(Sent { block, taken: vec![false; self.replicas], resent: 0, load });
        block
    }

    /// A replica has taken a block. Returns what is acked by that, in order.
    pub(crate) fn taken(&mut self, block: u32, replica: usize) -> Vec<(u32, T)> {
        self.maybe_taken(block, replica);
        if let Some(sent) = self.sent.iter_mut().find(|sent| sent.block == block)
            && let Some(mark) = sent.taken.get_mut(replica)
        {
            *mark = true;
        }
        let mut acked = Vec::new();
        while self.sent.front().is_some_and(|sent| sent.taken.iter().all(|taken| *taken)) {
            if let Some(sent) = self.sent.pop_front() {
                acked.push((sent.block, sent.load));
            }
        }
        acked
    }

    /// A replica may have taken a block: it was asked, and did not answer.
    pub(crate) fn maybe_taken(&mut self, block: u32, replica: usize) {
        if let Some(reached) = self.reached.get_mut(replica) {
            *reached = block.max(*reached);
        }
    }

    /// A replica refused a block for good.
    pub(crate) fn refused(&mut self, block: u32) {
        self.refused_from = Some(self.refused_from.map_or(block, |from| from.min(block)));
    }

    /// Whether a block was never on all replicas, since one refused it or one before it.
    pub(crate) fn was_refused(&self, block: u32) -> bool {
        self.refused_from.is_some_and(|from| block >= from)
    }

    /// Whether no replica can have a block, given that all who were asked have answered or never
    /// will.
    pub(crate) fn is_nowhere(&self, block: u32) -> bool {
        self.reached.iter().all(|reached| *reached < block)
    }

    /// A replica refused `block` because it lacks an earlier one, and has blocks up to
    /// `frontier`. Returns the blocks to send to it again, in order; `None` when that has been
    /// tried too often, or when it lacks what it once took.
    pub(crate) fn gap(
        &mut self,
        block: u32,
        replica: usize,
        frontier: u32,
    ) -> Option<Vec<(u32, &T)>> {
        let lacks = |sent: &Sent<T>| !sent.taken.get(replica).copied().unwrap_or(true);
        let first = self.sent.iter().find(|sent| lacks(sent)).map(|sent| sent.block);
        match first {
            // The refusals of later blocks say nothing new: they go with the first one.
            Some(first) if first < block => {}
            Some(first) if frontier + 1 < first => return None,
            _ => {}
        }
        let again = self.sent.iter_mut().filter(|sent| lacks(sent) && sent.block <= block);
        let mut blocks = Vec::new();
        for sent in again {
            sent.resent += 1;
            if sent.resent > RESENDS {
                return None;
            }
            blocks.push((sent.block, &sent.load));
        }
        Some(blocks)
    }

    /// Blocks in flight.
    pub(crate) fn len(&self) -> usize {
        self.sent.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// The numbers of the blocks in flight, in order.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = u32> {
        self.sent.iter().map(|sent| sent.block)
    }

    /// What is in flight.
    pub(crate) fn loads(&mut self) -> impl Iterator<Item = &mut T> {
        self.sent.iter_mut().map(|sent| &mut sent.load)
    }

    /// Gives up the flight: all that was not acked, in order, with its number.
    pub(crate) fn land(self) -> Vec<(u32, T)> {
        self.sent.into_iter().map(|sent| (sent.block, sent.load)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_acked_when_every_replica_has_it_and_not_before() {
        let mut flight = Flight::after(0, 2);
        assert_eq!(flight.send('a'), 1);
        assert_eq!(flight.send('b'), 2);
        assert!(flight.taken(1, 0).is_empty());
        assert!(flight.taken(2, 0).is_empty());
        assert!(flight.taken(2, 1).is_empty(), "acks come in order");
        assert_eq!(flight.taken(1, 1), [(1, 'a'), (2, 'b')]);
        assert!(flight.is_empty());
    }

    #[test]
    fn a_gap_sends_again_what_the_replica_lacks() {
        let mut flight = Flight::after(0, 2);
        flight.send('a');
        flight.send('b');
        flight.taken(1, 0);
        assert_eq!(flight.gap(2, 1, 0), Some(vec![(1, &'a'), (2, &'b')]));
        assert_eq!(flight.gap(2, 0, 1), Some(vec![(2, &'b')]));
    }

    #[test]
    fn a_replica_that_lost_acked_blocks_is_given_up() {
        let mut flight = Flight::after(4, 1);
        assert_eq!(flight.send('a'), 5);
        assert_eq!(flight.gap(5, 0, 2), None);
    }

    #[test]
    fn resending_ends() {
        let mut flight = Flight::after(0, 1);
        flight.send('a');
        flight.send('b');
        let tries = (0..10).take_while(|_| flight.gap(2, 0, 0).is_some()).count();
        assert_eq!(tries, RESENDS as usize);
    }

    #[test]
    fn a_block_that_every_replica_refused_is_nowhere() {
        let mut flight = Flight::after(0, 2);
        flight.send('a');
        flight.send('b');
        assert!(flight.is_nowhere(1));
        flight.taken(1, 0);
        assert!(!flight.is_nowhere(1));
        assert!(flight.is_nowhere(2));
        flight.maybe_taken(2, 1);
        assert!(!flight.is_nowhere(2));
    }

    #[test]
    fn what_comes_behind_a_refused_block_was_never_everywhere() {
        let mut flight: Flight<char> = Flight::after(0, 2);
        assert!(!flight.was_refused(1));
        flight.refused(3);
        flight.refused(2);
        flight.refused(4);
        assert_eq!([1, 2, 3].map(|block| flight.was_refused(block)), [false, true, true]);
    }

    #[test]
    fn what_is_not_acked_lands_in_order() {
        let mut flight = Flight::after(0, 1);
        flight.send('a');
        flight.send('b');
        flight.taken(1, 0);
        assert_eq!(flight.land(), [(2, 'b')]);
    }
}
