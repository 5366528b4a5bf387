//! Resurrection (Q8): somebody asked after a message's delete, or that of its queue, had been answered
//! as done, and got the message. A process may be somewhat behind what another one did: a list or a get
//! behind a delete, everything behind the deletion of a queue; a claim never behind a delete.

use super::facts::seen;
use super::{Facts, History, What};

pub(crate) fn check(history: &History, facts: &Facts<'_>) -> Vec<String> {
    let mut breaches = Vec::new();
    for entry in &history.entries {
        let stale = match &entry.what {
            What::List { .. } | What::Get { .. } => history.stale,
            _ => 0,
        };
        for seen in seen(entry) {
            let Some(fact) = facts.messages.get(seen.name.as_str()) else { continue };
            let gone =
                fact.deleted.saturating_add(stale).min(fact.removed.saturating_add(history.stale));
            if gone < entry.began && !fact.excused {
                breaches.push(format!(
                    "{} got {} at {}, deleted at {}",
                    entry.by,
                    seen.name,
                    entry.ended,
                    fact.deleted.min(fact.removed)
                ));
            }
        }
    }
    breaches
}
