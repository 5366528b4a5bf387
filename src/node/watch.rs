//! Who is to be told that a replica has changed.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;

/// Ends once the replica may have changed, see [`Node::watch`](super::Node::watch).
pub struct Watch(BoxFuture<'static, ()>);

impl Watch {
    /// One that ends with `change`.
    pub fn new(change: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(change.boxed())
    }
}

impl Future for Watch {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

/// Entries below which those whom nobody awaits any more are left alone.
const SWEEP_AT: usize = 256;

/// All that watch something of one node, by what they watch. Dropping it wakes them.
#[derive(Debug)]
pub(super) struct Watchers<K> {
    waiting: BTreeMap<K, Vec<oneshot::Sender<()>>>,
    /// How many entries there may be before those that nobody awaits are dropped.
    sweep_at: usize,
}

impl<K> Default for Watchers<K> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), sweep_at: SWEEP_AT }
    }
}

impl<K: Ord> Watchers<K> {
    pub(super) fn add(&mut self, key: K) -> Watch {
        if self.waiting.len() >= self.sweep_at {
            self.sweep();
        }
        let (wake, woken) = oneshot::channel();
        let waiting = self.waiting.entry(key).or_default();
        waiting.retain(|other| !other.is_closed());
        waiting.push(wake);
        // Also if the other side is dropped: whoever told of changes is not there any more.
        Watch::new(woken.map(|_| ()))
    }

    /// Wakes those who watch this.
    pub(super) fn wake<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.waiting.remove(key);
    }

    /// Wakes all.
    pub(super) fn wake_all(&mut self) {
        self.waiting.clear();
    }

    /// What is watched; of that which nobody awaits any more, some may be named too.
    pub(super) fn watched(&self) -> impl Iterator<Item = &K> {
        self.waiting.keys()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Drops what nobody awaits any more.
    pub(super) fn sweep(&mut self) {
        self.waiting.retain(|_, waiting| {
            waiting.retain(|wake| !wake.is_closed());
            !waiting.is_empty()
        });
        self.sweep_at = SWEEP_AT.max(2 * self.waiting.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_watches_is_woken_once_by_what_it_watches() {
        let mut watchers = Watchers::default();
        let (mut one, mut other) = (watchers.add(1), watchers.add(2));
        watchers.wake(&1);
        assert!((&mut one).now_or_never().is_some());
        assert!((&mut other).now_or_never().is_none());
        watchers.wake_all();
        other.await;
        assert!(watchers.is_empty());
    }

    #[tokio::test]
    async fn a_dropped_table_wakes_everybody() {
        let mut watchers = Watchers::default();
        let watch = watchers.add("a");
        drop(watchers);
        watch.await;
    }

    #[test]
    fn watches_that_nobody_awaits_do_not_gather() {
        let mut watchers = Watchers::default();
        let kept = watchers.add(0);
        for key in 1..10_000 {
            drop(watchers.add(key));
        }
        assert!(watchers.watched().count() <= SWEEP_AT, "{}", watchers.watched().count());
        assert!(watchers.watched().any(|key| *key == 0));
        drop(kept);
    }
}
