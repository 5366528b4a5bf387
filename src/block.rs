//! The stored format of a block: messages of one producer, gathered into one append.
//!
//! Every node stores the same bytes. Scripts on a node read and change the header and never touch
//! the bodies, so the layout is fixed and little endian:
//!
//! ```text
//!  0  u8   format version, 1
//!  1  u8   0
//!  2  u16  records present: falls below `sent` when ended messages are compacted away
//!  4  u32  ordinal of arrival at this replica; 0xffff_ffff: not stamped
//!  8  u64  time of arrival, milliseconds by the node's clock
//! 16  u16  sent: messages that the block had when it was sent, 1 to 256
//! 18  u16  0
//! 20  u32  length of the extras
//! 24  records, 16 bytes each, by rising index:
//!       u8  index         u8  state (0 ready, 1 ended, 2 claimed, 3 delayed)
//!       u8  client: 0 none, n: the n-th of the extras
//!       u8  0
//!       u32 end of the message's envelope, counted from the first one's start
//!       u32 ttl, milliseconds from arrival
//!       u32 delay, milliseconds from arrival
//!     extras: u8 number of clients, each u8 length and bytes; then, if more is left, room for
//!       what later versions say of single posts, skipped by this one
//!     envelopes
//! ```
//!
//! A node may stamp the ordinal and the time into the bytes, or keep them elsewhere: a Redis node
//! does, for changing a byte of a value in the transaction that wrote it makes the server copy it.
//!
//! State 2 says that a claim was made and not taken back; whether it still lives is told by the
//! replica's record of the claim. State 3 turns to 0 lazily, once the delay has passed.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

pub use crate::encoded::EncodedBlock;
use crate::message::ClientId;

/// Length of the part before the records.
pub const HEADER_LEN: usize = 24;
/// Length of one record.
pub const RECORD_LEN: usize = 16;
/// Messages in one block at most.
pub const MAX_MESSAGES: usize = 256;
/// The ordinal of a block that no node has stamped yet.
pub const UNSTAMPED: u32 = u32::MAX;
const FORMAT: u8 = 1;

/// What a record says of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// To be had.
    Ready = 0,
    /// Deleted or expired.
    Ended = 1,
    /// A claim was made on it.
    Claimed = 2,
    /// Posted with a delay that may not have passed.
    Delayed = 3,
}

impl State {
    fn decode(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Ready),
            1 => Some(Self::Ended),
            2 => Some(Self::Claimed),
            3 => Some(Self::Delayed),
            _ => None,
        }
    }
}

/// One message of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its place in the block as sent.
    pub index: u8,
    /// Its state.
    pub state: State,
    /// Who posted it.
    pub client: Option<ClientId>,
    /// How long it lives from its arrival.
    pub ttl_ms: u32,
    /// How long it is delayed from its arrival.
    pub delay_ms: u32,
    /// Its envelope.
    pub envelope: Bytes,
}

/// A decoded block.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// The ordinal of arrival; [`UNSTAMPED`] in a block that no node has taken.
    pub ordinal: u32,
    /// The time of arrival by the node's clock, in milliseconds; 0 unstamped.
    pub arrived_ms: u64,
    /// How many messages the block had when it was sent.
    pub sent: u16,
    /// The messages present.
    pub records: Vec<Record>,
}

/// Bytes that are no block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a block: {0}")]
pub struct NotABlock(pub &'static str);

impl Block {
    /// An unstamped block of these messages, indexed in order; at most [`MAX_MESSAGES`].
    pub fn of(messages: impl IntoIterator<Item = Record>) -> Self {
        let records: Vec<Record> = messages
            .into_iter()
            .take(MAX_MESSAGES)
            .zip(0u8..=u8::MAX)
            .map(|(record, index)| Record { index, ..record })
            .collect();
        let sent = u16::try_from(records.len()).unwrap_or(u16::MAX);
        Self { ordinal: UNSTAMPED, arrived_ms: 0, sent, records }
    }

    /// The stored form.
    pub fn encode(&self) -> Bytes {
        encode((self.ordinal, self.arrived_ms), self.sent, &self.records)
    }

    /// Reads the stored form; envelopes share the memory of `bytes`.
    ///
    /// # Errors
    /// [`NotABlock`] if the bytes are no block of this version. Never panics.
    pub fn decode(bytes: &Bytes) -> Result<Self, NotABlock> {
        let header = BlockHeader::decode(bytes)?;
        let bodies = bytes.slice(header.bodies_at..);
        let mut envelopes = Envelopes::new(0, bodies.len());
        let mut records = Vec::with_capacity(header.records.len());
        for raw in header.records {
            records.push(Record {
                index: raw.index,
                state: raw.state,
                client: raw.client,
                ttl_ms: raw.ttl_ms,
                delay_ms: raw.delay_ms,
                envelope: bodies.slice(envelopes.next(raw.end)?),
            });
        }
        Ok(Self {
            ordinal: header.ordinal,
            arrived_ms: header.arrived_ms,
            sent: header.sent,
            records,
        })
    }

    /// Checks what `encode` cannot say: that a block can hold these messages.
    pub fn fits(messages: usize, clients: usize) -> bool {
        messages <= MAX_MESSAGES && clients < MAX_MESSAGES
    }
}

/// A message on its way into a block.
pub(crate) trait Stored {
    /// What its record says; the envelope's end and the client's slot are found by the block.
    fn record(&self) -> (u8, State, u32, u32);
    /// Who posted it.
    fn client(&self) -> Option<&ClientId>;
    /// Its envelope, in parts.
    fn envelope(&self) -> [&[u8]; 3];
}

impl Stored for Record {
    fn record(&self) -> (u8, State, u32, u32) {
        (self.index, self.state, self.ttl_ms, self.delay_ms)
    }

    fn client(&self) -> Option<&ClientId> {
        self.client.as_ref()
    }

    fn envelope(&self) -> [&[u8]; 3] {
        [&self.envelope, &[], &[]]
    }
}

/// The stored form of an unstamped block of these messages, at most [`MAX_MESSAGES`]. Each byte of
/// them is copied once.
pub(crate) fn encode_new(messages: &[impl Stored]) -> Bytes {
    encode((UNSTAMPED, 0), u16::try_from(messages.len()).unwrap_or(u16::MAX), messages)
}

fn encode((ordinal, arrived_ms): (u32, u64), sent: u16, messages: &[impl Stored]) -> Bytes {
    let mut clients: Vec<&ClientId> = Vec::new();
    let (mut extras, mut bodies) = (1, 0);
    for message in messages {
        bodies += message.envelope().iter().map(|part| part.len()).sum::<usize>();
        if let Some(client) = message.client()
            && !clients.contains(&client)
        {
            extras += 1 + client.as_str().len();
            clients.push(client);
        }
    }
    let len = HEADER_LEN + messages.len() * RECORD_LEN + extras + bodies;
    let mut out = BytesMut::with_capacity(len);
    out.put_u8(FORMAT);
    out.put_u8(0);
    out.put_u16_le(u16::try_from(messages.len()).unwrap_or(u16::MAX));
    out.put_u32_le(ordinal);
    out.put_u64_le(arrived_ms);
    out.put_u16_le(sent);
    out.put_u16_le(0);
    out.put_u32_le(u32::try_from(extras).unwrap_or(u32::MAX));
    let mut end = 0u32;
    for message in messages {
        let len = message.envelope().iter().map(|part| part.len()).sum::<usize>();
        end = end.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
        let (index, state, ttl_ms, delay_ms) = message.record();
        // A block of 256 messages of 256 clients has one client too many for a slot: `fits` keeps
        // producers from making one.
        let slot = message.client().and_then(|client| clients.iter().position(|c| *c == client));
        let slot = slot.map_or(0, |at| u8::try_from(at + 1).unwrap_or(0));
        out.put_slice(&[index, state as u8, slot, 0]);
        out.put_u32_le(end);
        out.put_u32_le(ttl_ms);
        out.put_u32_le(delay_ms);
    }
    out.put_u8(u8::try_from(clients.len()).unwrap_or(u8::MAX));
    for client in clients {
        out.put_u8(u8::try_from(client.as_str().len()).unwrap_or(u8::MAX));
        out.put_slice(client.as_str().as_bytes());
    }
    for message in messages {
        message.envelope().iter().for_each(|part| out.put_slice(part));
    }
    out.freeze()
}

/// A block without its envelopes, from the bytes before them.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockHeader {
    /// See [`Block::ordinal`].
    pub ordinal: u32,
    /// See [`Block::arrived_ms`].
    pub arrived_ms: u64,
    /// See [`Block::sent`].
    pub sent: u16,
    /// The records present.
    pub records: Vec<HeaderRecord>,
    /// Where the envelopes start in the stored form.
    pub bodies_at: usize,
}

/// A record without its envelope.
#[derive(Debug, Clone, PartialEq)]
pub struct HeaderRecord {
    /// See [`Record::index`].
    pub index: u8,
    /// See [`Record::state`].
    pub state: State,
    /// See [`field@Record::client`].
    pub client: Option<ClientId>,
    /// Where the envelope ends, counted from the first one's start.
    pub end: u32,
    /// See [`Record::ttl_ms`].
    pub ttl_ms: u32,
    /// See [`Record::delay_ms`].
    pub delay_ms: u32,
}

impl BlockHeader {
    /// Reads the part of a block before its envelopes; what follows is not looked at.
    ///
    /// # Errors
    /// [`NotABlock`] if the bytes are no header of this version. Never panics.
    pub fn decode(bytes: &[u8]) -> Result<Self, NotABlock> {
        let short = NotABlock("it ends within the header");
        let (head, rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(short.clone())?;
        let u16_at = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let u32_of =
            |b: &[u8], at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        if head[0] != FORMAT {
            return Err(NotABlock("unknown format version"));
        }
        let (count, sent) = (usize::from(u16_at(2)), u16_at(16));
        if usize::from(sent) > MAX_MESSAGES || count > usize::from(sent) {
            return Err(NotABlock("more messages than a block holds"));
        }
        let mut arrived = [0; 8];
        arrived.copy_from_slice(&head[8..16]);
        let extras_len = usize::try_from(u32_of(head, 20)).unwrap_or(usize::MAX);
        let (table, rest) = rest.split_at_checked(count * RECORD_LEN).ok_or(short.clone())?;
        let (extras, _) = rest.split_at_checked(extras_len).ok_or(short)?;
        let clients = clients(extras)?;
        let mut records = Vec::with_capacity(count);
        for raw in table.chunks_exact(RECORD_LEN) {
            let client = match raw[2] {
                0 => None,
                slot => Some(
                    clients
                        .get(usize::from(slot) - 1)
                        .cloned()
                        .ok_or(NotABlock("a record names an unknown client"))?,
                ),
            };
            records.push(HeaderRecord {
                index: raw[0],
                state: State::decode(raw[1]).ok_or(NotABlock("unknown message state"))?,
                client,
                end: u32_of(raw, 4),
                ttl_ms: u32_of(raw, 8),
                delay_ms: u32_of(raw, 12),
            });
        }
        Ok(Self {
            ordinal: u32_of(head, 4),
            arrived_ms: u64::from_le_bytes(arrived),
            sent,
            records,
            bodies_at: HEADER_LEN + count * RECORD_LEN + extras_len,
        })
    }
}

/// Where the envelopes of neighbouring messages lie, one after the other.
#[derive(Debug)]
pub(crate) struct Envelopes {
    base: u32,
    start: usize,
    len: usize,
}

impl Envelopes {
    /// Of envelopes that have `len` bytes, the first of which begins where a record that ends at
    /// `base` ends.
    pub(crate) fn new(base: u32, len: usize) -> Self {
        Self { base, start: 0, len }
    }

    /// Where the next one lies, given the end that its record tells.
    pub(crate) fn next(&mut self, end: u32) -> Result<Range<usize>, NotABlock> {
        let end = end.checked_sub(self.base).and_then(|end| usize::try_from(end).ok());
        let end = end
            .filter(|end| (self.start..=self.len).contains(end))
            .ok_or(NotABlock("an envelope ends outside the block"))?;
        Ok(std::mem::replace(&mut self.start, end)..end)
    }
}

fn clients(extras: &[u8]) -> Result<Vec<ClientId>, NotABlock> {
    let Some((&count, mut rest)) = extras.split_first() else { return Ok(Vec::new()) };
    let mut clients = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let bad = NotABlock("the table of clients is cut short");
        let (&len, tail) = rest.split_first().ok_or(bad.clone())?;
        let (name, tail) = tail.split_at_checked(usize::from(len)).ok_or(bad)?;
        let name = std::str::from_utf8(name).map_err(|_| NotABlock("a client is not UTF-8"))?;
        clients.push(ClientId::new(name).map_err(|_| NotABlock("a client id is malformed"))?);
        rest = tail;
    }
    Ok(clients)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn client() -> impl Strategy<Value = Option<ClientId>> {
        prop_oneof![
            Just(None),
            (0u8..5).prop_map(|number| ClientId::new(&format!("client-{number}")).ok())
        ]
    }

    prop_compose! {
        fn record()(
            index: u8,
            state in 0u8..4,
            client in client(),
            ttl_ms: u32,
            delay_ms: u32,
            body: Vec<u8>,
        ) -> Record {
            let state = State::decode(state).unwrap();
            Record { index, state, client, ttl_ms, delay_ms, envelope: Bytes::from(body) }
        }
    }

    prop_compose! {
        fn block()(
            ordinal: u32,
            arrived_ms: u64,
            ended in 0usize..4,
            records in prop::collection::vec(record(), 0..20),
        ) -> Block {
            let sent = u16::try_from(records.len() + ended).unwrap();
            Block { ordinal, arrived_ms, sent, records }
        }
    }

    proptest! {
        #[test]
        fn a_block_comes_back(block in block()) {
            prop_assert_eq!(Block::decode(&block.encode()), Ok(block));
        }

        #[test]
        fn a_header_is_read_without_the_bodies(block in block()) {
            let stored = block.encode();
            let header = BlockHeader::decode(&stored).unwrap();
            prop_assert_eq!(BlockHeader::decode(&stored[..header.bodies_at]), Ok(header.clone()));
            prop_assert_eq!(header.records.len(), block.records.len());
            prop_assert_eq!(header.sent, block.sent);
        }

        #[test]
        fn a_new_block_has_its_messages_in_order(
            records in prop::collection::vec(record(), 0..300),
        ) {
            let block = Block::of(records.clone());
            prop_assert_eq!(block.records.len(), records.len().min(MAX_MESSAGES));
            prop_assert_eq!(usize::from(block.sent), block.records.len());
            for (index, (made, given)) in block.records.iter().zip(records).enumerate() {
                prop_assert_eq!(usize::from(made.index), index);
                prop_assert_eq!(&made.envelope, &given.envelope);
            }
            prop_assert_eq!(Block::decode(&block.encode()), Ok(block));
        }

        #[test]
        fn decoding_anything_never_panics(bytes: Vec<u8>) {
            let _ = BlockHeader::decode(&bytes);
            let _ = Block::decode(&Bytes::from(bytes));
        }

        /// Random bytes rarely get past the version: damaged blocks do.
        #[test]
        fn decoding_a_damaged_block_never_panics(
            block in block(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut stored = block.encode().to_vec();
            for (place, byte) in damage {
                let at = place.index(stored.len().min(200));
                stored[at] = byte;
            }
            let _ = Block::decode(&Bytes::from(stored.clone()));
            stored.truncate(cut.index(stored.len() + 1));
            let _ = BlockHeader::decode(&stored);
            let _ = Block::decode(&Bytes::from(stored));
        }
    }
}
