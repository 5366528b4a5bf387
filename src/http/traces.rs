//! Spans of requests, sent to a collector in OTLP: by HTTP, as JSON.
//!
//! They are sent in batches by a thread of their own. While the collector does not answer they are
//! dropped; no request waits for it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Request, Response};
use bytes::Bytes;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use super::access::upstream::Upstream;
use crate::TRACE_TARGET;

/// Below the collector's URL.
const PATH: &str = "/v1/traces";
/// How long the last spans may take on their way.
const LAST: Duration = Duration::from_secs(5);

/// Sends spans of requests to a collector.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
    detail: Detail,
}

/// How much spans tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Detail {
    /// Requests, and their calls to queues.
    #[default]
    Calls,
    /// Each call to a node too.
    Nodes,
}

impl Traces {
    /// To the collector at this `http` or `https` URL, without `/v1/traces`. Needs a runtime.
    ///
    /// What else the environment says of OTLP (`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_TRACES_SAMPLER`,
    /// `OTEL_SERVICE_NAME` …) holds.
    ///
    /// # Errors
    /// The URL cannot be used.
    pub fn to(collector: &str, detail: Detail) -> io::Result<Self> {
        let upstream = Arc::new(Upstream::new("collector of traces", collector)?);
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpJson)
            .with_endpoint(format!("{}{PATH}", collector.trim_end_matches('/')))
            .with_http_client(Collector { upstream, runtime: Handle::current() })
            .build()
            .map_err(io::Error::other)?;
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("roundelay");
        }
        let resource = resource.build();
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource);
        Ok(Self { provider: provider.build(), detail })
    }

    /// Takes the spans: to be put into a subscriber.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
    {
        let level = match self.detail {
            Detail::Calls => LevelFilter::INFO,
            Detail::Nodes => LevelFilter::DEBUG,
        };
        let only = Targets::new().with_target(TRACE_TARGET, level);
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("roundelay"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(only)
    }

    /// Sends what is left, for five seconds at most.
    pub async fn end(self) {
        match spawn_blocking(move || self.provider.shutdown_with_timeout(LAST)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last traces were not sent"),
            Err(error) => tracing::warn!(%error, "the last traces were not sent"),
        }
    }
}

/// Sends a batch, on this process's runtime.
struct Collector {
    upstream: Arc<Upstream>,
    runtime: Handle,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.upstream.fmt(f)
    }
}

impl HttpClient for Collector {
    fn send_bytes<'a, 'b>(
        &'a self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let upstream = Arc::clone(&self.upstream);
        // The thread that waits for it has no runtime of its own.
        let sent = self.runtime.spawn(async move {
            let (head, body) = request.into_parts();
            let headers: Vec<_> = head
                .headers
                .iter()
                .filter(|(name, _)| *name != "content-type")
                .filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)))
                .collect();
            upstream.send("POST", PATH, &headers, body).await
        });
        Box::pin(async move {
            let answer = sent.await??;
            let mut response = Response::new(answer.body);
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            Ok(response)
        })
    }
}
