//! The header `Idempotency-Key`: a post that is repeated with it adds nothing (Q11).
//!
//! After the IETF's draft of that header: a structured field whose item is a string,
//! `Idempotency-Key: "8e03978e-40d5-43dd-bc93-6894a57f9324"`. The string without its quotes, which
//! is what most clients send, names the same key.

use axum::http::HeaderMap;

use super::error::ApiError;
use crate::IdempotencyKey;

const HEADER: &str = "idempotency-key";

/// The key of a request, if it has one; `body` is by what its repetition is recognised.
pub(super) fn key(headers: &HeaderMap, body: &[u8]) -> Result<Option<IdempotencyKey>, ApiError> {
    let mut given = headers.get_all(HEADER).iter();
    let Some(value) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(ApiError::request("There must be one Idempotency-Key only."));
    }
    let wrong = || {
        ApiError::request(
            "The Idempotency-Key must be 1 to 255 visible ASCII characters, in quotes or not.",
        )
    };
    let text = value.to_str().ok().and_then(|text| unquoted(text.trim())).ok_or_else(wrong)?;
    let key = IdempotencyKey::new(&text).map_err(|_| wrong())?;
    Ok(Some(key.of_request(body)))
}

/// The string that the header stands for; `None` if it begins like a quoted one and is none.
fn unquoted(text: &str) -> Option<String> {
    let Some(quoted) = text.strip_prefix('"') else { return Some(text.to_owned()) };
    let inner = quoted.strip_suffix('"')?;
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => plain.push(chars.next().filter(|next| matches!(next, '"' | '\\'))?),
            '"' => return None,
            other => plain.push(other),
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn of(values: &[&str]) -> Result<Option<IdempotencyKey>, ApiError> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_str(value).unwrap());
        }
        key(&headers, b"body")
    }

    #[test]
    fn a_key_is_taken_with_and_without_quotes() {
        let key = |text: &str| of(&[text]).unwrap().unwrap();
        assert_eq!(key("\"8e03978e\""), key("8e03978e"));
        assert_eq!(key(r#""a\"b\\c""#).as_str(), r#"a"b\c"#);
        assert_eq!(key("a\"b").as_str(), "a\"b");
        assert_eq!(of(&[]).unwrap(), None);
    }

    #[test]
    fn malformed_keys_are_refused() {
        let long = "k".repeat(256);
        for wrong in ["", "\"", "\"\"", "two words", "\"two words\"", "\"a", "\"a\"b\"", r#""\a""#]
        {
            assert!(of(&[wrong]).is_err(), "{wrong}");
        }
        assert!(of(&[&long]).is_err());
        assert!(of(&["a", "a"]).is_err());
    }
}
