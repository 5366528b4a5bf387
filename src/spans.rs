//! Calls to queues and to nodes as spans, for whoever follows what a request is about.
//!
//! Names of queues and what is in messages stay here: a trace goes to another service. A span that
//! nobody takes costs a look at a static; nothing is allocated for it.

use futures_util::TryFutureExt;
use tracing::field::{Empty, debug};
use tracing::level_filters::LevelFilter;
use tracing::{Instrument, Span, debug_span};

use crate::error::{Error, ErrorKind};
use crate::node::NodeError;

/// The target of spans of requests and of calls to queues (level `INFO`) and to nodes (`DEBUG`).
pub const TRACE_TARGET: &str = "roundelay::traces";

/// The span of one call to a queue.
macro_rules! call_span {
    ($name:literal $(, $($field:tt)*)?) => {
        tracing::info_span!(
            target: $crate::TRACE_TARGET,
            $name,
            otel.status_code = tracing::field::Empty,
            error.type = tracing::field::Empty,
            $($($field)*)?
        )
    };
}
pub(crate) use call_span;

/// A number as collectors take it: only signed ones arrive as numbers.
pub(crate) fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Does the work of a call within its span, and notes there how it failed if it did.
///
/// No `async fn`: that would hold the work twice, and there may be ten thousand that wait.
pub(crate) fn traced<T>(
    span: Span,
    work: impl Future<Output = Result<T, Error>>,
) -> impl Future<Output = Result<T, Error>> {
    work.instrument(span.clone()).inspect_err(move |error| {
        if span.is_disabled() {
            return;
        }
        span.record("error.type", debug(error.kind()));
        if is_failure(error.kind()) {
            span.record("otel.status_code", "ERROR");
        }
    })
}

/// Whether something is wrong with the store: that a claim is over is an answer like others.
fn is_failure(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Unavailable
        | ErrorKind::Overloaded
        | ErrorKind::Timeout
        | ErrorKind::Lost
        | ErrorKind::UnsafeNode
        | ErrorKind::Config
        | ErrorKind::Closed
        | ErrorKind::Internal => true,
        ErrorKind::Invalid
        | ErrorKind::QueueNotFound
        | ErrorKind::ClaimNotFound
        | ErrorKind::MessageClaimed
        | ErrorKind::MessageNotClaimed
        | ErrorKind::Conflict
        | ErrorKind::KeyReused => false,
    }
}

/// Whether anybody may take the spans of calls to nodes: a look at a static.
fn takes_nodes() -> bool {
    LevelFilter::current() >= LevelFilter::DEBUG
}

/// The span of what is done now, for calls to nodes that others make for it; none if nobody takes
/// those.
pub(crate) fn here() -> Span {
    if takes_nodes() { Span::current() } else { Span::none() }
}

/// The span of a call to a node, as part of what is done now. What is not part of a request, such as
/// a probe, has none.
pub(crate) fn of_node(node: &str, kind: &'static str, ops: usize) -> Span {
    if !takes_nodes() || Span::current().is_disabled() {
        return Span::none();
    }
    debug_span!(
        target: TRACE_TARGET,
        "node.call",
        otel.kind = "client",
        otel.status_code = Empty,
        error.type = Empty,
        roundelay.node = node,
        roundelay.call = kind,
        roundelay.ops = number(ops),
    )
}

/// Notes that a node gave no answer that could be used.
pub(crate) fn node_failed(span: &Span, error: &NodeError) {
    if !span.is_disabled() {
        span.record("otel.status_code", "ERROR");
        let kind = match error {
            NodeError::Unreached { .. } => "unreached",
            NodeError::Unknown { .. } => "unknown",
            NodeError::Broken { .. } => "broken",
        };
        span.record("error.type", kind);
    }
}
