//! The HTTP service on three Redis servers; and a client for it and for whatever has the same
//! interface: keep-alive, one request at a time on each connection.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::{COPIES, Slots, free_port};
use crate::processes::Daemon;
use crate::redis_server::RedisServer;
use crate::target::{Answer, Post, Target};

const READY_WITHIN: Duration = Duration::from_secs(40);
const CLIENT: &str = "8f4c1b52-6d0e-4a0b-9d8a-2f1f64b7f0c3";
const PROJECT: &str = "load";

type Connection = SendRequest<Full<Bytes>>;

/// A service of which one can post over HTTP.
pub(crate) struct Http {
    address: SocketAddr,
    /// One for each poster.
    connections: Slots<Mutex<Option<Connection>>>,
    service: Daemon,
    servers: Vec<RedisServer>,
}

impl Http {
    /// `roundelay serve`, as this crate builds it.
    pub(crate) async fn start(queues: usize) -> Result<Self, String> {
        let mut servers = Vec::new();
        let mut command = Command::new(env!("CARGO_BIN_EXE_roundelay"));
        for _ in 0..COPIES {
            let server = RedisServer::start().await;
            command.arg("--node").arg(server.url());
            servers.push(server);
        }
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()?));
        command.arg("serve").arg("--listen").arg(address.to_string());
        Self::of(&mut command, address, servers, queues).await
    }

    /// Starts any service that will listen there, and makes the queues.
    pub(super) async fn of(
        command: &mut Command,
        address: SocketAddr,
        servers: Vec<RedisServer>,
        queues: usize,
    ) -> Result<Self, String> {
        let service = Daemon::start(command)?;
        let mut this = Self { address, connections: Slots::default(), service, servers };
        let deadline = Instant::now() + READY_WITHIN;
        for queue in 0..queues {
            while let Err(error) = this.create(queue).await {
                this.service.check()?;
                if Instant::now() >= deadline {
                    return Err(error);
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(this)
    }

    async fn create(&self, queue: usize) -> Result<(), String> {
        match self.ask(0, Method::PUT, &format!("/v2/queues/q{queue}"), "").await? {
            StatusCode::CREATED | StatusCode::NO_CONTENT => Ok(()),
            status => Err(format!("a queue was not made: {status}")),
        }
    }

    /// Sends a request on the connection of one poster and reads the whole answer.
    async fn ask(
        &self,
        by: usize,
        method: Method,
        path: &str,
        body: &str,
    ) -> Result<StatusCode, String> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header("client-id", CLIENT)
            .header("x-project-id", PROJECT)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .map_err(told)?;
        let slot = self.connections.get(by, async || Ok(Mutex::default())).await?;
        let mut slot = slot.lock().await;
        let mut connection = match slot.take() {
            Some(open) if !open.is_closed() => open,
            _ => self.connect().await?,
        };
        connection.ready().await.map_err(told)?;
        let answer = connection.send_request(request).await.map_err(told)?;
        let status = answer.status();
        answer.into_body().collect().await.map_err(told)?;
        *slot = Some(connection);
        Ok(status)
    }

    async fn connect(&self) -> Result<Connection, String> {
        let stream = TcpStream::connect(self.address).await.map_err(told)?;
        stream.set_nodelay(true).map_err(told)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(told)?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Target for Http {
    fn post(&self, post: Post) -> Answer<'_, ()> {
        async move {
            let text = "x".repeat(post.body.len());
            let message = format!(r#"{{"body":"{text}","ttl":3600}}"#);
            let messages = vec![message; post.messages].join(",");
            let (path, body) = (
                format!("/v2/queues/q{}/messages", post.queue),
                format!(r#"{{"messages":[{messages}]}}"#),
            );
            match self.ask(post.by, Method::POST, &path, &body).await? {
                StatusCode::CREATED => Ok(()),
                status => Err(status.to_string()),
            }
        }
        .boxed()
    }

    fn processes(&self) -> Vec<u32> {
        self.service.processes()
    }

    fn redis(&self) -> &[RedisServer] {
        &self.servers
    }
}
