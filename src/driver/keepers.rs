//! Keeps the keepers complete: gives those that forgot, or are gone, a successor (Q6, Q9).
//!
//! 1. The next set is decided in the pool register, by the present keepers.
//! 2. Its epoch is raised on the present keepers: a majority that was raised refuses older ones.
//! 3. Only then is what that majority holds copied to the new keepers, and they are let vote.
//!
//! Every step is idempotent; any process does, or finishes, any of them. Why nothing chosen is
//! lost on the way is in specs/registers.md.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;

use crate::driver::nodes::Health;
use crate::driver::quorum::keep;
use crate::error::Error;
use crate::id::NodeId;
use crate::node::{Op, Refusal, Reply};
use crate::pool::Core;
use crate::protocol::view::{KeeperSet, Member, majority};

/// A keeper that has not answered for this long is replaced, if another node is at hand.
const GONE_AFTER_MS: u64 = 5_000;
/// Registers copied in one call.
const PAGE: u32 = 128;
/// How long one call may take.
const LIMIT: Duration = Duration::from_secs(2);
/// How often the keepers are looked after when all is well, and when it is not.
const CALM: Duration = Duration::from_secs(1);
const BUSY: Duration = Duration::from_millis(20);
/// They are never looked after more often than this.
const PAUSE: Duration = Duration::from_millis(2);

/// What a node said when it was told the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Voice {
    Votes,
    /// A keeper of this epoch that has to be filled first.
    Silent,
    /// No answer, or no such node any more.
    Absent,
}

/// That a keeper gets its own place back belongs to its node's new life, of which the log tells.
fn tell(before: &KeeperSet, next: &KeeperSet) {
    let nodes = |set: &KeeperSet| set.members.iter().map(|member| member.node).collect::<Vec<_>>();
    let (epoch, members) = (next.epoch, nodes(next));
    if members == nodes(before) {
        tracing::debug!(%epoch, "a keeper gets its place back");
    } else {
        tracing::info!(%epoch, ?members, "other nodes keep the manifests from now on");
    }
}

impl Core {
    /// Looks after the keepers for ever.
    pub(crate) async fn tend_keepers(self: Arc<Self>) {
        let mut complete = false;
        let mut pause = BUSY;
        loop {
            tokio::select! {
                biased;
                () = self.registers.trouble.notified() => complete = false,
                () = sleep(pause) => {}
            }
            complete = match self.mend_keepers(complete).await {
                Ok(all_vote) => all_vote,
                Err(error) => {
                    tracing::warn!(%error, "cannot look after the keepers");
                    false
                }
            };
            pause = if complete { CALM } else { (pause * 2).min(CALM / 4) };
            // Many troubles at once are one.
            sleep(PAUSE).await;
        }
    }

    /// Does what is to be done now. Returns whether all keepers vote; if `complete`, they did.
    pub(crate) async fn mend_keepers(&self, complete: bool) -> Result<bool, Error> {
        // Those that do not vote yet come first: without them there may be no majority that could
        // decide anything, not even who follows them.
        let present = if complete { Ok(true) } else { self.complete_keepers().await };
        match self.change_keepers().await? {
            true => self.complete_keepers().await,
            false => present,
        }
    }

    /// Decides the next set of keepers, if one is needed. Returns whether those that there are then
    /// have to be completed: as soon as somebody else has decided a set, too, since what is being asked
    /// of the keepers may wait for just that.
    async fn change_keepers(&self) -> Result<bool, Error> {
        let epoch = self.registers.keepers().epoch;
        let is_over = || self.registers.keepers().epoch != epoch;
        let mut decided = pin!(self.decide_keepers());
        let mut troubled = false;
        loop {
            tokio::select! {
                biased;
                decided = &mut decided => return Ok(decided? || troubled || is_over()),
                () = self.registers.trouble.notified() => troubled = true,
            }
            if is_over() {
                return Ok(true);
            }
        }
    }

    /// Decides the next set of keepers, if one is needed; returns whether it did.
    async fn decide_keepers(&self) -> Result<bool, Error> {
        let known = self.registers.keepers();
        let mut view = self.view();
        if view.keepers.epoch < known.epoch {
            view = self.refresh().await?;
        }
        let (usable, gone) = self.usable_and_gone();
        if view.next_keepers(&usable, &gone).is_none() {
            return Ok(false);
        }
        // Processes notice the same thing at the same time; one of them is enough.
        sleep(Duration::from_millis(self.env.random_below(5))).await;
        self.change_view(|view| {
            if view.keepers.epoch != known.epoch {
                return Ok(false);
            }
            let Some(next) = view.next_keepers(&usable, &gone) else { return Ok(false) };
            tell(&view.keepers, &next);
            view.keepers = next;
            Ok(true)
        })
        .await
    }

    /// Nodes that could be keepers, and nodes that have not answered for long.
    fn usable_and_gone(&self) -> (BTreeSet<NodeId>, BTreeSet<NodeId>) {
        let (mut usable, mut gone) = (BTreeSet::new(), BTreeSet::new());
        for node in self.view().nodes.keys() {
            match self.nodes.health(*node) {
                Health::Up => usable.insert(*node),
                Health::Down { for_ms } if for_ms > GONE_AFTER_MS => {
                    // A node that this process was not given says nothing.
                    self.nodes.index_of(*node).is_some() && gone.insert(*node)
                }
                Health::Down { .. } | Health::Suspect | Health::Full => false,
            };
        }
        (usable, gone)
    }

    /// Tells all keepers their epoch and fills those that do not vote yet.
    pub(super) async fn complete_keepers(&self) -> Result<bool, Error> {
        let set = self.registers.keepers();
        let voices = join_all(set.members.iter().map(|member| self.raise(&set, *member))).await;
        let said = |wanted| {
            let members = set.members.iter().zip(&voices);
            members.filter(move |(_, voice)| **voice == wanted).map(|(member, _)| *member)
        };
        let silent: Vec<_> = said(Voice::Silent).collect();
        if !silent.is_empty() {
            self.fill(&set, &silent).await?;
        }
        Ok(said(Voice::Votes).count() + silent.len() == set.members.len())
    }

    /// Tells a keeper its epoch, and asks whether it votes.
    async fn raise(&self, set: &KeeperSet, member: Member) -> Voice {
        let cookie = member.cookie(self.id);
        let Some(keep) = keep(cookie, set) else { return Voice::Absent };
        let nothing = Op::ReadRegisters { cookie, epoch: set.epoch, names: Vec::new() };
        let answer = self.nodes.ask(member.node, vec![keep, nothing], None).await;
        match answer.map(|mut replies| replies.pop()) {
            Ok(Some(Reply::Registers(_))) => Voice::Votes,
            Ok(Some(Reply::Refused(Refusal::NotKeeper))) => Voice::Silent,
            Ok(Some(Reply::Refused(Refusal::Epoch { keepers, .. }))) => {
                self.registers.adopt_bytes(&keepers);
                Voice::Absent
            }
            _ => Voice::Absent,
        }
    }

    /// Copies to `silent` what a majority of the keepers of the epoch before hold, all of them
    /// raised to this epoch before, and lets them vote.
    async fn fill(&self, set: &KeeperSet, silent: &[Member]) -> Result<(), Error> {
        // In the first epoch there is nothing that they could have missed.
        let needed = if set.previous.is_empty() { 0 } else { majority(set.previous.len()) };
        let copied = join_all(set.previous.iter().map(async |source| {
            if silent.contains(source) || self.raise(set, *source).await != Voice::Votes {
                return silent.iter().map(|_| false).collect();
            }
            self.copy_all(set, *source, silent).await
        }))
        .await;
        for (at, member) in silent.iter().enumerate() {
            let sources = copied.iter().filter(|each: &&Vec<bool>| each.get(at) == Some(&true));
            let sources = sources.count();
            if sources < needed {
                return Err(Error::unavailable(format!(
                    "the new keeper {} cannot be filled: {sources} of {needed} old ones answer",
                    member.node
                )));
            }
        }
        let activate = |member: &Member| {
            let op = Op::Activate { cookie: member.cookie(self.id), epoch: set.epoch };
            self.nodes.ask(member.node, vec![op], Some(LIMIT))
        };
        for (member, answer) in silent.iter().zip(join_all(silent.iter().map(activate)).await) {
            match answer.map(|mut replies| replies.pop()) {
                Ok(Some(Reply::Done)) => {
                    tracing::debug!(node = %member.node, epoch = %set.epoch, "the keeper votes");
                }
                answer => {
                    let message = format!("the new keeper {} does not answer", member.node);
                    tracing::debug!(?answer, message);
                    return Err(Error::unavailable(message));
                }
            }
        }
        Ok(())
    }

    /// Copies all registers of `source`; tells for each target whether it took all of them.
    async fn copy_all(&self, set: &KeeperSet, source: Member, targets: &[Member]) -> Vec<bool> {
        let mut took = vec![true; targets.len()];
        let mut after = String::new();
        loop {
            let cookie = source.cookie(self.id);
            let dump = Op::Dump { cookie, epoch: set.epoch, after, limit: PAGE };
            let answer = self.nodes.ask(source.node, vec![dump], Some(LIMIT)).await;
            let Ok(Some(Reply::Dump(page))) = answer.map(|mut replies| replies.pop()) else {
                return vec![false; targets.len()];
            };
            let restore = |target: &Member| {
                let cookie = target.cookie(self.id);
                let registers = page.registers.clone();
                let op = Op::Restore { cookie, epoch: set.epoch, registers };
                self.nodes.ask(target.node, vec![op], Some(LIMIT))
            };
            let answers = join_all(targets.iter().map(restore)).await;
            for (took, answer) in took.iter_mut().zip(answers) {
                *took &= matches!(answer.as_deref(), Ok([Reply::Done]));
            }
            match page.registers.last() {
                Some(last) if !page.done => after = last.name.clone(),
                _ => return took,
            }
        }
    }
}
