//! Holding, releasing, renewing and reading claims on one replica (Q7).

use super::claims::{Claim, Remembered, Span};
use super::message::Mark;
use super::replica::Replica;
use crate::id::{ClaimKey, Fencing, MessageRef, Offset, Version};
use crate::node::{ClaimView, Held, Hold, HoldStatus, Refusal, Renewed};

/// What a hold does to a message that has a mark.
#[derive(Debug, Clone)]
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
                    self.claims.release_remembered(claim, at);
                    if let Some(place) = self.place(at) {
                        self.release_one(claim, place);
                    }
                }
            }
            None => {
                self.claims.release_all_remembered(claim);
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
