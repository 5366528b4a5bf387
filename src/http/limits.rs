//! What the service allows: sizes, ranges and page lengths, with Zaqar's defaults.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::error::ApiError;

/// Page length when the request names none.
const DEFAULT_PAGE: usize = 10;
/// Shortest life of messages and claims, in seconds.
const MIN_TTL_S: i64 = 60;

/// The settings of a service. Those that Zaqar has too have its names and defaults (its section
/// `[transport]`, and `[DEFAULT]` for `admin_mode` and `enable_checksum`).
///
/// Values above what the library allows are answered with its own errors (400).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ServiceOptions {
    /// Queues in one page at most. Default 20.
    pub max_queues_per_page: usize,
    /// Messages in one page, and ids in one request, at most. Default 20.
    pub max_messages_per_page: usize,
    /// Messages in one claim or pop at most. Default 20.
    pub max_messages_per_claim_or_pop: usize,
    /// Bytes of a request that creates or changes a queue. Default 65,536.
    pub max_queue_metadata: usize,
    /// Bytes of a request that posts messages. Default 262,144.
    pub max_messages_post_size: usize,
    /// Longest life of a message, in seconds. Default 1,209,600.
    pub max_message_ttl: u32,
    /// Life of a message that names none, in a queue that names none, in seconds. Default 3,600.
    pub default_message_ttl: u32,
    /// Longest delay of a message, in seconds. Default 900.
    pub max_message_delay: u32,
    /// Delay of a message that names none, in a queue that names none, in seconds. Default 0.
    pub default_message_delay: u32,
    /// Longest claim, in seconds. Default 43,200.
    pub max_claim_ttl: u32,
    /// Length of a claim that names none, in seconds. Default 300.
    pub default_claim_ttl: u32,
    /// Longest grace of a claim, in seconds. Default 43,200.
    pub max_claim_grace: u32,
    /// Grace of a claim that names none, in seconds. Default 60.
    pub default_claim_grace: u32,
    /// Whether several messages can be deleted at once only by who claimed them. Default: no.
    pub message_delete_with_claim_id: bool,
    /// Which client ids are accepted. Default: UUIDs.
    pub client_id_uuid_safe: ClientIds,
    /// Whether there are resources for administrators (`/v2/health`). Default: no.
    pub admin_mode: bool,
    /// Whether messages are shown with a checksum of their body. Default: no.
    pub enable_checksum: bool,
    /// Bytes that the bodies of all requests together may take; then requests with a body are
    /// answered 503. Default 67,108,864.
    pub max_body_bytes_in_flight: usize,
    /// How long a body may take to arrive, in seconds; then it is answered 408. Default 30.
    pub body_timeout: u64,
    /// How long a request may wait for messages (`wait`), in seconds. Default 30.
    pub max_wait: u32,
    /// Requests of one project in a second, on the average; more are answered 429. Default 0: no
    /// limit.
    pub max_requests_per_second: u32,
    /// Requests of one project at once, after a rest. Default: as many as in a second.
    pub max_request_burst: u32,
}

/// Which values the header `Client-ID` may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientIds {
    /// UUIDs, with or without hyphens and braces; two spellings of one are one client.
    #[default]
    Strict,
    /// Any 10 to 36 characters of printable ASCII.
    Off,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            max_queues_per_page: 20,
            max_messages_per_page: 20,
            max_messages_per_claim_or_pop: 20,
            max_queue_metadata: 65_536,
            max_messages_post_size: 262_144,
            max_message_ttl: 1_209_600,
            default_message_ttl: 3_600,
            max_message_delay: 900,
            default_message_delay: 0,
            max_claim_ttl: 43_200,
            default_claim_ttl: 300,
            max_claim_grace: 43_200,
            default_claim_grace: 60,
            message_delete_with_claim_id: false,
            client_id_uuid_safe: ClientIds::Strict,
            admin_mode: false,
            enable_checksum: false,
            max_body_bytes_in_flight: 64 << 20,
            body_timeout: 30,
            max_wait: 30,
            max_requests_per_second: 0,
            max_request_burst: 0,
        }
    }
}

/// An allowed range of whole numbers, under the name that errors call it by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    name: &'static str,
    from: i64,
    to: i64,
}

impl Range {
    pub(super) fn new(name: &'static str, from: i64, to: i64) -> Self {
        Self { name, from, to }
    }

    /// A JSON value that must be a whole number within the range.
    pub(super) fn of_json(self, value: &Value) -> Result<u64, ApiError> {
        let Some(number) = value.as_i64() else {
            return Err(ApiError::body(format!("{} must be an integer.", self.name)));
        };
        self.check(number)
    }

    fn check(self, number: i64) -> Result<u64, ApiError> {
        let Self { name, from, to } = self;
        match u64::try_from(number) {
            Ok(inside) if (from..=to).contains(&number) => Ok(inside),
            _ => Err(ApiError::request(format!(
                "{name} is {number}: it must be from {from} to {to}."
            ))),
        }
    }
}

impl ServiceOptions {
    pub(super) fn message_ttl(&self, name: &'static str) -> Range {
        Range::new(name, MIN_TTL_S, self.max_message_ttl.into())
    }

    pub(super) fn message_delay(&self, name: &'static str) -> Range {
        Range::new(name, 0, self.max_message_delay.into())
    }

    pub(super) fn claim_ttl(&self) -> Range {
        Range::new("ttl", MIN_TTL_S, self.max_claim_ttl.into())
    }

    pub(super) fn claim_grace(&self) -> Range {
        Range::new("grace", MIN_TTL_S, self.max_claim_grace.into())
    }

    /// How long a request wants to wait; not at all if it does not say.
    pub(super) fn wait(&self, given: Option<i64>) -> Result<Duration, ApiError> {
        let range = Range::new("wait", 0, self.max_wait.into());
        Ok(Duration::from_secs(given.map_or(Ok(0), |given| range.check(given))?))
    }

    pub(super) fn post_size(&self, name: &'static str) -> Range {
        Range::new(name, 1, i64::try_from(self.max_messages_post_size).unwrap_or(i64::MAX))
    }
}

/// How many of something a request asks for: 1 to `max`.
pub(super) fn count(name: &'static str, given: Option<i64>, max: usize) -> Result<usize, ApiError> {
    let Some(given) = given else {
        return Ok(DEFAULT_PAGE.min(max));
    };
    let checked = Range::new(name, 1, i64::try_from(max).unwrap_or(i64::MAX)).check(given)?;
    Ok(usize::try_from(checked).unwrap_or(max))
}

/// Up to `max` ids, at least one.
pub(super) fn check_ids(ids: &[String], max: usize) -> Result<(), ApiError> {
    if ids.is_empty() || ids.len() > max {
        return Err(ApiError::request(format!(
            "{} ids were given: 1 to {max} are allowed in one request.",
            ids.len()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_outside_its_range_is_refused_and_never_clamped() {
        assert_eq!(count("limit", None, 20).unwrap(), 10);
        assert_eq!(count("limit", None, 5).unwrap(), 5);
        assert_eq!(count("limit", Some(20), 20).unwrap(), 20);
        for given in [0, -1, 21, i64::MAX, i64::MIN] {
            assert!(count("limit", Some(given), 20).is_err(), "{given}");
        }
    }

    #[test]
    fn limits_have_the_reference_s_names_and_defaults() {
        let options: ServiceOptions = serde_json::from_str("{}").unwrap();
        assert_eq!(options, ServiceOptions::default());
        let named = serde_json::json!({
            "max_queues_per_page": 20, "max_messages_per_page": 20,
            "max_messages_per_claim_or_pop": 20, "max_queue_metadata": 65_536,
            "max_messages_post_size": 262_144, "max_message_ttl": 1_209_600,
            "default_message_ttl": 3600, "max_message_delay": 900, "default_message_delay": 0,
            "max_claim_ttl": 43_200, "default_claim_ttl": 300, "max_claim_grace": 43_200,
            "default_claim_grace": 60, "message_delete_with_claim_id": false,
            "client_id_uuid_safe": "strict", "admin_mode": false, "enable_checksum": false,
        });
        assert_eq!(options, serde_json::from_value(named).unwrap());
        let other: ServiceOptions =
            serde_json::from_str(r#"{"client_id_uuid_safe": "off", "max_claim_ttl": 90}"#).unwrap();
        assert_eq!((other.client_id_uuid_safe, other.max_claim_ttl), (ClientIds::Off, 90));
        assert!(serde_json::from_str::<ServiceOptions>(r#"{"max_claim": 90}"#).is_err());
    }

    #[test]
    fn only_whole_json_numbers_are_integers() {
        let range = ServiceOptions::default().message_ttl("ttl");
        assert_eq!(range.of_json(&60.into()).unwrap(), 60);
        for wrong in [Value::from("60"), Value::from(60.0), Value::from(true), Value::Null] {
            assert!(range.of_json(&wrong).is_err(), "{wrong}");
        }
    }
}
