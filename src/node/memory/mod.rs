//! A node in memory: the embedded equal of a server, for tests, the simulator and trying out.
//!
//! `MemoryNode` is a handle; all copies of it are one node. What an operation does is decided by
//! `machine::Machine`, which is synchronous and knows neither clock nor lock: this module gives
//! it both. A call is applied in full before `Node::call` returns, so that dropping the future
//! loses nothing but the answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use super::watch::Watchers;
use super::{Node, NodeError, Op, Reply, Watch};
use crate::id::{Placement, ReplicaAt};
use crate::time::Clock;

mod claims;
mod copies;
mod delete;
mod hold;
mod keeper;
mod log;
mod machine;
mod message;
mod pick;
mod read;
mod replica;
mod watch;

use machine::Machine;

/// A node of the pool that lives in this process. See the module's documentation.
#[derive(Debug, Clone)]
pub struct MemoryNode {
    inner: Arc<Inner>,
}

/// What a node held at some time, see [`MemoryNode::snapshot`].
#[derive(Debug, Clone)]
pub struct Snapshot(Machine);

#[derive(Debug)]
struct Inner {
    name: String,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    machine: Machine,
    run_ids: fastrand::Rng,
    watchers: Watchers<Placement>,
}

impl MemoryNode {
    /// An empty node with run ids drawn at random.
    #[must_use]
    pub fn new(name: impl Into<String>, clock: Clock) -> Self {
        Self::seeded(name, clock, fastrand::u64(..))
    }

    /// An empty node whose run ids follow from `seed`: for tests that must repeat.
    #[must_use]
    pub fn seeded(name: impl Into<String>, clock: Clock, seed: u64) -> Self {
        let mut run_ids = fastrand::Rng::with_seed(seed);
        let machine = Machine::new(draw(&mut run_ids));
        let state = Mutex::new(State { machine, run_ids, watchers: Watchers::default() });
        Self { inner: Arc::new(Inner { name: name.into(), clock, state }) }
    }

    /// The server starts anew and has forgotten everything.
    pub fn restart_empty(&self) {
        let mut state = self.state();
        let limit = state.machine.memory_limit();
        state.machine = Machine::new(draw(&mut state.run_ids));
        state.machine.set_memory_limit(limit);
        state.watchers.wake_all();
    }

    /// The server starts anew and has found all its data again.
    pub fn restart_with_data(&self) {
        let mut state = self.state();
        let run_id = draw(&mut state.run_ids);
        state.machine.set_run_id(run_id);
        state.watchers.wake_all();
    }

    /// What the server holds now, as a snapshot on its disk would.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.state().machine.clone())
    }

    /// The server starts anew and has found what it held when the snapshot was taken.
    pub fn restart_from(&self, snapshot: &Snapshot) {
        let mut state = self.state();
        let limit = state.machine.memory_limit();
        state.machine = snapshot.0.clone();
        let run_id = draw(&mut state.run_ids);
        state.machine.set_run_id(run_id);
        state.machine.set_memory_limit(limit);
        state.watchers.wake_all();
    }

    /// Everything is deleted, the cookie too, while the server runs on: `FLUSHALL`.
    pub fn flush(&self) {
        let mut state = self.state();
        state.machine.flush();
        state.watchers.wake_all();
    }

    /// From now on blocks that would bring the bytes held above `bytes` are refused as
    /// [`Full`](super::Refusal::Full); `None`: no limit.
    pub fn set_memory_limit(&self, bytes: Option<u64>) {
        self.state().machine.set_memory_limit(bytes);
    }

    /// How many replicas the node holds.
    pub fn replicas(&self) -> usize {
        self.state().machine.replicas()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is a bug that its own test reports; the others go on.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forty hexadecimal digits, as a server's.
fn draw(rng: &mut fastrand::Rng) -> String {
    format!("{:016x}{:016x}{:08x}", rng.u64(..), rng.u64(..), rng.u32(..))
}

impl Node for MemoryNode {
    fn name(&self) -> &str {
        &self.inner.name
    }

    fn call(&self, ops: Vec<Op>) -> BoxFuture<'static, Result<Vec<Reply>, NodeError>> {
        let now_ms = self.inner.clock.now_ms();
        let mut state = self.state();
        let State { machine, watchers, .. } = &mut *state;
        let apply = |op| {
            watch::tell(watchers, &op);
            machine.apply(op, now_ms)
        };
        let replies = ops.into_iter().map(apply).collect();
        drop(state);
        ready(Ok(replies)).boxed()
    }

    fn watch(&self, at: ReplicaAt) -> BoxFuture<'static, Result<Watch, NodeError>> {
        let watch = self.state().watchers.add(at.placement);
        ready(Ok(watch)).boxed()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::block::{Block, Record, State as MessageState};
    use crate::id::{
        ClaimKey, Cookie, Incarnation, NodeId, Placement, PoolId, ProducerId, ReplicaAt, SegmentNo,
        Version,
    };
    use crate::node::{Append, Frontier, Open, Pick, Refusal, Role, SegmentOf};

    const COOKIE: Cookie = Cookie { pool: PoolId(1), node: NodeId(1), incarnation: Incarnation(1) };
    const AT: ReplicaAt = ReplicaAt { cookie: COOKIE, placement: Placement(7) };
    const POSTER: ProducerId = ProducerId(5);

    fn machine() -> Machine {
        let mut machine = Machine::new("run".into());
        let admit = Op::Admit { cookie: COOKIE, run_id: "run".into() };
        assert_eq!(machine.apply(admit, 0), Reply::Done);
        let of = SegmentOf {
            register: "q".into(),
            generation: crate::id::Generation(1),
            segment: SegmentNo(1),
        };
        let open = Op::Open(Open { at: AT, role: Role::Appending, of });
        assert_eq!(machine.apply(open, 0), Reply::Done);
        machine
    }

    fn append(machine: &mut Machine, block: u32, messages: usize) -> Reply {
        let record = Record {
            index: 0,
            state: MessageState::Ready,
            client: None,
            ttl_ms: 1_000_000,
            delay_ms: 0,
            envelope: Bytes::from_static(b"body"),
        };
        let bytes = Block::of(vec![record; messages]).encode();
        let op = Append { at: AT, producer: POSTER, block, noted: 0, bytes: bytes.into() };
        machine.apply(Op::Append(op), 0)
    }

    fn pick(machine: &mut Machine, claim: u64, limit: u32, now: u64) -> usize {
        let pick = Pick {
            cookie: COOKIE,
            placements: vec![AT.placement],
            version: Version(1),
            claim: ClaimKey(claim),
            ttl_ms: 1_000,
            grace_ms: 0,
            limit,
            max_bytes: u32::MAX,
        };
        match machine.apply(Op::Pick(pick), now) {
            Reply::Picked(picked) => picked.entries.len(),
            other => panic!("not picked: {other:?}"),
        }
    }

    #[test]
    fn a_node_with_another_run_id_is_a_stranger() {
        let mut machine = machine();
        machine.set_run_id("next".into());
        let found = Some(COOKIE);
        let refused = Reply::Refused(Refusal::Stranger { found });
        assert_eq!(machine.apply(Op::Probe { at: AT }, 0), refused);
    }

    #[test]
    fn a_large_backlog_is_picked_once_and_again_after_it_expired() {
        let mut machine = machine();
        for block in 1..=400 {
            let taken = append(&mut machine, block, 250);
            assert!(matches!(taken, Reply::Appended(appended) if !appended.again));
        }
        let end = Frontier::from([(POSTER, 400)]);
        let told = Op::TellEnd { at: AT, version: Version(1), end };
        assert_eq!(machine.apply(told, 0), Reply::Done);
        let picked: usize = (0..10_000).map(|claim| pick(&mut machine, claim, 10, 1)).sum();
        assert_eq!(picked, 100_000);
        assert_eq!(pick(&mut machine, 10_000, 10, 1_000), 0);
        let again: usize = (0..10_000).map(|claim| pick(&mut machine, claim, 10, 1_001)).sum();
        assert_eq!(again, 100_000);
    }
}
