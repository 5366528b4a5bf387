//! Producers.

use std::time::Duration;

use fastrand::Rng;
use futures_util::future::join_all;
use roundelay::{ContentType, IdempotencyKey, MessageId, NewMessage};

use super::super::recorder::{answer, unheard};
use super::{AGAIN, LONG, MAIN, SHORT, State, Turn};
use crate::oracles::What;

/// Keys that are repeated: the latest ones.
const RECENT: usize = 12;
/// Attempts at one post with a key.
const TRIES: u32 = 3;

/// A post.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    queue: &'static str,
    names: Vec<String>,
    ttl: Duration,
    delay: Duration,
    key: Option<String>,
}

pub(super) async fn produce(turn: Turn<'_>, state: &mut State, number: usize) {
    // Some at the same time: they go into one block, or into several in flight; these above all where
    // some are lost.
    let is_storm = turn.process.losses.iter().any(|losses| losses.are_any());
    let count = match is_storm {
        true => turn.rng.usize(4..10),
        false if turn.rng.u32(..4) == 0 => turn.rng.usize(2..6),
        false => 1,
    };
    let mut posts: Vec<Post> = Vec::new();
    for _ in 0..count {
        let post = draw(turn.rng, state, number);
        posts.push(post);
    }
    let is_keyed = count == 1 && turn.rng.u32(..5) == 0 && posts.iter().all(|p| p.queue == MAIN);
    if is_keyed && let Some(post) = posts.pop() {
        return keyed(turn, post).await;
    }
    let turn = &turn;
    join_all(posts.into_iter().enumerate().map(async |(place, post)| {
        let apart = if is_storm { place / 3 } else { place };
        for _ in 0..apart {
            // So that not all go into the same block.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        send(turn, &post).await;
    }))
    .await;
}

fn draw(rng: &mut Rng, state: &mut State, number: usize) -> Post {
    let count = if rng.u32(..12) == 0 { rng.u64(8..20) } else { rng.u64(1..4) };
    let names = (0..count).map(|n| format!("p{number}:{}", state.posted + n)).collect();
    state.posted += count;
    let mut post = Post { queue: MAIN, names, ttl: LONG, delay: Duration::ZERO, key: None };
    match rng.u32(..20) {
        0..3 => {
            post.queue = SHORT;
            post.ttl = Duration::from_millis(rng.u64(300..3_000));
            if rng.bool() {
                post.delay = Duration::from_millis(rng.u64(100..1_500));
            }
        }
        3..5 => post.queue = AGAIN,
        5 => post.delay = Duration::from_millis(rng.u64(100..1_500)),
        _ => {}
    }
    post
}

/// Posts with a key, until it is answered: a new one, or one that anybody used lately.
async fn keyed(turn: Turn<'_>, mut post: Post) {
    {
        let mut known = turn.shared.known();
        let back = turn.rng.usize(..2 * RECENT);
        if let Some(before) = known.keys.iter().rev().take(RECENT).nth(back) {
            post = before.clone();
        } else {
            post.key = Some(format!("key-{}", post.names.first().map_or("", String::as_str)));
            known.keys.push(post.clone());
        }
    }
    for _ in 0..TRIES {
        if send(&turn, &post).await {
            return;
        }
    }
}

/// Whether it was acked.
async fn send(turn: &Turn<'_>, post: &Post) -> bool {
    let messages: Vec<NewMessage> = post.names.iter().map(|name| message(name, post)).collect();
    let queue = turn.queue(post.queue);
    let (ttl, delay) = (post.ttl.as_millis() as u64, post.delay.as_millis() as u64);
    let (names, key) = (post.names.clone(), post.key.clone());
    let what = What::Post { messages: names, ttl, delay, key, answer: unheard() };
    let call = turn.recorder().begin(turn.name, post.queue, what);
    let result = match &post.key {
        Some(key) => {
            let key = IdempotencyKey::new(key).expect("a key");
            queue.post_once(&key, messages, None).await
        }
        None => queue.post(messages, None).await,
    };
    let ids: Vec<MessageId> = result.as_ref().map(Clone::clone).unwrap_or_default();
    let is_acked = result.is_ok();
    call.end(|what| {
        if let What::Post { answer: told, .. } = what {
            *told = answer(result.map(|ids| ids.iter().map(ToString::to_string).collect()));
        }
    });
    let mut known = turn.shared.known();
    known.ids.extend(ids.into_iter().map(|id| (post.queue, id)));
    is_acked
}

fn message(name: &str, post: &Post) -> NewMessage {
    let message = NewMessage::new(ContentType::Text, name.to_owned()).expect("a short body");
    let message = message.with_ttl(post.ttl).expect("a ttl");
    message.with_delay(post.delay).expect("a delay")
}
