//! Dead letters: messages that were claimed too often, and where they go.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::message::{Message, NewMessage};
use crate::queue::Queue;

/// What becomes of messages that are claimed again and again and never deleted.
#[derive(Debug, Clone)]
pub struct DeadLetters {
    /// How often a message may be claimed; at its next claim it is moved instead.
    pub max_claims: u32,
    /// Where to. It is created if it does not exist.
    pub queue: Queue,
    /// How long messages live there; `None`: for the rest of their lives.
    pub ttl: Option<Duration>,
    /// What a message is there, if not what it was: one that is encrypted for its queue, for instance.
    pub rewrite: Option<Rewrite>,
}

/// Makes of a message what it is to be in its queue of dead letters. Its times are set later.
#[derive(Clone)]
pub struct Rewrite(Arc<Rewriting>);

type Rewriting = dyn Fn(&Message) -> Result<NewMessage, Error> + Send + Sync;

impl Rewrite {
    /// By a function. What it refuses is not moved, and claimed by nobody.
    pub fn new(
        rewrite: impl Fn(&Message) -> Result<NewMessage, Error> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(rewrite))
    }
}

impl std::fmt::Debug for Rewrite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Rewrite")
    }
}

impl DeadLetters {
    /// Whether the message has been claimed, or was about to be, more often than it may.
    #[must_use]
    pub fn takes(&self, message: &Message) -> bool {
        message.claim_count > self.max_claims
    }

    /// What a message is as a dead letter.
    pub(crate) fn letter(&self, message: &Message) -> Result<NewMessage, Error> {
        match &self.rewrite {
            Some(Rewrite(rewrite)) => rewrite(message),
            None => NewMessage::new(message.content_type, message.body.clone()),
        }
    }
}

/// Where a dead letter came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Origin {
    /// The queue, of the same project.
    pub queue: String,
    /// Its id there.
    pub id: String,
    /// How often it was claimed.
    pub claims: u32,
}

impl Origin {
    pub(crate) fn new(queue: &str, message: &Message) -> Self {
        // The last claim was that of the move.
        let claims = message.claim_count.saturating_sub(1);
        Self { queue: queue.to_owned(), id: message.id.to_string(), claims }
    }
}
