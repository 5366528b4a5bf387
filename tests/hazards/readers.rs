//! Who reads: walks from marker to marker, each on a store of its own, from the start.

use std::time::Duration;

use roundelay::{ErrorKind, ListOptions, Store};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::events::{Origin, recognise};
use super::{Complaints, queue};

/// How often to look for more.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Pages in a row with nothing on them, after which a walk has come to the end.
const EMPTY_PAGES: usize = 3;
/// How long a walk may go on after the posting is over.
const TO_THE_END: Duration = Duration::from_secs(60);

/// A message as a reader saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) id: String,
    /// Where it comes from, and whether the body is what was sent; `None`: nothing of ours.
    pub(crate) event: Option<(Origin, bool)>,
}

/// What one reader saw, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Walk {
    pub(crate) name: String,
    pub(crate) seen: Vec<Seen>,
    pub(crate) complaints: Complaints,
    /// Losses told, and what kept it from coming to the end.
    pub(crate) failures: Vec<String>,
}

/// Follows the queue until `over` says that nothing more comes, and then to its end.
pub(crate) async fn follow(
    store: Store,
    page: usize,
    seed: u64,
    name: String,
    mut over: watch::Receiver<bool>,
) -> Walk {
    let queue = queue(&store);
    let mut walk = Walk { name, ..Walk::default() };
    let mut options = ListOptions { limit: page, include_claimed: true, ..ListOptions::default() };
    let mut empty = 0;
    let mut deadline = None;
    while empty < EMPTY_PAGES {
        let is_over = *over.borrow_and_update();
        if is_over && Instant::now() > *deadline.get_or_insert_with(|| Instant::now() + TO_THE_END)
        {
            walk.failures.push(format!("it did not come to the end within {TO_THE_END:?}"));
            break;
        }
        match queue.list(&options).await {
            Ok(page) => {
                empty = if is_over && page.messages.is_empty() { empty + 1 } else { 0 };
                let idle = page.messages.is_empty();
                walk.seen.extend(page.messages.iter().map(|message| Seen {
                    id: message.id.to_string(),
                    event: recognise(seed, &message.body),
                }));
                if page.marker.is_some() {
                    options.marker = page.marker;
                }
                if idle {
                    sleep(LOOK_AGAIN).await;
                }
            }
            Err(error) => {
                empty = 0;
                if error.kind() == ErrorKind::Lost {
                    walk.failures.push(error.to_string());
                } else if error.is_retryable() {
                    walk.complaints.note(&error);
                } else {
                    walk.failures.push(format!("{error:?}"));
                    break;
                }
                sleep(LOOK_AGAIN).await;
            }
        }
    }
    store.close().await;
    walk
}
