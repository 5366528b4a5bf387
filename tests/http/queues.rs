//! Queues: create, show, change, list, stats, purge.

use serde_json::{Value, json};

use crate::{Api, PATCH_TYPE, bodies};

async fn patch(api: &Api, queue: &str, patch: Value) -> crate::Answer {
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

#[tokio::test]
async fn reserved_keys_are_checked_by_value_and_shown_with_their_defaults() {
    let api = Api::new().await;
    let defaults = json!({
        "_max_messages_post_size": 262_144, "_default_message_ttl": 3600,
        "_default_message_delay": 0, "_dead_letter_queue": null,
        "_dead_letter_queue_messages_ttl": null, "_max_claim_count": null,
        "_enable_encrypt_messages": false,
    });
    assert_eq!(api.get("/v2/queues/q").await.is(200).json(), defaults);
    for (key, fine, wrong) in [
        ("_max_messages_post_size", vec![1, 262_144], json!([0, 262_145, -1, "1", 1.5])),
        ("_default_message_ttl", vec![60, 1_209_600], json!([0, 59, 1_209_601, "60"])),
        ("_default_message_delay", vec![0, 900], json!([-1, 901, "1", [1]])),
        ("_dead_letter_queue_messages_ttl", vec![60, 1_209_600], json!([59, 1_209_601, "60"])),
        ("_max_claim_count", vec![1, 1000], json!(["2", 1.5, {"a": 1}])),
    ] {
        for value in wrong.as_array().unwrap() {
            let answer = api.send("PUT", "/v2/queues/q", json!({ key: value }).to_string()).await;
            assert_eq!(answer.status, 400, "{key}: {value}");
        }
        for value in fine {
            api.send("PUT", "/v2/queues/q", json!({ key: value }).to_string()).await.is(201);
            assert_eq!(api.get("/v2/queues/q").await.json()[key], value, "{key}");
            api.delete("/v2/queues/q").await.is(204);
        }
        // What is false by Python's idea counts as not set.
        for falsy in [json!(null), json!(false), json!(""), json!([]), json!({})] {
            api.send("PUT", "/v2/queues/q", json!({ key: falsy }).to_string()).await.is(201);
            assert_eq!(api.get("/v2/queues/q").await.json()[key], defaults[key], "{key}");
            api.delete("/v2/queues/q").await.is(204);
        }
    }
    for wrong in [
        json!({"_dead_letter_queue": 1}),
        json!({"_enable_encrypt_messages": "yes"}),
        json!({"_retry_policy": 1}),
    ] {
        api.send("PUT", "/v2/queues/q", wrong.to_string()).await.is(400);
    }
}

#[tokio::test]
async fn a_patch_names_a_key_by_a_pointer_of_two_parts() {
    let api = Api::new().await;
    api.send("PUT", "/v2/queues/q", r#"{"a": 1}"#).await.is(201);
    for path in
        ["/metadata", "/metadata/", "/metadata/a/", "/metadata/a/b", "metadata/a", "/x/a", ""]
    {
        for op in ["add", "replace", "remove"] {
            let change = json!([{"op": op, "path": path, "value": 1}]);
            patch(&api, "q", change).await.fails(400, "Invalid request body");
        }
    }
    for change in [
        json!([{"op": "move", "path": "/metadata/a", "value": 1}]),
        json!([{"op": "add", "path": "/metadata/a"}]),
        json!([{"path": "/metadata/a", "value": 1}]),
        json!([{"op": "add", "value": 1}]),
        json!([1]),
    ] {
        patch(&api, "q", change).await.fails(400, "Invalid request body");
    }
    let escaped = json!([{"op": "add", "path": "/metadata/b~1c~0d", "value": 2}]);
    assert_eq!(patch(&api, "q", escaped).await.is(200).json()["b/c~d"], 2);
    let unset = json!([{"op": "remove", "path": "/metadata/_max_claim_count"}]);
    patch(&api, "q", unset).await.is(200);
    for op in ["replace", "remove"] {
        let missing = json!([{"op": op, "path": "/metadata/none", "value": 1}]);
        patch(&api, "q", missing).await.fails(409, "Resource conflict");
    }
    assert_eq!(api.get("/v2/queues/q").await.json()["a"], 1);
}

#[tokio::test]
async fn links_of_a_queue_list_repeat_the_parameters() {
    let api = Api::new().await;
    let empty = api.get("/v2/queues?with_count=true").await.is(200).json();
    assert_eq!(empty, json!({"queues": [], "links": []}));
    for name in ["a", "ab", "b"] {
        api.send("PUT", &format!("/v2/queues/{name}"), r#"{"x": 1}"#).await.is(201);
    }
    let page = api.get("/v2/queues?detailed=true&limit=1&name=a&with_count=1&x=1").await.json();
    assert_eq!(page["count"], 2);
    let href = page["links"][0]["href"].as_str().unwrap();
    assert!(href.starts_with("/v2/queues?") && href.ends_with("marker=a"), "{href}");
    for part in ["detailed=true", "limit=1", "name=a", "with_count=1"] {
        assert!(href.contains(part), "{href}");
    }
    let next = api.get(href).await.is(200).json();
    assert_eq!(next["queues"][0]["name"], "ab");
    assert_eq!(next["queues"][0]["metadata"], json!({"x": 1}));
    // A last page has a link all the same; the page behind it is empty.
    let last = api.get(next["links"][0]["href"].as_str().unwrap()).await.is(200).json();
    assert_eq!(last, json!({"queues": [], "links": [], "count": 2}));
    // A queue that is not there is a place in the order.
    assert_eq!(api.get("/v2/queues?marker=aa").await.json()["queues"][0]["name"], "ab");
}

#[tokio::test]
async fn names_of_queues_have_64_characters_of_a_small_alphabet() {
    let api = Api::new().await;
    let longest = "x".repeat(64);
    for fine in ["a", "A.b-c_9", longest.as_str()] {
        api.send("PUT", &format!("/v2/queues/{fine}"), "").await.is(201);
    }
    let longer = "x".repeat(65);
    for wrong in ["a%20b", "a%2Fb", "%C3%BC", "%FF", "a+b", "$", longer.as_str()] {
        let answer = api.send("PUT", &format!("/v2/queues/{wrong}"), "").await;
        answer.fails(400, "Invalid queue identification");
    }
}

#[tokio::test]
async fn a_purge_of_many_messages_leaves_none() {
    let api = Api::new().await;
    api.post_numbers("q", 0..700).await;
    let long = json!({"messages": [{"body": "x".repeat(200_000)}]});
    for _ in 0..10 {
        api.post("/v2/queues/q/messages", long.clone()).await.is(201);
    }
    api.send("POST", "/v2/queues/q/purge", "").await.is(204);
    let stats = api.get("/v2/queues/q/stats").await.is(200).json();
    assert_eq!(stats["messages"]["total"], 0);
}
