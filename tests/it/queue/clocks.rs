//! Nodes whose clocks differ: a claim is over on one and not on another.

use std::sync::Arc;
use std::time::Duration;

use roundelay::node::Node;
use roundelay::node::faulty::FaultyNode;
use roundelay::node::memory::MemoryNode;
use roundelay::time::{Clock, Jumps};
use roundelay::{ClaimOptions, Env, ErrorKind, Queue, Store};
use tokio::time::{Instant, timeout};

use super::cluster::{config, message, new_queue, text};

const START_MS: u64 = 1_700_000_000_000;
const TTL: Duration = Duration::from_secs(300);

/// A queue with two messages in a closed segment on two nodes, and what puts each node's clock forward.
async fn two_messages() -> (Queue, Vec<Jumps>, Store) {
    let (mut wires, mut clocks): (Vec<Arc<dyn Node>>, Vec<Jumps>) = (Vec::new(), Vec::new());
    for seed in 0..2 {
        let (clock, jumps) = Clock::jumping(START_MS);
        let node = MemoryNode::seeded(format!("memory-{seed}"), clock, seed);
        let (wire, faults) = FaultyNode::new(Arc::new(node));
        faults.delay_before(Duration::from_micros(100));
        wires.push(Arc::new(wire));
        clocks.push(jumps);
    }
    let env = Env::seeded(Clock::starting_at(START_MS), 7);
    let builder = Store::builder().config(config(2, 2)).nodes(wires).env(env);
    let store = builder.open().await.unwrap();
    let q = new_queue(&store, "q").await;
    q.post(vec![message("one"), message("two")], None).await.unwrap();
    (q, clocks, store)
}

fn one() -> ClaimOptions {
    ClaimOptions { limit: 1, ttl: TTL, ..ClaimOptions::default() }
}

/// What one node still holds is passed by, whichever node picks.
#[tokio::test(start_paused = true)]
async fn a_message_that_one_node_still_holds_keeps_nobody_from_the_next() {
    for ahead in 0..2 {
        let (q, clocks, _store) = two_messages().await;
        let first = q.claim(&one()).await.unwrap().unwrap();
        assert_eq!(text(&first.messages[0]), "one");
        clocks[ahead].forward(400_000);
        let began = Instant::now();
        let second = timeout(Duration::from_secs(5), q.claim(&one())).await;
        let second = second.expect("it must not spin").unwrap().unwrap();
        assert_eq!(second.messages.len(), 1, "no more than was asked for");
        assert_eq!(text(&second.messages[0]), "two");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
}

/// A claim that is over on one node is over. The renewal that finds that out leaves nothing behind on the
/// other one; if the node that is asked first says so, nothing was renewed, and the other one holds on.
#[tokio::test(start_paused = true)]
async fn a_claim_that_cannot_be_renewed_everywhere_is_over_everywhere() {
    let mut claimed = Vec::new();
    for ahead in 0..2 {
        let (q, clocks, _store) = two_messages().await;
        let claim = q.claim(&one()).await.unwrap().unwrap();
        clocks[ahead].forward(400_000);
        let error = q.renew(&claim.id, TTL, Duration::ZERO).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ClaimNotFound);
        let error = q.delete_message(&claim.messages[0].id, Some(&claim.id)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ClaimNotFound);
        let next = q.claim(&ClaimOptions { limit: 2, ..one() }).await.unwrap().unwrap();
        claimed.push(next.messages.len());
    }
    claimed.sort_unstable();
    assert_eq!(claimed, [1, 2]);
}
