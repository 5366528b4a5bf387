//! The pool and its registers on memory nodes, with faults, on paused time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use crate::config::Config;
use crate::driver::{Core, QueueState};
use crate::env::Env;
use crate::error::Error;
use crate::message::{ContentType, NewMessage};
use crate::name::{Project, QueueName};
use crate::node::Node;
use crate::node::faulty::{Faults, FaultyNode};
use crate::node::memory::MemoryNode;
use crate::pool::{Change, Dial, Pool};
use crate::time::Clock;
use crate::token::MessageId;

mod bootstrap;
mod closing;
mod counting;
mod emptying;
mod health;
mod holders;
mod keepers;
mod lives;
mod membership;
mod names;
mod registers;
mod salvage;
mod stage;

/// Nodes that several processes may use, each through wires of its own.
struct World {
    clock: Clock,
    nodes: Vec<MemoryNode>,
}

/// A process: its pool and the faults of its wires, by node.
struct Process {
    pool: Arc<Pool>,
    faults: Vec<Faults>,
}

impl World {
    fn new(nodes: u64) -> Self {
        let clock = Clock::starting_at(1_700_000_000_000);
        let node = |at| MemoryNode::seeded(format!("node{at}"), clock.clone(), 100 + at);
        let nodes = (1..=nodes).map(node).collect();
        Self { clock, nodes }
    }

    fn wires(&self) -> (Vec<Arc<dyn Node>>, Vec<Faults>) {
        let wire = |node: &MemoryNode| {
            let (node, faults) = FaultyNode::new(Arc::new(node.clone()));
            (Arc::new(node) as Arc<dyn Node>, faults)
        };
        self.nodes.iter().map(wire).unzip()
    }

    async fn try_open(&self, seed: u64, set: impl FnOnce(&[Faults])) -> Result<Process, Error> {
        self.open_with(seed, Config::default(), set).await
    }

    async fn open_with(
        &self,
        seed: u64,
        config: Config,
        set: impl FnOnce(&[Faults]),
    ) -> Result<Process, Error> {
        let (nodes, faults) = self.wires();
        set(&faults);
        let env = Env::seeded(self.clock.clone(), seed);
        let pool = Pool::open(config, nodes, env, nobody()).await?;
        Ok(Process { pool, faults })
    }

    async fn open(&self, seed: u64) -> Process {
        self.try_open(seed, |_| ()).await.unwrap()
    }
}

impl Process {
    /// Adds one to the number in a register, and returns the sum.
    async fn count(&self, register: &str) -> Result<u64, Error> {
        count(&self.pool, register).await
    }

    async fn sum(&self, register: &str) -> u64 {
        number(self.pool.registers().read(register).await.unwrap().as_ref())
    }

    /// Waits until `holds` does, for some seconds.
    async fn until(&self, what: &str, holds: impl Fn(&Pool) -> bool) -> Duration {
        let start = Instant::now();
        while !holds(&self.pool) {
            assert!(start.elapsed() < Duration::from_secs(20), "not in time: {what}");
            sleep(Duration::from_millis(1)).await;
        }
        start.elapsed()
    }

    /// Waits until all keepers of the present set vote in an epoch of at least `epoch`.
    async fn until_all_vote(&self, epoch: u32) -> Duration {
        let start = Instant::now();
        loop {
            let set = self.pool.registers().keepers();
            let votes = crate::node::Op::ReadRegisters {
                cookie: set.members[0].cookie(self.pool.id()),
                epoch: set.epoch,
                names: vec![],
            };
            let mut all = set.epoch.0 >= epoch;
            for member in &set.members {
                let mut op = votes.clone();
                if let crate::node::Op::ReadRegisters { cookie, .. } = &mut op {
                    *cookie = member.cookie(self.pool.id());
                }
                let answer = self.pool.ask(member.node, vec![op]).await;
                all &= matches!(answer.as_deref(), Ok([crate::node::Reply::Registers(_)]));
            }
            if all {
                return start.elapsed();
            }
            assert!(start.elapsed() < Duration::from_secs(20), "keepers stay incomplete: {set:?}");
            sleep(Duration::from_millis(1)).await;
        }
    }
}

fn number(value: Option<&Bytes>) -> u64 {
    value.map_or(0, |value| u64::from_le_bytes(value[..].try_into().unwrap()))
}

async fn count(pool: &Pool, register: &str) -> Result<u64, Error> {
    pool.registers()
        .update(register, None, |value| {
            let sum = number(value) + 1;
            let value = Bytes::copy_from_slice(&sum.to_le_bytes());
            Ok(Change::Write { value, listed: true, out: sum })
        })
        .await
}

/// A process on this pool, and the one queue that most tests need as that process knows it.
fn started(pool: Arc<Pool>) -> (Arc<Core>, Arc<QueueState>) {
    let core = Core::start(pool);
    let queue = core.queue(&Project::new("p").unwrap(), &QueueName::new("q").unwrap());
    (core, queue)
}

async fn post(core: &Arc<Core>, queue: &Arc<QueueState>) -> Result<Vec<MessageId>, Error> {
    let message = NewMessage::new(ContentType::Text, "body").unwrap();
    core.post(queue, vec![message], None).await
}

/// Nodes that were not given are not reached.
fn nobody() -> Dial {
    Dial::new(|_| None)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
