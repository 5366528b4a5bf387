//! `roundelay serve`: the Zaqar v2 service.

use std::io;
use std::time::Duration;

use roundelay::http;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::failure::Failure;
use crate::settings::Settings;

const LISTEN: &str = "127.0.0.1:8888";
/// How long nodes may take to be told goodbye; nothing depends on it.
const GOODBYE: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Address to listen on [default: 127.0.0.1:8888]
    #[arg(long, value_name = "ADDRESS", env = "ROUNDELAY_LISTEN")]
    listen: Option<String>,
}

pub(crate) async fn run(settings: Settings, args: Args) -> Result<(), Failure> {
    let listen = args.listen.or_else(|| settings.listen.clone());
    let listen = listen.unwrap_or_else(|| LISTEN.to_owned());
    // Before anything is started: a signal that comes early must end the service in order too.
    let (interrupted, terminated) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let store = settings.open_or_embed().await?;
    let cannot_listen = |error: io::Error| Failure::Failed(format!("listen on {listen}: {error}"));
    let listener = TcpListener::bind(&listen).await.map_err(cannot_listen)?;
    let address = listener.local_addr().map_err(cannot_listen)?;
    if settings.nodes.is_empty() {
        eprintln!(
            "roundelay: listening on http://{address}, three embedded nodes: \
             messages end with this process"
        );
    } else {
        eprintln!(
            "roundelay: listening on http://{address}, nodes {}, {} copies",
            settings.nodes.iter().map(|url| without_credentials(url)).collect::<Vec<_>>().join(" "),
            settings.config.copies
        );
    }
    let router = http::router(store.clone(), settings.service);
    let shutdown = async move {
        let (mut interrupted, mut terminated) = (interrupted, terminated);
        tokio::select! {
            biased;
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
        tracing::info!("ending: requests in flight have ten seconds");
    };
    http::serve(listener, router, shutdown).await?;
    if timeout(GOODBYE, store.close()).await.is_err() {
        tracing::warn!("the store took too long to close");
    }
    Ok(())
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
    fn a_url_is_shown_without_its_password() {
        assert_eq!(without_credentials("redis://u:p@ss@h:1/2"), "redis://h:1/2");
        assert_eq!(without_credentials("unix:///run/redis.sock"), "unix:///run/redis.sock");
        assert_eq!(without_credentials("u:secret@h"), "h");
    }
}
