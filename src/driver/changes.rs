//! What changed in the registers: asked of a majority of keepers once a second, in one call each.
//!
//! Every keeper logs what it accepts. A change that a majority accepted before the question was
//! sent is therefore named by any majority's answers, as long as each of these keepers has been
//! followed without a break. Of a keeper that has not been (a new one, or one whose log starts
//! over) it cannot be told what was missed: then everything may have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

use super::quorum::keep;
use super::registers::Registers;
use crate::node::{Op, Refusal, Reply};
use crate::protocol::view::{KeeperSet, Member};

/// Names that one call asks for at most.
const PAGE: u32 = 4_096;
/// How long one call may take.
const LIMIT: Duration = Duration::from_secs(1);

/// What changed since the last time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Changed {
    /// Registers of these names, and perhaps not even all of them.
    Names(BTreeSet<String>),
    /// It cannot be told.
    Everything,
}

impl Changed {
    pub(crate) fn includes(&self, name: &str) -> bool {
        match self {
            Self::Names(names) => names.contains(name),
            Self::Everything => true,
        }
    }
}

type Listener = Arc<dyn Fn(&Changed) + Send + Sync>;

/// How far the keepers' logs were followed, and who wants to know.
pub(crate) struct Changes {
    followed: Mutex<BTreeMap<Member, u64>>,
    fresh_at: Mutex<Instant>,
    listeners: Mutex<Vec<Listener>>,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            followed: Mutex::default(),
            fresh_at: Mutex::new(Instant::now()),
            listeners: Mutex::default(),
        }
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("fresh_at", &self.fresh_at).finish_non_exhaustive()
    }
}

/// A keeper's log since the last time.
struct Told {
    member: Member,
    upto: u64,
    names: Vec<String>,
    /// Whether it was followed without a break.
    unbroken: bool,
}

impl Registers {
    /// Calls `listener` with what changed, about once a second, before [`Registers::fresh_at`]
    /// moves on. It must be quick, and must not own the pool.
    pub(crate) fn on_change(&self, listener: impl Fn(&Changed) + Send + Sync + 'static) {
        let mut listeners = self.changes.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.push(Arc::new(listener));
    }

    /// All changes up to this moment have been told to the listeners.
    ///
    /// What a caller read itself is as fresh as the moment before that read, until a change told
    /// later. A value read before a change was told and cached after it must not be trusted.
    pub(crate) fn fresh_at(&self) -> Instant {
        *self.changes.fresh_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks once what changed and tells the listeners. `None`: no majority answered.
    pub(crate) async fn poll_changes(&self) -> Option<Changed> {
        let start = Instant::now();
        let set = self.keepers();
        let told = self.follow(&set, start).await;
        if told.len() < set.majority() || self.keepers().epoch != set.epoch {
            return None;
        }
        let changed = if told.iter().all(|told| told.unbroken) {
            Changed::Names(told.iter().flat_map(|told| told.names.iter().cloned()).collect())
        } else {
            Changed::Everything
        };
        let mut followed = self.changes.followed.lock().unwrap_or_else(PoisonError::into_inner);
        followed.retain(|member, _| set.members.contains(member));
        followed.extend(told.iter().map(|told| (told.member, told.upto)));
        drop(followed);
        let listeners =
            self.changes.listeners.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if changed != Changed::Names(BTreeSet::new()) {
            listeners.iter().for_each(|listener| listener(&changed));
        }
        *self.changes.fresh_at.lock().unwrap_or_else(PoisonError::into_inner) = start;
        Some(changed)
    }

    /// The logs of all keepers that answer in time, or of a majority that takes longer.
    async fn follow(&self, set: &Arc<KeeperSet>, start: Instant) -> Vec<Told> {
        let followed = self.changes.followed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut asked: FuturesUnordered<_> = set
            .members
            .iter()
            .map(|member| self.follow_one(set, *member, followed.get(member).copied()))
            .collect();
        let patience = set.members.iter().map(|member| self.nodes.patience(member.node)).max();
        let mut late = std::pin::pin!(sleep_until(start + patience.unwrap_or_default()));
        let mut is_late = false;
        let mut told = Vec::new();
        loop {
            tokio::select! {
                biased;
                next = asked.next() => match next {
                    Some(one) => told.extend(one),
                    None => return told,
                },
                () = &mut late, if !is_late => is_late = true,
            }
            if is_late && told.len() >= set.majority() {
                return told;
            }
        }
    }

    async fn follow_one(
        &self,
        set: &Arc<KeeperSet>,
        member: Member,
        followed: Option<u64>,
    ) -> Option<Told> {
        let cookie = member.cookie(self.pool);
        let mut told =
            Told { member, upto: followed.unwrap_or(0), names: Vec::new(), unbroken: true };
        told.unbroken = followed.is_some();
        let mut tell_epoch = false;
        loop {
            let ask = Op::Changes { cookie, epoch: set.epoch, since: told.upto, limit: PAGE };
            let mut ops = vec![ask];
            if tell_epoch {
                ops.insert(0, keep(cookie, set)?);
            }
            let mut replies = self.nodes.ask(member.node, ops, Some(LIMIT)).await.ok()?;
            match replies.pop()? {
                Reply::Changes(page) => {
                    told.unbroken &= page.upto >= told.upto;
                    told.upto = page.upto;
                    // Names are of no use once some are missing.
                    if told.unbroken {
                        told.names.extend(page.names);
                    }
                    if page.complete {
                        return Some(told);
                    }
                }
                Reply::Refused(Refusal::Epoch { epoch, .. })
                    if epoch < set.epoch && !tell_epoch =>
                {
                    tell_epoch = true;
                }
                Reply::Refused(Refusal::Epoch { keepers, .. }) => {
                    self.adopt_bytes(&keepers);
                    return None;
                }
                _ => {
                    self.trouble.notify_one();
                    return None;
                }
            }
        }
    }
}
