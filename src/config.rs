//! How a store is set up: how many copies, which limits, how patient.

use std::time::Duration;

use crate::error::{Error, ErrorKind};

/// The settings of a store. Every process on the same nodes should use the same ones.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// Replicas that a new segment should have: 1 to 3, 2 or 3 for real use.
    pub copies: usize,
    /// Replicas below which nothing is acknowledged.
    pub copies_min: usize,
    /// Nodes that also keep manifests: 1, 3 or 5. Only looked at when a pool is initialised.
    pub keepers: usize,
    /// How long a node may take before others go on without it. Adapts upwards to slow nodes.
    pub suspect_after: Duration,
    /// How long one operation may take.
    pub deadline: Duration,
    /// Bytes at which a segment is closed.
    pub segment_bytes: u64,
    /// Messages in one block at most, up to 256.
    pub block_messages: usize,
    /// Bytes of envelopes in one block, unless a single message is longer.
    pub block_bytes: usize,
    /// Blocks of one queue in flight at most.
    pub blocks_in_flight: usize,
    /// Bytes of one queue's posts waiting in this process at most.
    pub waiting_bytes: usize,
    /// After how long a producer says on its own that its last blocks were acked.
    pub note_after: Duration,
    /// Bytes a second that this process copies at most to restore copies that nobody waits for;
    /// 0: no limit. Segments with fewer than `copies_min` copies are copied without delay.
    pub repair_bytes_per_second: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            copies: 3,
            copies_min: 2,
            keepers: 3,
            suspect_after: Duration::from_millis(50),
            deadline: Duration::from_secs(10),
            segment_bytes: 16 * 1024 * 1024,
            block_messages: 256,
            block_bytes: 64 * 1024,
            blocks_in_flight: 4,
            waiting_bytes: 32 * 1024 * 1024,
            note_after: Duration::from_millis(20),
            repair_bytes_per_second: 64 * 1024 * 1024,
        }
    }
}

impl Config {
    /// Checks that the settings agree with each other.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] naming the first setting that does not.
    pub fn check(&self) -> Result<(), Error> {
        let bad = |what: String| Err(Error::new(ErrorKind::Config, what));
        if !(1..=3).contains(&self.copies) {
            return bad(format!("copies is {}: 1, 2 or 3 are allowed", self.copies));
        }
        if self.copies_min == 0 || self.copies_min > self.copies {
            return bad(format!(
                "copies_min is {}: it must be 1 to copies, which is {}",
                self.copies_min, self.copies
            ));
        }
        if ![1, 3, 5].contains(&self.keepers) {
            return bad(format!("keepers is {}: 1, 3 or 5 are allowed", self.keepers));
        }
        if self.block_messages == 0 || self.block_messages > crate::block::MAX_MESSAGES {
            return bad(format!("block_messages is {}: 1 to 256 are allowed", self.block_messages));
        }
        if self.block_bytes == 0 || self.blocks_in_flight == 0 || self.segment_bytes == 0 {
            return bad("block_bytes, blocks_in_flight and segment_bytes must be above 0".into());
        }
        if self.suspect_after.is_zero() || self.deadline < self.suspect_after {
            return bad("suspect_after must be above 0 and at most the deadline".into());
        }
        Ok(())
    }
}
