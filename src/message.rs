//! Messages as callers see them, and the envelope in which a body is stored.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::token::{ClaimId, MessageId};

/// Longest body, in bytes.
pub const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
/// Longest life of a message.
pub const MAX_TTL: Duration = Duration::from_secs(1_209_600);
/// Longest delay of a message.
pub const MAX_DELAY: Duration = Duration::from_secs(86_400);
/// Longest client id, in bytes.
pub(crate) const MAX_CLIENT_ID_BYTES: usize = 64;

/// Who posts or reads: an opaque string of 1 to 64 bytes of printable ASCII. Readers may leave out
/// what they posted themselves.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(Box<str>);

impl ClientId {
    /// Takes a client id.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if it is empty, longer than 64 bytes or
    /// has anything but printable ASCII.
    pub fn new(id: &str) -> Result<Self, Error> {
        if id.is_empty() || id.len() > MAX_CLIENT_ID_BYTES {
            return Err(Error::invalid(format!(
                "client id of {} bytes: 1 to {MAX_CLIENT_ID_BYTES} are allowed",
                id.len()
            )));
        }
        if !id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::invalid("client id: only printable ASCII is allowed"));
        }
        Ok(Self(id.into()))
    }

    /// As given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientId({})", self.0)
    }
}

/// What a body is, so that a reader knows how to take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ContentType {
    /// Bytes of which the library knows nothing.
    Bytes,
    /// One JSON value.
    Json,
    /// One MessagePack value.
    MessagePack,
    /// UTF-8 text.
    Text,
    /// Encrypted by whoever posted it: bytes of which the library knows nothing. The service reads
    /// and writes them ([`crate::http`]); the library has no keys.
    Encrypted,
}

/// A message to be posted.
#[derive(Debug, Clone, PartialEq)]
pub struct NewMessage {
    pub(crate) body: Bytes,
    pub(crate) content_type: ContentType,
    pub(crate) ttl: Duration,
    pub(crate) delay: Duration,
}

impl NewMessage {
    /// A message of these bytes that lives for an hour and is not delayed.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if the body is longer than
    /// [`MAX_BODY_BYTES`].
    pub fn new(content_type: ContentType, body: impl Into<Bytes>) -> Result<Self, Error> {
        let body = body.into();
        if body.len() > MAX_BODY_BYTES {
            return Err(Error::invalid(format!(
                "body of {} bytes: at most {MAX_BODY_BYTES} are allowed",
                body.len()
            )));
        }
        Ok(Self { body, content_type, ttl: Duration::from_secs(3600), delay: Duration::ZERO })
    }

    /// A message of one JSON value.
    ///
    /// # Errors
    /// As [`NewMessage::new`].
    pub fn json(value: &serde_json::Value) -> Result<Self, Error> {
        Self::new(ContentType::Json, value.to_string())
    }

    /// Sets how long the message lives: above zero, at most [`MAX_TTL`].
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if out of range.
    pub fn with_ttl(mut self, ttl: Duration) -> Result<Self, Error> {
        if ttl < Duration::from_millis(1) || ttl > MAX_TTL {
            return Err(Error::invalid(format!(
                "ttl of {ttl:?}: 1 ms to {} s are allowed",
                MAX_TTL.as_secs()
            )));
        }
        self.ttl = ttl;
        Ok(self)
    }

    /// Sets how long the message stays out of claims: at most [`MAX_DELAY`].
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if out of range.
    pub fn with_delay(mut self, delay: Duration) -> Result<Self, Error> {
        if delay > MAX_DELAY {
            return Err(Error::invalid(format!(
                "delay of {delay:?}: at most {} s are allowed",
                MAX_DELAY.as_secs()
            )));
        }
        self.delay = delay;
        Ok(self)
    }
}

/// A message that was read.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Message {
    /// Names it for ever.
    pub id: MessageId,
    /// The body.
    pub body: Bytes,
    /// What the body is.
    pub content_type: ContentType,
    /// Time since it was stored.
    pub age: Duration,
    /// How long it lives from then on; a claim may have extended it.
    pub ttl: Duration,
    /// The live claim that holds it.
    pub claim: Option<ClaimId>,
    /// How often it has been claimed.
    pub claim_count: u32,
    /// Who posted it.
    pub client: Option<ClientId>,
}

/// The stored form of a body: a MessagePack array of version, content type and body.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Envelope {
    pub(crate) content_type: ContentType,
    pub(crate) body: Bytes,
}

const ENVELOPE_VERSION: u8 = 1;
/// What an envelope has beside the body, at most: so that making one allocates once.
const ENVELOPE_BYTES: usize = 8;

impl Envelope {
    pub(crate) fn encode(content_type: ContentType, body: &[u8]) -> Result<Bytes, Error> {
        let tag: u8 = match content_type {
            ContentType::Bytes => 0,
            ContentType::Json => 1,
            ContentType::MessagePack => 2,
            ContentType::Text => 3,
            ContentType::Encrypted => 4,
        };
        let mut stored = Vec::with_capacity(body.len() + ENVELOPE_BYTES);
        rmp_serde::encode::write(
            &mut stored,
            &(ENVELOPE_VERSION, tag, serde_bytes::Bytes::new(body)),
        )
        .map_err(|error| {
            Error::new(ErrorKind::Internal, "body cannot be encoded").because(error)
        })?;
        Ok(stored.into())
    }

    /// The body shares the memory of `stored`.
    pub(crate) fn decode(stored: &Bytes) -> Result<Self, Error> {
        let broken =
            |what: &str| Error::new(ErrorKind::Internal, format!("stored envelope: {what}"));
        let (version, tag, body): (u8, u8, &serde_bytes::Bytes) =
            rmp_serde::from_slice(stored).map_err(|error| broken("unreadable").because(error))?;
        if version != ENVELOPE_VERSION {
            return Err(broken("unknown version"));
        }
        let content_type = match tag {
            0 => ContentType::Bytes,
            1 => ContentType::Json,
            2 => ContentType::MessagePack,
            3 => ContentType::Text,
            4 => ContentType::Encrypted,
            _ => return Err(broken("unknown content type")),
        };
        Ok(Self { content_type, body: stored.slice_ref(body) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_envelope_comes_back(body: Vec<u8>) {
            let stored = Envelope::encode(ContentType::Text, &body).unwrap();
            let envelope = Envelope::decode(&stored).unwrap();
            prop_assert_eq!(&envelope.body[..], &body[..]);
            prop_assert_eq!(envelope.content_type, ContentType::Text);
            prop_assert!(stored.len() <= body.len() + ENVELOPE_BYTES);
        }

        #[test]
        fn decoding_an_envelope_never_panics(bytes: Vec<u8>) {
            let _ = Envelope::decode(&Bytes::from(bytes));
        }
    }
}
