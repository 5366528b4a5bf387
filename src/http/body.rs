//! Bodies of requests on their way in: bounded in bytes, in time, and all together.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::error::ApiError;
use super::msgpack;
use super::room::{Held, Room};
use crate::Project;

/// What the bodies of all requests may cost.
#[derive(Debug)]
pub(super) struct Bodies {
    room: Arc<Room>,
    patience: Duration,
}

/// A body, for which room is held as long as it lives.
#[derive(Debug)]
pub(super) struct Received {
    bytes: Bytes,
    _room: Held,
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// For bodies that are a few numbers or names.
pub(super) const SMALL: Most = Most::Bearable(65_536);

/// How long a body may be, and what is answered when it is longer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Most {
    /// The API has a limit of its own for it: a fault of the request, 400.
    Allowed(usize),
    /// It has none, and nobody needs that much: 413.
    Bearable(usize),
}

impl Most {
    fn bytes(self) -> usize {
        match self {
            Self::Allowed(bytes) | Self::Bearable(bytes) => bytes,
        }
    }

    fn exceeded(self) -> ApiError {
        match self {
            Self::Allowed(max) => {
                ApiError::request(format!("The request is longer than {max} bytes."))
            }
            Self::Bearable(max) => ApiError::too_large(max),
        }
    }
}

impl Bodies {
    /// Room for `max_bytes` of bodies that have at most `largest` each.
    pub(super) fn new(max_bytes: usize, largest: usize, patience: Duration) -> Self {
        Self { room: Arc::new(Room::new(max_bytes, largest)), patience }
    }

    /// Reads a body of at most `most`, as JSON.
    pub(super) async fn read(
        &self,
        project: &Project,
        headers: &HeaderMap,
        body: Body,
        most: Most,
    ) -> Result<Received, ApiError> {
        let announced =
            headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if announced.is_some_and(|length: u64| length > most.bytes() as u64) {
            return Err(most.exceeded());
        }
        let received = match timeout(self.patience, self.collect(project, body, most)).await {
            Ok(received) => received?,
            Err(_) => return Err(ApiError::too_slow()),
        };
        if !received.is_empty() && msgpack::is_sent(headers) {
            return Ok(Received { bytes: msgpack::to_json(&received)?, ..received });
        }
        Ok(received)
    }

    /// Room is taken as bytes come in: who announces much and sends nothing keeps nobody out.
    async fn collect(
        &self,
        project: &Project,
        body: Body,
        most: Most,
    ) -> Result<Received, ApiError> {
        let mut collected = BytesMut::new();
        let mut room = self.room.hold(project);
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk =
                chunk.map_err(|_| ApiError::body("The request ended before its body did."))?;
            if collected.len() + chunk.len() > most.bytes() {
                return Err(most.exceeded());
            }
            if !room.grow(chunk.len()) {
                return Err(ApiError::no_room());
            }
            collected.extend_from_slice(&chunk);
        }
        Ok(Received { bytes: collected.freeze(), _room: room })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use futures_util::stream;

    use super::*;

    /// As long as all the room there is.
    const LONG: &str = match std::str::from_utf8(&[b' '; 1000]) {
        Ok(text) => text,
        Err(_) => "",
    };

    fn p() -> Project {
        Project::new("p").unwrap()
    }

    fn chunks(texts: &[&'static str]) -> Body {
        let chunks: Vec<Result<Bytes, std::io::Error>> =
            texts.iter().map(|text| Ok(Bytes::from_static(text.as_bytes()))).collect();
        Body::from_stream(stream::iter(chunks))
    }

    #[tokio::test]
    async fn room_is_held_as_long_as_a_body_lives() {
        let bodies = Bodies::new(8, 8, Duration::from_secs(1));
        let none = HeaderMap::new();
        let most = Most::Allowed(100);
        let first = bodies.read(&p(), &none, chunks(&["abc", "de"]), most).await.unwrap();
        assert_eq!(&first[..], b"abcde");
        assert!(bodies.read(&p(), &none, chunks(&["abcd"]), most).await.is_err());
        drop(first);
        assert!(bodies.read(&p(), &none, chunks(&["abcd", "efgh"]), most).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_is_refused_by_its_announcement_or_by_its_bytes() {
        let bodies = Bodies::new(1000, 1000, Duration::from_secs(1));
        let mut announced = HeaderMap::new();
        announced.insert(CONTENT_LENGTH, HeaderValue::from_static("11"));
        assert!(bodies.read(&p(), &announced, Body::empty(), Most::Allowed(10)).await.is_err());
        let long = chunks(&["01234", "567890"]);
        assert!(bodies.read(&p(), &HeaderMap::new(), long, Most::Bearable(10)).await.is_err());
        let all = chunks(&[LONG]);
        assert!(bodies.read(&p(), &HeaderMap::new(), all, Most::Bearable(1000)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_given_up() {
        let bodies = Bodies::new(1000, 1000, Duration::from_secs(30));
        let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        assert!(bodies.read(&p(), &HeaderMap::new(), never, Most::Allowed(10)).await.is_err());
    }
}
