//! A connection that has been looked at before its use.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisError, Value};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::address::Plain;
use super::driver::Driver;
use super::lane::Shared;
use super::wire::{Context, refused_by_server};
use super::{inspect, script};

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long answers may take before the connection is given up. Well above any suspicion: callers
/// stop waiting long before, and what was sent may still be applied by a server that was stopped.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);

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
    /// None: a task of its own moves the bytes.
    driver: Option<Arc<Driver>>,
    pub(super) context: Context,
}

pub(super) type Answer = Result<Vec<Value>, RedisError>;

/// The answers to what was sent. Unless a task moves the bytes, they come only while somebody else
/// does ([`Sending::driver`]), who looks here next.
pub(super) struct Answering {
    request: Pin<Box<dyn Future<Output = Answer> + Send>>,
    is_driven: bool,
}

impl Future for Answering {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Answer> {
        if !self.is_driven {
            return self.request.as_mut().poll(context);
        }
        // To be woken by the moving of bytes would be to be woken twice. Nor may Tokio's budget hide
        // an answer that is there: nothing would tell of it again.
        let mut request = std::pin::pin!(tokio::task::unconstrained(self.request.as_mut()));
        request.as_mut().poll(&mut std::task::Context::from_waker(Waker::noop()))
    }
}

impl Connection {
    /// Connects, inspects the server and loads the scripts. What makes the server unsafe is noted
    /// in `shared`, and the connection is then good for `Identity` only. A task of its own moves its
    /// bytes.
    pub(super) async fn open(shared: &Shared) -> Result<Self, String> {
        let (sender, pushes) = unbounded_channel();
        let config = config().set_push_sender(sender).set_connection_timeout(Some(CONNECT_TIMEOUT));
        let client = &shared.address.client;
        let inner = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| told(&error))?;
        Self::look(shared, inner, None, pushes).await
    }

    /// The same, but its bytes are moved by whoever waits: see [`Driver`]. With TLS, by a task.
    pub(super) async fn open_driven(shared: &Shared) -> Result<Self, String> {
        let Some(plain) = shared.address.plain() else { return Self::open(shared).await };
        let (sender, pushes) = unbounded_channel();
        let config = config().set_push_sender(sender);
        let settings = shared.address.client.get_connection_info().redis_settings();
        let connecting = async {
            Ok(match plain {
                Plain::Tcp(host, port) => {
                    let socket = super::address::tcp(host, port).await?;
                    let (inner, moving) =
                        MultiplexedConnection::new_with_config(settings, socket, config).await?;
                    (inner, Driver::new(moving))
                }
                #[cfg(unix)]
                Plain::Unix(path) => {
                    let socket = tokio::net::UnixStream::connect(path).await?;
                    let (inner, moving) =
                        MultiplexedConnection::new_with_config(settings, socket, config).await?;
                    (inner, Driver::new(moving))
                }
            })
        };
        let late = || Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        let connected = timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| late());
        let (inner, driver) = connected.map_err(|error: RedisError| told(&error))?;
        Self::look(shared, inner, Some(Arc::new(driver)), pushes).await
    }

    async fn look(
        shared: &Shared,
        inner: MultiplexedConnection,
        driver: Option<Arc<Driver>>,
        pushes: UnboundedReceiver<PushInfo>,
    ) -> Result<Self, String> {
        let sending = Sending { inner, driver, context: Context::default() };
        let mut connection = Self { sending, pushes };
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
    /// is noticed here, before anything is sent to it in vain and becomes unknown. `is_idle`: whether
    /// nobody else moves the bytes.
    pub(super) async fn closed(&mut self, is_idle: impl Fn() -> bool) {
        let Self { sending, pushes } = self;
        poll_fn(|context| {
            sending.task_waits(context.waker());
            if is_idle()
                && let Some(driver) = &sending.driver
            {
                driver.drive();
            }
            loop {
                match pushes.poll_recv(context) {
                    Poll::Ready(Some(push)) if push.kind != PushKind::Disconnection => {}
                    ended_or_not => return ended_or_not.map(drop),
                }
            }
        })
        .await;
    }

    /// What the server says unasked; none at the end of the connection. For connections that have a
    /// task of their own.
    pub(super) async fn push(&mut self) -> Option<PushInfo> {
        self.pushes.recv().await.filter(|push| push.kind != PushKind::Disconnection)
    }
}

impl Sending {
    /// Sends commands and waits for their answers, for a task that has the connection to itself.
    pub(super) async fn send(&self, pipe: redis::Pipeline, answers: usize) -> Answer {
        let mut answering = self.start(pipe, answers);
        let waiting = poll_fn(|context| {
            self.task_waits(context.waker());
            self.drive();
            Pin::new(&mut answering).poll(context)
        });
        let late = |_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        timeout(RESPONSE_TIMEOUT, waiting).await.unwrap_or_else(late)
    }

    /// Puts commands behind what was sent before. Whoever calls this moves bytes next ([`Sending::driver`]);
    /// from then on dropping what is returned does not take them back.
    pub(super) fn start(&self, pipe: redis::Pipeline, answers: usize) -> Answering {
        if let Some(driver) = &self.driver {
            driver.is_driven_next();
        }
        let mut inner = self.inner.clone();
        let mut request: Pin<Box<dyn Future<Output = Answer> + Send>> =
            Box::pin(async move { inner.send_packed_commands(&pipe, 0, answers).await });
        // The first poll queues it, in order. Tokio's budget must not put that off, and whoever
        // waits for the answer polls it again.
        let mut first = std::pin::pin!(tokio::task::unconstrained(request.as_mut()));
        let noop = &mut std::task::Context::from_waker(Waker::noop());
        if let Poll::Ready(answer) = first.as_mut().poll(noop) {
            request = Box::pin(std::future::ready(answer));
        }
        Answering { request, is_driven: self.driver.is_some() }
    }

    /// Moves what can be moved now, if no task does that.
    pub(super) fn drive(&self) {
        if let Some(driver) = &self.driver {
            driver.drive();
        }
    }

    /// What moves the bytes, if no task does.
    pub(super) fn driver(&self) -> Option<Arc<Driver>> {
        self.driver.clone()
    }

    /// Whom the next answer wakes: the lane's task, unless a call waits without it.
    pub(super) fn task_waits(&self, waker: &Waker) {
        if let Some(driver) = &self.driver {
            driver.task_waits(waker);
        }
    }

    /// Whom the next answer wakes: a call that was sent without the task.
    pub(super) fn call_waits(&self, waker: &Waker) {
        if let Some(driver) = &self.driver {
            driver.call_waits(waker);
        }
    }

    /// No call waits without the task any longer.
    pub(super) fn call_ended(&self) {
        if let Some(driver) = &self.driver {
            driver.call_ended();
        }
    }
}

/// Without a timer for each request: lanes have one for all of theirs.
fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None)
}

fn refused(answers: &[Value]) -> Option<String> {
    answers.iter().find_map(refused_by_server)
}

/// An error as it is told: without what the library says of itself.
pub(super) fn told(error: &RedisError) -> String {
    error.to_string()
}
