//! Requests to Keystone, and to who else is named by a URL: one connection each, bounded in time and bytes.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::http::uri::Scheme;
use axum::http::{HeaderMap, Request, StatusCode, Uri};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Longest answer, in bytes: a token with its service catalogue has some tens of thousands.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Something that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The parser's own error would quote what it found in place of a text.
        let text = String::deserialize(deserializer);
        text.map(Self).map_err(|_| D::Error::custom("a secret must be a text, in quotes"))
    }
}

impl Secret {
    /// Takes a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Where requests go.
pub(crate) struct Upstream {
    host: String,
    port: u16,
    /// In front of the paths of requests; without a slash at its end.
    prefix: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "Upstream({scheme}://{}:{}{})", self.host, self.port, self.prefix)
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why nothing came back, for the log.
pub(crate) type Unreached = Box<dyn std::error::Error + Send + Sync>;

impl Upstream {
    /// Takes an `http` or `https` URL of `what`, as errors call it.
    pub(crate) fn new(what: &str, url: &str) -> io::Result<Self> {
        let wrong = |why: &str| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{what}: {url:?}: {why}"))
        };
        let uri: Uri = url.parse().map_err(|_| wrong("not a URL"))?;
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(wrong("must start with http:// or https://")),
        };
        let host = uri.host().ok_or_else(|| wrong("without a host"))?.to_owned();
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let prefix = uri.path().trim_end_matches('/').to_owned();
        let tls = if secure { Some((connector()?, server_name(&host)?)) } else { None };
        Ok(Self { host, port, prefix, tls })
    }

    /// Sends a request for `path`, below the URL's own.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, Unreached> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header("host", format!("{}:{}", self.host, self.port))
            .header("accept", "application/json")
            .header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body))?;
        timeout(LIMIT, self.exchange(request)).await?
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, Unreached> {
        // An IPv6 address stands in brackets in a URL, and nowhere else.
        let host = self.host.trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, self.port)).await?;
        match &self.tls {
            Some((connector, name)) => {
                talk(connector.connect(name.clone(), stream).await?, request).await
            }
            None => talk(stream, request).await,
        }
    }
}

async fn talk<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, Unreached>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await?.to_bytes();
        Ok::<_, Unreached>(Answer { status: head.status, headers: head.headers, body })
    };
    // The connection has to be driven while it is used; it ends with this call.
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        ended = connection => {
            ended?;
            // Its last bytes may be an answer.
            exchange.await
        }
    }
}

fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// Trusts whom the system trusts.
fn connector() -> io::Result<TlsConnector> {
    let mut roots = rustls::RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a certificate of the system cannot be used");
    }
    roots.add_parsable_certificates(found.certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_of_the_wrong_type_is_not_quoted() {
        for wrong in ["12345678", "true", "[12345678]", "{\"a\": 12345678}"] {
            let error = serde_json::from_str::<Secret>(wrong).unwrap_err().to_string();
            assert!(error.contains("must be a text") && !error.contains("1234"), "{error}");
        }
        assert_eq!(serde_json::from_str::<Secret>("\"abc\"").unwrap().expose(), "abc");
    }
}
