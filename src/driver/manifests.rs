//! The manifests this process knows, and how they change.
//!
//! A manifest is read from a majority of keepers once and then kept. Once a second one call tells
//! which registers changed; what nodes refuse (sealed, stale, gone) drops a manifest at once. One
//! that could not be checked for more than a second is *old*: answers that rest on it alone are
//! not given.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::ask::internal;
use super::{QueueState, locked};
use crate::error::{Error, ErrorKind};
use crate::id::SegmentNo;
use crate::pool::{Change, Changed, Pool};
use crate::protocol::manifest::Manifest;
use crate::protocol::turnover::Turnover;
use crate::token::QueueTag;

/// How long a manifest may go unchecked.
const FRESH_FOR: Duration = Duration::from_millis(1500);
/// Manifests kept at most.
const KEPT: usize = 200_000;

/// Changes remembered, for reads that were under way when they were told.
const REMEMBERED: usize = 64;

/// The manifests that this process knows.
#[derive(Debug)]
pub(crate) struct Manifests {
    pool: Arc<Pool>,
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    known: BTreeMap<String, Known>,
    /// The changes told last, and when.
    told: VecDeque<(Instant, Changed)>,
    /// What was told before this is not remembered any more.
    told_since: Option<Instant>,
}

impl Table {
    fn hear(&mut self, changed: &Changed) {
        match changed {
            Changed::Names(names) => {
                for name in names {
                    self.doubt(name);
                }
            }
            Changed::Everything => self.known.values_mut().for_each(|known| known.stale = true),
        }
        self.told.push_back((Instant::now(), changed.clone()));
        if self.told.len() > REMEMBERED {
            self.told_since = self.told.pop_front().map(|(at, _)| at);
        }
    }

    fn doubt(&mut self, name: &str) {
        if let Some(known) = self.known.get_mut(name) {
            known.stale = true;
        }
    }

    /// Whether a value read at `at` may have changed by what was told since.
    fn changed_since(&self, name: &str, at: Instant) -> bool {
        self.told_since.is_some_and(|since| at <= since)
            || self.told.iter().any(|(told, changed)| *told >= at && changed.includes(name))
    }
}

#[derive(Debug, Clone)]
struct Known {
    manifest: Arc<Manifest>,
    read_at: Instant,
    /// Somebody said that it changed since.
    stale: bool,
}

impl Manifests {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        let table = Arc::new(Mutex::new(Table::default()));
        let told = Arc::downgrade(&table);
        pool.registers().on_change(move |changed| {
            if let Some(table) = told.upgrade() {
                locked(&table).hear(changed);
            }
        });
        Self { pool, table }
    }

    /// The manifest as it was known at most about a second ago, asking keepers only if needed.
    /// `None`: there is no such queue, as the keepers say now.
    ///
    /// # Errors
    /// `Unavailable` if the keepers must be asked and a majority does not answer.
    pub(crate) async fn get(&self, queue: &QueueState) -> Result<Option<Arc<Manifest>>, Error> {
        match self.cached(queue) {
            Some(manifest) if manifest.alive => Ok(Some(manifest)),
            _ => self.read(queue).await,
        }
    }

    /// The manifest as a majority of keepers has it now; or, if they do not answer, as it was known,
    /// with the error that says so. What rests on the latter needs the consent of every replica: one
    /// that is sealed, or has heard of a later version, refuses.
    ///
    /// # Errors
    /// `Unavailable` if nothing is known either.
    pub(crate) async fn read_or_old(
        &self,
        queue: &QueueState,
    ) -> Result<(Option<Arc<Manifest>>, Option<Error>), Error> {
        let error = match self.pool.registers().away() {
            // That most of them are down is known: nobody needs to wait for them.
            Some(error) => error,
            None => match self.read(queue).await {
                Ok(manifest) => return Ok((manifest, None)),
                Err(error) if error.kind() == ErrorKind::Unavailable => error,
                Err(error) => return Err(error),
            },
        };
        match self.old(queue).filter(|manifest| manifest.alive) {
            Some(manifest) => Ok((Some(manifest), Some(error))),
            None => Err(error),
        }
    }

    /// As [`Manifests::read_or_old`], asking keepers only if what is known is not fresh.
    pub(crate) async fn get_or_old(
        &self,
        queue: &QueueState,
    ) -> Result<(Option<Arc<Manifest>>, Option<Error>), Error> {
        match self.cached(queue) {
            Some(manifest) if manifest.alive => Ok((Some(manifest), None)),
            _ => self.read_or_old(queue).await,
        }
    }

    /// The manifest in which a closed segment of one life of the queue should be: the keepers are
    /// asked before anybody says that there is none. If they do not answer: as it was known, as
    /// [`Manifests::read_or_old`] tells it.
    ///
    /// # Errors
    /// As [`Manifests::get`]; also if the segment is not in what was known.
    pub(crate) async fn with_closed(
        &self,
        queue: &QueueState,
        tag: QueueTag,
        no: SegmentNo,
    ) -> Result<(Option<Arc<Manifest>>, Option<Error>), Error> {
        let is_in = |known: &Arc<Manifest>| {
            let same = QueueTag::of(self.pool.id(), &queue.register, known.generation) == tag;
            same && known.segment(no).is_some_and(|segment| !segment.is_open())
        };
        if let Some(known) = self.cached(queue).filter(is_in) {
            return Ok((Some(known), None));
        }
        let (manifest, silent) = self.read_or_old(queue).await?;
        match silent {
            Some(error) if !manifest.as_ref().is_some_and(is_in) => Err(error),
            silent => Ok((manifest, silent)),
        }
    }

    /// What is known without asking, if it is fresh.
    pub(crate) fn cached(&self, queue: &QueueState) -> Option<Arc<Manifest>> {
        let known = locked(&self.table).known.get(&queue.register).cloned()?;
        let checked = self.pool.registers().fresh_at().max(known.read_at);
        (!known.stale && checked.elapsed() <= FRESH_FOR).then_some(known.manifest)
    }

    /// What is known, however old.
    pub(crate) fn old(&self, queue: &QueueState) -> Option<Arc<Manifest>> {
        locked(&self.table).known.get(&queue.register).map(|known| Arc::clone(&known.manifest))
    }

    /// The manifest as a majority of keepers has it now.
    pub(crate) async fn read(&self, queue: &QueueState) -> Result<Option<Arc<Manifest>>, Error> {
        let asked = Instant::now();
        let Some(bytes) = self.pool.registers().read(&queue.register).await? else {
            return Ok(None);
        };
        let manifest = Arc::new(decode(queue, &bytes)?);
        let manifest = self.learn(queue, manifest, asked);
        Ok(manifest.alive.then_some(manifest))
    }

    /// Asks the keepers again next time, because a node said otherwise.
    pub(crate) fn forget(&self, queue: &QueueState) {
        locked(&self.table).doubt(&queue.register);
    }

    fn learn(&self, queue: &QueueState, manifest: Arc<Manifest>, at: Instant) -> Arc<Manifest> {
        let mut table = locked(&self.table);
        let before = table.known.get(&queue.register);
        let news = before.is_none_or(|known| known.manifest.version < manifest.version);
        let newest = match before {
            Some(other) if other.manifest.version > manifest.version => other.clone(),
            _ => Known { manifest, read_at: at, stale: table.changed_since(&queue.register, at) },
        };
        if table.known.len() >= KEPT && !table.known.contains_key(&queue.register) {
            table.known.pop_first();
        }
        table.known.insert(queue.register.clone(), newest.clone());
        drop(table);
        if news {
            queue.register_changed();
        }
        newest.manifest
    }

    /// Changes the manifest by compare-and-set: `change` takes the present one a step further and
    /// says whether it did; it may be called more than once. Returns the manifest as it is then
    /// and whether this call changed it.
    ///
    /// # Errors
    /// `QueueNotFound`; `Unavailable` if a majority of keepers does not answer (the change may
    /// have been made).
    pub(crate) async fn change(
        &self,
        queue: &QueueState,
        mut change: impl FnMut(&mut Manifest) -> bool + Send,
    ) -> Result<(Arc<Manifest>, bool), Error> {
        self.change_any(queue, |present| {
            let Some(mut manifest) = present.filter(|manifest| manifest.alive) else {
                return Err(not_found(queue));
            };
            let changed = change(&mut manifest);
            Ok((manifest, changed))
        })
        .await
    }

    /// As [`Manifests::change`], for changes that may begin or end the queue's life.
    pub(crate) async fn change_any(
        &self,
        queue: &QueueState,
        mut change: impl FnMut(Option<Manifest>) -> Result<(Manifest, bool), Error> + Send,
    ) -> Result<(Arc<Manifest>, bool), Error> {
        let asked = Instant::now();
        let mut turnover = Turnover::default();
        let done =
            self.pool.registers().update(&queue.register, Some(queue.index.clone()), |present| {
                let present = present.map(|bytes| decode(queue, bytes)).transpose()?;
                let before = present.clone();
                let (manifest, changed) = change(present)?;
                turnover = Turnover::between(before.as_ref(), &manifest);
                if !changed {
                    return Ok(Change::Keep((manifest, false)));
                }
                let value = manifest
                    .encode()
                    .map_err(|error| internal("manifest cannot be encoded").because(error))?;
                Ok(Change::Write { value, listed: manifest.alive, out: (manifest, true) })
            });
        let (manifest, changed) = match done.await {
            Ok(done) => done,
            Err(error) => {
                self.forget(queue);
                return Err(error);
            }
        };
        if changed {
            self.pool.counters().turned_over(turnover);
        }
        Ok((self.learn(queue, Arc::new(manifest), asked), changed))
    }
}

/// The error of a call on a queue that does not exist.
pub(crate) fn not_found(queue: &QueueState) -> Error {
    Error::new(ErrorKind::QueueNotFound, format!("queue {} does not exist", queue.name))
}

fn decode(queue: &QueueState, bytes: &[u8]) -> Result<Manifest, Error> {
    Manifest::decode(bytes)
        .map_err(|why| internal(format!("queue {}: unreadable manifest: {why}", queue.name)))
}
