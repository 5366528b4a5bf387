//! Posts on their way in: checked, encoded, cut into parts, and queued for the sender.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tracing::Span;

use super::awaited::{Awaited, Told};
use super::sending::{Here, Sender};
use super::{Core, QueueState, locked};
use crate::block::{MAX_MESSAGES, Record, State, Stored, encode_new};
use crate::error::{Error, ErrorKind, Outcome};
use crate::id::{MessageRef, SegmentNo};
use crate::message::{ClientId, EnvelopeHead, NewMessage};
use crate::queue::MAX_BATCH;
use crate::spans;
use crate::time::millis;
use crate::token::{MessageId, QueueTag};

/// Envelopes of one part at most, in bytes: what is posted in one call and fits goes into one
/// block, so it is stored whole or not at all.
pub(super) const PART_BYTES: usize = 1024 * 1024;

/// A queue's posts that wait for the sender.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: VecDeque<Part>,
    /// Of those that wait.
    messages: usize,
    bytes: usize,
    running: bool,
    /// Where the sender was when it last ended.
    pub(crate) here: Option<Here>,
    /// Rung when there is enough to send.
    pub(crate) bell: Arc<Notify>,
    /// Messages and bytes that are enough, if the sender waits for them.
    enough: Option<(usize, usize)>,
    /// Who waits for what is here or under way.
    pub(crate) awaited: Awaited,
}

/// Messages that go into one block together.
#[derive(Debug)]
pub(crate) struct Part {
    messages: Vec<NewMessage>,
    client: Option<ClientId>,
    bytes: usize,
    pub(crate) ticket: Ticket,
}

/// Who waits for a part.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) count: usize,
    pub(crate) since: Instant,
    /// For which call to a queue; none if nobody takes spans of calls to nodes.
    pub(crate) span: Span,
    /// Its caller's number among those who wait.
    caller: u64,
}

/// A part's number of messages, and where its place will be told.
type Reply = (usize, oneshot::Receiver<Told>);

/// Where a part was stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Of the queue's life.
    pub(crate) tag: QueueTag,
    pub(crate) segment: SegmentNo,
    /// The part's first message.
    pub(crate) first: MessageRef,
}

impl Outbox {
    /// Whether somebody still waits.
    pub(crate) fn is_awaited(&self, ticket: &Ticket) -> bool {
        self.awaited.is_there(ticket.caller)
    }

    /// Where the callers of parts will be told something, once.
    pub(crate) fn replies<'a>(
        &mut self,
        tickets: impl IntoIterator<Item = &'a Ticket>,
    ) -> Vec<Option<oneshot::Sender<Told>>> {
        tickets.into_iter().map(|ticket| self.awaited.take(ticket.caller)).collect()
    }

    /// Has the bell rung when so many messages or bytes wait, once.
    pub(crate) fn ring_at(&mut self, messages: usize, bytes: usize) {
        self.enough = Some((messages, bytes));
    }

    fn ring(&mut self) {
        let is_enough = |&mut (messages, bytes): &mut (usize, usize)| {
            self.messages >= messages || self.bytes >= bytes
        };
        if self.enough.take_if(is_enough).is_some() {
            self.bell.notify_one();
        }
    }

    /// Whether the next block would be as large as blocks get.
    pub(crate) fn is_plenty(&self, messages: usize, bytes: usize) -> bool {
        self.bytes >= bytes || self.messages >= messages
    }

    /// Takes the parts of the next block: within the limits, unless the first alone is larger.
    pub(crate) fn gather(&mut self, messages: usize, bytes: usize) -> Vec<Part> {
        let (mut count, mut size) = (0, 0);
        let mut parts = Vec::new();
        while let Some(part) = self.waiting.front() {
            let fits = count + part.messages.len() <= messages && size + part.bytes <= bytes;
            if !parts.is_empty() && !fits {
                break;
            }
            if let Some(part) = self.waiting.pop_front() {
                count += part.messages.len();
                size += part.bytes;
                self.bytes -= part.bytes;
                self.messages -= part.messages.len();
                if self.is_awaited(&part.ticket) {
                    parts.push(part);
                }
            }
        }
        parts
    }

    /// Refuses what has waited too long, or everything.
    pub(crate) fn refuse(&mut self, error: &Error, is_due: impl Fn(&Ticket) -> bool) {
        let waiting = std::mem::take(&mut self.waiting);
        for part in waiting {
            if is_due(&part.ticket) {
                self.bytes -= part.bytes;
                self.messages -= part.messages.len();
                if let Some(reply) = self.awaited.take(part.ticket.caller) {
                    reply.send(Err(error.copy())).ok();
                }
            } else {
                self.waiting.push_back(part);
            }
        }
    }

    /// Marks the sender as ended, unless something came in.
    pub(crate) fn end(&mut self, here: &mut Option<Here>) -> bool {
        if self.waiting.is_empty() {
            self.running = false;
            self.here = here.take();
        }
        self.waiting.is_empty()
    }

    /// Whether anybody posted or posts.
    pub(crate) fn is_of_use(&self) -> bool {
        self.running || self.here.is_some() || !self.waiting.is_empty()
    }

    /// The sender died: the next post starts another one.
    pub(crate) fn died(&mut self) {
        self.running = false;
        let error = Error::new(ErrorKind::Internal, "the queue's sender died");
        self.refuse(&error, |_| true);
        self.awaited.clear();
    }
}

impl Core {
    /// Stores messages; returns their ids once they are acked.
    pub(crate) async fn post(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        messages: Vec<NewMessage>,
        client: Option<&ClientId>,
    ) -> Result<Vec<MessageId>, Error> {
        self.open_or_error()?;
        if messages.is_empty() || messages.len() > MAX_BATCH {
            return Err(Error::invalid(format!(
                "{} messages in one call: 1 to {MAX_BATCH} are allowed",
                messages.len()
            )));
        }
        let expected = messages.len();
        let since = Instant::now();
        let Replies { first, others } = self.enqueue(queue, messages, client, since)?;
        let mut ids = Vec::with_capacity(expected);
        let mut failed = None;
        for (count, reply) in first.into_iter().chain(others) {
            let closed = |_| Err(Error::new(ErrorKind::Closed, "the store was closed").unknown());
            match reply.await.unwrap_or_else(closed) {
                Ok(place) => ids.extend(self::ids(place, count)),
                Err(error) => failed = Some(worse(failed, error)),
            }
        }
        match failed {
            None => Ok(ids),
            // A part of it is in the log.
            Some(error) if !ids.is_empty() => Err(error.unknown()),
            Some(error) => Err(error),
        }
    }

    fn enqueue(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        messages: Vec<NewMessage>,
        client: Option<&ClientId>,
        since: Instant,
    ) -> Result<Replies, Error> {
        let config = self.pool.config();
        let mut replies = Replies::default();
        let limit = config.block_messages.min(MAX_MESSAGES);
        let whole: usize = messages.iter().map(stored_len).sum();
        let (mut one, mut many, count) = (None, Vec::new(), messages.len());
        if count <= limit && whole <= PART_BYTES {
            one = Some(part(messages, whole, client, since));
        } else {
            let pieces = cut(messages, limit).into_iter();
            many.extend(pieces.map(|(messages, bytes)| part(messages, bytes, client, since)));
        }
        let mut outbox = locked(&queue.post);
        if outbox.bytes + whole > config.waiting_bytes && !outbox.waiting.is_empty() {
            return Err(Error::new(
                ErrorKind::Overloaded,
                format!(
                    "queue {}: {} bytes of posts are waiting already, at most {} may",
                    queue.name, outbox.bytes, config.waiting_bytes
                ),
            )
            .after(std::time::Duration::from_millis(200)));
        }
        outbox.bytes += whole;
        outbox.messages += count;
        for mut part in one.into_iter().chain(many) {
            let (caller, reply) = outbox.awaited.add(since);
            part.ticket.caller = caller;
            replies.push(part.ticket.count, reply);
            outbox.waiting.push_back(part);
        }
        outbox.ring();
        let is_guarded = std::mem::replace(&mut outbox.awaited.is_guarded, true);
        let is_running = std::mem::replace(&mut outbox.running, true);
        if is_guarded && is_running {
            return Ok(replies);
        }
        let here = if is_running { None } else { outbox.here.take() };
        drop(outbox);
        if !is_running {
            let sender = Sender::new(Arc::clone(self), Arc::clone(queue), here);
            self.spawn(sender.run());
        }
        if !is_guarded {
            self.guard(queue);
        }
        Ok(replies)
    }
}

/// Of two failed parts the one that tells for both: what is unknown of one is unknown of the post.
fn worse(before: Option<Error>, error: Error) -> Error {
    before.filter(|before| before.outcome() == Outcome::Unknown).unwrap_or(error)
}

/// The ids of a part's messages.
fn ids(place: Place, count: usize) -> impl Iterator<Item = MessageId> {
    let Place { tag, segment, first } = place;
    (0..count)
        .filter_map(move |n| u8::try_from(usize::from(first.index) + n).ok())
        .map(move |index| MessageId { tag, segment, at: MessageRef { index, ..first } })
}

/// A part that nobody waits for yet.
fn part(
    messages: Vec<NewMessage>,
    bytes: usize,
    client: Option<&ClientId>,
    since: Instant,
) -> Part {
    let ticket = Ticket { count: messages.len(), since, span: spans::here(), caller: 0 };
    Part { messages, client: client.cloned(), bytes, ticket }
}

/// Where the places of a post's parts will be told. Almost all posts have one.
#[derive(Debug, Default)]
struct Replies {
    first: Option<Reply>,
    others: Vec<Reply>,
}

impl Replies {
    fn push(&mut self, count: usize, reply: oneshot::Receiver<Told>) {
        match self.first {
            None => self.first = Some((count, reply)),
            Some(_) => self.others.push((count, reply)),
        }
    }
}

/// Cuts a post into parts that fit into a block each, with their bytes.
fn cut(messages: Vec<NewMessage>, limit: usize) -> Vec<(Vec<NewMessage>, usize)> {
    let mut parts: Vec<(Vec<NewMessage>, usize)> = Vec::new();
    for message in messages {
        let len = stored_len(&message);
        match parts.last_mut() {
            Some((part, bytes)) if part.len() < limit && *bytes + len <= PART_BYTES => {
                part.push(message);
                *bytes += len;
            }
            _ => parts.push((vec![message], len)),
        }
    }
    parts
}

fn stored_len(message: &NewMessage) -> usize {
    message.envelope_head().as_slice().len() + message.body.len() + message.origin.len()
}

/// The block of some parts' messages, as it is stored; and who waits for it.
pub(crate) fn load(parts: Vec<Part>) -> (Bytes, Vec<Ticket>) {
    let mut posts = Vec::with_capacity(parts.iter().map(|part| part.messages.len()).sum());
    for Part { messages, client, .. } in &parts {
        posts.extend(messages.iter().map(|message| Post::of(message, client.as_ref())));
    }
    for (post, index) in posts.iter_mut().zip(0u8..=u8::MAX) {
        post.index = index;
    }
    let bytes = encode_new(&posts);
    drop(posts);
    (bytes, parts.into_iter().map(|part| part.ticket).collect())
}

/// A message as its block will have it.
#[derive(Debug)]
struct Post<'a> {
    index: u8,
    state: State,
    ttl_ms: u32,
    delay_ms: u32,
    client: Option<&'a ClientId>,
    head: EnvelopeHead,
    body: &'a [u8],
    origin: &'a [u8],
}

impl<'a> Post<'a> {
    /// Its place is told by its block.
    fn of(message: &'a NewMessage, client: Option<&'a ClientId>) -> Self {
        let whole = |duration| u32::try_from(millis(duration)).unwrap_or(u32::MAX);
        Self {
            index: 0,
            state: if message.delay.is_zero() { State::Ready } else { State::Delayed },
            ttl_ms: whole(message.ttl).max(1),
            delay_ms: whole(message.delay),
            client,
            head: message.envelope_head(),
            body: &message.body,
            origin: &message.origin,
        }
    }
}

impl Stored for Post<'_> {
    fn record(&self) -> (u8, State, u32, u32) {
        (self.index, self.state, self.ttl_ms, self.delay_ms)
    }

    fn client(&self) -> Option<&ClientId> {
        self.client
    }

    fn envelope(&self) -> [&[u8]; 3] {
        [self.head.as_slice(), self.body, self.origin]
    }
}

/// A message as a block of its own client would have it.
pub(super) fn record(message: &NewMessage, client: Option<&ClientId>) -> Record {
    let post = Post::of(message, client);
    Record {
        index: post.index,
        state: post.state,
        client: client.cloned(),
        ttl_ms: post.ttl_ms,
        delay_ms: post.delay_ms,
        envelope: post.envelope().concat().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::Load;
    use super::*;

    #[test]
    fn a_block_is_overdue_when_all_who_wait_for_it_are() {
        let mut outbox = Outbox::default();
        let since = Instant::now();
        let mut ticket = || {
            let (caller, reply) = outbox.awaited.add(since);
            (Ticket { count: 1, since, span: Span::none(), caller }, reply)
        };
        let ((old, _waits), (young, waits_too)) = (ticket(), ticket());
        let bytes = Bytes::new().into();
        let load = Load { bytes, tickets: vec![old, young], flying: None };
        let is_due = |ticket: &Ticket| ticket.caller == 0;
        assert!(
            !load.is_overdue(&outbox, is_due),
            "the younger one's part would be stored with it"
        );
        drop(waits_too);
        assert!(load.is_overdue(&outbox, is_due));
    }

    #[test]
    fn a_post_of_which_a_part_is_unknown_is_unknown() {
        let refused = || Error::unavailable("refused");
        let unknown = || Error::unavailable("unknown").unknown();
        assert_eq!(worse(None, refused()).outcome(), Outcome::NotApplied);
        assert_eq!(worse(Some(refused()), unknown()).outcome(), Outcome::Unknown);
        assert_eq!(worse(Some(unknown()), refused()).outcome(), Outcome::Unknown);
    }
}
