//! A client of the services: one connection, one request at a time. When a service does not answer,
//! the next request goes to the next one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST, RETRY_AFTER};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::services::Service;

/// How long an answer is waited for: longer than any operation takes at the service.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(1);
/// How soon the next service is tried after one that is not there.
const NEXT: Duration = Duration::from_millis(5);
pub(crate) const PROJECT: &str = "chaos";

/// What came of a request.
#[derive(Debug)]
pub(crate) enum Answer {
    Status {
        status: StatusCode,
        /// Whether it says when to come again.
        is_retryable: bool,
        body: Value,
    },
    /// It was not sent: nobody is there.
    Unsent(String),
    /// No whole answer came.
    Silence(String),
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Failure {
    /// Whether it may have had its effect.
    pub(crate) may_have_happened: bool,
    /// Whether the caller was told to try again: by the answer, or by getting none.
    pub(crate) is_retryable: bool,
    pub(crate) error: String,
}

/// A client, and which service it is with.
#[derive(Debug)]
pub(crate) struct Client {
    services: Arc<Vec<Service>>,
    at: usize,
    id: String,
    connection: Option<(SocketAddr, SendRequest<Full<Bytes>>)>,
}

impl Client {
    pub(crate) fn new(services: &Arc<Vec<Service>>, number: usize) -> Self {
        let id = format!("8f4c1b52-6d0e-4a0b-9d8a-{number:012x}");
        Self { services: Arc::clone(services), at: number, id, connection: None }
    }

    /// Goes on with the next service.
    pub(crate) fn move_on(&mut self) {
        self.at += 1;
        self.connection = None;
    }

    /// Sends a request and waits for the whole answer.
    pub(crate) async fn ask(&mut self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let mut connection = match self.connected().await {
            Ok(connection) => connection,
            Err(error) => {
                self.move_on();
                sleep(NEXT).await;
                return Answer::Unsent(error);
            }
        };
        let answer = timeout(PATIENCE, self.exchange(&mut connection.1, method, path, body)).await;
        match answer.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}"))) {
            Ok(answer) => {
                self.connection = Some(connection);
                answer
            }
            Err(error) => {
                self.move_on();
                Answer::Silence(error)
            }
        }
    }

    /// The connection, or a new one if there is none or the service is another process now.
    async fn connected(&mut self) -> Result<(SocketAddr, SendRequest<Full<Bytes>>), String> {
        let service = &self.services[self.at % self.services.len()];
        let address = service.address().ok_or("the service does not run")?;
        if let Some((to, mut open)) = self.connection.take()
            && to == address
            && open.ready().await.is_ok()
        {
            return Ok((to, open));
        }
        let stream = timeout(CONNECT, TcpStream::connect(address)).await.map_err(told)?;
        let stream = stream.map_err(told)?;
        stream.set_nodelay(true).map_err(told)?;
        let (mut sender, driver) = handshake(TokioIo::new(stream)).await.map_err(told)?;
        tokio::spawn(driver);
        sender.ready().await.map_err(told)?;
        Ok((address, sender))
    }

    async fn exchange(
        &self,
        connection: &mut SendRequest<Full<Bytes>>,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, String> {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header("client-id", &self.id)
            .header("x-project-id", PROJECT)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(told)?;
        let answer = connection.send_request(request).await.map_err(told)?;
        let (status, is_retryable) = (answer.status(), answer.headers().contains_key(RETRY_AFTER));
        let bytes = answer.into_body().collect().await.map_err(told)?.to_bytes();
        let body = match bytes.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&bytes).map_err(told)?,
        };
        Ok(Answer::Status { status, is_retryable, body })
    }
}

fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Answer {
    /// The body of an answer with one of these statuses; anything else is a failure.
    pub(crate) fn expect(self, fine: &[StatusCode]) -> Result<(StatusCode, Value), Failure> {
        match self {
            Self::Status { status, body, .. } if fine.contains(&status) => Ok((status, body)),
            Self::Status { status, is_retryable, body } => {
                let description = body["description"].as_str().unwrap_or_default();
                Err(Failure {
                    may_have_happened: !description.contains("Nothing was changed"),
                    is_retryable,
                    error: format!("{}: {description}", status.as_u16()),
                })
            }
            Self::Unsent(error) => {
                Err(Failure { may_have_happened: false, is_retryable: true, error })
            }
            Self::Silence(error) => {
                Err(Failure { may_have_happened: true, is_retryable: true, error })
            }
        }
    }
}

impl Failure {
    /// As the oracles call it.
    pub(crate) fn into_answer<T>(self) -> crate::oracles::Answer<T> {
        match self.may_have_happened {
            true => crate::oracles::Answer::Unknown(self.error),
            false => crate::oracles::Answer::NotApplied(self.error),
        }
    }
}
