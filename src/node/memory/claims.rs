//! What is recorded of claims on one replica, beside the marks on its messages (Q7).
//!
//! A message carries its [`Mark`]; the time of the claim stands once, in the record under its key.
//! So a renewal touches the record, and a mark is live only while the record agrees with it.

use std::collections::{BTreeMap, BTreeSet};

use super::message::{Mark, Message};
use crate::id::{ClaimKey, Fencing, MessageRef, Offset};
use crate::node::Refusal;

/// What is recorded of claims.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims {
    records: BTreeMap<ClaimKey, Claim>,
    /// The ends of the records, earliest first.
    deadlines: BTreeSet<(u64, ClaimKey)>,
    /// What a joining replica was asked before the block came.
    remembered: BTreeMap<MessageRef, Remembered>,
}

/// One claim.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    fencing: Fencing,
    pub(super) ttl_ms: u32,
    pub(super) ends_ms: u64,
    /// Messages with a mark of this key that was not released.
    members: BTreeSet<Offset>,
}

/// What is to be done to a message whose block has not come yet.
#[derive(Debug, Clone, Copy)]
pub(super) enum Remembered {
    Tombstone,
    Hold {
        mark: Mark,
        /// The claim's end, as of the last hold or renewal.
        ends_ms: u64,
        /// That end plus the grace.
        until_ms: u64,
    },
}

impl Remembered {
    fn release(&mut self, key: ClaimKey) {
        match self {
            Self::Hold { mark, .. } if mark.claim == key => mark.released = true,
            Self::Hold { .. } | Self::Tombstone => {}
        }
    }
}

/// A claim's time, counted from the operation that tells it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) ttl_ms: u32,
    pub(super) ends_ms: u64,
    pub(super) until_ms: u64,
}

impl Span {
    pub(super) fn new((ttl_ms, grace_ms): (u32, u32), now: u64) -> Self {
        let ends_ms = now.saturating_add(u64::from(ttl_ms));
        Self { ttl_ms, ends_ms, until_ms: ends_ms.saturating_add(u64::from(grace_ms)) }
    }
}

impl Claims {
    /// The live claim on a message.
    pub(super) fn holder(&self, message: &Message, now: u64) -> Option<(ClaimKey, Fencing)> {
        message.mark.filter(|mark| self.is_live(mark, now)).map(|mark| (mark.claim, mark.fencing))
    }

    pub(super) fn is_live(&self, mark: &Mark, now: u64) -> bool {
        self.left(mark, now).is_some()
    }

    /// The whole time and the time left of the live claim that a mark stands for.
    pub(super) fn left(&self, mark: &Mark, now: u64) -> Option<(u32, u64)> {
        let claim = self.records.get(&mark.claim).filter(|_| !mark.released)?;
        let left = claim.ends_ms.saturating_sub(now);
        (claim.fencing == mark.fencing && left > 0).then_some((claim.ttl_ms, left))
    }

    /// The rank of the live claim of that key.
    pub(super) fn live_rank(&self, key: ClaimKey, now: u64) -> Option<Fencing> {
        self.records.get(&key).filter(|claim| now < claim.ends_ms).map(|claim| claim.fencing)
    }

    pub(super) fn live(
        &self,
        key: ClaimKey,
        fencing: Fencing,
        now: u64,
    ) -> Result<&Claim, Refusal> {
        self.records
            .get(&key)
            .filter(|claim| claim.fencing == fencing && now < claim.ends_ms)
            .ok_or(Refusal::NoClaim)
    }

    /// Messages marked by that key and not released, whatever the rank.
    pub(super) fn members(&self, key: ClaimKey) -> Vec<Offset> {
        self.records
            .get(&key)
            .map(|claim| claim.members.iter().copied().collect())
            .unwrap_or_default()
    }

    /// Records or restarts a claim. Returns the members that it holds no longer, because the
    /// record had another rank.
    pub(super) fn record(
        &mut self,
        key: ClaimKey,
        fencing: Fencing,
        ttl_ms: u32,
        ends_ms: u64,
    ) -> Vec<Offset> {
        let claim = self.records.entry(key).or_insert_with(|| Claim {
            fencing,
            ttl_ms,
            ends_ms,
            members: BTreeSet::new(),
        });
        self.deadlines.remove(&(claim.ends_ms, key));
        let lost = if claim.fencing == fencing {
            Vec::new()
        } else {
            claim.members.iter().copied().collect()
        };
        (claim.fencing, claim.ttl_ms, claim.ends_ms) = (fencing, ttl_ms, ends_ms);
        self.deadlines.insert((ends_ms, key));
        lost
    }

    /// As [`record`](Self::record), of a copied claim: never for a lower rank or an earlier end.
    pub(super) fn record_copied(
        &mut self,
        key: ClaimKey,
        fencing: Fencing,
        ttl_ms: u32,
        ends_ms: u64,
    ) -> Vec<Offset> {
        match self.records.get(&key) {
            Some(held) if (held.fencing, held.ends_ms) >= (fencing, ends_ms) => Vec::new(),
            _ => self.record(key, fencing, ttl_ms, ends_ms),
        }
    }

    /// The record must exist.
    pub(super) fn join(&mut self, key: ClaimKey, at: Offset) {
        if let Some(claim) = self.records.get_mut(&key) {
            claim.members.insert(at);
        }
    }

    /// As [`join`](Self::join), of a mark that was remembered: its claim may have expired and been
    /// forgotten meanwhile, but a release must still find the message.
    pub(super) fn join_again(&mut self, mark: Mark, ends_ms: u64, at: Offset) {
        if !self.records.contains_key(&mark.claim) {
            self.record(mark.claim, mark.fencing, 0, ends_ms);
        }
        self.join(mark.claim, at);
    }

    pub(super) fn leave(&mut self, key: ClaimKey, at: Offset) {
        let Some(claim) = self.records.get_mut(&key) else { return };
        claim.members.remove(&at);
        // A claim that was not seen to expire is told of even without messages.
        if claim.members.is_empty() && !self.deadlines.contains(&(claim.ends_ms, key)) {
            self.records.remove(&key);
        }
    }

    pub(super) fn remove(&mut self, key: ClaimKey) {
        if let Some(claim) = self.records.remove(&key) {
            self.deadlines.remove(&(claim.ends_ms, key));
        }
    }

    /// The members of one claim that has expired since the last call; its record stays as long as
    /// it has members.
    pub(super) fn pop_expired(&mut self, now: u64) -> Option<Vec<Offset>> {
        let &(ends_ms, key) = self.deadlines.first().filter(|(ends_ms, _)| *ends_ms <= now)?;
        self.deadlines.remove(&(ends_ms, key));
        let members = self.members(key);
        if members.is_empty() {
            self.records.remove(&key);
        }
        Some(members)
    }

    pub(super) fn remember(&mut self, at: MessageRef, what: Remembered) {
        self.remembered.insert(at, what);
    }

    pub(super) fn remembered(&self, at: MessageRef) -> Option<Remembered> {
        self.remembered.get(&at).copied()
    }

    pub(super) fn release_remembered(&mut self, key: ClaimKey, at: MessageRef) {
        if let Some(what) = self.remembered.get_mut(&at) {
            what.release(key);
        }
    }

    pub(super) fn release_all_remembered(&mut self, key: ClaimKey) {
        for what in self.remembered.values_mut() {
            what.release(key);
        }
    }

    pub(super) fn renew_remembered(&mut self, (key, fencing): (ClaimKey, Fencing), span: Span) {
        for what in self.remembered.values_mut() {
            match what {
                Remembered::Hold { mark, ends_ms, until_ms }
                    if (mark.claim, mark.fencing) == (key, fencing) =>
                {
                    (*ends_ms, *until_ms) = (span.ends_ms, span.until_ms);
                }
                Remembered::Hold { .. } | Remembered::Tombstone => {}
            }
        }
    }

    pub(super) fn take_remembered(&mut self, at: MessageRef) -> Option<Remembered> {
        self.remembered.remove(&at)
    }

    /// The end is told: all that was awaited has come, or is above the end.
    pub(super) fn forget_remembered(&mut self) {
        self.remembered.clear();
    }
}
