//! `roundelay serve` as it is started: who may be let in from where.

use std::process::{Output, Stdio};

use tokio::process::Command;
use tokio::time::timeout;

use crate::socket::LONG;
use crate::tls::file;

/// Runs the command until it ends by itself, which it must; it needs no nodes, so it is given none.
async fn serve(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roundelay"));
    command.arg("serve").args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    command.env_remove("ROUNDELAY_NODES").env_remove("ROUNDELAY_TOKENS");
    timeout(LONG, command.output()).await.expect("the service goes on").unwrap()
}

#[tokio::test]
async fn a_service_without_tokens_does_not_listen_to_the_world() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let refused = serve(&["--listen", address]).await;
        let told = String::from_utf8(refused.stderr).unwrap();
        // A machine without IPv6 cannot listen there at all.
        assert!(!refused.status.success(), "{told}");
        assert!(told.contains("--insecure") || told.contains("listen on [::]:0"), "{told}");
        assert!(!told.contains("listening on"), "{told}");
    }
}

#[tokio::test]
async fn a_file_of_tokens_that_cannot_be_read_ends_the_service_before_it_starts() {
    let refused = serve(&["--listen", "127.0.0.1:0", "--tokens", "no such file"]).await;
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(told.starts_with("roundelay: ") && !told.contains("listening on"), "{told}");
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_ends_the_service_before_it_starts() {
    let (cert, key) = (file("first.pem"), file("first.key"));
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let other = file("second.key");
    let refused: [(&[&str], &str); 5] = [
        (&["--tls-cert", cert], "belong together"),
        (&["--tls-key", key], "belong together"),
        (&["--tls-cert", "none.pem", "--tls-key", key], "TLS: none.pem: No such file"),
        (&["--tls-cert", cert, "--tls-key", cert], "there is no private key in it"),
        (&["--tls-cert", cert, "--tls-key", other.to_str().unwrap()], "second.key: not the key of"),
    ];
    for (arguments, said) in refused {
        let refused = serve(arguments).await;
        let told = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{told}");
        assert!(told.contains(said) && !told.contains("listening on"), "{told}");
    }
    // That it cannot be overheard does not say who may come in.
    let open = ["--tls-cert", cert, "--tls-key", key, "--listen", "0.0.0.0:0"];
    let told = String::from_utf8(serve(&open).await.stderr).unwrap();
    assert!(told.contains("--insecure") && !told.contains("listening on"), "{told}");
}

#[cfg(not(feature = "otel"))]
#[tokio::test]
async fn a_service_without_traces_says_so() {
    let refused = serve(&["--otlp-endpoint", "http://127.0.0.1:4318"]).await;
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2), "{told}");
    assert!(told.contains("--features otel") && !told.contains("listening on"), "{told}");
}
