//! Nonmonotonic (Q4): a walk gave a message before one that had been acked before it was posted, or
//! the messages of one post in another order.

use std::collections::BTreeMap;

use super::walks::walks;
use super::{Answer, Facts, History, What};

pub(crate) fn check(history: &History, facts: &Facts<'_>) -> Vec<String> {
    // Of each message of a post that was acked at once: which post, and its place there.
    let mut places: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (post, entry) in history.entries.iter().enumerate() {
        if let What::Post { messages, answer: Answer::Done(_), .. } = &entry.what {
            let names = messages.iter().enumerate();
            names.for_each(|(place, name)| {
                places.entry(name).or_insert((post, place));
            });
        }
    }
    let mut breaches = Vec::new();
    for walk in walks(history) {
        // From the end: who was acked first among what comes later.
        let mut first: Option<(u64, &str)> = None;
        let mut next: BTreeMap<usize, (usize, &str)> = BTreeMap::new();
        let given: Vec<_> = walk.seen().collect();
        for seen in given.into_iter().rev() {
            let name = seen.name.as_str();
            let Some(fact) = facts.messages.get(name) else { continue };
            if let Some((acked, earlier)) = first
                && acked < fact.began
            {
                breaches.push(format!(
                    "{}: {name}, posted at {}, came before {earlier}, acked at {acked}",
                    walk.by, fact.began
                ));
            }
            if let Some(acked) = fact.acked
                && first.is_none_or(|(first, _)| acked < first)
            {
                first = Some((acked, name));
            }
            let Some(&(post, place)) = places.get(name) else { continue };
            if let Some((_, other)) = next.get(&post).filter(|(next, _)| *next < place) {
                breaches.push(format!("{}: {name} came before {other} of its post", walk.by));
            }
            next.insert(post, (place, name));
        }
    }
    breaches
}
