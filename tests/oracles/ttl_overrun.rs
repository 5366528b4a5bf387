//! TTL overrun (Q8): somebody asked after a message's life was over for certain, and got it.

use super::facts::seen;
use super::{Facts, History};

pub(crate) fn check(history: &History, facts: &Facts<'_>) -> Vec<String> {
    let mut breaches = Vec::new();
    for entry in &history.entries {
        for seen in seen(entry) {
            let Some(fact) = facts.messages.get(seen.name.as_str()) else { continue };
            if fact.expired < entry.began && !fact.excused {
                breaches.push(format!(
                    "{} got {} at {}, expired at {} at the latest",
                    entry.by, seen.name, entry.ended, fact.expired
                ));
            }
        }
    }
    breaches
}
