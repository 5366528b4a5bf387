//! Marker stability (Q2, Q3): the same marker gives the same rest, whichever replica answers: what is
//! in the queue and had not been given before the marker was.

use std::collections::{BTreeMap, BTreeSet};

use super::walks::walks;
use super::{Facts, History};

pub(crate) fn check(history: &History, facts: &Facts<'_>) -> Vec<String> {
    let walks = walks(history);
    let finals = || walks.iter().filter(|walk| walk.is_final(history));
    // What had been given when a marker was from which a last walk starts.
    let starts: BTreeSet<&str> = finals().filter_map(|walk| walk.start).collect();
    let mut given: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for walk in walks.iter().filter(|walk| walk.is_whole()) {
        let mut before = BTreeSet::new();
        for page in &walk.pages {
            before.extend(page.seen.iter().map(|seen| seen.name.as_str()));
            if let Some(next) = page.next.filter(|next| starts.contains(next)) {
                given.entry(next).or_insert_with(|| before.clone());
            }
        }
    }
    let mut all: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for walk in finals().filter(|walk| walk.is_whole()) {
        let names = walk.seen().map(|seen| seen.name.as_str());
        all.entry(walk.queue).or_insert_with(|| names.collect());
    }
    let mut breaches = Vec::new();
    for walk in finals() {
        let Some(all) = all.get(walk.queue) else { continue };
        let nothing = BTreeSet::new();
        let before = match walk.start {
            None => Some(&nothing),
            Some(marker) => given.get(marker),
        };
        let Some(before) = before else { continue };
        let rest: BTreeSet<&str> = walk.seen().map(|seen| seen.name.as_str()).collect();
        let due: BTreeSet<&str> = all.difference(before).copied().collect();
        let end = walk.pages.last().map_or(0, |page| page.ended);
        let is_certain =
            |name: &&&str| !facts.messages.get(**name).is_some_and(|fact| fact.is_uncertain(end));
        let missing: Vec<_> = due.difference(&rest).filter(is_certain).collect();
        let extra: Vec<_> = rest.difference(&due).filter(is_certain).collect();
        if !missing.is_empty() || !extra.is_empty() {
            breaches.push(format!(
                "{}: from {:?} on, {missing:?} were not given, and {extra:?} should not be",
                walk.by, walk.start
            ));
        }
    }
    breaches
}
