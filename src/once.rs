//! Idempotency keys: names for posts, so that they can be repeated without being made twice.

use std::time::Duration;

use crate::error::Error;
use crate::protocol::once::{KeyName, digest, key_name};
use crate::time::millis;
use crate::token::MessageId;

/// Longest key, in characters.
pub const MAX_KEY_LEN: usize = 255;
/// How long a key is remembered.
pub const KEY_KEPT: Duration = Duration::from_secs(3_600);
/// By how much the clocks of processes may differ.
const CLOCKS_DIFFER: Duration = Duration::from_secs(300);

/// Names one post to one queue: posted again with the same key within [`KEY_KEPT`], it is answered
/// like the first time and adds nothing (Q11).
///
/// Up to 255 visible ASCII characters, drawn by the caller at random: a UUID will do. Queues do not
/// share keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    text: Box<str>,
    request: Option<u64>,
    /// What the key is for: keys of two kinds never meet.
    kind: &'static str,
    kept: Duration,
}

impl IdempotencyKey {
    /// Takes a key.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it is empty, longer than
    /// [`MAX_KEY_LEN`] or has anything but visible ASCII characters.
    pub fn new(key: &str) -> Result<Self, Error> {
        if key.is_empty() || key.len() > MAX_KEY_LEN {
            return Err(Error::invalid(format!(
                "idempotency key of {} bytes: 1 to {MAX_KEY_LEN} are allowed",
                key.len()
            )));
        }
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::invalid("idempotency key: only visible ASCII is allowed"));
        }
        Ok(Self { text: key.into(), request: None, kind: "post", kept: KEY_KEPT })
    }

    /// The bytes by which a repeated request is recognised, instead of the messages themselves: for
    /// callers that make the messages from something else and may make them otherwise next time.
    #[must_use]
    pub fn of_request(mut self, request: &[u8]) -> Self {
        self.request = Some(digest(&[request]));
        self
    }

    /// The key of a message's move to its queue of dead letters, for a message that lives so long.
    pub(crate) fn dead_letter(id: &MessageId, left: Duration) -> Self {
        let text = id.to_string();
        let request = Some(digest(&[text.as_bytes()]));
        Self { text: text.into(), request, kind: "dead letter", kept: left + KEY_KEPT }
    }

    /// As given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn name(&self) -> KeyName {
        key_name(self.kind, &self.text)
    }

    /// Of the request, if the caller told it.
    pub(crate) fn request(&self) -> Option<u64> {
        self.request
    }

    pub(crate) fn kept_ms(&self) -> u64 {
        millis(self.kept + CLOCKS_DIFFER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_up_to_255_visible_characters() {
        assert!(IdempotencyKey::new(&"k".repeat(255)).is_ok());
        for wrong in ["", "two words", "tab\t", "é", "\u{7f}", &"k".repeat(256)] {
            assert!(IdempotencyKey::new(wrong).is_err(), "{wrong:?}");
        }
    }
}
