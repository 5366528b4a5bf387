//! Claimers: some finish, some give back, some are late, some forget.

use std::sync::atomic::Ordering;
use std::time::Duration;

use roundelay::{ClaimId, ClaimOptions, ErrorKind, MessageId, Queue};
use tokio::time::sleep;

use super::super::recorder::{Recorder, answer, failure, seen, unheard};
use super::{MAIN, SHORT, Turn};
use crate::oracles::{Answer, Effect, Granted, What};

/// By how much those who are late are at most.
const LATE_MS: u64 = 5_000;

pub(super) async fn claim(turn: Turn<'_>) {
    let name = if turn.rng.u32(..4) == 0 { SHORT } else { MAIN };
    let queue = turn.queue(name);
    let longest = if turn.rng.u32(..4) == 0 { 4_000 } else { 1_500 };
    let (ttl, grace) = (turn.rng.u64(300..longest), turn.rng.u64(..500));
    let options = ClaimOptions {
        ttl: Duration::from_millis(ttl),
        grace: Duration::from_millis(grace),
        limit: turn.rng.usize(1..8),
    };
    let call =
        turn.recorder().begin(turn.name, name, What::Claim { ttl, grace, answer: unheard() });
    let result = match turn.rng.u32(..5) {
        0 => {
            let wait = Duration::from_millis(turn.rng.u64(20..300));
            queue.claim_waiting(&options, None, wait).await
        }
        _ => queue.claim(&options).await,
    };
    let claim = result.as_ref().ok().and_then(Clone::clone);
    call.end(|what| {
        if let What::Claim { answer: told, .. } = what {
            *told = answer(result.map(|claim| {
                let claim = claim?;
                Some(Granted { claim: claim.id.to_string(), messages: seen(&claim.messages) })
            }));
        }
    });
    let Some(claim) = claim else { return };
    let ids: Vec<MessageId> = claim.messages.iter().map(|message| message.id).collect();
    match turn.rng.u32(..10) {
        // Works, and is done.
        0..6 => sleep(Duration::from_millis(turn.rng.u64(..ttl / 2))).await,
        6 => {
            sleep(Duration::from_millis(turn.rng.u64(..ttl))).await;
            return release(&turn, name, &queue, &claim.id).await;
        }
        7 => {
            sleep(Duration::from_millis(turn.rng.u64(..ttl))).await;
            renew(&turn, name, &queue, &claim.id, ttl).await;
            sleep(Duration::from_millis(turn.rng.u64(..ttl / 2))).await;
        }
        // Is late, often by more than anything may have been under way, and does not know it.
        8 => {
            let late = turn.world.late.load(Ordering::Relaxed).min(LATE_MS);
            sleep(Duration::from_millis(ttl + late + turn.rng.u64(..1_000))).await;
            if turn.rng.bool() {
                renew(&turn, name, &queue, &claim.id, ttl).await;
            }
        }
        // Dies.
        _ => return,
    }
    for id in &ids {
        delete(turn.recorder(), (turn.name, name), &queue, id, Some(&claim.id)).await;
    }
}

async fn release(turn: &Turn<'_>, name: &str, queue: &Queue, id: &ClaimId) {
    let what = What::Release { claim: id.to_string(), answer: unheard() };
    let call = turn.recorder().begin(turn.name, name, what);
    let result = queue.release(id).await;
    call.end(|what| {
        if let What::Release { answer: told, .. } = what {
            *told = answer(result);
        }
    });
}

async fn renew(turn: &Turn<'_>, name: &str, queue: &Queue, id: &ClaimId, ttl: u64) {
    let what = What::Renew { claim: id.to_string(), ttl, grace: 0, answer: unheard() };
    let call = turn.recorder().begin(turn.name, name, what);
    let result = queue.renew(id, Duration::from_millis(ttl), Duration::ZERO).await;
    call.end(|what| {
        if let What::Renew { answer: told, .. } = what {
            *told = effect(result.map(|()| true));
        }
    });
}

/// Deletes one message.
pub(super) async fn delete(
    recorder: &Recorder,
    (by, name): (&str, &str),
    queue: &Queue,
    id: &MessageId,
    claim: Option<&ClaimId>,
) {
    let named = claim.map(ToString::to_string);
    let what = What::Delete { id: id.to_string(), claim: named, answer: unheard() };
    let call = recorder.begin(by, name, what);
    let result = queue.delete_message(id, claim).await;
    call.end(|what| {
        if let What::Delete { answer: told, .. } = what {
            *told = effect(result);
        }
    });
}

fn effect(result: Result<bool, roundelay::Error>) -> Answer<Effect> {
    use roundelay::Outcome::NotApplied;
    match result {
        Ok(true) => Answer::Done(Effect::Done),
        Ok(false) => Answer::Done(Effect::Absent),
        Err(error) => match (error.kind(), error.outcome()) {
            (ErrorKind::MessageClaimed, NotApplied) => Answer::Done(Effect::Claimed),
            (ErrorKind::MessageNotClaimed | ErrorKind::ClaimNotFound, NotApplied) => {
                Answer::Done(Effect::NotHeld)
            }
            _ => failure(&error),
        },
    }
}
