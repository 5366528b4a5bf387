//! `roundelay serve`: the Zaqar v2 service.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use roundelay::http::{self, Connections, Metrics, Tls};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::settings::Settings;
use crate::traces::Detail;

const LISTEN: &str = "127.0.0.1:8888";
/// How long nodes may take to be told goodbye; nothing depends on it.
const GOODBYE: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address to listen on [default: 127.0.0.1:8888]
    #[arg(long, value_name = "ADDRESS", env = "ROUNDELAY_LISTEN")]
    listen: Option<String>,
    /// File of the tokens with which one may come in (JSON)
    #[arg(long, value_name = "FILE", env = "ROUNDELAY_TOKENS")]
    tokens: Option<PathBuf>,
    /// Certificate to serve HTTPS with, in PEM; read again when it changes
    #[arg(long, value_name = "FILE", env = "ROUNDELAY_TLS_CERT")]
    tls_cert: Option<PathBuf>,
    /// Key of the certificate, in PEM
    #[arg(long, value_name = "FILE", env = "ROUNDELAY_TLS_KEY")]
    tls_key: Option<PathBuf>,
    /// Address to serve metrics for Prometheus on [default: none]
    #[arg(long, value_name = "ADDRESS", env = "ROUNDELAY_METRICS_LISTEN")]
    metrics_listen: Option<String>,
    /// Collector of traces: an http or https URL, to which /v1/traces is added [default: none]
    #[arg(long, value_name = "URL", env = "ROUNDELAY_OTLP_ENDPOINT")]
    pub(crate) otlp_endpoint: Option<String>,
    /// How much traces tell [default: calls]
    #[arg(long, value_name = "DETAIL", env = "ROUNDELAY_OTLP_DETAIL")]
    pub(crate) otlp_detail: Option<Detail>,
    /// Serve anybody, not just this machine, without asking who it is
    #[arg(long)]
    insecure: bool,
}

pub(crate) async fn run(settings: Settings, args: Args) -> Result<(), Failure> {
    let listen = args.listen.or_else(|| settings.listen.clone());
    let listen = listen.unwrap_or_else(|| LISTEN.to_owned());
    let metrics_listen = args.metrics_listen.or_else(|| settings.metrics_listen.clone());
    // Before anything is started: a signal that comes early must end the service in order too.
    let (interrupted, terminated) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let gate = settings.auth.gate(args.tokens)?;
    let keys = settings.keys()?;
    let tls = settings.tls.open(args.tls_cert, args.tls_key)?;
    let store = settings.open_or_embed().await?;
    let (listener, address) = bind(&listen).await?;
    if gate.is_open() && !args.insecure {
        check_loopback(address)?;
    }
    let metrics = Metrics::new(store.clone());
    let monitored = match metrics_listen {
        Some(listen) => Some(bind(&listen).await?),
        None => None,
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    announce(&settings, &format!("{scheme}://{address}"));
    let router =
        http::encrypting_router(store.clone(), settings.service, gate, keys, metrics.clone());
    let (stop, stopping) = watch::channel(());
    let shutdown = async move {
        let (mut interrupted, mut terminated) = (interrupted, terminated);
        tokio::select! {
            biased;
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
        tracing::info!("ending: requests in flight have ten seconds");
        drop(stop);
    };
    let monitoring = monitored.map(|(listener, address)| {
        eprintln!("roundelay: metrics on http://{address}/metrics");
        let mut stopping = stopping.clone();
        let shutdown = async move { drop(stopping.changed().await) };
        tokio::spawn(http::serve(listener, metrics.router(), Connections::default(), shutdown))
    });
    serve(listener, tls, router, settings.connections, shutdown).await?;
    if let Some(task) = monitoring
        && let Err(error) = task.await
    {
        tracing::warn!(%error, "metrics ended badly");
    }
    if timeout(GOODBYE, store.close()).await.is_err() {
        tracing::warn!("the store took too long to close");
    }
    Ok(())
}

async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    connections: Connections,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    match tls {
        Some(tls) => http::serve_tls(listener, tls, router, connections, shutdown).await,
        None => http::serve(listener, router, connections, shutdown).await,
    }
}

async fn bind(listen: &str) -> Result<(TcpListener, SocketAddr), Failure> {
    let cannot_listen = |error: io::Error| Failure::Failed(format!("listen on {listen}: {error}"));
    let listener = TcpListener::bind(listen).await.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    Ok((listener, address))
}

/// Says where the service is, for whoever started it.
fn announce(settings: &Settings, url: &str) {
    if settings.nodes.is_empty() {
        eprintln!(
            "roundelay: listening on {url}, three embedded nodes: \
             messages end with this process"
        );
    } else {
        eprintln!(
            "roundelay: listening on {url}, nodes {}, {} copies",
            settings.nodes.iter().map(|url| without_credentials(url)).collect::<Vec<_>>().join(" "),
            settings.config.copies
        );
    }
}

/// Whoever can reach a service that asks for no token can read and delete everything.
fn check_loopback(address: SocketAddr) -> Result<(), Failure> {
    if address.ip().is_loopback() {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "{address} can be reached from elsewhere, and nobody is asked for a token: give --tokens \
         FILE or [auth] in a --config file, or --insecure if that is meant"
    )))
}

/// A node's URL as it may be shown.
fn without_credentials(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let address = rest.rsplit_once('@').map_or(rest, |(_, address)| address);
            format!("{scheme}://{address}")
        }
        None => url.rsplit('@').next().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_needs_no_tokens() {
        for fine in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1"] {
            assert!(check_loopback(fine.parse().unwrap()).is_ok(), "{fine}");
        }
        for open in ["0.0.0.0:1", "10.0.0.1:1", "[::]:1"] {
            assert!(check_loopback(open.parse().unwrap()).is_err(), "{open}");
        }
    }

    #[test]
    fn a_url_is_shown_without_its_password() {
        assert_eq!(without_credentials("redis://u:p@ss@h:1/2"), "redis://h:1/2");
        assert_eq!(without_credentials("unix:///run/redis.sock"), "unix:///run/redis.sock");
        assert_eq!(without_credentials("u:secret@h"), "h");
    }
}
