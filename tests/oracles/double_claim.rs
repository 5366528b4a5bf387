//! Double claim (Q7): a message is in two claims that are live for certain at the same time.
//!
//! A claim is live for certain from when it was given to its ttl after it was asked for, unless it is
//! released in between or the message is deleted. Renewals make it longer by the same rule.

use std::collections::BTreeMap;

use super::facts::NEVER;
use super::{Answer, Effect, Facts, History, What};

/// A claim that is live for certain at this time.
#[derive(Debug)]
pub(super) struct Span<'a> {
    pub(super) claim: &'a str,
    pub(super) from: u64,
    pub(super) to: u64,
}

pub(crate) fn check(history: &History, facts: &Facts<'_>) -> Vec<String> {
    let mut breaches = Vec::new();
    for (id, spans) in spans(history) {
        for (place, second) in spans.iter().enumerate() {
            let both = |first: &&Span<'_>| {
                first.claim != second.claim && first.from.max(second.from) < first.to.min(second.to)
            };
            let Some(first) = spans[..place].iter().find(both) else { continue };
            if facts.of_id(id).is_some_and(|fact| fact.excused) {
                continue;
            }
            breaches.push(format!("{id} is in {first:?} and in {second:?}"));
        }
    }
    breaches
}

/// When claims hold messages for certain, by message id.
pub(super) fn spans(history: &History) -> BTreeMap<&str, Vec<Span<'_>>> {
    let early = history.early;
    let mut over: BTreeMap<&str, u64> = BTreeMap::new();
    let mut renewed: BTreeMap<&str, Vec<(u64, u64)>> = BTreeMap::new();
    for entry in &history.entries {
        match &entry.what {
            What::Release { claim, answer } if answer.is_possible() => {
                let at = over.entry(claim).or_insert(NEVER);
                *at = (*at).min(entry.began);
            }
            What::Renew { claim, ttl, answer: Answer::Done(Effect::Done), .. } => {
                let until = (entry.began + ttl).saturating_sub(early);
                renewed.entry(claim).or_default().push((entry.ended, until));
            }
            // Whatever time it began anew with may be shorter.
            What::Renew { claim, answer: Answer::Unknown(_), .. } => {
                let at = over.entry(claim).or_insert(NEVER);
                *at = (*at).min(entry.began);
            }
            _ => {}
        }
    }
    let mut spans: BTreeMap<&str, Vec<Span<'_>>> = BTreeMap::new();
    for entry in &history.entries {
        let What::Claim { ttl, answer: Answer::Done(Some(granted)), .. } = &entry.what else {
            continue;
        };
        let claim = granted.claim.as_str();
        let end = over.get(claim).copied().unwrap_or(NEVER);
        let first = (entry.ended, (entry.began + ttl).saturating_sub(early));
        let again = renewed.get(claim).into_iter().flatten().copied();
        for (from, to) in [first].into_iter().chain(again) {
            for seen in &granted.messages {
                spans.entry(&seen.id).or_default().push(Span { claim, from, to: to.min(end) });
            }
        }
    }
    spans
}
