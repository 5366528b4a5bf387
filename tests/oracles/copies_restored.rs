//! Copies restored (Q10): some time after the last fault every segment has its copies again.

use super::{Facts, History, What};

pub(crate) fn check(history: &History, _: &Facts<'_>) -> Vec<String> {
    let Some(quiet) = history.quiet() else { return Vec::new() };
    let mut breaches = Vec::new();
    for entry in history.entries.iter().filter(|entry| quiet <= entry.began) {
        let What::Census { under_replicated, uncounted, .. } = &entry.what else { continue };
        if *under_replicated > 0 || *uncounted > 0 {
            breaches.push(format!(
                "at {}, {under_replicated} segments lack copies, {uncounted} cannot be read",
                entry.ended
            ));
        }
    }
    breaches
}
