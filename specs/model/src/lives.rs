//! Lives of one node: cookies, run ids, admissions, restarts with and without data (Q9).
//!
//! One node that is emptied, restarted empty, and restarted with an old snapshot; two processes
//! that watch it and admit it; replicas that are opened and written to. A node that answers under a
//! life must still have everything that it acknowledged in that life.
//!
//! What is abstracted, and why that is sound:
//! - **The pool register** changes in one step (the part *keepers*): the node's present life, and
//!   the run id under which it began.
//! - **The network**: an `Admit` that was sent may arrive at any later time, or never. What a
//!   process saw of the node may be as old as can be when it acts on it.
//! - **A replica** is absent, open, or written to: one for each life is enough, since the node
//!   treats them alike. A keeper's state is of the same kind.
//! - **Time**: how long a process waits before it decides another life matters to nothing here.
//! - Durable nodes, which keep their life across restarts, are left out: whether the server's disk
//!   keeps what it was told to is not ours to check.

use std::sync::Arc;

use stateright::{Model, Property};

use crate::check::Part;
use crate::ledger::{Ledger, Transition};
use crate::rules::{Rules, Shortcut};

const LIVES: usize = 4;
const WATCHERS: usize = 2;

/// How much of everything there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Lives that are decided.
    pub(crate) lives: u8,
    /// Times that the node is emptied or restarted.
    pub(crate) faults: u8,
}

/// A replica, by the life in which it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Replica {
    Absent,
    Open,
    Written,
}

/// A life and the run id under which it began; life 0: no cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Cookie {
    life: u8,
    run: u8,
}

/// What would be on the server's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Held {
    cookie: Cookie,
    replicas: [Replica; LIVES],
}

const EMPTY: Held = Held { cookie: Cookie { life: 0, run: 0 }, replicas: [Replica::Absent; LIVES] };

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    run: u8,
    held: Held,
    snapshot: Held,
    faults: u8,
    /// The pool register's entry.
    decided: Cookie,
    /// What each watcher saw: the node's run id, and the life decided then.
    seen: [Option<Cookie>; WATCHERS],
    /// Admissions on their way, by life: the run id.
    admits: [Option<u8>; LIVES],
    /// What was acknowledged of each life's replica.
    acked: [Replica; LIVES],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Look { watcher: usize },
    Decide { watcher: usize },
    Admit { life: usize },
    Open { life: usize },
    Write { life: usize },
    Snapshot,
    Flush,
    RestartEmpty,
    RestartOld,
}

/// The model.
#[derive(Debug, Clone)]
pub(crate) struct Lives {
    pub(crate) rules: Rules,
    pub(crate) bounds: Bounds,
    pub(crate) ledger: Arc<Ledger>,
}

impl Lives {
    /// The protocol within `bounds`.
    pub(crate) fn within(bounds: Bounds) -> Self {
        Self { rules: Rules::default(), bounds, ledger: Arc::default() }
    }

    /// The model that refutes a shortcut, if this part can.
    pub(crate) fn refuting(shortcut: Shortcut) -> Option<Self> {
        use Shortcut::{AdmitAgain, CurrentIncarnation, RunIdIgnored};
        let bounds = Bounds { lives: 2, faults: 1 };
        matches!(shortcut, AdmitAgain | CurrentIncarnation | RunIdIgnored)
            .then(|| Self { rules: Rules::but(shortcut), ..Self::within(bounds) })
    }

    /// Whether the node answers a request for the replica of this life.
    fn answers(&self, state: &State, life: usize) -> bool {
        let cookie = state.held.cookie;
        let wanted = match self.rules.take(Shortcut::CurrentIncarnation) {
            true => state.decided.life,
            false => life as u8,
        };
        let same_run = cookie.run == state.run || self.rules.take(Shortcut::RunIdIgnored);
        cookie.life != 0 && cookie.life == wanted && same_run
    }

    fn admit(&self, state: &mut State, life: usize) -> Option<()> {
        let run = state.admits[life]?;
        let held = state.held.cookie.life;
        let again = self.rules.take(Shortcut::AdmitAgain);
        if !again {
            state.admits[life] = None;
        }
        if run != state.run || usize::from(held) >= life {
            self.ledger.note(Transition::LateAdmit);
            return Some(());
        }
        if state.acked.iter().any(|acked| *acked != Replica::Absent) {
            self.ledger.note(Transition::Readmitted);
        }
        // Keys name their life, so that what an older one left is out of reach.
        if !self.rules.take(Shortcut::CurrentIncarnation) {
            state.held = EMPTY;
        }
        state.held.cookie = Cookie { life: life as u8, run };
        Some(())
    }

    fn decide(&self, state: &mut State, watcher: usize) -> Option<()> {
        let seen = state.seen[watcher].take()?;
        if seen.life != state.decided.life {
            self.ledger.note(Transition::AdmitRace);
            self.ledger.note(Transition::CasLost);
            return Some(());
        }
        let life = state.decided.life + 1;
        (life <= self.bounds.lives).then_some(())?;
        state.decided = Cookie { life, run: seen.run };
        state.admits[usize::from(life)] = Some(seen.run);
        Some(())
    }

    fn touch(&self, state: &mut State, life: usize, step: Step) -> Option<()> {
        if !self.answers(state, life) {
            if state.held.cookie.life as usize == life || state.acked[life] != Replica::Absent {
                self.ledger.note(Transition::StrangerRefused);
            }
            return None;
        }
        let replica = &mut state.held.replicas[life];
        match (step, *replica) {
            // A replica is opened once.
            (Step::Open { .. }, Replica::Absent) if state.acked[life] == Replica::Absent => {
                *replica = Replica::Open;
            }
            (Step::Write { .. }, Replica::Open) => *replica = Replica::Written,
            _ => return None,
        }
        state.acked[life] = *replica;
        Some(())
    }
}

impl Model for Lives {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            run: 1,
            held: EMPTY,
            snapshot: EMPTY,
            faults: 0,
            decided: Cookie::default(),
            seen: [None; WATCHERS],
            admits: [None; LIVES],
            acked: [Replica::Absent; LIVES],
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for watcher in 0..WATCHERS {
            steps.extend([Step::Look { watcher }, Step::Decide { watcher }]);
        }
        for life in 1..LIVES {
            steps.extend([Step::Admit { life }, Step::Open { life }, Step::Write { life }]);
        }
        steps.push(Step::Snapshot);
        if state.faults < self.bounds.faults {
            steps.extend([Step::Flush, Step::RestartEmpty, Step::RestartOld]);
        }
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = *state;
        match step {
            Step::Look { watcher } => {
                let member = self.answers(state, usize::from(state.decided.life));
                let may = !member && next.seen[watcher].is_none();
                may.then_some(())?;
                next.seen[watcher] = Some(Cookie { life: next.decided.life, run: next.run });
            }
            Step::Decide { watcher } => self.decide(&mut next, watcher)?,
            Step::Admit { life } => self.admit(&mut next, life)?,
            // Placements are made in the life that is known as the present one.
            Step::Open { life } if usize::from(next.decided.life) != life => return None,
            Step::Open { life } | Step::Write { life } => self.touch(&mut next, life, step)?,
            Step::Snapshot => next.snapshot = next.held,
            Step::Flush => {
                next.held = EMPTY;
                next.faults += 1;
            }
            Step::RestartEmpty | Step::RestartOld => {
                let old = step == Step::RestartOld;
                if old && next.snapshot.cookie.life > 0 {
                    self.ledger.note(Transition::RolledBack);
                }
                next.held = if old { next.snapshot } else { EMPTY };
                next.run += 1;
                next.faults += 1;
            }
        }
        Some(next).filter(|next| next != state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![Property::always(INVARIANTS[0], |part: &Self, state: &State| {
            let keeps = |life: usize| {
                !part.answers(state, life) || {
                    // A replica that is not there says so, which tells of the loss; one that was
                    // opened in the node's present life must be there.
                    let held = state.held.replicas[life];
                    let gone =
                        held == Replica::Absent && usize::from(state.held.cookie.life) != life;
                    gone || held >= state.acked[life]
                }
            };
            part.ledger.first(9, (1..LIVES).all(keeps))
        })];
        properties.extend(self.transitions().into_iter().map(Transition::sometimes));
        properties
    }
}

const INVARIANTS: &[&str] = &["Q9 amnesia"];

impl Part for Lives {
    fn name(&self) -> &'static str {
        "lives"
    }

    fn bounds(&self) -> String {
        let Bounds { lives, faults } = self.bounds;
        format!("1 node, {WATCHERS} processes that watch it, {lives} lives, {faults} faults")
    }

    fn invariants(&self) -> &'static [&'static str] {
        INVARIANTS
    }

    fn transitions(&self) -> Vec<Transition> {
        use Transition::*;
        vec![StrangerRefused, Readmitted, RolledBack, LateAdmit, AdmitRace, CasLost]
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn tell(&self, _: &State, step: &Step, after: &State) -> String {
        match *step {
            Step::Look { watcher } => {
                format!("p{} sees that the node is not in its present life", watcher + 1)
            }
            Step::Decide { watcher } => {
                let Cookie { life, run } = after.decided;
                format!("p{} decides life {life}, begun in run {run}", watcher + 1)
            }
            Step::Admit { life } => {
                let now = after.held.cookie.life;
                format!("the admission to life {life} arrives: the node is in life {now}")
            }
            Step::Open { life } => format!("a replica is opened in life {life}"),
            Step::Write { life } => format!("the replica of life {life} takes a block"),
            Step::Snapshot => "the server writes a snapshot of itself".into(),
            Step::Flush => "the server is emptied while it runs".into(),
            Step::RestartEmpty => format!("the server starts again empty, as run {}", after.run),
            Step::RestartOld => {
                format!("the server starts again from its snapshot, as run {}", after.run)
            }
        }
    }
}
