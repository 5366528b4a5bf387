//! Holds, renewals and releases: what claims ask of every replica.

use super::holders::{Answers, Everywhere};
use crate::id::{ClaimKey, Fencing, MessageRef, ReplicaAt, Version};
use crate::node::{Held, Hold, HoldStatus, Op, Renewed};
use crate::token::ClaimId;

/// What a claim asks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    pub(super) claim: ClaimKey,
    pub(super) ttl_ms: u32,
    pub(super) grace_ms: u32,
    /// Messages at most.
    pub(super) limit: usize,
}

/// A hold on all replicas.
pub(super) struct Holds<'a> {
    pub(super) wish: Wish,
    pub(super) fencing: Fencing,
    pub(super) refs: &'a [MessageRef],
}

impl Holds<'_> {
    fn of(&self, at: ReplicaAt, version: Version, refs: Vec<MessageRef>) -> Op {
        let Wish { claim, ttl_ms, grace_ms, .. } = self.wish;
        Op::Hold(Hold { at, version, claim, fencing: self.fencing, ttl_ms, grace_ms, refs })
    }
}

impl Everywhere for Holds<'_> {
    type Answer = Held;

    fn ask(&self, at: ReplicaAt, version: Version) -> Op {
        self.of(at, version, self.refs.to_vec())
    }

    fn follow(&self, at: ReplicaAt, version: Version, answers: &Answers<Held>) -> Option<Op> {
        let held = |place: usize| {
            answers.each.iter().all(|(_, answer)| {
                let status = answer.as_ref().ok().and_then(|held| held.each.get(place));
                status == Some(&HoldStatus::Held)
            })
        };
        let places = self.refs.iter().enumerate();
        let refs: Vec<MessageRef> =
            places.filter(|(place, _)| held(*place)).map(|(_, at)| *at).collect();
        (!refs.is_empty()).then(|| self.of(at, version, refs))
    }

    fn took(&self, held: &Held) -> bool {
        held.each.iter().all(|status| *status == HoldStatus::Held)
    }
}

/// A claim's time starts anew on all replicas.
pub(super) struct Renewals {
    pub(super) id: ClaimId,
    pub(super) ttl_ms: u32,
    pub(super) grace_ms: u32,
}

impl Everywhere for Renewals {
    type Answer = Renewed;

    fn ask(&self, at: ReplicaAt, version: Version) -> Op {
        let (claim, fencing) = (self.id.claim, self.id.fencing);
        let (ttl_ms, grace_ms) = (self.ttl_ms, self.grace_ms);
        Op::Renew { at, version, claim, fencing, ttl_ms, grace_ms }
    }

    fn follow(&self, at: ReplicaAt, version: Version, answers: &Answers<Renewed>) -> Option<Op> {
        answers.each.iter().all(|(_, answer)| answer.is_ok()).then(|| self.ask(at, version))
    }
}

/// The end of a claim on all replicas.
pub(super) struct Releases {
    pub(super) claim: ClaimKey,
}

impl Everywhere for Releases {
    type Answer = ();

    fn ask(&self, at: ReplicaAt, _: Version) -> Op {
        Op::Release { at, claim: self.claim, refs: None }
    }

    fn follow(&self, at: ReplicaAt, version: Version, _: &Answers<()>) -> Option<Op> {
        Some(self.ask(at, version))
    }
}
