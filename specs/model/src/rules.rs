//! The rules of the protocol as data: [`Rules::default`] is what is built, and each [`Shortcut`] is
//! one rule left out, for which the checker must find what goes wrong.

use std::fmt;

macro_rules! shortcuts {
    ($($variant:ident, $name:literal, $says:literal;)*) => {
        /// One rule of the protocol left out or made simpler.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Shortcut {
            $(#[doc = $says] $variant,)*
        }

        impl Shortcut {
            /// All that the models can express.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The file in which its counterexample is kept, without ending.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// What it does.
            #[must_use]
            pub fn says(self) -> &'static str {
                match self { $(Self::$variant => $says),* }
            }
        }
    };
}

shortcuts! {
    AckByAny, "ack-by-any", "A block is acked when any replica has it.";
    AckWithoutTheSlow, "ack-without-the-slow", "A block is acked when all but one replica have it.";
    ReadUnconfirmed, "read-unconfirmed", "A reader takes from an open segment what one replica has.";
    ReadThinBeyondNotes, "read-thin-beyond-notes",
        "A reader takes all up to the end while too few replicas are full.";
    EndAsMaximum, "end-as-maximum", "The end is the most that a sealed replica has, not the least.";
    KeepUnsealed, "keep-unsealed", "A replica that did not answer the seal stays full.";
    ForgetFormer, "forget-former", "The manifest forgets replicas that did not answer the seal.";
    ForgetDropped, "forget-dropped", "The manifest forgets replicas that were dropped.";
    FormerAsFull, "former-as-full", "A former replica that answers again is made full as it is.";
    ReusePlacement, "reuse-placement",
        "A replica that was given up and is placed again gets its old key.";
    AppendCreates, "append-creates", "An append to a replica that is not there creates it.";
    ExpireOpen, "expire-open", "The keys of open segments expire.";
    EmptyKeeperVotes, "empty-keeper-votes", "A keeper that forgot goes on voting.";
    RestoreWithoutEpoch, "restore-without-epoch",
        "A keeper that forgot is filled and votes again without a new epoch.";
    LeaveByOneReplica, "leave-by-one-replica",
        "A reader leaves a segment when one sealed replica has no more.";
    TimeoutAsNotWritten, "timeout-as-not-written",
        "What was not answered in time is sent to the next segment, whatever the end.";
    CutAnew, "cut-anew", "A block that was not answered in time is sent again with more in it.";
    PickBeforeEnd, "pick-before-end",
        "A replica that was not told the end lets messages be picked.";
    CopyWithoutVersion, "copy-without-version",
        "A copy begins without raising the version on the full replicas.";
    CopyOverwrites, "copy-overwrites", "A copy overwrites what its target knows already.";
    SalvageOutOfOrder, "salvage-out-of-order",
        "A dropped replica is taken back though another one was dropped later.";
    CountDropped, "count-dropped",
        "Replicas that answered and were dropped since count among those that are enough.";
    PlainCount, "plain-count", "A claim's rank is its picker's count alone, without the version.";
    ClientClock, "client-clock",
        "A claim's deadline is read off the clock of whichever client asks.";
    CurrentIncarnation, "current-incarnation",
        "Requests carry the node's present incarnation instead of the replica's.";
    SalvageUnheard, "salvage-unheard",
        "A dropped replica is taken back while another one that may know more is silent.";
    FollowUpRefused, "follow-up-refused",
        "A delete that the full replicas refused is sent to joining ones all the same.";
    JoiningJudges, "joining-judges",
        "A joining replica that has the message already judges by itself what full ones agreed to.";
    JoiningUnheard, "joining-unheard",
        "After a drop, replicas that the newer manifest names as joining are not asked.";
    HalfDoneTold, "half-done-told",
        "A delete of which one replica took its part is told as done, though that one was dropped.";
    AdmitAgain, "admit-again", "A life that was decided is told to its node more than once.";
    RunIdIgnored, "run-id-ignored", "A server's run id is not compared with its cookie's.";
    NameAfterSending, "name-after-sending",
        "A keyed post's block is sent before its name is written under the key.";
    TakeOverByTime, "take-over-by-time",
        "A keyed post that takes too long is given up without closing its segment.";
    SearchTheLog, "search-the-log",
        "What became of a keyed post is looked up in the log, not read off the end.";
    LeaveUnsettled, "leave-unsettled",
        "A segment leaves though a key names a block of it of which nothing was noted.";
}

impl fmt::Display for Shortcut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The rules by which a model runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    taken: Option<Shortcut>,
}

impl Rules {
    /// The protocol but for one rule.
    #[must_use]
    pub fn but(shortcut: Shortcut) -> Self {
        Self { taken: Some(shortcut) }
    }

    pub(crate) fn take(self, shortcut: Shortcut) -> bool {
        self.taken == Some(shortcut)
    }
}
