//! The blocks of a replica in the order of arrival: appending, finding and ending messages.

use super::machine::size;
use super::message::{Message, Stored};
use super::replica::Replica;
use crate::id::{MessageRef, Offset};
use crate::node::{Append, Appended, Refusal};

/// Producers of one segment at most.
const MAX_PRODUCERS: usize = 48;

/// Blocks by ordinal, and their sums.
#[derive(Debug, Clone, Default)]
pub(super) struct Log {
    /// `None`: dropped by an end. Ordinals are never given twice.
    blocks: Vec<Option<Stored>>,
    /// Messages not marked as ended.
    pub(super) live: u64,
    /// Bytes that ever arrived.
    pub(super) arrived_bytes: u64,
    /// Bytes of blocks of which something is left.
    pub(super) held_bytes: u64,
    /// The latest expiry that any message ever had.
    pub(super) last_expiry_ms: u64,
}

impl Log {
    /// The ordinal of the next block.
    pub(super) fn arrived(&self) -> u32 {
        u32::try_from(self.blocks.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn block(&self, ordinal: u32) -> Option<&Stored> {
        self.blocks.get(usize::try_from(ordinal).ok()?)?.as_ref()
    }

    pub(super) fn block_mut(&mut self, ordinal: u32) -> Option<&mut Stored> {
        self.blocks.get_mut(usize::try_from(ordinal).ok()?)?.as_mut()
    }

    /// The stored blocks by ordinal.
    pub(super) fn stored(&self) -> impl DoubleEndedIterator<Item = (u32, &Stored)> {
        self.stored_from(0)
    }

    /// The stored blocks by ordinal, from the given one.
    pub(super) fn stored_from(
        &self,
        ordinal: u32,
    ) -> impl DoubleEndedIterator<Item = (u32, &Stored)> {
        let start = usize::try_from(ordinal).unwrap_or(usize::MAX).min(self.blocks.len());
        self.blocks[start..]
            .iter()
            .enumerate()
            .filter_map(move |(at, block)| Some((u32::try_from(start + at).ok()?, block.as_ref()?)))
    }

    /// Whether no block is stored at or after that ordinal.
    pub(super) fn is_tail(&self, ordinal: u32) -> bool {
        self.stored_from(ordinal).next().is_none()
    }

    /// Stores a block, counted as `bytes`, and gives its ordinal.
    pub(super) fn push(&mut self, block: Stored, bytes: u64) -> u32 {
        let ordinal = self.arrived();
        self.arrived_bytes = self.arrived_bytes.saturating_add(bytes);
        self.held_bytes += block.size;
        self.live += size(block.live);
        for message in block.messages.iter().flatten() {
            self.last_expiry_ms =
                self.last_expiry_ms.max(block.arrived_ms.saturating_add(u64::from(message.ttl_ms)));
        }
        self.blocks.push(Some(block));
        ordinal
    }

    /// The message at that place, if it has not ended or expired.
    pub(super) fn present(&self, at: Offset, now: u64) -> Option<(&Stored, &Message)> {
        let block = self.block(at.ordinal())?;
        Some((block, block.present(at.index(), now)?))
    }

    /// As [`present`](Self::present), to be changed; with the time of its arrival.
    pub(super) fn present_mut(&mut self, at: Offset, now: u64) -> Option<(u64, &mut Message)> {
        let block = self.block_mut(at.ordinal())?;
        let arrived_ms = block.arrived_ms;
        Some((arrived_ms, block.present_mut(at.index(), now)?))
    }

    /// Lets a message live to `until_ms` if it would expire before `ends_ms`.
    pub(super) fn outlive(&mut self, at: Offset, ends_ms: u64, until_ms: u64, now: u64) {
        let Some((arrived_ms, message)) = self.present_mut(at, now) else { return };
        if let Some(expiry) = message.outlive(arrived_ms, ends_ms, until_ms) {
            self.last_expiry_ms = self.last_expiry_ms.max(expiry);
        }
    }

    /// Takes a message out of its block.
    fn end(&mut self, at: Offset) -> Option<Message> {
        let block = self.block_mut(at.ordinal())?;
        let message = block.messages.get_mut(usize::from(at.index()))?.take()?;
        block.live -= 1;
        let freed = if block.live == 0 { std::mem::take(&mut block.size) } else { 0 };
        self.live -= 1;
        self.held_bytes -= freed;
        Some(message)
    }

    fn drop(&mut self, ordinal: u32) {
        let Some(slot) = usize::try_from(ordinal).ok().and_then(|at| self.blocks.get_mut(at))
        else {
            return;
        };
        *slot = None;
    }
}

impl Replica {
    pub(super) fn append(
        &mut self,
        append: &Append,
        room: u64,
        now: u64,
    ) -> Result<Appended, Refusal> {
        let digest = append.bytes.digest();
        let frontier = self.frontier(append.producer);
        if append.block <= frontier {
            if let Some(known) = self.producers.get_mut(&append.producer) {
                let newest = append.block == frontier;
                if newest && known.digest.is_some_and(|held| held != digest) {
                    return Err(Refusal::Conflict);
                }
                known.note(append.noted);
            }
            return Ok(Appended { again: true, bytes: self.log.arrived_bytes });
        }
        self.check_appends()?;
        if frontier == 0 && self.producers.len() >= MAX_PRODUCERS {
            return Err(Refusal::TooManyProducers);
        }
        if append.block - frontier != 1 {
            return Err(Refusal::Gap { frontier });
        }
        let bytes = size(append.bytes.len());
        if bytes > room {
            return Err(Refusal::Full);
        }
        let of = (append.producer, append.block);
        let ordinal = self.log.push(Stored::new(of, Some(&append.bytes), now), bytes);
        let known = self.producers.entry(append.producer).or_default();
        known.ordinals.push(ordinal);
        known.digest = Some(digest);
        known.note(append.noted);
        Ok(Appended { again: false, bytes: self.log.arrived_bytes })
    }

    /// Where a message is, whether or not it has ended; `None` for one of an unknown block.
    pub(super) fn place(&self, at: MessageRef) -> Option<Offset> {
        let block = usize::try_from(at.block.checked_sub(1)?).ok()?;
        let ordinal = *self.producers.get(&at.producer)?.ordinals.get(block)?;
        Some(Offset::new(ordinal, at.index))
    }

    /// Whether the message's block has not arrived yet.
    pub(super) fn awaits(&self, at: MessageRef) -> bool {
        at.block > self.frontier(at.producer)
    }

    /// Q8: what has ended leaves nothing but its place.
    pub(super) fn end_message(&mut self, at: Offset) {
        if let Some(mark) = self.log.end(at).and_then(|message| message.mark) {
            self.claims.leave(mark.claim, at);
        }
        self.picking.forget(at);
    }

    pub(super) fn drop_block(&mut self, ordinal: u32) {
        let Some(block) = self.log.block(ordinal) else { return };
        for index in block.indices() {
            self.end_message(Offset::new(ordinal, index));
        }
        self.log.drop(ordinal);
    }
}
