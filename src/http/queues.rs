//! `/v2/queues` and one queue: create, show, change, delete, purge.

use axum::body::Body;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};

use super::body::{Most, SMALL};
use super::checks;
use super::error::ApiError;
use super::json::{self, Stored};
use super::limits;
use super::metadata::QueueMetadata;
use super::patch::{self, Patch};
use super::routes::{Call, Target};
use crate::{DeleteWhere, ErrorKind, ListOptions, Metadata, QueueName};

/// Parameters of a listing; all others are filters.
const PARAMETERS: [&str; 5] = ["marker", "limit", "detailed", "name", "with_count"];
/// Queues read at once while looking for those that a filter takes.
const SCAN_PAGE: usize = 200;
/// Messages deleted at once by a purge, at first and at most: their bodies are read, too, and even the
/// longest page must be bearable if all are as long as they may be (256 KiB each: 32 MiB).
const PURGE_PAGES: (usize, usize) = (16, 128);
/// Bytes of bodies from which on the next page is a short one again.
const PURGE_BYTES: usize = 1 << 20;

#[derive(Serialize)]
struct QueueList {
    queues: Vec<QueueItem>,
    links: Vec<Link>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<usize>,
}

#[derive(Serialize)]
struct QueueItem {
    name: String,
    href: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Map<String, Value>>,
}

/// Where the next page is.
#[derive(Serialize)]
pub(super) struct Link {
    rel: &'static str,
    href: String,
}

impl Link {
    pub(super) fn next(href: String) -> Self {
        Self { rel: "next", href }
    }
}

/// Which queues are listed.
struct Filter {
    name: Option<String>,
    fields: Vec<(String, String)>,
}

impl Filter {
    fn takes(&self, name: &QueueName, metadata: &QueueMetadata) -> bool {
        self.takes_name(name)
            && self.fields.iter().all(|(key, wanted)| metadata.matches(key, wanted))
    }

    /// The same of metadata as they are stored; they are parsed only if they matter.
    fn takes_stored(&self, name: &QueueName, stored: &Metadata) -> bool {
        if self.fields.is_empty() {
            return self.takes_name(name);
        }
        self.takes_name(name) && self.takes(name, &QueueMetadata::read(stored).unwrap_or_default())
    }

    fn takes_name(&self, name: &QueueName) -> bool {
        self.name.as_ref().is_none_or(|part| name.as_str().contains(part.as_str()))
    }
}

/// `PUT /v2/queues/{q}`: a queue that exists keeps its metadata.
pub(super) async fn create(call: &Call, body: Body, target: &Target) -> Result<Response, ApiError> {
    let bytes = call.read(body, Most::Allowed(call.service.options.max_queue_metadata)).await?;
    let metadata = if bytes.is_empty() {
        QueueMetadata::default()
    } else {
        QueueMetadata(json::parse_object(&bytes)?)
    };
    metadata.check(&call.service.options, &*call.keys().await)?;
    let new = match target.queue.create(&metadata.write()?).await? {
        true => Stored::New,
        false => Stored::Before,
    };
    json::stored(&target.path(), new)
}

/// `GET /v2/queues/{q}`: a queue that does not exist shows the defaults.
pub(super) async fn show(call: &Call, target: &Target) -> Result<Response, ApiError> {
    let metadata = match target.queue.metadata().await {
        Ok(stored) => QueueMetadata::read(&stored).unwrap_or_default(),
        Err(error) if error.kind() == ErrorKind::QueueNotFound => QueueMetadata::default(),
        Err(error) => return Err(error.into()),
    };
    Ok(json::ok(&metadata.with_defaults(&call.service.options)))
}

/// `PATCH /v2/queues/{q}`.
pub(super) async fn patch(call: &Call, body: Body, target: &Target) -> Result<Response, ApiError> {
    if checks::media_type(&call.headers) != patch::MEDIA_TYPE {
        return Err(ApiError::patch_type(patch::MEDIA_TYPE));
    }
    let bytes = call.read(body, Most::Allowed(call.service.options.max_queue_metadata)).await?;
    if bytes.is_empty() {
        return Err(ApiError::body("PATCH body could not be empty for update."));
    }
    let patch = Patch::parse(json::parse(&bytes)?)?;
    let (options, keys) = (&call.service.options, call.keys().await);
    // The library's closure can only fail with the library's error, so a refusal leaves by the
    // side and the metadata stay as they are.
    let mut refusal = None;
    let stored = target
        .queue
        .update_metadata(|stored| {
            let changed = QueueMetadata::read(stored)
                .ok_or_else(|| ApiError::conflict("The queue's metadata are no JSON object."))
                .and_then(|mut metadata| {
                    patch.apply(&mut metadata)?;
                    metadata.check(options, &keys)?;
                    metadata.write()
                });
            match changed {
                Ok(changed) => {
                    refusal = None;
                    Ok(changed)
                }
                Err(error) => {
                    refusal = Some(error);
                    Ok(stored.clone())
                }
            }
        })
        .await?;
    if let Some(error) = refusal {
        return Err(error);
    }
    let metadata = QueueMetadata::read(&stored).unwrap_or_default();
    Ok(json::ok(&metadata.with_defaults(options)))
}

/// `DELETE /v2/queues/{q}`.
pub(super) async fn delete(target: &Target) -> Result<Response, ApiError> {
    target.queue.delete().await?;
    Ok(json::nothing())
}

/// `GET /v2/queues`.
pub(super) async fn list(call: &Call) -> Result<Response, ApiError> {
    let query = &call.query;
    let max = call.service.options.max_queues_per_page;
    let limit = limits::count("limit", query.integer("limit")?, max)?;
    let detailed = query.boolean("detailed")?;
    let filter = Filter { name: query.text("name"), fields: query.others(&PARAMETERS) };
    let count = query.boolean("with_count")?;
    let marker = query
        .text("marker")
        .map(|name| {
            QueueName::new(&name).map_err(|error| ApiError::parameter(format!("marker: {error}.")))
        })
        .transpose()?;
    let found = scan(call, &filter, marker.as_ref(), limit).await?;
    let links = found.last().map(|(last, _)| {
        let repeated = ["limit", "detailed", "name", "with_count"];
        Link::next(query.next("/v2/queues", &repeated, last.as_str()))
    });
    let queues = found
        .into_iter()
        .map(|(name, metadata)| QueueItem {
            href: format!("/v2/queues/{name}"),
            name: name.to_string(),
            metadata: detailed.then_some(metadata.0),
        })
        .collect();
    let count = match count {
        true => Some(count_all(call, &filter).await?).filter(|count| *count > 0),
        false => None,
    };
    Ok(json::ok(&QueueList { queues, links: links.into_iter().collect(), count }))
}

/// Up to `limit` queues that the filter takes, by name, after `after`.
async fn scan(
    call: &Call,
    filter: &Filter,
    after: Option<&QueueName>,
    limit: usize,
) -> Result<Vec<(QueueName, QueueMetadata)>, ApiError> {
    let unfiltered = filter.name.is_none() && filter.fields.is_empty();
    let page = if unfiltered { limit.min(SCAN_PAGE) } else { SCAN_PAGE };
    let mut after = after.cloned();
    let mut found = Vec::new();
    loop {
        let queues = call.store().queues(&call.caller.project, after.as_ref(), page).await?.queues;
        let Some((last, _)) = queues.last() else {
            return Ok(found);
        };
        after = Some(last.clone());
        for (name, stored) in queues {
            let metadata = QueueMetadata::read(&stored).unwrap_or_default();
            if filter.takes(&name, &metadata) {
                found.push((name, metadata));
                if found.len() == limit {
                    return Ok(found);
                }
            }
        }
    }
}

/// How many queues the filter takes. Nothing is kept of them: there may be a million.
async fn count_all(call: &Call, filter: &Filter) -> Result<usize, ApiError> {
    let mut after: Option<QueueName> = None;
    let mut count = 0;
    loop {
        let page = call.store().queues(&call.caller.project, after.as_ref(), SCAN_PAGE).await?;
        count +=
            page.queues.iter().filter(|(name, stored)| filter.takes_stored(name, stored)).count();
        match page.queues.into_iter().next_back() {
            Some((last, _)) => after = Some(last),
            None => return Ok(count),
        }
    }
}

/// `POST /v2/queues/{q}/purge`: deletes all messages that no claim holds.
pub(super) async fn purge(call: &Call, body: Body, target: &Target) -> Result<Response, ApiError> {
    let bytes = call.read(body, SMALL).await?;
    if bytes.is_empty() || purges_messages(&json::parse_object(&bytes)?)? {
        purge_messages(target).await?;
    }
    Ok(json::nothing())
}

fn purges_messages(body: &Map<String, Value>) -> Result<bool, ApiError> {
    let types = body
        .get("resource_types")
        .and_then(Value::as_array)
        .ok_or_else(|| ApiError::body("\"resource_types\" must be an array."))?;
    let known = |kind: &Value| matches!(kind.as_str(), Some("messages" | "subscriptions"));
    if !types.iter().all(known) {
        return Err(ApiError::body("\"resource_types\" may name messages and subscriptions."));
    }
    Ok(types.iter().any(|kind| kind == "messages"))
}

/// Deletes what was there when it began; a queue that is posted to all the time keeps the rest.
async fn purge_messages(target: &Target) -> Result<(), ApiError> {
    let mut left = target.queue.stats().await?.total();
    let mut options =
        ListOptions { limit: PURGE_PAGES.0, include_delayed: true, ..ListOptions::default() };
    while left > 0 {
        let page = target.queue.list(&options).await?;
        if page.messages.is_empty() {
            break;
        }
        let bytes: usize = page.messages.iter().map(|message| message.body.len()).sum();
        options.limit = match bytes {
            0..PURGE_BYTES => (options.limit * 2).min(PURGE_PAGES.1),
            _ => PURGE_PAGES.0,
        };
        let ids: Vec<_> = page.messages.into_iter().map(|message| message.id).collect();
        target.queue.delete_messages(&ids, &DeleteWhere::Unclaimed).await?;
        left = left.saturating_sub(ids.len() as u64);
        options.marker = page.marker;
    }
    Ok(())
}
