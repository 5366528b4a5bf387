//! `GET /v2/queues/{q}/stats`.

use std::time::Duration;

use axum::response::Response;
use serde::Serialize;

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
    let now = Duration::from_millis(call.service.clock.now_ms());
    let end = |message: &Message| End {
        href: format!("{}/messages/{}", target.path(), message.id),
        age: message.age.as_secs(),
        created: utc(now.saturating_sub(message.age).as_secs()),
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

/// Seconds since the Unix epoch as `YYYY-MM-DDThh:mm:ssZ`.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days are counted from 1 March of year 0, so that a leap day ends its year: civil_from_days
    // in Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms".
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_767_225_600), "2026-01-01T00:00:00Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
    }
}
