//! The Zaqar v2 service, asked in the way clients ask it, on embedded nodes.
#![expect(clippy::unwrap_used, reason = "a helper of tests may panic as tests do")]

mod access;
mod claims;
#[cfg(feature = "cli")]
mod command;
mod dead_letters;
mod described;
mod encryption;
mod errors;
mod headers;
#[cfg(all(feature = "cli", target_os = "linux"))]
mod hostile;
mod keepers;
mod keystone;
#[cfg(feature = "cli")]
mod killed;
mod messages;
mod metrics;
mod msgpack;
mod once;
mod paging;
mod queues;
mod redis;
#[expect(dead_code, reason = "other tests need more of it")]
#[path = "../it/redis_server.rs"]
mod redis_server;
mod served;
mod signed;
mod slow;
mod socket;
mod tls;
mod too_much;
mod tour;
#[cfg(feature = "otel")]
mod traces;
mod wait;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use roundelay::Store;
use roundelay::http::{EncryptionKeys, Gate, Metrics, ServiceOptions, encrypting_router};
use serde_json::{Value, json};
use tower::ServiceExt;

const CLIENT: &str = "3381af92-2b9e-11e3-b191-71861300734c";
const OTHER_CLIENT: &str = "3381af92-2b9e-11e3-b191-71861300734d";
const PATCH_TYPE: &str = "application/openstack-messaging-v2.0-json-patch";

/// A client of a service of its own.
#[derive(Clone)]
struct Api {
    store: Store,
    router: Router,
    headers: Vec<(&'static str, String)>,
}

/// What was answered.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}")).to_str().unwrap()
    }

    /// Asserts the status; the answer is shown if it is another.
    #[track_caller]
    fn is(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self
    }

    /// Asserts that it is this error.
    #[track_caller]
    fn fails(self, status: u16, title: &str) -> Self {
        let answer = self.is(status);
        assert_eq!(answer.json()["title"], title, "{answer:?}");
        answer
    }
}

impl Api {
    async fn new() -> Self {
        Self::with(ServiceOptions::default()).await
    }

    async fn with(options: ServiceOptions) -> Self {
        Self::guarded(options, Gate::open()).await
    }

    async fn guarded(options: ServiceOptions, gate: Gate) -> Self {
        let store = Store::builder().embedded(3).open().await.unwrap();
        Self::on(store, options, gate, EncryptionKeys::none())
    }

    fn on(store: Store, options: ServiceOptions, gate: Gate, keys: EncryptionKeys) -> Self {
        let headers = vec![("client-id", CLIENT.into()), ("x-project-id", "p".into())];
        let metrics = Metrics::new(store.clone());
        let router = encrypting_router(store.clone(), options, gate, keys, metrics);
        Self { store, router, headers }
    }

    /// The same service with one header changed; `None` leaves it out.
    fn having(&self, name: &'static str, value: Option<&str>) -> Self {
        let mut headers = self.headers.clone();
        headers.retain(|(other, _)| *other != name);
        headers.extend(value.map(|value| (name, value.to_owned())));
        Self { headers, ..self.clone() }
    }

    async fn send(&self, method: &str, path: &str, body: impl Into<String>) -> Answer {
        let body = body.into();
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if !body.is_empty() {
            request = request.header("content-length", body.len());
        }
        let request = request.body(Body::from(body)).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let answer = Answer { status, headers, text: String::from_utf8(bytes.to_vec()).unwrap() };
        described::check(method, path, &answer);
        if [429, 503].contains(&status.as_u16()) {
            let after: Option<u64> = answer
                .headers
                .get("retry-after")
                .and_then(|after| after.to_str().ok()?.parse().ok());
            assert!(after >= Some(1), "when? {answer:?}");
        }
        answer
    }

    async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "").await
    }

    async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, "").await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.send("POST", path, body.to_string()).await
    }

    /// Posts messages with the numbers as bodies; returns their paths.
    async fn post_numbers(&self, queue: &str, numbers: std::ops::Range<u32>) -> Vec<String> {
        let messages: Vec<Value> = numbers.map(|n| json!({"body": n, "ttl": 300})).collect();
        let path = format!("/v2/queues/{queue}/messages");
        let posted = self.post(&path, json!({ "messages": messages })).await.is(201).json();
        texts(&posted["resources"])
    }
}

/// All resources, with the methods that they know.
const RESOURCES: [(&str, &str); 12] = [
    ("/v2/", "GET"),
    ("/v2/ping", "GET, HEAD"),
    ("/v2/health", "GET"),
    ("/v2/queues", "GET"),
    ("/v2/queues/q", "DELETE, GET, PATCH, PUT"),
    ("/v2/queues/q/stats", "GET"),
    ("/v2/queues/q/purge", "POST"),
    ("/v2/queues/q/messages", "DELETE, GET, POST"),
    ("/v2/queues/q/messages/m", "DELETE, GET"),
    ("/v2/queues/q/claims", "POST"),
    ("/v2/queues/q/claims/c", "DELETE, GET, PATCH"),
    ("/v2/queues/q/share", "POST"),
];

/// A service that has something for administrators, too.
async fn with_admin() -> Api {
    let mut options = ServiceOptions::default();
    options.admin_mode = true;
    Api::with(options).await
}

fn texts(values: &Value) -> Vec<String> {
    values.as_array().unwrap().iter().map(|value| value.as_str().unwrap().to_owned()).collect()
}

fn bodies(answer: &Value) -> Vec<Value> {
    answer["messages"].as_array().unwrap().iter().map(|message| message["body"].clone()).collect()
}

/// The last part of a path.
fn id_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap()
}
