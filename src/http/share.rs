//! `POST /v2/queues/{q}/share`: a signed URL for some of a queue's resources.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};

use super::body::SMALL;
use super::date;
use super::error::ApiError;
use super::json;
use super::routes::{Call, Target};

/// How long a signed URL holds if the request does not say.
const DAY_S: u64 = 86_400;
/// What of a queue can be shared.
const SHAREABLE: [&str; 3] = ["messages", "subscriptions", "claims"];
/// The keys of a request.
const KEYS: [&str; 3] = ["paths", "methods", "expires"];

#[derive(Serialize)]
struct Shared<'a> {
    paths: &'a [String],
    methods: &'a [String],
    project: &'a str,
    expires: &'a str,
    signature: String,
}

pub(super) async fn create(call: &Call, body: Body, target: &Target) -> Result<Response, ApiError> {
    let bytes = call.read(body, SMALL).await?;
    let body = json::parse_object(&bytes)?;
    if let Some(key) = body.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(ApiError::request(format!("The key {key:?} is not known.")));
    }
    let paths = paths(&body, target)?;
    let methods = methods(&body)?;
    let expires = expires(&body, call.service.gate.now_ms() / 1000)?;
    let Some(signing) = call.service.gate.signing() else {
        return Err(ApiError::request("Signed URLs are off: the service has no secret key."));
    };
    let project = call.caller.project.as_str();
    let signature = signing.sign(&paths, &methods, project, &expires);
    Ok(json::ok(&Shared {
        paths: &paths,
        methods: &methods,
        project,
        expires: &expires,
        signature,
    }))
}

/// The texts of an array; `None` if the key is not there.
fn texts(body: &Map<String, Value>, key: &str) -> Result<Option<BTreeSet<String>>, ApiError> {
    let wrong = || ApiError::request(format!("{key} must be a list of strings, and not empty."));
    let Some(value) = body.get(key) else { return Ok(None) };
    let items = value.as_array().filter(|items| !items.is_empty()).ok_or_else(wrong)?;
    let texts: Option<BTreeSet<String>> =
        items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
    texts.map(Some).ok_or_else(wrong)
}

/// The paths, sorted.
fn paths(body: &Map<String, Value>, target: &Target) -> Result<Vec<String>, ApiError> {
    let given = texts(body, "paths")?.unwrap_or_else(|| BTreeSet::from(["messages".to_owned()]));
    if let Some(path) = given.iter().find(|path| !SHAREABLE.contains(&path.as_str())) {
        let shown: String = path.chars().take(48).collect();
        return Err(ApiError::request(format!("The path {shown:?} cannot be shared.")));
    }
    Ok(given.iter().map(|path| format!("{}/{path}", target.path())).collect())
}

/// The methods, sorted. One with a comma would be two once they are joined.
fn methods(body: &Map<String, Value>) -> Result<Vec<String>, ApiError> {
    let given = texts(body, "methods")?.unwrap_or_else(|| BTreeSet::from(["GET".to_owned()]));
    if !given.iter().all(|method| method.bytes().all(|byte| byte.is_ascii_alphabetic())) {
        return Err(ApiError::request("methods must be names of methods."));
    }
    Ok(given.into_iter().collect())
}

/// When it ends, as it is signed.
fn expires(body: &Map<String, Value>, now_s: u64) -> Result<String, ApiError> {
    let Some(value) = body.get("expires") else {
        return Ok(date::utc(now_s + DAY_S));
    };
    let at = value
        .as_str()
        .and_then(date::parse)
        .ok_or_else(|| ApiError::request("expires must be a date and time of ISO 8601."))?;
    if at <= now_s {
        return Err(ApiError::request("expires must be in the future."));
    }
    Ok(date::utc(at))
}
