//! Who deletes, who looks, and who makes and deletes queues.

use roundelay::Metadata;

use super::super::recorder::{answer, seen, unheard};
use super::claiming;
use super::reading;
use super::{AGAIN, MAIN, SHORT, Turn};
use crate::oracles::{Counts, What};

/// Ids among which one is chosen: the latest ones.
const RECENT: usize = 100;

/// Deletes a message that was posted, or takes some out.
pub(super) async fn delete(mut turn: Turn<'_>) {
    if turn.rng.u32(..5) == 0 {
        return pop(turn, AGAIN).await;
    }
    let Some((name, id)) = any(&mut turn) else { return };
    let queue = turn.queue(name);
    claiming::delete(turn.recorder(), (turn.name, name), &queue, &id, None).await;
}

fn any(turn: &mut Turn<'_>) -> Option<(&'static str, roundelay::MessageId)> {
    let known = turn.shared.known();
    let recent = known.ids.len().min(RECENT);
    known.ids.iter().rev().nth(turn.rng.usize(..recent.max(1))).copied()
}

async fn pop(turn: Turn<'_>, name: &'static str) {
    let queue = turn.queue(name);
    let call = turn.recorder().begin(turn.name, name, What::Pop { answer: unheard() });
    let result = queue.pop(turn.rng.usize(1..4)).await;
    call.end(|what| {
        if let What::Pop { answer: told } = what {
            *told = answer(result.map(|messages| seen(&messages)));
        }
    });
}

/// Looks at what is there.
pub(super) async fn look(mut turn: Turn<'_>) {
    match turn.rng.u32(..4) {
        0 => stats(&turn, MAIN).await,
        1 => {
            let Some((name, id)) = any(&mut turn) else { return };
            let queue = turn.queue(name);
            let what = What::Get { ids: vec![id.to_string()], answer: unheard() };
            let call = turn.recorder().begin(turn.name, name, what);
            let result = queue.get(&[id]).await;
            call.end(|what| {
                if let What::Get { answer: told, .. } = what {
                    *told = answer(result.map(|messages| seen(&messages)));
                }
            });
        }
        2 => reading::ready(turn, SHORT).await,
        _ => reading::ready(turn, MAIN).await,
    }
}

async fn stats(turn: &Turn<'_>, name: &'static str) {
    let queue = turn.queue(name);
    count(turn.recorder(), turn.name, name, &queue).await;
}

/// Counts a queue's messages.
pub(crate) async fn count(
    recorder: &super::super::recorder::Recorder,
    by: &str,
    name: &str,
    queue: &roundelay::Queue,
) {
    let call = recorder.begin(by, name, What::Stats { answer: unheard() });
    let result = queue.stats().await;
    call.end(|what| {
        if let What::Stats { answer: told } = what {
            *told = answer(result.map(|stats| Counts {
                active: stats.active,
                claimed: stats.claimed,
                delayed: stats.delayed,
            }));
        }
    });
}

/// Makes the queue that comes and goes, or deletes it.
pub(super) async fn administrate(turn: Turn<'_>) {
    let queue = turn.queue(AGAIN);
    if turn.rng.bool() {
        let call = turn.recorder().begin(turn.name, AGAIN, What::Create { answer: unheard() });
        let result = queue.create(&Metadata::default()).await;
        call.end(|what| {
            if let What::Create { answer: told } = what {
                *told = answer(result);
            }
        });
    } else {
        let call = turn.recorder().begin(turn.name, AGAIN, What::Remove { answer: unheard() });
        let result = queue.delete().await;
        call.end(|what| {
            if let What::Remove { answer: told } = what {
                *told = answer(result);
            }
        });
    }
}
