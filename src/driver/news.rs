//! News of a queue: what tells those who wait for messages that it may be worth to look again.
//!
//! All that wait for one queue share one [`News`], and it has one task, the watcher, while anybody
//! waits. The watcher has *every* replica of the open segment watched ([`Node::watch`]), and tells
//! news only once the watches stand. So nothing is missed: whoever looks after the news was told and
//! does not find a message finds it missing on some replica, and that one's watch stands already.
//! (Of a single watched replica this would not hold: it may have taken the message long before the
//! last one does, and only then is it acknowledged.) Besides, there is news
//!
//! - when the manifest changed: at once if this process did it, within a second by the call that asks
//!   the keepers once a second for all queues together;
//! - when this process posted, or gave a claim back;
//! - now and then while messages are claimed or delayed, because no node tells that time has passed.
//!
//! News says that something may have changed, never what.
//!
//! [`Node::watch`]: crate::node::Node::watch

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Core, QueueState, locked};
use crate::id::{Generation, ReplicaAt, Version};
use crate::node::Watch;
use crate::pool::Changed;
use crate::signal;

/// How long the other replicas may take to tell of what one of them told: a post reaches them together.
const TOGETHER: Duration = Duration::from_millis(2);
/// News is told no more often than this.
const APART: Duration = Duration::from_millis(5);
/// When it is looked for claims and delays that end by themselves: so long after the last news, and at
/// growing intervals up to the other.
const COUNT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// The same for replicas that could not be watched.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What those who wait for one queue share.
#[derive(Debug)]
pub(crate) struct News {
    told: signal::Receiver,
    pub(super) bell: Arc<Bell>,
    watcher: Option<AbortHandle>,
}

/// What the watcher shares with those who wait, and with those who have news for it.
#[derive(Debug)]
pub(super) struct Bell {
    /// Something was done by this process.
    here: Notify,
    /// The manifest may have changed.
    register: Notify,
    /// How many of those who wait to claim may try. Each piece of news lets one of them try.
    pub(super) tries: Semaphore,
    /// How many wait to claim, and how many of them are trying.
    pub(super) claimers: AtomicUsize,
    pub(super) trying: AtomicUsize,
}

impl News {
    /// What was told last; to be awaited with the number that was told when one looked.
    pub(super) fn told(&self) -> signal::Receiver {
        self.told.clone()
    }
}

impl Drop for News {
    fn drop(&mut self) {
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
    }
}

impl QueueState {
    /// The news of this queue, if somebody waits for it.
    pub(super) fn awaited(&self) -> Option<Arc<News>> {
        locked(&self.news).upgrade()
    }

    /// This process did something to the queue that others may wait for.
    pub(crate) fn has_news(&self) {
        if let Some(news) = self.awaited() {
            news.bell.here.notify_one();
        }
    }

    /// The manifest may have changed.
    pub(crate) fn register_changed(&self) {
        if let Some(news) = self.awaited() {
            news.bell.register.notify_one();
        }
    }
}

impl Core {
    /// The news of a queue; its first one is told as soon as the queue is watched.
    pub(super) fn news(self: &Arc<Self>, queue: &Arc<QueueState>) -> Arc<News> {
        let mut place = locked(&queue.news);
        if let Some(news) = place.upgrade() {
            return news;
        }
        let tell = signal::Sender::new();
        let told = tell.subscribe();
        let bell = Arc::new(Bell {
            here: Notify::new(),
            register: Notify::new(),
            tries: Semaphore::new(0),
            claimers: AtomicUsize::new(0),
            trying: AtomicUsize::new(0),
        });
        let watcher = Watcher {
            core: Arc::downgrade(self),
            queue: Arc::clone(queue),
            bell: Arc::clone(&bell),
            tell,
            told_at: None,
            manifest: None,
            wanted: Vec::new(),
            watches: BTreeMap::new(),
            count: Timer::after(COUNT.0),
            again: Timer::default(),
        };
        let watcher = self.spawn_owned(watcher.run());
        let news = Arc::new(News { told, bell, watcher });
        *place = Arc::downgrade(&news);
        news
    }

    /// Rings for the queues whose registers changed, as the keepers tell once a second.
    pub(super) fn tell_of_changes(self: &Arc<Self>) {
        let core = Arc::downgrade(self);
        self.pool.registers().on_change(move |changed| {
            let Some(core) = core.upgrade() else { return };
            let queues = match changed {
                Changed::Names(names) => names.iter().filter_map(|name| core.met(name)).collect(),
                Changed::Everything => core.known(),
            };
            queues.iter().for_each(|queue| queue.register_changed());
        });
    }
}

/// A moment that is put off at growing intervals.
#[derive(Debug, Default)]
struct Timer {
    at: Option<Instant>,
    pause: Duration,
}

impl Timer {
    fn after(pause: Duration) -> Self {
        Self { at: Some(Instant::now() + pause), pause }
    }

    fn put_off(&mut self, range: (Duration, Duration)) {
        *self = Self::after((self.pause * 2).clamp(range.0, range.1));
    }

    fn stop(&mut self) {
        *self = Self::default();
    }

    async fn passed(&self) {
        match self.at {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

/// The task of a [`News`].
#[derive(Debug)]
struct Watcher {
    core: Weak<Core>,
    queue: Arc<QueueState>,
    bell: Arc<Bell>,
    tell: signal::Sender,
    told_at: Option<Instant>,
    /// The manifest by which `wanted` was found.
    manifest: Option<(Generation, Version)>,
    /// What should be watched, and what is.
    wanted: Vec<ReplicaAt>,
    watches: BTreeMap<ReplicaAt, Watch>,
    /// When the queue's messages are counted.
    count: Timer,
    /// When it is tried again to watch what could not be watched.
    again: Timer,
}

/// Why to tell news.
enum Reason {
    /// Something may have changed.
    Changed,
    /// Time has passed.
    Time,
    /// The store has ended.
    Ended,
}

/// Lets nobody wait for a try when nobody gives any more.
struct LastTry(Arc<Bell>);

impl Drop for LastTry {
    fn drop(&mut self) {
        self.0.tries.close();
    }
}

impl Watcher {
    async fn run(mut self) {
        let _last = LastTry(Arc::clone(&self.bell));
        let Some(mut health) = self.core.upgrade().map(|core| core.pool.watch()) else { return };
        loop {
            let Some(core) = self.core.upgrade() else { return };
            self.watch(&core).await;
            drop(core);
            self.tell().await;
            match self.reason(&mut health).await {
                Reason::Changed => self.count = Timer::after(COUNT.0),
                Reason::Time => {}
                Reason::Ended => return,
            }
        }
    }

    /// Has the replicas of the open segment watched, as the manifest is now.
    async fn watch(&mut self, core: &Arc<Core>) {
        let mut asked = true;
        let manifest = match core.manifests.get(&self.queue).await {
            // Nobody would tell of a segment that does not exist; an open one can be watched.
            Ok(Some(manifest)) if manifest.open_segment().is_none() => {
                Some(core.with_open_segment(&self.queue).await.unwrap_or(manifest))
            }
            Ok(manifest) => manifest,
            Err(_) => {
                asked = false;
                core.manifests.old(&self.queue).filter(|manifest| manifest.alive)
            }
        };
        self.manifest = manifest.as_ref().map(|known| (known.generation, known.version));
        let open = manifest.as_ref().and_then(|manifest| manifest.open_segment());
        self.wanted = open.map_or_else(Vec::new, |open| {
            open.full().map(|replica| replica.at(core.pool.id())).collect()
        });
        let wanted = &self.wanted;
        self.watches.retain(|at, _| wanted.contains(at));
        let missing = self.missing(core);
        let begun = join_all(missing.iter().map(|at| core.pool.watch_replica(*at))).await;
        for (at, watch) in missing.into_iter().zip(begun) {
            match watch {
                Ok(watch) => {
                    self.watches.insert(at, watch);
                }
                Err(error) => {
                    tracing::debug!(queue = self.queue.name, %error, "a replica is not watched");
                }
            }
        }
        match asked && self.missing(core).is_empty() {
            true => self.again.stop(),
            false => self.again.put_off(AGAIN),
        }
    }

    /// What should be watched and is not, though its node is up. With one that is not up nothing can
    /// be acknowledged in this segment, and the others tell of every attempt.
    fn missing(&self, core: &Core) -> Vec<ReplicaAt> {
        let wanted = self.wanted.iter().copied();
        let unwatched = wanted.filter(|at| !self.watches.contains_key(at));
        unwatched.filter(|at| core.pool.usable(at.cookie)).collect()
    }

    async fn tell(&mut self) {
        if let Some(at) = self.told_at {
            sleep_until(at + APART).await;
        }
        self.told_at = Some(Instant::now());
        self.tell.raise();
        // One is enough: who finds something lets the next ones try.
        if self.bell.tries.available_permits() == 0 {
            self.bell.tries.add_permits(1);
        }
    }

    /// Waits until there is a reason to tell news.
    async fn reason(&mut self, health: &mut signal::Receiver) -> Reason {
        let bell = Arc::clone(&self.bell);
        loop {
            tokio::select! {
                biased;
                () = changed(&mut self.watches) => {
                    let others = async { while !self.watches.is_empty() {
                        changed(&mut self.watches).await;
                    }};
                    // In vain if the others have nothing to tell.
                    let _: Result<(), _> = timeout(TOGETHER, others).await;
                    return Reason::Changed;
                }
                () = bell.here.notified() => return Reason::Changed,
                () = bell.register.notified() => match self.has_moved().await {
                    Some(true) => return Reason::Changed,
                    Some(false) => {}
                    None => return Reason::Ended,
                },
                changed = health.changed() => {
                    let Some(core) = self.core.upgrade().filter(|_| changed.is_ok()) else {
                        return Reason::Ended;
                    };
                    // What a node in doubt had to tell may have been lost.
                    self.watches.retain(|at, _| core.pool.usable(at.cookie));
                    if !self.missing(&core).is_empty() {
                        return Reason::Changed;
                    }
                }
                () = self.again.passed() => return Reason::Time,
                () = self.count.passed() => match self.may_end_by_itself().await {
                    Some(true) => {
                        self.count.put_off(COUNT);
                        return Reason::Time;
                    }
                    Some(false) => self.count.stop(),
                    None => return Reason::Ended,
                },
            }
        }
    }

    /// Whether the manifest is another one than that by which replicas are watched.
    async fn has_moved(&mut self) -> Option<bool> {
        let core = self.core.upgrade()?;
        let _turn = core.turns.acquire().await.ok()?;
        let Ok(manifest) = core.manifests.get(&self.queue).await else {
            self.again.put_off(AGAIN);
            return Some(false);
        };
        Some(manifest.map(|known| (known.generation, known.version)) != self.manifest)
    }

    /// Whether messages may become available by nothing but time.
    async fn may_end_by_itself(&mut self) -> Option<bool> {
        let core = self.core.upgrade()?;
        let _turn = core.turns.acquire().await.ok()?;
        let claimers = self.bell.claimers.load(Ordering::Relaxed);
        Some(match core.stats(&self.queue).await {
            // What is there and nobody gets is tried again.
            Ok(counts) => {
                counts.claimed + counts.delayed > 0 || (claimers > 0 && counts.active > 0)
            }
            Err(_) => true,
        })
    }
}

/// Waits for the first watch that ends, and takes it out.
async fn changed(watches: &mut BTreeMap<ReplicaAt, Watch>) {
    let at = poll_fn(|context| {
        let ended = watches
            .iter_mut()
            .find_map(|(at, watch)| Pin::new(watch).poll(context).is_ready().then_some(*at));
        ended.map_or(Poll::Pending, Poll::Ready)
    });
    let at = at.await;
    watches.remove(&at);
}
