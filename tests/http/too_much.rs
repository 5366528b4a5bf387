//! Requests that are too much: a clear answer, bounded memory, and the service alive afterwards.

use roundelay::http::{Connections, ServiceOptions};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::Api;
use crate::socket::{Server, head, rest};

const MESSAGES: &str = "/v2/queues/q/messages";
const CLOSE: &str = "Connection: close\r\n";

fn with_body(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let more = format!("{CLOSE}Content-Length: {}\r\n", body.len());
    let mut request = head(method, path, &more).into_bytes();
    request.extend_from_slice(body);
    request
}

#[tokio::test]
async fn a_hundred_thousand_headers_are_answered_431() {
    let server = Server::start().await;
    let many: String = (0..100_000).map(|n| format!("X-{n}: a\r\n")).collect();
    let answer = server.send(head("GET", "/v2/ping", &many).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    // Few bytes, but too many headers.
    let some: String = (0..101).map(|n| format!("X-{n}: a\r\n")).collect();
    let answer = server.send(head("GET", "/v2/ping", &some).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    server.is_alive().await;
}

#[tokio::test]
async fn a_header_of_a_megabyte_is_answered_431() {
    let server = Server::start().await;
    let long = format!("X-Long: {}\r\n", "a".repeat(1 << 20));
    let answer = server.send(head("GET", "/v2/ping", &long).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    server.is_alive().await;
}

#[tokio::test]
async fn a_body_of_a_gigabyte_is_refused_before_it_is_read() {
    let server = Server::start().await;
    let announced = format!("{CLOSE}Content-Length: 1000000000\r\n");
    for (method, path, status) in [
        ("POST", MESSAGES, 400),
        ("PUT", "/v2/queues/q", 400),
        ("POST", "/v2/queues/q/claims", 413),
        ("POST", "/v2/queues/q/purge", 413),
        ("POST", "/v2/queues/q/share", 413),
    ] {
        let answer = server.send(head(method, path, &announced).as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{path}: {answer}");
    }
    // One that is not announced is read as far as it may go, and little further.
    let mut stream = server.connect().await;
    let chunked = format!("{CLOSE}Transfer-Encoding: chunked\r\n");
    stream.write_all(head("POST", MESSAGES, &chunked).as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let mut taken = 0;
    while taken < 1 << 30 && stream.write_all(chunk.as_bytes()).await.is_ok() {
        taken += chunk.len();
    }
    assert!(taken < 32 << 20, "{taken} bytes were taken");
    let answer = rest(&mut stream).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    server.is_alive().await;
}

#[tokio::test]
async fn json_a_million_deep_is_refused() {
    let mut options = ServiceOptions::default();
    options.max_messages_post_size = 4 << 20;
    let server = Server::with(options, Connections::default()).await;
    let deep = |open: &str, close: &str| {
        let (open, close) = (open.repeat(1_000_000), close.repeat(1_000_000));
        format!("{{\"messages\": [{{\"body\": {open}1{close}}}]}}")
    };
    for body in [deep("[", "]"), "[".repeat(1_000_000), "{\"a\":".repeat(800_000)] {
        let answer = server.send(&with_body("POST", MESSAGES, body.as_bytes())).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains("body could not be parsed"), "{answer}");
    }
    server.is_alive().await;
}

#[tokio::test]
async fn what_is_not_utf_8_is_refused() {
    let server = Server::start().await;
    let body = b"{\"messages\": [{\"body\": \"\xff\xfe\"}]}";
    let answer = server.send(&with_body("POST", MESSAGES, body)).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    for path in ["/v2/queues/%FF", "/v2/queues/%C0%AF"] {
        let answer = server.send(head("GET", path, CLOSE).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    let mut request = b"GET /v2/queues HTTP/1.1\r\nHost: x\r\nX-Project-Id: \xff\r\n".to_vec();
    request.extend_from_slice(format!("Client-ID: {}\r\n{CLOSE}\r\n", crate::CLIENT).as_bytes());
    let answer = server.send(&request).await;
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("UTF-8"), "{answer}");
    let answer = server.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    server.is_alive().await;
}

#[tokio::test]
async fn bodies_beyond_the_room_for_all_are_told_to_come_again() {
    let mut options = ServiceOptions::default();
    options.max_body_bytes_in_flight = 1000;
    let api = Api::with(options).await;
    let message = |len: usize| json!({"messages": [{"body": "x".repeat(len)}]});
    let refused = api.post(MESSAGES, message(2000)).await;
    let refused = refused.fails(503, "Service temporarily unavailable");
    assert_eq!(refused.header("retry-after"), "1");
    assert!(refused.text.contains("Nothing was changed"));
    // Its room is free again.
    api.post(MESSAGES, message(500)).await.is(201);
    api.post(MESSAGES, message(500)).await.is(201);
}

#[tokio::test(start_paused = true)]
async fn a_project_that_asks_too_often_waits_and_others_do_not() {
    let mut options = ServiceOptions::default();
    (options.max_requests_per_second, options.max_request_burst) = (2, 3);
    let api = Api::with(options).await;
    for _ in 0..3 {
        api.get("/v2/ping").await.is(204);
    }
    let refused = api.get("/v2/ping").await.fails(429, "429 Too Many Requests");
    assert_eq!(refused.header("retry-after"), "1");
    api.having("x-project-id", Some("other")).get("/v2/ping").await.is(204);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    api.get("/v2/ping").await.is(204);
    api.get("/v2/ping").await.is(204);
    api.get("/v2/ping").await.is(429);
}
