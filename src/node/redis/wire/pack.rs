//! What commands carry, packed in the order in which the scripts unpack it.

use bytes::Bytes;

use crate::block::{Block, HEADER_LEN, MAX_MESSAGES, RECORD_LEN, Record, State, UNSTAMPED};
use crate::encoded::Shape;
use crate::id::{Fencing, MessageRef, ProducerId};
use crate::node::redis::journal::RECORD_LEN as RECORD;
use crate::node::{Append, Ballot, CopiedBlock, CopiedMark};

/// The shape of a block that was taken apart.
pub(super) fn shape_of(block: &Block) -> Shape {
    let mut shape = Shape { sent: block.sent, min_ttl: u32::MAX, ..Shape::default() };
    let mut extras = 1;
    let mut clients = std::collections::BTreeSet::new();
    for record in &block.records {
        if let Some(client) = &record.client
            && clients.insert(client)
        {
            extras += 1 + client.as_str().len();
        }
        if record.state != State::Ended {
            shape.add(record.ttl_ms, record.delay_ms, record.envelope.len());
        }
    }
    let head = HEADER_LEN + block.records.len() * RECORD_LEN + extras;
    shape.head = u16::try_from(head).unwrap_or(u16::MAX);
    shape
}

pub(super) fn narrow(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// In the order of `append.lua`.
pub(super) fn numbers(append: &Append) -> Vec<u8> {
    let shape = append.bytes.shape();
    let mut out = Vec::with_capacity(56);
    out.extend(append.block.to_le_bytes());
    out.extend(append.noted.to_le_bytes());
    out.extend(shape.sent.to_le_bytes());
    out.extend(shape.live.to_le_bytes());
    out.extend(shape.head.to_le_bytes());
    out.extend(shape.min_ttl.to_le_bytes());
    out.extend(shape.max_ttl.to_le_bytes());
    out.extend(shape.max_delay.to_le_bytes());
    out.extend(shape.body.to_le_bytes());
    out.extend(narrow(append.bytes.len()).to_le_bytes());
    out.extend(id(append.bytes.digest()));
    out.extend(id(append.producer.0));
    out
}

/// The same with the time of arrival: a record of the journal.
pub(super) fn noted(append: &Append, now_ms: u64) -> Vec<u8> {
    let mut out = numbers(append);
    out.extend(now_ms.min((1 << 48) - 1).to_le_bytes().iter().take(6));
    out
}

/// The record that tells only what was acked: block 0.
pub(super) fn noted_only(producer: ProducerId, noted: u32) -> Vec<u8> {
    let mut out = vec![0; RECORD];
    out[4..8].copy_from_slice(&noted.to_le_bytes());
    out[42..50].copy_from_slice(&id(producer.0));
    out
}

/// The block as it is to be stored: unstamped, without what has ended.
pub(super) fn fresh(bytes: &Bytes) -> Option<Block> {
    let mut block = Block::decode(bytes).ok()?;
    block
        .records
        .retain(|record| record.state != State::Ended && u16::from(record.index) < block.sent);
    (block.ordinal, block.arrived_ms) = (UNSTAMPED, 0);
    Some(block)
}

/// In the order of `copy_in.lua`.
pub(super) fn copy_numbers(copied: &CopiedBlock, block: Option<&Block>) -> Vec<u8> {
    let shape = block.map(shape_of).unwrap_or_default();
    let mut out = Vec::with_capacity(46);
    out.extend(id(copied.producer.0));
    out.extend(copied.block.to_le_bytes());
    out.extend(copied.age_ms.min(1 << 48).to_le_bytes());
    out.extend(narrow(copied.bytes.as_ref().map_or(0, Bytes::len)).to_le_bytes());
    out.extend(shape.sent.to_le_bytes());
    out.extend(shape.live.to_le_bytes());
    out.extend(shape.head.to_le_bytes());
    out.extend(shape.min_ttl.to_le_bytes());
    out.extend(shape.max_ttl.to_le_bytes());
    out.extend(shape.max_delay.to_le_bytes());
    out.extend(shape.body.to_le_bytes());
    out
}

pub(super) fn lives(block: Option<&Block>) -> Vec<u8> {
    let records: &[Record] = block.map_or(&[], |block| &block.records);
    let mut out = Vec::with_capacity(records.len().min(MAX_MESSAGES) * 5);
    for record in records {
        out.push(record.index);
        out.extend(record.ttl_ms.to_le_bytes());
    }
    out
}

pub(super) fn marks(marks: &[CopiedMark]) -> Vec<u8> {
    let mut out = Vec::with_capacity(marks.len() * 38);
    for mark in marks {
        out.push(mark.index);
        out.extend(id(mark.claim.0));
        out.extend(rank(mark.fencing));
        out.extend(mark.times.to_le_bytes());
        out.push(u8::from(mark.left_ms.is_some()));
        out.extend(mark.left_ms.unwrap_or(0).min(1 << 48).to_le_bytes());
        out.extend(mark.ttl_ms.to_le_bytes());
    }
    out
}

pub(super) fn id(id: u64) -> [u8; 8] {
    id.to_be_bytes()
}

pub(super) fn rank(fencing: Fencing) -> Vec<u8> {
    [&fencing.version.0.to_be_bytes()[..], &fencing.count.to_be_bytes()[..]].concat()
}

pub(super) fn ballot(ballot: Ballot) -> Vec<u8> {
    [ballot.round.to_be_bytes(), ballot.by.to_be_bytes()].concat()
}

/// 14 bytes for each run of neighbours, as they are named: their block, the first one's index, how
/// many more.
pub(super) fn references(refs: &[MessageRef]) -> Vec<u8> {
    let follows = |one: &MessageRef, next: &MessageRef| {
        (next.producer, next.block) == (one.producer, one.block)
            && one.index.checked_add(1) == Some(next.index)
    };
    let mut out = Vec::with_capacity(14 * 4);
    for run in refs.chunk_by(follows) {
        let Some(MessageRef { producer: ProducerId(producer), block, index }) = run.first() else {
            continue;
        };
        out.extend(id(*producer));
        out.extend(block.to_le_bytes());
        out.push(*index);
        // Indices are bytes, so that a run is no longer than 256.
        out.push(u8::try_from(run.len() - 1).unwrap_or(u8::MAX));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::ClientId;

    fn record(state: State, client: Option<&str>, len: usize) -> Record {
        Record {
            index: 0,
            state,
            client: client.map(|client| ClientId::new(client).unwrap()),
            ttl_ms: 1000 + u32::try_from(len).unwrap(),
            delay_ms: 7 * u32::try_from(len).unwrap(),
            envelope: Bytes::from(vec![0; len]),
        }
    }

    #[test]
    fn a_stored_block_has_the_shape_of_the_block() {
        let block = Block::of([
            record(State::Ready, Some("one"), 10),
            record(State::Ended, None, 500),
            record(State::Delayed, Some("another"), 300),
            record(State::Ready, Some("one"), 0),
        ]);
        let shape = shape_of(&block);
        assert_eq!((shape.live, shape.body), (3, 310 + 3 * narrow(RECORD_LEN)));
        assert_eq!(Shape::of_bytes(&block.encode()), Ok(shape));
    }

    #[test]
    fn neighbours_are_named_once() {
        let at = |block, index| MessageRef { producer: ProducerId(7), block, index };
        let refs = [at(1, 254), at(1, 255), at(1, 0), at(2, 1), at(2, 2), at(2, 4), at(2, 4)];
        let runs: Vec<(u8, u8, u8)> =
            references(&refs).chunks(14).map(|run| (run[8], run[12], run[13])).collect();
        assert_eq!(runs, [(1, 254, 1), (1, 0, 0), (2, 1, 1), (2, 4, 0), (2, 4, 0)]);
    }

    #[test]
    fn a_block_that_is_cut_short_has_no_shape() {
        let stored = Block::of([record(State::Ready, None, 10)]).encode();
        assert!(Shape::of_bytes(&stored[..stored.len() - 1]).is_err());
    }
}
