//! A service on a socket, and what is said to it byte by byte.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use roundelay::Store;
use roundelay::http::{Connections, ServiceOptions, router, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::CLIENT;

/// Longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) task: JoinHandle<io::Result<()>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(ServiceOptions::default(), Connections::default()).await
    }

    pub(crate) async fn with(options: ServiceOptions, connections: Connections) -> Self {
        let store = Store::builder().embedded(3).open().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move { drop(stopped.await) };
        let task = tokio::spawn(serve(listener, router(store, options), connections, shutdown));
        Self { address, stop, task }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes on a connection of their own; returns all that came back. The service may answer
    /// and close before it has read everything.
    pub(crate) async fn send(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        drop(stream.write_all(bytes).await);
        rest(&mut stream).await
    }

    /// Asserts that the service is alive: it answers a ping.
    pub(crate) async fn is_alive(&self) {
        let ping = head("GET", "/v2/ping", "Connection: close\r\n");
        let answer = self.send(ping.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    }
}

pub(crate) fn head(method: &str, path: &str, more: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nClient-ID: {CLIENT}\r\nX-Project-Id: p\r\n{more}\r\n"
    )
}

/// Reads until the connection ends, one way or another.
pub(crate) async fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut part = [0; 4096];
    loop {
        match timeout(LONG, stream.read(&mut part)).await.expect("the connection does not end") {
            Ok(0) | Err(_) => return String::from_utf8(text).unwrap(),
            Ok(len) => text.extend_from_slice(&part[..len]),
        }
    }
}

/// Reads the head of an answer without a body.
pub(crate) async fn answer(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        text.push(char::from(timeout(LONG, stream.read_u8()).await.unwrap().unwrap()));
    }
    text
}
