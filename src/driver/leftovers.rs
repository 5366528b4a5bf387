//! What a claim that failed may have left on nodes, and taking it back.
//!
//! A pick or a hold that a node did not answer may have marked messages there. Nobody was granted
//! them, but they would be kept from others until the claim's time is over. They are given back before
//! the error is told, and the error says whether that is certain: a node does one thing after the
//! other, and what comes after a release is outranked by it (`specs/node.md`).

use std::time::Duration;

use futures_util::future::join_all;

use super::ask::ask_within;
use super::{Core, QueueState};
use crate::error::Error;
use crate::id::{ClaimKey, ReplicaAt};
use crate::node::Op;

/// Replicas that are remembered at most.
const MOST: usize = 512;
/// How long a release may take: nodes that are slow are why claims fail.
const WITHIN: Duration = Duration::from_secs(2);

/// Where marks may be of claims that nobody was granted.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    at: Vec<(ReplicaAt, ClaimKey)>,
    more: bool,
}

impl Leftovers {
    /// There may be marks of this claim.
    pub(super) fn add(&mut self, claim: ClaimKey, at: impl IntoIterator<Item = ReplicaAt>) {
        for at in at {
            if self.at.len() < MOST {
                self.at.push((at, claim));
            } else {
                self.more = true;
            }
        }
    }
}

impl Core {
    /// Gives back what a claim left that failed so; the error that then tells whether it has.
    pub(super) async fn give_up(&self, queue: &QueueState, left: Leftovers, error: Error) -> Error {
        let Leftovers { at, more } = left;
        let releases = at.into_iter().map(|(at, claim)| {
            let op = Op::Release { at, claim, refs: None };
            ask_within::<()>(&self.pool, at.cookie.node, op, WITHIN)
        });
        let mut unsure = more;
        for released in join_all(releases).await {
            if let Err(failure) = released
                && !failure.is_loss()
            {
                tracing::debug!(queue = queue.name, %failure, "a release was not heard");
                unsure = true;
            }
        }
        if unsure { error.unknown() } else { error.not_applied() }
    }
}
