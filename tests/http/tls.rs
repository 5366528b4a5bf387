//! The service with TLS, on a socket. The certificates in `tls/` are of use for these tests alone: the
//! key of the one that signed them was thrown away.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use roundelay::Store;
use roundelay::http::{Connections, ServiceOptions, Tls, router, serve_tls};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::socket::{LONG, head, rest};

const PING: &str = "Connection: close\r\n";

pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http/tls").join(name)
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file(name)).unwrap()
}

/// A client that trusts who signed the service's certificates, or nobody.
fn connector(trusting: bool) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    if trusting {
        roots.add(certificate("ca.pem")).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// A service with the first certificate, in files of its own.
struct Server {
    address: SocketAddr,
    folder: TempDir,
}

impl Server {
    async fn start(connections: Connections) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::builder().embedded(3).open().await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self { address, folder };
        server.replace("first");
        let tls = Tls::open(server.path("cert.pem"), server.path("key.pem")).unwrap();
        let router = router(store, ServiceOptions::default());
        tokio::spawn(serve_tls(listener, tls, router, connections, std::future::pending()));
        server
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn replace(&self, name: &str) {
        std::fs::copy(file(&format!("{name}.pem")), self.path("cert.pem")).unwrap();
        std::fs::copy(file(&format!("{name}.key")), self.path("key.pem")).unwrap();
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn connect(&self, connector: &TlsConnector) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("localhost").unwrap();
        timeout(LONG, connector.connect(name, self.tcp().await)).await.expect("no handshake")
    }

    /// Sends a request on a connection of its own; returns what came back.
    async fn send(&self, request: &str) -> io::Result<String> {
        let mut stream = self.connect(&connector(true)).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        timeout(LONG, stream.read_to_string(&mut answer)).await.expect("no end")?;
        Ok(answer)
    }

    async fn is_alive(&self) {
        let answer = self.send(&head("GET", "/v2/ping", PING)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    }

    /// The certificate that it shows now.
    async fn shown(&self) -> CertificateDer<'static> {
        let stream = self.connect(&connector(true)).await.unwrap();
        let chain = stream.get_ref().1.peer_certificates().unwrap();
        chain[0].clone().into_owned()
    }
}

#[tokio::test]
async fn the_service_is_reached_by_tls_with_a_certificate_that_the_client_trusts() {
    let server = Server::start(Connections::default()).await;
    let message = format!("{{\"messages\": [{{\"body\": \"{}\"}}]}}", "x".repeat(200_000));
    let length = format!("Content-Length: {}\r\n{PING}", message.len());
    let post = format!("{}{message}", head("POST", "/v2/queues/q/messages", &length));
    let posted = server.send(&post).await.unwrap();
    assert!(posted.starts_with("HTTP/1.1 201"), "{posted}");
    let listed = head("GET", "/v2/queues/q/messages?echo=true", PING);
    let listed = server.send(&listed).await.unwrap();
    assert!(listed.contains(&"x".repeat(200_000)), "{}", listed.len());
    assert_eq!(server.shown().await, certificate("first.pem"));

    let refused = server.connect(&connector(false)).await.unwrap_err();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    server.is_alive().await;
}

#[tokio::test]
async fn a_certificate_that_is_replaced_is_taken_over() {
    let server = Server::start(Connections::default()).await;
    let mut before = server.connect(&connector(true)).await.unwrap();
    server.replace("second");
    let taken_over = async {
        while server.shown().await != certificate("second.pem") {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(LONG, taken_over).await.expect("the second certificate is not taken over");
    // Whoever was there is not thrown out.
    before.write_all(head("GET", "/v2/ping", PING).as_bytes()).await.unwrap();
    let mut answer = String::new();
    before.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
}

#[tokio::test]
async fn what_is_no_tls_is_not_answered_and_harms_nobody() {
    let server = Server::start(Connections::default()).await;
    let mut plain = server.tcp().await;
    plain.write_all(head("GET", "/v2/ping", PING).as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    drop(timeout(LONG, plain.read_to_end(&mut answer)).await.expect("no end"));
    // An alert at most.
    assert!(answer.len() < 16, "{answer:?}");
    // The start of a handshake that announces more than one may have.
    let mut huge = server.tcp().await;
    huge.write_all(b"\x16\x03\x01\x40\x00\x01\xff\xff\xff").await.unwrap();
    drop(huge.write_all(&vec![0; 1 << 20]).await);
    drop(timeout(LONG, huge.read_to_end(&mut answer)).await.expect("no end"));
    server.is_alive().await;
}

#[tokio::test]
async fn a_handshake_that_does_not_end_loses_its_place() {
    let mut connections = Connections::default();
    (connections.head_timeout, connections.max_connections) = (1, 1);
    let server = Server::start(connections).await;
    let mut silent = server.tcp().await;
    let refused = server.send(&head("GET", "/v2/ping", PING)).await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert_eq!(rest(&mut silent).await, "");
    // Nor does it help to send it byte by byte: each comes in time, all of them do not.
    let mut slow = server.tcp().await;
    let crumbs = async {
        for byte in [b"\x16\x03\x01\x40\x00\x01".to_vec(), vec![0; 1000]].concat() {
            slow.write_all(&[byte]).await?;
            sleep(Duration::from_millis(50)).await;
        }
        Ok::<(), io::Error>(())
    };
    assert!(timeout(LONG, crumbs).await.expect("no end").is_err());
    let served = async {
        while !matches!(server.send(&head("GET", "/v2/ping", PING)).await,
            Ok(answer) if answer.starts_with("HTTP/1.1 204"))
        {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, served).await.expect("the place is still taken");
}
