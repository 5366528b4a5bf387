//! What is remembered of tokens for a while: bounded in number, and cheap when it is full.

use std::collections::{BTreeMap, BTreeSet};

use super::Digest;

/// Up to `most` values by the digest of a token; when there are more, the one that ends first goes.
#[derive(Debug)]
pub(super) struct Remembered<V> {
    most: usize,
    values: BTreeMap<Digest, (u64, V)>,
    /// The same by when they end.
    ends: BTreeSet<(u64, Digest)>,
}

impl<V> Remembered<V> {
    pub(super) fn new(most: usize) -> Self {
        Self { most, values: BTreeMap::new(), ends: BTreeSet::new() }
    }

    pub(super) fn get(&self, digest: &Digest, now_ms: u64) -> Option<&V> {
        self.values.get(digest).filter(|(until_ms, _)| *until_ms > now_ms).map(|(_, value)| value)
    }

    pub(super) fn insert(&mut self, digest: Digest, value: V, until_ms: u64) {
        if let Some((before_ms, _)) = self.values.insert(digest, (until_ms, value)) {
            self.ends.remove(&(before_ms, digest));
        }
        self.ends.insert((until_ms, digest));
        while self.ends.len() > self.most
            && let Some((_, first)) = self.ends.pop_first()
        {
            self.values.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::access::digest_of;

    #[test]
    fn the_value_that_ends_first_makes_room_for_another() {
        let mut remembered = Remembered::new(2);
        let [a, b, c] = ["a", "b", "c"].map(digest_of);
        remembered.insert(a, 1, 10);
        remembered.insert(b, 2, 20);
        // It lives longer now.
        remembered.insert(a, 3, 30);
        remembered.insert(c, 4, 40);
        let values = [a, b, c].map(|digest| remembered.get(&digest, 5).copied());
        assert_eq!(values, [Some(3), None, Some(4)]);
        assert_eq!(remembered.get(&a, 30), None);
        assert_eq!((remembered.values.len(), remembered.ends.len()), (2, 2));
    }
}
