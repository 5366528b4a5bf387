//! Tokens from a file, and the walls between projects.

use std::io::Write;
use std::time::Duration;

use roundelay::http::{Gate, ServiceOptions};
use serde_json::json;
use tempfile::NamedTempFile;

use crate::{Api, bodies, id_of};

fn file(entries: &serde_json::Value) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(entries.to_string().as_bytes()).unwrap();
    file
}

async fn guarded(file: &NamedTempFile) -> Api {
    let mut options = ServiceOptions::default();
    options.admin_mode = true;
    let api = Api::guarded(options, Gate::tokens(file.path()).unwrap()).await;
    api.having("x-project-id", None)
}

fn three() -> NamedTempFile {
    file(&json!([
        {"token": "token-of-a", "project": "a"},
        {"token": "token-of-b", "project": "b", "roles": ["member"]},
        {"token": "token-of-admin", "project": "ops", "roles": ["admin"]},
    ]))
}

#[tokio::test]
async fn nobody_comes_in_without_a_token() {
    let file = three();
    let api = guarded(&file).await;
    for (name, value) in [
        ("x-auth-token", None),
        ("x-auth-token", Some("")),
        ("x-auth-token", Some("token-of-c")),
        ("x-auth-token", Some("token-of-")),
        ("authorization", Some("Bearer token-of-c")),
        ("authorization", Some("Basic token-of-a")),
        ("x-project-id", Some("a")),
        ("x-roles", Some("admin")),
    ] {
        let api = api.having(name, value);
        // Even what is there and what is not cannot be told apart.
        for path in ["/v2/queues", "/v2/nowhere", "/v2/queues/$", "/v2/health", "/v2/ping"] {
            let refused = api.get(path).await.fails(401, "Unauthorized");
            assert_eq!(refused.header("www-authenticate"), "Bearer");
        }
    }
    api.get("/").await.is(300);
    api.having("x-auth-token", Some("token-of-a")).get("/v2/queues").await.is(200);
    api.having("authorization", Some("Bearer token-of-a")).get("/v2/queues").await.is(200);
}

#[tokio::test]
async fn a_token_decides_project_and_roles_whatever_the_headers_say() {
    let file = three();
    let api = guarded(&file).await;
    let a = api.having("x-auth-token", Some("token-of-a"));
    a.post_numbers("q", 0..1).await;
    let b = api.having("x-auth-token", Some("token-of-b"));
    let posing = b.having("x-project-id", Some("a")).having("x-roles", Some("admin"));
    assert_eq!(posing.get("/v2/queues").await.is(200).json()["queues"], json!([]));
    posing.get("/v2/health").await.fails(403, "Not authorized");
    let admin = api.having("x-auth-token", Some("token-of-admin"));
    admin.get("/v2/health").await.is(200);
}

#[tokio::test]
async fn projects_cannot_reach_each_other_by_anything_that_they_might_learn() {
    let file = three();
    let api = guarded(&file).await;
    let a = api.having("x-auth-token", Some("token-of-a"));
    let b = api.having("x-auth-token", Some("token-of-b"));
    let paths = a.post_numbers("q", 0..5).await;
    let page = a.get("/v2/queues/q/messages?echo=1&limit=2").await.is(200).json();
    let next = page["links"][0]["href"].as_str().unwrap();
    let claim = a.post("/v2/queues/q/claims?limit=1", json!({})).await.is(201);
    let claim = claim.header("location").to_owned();
    // The other project has a queue of the same name.
    let own = b.post_numbers("q", 7..8).await;

    b.get(&paths[1]).await.is(404);
    b.get(&format!("/v2/queues/q/messages?ids={}", id_of(&paths[1]))).await.is(404);
    b.get(next).await.fails(400, "Invalid API request");
    let behind = format!("/v2/queues/q/messages?echo=1&marker={}", id_of(&paths[1]));
    assert!(bodies(&b.get(&behind).await.is(200).json()).is_empty());
    b.get(&claim).await.is(404);
    b.send("PATCH", &claim, "{}").await.is(404);
    b.delete(&claim).await.is(204);
    b.delete(&format!("{}?claim_id={}", paths[0], id_of(&claim))).await;
    b.delete(&paths[1]).await.is(204);
    b.delete(&format!("/v2/queues/q/messages?ids={}", id_of(&paths[2]))).await.is(204);
    b.delete("/v2/queues/q/messages?pop=20").await.is(200);
    b.send("POST", "/v2/queues/q/purge", "").await.is(204);
    b.delete("/v2/queues/q").await.is(204);
    b.get(&own[0]).await.is(404);

    let all = a.get("/v2/queues/q/messages?echo=1&include_claimed=1").await.is(200).json();
    assert_eq!(bodies(&all), [0, 1, 2, 3, 4].map(|n| json!(n)));
    assert_eq!(bodies(&a.get(&claim).await.is(200).json()), [json!(0)]);
}

#[tokio::test]
async fn names_of_projects_and_queues_never_run_into_each_other() {
    let api = Api::new().await;
    for (project, queue) in [("a", "b.c"), ("a.b", "c"), ("a/b", "c"), ("a:b", "c"), ("a ", "b.c")]
    {
        let api = api.having("x-project-id", Some(project));
        assert_eq!(api.get("/v2/queues").await.json()["queues"], json!([]), "{project}");
        api.post_numbers(queue, 0..1).await;
        let listed = api.get(&format!("/v2/queues/{queue}/messages?echo=1")).await.json();
        assert_eq!(bodies(&listed).len(), 1, "{project} {queue}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_of_tokens_is_read_again_when_it_changes() {
    let file = three();
    let api = guarded(&file).await;
    let (a, c) = (
        api.having("x-auth-token", Some("token-of-a")),
        api.having("x-auth-token", Some("token-of-c")),
    );
    a.get("/v2/ping").await.is(204);
    c.get("/v2/ping").await.is(401);
    let changed = json!([{"token": "token-of-c", "project": "a"}]).to_string();
    std::fs::write(file.path(), changed).unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    c.get("/v2/ping").await.is(204);
    a.get("/v2/ping").await.is(401);
    // A file that cannot be read changes nothing.
    std::fs::write(file.path(), "[{").unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    c.get("/v2/ping").await.is(204);
    a.get("/v2/ping").await.is(401);
}

#[test]
fn secrets_are_not_shown() {
    let secret = roundelay::http::Secret::new("hidden for good and all");
    assert!(!format!("{secret:?}").contains("hidden"));
    let file = three();
    let gate = Gate::tokens(file.path()).unwrap().with_signed_urls(&secret).unwrap();
    let shown = format!("{gate:?}");
    assert!(!shown.contains("token-of") && !shown.contains("hidden"), "{shown}");
}
