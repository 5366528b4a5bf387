//! Tokens of Keystone's, against a small stand-in that speaks its version 3.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use roundelay::http::{Gate, KeystoneOptions, ServiceOptions};
use roundelay::time::WallClock;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::{Api, bodies};

const PASSWORD: &str = "secret of the service";

/// What the stand-in knows, and what it was asked.
#[derive(Default)]
struct Keystone {
    tokens: Mutex<BTreeMap<String, Value>>,
    asked: Mutex<Vec<String>>,
    /// Tokens that the service's own user was given.
    given: Mutex<Vec<String>>,
    broken: Mutex<bool>,
}

impl Keystone {
    fn add(&self, token: &str, project: Option<&str>, roles: &[&str], expires_at: &str) {
        let roles: Vec<Value> =
            roles.iter().map(|name| json!({"id": "r1", "name": name})).collect();
        let mut shown = json!({
            "methods": ["password"], "expires_at": expires_at, "issued_at": "2020-01-01T00:00:00.000000Z",
            "user": {"id": "u1", "name": "u", "domain": {"id": "default", "name": "Default"}},
            "roles": roles, "audit_ids": ["x"],
        });
        if let Some(project) = project {
            let domain = json!({"id": "default", "name": "Default"});
            shown["project"] = json!({"id": project, "name": "named", "domain": domain});
        }
        self.tokens.lock().unwrap().insert(token.to_owned(), json!({ "token": shown }));
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn answer(
    State(keystone): State<Arc<Keystone>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    if uri.path() != "/identity/v3/auth/tokens" {
        return StatusCode::NOT_FOUND.into_response();
    }
    if *keystone.broken.lock().unwrap() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    if method == Method::POST {
        let request: Value = serde_json::from_slice(&body).unwrap();
        let user = &request["auth"]["identity"]["password"]["user"];
        let scope = &request["auth"]["scope"]["project"];
        let fine = user["name"] == "roundelay"
            && user["password"] == PASSWORD
            && user["domain"]["name"] == "Default"
            && scope["name"] == "service";
        keystone.asked.lock().unwrap().push("own token".into());
        if !fine {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let mut given = keystone.given.lock().unwrap();
        let token = format!("own-{}", given.len());
        given.push(token.clone());
        return (StatusCode::CREATED, [("x-subject-token", token)], "{\"token\": {}}")
            .into_response();
    }
    let (asker, subject) = (header("x-auth-token").unwrap(), header("x-subject-token").unwrap());
    keystone.asked.lock().unwrap().push(subject.clone());
    let tokens = keystone.tokens.lock().unwrap();
    let may_ask = keystone.given.lock().unwrap().last() == Some(&asker)
        || (asker == subject && tokens.contains_key(&asker));
    match tokens.get(&subject) {
        _ if !may_ask => StatusCode::UNAUTHORIZED.into_response(),
        Some(shown) => axum::http::Response::builder()
            .header("x-subject-token", subject)
            .header("content-type", "application/json")
            .body(shown.to_string().into())
            .unwrap(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn stand_in() -> (Arc<Keystone>, SocketAddr) {
    let keystone = Arc::new(Keystone::default());
    keystone.add("token-a", Some("a"), &["member"], "2099-01-01T00:00:00.000000Z");
    keystone.add("token-b", Some("b"), &["admin"], "2099-01-01T00:00:00.000000Z");
    keystone.add("token-unscoped", None, &[], "2099-01-01T00:00:00.000000Z");
    keystone.add("token-ended", Some("a"), &[], "2020-01-01T00:00:00.000000Z");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(answer).with_state(Arc::clone(&keystone));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (keystone, address)
}

fn options(address: SocketAddr, more: Value) -> KeystoneOptions {
    let mut options = json!({"url": format!("http://{address}/identity/v3/")});
    options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(options).unwrap()
}

async fn service(options: KeystoneOptions) -> Api {
    let mut service = ServiceOptions::default();
    service.admin_mode = true;
    Api::guarded(service, Gate::keystone(options).unwrap()).await.having("x-project-id", None)
}

#[tokio::test]
async fn keystone_decides_who_comes_in_and_as_whom() {
    let (keystone, address) = stand_in().await;
    let user = json!({"username": "roundelay", "password": PASSWORD, "project_name": "service"});
    let api = service(options(address, json!({ "user": user }))).await;
    for wrong in [None, Some(""), Some("token-c"), Some("token-unscoped"), Some("token-ended")] {
        let refused = api.having("x-auth-token", wrong).get("/v2/queues").await;
        refused.fails(401, "Unauthorized");
    }
    let a = api.having("x-auth-token", Some("token-a")).having("x-project-id", Some("b"));
    let b = api.having("x-auth-token", Some("token-b"));
    a.post_numbers("q", 0..2).await;
    assert_eq!(b.get("/v2/queues").await.is(200).json()["queues"], json!([]));
    assert_eq!(bodies(&a.get("/v2/queues/q/messages?echo=1").await.json()).len(), 2);
    a.having("x-roles", Some("admin")).get("/v2/health").await.is(403);
    b.get("/v2/health").await.is(200);
    // Each token was asked for once, and the service presented itself once.
    let asked = keystone.asked();
    for token in ["own token", "token-a", "token-b", "token-c"] {
        assert_eq!(asked.iter().filter(|asked| *asked == token).count(), 1, "{token}: {asked:?}");
    }
    assert_eq!(keystone.given.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_service_without_a_user_lets_tokens_speak_for_themselves() {
    let (keystone, address) = stand_in().await;
    let api = service(options(address, json!({}))).await;
    api.having("x-auth-token", Some("token-a")).get("/v2/ping").await.is(204);
    api.having("x-auth-token", Some("token-c")).get("/v2/ping").await.is(401);
    assert!(keystone.given.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_answer_is_believed_for_a_while_only() {
    let (keystone, address) = stand_in().await;
    let believing = service(options(address, json!({}))).await;
    let doubting = service(options(address, json!({"token_cache_time": 0}))).await;
    let (believing, doubting) = (
        believing.having("x-auth-token", Some("token-a")),
        doubting.having("x-auth-token", Some("token-a")),
    );
    believing.get("/v2/ping").await.is(204);
    doubting.get("/v2/ping").await.is(204);
    keystone.tokens.lock().unwrap().clear();
    believing.get("/v2/ping").await.is(204);
    doubting.get("/v2/ping").await.is(401);
}

#[tokio::test]
async fn the_service_presents_itself_again_when_its_own_token_has_ended() {
    let (keystone, address) = stand_in().await;
    let user = json!({"username": "roundelay", "password": PASSWORD, "project_name": "service"});
    let api = service(options(address, json!({"user": user, "token_cache_time": 0}))).await;
    let a = api.having("x-auth-token", Some("token-a"));
    a.get("/v2/ping").await.is(204);
    keystone.given.lock().unwrap().push("another".into());
    a.get("/v2/ping").await.is(204);
    assert_eq!(keystone.given.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn without_keystone_nobody_is_let_in_nor_called_a_stranger() {
    let (keystone, address) = stand_in().await;
    let api = service(options(address, json!({}))).await;
    let (a, b) =
        (api.having("x-auth-token", Some("token-a")), api.having("x-auth-token", Some("token-b")));
    a.get("/v2/ping").await.is(204);
    *keystone.broken.lock().unwrap() = true;
    let refused = b.get("/v2/ping").await.fails(503, "Service temporarily unavailable");
    assert_eq!(refused.header("retry-after"), "1");
    // Whoever is known stays so.
    a.get("/v2/ping").await.is(204);
    *keystone.broken.lock().unwrap() = false;
    b.get("/v2/ping").await.is(204);
    let user = json!({"username": "roundelay", "password": "wrong", "project_name": "service"});
    let misled = service(options(address, json!({ "user": user }))).await;
    misled.having("x-auth-token", Some("token-a")).get("/v2/ping").await.is(503);
}

/// Takes connections and answers nothing.
async fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    address
}

#[tokio::test]
async fn a_silent_keystone_keeps_nobody_waiting_for_long() {
    let user = json!({"username": "roundelay", "password": PASSWORD, "project_name": "service"});
    for more in [json!({ "user": user }), json!({})] {
        let api = service(options(silent().await, more)).await;
        let start = Instant::now();
        let asked = (0..200).map(|n| {
            let api = api.having("x-auth-token", Some(&format!("token-{n}")));
            async move { api.get("/v2/ping").await.is(503) }
        });
        join_all(asked).await;
        assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn made_up_tokens_drive_out_no_others() {
    let (keystone, address) = stand_in().await;
    let api = service(options(address, json!({}))).await;
    let a = api.having("x-auth-token", Some("token-a"));
    a.get("/v2/ping").await.is(204);
    for n in 0..1_100 {
        api.having("x-auth-token", Some(&format!("made-up-{n}"))).get("/v2/ping").await.is(401);
    }
    a.get("/v2/ping").await.is(204);
    let asked = keystone.asked();
    assert_eq!(asked.iter().filter(|asked| *asked == "token-a").count(), 1);
    assert_eq!(asked.len(), 1_101);
}

#[tokio::test]
async fn a_token_ends_by_the_time_of_day() {
    let (_keystone, address) = stand_in().await;
    // The year 2019: the token of 2020 has not ended yet.
    let wall = WallClock::new(|| 1_560_000_000_000);
    let gate = Gate::keystone(options(address, json!({}))).unwrap().with_wall_clock(wall);
    let api = Api::guarded(ServiceOptions::default(), gate).await;
    api.having("x-auth-token", Some("token-ended")).get("/v2/ping").await.is(204);
}

#[test]
fn a_url_must_be_one() {
    for wrong in ["", "keystone", "ftp://keystone", "/v3"] {
        let options = serde_json::from_value(json!({ "url": wrong })).unwrap();
        assert!(Gate::keystone(options).is_err(), "{wrong}");
    }
    let secure = serde_json::from_value(json!({"url": "https://keystone:5000/v3"})).unwrap();
    assert!(Gate::keystone(secure).is_ok());
}
