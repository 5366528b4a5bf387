//! The HTTP service in this process, and a plain client: keep-alive, one request at a time on each
//! connection, nothing parsed beyond the status and the length.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use roundelay::http::{Connections, ServiceOptions, router, serve};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, oneshot};

use super::roundelay::Roundelay;
use crate::redis_server::RedisServer;
use crate::target::{Answer, Post, Target};

type Connection = Arc<Mutex<Option<BufStream<TcpStream>>>>;

pub(crate) struct Http {
    inner: Roundelay,
    address: std::net::SocketAddr,
    /// One for each poster.
    connections: std::sync::Mutex<Vec<Connection>>,
    stop: std::sync::Mutex<Option<oneshot::Sender<()>>>,
}

impl Http {
    pub(crate) async fn start(queues: usize) -> Result<Self, String> {
        let inner = Roundelay::on_redis(queues).await?;
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|e| e.to_string())?;
        let address = listener.local_addr().map_err(|e| e.to_string())?;
        let (stop, stopped) = oneshot::channel::<()>();
        let service = router(inner.store().clone(), ServiceOptions::default());
        tokio::spawn(serve(listener, service, Connections::default(), async {
            stopped.await.ok();
        }));
        Ok(Self {
            inner,
            address,
            connections: std::sync::Mutex::default(),
            stop: std::sync::Mutex::new(Some(stop)),
        })
    }

    fn connection(&self, by: usize) -> Result<Connection, String> {
        let mut connections = self.connections.lock().map_err(|error| error.to_string())?;
        while connections.len() <= by {
            connections.push(Arc::default());
        }
        connections.get(by).cloned().ok_or_else(|| "no connection".into())
    }
}

fn request(post: &Post) -> Vec<u8> {
    let body = "x".repeat(post.body.len());
    let messages: Vec<String> =
        (0..post.messages).map(|_| format!(r#"{{"body":"{body}","ttl":3600}}"#)).collect();
    let content = format!(r#"{{"messages":[{}]}}"#, messages.join(","));
    format!(
        "POST /v2/queues/q{}/messages HTTP/1.1\r\nHost: localhost\r\nX-Project-Id: load\r\n\
         Client-ID: 8f4c1b52-6d0e-4a0b-9d8a-2f1f64b7f0c3\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{content}",
        post.queue,
        content.len()
    )
    .into_bytes()
}

/// Sends a request and reads its answer; the status.
async fn exchange(stream: &mut BufStream<TcpStream>, request: &[u8]) -> std::io::Result<u16> {
    stream.write_all(request).await?;
    stream.flush().await?;
    let (mut status, mut length, mut line) = (0, 0, String::new());
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let text = line.trim_end();
        if text.is_empty() {
            break;
        }
        if let Some(rest) = text.strip_prefix("HTTP/1.1 ") {
            status = rest.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0);
        } else if let Some((name, value)) = text.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(status)
}

impl Target for Http {
    fn post(&self, post: Post) -> Answer<'_, ()> {
        async move {
            let connection = self.connection(post.by)?;
            let mut connection = connection.lock().await;
            let mut stream = match connection.take() {
                Some(open) => open,
                None => {
                    let stream =
                        TcpStream::connect(self.address).await.map_err(|e| e.to_string())?;
                    stream.set_nodelay(true).map_err(|error| error.to_string())?;
                    BufStream::new(stream)
                }
            };
            let status =
                exchange(&mut stream, &request(&post)).await.map_err(|error| error.to_string())?;
            *connection = Some(stream);
            if status == 201 { Ok(()) } else { Err(format!("status {status}")) }
        }
        .boxed()
    }

    fn redis(&self) -> &[RedisServer] {
        self.inner.redis()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        if let Ok(mut stop) = self.stop.lock()
            && let Some(stop) = stop.take()
        {
            stop.send(()).ok();
        }
        self.inner.close()
    }
}
