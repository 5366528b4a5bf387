//! The small identifiers of the protocol, each a type of its own so that one cannot stand for
//! another.
//!
//! What a client sees (message ids, claim ids, markers) is built from these in `token`.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident($inner:ty), $format:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, $format, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "(", $format, ")"), self.0)
            }
        }
    };
}

number_id!(
    /// Names one pool for ever; drawn at random when the pool is initialised.
    PoolId(u64), "{:016x}"
);
number_id!(
    /// Names a node within its pool; given when the node is added, never reused.
    NodeId(u16), "{}"
);
number_id!(
    /// One life of a node: raised whenever the node may have forgotten something (Q9).
    Incarnation(u32), "{}"
);
number_id!(
    /// Names one replica's storage for ever; drawn at random for each `open`, never reused.
    Placement(u64), "{:016x}"
);
number_id!(
    /// One running instance of the library; drawn at random when a store is opened.
    ProducerId(u64), "{:016x}"
);
number_id!(
    /// One life of a queue: raised when the queue is deleted.
    Generation(u32), "{}"
);
number_id!(
    /// A segment's number in its queue's manifest; rises, never reused within a generation.
    SegmentNo(u32), "{}"
);
number_id!(
    /// A claim, as nodes know it; drawn at random for each claim.
    ClaimKey(u64), "{:016x}"
);
number_id!(
    /// A manifest's version: raised by every change of the manifest.
    Version(u64), "{}"
);
number_id!(
    /// The keepers' epoch: raised by every change of the set of keepers.
    Epoch(u32), "{}"
);

/// What a node must hold before anything it says counts: which pool it belongs to, as which
/// node, in which life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cookie {
    /// The pool.
    pub pool: PoolId,
    /// The node within the pool.
    pub node: NodeId,
    /// The node's life.
    pub incarnation: Incarnation,
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.pool, self.node, self.incarnation)
    }
}

/// The address of one replica of a segment: the node's cookie at the time of `open`, and the
/// placement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaAt {
    /// The life of the node in which the replica was opened.
    pub cookie: Cookie,
    /// The replica's storage on that node.
    pub placement: Placement,
}

/// Names a message within a segment: the producer's block, and the place in the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageRef {
    /// Who posted it.
    pub producer: ProducerId,
    /// The number of the producer's block in this segment, from 1.
    pub block: u32,
    /// The place in the block, from 0.
    pub index: u8,
}

/// Where a reader stands in one replica: everything below has been passed.
///
/// The upper bits are the block's ordinal of arrival at that replica (from 0), the low eight the
/// index within the block.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Offset(pub u64);

impl Offset {
    /// The place of message `index` of the block that arrived as number `ordinal`.
    pub fn new(ordinal: u32, index: u8) -> Self {
        Self((u64::from(ordinal) << 8) | u64::from(index))
    }

    /// The block's ordinal of arrival.
    pub fn ordinal(self) -> u32 {
        u32::try_from(self.0 >> 8).unwrap_or(u32::MAX)
    }

    /// The index within the block.
    pub fn index(self) -> u8 {
        self.0.to_le_bytes()[0]
    }
}

/// A claim's rank: of two claims on one message the higher one wins, whatever order their
/// requests arrive in.
///
/// The manifest's version comes first, so that a picker that has been dropped can never outrank
/// its successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Fencing {
    /// The manifest's version under which the claim was picked.
    pub version: Version,
    /// The picking replica's own count of picks.
    pub count: u32,
}
