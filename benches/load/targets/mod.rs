//! The targets, one a file, and how they reach Redis servers.

pub(crate) mod blob;
pub(crate) mod http;
pub(crate) mod nats;
mod nats_wire;
#[cfg(feature = "rabbitmq")]
pub(crate) mod rabbitmq;
pub(crate) mod raw;
pub(crate) mod roundelay;
pub(crate) mod set;
pub(crate) mod wait;
pub(crate) mod zaqar;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, IntoConnectionInfo as _, Pipeline, Value};

use crate::redis_server::RedisServer;

/// Copies of everything, on every target.
const COPIES: usize = 3;
const TIMEOUT: Duration = Duration::from_secs(20);

/// Three Redis servers and one connection to each.
pub(crate) struct Three {
    pub(crate) servers: Vec<RedisServer>,
    connections: Vec<MultiplexedConnection>,
}

impl Three {
    pub(crate) async fn start() -> Result<Self, String> {
        let (mut servers, mut connections) = (Vec::new(), Vec::new());
        for _ in 0..COPIES {
            let server = RedisServer::start().await;
            connections.push(connect(&server.url()).await?);
            servers.push(server);
        }
        Ok(Self { servers, connections })
    }

    /// Sends a command to all three at once, and waits for all.
    pub(crate) async fn all(&self, command: &Cmd) -> Result<(), String> {
        let calls = self.connections.iter().map(|connection| {
            let mut connection = connection.clone();
            async move { command.query_async::<Value>(&mut connection).await }
        });
        try_join_all(calls).await.map(drop).map_err(|error| error.to_string())
    }

    /// The same with several commands.
    pub(crate) async fn all_of(&self, pipe: &Pipeline) -> Result<(), String> {
        let calls = self.connections.iter().map(|connection| {
            let mut connection = connection.clone();
            async move { pipe.query_async::<Value>(&mut connection).await }
        });
        try_join_all(calls).await.map(drop).map_err(|error| error.to_string())
    }

    /// Asks the first one.
    pub(crate) async fn ask(&self, command: &Cmd) -> Result<Value, String> {
        let Some(first) = self.connections.first() else { return Err("no server".into()) };
        command.query_async(&mut first.clone()).await.map_err(|error| error.to_string())
    }
}

/// A connection without Nagle's delay that does not give up early.
pub(crate) async fn connect(url: &str) -> Result<MultiplexedConnection, String> {
    let info = url.into_connection_info().map_err(|error| error.to_string())?;
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    let client =
        redis::Client::open(info.set_tcp_settings(tcp)).map_err(|error| error.to_string())?;
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(TIMEOUT));
    client
        .get_multiplexed_async_connection_with_config(&config)
        .await
        .map_err(|error| error.to_string())
}

/// One thing for each caller, made when it is first asked for.
pub(crate) struct Slots<T>(tokio::sync::Mutex<HashMap<usize, Arc<T>>>);

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self(tokio::sync::Mutex::default())
    }
}

impl<T> Slots<T> {
    pub(crate) async fn get(
        &self,
        by: usize,
        make: impl AsyncFnOnce() -> Result<T, String>,
    ) -> Result<Arc<T>, String> {
        let mut slots = self.0.lock().await;
        if let Some(made) = slots.get(&by) {
            return Ok(Arc::clone(made));
        }
        let made = Arc::new(make().await?);
        slots.insert(by, Arc::clone(&made));
        Ok(made)
    }
}

/// A port of this machine that was free a moment ago.
pub(crate) fn free_port() -> Result<u16, String> {
    let listener =
        std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}
