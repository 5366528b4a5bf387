//! The life of a client's process: it may die at its n-th request, with replicas written by half.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending};
use roundelay::id::ReplicaAt;
use roundelay::node::{Node, NodeError, Op, Reply, Watch};
use tokio::sync::Notify;

/// How a process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// Its last request is lost.
    Unheard,
    /// Its last request is applied; the answer reaches nobody.
    Heard,
    /// Its last request and what it sends from then on arrive late: when told to.
    Late,
}

/// Requests that may be late: what a process sends within a second of its death.
const LATE: usize = 200;

/// One process's life: shared by its wires to all nodes.
#[derive(Debug, Default)]
pub(crate) struct Life {
    state: Mutex<State>,
    over: Notify,
}

#[derive(Debug, Default)]
struct State {
    death: Option<(Death, u32)>,
    is_over: bool,
    late: Vec<(Arc<dyn Node>, Vec<Op>)>,
}

/// A process's wire to one node.
#[derive(Debug)]
pub(crate) struct Mortal {
    pub(crate) node: Arc<dyn Node>,
    pub(crate) life: Arc<Life>,
}

impl Life {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on `requests` more are sent. `false`: its death was decided before.
    pub(crate) fn die_after(&self, requests: u32, death: Death) -> bool {
        let mut state = self.state();
        let is_new = state.death.is_none();
        state.death.get_or_insert((death, requests));
        is_new
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state().is_over
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) {
        loop {
            let told = self.over.notified();
            if self.is_over() {
                return;
            }
            told.await;
        }
    }

    /// What was late arrives. Returns how many requests did.
    pub(crate) fn deliver(&self) -> usize {
        let late = std::mem::take(&mut self.state().late);
        let count = late.len();
        for (node, ops) in late {
            // Nobody waits for the answers, some of which may never come.
            drop(node.call(ops));
        }
        count
    }
}

/// Whether a request belongs to what somebody asked the process to do.
fn counts(op: &Op) -> bool {
    !matches!(op, Op::Identity | Op::Changes { .. } | Op::Due { .. })
}

impl Node for Mortal {
    fn name(&self) -> &str {
        self.node.name()
    }

    fn call(&self, ops: Vec<Op>) -> BoxFuture<'static, Result<Vec<Reply>, NodeError>> {
        let mut state = self.life.state();
        let Some((death, left)) = state.death else { return self.node.call(ops) };
        if !state.is_over && (left > 0 || !ops.iter().any(counts)) {
            if ops.iter().any(counts) {
                state.death = Some((death, left - 1));
            }
            return self.node.call(ops);
        }
        let is_last = !state.is_over;
        state.is_over = true;
        match death {
            Death::Heard if is_last => drop(self.node.call(ops)),
            Death::Unheard | Death::Heard => {}
            Death::Late if state.late.len() < LATE => {
                state.late.push((Arc::clone(&self.node), ops));
            }
            Death::Late => {}
        }
        drop(state);
        self.life.over.notify_waiters();
        pending().boxed()
    }

    fn watch(&self, at: ReplicaAt) -> BoxFuture<'static, Result<Watch, NodeError>> {
        match self.life.is_over() {
            true => pending().boxed(),
            false => self.node.watch(at),
        }
    }
}
