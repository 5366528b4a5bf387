use super::*;
use crate::id::NodeId;
use crate::node::{NodeError, Op};
use crate::pool::Health;

const NODE: NodeId = NodeId(2);

async fn world() -> (World, Process) {
    let world = World::new(3);
    let process = world.open(1).await;
    sleep(millis(100)).await;
    (world, process)
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_slower_than_patience_is_suspect_until_it_answers_in_time() {
    let (_world, process) = world().await;
    let mut watch = process.pool.watch();
    watch.look();
    process.faults[1].hang();
    let start = Instant::now();
    let error = process.pool.ask(NODE, vec![Op::Identity]).await.unwrap_err();
    assert!(matches!(error, NodeError::Unknown { .. }), "{error}");
    assert_eq!(start.elapsed(), process.pool.patience(NODE));
    assert_eq!(process.pool.health(NODE), Health::Suspect);
    assert!(watch.has_changed());
    assert!(!process.pool.usable(process.pool.cookie(NODE).unwrap()));
    sleep(millis(300)).await;
    assert_eq!(process.pool.health(NODE), Health::Suspect);
    process.faults[1].up();
    let took = process.until("up", |pool| pool.health(NODE) == Health::Up).await;
    assert!(took < millis(60), "it took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stands_still_is_down_after_a_second() {
    let (_world, process) = world().await;
    process.faults[1].hang();
    process.pool.suspect(NODE, "a test says so");
    let took = process.until("down", |pool| matches!(pool.health(NODE), Health::Down { .. })).await;
    assert!((millis(900)..millis(2_100)).contains(&took), "it took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_out_of_reach_is_down_at_once_and_up_soon_after_it_is_back() {
    let (_world, process) = world().await;
    process.faults[1].down();
    let error = process.pool.ask(NODE, vec![Op::Identity]).await.unwrap_err();
    assert!(matches!(error, NodeError::Unreached { .. }), "{error}");
    assert_eq!(process.pool.health(NODE), Health::Down { for_ms: 0 });
    sleep(millis(4_000)).await;
    let Health::Down { for_ms } = process.pool.health(NODE) else { panic!() };
    assert!((3_990..4_010).contains(&for_ms), "{for_ms}");
    process.faults[1].up();
    let took = process.until("up", |pool| pool.health(NODE) == Health::Up).await;
    assert!(took <= millis(260), "it took {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_may_wait_longer_than_patience_and_the_node_is_suspect_all_the_same() {
    let (_world, process) = world().await;
    process.faults[1].delay_after(millis(200));
    let pool = process.pool.clone();
    let asking = tokio::spawn(async move {
        pool.ask_within(NODE, vec![Op::Identity], Duration::from_secs(1)).await
    });
    sleep(millis(100)).await;
    assert_eq!(process.pool.health(NODE), Health::Suspect);
    assert!(asking.await.unwrap().is_ok());
    let short = process.pool.ask_within(NODE, vec![Op::Identity], millis(5)).await;
    assert!(matches!(short, Err(NodeError::Unknown { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_shorter_limit_of_the_caller_casts_no_doubt() {
    let (_world, process) = world().await;
    process.faults[1].delay_after(millis(20));
    let short = process.pool.ask_within(NODE, vec![Op::Identity], millis(5)).await;
    assert!(matches!(short, Err(NodeError::Unknown { .. })));
    assert_eq!(process.pool.health(NODE), Health::Up);
}

#[tokio::test(start_paused = true)]
async fn patience_grows_with_what_is_usual_for_a_node_and_no_further_than_a_second() {
    let (_world, process) = world().await;
    let least = Config::default().suspect_after;
    assert_eq!(process.pool.patience(NODE), least);
    process.faults[1].delay_after(millis(40));
    for _ in 0..100 {
        process.pool.ask(NODE, vec![Op::Identity]).await.unwrap();
    }
    let patience = process.pool.patience(NODE);
    assert!((millis(120)..millis(180)).contains(&patience), "{patience:?}");
    assert_eq!(process.pool.patience(NodeId(1)), least, "others are not concerned");
    process.faults[1].clear();
    sleep(millis(25_000)).await;
    assert_eq!(process.pool.patience(NODE), least, "what is past is forgotten");
}

/// All nodes far away: that is the network, not the nodes, and the pool stays usable.
#[tokio::test(start_paused = true)]
async fn when_all_nodes_are_slow_patience_follows() {
    let world = World::new(3);
    let process = world
        .try_open(1, |faults| faults.iter().for_each(|wire| wire.delay_after(millis(120))))
        .await
        .unwrap();
    process
        .until("usable", |pool| {
            pool.view().nodes.keys().all(|node| pool.usable(pool.cookie(*node).unwrap()))
        })
        .await;
    assert_eq!(process.count("r").await.unwrap(), 1);

    let (_world, process) = self::world().await;
    process.faults.iter().for_each(|wire| wire.delay_after(millis(120)));
    sleep(millis(2_000)).await;
    process
        .until("usable again", |pool| {
            pool.view().nodes.keys().all(|node| pool.usable(pool.cookie(*node).unwrap()))
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn closing_or_dropping_a_pool_ends_its_work() {
    let (world, process) = world().await;
    process.pool.close();
    process.faults[1].down();
    sleep(millis(3_000)).await;
    assert_eq!(process.pool.health(NODE), Health::Up, "nobody looks any more");
    let other = world.open(2).await;
    let core = other.pool.weak_core();
    drop(other);
    sleep(millis(1)).await;
    assert!(core.upgrade().is_none(), "the background work ends with the last handle");
}
