//! Envelopes of picked messages, fetched by plain commands behind the pick: a script takes 3 us to
//! move a KiB. A few small ones come with the pick, in the same form.
//!
//! What was picked lay in blocks from which nothing was cut. Something may be cut out of one before
//! its envelopes are fetched, which moves the others: so the head is read behind the envelopes, and if
//! records are missing in it a script is asked for the messages instead. Records that were cut never
//! come back, so a head that has all of them tells that nothing had moved before.

use bytes::Bytes;
use redis::{Pipeline, Value};

use super::decode::{reply, slice};
use super::encode::{Context, commands};
use super::value::{Cut, Wrong};
use crate::id::{ClaimKey, Fencing, MessageRef, Placement, ProducerId, ReplicaAt};
use crate::node::redis::keys::Key;
use crate::node::{Got, Op, Pick, Picked, Reply};

/// Messages that were picked and whose envelopes are not here yet.
#[derive(Debug)]
pub(in crate::node::redis) struct Slices {
    at: ReplicaAt,
    claim: ClaimKey,
    fencing: Fencing,
    each: Vec<Slice>,
    /// By a script: something was cut out of one of the blocks.
    scripted: bool,
}

/// Neighbours in a block.
#[derive(Debug)]
struct Slice {
    producer: ProducerId,
    block: u32,
    first: u8,
    count: u32,
    age_ms: u64,
    /// Length of the block's head.
    head: u32,
    /// Where their envelopes start and stop behind it.
    envelopes: (u32, u32),
}

/// What came of fetching.
#[derive(Debug)]
pub(in crate::node::redis) enum Fetched {
    Reply(Reply),
    /// Once more.
    Again(Slices),
}

impl Slices {
    /// As `shared/quick_pick.lua` packs them.
    pub(super) fn unpack(pick: &Pick, packed: &[u8]) -> Result<Self, Wrong> {
        let mut cut = Cut(packed);
        let fencing = cut.rank()?;
        let mut each = Vec::with_capacity(2);
        while !cut.is_empty() {
            each.push(Slice {
                producer: cut.producer()?,
                block: cut.u32()?,
                first: cut.u8()?,
                count: u32::from(cut.u8()?) + 1,
                age_ms: cut.u64()?,
                head: cut.u32()?,
                envelopes: (cut.u32()?, cut.u32()?),
            });
        }
        let placement: Placement = *pick.placements.first().ok_or("no replica was asked")?;
        let at = ReplicaAt { cookie: pick.cookie, placement };
        Ok(Self { at, claim: pick.claim, fencing, each, scripted: false })
    }

    /// Appends the commands that fetch them; how many they are.
    pub(in crate::node::redis) fn commands(&self, context: &Context, pipe: &mut Pipeline) -> usize {
        if self.scripted {
            let each = self.each.iter().flat_map(|slice| {
                let Slice { producer, block, first, count, .. } = *slice;
                let indices = u32::from(first)..u32::from(first) + count;
                let index = |index| u8::try_from(index).unwrap_or(u8::MAX);
                indices.map(move |at| MessageRef { producer, block, index: index(at) })
            });
            return commands(&Op::Get { at: self.at, refs: each.collect() }, context, pipe);
        }
        for Slice { producer, block, head, envelopes: (start, stop), .. } in &self.each {
            let key = Key::Block(self.at, *producer, *block).name();
            // A stop is behind the last byte here, and the last byte there.
            let (from, to) = (u64::from(head + start), u64::from(*head) + u64::from(*stop));
            pipe.cmd("GETRANGE").arg(&key).arg(from).arg(to.saturating_sub(1));
            pipe.cmd("GETRANGE").arg(&key).arg(0).arg(head.saturating_sub(1));
        }
        2 * self.each.len()
    }

    /// Reads the answers.
    pub(in crate::node::redis) fn read(mut self, values: Vec<Value>) -> Result<Fetched, Wrong> {
        let mut entries = Vec::new();
        if self.scripted {
            match reply(&Op::Get { at: self.at, refs: Vec::new() }, values)? {
                // What has ended since is not there.
                Reply::Got(Got { entries: got }) => entries.extend(got.into_iter().flatten()),
                refused => return Ok(Fetched::Reply(refused)),
            }
        } else {
            let mut values = values.into_iter().map(bytes);
            let mut next = || values.next().unwrap_or_else(|| Err("an answer is missing".into()));
            for Slice { producer, block, first, count, age_ms, .. } in &self.each {
                let (bodies, head) = (next()?, next()?);
                if !is_whole(&head) {
                    self.scripted = true;
                    return Ok(Fetched::Again(self));
                }
                let of = MessageRef { producer: *producer, block: *block, index: 0 };
                let run = (u32::from(*first), *count);
                slice(of, *age_ms, &head, &bodies, run, &mut entries)?;
            }
        }
        for entry in &mut entries {
            entry.claim = Some((self.claim, self.fencing));
            entry.times = entry.times.max(1);
        }
        let on = Some((self.at.placement, self.fencing));
        Ok(Fetched::Reply(Reply::Picked(Picked { on, entries, refused: Vec::new() })))
    }
}

/// Whether a head has the records of all messages that were sent.
fn is_whole(head: &[u8]) -> bool {
    head.get(2..4).is_some_and(|present| head.get(16..18) == Some(present))
}

fn bytes(value: Value) -> Result<Bytes, Wrong> {
    match value {
        Value::BulkString(bytes) => Ok(bytes.into()),
        other => Err(format!("expected bytes, found {other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Block, Record, State};
    use crate::id::{Cookie, Incarnation, NodeId, PoolId, Version};

    const FENCING: Fencing = Fencing { version: Version(2), count: 3 };

    fn block(present: impl Iterator<Item = u8>) -> Block {
        let record = |index| Record {
            index,
            state: State::Ready,
            client: None,
            ttl_ms: 60_000,
            delay_ms: 0,
            envelope: Bytes::from(vec![b'a' + index; usize::from(index)]),
        };
        let sent = 4;
        Block { ordinal: 0, arrived_ms: 0, sent, records: present.map(record).collect() }
    }

    /// Two messages of four, from the second one on.
    fn slices() -> Slices {
        let cookie = Cookie { pool: PoolId(1), node: NodeId(1), incarnation: Incarnation(1) };
        let pick = Pick {
            cookie,
            placements: vec![Placement(5)],
            version: Version(2),
            claim: ClaimKey(9),
            ttl_ms: 1,
            grace_ms: 0,
            limit: 2,
            max_bytes: 1,
        };
        let mut packed = Vec::new();
        packed.extend([0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3]);
        packed.extend([0, 0, 0, 0, 0, 0, 0, 7, 1, 0, 0, 0, 1, 1, 50, 0, 0, 0, 0, 0, 0, 0]);
        packed.extend([89, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0]);
        Slices::unpack(&pick, &packed).unwrap()
    }

    fn answers(block: &Block) -> Vec<Value> {
        let bytes = block.encode();
        let bulk = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
        vec![bulk(b"bcc"), bulk(bytes.get(..89).unwrap_or(&bytes))]
    }

    #[test]
    fn picked_messages_are_cut_out_of_what_was_fetched() {
        let Fetched::Reply(Reply::Picked(picked)) = slices().read(answers(&block(0..4))).unwrap()
        else {
            panic!("no messages")
        };
        assert_eq!(picked.on, Some((Placement(5), FENCING)));
        let told = |e: &crate::node::Entry| (e.at.index, e.envelope.clone(), e.age_ms, e.times);
        let each: Vec<_> = picked.entries.iter().map(told).collect();
        let expected =
            [(1, Bytes::from_static(b"b"), 50, 1), (2, Bytes::from_static(b"cc"), 50, 1)];
        assert_eq!(each, expected);
        assert!(picked.entries.iter().all(|e| e.claim == Some((ClaimKey(9), FENCING))));
    }

    #[test]
    fn if_something_was_cut_out_meanwhile_a_script_is_asked() {
        for present in [1..4, 0..0] {
            let Fetched::Again(again) = slices().read(answers(&block(present))).unwrap() else {
                panic!("what lay there was believed")
            };
            let mut pipe = redis::pipe();
            assert_eq!(again.commands(&Context::default(), &mut pipe), 1);
            let text = String::from_utf8_lossy(&pipe.get_packed_pipeline()).into_owned();
            assert!(text.contains("EVALSHA"), "{text}");
        }
        let gone = vec![Value::BulkString(Vec::new()), Value::BulkString(Vec::new())];
        assert!(matches!(slices().read(gone).unwrap(), Fetched::Again(_)));
    }
}
