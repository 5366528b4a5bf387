//! The tour that a newcomer takes with curl: every call once, in the order of the manual.

use serde_json::json;

use crate::{Api, PATCH_TYPE, bodies, id_of, texts, with_admin};

#[tokio::test]
async fn a_tour_of_the_service() {
    let api = Api::new().await;
    api.send("PUT", "/v2/queues/jobs", r#"{"team": "a"}"#).await.is(201);
    api.get("/v2/ping").await.is(204);

    let messages = json!({"messages": [
        {"body": {"event": "started", "weight": 0.1}, "ttl": 300},
        {"body": "two", "ttl": 60},
        {"body": null},
    ]});
    let posted = api.post("/v2/queues/jobs/messages", messages).await.is(201);
    let resources = texts(&posted.json()["resources"]);
    let ids: Vec<&str> = resources.iter().map(|path| id_of(path)).collect();
    assert_eq!(
        posted.header("location"),
        format!("/v2/queues/jobs/messages?ids={}", ids.join(","))
    );
    assert_eq!(posted.json().as_object().unwrap().len(), 1);

    let listed = api.get("/v2/queues/jobs/messages?echo=true").await.is(200).json();
    assert_eq!(
        bodies(&listed),
        [json!({"event": "started", "weight": 0.1}), json!("two"), json!(null)]
    );
    assert_eq!(listed["messages"][1]["ttl"], 60);
    assert_eq!(listed["messages"][2]["ttl"], 3600);
    assert_eq!(listed["messages"][0]["href"], resources[0].as_str());

    let stats = api.get("/v2/queues/jobs/stats").await.is(200).json();
    assert_eq!(stats["messages"]["free"], 3);

    let claim = api.post("/v2/queues/jobs/claims?limit=2", json!({"ttl": 60, "grace": 60})).await;
    let claim = claim.is(201);
    assert_eq!(claim.json()["messages"].as_array().unwrap().len(), 2);
    for message in claim.json()["messages"].as_array().unwrap() {
        api.delete(message["href"].as_str().unwrap()).await.is(204);
    }
    let popped = api.delete("/v2/queues/jobs/messages?pop=5").await.is(200).json();
    assert_eq!(bodies(&popped), [json!(null)]);

    let patching = api.having("content-type", Some(PATCH_TYPE));
    let patch = json!([{"op": "replace", "path": "/metadata/team", "value": "b"}]);
    let patched = patching.send("PATCH", "/v2/queues/jobs", patch.to_string()).await.is(200);
    assert_eq!(patched.json()["team"], "b");

    let queues = api.get("/v2/queues?detailed=true").await.is(200).json();
    assert_eq!(
        queues["queues"][0],
        json!({
            "name": "jobs", "href": "/v2/queues/jobs", "metadata": {"team": "b"},
        })
    );
    api.delete("/v2/queues/jobs").await.is(204);
    assert_eq!(api.get("/v2/queues").await.is(200).json(), json!({"queues": [], "links": []}));
}

#[tokio::test]
async fn the_home_document_leads_to_a_queue() {
    let api = Api::new().await;
    let home = api.get("/v2/").await.is(200);
    assert_eq!(home.header("content-type"), "application/json-home");
    assert_eq!(home.header("cache-control"), "max-age=86400");
    for (name, resource) in home.json()["resources"].as_object().unwrap() {
        assert!(name.starts_with("rel/") && resource["href-vars"].is_object(), "{name}");
        assert!(resource["href-template"].as_str().unwrap().starts_with("/v2/"), "{name}");
        assert!(!resource["hints"]["allow"].as_array().unwrap().is_empty(), "{name}");
        assert_eq!(resource["hints"]["formats"], json!({"application/json": {}}), "{name}");
    }
    let template = home.json()["resources"]["rel/queue"]["href-template"].clone();
    let path = template.as_str().unwrap().replace("{queue_name}", "q");
    api.get(&path).await.is(200);
}

#[tokio::test]
async fn versions_need_no_headers() {
    let api = Api::new().await.having("client-id", None).having("x-project-id", None);
    let wanted = json!({"versions": [{
        "id": "2", "status": "CURRENT", "updated": "2014-9-24T04:06:47Z",
        "media-types": [{
            "base": "application/json",
            "type": "application/vnd.openstack.messaging-v2+json",
        }],
        "links": [{"href": "/v2/", "rel": "self"}],
    }]});
    assert_eq!(api.get("/").await.is(300).json(), wanted);
}

#[tokio::test]
async fn a_ping_is_answered_as_long_as_posts_can_be_taken() {
    let api = Api::new().await;
    for method in ["GET", "HEAD"] {
        assert_eq!(api.send(method, "/v2/ping", "").await.is(204).text, "");
        api.having("client-id", None).send(method, "/v2/ping", "").await.is(400);
        api.having("x-project-id", None).send(method, "/v2/ping", "").await.is(400);
    }
    api.store.close().await;
    api.get("/v2/ping").await.fails(503, "Service temporarily unavailable");
}

#[tokio::test]
async fn health_tries_every_kind_of_call_and_leaves_nothing_behind() {
    let api = with_admin().await.having("x-roles", Some("admin"));
    let health = api.get("/v2/health").await.is(200).json();
    assert_eq!(health["storage_reachable"], true);
    assert_eq!(health["pool"]["healthy"], true, "{health}");
    assert_eq!(health["pool"]["segments_lost"], 0);
    let tried = health["operation_status"].as_object().unwrap();
    let names: Vec<&str> = tried.keys().map(String::as_str).collect();
    let wanted = [
        "create_queue",
        "post_messages",
        "claim_messages",
        "list_messages",
        "delete_messages",
        "delete_claim",
        "bulk_delete_messages",
        "delete_queue",
    ];
    assert_eq!(names, wanted);
    for (name, operation) in tried {
        assert_eq!(operation["succeeded"], true, "{name}");
        assert!(operation["seconds"].is_f64() && operation["ref"].is_null(), "{name}");
    }
    api.store.close().await;
    let health = api.get("/v2/health").await.is(200).json();
    assert_eq!(health["storage_reachable"], false);
    let posting = &health["operation_status"]["post_messages"];
    assert!(posting["succeeded"] == false && posting["ref"].is_string(), "{posting}");
}

#[tokio::test]
async fn health_leaves_nothing_behind_when_its_client_goes_away() {
    let api = crate::with_admin().await.having("x-roles", Some("admin"));
    let project = roundelay::Project::new("roundelay\nhealth").unwrap();
    let queues = || async { api.store.queues(&project, None, 10).await.unwrap().queues.len() };
    let seen = async {
        while queues().await == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        () = seen => {}
        answer = api.get("/v2/health") => panic!("answered before its queue was seen: {answer:?}"),
    }
    let gone = async {
        while queues().await > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::socket::LONG, gone).await.unwrap();
}
