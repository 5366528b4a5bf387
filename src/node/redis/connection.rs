//! A connection that has been looked at before its use.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisError, Value};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::lane::Shared;
use super::wire::{Context, refused_by_server};
use super::{inspect, script};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long answers may take before the connection is given up. Well above any suspicion: callers
/// stop waiting long before, and what was sent may still be applied by a server that was stopped.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

/// An open connection and what is known of its server.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sending: Sending,
    /// What the server says unasked: nothing unless something is watched (`watch`), but the library
    /// tells the end of the connection so.
    pushes: UnboundedReceiver<PushInfo>,
}

/// What it takes to send on a connection.
#[derive(Debug, Clone)]
pub(super) struct Sending {
    inner: MultiplexedConnection,
    pub(super) context: Context,
}

impl Connection {
    /// Connects, inspects the server and loads the scripts. What makes the server unsafe is noted
    /// in `shared`, and the connection is then good for `Identity` only.
    pub(super) async fn open(shared: &Shared) -> Result<Self, String> {
        let (sender, pushes) = unbounded_channel();
        let config = AsyncConnectionConfig::new()
            .set_push_sender(sender)
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let client = &shared.address.client;
        let inner = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| told(&error))?;
        let mut connection =
            Self { sending: Sending { inner, context: Context::default() }, pushes };
        let mut pipe = redis::pipe();
        inspect::ask(&mut pipe);
        let answers =
            connection.sending.send(pipe, inspect::QUESTIONS).await.map_err(|e| told(&e))?;
        let inspected = inspect::read(&answers)?;
        if inspected.loading {
            return Err("it is loading its data".into());
        }
        let safe = inspected.unsafe_settings.is_empty();
        shared.note(&inspected.unsafe_settings);
        connection.sending.context =
            Context { run_id: inspected.run_id, durable: inspected.durable };
        let answers =
            connection.sending.send(script::load(), script::count()).await.map_err(|e| told(&e))?;
        let failed = answers.iter().find_map(|answer| match answer {
            Value::ServerError(error) => Some(format!("a script was refused: {error:?}")),
            _ => None,
        });
        match failed {
            Some(reason) if safe => Err(refused(&answers).unwrap_or(reason)),
            _ => Ok(connection),
        }
    }

    /// Waits for the end of the connection. A server that went away while nothing was under way
    /// is noticed here, before anything is sent to it in vain and becomes unknown.
    pub(super) async fn closed(&mut self) {
        while self.push().await.is_some() {}
    }

    /// What the server says unasked; none at the end of the connection.
    pub(super) async fn push(&mut self) -> Option<PushInfo> {
        self.pushes.recv().await.filter(|push| push.kind != PushKind::Disconnection)
    }
}

impl Sending {
    /// Sends commands and gives their answers. The first poll puts them in order behind what was
    /// sent before; a future that was polled once may be dropped without taking them back.
    pub(super) fn send(
        &self,
        pipe: redis::Pipeline,
        answers: usize,
    ) -> impl Future<Output = Result<Vec<Value>, RedisError>> + Send + use<> {
        let mut inner = self.inner.clone();
        async move { inner.send_packed_commands(&pipe, 0, answers).await }
    }
}

fn refused(answers: &[Value]) -> Option<String> {
    answers.iter().find_map(refused_by_server)
}

/// An error as it is told: without what the library says of itself.
pub(super) fn told(error: &RedisError) -> String {
    error.to_string()
}
