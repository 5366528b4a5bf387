//! Picking messages for a claim, at a cost of what is returned.
//!
//! A cursor has passed everything that cannot be had: what has ended for good, and what can be had
//! again later. The latter is in one of three places: with the live claim that holds it, among the
//! delayed, or among the free. So nothing is looked at twice without a reason.

use std::collections::BTreeSet;

use super::claims::Span;
use super::read::Left;
use super::replica::Replica;
use crate::id::{Fencing, Offset};
use crate::node::{Entry, Pick};

/// Where picking stands in a replica.
#[derive(Debug, Clone, Default)]
pub(super) struct Picking {
    /// Everything below has been passed.
    cursor: Offset,
    /// Passed messages that can perhaps be had: each is looked at before it is picked.
    free: BTreeSet<Offset>,
    /// Passed messages, by the time at which their delay is over.
    delayed: BTreeSet<(u64, Offset)>,
    /// Picks made here.
    picks: u32,
}

impl Picking {
    /// A message may be had again.
    pub(super) fn free(&mut self, at: Offset) {
        if at < self.cursor {
            self.free.insert(at);
        }
    }

    /// A message is marked or has ended.
    pub(super) fn forget(&mut self, at: Offset) {
        self.free.remove(&at);
    }
}

/// Whether a message can be picked.
#[derive(Debug, Clone)]
enum Availability {
    Ended,
    Held,
    Delayed(u64),
    Available,
}

impl Replica {
    /// What a live claim of the pick's key holds, if there is one.
    pub(super) fn picked(&mut self, pick: &Pick, now: u64) -> Option<(Fencing, Vec<Entry>)> {
        let fencing = self.claims.live_rank(pick.claim, now)?;
        let held = self.held_by(pick.claim, fencing, now);
        Some((fencing, held.into_iter().filter_map(|at| self.entry_at(at, now)).collect()))
    }

    /// Marks the first messages that can be had; `None` if there is none.
    pub(super) fn pick(&mut self, pick: &Pick, now: u64) -> Option<(Fencing, Vec<Entry>)> {
        self.ripen(now);
        let chosen = self.choose(pick, now);
        if chosen.is_empty() {
            return None;
        }
        self.picking.picks = self.picking.picks.saturating_add(1);
        let fencing = Fencing { version: pick.version, count: self.picking.picks };
        let span = Span::new((pick.ttl_ms, pick.grace_ms), now);
        for &at in &chosen {
            self.mark(at, (pick.claim, fencing), span, now);
        }
        self.record_claim((pick.claim, fencing), span, &chosen);
        Some((fencing, chosen.iter().filter_map(|&at| self.entry_at(at, now)).collect()))
    }

    /// Frees what expired claims held and what is delayed no longer.
    pub(super) fn ripen(&mut self, now: u64) {
        while let Some(members) = self.claims.pop_expired(now) {
            for at in members {
                self.picking.free(at);
            }
        }
        while let Some(&(until_ms, at)) = self.picking.delayed.first()
            && until_ms <= now
        {
            self.picking.delayed.pop_first();
            self.picking.free.insert(at);
        }
    }

    /// The free ones come first: all of them arrived before the cursor.
    fn choose(&mut self, pick: &Pick, now: u64) -> Vec<Offset> {
        let mut chosen = Vec::new();
        let mut left = Left { entries: super::machine::at_least_one(pick.limit), bytes: None };
        let mut from = Offset(0);
        while left.entries > 0
            && let Some(&at) = self.picking.free.range(from..).next()
        {
            from = Offset(at.0 + 1);
            match self.availability(at, now) {
                Availability::Available => {
                    if !self.take(at, &mut left, pick.max_bytes, now) {
                        return chosen;
                    }
                    chosen.push(at);
                }
                other => {
                    self.picking.free.remove(&at);
                    self.set_aside(at, &other);
                }
            }
        }
        while left.entries > 0
            && let Some(at) = self.at_cursor()
        {
            let found = self.availability(at, now);
            if matches!(found, Availability::Available) {
                if !self.take(at, &mut left, pick.max_bytes, now) {
                    return chosen;
                }
                chosen.push(at);
            }
            self.picking.cursor = Offset(at.0 + 1);
            self.set_aside(at, &found);
        }
        chosen
    }

    fn take(&self, at: Offset, left: &mut Left, max_bytes: u32, now: u64) -> bool {
        let Some((_, message)) = self.log.present(at, now) else { return false };
        let fits = left.fits(message, max_bytes);
        if fits {
            left.take(message);
        }
        fits
    }

    /// Moves the cursor to the next message there is, past blocks of which nothing is left.
    fn at_cursor(&mut self) -> Option<Offset> {
        let mut cursor = self.picking.cursor;
        while cursor.ordinal() < self.log.arrived() {
            match self.log.block(cursor.ordinal()) {
                Some(block)
                    if block.live > 0 && usize::from(cursor.index()) < block.messages.len() =>
                {
                    self.picking.cursor = cursor;
                    return Some(cursor);
                }
                _ => cursor = Offset(Offset::new(cursor.ordinal(), u8::MAX).0 + 1),
            }
        }
        self.picking.cursor = cursor;
        None
    }

    fn availability(&self, at: Offset, now: u64) -> Availability {
        let Some((block, message)) = self.log.present(at, now) else {
            return Availability::Ended;
        };
        let until_ms = block.arrived_ms.saturating_add(u64::from(message.delay_ms));
        if self.claims.holder(message, now).is_some() {
            Availability::Held
        } else if now < until_ms {
            Availability::Delayed(until_ms)
        } else {
            Availability::Available
        }
    }

    fn set_aside(&mut self, at: Offset, found: &Availability) {
        if let Availability::Delayed(until_ms) = *found {
            self.picking.delayed.insert((until_ms, at));
        }
    }
}
