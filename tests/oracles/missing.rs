//! Missing (Q1): somebody asked by its id for a message that was there for certain, and did not get it.

use super::{Answer, Facts, History, What};

pub(crate) fn check(history: &History, facts: &Facts<'_>) -> Vec<String> {
    let mut breaches = Vec::new();
    for entry in &history.entries {
        let What::Get { ids, answer: Answer::Done(found) } = &entry.what else { continue };
        for id in ids.iter().filter(|id| found.iter().all(|seen| seen.id != **id)) {
            let Some(fact) = facts.of_id(id) else { continue };
            if fact.queue == entry.queue && fact.is_there(entry.began, entry.ended) {
                breaches.push(format!("{} did not get {id} at {}", entry.by, entry.ended));
            }
        }
    }
    breaches
}
