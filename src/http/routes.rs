//! Which resource a path names, which methods it knows, and the order of the checks: token (401),
//! path (404), signature (404), headers (400, 406), rate (429), queue name (400), method (405), role
//! (403), and only then the resource itself.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::ALLOW;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

use super::body::{Most, Received};
use super::checks::{self, Caller, Trust};
use super::encryption::{KeyRing, Readable};
use super::error::ApiError;
use super::metrics::Took;
use super::params::{self, Query};
use super::waiting::{self, Stopping};
use super::{
    Service, access, claims, health, home, messages, msgpack, openapi, queues, share, spans, stats,
};
use crate::{Message, Queue, QueueName, Store};

/// A request that has passed the checks.
pub(super) struct Call {
    pub(super) service: Arc<Service>,
    pub(super) caller: Caller,
    pub(super) query: Query,
    pub(super) headers: HeaderMap,
    /// None in a router that somebody else serves.
    pub(super) stopping: Option<Stopping>,
}

impl Call {
    pub(super) fn store(&self) -> &Store {
        &self.service.store
    }

    /// Reads the request's body.
    pub(super) async fn read(&self, body: Body, most: Most) -> Result<Received, ApiError> {
        self.service.bodies.read(&self.caller.project, &self.headers, body, most).await
    }

    /// The keys by which bodies are encrypted.
    pub(super) async fn keys(&self) -> Arc<KeyRing> {
        self.service.keys.now().await
    }

    /// Messages of a queue as they were posted.
    pub(super) async fn readable(
        &self,
        target: &Target,
        messages: Vec<Message>,
    ) -> Result<Readable, ApiError> {
        Readable::of(&*self.keys().await, &self.caller.project, &target.name, messages)
    }
}

/// The queue that a path names, with its path.
pub(super) struct Target {
    pub(super) queue: Queue,
    pub(super) name: QueueName,
}

impl Target {
    /// `/v2/queues/<name>`.
    pub(super) fn path(&self) -> String {
        format!("/v2/queues/{}", self.name)
    }
}

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Route {
    Versions,
    Description,
    Home,
    Ping,
    Health,
    Queues,
    Queue { name: String, part: Part },
}

/// What a path names within a queue, whose name is yet to be checked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Itself,
    Stats,
    Purge,
    Messages,
    Message(String),
    Claims,
    Claim(String),
    Share,
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        if path == "/" {
            return Some(Self::Versions);
        }
        let rest = path.strip_prefix("/v2/")?;
        let segments: Vec<String> = rest.split('/').map(params::decode).collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let (name, part) = match segments[..] {
            [""] => return Some(Self::Home),
            ["openapi.json"] => return Some(Self::Description),
            ["ping"] => return Some(Self::Ping),
            ["health"] => return Some(Self::Health),
            ["queues"] => return Some(Self::Queues),
            ["queues", name] => (name, Part::Itself),
            ["queues", name, "stats"] => (name, Part::Stats),
            ["queues", name, "purge"] => (name, Part::Purge),
            ["queues", name, "messages"] => (name, Part::Messages),
            ["queues", name, "messages", id] if !id.is_empty() => (name, Part::Message(id.into())),
            ["queues", name, "share"] => (name, Part::Share),
            ["queues", name, "claims"] => (name, Part::Claims),
            ["queues", name, "claims", id] if !id.is_empty() => (name, Part::Claim(id.into())),
            _ => return None,
        };
        Some(Self::Queue { name: name.to_owned(), part })
    }

    /// The methods that the resource knows, apart from OPTIONS.
    fn methods(&self) -> &'static [Method] {
        const GET: &[Method] = &[Method::GET];
        const POST: &[Method] = &[Method::POST];
        match self {
            Self::Versions | Self::Description | Self::Home | Self::Health | Self::Queues => GET,
            Self::Ping => &[Method::GET, Method::HEAD],
            Self::Queue { part, .. } => match part {
                Part::Itself => &[Method::DELETE, Method::GET, Method::PATCH, Method::PUT],
                Part::Stats => GET,
                Part::Purge | Part::Claims | Part::Share => POST,
                Part::Messages => &[Method::DELETE, Method::GET, Method::POST],
                Part::Message(_) => &[Method::DELETE, Method::GET],
                Part::Claim(_) => &[Method::DELETE, Method::GET, Method::PATCH],
            },
        }
    }

    /// Whether it is for anybody, without a token and without headers: clients look at versions and
    /// at the description before they have either.
    fn is_public(&self) -> bool {
        matches!(self, Self::Versions | Self::Description)
    }

    /// Whether it is there only in `admin_mode`, and then only for the role `admin`.
    fn is_for_admins(&self) -> bool {
        *self == Self::Health
    }

    /// Its name in metrics.
    fn label(&self) -> &'static str {
        match self {
            Self::Versions => "/",
            Self::Description => "/v2/openapi.json",
            Self::Home => "/v2/",
            Self::Ping => "/v2/ping",
            Self::Health => "/v2/health",
            Self::Queues => "/v2/queues",
            Self::Queue { part, .. } => match part {
                Part::Itself => "/v2/queues/{queue}",
                Part::Stats => "/v2/queues/{queue}/stats",
                Part::Purge => "/v2/queues/{queue}/purge",
                Part::Messages => "/v2/queues/{queue}/messages",
                Part::Message(_) => "/v2/queues/{queue}/messages/{message}",
                Part::Claims => "/v2/queues/{queue}/claims",
                Part::Claim(_) => "/v2/queues/{queue}/claims/{claim}",
                Part::Share => "/v2/queues/{queue}/share",
            },
        }
    }

    fn allow(&self) -> String {
        let mut names: Vec<&str> = self.methods().iter().map(Method::as_str).collect();
        names.push("OPTIONS");
        names.join(", ")
    }

    /// Types that the resource has besides JSON.
    fn other_types(&self) -> &'static [&'static str] {
        match self {
            Self::Home => &[home::MEDIA_TYPE],
            _ => &[],
        }
    }
}

/// Answers one request; every answer carries the request's id.
pub(super) async fn handle(State(service): State<Arc<Service>>, request: Request) -> Response {
    let id = format!("req-{}", Uuid::new_v4());
    let start = Instant::now();
    let metrics = service.metrics.clone();
    let _in_flight = metrics.begin();
    let (head, body) = request.into_parts();
    let route = Route::of(head.uri.path());
    let label = route.as_ref().map_or("unknown", Route::label);
    let waits = waiting::is_wanted(head.uri.query());
    let packed = msgpack::is_wanted(&head.headers);
    let (method, path) = (head.method.clone(), head.uri.path().to_owned());
    let span = spans::begin(&method, label, &id);
    let answered = answer(service, route, head, body).instrument(span.clone()).await;
    let mut response = answered.unwrap_or_else(IntoResponse::into_response);
    if packed {
        response = msgpack::answer(response).await;
    }
    let (status, took) = (response.status(), start.elapsed());
    let spent = if waits { Took::Waiting(took) } else { Took::Working(took) };
    metrics.answered(label, &method, status, spent);
    spans::answered(&span, status);
    // Paths have no secrets; parameters and headers may.
    let (status, ms) = (status.as_u16(), took.as_millis());
    tracing::info!(target: "roundelay::access", %id, %method, path, status, ms);
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert("x-openstack-request-id", id);
    }
    response
}

/// Finds the resource and who asks for it, if that may be.
async fn admit(
    service: &Service,
    route: Option<Route>,
    head: &Parts,
) -> Result<(Route, Option<Caller>), ApiError> {
    let public = route.as_ref().is_some_and(Route::is_public);
    let signed = access::is_signed(&head.headers);
    let trust = if signed {
        Trust::Signature
    } else if public {
        Trust::Headers
    } else {
        service.gate.identify(&head.headers).await?.map_or(Trust::Headers, Trust::Token)
    };
    let route = route
        .filter(|route| service.options.admin_mode || !route.is_for_admins())
        .ok_or_else(ApiError::no_route)?;
    if signed && !service.allows_signed(head) {
        return Err(ApiError::no_route());
    }
    if public {
        return Ok((route, None));
    }
    let ids = service.options.client_id_uuid_safe;
    let caller = checks::caller(&head.headers, route.other_types(), ids, trust)?;
    spans::identified(&caller.project);
    let taken = service.rates.take(&caller.project, service.clock.now_ms());
    taken.map_err(ApiError::too_often)?;
    Ok((route, Some(caller)))
}

async fn answer(
    service: Arc<Service>,
    route: Option<Route>,
    head: Parts,
    body: Body,
) -> Result<Response, ApiError> {
    let (route, caller) = admit(&service, route, &head).await?;
    let Some(caller) = caller else {
        check_method(&route, &head.method)?;
        return Ok(match (&route, head.method) {
            (_, Method::OPTIONS) => options(&route),
            (Route::Description, _) => openapi::document(),
            _ => home::versions(),
        });
    };
    let query = Query::parse(head.uri.query());
    let stopping = head.extensions.get().cloned();
    let call = Call { service, caller, query, headers: head.headers, stopping };
    let Route::Queue { name, part } = &route else {
        check_method(&route, &head.method)?;
        let asks_methods = head.method == Method::OPTIONS;
        if route.is_for_admins() && !asks_methods && !call.caller.is_admin() {
            return Err(ApiError::not_authorized());
        }
        return match (&route, head.method) {
            (_, Method::OPTIONS) => Ok(options(&route)),
            (Route::Home, _) => Ok(home::document()),
            (Route::Ping, _) => home::ping(&call).await,
            (Route::Health, _) => Ok(health::show(&call).await),
            (Route::Queues, _) => queues::list(&call).await,
            (Route::Versions | Route::Description | Route::Queue { .. }, _) => {
                Err(ApiError::no_route())
            }
        };
    };
    let name = QueueName::new(name).map_err(|error| ApiError::queue_name(&error))?;
    check_method(&route, &head.method)?;
    let target = Target { queue: call.store().queue(&call.caller.project, &name), name };
    match (part, head.method) {
        (_, Method::OPTIONS) => Ok(options(&route)),
        (Part::Itself, Method::PUT) => queues::create(&call, body, &target).await,
        (Part::Itself, Method::GET) => queues::show(&call, &target).await,
        (Part::Itself, Method::PATCH) => queues::patch(&call, body, &target).await,
        (Part::Itself, Method::DELETE) => queues::delete(&target).await,
        (Part::Stats, Method::GET) => stats::show(&call, &target).await,
        (Part::Purge, Method::POST) => queues::purge(&call, body, &target).await,
        (Part::Share, Method::POST) => share::create(&call, body, &target).await,
        (Part::Messages, Method::POST) => messages::post(&call, body, &target).await,
        (Part::Messages, Method::GET) => messages::list(&call, &target).await,
        (Part::Messages, Method::DELETE) => messages::delete_some(&call, &target).await,
        (Part::Message(id), Method::GET) => messages::show(&call, &target, id).await,
        (Part::Message(id), Method::DELETE) => messages::delete(&call, &target, id).await,
        (Part::Claims, Method::POST) => claims::create(&call, body, &target).await,
        (Part::Claim(id), Method::GET) => claims::show(&call, &target, id).await,
        (Part::Claim(id), Method::PATCH) => claims::renew(&call, body, &target, id).await,
        (Part::Claim(id), Method::DELETE) => claims::release(&target, id).await,
        _ => Err(ApiError::no_method(route.allow())),
    }
}

fn check_method(route: &Route, method: &Method) -> Result<(), ApiError> {
    if method == Method::OPTIONS || route.methods().contains(method) {
        return Ok(());
    }
    Err(ApiError::no_method(route.allow()))
}

fn options(route: &Route) -> Response {
    let mut response = StatusCode::OK.into_response();
    if let Ok(allow) = HeaderValue::try_from(route.allow()) {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(name: &str, part: Part) -> Option<Route> {
        Some(Route::Queue { name: name.into(), part })
    }

    /// The next of all routes, in an order of their own: one that is new must be put in.
    fn after(route: &Route) -> Option<Route> {
        Some(match route {
            Route::Versions => Route::Description,
            Route::Description => Route::Home,
            Route::Home => Route::Ping,
            Route::Ping => Route::Health,
            Route::Health => Route::Queues,
            Route::Queues => return queue("q", Part::Itself),
            Route::Queue { part, .. } => {
                return queue(
                    "q",
                    match part {
                        Part::Itself => Part::Stats,
                        Part::Stats => Part::Purge,
                        Part::Purge => Part::Share,
                        Part::Share => Part::Messages,
                        Part::Messages => Part::Message("m".into()),
                        Part::Message(_) => Part::Claims,
                        Part::Claims => Part::Claim("c".into()),
                        Part::Claim(_) => return None,
                    },
                );
            }
        })
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let routes = std::iter::successors(Some(Route::Versions), after);
        let served: Vec<(&str, Vec<String>)> = routes
            .map(|route| {
                let allow = route.allow().to_lowercase();
                let mut methods: Vec<_> = allow.split(", ").map(str::to_owned).collect();
                methods.sort();
                (route.label(), methods)
            })
            .collect();
        let mut described = openapi::operations();
        for (path, methods) in &served {
            assert_eq!(described.remove(*path).as_ref(), Some(methods), "{path}");
        }
        assert!(described.is_empty(), "described and not served: {described:?}");
    }

    #[test]
    fn paths_name_resources() {
        assert_eq!(Route::of("/"), Some(Route::Versions));
        assert_eq!(Route::of("/v2/"), Some(Route::Home));
        assert_eq!(Route::of("/v2/queues"), Some(Route::Queues));
        assert_eq!(Route::of("/v2/queues/a.b"), queue("a.b", Part::Itself));
        assert_eq!(Route::of("/v2/queues/"), queue("", Part::Itself));
        assert_eq!(Route::of("/v2/queues/q/messages/m"), queue("q", Part::Message("m".into())));
        assert_eq!(Route::of("/v2/queues/q%2Fx/stats"), queue("q/x", Part::Stats));
    }

    #[test]
    fn other_paths_name_nothing() {
        for path in [
            "/v2",
            "//",
            "/v2//",
            "/v1/queues",
            "/v2/ping/",
            "/v2/queues/q/",
            "/v2/queues/q/messages/",
            "/v2/queues/q/claims/",
            "/v2/queues/q/subscriptions",
            "/v2/queues/q/messages/m/x",
            "/v2/pools",
            "",
        ] {
            assert_eq!(Route::of(path), None, "{path}");
        }
    }
}
