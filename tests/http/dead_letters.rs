//! `_max_claim_count` and `_dead_letter_queue`.

use serde_json::{Value, json};

use crate::{Api, bodies, id_of};

const CLAIMS: &str = "/v2/queues/q/claims";

/// A queue whose messages may be claimed so often.
async fn queue(api: &Api, most: u32, ttl: Value) {
    let metadata = json!({
        "_max_claim_count": most,
        "_dead_letter_queue": "dead",
        "_dead_letter_queue_messages_ttl": ttl,
    });
    api.send("PUT", "/v2/queues/q", metadata.to_string()).await.is(201);
}

/// Claims, and gives back what was claimed.
async fn claim_and_release(api: &Api) -> Vec<Value> {
    let answer = api.post(CLAIMS, json!({})).await.is(201);
    api.delete(answer.header("location")).await.is(204);
    bodies(&answer.json())
}

async fn listed(api: &Api, queue: &str) -> Value {
    let path = format!("/v2/queues/{queue}/messages?echo=true&include_claimed=true&detailed=true");
    api.get(&path).await.is(200).json()
}

#[tokio::test]
async fn the_claim_after_the_last_one_moves_a_message_to_the_dead_letter_queue() {
    let api = Api::new().await;
    queue(&api, 2, json!(777)).await;
    let paths = api.post_numbers("q", 0..2).await;
    for _ in 0..2 {
        assert_eq!(claim_and_release(&api).await, [json!(0), json!(1)]);
    }
    api.post(CLAIMS, json!({})).await.is(204);
    assert_eq!(listed(&api, "q").await["messages"], json!([]));
    let dead = listed(&api, "dead").await;
    assert_eq!(bodies(&dead), [json!(0), json!(1)]);
    for (message, path) in dead["messages"].as_array().unwrap().iter().zip(&paths) {
        assert_eq!(message["ttl"], 777);
        let origin = json!({"queue": "q", "id": id_of(path), "claim_count": 2});
        assert_eq!(message["dead_letter"], origin);
        // Only for those who ask: clients know no such key.
        let plain = api.get(message["href"].as_str().unwrap()).await.is(200).json();
        assert!(plain.get("dead_letter").is_none());
    }
    // They are messages like others there.
    let answer = api.post("/v2/queues/dead/claims", json!({})).await.is(201).json();
    assert_eq!(answer["messages"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_claim_leaves_dead_letters_out_and_takes_the_others() {
    let api = Api::new().await;
    queue(&api, 1, Value::Null).await;
    api.post_numbers("q", 0..1).await;
    claim_and_release(&api).await;
    api.post_numbers("q", 1..3).await;
    let answer = api.post(CLAIMS, json!({})).await.is(201);
    let claimed = bodies(&answer.json());
    assert!(!claimed.contains(&json!(0)) && !claimed.is_empty(), "{claimed:?}");
    let held = api.get(answer.header("location")).await.is(200).json();
    assert_eq!(bodies(&held), claimed);
    assert_eq!(bodies(&listed(&api, "dead").await), [json!(0)]);
    // The rest of its life: it was posted for 300 s, and a claim made it last longer.
    let ttl = listed(&api, "dead").await["messages"][0]["ttl"].as_u64().unwrap();
    assert!((290..=360).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn messages_stay_without_a_queue_of_dead_letters_or_a_count() {
    let api = Api::new().await;
    for metadata in [
        json!({"_max_claim_count": 1}),
        json!({"_dead_letter_queue": "dead"}),
        json!({"_max_claim_count": 0, "_dead_letter_queue": "dead"}),
    ] {
        api.delete("/v2/queues/q").await.is(204);
        api.send("PUT", "/v2/queues/q", metadata.to_string()).await.is(201);
        api.post_numbers("q", 0..1).await;
        for _ in 0..3 {
            assert_eq!(claim_and_release(&api).await, [json!(0)]);
        }
    }
    assert_eq!(listed(&api, "dead").await["messages"], json!([]));
}

#[tokio::test]
async fn a_queue_of_dead_letters_has_a_queue_s_name() {
    let api = Api::new().await;
    for name in ["a b", "ä", &"x".repeat(65)] {
        let metadata = json!({"_max_claim_count": 1, "_dead_letter_queue": name});
        let refused = api.send("PUT", "/v2/queues/q", metadata.to_string()).await;
        refused.fails(400, "Invalid API request");
    }
}
