//! Resurrection (Q8): somebody asked after a message's delete, or that of its queue, had been answered
//! as done, and got the message.

use super::facts::seen;
use super::{Facts, History};

pub(crate) fn check(history: &History, facts: &Facts<'_>) -> Vec<String> {
    let mut breaches = Vec::new();
    for entry in &history.entries {
        for seen in seen(entry) {
            let Some(fact) = facts.messages.get(seen.name.as_str()) else { continue };
            if fact.deleted < entry.began && !fact.excused {
                breaches.push(format!(
                    "{} got {} at {}, deleted at {}",
                    entry.by, seen.name, entry.ended, fact.deleted
                ));
            }
        }
    }
    breaches
}
