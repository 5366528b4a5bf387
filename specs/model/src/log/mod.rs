//! Posting, sealing, closing, reading by markers, thin segments, salvage of a former replica
//! (Q1 to Q5).
//!
//! One segment is followed from its opening to its repair. Producer A posts m1 and m2, each in a
//! block of its own and both in flight at once; producer B posts m3. One reader walks by markers.
//!
//! What is abstracted, and why that is sound:
//! - **The network.** A request, once sent, may arrive at any later time, any number of times, or
//!   never; so lost, late and doubled requests and clients that die between two replicas are the
//!   same thing: an arrival that does not happen (yet). What a replica answered may be heard at any
//!   time, too; a lost answer is a step that is not taken.
//! - **The manifest** is one value that changes in one step: the part *keepers* is what entitles
//!   to that. Processes that move on have no state: what a sealed replica answers does not change
//!   any more, so whoever closes may have heard any sealed ones, at any time before.
//! - **The next segment** is one that never fails: whatever reaches it is in the log at once, and
//!   acked. It is there for what passes from one segment to the next; what can happen within it
//!   happens in the first one. A cached manifest of an open segment needs no state: reading it as
//!   open stays possible after it was closed.
//! - **A copy** is one step: it copies what cannot change any more. What can, claims and deletes,
//!   is the part *claims*.
//! - **A page** takes in all up to its replica's tail, or ends at the first message returned. Its
//!   answer and that of the other replica come at different times, in either order.
//! - **Time.** Suspicion, patience and note delays are choices that can fall at any time.

mod reader;
mod state;
mod steps;
mod told;

use std::sync::Arc;

use stateright::{Model, Property};

pub(crate) use self::state::{Entry, Life, Post, Replica, Segment, Standing, State};
pub(crate) use self::steps::Step;
use crate::check::Part;
use crate::ledger::{Ledger, Transition};
use crate::rules::{Rules, Shortcut};

/// Full replicas without which a closed segment is thin.
pub(crate) const COPIES_MIN: usize = 2;

/// How much of everything there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Replicas of the segment.
    pub(crate) copies: usize,
    /// Messages of producer A.
    pub(crate) first: u8,
    /// Messages of producer B.
    pub(crate) second: u8,
    /// Nodes that forget.
    pub(crate) forgets: u8,
    /// What the reader asks for.
    pub(crate) pages: Pages,
}

/// What the reader asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pages {
    /// There is no reader.
    None,
    /// Whole pages.
    Whole,
    /// Whole pages and single messages.
    Any,
}

/// The model.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) rules: Rules,
    pub(crate) bounds: Bounds,
    pub(crate) ledger: Arc<Ledger>,
}

impl Log {
    /// The protocol within `bounds`.
    pub(crate) fn within(bounds: Bounds) -> Self {
        Self { rules: Rules::default(), bounds, ledger: Arc::default() }
    }

    /// The model that refutes a shortcut, if this part can.
    pub(crate) fn refuting(shortcut: Shortcut) -> Option<Self> {
        let small = Bounds { copies: 2, first: 1, second: 0, forgets: 0, pages: Pages::None };
        let bounds = match shortcut {
            Shortcut::AckByAny | Shortcut::AppendCreates | Shortcut::ExpireOpen => small,
            Shortcut::AckWithoutTheSlow => Bounds { copies: 3, ..small },
            Shortcut::ReadUnconfirmed => Bounds { pages: Pages::Whole, ..small },
            Shortcut::EndAsMaximum
            | Shortcut::KeepUnsealed
            | Shortcut::ForgetFormer
            | Shortcut::FormerAsFull => Bounds { forgets: 1, ..small },
            Shortcut::ReadThinBeyondNotes => Bounds { forgets: 1, pages: Pages::Whole, ..small },
            Shortcut::LeaveByOneReplica | Shortcut::TimeoutAsNotWritten => {
                Bounds { pages: Pages::Whole, ..small }
            }
            Shortcut::CutAnew => Bounds { first: 2, pages: Pages::Whole, ..small },
            _ => return None,
        };
        Some(Self { rules: Rules::but(shortcut), ..Self::within(bounds) })
    }
}

macro_rules! invariants {
    ($($bit:literal $name:literal $holds:ident),* $(,)?) => {
        const INVARIANTS: &[&str] = &[$($name),*];

        fn invariants() -> Vec<Property<Log>> {
            vec![$(Property::always($name, |part: &Log, state: &State| {
                part.ledger.first($bit, state.$holds(part))
            })),*]
        }
    };
}

invariants! {
    1 "Q1 durable" is_durable,
    2 "Q2 no skip" skips_nothing,
    3 "Q3 no repeat" repeats_nothing,
    4 "Q4 order" keeps_order,
    5 "Q5 no phantom" reads_no_phantom,
}

impl Model for Log {
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
        let mut properties = invariants();
        properties.extend(self.transitions().into_iter().map(Transition::sometimes));
        properties
    }
}

impl Part for Log {
    fn name(&self) -> &'static str {
        "log"
    }

    fn bounds(&self) -> String {
        let Bounds { copies, first, second, forgets, pages } = self.bounds;
        let pages = match pages {
            Pages::None => "no reader",
            Pages::Whole => "a reader of whole pages",
            Pages::Any => "a reader of pages of any size",
        };
        let messages = first + second;
        let producers = if second > 0 { 2 } else { 1 };
        format!(
            "{copies} replicas and one to repair with, {messages} messages of {producers} \
             producers, {forgets} nodes forget, {pages}"
        )
    }

    fn invariants(&self) -> &'static [&'static str] {
        INVARIANTS
    }

    fn transitions(&self) -> Vec<Transition> {
        use Transition::*;
        let mut wanted = vec![SealRace, SealedRefuses, VoidResent, ThinAcked];
        wanted.extend([SegmentLeft, GoneRefused, JoiningPromoted]);
        if self.bounds.first > 1 {
            wanted.push(Gap);
        }
        if self.bounds.forgets > 0 {
            wanted.push(FormerTaken);
        }
        if self.bounds.forgets > 1 {
            wanted.push(SegmentLost);
        }
        if self.bounds.pages != Pages::None {
            wanted.extend([ReaderChanged, TailClosed]);
            if self.bounds.second > 0 {
                wanted.push(BlockWaits);
            }
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
