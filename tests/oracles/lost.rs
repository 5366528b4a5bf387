//! Lost (Q1): acked, not ended, and when all is quiet nobody finds it.

use std::collections::BTreeSet;

use super::facts::NEVER;
use super::walks::walks;
use super::{Facts, History};

pub(crate) fn check(history: &History, facts: &Facts<'_>) -> Vec<String> {
    let walks = walks(history);
    let finals: Vec<_> =
        walks.iter().filter(|walk| walk.is_whole() && walk.is_final(history)).collect();
    let found: BTreeSet<&str> =
        finals.iter().flat_map(|walk| walk.seen()).map(|seen| seen.name.as_str()).collect();
    let mut breaches = Vec::new();
    for (name, fact) in &facts.messages {
        let last = finals.iter().filter(|walk| walk.queue == fact.queue);
        let Some((from, to)) = last
            .filter_map(|walk| Some((walk.pages.first()?.began, walk.pages.last()?.ended)))
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
        else {
            if history.quiet().is_some() && fact.is_there(NEVER, NEVER - 1) {
                breaches.push(format!("{name} was acked, and nobody could walk its queue"));
            }
            continue;
        };
        if fact.is_there(from, to) && !found.contains(name) {
            let acked = fact.acked.unwrap_or_default();
            breaches.push(format!("{name} was acked at {acked} as {:?}, and is gone", fact.ids));
        }
    }
    breaches
}
