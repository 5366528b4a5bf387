//! Copying a replica's blocks with their state to another one, and merging what comes.

use std::collections::BTreeMap;

use super::claims::Remembered;
use super::machine::size;
use super::message::{Mark, Stored};
use super::read::MAX_BLOCKS;
use super::replica::Replica;
use crate::id::{MessageRef, Offset, ProducerId, Version};
use crate::node::{CopiedBlock, CopiedMark, CopyBatch, Coverage, Refusal};

impl Replica {
    pub(super) fn copy_out(
        &self,
        from: u32,
        max_bytes: u32,
        now: u64,
    ) -> Result<CopyBatch, Refusal> {
        self.check_sealed()?;
        let mut batch = CopyBatch { blocks: Vec::new(), next: from, done: false };
        let mut taken = 0;
        for (ordinal, block) in self.log.stored_from(from).take(MAX_BLOCKS) {
            let bytes = block.encode(ordinal, now);
            taken += bytes.as_ref().map_or(0, |bytes| size(bytes.len()));
            if taken > u64::from(max_bytes) && !batch.blocks.is_empty() {
                break;
            }
            batch.blocks.push(CopiedBlock {
                producer: block.producer,
                block: block.block,
                age_ms: block.age_ms(now),
                bytes,
                marks: self.marks(block, now),
            });
            batch.next = ordinal.saturating_add(1);
        }
        batch.done = self.log.is_tail(batch.next);
        Ok(batch)
    }

    fn marks(&self, block: &Stored, now: u64) -> Vec<CopiedMark> {
        block
            .indices()
            .filter_map(|index| {
                let mark = block.present(index, now)?.mark?;
                let left = self.claims.left(&mark, now);
                Some(CopiedMark {
                    index,
                    claim: mark.claim,
                    fencing: mark.fencing,
                    times: mark.times,
                    left_ms: left.map(|(_, left_ms)| left_ms),
                    ttl_ms: left.map_or(0, |(ttl_ms, _)| ttl_ms),
                })
            })
            .collect()
    }

    /// Takes a batch of copies, or nothing of it.
    pub(super) fn copy_in(
        &mut self,
        version: Version,
        mut blocks: Vec<CopiedBlock>,
        room: u64,
        now: u64,
    ) -> Result<Coverage, Refusal> {
        self.check_sealed()?;
        self.check_version(version)?;
        if self.is_told() {
            // What is new is above the end: it must not come back.
            blocks.retain(|copied| copied.block <= self.frontier(copied.producer));
        }
        let bytes = self.check_next_blocks(&blocks)?;
        if bytes > room {
            return Err(Refusal::Full);
        }
        self.raise_version(version);
        for copied in blocks {
            if copied.block > self.frontier(copied.producer) {
                self.store_copy(&copied, now);
            } else {
                self.merge_copy(&copied, now);
            }
        }
        Ok(self.coverage(now))
    }

    /// Whether each block is known, or the next one of its producer by then; and the bytes of the
    /// new ones.
    fn check_next_blocks(&self, blocks: &[CopiedBlock]) -> Result<u64, Refusal> {
        let mut frontiers: BTreeMap<ProducerId, u32> = BTreeMap::new();
        let mut new_bytes = 0;
        for copied in blocks {
            let held = self.frontier(copied.producer);
            let frontier = frontiers.entry(copied.producer).or_insert(held);
            if copied.block <= *frontier {
                continue;
            }
            if copied.block - *frontier != 1 {
                return Err(Refusal::Gap { frontier: held });
            }
            *frontier = copied.block;
            new_bytes += copied.bytes.as_ref().map_or(0, |bytes| size(bytes.len()));
        }
        Ok(new_bytes)
    }

    fn store_copy(&mut self, copied: &CopiedBlock, now: u64) {
        let of = (copied.producer, copied.block);
        let arrived_ms = now.saturating_sub(copied.age_ms);
        let bytes = copied.bytes.as_ref().map_or(0, |bytes| size(bytes.len()));
        let ordinal = self.log.push(Stored::new(of, copied.bytes.as_ref(), arrived_ms), bytes);
        let known = self.producers.entry(copied.producer).or_default();
        known.ordinals.push(ordinal);
        known.digest = None;
        for index in 0..=u8::MAX {
            let at = MessageRef { producer: copied.producer, block: copied.block, index };
            if let Some(what) = self.claims.take_remembered(at) {
                self.apply_remembered(Offset::new(ordinal, index), what, now);
            }
        }
        for mark in &copied.marks {
            self.merge_mark(Offset::new(ordinal, mark.index), mark, now);
        }
    }

    fn apply_remembered(&mut self, at: Offset, what: Remembered, now: u64) {
        match what {
            Remembered::Tombstone => self.end_message(at),
            Remembered::Hold { mark, ends_ms, until_ms } => {
                let Some((_, message)) = self.log.present_mut(at, now) else { return };
                message.mark = Some(mark);
                if !mark.released {
                    self.claims.join_again(mark, ends_ms, at);
                    self.log.outlive(at, ends_ms, until_ms, now);
                }
            }
        }
    }

    /// Q8: ended on either side is ended, and expired is ended.
    fn merge_copy(&mut self, copied: &CopiedBlock, now: u64) {
        let Some(place) =
            self.place(MessageRef { producer: copied.producer, block: copied.block, index: 0 })
        else {
            return;
        };
        let arrived_ms = now.saturating_sub(copied.age_ms);
        let of = (copied.producer, copied.block);
        let other = Stored::new(of, copied.bytes.as_ref(), arrived_ms);
        let Some(indices) = self.log.block(place.ordinal()).map(Stored::indices) else { return };
        for index in indices {
            let at = Offset::new(place.ordinal(), index);
            let ttl_ms = other.present(index, now).map(|message| message.ttl_ms);
            match (ttl_ms, self.log.present_mut(at, now)) {
                (Some(ttl_ms), Some((arrived_ms, message))) => {
                    message.ttl_ms = message.ttl_ms.max(ttl_ms);
                    let expiry = arrived_ms.saturating_add(u64::from(message.ttl_ms));
                    self.log.last_expiry_ms = self.log.last_expiry_ms.max(expiry);
                }
                _ => self.end_message(at),
            }
        }
        for mark in &copied.marks {
            self.merge_mark(Offset::new(place.ordinal(), mark.index), mark, now);
        }
    }

    /// Q7: of two marks the higher rank; of the same rank the one with more time left.
    fn merge_mark(&mut self, at: Offset, copied: &CopiedMark, now: u64) {
        let Some((_, message)) = self.log.present(at, now) else { return };
        let held = message.mark;
        let left_ms = copied.left_ms.unwrap_or(0);
        let wins = held.is_none_or(|held| {
            let held_left_ms = self.claims.left(&held, now).map_or(0, |(_, left_ms)| left_ms);
            (copied.fencing, left_ms) > (held.fencing, held_left_ms)
        });
        let times = copied.times.max(held.map_or(0, |held| held.times));
        let mark = match held {
            Some(held) if !wins => Mark { times, ..held },
            _ => Mark {
                claim: copied.claim,
                fencing: copied.fencing,
                times,
                released: copied.left_ms.is_none(),
            },
        };
        if let Some((_, message)) = self.log.present_mut(at, now) {
            message.mark = Some(mark);
        }
        if !wins {
            return;
        }
        if let Some(held) = held {
            self.claims.leave(held.claim, at);
        }
        self.picking.free(at);
        if copied.left_ms.is_some() {
            let ends_ms = now.saturating_add(left_ms);
            let (claim, fencing) = (copied.claim, copied.fencing);
            for lost in self.claims.record_copied(claim, fencing, copied.ttl_ms, ends_ms) {
                self.picking.free(lost);
            }
            self.claims.join(claim, at);
        }
    }
}
