//! JSON in and out: Zaqar's rules about what is a document, and answers.

use std::fmt;
use std::str::from_utf8;

use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::ser::Error;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::error::ApiError;
use crate::{ContentType, Message};

/// A message's body as one JSON value: JSON as it was posted, text as a string, and anything else
/// in base64. One that is still encrypted cannot be shown, which is an error.
#[derive(Debug)]
pub struct JsonBody<'a>(pub &'a Message);

impl Serialize for JsonBody<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let body = &self.0.body[..];
        match self.0.content_type {
            ContentType::Json => {
                if let Ok(raw) = serde_json::from_slice::<&RawValue>(body) {
                    return raw.serialize(serializer);
                }
            }
            ContentType::Text => {
                if let Ok(text) = from_utf8(body) {
                    return serializer.serialize_str(text);
                }
            }
            ContentType::Encrypted => return Err(S::Error::custom("the body is encrypted")),
            ContentType::Bytes | ContentType::MessagePack => {}
        }
        serializer.serialize_str(&BASE64.encode(body))
    }
}

/// A document: an object or an array without integers beyond 64 bits.
pub(super) fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        ApiError::body(format!("The request body could not be parsed: {error}."))
    })?;
    if !value.is_object() && !value.is_array() {
        return Err(ApiError::body(
            "The request body could not be parsed: it must be a JSON object or array.",
        ));
    }
    if let Some(number) = wide_integer(bytes) {
        return Err(ApiError::body(format!("The integer {number} does not fit into 64 bits.")));
    }
    Ok(value)
}

/// A document that must be there and be an object.
pub(super) fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    if bytes.is_empty() {
        return Err(ApiError::body("Request body can not be empty."));
    }
    match parse(bytes)? {
        Value::Object(object) => Ok(object),
        _ => Err(ApiError::body("The request body must be a JSON object.")),
    }
}

/// The value of one key of a document that must be an object; the others are skipped unparsed.
pub(super) fn parse_key(bytes: &[u8], key: &'static str) -> Result<Option<Value>, ApiError> {
    if bytes.is_empty() {
        return Err(ApiError::body("Request body can not be empty."));
    }
    let unreadable = |error: &dyn fmt::Display| {
        ApiError::body(format!("The request body could not be parsed: {error}."))
    };
    // What is skipped is not looked at so closely.
    let text = from_utf8(bytes).map_err(|error| unreadable(&error))?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = reader.deserialize_any(Key(key)).and_then(|value| reader.end().map(|()| value));
    let value = value.map_err(|error| unreadable(&error))?;
    match wide_integer(bytes) {
        Some(number) => {
            Err(ApiError::body(format!("The integer {number} does not fit into 64 bits.")))
        }
        None => Ok(value),
    }
}

/// Reads the value of one key of an object.
struct Key(&'static str);

impl<'de> Visitor<'de> for Key {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if key == self.0 {
                // Of two the last one counts, as everywhere.
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// The first integer in valid JSON text that 64 bits with a sign cannot hold.
///
/// The parser would read it as a fraction and lose digits without a word.
fn wide_integer(json: &[u8]) -> Option<String> {
    let mut rest = json;
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'"' {
            rest = after_string(tail);
        } else if first == b'-' || first.is_ascii_digit() {
            let part_of_number = |byte: &u8| b"+-.eE".contains(byte) || byte.is_ascii_digit();
            let len = rest.iter().take_while(|byte| part_of_number(byte)).count();
            let (number, tail) = rest.split_at(len);
            rest = tail;
            let number = from_utf8(number).unwrap_or_default();
            if !number.contains(['.', 'e', 'E']) && number.parse::<i64>().is_err() {
                return Some(number.chars().take(40).collect());
            }
        } else {
            rest = tail;
        }
    }
    None
}

/// What follows a string whose opening quote has been read.
fn after_string(mut rest: &[u8]) -> &[u8] {
    loop {
        match rest {
            [b'"', tail @ ..] => return tail,
            [b'\\', _, tail @ ..] | [_, tail @ ..] => rest = tail,
            [] => return rest,
        }
    }
}

/// An answer with a JSON document.
pub(super) fn document(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let json = HeaderValue::from_static("application/json");
            (status, [(CONTENT_TYPE, json)], bytes).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "answer cannot be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// 200 with a document.
pub(super) fn ok(value: &impl Serialize) -> Response {
    document(StatusCode::OK, value)
}

/// 201 with a document, and where the new thing is.
pub(super) fn created(location: &str, value: &impl Serialize) -> Result<Response, ApiError> {
    located(document(StatusCode::CREATED, value), location)
}

/// 201 or 204 without a body, and where the thing is.
pub(super) fn stored(location: &str, new: Stored) -> Result<Response, ApiError> {
    let status = match new {
        Stored::New => StatusCode::CREATED,
        Stored::Before => StatusCode::NO_CONTENT,
    };
    located(status.into_response(), location)
}

/// Whether a request made the thing it wants to be there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stored {
    /// It did.
    New,
    /// It was there before.
    Before,
}

/// 204.
pub(super) fn nothing() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

fn located(mut response: Response, location: &str) -> Result<Response, ApiError> {
    let value = HeaderValue::try_from(location)
        .map_err(|_| ApiError::defect("The location cannot be written as a header."))?;
    response.headers_mut().insert(LOCATION, value);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn one_key_of_an_object_is_read_and_the_others_are_skipped() {
        let read = |text: &str| parse_key(text.as_bytes(), "a");
        assert_eq!(read(r#"{"b": [{"a": 1}], "a": [2], "c": null}"#).unwrap(), Some(json!([2])));
        assert_eq!(read(r#"{"a": 1, "\u0061": 2}"#).unwrap(), Some(json!(2)));
        assert_eq!(read("{}").unwrap(), None);
        let deep = format!("{{\"b\": {}", "[".repeat(1_000_000));
        for wrong in
            ["", "[]", "1", "{", r#"{"a": 1} 2"#, r#"{"b": 9223372036854775808}"#, deep.as_str()]
        {
            assert!(read(wrong).is_err(), "{:?}", &wrong[..wrong.len().min(40)]);
        }
        assert!(parse_key(b"{\"b\": \"\xff\"}", "a").is_err());
    }

    #[test]
    fn scalars_blanks_and_fragments_are_no_documents() {
        for text in ["", " ", "1", "null", "\"x\"", "[", "{", ".", "[1,]", "{\"a\":NaN}"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(parse(b" [] ").is_ok());
        assert!(parse(b"{}").is_ok());
    }

    #[test]
    fn deep_nesting_is_an_error_not_a_crash() {
        let deep = "[".repeat(200_000);
        assert!(parse(deep.as_bytes()).is_err());
        let closed = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(parse(closed.as_bytes()).is_err());
    }

    #[test]
    fn integers_beyond_64_bits_are_refused_wherever_they_are() {
        for number in ["9223372036854775808", "-9223372036854775809", "1000000000000000000000"] {
            let text = format!("{{\"a\": [1, {{\"b\": {number}}}]}}");
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        for fine in ["9223372036854775807", "-9223372036854775808", "1e30", "0.5"] {
            assert!(parse(format!("[{fine}]").as_bytes()).is_ok(), "{fine}");
        }
        assert!(parse(br#"["1000000000000000000000", "\"1000000000000000000000"]"#).is_ok());
    }

    proptest! {
        #[test]
        fn parsing_never_panics(bytes: Vec<u8>, text in "[\\[\\]{}\",:0-9a-z\\\\.eE+-]{0,60}") {
            let _ = parse(&bytes);
            let _ = parse(text.as_bytes());
            let _ = wide_integer(&bytes);
        }
    }
}
