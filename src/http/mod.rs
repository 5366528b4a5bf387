//! The Zaqar v2 service over a `Store`.
//!
//! `router` is the whole service as an `axum::Router`, to be nested or layered in any server;
//! `serve` runs one on a listener until told to stop. A `Gate` decides who comes in, `Metrics` count
//! what they do. What is served, and where it differs from Zaqar and why, is in
//! `specs/zaqar-v2.md`.
//!
//! Each request goes the same way: `access` finds out for whom it is, `routes` finds the resource,
//! `checks` looks at the headers, then the resource's own module reads parameters (`params`) and
//! body (`body`, `json`), calls the store and writes the answer. Only `error` knows which error has
//! which status.

mod access;
mod body;
mod checks;
mod checksum;
mod claims;
mod date;
mod dead_letters;
mod encryption;
mod error;
mod health;
mod home;
mod json;
mod limits;
mod messages;
mod metadata;
mod metrics;
mod msgpack;
mod once;
mod openapi;
mod params;
mod patch;
mod queues;
mod rates;
mod reread;
mod room;
mod routes;
mod server;
mod share;
mod spans;
mod stamp;
mod stats;
#[cfg(feature = "otel")]
mod traces;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::request::Parts;
use tokio::sync::Semaphore;

pub use access::{Gate, KeystoneOptions, KeystoneUser, Secret};
pub use dead_letters::dead_letters;
pub use encryption::{EncryptionKeys, KeyRing, SealError, Unreadable, wants_encryption};
pub use json::JsonBody;
pub use limits::{ClientIds, ServiceOptions};
pub use metrics::Metrics;
pub use server::{Connections, Tls, serve, serve_tls};
#[cfg(feature = "otel")]
pub use traces::{Detail, Traces};

use crate::Store;
use crate::time::Clock;
use access::Signing;
use body::Bodies;
use rates::Rates;

/// What all requests share.
#[derive(Debug)]
struct Service {
    store: Store,
    options: ServiceOptions,
    gate: Gate,
    keys: EncryptionKeys,
    bodies: Bodies,
    rates: Rates,
    /// Turns of those who look for a message by its id.
    searches: Semaphore,
    metrics: Metrics,
    clock: Clock,
}

impl Service {
    /// Whether a signed request may do what it wants to.
    fn allows_signed(&self, head: &Parts) -> bool {
        let now_s = self.gate.now_ms() / 1000;
        let allowed =
            |signing: &Signing| signing.allows(&head.headers, &head.method, head.uri.path(), now_s);
        self.gate.signing().is_some_and(allowed)
    }
}

/// The service for anybody: every path of it, with errors for those that do not exist.
pub fn router(store: Store, options: ServiceOptions) -> Router {
    let metrics = Metrics::new(store.clone());
    guarded_router(store, options, Gate::open(), metrics)
}

/// The service for those whom `gate` lets in, counted in `metrics`.
pub fn guarded_router(
    store: Store,
    options: ServiceOptions,
    gate: Gate,
    metrics: Metrics,
) -> Router {
    encrypting_router(store, options, gate, EncryptionKeys::none(), metrics)
}

/// The service for those whom `gate` lets in, which encrypts with `keys` what queues want encrypted.
pub fn encrypting_router(
    store: Store,
    options: ServiceOptions,
    gate: Gate,
    keys: EncryptionKeys,
    metrics: Metrics,
) -> Router {
    let largest = options.max_messages_post_size.max(options.max_queue_metadata);
    let patience = Duration::from_secs(options.body_timeout);
    let bodies = Bodies::new(options.max_body_bytes_in_flight, largest, patience);
    let rates = Rates::new(options.max_requests_per_second, options.max_request_burst);
    let searches = Semaphore::new(messages::SEARCHES);
    let clock = Clock::system();
    let service =
        Arc::new(Service { store, options, gate, keys, bodies, rates, searches, metrics, clock });
    // One handler, not one route a path: Zaqar checks headers and names before the method, and
    // tells an empty name from a missing one.
    Router::new().fallback(routes::handle).with_state(service)
}
