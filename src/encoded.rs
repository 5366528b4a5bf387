//! A block's bytes on their way to several replicas, looked at once for all of them.

use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::block::{BlockHeader, Envelopes, NotABlock, RECORD_LEN, State};

/// The encoded form of a block, as [`crate::block::Block::encode`] made it. Copies share the memory, and
/// what was found out about it.
#[derive(Clone)]
pub struct EncodedBlock {
    bytes: Bytes,
    seen: Arc<OnceLock<Seen>>,
}

#[derive(Debug)]
struct Seen {
    digest: u64,
    /// `None`: it is no block.
    shape: Option<Shape>,
}

/// What scripts are told of a block's messages, so that they need not look.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Shape {
    pub(crate) sent: u16,
    pub(crate) live: u16,
    pub(crate) head: u16,
    pub(crate) min_ttl: u32,
    pub(crate) max_ttl: u32,
    pub(crate) max_delay: u32,
    /// Envelopes of the live messages, and their records.
    pub(crate) body: u32,
}

impl Shape {
    /// The shape of a stored block, without taking its envelopes apart.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Result<Self, NotABlock> {
        let header = BlockHeader::decode(bytes)?;
        let bodies = bytes.len().saturating_sub(header.bodies_at);
        let mut shape = Self { sent: header.sent, min_ttl: u32::MAX, ..Self::default() };
        let mut envelopes = Envelopes::new(0, bodies);
        for record in &header.records {
            let envelope = envelopes.next(record.end)?;
            if record.state != State::Ended {
                shape.add(record.ttl_ms, record.delay_ms, envelope.len());
            }
        }
        shape.head = u16::try_from(header.bodies_at).unwrap_or(u16::MAX);
        Ok(shape)
    }

    /// A message that has not ended, with an envelope of this length.
    pub(crate) fn add(&mut self, ttl_ms: u32, delay_ms: u32, envelope: usize) {
        self.live += 1;
        self.min_ttl = self.min_ttl.min(ttl_ms);
        self.max_ttl = self.max_ttl.max(ttl_ms);
        self.max_delay = self.max_delay.max(delay_ms);
        let len = u32::try_from(envelope + RECORD_LEN).unwrap_or(u32::MAX);
        self.body = self.body.saturating_add(len);
    }
}

impl EncodedBlock {
    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// A digest of the bytes: two blocks of one name are compared by it.
    pub(crate) fn digest(&self) -> u64 {
        self.seen().digest
    }

    /// What is no block holds no message.
    pub(crate) fn shape(&self) -> Shape {
        self.seen().shape.unwrap_or_default()
    }

    fn seen(&self) -> &Seen {
        self.seen.get_or_init(|| Seen {
            digest: xxh3_64(&self.bytes),
            shape: Shape::of_bytes(&self.bytes).ok(),
        })
    }
}

impl From<Bytes> for EncodedBlock {
    fn from(bytes: Bytes) -> Self {
        Self { bytes, seen: Arc::default() }
    }
}

impl Deref for EncodedBlock {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.bytes
    }
}

impl PartialEq for EncodedBlock {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl std::fmt::Debug for EncodedBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.bytes.fmt(f)
    }
}
