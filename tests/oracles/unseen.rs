//! Unseen (Q2): a reader was told that there is nothing more, and had not been given a message that
//! had been acked before it asked.

use std::collections::BTreeSet;

use super::walks::walks;
use super::{Facts, History};

pub(crate) fn check(history: &History, facts: &Facts<'_>) -> Vec<String> {
    let mut breaches = Vec::new();
    for walk in walks(history).iter().filter(|walk| walk.is_whole()) {
        // Pages come one after the other: what was acked before one has been before all later ones.
        let mut later: Vec<(u64, &str)> = facts
            .messages
            .iter()
            .filter(|(_, fact)| fact.queue == walk.queue && !fact.excused)
            .filter_map(|(name, fact)| Some((fact.acked?, *name)))
            .collect();
        later.sort_unstable_by(|one, other| other.cmp(one));
        let from = walk.pages.first().map_or(0, |page| page.began);
        let mut waiting: Vec<(u64, &str)> = Vec::new();
        let mut given = BTreeSet::new();
        for page in &walk.pages {
            given.extend(page.seen.iter().map(|seen| seen.name.as_str()));
            if !page.seen.is_empty() {
                continue;
            }
            while let Some(next) = later.pop_if(|(acked, _)| *acked < page.began) {
                waiting.push(next);
            }
            for (acked, name) in std::mem::take(&mut waiting) {
                let there = facts.messages.get(name);
                let there = there.is_some_and(|fact| {
                    fact.is_there(page.began, page.ended) && !fact.is_contested(from, page.ended)
                });
                if there && !given.contains(name) {
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
