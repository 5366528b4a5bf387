//! Queues: create, show, change, list, stats, purge.

use serde_json::{Value, json};

use super::{Api, PATCH_TYPE, bodies};

async fn patch(api: &Api, queue: &str, patch: Value) -> super::Answer {
    let api = api.having("content-type", Some(PATCH_TYPE));
    api.send("PATCH", &format!("/v2/queues/{queue}"), patch.to_string()).await
}

#[tokio::test]
async fn creating_again_leaves_the_metadata_alone() {
    let api = Api::new().await;
    let created = api.send("PUT", "/v2/queues/q", r#"{"a": 1}"#).await.is(201);
    assert_eq!((created.header("location"), created.text.as_str()), ("/v2/queues/q", ""));
    let again = api.send("PUT", "/v2/queues/q", r#"{"a": 2}"#).await.is(204);
    assert_eq!(again.header("location"), "/v2/queues/q");
    assert_eq!(api.get("/v2/queues/q").await.is(200).json()["a"], 1);
}

#[tokio::test]
async fn a_queue_that_does_not_exist_shows_the_defaults() {
    let api = Api::new().await;
    let shown = api.get("/v2/queues/q").await.is(200).json();
    assert_eq!(shown.as_object().unwrap().len(), 7);
    assert_eq!(shown["_default_message_ttl"], 3600);
    assert_eq!(shown["_max_messages_post_size"], 262_144);
    api.delete("/v2/queues/q").await.is(204);
    let stats = api.get("/v2/queues/q/stats").await.is(200).json();
    assert_eq!(stats, json!({"messages": {"claimed": 0, "free": 0, "total": 0}}));
    let messages = api.get("/v2/queues/q/messages").await.is(200).json();
    assert_eq!(messages, json!({"messages": [], "links": []}));
}

#[tokio::test]
async fn malformed_metadata_are_refused() {
    let api = Api::new().await;
    for body in ["[]", "{", ".", "  ", "1", r#"{"_default_message_ttl": 1}"#] {
        api.send("PUT", "/v2/queues/q", body).await.is(400);
    }
    let long = json!({"x": "y".repeat(65_536)}).to_string();
    api.send("PUT", "/v2/queues/q", long).await.is(400);
    let encrypted = r#"{"_enable_encrypt_messages": true}"#;
    api.send("PUT", "/v2/queues/q", encrypted).await.is(400);
    assert_eq!(api.get("/v2/queues").await.json()["queues"], json!([]));
}

#[tokio::test]
async fn a_patch_changes_metadata_in_one_step() {
    let api = Api::new().await;
    let add = json!([{"op": "add", "path": "/metadata/a", "value": 1}]);
    patch(&api, "q", add.clone()).await.fails(404, "Not found");
    api.send("PUT", "/v2/queues/q", r#"{"old": 0}"#).await.is(201);
    let patched = patch(
        &api,
        "q",
        json!([
            {"op": "add", "path": "/metadata/a", "value": {"b": [1]}},
            {"op": "remove", "path": "/metadata/old"},
            {"op": "replace", "path": "/metadata/_default_message_ttl", "value": 61},
        ]),
    );
    let patched = patched.await.is(200).json();
    assert_eq!((&patched["a"], &patched["_default_message_ttl"]), (&json!({"b": [1]}), &json!(61)));
    assert_eq!(api.get("/v2/queues/q").await.json(), patched);
    // The second change fails, so the first is not made.
    let half = json!([
        {"op": "add", "path": "/metadata/half", "value": 1},
        {"op": "replace", "path": "/metadata/none", "value": 1},
    ]);
    patch(&api, "q", half).await.fails(409, "Resource conflict");
    let out_of_range = json!([{"op": "add", "path": "/metadata/_default_message_ttl", "value": 1}]);
    patch(&api, "q", out_of_range).await.is(400);
    assert_eq!(api.get("/v2/queues/q").await.json(), patched);
}

#[tokio::test]
async fn a_patch_needs_its_own_type_and_an_array() {
    let api = Api::new().await;
    api.send("PUT", "/v2/queues/q", "").await.is(201);
    api.send("PATCH", "/v2/queues/q", "[]").await.fails(415, "415 Unsupported Media Type");
    patch(&api, "q", json!({"op": "add"})).await.fails(400, "Invalid request body");
    let typed = api.having("content-type", Some(PATCH_TYPE));
    let empty = typed.send("PATCH", "/v2/queues/q", "").await.is(400).json();
    assert_eq!(empty["description"], "PATCH body could not be empty for update.");
}

#[tokio::test]
async fn queues_are_listed_by_name_page_by_page() {
    let api = Api::new().await;
    for name in ["c", "a", "b.1", "b-1", "B"] {
        api.send("PUT", &format!("/v2/queues/{name}"), "").await.is(201);
    }
    let mut path = "/v2/queues?limit=2&with_count=true".to_owned();
    let mut names = Vec::new();
    loop {
        let page = api.get(&path).await.is(200).json();
        assert_eq!(page["count"], 5);
        let queues = page["queues"].as_array().unwrap();
        names.extend(queues.iter().map(|queue| queue["name"].as_str().unwrap().to_owned()));
        assert!(queues.iter().all(|queue| queue.get("metadata").is_none()));
        let Some(link) = page["links"].get(0) else {
            assert!(queues.is_empty());
            break;
        };
        assert_eq!(link["rel"], "next");
        path = link["href"].as_str().unwrap().to_owned();
    }
    assert_eq!(names, ["B", "a", "b-1", "b.1", "c"]);
    let behind = api.get("/v2/queues?marker=b").await.is(200).json();
    assert_eq!(behind["queues"][0]["name"], "b-1");
    for wrong in ["limit=0", "limit=21", "limit=x", "limit=10000000000000000000", "detailed=TRUE"] {
        api.get(&format!("/v2/queues?{wrong}")).await.is(400);
    }
}

#[tokio::test]
async fn listings_can_be_filtered_by_name_and_metadata() {
    let api = Api::new().await;
    for (name, metadata) in [
        ("jobs.a", json!({"team": "a", "n": 1})),
        ("jobs.b", json!({"team": "b", "n": 1})),
        ("mail", json!({"team": "a"})),
    ] {
        api.send("PUT", &format!("/v2/queues/{name}"), metadata.to_string()).await.is(201);
    }
    for (query, wanted) in [
        ("name=jobs", vec!["jobs.a", "jobs.b"]),
        ("name=.", vec!["jobs.a", "jobs.b"]),
        ("team=a", vec!["jobs.a", "mail"]),
        ("team=a&n=1", vec!["jobs.a"]),
        ("limit=1&n=1&marker=jobs.a", vec!["jobs.b"]),
        ("colour=red", vec![]),
    ] {
        let page = api.get(&format!("/v2/queues?{query}")).await.is(200).json();
        let queues = page["queues"].as_array().unwrap();
        let names: Vec<_> = queues.iter().map(|queue| queue["name"].as_str().unwrap()).collect();
        assert_eq!(names, wanted, "{query}");
    }
}

#[tokio::test]
async fn stats_count_free_and_claimed_messages() {
    let api = Api::new().await;
    let paths = api.post_numbers("q", 0..5).await;
    api.post("/v2/queues/q/claims?limit=2", json!({})).await.is(201);
    let delayed = json!({"messages": [{"body": "later", "delay": 600}]});
    api.post("/v2/queues/q/messages", delayed).await.is(201);
    let stats = api.get("/v2/queues/q/stats").await.is(200).json()["messages"].clone();
    assert_eq!(
        (&stats["claimed"], &stats["free"], &stats["total"]),
        (&2.into(), &4.into(), &6.into())
    );
    assert_eq!(stats["oldest"]["href"], paths[0].as_str());
    assert!(stats["newest"]["age"].is_u64());
    let created = stats["oldest"]["created"].as_str().unwrap();
    assert!(created.len() == 20 && created.ends_with('Z') && created.as_bytes()[10] == b'T');
}

#[tokio::test]
async fn a_purge_leaves_claimed_messages() {
    let api = Api::new().await;
    api.post_numbers("q", 0..7).await;
    api.post("/v2/queues/q/claims?limit=2", json!({})).await.is(201);
    let kept = json!({"resource_types": ["subscriptions"]});
    api.post("/v2/queues/q/purge", kept).await.is(204);
    let before = api.get("/v2/queues/q/stats").await.json();
    assert_eq!(before["messages"]["total"], 7);
    for wrong in [json!({}), json!({"resource_types": ["x"]}), json!({"resource_types": 1})] {
        api.post("/v2/queues/q/purge", wrong).await.is(400);
    }
    api.send("POST", "/v2/queues/q/purge", "").await.is(204);
    let left = api.get("/v2/queues/q/messages?echo=1&include_claimed=1").await.json();
    assert_eq!(bodies(&left), [json!(0), json!(1)]);
    api.send("POST", "/v2/queues/none/purge", "").await.is(204);
}

#[tokio::test]
async fn deleting_a_queue_deletes_its_messages() {
    let api = Api::new().await;
    let paths = api.post_numbers("q", 0..3).await;
    api.delete("/v2/queues/q").await.is(204);
    api.get(&paths[0]).await.is(404);
    api.post_numbers("q", 5..6).await;
    let listed = api.get("/v2/queues/q/messages?echo=true").await.is(200).json();
    assert_eq!(bodies(&listed), [json!(5)]);
}
