//! What a store counts of nodes that fail.

use roundelay::Store;

use super::cluster::{Cluster, config, message, new_queue};

fn failed_appends(store: &Store, node: usize) -> u64 {
    let metrics = store.metrics();
    let calls = &metrics.nodes[node].calls;
    calls.iter().find(|calls| calls.kind == "append").unwrap().failures
}

#[tokio::test(start_paused = true)]
async fn a_lost_block_is_counted_as_failed_suspected_and_sent_again() {
    let mut cluster = Cluster::new(4, 31);
    let store = cluster.store(config(3, 2)).await;
    let queue = new_queue(&store, "q").await;
    queue.post(vec![message("first")], None).await.unwrap();
    let before = store.metrics();
    assert_eq!((before.acked_messages, before.acked_blocks, before.resent_blocks), (1, 1, 0));
    assert!(before.nodes.iter().all(|node| node.suspicions == 0), "{before:?}");
    // Nodes without a replica lose nothing by it.
    for faults in &cluster.faults {
        faults.lose_requests(1);
    }
    queue.post(vec![message("second")], None).await.unwrap();
    let after = store.metrics();
    assert_eq!((after.acked_messages, after.acked_blocks), (2, 2));
    assert!(after.resent_blocks >= 1, "{after:?}");
    assert!(after.segments_opened >= 2 && after.segments_sealed >= 1, "{after:?}");
    assert!(after.nodes.iter().any(|node| node.suspicions == 1), "{after:?}");
    assert!((0..4).map(|node| failed_appends(&store, node)).sum::<u64>() >= 1, "{after:?}");
}
