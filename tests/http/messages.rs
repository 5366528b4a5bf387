//! Messages: post, get, delete, pop; sizes and malformed input.

use std::time::Duration;

use roundelay::http::ServiceOptions;
use serde_json::{Value, json};

use crate::{Api, bodies, id_of};

const PATH: &str = "/v2/queues/q/messages";

fn joined(paths: &[String]) -> String {
    paths.iter().map(|path| id_of(path)).collect::<Vec<_>>().join(",")
}

#[tokio::test]
async fn any_json_value_comes_back_as_it_was() {
    let api = Api::new().await;
    let values = json!([null, true, -1, 0.25, "ä\u{0}\"", [], {}, {"b": 1, "a": [{"c": null}]}, "x".repeat(9000)]);
    let messages: Vec<Value> =
        values.as_array().unwrap().iter().map(|value| json!({"body": value})).collect();
    api.post(PATH, json!({ "messages": messages })).await.is(201);
    let listed = api.get(&format!("{PATH}?echo=true")).await.is(200).json();
    assert_eq!(Value::from(bodies(&listed)), values);
    // Keys keep their order.
    assert!(listed.to_string().contains(r#"{"b":1,"a":[{"c":null}]}"#));
}

#[tokio::test]
async fn malformed_posts_store_nothing() {
    let api = Api::new().await;
    let deep =
        format!("{{\"messages\": [{{\"body\": {}1{}}}]}}", "[".repeat(50_000), "]".repeat(50_000));
    for body in [
        "",
        " ",
        "[",
        "[]",
        "{}",
        ".",
        "123",
        r#"{"messages": []}"#,
        r#"{"messages": {}}"#,
        r#"{"messages": [{"ttl": 60}]}"#,
        r#"{"messages": [{"body": 1, "ttl": 59}]}"#,
        r#"{"messages": [{"body": 1, "ttl": "60"}]}"#,
        r#"{"messages": [{"body": 1}, {"body": 2, "ttl": 1209601}]}"#,
        r#"{"messages": [{"body": 1, "delay": 901}]}"#,
        r#"{"messages": [{"body": 9223372036854775808}]}"#,
        &deep,
    ] {
        api.send("POST", PATH, body).await.is(400);
    }
    let ttl = json!({"messages": [{"body": 1, "ttl": "60"}]});
    let refused = api.post(PATH, ttl).await.fails(400, "Invalid request body").json();
    assert!(refused["description"].as_str().unwrap().contains("must be an integer"));
    let unreadable = api.send("POST", PATH, "{").await.is(400).json();
    assert!(unreadable["description"].as_str().unwrap().contains("body could not be parsed"));
    assert_eq!(api.get("/v2/queues").await.json()["queues"], json!([]));
}

#[tokio::test]
async fn a_post_is_limited_by_the_service_and_by_the_queue() {
    let api = Api::new().await;
    let message = |len: usize| json!({"messages": [{"body": "x".repeat(len)}]});
    let frame = message(0).to_string().len();
    api.post(PATH, message(262_144 - frame)).await.is(201);
    api.post(PATH, message(262_145 - frame)).await.is(400);
    api.send("PUT", "/v2/queues/small", r#"{"_max_messages_post_size": 100}"#).await.is(201);
    api.post("/v2/queues/small/messages", message(100 - frame)).await.is(201);
    api.post("/v2/queues/small/messages", message(101 - frame)).await.is(400);
}

#[tokio::test]
async fn a_delay_keeps_messages_out_of_claims_and_plain_listings() {
    let api = Api::new().await;
    let messages = json!({"messages": [{"body": "now"}, {"body": "later", "delay": 600}]});
    api.post(PATH, messages).await.is(201);
    let listed = api.get(&format!("{PATH}?echo=true")).await.json();
    assert_eq!(bodies(&listed), [json!("now")]);
    let listed = api.get(&format!("{PATH}?echo=true&include_delayed=true")).await.json();
    assert_eq!(bodies(&listed), [json!("now"), json!("later")]);
    let claimed = api.post("/v2/queues/q/claims", json!({})).await.is(201).json();
    assert_eq!(bodies(&claimed), [json!("now")]);
}

#[tokio::test]
async fn a_queue_s_defaults_hold_for_its_messages() {
    let api = Api::new().await;
    let metadata = r#"{"_default_message_ttl": 77, "_default_message_delay": 600}"#;
    api.send("PUT", "/v2/queues/q", metadata).await.is(201);
    api.post(PATH, json!({"messages": [{"body": 1}, {"body": 2, "delay": 0, "ttl": 80}]}))
        .await
        .is(201);
    let listed = api.get(&format!("{PATH}?echo=true")).await.json();
    assert_eq!(bodies(&listed), [json!(2)]);
    let listed = api.get(&format!("{PATH}?echo=true&include_delayed=true")).await.json();
    assert_eq!(
        (&listed["messages"][0]["ttl"], &listed["messages"][1]["ttl"]),
        (&json!(77), &json!(80))
    );
}

#[tokio::test]
async fn messages_are_got_by_id() {
    let api = Api::new().await;
    let paths = api.post_numbers("q", 0..3).await;
    let message = api.get(&paths[1]).await.is(200).json();
    assert_eq!((&message["body"], &message["href"]), (&json!(1), &json!(paths[1])));
    let mut keys: Vec<&String> = message.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["age", "body", "href", "id", "ttl"]);
    for wrong in ["nonsense", "%20", id_of(&paths[0]).get(1..).unwrap()] {
        api.get(&format!("{PATH}/{wrong}")).await.fails(404, "Not found");
    }
    api.get(&paths[0].replace("/q/", "/other/")).await.is(404);

    let some = format!("{PATH}?ids={},nonsense,{}", id_of(&paths[2]), id_of(&paths[0]));
    let found = api.get(&some).await.is(200).json();
    assert_eq!(found.as_object().unwrap().len(), 1);
    assert_eq!(found["messages"].as_array().unwrap().len(), 2);
    api.get(&format!("{PATH}?ids=nonsense")).await.is(404);
    let many = vec!["x"; 21].join(",");
    api.get(&format!("{PATH}?ids={many}")).await.is(400);
}

#[tokio::test]
async fn the_location_of_a_post_can_be_fetched() {
    let api = Api::new().await;
    let messages = json!({"messages": [{"body": 1}, {"body": 2}]});
    let posted = api.post(PATH, messages).await.is(201);
    let fetched = api.get(posted.header("location")).await.is(200).json();
    assert_eq!(bodies(&fetched), [json!(1), json!(2)]);
}

#[tokio::test]
async fn a_location_stays_short_enough_for_a_header() {
    let api = Api::new().await;
    let messages: Vec<Value> = (0..2000).map(|n| json!({"body": n})).collect();
    let posted = api.post(PATH, json!({ "messages": messages })).await.is(201);
    assert_eq!(posted.json()["resources"].as_array().unwrap().len(), 2000);
    assert!(posted.header("location").len() < 8192);
    let fetched = api.get(posted.header("location")).await.is(200).json();
    assert_eq!(fetched["messages"].as_array().unwrap().len(), 20);
}

#[tokio::test]
async fn deleting_what_is_not_there_is_fine() {
    let api = Api::new().await;
    let paths = api.post_numbers("q", 0..1).await;
    api.delete(&paths[0]).await.is(204);
    api.delete(&paths[0]).await.is(204);
    api.get(&paths[0]).await.is(404);
    api.delete(&format!("{PATH}/nonsense")).await.is(204);
    api.delete("/v2/queues/none/messages/nonsense").await.is(204);
}

#[tokio::test]
async fn several_messages_are_deleted_at_once_claimed_or_not() {
    let api = Api::new().await;
    let paths = api.post_numbers("q", 0..4).await;
    api.post("/v2/queues/q/claims?limit=1", json!({})).await.is(201);
    api.delete(&format!("{PATH}?ids={},nonsense", joined(&paths[0..3]))).await.is(204);
    let left = api.get(&format!("{PATH}?echo=1&include_claimed=1")).await.json();
    assert_eq!(bodies(&left), [json!(3)]);
    let many = vec!["x"; 21].join(",");
    for wrong in ["", "?ids=a&pop=1", "?pop=0", "?pop=21", "?pop=x", &format!("?ids={many}")] {
        api.delete(&format!("{PATH}{wrong}")).await.is(400);
    }
    api.delete(&format!("/v2/queues/none/messages?ids={}", joined(&paths))).await.is(204);
}

#[tokio::test]
async fn pop_takes_the_oldest_unclaimed_messages() {
    let api = Api::new().await;
    api.post_numbers("q", 0..4).await;
    api.post("/v2/queues/q/claims?limit=1", json!({})).await.is(201);
    let popped = api.delete(&format!("{PATH}?pop=2")).await.is(200).json();
    assert_eq!(bodies(&popped), [json!(1), json!(2)]);
    assert!(popped["messages"][0].get("href").is_none());
    assert!(popped["messages"][0]["claim_id"].is_null());
    let popped = api.delete(&format!("{PATH}?pop=2")).await.is(200).json();
    assert_eq!(bodies(&popped), [json!(3)]);
    let popped = api.delete(&format!("{PATH}?pop=2")).await.is(200).json();
    assert_eq!(popped, json!({"messages": []}));
    let popped = api.delete("/v2/queues/none/messages?pop=2").await.is(200).json();
    assert_eq!(popped, json!({"messages": []}));
}

#[tokio::test]
async fn ids_find_messages_whoever_posted_or_claimed_them_and_whatever_their_delay() {
    let api = Api::new().await;
    let messages = json!({"messages": [{"body": "claimed"}, {"body": "later", "delay": 600}]});
    let posted = api.post(PATH, messages).await.is(201);
    let claim = api.post("/v2/queues/q/claims", json!({})).await.is(201);
    let claim = id_of(claim.header("location")).to_owned();
    let found = api.get(posted.header("location")).await.is(200).json();
    assert_eq!(bodies(&found), [json!("claimed"), json!("later")]);
    let paths = crate::texts(&posted.json()["resources"]);
    let href = format!("{}?claim_id={claim}", paths[0]);
    assert_eq!(found["messages"][0]["href"], href);
    assert_eq!(api.get(&paths[0]).await.is(200).json()["href"], href);
    let listed = api.get(&format!("{PATH}?echo=1&include_claimed=1")).await.is(200).json();
    assert_eq!(listed["messages"][0]["href"], href);
    api.get(&paths[1]).await.is(200);
    for many in [vec!["x"; 20], vec!["x"; 21]] {
        let status = if many.len() == 20 { 404 } else { 400 };
        api.get(&format!("{PATH}?ids={}", many.join(","))).await.is(status);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_ends_with_its_ttl() {
    let api = Api::new().await;
    let posted = api.post(PATH, json!({"messages": [{"body": 1, "ttl": 60}]})).await.is(201);
    let path = crate::texts(&posted.json()["resources"]).remove(0);
    tokio::time::sleep(Duration::from_secs(59)).await;
    assert_eq!(api.get(&path).await.is(200).json()["age"], 59);
    tokio::time::sleep(Duration::from_secs(2)).await;
    api.get(&path).await.fails(404, "Not found");
    assert!(bodies(&api.get(&format!("{PATH}?echo=1")).await.is(200).json()).is_empty());
    api.post("/v2/queues/q/claims", json!({})).await.is(204);
    let stats = api.get("/v2/queues/q/stats").await.is(200).json();
    assert_eq!(stats, json!({"messages": {"claimed": 0, "free": 0, "total": 0}}));
    api.delete(&path).await.is(204);
}

#[tokio::test(start_paused = true)]
async fn a_delay_ends() {
    let api = Api::new().await;
    api.post(PATH, json!({"messages": [{"body": 1, "delay": 30}]})).await.is(201);
    api.post("/v2/queues/q/claims", json!({})).await.is(204);
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(bodies(&api.get(&format!("{PATH}?echo=1")).await.json()), [json!(1)]);
    api.post("/v2/queues/q/claims", json!({})).await.is(201);
}

#[tokio::test]
async fn a_service_may_want_claims_for_deleting_several_messages() {
    let mut options = ServiceOptions::default();
    options.message_delete_with_claim_id = true;
    let api = Api::with(options).await;
    let paths = api.post_numbers("q", 0..3).await;
    let claim = api.post("/v2/queues/q/claims?limit=2", json!({})).await.is(201);
    let claim = id_of(claim.header("location")).to_owned();
    let ids = joined(&paths);
    api.delete(&format!("{PATH}?ids={ids}")).await.fails(400, "Invalid API request");
    let with_claim = format!("{PATH}?ids={ids}&claim_ids={claim},nonsense");
    api.delete(&with_claim).await.fails(403, "Unable to delete");
    let left = api.get(&format!("{PATH}?echo=1&include_claimed=1")).await.json();
    assert_eq!(bodies(&left), [json!(2)]);
    let claimed = format!("{PATH}?ids={}&claim_ids={claim}", joined(&paths[0..2]));
    api.delete(&claimed).await.is(204);
}
