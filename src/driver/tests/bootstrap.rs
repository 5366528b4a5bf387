use futures_util::future::join_all;

use super::*;
use crate::error::ErrorKind;
use crate::id::{Cookie, Incarnation, NodeId, PoolId};
use crate::node::{Op, Reply};
use crate::protocol::view::{FIRST, KeeperSet};

async fn ask(node: &MemoryNode, op: Op) -> Reply {
    node.call(vec![op]).await.unwrap().pop().unwrap()
}

async fn run_id(node: &MemoryNode) -> String {
    let Reply::Identity(identity) = ask(node, Op::Identity).await else { panic!() };
    identity.run_id
}

async fn admit(node: &MemoryNode, cookie: Cookie) {
    let admit = Op::Admit { cookie, run_id: run_id(node).await };
    assert_eq!(ask(node, admit).await, Reply::Done);
}

fn keepers(process: &Process) -> usize {
    process.pool.view().keepers.members.len()
}

#[tokio::test(start_paused = true)]
async fn a_fresh_pool_has_as_many_keepers_as_its_nodes_allow() {
    for (nodes, wanted) in [(1, 1), (2, 1), (3, 3), (4, 3)] {
        let world = World::new(nodes);
        let process = world.open(nodes).await;
        assert_eq!(keepers(&process), wanted, "{nodes} nodes");
        let view = process.pool.view();
        assert_eq!(view.nodes.len() as u64, nodes);
        assert!(view.nodes.keys().all(|node| process.pool.usable(view.cookie(*node).unwrap())));
        process.until_all_vote(1).await;
        assert_eq!(process.count("r").await.unwrap(), 1);
        let status = process.pool.status();
        assert!(status.nodes.iter().all(|node| node.health == "up"), "{status:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_process_joins_and_sees_the_same() {
    let world = World::new(3);
    let one = world.open(1).await;
    assert_eq!(one.count("r").await.unwrap(), 1);
    let two = world.open(2).await;
    assert_eq!(one.pool.id(), two.pool.id());
    assert_eq!(two.count("r").await.unwrap(), 2);
    assert_eq!(one.pool.view().nodes, two.pool.view().nodes);
}

#[tokio::test(start_paused = true)]
async fn processes_that_begin_at_once_end_up_in_one_pool() {
    for seed in 0..50 {
        let world = World::new(3 + seed % 2);
        let opened = join_all((0..4).map(async |process| {
            let delays = fastrand::Rng::with_seed(seed * 10 + process);
            world
                .try_open(seed * 10 + process, |faults| {
                    let mut delays = delays.clone();
                    faults.iter().for_each(|wire| wire.delay_before(millis(delays.u64(..8))));
                })
                .await
                .unwrap_or_else(|error| panic!("seed {seed} {error}"))
        }))
        .await;
        let first = opened[0].pool.id();
        assert!(opened.iter().all(|process| process.pool.id() == first), "seed {seed}");
        for (at, process) in (1..).zip(&opened) {
            assert_eq!(process.count("r").await.unwrap(), at, "seed {seed}");
        }
        sleep(millis(1_500)).await;
        let view = opened[0].pool.view();
        assert_eq!(view.keepers.members.len(), 3, "seed {seed}");
        assert!(opened.iter().all(|process| *process.pool.view() == *view), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_fresh_pool_waits_for_all_its_nodes() {
    let world = World::new(3);
    let result = world.try_open(1, |faults| faults[1].down()).await;
    let error = result.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("node2"), "{error}");
    world.open(2).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_next_finishes_what_was_begun() {
    let pool = PoolId(77);
    let cookie = FIRST.cookie(pool);
    let set = KeeperSet::first();
    let keep = Op::Keep { cookie, epoch: set.epoch, keepers: set.encode().unwrap() };
    for steps in 0..3 {
        let world = World::new(3);
        admit(&world.nodes[0], cookie).await;
        let more = [keep.clone(), Op::Activate { cookie, epoch: set.epoch }];
        for op in more.into_iter().take(steps) {
            assert_eq!(ask(&world.nodes[0], op).await, Reply::Done);
        }
        let process = world.open(1).await;
        assert_eq!(process.pool.id(), pool);
        assert_eq!(keepers(&process), 3);
        assert_eq!(process.count("r").await.unwrap(), 1);
    }
}

/// A wire breaks after so many requests: wherever the first process dies, the next one ends well.
#[tokio::test(start_paused = true)]
async fn a_beginning_that_is_cut_short_anywhere_is_finished() {
    for cut in (0..120).step_by(3) {
        let world = World::new(3);
        let (nodes, faults) = world.wires();
        faults.iter().for_each(|wire| wire.delay_before(millis(1)));
        let env = Env::seeded(world.clock.clone(), cut);
        let opening = tokio::spawn(Pool::open(Config::default(), nodes, env, nobody()));
        sleep(millis(cut / 2)).await;
        faults.iter().for_each(Faults::down);
        opening.abort();
        let process = world.open(1_000 + cut).await;
        assert_eq!(keepers(&process), 3, "cut {cut}");
        assert_eq!(process.count("r").await.unwrap(), 1, "cut {cut}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_whose_keepers_forgot_is_lost_and_not_begun_anew() {
    let world = World::new(4);
    let process = world.open(1).await;
    assert!(!process.pool.registers().keepers().has(NodeId(4)));
    process.pool.close();
    world.nodes.iter().take(3).for_each(MemoryNode::restart_empty);
    let error = world.try_open(2, |_| ()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_pool_of_which_most_keepers_forgot_is_lost() {
    let world = World::new(3);
    let process = world.open(1).await;
    assert_eq!(process.count("r").await.unwrap(), 1);
    process.pool.close();
    world.nodes.iter().take(2).for_each(MemoryNode::restart_empty);
    let start = Instant::now();
    let error = world.try_open(2, |_| ()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
    assert!(start.elapsed() < millis(1_000));
    let error = process.count("r").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Lost, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_node_of_another_pool_is_refused_and_left_alone() {
    let world = World::new(3);
    let theirs = Cookie { pool: PoolId(5), node: NodeId(9), incarnation: Incarnation(3) };
    world.open(1).await.pool.close();
    world.nodes[2].restart_empty();
    admit(&world.nodes[2], theirs).await;
    let error = world.try_open(2, |_| ()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("node3"), "{error}");
    let Reply::Identity(identity) = ask(&world.nodes[2], Op::Identity).await else { panic!() };
    assert_eq!(identity.cookie.map(|(cookie, _)| cookie), Some(theirs));
}

#[tokio::test(start_paused = true)]
async fn a_node_given_twice_is_noticed() {
    let world = World::new(3);
    let (mut nodes, _) = world.wires();
    nodes.push(nodes[0].clone());
    let env = Env::seeded(world.clock.clone(), 1);
    let error = Pool::open(Config::default(), nodes, env, nobody()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_empty_node_that_is_given_later_is_added() {
    let mut world = World::new(2);
    let process = world.open(1).await;
    assert_eq!(keepers(&process), 1);
    assert_eq!(process.count("r").await.unwrap(), 1);
    world.nodes.push(MemoryNode::seeded("node0", world.clock.clone(), 1));
    let wider = world.open(2).await;
    assert_eq!(wider.pool.id(), process.pool.id());
    assert_eq!(wider.pool.view().named("node0"), Some(NodeId(3)));
    assert_eq!(keepers(&wider), 3, "the set of keepers grows with the pool");
    assert_eq!(wider.count("r").await.unwrap(), 2);
    assert_eq!(process.count("r").await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_pool_is_joined_although_a_node_is_away() {
    let world = World::new(3);
    world.open(1).await.pool.close();
    for (away, most) in [(Faults::down as fn(&Faults), 50), (Faults::hang, 1_200)] {
        for node in 0..3 {
            let start = Instant::now();
            let process = world.try_open(2, |faults| away(&faults[node])).await.unwrap();
            assert!(start.elapsed() < millis(most), "{:?}", start.elapsed());
            process.count("r").await.unwrap();
            process.faults[node].up();
            process
                .until("up", |pool| {
                    let view = pool.view();
                    view.nodes.keys().all(|node| pool.usable(view.cookie(*node).unwrap()))
                })
                .await;
        }
    }
}
