//! Claiming and deleting.

use super::state::{REPLICAS, TARGET};
use super::{Attempt, Caches, Claim, Claims, Delete, Deletes, Life, Mark, Standing, State};
use crate::ledger::Transition;
use crate::rules::Shortcut;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Pick { claim: usize, view: u8 },
    Hold { claim: usize, at: usize },
    HoldAnew { claim: usize },
    Grant { claim: usize },
    Expire { at: usize },
    Misjudge { at: usize },
    BeginDelete { view: u8 },
    Delete { at: usize },
    DeleteAnew,
    EndDelete,
    TellEnd { at: usize },
    Name,
    Fence { at: usize },
    CopyOut { source: usize },
    CopyIn,
    Promote,
    GiveUp,
    Wipe,
    Drop { at: usize },
    Forget { at: usize },
    TakeBack { at: usize, heard: u8 },
}

/// What a replica says to an operation.
enum Said {
    Took,
    Refused,
    /// Nothing, or that the version is too old: the attempt gets no further here.
    Nothing,
}

impl Claims {
    pub(super) fn steps(&self, state: &State, steps: &mut Vec<Step>) {
        let views = self.caches(state);
        for claim in 0..self.bounds.claims {
            match state.claims[claim] {
                // Claims are alike: they begin in order.
                Claim::Idle if claim == 0 || state.claims[claim - 1] != Claim::Idle => {
                    steps.extend(views.clone().map(|view| Step::Pick { claim, view }));
                }
                Claim::Holding { .. } => {
                    steps.extend((0..REPLICAS).map(|at| Step::Hold { claim, at }));
                    steps.extend([Step::HoldAnew { claim }, Step::Grant { claim }]);
                }
                Claim::Idle | Claim::Granted { .. } | Claim::Failed => {}
            }
        }
        match state.delete {
            Delete::Idle => steps.extend(views.map(|view| Step::BeginDelete { view })),
            Delete::Running { .. } => {
                steps.extend((0..REPLICAS).map(|at| Step::Delete { at }));
                steps.extend([Step::DeleteAnew, Step::EndDelete]);
            }
            Delete::Acked | Delete::Refused => {}
        }
        for at in 0..REPLICAS {
            if state.replicas[at].mark.is_some_and(|mark| mark.live) {
                steps.push(Step::Expire { at });
                if self.rules.take(Shortcut::ClientClock) {
                    steps.push(Step::Misjudge { at });
                }
            }
            if state.is_here(at) && !state.replicas[at].told && at != TARGET {
                steps.push(Step::TellEnd { at });
            }
        }
        self.repair_steps(state, steps);
    }

    pub(super) fn take(&self, state: &State, step: Step) -> Option<State> {
        let mut next = *state;
        let state = &mut next;
        match step {
            Step::Pick { claim, view } => self.pick(state, claim, view)?,
            Step::Hold { claim, at } => self.hold(state, claim, at)?,
            Step::HoldAnew { claim } => {
                let newest = self.newest_unless_thin(state)?;
                let Claim::Holding { attempt, .. } = &mut state.claims[claim] else { return None };
                *attempt = attempt.anew(newest)?;
            }
            Step::Grant { claim } => self.grant(state, claim)?,
            Step::Expire { at } => {
                let mark = state.replicas[at].mark.as_mut()?;
                mark.live = false;
                state.over |= 1 << mark.claim;
            }
            Step::Misjudge { at } => state.replicas[at].mark.as_mut()?.live = false,
            Step::BeginDelete { view } => {
                let full = state.view(view).with(Standing::Full).count();
                let may = match self.bounds.deletes {
                    Deletes::Claimed => matches!(state.claims[0], Claim::Granted { .. }),
                    Deletes::Any | Deletes::None => true,
                };
                (may && full >= self.bounds.copies_min).then_some(())?;
                let guard = self.bounds.deletes;
                state.delete = Delete::Running { guard, attempt: Attempt::by(view), ended: false };
            }
            Step::Delete { at } => self.delete(state, at)?,
            Step::DeleteAnew => {
                let newest = self.newest_unless_thin(state)?;
                let Delete::Running { attempt, ended, .. } = &mut state.delete else { return None };
                *ended |= attempt.took != 0;
                *attempt = attempt.anew(newest)?;
            }
            Step::EndDelete => self.end_delete(state)?,
            Step::TellEnd { at } => state.replicas[at].told = true,
            _ => self.repair(state, step)?,
        }
        Some(next)
    }

    /// A thin segment waits for its repair.
    fn newest_unless_thin(&self, state: &State) -> Option<u8> {
        let full = state.now().with(Standing::Full).count();
        (full >= self.bounds.copies_min).then(|| state.newest())
    }

    /// By which manifests a process may begin.
    fn caches(&self, state: &State) -> std::ops::RangeInclusive<u8> {
        let newest = state.newest();
        match self.bounds.caches {
            Caches::Any => 0..=newest,
            Caches::Newest => newest..=newest,
        }
    }

    fn pick(&self, state: &mut State, claim: usize, view: u8) -> Option<()> {
        let by = state.view(view);
        let at = by.with(Standing::Full).next()?;
        let full = by.with(Standing::Full).count();
        let replica = &mut state.replicas[at];
        if replica.life != Life::Here || full < self.bounds.copies_min {
            return None;
        }
        let untold = !replica.told;
        if untold && !self.rules.take(Shortcut::PickBeforeEnd) {
            self.ledger.note(Transition::EndUnknownRefused);
            return None;
        }
        if by.version < replica.version {
            self.ledger.note(Transition::StaleRefused);
            return None;
        }
        if replica.ended || replica.mark.is_some_and(|mark| mark.live) {
            return None;
        }
        if replica.mark.is_some() {
            self.ledger.note(Transition::ClaimRepeated);
        }
        replica.version = by.version;
        replica.picks += 1;
        let plain = self.rules.take(Shortcut::PlainCount);
        let rank = (if plain { 0 } else { by.version }, replica.picks);
        replica.mark = Some(Mark { claim: claim as u8, rank, live: true });
        state.over &= !(1 << claim);
        let phantom = untold && at == 0;
        // It need not be asked to hold by the same view.
        let attempt = Attempt { took: 1 << at, ..Attempt::by(view) };
        state.claims[claim] = Claim::Holding { rank, picker: at as u8, phantom, attempt };
        Some(())
    }

    /// Whether the attempt may ask this replica now: full ones first, then joining ones.
    fn may_ask(&self, state: &State, attempt: Attempt, at: usize) -> bool {
        let by = state.view(attempt.view);
        let asked = (attempt.took | attempt.refused) & (1 << at) != 0;
        match by.standing[at] {
            Standing::Full => !asked,
            Standing::Joining => !asked && self.full_answered(state, attempt),
            Standing::None | Standing::Dropped => false,
        }
    }

    /// Whether all full replicas have answered; or those that did not were dropped, and all that
    /// are full now are among those that did, and are enough.
    fn full_answered(&self, state: &State, attempt: Attempt) -> bool {
        let asked = state.view(attempt.view).mask(Standing::Full);
        let now = state.now().mask(Standing::Full);
        let answered = (attempt.took | attempt.refused) & asked;
        let stays = if self.rules.take(Shortcut::CountDropped) { answered } else { now };
        let enough = |mask: u8| mask.count_ones() as usize >= self.bounds.copies_min;
        (answered == asked && enough(answered)) || (now & !answered == 0 && enough(stays))
    }

    /// Whether nothing is left to ask. When one that did not answer was dropped, the copies that
    /// were begun by then may be of that one.
    fn is_complete(&self, state: &State, attempt: Attempt) -> bool {
        let by = state.view(attempt.view);
        let joining = by.with(Standing::Joining);
        let now = state.now();
        let mut unheard = joining.filter(|at| (attempt.took | attempt.refused) & (1 << *at) == 0);
        let answered = attempt.took | attempt.refused;
        let dropped = by.mask(Standing::Full) & !answered != 0;
        let begun = dropped && !self.rules.take(Shortcut::JoiningUnheard);
        self.full_answered(state, attempt)
            && unheard.all(|at| now.standing[at] == Standing::None)
            && !(begun && now.mask(Standing::Joining) & !answered != 0)
    }

    /// What a hold comes to on one replica.
    fn holds(&self, state: &mut State, claim: u8, rank: (u8, u8), version: u8, at: usize) -> Said {
        let joining = state.now().standing[at] == Standing::Joining;
        let replica = &mut state.replicas[at];
        if replica.life != Life::Here || !(replica.told || joining || at == TARGET) {
            return Said::Nothing;
        }
        if version < replica.version {
            self.ledger.note(Transition::StaleRefused);
            return Said::Nothing;
        }
        replica.version = version;
        if replica.ended {
            return Said::Refused;
        }
        if let Some(mark) = replica.mark
            && (mark.claim, mark.rank) != (claim, rank)
            && (mark.live || mark.rank >= rank)
        {
            self.ledger.note(Transition::Outranked);
            return Said::Refused;
        }
        if !replica.has {
            self.ledger.note(Transition::TombstoneFirst);
        }
        replica.mark = Some(Mark { claim, rank, live: true });
        Said::Took
    }

    fn hold(&self, state: &mut State, claim: usize, at: usize) -> Option<()> {
        let Claim::Holding { rank, picker, phantom, mut attempt } = state.claims[claim] else {
            return None;
        };
        if !self.may_ask(state, attempt, at) {
            return None;
        }
        let said = match phantom && at != 0 {
            true => Said::Refused,
            false if phantom => Said::Took,
            false => {
                let version = state.view(attempt.view).version;
                self.holds(state, claim as u8, rank, version, at)
            }
        };
        state.claims[claim] = match said {
            Said::Took => {
                attempt.took |= 1 << at;
                Claim::Holding { rank, picker, phantom, attempt }
            }
            Said::Refused => Claim::Failed,
            Said::Nothing => return None,
        };
        Some(())
    }

    fn grant(&self, state: &mut State, claim: usize) -> Option<()> {
        let Claim::Holding { rank, picker, phantom, attempt } = state.claims[claim] else {
            return None;
        };
        let by_picker = attempt.took & (1 << picker) != 0;
        (by_picker && self.is_complete(state, attempt)).then_some(())?;
        state.claims[claim] = Claim::Granted { rank, phantom };
        Some(())
    }

    /// What a delete comes to on one replica.
    fn deletes(&self, state: &mut State, guard: Deletes, version: u8, at: usize) -> Said {
        let of_claim = match state.claims[0] {
            Claim::Granted { rank, .. } => Some((0, rank)),
            _ => None,
        };
        let replica = &mut state.replicas[at];
        if replica.life != Life::Here {
            return Said::Nothing;
        }
        if version < replica.version {
            self.ledger.note(Transition::StaleRefused);
            return Said::Nothing;
        }
        replica.version = version;
        if !replica.has {
            // A joining replica: the guard was that of the full ones.
            self.ledger.note(Transition::TombstoneFirst);
            replica.ended = true;
            return Said::Took;
        }
        let holder = replica.mark.filter(|mark| mark.live).map(|mark| (mark.claim, mark.rank));
        if !replica.ended && guard == Deletes::Claimed && holder != of_claim {
            self.ledger.note(Transition::OldDeleteRefused);
            return Said::Refused;
        }
        replica.ended = true;
        state.entitled = true;
        Said::Took
    }

    fn delete(&self, state: &mut State, at: usize) -> Option<()> {
        let Delete::Running { guard, mut attempt, ended } = state.delete else { return None };
        if !self.may_ask(state, attempt, at) {
            return None;
        }
        let by = state.view(attempt.view);
        let refused_by_all = attempt.took == 0 && !ended;
        let follows = by.standing[at] == Standing::Joining;
        if follows && refused_by_all && !self.rules.take(Shortcut::FollowUpRefused) {
            return None;
        }
        // The guard was for the full ones to judge.
        let judges = !follows || self.rules.take(Shortcut::JoiningJudges);
        let condition = if judges { guard } else { Deletes::Any };
        match self.deletes(state, condition, by.version, at) {
            Said::Took => attempt.took |= 1 << at,
            Said::Refused => attempt.refused |= 1 << at,
            Said::Nothing => return None,
        }
        state.delete = Delete::Running { guard, attempt, ended };
        Some(())
    }

    fn end_delete(&self, state: &mut State) -> Option<()> {
        let Delete::Running { attempt, ended, .. } = state.delete else { return None };
        let full = state.view(attempt.view).mask(Standing::Full);
        let (took, refused) = (attempt.took & full, attempt.refused & full);
        if took == 0 && refused != 0 && !ended && self.full_answered(state, attempt) {
            // Joining ones need not hear of it.
            state.delete = Delete::Refused;
            return Some(());
        }
        self.is_complete(state, attempt).then_some(())?;
        if refused == 0 {
            state.delete = Delete::Acked;
            return Some(());
        }
        if took & state.now().mask(Standing::Full) != 0 {
            self.ledger.note(Transition::HalfDoneFinished);
            let attempt = Attempt::by(state.newest());
            state.delete = Delete::Running { guard: Deletes::Any, attempt, ended: true };
        } else if self.rules.take(Shortcut::HalfDoneTold) {
            state.delete = Delete::Acked;
        } else {
            // Whoever took it speaks for nobody any more.
            state.delete = Delete::Refused;
        }
        Some(())
    }
}

impl Attempt {
    fn by(view: u8) -> Self {
        Self { view, took: 0, refused: 0 }
    }

    /// Another attempt, by a newer view.
    fn anew(self, newest: u8) -> Option<Self> {
        (self.view < newest).then(|| Self::by(newest))
    }
}
