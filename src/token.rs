//! What clients hold in their hands: message ids, claim ids and markers.
//!
//! All are opaque strings of `[A-Za-z0-9_-]`. Each starts with a byte that tells its kind and
//! version and ends with a checksum, so that one cannot be taken for another and a mistyped one
//! is noticed. Each carries the *tag* of one life of one queue, so that it is useless anywhere
//! else. None of that is a secret: what a caller may touch is decided by the queue it asks.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use xxhash_rust::xxh3::xxh3_64;

use crate::error::Error;
use crate::id::{
    ClaimKey, Fencing, Generation, MessageRef, Offset, Placement, PoolId, ProducerId, SegmentNo,
    Version,
};

/// Producers in one segment at most: what keeps a marker below 1 KiB.
pub(crate) const MAX_PRODUCERS: usize = 48;
/// Longest marker, in characters.
pub const MAX_MARKER_LEN: usize = 1024;

const MESSAGE: u8 = 0x11;
const CLAIM: u8 = 0x21;
const MARKER: u8 = 0x31;

/// One life of one queue of one pool, in 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct QueueTag(pub(crate) u32);

impl QueueTag {
    pub(crate) fn of(pool: PoolId, register: &str, generation: Generation) -> Self {
        let mut bytes = Vec::with_capacity(register.len() + 12);
        bytes.extend_from_slice(&pool.0.to_le_bytes());
        bytes.extend_from_slice(&generation.0.to_le_bytes());
        bytes.extend_from_slice(register.as_bytes());
        let [a, b, c, d, ..] = xxh3_64(&bytes).to_le_bytes();
        Self(u32::from_le_bytes([a, b, c, d]))
    }
}

/// Names one message for ever: which life of which queue, which segment, producer and place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageId {
    pub(crate) tag: QueueTag,
    pub(crate) segment: SegmentNo,
    pub(crate) at: MessageRef,
}

/// Names one claim for ever: which life of which queue, which segment, and the claim's rank.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClaimId {
    pub(crate) tag: QueueTag,
    pub(crate) segment: SegmentNo,
    pub(crate) claim: ClaimKey,
    pub(crate) fencing: Fencing,
}

/// How far a reader has come with one producer: blocks below `block` have been passed, and of
/// `block` the messages below `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Position {
    pub(crate) block: u32,
    pub(crate) index: u8,
}

/// Where a reader stands. Opaque; a walk from marker to marker sees every message once (Q2, Q3).
#[derive(Clone, PartialEq, Eq)]
pub struct Marker {
    pub(crate) tag: QueueTag,
    pub(crate) segment: SegmentNo,
    pub(crate) placement: Placement,
    pub(crate) offset: Offset,
    pub(crate) frontier: BTreeMap<ProducerId, Position>,
}

struct Writer(Vec<u8>);

impl Writer {
    fn new(kind: u8, tag: QueueTag, segment: SegmentNo) -> Self {
        let mut writer = Self(Vec::with_capacity(32));
        writer.0.push(kind);
        writer.put(tag.0.to_le_bytes());
        writer.put(segment.0.to_le_bytes());
        writer
    }

    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        self.0.extend_from_slice(&bytes);
    }

    fn finish(mut self) -> String {
        let [a, b, ..] = xxh3_64(&self.0).to_le_bytes();
        self.put([a, b]);
        BASE64URL_NOPAD.encode(&self.0)
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Decodes a token: `Err` names what was given, cut to a length that can be shown.
fn open<T>(
    what: &str,
    kind: u8,
    text: &str,
    read: impl FnOnce(QueueTag, SegmentNo, Reader<'_>) -> Option<T>,
) -> Result<T, Error> {
    let malformed = || {
        let shown: String = text.chars().take(48).collect();
        Error::invalid(format!("malformed {what} {shown:?}"))
    };
    if text.len() > MAX_MARKER_LEN {
        return Err(malformed());
    }
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| malformed())?;
    let (content, sum) = bytes.split_last_chunk::<2>().ok_or_else(malformed)?;
    let [a, b, ..] = xxh3_64(content).to_le_bytes();
    let mut reader = Reader(content);
    if *sum != [a, b] || reader.take() != Some([kind]) {
        return Err(malformed());
    }
    (|| {
        let tag = QueueTag(reader.u32()?);
        let segment = SegmentNo(reader.u32()?);
        read(tag, segment, reader)
    })()
    .ok_or_else(malformed)
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Writer::new(MESSAGE, self.tag, self.segment);
        out.put(self.at.producer.0.to_le_bytes());
        out.put(self.at.block.to_le_bytes());
        out.put([self.at.index]);
        f.write_str(&out.finish())
    }
}

impl FromStr for MessageId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        open("message id", MESSAGE, text, |tag, segment, mut rest| {
            let producer = ProducerId(rest.u64()?);
            let block = rest.u32()?;
            let [index] = rest.take()?;
            rest.end()?;
            Some(Self { tag, segment, at: MessageRef { producer, block, index } })
        })
    }
}

impl fmt::Display for ClaimId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Writer::new(CLAIM, self.tag, self.segment);
        out.put(self.claim.0.to_le_bytes());
        out.put(self.fencing.version.0.to_le_bytes());
        out.put(self.fencing.count.to_le_bytes());
        f.write_str(&out.finish())
    }
}

impl FromStr for ClaimId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        open("claim id", CLAIM, text, |tag, segment, mut rest| {
            let claim = ClaimKey(rest.u64()?);
            let version = Version(rest.u64()?);
            let count = rest.u32()?;
            rest.end()?;
            Some(Self { tag, segment, claim, fencing: Fencing { version, count } })
        })
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Writer::new(MARKER, self.tag, self.segment);
        out.put(self.placement.0.to_le_bytes());
        out.put(self.offset.0.to_le_bytes());
        for (producer, position) in &self.frontier {
            out.put(producer.0.to_le_bytes());
            out.put(position.block.to_le_bytes());
            out.put([position.index]);
        }
        f.write_str(&out.finish())
    }
}

impl FromStr for Marker {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        open("marker", MARKER, text, |tag, segment, mut rest| {
            let placement = Placement(rest.u64()?);
            let offset = Offset(rest.u64()?);
            let mut frontier = BTreeMap::new();
            while !rest.0.is_empty() {
                let producer = ProducerId(rest.u64()?);
                let block = rest.u32()?;
                let [index] = rest.take()?;
                frontier.insert(producer, Position { block, index });
            }
            (frontier.len() <= MAX_PRODUCERS).then_some(Self {
                tag,
                segment,
                placement,
                offset,
                frontier,
            })
        })
    }
}

macro_rules! debug_as_display {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    )*};
}

debug_as_display!(MessageId, ClaimId, Marker);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn full_marker() -> Marker {
        Marker {
            tag: QueueTag(7),
            segment: SegmentNo(u32::MAX),
            placement: Placement(u64::MAX),
            offset: Offset(u64::MAX),
            frontier: (0..MAX_PRODUCERS)
                .map(|n| {
                    (ProducerId(u64::MAX - n as u64), Position { block: u32::MAX, index: 255 })
                })
                .collect(),
        }
    }

    #[test]
    fn the_longest_marker_stays_below_one_kibibyte_and_comes_back() {
        let text = full_marker().to_string();
        assert!(text.len() < MAX_MARKER_LEN, "{}", text.len());
        assert_eq!(text.parse::<Marker>().unwrap(), full_marker());
    }

    #[test]
    fn one_kind_of_token_is_never_taken_for_another() {
        let text = full_marker().to_string();
        assert!(text.parse::<MessageId>().is_err());
        assert!(text.parse::<ClaimId>().is_err());
    }

    proptest! {
        #[test]
        fn message_ids_come_back(tag: u32, segment: u32, producer: u64, block: u32, index: u8) {
            let id = MessageId {
                tag: QueueTag(tag),
                segment: SegmentNo(segment),
                at: MessageRef { producer: ProducerId(producer), block, index },
            };
            let text = id.to_string();
            prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
            prop_assert_eq!(text.parse::<MessageId>().unwrap(), id);
        }

        #[test]
        fn claim_ids_come_back(tag: u32, segment: u32, claim: u64, version: u64, count: u32) {
            let id = ClaimId {
                tag: QueueTag(tag),
                segment: SegmentNo(segment),
                claim: ClaimKey(claim),
                fencing: Fencing { version: Version(version), count },
            };
            prop_assert_eq!(id.to_string().parse::<ClaimId>().unwrap(), id);
        }

        #[test]
        fn decoding_never_panics(text in "\\PC{0,80}", bytes in prop::collection::vec(any::<u8>(), 0..900)) {
            for text in [text, BASE64URL_NOPAD.encode(&bytes)] {
                let _ = text.parse::<Marker>();
                let _ = text.parse::<MessageId>();
                let _ = text.parse::<ClaimId>();
            }
        }

        #[test]
        fn a_changed_character_is_noticed(at in 0usize..30, flip in 1u8..64) {
            let id = MessageId {
                tag: QueueTag(1),
                segment: SegmentNo(2),
                at: MessageRef { producer: ProducerId(3), block: 4, index: 5 },
            };
            let text = id.to_string();
            let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let mut bytes = text.clone().into_bytes();
            let old = alphabet.iter().position(|c| *c == bytes[at]).unwrap();
            bytes[at] = alphabet[(old + usize::from(flip)) % 64];
            let changed = String::from_utf8(bytes).unwrap();
            // One chance in 65,536 that the checksum agrees; it must at least not be the same id.
            prop_assert!(changed.parse::<MessageId>().map_or(true, |other| other != id));
        }
    }
}
