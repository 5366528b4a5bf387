//! What monitoring sees: counts and times of requests, and the nodes as this process sees them.
//!
//! The numbers come from `prometheus-client`, the Prometheus project's own crate, in the OpenMetrics
//! format. They are served by a router of their own, for a listener of its own: who may read
//! metrics is not who may read messages.

mod store;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::timeout;

use crate::Store;
use store::OfStore;

/// Bounds of the times, in seconds: a post takes a few milliseconds, a failover some 50.
const SECONDS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
/// The same for requests that may wait: for 30 seconds, if nothing else is set.
const WAITED_SECONDS: [f64; 11] = [0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// How long a scrape waits until messages are counted.
const COUNTING: Duration = Duration::from_secs(2);
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of one service. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    registry: Registry,
    requests: Family<Answered, Counter>,
    seconds: Family<Asked, Histogram, fn() -> Histogram>,
    waited: Family<Asked, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    nodes: Nodes,
    /// Held from the update of the nodes until all is written: they are empty in between.
    writing: Mutex<()>,
}

/// The nodes, by name.
#[derive(Debug, Default)]
struct Nodes {
    up: Family<OfNode, Gauge>,
    incarnation: Family<OfNode, Gauge>,
    keeper: Family<OfNode, Gauge>,
    memory_used: Family<OfNode, Gauge<u64, AtomicU64>>,
    memory_limit: Family<OfNode, Gauge<u64, AtomicU64>>,
    keeper_epoch: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: &'static str,
    method: &'static str,
    status: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    route: &'static str,
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfNode {
    node: String,
}

/// How long a request took.
#[derive(Debug, Clone, Copy)]
pub(super) enum Took {
    /// It was answered as soon as could be.
    Working(Duration),
    /// It asked to wait for messages.
    Waiting(Duration),
}

/// A request that is being answered, counted as such until it is dropped.
pub(super) struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    /// Metrics of a service on this store, all zero.
    #[must_use]
    pub fn new(store: Store) -> Self {
        let mut registry = Registry::with_prefix("roundelay");
        let requests = Family::default();
        registry.register("http_requests", "Requests answered", requests.clone());
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let seconds = Family::new_with_constructor(histogram);
        registry.register_with_unit(
            "http_request_duration",
            "Time from a request's head to its answer's, if it did not ask to wait",
            Unit::Seconds,
            seconds.clone(),
        );
        let histogram: fn() -> Histogram = || Histogram::new(WAITED_SECONDS);
        let waited = Family::new_with_constructor(histogram);
        registry.register_with_unit(
            "http_wait_duration",
            "Time from the head of a request that asked to wait to its answer's",
            Unit::Seconds,
            waited.clone(),
        );
        let in_flight = Gauge::default();
        registry.register("http_requests_in_flight", "Requests being answered", in_flight.clone());
        let nodes = Nodes::registered(&mut registry);
        registry.register_collector(Box::new(OfStore(store.clone())));
        Self(Arc::new(Inner {
            store,
            registry,
            requests,
            seconds,
            waited,
            in_flight,
            nodes,
            writing: Mutex::default(),
        }))
    }

    /// Serves them as `GET /metrics`.
    pub fn router(&self) -> Router {
        Router::new().route("/metrics", get(show)).with_state(self.clone())
    }

    /// Counts a request until what is returned is dropped.
    pub(super) fn begin(&self) -> InFlight {
        self.0.in_flight.inc();
        InFlight(self.0.in_flight.clone())
    }

    /// Counts an answer. What a request waits that asked to says nothing about how fast answers are.
    pub(super) fn answered(
        &self,
        route: &'static str,
        method: &Method,
        status: StatusCode,
        took: Took,
    ) {
        // A client may make up methods; each would be a row for ever.
        let method = match *method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            Method::OPTIONS => "OPTIONS",
            _ => "other",
        };
        let status = status.as_u16().into();
        self.0.requests.get_or_create(&Answered { route, method, status }).inc();
        let (seconds, took) = match took {
            Took::Working(took) => (&self.0.seconds, took),
            Took::Waiting(took) => (&self.0.waited, took),
        };
        seconds.get_or_create(&Asked { route, method }).observe(took.as_secs_f64());
    }
}

impl Nodes {
    fn registered(registry: &mut Registry) -> Self {
        let nodes = Self::default();
        registry.register("node_up", "Whether the node answers in time", nodes.up.clone());
        registry.register(
            "node_incarnation",
            "The node's life: raised when it may have forgotten",
            nodes.incarnation.clone(),
        );
        registry.register("node_keeper", "Whether it keeps manifests", nodes.keeper.clone());
        registry.register_with_unit(
            "node_memory_used",
            "Memory in use",
            Unit::Bytes,
            nodes.memory_used.clone(),
        );
        registry.register_with_unit(
            "node_memory_limit",
            "Memory that it may use; 0: no limit",
            Unit::Bytes,
            nodes.memory_limit.clone(),
        );
        let epoch = nodes.keeper_epoch.clone();
        registry.register("keeper_epoch", "How often keepers were replaced", epoch);
        nodes
    }

    /// Takes over what the store sees now.
    fn update(&self, store: &Store) {
        let status = store.status();
        self.keeper_epoch.set(status.keeper_epoch.into());
        // A node that is no more must not be shown for ever.
        self.up.clear();
        self.incarnation.clear();
        self.keeper.clear();
        self.memory_used.clear();
        self.memory_limit.clear();
        for node in status.nodes {
            let label = OfNode { node: node.name };
            self.up.get_or_create(&label).set(node.health.starts_with("up").into());
            self.incarnation.get_or_create(&label).set(node.incarnation.into());
            self.keeper.get_or_create(&label).set(node.keeper.into());
            let (used, limit) = node.memory;
            self.memory_used.get_or_create(&label).set(used);
            self.memory_limit.get_or_create(&label).set(limit);
        }
    }
}

async fn show(State(metrics): State<Metrics>) -> Response {
    let Metrics(inner) = metrics;
    if timeout(COUNTING, inner.store.count_messages()).await.is_err() {
        tracing::warn!("messages could not be counted in time; the former numbers are shown");
    }
    let _writing = inner.writing.lock().unwrap_or_else(PoisonError::into_inner);
    inner.nodes.update(&inner.store);
    let mut text = String::new();
    match encode(&mut text, &inner.registry) {
        Ok(()) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        // Writing to a string cannot fail; a metric that cannot be written is a defect.
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
