//! Which transitions of the protocol a run reached: a simulator that never gets there proves nothing.

use std::collections::BTreeMap;

/// All transitions that are counted; a run of many seeds must reach each.
pub(crate) const TRANSITIONS: [&str; 41] = [
    // Posts.
    "a gap refused",
    "a block taken again",
    "an append refused as sealed",
    "an append refused for lack of memory",
    "blocks above the end thrown away",
    "a post whose outcome is unknown",
    "a key answered again",
    // Moving on.
    "a seal race",
    "a segment closed",
    "a segment closed without a replica",
    "a thin segment",
    "a segment left",
    // Registers and keepers.
    "a compare-and-set lost",
    "an epoch refused",
    "a keeper restored",
    "a keeper replaced",
    "a vote of a keeper that forgot refused",
    // Lives of nodes.
    "a stranger refused",
    "a node's new life",
    "a replica gone",
    // Repair and salvage.
    "a replica dropped",
    "a joining replica promoted",
    "a joining replica given up",
    "a former replica taken back",
    "a dropped replica taken back",
    "an end lowered",
    "a segment lost",
    // Claims and deletes.
    "a stale version refused",
    "an end not told yet",
    "a tombstone first",
    "a hold first",
    "a hold outranked",
    "a claim found over",
    "a claimed message refused",
    "a message expired",
    // Queues.
    "a queue deleted",
    "a queue born again",
    "a marker of an earlier life refused",
    // Clients.
    "a client died between requests",
    "a late request applied",
    "two pools begun at once",
];

/// How often each was reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Reached(BTreeMap<&'static str, u64>);

impl Reached {
    /// Counts one.
    ///
    /// # Panics
    /// It is not in the list.
    pub(crate) fn note(&mut self, transition: &'static str) {
        assert!(TRANSITIONS.contains(&transition), "{transition} is not in the list");
        *self.0.entry(transition).or_default() += 1;
    }

    pub(crate) fn times(&self, transition: &str) -> u64 {
        self.0.get(transition).copied().unwrap_or_default()
    }
}
