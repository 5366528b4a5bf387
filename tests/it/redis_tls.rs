//! Nodes behind TLS. The certificates in `tls/` are of use for this test alone: the key of the one
//! that signed was thrown away.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use roundelay::node::redis::RedisNode;
use roundelay::node::{Node, NodeError, Op, Reply};

use super::redis_server::RedisServer;

fn file(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/tls").join(name).display().to_string()
}

/// A server that is reached by TLS, and its address without a scheme.
async fn server() -> (RedisServer, String) {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = free.local_addr().expect("its address").port();
    drop(free);
    let (certificate, key, ca) = (file("server.pem"), file("server.key"), file("ca.pem"));
    let options = [
        ["--tls-port", &port.to_string()],
        ["--tls-cert-file", &certificate],
        ["--tls-key-file", &key],
        ["--tls-ca-cert-file", &ca],
        ["--tls-auth-clients", "no"],
    ];
    let server = RedisServer::start_with(options.as_flattened()).await;
    (server, format!("127.0.0.1:{port}"))
}

#[tokio::test]
async fn a_server_is_reached_by_tls() {
    let (_server, address) = server().await;
    let url = format!("rediss://{address}/?ca={}", file("ca.pem"));
    let node = RedisNode::connect(&url).unwrap();
    let replies = node.call(vec![Op::Identity]).await.unwrap();
    assert!(matches!(replies[..], [Reply::Identity(_)]), "{replies:?}");
    assert_eq!(node.name(), format!("rediss://{address}"));
}

#[tokio::test]
async fn a_server_whose_certificate_nobody_signed_is_not_reached() {
    let (_server, address) = server().await;
    let node = RedisNode::connect(&format!("rediss://{address}")).unwrap();
    let error = node.call(vec![Op::Identity]).await.unwrap_err();
    let NodeError::Unreached { reason, .. } = &error else { panic!("{error:?}") };
    assert!(reason.contains("certificate"), "{reason}");
}

#[tokio::test]
async fn certificates_that_cannot_be_read_are_named() {
    let missing = PathBuf::from(file("none.pem"));
    let url = format!("rediss://127.0.0.1:1/?ca={}", missing.display());
    let error = RedisNode::connect(&url).unwrap_err().to_string();
    assert!(error.contains("none.pem"), "{error}");
}
