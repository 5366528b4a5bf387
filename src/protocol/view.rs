//! What all processes agree on about the pool: its nodes, their lives, its keepers.
//!
//! The view is the value of the register named [`REGISTER`]; it changes by compare-and-set only.
//! This module decides what the next view is; `driver` finds out what is the case and writes it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::id::{Cookie, Epoch, Incarnation, NodeId, PoolId, ProducerId, Version};

/// The register that holds the view.
pub(crate) const REGISTER: &str = "pool";

/// The pool's first node: it alone is the keeper of the first epoch.
pub(crate) const FIRST: Member = Member { node: NodeId(1), incarnation: Incarnation(1) };

/// The nodes of a pool and their keepers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PoolView {
    /// Raised by every change.
    pub(crate) version: Version,
    /// Which pool.
    pub(crate) pool: PoolId,
    /// Its nodes.
    pub(crate) nodes: BTreeMap<NodeId, NodeEntry>,
    /// The newest set of keepers that was decided; perhaps not all of them vote yet.
    pub(crate) keepers: KeeperSet,
    /// How many keepers there should be, nodes permitting.
    pub(crate) keepers_wanted: usize,
    /// The id of the node that is added next.
    pub(crate) next_node: u16,
    /// Nodes that were taken out, by address: they do not come back by themselves.
    #[serde(default)]
    pub(crate) removed: BTreeMap<String, NodeId>,
    /// The process that restores copies in the background, if there is one.
    #[serde(default)]
    pub(crate) repairer: Option<Repairer>,
}

/// Who holds the lease on repairs: one process at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Repairer {
    /// The process.
    pub(crate) by: ProducerId,
    /// Raised each time that the lease changes hands.
    pub(crate) term: u64,
}

/// A node of the pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeEntry {
    /// Its address.
    pub(crate) name: String,
    /// Its present life: what any other life held is lost (Q9).
    pub(crate) incarnation: Incarnation,
    /// The run id under which that life began.
    pub(crate) run_id: String,
    /// Where it stands: segments prefer different zones.
    pub(crate) zone: Option<String>,
    /// Takes no new segments.
    pub(crate) draining: bool,
}

/// A node in one of its lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
}

/// The keepers of one epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeeperSet {
    /// Which epoch.
    pub(crate) epoch: Epoch,
    /// Who may vote in it.
    pub(crate) members: Vec<Member>,
    /// Who could vote in the epoch before: a majority of these fills a new member.
    pub(crate) previous: Vec<Member>,
    /// Who was a keeper in this life and is none any more. A node's vote outlives its membership,
    /// so none of these may come back in the same life (specs/registers.md).
    pub(crate) former: Vec<Member>,
}

/// More than half of `members`.
pub(crate) fn majority(members: usize) -> usize {
    members / 2 + 1
}

impl Member {
    pub(crate) fn cookie(self, pool: PoolId) -> Cookie {
        Cookie { pool, node: self.node, incarnation: self.incarnation }
    }
}

impl KeeperSet {
    /// The set with which every pool starts.
    pub(crate) fn first() -> Self {
        Self { epoch: Epoch(1), members: vec![FIRST], previous: Vec::new(), former: Vec::new() }
    }

    pub(crate) fn majority(&self) -> usize {
        majority(self.members.len())
    }

    pub(crate) fn has(&self, node: NodeId) -> bool {
        self.members.iter().any(|member| member.node == node)
    }

    pub(crate) fn encode(&self) -> Result<Bytes, Error> {
        encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        decode(bytes, "set of keepers")
    }
}

impl PoolView {
    /// The view with which a pool starts: its first node only.
    pub(crate) fn first(pool: PoolId, name: String, run_id: String, keepers_wanted: usize) -> Self {
        let entry =
            NodeEntry { name, incarnation: FIRST.incarnation, run_id, zone: None, draining: false };
        Self {
            version: Version(1),
            pool,
            nodes: BTreeMap::from([(FIRST.node, entry)]),
            keepers: KeeperSet::first(),
            keepers_wanted,
            next_node: FIRST.node.0 + 1,
            removed: BTreeMap::new(),
            repairer: None,
        }
    }

    pub(crate) fn encode(&self) -> Result<Bytes, Error> {
        encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        decode(bytes, "pool register")
    }

    /// The cookie that a node must hold now.
    pub(crate) fn cookie(&self, node: NodeId) -> Option<Cookie> {
        let entry = self.nodes.get(&node)?;
        Some(Cookie { pool: self.pool, node, incarnation: entry.incarnation })
    }

    pub(crate) fn named(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().find(|(_, entry)| entry.name == name).map(|(node, _)| *node)
    }

    /// Whether what the node held under `cookie` is gone for good.
    pub(crate) fn is_lost(&self, cookie: Cookie) -> bool {
        match self.nodes.get(&cookie.node) {
            _ if cookie.pool != self.pool => true,
            Some(entry) => entry.incarnation > cookie.incarnation,
            // An id that was not given yet belongs to a newer view than this one.
            None => cookie.node.0 < self.next_node,
        }
    }

    /// Adds a node, or finds the one of that name. Its life begins when it is admitted.
    pub(crate) fn add(&mut self, name: &str) -> Result<NodeId, Error> {
        if let Some(node) = self.named(name) {
            return Ok(node);
        }
        let node = NodeId(self.next_node);
        self.next_node = self.next_node.checked_add(1).ok_or_else(|| {
            Error::new(ErrorKind::Config, "the pool has no ids left for new nodes")
        })?;
        let entry = NodeEntry {
            name: name.into(),
            incarnation: Incarnation(0),
            run_id: String::new(),
            zone: None,
            draining: false,
        };
        self.removed.remove(name);
        self.nodes.insert(node, entry);
        Ok(node)
    }

    /// Takes a node out for good: what it held counts as lost from then on.
    pub(crate) fn remove(&mut self, node: NodeId) -> bool {
        let Some(entry) = self.nodes.remove(&node) else { return false };
        self.removed.insert(entry.name, node);
        true
    }

    /// Whether the node is being emptied.
    pub(crate) fn is_draining(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|entry| entry.draining)
    }

    /// Nodes that stay: those that are not being emptied.
    pub(crate) fn staying(&self) -> usize {
        self.nodes.values().filter(|entry| !entry.draining).count()
    }

    /// The lease on repairs goes to `by`, if `seen` holds it still.
    pub(crate) fn hand_over(&mut self, seen: Option<Repairer>, by: ProducerId) -> bool {
        if self.repairer != seen {
            return false;
        }
        let term = seen.map_or(0, |repairer| repairer.term) + 1;
        self.repairer = Some(Repairer { by, term });
        true
    }

    /// `by` gives the lease on repairs back.
    pub(crate) fn resign(&mut self, by: ProducerId) -> bool {
        let held = self.repairer.is_some_and(|repairer| repairer.by == by);
        if held {
            self.repairer = None;
        }
        held
    }

    /// The set of keepers that should follow, if another one should.
    ///
    /// `usable` may become keepers; `gone` have not answered for long, though they may have
    /// forgotten nothing. The set never shrinks: see specs/registers.md for what that is good for.
    pub(crate) fn next_keepers(
        &self,
        usable: &BTreeSet<NodeId>,
        gone: &BTreeSet<NodeId>,
    ) -> Option<KeeperSet> {
        let now = &self.keepers;
        let mut candidates = self.candidates(usable).into_iter();
        let mut members = Vec::with_capacity(self.keepers_wanted);
        let mut former = now.former.clone();
        for member in &now.members {
            let next = match self.nodes.get(&member.node) {
                // It forgot: it gets its own place back, in its new life.
                Some(entry) if entry.incarnation != member.incarnation => {
                    let again = Member { node: member.node, incarnation: entry.incarnation };
                    if usable.contains(&member.node) {
                        Some(again)
                    } else if gone.contains(&member.node) {
                        candidates.next()
                    } else {
                        None
                    }
                }
                Some(entry) if entry.draining || gone.contains(&member.node) => candidates.next(),
                Some(_) => None,
                None => candidates.next(),
            };
            if next.is_some() {
                former.push(*member);
            }
            members.push(next.unwrap_or(*member));
        }
        while members.len() + 2 <= self.keepers_wanted {
            let (Some(one), Some(two)) = (candidates.next(), candidates.next()) else { break };
            members.extend([one, two]);
        }
        if members == now.members {
            return None;
        }
        former.retain(|member| self.holds(*member));
        let epoch = Epoch(now.epoch.0.checked_add(1)?);
        Some(KeeperSet { epoch, members, previous: now.members.clone(), former })
    }

    /// Whether that life of the node is the present one.
    pub(crate) fn holds(&self, member: Member) -> bool {
        self.nodes.get(&member.node).is_some_and(|entry| entry.incarnation == member.incarnation)
    }

    /// Nodes that may become keepers, those in zones without a keeper first.
    fn candidates(&self, usable: &BTreeSet<NodeId>) -> Vec<Member> {
        let zone = |node: NodeId| self.nodes.get(&node).and_then(|entry| entry.zone.as_deref());
        let taken: BTreeSet<_> =
            self.keepers.members.iter().filter_map(|member| zone(member.node)).collect();
        let mut candidates: Vec<_> = self
            .nodes
            .iter()
            .filter(|(node, entry)| {
                usable.contains(node) && !entry.draining && !self.keepers.has(**node)
            })
            .map(|(node, entry)| Member { node: *node, incarnation: entry.incarnation })
            .filter(|member| !self.keepers.former.contains(member))
            .collect();
        candidates.sort_by_key(|member| {
            (zone(member.node).is_some_and(|zone| taken.contains(zone)), *member)
        });
        candidates
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Bytes, Error> {
    rmp_serde::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| Error::new(ErrorKind::Internal, "cannot encode").because(error))
}

fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8], what: &str) -> Result<T, Error> {
    rmp_serde::from_slice(bytes).map_err(|error| {
        Error::new(ErrorKind::Internal, format!("the {what} cannot be read")).because(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(nodes: u16) -> PoolView {
        let mut view = PoolView::first(PoolId(9), "a".into(), "run".into(), 3);
        for node in 1..nodes {
            let id = view.add(&format!("n{node}")).unwrap();
            view.nodes.get_mut(&id).unwrap().incarnation = Incarnation(1);
        }
        view
    }

    fn ids(ids: impl IntoIterator<Item = u16>) -> BTreeSet<NodeId> {
        ids.into_iter().map(NodeId).collect()
    }

    fn nodes(set: &KeeperSet) -> Vec<(u16, u32)> {
        set.members.iter().map(|member| (member.node.0, member.incarnation.0)).collect()
    }

    #[test]
    fn a_pool_of_two_keeps_one_keeper_and_of_three_gets_three() {
        assert_eq!(view(2).next_keepers(&ids([1, 2]), &ids([])), None);
        let three = view(3).next_keepers(&ids([1, 2, 3]), &ids([])).unwrap();
        assert_eq!(nodes(&three), [(1, 1), (2, 1), (3, 1)]);
        assert_eq!(three.epoch, Epoch(2));
        assert_eq!(three.previous, [FIRST]);
    }

    #[test]
    fn a_keeper_that_forgot_gets_its_place_back_in_its_new_life() {
        let mut view = view(3);
        view.keepers = view.next_keepers(&ids([1, 2, 3]), &ids([])).unwrap();
        view.nodes.get_mut(&NodeId(2)).unwrap().incarnation = Incarnation(2);
        assert_eq!(view.next_keepers(&ids([1, 3]), &ids([])), None, "not before it is usable");
        let next = view.next_keepers(&ids([1, 2, 3]), &ids([])).unwrap();
        assert_eq!(nodes(&next), [(1, 1), (2, 2), (3, 1)]);
        assert!(next.former.is_empty(), "a life that is over needs no remembering");
    }

    #[test]
    fn a_keeper_that_is_gone_is_replaced_and_never_comes_back_in_the_same_life() {
        let mut view = view(4);
        view.keepers = view.next_keepers(&ids([1, 2, 3]), &ids([])).unwrap();
        view.keepers = view.next_keepers(&ids([1, 2, 4]), &ids([3])).unwrap();
        assert_eq!(nodes(&view.keepers), [(1, 1), (2, 1), (4, 1)]);
        assert_eq!(view.keepers.former, [Member { node: NodeId(3), incarnation: Incarnation(1) }]);
        assert_eq!(view.next_keepers(&ids([1, 3, 4]), &ids([2])), None);
        view.nodes.get_mut(&NodeId(3)).unwrap().incarnation = Incarnation(2);
        let next = view.next_keepers(&ids([1, 3, 4]), &ids([2])).unwrap();
        assert_eq!(nodes(&next), [(1, 1), (3, 2), (4, 1)]);
    }

    #[test]
    fn a_removed_node_stays_away_until_it_is_added_again() {
        let mut view = view(3);
        let node = view.named("n2").unwrap();
        let old = view.cookie(node).unwrap();
        assert!(view.remove(node) && !view.remove(node));
        assert!(view.is_lost(old));
        assert_eq!(view.removed.get("n2"), Some(&node));
        let again = view.add("n2").unwrap();
        assert!(again > node && view.removed.is_empty(), "an id is never used twice");
        assert!(view.is_lost(old));
    }

    #[test]
    fn the_lease_changes_hands_only_as_whoever_takes_it_has_seen_it() {
        let mut view = view(3);
        let (one, two) = (ProducerId(1), ProducerId(2));
        assert!(view.hand_over(None, one));
        let first = view.repairer;
        assert!(!view.hand_over(None, two), "somebody was faster");
        assert!(view.hand_over(first, two) && view.repairer.unwrap().term == 2);
        assert!(!view.resign(one) && view.resign(two));
        assert_eq!(view.repairer, None);
    }

    #[test]
    fn views_and_sets_survive_their_encoding() {
        let mut view = view(3);
        view.hand_over(None, ProducerId(7));
        view.keepers = view.next_keepers(&ids([1, 2, 3]), &ids([])).unwrap();
        view.remove(NodeId(2));
        assert_eq!(PoolView::decode(&view.encode().unwrap()).unwrap(), view);
        let set = view.keepers;
        assert_eq!(KeeperSet::decode(&set.encode().unwrap()).unwrap(), set);
        assert!(PoolView::decode(b"junk").is_err());
    }

    #[test]
    fn a_life_is_lost_once_the_view_names_a_newer_one_or_none() {
        let mut view = view(2);
        let old = view.cookie(NodeId(2)).unwrap();
        assert!(!view.is_lost(old));
        view.nodes.get_mut(&NodeId(2)).unwrap().incarnation = Incarnation(2);
        assert!(view.is_lost(old));
        assert!(!view.is_lost(view.cookie(NodeId(2)).unwrap()));
        view.nodes.remove(&NodeId(2));
        assert!(view.is_lost(old));
        assert!(!view.is_lost(Cookie { node: NodeId(77), ..old }), "a newer view may know it");
    }
}
