//! Deleting messages.
//!
//! A delete that one full replica took has happened, whatever the others said: it is finished on
//! all of them by whoever meets it (Q8). That replica must still be full in a manifest read
//! afterwards, or it speaks for nobody.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::ask::unavailable;
use super::holders::{Answers, Everywhere, Spread};
use super::{Core, QueueState, locked};
use crate::error::{Error, ErrorKind};
use crate::id::{MessageRef, Placement, ReplicaAt, SegmentNo, Version};
use crate::message::Message;
use crate::node::{Coverage, Delete, DeleteStatus, Deleted, Guard, Op};
use crate::protocol::frontier::covered;
use crate::protocol::manifest::Segment;
use crate::queue::{ClaimOptions, DeleteWhere, Popped};
use crate::token::{ClaimId, MessageId, QueueTag};

/// How long messages on their way out are kept from others.
const POP_TTL: Duration = Duration::from_secs(30);

/// What a delete came to, for one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// This call ended it; or may have, and it is gone.
    Deleted,
    /// It was not there before.
    Absent,
    /// A claim holds it that the call did not name.
    Claimed,
    /// No live claim holds it, but the call named one.
    NotClaimed,
}

/// A delete on all replicas.
struct Deletes<'a> {
    refs: &'a [MessageRef],
    guard: Guard,
    before: Mutex<Before>,
}

/// What attempts before the last one did, so that a repeated one knows its own deeds.
#[derive(Debug, Default)]
struct Before {
    /// Which of the messages ended in some attempt.
    ended: Vec<bool>,
    /// Which were absent before any attempt could have ended them.
    absent: Vec<bool>,
    /// Some attempt may have been made by a replica that did not say so.
    doubt: bool,
}

impl Before {
    fn of(messages: usize) -> Mutex<Self> {
        let none = vec![false; messages];
        Mutex::new(Self { ended: none.clone(), absent: none, doubt: false })
    }

    fn note(&mut self, deleted: &Deleted) {
        for (ended, status) in self.ended.iter_mut().zip(&deleted.each) {
            *ended |= *status == DeleteStatus::Ended;
        }
        if !self.doubt {
            for (absent, status) in self.absent.iter_mut().zip(&deleted.each) {
                *absent |= *status == DeleteStatus::Absent;
            }
        }
    }

    /// What the call came to: what an earlier attempt of it took was not absent before, nor, for all
    /// that is known, what one may have taken.
    fn own(&self, place: usize, ending: Ending) -> Ending {
        let is = |of: &[bool]| of.get(place).copied().unwrap_or(false);
        let may_be_own = is(&self.ended) || self.doubt && !is(&self.absent);
        if may_be_own && ending == Ending::Absent { Ending::Deleted } else { ending }
    }
}

impl Everywhere for Deletes<'_> {
    type Answer = Deleted;

    fn ask(&self, at: ReplicaAt, version: Version) -> Op {
        Op::Delete(Delete { at, version, refs: self.refs.to_vec(), guard: self.guard })
    }

    /// What the full ones refused must not end on a joining one, and what they ended must,
    /// whatever it thinks of the claim: its marks are copies, and end a little later.
    fn follow(&self, at: ReplicaAt, version: Version, answers: &Answers<Deleted>) -> Option<Op> {
        let gone = |place: usize| {
            answers.each.iter().all(|(_, answer)| {
                let status = answer.as_ref().ok().and_then(|deleted| deleted.each.get(place));
                matches!(status, Some(DeleteStatus::Ended | DeleteStatus::Absent))
            })
        };
        let places = self.refs.iter().enumerate();
        let refs: Vec<MessageRef> =
            places.filter(|(place, _)| gone(*place)).map(|(_, at)| *at).collect();
        let delete = Delete { at, version, refs, guard: Guard::Always };
        (!delete.refs.is_empty()).then_some(Op::Delete(delete))
    }

    fn note(&self, deleted: &Deleted) {
        locked(&self.before).note(deleted);
    }

    fn doubt(&self) {
        locked(&self.before).doubt = true;
    }
}

impl Core {
    /// Deletes messages under a condition; one ending for each.
    pub(crate) async fn delete_refs(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        ids: &[MessageId],
        guard: Guard,
    ) -> Result<Vec<Ending>, Error> {
        self.open_or_error()?;
        let mut endings = vec![Ending::Absent; ids.len()];
        let Some(tag) = self.tag_of(queue, ids.iter().map(|id| id.tag)).await? else {
            return Ok(endings);
        };
        let mut by_segment: BTreeMap<SegmentNo, Vec<(usize, MessageRef)>> = BTreeMap::new();
        for (place, id) in ids.iter().enumerate().filter(|(_, id)| id.tag == tag) {
            by_segment.entry(id.segment).or_default().push((place, id.at));
        }
        let deadline = Instant::now() + self.pool.config().deadline;
        for (no, wanted) in by_segment {
            let refs: Vec<MessageRef> = wanted.iter().map(|(_, at)| *at).collect();
            let ended = self.delete_in(queue, tag, no, &refs, guard, deadline).await?;
            for ((place, _), ending) in wanted.iter().zip(ended) {
                if let Some(slot) = endings.get_mut(*place) {
                    *slot = ending;
                }
            }
        }
        Ok(endings)
    }

    /// The tag of the queue's present life; the keepers are asked if one of `given` is another.
    async fn tag_of(
        &self,
        queue: &QueueState,
        given: impl Iterator<Item = QueueTag>,
    ) -> Result<Option<QueueTag>, Error> {
        let given: Vec<QueueTag> = given.collect();
        let is_all = |tag: QueueTag| given.iter().all(|other| *other == tag);
        if let Some(known) = self.manifests.cached(queue) {
            let tag = self.tag(queue, known.generation);
            if is_all(tag) {
                return Ok(Some(tag));
            }
        }
        let (now, silent) = self.manifests.read_or_old(queue).await?;
        let tag = now.map(|manifest| self.tag(queue, manifest.generation));
        match silent {
            // Another life than the one that was known may have begun.
            Some(error) if !tag.is_some_and(is_all) => Err(error),
            _ => Ok(tag),
        }
    }

    async fn delete_in(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        tag: QueueTag,
        no: SegmentNo,
        refs: &[MessageRef],
        guard: Guard,
        deadline: Instant,
    ) -> Result<Vec<Ending>, Error> {
        let deletes = Deletes { refs, guard, before: Before::of(refs.len()) };
        loop {
            let endings = match self.spread(queue, tag, no, deadline, &deletes).await? {
                Spread::Absent => vec![Ending::Absent; refs.len()],
                Spread::Open => {
                    if self.may_be_in_open(queue, tag, no, refs).await? {
                        self.move_on(queue, no, "a message in it is deleted").await?;
                        continue;
                    }
                    vec![Ending::Absent; refs.len()]
                }
                Spread::Answered(answers) => {
                    match self.conclude(queue, tag, no, refs, answers, deadline).await? {
                        Some(endings) => endings,
                        // The replica that took it speaks for nobody any more.
                        None if Instant::now() < deadline => continue,
                        None => {
                            let what = "the replicas of a segment change too fast";
                            return Err(unavailable(&queue.name, what, &[]).unknown());
                        }
                    }
                }
            };
            let before = locked(&deletes.before);
            let own = |(place, ending)| before.own(place, ending);
            return Ok(endings.into_iter().enumerate().map(own).collect());
        }
    }

    /// Whether a replica of the open segment has one of the messages: an id that was made up must
    /// not close segments.
    async fn may_be_in_open(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        tag: QueueTag,
        no: SegmentNo,
        refs: &[MessageRef],
    ) -> Result<bool, Error> {
        let Some(manifest) = self.read_life(queue, tag).await? else { return Ok(false) };
        let Some(segment) = manifest.segment(no) else { return Ok(false) };
        for replica in segment.full() {
            let at = replica.at(self.pool.id());
            let coverage: Result<Coverage, _> =
                super::ask::ask(&self.pool, at.cookie.node, Op::Probe { at }).await;
            if let Ok(coverage) = coverage {
                let frontier = coverage.frontier();
                return Ok(refs.iter().any(|at| at.block <= covered(&frontier, at.producer)));
            }
        }
        Ok(true)
    }

    async fn conclude(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        tag: QueueTag,
        no: SegmentNo,
        refs: &[MessageRef],
        answers: Answers<Deleted>,
        deadline: Instant,
    ) -> Result<Option<Vec<Ending>>, Error> {
        let told: Vec<(Placement, Deleted)> = answers
            .each
            .into_iter()
            .filter_map(|(at, answer)| answer.ok().map(|deleted| (at.placement, deleted)))
            .collect();
        if told.iter().any(|(_, deleted)| deleted.live == 0) {
            self.may_have_ended(queue, no);
        }
        let mut endings = Vec::with_capacity(refs.len());
        let mut half_done = Vec::new();
        for (place, at) in refs.iter().enumerate() {
            let (ending, ended_on) = combine(&told, place);
            if let Some(ended_on) = ended_on {
                half_done.push((*at, ended_on));
            }
            endings.push(ending);
        }
        let finished =
            half_done.is_empty() || self.finish(queue, tag, no, &half_done, deadline).await?;
        Ok(finished.then_some(endings))
    }

    /// Finishes deletes that some full replicas took and others refused. `false`: one of those
    /// that took them is not full any more, and what it did counts for nothing.
    pub(crate) async fn finish(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        tag: QueueTag,
        no: SegmentNo,
        half_done: &[(MessageRef, Placement)],
        deadline: Instant,
    ) -> Result<bool, Error> {
        let Some(manifest) = self.read_life(queue, tag).await? else { return Ok(true) };
        let Some(segment) = manifest.segment(no) else { return Ok(true) };
        let mut all = true;
        let mut refs = Vec::new();
        for (at, ended_on) in half_done.iter().filter(|(at, _)| in_log(segment, at)) {
            match is_full(segment, *ended_on) {
                true => refs.push(*at),
                false => all = false,
            }
        }
        if !refs.is_empty() {
            let deletes = Deletes { refs: &refs, guard: Guard::Always, before: Mutex::default() };
            self.spread(queue, tag, no, deadline, &deletes).await?;
        }
        Ok(all)
    }

    /// Deletes one message as a caller asks for it.
    pub(crate) async fn delete_one(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        id: &MessageId,
        claim: Option<&ClaimId>,
    ) -> Result<bool, Error> {
        let guard = match claim {
            None => Guard::Unclaimed,
            Some(claim) => {
                self.read_claim(queue, claim).await?;
                Guard::ClaimedBy(claim.claim, claim.fencing)
            }
        };
        let endings = self.delete_refs(queue, std::slice::from_ref(id), guard).await?;
        match endings.first() {
            Some(Ending::Deleted) => Ok(true),
            Some(Ending::Claimed) => Err(Error::new(
                ErrorKind::MessageClaimed,
                format!("message {id} is claimed, and not by the claim given"),
            )),
            Some(Ending::NotClaimed) => Err(Error::new(
                ErrorKind::MessageNotClaimed,
                format!("message {id} is not claimed"),
            )),
            Some(Ending::Absent) | None => Ok(false),
        }
    }
}

impl Core {
    /// Deletes those of the messages that `which` allows; returns how many this call ended.
    pub(crate) async fn delete_where(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        ids: &[MessageId],
        which: &DeleteWhere,
    ) -> Result<usize, Error> {
        let count = |endings: Vec<Ending>| {
            endings.iter().filter(|ending| **ending == Ending::Deleted).count()
        };
        match which {
            DeleteWhere::Any => self.delete_refs(queue, ids, Guard::Always).await.map(count),
            DeleteWhere::Unclaimed => {
                self.delete_refs(queue, ids, Guard::Unclaimed).await.map(count)
            }
            DeleteWhere::ClaimedBy(claims) => {
                let mut deleted = 0;
                for claim in claims {
                    let guard = Guard::ClaimedBy(claim.claim, claim.fencing);
                    let its: Vec<MessageId> = ids
                        .iter()
                        .filter(|id| id.tag == claim.tag && id.segment == claim.segment)
                        .copied()
                        .collect();
                    deleted += self.delete_refs(queue, &its, guard).await.map(count)?;
                }
                Ok(deleted)
            }
        }
    }

    /// Takes messages out of the queue: a claim and a delete under it.
    pub(crate) async fn pop(
        self: &Arc<Self>,
        queue: &Arc<QueueState>,
        limit: usize,
        takes: impl Fn(&Message) -> bool + Send + Sync,
    ) -> Result<Popped, Error> {
        let mut popped = Popped::default();
        while popped.messages.len() < limit && popped.refused.is_none() {
            let left = limit - popped.messages.len();
            let options = ClaimOptions { ttl: POP_TTL, grace: Duration::ZERO, limit: left };
            let claimed = match self.claim(queue, &options).await {
                // What was taken already must reach the caller.
                Err(_) if !popped.messages.is_empty() => break,
                claimed => claimed?,
            };
            let Some(mut claim) = claimed else { break };
            if let Some(at) = claim.messages.iter().position(|message| !takes(message)) {
                popped.refused = claim.messages.drain(at..).next();
            }
            let ids: Vec<MessageId> = claim.messages.iter().map(|message| message.id).collect();
            let guard = Guard::ClaimedBy(claim.id.claim, claim.id.fencing);
            let endings = match self.delete_refs(queue, &ids, guard).await {
                Ok(endings) => endings,
                Err(_) if !popped.messages.is_empty() => break,
                Err(error) => return Err(error.unknown()),
            };
            // Absent: an earlier attempt of the same delete took it.
            let taken = |ending: &Ending| matches!(ending, Ending::Deleted | Ending::Absent);
            let gone = claim.messages.into_iter().zip(endings);
            let gone = gone.filter(|(_, ending)| taken(ending)).map(|(message, _)| message);
            popped.messages.extend(gone);
            if popped.refused.is_some() {
                // Not heard: the claim ends by itself soon.
                self.release(queue, &claim.id).await.ok();
            }
        }
        Ok(popped)
    }
}

fn in_log(segment: &Segment, at: &MessageRef) -> bool {
    segment.end.as_ref().is_some_and(|end| at.block <= covered(end, at.producer))
}

fn is_full(segment: &Segment, placement: Placement) -> bool {
    segment.full().any(|replica| replica.placement == placement)
}

/// What the full replicas' answers come to for one message; and, if it ended on some and not on
/// others, a replica on which it did.
fn combine(told: &[(Placement, Deleted)], place: usize) -> (Ending, Option<Placement>) {
    let statuses =
        || told.iter().filter_map(|(at, deleted)| deleted.each.get(place).map(|s| (*at, *s)));
    let ended = statuses()
        .find(|(_, s)| *s == DeleteStatus::Ended)
        .or_else(|| statuses().find(|(_, s)| *s == DeleteStatus::Absent));
    let refused =
        statuses().find(|(_, s)| matches!(s, DeleteStatus::Claimed | DeleteStatus::NotClaimed));
    let any_deleted = statuses().any(|(_, s)| s == DeleteStatus::Ended);
    match (ended, refused) {
        (Some((at, _)), Some(_)) if any_deleted => (Ending::Deleted, Some(at)),
        (Some((at, _)), Some(_)) => (Ending::Absent, Some(at)),
        (Some(_), None) if any_deleted => (Ending::Deleted, None),
        (_, Some((_, DeleteStatus::NotClaimed))) => (Ending::NotClaimed, None),
        (None, Some(_)) => (Ending::Claimed, None),
        (Some(_) | None, None) => (Ending::Absent, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(of: &[DeleteStatus]) -> Vec<(Placement, Deleted)> {
        of.iter()
            .zip(1..)
            .map(|(status, at)| (Placement(at), Deleted { each: vec![*status], live: 1 }))
            .collect()
    }

    #[test]
    fn what_an_attempt_took_or_may_have_taken_was_not_absent() {
        use DeleteStatus::{Absent, Ended};
        let told = |each: &[DeleteStatus]| Deleted { each: each.to_vec(), live: 1 };
        let before = Before::of(2);
        let mut before = locked(&before);
        let own = |before: &Before| [0, 1].map(|place| before.own(place, Ending::Absent));
        before.note(&told(&[Absent, Ended]));
        assert_eq!(own(&before), [Ending::Absent, Ending::Deleted]);
        *before = Before { doubt: true, ..Before::of(2).into_inner().unwrap() };
        before.note(&told(&[Absent, Absent]));
        assert_eq!(own(&before), [Ending::Deleted; 2]);
        assert_eq!(before.own(0, Ending::Claimed), Ending::Claimed);
    }

    #[test]
    fn a_delete_that_one_replica_took_has_happened() {
        use DeleteStatus::{Absent, Claimed, Ended, NotClaimed};
        let cases = [
            (vec![Ended, Ended], Ending::Deleted, None),
            (vec![Ended, Absent], Ending::Deleted, None),
            (vec![Absent, Absent], Ending::Absent, None),
            (vec![Claimed, Claimed], Ending::Claimed, None),
            (vec![NotClaimed, NotClaimed], Ending::NotClaimed, None),
            (vec![Claimed, Ended], Ending::Deleted, Some(Placement(2))),
            (vec![Absent, Claimed], Ending::Absent, Some(Placement(1))),
        ];
        for (statuses, ending, finish) in cases {
            assert_eq!(combine(&told(&statuses), 0), (ending, finish), "{statuses:?}");
        }
    }
}
