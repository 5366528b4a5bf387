//! The service while most of the pool's keepers are away.

use std::sync::Arc;
use std::time::Duration;

use roundelay::http::{EncryptionKeys, Gate, ServiceOptions};
use roundelay::node::Node;
use roundelay::node::faulty::FaultyNode;
use roundelay::node::memory::MemoryNode;
use roundelay::time::Clock;
use roundelay::{Env, Store};
use serde_json::json;
use tokio::time::sleep;

use crate::Api;

const QUEUES: usize = 20;

#[tokio::test]
async fn posts_go_on_with_the_settings_known_last() {
    let clock = Clock::starting_at(1_700_000_000_000);
    let (mut wires, mut faults): (Vec<Arc<dyn Node>>, Vec<_>) = (Vec::new(), Vec::new());
    for seed in 0..7 {
        let node = MemoryNode::seeded(format!("memory-{seed}"), clock.clone(), seed);
        let (wire, fault) = FaultyNode::new(Arc::new(node));
        wires.push(Arc::new(wire));
        faults.push(fault);
    }
    let env = Env::seeded(clock, 7);
    let store = Store::builder().nodes(wires).copies(2).env(env).open().await.unwrap();
    let api = Api::on(store, ServiceOptions::default(), Gate::open(), EncryptionKeys::none());
    let messages = json!({"messages": [{"body": 1}]}).to_string();
    let path = |n: usize| format!("/v2/queues/q{n}/messages");
    for n in 0..QUEUES {
        let settings = json!({"_default_message_ttl": 77}).to_string();
        api.send("PUT", &format!("/v2/queues/q{n}"), settings).await.is(201);
        api.send("POST", &path(n), messages.clone()).await.is(201);
    }
    sleep(Duration::from_secs(1)).await;
    let nodes = api.store.admin().health().await.unwrap().nodes;
    for keeper in nodes.iter().filter(|node| node.node.keeper).take(2) {
        let index: usize = keeper.node.name.rsplit('-').next().unwrap().parse().unwrap();
        faults[index].down();
    }
    // Until what was known of queues is no longer fresh.
    sleep(Duration::from_secs(3)).await;
    let mut went_on = 0;
    for n in 0..QUEUES {
        let answer = api.send("POST", &path(n), messages.clone()).await;
        if answer.status == 503 {
            // Its segment was on a keeper that is away: that needs another manifest.
            continue;
        }
        answer.is(201);
        let listed = api.send("GET", &format!("{}?echo=true", path(n)), "").await.is(200).json();
        let messages = listed["messages"].as_array().unwrap();
        assert_eq!(messages.iter().map(|message| &message["ttl"]).collect::<Vec<_>>(), [77, 77]);
        went_on += 1;
    }
    assert!(went_on > 0);
}
