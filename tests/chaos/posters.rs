//! Who posts: each poster one message at a time, at moments that are set beforehand, so that a stall
//! is charged for all the posts that it held up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::client::Client;
use super::events::{Origin, event};
use super::round::{Round, name};
use super::timeline::Posted;
use crate::oracles::{Answer, What};

/// Posters of a run; one in [`JOBS`] posts what is claimed, the others what is read.
pub(crate) const POSTERS: usize = 16;
const JOBS: usize = 4;
/// One job in so many is delayed, for one or two seconds.
const DELAYED: u32 = 5;
/// One post in so many is the last one at its service for now.
const MOVES: u32 = 100;
/// Lives of messages, in seconds: beyond the end of a round. Workers post what lives for a moment only;
/// a service does not take lives below a minute.
const LIFE: u64 = 3600;

/// Posts until the round ends.
pub(super) async fn post(round: Arc<Round>, number: usize) {
    let stage = Arc::clone(&round.stage);
    let mut rng = round.rng(number);
    let mut client = Client::new(&stage.services, number);
    let of_jobs = number.is_multiple_of(JOBS);
    let queue = if of_jobs { &round.jobs } else { &round.events };
    let path = format!("/v2/queues/{queue}/messages");
    let pace = Duration::from_secs_f64(POSTERS as f64 / stage.plan.rate);
    let first = round.from() + pace.mul_f64(number as f64 / POSTERS as f64);
    let until = round.from() + stage.plan.round;
    let producer = (round.number * POSTERS + number) as u64;
    for seq in 1.. {
        let meant = first + pace.mul_f64((seq - 1) as f64);
        // Behind schedule it goes on at once until it has made up for it, or the round is over.
        sleep_until(meant).await;
        if meant.max(Instant::now()) >= until {
            return;
        }
        let origin = Origin { producer, seq };
        let delay = if of_jobs && rng.u32(..DELAYED) == 0 { rng.u64(1..=2) } else { 0 };
        let body: Value = serde_json::from_str(&event(stage.plan.seed, origin)).unwrap_or_default();
        let post = json!({"messages": [{"body": body, "ttl": LIFE, "delay": delay}]});
        let began = stage.origin.ms();
        let answer = client.ask(Method::POST, &path, Some(&post)).await;
        let ended = Instant::now();
        let answer = match answer.expect(&[StatusCode::CREATED]) {
            Ok((_, posted)) => {
                let href = posted["resources"][0].as_str().unwrap_or_default();
                let id = href.rsplit('/').next().unwrap_or_default().to_owned();
                round.is_stored(&id, of_jobs, &mut rng);
                Answer::Done(vec![id])
            }
            Err(failure) => {
                stage.note_failure(&failure);
                failure.into_answer()
            }
        };
        let is_acked = matches!(answer, Answer::Done(_));
        let counter = if is_acked { &stage.progress.acked } else { &stage.progress.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        let since = |at: Instant| at.duration_since(stage.origin.at);
        stage.line().posts.push(Posted { meant: since(meant), ended: since(ended), is_acked });
        let (ttl, delay) = (LIFE * 1000, delay * 1000);
        let what = What::Post { messages: vec![name(origin)], ttl, delay, key: None, answer };
        round.note(format!("poster {number}"), began, queue, what);
        if rng.u32(..MOVES) == 0 {
            client.move_on();
        }
    }
}
