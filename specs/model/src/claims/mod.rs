//! Claims and deletes on a closed segment, while its replicas are dropped, copied and taken back
//! (Q1, Q5, Q7, Q8).
//!
//! One message m on two full replicas, r1 and r2; r3 is where a copy is made. Claimers pick, hold
//! and are granted; one delete runs, under a claim or without; the repairer names r3, raises the
//! version, copies and promotes; anybody drops who seems silent; nodes forget.
//!
//! What is abstracted, and why that is sound:
//! - **The network**, as in *log*: each request to each replica is a step of its own, and may come
//!   late or never; a process that dies between two is one that takes no further step.
//! - **The manifest** changes in one step. A process may start from *any* version there ever was:
//!   more than a cache could hold back.
//! - **Time.** A mark may expire on one replica at any moment, early on one and late on another,
//!   also before its claim was granted. A claim counts as live until the first of its marks expires.
//! - **One message** is enough: the rules are per message. In `untold` bounds r1 has a second one,
//!   x, above the end.
//! - **A salvage** is one step: the version is raised on everything reachable before anything is
//!   merged, so what comes between is refused. That all replicas that are here are reachable is an
//!   assumption; [`Shortcut::SalvageUnheard`] is what happens without it.
//! - Releases and renewals are left out: the simulator has them.

mod property;
mod repair;
mod state;
mod steps;
mod told;

use std::sync::Arc;

use stateright::{Model, Property};

pub(crate) use self::state::{Attempt, Claim, Delete, Life, Mark, Replica, Standing, State, View};
pub(crate) use self::steps::Step;
use crate::check::Part;
use crate::ledger::{Ledger, Transition};
use crate::rules::{Rules, Shortcut};

/// How much of everything there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Full replicas without which nothing is claimed or deleted.
    pub(crate) copies_min: usize,
    pub(crate) claims: usize,
    pub(crate) deletes: Deletes,
    /// Replicas that are dropped because they seem silent.
    pub(crate) drops: u8,
    /// Nodes that forget.
    pub(crate) forgets: u8,
    pub(crate) beginning: Beginning,
    pub(crate) caches: Caches,
}

/// By which manifests a process may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caches {
    /// Any that there ever was.
    Any,
    /// The newest.
    Newest,
}

/// What is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Deletes {
    None,
    /// By its id.
    Any,
    /// Under the first claim.
    Claimed,
}

/// How the segment is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// Both replicas were told the end.
    Told,
    /// Neither was, and r1 has a message above it.
    Untold,
}

/// The model.
#[derive(Debug, Clone)]
pub(crate) struct Claims {
    pub(crate) rules: Rules,
    pub(crate) bounds: Bounds,
    pub(crate) ledger: Arc<Ledger>,
}

impl Claims {
    /// The protocol within `bounds`.
    pub(crate) fn within(bounds: Bounds) -> Self {
        Self { rules: Rules::default(), bounds, ledger: Arc::default() }
    }

    /// The model that refutes a shortcut, if this part can.
    pub(crate) fn refuting(shortcut: Shortcut) -> Option<Self> {
        let none = Bounds {
            copies_min: 1,
            claims: 0,
            deletes: Deletes::None,
            drops: 0,
            forgets: 0,
            beginning: Beginning::Told,
            caches: Caches::Any,
        };
        let safe = Bounds { copies_min: 2, ..none };
        let bounds = match shortcut {
            Shortcut::ReusePlacement => safe,
            Shortcut::ForgetDropped => Bounds { drops: 1, forgets: 1, ..safe },
            Shortcut::PickBeforeEnd => {
                Bounds { claims: 1, drops: 1, beginning: Beginning::Untold, ..none }
            }
            Shortcut::CopyWithoutVersion => Bounds { deletes: Deletes::Any, ..safe },
            Shortcut::CopyOverwrites => Bounds { deletes: Deletes::Any, ..safe },
            Shortcut::SalvageOutOfOrder | Shortcut::SalvageUnheard | Shortcut::CountDropped => {
                Bounds { deletes: Deletes::Any, drops: 2, forgets: 1, ..safe }
            }
            Shortcut::PlainCount => Bounds { claims: 2, drops: 1, caches: Caches::Newest, ..none },
            Shortcut::JoiningUnheard => Bounds { deletes: Deletes::Any, drops: 1, ..none },
            Shortcut::ClientClock => Bounds { claims: 2, ..none },
            Shortcut::FollowUpRefused => Bounds { claims: 1, deletes: Deletes::Claimed, ..safe },
            Shortcut::HalfDoneTold | Shortcut::JoiningJudges => {
                Bounds { claims: 1, deletes: Deletes::Claimed, drops: 1, ..none }
            }
            _ => return None,
        };
        Some(Self { rules: Rules::but(shortcut), ..Self::within(bounds) })
    }
}

impl Model for Claims {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State::beginning(self.bounds)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        self.steps(state, actions);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        self.take(state, step).filter(|next| next != state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = property::invariants();
        properties.extend(self.transitions().into_iter().map(Transition::sometimes));
        properties
    }
}

impl Part for Claims {
    fn name(&self) -> &'static str {
        "claims"
    }

    fn bounds(&self) -> String {
        let Bounds { copies_min, claims, deletes, drops, forgets, beginning, caches } = self.bounds;
        let deletes = match deletes {
            Deletes::None => "no delete",
            Deletes::Any => "a delete",
            Deletes::Claimed => "a delete under the first claim",
        };
        let end = if beginning == Beginning::Untold { ", the end not told yet" } else { "" };
        let caches = if caches == Caches::Newest { ", newest manifests only" } else { "" };
        format!(
            "2 replicas and one to copy to, copies_min {copies_min}, {claims} claims, {deletes}, \
             {drops} drops, {forgets} nodes forget{end}{caches}"
        )
    }

    fn invariants(&self) -> &'static [&'static str] {
        property::INVARIANTS
    }

    fn transitions(&self) -> Vec<Transition> {
        use Transition::*;
        let Bounds { claims, deletes, drops, forgets, beginning, .. } = self.bounds;
        let mut wanted = vec![JoiningPromoted, JoiningGivenUp];
        if claims > 0 || deletes != Deletes::None {
            wanted.extend([TombstoneFirst, StaleRefused]);
        }
        if claims > 1 {
            wanted.extend([CopyMerged, Outranked, ClaimRepeated]);
        }
        if deletes == Deletes::Claimed {
            wanted.extend([OldDeleteRefused, HalfDoneFinished]);
        }
        if drops > 0 && forgets > 0 {
            wanted.extend([DroppedTakenBack]);
        }
        if beginning == Beginning::Untold {
            wanted.push(EndUnknownRefused);
        }
        wanted
    }

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn tell(&self, before: &State, step: &Step, after: &State) -> String {
        step.told(before, after)
    }
}
