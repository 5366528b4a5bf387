//! Poll-skip (Q2): a walk went past a message that was there: it gave one that was posted later, and
//! never gave the earlier one.

use std::collections::BTreeSet;

use super::walks::walks;
use super::{Facts, History};

pub(crate) fn check(history: &History, facts: &Facts<'_>) -> Vec<String> {
    let mut breaches = Vec::new();
    for walk in walks(history).iter().filter(|walk| walk.is_whole()) {
        let given: BTreeSet<&str> = walk.seen().map(|seen| seen.name.as_str()).collect();
        // What was posted last among what was given, and when the page ended that gave it.
        let mut passed: Vec<(u64, u64, &str)> = Vec::new();
        for page in &walk.pages {
            for seen in page.seen {
                let Some(fact) = facts.messages.get(seen.name.as_str()) else { continue };
                if passed.last().is_none_or(|(began, ..)| *began < fact.began) {
                    passed.push((fact.began, page.ended, &seen.name));
                }
            }
        }
        let from = walk.pages.first().map_or(0, |page| page.began);
        for (name, fact) in facts.messages.iter().filter(|(_, f)| f.queue == walk.queue) {
            let Some(acked) = fact.acked.filter(|_| !given.contains(name)) else { continue };
            let later = passed.iter().find(|(began, ..)| *began > acked);
            let Some((_, ended, later)) = later else { continue };
            let is_there = fact.gone_from > *ended && !fact.is_contested(from, *ended);
            if is_there && !fact.excused && from <= *ended {
                breaches.push(format!("{}: {later} was given, and {name} before it not", walk.by));
            }
        }
    }
    breaches
}
