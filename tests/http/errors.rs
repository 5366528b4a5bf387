//! What is answered when something is wrong: statuses, titles, descriptions, parameters.

use serde_json::{Value, json};

use crate::{Api, PATCH_TYPE};

const MESSAGES: &str = "/v2/queues/q/messages";

#[tokio::test]
async fn every_kind_of_error_has_its_status_and_title() {
    let api = Api::new().await;
    let paths = api.post_numbers("q", 0..2).await;
    api.post("/v2/queues/q/claims?limit=1", json!({})).await.is(201);
    let patch = json!([{"op": "remove", "path": "/metadata/none"}]).to_string();
    let patching = api.having("content-type", Some(PATCH_TYPE));
    for (answer, status, title) in [
        (api.get("/v2/queues?limit=21").await, 400, "Invalid API request"),
        (api.send("POST", MESSAGES, "{").await, 400, "Invalid request body"),
        (api.get("/v2/queues?limit=x").await, 400, "Invalid parameter"),
        (api.get("/v2/queues/q/messages/none").await, 404, "Not found"),
        (patching.send("PATCH", "/v2/queues/q", patch).await, 409, "Resource conflict"),
        (api.delete(&paths[0]).await, 403, "Unable to delete"),
        (api.delete(&format!("{}?claim_id=none", paths[1])).await, 400, "Unable to delete"),
        (api.send("PATCH", "/v2/queues/q", "[]").await, 415, "415 Unsupported Media Type"),
        (api.get("/v2/queues/$").await, 400, "Invalid queue identification"),
    ] {
        let answer = answer.fails(status, title);
        assert_eq!(answer.header("content-type"), "application/json");
        let body = answer.json();
        let description = body["description"].as_str().unwrap();
        assert!(description.ends_with('.') && !description.contains('{'), "{description}");
        assert_eq!(body.as_object().unwrap().len(), 2, "{body}");
    }
}

#[tokio::test]
async fn a_store_that_fails_is_503_and_says_when_to_come_again() {
    let api = Api::new().await;
    api.post_numbers("q", 0..1).await;
    api.store.close().await;
    let post = json!({"messages": [{"body": 1}]});
    for answer in [
        api.post(MESSAGES, post).await,
        api.get(MESSAGES).await,
        api.post("/v2/queues/q/claims", json!({})).await,
        api.get("/v2/queues").await,
        api.get("/v2/queues/q/stats").await,
        api.send("PUT", "/v2/queues/q2", "").await,
    ] {
        let answer = answer.fails(503, "Service temporarily unavailable");
        assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
        let body = answer.json();
        let description = body["description"].as_str().unwrap();
        assert!(description.contains("Nothing was changed"), "{description}");
        assert!(description.ends_with("Please try again in a few seconds."), "{description}");
    }
}

#[tokio::test]
async fn parameters_are_read_by_the_same_rules_everywhere() {
    let api = Api::new().await;
    api.post_numbers("q", 0..3).await;
    // An empty value counts as absent; of a repeated one, one counts; order does not matter.
    for fine in [
        "limit=&marker=&echo=&include_claimed=",
        "limit=2&limit=2",
        "echo=t&limit=1",
        "limit=1&echo=on",
        "unknown=1",
        "limit",
    ] {
        api.get(&format!("{MESSAGES}?{fine}")).await.is(200);
    }
    for (word, shown) in [
        ("true", 3),
        ("True", 3),
        ("t", 3),
        ("yes", 3),
        ("y", 3),
        ("1", 3),
        ("on", 3),
        ("false", 0),
        ("False", 0),
        ("f", 0),
        ("no", 0),
        ("n", 0),
        ("0", 0),
        ("off", 0),
    ] {
        let page = api.get(&format!("{MESSAGES}?echo={word}")).await.is(200).json();
        assert_eq!(page["messages"].as_array().unwrap().len(), shown, "{word}");
    }
    for wrong in ["TRUE", "FALSE", "2", "T", "N", "None", "%00"] {
        let answer = api.get(&format!("{MESSAGES}?echo={wrong}")).await;
        answer.fails(400, "Invalid parameter");
    }
    for wrong in ["x", "1.5", "5,7", "10000000000000000000", "-10000000000000000000", "0x1"] {
        for path in ["/v2/queues", MESSAGES] {
            let answer = api.get(&format!("{path}?limit={wrong}")).await;
            answer.fails(400, "Invalid parameter");
        }
        let answer = api.send("POST", &format!("/v2/queues/q/claims?limit={wrong}"), "").await;
        answer.fails(400, "Invalid parameter");
    }
}

#[tokio::test]
async fn lists_of_ids_are_separated_by_commas_and_by_repetition() {
    let api = Api::new().await;
    let paths = api.post_numbers("q", 0..4).await;
    let ids: Vec<&str> = paths.iter().map(|path| crate::id_of(path)).collect();
    let count = |answer: Value| answer["messages"].as_array().unwrap().len();
    let both = format!("{MESSAGES}?ids={},{}&ids={}", ids[0], ids[1], ids[2]);
    assert_eq!(count(api.get(&both).await.is(200).json()), 3);
    // An encoded comma is part of an id, and no id has one.
    let encoded = format!("{MESSAGES}?ids={}%2C{}&ids={}", ids[0], ids[1], ids[3]);
    assert_eq!(count(api.get(&encoded).await.is(200).json()), 1);
}

#[tokio::test]
async fn a_body_must_be_an_object_or_an_array_of_numbers_that_fit() {
    let api = Api::new().await;
    for (method, path) in [
        ("PUT", "/v2/queues/new"),
        ("POST", MESSAGES),
        ("POST", "/v2/queues/q/claims"),
        ("POST", "/v2/queues/q/purge"),
        ("PATCH", "/v2/queues/q/claims/none"),
    ] {
        for scalar in ["1", "\"x\"", "null", "true", "[", "{", ".", "{]", "\u{feff}{}", "NaN"] {
            let refused = api.send(method, path, scalar).await;
            let refused = refused.fails(400, "Invalid request body").json();
            let description = refused["description"].as_str().unwrap();
            assert!(description.contains("body could not be parsed"), "{scalar}: {description}");
        }
        let wide = r#"{"ttl": 9223372036854775808, "x": [{"y": -9223372036854775809}]}"#;
        api.send(method, path, wide).await.fails(400, "Invalid request body");
    }
    for path in [MESSAGES] {
        let refused = api.send("POST", path, "").await.fails(400, "Invalid request body").json();
        assert_eq!(refused["description"], "Request body can not be empty.");
    }
}
