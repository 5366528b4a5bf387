//! Clients that take their time: each costs a place for a while, and nothing else.

use std::time::Duration;

use roundelay::http::{Connections, ServiceOptions};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::time::{Instant, sleep, timeout};

use crate::socket::{LONG, Server, head, rest};

/// Everything takes a second at most.
fn hasty() -> Connections {
    let mut connections = Connections::default();
    (connections.head_timeout, connections.write_timeout) = (1, 1);
    connections
}

#[tokio::test]
async fn heads_that_come_byte_by_byte_are_cut_off() {
    let server = Server::with(ServiceOptions::default(), hasty()).await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /v2/ping HTTP/1.1\r\nX-A: ").await.unwrap();
        slow.push(stream);
    }
    let start = Instant::now();
    // Each byte comes in time; the head as a whole does not.
    let mut drip = tokio::time::interval(Duration::from_millis(100));
    while !slow.is_empty() {
        drip.tick().await;
        assert!(start.elapsed() < LONG, "{} connections are still there", slow.len());
        let mut left = Vec::new();
        for mut stream in slow {
            let closed = stream.write_all(b"a").await.is_err();
            let mut part = [0; 16];
            if !closed && !matches!(stream.try_read(&mut part), Ok(0)) {
                left.push(stream);
            }
        }
        slow = left;
        server.is_alive().await;
    }
}

#[tokio::test]
async fn connections_that_ask_nothing_are_closed() {
    let server = Server::with(ServiceOptions::default(), hasty()).await;
    let mut idle = server.connect().await;
    assert_eq!(rest(&mut idle).await, "");
    server.is_alive().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_408() {
    let mut options = ServiceOptions::default();
    options.body_timeout = 1;
    let server = Server::with(options, Connections::default()).await;
    let mut stream = server.connect().await;
    let request = head("POST", "/v2/queues/q/messages", "Content-Length: 100\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(b"{").await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("Nothing was changed"), "{answer}");
    server.is_alive().await;
}

#[tokio::test]
async fn a_client_that_takes_no_answer_loses_its_place() {
    let mut connections = hasty();
    connections.max_connections = 1;
    let server = Server::with(ServiceOptions::default(), connections).await;
    // Twenty of them are more than a socket holds.
    let body = format!("{{\"messages\": [{{\"body\": \"{}\"}}]}}", "x".repeat(262_000));
    let length = format!("Connection: close\r\nContent-Length: {}\r\n", body.len());
    let post = format!("{}{body}", head("POST", "/v2/queues/q/messages", &length));
    for _ in 0..20 {
        let posted = post_when_there_is_a_place(&server, &post).await;
        assert!(posted.starts_with("HTTP/1.1 201"), "{posted}");
    }
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stuck = socket.connect(server.address).await.unwrap();
    let list = head("GET", "/v2/queues/q/messages?limit=20&echo=true", "");
    stuck.write_all(list.as_bytes()).await.unwrap();
    stuck.readable().await.unwrap();
    let ping = head("GET", "/v2/ping", "Connection: close\r\n");
    let refused = server.send(ping.as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    let pinged = timeout(LONG, post_when_there_is_a_place(&server, &ping)).await.unwrap();
    assert!(pinged.starts_with("HTTP/1.1 204"), "{pinged}");
    drop(stuck);
}

/// A connection that has just ended may still hold its place.
async fn post_when_there_is_a_place(server: &Server, request: &str) -> String {
    loop {
        let answer = server.send(request.as_bytes()).await;
        if !answer.starts_with("HTTP/1.1 503") {
            return answer;
        }
        assert!(answer.contains("retry-after: 1"), "{answer}");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_the_next_is_served() {
    let mut connections = Connections::default();
    connections.max_connections = 1;
    let server = Server::with(ServiceOptions::default(), connections).await;
    let ping = head("GET", "/v2/ping", "");
    let mut first = server.connect().await;
    first.write_all(ping.as_bytes()).await.unwrap();
    crate::socket::answer(&mut first).await;
    let refused = server.send(ping.as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("retry-after: 1") && refused.contains("Too many connections"));
    drop(first);
    let ping = head("GET", "/v2/ping", "Connection: close\r\n");
    let served = timeout(LONG, post_when_there_is_a_place(&server, &ping)).await.unwrap();
    assert!(served.starts_with("HTTP/1.1 204"), "{served}");
}
