//! What is asked of a segment that is being closed: it is answered once the end was decided.

use super::{World, millis, nobody, post, started};
use crate::config::Config;
use crate::driver::{Core, QueueState};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Outcome};
use crate::id::{ProducerId, ReplicaAt};
use crate::node::faulty::Faults;
use crate::node::memory::MemoryNode;
use crate::node::{Node, NodeError, Op, Reply, Watch};
use crate::pool::Pool;
use crate::queue::{ListOptions, Metadata};
use crate::token::MessageId;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::sleep;

/// Segments that are closed under those who count, one after the other.
const CLOSED: usize = 6;

/// A node on which somebody begins to close a segment whenever its messages are about to be counted.
#[derive(Debug)]
struct Hasty {
    node: MemoryNode,
    sealed: Arc<Mutex<Vec<ReplicaAt>>>,
}

impl Node for Hasty {
    fn name(&self) -> &str {
        self.node.name()
    }

    fn call(&self, ops: Vec<Op>) -> BoxFuture<'static, Result<Vec<Reply>, NodeError>> {
        let counted = ops.iter().find_map(|op| match op {
            Op::Stats { at } => Some(*at),
            _ => None,
        });
        let mut sealed = self.sealed.lock().unwrap();
        let Some(at) = counted.filter(|at| !sealed.contains(at) && sealed.len() < CLOSED) else {
            return self.node.call(ops);
        };
        sealed.push(at);
        let node = self.node.clone();
        async move {
            node.call(vec![Op::Seal { at, by: ProducerId(77) }]).await?;
            node.call(ops).await
        }
        .boxed()
    }

    fn watch(&self, at: ReplicaAt) -> BoxFuture<'static, Result<Watch, NodeError>> {
        self.node.watch(at)
    }
}

/// A queue with one message, in a segment that is open.
async fn posted(world: &World) -> (Arc<Core>, Vec<Faults>, Arc<QueueState>, Vec<MessageId>) {
    let process = world.open(1).await;
    let (core, queue, ids) = posted_to(process.pool).await;
    (core, process.faults, queue, ids)
}

async fn posted_to(pool: Arc<Pool>) -> (Arc<Core>, Arc<QueueState>, Vec<MessageId>) {
    let (core, queue) = started(pool);
    assert!(core.create(&queue, &Metadata::default()).await.unwrap());
    let ids = post(&core, &queue).await.unwrap();
    (core, queue, ids)
}

#[tokio::test(start_paused = true)]
async fn a_segment_that_somebody_is_closing_is_counted() {
    let world = World::new(3);
    let (core, _, queue, _) = posted(&world).await;
    let manifest = core.manifests.read(&queue).await.unwrap().unwrap();
    for replica in &manifest.open_segment().unwrap().replicas {
        let at = replica.at(core.pool.id());
        let seal = Op::Seal { at, by: ProducerId(77) };
        core.pool.ask(at.cookie.node, vec![seal]).await.unwrap();
    }
    assert_eq!(core.stats(&queue).await.unwrap().total(), 1);
}

#[tokio::test(start_paused = true)]
async fn segments_that_are_closed_one_after_the_other_are_counted() {
    let world = World::new(3);
    let sealed = Arc::new(Mutex::new(Vec::new()));
    let hasty = |node: &MemoryNode| Hasty { node: node.clone(), sealed: Arc::clone(&sealed) };
    let nodes = world.nodes.iter().map(|node| Arc::new(hasty(node)) as Arc<dyn Node>).collect();
    let env = Env::seeded(world.clock.clone(), 1);
    let pool = Pool::open(Config::default(), nodes, env, nobody()).await.unwrap();
    let (core, queue, _) = posted_to(pool).await;
    assert_eq!(core.stats(&queue).await.unwrap().total(), 1);
    assert_eq!(sealed.lock().unwrap().len(), CLOSED);
}

#[tokio::test(start_paused = true)]
async fn a_message_is_found_by_id_while_a_replica_of_its_open_segment_is_down() {
    let world = World::new(3);
    let (core, faults, queue, ids) = posted(&world).await;
    faults[2].down();
    // Nothing is known of the queue, so the first look at its manifest finds it open.
    core.manifests.forget(&queue);
    assert_eq!(core.get_many(&queue, &ids).await.unwrap().len(), 1);
}

/// A process that posts to a segment which was open when it looked, while it does not reach the
/// first replica.
struct Stale {
    core: Arc<Core>,
    faults: Vec<Faults>,
    queue: Arc<QueueState>,
    /// Another process, and the same queue there.
    other: (Arc<Core>, Arc<QueueState>),
}

impl Stale {
    async fn new(world: &World) -> Self {
        let (core, faults, queue, _) = posted(world).await;
        let manifest = core.manifests.read(&queue).await.unwrap().unwrap();
        let first = manifest.open_segment().unwrap().replicas[0].at(core.pool.id());
        faults[usize::from(first.cookie.node.0) - 1].down();
        Self { core, faults, queue, other: started(world.open(2).await.pool) }
    }

    async fn post(&self) -> Result<Vec<MessageId>, Error> {
        post(&self.core, &self.queue).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_that_no_replica_took_goes_to_the_queue_made_again() {
    let stale = Stale::new(&World::new(3)).await;
    let (other, queue) = &stale.other;
    other.delete_queue(queue).await.unwrap();
    assert!(other.create(queue, &Metadata::default()).await.unwrap());
    // Not reached and, after that, refused.
    let ids = stale.post().await.unwrap();
    assert_eq!(other.get_many(queue, &ids).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_knows_of_a_post_that_some_replica_took_of_a_segment_long_left() {
    let stale = Stale::new(&World::new(3)).await;
    let (other, queue) = &stale.other;
    let forgotten = other.manifests.change(queue, |manifest| {
        manifest.segments.clear();
        true
    });
    forgotten.await.unwrap();
    // Not reached and, after that, taken.
    stale.faults.iter().for_each(|faults| faults.delay_after(Duration::from_millis(20)));
    let error = stale.post().await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
}

/// What a process lists that reaches no node but one, and knows a segment as open which others have
/// closed since, to delete its message; that node was left out of the delete, or of both.
async fn listed_without_keepers(is_sealed: bool) -> Result<usize, Error> {
    let world = World::new(3);
    let (core, faults, queue, ids) = posted(&world).await;
    // Every replica hears that the post was acknowledged.
    sleep(millis(100)).await;
    let no = ids[0].segment;
    let process = world.open(2).await;
    let (other, the_same) = started(process.pool);
    faults[0].down();
    faults[1].down();
    if is_sealed {
        other.move_on(&the_same, no, "a test says so").await.unwrap();
    }
    process.faults[2].down();
    assert!(other.delete_one(&the_same, &ids[0], None).await.unwrap());
    // What is known of the queue is not fresh any more.
    sleep(millis(2_000)).await;
    let known = core.manifests.old(&queue).unwrap();
    assert!(known.open_segment().is_some_and(|open| open.no == no), "{known:?}");
    let listed = core.list(&queue, &ListOptions::default()).await;
    listed.map(|page| page.messages.len())
}

#[tokio::test(start_paused = true)]
async fn without_keepers_nothing_is_listed_from_a_replica_that_missed_a_delete() {
    let error = listed_without_keepers(true).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test(start_paused = true)]
async fn without_keepers_nothing_is_listed_from_a_replica_that_missed_the_end_of_its_segment() {
    let error = listed_without_keepers(false).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}
