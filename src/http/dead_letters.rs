//! Dead letters as a queue's metadata asks for them: `_max_claim_count`, `_dead_letter_queue`,
//! `_dead_letter_queue_messages_ttl`.

use std::time::Duration;

use super::encryption::SealError;
use super::error::ApiError;
use super::metadata::QueueMetadata;
use super::routes::{Call, Target};
use super::waiting;
use crate::{DeadLetters, Error, ListOptions, Message, MessagePage, Rewrite};

/// What becomes of messages of the queue that are claimed too often, as its metadata said about a
/// second ago at most.
pub(super) async fn of(call: &Call, target: &Target) -> Result<Option<DeadLetters>, ApiError> {
    let metadata = target.queue.recent_metadata().await?;
    let settings = metadata
        .as_ref()
        .and_then(QueueMetadata::read)
        .and_then(|metadata| metadata.dead_letters());
    let Some(settings) = settings else { return Ok(None) };
    let (keys, project) = (call.keys().await, call.caller.project.clone());
    let (from, to) = (target.name.clone(), settings.queue.clone());
    Ok(Some(DeadLetters {
        max_claims: settings.max_claims,
        queue: call.store().queue(&call.caller.project, &settings.queue),
        ttl: settings.ttl,
        // A body that is encrypted can be read in its own queue only.
        rewrite: Some(Rewrite::new(move |message| {
            keys.moved(&project, &from, &to, message).map_err(|error| match error {
                SealError::Message(error) => error,
                error => Error::unavailable(error.to_string()),
            })
        })),
    }))
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
