//! Each request as a span, for whoever follows requests from service to service.
//!
//! Fields have the names of OpenTelemetry's conventions for HTTP. Paths, parameters and headers are not
//! among them: tokens, signatures and what is in a queue stay here.

use axum::http::{Method, StatusCode};
use tracing::field::{Empty, display};
use tracing::{Span, info_span};

use crate::{Project, TRACE_TARGET};

/// The span of a request, until it is dropped.
pub(super) fn begin(method: &Method, route: &'static str, id: &str) -> Span {
    // A client may make up methods.
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    let method = if known.contains(method) { method.as_str() } else { "_OTHER" };
    info_span!(
        target: TRACE_TARGET,
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
        roundelay.request_id = id,
        roundelay.project = Empty,
    )
}

/// Adds for whom the request is, once that is known.
pub(super) fn identified(project: &Project) {
    Span::current().record("roundelay.project", display(project.as_str()));
}

/// Adds what was answered.
pub(super) fn answered(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}
