//! Posts on their way in: checked, encoded, cut into parts, and queued for the sender.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::sending::{Here, Sender};
use super::{Core, QueueState, locked};
use crate::block::{MAX_MESSAGES, Record, State};
use crate::error::{Error, ErrorKind, Outcome};
use crate::id::{Generation, MessageRef, SegmentNo};
use crate::message::{ClientId, Envelope, NewMessage};
use crate::queue::MAX_BATCH;
use crate::time::millis;
use crate::token::MessageId;

/// Envelopes of one part at most, in bytes: what is posted in one call and fits goes into one
/// block, so it is stored whole or not at all.
pub(super) const PART_BYTES: usize = 1024 * 1024;

/// A queue's posts that wait for the sender.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: VecDeque<Part>,
    bytes: usize,
    running: bool,
    /// Where the sender was when it last ended.
    pub(crate) here: Option<Here>,
    /// Rung when something was put in.
    pub(crate) bell: Arc<Notify>,
}

/// Messages that go into one block together.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) records: Vec<Record>,
    pub(crate) bytes: usize,
    pub(crate) ticket: Ticket,
}

/// Who waits for a part.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) count: usize,
    pub(crate) since: Instant,
    reply: Option<oneshot::Sender<Result<Place, Error>>>,
}

/// A part's number of messages, and where its place will be told.
type Awaited = (usize, oneshot::Receiver<Result<Place, Error>>);

/// Where a part was stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) generation: Generation,
    pub(crate) segment: SegmentNo,
    /// The part's first message.
    pub(crate) first: MessageRef,
}

impl Ticket {
    /// Tells the outcome; a caller that has gone away does not hear it.
    pub(crate) fn tell(&mut self, outcome: Result<Place, Error>) {
        if let Some(reply) = self.reply.take() {
            reply.send(outcome).ok();
        }
    }

    /// Whether somebody still waits.
    pub(crate) fn is_awaited(&self) -> bool {
        self.reply.as_ref().is_some_and(|reply| !reply.is_closed())
    }
}

impl Outbox {
    /// Whether the next block would be as large as blocks get.
    pub(crate) fn is_plenty(&self, messages: usize, bytes: usize) -> bool {
        self.bytes >= bytes
            || self.waiting.iter().map(|part| part.records.len()).sum::<usize>() >= messages
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes the parts of the next block: within the limits, unless the first alone is larger.
    pub(crate) fn gather(&mut self, messages: usize, bytes: usize) -> Vec<Part> {
        let (mut count, mut size) = (0, 0);
        let mut parts = Vec::new();
        while let Some(part) = self.waiting.front() {
            let fits = count + part.records.len() <= messages && size + part.bytes <= bytes;
            if !parts.is_empty() && !fits {
                break;
            }
            if let Some(part) = self.waiting.pop_front() {
                count += part.records.len();
                size += part.bytes;
                self.bytes -= part.bytes;
                if part.ticket.is_awaited() {
                    parts.push(part);
                }
            }
        }
        parts
    }

    /// Refuses what has waited too long, or everything.
    pub(crate) fn refuse(&mut self, error: &Error, is_due: impl Fn(&Ticket) -> bool) {
        let waiting = std::mem::take(&mut self.waiting);
        for mut part in waiting {
            if is_due(&part.ticket) {
                self.bytes -= part.bytes;
                part.ticket.tell(Err(error.copy()));
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
        let replies = self.enqueue(queue, &messages, client)?;
        let deadline = Instant::now() + self.pool.config().deadline;
        let mut ids = Vec::with_capacity(messages.len());
        let mut failed = None;
        for (count, reply) in replies {
            let outcome = match tokio::time::timeout_at(deadline, reply).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(Error::new(ErrorKind::Closed, "the store was closed").unknown()),
                Err(_) => Err(Error::new(
                    ErrorKind::Timeout,
                    format!("queue {}: the post was not acknowledged in time", queue.name),
                )
                .unknown()),
            };
            match outcome {
                Ok(place) => ids.extend(self.ids(queue, place, count)),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            None => Ok(ids),
            Some(error) if ids.is_empty() || error.outcome() == Outcome::Unknown => Err(error),
            Some(error) => Err(error.unknown()),
        }
    }

    fn ids(&self, queue: &QueueState, place: Place, count: usize) -> Vec<MessageId> {
        let tag = self.tag(queue, place.generation);
        (0..count)
            .filter_map(|n| u8::try_from(usize::from(place.first.index) + n).ok())
            .map(|index| MessageId {
                tag,
                segment: place.segment,
                at: MessageRef { index, ..place.first },
            })
            .collect()
    }

    fn enqueue(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        messages: &[NewMessage],
        client: Option<&ClientId>,
    ) -> Result<Vec<Awaited>, Error> {
        let config = self.pool.config();
        let since = Instant::now();
        let mut replies = Vec::new();
        let mut parts: Vec<Part> = Vec::new();
        for message in messages {
            let record = record(message, client)?;
            let bytes = record.envelope.len();
            match parts.last_mut() {
                Some(part)
                    if part.records.len() < config.block_messages.min(MAX_MESSAGES)
                        && part.bytes + bytes <= PART_BYTES =>
                {
                    part.ticket.count += 1;
                    part.bytes += bytes;
                    part.records.push(record);
                }
                _ => {
                    let (tell, reply) = oneshot::channel();
                    replies.push(reply);
                    let ticket = Ticket { count: 1, since, reply: Some(tell) };
                    parts.push(Part { records: vec![record], bytes, ticket });
                }
            }
        }
        let counts: Vec<usize> = parts.iter().map(|part| part.ticket.count).collect();
        let bytes: usize = parts.iter().map(|part| part.bytes).sum();
        let mut outbox = locked(&queue.post);
        if outbox.bytes + bytes > config.waiting_bytes && !outbox.waiting.is_empty() {
            return Err(Error::new(
                ErrorKind::Overloaded,
                format!(
                    "queue {}: {} bytes of posts are waiting already, at most {} may",
                    queue.name, outbox.bytes, config.waiting_bytes
                ),
            )
            .after(std::time::Duration::from_millis(200)));
        }
        outbox.bytes += bytes;
        outbox.waiting.extend(parts);
        if outbox.running {
            outbox.bell.notify_one();
        } else {
            outbox.running = true;
            let here = outbox.here.take();
            drop(outbox);
            let sender = Sender::new(Arc::clone(self), Arc::clone(queue), here);
            self.spawn(sender.run());
        }
        Ok(counts.into_iter().zip(replies).collect())
    }
}

pub(super) fn record(message: &NewMessage, client: Option<&ClientId>) -> Result<Record, Error> {
    let whole = |duration| u32::try_from(millis(duration)).unwrap_or(u32::MAX);
    Ok(Record {
        index: 0,
        state: if message.delay.is_zero() { State::Ready } else { State::Delayed },
        client: client.cloned(),
        ttl_ms: whole(message.ttl).max(1),
        delay_ms: whole(message.delay),
        envelope: Envelope::encode(message.content_type, &message.body, message.origin.as_ref())?,
    })
}
