//! Progress (Q10): while at most one node is faulty, and the pool had time to mend what was before,
//! every call succeeds, and soon.

use std::collections::BTreeSet;

use super::facts::NEVER;
use super::{Answer, Entry, Facts, History, UNHEARD, What};

/// A node that is faulty, and may still be mended some time after.
#[derive(Clone, Copy)]
struct Trouble {
    node: usize,
    from: u64,
    to: u64,
    mended: u64,
}

/// What one node forgot is made good with the others' votes: as long as another one is faulty too that may
/// have to wait, and takes its time from when that is over.
fn mended_with_others(troubles: &[Trouble], settle: u64) -> Vec<Trouble> {
    let mended = |of: &Trouble| {
        let mut mended = of.mended;
        let others = || troubles.iter().filter(|other| other.node != of.node);
        let holds_up = |other: &&Trouble, mended| {
            of.from <= other.to && other.from <= mended && other.to.saturating_add(settle) > mended
        };
        while let Some(other) = others().find(|other| holds_up(other, mended)) {
            mended = other.to.saturating_add(settle);
        }
        mended
    };
    troubles.iter().map(|trouble| Trouble { mended: mended(trouble), ..*trouble }).collect()
}

pub(crate) fn check(history: &History, _: &Facts<'_>) -> Vec<String> {
    if history.patience == 0 {
        return Vec::new();
    }
    let troubles: Vec<Trouble> = history
        .entries
        .iter()
        .filter_map(|entry| match &entry.what {
            What::Fault { node, .. } => Some(Trouble {
                node: *node,
                from: entry.began,
                to: entry.ended,
                mended: entry.ended.saturating_add(history.settle),
            }),
            What::Excuse => {
                Some(Trouble { node: usize::MAX, from: entry.began, to: NEVER, mended: NEVER })
            }
            _ => None,
        })
        .collect();
    let troubles = mended_with_others(&troubles, history.settle);
    let mut breaches = Vec::new();
    for entry in &history.entries {
        let Some(failed) = outcome(entry) else { continue };
        let took = entry.ended - entry.began;
        let is_fine = failed.is_none() && took <= history.patience;
        if is_fine || is_excused(entry, &troubles) || queue_may_go(history, entry) {
            continue;
        }
        let how = failed.unwrap_or("it was done");
        breaches.push(format!("{}: {} ms from {}: {how}", entry.by, took, entry.began));
    }
    breaches
}

/// Whether more than one node was faulty meanwhile, or had been just before.
fn is_excused(entry: &Entry, troubles: &[Trouble]) -> bool {
    // A node that is being mended when another one fails is a second faulty one.
    let near = |trouble: &&Trouble| trouble.from <= entry.ended && entry.began <= trouble.mended;
    let near: Vec<&Trouble> = troubles.iter().filter(near).collect();
    let nodes: BTreeSet<usize> = near.iter().map(|trouble| trouble.node).collect();
    nodes.len() > 1 || near.iter().any(|trouble| trouble.node == usize::MAX || trouble.to == NEVER)
}

/// Whether the queue was being deleted meanwhile: what becomes of calls then is another matter.
fn queue_may_go(history: &History, entry: &Entry) -> bool {
    history.entries.iter().any(|other| {
        matches!(other.what, What::Remove { .. })
            && other.queue == entry.queue
            && other.began <= entry.ended
            && entry.began <= other.ended
    })
}

/// Of what clients need: why it failed, if it did.
fn outcome(entry: &Entry) -> Option<Option<&str>> {
    fn failure<T>(answer: &Answer<T>) -> Option<&str> {
        match answer {
            Answer::Done(_) | Answer::Refused(_) => None,
            // Its queue was deleted, or its client died.
            Answer::Unknown(why) if why.starts_with("QueueNotFound") || why == UNHEARD => None,
            Answer::NotApplied(why) | Answer::Unknown(why) => Some(why),
        }
    }
    match &entry.what {
        What::Post { answer, .. } => Some(failure(answer)),
        What::List { answer, .. } => Some(failure(answer)),
        What::Get { answer, .. } => Some(failure(answer)),
        What::Claim { answer, .. } => Some(failure(answer)),
        What::Renew { answer, .. } => Some(failure(answer)),
        What::Release { answer, .. } => Some(failure(answer)),
        What::Delete { answer, .. } => Some(failure(answer)),
        What::Pop { answer } => Some(failure(answer)),
        What::Stats { answer } => Some(failure(answer)),
        What::Create { .. }
        | What::Remove { .. }
        | What::Census { .. }
        | What::Fault { .. }
        | What::Disturbed { .. }
        | What::Chosen { .. }
        | What::Excuse
        | What::Quiet => None,
    }
}
