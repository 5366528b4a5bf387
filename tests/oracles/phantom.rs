//! Phantom (Q5): somebody was given what is not in the log: never sent, refused, under another id than
//! was acked, or gone for no reason afterwards.

use std::collections::BTreeSet;

use super::facts::seen;
use super::walks::walks;
use super::{Facts, History};

pub(crate) fn check(history: &History, facts: &Facts<'_>) -> Vec<String> {
    let mut breaches = BTreeSet::new();
    for entry in &history.entries {
        for seen in seen(entry) {
            let name = &seen.name;
            let Some(fact) = facts.messages.get(name.as_str()) else {
                breaches.insert(format!("{name} was given to {} and never posted", entry.by));
                continue;
            };
            if !fact.is_possible {
                breaches.insert(format!("{name} was given to {} and had been refused", entry.by));
            }
            if fact.queue != entry.queue {
                breaches.insert(format!("{name} of {} was found in {}", fact.queue, entry.queue));
            }
            if entry.ended < fact.began {
                breaches.insert(format!("{name} was given to {} before it was sent", entry.by));
            }
            if !fact.ids.is_empty() && !fact.ids.contains(seen.id.as_str()) {
                let ids = &fact.ids;
                breaches.insert(format!("{name} was acked as {ids:?} and given as {}", seen.id));
            }
        }
    }
    breaches.extend(vanished(history, facts));
    breaches.into_iter().collect()
}

/// What some reader got and is not there in the end. What was acked is looked for by `lost`.
fn vanished(history: &History, facts: &Facts<'_>) -> Vec<String> {
    let walks = walks(history);
    let mut breaches = Vec::new();
    for last in walks.iter().filter(|walk| walk.is_whole() && walk.is_final(history)) {
        let found: BTreeSet<&str> = last.seen().map(|seen| seen.name.as_str()).collect();
        let Some(end) = last.pages.last().map(|page| page.ended) else { continue };
        let earlier = history.entries.iter().filter(|entry| entry.queue == last.queue);
        let given: BTreeSet<&str> = earlier.flat_map(seen).map(|seen| seen.name.as_str()).collect();
        for name in given.difference(&found) {
            let Some(fact) = facts.messages.get(name) else { continue };
            if fact.acked.is_none() && fact.gone_from > end && !fact.excused {
                breaches.push(format!("{name} had been given, and {} does not find it", last.by));
            }
        }
    }
    breaches
}
