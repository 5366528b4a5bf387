//! Who deletes what was just posted, and who looks again later: what was deleted must be gone, what
//! was not must be there.

use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::client::Client;
use super::readers::seen;
use super::round::Round;
use crate::oracles::{Answer, Effect, What};

/// How long a delete, or a look, that failed is left alone.
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// How often it is tried.
const TRIES: usize = 20;

/// What is to be done with a message, and when.
#[derive(Debug, Clone)]
pub(super) enum Errand {
    Delete { id: String, at: Instant },
    Look { id: String, at: Instant },
}

/// Does errands in the order in which they come, until there are no more.
pub(super) async fn run(
    round: Arc<Round>,
    number: usize,
    mut errands: mpsc::UnboundedReceiver<Errand>,
) {
    let mut client = Client::new(&round.stage.services, number);
    let by = format!("deleter {number}");
    while let Some(errand) = errands.recv().await {
        match errand {
            Errand::Delete { id, at } => {
                sleep_until(at).await;
                for _ in 0..TRIES {
                    if delete(&round, &mut client, &by, &id).await {
                        // At once, and by somebody who was not told.
                        client.move_on();
                        look(&round, &mut client, &by, &id).await;
                        break;
                    }
                    sleep(TRY_AGAIN).await;
                }
            }
            Errand::Look { id, at } => {
                sleep_until(at).await;
                for _ in 0..TRIES {
                    if look(&round, &mut client, &by, &id).await {
                        break;
                    }
                    sleep(TRY_AGAIN).await;
                }
            }
        }
    }
}

async fn delete(round: &Round, client: &mut Client, by: &str, id: &str) -> bool {
    let path = format!("/v2/queues/{}/messages/{id}", round.events);
    let began = round.stage.origin.ms();
    let answer = client.ask(Method::DELETE, &path, None).await.expect(&[StatusCode::NO_CONTENT]);
    let answer = match answer {
        Ok(_) => Answer::Done(Effect::Done),
        Err(failure) => {
            round.stage.note_repeated(&failure);
            failure.into_answer()
        }
    };
    let is_done = matches!(answer, Answer::Done(_));
    let what = What::Delete { id: id.to_owned(), claim: None, answer };
    round.note(by.to_owned(), began, &round.events, what);
    is_done
}

async fn look(round: &Round, client: &mut Client, by: &str, id: &str) -> bool {
    let path = format!("/v2/queues/{}/messages/{id}", round.events);
    let began = round.stage.origin.ms();
    let fine = [StatusCode::OK, StatusCode::NOT_FOUND];
    let answer = match client.ask(Method::GET, &path, None).await.expect(&fine) {
        Ok((StatusCode::OK, message)) => Answer::Done(vec![seen(round, &message)]),
        Ok(_) => Answer::Done(Vec::new()),
        Err(failure) => {
            round.stage.note_repeated(&failure);
            failure.into_answer()
        }
    };
    let is_done = matches!(answer, Answer::Done(_));
    let what = What::Get { ids: vec![id.to_owned()], answer };
    round.note(by.to_owned(), began, &round.events, what);
    is_done
}
