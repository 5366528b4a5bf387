//! Connections: how many there are, how long they may take, and how they end.
//!
//! A client that sends or takes its bytes slowly costs one place among the connections, and that
//! for a bounded time. What it costs in memory is bounded by its head (`Connections`) and its body
//! (`super::body`).

mod patience;
mod tls;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use uuid::Uuid;

pub use tls::Tls;

use patience::Patience;

use super::waiting::Stopping;

/// How long requests in flight may take once the service was told to stop.
const LAST_REQUESTS: Duration = Duration::from_secs(10);
/// How long to wait when the system gives no connection: it is out of file descriptors.
const OUT_OF_FILES: Duration = Duration::from_millis(500);
/// Connections that are being told that there is no place for them.
const TURNED_AWAY: usize = 64;
/// How long a client that is turned away may take to read why.
const FAREWELL: Duration = Duration::from_secs(1);
const NO_PLACE: &str = "HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/json\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 126\r\n";
const NO_PLACE_BODY: &str = "{\"title\":\"Service temporarily unavailable\",\"description\":\"Too many \
    connections. Nothing was changed. Please try again later.\"}";

/// How long a change of the certificate may go unnoticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What connections may cost.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Connections {
    /// Connections at once; more are answered 503. Default 4,096.
    pub max_connections: usize,
    /// Bytes of a request's line and headers, at least 8,192; more are answered 431. Default
    /// 32,768.
    pub max_head_bytes: usize,
    /// Headers of a request; more are answered 431. Default 100.
    pub max_headers: usize,
    /// How long a request's head may take, how long a connection may wait for one, and how long the
    /// handshake of TLS may take, in seconds. Default 30.
    pub head_timeout: u64,
    /// How long a client may take none of its answer, in seconds; also how much longer a whole answer
    /// may take than it does at 16 KiB a second. Default 30.
    pub write_timeout: u64,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            max_connections: 4_096,
            max_head_bytes: 32_768,
            max_headers: 100,
            head_timeout: 30,
            write_timeout: 30,
        }
    }
}

/// Least size of the buffer for a head, as the HTTP library wants it.
const LEAST_HEAD_BYTES: usize = 8_192;

/// Serves `router` on `listener` until `shutdown` ends: then no connection is taken any more, idle
/// ones are closed, requests that wait for messages are answered, and others in flight have ten
/// seconds to finish; what takes longer is cut off.
///
/// # Errors
/// None at present: a listener that gives no connections for a while is asked again.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    connections: Connections,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    Server { router, connections, tls: None }.run(listener, shutdown).await
}

/// The same as `serve` with TLS, whose certificate is read again when it changes.
///
/// # Errors
/// As those of `serve`.
pub async fn serve_tls(
    listener: TcpListener,
    tls: Tls,
    router: Router,
    connections: Connections,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    Server { router, connections, tls: Some(tls) }.run(listener, shutdown).await
}

#[derive(Debug)]
struct Server {
    router: Router,
    connections: Connections,
    tls: Option<Tls>,
}

impl Server {
    async fn run(
        mut self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let (stop, stopping) = watch::channel(());
        // Requests that wait for messages are answered when the service stops.
        self.router = self.router.layer(Extension(Stopping(stopping.clone())));
        let server = Arc::new(self);
        let places = Arc::new(Semaphore::new(server.connections.max_connections));
        let farewells = Arc::new(Semaphore::new(TURNED_AWAY));
        let mut tasks = JoinSet::new();
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(_) = tasks.join_next() => continue,
                _ = look.tick(), if server.tls.is_some() => {
                    if let Some(tls) = server.tls.clone() {
                        tasks.spawn(async move { tls.refresh().await });
                    }
                    continue;
                }
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) if is_of_the_client(&error) => continue,
                Err(error) => {
                    tracing::warn!(%error, "no connection can be taken");
                    tokio::select! {
                        biased;
                        () = &mut shutdown => break,
                        () = sleep(OUT_OF_FILES) => continue,
                    }
                }
            };
            if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                let connection = Arc::clone(&server).connection(stream, stopping.clone(), place);
                tasks.spawn(connection);
            } else if let Ok(place) = Arc::clone(&farewells).try_acquire_owned() {
                tasks.spawn(Arc::clone(&server).turn_away(stream, place));
            }
        }
        drop(listener);
        stop.send_replace(());
        let ended = timeout(LAST_REQUESTS, async { while tasks.join_next().await.is_some() {} });
        if ended.await.is_err() {
            tracing::warn!("requests in flight were cut off: they took longer than ten seconds");
        }
        Ok(())
    }

    /// One connection, from its handshake to its end.
    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        mut stopping: watch::Receiver<()>,
        _place: OwnedSemaphorePermit,
    ) {
        // Small answers must not wait for the client's acknowledgement of the one before.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "connection without TCP_NODELAY");
        }
        let Some(tls) = &self.tls else {
            return self.requests(stream, stopping).await;
        };
        let patience = Duration::from_secs(self.connections.head_timeout);
        let shaken = tokio::select! {
            biased;
            _ = stopping.changed() => return,
            shaken = timeout(patience, tls.acceptor().accept(stream)) => shaken,
        };
        match shaken {
            Ok(Ok(stream)) => self.requests(stream, stopping).await,
            Ok(Err(error)) => tracing::debug!(%error, "no handshake"),
            Err(_) => tracing::debug!("the handshake took too long"),
        }
    }

    /// The requests of a connection.
    async fn requests<S>(&self, stream: S, mut stopping: watch::Receiver<()>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let limits = &self.connections;
        let stream = Patience::new(stream, Duration::from_secs(limits.write_timeout));
        let service = TowerToHyperService::new(self.router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(limits.head_timeout))
            .max_headers(limits.max_headers)
            .max_buf_size(limits.max_head_bytes.max(LEAST_HEAD_BYTES))
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let ended = tokio::select! {
            biased;
            _ = stopping.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            ended = connection.as_mut() => ended,
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }

    /// Says that there is no place.
    async fn turn_away(self: Arc<Self>, stream: TcpStream, _place: OwnedSemaphorePermit) {
        let said = async {
            match &self.tls {
                None => say_farewell(stream).await,
                Some(tls) => say_farewell(tls.acceptor().accept(stream).await?).await,
            }
        };
        if !matches!(timeout(FAREWELL, said).await, Ok(Ok(()))) {
            tracing::debug!("a client that was turned away did not listen");
        }
    }
}

/// Whether it was the client who ended a connection before it was taken.
fn is_of_the_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// The answer when there is no place, with an id as every answer has one.
fn no_place() -> String {
    let id = Uuid::new_v4();
    format!("{NO_PLACE}x-openstack-request-id: req-{id}\r\n\r\n{NO_PLACE_BODY}")
}

/// Tells a client that there is no place. What it has sent is read first: a connection that is closed
/// with bytes unread is reset, and the answer lost.
async fn say_farewell(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    stream.write_all(no_place().as_bytes()).await?;
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_for_those_without_a_place_is_whole() {
        let text = no_place();
        assert!(text.contains("\r\nx-openstack-request-id: req-"));
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["title"], "Service temporarily unavailable");
    }
}
