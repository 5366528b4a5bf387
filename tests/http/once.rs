//! The header `Idempotency-Key` (Q11).

use serde_json::{Value, json};

use crate::{Answer, Api, bodies, texts};

const PATH: &str = "/v2/queues/q/messages";

fn body(n: u32) -> Value {
    json!({"messages": [{"body": n}, {"body": n + 1}]})
}

impl Api {
    async fn post_once(&self, key: &str, body: Value) -> Answer {
        self.having("idempotency-key", None)
            .with_header("idempotency-key", key)
            .post(PATH, body)
            .await
    }

    fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    async fn all(&self) -> Vec<Value> {
        bodies(&self.get(&format!("{PATH}?echo=true&limit=20")).await.is(200).json())
    }
}

#[tokio::test]
async fn a_post_repeated_with_its_key_is_answered_alike_and_adds_nothing() {
    let api = Api::new().await;
    let first = api.post_once("\"a key\"", body(1)).await.fails(400, "Invalid API request");
    assert!(first.text.contains("255"));
    let first = api.post_once("\"a-key\"", body(1)).await.is(201);
    assert_eq!(texts(&first.json()["resources"]).len(), 2);
    for key in ["\"a-key\"", "a-key"] {
        let again = api.post_once(key, body(1)).await.is(201);
        assert_eq!(again.text, first.text);
        assert_eq!(again.header("location"), first.header("location"));
    }
    assert_eq!(api.all().await, [json!(1), json!(2)]);
    // Also when the messages are gone, and for another client of the project.
    api.delete(&format!("{PATH}?pop=2")).await.is(200);
    let other = api.having("client-id", Some(crate::OTHER_CLIENT));
    assert_eq!(other.post_once("a-key", body(1)).await.is(201).text, first.text);
    assert_eq!(api.all().await, [json!(null); 0]);
}

#[tokio::test]
async fn a_key_of_another_request_is_422_and_stores_nothing() {
    let api = Api::new().await;
    api.post_once("k", body(1)).await.is(201);
    let refused = api.post_once("k", body(2)).await;
    refused.fails(422, "Idempotency-Key is already used");
    assert_eq!(api.all().await.len(), 2);
    // Another project or queue has keys of its own.
    let stranger = api.having("x-project-id", Some("other"));
    stranger.post_once("k", body(2)).await.is(201);
    let path = "/v2/queues/r/messages";
    api.clone().with_header("idempotency-key", "k").post(path, body(3)).await.is(201);
}

#[tokio::test]
async fn posts_with_one_key_at_once_are_answered_alike() {
    let api = Api::new().await;
    let posts = (0..8).map(|_| api.post_once("k", body(1)));
    let answers = futures_util::future::join_all(posts).await;
    for answer in &answers {
        assert_eq!((answer.status.as_u16(), &answer.text), (201, &answers[0].text));
    }
    assert_eq!(api.all().await.len(), 2);
}

#[tokio::test]
async fn without_a_key_each_post_counts() {
    let api = Api::new().await;
    api.post(PATH, body(1)).await.is(201);
    api.post(PATH, body(1)).await.is(201);
    assert_eq!(api.all().await.len(), 4);
    api.post_once("", body(1)).await.is(400);
    api.post_once("\"unfinished", body(1)).await.is(400);
    let twice = api.clone().with_header("idempotency-key", "k");
    twice.with_header("idempotency-key", "l").post(PATH, body(1)).await.is(400);
    assert_eq!(api.all().await.len(), 4);
}
