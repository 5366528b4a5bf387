//! `/v2/queues/{q}/claims`: claim, look, renew, release.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};

use super::body::SMALL;
use super::dead_letters;
use super::error::ApiError;
use super::json;
use super::limits::{self, ServiceOptions};
use super::messages::MessageView;
use super::routes::{Call, Target};
use super::waiting;
use crate::{ClaimId, ClaimOptions};

#[derive(Serialize)]
struct Claimed<'a> {
    messages: Vec<MessageView<'a>>,
}

#[derive(Serialize)]
struct ClaimView<'a> {
    href: String,
    ttl: u64,
    age: u64,
    messages: Vec<MessageView<'a>>,
}

/// How long a claim lasts, and what its messages live beyond it.
struct Times {
    ttl: Duration,
    grace: Duration,
}

impl Times {
    /// What is not given has its default, in a renewal too.
    fn of(body: &Map<String, Value>, options: &ServiceOptions) -> Result<Self, ApiError> {
        let ttl = body.get("ttl").cloned().unwrap_or(options.default_claim_ttl.into());
        let grace = body.get("grace").cloned().unwrap_or(options.default_claim_grace.into());
        Ok(Self {
            ttl: Duration::from_secs(options.claim_ttl().of_json(&ttl)?),
            grace: Duration::from_secs(options.claim_grace().of_json(&grace)?),
        })
    }
}

fn path(target: &Target, id: &ClaimId) -> String {
    format!("{}/claims/{id}", target.path())
}

fn parse(id: &str) -> Result<ClaimId, ApiError> {
    id.parse().map_err(|_| ApiError::not_found("There is no such claim."))
}

/// `POST …/claims`: 204 if there is nothing to claim, or nothing came in the time of `wait`.
pub(super) async fn create(call: &Call, body: Body, target: &Target) -> Result<Response, ApiError> {
    let max = call.service.options.max_messages_per_claim_or_pop;
    let limit = limits::count("limit", call.query.integer("limit")?, max)?;
    let wait = call.service.options.wait(call.query.integer("wait")?)?;
    let options = {
        // Who waits holds no room for bodies.
        let bytes = call.read(body, SMALL).await?;
        let body = if bytes.is_empty() { Map::new() } else { json::parse_object(&bytes)? };
        let Times { ttl, grace } = Times::of(&body, &call.service.options)?;
        ClaimOptions { ttl, grace, limit }
    };
    let letters = dead_letters::of(call, target).await?;
    let claimed = waiting::unless_stopping(call, wait, |wait| {
        target.queue.claim_waiting(&options, letters.as_ref(), wait)
    });
    let claimed = claimed.await.transpose()?.flatten();
    let Some(claim) = claimed else { return Ok(json::nothing()) };
    let messages = match call.readable(target, claim.messages).await {
        Ok(messages) => messages,
        Err(error) => {
            // Nobody will work on what nobody was given.
            if let Err(error) = target.queue.release(&claim.id).await {
                tracing::warn!(%error, "a claim that nobody was given goes on until its end");
            }
            return Err(error);
        }
    };
    let messages = MessageView::all(call, target, &messages);
    json::created(&path(target, &claim.id), &Claimed { messages })
}

/// `GET …/claims/{id}`.
pub(super) async fn show(call: &Call, target: &Target, id: &str) -> Result<Response, ApiError> {
    let mut claim = target.queue.read_claim(&parse(id)?).await?;
    if let Some(letters) = dead_letters::of(call, target).await? {
        // Held until they can be moved: they were never handed out.
        claim.messages.retain(|message| !letters.takes(message));
    }
    let messages = call.readable(target, claim.messages).await?;
    Ok(json::ok(&ClaimView {
        href: path(target, &claim.id),
        ttl: claim.ttl.as_secs(),
        age: claim.age.as_secs(),
        messages: MessageView::all(call, target, &messages),
    }))
}

/// `PATCH …/claims/{id}`.
pub(super) async fn renew(
    call: &Call,
    body: Body,
    target: &Target,
    id: &str,
) -> Result<Response, ApiError> {
    let bytes = call.read(body, SMALL).await?;
    let Times { ttl, grace } = Times::of(&json::parse_object(&bytes)?, &call.service.options)?;
    target.queue.renew(&parse(id)?, ttl, grace).await?;
    Ok(json::nothing())
}

/// `DELETE …/claims/{id}`.
pub(super) async fn release(target: &Target, id: &str) -> Result<Response, ApiError> {
    if let Ok(id) = id.parse() {
        target.queue.release(&id).await?;
    }
    Ok(json::nothing())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_have_defaults_and_ranges() {
        let options = ServiceOptions::default();
        let of = |body: Value| Times::of(body.as_object().unwrap(), &options);
        let times = of(json!({})).unwrap();
        assert_eq!((times.ttl.as_secs(), times.grace.as_secs()), (300, 60));
        for wrong in [
            json!({"ttl": 59}),
            json!({"ttl": 43_201}),
            json!({"grace": 59}),
            json!({"grace": "60"}),
            json!({"ttl": null}),
        ] {
            assert!(of(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
