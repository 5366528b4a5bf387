//! Where logs and traces go.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

use crate::failure::Failure;

/// How much traces tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Detail {
    /// Requests, and their calls to queues
    #[default]
    Calls,
    /// Each call to a node too
    Nodes,
}

/// Sends traces to a collector, if there is one, until `end`.
#[cfg(feature = "otel")]
pub(crate) struct Traces(Option<roundelay::http::Traces>);

/// Traces were left out when this was built.
#[cfg(not(feature = "otel"))]
pub(crate) struct Traces;

/// Starts the log, on standard error (standard output is for results), and sends traces to
/// `collector`, if it is given.
pub(crate) fn start(log: &str, collector: Option<&str>, detail: Detail) -> Result<Traces, Failure> {
    let wrong = |error: &dyn std::fmt::Display| Failure::Usage(format!("log {log:?}: {error}"));
    let filter = EnvFilter::builder().parse(log).map_err(|error| wrong(&error))?;
    // Spans are for a collector; in the log they would stand before every line.
    let no_spans = format!("{}=off", roundelay::TRACE_TARGET);
    let filter = filter.add_directive(no_spans.parse().map_err(|error| wrong(&error))?);
    let traces = Traces::to(collector, detail)?;
    let log = fmt::layer().with_writer(std::io::stderr).with_filter(filter);
    #[cfg(feature = "otel")]
    registry().with(traces.0.as_ref().map(roundelay::http::Traces::layer)).with(log).init();
    #[cfg(not(feature = "otel"))]
    registry().with(log).init();
    Ok(traces)
}

#[cfg(feature = "otel")]
impl Traces {
    fn to(collector: Option<&str>, detail: Detail) -> Result<Self, Failure> {
        let detail = match detail {
            Detail::Calls => roundelay::http::Detail::Calls,
            Detail::Nodes => roundelay::http::Detail::Nodes,
        };
        let traces = collector.map(|url| roundelay::http::Traces::to(url, detail)).transpose();
        traces.map(Self).map_err(|error| Failure::Usage(error.to_string()))
    }

    /// Sends what is left.
    pub(crate) async fn end(self) {
        if let Some(traces) = self.0 {
            traces.end().await;
        }
    }
}

#[cfg(not(feature = "otel"))]
impl Traces {
    fn to(collector: Option<&str>, _: Detail) -> Result<Self, Failure> {
        match collector {
            None => Ok(Self),
            Some(_) => Err(Failure::Usage(
                "--otlp-endpoint: this roundelay was built without traces; build it with \
                 --features otel"
                    .to_owned(),
            )),
        }
    }

    pub(crate) async fn end(self) {}
}
