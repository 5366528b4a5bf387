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
    /// Who picked, under which version.
    pub(super) picker: (ReplicaAt, Version),
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

    /// The picker marked them under this very version: a hold that came right behind the pick would
    /// have changed nothing.
    fn known(&self, at: ReplicaAt, version: Version) -> Option<Held> {
        let each = || vec![HoldStatus::Held; self.refs.len()];
        (self.picker == (at, version)).then(|| Held { each: each() })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ClaimKey, Cookie, Incarnation, NodeId, Placement, PoolId};

    /// Q7: a fence between the pick and the holds raises the version.
    #[test]
    fn only_the_picker_holds_unasked_and_only_under_the_version_of_the_pick() {
        let cookie = Cookie { pool: PoolId(1), node: NodeId(1), incarnation: Incarnation(1) };
        let at = |placement| ReplicaAt { cookie, placement: Placement(placement) };
        let wish = Wish { claim: ClaimKey(1), ttl_ms: 1, grace_ms: 0, limit: 1 };
        let fencing = Fencing { version: Version(4), count: 1 };
        let holds = Holds { wish, fencing, refs: &[], picker: (at(1), Version(4)) };
        assert!(holds.known(at(1), Version(4)).is_some());
        assert!(holds.known(at(1), Version(5)).is_none());
        assert!(holds.known(at(2), Version(4)).is_none());
    }
}
