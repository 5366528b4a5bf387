//! What a run came through: how often each transition of interest was taken, and which invariants
//! were found broken.

use std::sync::atomic::{AtomicU64, Ordering};

use stateright::Property;

use crate::check::Part;

macro_rules! transitions {
    ($($variant:ident, $name:literal;)*) => {
        /// A transition that must be reached, so that nothing passes for want of trying.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Transition {
            $(#[doc = $name] $variant,)*
        }

        impl Transition {
            pub(crate) const COUNT: usize = [$(Self::$variant),*].len();

            /// What happens in it.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The property that it is reached.
            pub(crate) fn sometimes<P: Part>(self) -> Property<P> {
                match self {
                    $(Self::$variant => Property::sometimes($name, |part: &P, _| {
                        part.ledger().times(Self::$variant) > 0
                    }),)*
                }
            }
        }
    };
}

transitions! {
    Gap, "a block beyond the next is refused";
    SealRace, "a second close with another end is refused";
    SealedRefuses, "a sealed replica refuses a block";
    VoidResent, "what a decided end left out is sent to the next segment";
    ThinAcked, "a block counts once a thin segment was repaired";
    ReaderChanged, "a reader goes on from another replica's start";
    BlockWaits, "a block that is not confirmed waits, and a later one is returned";
    TailClosed, "a reader at the tail meets a seal and waits for the end";
    FormerTaken, "a former replica is taken back and the end lowered";
    SegmentLost, "a segment is marked as lost";
    SegmentLeft, "a segment with nothing in it leaves and is wiped";
    GoneRefused, "a replica that was wiped refuses an append";
    JoiningPromoted, "a joining replica is filled and becomes full";
    JoiningGivenUp, "a joining replica is given up";
    TombstoneFirst, "a delete or hold reaches a replica before its message";
    CopyMerged, "a late copy reaches a replica that is full";
    StaleRefused, "an operation of an older version is refused";
    Outranked, "a hold is refused because of another claim's mark";
    ClaimRepeated, "a message is claimed again after its claim expired";
    OldDeleteRefused, "the delete of a claim that is over is refused";
    HalfDoneFinished, "a delete that only some replicas took is finished";
    EndUnknownRefused, "a replica that was not told the end refuses a pick";
    DroppedTakenBack, "a dropped replica is taken back";
    SalvageWaits, "a salvage waits for a replica that may know more";
    CasLost, "a compare-and-set is lost";
    BallotRefused, "a keeper refuses a ballot";
    LateAccept, "a keeper accepts after its proposer went on";
    EpochRefused, "a keeper of a newer epoch refuses an older one";
    KeeperRestored, "a keeper that forgot is filled and votes again";
    AdoptedUnchosen, "a proposer carries on a value that was not chosen";
    StrangerRefused, "a node that may have forgotten refuses a request";
    Readmitted, "a node that forgot is admitted under a new incarnation";
    RolledBack, "a node comes back with an old snapshot and its cookie";
    LateAdmit, "a node that forgot again gets the admission of its former life";
    AdmitRace, "two processes want to admit a node and one is first";
    NamedAnew, "a key whose block did not get into the log names another one";
    LateBlock, "a block is refused whose key names another one by now, or none";
    FoundPosted, "a name is settled: its block is in the log";
    FoundVoid, "a name is settled: its block is not in the log";
    NameOfNoSegment, "a name is settled whose segment has left";
    SettledToLeave, "a name is settled because its segment is about to leave";
    AnsweredAlike, "a process is answered with what another one has posted";
}

/// Counters shared by all copies of a model.
#[derive(Debug)]
pub(crate) struct Ledger {
    reached: [AtomicU64; Transition::COUNT],
    broken: AtomicU64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            reached: [const { AtomicU64::new(0) }; Transition::COUNT],
            broken: AtomicU64::new(0),
        }
    }
}

impl Ledger {
    pub(crate) fn note(&self, transition: Transition) {
        self.reached[transition as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often a transition was taken.
    pub(crate) fn times(&self, transition: Transition) -> u64 {
        self.reached[transition as usize].load(Ordering::Relaxed)
    }

    /// Lets only the first failure of an invariant through: the checker would replace it by each
    /// later one, and the first one found by a breadth-first search is the shortest.
    pub(crate) fn first(&self, invariant: u32, holds: bool) -> bool {
        holds || self.broken.fetch_or(1 << invariant, Ordering::Relaxed) & (1 << invariant) != 0
    }
}
