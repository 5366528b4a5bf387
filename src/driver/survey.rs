//! A look at all queues of the pool: after a node came back empty, or is to be emptied, somebody must
//! notice which segments lack a copy, also of queues that nobody uses at present.
//!
//! Manifests are read as a majority of keepers has them: what one of them missed another one knows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::ask::{ask_within, unavailable};
use super::{Core, locked};
use crate::error::Error;
use crate::id::{Cookie, Epoch};
use crate::node::{Dump, Op, RegisterDump};
use crate::pool::Changed;
use crate::protocol::manifest::Manifest;
use crate::protocol::register::Stored;

/// What the names of all queues' registers begin with.
const QUEUES: &str = "q:";
/// In front of all of them.
const BEFORE_QUEUES: &str = "q";
/// Registers looked at in one step.
const PAGE: u32 = 256;
/// How long a keeper may take for one page.
const LIMIT: Duration = Duration::from_secs(2);
/// How long keepers that do not answer are asked again, and how often.
const PATIENCE: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(100);
/// Queues that changed, and are looked at in one go.
const NOTICED_AT_ONCE: usize = 256;
/// Beyond so many all queues are looked at instead.
const NOTICED: usize = 50_000;

/// Which queues a survey is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Those that lack any copy.
    All,
    /// Those that cannot wait for the process that repairs.
    Thin,
}

/// Queues whose manifests changed.
#[derive(Debug, Default)]
pub(crate) struct Noticed {
    registers: BTreeSet<String>,
    /// There may be others.
    everything: bool,
}

/// What one keeper tells, page by page.
struct Told {
    cookie: Cookie,
    page: VecDeque<RegisterDump>,
    after: String,
    done: bool,
}

/// All queues, by the names of their registers, as a majority of keepers has them.
pub(crate) struct Walk {
    told: Vec<Told>,
    epoch: Epoch,
    needed: usize,
    /// The last register that was told.
    last: String,
}

/// Goes through all queues once, and starts the repairs that they ask for.
pub(crate) async fn run(core: Weak<Core>, scope: Scope) {
    let Some(strong) = core.upgrade() else { return };
    // Processes that notice the same change should not all begin with the same queue at once.
    let pause = strong.pool.env().random_below(200);
    drop(strong);
    tokio::time::sleep(Duration::from_millis(pause)).await;
    let Some(mut walk) = core.upgrade().map(|core| core.walk()) else { return };
    loop {
        let Some(core) = core.upgrade() else { return };
        match core.next_queues(&mut walk).await {
            Ok(queues) if queues.is_empty() => return,
            Ok(queues) => {
                for (register, manifest) in queues {
                    if core.lacks(&manifest, scope) {
                        core.meet(&register).await;
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the survey of all queues ended early, and is begun anew");
                // Only the process that repairs looks there.
                locked(&core.noticed).everything = true;
                return;
            }
        }
    }
}

impl Core {
    /// A walk through all queues, from the first.
    pub(crate) fn walk(&self) -> Walk {
        self.walk_from(BEFORE_QUEUES.to_owned())
    }

    fn walk_from(&self, last: String) -> Walk {
        let set = self.pool.registers().keepers();
        let told = set.members.iter().map(|member| Told {
            cookie: member.cookie(self.pool.id()),
            page: VecDeque::new(),
            after: last.clone(),
            done: false,
        });
        Walk { told: told.collect(), epoch: set.epoch, needed: set.majority(), last }
    }

    /// The next queues that exist, with their manifests; none: there are no more.
    ///
    /// # Errors
    /// `Unavailable` if no majority of keepers answers.
    pub(crate) async fn next_queues(
        &self,
        walk: &mut Walk,
    ) -> Result<Vec<(String, Manifest)>, Error> {
        loop {
            let page = self.next_registers(walk).await?;
            if page.is_empty() {
                return Ok(Vec::new());
            }
            let queues: Vec<_> = page.into_iter().filter_map(as_queue).collect();
            if !queues.is_empty() {
                return Ok(queues);
            }
        }
    }

    /// The next registers. When keepers change or fail on the way, the walk goes on with those that
    /// there are then.
    async fn next_registers(&self, walk: &mut Walk) -> Result<Vec<RegisterDump>, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_next_registers(walk).await {
                Ok(page) => {
                    if let Some(last) = page.last() {
                        walk.last.clone_from(&last.name);
                    }
                    return Ok(page);
                }
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => {
                    tokio::time::sleep(AGAIN).await;
                    *walk = self.walk_from(walk.last.clone());
                }
            }
        }
    }

    /// The same with these keepers, each register by the highest ballot that was accepted.
    async fn try_next_registers(&self, walk: &mut Walk) -> Result<Vec<RegisterDump>, Error> {
        let epoch = walk.epoch;
        let asked = walk.told.iter_mut().map(async |told| {
            if told.done || !told.page.is_empty() {
                return None;
            }
            let (cookie, after) = (told.cookie, told.after.clone());
            let op = Op::Dump { cookie, epoch, after, limit: PAGE };
            match ask_within::<Dump>(&self.pool, cookie.node, op, LIMIT).await {
                Ok(dump) => {
                    told.done = dump.done || dump.registers.is_empty();
                    if let Some(last) = dump.registers.last() {
                        told.after.clone_from(&last.name);
                    }
                    told.page = dump.registers.into();
                    None
                }
                Err(failure) => Some((cookie, failure)),
            }
        });
        let failed = futures_util::future::join_all(asked).await;
        let failed: Vec<_> = failed.into_iter().flatten().collect();
        walk.told.retain(|told| failed.iter().all(|(cookie, _)| *cookie != told.cookie));
        if walk.told.len() < walk.needed {
            let failures: Vec<_> = failed.into_iter().map(|(_, failure)| failure).collect();
            return Err(unavailable("of all", "no majority of keepers answers", &failures));
        }
        Ok(merge(&mut walk.told))
    }

    fn lacks(&self, manifest: &Manifest, scope: Scope) -> bool {
        let config = self.pool.config();
        manifest.segments.iter().any(|segment| match scope {
            Scope::All if self.has_leaving(segment) => true,
            _ if segment.lost => false,
            Scope::All => self.standing_copies(segment) < config.copies,
            Scope::Thin if segment.is_open() => self.misses_replica(segment),
            Scope::Thin => self.standing_copies(segment) < config.copies_min,
        })
    }

    /// Learns the queue's manifest, so that the upkeep looks after it from now on.
    async fn meet(self: &Arc<Self>, register: &str) {
        let Some(queue) = self.queue_named(register) else { return };
        if let Err(error) = self.manifests.get(&queue).await {
            tracing::debug!(queue = queue.name, %error, "could not read a manifest");
            locked(&self.noticed).registers.insert(register.to_owned());
        }
    }

    /// From now on the process that repairs hears which queues change.
    pub(super) fn notice_changes(self: &Arc<Self>) {
        let core = Arc::downgrade(self);
        self.pool.registers().on_change(move |changed| {
            let Some(core) = core.upgrade().filter(|core| core.pool.repairs()) else { return };
            let mut noticed = locked(&core.noticed);
            match changed {
                Changed::Names(names) => {
                    let queues = names.iter().filter(|name| name.starts_with(QUEUES));
                    noticed.registers.extend(queues.cloned());
                    if noticed.registers.len() > NOTICED {
                        noticed.registers.clear();
                        noticed.everything = true;
                    }
                }
                Changed::Everything => noticed.everything = true,
            }
        });
    }

    /// Looks at queues that others have changed: what they left short is this process's to mend.
    pub(super) async fn look_at_noticed(self: &Arc<Self>) {
        let mut registers = {
            let mut noticed = locked(&self.noticed);
            if std::mem::take(&mut noticed.everything) {
                noticed.registers.clear();
                drop(noticed);
                self.spawn(run(Arc::downgrade(self), Scope::All));
                return;
            }
            std::mem::take(&mut noticed.registers)
        };
        if let Some(first_left) = registers.iter().nth(NOTICED_AT_ONCE).cloned() {
            let left = registers.split_off(&first_left);
            locked(&self.noticed).registers.extend(left);
        }
        let is_known = |register: &String| {
            self.met(register).is_some_and(|queue| self.manifests.cached(&queue).is_some())
        };
        registers.retain(|register| !is_known(register));
        if registers.is_empty() {
            return;
        }
        match self.read_queues(&registers).await {
            Ok(queues) => {
                for (register, manifest) in queues {
                    if self.lacks(&manifest, Scope::All) {
                        self.meet(&register).await;
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, "could not look at queues that changed");
                locked(&self.noticed).registers.extend(registers);
            }
        }
    }

    /// The manifests of these queues, as a majority of keepers has them: one call to each.
    async fn read_queues(
        &self,
        registers: &BTreeSet<String>,
    ) -> Result<Vec<(String, Manifest)>, Error> {
        let set = self.pool.registers().keepers();
        let names: Vec<String> = registers.iter().cloned().collect();
        let asked = set.members.iter().map(|member| {
            let cookie = member.cookie(self.pool.id());
            let op = Op::ReadRegisters { cookie, epoch: set.epoch, names: names.clone() };
            ask_within::<crate::node::Registers>(&self.pool, member.node, op, LIMIT)
        });
        let mut best = BTreeMap::new();
        let mut failures = Vec::new();
        for answer in futures_util::future::join_all(asked).await {
            match answer {
                Ok(held) => {
                    for (name, accepted) in names.iter().zip(held.each) {
                        let place: &mut Option<_> = best.entry(name).or_insert(None);
                        let ballot = |held: &Option<(crate::node::Ballot, bytes::Bytes)>| {
                            held.as_ref().map(|(ballot, _)| *ballot)
                        };
                        if ballot(&accepted) > ballot(place) {
                            *place = accepted;
                        }
                    }
                }
                Err(failure) => failures.push(failure),
            }
        }
        if set.members.len() - failures.len() < set.majority() {
            return Err(unavailable("of all", "no majority of keepers answers", &failures));
        }
        let queues = best.into_iter().filter_map(|(name, accepted)| {
            let (_, value) = accepted?;
            Some((name.clone(), manifest_of(name, &value)?))
        });
        Ok(queues.collect())
    }
}

/// What all keepers have told so far, of each register what has the highest ballot.
fn merge(told: &mut [Told]) -> Vec<RegisterDump> {
    let mut merged = Vec::new();
    // Behind the end of a page that is used up nothing is known yet.
    while told.iter().all(|told| told.done || !told.page.is_empty()) {
        let heads = told.iter().filter_map(|told| told.page.front());
        let Some(name) = heads.map(|head| head.name.clone()).min() else { break };
        let mut best: Option<RegisterDump> = None;
        for told in told.iter_mut() {
            let Some(found) = told.page.pop_front_if(|head| head.name == name) else { continue };
            let ballot = |dump: &RegisterDump| dump.accepted.as_ref().map(|(ballot, _)| *ballot);
            if best.as_ref().is_none_or(|best| ballot(&found) > ballot(best)) {
                best = Some(found);
            }
        }
        merged.extend(best);
    }
    merged
}

fn as_queue(register: RegisterDump) -> Option<(String, Manifest)> {
    let (_, value) = register.accepted?;
    let manifest = manifest_of(&register.name, &value)?;
    Some((register.name, manifest))
}

/// The manifest in a register, if the queue exists.
fn manifest_of(name: &str, value: &bytes::Bytes) -> Option<Manifest> {
    if !name.starts_with(QUEUES) {
        return None;
    }
    let stored = Stored::decode(name, Some(value)).ok()?;
    let manifest = Manifest::decode(&stored.value?).ok()?;
    manifest.alive.then_some(manifest)
}
