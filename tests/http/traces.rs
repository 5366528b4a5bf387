//! Traces, as a stand-in for a collector gets them from a service that is a process of its own.

use std::io::Write;
use std::process::Stdio;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::routing::post;
use roundelay::http::{Connections, serve};
use serde_json::{Value, json};
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
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

#[tokio::test]
async fn each_request_is_a_span_without_secrets() {
    let (url, mut batches) = collector().await;
    let mut tokens = NamedTempFile::new().unwrap();
    tokens.write_all(br#"[{"token": "hidden-token", "project": "p"}]"#).unwrap();
    let mut service = Command::new(env!("CARGO_BIN_EXE_roundelay"))
        .args(["serve", "--listen", "127.0.0.1:0", "--log", "info"])
        .args(["--otlp-endpoint", &url, "--tokens"])
        .arg(tokens.path())
        .env_remove("ROUNDELAY_NODES")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-of-the-collector=key")
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = BufReader::new(service.stderr.take().unwrap()).lines();
    let address = loop {
        let line = said.next_line().await.unwrap().expect("it does not start");
        if let Some((_, rest)) = line.split_once("listening on http://") {
            break rest.split(',').next().unwrap().to_owned();
        }
    };
    for (request, status) in [
        ("GET /v2/queues/hidden-queue/messages?marker=hidden-marker", 400),
        ("GET /v2/queues/hidden-queue/messages", 200),
        ("FROB /nowhere/hidden-path", 404),
    ] {
        let text = format!(
            "{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nClient-ID: {CLIENT}\r\n\
             X-Auth-Token: hidden-token\r\n\r\n"
        );
        let answer = send(&address, &text).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    // They are sent in batches every few seconds; a service that ends sends what is left.
    let id = service.id().unwrap().to_string();
    assert!(Command::new("kill").arg(id).status().await.unwrap().success());
    assert!(timeout(LONG, service.wait()).await.expect("it goes on").unwrap().success());

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
    assert_eq!(attribute(&spans[0], "roundelay.project"), &json!({"stringValue": "p"}));
    // The log has its lines without what the spans say.
    let mut log = String::new();
    while let Some(line) = said.next_line().await.unwrap() {
        log.push_str(&line);
    }
    assert!(log.contains("roundelay::access") && !log.contains("http.route"), "{log}");
}
