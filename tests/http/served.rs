//! The service on a socket: connections, bodies that are too long, and an end in order.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::socket::{LONG, Server, answer, head, rest};

#[tokio::test]
async fn idle_connections_end_and_requests_in_flight_are_answered() {
    let Server { address, stop, task } = Server::start().await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(head("GET", "/v2/ping", "").as_bytes()).await.unwrap();
    assert!(answer(&mut idle).await.starts_with("HTTP/1.1 204"));
    let mut busy = TcpStream::connect(address).await.unwrap();
    let expect = "Expect: 100-continue\r\nContent-Length: 2\r\n";
    busy.write_all(head("PUT", "/v2/queues/q", expect).as_bytes()).await.unwrap();
    // Told to go on, so its handler is at work.
    assert!(answer(&mut busy).await.starts_with("HTTP/1.1 100"));
    stop.send(()).unwrap();
    assert_eq!(rest(&mut idle).await, "");
    busy.write_all(b"{}").await.unwrap();
    assert!(rest(&mut busy).await.starts_with("HTTP/1.1 201"));
    timeout(LONG, task).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_announced_or_not() {
    let Server { address, stop, task } = Server::start().await;
    let mut announced = TcpStream::connect(address).await.unwrap();
    let more = "Content-Length: 1000000000\r\nConnection: close\r\n";
    let path = "/v2/queues/q/messages";
    announced.write_all(head("POST", path, more).as_bytes()).await.unwrap();
    assert!(answer(&mut announced).await.starts_with("HTTP/1.1 400"));
    let mut chunked = TcpStream::connect(address).await.unwrap();
    let more = "Transfer-Encoding: chunked\r\nConnection: close\r\n";
    chunked.write_all(head("POST", path, more).as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    for _ in 0..5 {
        // The server may have answered and gone before the last one.
        drop(chunked.write_all(chunk.as_bytes()).await);
    }
    assert!(answer(&mut chunked).await.starts_with("HTTP/1.1 400"));
    stop.send(()).unwrap();
    timeout(LONG, task).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_chunked_body_is_read_like_any_other() {
    let Server { address, stop, task } = Server::start().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let more = "Transfer-Encoding: chunked\r\nConnection: close\r\n";
    let body = r#"{"messages": [{"body": 1}]}"#;
    let request = format!(
        "{}{:x}\r\n{body}\r\n0\r\n\r\n",
        head("POST", "/v2/queues/q/messages", more),
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(rest(&mut stream).await.starts_with("HTTP/1.1 201"));
    stop.send(()).unwrap();
    timeout(LONG, task).await.unwrap().unwrap().unwrap();
}
