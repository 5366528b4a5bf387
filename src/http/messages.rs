//! `/v2/queues/{q}/messages`: post, list, get, delete, pop.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;

use super::body::Most;
use super::checksum;
use super::dead_letters;
use super::encryption::Readable;
use super::error::ApiError;
use super::json::{self, JsonBody};
use super::limits::{self, ServiceOptions};
use super::metadata::{MessageDefaults, QueueMetadata};
use super::once;
use super::queues::Link;
use super::routes::{Call, Target};
use crate::{
    ClaimId, DeleteWhere, Error, ErrorKind, IdempotencyKey, ListOptions, Marker, Message,
    MessageId, Metadata, NewMessage, Popped,
};

/// Longest `Location`: what servers and clients commonly take as one header.
const MAX_LOCATION_BYTES: usize = 8 * 1024;
/// Searches for the message whose id is a marker, at once, and how long one waits for its turn.
pub(super) const SEARCHES: usize = 4;
const SEARCH_TURN: Duration = Duration::from_secs(5);

/// A message as every answer but pop's shows it.
#[derive(Serialize)]
pub(super) struct MessageView<'a> {
    id: String,
    href: String,
    ttl: u64,
    age: u64,
    body: JsonBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
    /// Where a dead letter came from, for those who ask for details: SDKs know no such key.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letter: Option<OriginView<'a>>,
}

#[derive(Serialize)]
struct OriginView<'a> {
    queue: &'a str,
    id: &'a str,
    claim_count: u32,
}

#[derive(Serialize)]
struct MessageList<'a> {
    messages: Vec<MessageView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<Vec<Link>>,
}

/// A message that was popped: it has no address any more.
#[derive(Serialize)]
struct PoppedMessage<'a> {
    id: String,
    age: u64,
    ttl: u64,
    body: JsonBody<'a>,
    claim_id: Option<String>,
    claim_count: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
}

#[derive(Serialize)]
struct PoppedMessages<'a> {
    messages: Vec<PoppedMessage<'a>>,
}

#[derive(Serialize)]
struct Posted {
    resources: Vec<String>,
}

impl<'a> MessageView<'a> {
    fn new(call: &Call, target: &Target, message: &'a Message) -> Self {
        let id = message.id.to_string();
        let mut href = format!("{}/messages/{id}", target.path());
        if let Some(claim) = &message.claim {
            href.push_str(&format!("?claim_id={claim}"));
        }
        let (ttl, age) = (message.ttl.as_secs(), message.age.as_secs());
        Self {
            id,
            href,
            ttl,
            age,
            body: JsonBody(message),
            checksum: checksum(call, message),
            dead_letter: None,
        }
    }

    fn in_detail(
        call: &Call,
        target: &Target,
        messages: &'a [Message],
        detailed: bool,
    ) -> Vec<Self> {
        let view =
            |message: &'a Message| {
                let origin = message.origin.as_ref().filter(|_| detailed).map(|origin| {
                    OriginView { queue: &origin.queue, id: &origin.id, claim_count: origin.claims }
                });
                Self { dead_letter: origin, ..Self::new(call, target, message) }
            };
        messages.iter().map(view).collect()
    }

    pub(super) fn all(call: &Call, target: &Target, messages: &'a Readable) -> Vec<Self> {
        messages.iter().map(|message| Self::new(call, target, message)).collect()
    }
}

/// The checksum of a message's body, if the service shows them.
fn checksum(call: &Call, message: &Message) -> Option<String> {
    call.service.options.enable_checksum.then(|| checksum::of(message)).flatten()
}

/// `POST …/messages`: creates the queue if it has to.
pub(super) async fn post(call: &Call, body: Body, target: &Target) -> Result<Response, ApiError> {
    let bytes = call.read(body, Most::Allowed(call.service.options.max_messages_post_size)).await?;
    // What other processes changed is seen a second or two later: to ask the keepers for every post
    // would cost more than the post.
    let stored = target.queue.recent_metadata().await?;
    let exists = stored.is_some();
    let metadata = stored.and_then(|stored| QueueMetadata::read(&stored)).unwrap_or_default();
    let options = &call.service.options;
    let defaults = metadata.message_defaults(options);
    if bytes.len() > defaults.max_post_bytes {
        return Err(ApiError::request(format!(
            "The request has {} bytes: this queue takes {}.",
            bytes.len(),
            defaults.max_post_bytes
        )));
    }
    let key = once::key(&call.headers, &bytes)?;
    // Parsed, a body takes many times its bytes: as late and as little of it as can be.
    let keys = call.keys().await;
    let written = |body: &Value| match metadata.wants_encryption() {
        true => {
            let sealed = keys.seal(&call.caller.project, &target.name, &body.to_string());
            sealed.map_err(ApiError::unsealed)
        }
        false => Ok(NewMessage::json(body)?),
    };
    let given = json::parse_key(&bytes, "messages")?;
    let messages = new_messages(given, defaults, options, &written)?;
    if !exists {
        target.queue.create(&Metadata::default()).await?;
    }
    let ids = match store(call, target, key.as_ref(), messages.clone()).await {
        // Somebody deleted the queue in between: it is made anew, once.
        Err(error) if error.kind() == ErrorKind::QueueNotFound => {
            target.queue.create(&Metadata::default()).await?;
            store(call, target, key.as_ref(), messages).await?
        }
        posted => posted?,
    };
    posted(target, &ids, options)
}

async fn store(
    call: &Call,
    target: &Target,
    key: Option<&IdempotencyKey>,
    messages: Vec<NewMessage>,
) -> Result<Vec<MessageId>, Error> {
    let client = Some(&call.caller.client);
    match key {
        Some(key) => target.queue.post_once(key, messages, client).await,
        None => target.queue.post(messages, client).await,
    }
}

fn posted(
    target: &Target,
    ids: &[MessageId],
    options: &ServiceOptions,
) -> Result<Response, ApiError> {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    let path = format!("{}/messages", target.path());
    let mut location = format!("{path}?ids={}", ids.join(","));
    if location.len() > MAX_LOCATION_BYTES {
        // No more could be fetched with one request anyway; the body names them all.
        let fetchable = &ids[..ids.len().min(options.max_messages_per_page)];
        location = format!("{path}?ids={}", fetchable.join(","));
    }
    let resources = ids.iter().map(|id| format!("{path}/{id}")).collect();
    json::created(&location, &Posted { resources })
}

/// The messages of a request, each made of its body by `written`.
fn new_messages(
    messages: Option<Value>,
    defaults: MessageDefaults,
    options: &ServiceOptions,
    written: &impl Fn(&Value) -> Result<NewMessage, ApiError>,
) -> Result<Vec<NewMessage>, ApiError> {
    let Some(Value::Array(items)) = messages else {
        return Err(ApiError::body("\"messages\" must be an array."));
    };
    if items.is_empty() {
        return Err(ApiError::body("No messages could be found: the array is empty."));
    }
    // Each is freed as soon as it is read.
    items.into_iter().map(|item| new_message(&item, defaults, options, written)).collect()
}

fn new_message(
    item: &Value,
    defaults: MessageDefaults,
    options: &ServiceOptions,
    written: &impl Fn(&Value) -> Result<NewMessage, ApiError>,
) -> Result<NewMessage, ApiError> {
    let item = item.as_object().ok_or_else(|| ApiError::body("A message must be an object."))?;
    let body = item.get("body").ok_or_else(|| ApiError::body("A message needs a \"body\"."))?;
    let ttl_s = match item.get("ttl") {
        Some(ttl) => options.message_ttl("ttl").of_json(ttl)?,
        None => defaults.ttl_s,
    };
    let delay_s = match item.get("delay") {
        Some(delay) => options.message_delay("delay").of_json(delay)?,
        None => defaults.delay_s,
    };
    let message = written(body)?
        .with_ttl(Duration::from_secs(ttl_s))?
        .with_delay(Duration::from_secs(delay_s))?;
    Ok(message)
}

/// `GET …/messages`: a page, which `wait` may wait for, or with `ids` those.
pub(super) async fn list(call: &Call, target: &Target) -> Result<Response, ApiError> {
    let query = &call.query;
    let max = call.service.options.max_messages_per_page;
    if query.has("ids") {
        let ids = query.list("ids");
        limits::check_ids(&ids, max)?;
        let messages = target.queue.get(&known(&ids)).await?;
        if messages.is_empty() {
            return Err(ApiError::not_found("None of these messages is there."));
        }
        let detailed = query.boolean("detailed")?;
        let messages = call.readable(target, messages).await?;
        let messages = MessageView::in_detail(call, target, &messages, detailed);
        return Ok(json::ok(&MessageList { messages, links: None }));
    }
    let mut options = ListOptions {
        marker: None,
        limit: limits::count("limit", query.integer("limit")?, max)?,
        not_from: (!query.boolean("echo")?).then(|| call.caller.client.clone()),
        include_claimed: query.boolean("include_claimed")?,
        include_delayed: query.boolean("include_delayed")?,
    };
    let wait = call.service.options.wait(query.integer("wait")?)?;
    if let Some(text) = query.text("marker") {
        options.marker = marker(call, target, &text).await?;
        if options.marker.is_none() {
            return Ok(json::ok(&MessageList { messages: Vec::new(), links: Some(Vec::new()) }));
        }
    }
    let detailed = query.boolean("detailed")?;
    let page = dead_letters::list(call, target, options, wait).await?;
    let link = page.marker.filter(|_| !page.messages.is_empty()).map(|marker| {
        let repeated = ["limit", "echo", "include_claimed", "include_delayed", "detailed", "wait"];
        let path = format!("{}/messages", target.path());
        Link::next(query.next(&path, &repeated, &marker.to_string()))
    });
    let messages = call.readable(target, page.messages).await?;
    let messages = MessageView::in_detail(call, target, &messages, detailed);
    Ok(json::ok(&MessageList { messages, links: Some(link.into_iter().collect()) }))
}

/// A marker from a page, or made from the id of its last message: openstacksdk does that. `None` if
/// that message is not there any more.
async fn marker(call: &Call, target: &Target, text: &str) -> Result<Option<Marker>, ApiError> {
    if let Ok(id) = text.parse::<MessageId>() {
        // Each may hold a long page: few at once, and nobody waits for long.
        let turn = timeout(SEARCH_TURN, call.service.searches.acquire()).await;
        let _turn = turn.map_err(|_| ApiError::no_room())?;
        return Ok(target.queue.marker_behind(&id).await?);
    }
    let marker = text.parse::<Marker>().map(Some);
    marker.map_err(|error| ApiError::parameter(format!("The parameter marker: {error}.")))
}

/// Those that can be ids; no other text names a message.
fn known(ids: &[String]) -> Vec<MessageId> {
    ids.iter().filter_map(|id| id.parse().ok()).collect()
}

/// `GET …/messages/{id}`.
pub(super) async fn show(call: &Call, target: &Target, id: &str) -> Result<Response, ApiError> {
    let found = target.queue.get(&known(&[id.to_owned()])).await?;
    let found = call.readable(target, found).await?;
    let message = found.first().ok_or_else(|| ApiError::not_found("There is no such message."))?;
    let detailed = call.query.boolean("detailed")?;
    let view = MessageView::in_detail(call, target, std::slice::from_ref(message), detailed);
    Ok(json::ok(&view.first()))
}

/// `DELETE …/messages/{id}`.
pub(super) async fn delete(call: &Call, target: &Target, id: &str) -> Result<Response, ApiError> {
    let claim = call
        .query
        .text("claim_id")
        .map(|text| text.parse::<ClaimId>().map_err(|_| ApiError::no_claim_to_delete_with(&text)))
        .transpose()?;
    if let Ok(id) = id.parse::<MessageId>() {
        let deleted = target.queue.delete_message(&id, claim.as_ref()).await;
        deleted.map_err(|error| ApiError::deletion(&error))?;
    }
    Ok(json::nothing())
}

/// `DELETE …/messages` with `ids` or `pop`.
pub(super) async fn delete_some(call: &Call, target: &Target) -> Result<Response, ApiError> {
    let options = &call.service.options;
    match (call.query.has("ids"), call.query.has("pop")) {
        (true, false) => {
            let ids = call.query.list("ids");
            limits::check_ids(&ids, options.max_messages_per_page)?;
            if options.message_delete_with_claim_id {
                return delete_claimed(call, target, &known(&ids)).await;
            }
            target.queue.delete_messages(&known(&ids), &DeleteWhere::Any).await?;
            Ok(json::nothing())
        }
        (false, true) => {
            let pop = call.query.integer("pop")?;
            let limit = limits::count("pop", pop, options.max_messages_per_claim_or_pop)?;
            pop_messages(call, target, limit).await
        }
        (true, true) | (false, false) => {
            Err(ApiError::request("Exactly one of the parameters ids and pop must be given."))
        }
    }
}

/// Deletes those that the claims in `claim_ids` hold; it is an error if others are there.
async fn delete_claimed(
    call: &Call,
    target: &Target,
    ids: &[MessageId],
) -> Result<Response, ApiError> {
    let claims = call.query.list("claim_ids");
    if claims.is_empty() {
        return Err(ApiError::request("The parameter claim_ids must be given."));
    }
    let claims: Vec<ClaimId> = claims.iter().filter_map(|id| id.parse().ok()).collect();
    target.queue.delete_messages(ids, &DeleteWhere::ClaimedBy(claims)).await?;
    match target.queue.get(ids).await?.len() {
        0 => Ok(json::nothing()),
        left => Err(ApiError::not_all_claimed(left)),
    }
}

/// Leaves what cannot be decrypted: popped, it would be gone.
async fn pop_messages(call: &Call, target: &Target, limit: usize) -> Result<Response, ApiError> {
    let (project, queue, keys) = (&call.caller.project, &target.name, call.keys().await);
    let is_readable = {
        // The same keys as below: others may not open what these let go.
        let (project, queue, keys) = (project.clone(), queue.clone(), Arc::clone(&keys));
        move |message: &Message| keys.open(&project, &queue, message.clone()).is_ok()
    };
    let Popped { mut messages, refused } = target.queue.pop_while(limit, is_readable).await?;
    if messages.is_empty() {
        // Fails for the same reason.
        messages.extend(refused);
    }
    let messages = dead_letters::without_moved(call, target, messages).await;
    let messages = Readable::of(&keys, project, queue, messages)?;
    let messages = messages
        .iter()
        .map(|message| PoppedMessage {
            id: message.id.to_string(),
            age: message.age.as_secs(),
            ttl: message.ttl.as_secs(),
            body: JsonBody(message),
            // Only unclaimed messages are popped; the claim that popping takes is nobody's.
            claim_id: None,
            claim_count: message.claim_count,
            checksum: checksum(call, message),
        })
        .collect();
    Ok(json::ok(&PoppedMessages { messages }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(body: &Value) -> Result<NewMessage, ApiError> {
        Ok(NewMessage::json(body)?)
    }

    fn parsed(messages: Value) -> Result<Vec<NewMessage>, ApiError> {
        let options = ServiceOptions::default();
        let defaults = QueueMetadata::default().message_defaults(&options);
        new_messages(Some(messages), defaults, &options, &written)
    }

    #[test]
    fn any_json_is_a_body_and_unknown_keys_are_dropped() {
        let messages = json!([{"body": null}, {"body": [1, {"a": "b"}], "ttl": 60, "extra": 1}]);
        assert_eq!(parsed(messages).unwrap().len(), 2);
    }

    #[test]
    fn malformed_messages_are_refused() {
        for wrong in [
            json!([]),
            json!({}),
            json!([1]),
            json!([{}]),
            json!([{"ttl": 60}]),
            json!([{"body": 1, "ttl": 59}]),
            json!([{"body": 1, "ttl": 1_209_601}]),
            json!([{"body": 1, "ttl": "60"}]),
            json!([{"body": 1, "ttl": null}]),
            json!([{"body": 1, "delay": -1}]),
            json!([{"body": 1, "delay": 901}]),
            json!([{"body": 1}, {"body": 1, "ttl": 1.5}]),
        ] {
            assert!(parsed(wrong.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_queue_s_defaults_hold_for_messages_that_say_nothing() {
        let options = ServiceOptions::default();
        let metadata = json!({"_default_message_ttl": 70, "_default_message_delay": 5});
        let metadata = QueueMetadata(metadata.as_object().unwrap().clone());
        let defaults = metadata.message_defaults(&options);
        let built = new_messages(Some(json!([{"body": 1}])), defaults, &options, &written).unwrap();
        let wanted = NewMessage::json(&json!(1))
            .and_then(|message| message.with_ttl(Duration::from_secs(70)))
            .and_then(|message| message.with_delay(Duration::from_secs(5)));
        assert_eq!(built, [wanted.unwrap()]);
    }
}
