//! Messages as callers see them, and the envelope in which a body is stored.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::dead_letters::Origin;
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
    /// Where a dead letter came from, as its envelope has it; empty: it is none.
    pub(crate) origin: Bytes,
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
        let (ttl, delay) = (Duration::from_secs(3600), Duration::ZERO);
        Ok(Self { body, content_type, ttl, delay, origin: Bytes::new() })
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

    /// Says where it comes from.
    pub(crate) fn from(mut self, origin: &Origin) -> Result<Self, Error> {
        let encoded = rmp_serde::to_vec(origin).map_err(|error| {
            Error::new(ErrorKind::Internal, "an origin cannot be encoded").because(error)
        })?;
        self.origin = encoded.into();
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
    /// Where it came from, if it is a dead letter.
    pub origin: Option<Origin>,
}

/// The stored form of a body: a MessagePack array of version, content type and body; of dead
/// letters, under another version, also of where they came from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Envelope {
    pub(crate) content_type: ContentType,
    pub(crate) body: Bytes,
    pub(crate) origin: Option<Origin>,
}

const ENVELOPE_VERSION: u8 = 1;
/// That of dead letters.
const LETTER_VERSION: u8 = 2;
/// What an envelope has beside the body, at most.
const ENVELOPE_BYTES: usize = 8;
/// How MessagePack begins an array of four.
const ARRAY_OF_FOUR: u8 = 0x94;

/// An envelope up to its body: an array of three, or of four if an origin follows the body; two small
/// numbers, the length of some bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct EnvelopeHead {
    bytes: [u8; ENVELOPE_BYTES],
    len: u8,
}

impl EnvelopeHead {
    fn of(message: &NewMessage) -> Self {
        const ARRAY_OF_THREE: u8 = 0x93;
        const BYTES: [u8; 3] = [0xc4, 0xc5, 0xc6];
        let tag = message.content_type.tag();
        // A body has 32 bits of length at most, see `MAX_BODY_BYTES`.
        let length = u32::try_from(message.body.len()).unwrap_or(u32::MAX).to_be_bytes();
        let (kind, length) = match length {
            [0, 0, 0, _] => (BYTES[0], &length[3..]),
            [0, 0, _, _] => (BYTES[1], &length[2..]),
            _ => (BYTES[2], &length[..]),
        };
        let (array, version) = if message.origin.is_empty() {
            (ARRAY_OF_THREE, ENVELOPE_VERSION)
        } else {
            (ARRAY_OF_FOUR, LETTER_VERSION)
        };
        let mut bytes = [array, version, tag, kind, 0, 0, 0, 0];
        bytes[4..4 + length.len()].copy_from_slice(length);
        Self { bytes, len: if length.len() == 4 { 8 } else { 4 + length.len() as u8 } }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }
}

impl NewMessage {
    /// What stands before the body in its envelope.
    pub(crate) fn envelope_head(&self) -> EnvelopeHead {
        EnvelopeHead::of(self)
    }
}

impl ContentType {
    fn tag(self) -> u8 {
        match self {
            Self::Bytes => 0,
            Self::Json => 1,
            Self::MessagePack => 2,
            Self::Text => 3,
            Self::Encrypted => 4,
        }
    }
}

impl Envelope {
    /// The body shares the memory of `stored`.
    pub(crate) fn decode(stored: &Bytes) -> Result<Self, Error> {
        let broken =
            |what: &str| Error::new(ErrorKind::Internal, format!("stored envelope: {what}"));
        let unreadable = |error| broken("unreadable").because(error);
        let is_letter = stored.first() == Some(&ARRAY_OF_FOUR);
        let (version, tag, body, origin): (u8, u8, &serde_bytes::Bytes, _) = if is_letter {
            rmp_serde::from_slice(stored).map_err(unreadable)?
        } else {
            let (version, tag, body) = rmp_serde::from_slice(stored).map_err(unreadable)?;
            (version, tag, body, None)
        };
        if version != if is_letter { LETTER_VERSION } else { ENVELOPE_VERSION } {
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
        Ok(Self { content_type, body: stored.slice_ref(body), origin })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_envelope_comes_back(
            len in prop_oneof![0usize..600, 65_530usize..65_540, Just(1 << 20)],
            content_type in prop::sample::select(vec![
                ContentType::Bytes, ContentType::Json, ContentType::MessagePack, ContentType::Text,
            ]),
        ) {
            let body = vec![b'b'; len];
            let message = NewMessage::new(content_type, body.clone()).unwrap();
            let head = message.envelope_head();
            let stored = Bytes::from([head.as_slice(), &body].concat());
            let envelope = Envelope::decode(&stored).unwrap();
            prop_assert_eq!(&envelope.body[..], &body[..]);
            prop_assert_eq!(envelope.content_type, content_type);
            let tuple = (ENVELOPE_VERSION, content_type.tag(), serde_bytes::Bytes::new(&body));
            let by_the_library = rmp_serde::to_vec(&tuple).unwrap();
            prop_assert_eq!(&stored[..], &by_the_library[..]);
            prop_assert_eq!(envelope.origin, None);
            let origin = Origin { queue: "q".into(), id: "an id".into(), claims: 3 };
            let letter = message.from(&origin).unwrap();
            let head = letter.envelope_head();
            let stored = Bytes::from([head.as_slice(), &letter.body, &letter.origin].concat());
            let letter = Envelope::decode(&stored).unwrap();
            prop_assert_eq!((&letter.body[..], letter.origin), (&body[..], Some(origin)));
        }

        #[test]
        fn decoding_an_envelope_never_panics(bytes: Vec<u8>) {
            let _ = Envelope::decode(&Bytes::from(bytes));
        }
    }
}
