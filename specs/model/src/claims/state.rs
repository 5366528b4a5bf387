//! What there is: replicas, the manifest's versions, claimers, a deleter, a repairer.

use super::{Beginning, Bounds, Deletes};

pub(crate) const REPLICAS: usize = 3;
/// Where the copy is made.
pub(crate) const TARGET: usize = 2;
pub(crate) const CLAIMS: usize = 2;
pub(crate) const VIEWS: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Life {
    Unused,
    Here,
    /// Its node forgot: it refuses as a stranger, and everybody can know.
    Forgotten,
    /// Wiped.
    Gone,
}

/// Who holds the message, by what rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Mark {
    pub(crate) claim: u8,
    pub(crate) rank: (u8, u8),
    pub(crate) live: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Replica {
    pub(crate) life: Life,
    /// Has the message itself; what it knows of it may come earlier.
    pub(crate) has: bool,
    pub(crate) ended: bool,
    pub(crate) mark: Option<Mark>,
    pub(crate) version: u8,
    pub(crate) picks: u8,
    pub(crate) told: bool,
}

impl Replica {
    pub(crate) const UNUSED: Self = Self {
        life: Life::Unused,
        has: false,
        ended: false,
        mark: None,
        version: 0,
        picks: 0,
        told: false,
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Standing {
    None,
    Full,
    Joining,
    Dropped,
}

/// A version of the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct View {
    pub(crate) version: u8,
    pub(crate) standing: [Standing; REPLICAS],
}

impl View {
    pub(crate) fn with(&self, standing: Standing) -> impl Iterator<Item = usize> + '_ {
        (0..REPLICAS).filter(move |at| self.standing[*at] == standing)
    }

    /// As bits.
    pub(crate) fn mask(&self, standing: Standing) -> u8 {
        self.with(standing).fold(0_u8, |mask, at| mask | 1 << at)
    }
}

/// One attempt to have an operation on all replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Attempt {
    /// By which view.
    pub(crate) view: u8,
    /// Who took it, as bits.
    pub(crate) took: u8,
    /// Who refused it for good, as bits.
    pub(crate) refused: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Claim {
    Idle,
    Holding { rank: (u8, u8), picker: u8, phantom: bool, attempt: Attempt },
    Granted { rank: (u8, u8), phantom: bool },
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Delete {
    Idle,
    Running {
        guard: Deletes,
        attempt: Attempt,
        /// Some replica ended the message in an earlier attempt.
        ended: bool,
    },
    /// Told to the caller.
    Acked,
    Refused,
}

/// The copy on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Copy {
    /// The view in which the joining replica was named.
    pub(crate) named: Option<u8>,
    /// Full replicas on which the version was raised, as bits.
    pub(crate) fenced: u8,
    /// What a full replica knew of the message: ended, and its mark.
    pub(crate) taken: Option<(bool, Option<Mark>)>,
    /// The joining replica was given up: its key is being wiped.
    pub(crate) wiping: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) replicas: [Replica; REPLICAS],
    /// All versions of the manifest, the newest last.
    pub(crate) views: [Option<View>; VIEWS],
    pub(crate) claims: [Claim; CLAIMS],
    /// Claims one of whose marks has expired, as bits.
    pub(crate) over: u8,
    pub(crate) delete: Delete,
    pub(crate) copy: Copy,
    pub(crate) drops: u8,
    pub(crate) forgets: u8,
    /// A full replica ended the message because it was entitled to.
    pub(crate) entitled: bool,
}

impl State {
    pub(crate) fn beginning(bounds: Bounds) -> Self {
        let told = bounds.beginning == Beginning::Told;
        let full = Replica { life: Life::Here, has: true, version: 1, told, ..Replica::UNUSED };
        let mut views = [None; VIEWS];
        let standing = [Standing::Full, Standing::Full, Standing::None];
        views[0] = Some(View { version: 1, standing });
        let mut claims = [Claim::Failed; CLAIMS];
        claims[..bounds.claims].fill(Claim::Idle);
        let delete = match bounds.deletes {
            Deletes::None => Delete::Refused,
            Deletes::Any | Deletes::Claimed => Delete::Idle,
        };
        Self {
            replicas: [full, full, Replica::UNUSED],
            views,
            claims,
            over: 0,
            delete,
            copy: Copy::default(),
            drops: 0,
            forgets: 0,
            entitled: false,
        }
    }

    pub(crate) fn view(&self, index: u8) -> View {
        self.views[usize::from(index)].unwrap_or(View { version: 0, standing: [Standing::None; 3] })
    }

    /// The newest view's index.
    pub(crate) fn newest(&self) -> u8 {
        self.views.iter().flatten().count() as u8 - 1
    }

    pub(crate) fn now(&self) -> View {
        self.view(self.newest())
    }

    /// The newest view by which the replica was dropped; none if it is not.
    pub(crate) fn dropped_by(&self, at: usize) -> Option<usize> {
        let is_dropped = |view: &&View| view.standing[at] == Standing::Dropped;
        let since = self.views.iter().flatten().rev().take_while(is_dropped).count();
        (since > 0).then(|| usize::from(self.newest()) + 1 - since)
    }

    /// Changes the manifest; `None` when the bound on its versions is reached.
    pub(crate) fn change(&mut self, view: View) -> Option<()> {
        let next = usize::from(self.newest()) + 1;
        *self.views.get_mut(next)? = Some(view);
        Some(())
    }

    pub(crate) fn is_here(&self, at: usize) -> bool {
        self.replicas[at].life == Life::Here
    }
}
