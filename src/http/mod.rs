//! The Zaqar v2 service over a `Store`.
//!
//! `router` is the whole service as an `axum::Router`, to be nested or layered in any server;
//! `serve` runs one on a listener until told to stop. What is served, and where it differs from
//! Zaqar and why, is in `specs/zaqar-v2.md`.
//!
//! Each request goes the same way: `routes` finds the resource, `checks` looks at the headers,
//! then the resource's own module reads parameters (`params`) and body (`json`), calls the
//! store and writes the answer. Only `error` knows which error has which status.

mod checks;
mod claims;
mod error;
mod health;
mod home;
mod json;
mod limits;
mod messages;
mod metadata;
mod params;
mod patch;
mod queues;
mod routes;
mod stats;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

pub use json::JsonBody;
pub use limits::{ClientIds, ServiceOptions};

use crate::Store;
use crate::time::Clock;

/// How long requests in flight may take once the service was told to stop.
const LAST_REQUESTS: Duration = Duration::from_secs(10);

/// What all requests share.
#[derive(Debug)]
struct Service {
    store: Store,
    options: ServiceOptions,
    clock: Clock,
}

/// The service: every path of it, with errors for those that do not exist.
pub fn router(store: Store, options: ServiceOptions) -> Router {
    let service = Arc::new(Service { store, options, clock: Clock::system() });
    // One handler, not one route a path: Zaqar checks headers and names before the method, and
    // tells an empty name from a missing one.
    Router::new().fallback(routes::handle).with_state(service)
}

/// Serves `router` on `listener` until `shutdown` ends: then no connection is taken any more, idle
/// ones are closed, and requests in flight have ten seconds to finish.
///
/// Requests that take longer are left to the runtime, which ends them when it ends.
///
/// # Errors
/// Those of the listener.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (told, stopping) = oneshot::channel();
    // Small answers must not wait for the client's acknowledgement of the one before.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "connection without TCP_NODELAY");
        }
    });
    let server = axum::serve(listener, router).with_graceful_shutdown(async move {
        shutdown.await;
        // It fails only if the server has ended by itself, and then nobody needs to know.
        let _ = told.send(());
    });
    let too_late = async {
        match stopping.await {
            Ok(()) => tokio::time::sleep(LAST_REQUESTS).await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        ended = server => ended,
        () = too_late => {
            tracing::warn!("requests in flight were cut off: they took longer than ten seconds");
            Ok(())
        }
    }
}
