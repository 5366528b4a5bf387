use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::*;
use crate::error::ErrorKind;
use crate::id::{Cookie, Incarnation, NodeId, PoolId, ReplicaAt};
use crate::node::{NodeError, Op, Refusal, Reply, UnsafeSetting, Watch};
use crate::pool::Health;

fn cookie(process: &Process, node: u16) -> Cookie {
    process.pool.cookie(NodeId(node)).unwrap()
}

/// Waits until the node is in a newer life than `old` and usable.
async fn reborn(process: &Process, old: Cookie) -> Duration {
    process
        .until("a new life", |pool| {
            let now = pool.cookie(old.node).unwrap();
            now.incarnation > old.incarnation && pool.usable(now)
        })
        .await
}

#[tokio::test(start_paused = true)]
async fn a_node_that_forgot_gets_a_new_life_at_once() {
    let world = World::new(4);
    let process = world.open(1).await;
    process.faults.iter().for_each(|wire| wire.delay_before(millis(1)));
    for node in 1..=4 {
        let old = cookie(&process, node);
        let memory = &world.nodes[usize::from(node) - 1];
        if node % 2 == 0 {
            memory.restart_empty()
        } else {
            memory.restart_with_data()
        }
        // Somebody uses the node and is told that it is a stranger.
        let probe = Op::Due { cookie: old, limit: 1 };
        let answer = process.pool.ask(NodeId(node), vec![probe]).await.unwrap();
        assert!(matches!(answer[0], Reply::Refused(Refusal::Stranger { .. })), "{answer:?}");
        assert!(!process.pool.is_lost(old), "not before the pool has said so");
        let took = reborn(&process, old).await;
        assert!(took < millis(60), "it took {took:?}");
        assert!(process.pool.is_lost(old) && !process.pool.usable(old));
        // Two of three keepers that forgot would be one too many.
        process.until_all_vote(2 + u32::from(node.min(3))).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_flushed_node_is_noticed_by_every_process() {
    let world = World::new(4);
    let (one, two) = (world.open(1).await, world.open(2).await);
    let mut watch = two.pool.watch();
    watch.look();
    let old = cookie(&one, 4);
    world.nodes[3].flush();
    reborn(&one, old).await;
    reborn(&two, old).await;
    assert!(watch.has_changed());
    assert_eq!(cookie(&one, 4), cookie(&two, 4));
}

/// Many processes find the same stranger: it is admitted, into few lives, and they agree.
#[tokio::test(start_paused = true)]
async fn processes_that_admit_the_same_node_do_not_harm_each_other() {
    for seed in 0..10 {
        let world = World::new(4);
        let mut processes = Vec::new();
        for process in 0..4 {
            processes.push(world.open(seed * 10 + process).await);
        }
        let mut random = fastrand::Rng::with_seed(seed);
        for wire in processes.iter().flat_map(|process| &process.faults) {
            wire.delay_before(millis(random.u64(..6)));
        }
        let old = cookie(&processes[0], 4);
        world.nodes[3].restart_empty();
        for process in &processes {
            process.pool.suspect(NodeId(4), "a test says so");
        }
        for process in &processes {
            reborn(process, old).await;
        }
        sleep(millis(2_500)).await;
        let now = cookie(&processes[0], 4);
        assert!(processes.iter().all(|process| process.pool.usable(now)), "seed {seed}");
        assert!(now.incarnation.0 <= old.incarnation.0 + 3, "{now} after {old}, seed {seed}");
    }
}

/// A life that was decided by a process that then died is followed by another one.
#[tokio::test(start_paused = true)]
async fn a_life_that_was_decided_and_never_begun_is_passed_over() {
    let world = World::new(3);
    let process = world.open(1).await;
    let old = cookie(&process, 3);
    let Reply::Identity(identity) =
        process.pool.ask(NodeId(3), vec![Op::Identity]).await.unwrap().pop().unwrap()
    else {
        panic!()
    };
    process
        .pool
        .change_view(|view| {
            let entry = view.nodes.get_mut(&NodeId(3)).unwrap();
            entry.incarnation = Incarnation(old.incarnation.0 + 1);
            entry.run_id = identity.run_id.clone();
            Ok(())
        })
        .await
        .unwrap();
    reborn(&process, cookie(&process, 3)).await;
    assert_eq!(cookie(&process, 3).incarnation.0, old.incarnation.0 + 2);
}

#[tokio::test(start_paused = true)]
async fn a_node_taken_over_by_another_pool_stays_down_and_is_left_alone() {
    let world = World::new(4);
    let process = world.open(1).await;
    let theirs = Cookie { pool: PoolId(5), node: NodeId(1), incarnation: Incarnation(9) };
    let old = cookie(&process, 4);
    world.nodes[3].flush();
    let answer = world.nodes[3].call(vec![Op::Identity]).await.unwrap().pop().unwrap();
    let Reply::Identity(identity) = answer else { panic!() };
    let admit = Op::Admit { cookie: theirs, run_id: identity.run_id };
    assert_eq!(world.nodes[3].call(vec![admit]).await.unwrap(), [Reply::Done]);
    process.until("noticed", |pool| matches!(pool.health(NodeId(4)), Health::Down { .. })).await;
    sleep(millis(3_000)).await;
    assert_eq!(cookie(&process, 4), old);
    let status = process.pool.status();
    assert!(status.nodes[3].health.contains("pool 0000000000000005"), "{status:?}");
    let answer = world.nodes[3].call(vec![Op::Identity]).await.unwrap().pop().unwrap();
    let Reply::Identity(identity) = answer else { panic!() };
    assert_eq!(identity.cookie.map(|(cookie, _)| cookie), Some(theirs));
}

#[tokio::test(start_paused = true)]
async fn a_removed_node_is_lost_and_not_used() {
    let world = World::new(4);
    let (one, two) = (world.open(1).await, world.open(2).await);
    let old = cookie(&one, 4);
    one.pool.change_view(|view| Ok(view.nodes.remove(&NodeId(4)).is_some())).await.unwrap();
    assert!(one.pool.is_lost(old));
    two.until("told", |pool| pool.is_lost(old)).await;
    assert!(!two.pool.usable(old));
}

/// A node with a setting that must not be, or with other things to say of itself.
#[derive(Debug, Clone)]
struct Talker {
    node: MemoryNode,
    unsafe_settings: Vec<UnsafeSetting>,
    memory: Arc<std::sync::Mutex<(u64, u64)>>,
}

impl Talker {
    fn new(node: &MemoryNode) -> Self {
        Self { node: node.clone(), unsafe_settings: Vec::new(), memory: Arc::default() }
    }
}

impl Node for Talker {
    fn name(&self) -> &str {
        self.node.name()
    }

    fn call(&self, ops: Vec<Op>) -> BoxFuture<'static, Result<Vec<Reply>, NodeError>> {
        let this = self.clone();
        let call = self.node.call(ops);
        async move {
            let mut replies = call.await?;
            for reply in &mut replies {
                if let Reply::Identity(identity) = reply {
                    identity.unsafe_settings.clone_from(&this.unsafe_settings);
                    identity.memory = *this.memory.lock().unwrap();
                }
            }
            Ok(replies)
        }
        .boxed()
    }

    fn watch(&self, at: ReplicaAt) -> BoxFuture<'static, Result<Watch, NodeError>> {
        self.node.watch(at)
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_with_an_unsafe_setting_is_refused() {
    let world = World::new(3);
    let (mut nodes, _) = world.wires();
    let mut talker = Talker::new(&world.nodes[1]);
    talker.unsafe_settings.push(UnsafeSetting {
        setting: "maxmemory-policy".into(),
        found: "allkeys-lru".into(),
        mend: "run CONFIG SET maxmemory-policy noeviction".into(),
    });
    nodes[1] = Arc::new(talker);
    let env = Env::seeded(world.clock.clone(), 1);
    let error = Pool::open(Config::default(), nodes, env, nobody()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::UnsafeNode);
    for part in ["node2", "maxmemory-policy", "allkeys-lru", "CONFIG SET"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    world.open(2).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_without_memory_left_is_full_until_it_has_some() {
    let world = World::new(3);
    let (mut nodes, _) = world.wires();
    let talker = Talker::new(&world.nodes[1]);
    nodes[1] = Arc::new(talker.clone());
    let env = Env::seeded(world.clock.clone(), 1);
    let pool = Pool::open(Config::default(), nodes, env, nobody()).await.unwrap();
    let process = Process { pool, faults: Vec::new() };
    let node = process.pool.view().named("node2").unwrap();
    assert_eq!(process.pool.health(node), Health::Up);
    *talker.memory.lock().unwrap() = (980, 1_000);
    process.until("full", |pool| pool.health(node) == Health::Full).await;
    assert!(!process.pool.usable(process.pool.cookie(node).unwrap()));
    assert_eq!(process.count("r").await.unwrap(), 1, "a full node still votes");
    *talker.memory.lock().unwrap() = (500, 1_000);
    process.until("up again", |pool| pool.health(node) == Health::Up).await;
}

/// An answer that is under way for long tells of a life that is over since.
#[tokio::test(start_paused = true)]
async fn a_late_answer_ends_no_life_that_began_after_the_question() {
    let world = World::new(4);
    let (one, two) = (world.open(1).await, world.open(2).await);
    let (first, node) = (cookie(&one, 4), &world.nodes[3]);
    // For the one process the node is down; the other one hears of its restart late.
    one.faults[3].down();
    two.faults[3].delay_after(millis(900));
    node.restart_empty();
    two.pool.suspect(NodeId(4), "a test says so");
    sleep(millis(30)).await;
    // Meanwhile it is admitted, restarts once more, and is admitted again.
    one.faults[3].up();
    one.pool.suspect(NodeId(4), "a test says so");
    reborn(&one, first).await;
    let second = cookie(&one, 4);
    node.restart_empty();
    one.pool.suspect(NodeId(4), "a test says so");
    assert!(reborn(&one, second).await < millis(500));
    let third = cookie(&one, 4);
    sleep(millis(2_500)).await;
    assert_eq!(cookie(&one, 4), third);
    two.faults[3].clear();
    two.until("the same life", |pool| pool.usable(third)).await;
    assert_eq!(cookie(&one, 4), third);
}
