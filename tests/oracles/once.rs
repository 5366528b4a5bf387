//! Once (Q11): all answers to one key are the same. That its messages are in the log once is seen by
//! `duplicated`, `lost` and `phantom`.

use std::collections::BTreeMap;

use super::{Answer, Facts, History, What};

pub(crate) fn check(history: &History, facts: &Facts<'_>) -> Vec<String> {
    let mut told: BTreeMap<(&str, &str), &Vec<String>> = BTreeMap::new();
    let mut breaches = Vec::new();
    for entry in &history.entries {
        let What::Post { messages, key: Some(key), answer: Answer::Done(ids), .. } = &entry.what
        else {
            continue;
        };
        if ids.len() != messages.len() {
            breaches.push(format!("{key}: {} ids for {} messages", ids.len(), messages.len()));
        }
        let first = told.entry((&entry.queue, key)).or_insert(ids);
        let excused = || {
            let mut facts = messages.iter().filter_map(|name| facts.messages.get(name.as_str()));
            facts.any(|fact| fact.excused)
        };
        if *first != ids && !excused() {
            breaches.push(format!("{key} was answered {first:?} and {ids:?}"));
        }
    }
    breaches
}
