//! Dead letters as a queue's metadata asks for them: `_max_claim_count`, `_dead_letter_queue`,
//! `_dead_letter_queue_messages_ttl`.

use std::sync::Arc;
use std::time::Duration;

use super::encryption::{KeyRing, SealError};
use super::error::ApiError;
use super::metadata::QueueMetadata;
use super::routes::{Call, Target};
use super::waiting;
use crate::{
    DeadLetters, Error, ListOptions, Message, MessagePage, Metadata, Project, QueueName, Rewrite,
    Store,
};

/// What becomes of messages that are claimed too often, as the queue's metadata asks for it; `None` if
/// they do not. What is encrypted is encrypted anew, with `keys`: a body can be read in its own queue
/// only.
#[must_use]
pub fn dead_letters(
    store: &Store,
    project: &Project,
    queue: &QueueName,
    metadata: &Metadata,
    keys: Arc<KeyRing>,
) -> Option<DeadLetters> {
    let settings = QueueMetadata::read(metadata)?.dead_letters()?;
    let (from, to, project) = (queue.clone(), settings.queue, project.clone());
    Some(DeadLetters {
        max_claims: settings.max_claims,
        queue: store.queue(&project, &to),
        ttl: settings.ttl,
        rewrite: Some(Rewrite::new(move |message| {
            keys.moved(&project, &from, &to, message).map_err(|error| match error {
                SealError::Message(error) => error,
                error => Error::unavailable(error.to_string()),
            })
        })),
    })
}

/// The same for a request, by what the metadata was about a second ago at most.
pub(super) async fn of(call: &Call, target: &Target) -> Result<Option<DeadLetters>, ApiError> {
    let Some(metadata) = target.queue.recent_metadata().await? else { return Ok(None) };
    // Most queues have none, and need no keys.
    if metadata.as_bytes().is_empty() {
        return Ok(None);
    }
    let (project, keys) = (&call.caller.project, call.keys().await);
    Ok(dead_letters(call.store(), project, &target.name, &metadata, keys))
}

/// What was popped without messages that are in the queue of dead letters by now: taking them out
/// here finished their moves. In doubt a message is given: it is nowhere else for certain.
pub(super) async fn without_moved(
    call: &Call,
    target: &Target,
    popped: Vec<Message>,
) -> Vec<Message> {
    let Ok(Some(letters)) = of(call, target).await else { return popped };
    let mut left = Vec::with_capacity(popped.len());
    for message in popped {
        if !target.queue.has_moved(&message, &letters).await.unwrap_or(false) {
            left.push(message);
        }
    }
    left
}

/// A page without messages that are in the queue of dead letters by now, but still here because
/// their move was cut short. If nothing is left of it, the next one. If there is none yet it is waited
/// for.
pub(super) async fn list(
    call: &Call,
    target: &Target,
    mut options: ListOptions,
    mut wait: Duration,
) -> Result<MessagePage, ApiError> {
    loop {
        let waited = waiting::unless_stopping(call, std::mem::take(&mut wait), |wait| {
            target.queue.list_waiting(&options, wait)
        });
        let mut page = match waited.await {
            Some(page) => page?,
            None => target.queue.list(&options).await?,
        };
        let is_end = page.messages.is_empty();
        if options.include_claimed || page.messages.iter().all(|message| message.claim_count == 0) {
            return Ok(page);
        }
        let Some(letters) = of(call, target).await? else { return Ok(page) };
        let mut left = Vec::with_capacity(page.messages.len());
        for message in page.messages {
            if !target.queue.has_moved(&message, &letters).await? {
                left.push(message);
            }
        }
        if is_end || !left.is_empty() {
            page.messages = left;
            return Ok(page);
        }
        options.marker = page.marker;
    }
}
