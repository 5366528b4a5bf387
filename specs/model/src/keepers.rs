//! A register on its keepers: ballots, late requests, keepers that forget and are restored by way
//! of a new epoch (Q6, Q9).
//!
//! Three keepers; each attempt to write has a ballot of its own, asks for promises, and has a value
//! accepted that follows from the one it saw: the list of the attempts that wrote, so that every
//! value tells its whole past. Chosen values must lie on one line.
//!
//! What is abstracted, and why that is sound:
//! - **The network**: a prepare or an accept may reach a keeper at any time after it was sent, also
//!   when its attempt has been given up and after later ones; a proposer may hear any answers.
//! - **Attempts** stand for processes: one that dies and one that tries again with another ballot
//!   look alike. What an attempt saw is fixed when a majority has promised.
//! - **The next set of keepers** is the same nodes in their new lives, decided in one step once one
//!   has forgotten. That there is one such decision for each epoch is itself a register's work: here
//!   it is given; the last epoch's keepers had to agree on it.
//! - **Registers** are independent of each other, so there is one.
//! - Replacing a keeper by another node is the same as restoring one that forgot, which is the
//!   worse case: its old life voted.

use std::sync::Arc;

use stateright::{Model, Property};

use crate::check::Part;
use crate::ledger::{Ledger, Transition};
use crate::rules::{Rules, Shortcut};

const KEEPERS: usize = 3;
const MAJORITY: u32 = 2;
const BALLOTS: usize = 4;

/// How much of everything there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Attempts to write.
    pub(crate) ballots: usize,
    /// Times that a keeper forgets.
    pub(crate) forgets: u8,
    /// The last epoch.
    pub(crate) epochs: u8,
}

/// A list of ballots, as bits: each ballot writes on what it saw, which came from lower ones.
type Past = u8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Keeper {
    epoch: u8,
    votes: bool,
    promised: u8,
    accepted: (u8, Past),
    /// Those from which it was filled in this epoch, as bits.
    filled: u8,
}

/// One attempt; its ballot is its place in the list, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Attempt {
    /// 0: not begun.
    epoch: u8,
    /// Keepers whose promise was heard, as bits, and the highest that they had accepted.
    promises: u8,
    seen: (u8, Past),
    /// The value sent, once a majority had promised.
    value: Option<Past>,
    /// Keepers that accepted it, as bits.
    accepts: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    keepers: [Keeper; KEEPERS],
    attempts: [Attempt; BALLOTS],
    /// The newest epoch decided.
    epoch: u8,
    /// Keepers that forgot since then, as bits.
    forgot: u8,
    forgets: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Begin { ballot: usize, epoch: u8 },
    Promise { ballot: usize, at: usize },
    Propose { ballot: usize },
    Accept { ballot: usize, at: usize },
    Forget { at: usize },
    Decide,
    Raise { at: usize },
    Fill { at: usize, from: usize },
    LetVote { at: usize },
}

/// The model.
#[derive(Debug, Clone)]
pub(crate) struct Keepers {
    pub(crate) rules: Rules,
    pub(crate) bounds: Bounds,
    pub(crate) ledger: Arc<Ledger>,
}

impl Keepers {
    /// The protocol within `bounds`.
    pub(crate) fn within(bounds: Bounds) -> Self {
        Self { rules: Rules::default(), bounds, ledger: Arc::default() }
    }

    /// The model that refutes a shortcut, if this part can.
    pub(crate) fn refuting(shortcut: Shortcut) -> Option<Self> {
        let bounds = Bounds { ballots: 2, forgets: 1, epochs: 1 };
        let bounds = match shortcut {
            Shortcut::EmptyKeeperVotes | Shortcut::RestoreWithoutEpoch => bounds,
            _ => return None,
        };
        Some(Self { rules: Rules::but(shortcut), ..Self::within(bounds) })
    }

    fn promise(&self, state: &mut State, ballot: usize, at: usize) -> Option<()> {
        let attempt = &mut state.attempts[ballot];
        let keeper = &mut state.keepers[at];
        if attempt.epoch == 0 || attempt.value.is_some() || !self.serves(*keeper, attempt.epoch) {
            return None;
        }
        let number = ballot as u8 + 1;
        if keeper.promised >= number {
            self.ledger.note(Transition::BallotRefused);
            return None;
        }
        keeper.promised = number;
        attempt.promises |= 1 << at;
        attempt.seen = attempt.seen.max(keeper.accepted);
        Some(())
    }

    fn accept(&self, state: &mut State, ballot: usize, at: usize) -> Option<()> {
        let number = ballot as u8 + 1;
        let overtaken = state.attempts[ballot + 1..].iter().any(|later| later.epoch > 0);
        let attempt = &mut state.attempts[ballot];
        let keeper = &mut state.keepers[at];
        let value = attempt.value?;
        if !self.serves(*keeper, attempt.epoch) {
            return None;
        }
        if keeper.promised > number {
            self.ledger.note(Transition::BallotRefused);
            return None;
        }
        if overtaken {
            self.ledger.note(Transition::LateAccept);
        }
        keeper.promised = number;
        keeper.accepted = (number, value);
        attempt.accepts |= 1 << at;
        Some(())
    }

    fn serves(&self, keeper: Keeper, epoch: u8) -> bool {
        if keeper.epoch > epoch {
            self.ledger.note(Transition::EpochRefused);
        }
        keeper.votes && keeper.epoch == epoch
    }

    fn forget(&self, state: &mut State, at: usize) {
        let keeper = &mut state.keepers[at];
        let stays = self.rules.take(Shortcut::EmptyKeeperVotes);
        // With its cookie gone it is no keeper: only an epoch that names its new life makes it one.
        let epoch = if stays { keeper.epoch } else { 0 };
        *keeper = Keeper { epoch, votes: stays, promised: 0, accepted: (0, 0), filled: 0 };
        if self.rules.take(Shortcut::RestoreWithoutEpoch) {
            keeper.epoch = state.epoch;
        }
        state.forgot |= 1 << at;
        state.forgets += 1;
    }

    /// One that votes, and was raised before, gives what it holds to one that does not.
    fn fill(&self, state: &mut State, at: usize, from: usize) -> Option<()> {
        let source = state.keepers[from];
        let target = &mut state.keepers[at];
        let epoch = state.epoch;
        let ready = source.votes && source.epoch == epoch && target.epoch == epoch;
        (ready && !target.votes && at != from).then_some(())?;
        target.promised = target.promised.max(source.promised);
        target.accepted = target.accepted.max(source.accepted);
        target.filled |= 1 << from;
        Some(())
    }
}

impl State {
    fn chosen(&self) -> impl Iterator<Item = Past> + '_ {
        let chosen = self.attempts.iter().filter(|a| a.accepts.count_ones() >= MAJORITY);
        chosen.filter_map(|attempt| attempt.value)
    }

    /// Chosen values lie on one line: of two, one contains the other as its past.
    fn has_one_line(&self) -> bool {
        let on_one_line = |one: Past, other: Past| {
            let (short, long) = (one.min(other), one.max(other));
            let shorter = 8 - short.leading_zeros();
            long & ((1_u16 << shorter) - 1) as u8 == short
        };
        let mut chosen = self.chosen();
        chosen.all(|one| self.chosen().all(|other| on_one_line(one, other)))
    }

    /// What was chosen is in what any majority that votes would show.
    fn shows_what_was_chosen(&self) -> bool {
        let chosen = (1_u8..).zip(&self.attempts);
        let chosen = chosen.filter(|(_, attempt)| attempt.accepts.count_ones() >= MAJORITY);
        let Some(newest) = chosen.map(|(ballot, _)| ballot).max() else { return true };
        let voters: Vec<Keeper> =
            self.keepers.iter().filter(|k| k.votes && k.epoch == self.epoch).copied().collect();
        let without = voters.iter().filter(|keeper| keeper.accepted.0 < newest).count();
        without < MAJORITY as usize
    }
}

impl Model for Keepers {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let keeper = Keeper { epoch: 1, votes: true, promised: 0, accepted: (0, 0), filled: 0 };
        vec![State {
            keepers: [keeper; KEEPERS],
            attempts: [Attempt::default(); BALLOTS],
            epoch: 1,
            forgot: 0,
            forgets: 0,
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for ballot in 0..self.bounds.ballots {
            let attempt = state.attempts[ballot];
            if attempt.epoch == 0 {
                steps.extend((1..=state.epoch).map(|epoch| Step::Begin { ballot, epoch }));
                continue;
            }
            steps.extend((0..KEEPERS).map(|at| Step::Promise { ballot, at }));
            steps.push(Step::Propose { ballot });
            steps.extend((0..KEEPERS).map(|at| Step::Accept { ballot, at }));
        }
        for at in 0..KEEPERS {
            if state.forgets < self.bounds.forgets {
                steps.push(Step::Forget { at });
            }
            steps.extend([Step::Raise { at }, Step::LetVote { at }]);
            steps.extend((0..KEEPERS).map(|from| Step::Fill { at, from }));
        }
        steps.push(Step::Decide);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = *state;
        match step {
            Step::Begin { ballot, epoch } => next.attempts[ballot].epoch = epoch,
            Step::Promise { ballot, at } => self.promise(&mut next, ballot, at)?,
            Step::Propose { ballot } => {
                let attempt = &mut next.attempts[ballot];
                let may = attempt.value.is_none() && attempt.promises.count_ones() >= MAJORITY;
                may.then_some(())?;
                attempt.value = Some(attempt.seen.1 | 1 << ballot);
                let (seen, _) = attempt.seen;
                let unchosen = |a: &Attempt| a.accepts.count_ones() < MAJORITY;
                if seen > 0 && unchosen(&next.attempts[usize::from(seen) - 1]) {
                    self.ledger.note(Transition::AdoptedUnchosen);
                }
            }
            Step::Accept { ballot, at } => self.accept(&mut next, ballot, at)?,
            Step::Forget { at } => self.forget(&mut next, at),
            Step::Decide => {
                // By a majority of those that vote now.
                let voters = next.keepers.iter().filter(|k| k.votes && k.epoch == next.epoch);
                let may = next.forgot != 0 && voters.count() as u32 >= MAJORITY;
                (may && next.epoch < self.bounds.epochs).then_some(())?;
                next.epoch += 1;
                next.forgot = 0;
            }
            Step::Raise { at } => {
                // One that forgot again is not named by this epoch.
                let named = next.forgot & (1 << at) == 0;
                let keeper = &mut next.keepers[at];
                (named && keeper.epoch < next.epoch).then_some(())?;
                keeper.epoch = next.epoch;
                keeper.filled = 0;
            }
            Step::Fill { at, from } => self.fill(&mut next, at, from)?,
            Step::LetVote { at } => {
                let keeper = &mut next.keepers[at];
                let filled = keeper.filled.count_ones() >= MAJORITY && !keeper.votes;
                (filled && keeper.epoch == next.epoch).then_some(())?;
                keeper.votes = true;
                self.ledger.note(Transition::KeeperRestored);
            }
        }
        Some(next).filter(|next| next != state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(INVARIANTS[0], |part: &Self, state: &State| {
                part.ledger.first(6, state.has_one_line())
            }),
            Property::always(INVARIANTS[1], |part: &Self, state: &State| {
                part.ledger.first(9, state.shows_what_was_chosen())
            }),
        ];
        properties.extend(self.transitions().into_iter().map(Transition::sometimes));
        properties
    }
}

const INVARIANTS: &[&str] = &["Q6 one manifest", "Q9 amnesia"];

impl Part for Keepers {
    fn name(&self) -> &'static str {
        "keepers"
    }

    fn bounds(&self) -> String {
        let Bounds { ballots, forgets, epochs } = self.bounds;
        format!("{KEEPERS} keepers, {ballots} attempts, {forgets} times forgotten, {epochs} epochs")
    }

    fn invariants(&self) -> &'static [&'static str] {
        INVARIANTS
    }

    fn transitions(&self) -> Vec<Transition> {
        use Transition::*;
        let mut wanted = vec![BallotRefused, LateAccept, AdoptedUnchosen];
        if self.bounds.epochs > 1 {
            wanted.extend([EpochRefused, KeeperRestored]);
        }
        wanted
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn tell(&self, _: &State, step: &Step, after: &State) -> String {
        let past = |past: Past| {
            let writers: Vec<String> = (0..BALLOTS)
                .filter(|ballot| past & (1 << *ballot) != 0)
                .map(|ballot| format!("w{}", ballot + 1))
                .collect();
            if writers.is_empty() { "nothing".into() } else { writers.join(" ") }
        };
        match *step {
            Step::Begin { ballot, epoch } => {
                format!("w{0} begins with ballot {0} in epoch {epoch}", ballot + 1)
            }
            Step::Promise { ballot, at } => {
                format!("k{} promises ballot {}", at + 1, ballot + 1)
            }
            Step::Propose { ballot } => {
                let attempt = after.attempts[ballot];
                let value = past(attempt.value.unwrap_or(0));
                format!("w{} saw {} and proposes: {value}", ballot + 1, past(attempt.seen.1))
            }
            Step::Accept { ballot, at } => {
                let attempt = after.attempts[ballot];
                let chosen = attempt.accepts.count_ones() == MAJORITY;
                let chosen = if chosen { ": it is chosen" } else { "" };
                let value = past(attempt.value.unwrap_or(0));
                format!("k{} accepts ballot {}, {value}{chosen}", at + 1, ballot + 1)
            }
            Step::Forget { at } => format!("k{} forgets everything", at + 1),
            Step::Decide => format!("epoch {} is decided", after.epoch),
            Step::Raise { at } => format!("k{} is raised to epoch {}", at + 1, after.epoch),
            Step::Fill { at, from } => format!("k{} is filled from k{}", at + 1, from + 1),
            Step::LetVote { at } => format!("k{} votes again", at + 1),
        }
    }
}
