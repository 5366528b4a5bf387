//! Which segments a change of a manifest opened, sealed, dropped and gave up, for those who count.

use super::manifest::{Manifest, Segment};
use crate::id::SegmentNo;

/// How many segments a change made what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Turnover {
    pub(crate) opened: u64,
    /// Also those that left at once, with nothing in them or with their queue.
    pub(crate) sealed: u64,
    pub(crate) dropped: u64,
    pub(crate) lost: u64,
}

impl Turnover {
    pub(crate) fn between(before: Option<&Manifest>, after: &Manifest) -> Self {
        let same_life = before.filter(|before| before.generation == after.generation);
        let was = |no: SegmentNo| same_life.and_then(|before| before.segment(no));
        let is = |no: SegmentNo| same_life.and_then(|_| after.segment(no));
        let mut turnover = Self::default();
        for segment in &after.segments {
            turnover.opened += u64::from(was(segment.no).is_none());
            let was_lost = was(segment.no).is_some_and(|was| was.lost);
            turnover.lost += u64::from(segment.lost && !was_lost);
        }
        for segment in before.iter().flat_map(|before| &before.segments) {
            let now = is(segment.no);
            turnover.dropped += u64::from(now.is_none());
            let is_open = now.is_some_and(Segment::is_open);
            turnover.sealed += u64::from(segment.is_open() && !is_open);
        }
        turnover
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Cookie, Incarnation, NodeId, Placement, PoolId, ReplicaAt};
    use crate::node::Frontier;

    fn at(node: u16) -> ReplicaAt {
        let cookie = Cookie { pool: PoolId(1), node: NodeId(node), incarnation: Incarnation(1) };
        ReplicaAt { cookie, placement: Placement(node.into()) }
    }

    fn turnover(opened: u64, sealed: u64, dropped: u64, lost: u64) -> Turnover {
        Turnover { opened, sealed, dropped, lost }
    }

    #[test]
    fn each_step_of_a_segments_life_is_counted_once() {
        let empty = Manifest::created(b"", None);
        assert_eq!(Turnover::between(None, &empty), turnover(0, 0, 0, 0));
        let mut open = empty.clone();
        assert!(open.add_open(Segment::open(SegmentNo(1), &[at(1)])));
        assert_eq!(Turnover::between(Some(&empty), &open), turnover(1, 0, 0, 0));
        let mut described = open.clone();
        assert!(described.set_metadata(b"x"));
        assert_eq!(Turnover::between(Some(&open), &described), turnover(0, 0, 0, 0));

        let end: Frontier = [(crate::id::ProducerId(7), 3)].into();
        let next = Segment::open(SegmentNo(2), &[at(2)]);
        let mut closed = open.clone();
        assert!(closed.close(SegmentNo(1), &[at(1).placement], &end, Some(next), 0));
        assert_eq!(Turnover::between(Some(&open), &closed), turnover(1, 1, 0, 0));
        let mut lost = closed.clone();
        assert!(lost.close(SegmentNo(2), &[], &end, None, 0));
        assert_eq!(Turnover::between(Some(&closed), &lost), turnover(0, 1, 0, 1));
        let mut removed = lost.clone();
        assert!(removed.remove(&[SegmentNo(1)], 0));
        assert_eq!(Turnover::between(Some(&lost), &removed), turnover(0, 0, 1, 0));
    }

    #[test]
    fn a_deleted_queue_takes_its_segments_along() {
        let mut open = Manifest::created(b"", None);
        assert!(open.add_open(Segment::open(SegmentNo(1), &[at(1)])));
        let mut deleted = open.clone();
        assert!(deleted.delete());
        assert_eq!(Turnover::between(Some(&open), &deleted), turnover(0, 1, 1, 0));
    }
}
