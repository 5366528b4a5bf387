//! Who reads: walks from marker to marker with pages of changing sizes, at one service and another.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use hyper::{Method, StatusCode};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::client::Client;
use super::events::recognise;
use super::round::{Round, done, name};
use super::services::MAX_PAGE;
use crate::oracles::{Answer, Seen, What};

/// How often to look for more.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Empty pages in a row after which a walk has come to the end.
const EMPTY_PAGES: usize = 3;
/// How long a walk may go on after nothing more is posted.
const TO_THE_END: Duration = Duration::from_secs(60);
/// One page in so many is the last one at its service for now.
const MOVES: u32 = 20;

/// A walk, and how far it is.
pub(super) struct Walk {
    pub(super) number: u64,
    pub(super) by: String,
    pub(super) queue: String,
    /// Where it starts; none: at the oldest message.
    pub(super) marker: Option<String>,
}

/// Follows the queue until `over` says that nothing more comes, and then to its end. Returns a marker
/// that it met on the way, or why it did not come to the end.
pub(super) async fn follow(
    round: Arc<Round>,
    mut walk: Walk,
    mut over: watch::Receiver<bool>,
) -> Result<Option<String>, String> {
    let mut rng = round.rng(1000 + walk.number as usize);
    let mut client = Client::new(&round.stage.services, walk.number as usize);
    let (mut empty, mut deadline, mut met) = (0, None, None);
    while empty < EMPTY_PAGES {
        let is_over = *over.borrow_and_update();
        if is_over && Instant::now() > *deadline.get_or_insert_with(|| Instant::now() + TO_THE_END)
        {
            return Err(format!("{} did not come to the end within {TO_THE_END:?}", walk.by));
        }
        let found = page(&round, &mut walk, &mut client, &mut rng).await;
        if rng.u32(..MOVES) == 0 {
            met = walk.marker.clone();
            client.move_on();
        }
        empty = match found {
            Some(0) if is_over => empty + 1,
            _ => 0,
        };
        if !matches!(found, Some(1..)) {
            sleep(LOOK_AGAIN).await;
        }
    }
    Ok(met)
}

/// Asks for the next page; how many messages were on it, or `None` if it failed.
async fn page(round: &Round, walk: &mut Walk, client: &mut Client, rng: &mut Rng) -> Option<usize> {
    // Most pages are short, as most are.
    let share = rng.f64();
    let limit = 1 + (MAX_PAGE as f64 * share * share) as usize;
    let mut path = format!(
        "/v2/queues/{}/messages?echo=true&include_claimed=true&include_delayed=true&limit={limit}",
        walk.queue
    );
    if let Some(marker) = &walk.marker {
        path.push_str(&format!("&marker={marker}"));
    }
    let began = round.stage.origin.ms();
    let answer = client.ask(Method::GET, &path, None).await.expect(&[StatusCode::OK]);
    let marker = walk.marker.clone();
    let (next, answer) = match answer {
        Ok((_, page)) => {
            let next = page["links"][0]["href"].as_str().and_then(marker_in);
            (next.or(walk.marker.clone()), Answer::Done(seen_in(round, &page)))
        }
        Err(failure) => {
            round.stage.note_repeated(&failure);
            (None, failure.into_answer())
        }
    };
    let found = done(&answer).map(Vec::len);
    if found.is_some() {
        walk.marker.clone_from(&next);
    }
    let what = What::List { walk: walk.number, marker, next, everything: true, answer };
    round.note(walk.by.clone(), began, &walk.queue, what);
    found
}

/// The marker that a link to the next page has.
fn marker_in(href: &str) -> Option<String> {
    let (_, query) = href.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix("marker=")).map(str::to_owned)
}

/// What is on a page.
pub(super) fn seen_in(round: &Round, page: &Value) -> Vec<Seen> {
    let messages = page["messages"].as_array().into_iter().flatten();
    messages.map(|message| seen(round, message)).collect()
}

/// A message as an answer shows it. One whose body is not what was sent has a name that nobody posted.
pub(super) fn seen(round: &Round, message: &Value) -> Seen {
    let body = message["body"].to_string();
    let name = match recognise(round.stage.plan.seed, body.as_bytes()) {
        Some((origin, true)) => name(origin),
        Some((origin, false)) => format!("a changed {}", name(origin)),
        None => format!("a stranger of {} bytes", body.len()),
    };
    let claimed = message["href"].as_str().is_some_and(|href| href.contains("claim_id="));
    let id = message["id"].as_str().unwrap_or_default().to_owned();
    Seen { name, id, claimed }
}
