//! Duplicated (Q3): a message is in the log under two ids, or a walk gave it twice.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::seen;
use super::walks::walks;
use super::{Facts, History};

pub(crate) fn check(history: &History, facts: &Facts<'_>) -> Vec<String> {
    let mut ids: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, fact) in &facts.messages {
        ids.entry(name).or_default().extend(fact.ids.iter());
    }
    for seen in history.entries.iter().flat_map(seen) {
        ids.entry(&seen.name).or_default().insert(&seen.id);
    }
    let several = ids.into_iter().filter(|(_, ids)| ids.len() > 1);
    let mut breaches: Vec<String> =
        several.map(|(name, ids)| format!("{name} is in the log as each of {ids:?}")).collect();
    for walk in walks(history) {
        let mut given = BTreeSet::new();
        for seen in walk.seen() {
            if !given.insert(&seen.id) {
                breaches.push(format!("{}: {} was given twice", walk.by, seen.name));
            }
        }
    }
    breaches
}
