//! Frontiers: which part of a segment is covered, whatever the order of arrival.

use crate::id::ProducerId;
use crate::node::{Coverage, Frontier, ProducerState};

/// The last block of `producer` that a frontier covers; 0: none.
pub(crate) fn covered(frontier: &Frontier, producer: ProducerId) -> u32 {
    frontier.get(&producer).copied().unwrap_or(0)
}

/// The end that follows from the sealed replicas that answered: for each producer the minimum
/// (Q1: what was acked is on every replica, so on each of these).
pub(crate) fn end_of(sealed: &[Coverage]) -> Frontier {
    let Some((first, rest)) = sealed.split_first() else { return Frontier::new() };
    let mut end = first.frontier();
    for coverage in rest {
        end = minimum(&end, &coverage.frontier());
    }
    end
}

/// What both frontiers cover.
pub(crate) fn minimum(one: &Frontier, other: &Frontier) -> Frontier {
    one.iter()
        .filter_map(|(producer, block)| {
            let least = (*block).min(covered(other, *producer));
            (least > 0).then_some((*producer, least))
        })
        .collect()
}

/// Whether `frontier` covers all of `end`.
pub(crate) fn covers(frontier: &Frontier, end: &Frontier) -> bool {
    end.iter().all(|(producer, block)| covered(frontier, *producer) >= *block)
}

/// How many blocks a frontier covers.
pub(crate) fn blocks(frontier: &Frontier) -> u64 {
    frontier.values().map(|block| u64::from(*block)).sum()
}

/// What a replica knows to have been acked.
pub(crate) fn noted(producers: &[ProducerState]) -> Frontier {
    producers.iter().map(|state| (state.producer, state.noted)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frontier(of: &[(u64, u32)]) -> Frontier {
        of.iter().map(|(producer, block)| (ProducerId(*producer), *block)).collect()
    }

    #[test]
    fn the_end_is_the_minimum_and_a_producer_missing_somewhere_ends_at_nothing() {
        let one = frontier(&[(1, 5), (2, 3)]);
        let other = frontier(&[(1, 4), (3, 9)]);
        assert_eq!(minimum(&one, &other), frontier(&[(1, 4)]));
    }

    #[test]
    fn a_frontier_covers_an_end_at_or_below_it_only() {
        let end = frontier(&[(1, 4)]);
        assert!(covers(&frontier(&[(1, 4), (2, 1)]), &end));
        assert!(!covers(&frontier(&[(1, 3)]), &end));
        assert!(!covers(&frontier(&[]), &end));
    }
}
