//! The service described in OpenAPI 3.1, for tools: `specs/openapi.json`, kept by hand.
//!
//! It has every path, method, status and document. Tests hold it to what is served: each route is in
//! it and nothing else, and whatever the service answers in `tests/http/` is as it says.

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

const DESCRIPTION: &str = include_str!("../../specs/openapi.json");

/// The description, as it is kept.
pub(super) fn document() -> Response {
    ([(CONTENT_TYPE, "application/json")], DESCRIPTION).into_response()
}

/// The methods of each path, in lower case and sorted.
#[cfg(test)]
pub(super) fn operations() -> std::collections::BTreeMap<String, Vec<String>> {
    let document: serde_json::Value = serde_json::from_str(DESCRIPTION).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let methods = |item: &serde_json::Value| {
        let keys = item.as_object().unwrap().keys();
        let mut methods: Vec<_> = keys.filter(|key| *key != "parameters").cloned().collect();
        methods.sort();
        methods
    };
    paths.iter().map(|(path, item)| (path.clone(), methods(item))).collect()
}
