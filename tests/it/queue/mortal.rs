//! A process that dies at its n-th request: what it sent may have been heard, or comes late.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, pending};
use roundelay::id::ReplicaAt;
use roundelay::node::{Node, NodeError, Op, Reply, Watch};

/// Requests that may be late: what a process sends within a second of its death.
const LATE: usize = 200;

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

/// One process's life: shared by the wires to all nodes.
#[derive(Debug, Default)]
pub(crate) struct Life {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    death: Option<(Death, u32)>,
    is_over: bool,
    late: Vec<(Arc<dyn Node>, Vec<Op>)>,
    /// Requests that touched registers of keys.
    keys: u32,
}

/// A process's wire to one node.
#[derive(Debug)]
pub(crate) struct Mortal {
    pub(crate) node: Arc<dyn Node>,
    pub(crate) life: Arc<Life>,
}

impl Life {
    /// From now on the request number `at`, counted from 0, is the last one.
    pub(crate) fn end_at(&self, death: Death, at: u32) {
        self.state.lock().unwrap().death = Some((death, at));
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state.lock().unwrap().is_over
    }

    /// Requests so far that touched registers of keys.
    pub(crate) fn key_requests(&self) -> u32 {
        self.state.lock().unwrap().keys
    }

    /// What was late arrives.
    pub(crate) async fn deliver(&self) -> usize {
        let late = std::mem::take(&mut self.state.lock().unwrap().late);
        let count = late.len();
        for (node, ops) in late {
            node.call(ops).await.ok();
        }
        count
    }
}

/// Whether a request belongs to what somebody asked the process to do.
fn counts(op: &Op) -> bool {
    !matches!(op, Op::Identity | Op::Changes { .. } | Op::Due { .. } | Op::Stats { .. })
}

fn is_of_keys(op: &Op) -> bool {
    match op {
        Op::Prepare { name, .. } => name.starts_with("k:"),
        Op::Accept(accept) => accept.name.starts_with("k:"),
        Op::ReadRegisters { names, .. } => names.iter().any(|name| name.starts_with("k:")),
        _ => false,
    }
}

impl Node for Mortal {
    fn name(&self) -> &str {
        self.node.name()
    }

    fn call(&self, ops: Vec<Op>) -> BoxFuture<'static, Result<Vec<Reply>, NodeError>> {
        let mut state = self.life.state.lock().unwrap();
        if ops.iter().any(is_of_keys) {
            state.keys += 1;
        }
        let Some((death, left)) = state.death else { return self.node.call(ops) };
        if !state.is_over && !ops.iter().any(counts) {
            return self.node.call(ops);
        }
        if !state.is_over && left > 0 {
            state.death = Some((death, left - 1));
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
        pending().boxed()
    }
    fn watch(&self, at: ReplicaAt) -> BoxFuture<'static, Result<Watch, NodeError>> {
        match self.life.state.lock().unwrap().is_over {
            true => pending().boxed(),
            false => self.node.watch(at),
        }
    }
}
