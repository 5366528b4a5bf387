//! A queue: what callers do with messages.

use std::time::Duration;

use crate::error::Error;
use crate::message::{ClientId, Message, NewMessage};
use crate::token::{ClaimId, Marker, MessageId};

/// Longest metadata, in bytes.
pub const MAX_METADATA_BYTES: usize = 65_536;
/// Messages in one call at most.
pub const MAX_BATCH: usize = 10_000;

/// A queue of a store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Queue {}

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
    /// Creates the queue; `false` if it exists, which is left as it is.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) if a majority of keepers does not
    /// answer.
    pub async fn create(&self, metadata: &Metadata) -> Result<bool, Error> {
        let _ = metadata;
        Err(Error::unavailable("not built yet"))
    }

    /// Whether the queue exists.
    ///
    /// # Errors
    /// As [`Queue::create`].
    pub async fn exists(&self) -> Result<bool, Error> {
        Err(Error::unavailable("not built yet"))
    }

    /// The queue's metadata.
    ///
    /// # Errors
    /// [`ErrorKind::QueueNotFound`](crate::ErrorKind::QueueNotFound), and as [`Queue::create`].
    pub async fn metadata(&self) -> Result<Metadata, Error> {
        Err(Error::unavailable("not built yet"))
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
        let _ = change;
        Err(Error::unavailable("not built yet"))
    }

    /// Deletes the queue with all its messages; `false` if there was none.
    ///
    /// # Errors
    /// As [`Queue::create`].
    pub async fn delete(&self) -> Result<bool, Error> {
        Err(Error::unavailable("not built yet"))
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
        let _ = (messages, client);
        Err(Error::unavailable("not built yet"))
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
        let _ = options;
        Err(Error::unavailable("not built yet"))
    }

    /// Messages by id; those that are not there are left out. An id of another queue names
    /// nothing here.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn get(&self, ids: &[MessageId]) -> Result<Vec<Message>, Error> {
        let _ = ids;
        Err(Error::unavailable("not built yet"))
    }

    /// Deletes one message: an unclaimed one, or with a claim one that this claim holds. `false`
    /// if it was not there.
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
        let _ = (id, claim);
        Err(Error::unavailable("not built yet"))
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
        let _ = (ids, which);
        Err(Error::unavailable("not built yet"))
    }

    /// Takes up to `limit` of the oldest unclaimed messages out of the queue.
    ///
    /// # Errors
    /// As [`Queue::claim`]; with [`Outcome::Unknown`](crate::Outcome::Unknown) some may be gone.
    pub async fn pop(&self, limit: usize) -> Result<Vec<Message>, Error> {
        let _ = limit;
        Err(Error::unavailable("not built yet"))
    }

    /// Claims up to `limit` of the oldest messages that are free (Q7); may come back short.
    /// `None` if there is nothing to claim.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for options out of range,
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn claim(&self, options: &ClaimOptions) -> Result<Option<Claim>, Error> {
        let _ = options;
        Err(Error::unavailable("not built yet"))
    }

    /// A live claim and the messages that it still holds.
    ///
    /// # Errors
    /// [`ErrorKind::ClaimNotFound`](crate::ErrorKind::ClaimNotFound),
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn read_claim(&self, id: &ClaimId) -> Result<Claim, Error> {
        let _ = id;
        Err(Error::unavailable("not built yet"))
    }

    /// Restarts a live claim's time.
    ///
    /// # Errors
    /// As [`Queue::read_claim`].
    pub async fn renew(&self, id: &ClaimId, ttl: Duration, grace: Duration) -> Result<(), Error> {
        let _ = (id, ttl, grace);
        Err(Error::unavailable("not built yet"))
    }

    /// Gives a claim's messages back at once. A claim that is over is no error.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn release(&self, id: &ClaimId) -> Result<(), Error> {
        let _ = id;
        Err(Error::unavailable("not built yet"))
    }

    /// Counts, with the oldest and the newest message. A queue that does not exist is empty.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable).
    pub async fn stats(&self) -> Result<QueueStats, Error> {
        Err(Error::unavailable("not built yet"))
    }
}
