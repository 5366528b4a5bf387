//! Signed URLs: what they allow, and what they do not.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use roundelay::http::{Gate, Secret, ServiceOptions};
use roundelay::time::{Clock, WallClock};
use serde_json::{Value, json};

use crate::{Api, bodies, id_of};

/// A key that is long enough.
const KEY: &str = "a key of sixteen bytes or more";
const SHARE: &str = "/v2/queues/q/share";
const MESSAGES: &str = "/v2/queues/q/messages";

async fn signing() -> Api {
    let clock = Clock::system();
    let gate = Gate::open()
        .with_signed_urls(&Secret::new(KEY))
        .unwrap()
        .with_wall_clock(WallClock::new(move || clock.now_ms()));
    Api::guarded(ServiceOptions::default(), gate).await
}

fn text(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            items.iter().map(|item| item.as_str().unwrap()).collect::<Vec<_>>().join(",")
        }
        other => other.as_str().unwrap().to_owned(),
    }
}

/// A client with the headers of a signed URL.
fn holder(api: &Api, shared: &Value) -> Api {
    api.having("url-signature", Some(&text(&shared["signature"])))
        .having("url-expires", Some(&text(&shared["expires"])))
        .having("url-methods", Some(&text(&shared["methods"])))
        .having("url-paths", Some(&text(&shared["paths"])))
        .having("x-project-id", Some(&text(&shared["project"])))
        .having("x-auth-token", None)
}

#[tokio::test(start_paused = true)]
async fn a_url_is_shared_for_a_day_with_sorted_paths_and_methods() {
    let api = signing().await;
    let shared = api.post(SHARE, json!({})).await.is(200).json();
    let mut keys: Vec<&String> = shared.as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(keys, ["expires", "methods", "paths", "project", "signature"]);
    assert_eq!(shared["paths"], json!([MESSAGES]));
    assert_eq!((&shared["methods"], &shared["project"]), (&json!(["GET"]), &json!("p")));
    assert_eq!((text(&shared["expires"]).len(), text(&shared["signature"]).len()), (19, 64));
    let holder = holder(&api, &shared);
    let wanted = json!({
        "paths": ["messages", "claims"], "methods": ["POST", "GET"],
        "expires": "2099-01-01T01:00:00+01:00",
    });
    let shared = api.post(SHARE, wanted).await.is(200).json();
    assert_eq!(shared["paths"], json!(["/v2/queues/q/claims", MESSAGES]));
    assert_eq!(shared["methods"], json!(["GET", "POST"]));
    assert_eq!(shared["expires"], "2099-01-01T00:00:00");

    // The store has much to do in a day; without it, a signature that holds leads to a 503.
    api.store.close().await;
    holder.get(MESSAGES).await.is(503);
    tokio::time::sleep(Duration::from_secs(86_398)).await;
    holder.get(MESSAGES).await.is(503);
    tokio::time::sleep(Duration::from_secs(3)).await;
    holder.get(MESSAGES).await.fails(404, "404 Not Found");
}

#[tokio::test]
async fn a_signed_url_ends_by_the_time_of_day_even_if_that_is_set() {
    let now_ms = Arc::new(AtomicU64::new(1_800_000_000_000));
    let told = Arc::clone(&now_ms);
    let wall = WallClock::new(move || told.load(Ordering::Relaxed));
    let gate = Gate::open().with_signed_urls(&Secret::new(KEY)).unwrap().with_wall_clock(wall);
    let api = Api::guarded(ServiceOptions::default(), gate).await;
    api.post_numbers("q", 0..1).await;
    let shared = api.post(SHARE, json!({})).await.is(200).json();
    let holder = holder(&api, &shared);
    holder.get(MESSAGES).await.is(200);
    now_ms.fetch_add(86_401_000, Ordering::Relaxed);
    holder.get(MESSAGES).await.fails(404, "404 Not Found");
}

#[tokio::test]
async fn what_cannot_be_shared_is_refused() {
    let api = signing().await;
    for wrong in [
        json!({"paths": ["stats"]}),
        json!({"paths": "messages"}),
        json!({"paths": [1]}),
        json!({"methods": "GET"}),
        json!({"methods": ["GET,POST"]}),
        json!({"expires": "soon"}),
        json!({"expires": 1}),
        json!({"expires": "2020-01-01T00:00:00"}),
        json!({"other": 1}),
        json!([]),
    ] {
        api.post(SHARE, wrong).await.is(400);
    }
    for body in ["", "[", "."] {
        api.send("POST", SHARE, body).await.is(400);
    }
    // Without a key there is nothing to sign with, and no signature holds.
    let api = Api::new().await;
    api.post(SHARE, json!({})).await.is(400);
    api.having("url-signature", Some("")).get(MESSAGES).await.fails(404, "404 Not Found");
}

#[tokio::test]
async fn a_signed_url_opens_its_paths_to_its_methods_and_nothing_else() {
    let api = signing().await;
    let paths = api.post_numbers("q", 0..2).await;
    api.post_numbers("q2", 5..6).await;
    let shared = api.post(SHARE, json!({"methods": ["GET", "DELETE"]})).await.is(200).json();
    let holder = holder(&api, &shared);
    assert_eq!(bodies(&holder.get("/v2/queues/q/messages?echo=1").await.is(200).json()).len(), 2);
    holder.get(&paths[0]).await.is(200);
    holder.delete(&paths[0]).await.is(204);
    // Headers are still checked.
    holder.having("client-id", None).get(MESSAGES).await.is(400);
    for (method, path) in [
        ("POST", MESSAGES),
        ("OPTIONS", MESSAGES),
        ("GET", "/v2/queues/q"),
        ("DELETE", "/v2/queues/q"),
        ("GET", "/v2/queues/q/stats"),
        ("GET", "/v2/queues/q2/messages"),
        ("GET", "/v2/queues"),
        ("GET", "/v2/"),
        ("GET", "/"),
        ("GET", "/v2/queues/q/messages/../../q2/messages"),
    ] {
        holder.send(method, path, "").await.fails(404, "404 Not Found");
    }
    for (name, value) in [
        ("url-signature", Some("")),
        ("url-signature", Some("zz")),
        ("url-signature", Some("00")),
        ("url-methods", Some("DELETE,GET,POST")),
        ("url-methods", None),
        ("url-paths", Some("/v2/queues")),
        ("url-expires", Some("2199-01-01T00:00:00")),
        ("x-project-id", Some("other")),
        ("x-project-id", None),
    ] {
        holder.having(name, value).get(MESSAGES).await.fails(404, "404 Not Found");
    }
    api.get(&paths[1]).await.is(200);
}

#[tokio::test]
async fn a_signed_url_needs_no_token_and_gives_no_role() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let tokens = json!([{"token": "abc", "project": "p", "roles": ["admin"]}]);
    std::io::Write::write_all(&mut file, tokens.to_string().as_bytes()).unwrap();
    let gate = Gate::tokens(file.path()).unwrap().with_signed_urls(&Secret::new(KEY)).unwrap();
    let mut options = ServiceOptions::default();
    options.admin_mode = true;
    let api = Api::guarded(options, gate).await;
    let owner = api.having("x-auth-token", Some("abc"));
    let paths = owner.post_numbers("q", 0..1).await;
    api.post(SHARE, json!({})).await.is(401);
    let shared = owner.post(SHARE, json!({})).await.is(200).json();
    let holder = holder(&api, &shared);
    holder.get(&paths[0]).await.is(200);
    holder.get("/v2/queues").await.is(404);
    holder.having("x-roles", Some("admin")).get("/v2/health").await.is(404);
    // An id of another queue is of no use behind it.
    let others = owner.post_numbers("other", 1..2).await;
    holder.get(&format!("{MESSAGES}/{}", id_of(&others[0]))).await.fails(404, "Not found");
}
