//! Messages, blocks and marks as a replica in memory holds them.

use bytes::Bytes;

use crate::block::{Block, MAX_MESSAGES, Record, State};
use crate::id::{ClaimKey, Fencing, MessageRef, ProducerId};
use crate::message::ClientId;
use crate::node::Entry;

/// One message that has not been marked as ended.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) client: Option<ClientId>,
    pub(super) ttl_ms: u32,
    pub(super) delay_ms: u32,
    pub(super) envelope: Bytes,
    pub(super) mark: Option<Mark>,
}

/// What a claim left on a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub(super) claim: ClaimKey,
    pub(super) fencing: Fencing,
    pub(super) times: u32,
    pub(super) released: bool,
}

/// A block that arrived.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) producer: ProducerId,
    pub(super) block: u32,
    pub(super) arrived_ms: u64,
    /// Bytes that it is counted with as long as one of its messages is left.
    pub(super) size: u64,
    /// As many as were sent; `None`: ended.
    pub(super) messages: Vec<Option<Message>>,
    /// How many of them are left.
    pub(super) live: usize,
}

impl Stored {
    pub(super) fn new(
        (producer, block): (ProducerId, u32),
        bytes: Option<&Bytes>,
        arrived_ms: u64,
    ) -> Self {
        let decoded = bytes.and_then(|bytes| Block::decode(bytes).ok());
        let messages = decoded.map(messages_of).unwrap_or_default();
        let live = messages.iter().flatten().count();
        let size = bytes.filter(|_| live > 0).map_or(0, |bytes| super::machine::size(bytes.len()));
        Self { producer, block, arrived_ms, size, messages, live }
    }

    pub(super) fn age_ms(&self, now: u64) -> u64 {
        now.saturating_sub(self.arrived_ms)
    }

    /// The message, if it has not ended or expired.
    pub(super) fn present(&self, index: u8, now: u64) -> Option<&Message> {
        let message = self.messages.get(usize::from(index))?.as_ref()?;
        (self.age_ms(now) < u64::from(message.ttl_ms)).then_some(message)
    }

    /// As [`present`](Self::present), to be changed.
    pub(super) fn present_mut(&mut self, index: u8, now: u64) -> Option<&mut Message> {
        let age = self.age_ms(now);
        let message = self.messages.get_mut(usize::from(index))?.as_mut()?;
        (age < u64::from(message.ttl_ms)).then_some(message)
    }

    /// Indices of all messages as sent.
    pub(super) fn indices(&self) -> impl DoubleEndedIterator<Item = u8> + use<> {
        (0..self.messages.len().min(MAX_MESSAGES)).filter_map(|index| u8::try_from(index).ok())
    }

    /// How many messages it had when it was sent.
    pub(super) fn count(&self) -> u16 {
        u16::try_from(self.messages.len()).unwrap_or(u16::MAX)
    }

    pub(super) fn reference(&self, index: u8) -> MessageRef {
        MessageRef { producer: self.producer, block: self.block, index }
    }

    /// A present message as it is told, with the live claim that its mark stands for.
    pub(super) fn entry(
        &self,
        index: u8,
        message: &Message,
        claim: Option<(ClaimKey, Fencing)>,
        now: u64,
    ) -> Entry {
        Entry {
            at: self.reference(index),
            envelope: message.envelope.clone(),
            age_ms: self.age_ms(now),
            ttl_ms: message.ttl_ms,
            delay_ms: message.delay_ms,
            client: message.client.clone(),
            claim,
            times: message.mark.map_or(0, |mark| mark.times),
        }
    }

    /// The block as it is copied: what has ended or expired is left out. `None` if nothing is left.
    pub(super) fn encode(&self, ordinal: u32, now: u64) -> Option<Bytes> {
        let records: Vec<Record> = self
            .indices()
            .filter_map(|index| {
                let message = self.present(index, now)?;
                Some(Record {
                    index,
                    state: message.state(self.age_ms(now)),
                    client: message.client.clone(),
                    ttl_ms: message.ttl_ms,
                    delay_ms: message.delay_ms,
                    envelope: message.envelope.clone(),
                })
            })
            .collect();
        if records.is_empty() {
            return None;
        }
        let block = Block { ordinal, arrived_ms: self.arrived_ms, sent: self.count(), records };
        Some(block.encode())
    }
}

impl Message {
    fn state(&self, age_ms: u64) -> State {
        match self.mark {
            Some(mark) if !mark.released => State::Claimed,
            _ if age_ms < u64::from(self.delay_ms) => State::Delayed,
            _ => State::Ready,
        }
    }

    /// Lets it live to `until_ms` if it would expire before `ends_ms`; its expiry then.
    pub(super) fn outlive(&mut self, arrived_ms: u64, ends_ms: u64, until_ms: u64) -> Option<u64> {
        if arrived_ms.saturating_add(u64::from(self.ttl_ms)) >= ends_ms {
            return None;
        }
        let ttl_ms = u32::try_from(until_ms.saturating_sub(arrived_ms)).unwrap_or(u32::MAX);
        self.ttl_ms = self.ttl_ms.max(ttl_ms);
        Some(arrived_ms.saturating_add(u64::from(self.ttl_ms)))
    }
}

fn messages_of(block: Block) -> Vec<Option<Message>> {
    let mut messages: Vec<Option<Message>> = Vec::new();
    messages.resize_with(usize::from(block.sent), || None);
    for record in block.records {
        if record.state == State::Ended {
            continue;
        }
        if let Some(slot) = messages.get_mut(usize::from(record.index)) {
            *slot = Some(Message {
                client: record.client,
                ttl_ms: record.ttl_ms,
                delay_ms: record.delay_ms,
                envelope: record.envelope,
                mark: None,
            });
        }
    }
    messages
}
