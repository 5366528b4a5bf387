//! Which nodes the next replicas go to: round the pool in a fixed order.

use crate::id::NodeId;

/// A node as the choice sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The node.
    pub(crate) node: NodeId,
    /// Where it stands; other zones are preferred.
    pub(crate) zone: Option<String>,
}

/// The nodes for a new set of replicas, best first: round the ring from `start`, nodes of zones
/// not used yet before the others. `usable` is in the pool's fixed order.
pub(crate) fn order(usable: &[Candidate], start: usize, taken: &[Option<String>]) -> Vec<NodeId> {
    if usable.is_empty() {
        return Vec::new();
    }
    let (before, after) = usable.split_at(start % usable.len());
    let mut ring: Vec<&Candidate> = after.iter().chain(before).collect();
    let mut zones: Vec<Option<String>> = taken.to_vec();
    let mut chosen = Vec::with_capacity(ring.len());
    while !ring.is_empty() {
        let best = ring
            .iter()
            .position(|candidate| candidate.zone.is_none() || !zones.contains(&candidate.zone))
            .unwrap_or(0);
        let candidate = ring.remove(best);
        zones.push(candidate.zone.clone());
        chosen.push(candidate.node);
    }
    chosen
}

/// Where the ring starts for a queue's next segment: after the first node of the last one, or at
/// the queue's own place.
pub(crate) fn start(usable: &[Candidate], last_first: Option<NodeId>, queue_hash: u64) -> usize {
    match last_first {
        Some(last) => usable.iter().position(|candidate| candidate.node > last).unwrap_or(0),
        None if usable.is_empty() => 0,
        None => usize::try_from(queue_hash % usable.len() as u64).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(of: &[(u16, Option<&str>)]) -> Vec<Candidate> {
        of.iter()
            .map(|(node, zone)| Candidate { node: NodeId(*node), zone: zone.map(Into::into) })
            .collect()
    }

    #[test]
    fn the_ring_goes_on_after_the_last_segments_first_node() {
        let pool = nodes(&[(1, None), (2, None), (3, None)]);
        let from = start(&pool, Some(NodeId(2)), 0);
        assert_eq!(order(&pool, from, &[]), [NodeId(3), NodeId(1), NodeId(2)]);
        assert_eq!(start(&pool, Some(NodeId(3)), 0), 0);
    }

    #[test]
    fn other_zones_come_first() {
        let pool = nodes(&[(1, Some("a")), (2, Some("a")), (3, Some("b"))]);
        assert_eq!(order(&pool, 0, &[]), [NodeId(1), NodeId(3), NodeId(2)]);
        assert_eq!(order(&pool, 0, &[Some("a".into())]), [NodeId(3), NodeId(1), NodeId(2)]);
    }

    #[test]
    fn an_empty_pool_has_no_place() {
        assert_eq!(start(&[], None, 7), 0);
        assert!(order(&[], 5, &[]).is_empty());
    }
}
