//! Blocks on their way and those who wait for them.

use std::sync::Arc;

use tracing::Span;

use super::post::{Outbox, Place, Ticket};
use super::{Core, QueueState, locked};
use crate::encoded::EncodedBlock;
use crate::error::Error;
use crate::id::{Generation, MessageRef, SegmentNo};

/// An encoded block and those who wait for it.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) bytes: EncodedBlock,
    pub(super) tickets: Vec<Ticket>,
    /// While it is in flight.
    pub(super) flying: Option<Arc<()>>,
}

impl Load {
    pub(super) fn messages(&self) -> usize {
        self.tickets.iter().map(|ticket| ticket.count).sum()
    }

    /// Whether all who still wait for it have waited for too long. A block is sent again whole or not
    /// at all: while somebody waits for it nobody may be told that his part was not posted.
    pub(super) fn is_overdue(&self, outbox: &Outbox, is_due: impl Fn(&Ticket) -> bool) -> bool {
        self.tickets.iter().all(|ticket| is_due(ticket) || !outbox.is_awaited(ticket))
    }

    /// Whether anybody still waits for it.
    pub(super) fn is_awaited(&self, queue: &QueueState) -> bool {
        let outbox = locked(&queue.post);
        self.tickets.iter().any(|ticket| outbox.is_awaited(ticket))
    }
}

/// The span of the call for which a block is sent. If there are several it is the first one's, and
/// the others refer to it.
pub(super) fn span_of(tickets: &[Ticket]) -> Span {
    let Some((first, others)) = tickets.split_first() else { return Span::none() };
    if !first.span.is_disabled() {
        for other in others {
            other.span.follows_from(&first.span);
        }
    }
    first.span.clone()
}

/// Tells those who wait for a block where their messages are.
pub(super) fn tell(
    core: &Core,
    queue: &QueueState,
    load: &Load,
    generation: Generation,
    segment: SegmentNo,
    block: u32,
) {
    let (producer, counters) = (core.pool.me(), core.pool.counters());
    counters.acked_blocks.add(1);
    counters.acked_bytes.add(load.bytes.len() as u64);
    counters.acked_messages.add(load.messages() as u64);
    let tag = core.tag(queue, generation);
    let replies = locked(&queue.post).replies(&load.tickets);
    let mut index = 0;
    for (ticket, reply) in load.tickets.iter().zip(replies) {
        let first = MessageRef { producer, block, index: u8::try_from(index).unwrap_or(u8::MAX) };
        index += ticket.count;
        if let Some(reply) = reply {
            // A caller that has gone away does not hear it.
            reply.send(Ok(Place { tag, segment, first })).ok();
        }
    }
    queue.has_news();
}

pub(super) fn fail<'a>(
    queue: &QueueState,
    tickets: impl IntoIterator<Item = &'a Ticket>,
    error: &Error,
) {
    let replies = locked(&queue.post).replies(tickets);
    for reply in replies.into_iter().flatten() {
        reply.send(Err(error.copy())).ok();
    }
}
