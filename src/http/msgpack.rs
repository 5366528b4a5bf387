//! MessagePack beside JSON: requests are turned into JSON on the way in, answers into MessagePack on the
//! way out, so that everything in between knows one format only.

use std::io::Cursor;

use axum::body::{Body, to_bytes};
use axum::http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

use super::checks;
use super::error::ApiError;

/// Its media types: the registered one, and the one from before.
pub(super) const MEDIA_TYPES: [&str; 2] = ["application/msgpack", "application/x-msgpack"];

/// How deep a document may be: as deep as one of JSON. The stack would not bear the reader's own
/// limit, 1,024.
const MAX_DEPTH: usize = 127;

/// Whether a request's body is MessagePack.
pub(super) fn is_sent(headers: &HeaderMap) -> bool {
    MEDIA_TYPES.contains(&checks::media_type(headers).as_str())
}

/// Whether the answer should be: the request accepts MessagePack by name, and not JSON.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let texts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut wanted = false;
    for range in texts.flat_map(|text| text.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().to_ascii_lowercase();
        match name.as_str() {
            _ if parts.any(checks::refuses) => {}
            "application/json" => return false,
            name => wanted |= MEDIA_TYPES.contains(&name),
        }
    }
    wanted
}

/// A document of MessagePack as JSON text.
pub(super) fn to_json(bytes: &[u8]) -> Result<Bytes, ApiError> {
    let mut reader = rmp_serde::Deserializer::new(Cursor::new(bytes));
    reader.set_max_depth(MAX_DEPTH);
    let value = Value::deserialize(&mut reader).map_err(|error| {
        ApiError::body(format!("The request body could not be parsed as MessagePack: {error}."))
    })?;
    if reader.position() != bytes.len() as u64 {
        return Err(ApiError::body(
            "The request body could not be parsed as MessagePack: something follows the document.",
        ));
    }
    Ok(value.to_string().into())
}

/// An answer, its document written as MessagePack.
pub(super) async fn answer(response: Response) -> Response {
    let (mut head, body) = response.into_parts();
    // Answers are made in memory, so that reading one cannot fail.
    let bytes = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let packed = serde_json::from_slice::<Value>(&bytes).ok();
    let packed = packed.and_then(|value| rmp_serde::to_vec_named(&value).ok());
    let Some(packed) = packed else {
        return Response::from_parts(head, Body::from(bytes));
    };
    head.headers.remove(CONTENT_LENGTH);
    head.headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPES[0]));
    Response::from_parts(head, Body::from(packed))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_the_same_in_both_formats() {
        let value =
            json!({"b": [1, -1, 0.5, true, null, "ä"], "a": {"x": 9_007_199_254_740_993_i64}});
        let packed = rmp_serde::to_vec_named(&value).unwrap();
        assert_eq!(to_json(&packed).unwrap(), value.to_string());
    }

    #[test]
    fn what_json_cannot_say_is_refused() {
        let binary = [0xc4, 1, 7];
        let number_as_key = [0x81, 1, 2];
        let two_documents = [0x90, 0x90];
        let cut = [0x92, 1];
        let deep = [0x91; 100_000];
        let longer_than_it_is = [0xdd, 0xff, 0xff, 0xff, 0xff];
        let refused: [&[u8]; 7] =
            [&binary, &number_as_key, &two_documents, &cut, &deep, &longer_than_it_is, &[]];
        for wrong in refused {
            assert!(to_json(wrong).is_err(), "{:?}", &wrong[..wrong.len().min(8)]);
        }
    }

    #[test]
    fn it_is_answered_to_those_who_name_it_and_not_json() {
        let wanted = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(accept));
            is_wanted(&headers)
        };
        assert!(wanted("application/msgpack") && wanted("text/html, application/x-msgpack;q=0.9"));
        assert!(!wanted("application/json, application/msgpack") && !wanted("*/*"));
        assert!(!wanted("application/msgpack;q=0"));
        assert!(wanted("application/json;q=0, application/msgpack"));
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes: Vec<u8>) {
            let _ = to_json(&bytes);
        }
    }
}
