//! A node on a Redis or Valkey server.
//!
//! Every operation is one script, or a transaction of native writes, with a script that comes last
//! if one is needed (bodies never enter scripts as arguments: it costs several times the write).
//! What scripts do is the law of `specs/node.md`; what they store is laid out in `specs/keys.md`.
//!
//! - `keys`: every key; `script`: the scripts' texts; `wire`: operations as commands, answers as
//!   replies; `inspect`: whether a server may be used; `address`: where it is; `lane`: a
//!   connection and the one task that writes to it; `live`: what is on its way there; `driver`: who
//!   moves its bytes; `journal`: blocks that need no script.
//! - A node has two lanes, so that a short operation does not wait behind a page or a batch of
//!   copies. Appends always take the first one: that keeps their order.
//! - What is watched is told on a third connection (`watch`), opened by the first watch.
//! - A lane reconnects by itself, and looks at the server anew each time before it is used (Q9).
//!
//! Lanes are started by the first call and end when the last handle of the node is dropped.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Node, NodeError, Op, Reply, Watch};
use crate::error::Error;
use crate::id::ReplicaAt;

mod address;
mod connection;
mod driver;
mod inspect;
mod journal;
mod keys;
mod lane;
mod live;
mod plan;
mod script;
mod watch;
mod wire;

use address::Address;
use lane::{LONG_UNDER_WAY, Lane, SHORT_UNDER_WAY, Shared};
use watch::Lookout;

/// A node on a Redis or Valkey server. Copies of a handle share its connections.
#[derive(Debug, Clone)]
pub struct RedisNode {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    short: Lane,
    long: Lane,
    lookout: Lookout,
}

impl RedisNode {
    /// A node at a URL: `redis://[user:password@]host[:port][/db]`, the same with `rediss` for
    /// TLS (`?ca=FILE`: trust these certificates instead of the system's), or `unix:///path`
    /// (`?db=N&user=NAME&pass=PASSWORD`).
    ///
    /// Nothing is sent yet: a server that is down, or must not be used, is told by the calls.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the URL cannot be used.
    pub fn connect(url: &str) -> Result<Self, Error> {
        let shared = Arc::new(Shared::new(Address::parse(url)?));
        let short = Lane::new(Arc::clone(&shared), SHORT_UNDER_WAY);
        let long = Lane::new(Arc::clone(&shared), LONG_UNDER_WAY);
        let lookout = Lookout::new(Arc::clone(&shared));
        Ok(Self { inner: Arc::new(Inner { shared, short, long, lookout }) })
    }

    fn lane(&self, ops: &[Op]) -> &Lane {
        let appends = ops.iter().any(|op| matches!(op, Op::Append(_)));
        if !appends && ops.iter().any(is_long) { &self.inner.long } else { &self.inner.short }
    }
}

/// Whether an operation moves or looks at much.
fn is_long(op: &Op) -> bool {
    matches!(
        op,
        Op::Read(_)
            | Op::Get { .. }
            | Op::Pick(_)
            | Op::ReadClaim { .. }
            | Op::Stats { .. }
            | Op::CopyOut { .. }
            | Op::CopyIn { .. }
            | Op::Wipe { .. }
            | Op::Dump { .. }
            | Op::Restore { .. }
    )
}

impl Node for RedisNode {
    fn name(&self) -> &str {
        &self.inner.shared.address.name
    }

    fn call(&self, ops: Vec<Op>) -> BoxFuture<'static, Result<Vec<Reply>, NodeError>> {
        self.lane(&ops).send(ops).boxed()
    }

    fn watch(&self, at: ReplicaAt) -> BoxFuture<'static, Result<Watch, NodeError>> {
        self.inner.lookout.watch(at).boxed()
    }
}
