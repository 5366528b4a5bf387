//! Early delivery: a claim, a pop or a list of what is ready gave a message before its delay had
//! passed.

use super::facts::seen;
use super::{Facts, History, What};

pub(crate) fn check(history: &History, facts: &Facts<'_>) -> Vec<String> {
    let mut breaches = Vec::new();
    for entry in &history.entries {
        match &entry.what {
            What::Claim { .. } | What::Pop { .. } | What::List { everything: false, .. } => {}
            _ => continue,
        }
        for seen in seen(entry) {
            let Some(fact) = facts.messages.get(seen.name.as_str()) else { continue };
            let ready = (fact.began + fact.delay).saturating_sub(history.early);
            if fact.delay > 0 && entry.ended < ready {
                breaches.push(format!(
                    "{} got {} at {}, not ready before {ready}",
                    entry.by, seen.name, entry.ended
                ));
            }
        }
    }
    breaches
}
