//! Dropping, copying, forgetting, taking back.

use super::state::{REPLICAS, TARGET};
use super::steps::Step;
use super::{Claims, Life, Mark, Replica, Standing, State, View};
use crate::ledger::Transition;
use crate::rules::Shortcut;

/// Of two marks the higher rank; of the same rank the one that lasts.
fn merged(one: Option<Mark>, other: Option<Mark>) -> Option<Mark> {
    match (one, other) {
        (Some(one), Some(other)) if one.rank == other.rank => {
            Some(if other.live { other } else { one })
        }
        (Some(one), Some(other)) => Some(if one.rank > other.rank { one } else { other }),
        (one, other) => one.or(other),
    }
}

impl View {
    fn with_standing(self, at: usize, standing: Standing) -> Self {
        let mut next = Self { version: self.version + 1, ..self };
        next.standing[at] = standing;
        next
    }
}

impl Claims {
    pub(super) fn repair_steps(&self, state: &State, steps: &mut Vec<Step>) {
        let now = state.now();
        let full = now.with(Standing::Full).count();
        match now.standing[TARGET] {
            Standing::None => steps.push(Step::Name),
            Standing::Joining => {
                steps.extend((0..REPLICAS).map(|at| Step::Fence { at }));
                steps.extend((0..TARGET).map(|source| Step::CopyOut { source }));
                steps.extend([Step::Promote, Step::GiveUp]);
            }
            Standing::Full | Standing::Dropped => {}
        }
        steps.extend([Step::CopyIn, Step::Wipe]);
        for at in now.with(Standing::Full) {
            if full > 1 && state.drops < self.bounds.drops {
                steps.push(Step::Drop { at });
            }
        }
        if state.forgets < self.bounds.forgets {
            steps.extend((0..REPLICAS).map(|at| Step::Forget { at }));
        }
        if now.with(Standing::Full).all(|at| state.replicas[at].life == Life::Forgotten) {
            let others = now.mask(Standing::Dropped) | now.mask(Standing::Joining);
            for at in now.with(Standing::Dropped) {
                let others = others & !(1 << at);
                steps.extend(
                    (0..=others)
                        .filter(|heard| heard & !others == 0)
                        .map(|heard| Step::TakeBack { at, heard }),
                );
            }
        }
    }

    pub(super) fn repair(&self, state: &mut State, step: Step) -> Option<()> {
        let now = state.now();
        match step {
            Step::Name => self.name_joining(state, now)?,
            Step::Fence { at } => {
                let named = state.view(state.copy.named?);
                (named.standing[at] == Standing::Full && state.is_here(at)).then_some(())?;
                let replica = &mut state.replicas[at];
                if named.version < replica.version {
                    return None;
                }
                replica.version = named.version;
                state.copy.fenced |= 1 << at;
            }
            Step::CopyOut { source } => {
                let named = state.view(state.copy.named?);
                let full = named.mask(Standing::Full);
                let raised = full & !state.copy.fenced == 0;
                let may = raised || self.rules.take(Shortcut::CopyWithoutVersion);
                let is_full = named.standing[source] == Standing::Full && state.is_here(source);
                (may && is_full && state.copy.taken.is_none()).then_some(())?;
                let from = &state.replicas[source];
                state.copy.taken = Some((from.ended, from.mark));
            }
            Step::CopyIn => self.copy_in(state)?,
            Step::Promote => {
                let filled = state.is_here(TARGET) && state.replicas[TARGET].has;
                filled.then_some(())?;
                self.ledger.note(Transition::JoiningPromoted);
                state.replicas[TARGET].told = true;
                let mut next = now;
                next.standing[TARGET] = Standing::Full;
                state.change(next)?;
            }
            Step::GiveUp => {
                self.ledger.note(Transition::JoiningGivenUp);
                state.change(now.with_standing(TARGET, Standing::None))?;
                state.copy = super::state::Copy { wiping: true, ..Default::default() };
            }
            Step::Wipe => {
                (state.copy.wiping && state.is_here(TARGET)).then_some(())?;
                state.replicas[TARGET] = Replica { life: Life::Gone, ..Replica::UNUSED };
                state.copy.wiping = false;
            }
            Step::Drop { at } => {
                let forgets = self.rules.take(Shortcut::ForgetDropped);
                let standing = if forgets { Standing::None } else { Standing::Dropped };
                state.change(now.with_standing(at, standing))?;
                state.drops += 1;
            }
            Step::Forget { at } => {
                state.is_here(at).then_some(())?;
                state.replicas[at].life = Life::Forgotten;
                state.forgets += 1;
            }
            Step::TakeBack { at, heard } => self.take_back(state, at, heard)?,
            _ => return None,
        }
        Some(())
    }

    /// Opens a replica and names it as joining.
    fn name_joining(&self, state: &mut State, now: View) -> Option<()> {
        now.with(Standing::Full).next()?;
        match state.replicas[TARGET].life {
            Life::Unused => {}
            // A placement is used once.
            Life::Here | Life::Gone if self.rules.take(Shortcut::ReusePlacement) => {}
            Life::Here | Life::Gone | Life::Forgotten => return None,
        }
        state.replicas[TARGET] = Replica { life: Life::Here, ..Replica::UNUSED };
        state.change(now.with_standing(TARGET, Standing::Joining))?;
        state.copy.named = Some(state.newest());
        Some(())
    }

    fn copy_in(&self, state: &mut State) -> Option<()> {
        let (ended, mark) = state.copy.taken?;
        state.is_here(TARGET).then_some(())?;
        let is_full = state.now().standing[TARGET] == Standing::Full;
        let replica = &mut state.replicas[TARGET];
        let before = *replica;
        replica.has = true;
        if self.rules.take(Shortcut::CopyOverwrites) {
            (replica.ended, replica.mark) = (ended, mark);
        } else {
            replica.ended |= ended;
            replica.mark = merged(replica.mark, mark);
        }
        if is_full && before.mark != mark {
            self.ledger.note(Transition::CopyMerged);
        }
        Some(())
    }

    /// Every full replica was lost: of the dropped ones that are left the one that was dropped last
    /// becomes full, once it knows what the joining ones know.
    fn take_back(&self, state: &mut State, at: usize, heard: u8) -> Option<()> {
        let now = state.now();
        (state.is_here(at) && state.replicas[at].has).then_some(())?;
        let others = (0..REPLICAS).filter(|other| {
            let named = matches!(now.standing[*other], Standing::Dropped | Standing::Joining);
            *other != at && named && state.is_here(*other)
        });
        let here = others.fold(0_u8, |mask, other| mask | 1 << other);
        if heard & !here != 0 || (heard != here && !self.rules.take(Shortcut::SalvageUnheard)) {
            self.ledger.note(Transition::SalvageWaits);
            return None;
        }
        let mut heard_ones = (0..REPLICAS).filter(|other| heard & (1 << *other) != 0);
        let is_later = |other| state.dropped_by(other) > state.dropped_by(at);
        if heard_ones.any(is_later) && !self.rules.take(Shortcut::SalvageOutOfOrder) {
            return None;
        }
        for other in now.with(Standing::Joining).filter(|other| heard & (1 << *other) != 0) {
            let from = state.replicas[other];
            let into = &mut state.replicas[at];
            into.ended |= from.ended;
            into.mark = merged(into.mark, from.mark);
        }
        let mut next = now.with_standing(at, Standing::Full);
        for other in (0..REPLICAS).filter(|other| *other != at) {
            next.standing[other] = match now.standing[other] {
                Standing::Full | Standing::Dropped => Standing::Dropped,
                Standing::Joining | Standing::None => Standing::None,
            };
        }
        for raised in (0..REPLICAS).filter(|other| (heard | 1 << at) & (1 << *other) != 0) {
            state.replicas[raised].version = next.version;
        }
        state.change(next)?;
        self.ledger.note(Transition::DroppedTakenBack);
        Some(())
    }
}
