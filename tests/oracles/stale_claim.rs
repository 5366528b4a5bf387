//! Stale claim (Q7): a claim that was over for certain took effect: a delete or a renewal under it was
//! answered as done.

use std::collections::BTreeMap;

use super::facts::NEVER;
use super::{Answer, Effect, Facts, History, What};

pub(crate) fn check(history: &History, facts: &Facts<'_>) -> Vec<String> {
    let over = over(history);
    let mut breaches = Vec::new();
    for entry in &history.entries {
        let (claim, what) = match &entry.what {
            What::Delete { id, claim: Some(claim), answer: Answer::Done(Effect::Done) } => {
                if facts.of_id(id).is_some_and(|fact| fact.excused) {
                    continue;
                }
                (claim, format!("deleted {id}"))
            }
            What::Renew { claim, answer: Answer::Done(Effect::Done), .. } => {
                (claim, "was renewed".into())
            }
            _ => continue,
        };
        if let Some(over) = over.get(claim.as_str())
            && *over < entry.began
        {
            breaches
                .push(format!("{claim} was over at {over} and {what}, asked at {}", entry.began));
        }
    }
    breaches
}

/// When each claim was over at the latest: a renewal that was answered as done before that begins its
/// time anew, and one whose outcome is unknown may do so at any time. One that was refused before that
/// may have begun it anew on some nodes: where clocks differ the claim was over on others only, and a node
/// that is away then does not hear that it ended.
fn over(history: &History) -> BTreeMap<&str, u64> {
    let mut over: BTreeMap<&str, u64> = BTreeMap::new();
    let mut released: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in &history.entries {
        let until = |ttl: &u64| entry.ended.saturating_add(*ttl).saturating_add(history.late);
        match &entry.what {
            What::Claim { ttl, answer: Answer::Done(Some(granted)), .. } => {
                over.entry(&granted.claim).or_insert(until(ttl));
            }
            What::Renew { claim, ttl, answer, .. } => {
                let Some(at) = over.get_mut(claim.as_str()) else { continue };
                match answer {
                    Answer::Done(_) if *at >= entry.began => *at = until(ttl).max(*at),
                    Answer::Unknown(_) => *at = NEVER,
                    Answer::Done(_) | Answer::Refused(_) | Answer::NotApplied(_) => {}
                }
            }
            What::Release { claim, answer: Answer::Done(()) } => {
                let at = released.entry(claim).or_insert(NEVER);
                *at = (*at).min(entry.ended);
            }
            _ => {}
        }
    }
    for (claim, at) in &mut over {
        *at = (*at).min(released.get(claim).copied().unwrap_or(NEVER));
    }
    over
}
