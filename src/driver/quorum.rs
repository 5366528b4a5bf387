//! Asking all keepers at once, whatever they are asked.
//!
//! Keepers that missed an epoch are told of it on the way; a newer set of keepers is taken over and
//! the question begins anew; tries are spaced out at random and end by the deadline.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep};

use super::nodes::Health;
use super::registers::Registers;
use crate::error::{Error, ErrorKind};
use crate::id::{Cookie, Epoch, NodeId};
use crate::node::{Op, Refusal, Reply};
use crate::protocol::register::Count;
use crate::protocol::view::{KeeperSet, Member};

/// How long a phase waits for a keeper that decides it.
const PHASE_LIMIT: Duration = Duration::from_secs(1);

/// What a keeper said.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "handed over once, never stored")]
pub(super) enum Heard {
    Reply(Reply),
    /// The node that was the keeper has forgotten all about it.
    Stranger,
    Silent,
    /// Not an answer: the keepers have had their time.
    Late,
}

/// How a question to all keepers ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Ended,
    /// There is a newer set of keepers.
    Moved,
}

/// One operation's time and troubles.
pub(super) struct Try {
    pub(super) deadline: Instant,
    rounds: u32,
    /// The highest round for which a keeper refused ours.
    pub(super) refused: u64,
    /// The epoch that was asked last, and how many of its keepers have forgotten.
    epoch: Epoch,
    strangers: usize,
    answered: usize,
}

impl Registers {
    /// The newest set of keepers that this process knows.
    pub(crate) fn keepers(&self) -> Arc<KeeperSet> {
        self.keepers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why no majority of the keepers can answer, if that is known: so many of them are down.
    pub(crate) fn away(&self) -> Option<Error> {
        let set = self.keepers();
        let is_down =
            |member: &&Member| matches!(self.nodes.health(member.node), Health::Down { .. });
        let down: Vec<Member> = set.members.iter().filter(is_down).copied().collect();
        if set.members.len() - down.len() >= set.majority() {
            return None;
        }
        let names: Vec<String> = down.iter().map(|member| self.name_of(member.node)).collect();
        Some(Error::unavailable(format!(
            "{} of {} keepers are down ({}), and what changes a queue's segments needs most of them",
            down.len(),
            set.members.len(),
            names.join(", ")
        )))
    }

    fn name_of(&self, node: NodeId) -> String {
        let name = self.nodes.index_of(node).map(|index| self.nodes.name(index));
        name.unwrap_or_else(|| format!("node {node}"))
    }

    /// Takes a set of keepers that was decided, if it is newer. Returns whether it was.
    pub(crate) fn adopt(&self, set: KeeperSet) -> bool {
        let mut keepers = self.keepers.lock().unwrap_or_else(PoisonError::into_inner);
        if set.epoch <= keepers.epoch {
            return false;
        }
        tracing::debug!(epoch = %set.epoch, "keepers of a new epoch");
        *keepers = Arc::new(set);
        drop(keepers);
        self.trouble.notify_one();
        true
    }

    /// Asks all keepers at once and hands over what each says, until `enough` says so or all have
    /// answered. It hears of it once when those that are silent have had their time: the longest
    /// patience of a keeper, or none if all of them are in doubt already. A keeper that missed an
    /// epoch is told of it on the way.
    pub(super) async fn ask_all(
        &self,
        set: &Arc<KeeperSet>,
        op: impl Fn(Cookie) -> Op,
        tries: &mut Try,
        mut enough: impl FnMut(Heard) -> bool,
    ) -> Asked {
        let limit = PHASE_LIMIT.min(tries.deadline.duration_since(Instant::now()));
        let ask = |member: Member, ops: Vec<Op>| {
            let catching_up = ops.len() > 1;
            let answer = self.nodes.ask(member.node, ops, Some(limit));
            async move { (member, catching_up, answer.await.map(|mut replies| replies.pop())) }
        };
        let patience = set.members.iter().map(|member| self.nodes.patience(member.node)).max();
        let mut late = std::pin::pin!(sleep(patience.unwrap_or_default()));
        let mut is_late = false;
        let mut asked = FuturesUnordered::new();
        for member in &set.members {
            asked.push(ask(*member, vec![op(member.cookie(self.pool))]));
        }
        let mut awaited: Vec<Member> = set.members.clone();
        (tries.epoch, tries.strangers, tries.answered) = (set.epoch, 0, 0);
        loop {
            // Those in doubt have had their time, with whatever put them there.
            let is_over = awaited.iter().all(|member| self.nodes.in_doubt(member.node));
            let next = tokio::select! {
                biased;
                next = asked.next() => next,
                () = async { if !is_over { late.as_mut().await } }, if !is_late => {
                    is_late = true;
                    if enough(Heard::Late) {
                        return Asked::Ended;
                    }
                    continue;
                }
            };
            let Some((member, catching_up, answer)) = next else { return Asked::Ended };
            let heard = match answer {
                Ok(Some(Reply::Refused(Refusal::Epoch { epoch, .. })))
                    if epoch < set.epoch && !catching_up =>
                {
                    let cookie = member.cookie(self.pool);
                    if let Some(keep) = keep(cookie, set) {
                        asked.push(ask(member, vec![keep, op(cookie)]));
                        continue;
                    }
                    Heard::Silent
                }
                Ok(Some(Reply::Refused(Refusal::Epoch { epoch, keepers }))) => {
                    if epoch > set.epoch && self.adopt_bytes(&keepers) {
                        return Asked::Moved;
                    }
                    Heard::Silent
                }
                Ok(Some(Reply::Refused(Refusal::Stranger { .. }))) => {
                    tries.strangers += 1;
                    self.trouble.notify_one();
                    Heard::Stranger
                }
                Ok(Some(Reply::Refused(Refusal::NotKeeper))) => {
                    self.trouble.notify_one();
                    Heard::Silent
                }
                Ok(Some(reply)) => Heard::Reply(reply),
                Ok(None) | Err(_) => Heard::Silent,
            };
            awaited.retain(|other| *other != member);
            tries.answered += usize::from(!matches!(heard, Heard::Silent));
            if enough(heard) {
                return Asked::Ended;
            }
        }
    }

    /// Takes a set as a keeper tells it: keepers are told decided sets only.
    pub(super) fn adopt_bytes(&self, keepers: &[u8]) -> bool {
        match KeeperSet::decode(keepers) {
            Ok(set) => self.adopt(set),
            Err(error) => {
                tracing::error!(%error, "a keeper's set of keepers cannot be read");
                false
            }
        }
    }

    /// Prepares the next try, or says why there is none.
    pub(super) async fn again(&self, name: &str, tries: &mut Try, sent: bool) -> Result<(), Error> {
        let set = self.keepers();
        let forgot =
            tries.epoch == set.epoch && tries.strangers > set.members.len() - set.majority();
        let unbound = set.members.iter().any(|member| self.nodes.index_of(member.node).is_none());
        if forgot || unbound {
            let none_is_newer = self.look_around().await;
            if forgot && none_is_newer {
                return Err(self.lost(&set));
            }
        }
        // Doubled up to a limit, drawn at random so that two proposers part.
        let most = (4_u64 << tries.rounds.min(5)).min(100);
        let wait = Duration::from_millis(1 + self.env.random_below(most));
        tries.rounds += 1;
        let now = Instant::now();
        if now + wait >= tries.deadline {
            let error = self.unavailable(name, tries);
            return Err(if sent { error.unknown() } else { error });
        }
        sleep(wait).await;
        Ok(())
    }

    /// Asks every node which node it is and which keepers it knows of. Returns whether all answered
    /// and none knew a newer set: then what the keepers forgot is lost.
    async fn look_around(&self) -> bool {
        let known = self.keepers().epoch;
        let is_in_use =
            |slot: &usize| self.nodes.slot(*slot).is_some_and(|slot| !slot.is_retired());
        let slots: Vec<usize> = self.nodes.slots().filter(is_in_use).collect();
        let ask = |slot| self.nodes.ask_slot(slot, vec![Op::Identity], Some(PHASE_LIMIT));
        let answers = join_all(slots.iter().copied().map(ask)).await;
        let mut all = true;
        for (slot, answer) in slots.into_iter().zip(answers) {
            let Ok(Some(Reply::Identity(identity))) = answer.map(|mut replies| replies.pop())
            else {
                all = false;
                continue;
            };
            let Some((held, _)) = identity.cookie.filter(|(held, _)| held.pool == self.pool) else {
                continue;
            };
            if self.nodes.index_of(held.node).is_none() {
                self.nodes.bind(held.node, slot);
            }
            if let Some(keeper) = identity.keeper {
                self.adopt_bytes(&keeper.keepers);
            }
        }
        all && self.keepers().epoch == known
    }

    fn lost(&self, set: &KeeperSet) -> Error {
        let names: Vec<_> = set
            .members
            .iter()
            .filter_map(|member| self.nodes.index_of(member.node))
            .map(|index| self.nodes.name(index))
            .collect();
        let message = format!(
            "the pool's registers are lost: most of the keepers ({}) have forgotten everything",
            names.join(", ")
        );
        Error::new(ErrorKind::Lost, message)
    }

    pub(super) fn unavailable(&self, name: &str, tries: &Try) -> Error {
        let set = self.keepers();
        Error::unavailable(format!(
            "register {name}: no majority of keepers agreed in time ({} of {} answered last)",
            tries.answered,
            set.members.len()
        ))
    }

    pub(super) fn tries(&self) -> Try {
        Try {
            deadline: Instant::now() + self.deadline,
            rounds: 0,
            refused: 0,
            epoch: Epoch(0),
            strangers: 0,
            answered: 0,
        }
    }
}

/// Tells a keeper its epoch.
pub(super) fn keep(cookie: Cookie, set: &KeeperSet) -> Option<Op> {
    Some(Op::Keep { cookie, epoch: set.epoch, keepers: set.encode().ok()? })
}

impl Count {
    /// Counts anything but agreement.
    pub(super) fn take(&mut self, heard: &Heard) {
        match heard {
            Heard::Reply(Reply::Refused(Refusal::Ballot { promised })) => self.refuse(*promised),
            Heard::Late => self.late(),
            Heard::Reply(_) | Heard::Stranger | Heard::Silent => self.abstain(),
        }
    }
}
