//! The life of a claim.

use std::time::Duration;

use roundelay::http::ServiceOptions;
use serde_json::{Value, json};

use crate::{Api, bodies};

const CLAIMS: &str = "/v2/queues/q/claims";

async fn claim(api: &Api, limit: usize) -> (String, Value) {
    let path = format!("{CLAIMS}?limit={limit}");
    let answer = api.post(&path, json!({"ttl": 100, "grace": 60})).await.is(201);
    (answer.header("location").to_owned(), answer.json())
}

#[tokio::test]
async fn a_claim_keeps_messages_from_others_until_it_is_released() {
    let api = Api::new().await;
    api.post_numbers("q", 0..3).await;
    let (path, claimed) = claim(&api, 2).await;
    assert_eq!(bodies(&claimed), [json!(0), json!(1)]);
    assert_eq!(claimed.as_object().unwrap().len(), 1);
    let id = path.rsplit('/').next().unwrap();
    let href = claimed["messages"][0]["href"].as_str().unwrap();
    assert!(href.ends_with(&format!("?claim_id={id}")), "{href}");
    assert_eq!(bodies(&claim(&api, 5).await.1), [json!(2)]);
    let none = api.post(CLAIMS, json!({})).await.is(204);
    assert!(none.headers.get("location").is_none() && none.text.is_empty());

    let shown = api.get(&path).await.is(200).json();
    assert_eq!((&shown["href"], &shown["ttl"]), (&json!(path), &json!(100)));
    assert!(shown["age"].as_u64().unwrap() < 50);
    assert_eq!(bodies(&shown), [json!(0), json!(1)]);

    api.delete(&path).await.is(204);
    api.delete(&path).await.is(204);
    api.get(&path).await.fails(404, "Not found");
    // They are at their old place again.
    assert_eq!(bodies(&claim(&api, 5).await.1), [json!(0), json!(1)]);
}

#[tokio::test]
async fn a_claim_is_renewed_with_times_of_its_own() {
    let api = Api::new().await;
    api.post_numbers("q", 0..1).await;
    let (path, _) = claim(&api, 1).await;
    api.send("PATCH", &path, r#"{"ttl": 200, "grace": 60}"#).await.is(204);
    assert_eq!(api.get(&path).await.is(200).json()["ttl"], 200);
    api.send("PATCH", &path, "{}").await.is(204);
    assert_eq!(api.get(&path).await.is(200).json()["ttl"], 300);
    for wrong in ["", "[]", r#"{"ttl": 59}"#, r#"{"ttl": 43201}"#, r#"{"grace": 59}"#] {
        api.send("PATCH", &path, wrong).await.is(400);
    }
}

#[tokio::test]
async fn claims_that_never_were_are_not_found() {
    let api = Api::new().await;
    api.post_numbers("q", 0..1).await;
    let unknown = format!("{CLAIMS}/nonsense");
    api.get(&unknown).await.fails(404, "Not found");
    api.send("PATCH", &unknown, "{}").await.fails(404, "Not found");
    api.delete(&unknown).await.is(204);
    let (path, _) = claim(&api, 1).await;
    let elsewhere = path.replace("/q/", "/other/");
    api.get(&elsewhere).await.is(404);
    api.delete(&elsewhere).await.is(204);
    api.get(&path).await.is(200);
}

#[tokio::test]
async fn only_the_holder_of_a_claim_deletes_its_messages() {
    let api = Api::new().await;
    let paths = api.post_numbers("q", 0..3).await;
    let (first, claimed) = claim(&api, 1).await;
    let (second, _) = claim(&api, 1).await;
    let id = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    let with = |path: &str, claim: &str| format!("{path}?claim_id={claim}");
    let unable = "Unable to delete";
    api.delete(&paths[0]).await.fails(403, unable);
    api.delete(&with(&paths[0], "nonsense")).await.fails(400, unable);
    api.delete(&with(&paths[0], &id(&second))).await.fails(403, unable);
    api.delete(&with(&paths[2], &id(&first))).await.fails(400, unable);
    api.get(&paths[0]).await.is(200);
    api.delete(claimed["messages"][0]["href"].as_str().unwrap()).await.is(204);
    api.get(&paths[0]).await.is(404);
    api.delete(&second).await.is(204);
    api.delete(&with(&paths[1], &id(&second))).await.fails(400, unable);
    api.delete(&paths[1]).await.is(204);
}

#[tokio::test]
async fn a_claim_shrinks_as_its_messages_are_deleted() {
    let api = Api::new().await;
    api.post_numbers("q", 0..2).await;
    let (path, claimed) = claim(&api, 2).await;
    api.delete(claimed["messages"][0]["href"].as_str().unwrap()).await.is(204);
    assert_eq!(bodies(&api.get(&path).await.is(200).json()), [json!(1)]);
}

#[tokio::test]
async fn a_message_outlives_the_claim_by_its_grace() {
    let api = Api::new().await;
    let message = json!({"messages": [{"body": 1, "ttl": 60}, {"body": 2, "ttl": 3000}]});
    api.post("/v2/queues/q/messages", message).await.is(201);
    let claimed = api.post(CLAIMS, json!({"ttl": 100, "grace": 70})).await.is(201).json();
    let ttl = claimed["messages"][0]["ttl"].as_u64().unwrap();
    assert!((169..=171).contains(&ttl), "{ttl}");
    assert_eq!(claimed["messages"][1]["ttl"], 3000);
}

#[tokio::test]
async fn malformed_claims_are_refused() {
    let api = Api::new().await;
    api.post_numbers("q", 0..1).await;
    for body in ["[", "[]", ".", r#"{"ttl": "60"}"#, r#"{"ttl": 59}"#, r#"{"grace": 43201}"#] {
        api.send("POST", CLAIMS, body).await.is(400);
    }
    for query in ["limit=0", "limit=21", "limit=x"] {
        api.send("POST", &format!("{CLAIMS}?{query}"), "").await.is(400);
    }
    api.send("POST", "/v2/queues/none/claims", "").await.is(204);
    api.send("POST", CLAIMS, "").await.is(201);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_is_over_gives_its_messages_back() {
    let api = Api::new().await;
    let paths = api.post_numbers("q", 0..2).await;
    let (path, claimed) = claim(&api, 1).await;
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert_eq!(api.get(&path).await.is(200).json()["age"], 50);
    api.send("PATCH", &path, r#"{"ttl": 100, "grace": 60}"#).await.is(204);
    assert_eq!(api.get(&path).await.is(200).json()["age"], 0);
    tokio::time::sleep(Duration::from_secs(99)).await;
    api.get(&path).await.is(200);
    tokio::time::sleep(Duration::from_secs(2)).await;
    api.get(&path).await.fails(404, "Not found");
    api.send("PATCH", &path, "{}").await.fails(404, "Not found");
    api.delete(&path).await.is(204);
    let href = claimed["messages"][0]["href"].as_str().unwrap();
    api.delete(href).await.fails(400, "Unable to delete");
    // The message lives on, at its old place.
    api.get(&paths[0]).await.is(200);
    assert_eq!(bodies(&claim(&api, 5).await.1), [json!(0), json!(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_extends_the_life_of_messages() {
    let api = Api::new().await;
    let message = json!({"messages": [{"body": 1, "ttl": 60}]});
    let posted = api.post("/v2/queues/q/messages", message).await.is(201);
    let message = crate::texts(&posted.json()["resources"]).remove(0);
    let (path, _) = claim(&api, 1).await;
    // The claim's 100 s and its grace of 60 s outlast the message's own 60 s.
    tokio::time::sleep(Duration::from_secs(90)).await;
    api.get(&message).await.is(200);
    api.send("PATCH", &path, r#"{"ttl": 200, "grace": 100}"#).await.is(204);
    tokio::time::sleep(Duration::from_secs(290)).await;
    api.get(&message).await.is(200);
    tokio::time::sleep(Duration::from_secs(20)).await;
    api.get(&message).await.is(404);
}

#[tokio::test]
async fn messages_of_a_released_claim_go_before_later_ones_and_to_one_claim_only() {
    let api = Api::new().await;
    api.post_numbers("q", 0..3).await;
    let (first, _) = claim(&api, 1).await;
    let (_, second) = claim(&api, 1).await;
    assert_eq!(bodies(&second), [json!(1)]);
    api.delete(&first).await.is(204);
    // What the second claim holds is passed over.
    assert_eq!(bodies(&claim(&api, 5).await.1), [json!(0), json!(2)]);
}

#[tokio::test]
async fn a_claim_without_messages_is_still_there() {
    let api = Api::new().await;
    api.post_numbers("q", 0..1).await;
    let (path, claimed) = claim(&api, 1).await;
    api.delete(claimed["messages"][0]["href"].as_str().unwrap()).await.is(204);
    assert!(bodies(&api.get(&path).await.is(200).json()).is_empty());
    api.delete(&path).await.is(204);
    api.get(&path).await.is(404);
}

#[tokio::test]
async fn a_claim_without_times_lasts_as_long_as_the_service_says() {
    let api = Api::new().await;
    api.post_numbers("q", 0..11).await;
    let claimed = api.send("POST", CLAIMS, "").await.is(201);
    assert_eq!(bodies(&claimed.json()).len(), 10);
    assert_eq!(api.get(claimed.header("location")).await.json()["ttl"], 300);
    let mut options = ServiceOptions::default();
    (options.default_claim_ttl, options.max_claim_ttl) = (70, 80);
    let api = Api::with(options).await;
    api.post_numbers("q", 0..1).await;
    api.post(CLAIMS, json!({"ttl": 81})).await.is(400);
    let claimed = api.send("POST", CLAIMS, "").await.is(201);
    assert_eq!(api.get(claimed.header("location")).await.json()["ttl"], 70);
}
