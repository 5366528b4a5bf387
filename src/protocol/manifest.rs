//! A queue's manifest: its life, its metadata, and its segments with their replicas.
//!
//! Every change is a method that takes the manifest one step further and says whether anything
//! changed, so that it can be tried again on whatever value a compare-and-set finds (Q6). Each
//! segment counts the changes of its own set of replicas (`Segment::version`): claims, deletes and
//! copies carry that number, so that a change to one segment does not disturb the others.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::id::{
    Cookie, Generation, Incarnation, NodeId, Placement, PoolId, ProducerId, ReplicaAt, SegmentNo,
    Version,
};
use crate::node::Frontier;

const FORMAT: u8 = 1;
/// How long the end of a segment that left is remembered.
pub(crate) const STUB_MS: u64 = 60_000;

/// The value of a queue's register.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    format: u8,
    /// The queue's life.
    pub(crate) generation: Generation,
    /// Raised by every change.
    pub(crate) version: Version,
    /// Whether the queue exists; a deleted one leaves this as its tombstone.
    pub(crate) alive: bool,
    /// The owner's metadata.
    #[serde(with = "serde_bytes")]
    pub(crate) metadata: Vec<u8>,
    /// The number of the next segment.
    pub(crate) next: SegmentNo,
    /// The live segments, by number; only the last one may be open.
    pub(crate) segments: Vec<Segment>,
    /// Segments that left a short while ago.
    pub(crate) stubs: Vec<Stub>,
}

/// A contiguous run of the queue's log on one set of replicas.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Segment {
    /// Its number.
    pub(crate) no: SegmentNo,
    /// Raised by every change of its replicas; starts at 1.
    pub(crate) version: Version,
    /// Where it ends; `None` while it is open.
    pub(crate) end: Option<Frontier>,
    /// Whether every replica that had it is gone for good.
    pub(crate) lost: bool,
    /// Its replicas: full ones in the order in which they are asked, dropped ones in the order in
    /// which they were dropped.
    pub(crate) replicas: Vec<Replica>,
}

/// One replica, as the manifest knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replica {
    node: NodeId,
    incarnation: Incarnation,
    /// Its storage.
    pub(crate) placement: Placement,
    /// What it may be used for.
    pub(crate) standing: Standing,
}

/// What a replica may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Standing {
    /// Covers the end, and all claims and deletes. In an open segment: takes appends.
    Full,
    /// Is being filled.
    Joining,
    /// Was in the set, but took no part in deciding the end.
    Former,
    /// Was full once.
    Dropped,
}

/// The end of a segment that left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stub {
    /// Its number.
    pub(crate) no: SegmentNo,
    /// Where it ended.
    pub(crate) end: Frontier,
    /// When it left, by the wall clock of the process that removed it.
    pub(crate) left_ms: u64,
}

/// What became of a producer's block in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The segment is still open.
    Undecided,
    /// In the log for good.
    Counts,
    /// In the log, but on fewer than `copies_min` full replicas yet.
    Thin,
    /// Not in the log, and never will be.
    Void,
    /// The segment left so long ago that nobody knows.
    Forgotten,
}

impl Replica {
    pub(crate) fn new(at: ReplicaAt, standing: Standing) -> Self {
        Self {
            node: at.cookie.node,
            incarnation: at.cookie.incarnation,
            placement: at.placement,
            standing,
        }
    }

    /// Its address in the given pool.
    pub(crate) fn at(&self, pool: PoolId) -> ReplicaAt {
        ReplicaAt { cookie: self.cookie(pool), placement: self.placement }
    }

    pub(crate) fn cookie(&self, pool: PoolId) -> Cookie {
        Cookie { pool, node: self.node, incarnation: self.incarnation }
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }
}

impl Segment {
    /// A segment that takes appends on these replicas.
    pub(crate) fn open(no: SegmentNo, replicas: &[ReplicaAt]) -> Self {
        Self {
            no,
            version: Version(1),
            end: None,
            lost: false,
            replicas: replicas.iter().map(|at| Replica::new(*at, Standing::Full)).collect(),
        }
    }

    pub(crate) fn with(&self, standing: Standing) -> impl Iterator<Item = &Replica> {
        self.replicas.iter().filter(move |replica| replica.standing == standing)
    }

    pub(crate) fn full(&self) -> impl Iterator<Item = &Replica> {
        self.with(Standing::Full)
    }

    /// Whether the replica is one of its own, in whatever standing.
    pub(crate) fn names(&self, placement: Placement) -> bool {
        self.replicas.iter().any(|replica| replica.placement == placement)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.end.is_none()
    }

    /// Closed, and not lost: what claims, deletes and repairs work on.
    pub(crate) fn is_settled(&self) -> bool {
        !self.is_open() && !self.lost
    }

    fn replica_mut(&mut self, placement: Placement) -> Option<&mut Replica> {
        self.replicas.iter_mut().find(|replica| replica.placement == placement)
    }
}

impl Manifest {
    /// The manifest of a queue that was just created, or created again after a deletion.
    pub(crate) fn created(metadata: &[u8], before: Option<&Self>) -> Self {
        Self {
            format: FORMAT,
            generation: before.map_or(Generation(1), |tombstone| tombstone.generation),
            version: Version(before.map_or(1, |tombstone| tombstone.version.0 + 1)),
            alive: true,
            metadata: metadata.to_vec(),
            next: SegmentNo(1),
            segments: Vec::new(),
            stubs: Vec::new(),
        }
    }

    pub(crate) fn encode(&self) -> Result<Bytes, rmp_serde::encode::Error> {
        rmp_serde::to_vec(self).map(Bytes::from)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, String> {
        let manifest: Self = rmp_serde::from_slice(bytes).map_err(|error| error.to_string())?;
        if manifest.format != FORMAT {
            return Err(format!("manifest of unknown format {}", manifest.format));
        }
        Ok(manifest)
    }

    pub(crate) fn segment(&self, no: SegmentNo) -> Option<&Segment> {
        self.segments.binary_search_by_key(&no, |segment| segment.no).ok().map(|at| {
            // The index comes from the search over the same vector.
            &self.segments[at]
        })
    }

    fn segment_mut(&mut self, no: SegmentNo) -> Option<&mut Segment> {
        self.segments.iter_mut().find(|segment| segment.no == no)
    }

    /// Whether the replica belongs to any segment.
    pub(crate) fn names(&self, placement: Placement) -> bool {
        self.segments.iter().any(|segment| segment.names(placement))
    }

    /// The segments that claims, deletes and repairs work on.
    pub(crate) fn settled(&self) -> impl Iterator<Item = &Segment> {
        self.segments.iter().filter(|segment| segment.is_settled())
    }

    /// The segment that takes appends.
    pub(crate) fn open_segment(&self) -> Option<&Segment> {
        self.segments.last().filter(|segment| segment.is_open())
    }

    fn changed(&mut self) -> bool {
        self.version = Version(self.version.0 + 1);
        true
    }

    /// Ends this life of the queue: nothing of it can come back (Q8).
    pub(crate) fn delete(&mut self) -> bool {
        self.alive = false;
        self.generation = Generation(self.generation.0 + 1);
        self.metadata.clear();
        self.segments.clear();
        self.stubs.clear();
        self.next = SegmentNo(1);
        self.changed()
    }

    pub(crate) fn set_metadata(&mut self, metadata: &[u8]) -> bool {
        self.metadata = metadata.to_vec();
        self.changed()
    }

    /// Adds an open segment, unless there is one or its number is taken.
    pub(crate) fn add_open(&mut self, segment: Segment) -> bool {
        if !self.alive || self.open_segment().is_some() || segment.no != self.next {
            return false;
        }
        self.next = SegmentNo(segment.no.0 + 1);
        self.segments.push(segment);
        self.changed()
    }

    /// Decides the end of the open segment, once (Q6): those that answered are full, the others
    /// former. A segment that ends with nothing in it leaves at once.
    pub(crate) fn close(
        &mut self,
        no: SegmentNo,
        answered: &[Placement],
        end: &Frontier,
        next: Option<Segment>,
        now_ms: u64,
    ) -> bool {
        let Some(segment) = self.segment_mut(no).filter(|segment| segment.is_open()) else {
            return false;
        };
        segment.end = Some(end.clone());
        segment.version = Version(segment.version.0 + 1);
        segment.lost = answered.is_empty();
        for replica in &mut segment.replicas {
            if !answered.contains(&replica.placement) {
                replica.standing = Standing::Former;
            }
        }
        if end.is_empty() && !answered.is_empty() {
            self.remove(&[no], now_ms);
        }
        if let Some(next) = next {
            self.add_open(next);
        }
        self.changed()
    }

    /// Takes segments out whose messages have all ended; their ends are remembered for a minute.
    pub(crate) fn remove(&mut self, which: &[SegmentNo], now_ms: u64) -> bool {
        let before = self.segments.len();
        let mut left = Vec::new();
        self.segments.retain(|segment| match &segment.end {
            Some(end) if which.contains(&segment.no) => {
                left.push(Stub { no: segment.no, end: end.clone(), left_ms: now_ms });
                false
            }
            _ => true,
        });
        if self.segments.len() == before {
            return false;
        }
        self.stubs.retain(|stub| now_ms.saturating_sub(stub.left_ms) < STUB_MS);
        self.stubs.extend(left);
        self.changed()
    }

    /// Drops the replicas that `gone` names from every closed segment that keeps another full
    /// one. They come last in its order: that is how salvage knows which one was dropped last.
    pub(crate) fn drop_where(&mut self, gone: impl Fn(&Replica) -> bool) -> bool {
        let mut any = false;
        for segment in self.segments.iter_mut().filter(|segment| !segment.is_open()) {
            let keeps = segment.full().any(|replica| !gone(replica));
            let count = segment.replicas.len();
            segment
                .replicas
                .retain(|replica| replica.standing != Standing::Joining || !gone(replica));
            let leaves = |r: &Replica| r.standing == Standing::Full && keeps && gone(r);
            let (leaving, mut replicas): (Vec<Replica>, Vec<Replica>) =
                segment.replicas.iter().copied().partition(leaves);
            let changed = !leaving.is_empty() || replicas.len() != count;
            let dropped = leaving.into_iter().map(|r| Replica { standing: Standing::Dropped, ..r });
            replicas.extend(dropped);
            segment.replicas = replicas;
            if changed {
                segment.version = Version(segment.version.0 + 1);
                any = true;
            }
        }
        any && self.changed()
    }

    /// Takes the replicas that `leaves` names out of every closed segment of which at least
    /// `copies` full replicas satisfy `stays`. Returns them, and whether anything changed.
    ///
    /// What leaves is forgotten, not dropped: nobody will look for it any more. Those that stay
    /// have taken every operation that succeeded, so it takes nothing with it (Q1, Q8).
    pub(crate) fn release(
        &mut self,
        copies: usize,
        stays: impl Fn(&Replica) -> bool,
        leaves: impl Fn(&Replica) -> bool,
    ) -> (Vec<Replica>, bool) {
        let mut released = Vec::new();
        for segment in self.segments.iter_mut().filter(|segment| !segment.is_open()) {
            let remain = segment.full().filter(|r| stays(r) && !leaves(r)).count();
            let before = released.len();
            if segment.lost || remain >= copies.max(1) {
                released.extend(segment.replicas.iter().filter(|replica| leaves(replica)));
                segment.replicas.retain(|replica| !leaves(replica));
            }
            if released.len() > before {
                segment.version = Version(segment.version.0 + 1);
            }
        }
        let changed = !released.is_empty() && self.changed();
        (released, changed)
    }

    /// Names a replica as being filled, if fewer than `copies` of those that `counts` are full or
    /// being filled.
    pub(crate) fn add_joining(
        &mut self,
        no: SegmentNo,
        at: ReplicaAt,
        copies: usize,
        counts: impl Fn(&Replica) -> bool,
    ) -> bool {
        let Some(segment) = self.segment_mut(no).filter(|segment| !segment.is_open()) else {
            return false;
        };
        let present = segment
            .replicas
            .iter()
            .filter(|r| matches!(r.standing, Standing::Full | Standing::Joining) && counts(r))
            .count();
        let known = segment.replicas.iter().any(|replica| {
            replica.node == at.cookie.node
                && matches!(replica.standing, Standing::Full | Standing::Joining)
        });
        if segment.lost || present >= copies || known || segment.full().next().is_none() {
            return false;
        }
        segment.replicas.push(Replica::new(at, Standing::Joining));
        segment.version = Version(segment.version.0 + 1);
        self.changed()
    }

    /// A filled replica becomes full. Replicas that are gone for good are forgotten; dropped and
    /// former ones that may come back are not (Q1: they may be the last that cover something).
    pub(crate) fn promote(
        &mut self,
        no: SegmentNo,
        placement: Placement,
        lost: impl Fn(&Replica) -> bool,
    ) -> bool {
        let Some(segment) = self.segment_mut(no).filter(|s| !s.lost) else { return false };
        match segment.replica_mut(placement) {
            Some(replica) if replica.standing == Standing::Joining => {
                replica.standing = Standing::Full;
            }
            _ => return false,
        }
        segment.replicas.retain(|replica| {
            matches!(replica.standing, Standing::Full | Standing::Joining) || !lost(replica)
        });
        self.changed()
    }

    /// Gives up a replica that is being filled.
    pub(crate) fn drop_joining(&mut self, no: SegmentNo, placement: Placement) -> bool {
        let Some(segment) = self.segment_mut(no) else { return false };
        let before = segment.replicas.len();
        segment.replicas.retain(|replica| {
            replica.placement != placement || replica.standing != Standing::Joining
        });
        if segment.replicas.len() == before {
            return false;
        }
        segment.version = Version(segment.version.0 + 1);
        self.changed()
    }

    /// Raises the segment's version: what comes before a salvage.
    pub(crate) fn raise(&mut self, no: SegmentNo, seen: Version) -> bool {
        match self.segment_mut(no) {
            Some(segment) if segment.version == seen && !segment.is_open() => {
                segment.version = Version(seen.0 + 1);
                self.changed()
            }
            _ => false,
        }
    }

    /// The segment, if it is closed, has not changed since `seen`, and has no full replica but
    /// lost ones: one that was filled meanwhile has all that salvage could find.
    fn lost_since(
        &mut self,
        no: SegmentNo,
        seen: Version,
        lost: impl Fn(&Replica) -> bool,
    ) -> Option<&mut Segment> {
        let segment = self.segment_mut(no)?;
        let same = segment.version == seen && segment.is_settled();
        (same && segment.full().all(lost)).then_some(segment)
    }

    /// Makes `placement` the one full replica of a segment that has lost all its full ones, with
    /// `end` as the segment's end; refused if the segment changed since `seen`.
    pub(crate) fn salvage(
        &mut self,
        no: SegmentNo,
        seen: Version,
        placement: Placement,
        end: &Frontier,
        lost: impl Fn(&Replica) -> bool,
    ) -> bool {
        let Some(segment) = self.lost_since(no, seen, lost) else { return false };
        for replica in &mut segment.replicas {
            if replica.placement == placement {
                replica.standing = Standing::Full;
            } else if replica.standing == Standing::Full {
                replica.standing = Standing::Dropped;
            }
        }
        segment.replicas.retain(|replica| replica.standing != Standing::Joining);
        segment.end = Some(end.clone());
        segment.version = Version(seen.0 + 1);
        self.changed()
    }

    /// Says that nothing is left of a segment.
    pub(crate) fn mark_lost(
        &mut self,
        no: SegmentNo,
        seen: Version,
        lost: impl Fn(&Replica) -> bool,
    ) -> bool {
        let Some(segment) = self.lost_since(no, seen, lost) else { return false };
        segment.lost = true;
        segment.version = Version(seen.0 + 1);
        self.changed()
    }

    /// What became of a producer's block (section "post" of `specs/replication.md`).
    pub(crate) fn fate(
        &self,
        no: SegmentNo,
        producer: ProducerId,
        block: u32,
        copies_min: usize,
    ) -> Fate {
        if let Some(segment) = self.segment(no) {
            let Some(end) = &segment.end else { return Fate::Undecided };
            return match block <= end.get(&producer).copied().unwrap_or(0) {
                _ if segment.lost => Fate::Forgotten,
                false => Fate::Void,
                true if segment.full().count() >= copies_min => Fate::Counts,
                true => Fate::Thin,
            };
        }
        match self.stubs.iter().find(|stub| stub.no == no) {
            Some(stub) if block <= stub.end.get(&producer).copied().unwrap_or(0) => Fate::Counts,
            Some(_) => Fate::Void,
            None => Fate::Forgotten,
        }
    }
}
