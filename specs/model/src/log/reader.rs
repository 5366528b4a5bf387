//! The reader: what it takes of a page, and where its marker stands after it.

use super::state::{Entry, List, Segment, Standing, State, frontier, minimum};
use super::{Log, Pages};
use crate::ledger::Transition;
use crate::rules::Shortcut;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Reader {
    /// Has left the first segment.
    pub(crate) beyond: bool,
    /// The marker's replica, and its offset there.
    pub(crate) replica: u8,
    pub(crate) offset: u8,
    /// The marker's frontier: by producer, the last block passed.
    pub(crate) passed: [u8; 2],
    /// Everything returned so far.
    pub(crate) read: List<u8>,
    /// How much of the next segment was returned.
    pub(crate) of_next: u8,
    pub(crate) pending: Option<Pending>,
    /// Was told "nothing more" although there was.
    pub(crate) unseen: bool,
}

/// A page at the tail of which one of two answers is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Pending {
    pub(crate) at: u8,
    pub(crate) size: Size,
    /// What had been acked when it was asked for, as bits.
    acked: u8,
    first: Answer,
}

/// How much is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Size {
    All,
    One,
}

/// What a replica answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Answer {
    /// The page: the log up to this length.
    Page { len: u8, sealed: bool, noted: [u8; 2] },
    /// The other replica's frontier.
    Probe { frontier: [u8; 2], sealed: bool },
}

/// Up to where blocks may be taken.
#[derive(Clone, Copy)]
enum Bound {
    End([u8; 2]),
    Confirmed {
        noted: [u8; 2],
        probed: [u8; 2],
    },
    /// No bound: a shortcut.
    Anything,
}

impl Reader {
    pub(crate) fn has(&self, message: usize) -> bool {
        self.read.iter().any(|read| usize::from(read) == message)
    }

    /// Looks to this replica, from its start if it is another one.
    fn turn_to(&mut self, at: usize, part: &Log) {
        if usize::from(self.replica) != at {
            if self.offset > 0 {
                part.ledger.note(Transition::ReaderChanged);
            }
            self.replica = at as u8;
            self.offset = 0;
        }
    }

    /// Takes what may be taken of a page. `true`: it stopped because it had enough.
    fn walk(
        &mut self,
        page: impl Iterator<Item = Entry>,
        bound: Bound,
        size: Size,
        part: &Log,
    ) -> bool {
        let mut waiting = [false; 2];
        let start = usize::from(self.offset);
        for (ordinal, entry) in page.enumerate().skip(start) {
            let of = usize::from(entry.producer);
            let waits = waiting != [false; 2];
            let (limit, may_come) = match bound {
                Bound::End(end) => (end[of], false),
                Bound::Anything => (u8::MAX, true),
                Bound::Confirmed { noted, probed } if !waits => (probed[of].max(noted[of]), true),
                Bound::Confirmed { probed, .. } => (probed[of], true),
            };
            let mut taken = false;
            if entry.block > limit || waiting[of] {
                if may_come {
                    waiting[of] = true;
                    continue;
                }
            } else if entry.block > self.passed[of] + 1 {
                // A hole: the replica is broken, and is left.
                return false;
            } else if entry.block == self.passed[of] + 1 {
                let messages = (0..3).filter(|message| entry.messages & (1 << *message) != 0);
                messages.for_each(|message| self.read.push(message));
                self.passed[of] = entry.block;
                taken = true;
                if waits {
                    part.ledger.note(Transition::BlockWaits);
                }
            }
            if !waits {
                self.offset = ordinal as u8 + 1;
            }
            if taken && size == Size::One {
                return true;
            }
        }
        false
    }
}

impl Log {
    pub(super) fn sizes(&self) -> &'static [Size] {
        match self.bounds.pages {
            Pages::None => &[],
            Pages::Whole => &[Size::All],
            Pages::Any => &[Size::All, Size::One],
        }
    }

    /// Asks both replicas; one of them answers.
    pub(super) fn begin_page(
        &self,
        state: &mut State,
        at: usize,
        asked: usize,
        size: Size,
    ) -> Option<()> {
        let replica = &state.replicas[asked];
        if !state.is_here(asked) {
            return None;
        }
        let first = if at == asked {
            let len = replica.log.len() as u8;
            Answer::Page { len, sealed: replica.sealed, noted: replica.noted }
        } else {
            Answer::Probe { frontier: replica.frontier(), sealed: replica.sealed }
        };
        let acked = state.all_acked();
        state.reader.turn_to(at, self);
        state.reader.pending = Some(Pending { at: at as u8, size, acked, first });
        Some(())
    }

    /// The other one answers, and the page is given.
    pub(super) fn end_page(&self, state: &mut State) -> Option<()> {
        let pending = state.reader.pending.take()?;
        let at = usize::from(pending.at);
        let other = 1 - at;
        let second = match pending.first {
            Answer::Page { .. } => other,
            Answer::Probe { .. } => at,
        };
        if !state.is_here(second) {
            // The reader moves on; whoever closes the segment may be it.
            return Some(());
        }
        let now = &state.replicas[second];
        let (len, sealed, noted) = match pending.first {
            Answer::Page { len, sealed, noted } => (len, sealed, noted),
            Answer::Probe { .. } => (now.log.len() as u8, now.sealed, now.noted),
        };
        let (probe, probe_sealed) = match pending.first {
            Answer::Page { .. } => (now.frontier(), now.sealed),
            Answer::Probe { frontier, sealed } => (frontier, sealed),
        };
        let page = || state.replicas[at].log.iter().take(usize::from(len));
        let probed = minimum(frontier(page()), probe);
        let bound = match self.rules.take(Shortcut::ReadUnconfirmed) {
            true => Bound::Anything,
            false => Bound::Confirmed { noted, probed },
        };
        let mut reader = state.reader;
        let enough = reader.walk(page(), bound, pending.size, self);
        if !enough && !sealed && !probe_sealed {
            let missed = |m: &usize| pending.acked & (1 << *m) != 0 && !reader.has(*m);
            let unseen = (0..3).any(|message| missed(&message));
            reader.unseen |= unseen;
        } else if !enough {
            self.ledger.note(Transition::TailClosed);
            reader.beyond |= sealed && self.rules.take(Shortcut::LeaveByOneReplica);
        }
        state.reader = reader;
        Some(())
    }

    /// Reads a closed segment on one full replica.
    pub(super) fn read_closed(&self, state: &mut State, at: usize, size: Size) -> Option<()> {
        let Segment::Closed { end } = state.segment else { return None };
        if state.standing[at] != Standing::Full || !state.is_here(at) {
            return None;
        }
        let replica = &state.replicas[at];
        let thin = state.is_thin() && !self.rules.take(Shortcut::ReadThinBeyondNotes);
        let bound = match thin {
            true => Bound::Confirmed { noted: minimum(replica.noted, end), probed: [0; 2] },
            false => Bound::End(end),
        };
        let mut reader = state.reader;
        reader.turn_to(at, self);
        reader.walk(replica.log.iter(), bound, size, self);
        reader.beyond = reader.passed[0] >= end[0] && reader.passed[1] >= end[1];
        state.reader = reader;
        Some(())
    }

    /// Reads on in the next segment.
    pub(super) fn read_next(&self, state: &mut State) -> Option<()> {
        let message = state.next.iter().nth(usize::from(state.reader.of_next))?;
        state.reader.read.push(message);
        state.reader.of_next += 1;
        Some(())
    }
}
