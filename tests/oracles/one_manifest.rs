//! One manifest (Q6): no register had two values of the same version.

use std::collections::BTreeMap;

use super::{Facts, History, What};

pub(crate) fn check(history: &History, _: &Facts<'_>) -> Vec<String> {
    let mut known: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    let mut breaches = Vec::new();
    for entry in &history.entries {
        let What::Chosen { register, version, digest } = &entry.what else { continue };
        let first = *known.entry((register, version)).or_insert(*digest);
        if first != *digest {
            breaches.push(format!("{register} has two values of version {version}"));
        }
    }
    breaches
}
