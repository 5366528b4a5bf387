//! Asking one node one thing, with the answer taken apart.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::id::NodeId;
use crate::node::{NodeError, Op, Refusal, Reply};
use crate::pool::Pool;

/// Why a node did not do what it was asked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Failure {
    /// It refused.
    Refused(Refusal),
    /// It gave no answer.
    Silent(NodeError),
}

impl Failure {
    /// Whether what the node held is not there any more: its replica is gone, or the node is not
    /// the one it was.
    pub(crate) fn is_loss(&self) -> bool {
        matches!(self, Self::Refused(Refusal::Gone | Refusal::Stranger { .. }))
    }

    /// Whether the node may have applied what it was asked, or may still: unless it refused or was
    /// not reached.
    pub(crate) fn may_be_applied(&self) -> bool {
        !matches!(self, Self::Refused(_) | Self::Silent(NodeError::Unreached { .. }))
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(refusal) => write!(f, "refused: {refusal:?}"),
            Self::Silent(error) => error.fmt(f),
        }
    }
}

/// Takes the one shape of answer that an op can have.
pub(crate) trait Shape: Sized {
    fn of(reply: Reply) -> Option<Self>;
}

macro_rules! shapes {
    ($($variant:ident($name:ty)),* $(,)?) => {$(
        impl Shape for $name {
            fn of(reply: Reply) -> Option<Self> {
                match reply {
                    Reply::$variant(answer) => Some(answer),
                    _ => None,
                }
            }
        }
    )*};
}

shapes! {
    Appended(crate::node::Appended),
    Page(crate::node::Page),
    Coverage(crate::node::Coverage),
    Got(crate::node::Got),
    Picked(crate::node::Picked),
    Held(crate::node::Held),
    Renewed(crate::node::Renewed),
    Claim(crate::node::ClaimView),
    Deleted(crate::node::Deleted),
    Stats(crate::node::Stats),
    CopyBatch(crate::node::CopyBatch),
    Wiped(crate::node::Wiped),
    Due(crate::node::DueReplicas),
    Dump(crate::node::Dump),
    Registers(crate::node::Registers),
}

impl Shape for () {
    fn of(reply: Reply) -> Option<Self> {
        matches!(reply, Reply::Done).then_some(())
    }
}

/// Takes apart one reply of a node.
pub(crate) fn shape<T: Shape>(pool: &Pool, node: NodeId, reply: Reply) -> Result<T, Failure> {
    match reply {
        Reply::Refused(refusal) => Err(Failure::Refused(refusal)),
        other => T::of(other).ok_or_else(|| {
            Failure::Silent(NodeError::Broken {
                node: pool.name(node),
                reason: "the answer is of another shape than the question".into(),
            })
        }),
    }
}

/// Asks a node one thing, waiting as long as the node is worth it.
pub(crate) async fn ask<T: Shape>(pool: &Pool, node: NodeId, op: Op) -> Result<T, Failure> {
    only(pool, node, pool.ask(node, vec![op]).await)
}

/// The same, waiting for up to `limit`.
pub(crate) async fn ask_within<T: Shape>(
    pool: &Pool,
    node: NodeId,
    op: Op,
    limit: Duration,
) -> Result<T, Failure> {
    only(pool, node, pool.ask_within(node, vec![op], limit).await)
}

/// The one reply to one question.
fn only<T: Shape>(
    pool: &Pool,
    node: NodeId,
    replies: Result<Vec<Reply>, NodeError>,
) -> Result<T, Failure> {
    let replies = replies.map_err(Failure::Silent)?;
    let Some(reply) = replies.into_iter().next() else {
        return Err(Failure::Silent(NodeError::Broken {
            node: pool.name(node),
            reason: "no reply in the answer".into(),
        }));
    };
    shape(pool, node, reply)
}

/// Asks several nodes one thing each, in parallel; the answers are in the order of the questions.
pub(crate) async fn ask_all<T: Shape>(
    pool: &Arc<Pool>,
    questions: Vec<(NodeId, Op)>,
) -> Vec<Result<T, Failure>> {
    let asked = questions.into_iter().map(|(node, op)| ask(pool, node, op));
    futures_util::future::join_all(asked).await
}

/// The error of an operation that too few nodes answered.
pub(crate) fn unavailable(queue: &str, what: &str, failures: &[Failure]) -> Error {
    let mut message = format!("queue {queue}: {what}");
    if let Some(failure) = failures.first() {
        message.push_str(&format!(" ({failure})"));
    }
    Error::unavailable(message)
}

/// A defect, not an outage.
pub(crate) fn internal(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Internal, message)
}
