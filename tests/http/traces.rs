//! Traces, as a stand-in for a collector gets them from a service that is a process of its own.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::Stdio;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use roundelay::http::{Connections, serve};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::CLIENT;
use crate::socket::LONG;

type Batch = (HeaderMap, Value);

async fn take(
    State(taken): State<UnboundedSender<Batch>>,
    headers: HeaderMap,
    body: String,
) -> String {
    taken.send((headers, serde_json::from_str(&body).unwrap())).unwrap();
    "{}".to_owned()
}

/// A collector on a free port, and what it gets.
async fn collector() -> (String, UnboundedReceiver<Batch>) {
    let (taken, batches) = unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base/", listener.local_addr().unwrap());
    let router = Router::new().route("/base/v1/traces", post(take)).with_state(taken);
    tokio::spawn(serve(listener, router, Connections::default(), std::future::pending()));
    (url, batches)
}

async fn send(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(LONG, stream.read_to_string(&mut answer)).await.expect("no end").unwrap();
    answer
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let attributes = span["attributes"].as_array().unwrap();
    let found = attributes.iter().find(|attribute| attribute["key"] == key);
    &found.unwrap_or_else(|| panic!("no {key} in {span}"))["value"]
}

/// A service that is a process of its own and sends its traces.
struct Service {
    process: Child,
    said: Lines<BufReader<ChildStderr>>,
    address: String,
    _tokens: NamedTempFile,
}

impl Service {
    async fn start(collector: &str, detail: &str) -> Self {
        let mut tokens = NamedTempFile::new().unwrap();
        tokens.write_all(br#"[{"token": "hidden-token", "project": "p"}]"#).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_roundelay"))
            .args(["serve", "--listen", "127.0.0.1:0", "--log", "info"])
            .args(["--otlp-endpoint", collector, "--otlp-detail", detail, "--tokens"])
            .arg(tokens.path())
            .env_remove("ROUNDELAY_NODES")
            .env("OTEL_EXPORTER_OTLP_HEADERS", "x-of-the-collector=key")
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut said = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = loop {
            let line = said.next_line().await.unwrap().expect("it does not start");
            if let Some((_, rest)) = line.split_once("listening on http://") {
                break rest.split(',').next().unwrap().to_owned();
            }
        };
        Self { process, said, address, _tokens: tokens }
    }

    async fn ask(&self, request: &str, body: &str, status: u16) {
        let text = format!(
            "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nClient-ID: {CLIENT}\r\n\
             X-Auth-Token: hidden-token\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = send(&self.address, &text).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }

    /// Spans are sent in batches every few seconds; a service that ends sends what is left. Gives
    /// what the log says.
    async fn end(mut self) -> String {
        let id = self.process.id().unwrap().to_string();
        assert!(Command::new("kill").arg(id).status().await.unwrap().success());
        assert!(timeout(LONG, self.process.wait()).await.expect("it goes on").unwrap().success());
        let mut log = String::new();
        while let Some(line) = self.said.next_line().await.unwrap() {
            log.push_str(&line);
        }
        log
    }
}

/// All spans that the collector was given.
fn taken(batches: &mut UnboundedReceiver<Batch>) -> Vec<Value> {
    let mut spans = Vec::new();
    while let Ok((headers, batch)) = batches.try_recv() {
        assert_eq!(headers["content-type"], "application/json");
        assert_eq!(headers["x-of-the-collector"], "key");
        assert!(!batch.to_string().contains("hidden"), "{batch}");
        let resource = &batch["resourceSpans"][0];
        let service = json!({"stringValue": "roundelay"});
        assert_eq!(attribute(&resource["resource"], "service.name"), &service);
        spans.extend(resource["scopeSpans"][0]["spans"].as_array().unwrap().clone());
    }
    spans
}

/// The spans that this one is the parent of.
fn children<'a>(spans: &'a [Value], of: &Value) -> Vec<&'a Value> {
    let of = (&of["traceId"], &of["spanId"]);
    spans.iter().filter(|span| (&span["traceId"], &span["parentSpanId"]) == of).collect()
}

fn named<'a>(spans: &'a [Value], name: &str) -> &'a Value {
    let found = spans.iter().find(|span| span["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {spans:?}"))
}

#[tokio::test]
async fn each_request_is_a_span_without_secrets() {
    let (url, mut batches) = collector().await;
    let service = Service::start(&url, "calls").await;
    for (request, status) in [
        ("GET /v2/queues/hidden-queue/messages?marker=hidden-marker", 400),
        ("GET /v2/queues/hidden-queue/messages", 200),
        ("FROB /nowhere/hidden-path", 404),
    ] {
        service.ask(request, "", status).await;
    }
    let log = service.end().await;
    let all = taken(&mut batches);
    let spans: Vec<&Value> = all.iter().filter(|span| span["name"] != "queue.list").collect();
    let told: Vec<_> = spans
        .iter()
        .map(|span| {
            // A server's.
            assert_eq!(span["kind"], 2, "{span}");
            assert_eq!(span["traceId"].as_str().unwrap().len(), 32, "{span}");
            (span["name"].as_str().unwrap(), attribute(span, "http.response.status_code").clone())
        })
        .collect();
    let status = |status: &str| json!({"intValue": status});
    let messages = "GET /v2/queues/{queue}/messages";
    assert_eq!(
        told,
        [(messages, status("400")), (messages, status("200")), ("_OTHER unknown", status("404"))]
    );
    assert_eq!(attribute(spans[0], "roundelay.project"), &json!({"stringValue": "p"}));
    // The log has its lines without what the spans say.
    assert!(log.contains("roundelay::access") && !log.contains("http.route"), "{log}");
}

/// A post of two messages, a claim of one, and a pop of the other.
async fn some_work(collector: &str, detail: &str) {
    let service = Service::start(collector, detail).await;
    let messages = r#"{"messages": [{"body": "hidden-body"}, {"body": 2}]}"#;
    service.ask("POST /v2/queues/hidden-queue/messages", messages, 201).await;
    service.ask("POST /v2/queues/hidden-queue/claims?limit=1", "", 201).await;
    service.ask("DELETE /v2/queues/hidden-queue/messages?pop=1", "", 200).await;
    service.end().await;
}

#[tokio::test]
async fn what_a_request_does_to_queues_and_nodes_is_below_its_span() {
    let (url, mut batches) = collector().await;
    some_work(&url, "nodes").await;
    let spans = taken(&mut batches);
    for (request, call, calls) in [
        ("POST /v2/queues/{queue}/messages", "queue.post", &["append"][..]),
        ("POST /v2/queues/{queue}/claims", "queue.claim", &["read", "segment", "claim"]),
        ("DELETE /v2/queues/{queue}/messages", "queue.pop", &["claim"]),
    ] {
        let request = named(&spans, request);
        let below = children(&spans, request);
        let call = below.into_iter().find(|span| span["name"] == call);
        let call = call.unwrap_or_else(|| panic!("nothing below {request}: {spans:#?}"));
        assert_eq!(call["kind"], 1, "{call}");
        let nodes = children(&spans, call);
        for wanted in calls {
            let of_kind = nodes.iter().filter(|span| {
                attribute(span, "roundelay.call") == &json!({"stringValue": wanted})
            });
            let names: BTreeSet<String> =
                of_kind.map(|span| attribute(span, "roundelay.node").to_string()).collect();
            assert!(names.len() >= 2 || *wanted == "read", "{wanted} below {call}: {nodes:#?}");
        }
        assert!(nodes.iter().all(|span| span["name"] == "node.call" && span["kind"] == 3));
    }
    let post = named(&spans, "queue.post");
    assert_eq!(attribute(post, "roundelay.messages"), &json!({"intValue": "2"}));
    // What nobody asked for, such as a probe of a node, is no trace.
    let roots: Vec<&Value> = spans.iter().filter(|span| span["kind"] != 2).collect();
    let is_root = |span: &&&Value| span["parentSpanId"].as_str().is_none_or(str::is_empty);
    assert_eq!(roots.iter().find(is_root), None);
}

#[tokio::test]
async fn calls_to_nodes_are_told_only_if_that_is_wanted() {
    let (url, mut batches) = collector().await;
    some_work(&url, "calls").await;
    let spans = taken(&mut batches);
    assert_eq!(children(&spans, named(&spans, "POST /v2/queues/{queue}/claims")).len(), 1);
    assert!(spans.iter().all(|span| span["name"] != "node.call"), "{spans:#?}");
}
