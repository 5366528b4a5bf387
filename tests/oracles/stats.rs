//! Stats (Q8): when all is quiet, counts are what a walk finds, but for messages of which nobody can tell.

use super::facts::Fact;
use super::walks::walks;
use super::{Answer, Facts, History, What};

pub(crate) fn check(history: &History, facts: &Facts<'_>) -> Vec<String> {
    let walks = walks(history);
    let Some(quiet) = history.quiet() else { return Vec::new() };
    let mut breaches = Vec::new();
    for entry in history.entries.iter().filter(|entry| quiet <= entry.began) {
        let What::Stats { answer: Answer::Done(counts) } = &entry.what else { continue };
        let mut last = walks
            .iter()
            .filter(|walk| walk.queue == entry.queue && walk.is_whole() && walk.is_final(history));
        let Some(last) = last.next() else { continue };
        let total = counts.active + counts.claimed + counts.delayed;
        let found = last.seen().count() as u64;
        let claimed = last.seen().filter(|seen| seen.claimed).count() as u64;
        let is_open =
            |fact: &&Fact<'_>| fact.queue == entry.queue && fact.is_uncertain(entry.ended);
        let open = facts.messages.values().filter(is_open).count() as u64;
        if total.abs_diff(found) > open || counts.claimed.abs_diff(claimed) > open {
            breaches.push(format!(
                "{}: {counts:?}, and a walk finds {found} messages, {claimed} of them claimed",
                entry.queue
            ));
        }
    }
    breaches
}
