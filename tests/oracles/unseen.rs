//! Unseen (Q2): a reader was told that there is nothing more, and had not been given a message that
//! had been acked before it asked.

use std::collections::BTreeSet;

use super::walks::walks;
use super::{Facts, History};

pub(crate) fn check(history: &History, facts: &Facts<'_>) -> Vec<String> {
    let mut breaches = Vec::new();
    for walk in walks(history).iter().filter(|walk| walk.is_whole()) {
        let mut given = BTreeSet::new();
        let mut told = BTreeSet::new();
        for page in &walk.pages {
            given.extend(page.seen.iter().map(|seen| seen.name.as_str()));
            if !page.seen.is_empty() {
                continue;
            }
            for (name, fact) in facts.messages.iter().filter(|(_, f)| f.queue == walk.queue) {
                let due = fact.is_there(page.began, page.ended) && !given.contains(name);
                if due && told.insert(name) {
                    let acked = fact.acked.unwrap_or_default();
                    breaches.push(format!(
                        "{}: nothing more at {}, and {name}, acked at {acked}, was not given",
                        walk.by, page.ended
                    ));
                }
            }
        }
    }
    breaches
}
