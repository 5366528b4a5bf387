//! What a failed request is answered: the only place that knows which error has which status.

use axum::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::encryption::{SealError, Unreadable};
use super::json;
use crate::{Error, ErrorKind, MessageId, Outcome};

/// Titles that clients compare.
const REQUEST: &str = "Invalid API request";
const BODY: &str = "Invalid request body";
const PARAMETER: &str = "Invalid parameter";
const NOT_FOUND: &str = "Not found";
const CONFLICT: &str = "Resource conflict";
const UNDELETABLE: &str = "Unable to delete";
const UNAVAILABLE: &str = "Service temporarily unavailable";
const DEFECT: &str = "Internal server error";

/// Seconds to wait when the store does not say.
const RETRY_AFTER_S: u64 = 1;

/// A request that failed.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    title: &'static str,
    description: Option<String>,
    retry_after_s: Option<u64>,
    allow: Option<String>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    title: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
}

impl ApiError {
    fn new(status: StatusCode, title: &'static str, description: impl Into<String>) -> Self {
        Self {
            status,
            title,
            description: Some(description.into()),
            retry_after_s: None,
            allow: None,
        }
    }

    fn bare(status: StatusCode, title: &'static str) -> Self {
        Self { status, title, description: None, retry_after_s: None, allow: None }
    }

    /// No resource has this path.
    pub(super) fn no_route() -> Self {
        Self::bare(StatusCode::NOT_FOUND, "404 Not Found")
    }

    /// The resource does not know this method, only these.
    pub(super) fn no_method(allowed: String) -> Self {
        let error = Self::bare(StatusCode::METHOD_NOT_ALLOWED, "405 Method Not Allowed");
        Self { allow: Some(allowed), ..error }
    }

    /// The client does not accept JSON.
    pub(super) fn not_acceptable() -> Self {
        Self::new(
            StatusCode::NOT_ACCEPTABLE,
            "Not acceptable",
            "The Accept header must admit application/json.",
        )
    }

    /// A PATCH of an unknown format.
    pub(super) fn patch_type(wanted: &str) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "415 Unsupported Media Type",
            format!("The Content-Type must be {wanted}."),
        )
    }

    /// A header that is missing or malformed; `title` says which.
    pub(super) fn header(title: &'static str, description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, title, description)
    }

    /// The name in the path is none that a queue can have.
    pub(super) fn queue_name(error: &Error) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Invalid queue identification", sentence(error))
    }

    /// Something is out of range.
    pub(super) fn request(description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, REQUEST, description)
    }

    /// The body is malformed or of a wrong shape.
    pub(super) fn body(description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, BODY, description)
    }

    /// A query parameter is of a wrong type.
    pub(super) fn parameter(description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, PARAMETER, description)
    }

    /// The request has no token, or none that is known.
    pub(super) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "Unauthorized",
            "The request needs a valid token in X-Auth-Token or Authorization.",
        )
    }

    /// Whether a token is valid cannot be found out.
    pub(super) fn keystone_unavailable() -> Self {
        Self::busy("Keystone does not answer. Nothing was changed.", RETRY_AFTER_S)
    }

    /// A body that is longer than anybody needs.
    pub(super) fn too_large(max: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "413 Content Too Large",
            format!("The request is longer than {max} bytes."),
        )
    }

    /// A body that did not come.
    pub(super) fn too_slow() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "408 Request Timeout",
            "The request's body took too long. Nothing was changed.",
        )
    }

    /// The bodies of other requests take all the room there is.
    pub(super) fn no_room() -> Self {
        Self::busy("The service is busy. Nothing was changed.", RETRY_AFTER_S)
    }

    fn busy(description: &str, retry_after_s: u64) -> Self {
        let description = format!("{description} Please try again in a few seconds.");
        let answer = Self::new(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, description);
        Self { retry_after_s: Some(retry_after_s), ..answer }
    }

    /// A project asks too often.
    pub(super) fn too_often(wait_ms: u64) -> Self {
        let answer = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "429 Too Many Requests",
            "This project asks too often. Nothing was changed.",
        );
        Self { retry_after_s: Some(wait_ms.div_ceil(1000).max(1)), ..answer }
    }

    /// Only administrators may do this.
    pub(super) fn not_authorized() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "Not authorized",
            "You are not authorized to complete this action.",
        )
    }

    /// Messages that may be deleted only with their claims were named without them.
    pub(super) fn not_all_claimed(left: usize) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            UNDELETABLE,
            format!("{left} of the messages are held by none of the claims and were left."),
        )
    }

    /// There is no such thing.
    pub(super) fn not_found(description: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, NOT_FOUND, description)
    }

    /// The thing is not in the state that the request takes for granted.
    pub(super) fn conflict(description: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, CONFLICT, description)
    }

    /// An idempotency key that stands for another request.
    fn key_reused(description: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Idempotency-Key is already used", description)
    }

    /// A claim id that names no claim, where a message should be deleted with it.
    pub(super) fn no_claim_to_delete_with(id: &str) -> Self {
        let shown: String = id.chars().take(48).collect();
        Self::new(StatusCode::BAD_REQUEST, UNDELETABLE, format!("There is no claim {shown:?}."))
    }

    /// Why a message was not deleted.
    pub(super) fn deletion(error: &Error) -> Self {
        if error.kind() == ErrorKind::ClaimNotFound {
            return Self::new(StatusCode::BAD_REQUEST, UNDELETABLE, sentence(error));
        }
        Self::from(error)
    }

    /// A body that could not be encrypted.
    pub(super) fn unsealed(error: SealError) -> Self {
        match error {
            SealError::NoKey => Self::busy(
                "The queue wants its messages encrypted, and the service has no key. Nothing was \
                 changed.",
                RETRY_AFTER_S,
            ),
            SealError::NoRandomness => {
                Self::busy("The system gave no random bytes. Nothing was changed.", RETRY_AFTER_S)
            }
            SealError::Message(error) => Self::from(error),
            SealError::Unreadable(_) => Self::defect(error.to_string()),
        }
    }

    /// A message whose body cannot be decrypted: with the right key it could be, later.
    pub(super) fn unreadable(id: &MessageId, why: &Unreadable) -> Self {
        let description = format!("The message {id} cannot be decrypted: {why}.");
        match why {
            Unreadable::NoKey(_) => Self::busy(&description, RETRY_AFTER_S),
            Unreadable::Wrong(_) | Unreadable::Form => Self::defect(description),
        }
    }

    /// A defect of this service.
    pub(super) fn defect(description: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, DEFECT, description)
    }

    fn unavailable(error: &Error) -> Self {
        let unsure = match error.outcome() {
            Outcome::NotApplied => "Nothing was changed",
            Outcome::Unknown => "The request may have taken effect all the same",
        };
        let wait = error
            .retry_after()
            .map_or(RETRY_AFTER_S, |after| after.as_secs() + u64::from(after.subsec_nanos() > 0));
        let description =
            format!("{} {unsure}. Please try again in a few seconds.", sentence(error));
        let answer = Self::new(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, description);
        Self { retry_after_s: Some(wait.max(1)), ..answer }
    }
}

impl From<&Error> for ApiError {
    fn from(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Invalid => Self::request(sentence(error)),
            ErrorKind::QueueNotFound | ErrorKind::ClaimNotFound => Self::not_found(sentence(error)),
            ErrorKind::MessageClaimed => {
                Self::new(StatusCode::FORBIDDEN, UNDELETABLE, sentence(error))
            }
            ErrorKind::MessageNotClaimed => {
                Self::new(StatusCode::BAD_REQUEST, UNDELETABLE, sentence(error))
            }
            ErrorKind::Conflict => Self::conflict(sentence(error)),
            ErrorKind::KeyReused => Self::key_reused(sentence(error)),
            // Lost is told once for each lost part; the same request then goes on behind it.
            ErrorKind::Unavailable
            | ErrorKind::Overloaded
            | ErrorKind::Timeout
            | ErrorKind::Lost
            | ErrorKind::UnsafeNode
            | ErrorKind::Closed => Self::unavailable(error),
            ErrorKind::Config | ErrorKind::Internal => Self::defect(sentence(error)),
        }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            let description = self.description.as_deref().unwrap_or_default();
            tracing::warn!(status = self.status.as_u16(), description, "request failed");
        }
        let body = ErrorBody { title: self.title, description: self.description.as_deref() };
        let mut response = json::document(self.status, &body);
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, bearer);
        }
        if let Some(Ok(allow)) = self.allow.as_deref().map(HeaderValue::try_from) {
            response.headers_mut().insert(ALLOW, allow);
        }
        response
    }
}

/// The library's message as a sentence: it starts in lower case and has no full stop.
fn sentence(error: &Error) -> String {
    let message = error.to_string();
    let mut chars = message.chars();
    match chars.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), chars.as_str()),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::QueueName;

    #[test]
    fn a_library_message_becomes_a_sentence() {
        let error = QueueName::new("").unwrap_err();
        assert_eq!(sentence(&error), "Queue name of 0 bytes: 1 to 64 are allowed.");
        assert_eq!(ApiError::from(error).status, StatusCode::BAD_REQUEST);
    }
}
