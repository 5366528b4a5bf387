//! Registers: values on which all processes agree, kept by a majority of keepers (Q6).
//!
//! What is decided is in `protocol::register`; why a chosen value is never lost, also while
//! keepers forget and are replaced, is in specs/registers.md. Every operation asks all keepers at
//! once, goes on as soon as a majority has answered, and ends by the configured deadline.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::timeout_at;

use super::changes::Changes;
use super::nodes::Nodes;
use super::quorum::{Asked, Heard, Try};
use crate::config::Config;
use crate::env::Env;
use crate::error::Error;
use crate::id::{PoolId, ProducerId};
use crate::node::{Accept, Ballot, Op, Reply};
use crate::protocol::register::{
    Count, Phase, Reading, Seen, Stored, merge_names, next_round, seen,
};
use crate::protocol::view::KeeperSet;

/// Names that one `ListIndex` asks for at most.
const MAX_NAMES: usize = 10_000;

/// What follows from a register's current value.
#[derive(Debug)]
pub(crate) enum Change<T> {
    /// Write this.
    Write {
        /// The value, not empty.
        value: Bytes,
        /// Whether the register is listed in the index, if it has a place there.
        listed: bool,
        /// What the caller gets once it is written.
        out: T,
    },
    /// Leave it as it is.
    Keep(T),
}

/// The registers of one pool.
#[derive(Debug)]
pub(crate) struct Registers {
    pub(super) pool: PoolId,
    pub(super) nodes: Arc<Nodes>,
    pub(super) env: Env,
    me: ProducerId,
    pub(super) deadline: Duration,
    pub(super) keepers: Mutex<Arc<KeeperSet>>,
    /// The last round that this process used, in any register: no ballot is used twice.
    round: AtomicU64,
    /// One writer of a register at a time in this process: they would only outbid each other.
    turns: Mutex<BTreeMap<String, Weak<tokio::sync::Mutex<()>>>>,
    /// Keepers do not vote as they should, or their set is another one: somebody should look.
    pub(super) trouble: Notify,
    pub(super) changes: Changes,
}

impl Registers {
    pub(crate) fn new(
        pool: PoolId,
        nodes: Arc<Nodes>,
        env: Env,
        config: &Config,
        me: ProducerId,
        keepers: KeeperSet,
    ) -> Self {
        Self {
            pool,
            nodes,
            env,
            me,
            deadline: config.deadline,
            keepers: Mutex::new(Arc::new(keepers)),
            round: AtomicU64::new(0),
            turns: Mutex::default(),
            trouble: Notify::new(),
            changes: Changes::default(),
        }
    }

    /// The value as of some moment during the call.
    ///
    /// # Errors
    /// Unavailable when no majority of keepers answers in time.
    pub(crate) async fn read(&self, name: &str) -> Result<Option<Bytes>, Error> {
        let mut tries = self.tries();
        let set = self.keepers();
        let mut reading = Reading::of(set.members.len());
        let read = |cookie| {
            let names = vec![name.to_owned()];
            Op::ReadRegisters { cookie, epoch: set.epoch, names }
        };
        let asked = self
            .ask_all(&set, read, &mut tries, |heard| {
                match heard {
                    Heard::Reply(Reply::Registers(mut held)) => {
                        held.each.pop().into_iter().for_each(|held| reading.take(held));
                    }
                    Heard::Late => reading.late(),
                    Heard::Reply(_) | Heard::Stranger | Heard::Silent => {}
                }
                reading.phase() != Phase::Open
            })
            .await;
        if asked == Asked::Ended
            && let Phase::Done(accepted) = reading.phase()
        {
            return Ok(Stored::decode(name, accepted.as_ref().map(|(_, value)| value))?.value);
        }
        // The keepers differ: a write is under way or was left half-done. Finish it.
        self.update_by(tries, name, None, |value| Ok(Change::Keep(value.cloned()))).await
    }

    /// Changes a register by `change`, which is given the current value and may be run again
    /// whenever somebody else was first. What it returned last is what took effect.
    ///
    /// With an `index` (project and queue) the register is listed there, or taken out, in the step
    /// that writes it.
    ///
    /// # Errors
    /// Those of `change`; Unavailable when no majority of keepers answers in time, with an unknown
    /// outcome if a value had been sent.
    pub(crate) async fn update<T, F>(
        &self,
        name: &str,
        index: Option<(String, String)>,
        change: F,
    ) -> Result<T, Error>
    where
        F: FnMut(Option<&Bytes>) -> Result<Change<T>, Error> + Send,
        T: Send,
    {
        self.update_by(self.tries(), name, index, change).await
    }

    async fn update_by<T, F>(
        &self,
        mut tries: Try,
        name: &str,
        index: Option<(String, String)>,
        change: F,
    ) -> Result<T, Error>
    where
        F: FnMut(Option<&Bytes>) -> Result<Change<T>, Error> + Send,
        T: Send,
    {
        let turn = self.turn(name);
        let Ok(held) = timeout_at(tries.deadline, turn.lock()).await else {
            return Err(self.unavailable(name, &tries));
        };
        let result = self.update_in_turn(name, index, change, &mut tries).await;
        drop(held);
        self.end_turn(name, turn);
        result
    }

    async fn update_in_turn<T, F>(
        &self,
        name: &str,
        index: Option<(String, String)>,
        mut change: F,
        tries: &mut Try,
    ) -> Result<T, Error>
    where
        F: FnMut(Option<&Bytes>) -> Result<Change<T>, Error> + Send,
        T: Send,
    {
        // Values sent whose fate is unknown. At most one of them is in the register's history.
        let mut sent: Vec<((u64, u64), T)> = Vec::new();
        loop {
            let set = self.keepers();
            let ballot = self.ballot(tries.refused);
            let Some(shown) = self.prepare(&set, name, ballot, tries).await else {
                self.again(name, tries, !sent.is_empty()).await?;
                continue;
            };
            let found = Stored::decode(name, shown.accepted.as_ref().map(|(_, value)| value))?;
            let took_effect = sent.iter().position(|(write, _)| found.writes.contains(write));
            let next = match took_effect {
                Some(at) => Next::Told(at),
                None => match change(found.value.as_ref()) {
                    Ok(Change::Write { value, listed, out }) => {
                        let place = |(project, queue)| (project, queue, listed);
                        let write = (self.me.0, self.env.random());
                        let value = found.followed_by(write, index.clone().map(place), value);
                        Next::Write(value, write, out)
                    }
                    Ok(Change::Keep(out)) => Next::Unchanged(Ok(out)),
                    Err(error) => Next::Unchanged(Err(error)),
                },
            };
            // What is told must be so for good: the value found is chosen, and what was sent
            // before can be chosen no more. Unless that is certain already, both hold as soon as
            // the value found was accepted once more, under this ballot.
            let settled = shown.chosen && (sent.is_empty() || took_effect.is_some());
            let write = if let Next::Write(value, ..) = &next { value } else { &found };
            let done = (settled && !matches!(next, Next::Write(..)))
                || self.accept(&set, name, ballot, write, tries).await?;
            match next {
                Next::Write(_, _, out) if done => return Ok(out),
                Next::Write(_, write, out) => sent.push((write, out)),
                Next::Told(at) if done => return Ok(sent.swap_remove(at).1),
                Next::Unchanged(result) if done => return result,
                Next::Told(_) | Next::Unchanged(_) => {}
            }
            self.again(name, tries, !sent.is_empty()).await?;
        }
    }

    /// Names listed under a project, strictly after `after`, in order: the union of what a
    /// majority lists. A name may be listed whose register says otherwise: half-done writes.
    ///
    /// # Errors
    /// Unavailable when no majority of keepers answers in time.
    pub(crate) async fn names(
        &self,
        project: &str,
        after: &str,
        limit: usize,
    ) -> Result<Vec<String>, Error> {
        let limit = limit.clamp(1, MAX_NAMES);
        let mut tries = self.tries();
        loop {
            let set = self.keepers();
            let needed = set.majority();
            let mut pages = Vec::new();
            let asked = self
                .ask_all(
                    &set,
                    |cookie| Op::ListIndex {
                        cookie,
                        epoch: set.epoch,
                        project: project.to_owned(),
                        after: after.to_owned(),
                        limit: u32::try_from(limit).unwrap_or(u32::MAX),
                    },
                    &mut tries,
                    |heard| {
                        if let Heard::Reply(Reply::Names(page)) = heard {
                            pages.push(page.names);
                        }
                        pages.len() >= needed
                    },
                )
                .await;
            if asked == Asked::Ended && pages.len() >= needed {
                return Ok(merge_names(pages, limit));
            }
            self.again("of the index", &mut tries, false).await?;
        }
    }

    /// Has a majority promise `ballot`, and tells what was accepted before.
    async fn prepare(
        &self,
        set: &Arc<KeeperSet>,
        name: &str,
        ballot: Ballot,
        tries: &mut Try,
    ) -> Option<Seen> {
        let mut count = Count::of(set.members.len());
        let mut promises = Vec::new();
        let prepare =
            |cookie| Op::Prepare { cookie, epoch: set.epoch, name: name.to_owned(), ballot };
        let asked = self
            .ask_all(set, prepare, tries, |heard| {
                match heard {
                    Heard::Reply(Reply::Promise(promise)) => {
                        promises.push(promise.accepted);
                        count.agree();
                    }
                    other => count.take(&other),
                }
                count.phase() != Phase::Open
            })
            .await;
        tries.refused = tries.refused.max(count.refused().map_or(0, |ballot| ballot.round));
        let done = asked == Asked::Ended && count.phase() == Phase::Done(());
        done.then(|| seen(&promises, set.members.len()))
    }

    /// Whether a majority accepted `value`. If not, a minority may have.
    async fn accept(
        &self,
        set: &Arc<KeeperSet>,
        name: &str,
        ballot: Ballot,
        value: &Stored,
        tries: &mut Try,
    ) -> Result<bool, Error> {
        let mut count = Count::of(set.members.len());
        let bytes = value.encode()?;
        let accept = |cookie| {
            Op::Accept(Accept {
                cookie,
                epoch: set.epoch,
                name: name.to_owned(),
                ballot,
                value: bytes.clone(),
                index: value.node_index(),
            })
        };
        let asked = self
            .ask_all(set, accept, tries, |heard| {
                match heard {
                    Heard::Reply(Reply::Done) => count.agree(),
                    other => count.take(&other),
                }
                count.phase() != Phase::Open
            })
            .await;
        tries.refused = tries.refused.max(count.refused().map_or(0, |ballot| ballot.round));
        Ok(asked == Asked::Ended && count.phase() == Phase::Done(()))
    }

    /// A ballot that nobody has used.
    fn ballot(&self, seen: u64) -> Ballot {
        let now_ms = self.env.clock.now_ms();
        let next = |used| Some(next_round(now_ms, used, seen));
        let used = self.round.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let used = used.unwrap_or_else(|used| used);
        Ballot { round: next_round(now_ms, used, seen), by: self.me.0 }
    }

    fn turn(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = turns.get(name).and_then(Weak::upgrade) {
            return turn;
        }
        // Those of cancelled calls are left behind: swept now and then.
        if turns.len() > 1_000 {
            turns.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        turns.insert(name.to_owned(), Arc::downgrade(&turn));
        turn
    }

    fn end_turn(&self, name: &str, turn: Arc<tokio::sync::Mutex<()>>) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::strong_count(&turn) == 1 {
            turns.remove(name);
        }
    }
}

/// What a proposer does with what it found.
enum Next<T> {
    /// Write this, under this number.
    Write(Stored, (u64, u64), T),
    /// The value sent as number so many has taken effect.
    Told(usize),
    /// Nothing is to be written.
    Unchanged(Result<T, Error>),
}
