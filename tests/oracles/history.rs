//! What clients asked and were told: the only thing that oracles look at.

use serde::{Deserialize, Serialize};

/// Everything that was asked and done, and how exact it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub(crate) struct History {
    /// By how much lives, delays and claims may end too early, in milliseconds: clocks of nodes that
    /// jump forward.
    pub(crate) early: u64,
    /// By how much they may end too late, in milliseconds: requests and copies that were under way for
    /// long.
    pub(crate) late: u64,
    /// How long another process may still show what was deleted, in milliseconds: what a process knows
    /// of a queue may be so old.
    pub(crate) stale: u64,
    /// What a call may take while at most one node is faulty, in milliseconds.
    pub(crate) patience: u64,
    /// How long after a fault nothing is expected yet, in milliseconds.
    pub(crate) settle: u64,
    /// In the order in which they ended.
    pub(crate) entries: Vec<Entry>,
}

/// One call of one client, or one thing that was done to the pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Who.
    pub(crate) by: String,
    /// When it was asked.
    pub(crate) began: u64,
    /// When it was answered, or nobody waited any more.
    pub(crate) ended: u64,
    /// Of which queue, if of one.
    pub(crate) queue: String,
    /// What.
    pub(crate) what: What,
}

/// What was asked, with its answer; or what was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// Messages were posted. Their bodies are names: no two messages have the same one, except that
    /// a post is repeated with its key.
    Post {
        messages: Vec<String>,
        ttl: u64,
        delay: u64,
        key: Option<String>,
        /// Ids, one a message.
        answer: Answer<Vec<String>>,
    },
    /// A page. Pages of one walk follow each other's markers.
    List {
        walk: u64,
        marker: Option<String>,
        next: Option<String>,
        /// Whether claimed and delayed messages were asked for too.
        everything: bool,
        answer: Answer<Vec<Seen>>,
    },
    /// Messages were asked for by their ids.
    Get { ids: Vec<String>, answer: Answer<Vec<Seen>> },
    /// Messages were claimed; none if there was nothing to claim.
    Claim { ttl: u64, grace: u64, answer: Answer<Option<Granted>> },
    /// A claim's time was begun anew.
    Renew { claim: String, ttl: u64, grace: u64, answer: Answer<Effect> },
    /// A claim was given back.
    Release { claim: String, answer: Answer<()> },
    /// A message was deleted, under a claim if one is named.
    Delete { id: String, claim: Option<String>, answer: Answer<Effect> },
    /// Messages were taken out: claimed for half a minute and deleted.
    Pop { answer: Answer<Vec<Seen>> },
    /// The queue was made; `false`: it was there.
    Create { answer: Answer<bool> },
    /// The queue was deleted with all that was in it; `false`: it was not there.
    Remove { answer: Answer<bool> },
    /// Messages were counted.
    Stats { answer: Answer<Counts> },
    /// What the store says of its segments.
    Census { under_replicated: u64, uncounted: u64, lost: u64 },
    /// Something was done to a node; it was made whole again when the entry ended.
    Fault { node: usize, kind: String },
    /// Something was done to a process of clients.
    Disturbed { kind: String },
    /// A majority of keepers has this value in a register.
    Chosen { register: String, version: String, digest: u64 },
    /// So many nodes forgot so much at once that what was posted before may be gone.
    Excuse,
    /// From here on nothing fails, nobody posts, claims or deletes, and all that was short-lived is
    /// over.
    Quiet,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer<T> {
    /// It was answered.
    Done(T),
    /// It was refused for what it is: there is no such queue, claim or marker.
    Refused(String),
    /// It failed, and has not happened.
    NotApplied(String),
    /// It failed or was never answered: it may have happened, or may still.
    Unknown(String),
}

/// Why a call has no outcome whose client died.
pub(crate) const UNHEARD: &str = "nobody waited any more";

impl<T> Answer<T> {
    /// Whether it may have happened.
    pub(crate) fn is_possible(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Unknown(_))
    }
}

/// A message that somebody got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Its body.
    pub(crate) name: String,
    pub(crate) id: String,
    /// Whether a live claim holds it.
    pub(crate) claimed: bool,
}

/// A claim and its messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Granted {
    pub(crate) claim: String,
    pub(crate) messages: Vec<Seen>,
}

/// What a call under a claim, or a delete, did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Effect {
    /// It took effect.
    Done,
    /// The message was not there.
    Absent,
    /// A live claim holds it, and none or another one was named.
    Claimed,
    /// The claim that was named is over, or does not hold it.
    NotHeld,
}

/// How many messages there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub(crate) struct Counts {
    pub(crate) active: u64,
    pub(crate) claimed: u64,
    pub(crate) delayed: u64,
}

impl History {
    /// When all became quiet.
    pub(crate) fn quiet(&self) -> Option<u64> {
        let is_quiet = |entry: &&Entry| entry.what == What::Quiet;
        self.entries.iter().find(is_quiet).map(|entry| entry.ended)
    }
}
