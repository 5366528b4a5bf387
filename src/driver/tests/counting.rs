//! What is counted of claims and repairs that go another way than usual.

use tokio::time::{Instant, sleep};

use super::stage::Stage;
use super::{World, millis, started};
use crate::id::NodeId;
use crate::queue::ClaimOptions;

#[tokio::test(start_paused = true)]
async fn messages_that_somebody_else_turns_out_to_hold_are_conflicts() {
    let world = World::new(3);
    let stage = Stage::new(&world).await;
    let replicas = [stage.at(1, 11), stage.at(2, 12), stage.at(3, 13)];
    stage.closed_on(&replicas).await;
    // The picker does not know of it.
    stage.hold(replicas[1], 0).await;
    let claim = stage.core.claim(&stage.queue, &ClaimOptions::default()).await.unwrap().unwrap();
    assert_eq!(claim.messages.len(), 1);
    assert_eq!(stage.core.pool.counters().now(Vec::new(), None).claim_conflicts, 1);
}

#[tokio::test(start_paused = true)]
async fn a_segment_of_which_nothing_is_left_is_counted_as_lost() {
    // The first three keep the manifest.
    let world = World::new(5);
    let stage = Stage::new(&world).await;
    let replicas = [stage.at(4, 11), stage.at(5, 12)];
    stage.closed_on(&replicas).await;
    stage.core.count_messages().await;
    let census = stage.core.latest_census().unwrap();
    assert_eq!((census.segments_closed, census.segments_under_replicated), (1, 1));
    world.nodes[3].flush();
    world.nodes[4].flush();
    let start = Instant::now();
    while !stage.segment().await.lost {
        assert!(start.elapsed().as_secs() < 20, "{:?}", stage.segment().await);
        sleep(millis(10)).await;
    }
    let counted = stage.core.pool.counters().now(Vec::new(), None);
    assert_eq!((counted.segments_opened, counted.segments_lost), (1, 1));
    sleep(millis(5_001)).await;
    stage.core.count_messages().await;
    let census = stage.core.latest_census().unwrap();
    assert_eq!((census.segments_closed, census.segments_lost), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_others_deleted_is_not_counted_as_short_of_copies() {
    let world = World::new(4);
    let stage = Stage::new(&world).await;
    let replicas = [stage.at(1, 11), stage.at(2, 12), stage.at(4, 13)];
    stage.closed_on(&replicas).await;
    let (witness, queue) = started(world.open(2).await.pool);
    assert!(witness.manifests.read(&queue).await.unwrap().is_some());
    let cookie = witness.pool.cookie(NodeId(4)).unwrap();

    assert!(stage.core.delete_queue(&stage.queue).await.unwrap());
    world.nodes[3].flush();
    let start = Instant::now();
    while !witness.pool.is_lost(cookie) {
        assert!(start.elapsed().as_secs() < 20, "the witness never heard of it");
        sleep(millis(10)).await;
    }
    sleep(millis(1_500)).await;
    witness.count_messages().await;
    let census = witness.latest_census().unwrap();
    assert_eq!((census.segments_closed, census.segments_under_replicated), (0, 0));
}
