//! A queue's metadata as Zaqar knows it: one JSON object, some of whose keys are settings.

use std::time::Duration;

use serde_json::{Map, Value};

use super::encryption::KeyRing;
use super::error::ApiError;
use super::limits::{Range, ServiceOptions};
use crate::{Metadata, QueueName};

const MAX_POST_SIZE: &str = "_max_messages_post_size";
const MESSAGE_TTL: &str = "_default_message_ttl";
const MESSAGE_DELAY: &str = "_default_message_delay";
const DEAD_LETTER_QUEUE: &str = "_dead_letter_queue";
const DEAD_LETTER_TTL: &str = "_dead_letter_queue_messages_ttl";
const MAX_CLAIM_COUNT: &str = "_max_claim_count";
const ENCRYPT: &str = "_enable_encrypt_messages";
const RETRY_POLICY: &str = "_retry_policy";

/// A queue's metadata, as it is stored.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct QueueMetadata(pub(super) Map<String, Value>);

/// What a queue says about messages that say nothing themselves.
#[derive(Debug, Clone, Copy)]
pub(super) struct MessageDefaults {
    pub(super) ttl_s: u64,
    pub(super) delay_s: u64,
    pub(super) max_post_bytes: usize,
}

/// What a queue says of messages that are claimed too often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeadLetterSettings {
    pub(super) max_claims: u32,
    pub(super) queue: QueueName,
    pub(super) ttl: Option<Duration>,
}

impl QueueMetadata {
    /// `None` if it is not a JSON object: a program that uses the library wrote it.
    pub(super) fn read(stored: &Metadata) -> Option<Self> {
        if stored.as_bytes().is_empty() {
            return Some(Self::default());
        }
        serde_json::from_slice(stored.as_bytes()).ok().map(Self)
    }

    pub(super) fn write(&self) -> Result<Metadata, ApiError> {
        let bytes = serde_json::to_vec(&self.0)
            .map_err(|error| ApiError::defect(format!("Metadata cannot be written: {error}.")))?;
        Ok(Metadata::new(bytes)?)
    }

    /// Whether a key always has a value, set or not.
    pub(super) fn is_reserved(key: &str) -> bool {
        matches!(
            key,
            MAX_POST_SIZE
                | MESSAGE_TTL
                | MESSAGE_DELAY
                | DEAD_LETTER_QUEUE
                | DEAD_LETTER_TTL
                | MAX_CLAIM_COUNT
                | ENCRYPT
        )
    }

    /// Checks the keys that are settings.
    pub(super) fn check(&self, options: &ServiceOptions, keys: &KeyRing) -> Result<(), ApiError> {
        self.check_number(options.post_size(MAX_POST_SIZE), MAX_POST_SIZE)?;
        self.check_number(options.message_ttl(MESSAGE_TTL), MESSAGE_TTL)?;
        self.check_number(options.message_delay(MESSAGE_DELAY), MESSAGE_DELAY)?;
        self.check_number(options.message_ttl(DEAD_LETTER_TTL), DEAD_LETTER_TTL)?;
        self.check_number(Range::new(MAX_CLAIM_COUNT, 0, i64::MAX), MAX_CLAIM_COUNT)?;
        if let Some(name) = self.set(DEAD_LETTER_QUEUE)
            && !name.is_string()
        {
            return Err(ApiError::body(format!("{DEAD_LETTER_QUEUE} must be a string.")));
        }
        if let Some(Value::String(name)) = self.set(DEAD_LETTER_QUEUE) {
            // Otherwise messages would be claimed for ever, and nobody told why.
            QueueName::new(name)
                .map_err(|error| ApiError::request(format!("{DEAD_LETTER_QUEUE}: {error}.")))?;
        }
        if let Some(policy) = self.set(RETRY_POLICY)
            && !policy.is_object()
        {
            return Err(ApiError::body(format!("{RETRY_POLICY} must be an object.")));
        }
        match self.set(ENCRYPT) {
            None => Ok(()),
            // Taking the setting and storing the messages in clear would be worse than an error.
            Some(Value::Bool(true)) if keys.is_empty() => {
                Err(ApiError::request(format!("{ENCRYPT}: this service has no key of encryption.")))
            }
            Some(Value::Bool(true)) => Ok(()),
            Some(_) => Err(ApiError::body(format!("{ENCRYPT} must be true or false."))),
        }
    }

    /// Whether bodies must be encrypted. What only looks like a yes is one: a program that uses the
    /// library may have written it.
    pub(super) fn wants_encryption(&self) -> bool {
        self.set(ENCRYPT).is_some()
    }

    /// A key's value, unless it is one that stands for "not set".
    fn set(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !is_empty(value))
    }

    fn check_number(&self, range: Range, key: &str) -> Result<(), ApiError> {
        self.set(key).map_or(Ok(()), |value| range.of_json(value).map(drop))
    }

    /// With the values of settings that are not set.
    pub(super) fn with_defaults(mut self, options: &ServiceOptions) -> Map<String, Value> {
        for (key, default) in [
            (MAX_POST_SIZE, Value::from(options.max_messages_post_size)),
            (MESSAGE_TTL, Value::from(options.default_message_ttl)),
            (MESSAGE_DELAY, Value::from(options.default_message_delay)),
            (DEAD_LETTER_QUEUE, Value::Null),
            (DEAD_LETTER_TTL, Value::Null),
            (MAX_CLAIM_COUNT, Value::Null),
            (ENCRYPT, Value::Bool(false)),
        ] {
            let unset = self.0.get(key).is_none_or(|value| is_empty(value) || value == 0);
            if unset {
                self.0.insert(key.to_owned(), default);
            }
        }
        self.0
    }

    pub(super) fn message_defaults(&self, options: &ServiceOptions) -> MessageDefaults {
        let number = |key: &str| self.set(key).and_then(Value::as_u64).filter(|value| *value > 0);
        let max = options.max_messages_post_size;
        MessageDefaults {
            ttl_s: number(MESSAGE_TTL).unwrap_or(options.default_message_ttl.into()),
            delay_s: number(MESSAGE_DELAY).unwrap_or(options.default_message_delay.into()),
            max_post_bytes: number(MAX_POST_SIZE)
                .and_then(|size| usize::try_from(size).ok())
                .map_or(max, |size| size.min(max)),
        }
    }

    /// What is said of messages that are claimed too often, if it is said in full.
    pub(super) fn dead_letters(&self) -> Option<DeadLetterSettings> {
        let number = |key: &str| self.set(key).and_then(Value::as_u64).filter(|value| *value > 0);
        let queue = self.set(DEAD_LETTER_QUEUE)?.as_str()?;
        Some(DeadLetterSettings {
            max_claims: u32::try_from(number(MAX_CLAIM_COUNT)?).unwrap_or(u32::MAX),
            queue: QueueName::new(queue).ok()?,
            ttl: number(DEAD_LETTER_TTL).map(Duration::from_secs),
        })
    }

    /// Whether a key has this value; text that looks like a number also stands for the number.
    pub(super) fn matches(&self, key: &str, wanted: &str) -> bool {
        let Some(value) = self.0.get(key) else {
            return false;
        };
        value.as_str() == Some(wanted)
            || wanted.parse::<i64>().is_ok_and(|wanted| value.as_i64() == Some(wanted))
    }
}

/// Python's idea of a value that is no number and yet false.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) | Value::Number(_) => false,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(value: Value) -> QueueMetadata {
        QueueMetadata(value.as_object().unwrap().clone())
    }

    #[test]
    fn settings_are_checked_and_other_keys_are_free() {
        let options = ServiceOptions::default();
        for fine in [
            json!({}),
            json!({"_default_message_ttl": null, "any": [1, {"x": 2}]}),
            json!({"_default_message_ttl": 60, "_default_message_delay": 0}),
            json!({"_max_messages_post_size": "", "_enable_encrypt_messages": false}),
            json!({"_dead_letter_queue": "d", "_max_claim_count": 3}),
        ] {
            assert!(of(fine.clone()).check(&options, &KeyRing::default()).is_ok(), "{fine}");
        }
        for wrong in [
            json!({"_default_message_ttl": 59}),
            json!({"_default_message_ttl": 0}),
            json!({"_default_message_ttl": "60"}),
            json!({"_default_message_delay": 901}),
            json!({"_max_messages_post_size": 262_145}),
            json!({"_max_messages_post_size": 1.5}),
            json!({"_enable_encrypt_messages": true}),
            json!({"_enable_encrypt_messages": "yes"}),
            json!({"_retry_policy": [1]}),
        ] {
            assert!(of(wrong.clone()).check(&options, &KeyRing::default()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn unset_settings_are_shown_with_their_defaults() {
        let options = ServiceOptions::default();
        let shown = of(json!({"a": 1, "_default_message_ttl": 90})).with_defaults(&options);
        let wanted = json!({
            "a": 1, "_default_message_ttl": 90, "_max_messages_post_size": 262_144,
            "_default_message_delay": 0, "_dead_letter_queue": null,
            "_dead_letter_queue_messages_ttl": null, "_max_claim_count": null,
            "_enable_encrypt_messages": false,
        });
        assert_eq!(Value::Object(shown), wanted);
    }

    #[test]
    fn metadata_that_is_no_object_is_nobody_s() {
        assert_eq!(QueueMetadata::read(&Metadata::default()), Some(QueueMetadata::default()));
        assert_eq!(QueueMetadata::read(&Metadata::new("[]").unwrap()), None);
        assert_eq!(QueueMetadata::read(&Metadata::new("\u{1}").unwrap()), None);
    }

    #[test]
    fn a_filter_takes_text_and_numbers() {
        let metadata = of(json!({"team": "a", "n": 7}));
        assert!(metadata.matches("team", "a") && metadata.matches("n", "7"));
        assert!(!metadata.matches("team", "b") && !metadata.matches("x", "a"));
    }
}
