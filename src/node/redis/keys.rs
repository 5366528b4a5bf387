//! Every key that the library stores on a server. `specs/keys.md` explains the layout; the scripts
//! build the same names from the prefix that they are given.

use crate::id::{Cookie, Placement, ProducerId, ReplicaAt};

/// String: `pool.node.incarnation run_id` (Q9).
pub(super) const COOKIE: &str = "rl:cookie";

/// A key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key {
    /// Not a key but what those of one replica start with, `P`: `rl:POOL:INCARNATION:PLACEMENT`.
    ///
    /// | key | type | what |
    /// | --- | --- | --- |
    /// | `P:m` | hash | `h` packed numbers, `v` version, `s` sealed by and when, `of`, `pHEX` a producer |
    /// | `P:i` | string | the index: 32 bytes for each ordinal |
    /// | `P:b:PRODUCER:NUMBER` | string | a block, as `block` encodes it |
    /// | `P:o:PRODUCER` | string | the ordinals of the producer's blocks, 4 bytes each |
    /// | `P:x` | hash | ordinal → marks of the block's messages |
    /// | `P:c` | hash | claim → its time and members |
    /// | `P:d` | sorted set | claims by their ends |
    /// | `P:a` | sorted set | ordinals that picks have passed and of which something may be free |
    /// | `P:w` | sorted set | ordinals that picks have passed, by when a delayed message is ready |
    /// | `P:y` | sorted set | ordinals by when their last delayed message is ready |
    /// | `P:t` | hash | reference → what a joining replica was asked of a block to come |
    /// | `P:z` | string | the next ordinal to wipe |
    Replica(ReplicaAt),
    /// Hash `P:m`.
    Meta(ReplicaAt),
    /// String `P:b:PRODUCER:NUMBER`.
    Block(ReplicaAt, ProducerId, u32),
    /// Sorted set: placements by when somebody should look at them.
    Due(Cookie),
    /// Hash `rl:POOL:INCARNATION:k`: epoch, keepers, active, counter of changes. Beside it, each
    /// from the same start: `r:NAME` hash, a register; `log` sorted set, names by their latest
    /// change; `names` and `x:PROJECT` sorted sets of score 0, names in order.
    Keeper(Cookie),
}

impl Key {
    /// As the server knows it.
    pub(super) fn name(self) -> String {
        match self {
            Self::Replica(at) => replica(at.cookie, at.placement),
            Self::Meta(at) => replica(at.cookie, at.placement) + ":m",
            Self::Block(at, producer, number) => {
                format!("{}:b:{producer}:{number}", replica(at.cookie, at.placement))
            }
            Self::Due(cookie) => life(cookie) + "due",
            Self::Keeper(cookie) => life(cookie) + "k",
        }
    }
}

/// What all keys of one life of a node start with: another life finds none of them.
fn life(cookie: Cookie) -> String {
    format!("rl:{}:{}:", cookie.pool, cookie.incarnation)
}

fn replica(cookie: Cookie, placement: Placement) -> String {
    format!("{}{placement}", life(cookie))
}
