//! Claims on one replica: holding, releasing, renewing and reading them (Q7).
//!
//! A message carries its [`Mark`]; the time of the claim stands once, in the record under its key.
//! So a renewal touches the record, and a mark is live only while the record agrees with it.

use std::collections::{BTreeMap, BTreeSet};

use super::message::{Mark, Message};
use super::replica::Replica;
use crate::id::{ClaimKey, Fencing, MessageRef, Offset, Version};
use crate::node::{ClaimView, Held, Hold, HoldStatus, Refusal, Renewed};

/// What is recorded of claims.
#[derive(Debug, Default)]
pub(super) struct Claims {
    records: BTreeMap<ClaimKey, Claim>,
    /// The ends of the records, earliest first.
    deadlines: BTreeSet<(u64, ClaimKey)>,
    /// What a joining replica was asked before the block came.
    remembered: BTreeMap<MessageRef, Remembered>,
}

/// One claim.
#[derive(Debug)]
struct Claim {
    fencing: Fencing,
    ttl_ms: u32,
    ends_ms: u64,
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

    fn live(&self, key: ClaimKey, fencing: Fencing, now: u64) -> Result<&Claim, Refusal> {
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

    fn remove(&mut self, key: ClaimKey) {
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

    fn release_remembered(&mut self, key: ClaimKey, which: impl Fn(MessageRef) -> bool) {
        for (at, what) in &mut self.remembered {
            match what {
                Remembered::Hold { mark, .. } if mark.claim == key && which(*at) => {
                    mark.released = true;
                }
                Remembered::Hold { .. } | Remembered::Tombstone => {}
            }
        }
    }

    fn renew_remembered(&mut self, (key, fencing): (ClaimKey, Fencing), span: Span) {
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

/// What a hold does to a message that has a mark.
#[derive(Debug)]
enum Verdict {
    /// It is the claim's own mark.
    Again,
    Outranked,
    Take,
}

impl Replica {
    pub(super) fn hold(&mut self, hold: &Hold, now: u64) -> Result<Held, Refusal> {
        self.check_ended_or_joining()?;
        self.check_version(hold.version)?;
        self.raise_version(hold.version);
        self.ripen(now);
        let span = Span::new((hold.ttl_ms, hold.grace_ms), now);
        let mut members = Vec::new();
        let mut each = Vec::with_capacity(hold.refs.len());
        for &at in &hold.refs {
            let status = if self.is_joining() && self.awaits(at) {
                self.hold_awaited(hold, at, span, now)
            } else if let Some(place) = self.place(at) {
                let status = self.hold_present(hold, place, span, now);
                members.extend((status == HoldStatus::Held).then_some(place));
                status
            } else {
                HoldStatus::Ended
            };
            each.push(status);
        }
        if each.contains(&HoldStatus::Held) {
            self.record_claim((hold.claim, hold.fencing), span, &members);
        }
        Ok(Held { each })
    }

    /// Q7: a higher rank wins, whatever order the requests arrive in; but never over a live claim.
    fn judge(&self, mark: Option<Mark>, hold: &Hold, now: u64) -> Verdict {
        let Some(mark) = mark else { return Verdict::Take };
        if !mark.released && (mark.claim, mark.fencing) == (hold.claim, hold.fencing) {
            return Verdict::Again;
        }
        if mark.fencing >= hold.fencing || self.claims.is_live(&mark, now) {
            return Verdict::Outranked;
        }
        Verdict::Take
    }

    fn hold_present(&mut self, hold: &Hold, at: Offset, span: Span, now: u64) -> HoldStatus {
        let Some((_, message)) = self.log.present(at, now) else { return HoldStatus::Ended };
        match self.judge(message.mark, hold, now) {
            Verdict::Again => self.log.outlive(at, span.ends_ms, span.until_ms, now),
            Verdict::Outranked => return HoldStatus::Outranked,
            Verdict::Take => self.mark(at, (hold.claim, hold.fencing), span, now),
        }
        HoldStatus::Held
    }

    fn hold_awaited(&mut self, hold: &Hold, at: MessageRef, span: Span, now: u64) -> HoldStatus {
        let held = match self.claims.remembered(at) {
            Some(Remembered::Tombstone) => return HoldStatus::Ended,
            Some(Remembered::Hold { mark, .. }) => Some(mark),
            None => None,
        };
        let times = held.map_or(0, |mark| mark.times);
        let times = match self.judge(held, hold, now) {
            Verdict::Again => times,
            Verdict::Outranked => return HoldStatus::Outranked,
            Verdict::Take => times.saturating_add(1),
        };
        let mark = Mark { claim: hold.claim, fencing: hold.fencing, times, released: false };
        let Span { ends_ms, until_ms, .. } = span;
        self.claims.remember(at, Remembered::Hold { mark, ends_ms, until_ms });
        HoldStatus::Held
    }

    /// Puts a claim's mark on a present message. The claim must be recorded in the same step.
    pub(super) fn mark(
        &mut self,
        at: Offset,
        (claim, fencing): (ClaimKey, Fencing),
        span: Span,
        now: u64,
    ) {
        let Some((_, message)) = self.log.present_mut(at, now) else { return };
        let before = message.mark;
        let times = before.map_or(0, |mark| mark.times).saturating_add(1);
        message.mark = Some(Mark { claim, fencing, times, released: false });
        if let Some(before) = before {
            self.claims.leave(before.claim, at);
        }
        self.log.outlive(at, span.ends_ms, span.until_ms, now);
        self.picking.forget(at);
    }

    /// Records or restarts a claim that holds these messages, perhaps among others.
    pub(super) fn record_claim(
        &mut self,
        (claim, fencing): (ClaimKey, Fencing),
        span: Span,
        members: &[Offset],
    ) {
        for at in self.claims.record(claim, fencing, span.ttl_ms, span.ends_ms) {
            self.picking.free(at);
        }
        for &at in members {
            self.claims.join(claim, at);
        }
    }

    pub(super) fn release(&mut self, claim: ClaimKey, refs: Option<&[MessageRef]>) {
        match refs {
            Some(refs) => {
                for &at in refs {
                    self.claims.release_remembered(claim, |held| held == at);
                    if let Some(place) = self.place(at) {
                        self.release_one(claim, place);
                    }
                }
            }
            None => {
                self.claims.release_remembered(claim, |_| true);
                for at in self.claims.members(claim) {
                    self.release_one(claim, at);
                }
                self.claims.remove(claim);
            }
        }
    }

    fn release_one(&mut self, claim: ClaimKey, at: Offset) {
        let message = self
            .log
            .block_mut(at.ordinal())
            .and_then(|block| block.messages.get_mut(usize::from(at.index()))?.as_mut());
        let Some(mark) = message.and_then(|message| message.mark.as_mut()) else { return };
        if mark.claim == claim && !mark.released {
            mark.released = true;
            self.claims.leave(claim, at);
            self.picking.free(at);
        }
    }

    pub(super) fn renew(
        &mut self,
        version: Version,
        (claim, fencing): (ClaimKey, Fencing),
        (ttl_ms, grace_ms): (u32, u32),
        now: u64,
    ) -> Result<Renewed, Refusal> {
        self.check_ended_or_joining()?;
        self.check_version(version)?;
        self.claims.live(claim, fencing, now)?;
        self.raise_version(version);
        let span = Span::new((ttl_ms, grace_ms), now);
        let held = self.held_by(claim, fencing, now);
        // The record's rank is this one, so it loses no member.
        self.record_claim((claim, fencing), span, &[]);
        for &at in &held {
            self.log.outlive(at, span.ends_ms, span.until_ms, now);
        }
        self.claims.renew_remembered((claim, fencing), span);
        Ok(Renewed { messages: u32::try_from(held.len()).unwrap_or(u32::MAX) })
    }

    pub(super) fn read_claim(
        &self,
        claim: ClaimKey,
        fencing: Fencing,
        now: u64,
    ) -> Result<ClaimView, Refusal> {
        self.check_sealed()?;
        let Claim { ttl_ms, ends_ms, .. } = *self.claims.live(claim, fencing, now)?;
        let entries = self
            .held_by(claim, fencing, now)
            .into_iter()
            .filter_map(|at| self.entry_at(at, now))
            .collect();
        let age_ms = u64::from(ttl_ms).saturating_sub(ends_ms.saturating_sub(now));
        Ok(ClaimView { ttl_ms, age_ms, entries })
    }

    /// The present messages with a mark of that claim that was not released, by arrival.
    pub(super) fn held_by(&self, claim: ClaimKey, fencing: Fencing, now: u64) -> Vec<Offset> {
        let mut held = self.claims.members(claim);
        held.retain(|&at| {
            self.log
                .present(at, now)
                .and_then(|(_, message)| message.mark)
                .is_some_and(|mark| (mark.claim, mark.fencing) == (claim, fencing))
        });
        held
    }
}
