//! Stats: when all is quiet, counts are what a walk finds.

use super::walks::walks;
use super::{Answer, Facts, History, What};

pub(crate) fn check(history: &History, _: &Facts<'_>) -> Vec<String> {
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
        if (total, counts.claimed) != (found, claimed) {
            breaches.push(format!(
                "{}: {counts:?}, and a walk finds {found} messages, {claimed} of them claimed",
                entry.queue
            ));
        }
    }
    breaches
}
