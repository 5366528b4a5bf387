//! Idempotency keys: what a register of keys says of one, and what may be written next (Q11).
//!
//! A post with a key goes out in *parts*, each one block. Before a block is sent, its name (segment,
//! producer, block) is written under the key, by compare-and-set. The name is used for this part
//! alone and never again, so what became of the part can be told by the segment's end, by anybody,
//! whatever has become of the messages since. Here are the decisions; `driver::once` acts.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::frontier::covered;
use crate::id::{Generation, ProducerId, SegmentNo};
use crate::node::Frontier;

/// Registers over which a queue's keys are spread.
pub(crate) const SHARDS: u64 = 32;
/// Keys in one of them at most.
pub(crate) const KEYS_IN_SHARD: usize = 2_048;

const FORMAT: u8 = 1;

/// A key by its 128-bit digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyName(pub(crate) u64, pub(crate) u64);

impl KeyName {
    /// The number of the register that has the key.
    pub(crate) fn shard(self) -> u64 {
        self.0 % SHARDS
    }
}

/// The register that has a queue's keys of this number.
pub(crate) fn register_of_keys(queue: &str, shard: u64) -> String {
    format!("k:{shard}:{queue}")
}

/// The producer that posts with keys has an odd id, others have even ones: so a segment's end says
/// whether keys may point into it.
pub(crate) fn keyed_producer(random: u64) -> ProducerId {
    ProducerId(random | 1)
}

/// See [`keyed_producer`].
pub(crate) fn plain_producer(random: u64) -> ProducerId {
    // Not 0, which stands for nobody.
    ProducerId((random | 2) & !1)
}

/// Whether keys may point to blocks below this end.
pub(crate) fn has_keyed(end: &Frontier) -> bool {
    end.keys().any(|producer| producer.0 & 1 == 1)
}

/// Messages of one post that went, or are going, into the log as one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PostPart {
    /// The segment.
    pub(crate) segment: SegmentNo,
    /// The producer.
    pub(crate) producer: ProducerId,
    /// The block.
    pub(crate) block: u32,
    /// How many messages, from the block's first one on.
    pub(crate) count: u16,
}

impl PostPart {
    /// Whether a segment with that end has the part.
    pub(crate) fn is_in(&self, end: &Frontier) -> bool {
        self.block <= covered(end, self.producer)
    }
}

/// What was posted with one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    key: KeyName,
    /// Of the request.
    digest: u64,
    /// The queue's life.
    generation: Generation,
    /// When it may be forgotten, by the wall clock of the process that wrote it.
    until_ms: u64,
    /// Messages of the whole post.
    total: u16,
    /// Parts that are in the log for good.
    done: Vec<PostPart>,
    /// The part of which that is not known yet.
    pending: Option<PostPart>,
}

/// A post with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyedPost {
    /// The key.
    pub(crate) key: KeyName,
    /// Of the request.
    pub(crate) digest: u64,
    /// How many messages.
    pub(crate) total: u16,
    /// How long the key is remembered from each of its changes on, in milliseconds.
    pub(crate) kept_ms: u64,
}

/// How a post with a key stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// These parts, perhaps none, are in the log, and nothing of the rest is or will be.
    Partly(Vec<PostPart>),
    /// It has to be found out what became of this part.
    Pending(PostPart),
    /// All of it is in the log; the key is remembered until then.
    Whole(Vec<PostPart>, u64),
    /// The key was used for another request.
    Reused,
    /// The queue has begun another life meanwhile.
    OtherLife,
}

/// What came of an attempt to name the next part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// It has that name; `true`: by this step.
    Ours(bool),
    /// The post does not stand as it was thought to.
    Not,
    /// The register has as many keys as it may.
    Full,
}

/// Up to where a queue has come, for telling which entries are of no use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reached {
    /// The wall clock, in milliseconds.
    pub(crate) now_ms: u64,
    /// The queue's life, or one that it has begun already.
    pub(crate) generation: Generation,
    /// In that life all segments below this one are closed.
    pub(crate) closed_below: SegmentNo,
}

/// The value of a register of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keys {
    format: u8,
    entries: Vec<Entry>,
}

impl Default for Keys {
    fn default() -> Self {
        Self { format: FORMAT, entries: Vec::new() }
    }
}

impl Keys {
    pub(crate) fn encode(&self) -> Result<Bytes, String> {
        rmp_serde::to_vec(self).map(Bytes::from).map_err(|error| error.to_string())
    }

    /// Reads a register; nothing written is no keys.
    pub(crate) fn decode(bytes: Option<&Bytes>) -> Result<Self, String> {
        let Some(bytes) = bytes else { return Ok(Self::default()) };
        let keys: Self = rmp_serde::from_slice(bytes).map_err(|error| error.to_string())?;
        match keys.format {
            FORMAT => Ok(keys),
            other => Err(format!("keys of unknown format {other}")),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn entry(&mut self, key: KeyName) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.key == key)
    }

    /// How the post with this key stands, whatever it was.
    pub(crate) fn standing_of(
        &self,
        key: KeyName,
        generation: Generation,
        now_ms: u64,
    ) -> Option<(KeyedPost, Standing)> {
        let Entry { digest, total, .. } = *self.entries.iter().find(|entry| entry.key == key)?;
        let post = KeyedPost { key, digest, total, kept_ms: 0 };
        Some((post, self.standing(&post, generation, now_ms)))
    }

    /// How a post stands, in this life of the queue.
    pub(crate) fn standing(
        &self,
        post: &KeyedPost,
        generation: Generation,
        now_ms: u64,
    ) -> Standing {
        let Some(entry) = self.entries.iter().find(|entry| entry.key == post.key) else {
            return Standing::Partly(Vec::new());
        };
        match entry.pending {
            _ if entry.generation > generation => Standing::OtherLife,
            _ if entry.generation < generation => Standing::Partly(Vec::new()),
            // However old it is: its block may still be on its way.
            None if entry.until_ms <= now_ms => Standing::Partly(Vec::new()),
            _ if entry.digest != post.digest || entry.total != post.total => Standing::Reused,
            Some(part) => Standing::Pending(part),
            None if entry.posted() == usize::from(entry.total) => {
                Standing::Whole(entry.done.clone(), entry.until_ms)
            }
            None => Standing::Partly(entry.done.clone()),
        }
    }

    /// Names the next part of a post, if it stands as `done` says.
    pub(crate) fn name_next(
        &mut self,
        post: &KeyedPost,
        done: &[PostPart],
        part: PostPart,
        reached: Reached,
    ) -> Named {
        match self.standing(post, reached.generation, reached.now_ms) {
            Standing::Pending(pending) if pending == part => return Named::Ours(false),
            Standing::Partly(known) if known == done => {}
            _ => return Named::Not,
        }
        self.forget(reached);
        let until_ms = reached.now_ms.saturating_add(post.kept_ms);
        let full = self.entries.len() >= KEYS_IN_SHARD;
        match self.entry(post.key) {
            Some(entry) => (entry.pending, entry.until_ms) = (Some(part), until_ms),
            None if full => return Named::Full,
            None => self.entries.push(Entry {
                key: post.key,
                digest: post.digest,
                generation: reached.generation,
                until_ms,
                total: post.total,
                done: Vec::new(),
                pending: Some(part),
            }),
        }
        Named::Ours(true)
    }

    /// Notes what became of a part; `false` if it was known.
    pub(crate) fn settle(
        &mut self,
        key: KeyName,
        part: PostPart,
        is_in_log: bool,
        until_ms: u64,
    ) -> bool {
        let Some(entry) = self.entry(key).filter(|entry| entry.pending == Some(part)) else {
            return false;
        };
        entry.settle(is_in_log);
        entry.until_ms = entry.until_ms.max(until_ms);
        self.drop_void();
        true
    }

    /// Notes what became of parts that went to closed segments; `false` if nothing was to be
    /// noted. `end` tells where a segment ended, if it is one of those.
    pub(crate) fn settle_in<'a>(
        &mut self,
        generation: Generation,
        end: impl Fn(SegmentNo) -> Option<&'a Frontier>,
    ) -> bool {
        let mut any = false;
        for entry in self.entries.iter_mut().filter(|entry| entry.generation == generation) {
            if let Some(part) = entry.pending
                && let Some(end) = end(part.segment)
            {
                entry.settle(part.is_in(end));
                any = true;
            }
        }
        self.drop_void();
        any
    }

    /// Whether a part is pending that went to one of these segments.
    pub(crate) fn awaits(&self, generation: Generation, which: &[SegmentNo]) -> bool {
        let mut entries = self.entries.iter().filter(|entry| entry.generation == generation);
        entries.any(|entry| entry.pending.is_some_and(|part| which.contains(&part.segment)))
    }

    /// Lets a key remain for longer; `false` if it does already.
    pub(crate) fn keep_until(&mut self, key: KeyName, until_ms: u64) -> bool {
        match self.entry(key).filter(|entry| entry.until_ms < until_ms) {
            Some(entry) => {
                entry.until_ms = until_ms;
                true
            }
            None => false,
        }
    }

    /// Lets a key remain no longer than that; `false` if it does not.
    pub(crate) fn keep_no_longer(&mut self, key: KeyName, until_ms: u64) -> bool {
        match self.entry(key).filter(|entry| entry.until_ms > until_ms) {
            Some(entry) => {
                entry.until_ms = until_ms;
                true
            }
            None => false,
        }
    }

    /// Forgets what is of no use any more; `false` if there is nothing.
    ///
    /// A pending part keeps its key however old it is, as long as its segment may be open: it could
    /// still arrive, after another one was posted in its stead.
    pub(crate) fn forget(&mut self, reached: Reached) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| {
            let closed = |part: PostPart| part.segment < reached.closed_below;
            entry.generation > reached.generation
                || (entry.generation == reached.generation
                    && (entry.until_ms > reached.now_ms
                        || entry.pending.is_some_and(|part| !closed(part))))
        });
        self.entries.len() < before
    }

    /// Forgets old keys of a queue of which nothing else is known: those with which all was posted.
    pub(crate) fn forget_done(&mut self, now_ms: u64) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.until_ms > now_ms || entry.pending.is_some());
        self.entries.len() < before
    }

    /// A key of which nothing was posted is as good as none.
    fn drop_void(&mut self) {
        self.entries.retain(|entry| entry.pending.is_some() || !entry.done.is_empty());
    }
}

impl Entry {
    fn posted(&self) -> usize {
        self.done.iter().map(|part| usize::from(part.count)).sum()
    }

    fn settle(&mut self, is_in_log: bool) {
        if let Some(part) = self.pending.take()
            && is_in_log
        {
            self.done.push(part);
        }
    }
}

/// The digest of a request's bytes, and the name of a key of some kind.
pub(crate) fn key_name(kind: &str, key: &str) -> KeyName {
    let mut bytes = Vec::with_capacity(kind.len() + 1 + key.len());
    bytes.extend_from_slice(kind.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(key.as_bytes());
    let wide = xxhash_rust::xxh3::xxh3_128(&bytes).to_le_bytes();
    let (low, high) = wide.split_at(8);
    let number = |half: &[u8]| half.iter().rev().fold(0, |all, byte| (all << 8) | u64::from(*byte));
    KeyName(number(low), number(high))
}

/// The digest by which a repeated request is recognised.
pub(crate) fn digest(parts: &[&[u8]]) -> u64 {
    let mut all = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        all.extend_from_slice(&(part.len() as u64).to_le_bytes());
        all.extend_from_slice(part);
    }
    xxh3_64(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: KeyName = KeyName(1, 2);
    const POST: KeyedPost = KeyedPost { key: KEY, digest: 7, total: 3, kept_ms: 1_000 };
    const LIFE: Generation = Generation(1);

    fn part(segment: u32, block: u32, count: u16) -> PostPart {
        PostPart { segment: SegmentNo(segment), producer: ProducerId(9), block, count }
    }

    fn reached(now_ms: u64, closed_below: u32) -> Reached {
        Reached { now_ms, generation: LIFE, closed_below: SegmentNo(closed_below) }
    }

    fn ends(block: u32) -> Frontier {
        Frontier::from([(ProducerId(9), block)])
    }

    #[test]
    fn a_part_is_named_once_and_the_next_one_after_it_was_settled() {
        let mut keys = Keys::default();
        assert_eq!(keys.name_next(&POST, &[], part(1, 1, 2), reached(0, 1)), Named::Ours(true));
        assert_eq!(keys.name_next(&POST, &[], part(1, 1, 2), reached(0, 1)), Named::Ours(false));
        assert_eq!(keys.name_next(&POST, &[], part(1, 2, 2), reached(0, 1)), Named::Not);
        assert_eq!(keys.standing(&POST, LIFE, 0), Standing::Pending(part(1, 1, 2)));
        assert!(keys.settle(KEY, part(1, 1, 2), true, 0));
        assert!(!keys.settle(KEY, part(1, 1, 2), true, 0));
        let done = [part(1, 1, 2)];
        assert_eq!(keys.standing(&POST, LIFE, 0), Standing::Partly(done.to_vec()));
        assert_eq!(keys.name_next(&POST, &[], part(1, 2, 1), reached(0, 1)), Named::Not);
        assert_eq!(keys.name_next(&POST, &done, part(1, 2, 1), reached(0, 1)), Named::Ours(true));
        assert!(keys.settle(KEY, part(1, 2, 1), true, 0));
        let whole = vec![part(1, 1, 2), part(1, 2, 1)];
        assert_eq!(keys.standing(&POST, LIFE, 0), Standing::Whole(whole, 1_000));
    }

    #[test]
    fn what_is_not_in_the_log_leaves_nothing_behind() {
        let mut keys = Keys::default();
        keys.name_next(&POST, &[], part(1, 1, 3), reached(0, 1));
        assert!(keys.settle(KEY, part(1, 1, 3), false, 0));
        assert!(keys.is_empty());
    }

    #[test]
    fn another_request_with_the_key_is_noticed() {
        let mut keys = Keys::default();
        keys.name_next(&POST, &[], part(1, 1, 3), reached(0, 1));
        let other = KeyedPost { digest: 8, ..POST };
        assert_eq!(keys.standing(&other, LIFE, 0), Standing::Reused);
        assert_eq!(keys.name_next(&other, &[], part(1, 2, 3), reached(0, 1)), Named::Not);
    }

    #[test]
    fn a_key_ends_with_its_time_but_not_while_its_block_may_be_on_its_way() {
        let mut keys = Keys::default();
        keys.name_next(&POST, &[], part(5, 1, 3), reached(0, 5));
        assert_eq!(keys.standing(&POST, LIFE, 5_000), Standing::Pending(part(5, 1, 3)));
        assert!(!keys.forget(reached(5_000, 5)), "segment 5 may be open");
        let mut closed = keys.clone();
        assert!(closed.forget(reached(5_000, 6)) && closed.is_empty());
        assert!(keys.settle(KEY, part(5, 1, 3), true, 1_000));
        assert!(!keys.forget(reached(999, 6)));
        assert_eq!(keys.standing(&POST, LIFE, 1_000), Standing::Partly(vec![]));
        assert!(keys.forget(reached(1_000, 5)) && keys.is_empty());
    }

    #[test]
    fn keys_of_an_earlier_life_say_nothing_and_those_of_a_later_one_are_left() {
        let mut keys = Keys::default();
        keys.name_next(&POST, &[], part(1, 1, 3), reached(0, 1));
        assert_eq!(keys.standing(&POST, Generation(2), 0), Standing::Partly(vec![]));
        assert_eq!(keys.standing(&POST, Generation(0), 0), Standing::OtherLife);
        assert!(!keys.forget(Reached { generation: Generation(0), ..reached(9_999, 9) }));
        let later = Reached { generation: Generation(2), ..reached(0, 1) };
        assert_eq!(keys.name_next(&POST, &[], part(1, 1, 3), later), Named::Ours(true));
        assert_eq!(keys.entries.len(), 1);
    }

    #[test]
    fn what_a_segment_has_is_noted_before_it_leaves() {
        let mut keys = Keys::default();
        keys.name_next(&POST, &[], part(4, 2, 3), reached(0, 4));
        let above = KeyedPost { key: KeyName(3, 4), ..POST };
        keys.name_next(&above, &[], part(4, 3, 3), reached(0, 4));
        assert!(keys.awaits(LIFE, &[SegmentNo(4)]) && !keys.awaits(LIFE, &[SegmentNo(3)]));
        let end = ends(2);
        assert!(keys.settle_in(LIFE, |no| (no == SegmentNo(4)).then_some(&end)));
        assert_eq!(keys.standing(&POST, LIFE, 0), Standing::Whole(vec![part(4, 2, 3)], 1_000));
        assert_eq!(keys.standing(&above, LIFE, 0), Standing::Partly(vec![]));
        assert!(!keys.settle_in(LIFE, |_| Some(&end)));
    }

    #[test]
    fn a_register_of_keys_is_bounded_and_survives_its_encoding() {
        let mut keys = Keys::default();
        for n in 0..KEYS_IN_SHARD as u64 {
            let post = KeyedPost { key: KeyName(n, u64::MAX), ..POST };
            keys.name_next(&post, &[], part(u32::MAX, n as u32, 3), reached(0, 1));
        }
        let more = KeyedPost { key: KeyName(0, 0), ..POST };
        assert_eq!(keys.name_next(&more, &[], part(1, 1, 3), reached(0, 1)), Named::Full);
        let bytes = keys.encode().unwrap();
        assert!(bytes.len() < 160 * 1024, "{}", bytes.len());
        assert_eq!(Keys::decode(Some(&bytes)).unwrap(), keys);
        assert!(Keys::decode(None).unwrap().is_empty());
        assert!(Keys::decode(Some(&Bytes::from_static(b"\xc1"))).is_err());
    }

    #[test]
    fn producers_that_post_with_keys_are_told_apart() {
        for random in [1, 2, 3, u64::MAX] {
            let end = |producer| Frontier::from([(producer, 1)]);
            assert!(has_keyed(&end(keyed_producer(random))));
            assert!(!has_keyed(&end(plain_producer(random))));
            assert_ne!(plain_producer(random), ProducerId(0));
        }
    }

    #[test]
    fn keys_of_two_kinds_never_meet() {
        assert_ne!(key_name("a", "b"), key_name("ab", ""));
        assert_ne!(digest(&[b"a", b"b"]), digest(&[b"ab", b""]));
    }
}
