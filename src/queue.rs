//! A queue: what callers do with messages.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use crate::dead_letters::DeadLetters;
use crate::driver::{Core, QueueState};
use crate::error::{Error, ErrorKind};
use crate::message::{ClientId, MAX_TTL, Message, NewMessage};
use crate::once::IdempotencyKey;
use crate::spans::{call_span, number, traced};
use crate::token::{ClaimId, Marker, MessageId};

/// Longest metadata, in bytes.
pub const MAX_METADATA_BYTES: usize = 65_536;
/// Messages in one call at most.
pub const MAX_BATCH: usize = 10_000;

/// A queue of a store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {
    core: Arc<Core>,
    pub(crate) state: Arc<QueueState>,
}

/// What a queue's owner keeps with it: up to 64 KiB, of which the library knows nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata(Vec<u8>);

impl Metadata {
    /// Takes metadata.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if longer than 64 KiB.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, Error> {
        let bytes = bytes.into();
        if bytes.len() > MAX_METADATA_BYTES {
            return Err(Error::invalid(format!(
                "metadata of {} bytes: at most {MAX_METADATA_BYTES} are allowed",
                bytes.len()
            )));
        }
        Ok(Self(bytes))
    }

    /// As given.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Which messages to list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListOptions {
    /// Start after it; `None`: at the oldest message.
    pub marker: Option<Marker>,
    /// At most this many, 1 to [`MAX_BATCH`].
    pub limit: usize,
    /// Leave out what this client posted.
    pub not_from: Option<ClientId>,
    /// Whether to list messages that are claimed.
    pub include_claimed: bool,
    /// Whether to list messages whose delay has not passed.
    pub include_delayed: bool,
}

impl Default for ListOptions {
    fn default() -> Self {
        Self {
            marker: None,
            limit: 10,
            not_from: None,
            include_claimed: false,
            include_delayed: false,
        }
    }
}

/// A page of messages.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MessagePage {
    /// Oldest first.
    pub messages: Vec<Message>,
    /// Where the next page starts; `None` if there is nothing yet to stand behind, so the next
    /// page starts at the oldest message.
    pub marker: Option<Marker>,
}

/// How to claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimOptions {
    /// How long the messages are kept from others: 1 ms to 14 days.
    pub ttl: Duration,
    /// How long messages live beyond the claim's end, at least: up to 14 days.
    pub grace: Duration,
    /// At most this many messages, 1 to [`MAX_BATCH`].
    pub limit: usize,
}

impl Default for ClaimOptions {
    fn default() -> Self {
        Self { ttl: Duration::from_secs(300), grace: Duration::from_secs(60), limit: 10 }
    }
}

impl ClaimOptions {
    fn check(&self) -> Result<(), Error> {
        in_range("a claim", self.limit)?;
        for (what, duration) in [("claim ttl", self.ttl), ("claim grace", self.grace)] {
            whole_ms(what, duration)?;
        }
        Ok(())
    }
}

/// Messages kept from others for a while.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Claim {
    /// Names it.
    pub id: ClaimId,
    /// Its whole time from its last (re)start.
    pub ttl: Duration,
    /// Time since its last (re)start.
    pub age: Duration,
    /// Its messages, oldest first.
    pub messages: Vec<Message>,
}

/// Messages that were taken out of a queue.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Popped {
    /// Those that are gone from the queue, oldest first.
    pub messages: Vec<Message>,
    /// The one that was not taken and ended the pop, if one did.
    pub refused: Option<Message>,
}

/// Counts of a queue's messages.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct QueueStats {
    /// To be had.
    pub active: u64,
    /// Held by claims.
    pub claimed: u64,
    /// Waiting for their delay.
    pub delayed: u64,
    /// The oldest message that has not ended.
    pub oldest: Option<Message>,
    /// The newest one.
    pub newest: Option<Message>,
}

impl QueueStats {
    /// All messages that have not ended.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.active + self.claimed + self.delayed
    }
}

/// Which of several messages may be deleted.
#[derive(Debug, Clone, PartialEq)]
pub enum DeleteWhere {
    /// Claimed or not.
    Any,
    /// Only unclaimed ones.
    Unclaimed,
    /// Only those held by one of these claims.
    ClaimedBy(Vec<ClaimId>),
}

impl Queue {
    pub(crate) fn new(core: Arc<Core>, state: Arc<QueueState>) -> Self {
        Self { core, state }
    }

    fn parts(&self) -> (Arc<Core>, Arc<QueueState>) {
        (Arc::clone(&self.core), Arc::clone(&self.state))
    }

    /// The queue's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// Creates the queue; `false` if it exists, which is left as it is.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if a majority of keepers does not
    /// answer.
    pub async fn create(&self, metadata: &Metadata) -> Result<bool, Error> {
        traced(call_span!("queue.create"), self.core.create(&self.state, metadata)).await
    }

    /// Whether the queue exists.
    ///
    /// # Errors
    /// As [`Queue::create`].
    pub async fn exists(&self) -> Result<bool, Error> {
        traced(call_span!("queue.exists"), async {
            self.core.open_or_error()?;
            Ok(self.core.manifests.read(&self.state).await?.is_some())
        })
        .await
    }

    /// The queue's metadata.
    ///
    /// # Errors
    /// [`ErrorKind::QueueNotFound`](crate::ErrorKind::QueueNotFound), and as [`Queue::create`].
    pub async fn metadata(&self) -> Result<Metadata, Error> {
        traced(call_span!("queue.metadata"), self.core.metadata(&self.state)).await
    }

    /// The queue's metadata as of about a second ago, usually without asking anybody; `None` if
    /// there is no such queue. While the keepers do not answer it is what was known last.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if the keepers do not answer and
    /// nothing is known.
    pub async fn recent_metadata(&self) -> Result<Option<Metadata>, Error> {
        self.core.open_or_error()?;
        let (manifest, _) = self.core.manifests.get_or_old(&self.state).await?;
        manifest.map(|manifest| Metadata::new(manifest.metadata.clone())).transpose()
    }

    /// Changes the metadata in one step: `change` is given the present one and may be called more
    /// than once. Returns the new one.
    ///
    /// # Errors
    /// [`ErrorKind::QueueNotFound`](crate::ErrorKind::QueueNotFound), what `change` returns, and as
    /// [`Queue::create`].
    pub async fn update_metadata<F>(&self, change: F) -> Result<Metadata, Error>
    where
        F: FnMut(&Metadata) -> Result<Metadata, Error> + Send,
    {
        traced(call_span!("queue.update_metadata"), self.core.update_metadata(&self.state, change))
            .await
    }

    /// Deletes the queue with all its messages; `false` if there was none.
    ///
    /// # Errors
    /// As [`Queue::create`].
    pub async fn delete(&self) -> Result<bool, Error> {
        let (core, state) = self.parts();
        let deleted = detached(async move { core.delete_queue(&state).await });
        traced(call_span!("queue.delete"), deleted).await
    }

    /// Stores messages on `copies` nodes; returns their ids, in order, once all replicas of the
    /// segment have them (Q1). The queue must exist.
    ///
    /// # Errors
    /// [`ErrorKind::QueueNotFound`](crate::ErrorKind::QueueNotFound),
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for no or too many messages,
    /// [`ErrorKind::Overloaded`](crate::ErrorKind::Overloaded) when too much is waiting,
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) when fewer than `copies_min` nodes
    /// take it, [`ErrorKind::Timeout`](crate::ErrorKind::Timeout). See [`Error::outcome`].
    pub async fn post(
        &self,
        messages: Vec<NewMessage>,
        client: Option<&ClientId>,
    ) -> Result<Vec<MessageId>, Error> {
        let span = call_span!("queue.post", roundelay.messages = number(messages.len()));
        if span.is_disabled() {
            // The path of most posts: not even a look at who might take the span.
            return self.core.post(&self.state, messages, client).await;
        }
        traced(span, self.core.post(&self.state, messages, client)).await
    }

    /// Stores messages like [`Queue::post`], once for each key: repeated with the same key within
    /// an hour, by any process, it adds nothing and returns the ids of the first time (Q11). So it
    /// may be repeated whenever its outcome is not known. One that is repeated while the first is
    /// under way waits for it.
    ///
    /// The hour is counted by the processes' clocks, which may differ by five minutes. A queue that
    /// was deleted forgets its keys.
    ///
    /// # Errors
    /// As [`Queue::post`], and [`ErrorKind::KeyReused`](crate::ErrorKind::KeyReused) if the key was
    /// used for another request, [`ErrorKind::Overloaded`](crate::ErrorKind::Overloaded) for more
    /// than some 60,000 keys an hour, [`ErrorKind::Lost`](crate::ErrorKind::Lost) if those who knew
    /// what became of an earlier attempt are gone for good.
    pub async fn post_once(
        &self,
        key: &IdempotencyKey,
        messages: Vec<NewMessage>,
        client: Option<&ClientId>,
    ) -> Result<Vec<MessageId>, Error> {
        let (core, state) = self.parts();
        let (key, client) = (key.clone(), client.cloned());
        let span = call_span!("queue.post_once", roundelay.messages = number(messages.len()));
        let posted =
            detached(async move { core.post_once(&state, &key, &messages, client.as_ref()).await });
        traced(span, posted).await
    }

    /// A page of messages, oldest first. A walk from marker to marker gives every message once
    /// (Q2, Q3). A queue that does not exist is empty.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for a limit out of range or a marker of
    /// another queue (or of an earlier life of this one),
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable),
    /// [`ErrorKind::Lost`](crate::ErrorKind::Lost) once for each segment lost for good.
    pub async fn list(&self, options: &ListOptions) -> Result<MessagePage, Error> {
        in_range("a page", options.limit)?;
        let span = call_span!("queue.list", roundelay.limit = number(options.limit));
        traced(span, self.core.list(&self.state, options)).await
    }

    /// The same, but as long as there is nothing it waits for up to `wait` (a day at most), and answers
    /// as soon as there is something. Nodes are not polled: they tell, and waiting costs them nothing.
    ///
    /// What anybody posts is seen at once; claims and delays that end, and what other processes give
    /// back, within one to five seconds; a queue that another process creates, within a second. A queue
    /// that does not exist is waited for.
    ///
    /// # Errors
    /// As [`Queue::list`]. What fails for a passing reason while it waits is tried again, and told only
    /// if it still fails at the end.
    pub async fn list_waiting(
        &self,
        options: &ListOptions,
        wait: Duration,
    ) -> Result<MessagePage, Error> {
        if wait.is_zero() {
            return self.list(options).await;
        }
        in_range("a page", options.limit)?;
        let span = call_span!("queue.list_waiting", roundelay.limit = number(options.limit));
        traced(span, self.core.list_waiting(&self.state, options, wait)).await
    }

    /// A marker right behind this message, for readers that did not keep the page's; `None` if the
    /// message is not there. It reads the queue from the start of the message's segment on.
    ///
    /// # Errors
    /// As [`Queue::list`].
    pub async fn marker_behind(&self, id: &MessageId) -> Result<Option<Marker>, Error> {
        traced(call_span!("queue.marker_behind"), self.core.marker_behind(&self.state, id)).await
    }

    /// Messages by id; those that are not there are left out. An id of another queue names
    /// nothing here.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn get(&self, ids: &[MessageId]) -> Result<Vec<Message>, Error> {
        let span = call_span!("queue.get", roundelay.messages = number(ids.len()));
        traced(span, self.core.get_many(&self.state, ids)).await
    }

    /// Deletes one message: an unclaimed one, or with a claim one that this claim holds. `false`
    /// if it was not there before. If a node took the call and its answer got lost, nobody can tell
    /// any more who ended the message: then it is `true`.
    ///
    /// # Errors
    /// [`ErrorKind::MessageClaimed`](crate::ErrorKind::MessageClaimed),
    /// [`ErrorKind::MessageNotClaimed`](crate::ErrorKind::MessageNotClaimed),
    /// [`ErrorKind::ClaimNotFound`](crate::ErrorKind::ClaimNotFound) for a claim that is over or of
    /// another queue, [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn delete_message(
        &self,
        id: &MessageId,
        claim: Option<&ClaimId>,
    ) -> Result<bool, Error> {
        let (core, state) = self.parts();
        let (id, claim) = (*id, claim.copied());
        let deleted = detached(async move { core.delete_one(&state, &id, claim.as_ref()).await });
        traced(call_span!("queue.delete_message"), deleted).await
    }

    /// Deletes those of the messages that `which` allows; returns how many were deleted.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable): some may have been deleted.
    pub async fn delete_messages(
        &self,
        ids: &[MessageId],
        which: &DeleteWhere,
    ) -> Result<usize, Error> {
        let (core, state) = self.parts();
        let (ids, which) = (ids.to_vec(), which.clone());
        let span = call_span!("queue.delete_messages", roundelay.messages = number(ids.len()));
        let deleted = detached(async move { core.delete_where(&state, &ids, &which).await });
        traced(span, deleted).await
    }

    /// Takes up to `limit` of the oldest unclaimed messages out of the queue.
    ///
    /// # Errors
    /// As [`Queue::claim`]; with [`Outcome::Unknown`](crate::Outcome::Unknown) some may be gone.
    pub async fn pop(&self, limit: usize) -> Result<Vec<Message>, Error> {
        Ok(self.pop_while(limit, |_| true).await?.messages)
    }

    /// As [`Queue::pop`], up to the first message that `takes` refuses: that one stays in the queue,
    /// and so does what is behind it.
    ///
    /// # Errors
    /// As [`Queue::pop`].
    pub async fn pop_while(
        &self,
        limit: usize,
        takes: impl Fn(&Message) -> bool + Send + Sync + 'static,
    ) -> Result<Popped, Error> {
        in_range("a pop", limit)?;
        let (core, state) = self.parts();
        let popped = detached(async move { core.pop(&state, limit, takes).await });
        traced(call_span!("queue.pop", roundelay.limit = number(limit)), popped).await
    }

    /// Claims up to `limit` of the oldest messages that are free (Q7); may come back short.
    /// `None` if there is nothing to claim.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for options out of range,
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn claim(&self, options: &ClaimOptions) -> Result<Option<Claim>, Error> {
        options.check()?;
        self.claim_with(options, None).await
    }

    /// Claims like [`Queue::claim`]. Messages that were claimed as often as they may be are moved
    /// to the queue of dead letters instead: each is there once, however often its move is begun
    /// anew (Q11), and in one of the queues at any time. [`Message::origin`] tells where a dead
    /// letter came from.
    ///
    /// # Errors
    /// As [`Queue::claim`] and [`Queue::post_once`].
    pub async fn claim_or_move(
        &self,
        options: &ClaimOptions,
        letters: &DeadLetters,
    ) -> Result<Option<Claim>, Error> {
        options.check()?;
        self.claim_with(options, Some(letters)).await
    }

    async fn claim_with(
        &self,
        options: &ClaimOptions,
        letters: Option<&DeadLetters>,
    ) -> Result<Option<Claim>, Error> {
        let span = call_span!("queue.claim", roundelay.limit = number(options.limit));
        traced(span, self.core.claim_kept(&self.state, options, letters)).await
    }

    /// Whether a message that was seen in this queue is in the queue of dead letters by now: its
    /// move was cut short, and the next claim deletes it here. Messages that were not claimed too
    /// often cost nothing.
    ///
    /// # Errors
    /// As [`Queue::list`].
    pub async fn has_moved(&self, message: &Message, letters: &DeadLetters) -> Result<bool, Error> {
        if !letters.takes(message) {
            return Ok(false);
        }
        let (core, message) = (Arc::clone(&self.core), message.clone());
        let to = Arc::clone(&letters.queue.state);
        detached(async move { core.has_moved(&message, &to).await }).await
    }

    /// Claims, moving what was claimed too often if `letters` are given; but as long as there is
    /// nothing to claim it waits for up to `wait` (a day at most), as [`Queue::list_waiting`] does.
    /// Those that wait in one process get messages in the order in which they came, more or less.
    ///
    /// # Errors
    /// As [`Queue::claim_or_move`]. What fails for a passing reason while it waits, and has claimed
    /// nothing, is tried again.
    pub async fn claim_waiting(
        &self,
        options: &ClaimOptions,
        letters: Option<&DeadLetters>,
        wait: Duration,
    ) -> Result<Option<Claim>, Error> {
        options.check()?;
        if wait.is_zero() {
            return self.claim_with(options, letters).await;
        }
        let span = call_span!("queue.claim_waiting", roundelay.limit = number(options.limit));
        traced(span, self.core.claim_waiting(&self.state, options, letters, wait)).await
    }

    /// A live claim and the messages that it still holds.
    ///
    /// # Errors
    /// [`ErrorKind::ClaimNotFound`](crate::ErrorKind::ClaimNotFound),
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn read_claim(&self, id: &ClaimId) -> Result<Claim, Error> {
        traced(call_span!("queue.read_claim"), self.core.read_claim(&self.state, id)).await
    }

    /// Restarts a live claim's time.
    ///
    /// # Errors
    /// As [`Queue::read_claim`].
    pub async fn renew(&self, id: &ClaimId, ttl: Duration, grace: Duration) -> Result<(), Error> {
        let (ttl_ms, grace_ms) = (whole_ms("claim ttl", ttl)?, whole_ms("claim grace", grace)?);
        let (core, state, id) = (Arc::clone(&self.core), Arc::clone(&self.state), *id);
        let renewed =
            detached(async move { core.renew(&state, &id, ttl_ms.max(1), grace_ms).await });
        traced(call_span!("queue.renew"), renewed).await
    }

    /// Gives a claim's messages back at once. A claim that is over is no error.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn release(&self, id: &ClaimId) -> Result<(), Error> {
        let (core, state, id) = (Arc::clone(&self.core), Arc::clone(&self.state), *id);
        let released = detached(async move { core.release(&state, &id).await });
        traced(call_span!("queue.release"), released).await
    }

    /// Counts, with the oldest and the newest message. A queue that does not exist is empty.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn stats(&self) -> Result<QueueStats, Error> {
        traced(call_span!("queue.stats"), self.core.stats(&self.state)).await
    }
}

/// Runs an operation of several steps to its end, even if its caller goes away in the middle.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(work.in_current_span()).await.unwrap_or_else(|_| Err(ended()))
}

fn ended() -> Error {
    Error::new(ErrorKind::Internal, "the operation ended without a result").unknown()
}

fn in_range(what: &str, limit: usize) -> Result<(), Error> {
    match limit {
        1..=MAX_BATCH => Ok(()),
        _ => Err(Error::invalid(format!("{what} of {limit}: 1 to {MAX_BATCH} are allowed"))),
    }
}

fn whole_ms(what: &str, duration: Duration) -> Result<u32, Error> {
    u32::try_from(duration.as_millis()).ok().filter(|_| duration <= MAX_TTL).ok_or_else(|| {
        Error::invalid(format!(
            "{what} of {duration:?}: at most {} s are allowed",
            MAX_TTL.as_secs()
        ))
    })
}
