//! What is not about one queue: versions, home document, ping.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::json as answer;
use super::routes::Call;

/// The home document's own type.
pub(super) const MEDIA_TYPE: &str = "application/json-home";

/// A resource of the home document: name, template, variables, methods.
type Entry = (&'static str, &'static str, &'static [&'static str], &'static [&'static str]);

/// What is served; clients expand the templates.
const RESOURCES: [Entry; 14] = [
    ("queues", "/v2/queues{?marker,limit,detailed}", &["marker", "limit", "detailed"], &["GET"]),
    ("queue", "/v2/queues/{queue_name}", &["queue_name"], &["PUT", "GET", "PATCH", "DELETE"]),
    ("queue_stats", "/v2/queues/{queue_name}/stats", &["queue_name"], &["GET"]),
    ("purge_queue", "/v2/queues/{queue_name}/purge", &["queue_name"], &["POST"]),
    (
        "messages",
        "/v2/queues/{queue_name}/messages{?marker,limit,echo,include_claimed,include_delayed}",
        &["queue_name", "marker", "limit", "echo", "include_claimed", "include_delayed"],
        &["GET"],
    ),
    ("post_messages", "/v2/queues/{queue_name}/messages", &["queue_name"], &["POST"]),
    (
        "messages_by_ids",
        "/v2/queues/{queue_name}/messages{?ids}",
        &["queue_name", "ids"],
        &["GET", "DELETE"],
    ),
    ("pop_messages", "/v2/queues/{queue_name}/messages{?pop}", &["queue_name", "pop"], &["DELETE"]),
    (
        "message",
        "/v2/queues/{queue_name}/messages/{message_id}",
        &["queue_name", "message_id"],
        &["GET"],
    ),
    (
        "message_delete",
        "/v2/queues/{queue_name}/messages/{message_id}{?claim_id}",
        &["queue_name", "message_id", "claim_id"],
        &["DELETE"],
    ),
    ("post_claim", "/v2/queues/{queue_name}/claims{?limit}", &["queue_name", "limit"], &["POST"]),
    ("claim", "/v2/queues/{queue_name}/claims/{claim_id}", &["queue_name", "claim_id"], &["GET"]),
    (
        "patch_claim",
        "/v2/queues/{queue_name}/claims/{claim_id}",
        &["queue_name", "claim_id"],
        &["PATCH"],
    ),
    (
        "delete_claim",
        "/v2/queues/{queue_name}/claims/{claim_id}",
        &["queue_name", "claim_id"],
        &["DELETE"],
    ),
];

/// The one version there is.
pub(super) fn versions() -> Response {
    let versions = json!({"versions": [{
        "id": "2",
        "status": "CURRENT",
        "updated": "2014-9-24T04:06:47Z",
        "media-types": [{
            "base": "application/json",
            "type": "application/vnd.openstack.messaging-v2+json",
        }],
        "links": [{"href": "/v2/", "rel": "self"}],
    }]});
    answer::document(StatusCode::MULTIPLE_CHOICES, &versions)
}

/// The home document.
pub(super) fn document() -> Response {
    let mut resources = Map::new();
    for (name, template, variables, methods) in RESOURCES {
        let variables: Map<String, Value> = variables
            .iter()
            .map(|name| ((*name).to_owned(), Value::from(format!("param/{name}"))))
            .collect();
        let resource = json!({
            "href-template": template,
            "href-vars": variables,
            "hints": {"allow": methods, "formats": {"application/json": {}}},
        });
        resources.insert(format!("rel/{name}"), resource);
    }
    let mut response = answer::ok(&json!({ "resources": resources }));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=86400"));
    response
}

/// Whether posts can be taken.
pub(super) async fn ping(call: &Call) -> Result<Response, ApiError> {
    call.store().ping().await?;
    Ok(answer::nothing())
}
