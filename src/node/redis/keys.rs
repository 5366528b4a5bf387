//! Every key that the library stores on a server. `specs/keys.md` explains the layout; the scripts
//! build the same names from the prefix that they are given.

use crate::id::{Cookie, ProducerId, ReplicaAt};

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
    /// | `P:n` | string | the journal of a replica that takes appends: blocks that no script has taken yet |
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
    /// String `P:b:PRODUCER:NUMBER`.
    Block(ReplicaAt, ProducerId, u32),
    /// String `P:n`.
    Journal(ReplicaAt),
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
        let mut name = String::with_capacity(96);
        match self {
            Self::Replica(at) => push_replica(&mut name, at),
            Self::Block(at, producer, number) => {
                push_replica(&mut name, at);
                push_block(&mut name, producer, number);
            }
            Self::Journal(at) => {
                push_replica(&mut name, at);
                name.push_str(":n");
            }
            Self::Due(cookie) => {
                push_life(&mut name, cookie);
                name.push_str("due");
            }
            Self::Keeper(cookie) => {
                push_life(&mut name, cookie);
                name.push('k');
            }
        }
        name
    }
}

/// The keys that an append names, in one text: `P:b:PRODUCER:NUMBER`, `P:n`, `P:m`.
#[derive(Debug)]
pub(super) struct AppendKeys {
    text: String,
    /// Length of the block's key, and of `P`.
    block: usize,
    replica: usize,
}

impl AppendKeys {
    pub(super) fn of(at: ReplicaAt, producer: ProducerId, number: u32) -> Self {
        let mut text = String::with_capacity(192);
        push_replica(&mut text, at);
        let replica = text.len();
        push_block(&mut text, producer, number);
        let block = text.len();
        for suffix in [":n", ":m"] {
            text.extend_from_within(..replica);
            text.push_str(suffix);
        }
        Self { text, block, replica }
    }

    /// The block's bytes.
    pub(super) fn block(&self) -> &str {
        &self.text[..self.block]
    }

    /// The replica's journal.
    pub(super) fn journal(&self) -> &str {
        &self.text[self.block..][..self.replica + 2]
    }

    /// The replica's numbers.
    pub(super) fn meta(&self) -> &str {
        &self.text[self.block + self.replica + 2..]
    }
}

fn push_block(out: &mut String, producer: ProducerId, number: u32) {
    out.push_str(":b:");
    hex(out, producer.0);
    out.push(':');
    out.push_str(&number.to_string());
}

/// What all keys of one life of a node start with: another life finds none of them.
fn push_life(out: &mut String, cookie: Cookie) {
    out.push_str("rl:");
    hex(out, cookie.pool.0);
    out.push(':');
    out.push_str(&cookie.incarnation.0.to_string());
    out.push(':');
}

fn push_replica(out: &mut String, at: ReplicaAt) {
    push_life(out, at.cookie);
    hex(out, at.placement.0);
}

/// As ids show themselves. Each block has two names on each of three nodes, and `write!` takes
/// several times as long.
fn hex(out: &mut String, id: u64) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for shift in (0..16).rev() {
        let digit = DIGITS.get((id >> (4 * shift)) as usize & 15).copied().unwrap_or(b'0');
        out.push(char::from(digit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Incarnation, NodeId, Placement, PoolId};

    #[test]
    fn names_have_ids_as_they_show_themselves() {
        for number in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            let (pool, incarnation) = (PoolId(number), Incarnation(7));
            let cookie = Cookie { pool, node: NodeId(3), incarnation };
            let at = ReplicaAt { cookie, placement: Placement(number ^ 5) };
            let producer = ProducerId(number ^ 9);
            let keys = AppendKeys::of(at, producer, 42);
            let replica = format!("rl:{pool}:{incarnation}:{}", at.placement);
            assert_eq!(Key::Replica(at).name(), replica);
            assert_eq!(keys.meta(), format!("{replica}:m"));
            assert_eq!(keys.journal(), format!("{replica}:n"));
            assert_eq!(keys.journal(), Key::Journal(at).name());
            assert_eq!(keys.block(), format!("{replica}:b:{producer}:42"));
            assert_eq!(keys.block(), Key::Block(at, producer, 42).name());
        }
    }
}
