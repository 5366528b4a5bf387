//! `GET /v2/queues/{q}/stats`.

use std::time::Duration;

use axum::response::Response;
use serde::Serialize;

use super::date;
use super::error::ApiError;
use super::json;
use super::routes::{Call, Target};
use crate::Message;

#[derive(Serialize)]
struct Stats {
    messages: Counts,
}

#[derive(Serialize)]
struct Counts {
    claimed: u64,
    free: u64,
    total: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<End>,
    #[serde(skip_serializing_if = "Option::is_none")]
    newest: Option<End>,
}

/// A message at one end of the queue.
#[derive(Serialize)]
struct End {
    href: String,
    age: u64,
    created: String,
}

pub(super) async fn show(call: &Call, target: &Target) -> Result<Response, ApiError> {
    let stats = target.queue.stats().await?;
    let now = Duration::from_millis(call.service.gate.now_ms());
    let end = |message: &Message| End {
        href: format!("{}/messages/{}", target.path(), message.id),
        age: message.age.as_secs(),
        created: format!("{}Z", date::utc(now.saturating_sub(message.age).as_secs())),
    };
    Ok(json::ok(&Stats {
        messages: Counts {
            claimed: stats.claimed,
            free: stats.active + stats.delayed,
            total: stats.total(),
            oldest: stats.oldest.as_ref().map(end),
            newest: stats.newest.as_ref().map(end),
        },
    }))
}
