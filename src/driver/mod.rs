//! Effects: does what `protocol` decides, and feeds back what nodes answer.
//!
//! [`Core`] is what all queues of a store share; [`QueueState`] is what this process knows of one
//! queue. One file an activity: posting, reading, claiming, deleting, moving on, repairing, and
//! the upkeep that nobody asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use crate::error::{Error, ErrorKind};
use crate::id::{ReplicaAt, SegmentNo};
use crate::name::{Project, QueueName, register_of};
use crate::node::Op;
use crate::pool::Pool;
use crate::protocol::manifest::Manifest;
use crate::token::QueueTag;

pub(crate) mod admin;
pub(crate) mod ask;
mod awaited;
mod behind;
pub(crate) mod bootstrap;
mod census;
pub(crate) mod changes;
pub(crate) mod claim;
mod dead_letters;
pub(crate) mod delete;
mod emptying;
pub(crate) mod filling;
mod get;
mod holders;
mod holds;
pub(crate) mod keepers;
pub(crate) mod lease;
mod leftovers;
pub(crate) mod life;
mod load;
pub(crate) mod looks;
pub(crate) mod manifests;
pub(crate) mod membership;
pub(crate) mod moving;
pub(crate) mod newcomers;
pub(crate) mod news;
pub(crate) mod nodes;
pub(crate) mod once;
pub(crate) mod once_keys;
pub(crate) mod opening;
pub(crate) mod pace;
pub(crate) mod post;
pub(crate) mod quorum;
pub(crate) mod read;
pub(crate) mod registers;
pub(crate) mod repair;
mod requests;
pub(crate) mod salvage;
pub(crate) mod sending;
pub(crate) mod stats;
pub(crate) mod survey;
#[cfg(test)]
mod tests;
pub(crate) mod upkeep;
pub(crate) mod waiting;

use manifests::Manifests;
use news::News;

/// Queues that are remembered whatever they are.
const QUEUES_KEPT: usize = 10_000;

/// How long the end of a store waits until its lease on repairs is given back.
const RESIGN: Duration = Duration::from_millis(500);

/// What all queues of a store share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) pool: Arc<Pool>,
    pub(crate) manifests: Manifests,
    queues: Mutex<BTreeMap<String, Arc<QueueState>>>,
    /// How many of them there may be before those that are of no use are forgotten.
    sweep_at: AtomicUsize,
    /// Each block in flight, of whatever queue, has a copy.
    pub(crate) flying: Arc<()>,
    /// Queues one of whose segments may have ended.
    pub(crate) attention: Mutex<BTreeSet<String>>,
    /// Turns of those who look again because something may have changed.
    pub(crate) turns: Semaphore,
    /// How fast copies are made that nobody waits for.
    pub(crate) pace: pace::Pace,
    /// Queues whose open segment is to be closed because a node is being emptied.
    closing: Mutex<BTreeSet<String>>,
    /// What changed since this process, the one that repairs, looked last.
    noticed: Mutex<survey::Noticed>,
    census: census::Counting,
    tasks: Mutex<Option<JoinSet<()>>>,
    closed: AtomicBool,
}

/// What this process knows of one queue, besides its manifest.
#[derive(Debug)]
pub(crate) struct QueueState {
    /// The name of its register.
    pub(crate) register: String,
    /// Its name, as errors tell it.
    pub(crate) name: String,
    /// The project and the queue, for the keepers' index.
    pub(crate) index: (String, String),
    /// Held while this process moves the queue on.
    pub(crate) moving: tokio::sync::Mutex<()>,
    /// Held while this process repairs a segment of the queue.
    pub(crate) repairing: tokio::sync::Mutex<()>,
    /// When and why this process's latest repair of it failed; none if it did not.
    pub(crate) repair_failed: Mutex<Option<(tokio::time::Instant, String)>>,
    /// Whether others are to save its segments that have lost all full replicas.
    pub(crate) leave: Mutex<salvage::Leave>,
    /// The sender of this process's posts.
    pub(crate) post: Mutex<post::Outbox>,
    /// The producer of this process's posts with idempotency keys.
    pub(crate) lane: once::Lane,
    /// Segments whose messages may all have ended.
    pub(crate) maybe_ended: Mutex<BTreeSet<SegmentNo>>,
    /// Lost segments of which a reader has been told.
    pub(crate) told_lost: Mutex<BTreeSet<(crate::id::Generation, SegmentNo)>>,
    /// What tells those who wait that something may have changed, while there are any.
    pub(crate) news: Mutex<Weak<News>>,
}

/// Locks a mutex whose holders never leave it half changed.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    /// The core of a store on an open pool, with its background work running.
    pub(crate) fn start(pool: Arc<Pool>) -> Arc<Self> {
        let core = Arc::new(Self {
            manifests: Manifests::new(Arc::clone(&pool)),
            pool,
            queues: Mutex::default(),
            sweep_at: AtomicUsize::new(2 * QUEUES_KEPT),
            flying: Arc::default(),
            attention: Mutex::default(),
            turns: Semaphore::new(waiting::TURNS),
            pace: pace::Pace::default(),
            closing: Mutex::default(),
            noticed: Mutex::default(),
            census: census::Counting::default(),
            tasks: Mutex::new(Some(JoinSet::new())),
            closed: AtomicBool::new(false),
        });
        core.spawn(upkeep::run(Arc::downgrade(&core)));
        core.tell_of_changes();
        core.notice_changes();
        core
    }

    /// What this process knows of a queue.
    pub(crate) fn queue(&self, project: &Project, name: &QueueName) -> Arc<QueueState> {
        self.queue_of(register_of(project, name), project.as_str(), name.as_str())
    }

    /// The same, by the register's name.
    pub(crate) fn queue_named(&self, register: &str) -> Option<Arc<QueueState>> {
        let (len, rest) = register.strip_prefix("q:")?.split_once(':')?;
        let len: usize = len.parse().ok()?;
        let (project, name) = rest.split_at_checked(len)?;
        let name = name.strip_prefix(':')?;
        Some(self.queue_of(register.to_owned(), project, name))
    }

    fn queue_of(&self, register: String, project: &str, name: &str) -> Arc<QueueState> {
        let mut queues = locked(&self.queues);
        if let Some(known) = queues.get(&register) {
            return Arc::clone(known);
        }
        if queues.len() >= self.sweep_at.load(Ordering::Relaxed) {
            // Names that were asked for and are no queues, by anybody who can ask.
            queues.retain(|_, state| Arc::strong_count(state) > 1 || self.is_of_use(state));
            self.sweep_at.store(2 * queues.len().max(QUEUES_KEPT), Ordering::Relaxed);
        }
        let state = Arc::new(QueueState {
            register: register.clone(),
            name: name.to_owned(),
            index: (project.to_owned(), name.to_owned()),
            moving: tokio::sync::Mutex::default(),
            repairing: tokio::sync::Mutex::default(),
            repair_failed: Mutex::default(),
            leave: Mutex::default(),
            post: Mutex::default(),
            lane: once::Lane::default(),
            maybe_ended: Mutex::default(),
            told_lost: Mutex::default(),
            news: Mutex::default(),
        });
        queues.insert(register, Arc::clone(&state));
        state
    }

    /// All queues that this process has met.
    pub(crate) fn known(&self) -> Vec<Arc<QueueState>> {
        locked(&self.queues).values().cloned().collect()
    }

    fn is_of_use(&self, queue: &QueueState) -> bool {
        // A producer that forgot where it is would send blocks that are taken for old ones.
        !locked(&queue.maybe_ended).is_empty()
            || locked(&queue.post).is_of_use()
            || self.manifests.old(queue).is_some_and(|manifest| manifest.alive)
    }

    /// The queue of a register, if this process has met it.
    pub(crate) fn met(&self, register: &str) -> Option<Arc<QueueState>> {
        locked(&self.queues).get(register).cloned()
    }

    /// Runs work that ends with the store.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.spawn_owned(work);
    }

    /// The same, for an owner who may end it earlier; none if the store has been closed.
    pub(crate) fn spawn_owned(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> Option<AbortHandle> {
        let mut tasks = locked(&self.tasks);
        let tasks = tasks.as_mut()?;
        while tasks.try_join_next().is_some() {}
        Some(tasks.spawn(work))
    }

    /// Whether the store has been closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Ends all background work.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let tasks = locked(&self.tasks).take();
        if let Some(mut tasks) = tasks {
            tasks.shutdown().await;
        }
        // Without it others repair some seconds later; it is not worth waiting for long.
        tokio::time::timeout(RESIGN, self.pool.resign()).await.ok();
        self.pool.close();
    }

    /// The error of a call on a closed store.
    pub(crate) fn open_or_error(&self) -> Result<(), Error> {
        if self.is_closed() {
            return Err(Error::new(ErrorKind::Closed, "the store has been closed"));
        }
        Ok(())
    }

    /// The tag of one life of a queue.
    pub(crate) fn tag(&self, queue: &QueueState, life: crate::id::Generation) -> QueueTag {
        QueueTag::of(self.pool.id(), &queue.register, life)
    }

    /// Whether a manifest is of that life of its queue.
    fn is_of(&self, queue: &QueueState, manifest: &Manifest, tag: QueueTag) -> bool {
        self.tag(queue, manifest.generation) == tag
    }

    /// The queue's newest manifest, if it is of that life.
    async fn read_life(
        &self,
        queue: &QueueState,
        tag: QueueTag,
    ) -> Result<Option<Arc<Manifest>>, Error> {
        let manifest = self.manifests.read(queue).await?;
        Ok(manifest.filter(|manifest| self.is_of(queue, manifest, tag)))
    }

    /// Removes replicas that no manifest names any more; what cannot be reached is left to the
    /// nodes' lists of due replicas.
    pub(crate) fn wipe(self: &Arc<Self>, replicas: Vec<ReplicaAt>) {
        let pool = Arc::clone(&self.pool);
        self.spawn(async move {
            for at in replicas {
                // Bounded: 4,096 calls of 512 blocks each are far beyond any segment's size.
                for _ in 0..4096 {
                    let wiped: Result<crate::node::Wiped, _> =
                        ask::ask(&pool, at.cookie.node, Op::Wipe { at }).await;
                    match wiped {
                        Ok(wiped) if !wiped.done => {}
                        Ok(_) | Err(_) => break,
                    }
                }
            }
        });
    }
}
