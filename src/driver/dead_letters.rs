//! Moving messages that were claimed too often to a queue of dead letters.
//!
//! A claim picks as always. What it got that was claimed too often is posted to the other queue, with
//! a key made from the message's id (Q11), and then deleted under the claim (Q7, Q8): so it is
//! always in one of the queues at least, and however often a move is begun anew it is posted once.
//! As long as it is in both, the claim keeps it from everybody else; if the mover dies there, the
//! key tells readers that the message has gone, and the next claim deletes it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::delete::Ending;
use super::{Core, QueueState};
use crate::dead_letters::{DeadLetters, Origin};
use crate::error::{Error, ErrorKind};
use crate::message::{MAX_TTL, Message};
use crate::node::Guard;
use crate::once::IdempotencyKey;
use crate::queue::{Claim, ClaimOptions, Metadata};
use crate::token::ClaimId;

impl Core {
    /// Claims messages; those that were claimed too often are moved, and the next ones claimed.
    pub(crate) async fn claim_or_move(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        options: &ClaimOptions,
        letters: &DeadLetters,
        to: &Arc<QueueState>,
    ) -> Result<Option<Claim>, Error> {
        let deadline = Instant::now() + self.pool.config().deadline;
        loop {
            let claimed_at = Instant::now();
            let Some(mut claim) = self.claim(queue, options).await? else { return Ok(None) };
            let (dead, messages): (Vec<_>, Vec<_>) =
                claim.messages.into_iter().partition(|message| letters.takes(message));
            claim.messages = messages;
            if dead.is_empty() {
                return Ok(Some(claim));
            }
            let until = (claimed_at + options.ttl).min(deadline);
            let moved = self.move_dead(queue, &claim.id, &dead, letters, to, until).await;
            if let Err(error) = &moved {
                // They wait for the end of this claim: the next one moves them.
                tracing::warn!(queue = queue.name, %error, "dead letters could not be moved");
            }
            if !claim.messages.is_empty() {
                return Ok(Some(claim));
            }
            if moved.is_ok() {
                // One that holds nothing does no harm.
                self.release(queue, &claim.id).await.ok();
            }
            moved?;
            if Instant::now() >= deadline {
                return Err(Error::unavailable(format!(
                    "queue {}: nothing but dead letters could be claimed in time",
                    queue.name
                )));
            }
        }
    }

    async fn move_dead(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        claim: &ClaimId,
        dead: &[Message],
        letters: &DeadLetters,
        to: &Arc<QueueState>,
        until: Instant,
    ) -> Result<(), Error> {
        let posts = dead.iter().map(|message| self.post_dead(queue, message, letters, to, until));
        let posted = join_all(posts).await;
        let there: Vec<_> =
            dead.iter().zip(&posted).filter(|(_, post)| post.is_ok()).map(|(m, _)| m.id).collect();
        if !there.is_empty() {
            let guard = Guard::ClaimedBy(claim.claim, claim.fencing);
            let endings = self.delete_refs(queue, &there, guard).await?;
            for (id, ending) in there.iter().zip(endings) {
                // Otherwise the claim is over, and the next one finds the key.
                if matches!(ending, Ending::Deleted | Ending::Absent) {
                    let key = IdempotencyKey::dead_letter(id, Duration::ZERO);
                    self.let_key_go(to, &key).await;
                }
            }
        }
        posted.into_iter().collect()
    }

    async fn post_dead(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        message: &Message,
        letters: &DeadLetters,
        to: &Arc<QueueState>,
        until: Instant,
    ) -> Result<(), Error> {
        let left = message.ttl.saturating_sub(message.age).max(Duration::from_millis(1));
        // The key must outlive the message: as long as that is there the move may be repeated.
        let key = IdempotencyKey::dead_letter(&message.id, left);
        let letter = letters
            .letter(message)?
            .with_ttl(letters.ttl.unwrap_or(left).min(MAX_TTL))?
            .from(&Origin::new(&queue.name, message))?;
        let letter = [letter];
        let client = message.client.as_ref();
        let posted = match self.post_once_by(to, &key, &letter, client, until).await {
            Err(error) if error.kind() == ErrorKind::QueueNotFound => {
                self.create(to, &Metadata::default()).await?;
                self.post_once_by(to, &key, &letter, client, until).await
            }
            posted => posted,
        };
        posted.map(drop)
    }

    /// Whether the message is in the queue of dead letters by now, though it is still here.
    pub(crate) async fn has_moved(
        self: &Arc<Self>,
        message: &Message,
        to: &Arc<QueueState>,
    ) -> Result<bool, Error> {
        let key = IdempotencyKey::dead_letter(&message.id, Duration::ZERO);
        match self.was_posted(to, &key).await {
            Err(error) if error.kind() == ErrorKind::QueueNotFound => Ok(false),
            posted => posted,
        }
    }
}
