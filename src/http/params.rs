//! Query parameters, by Zaqar's rules, and links that repeat them.
//!
//! An empty value counts as absent. Of a repeated single value the last one counts. Lists are
//! separated by commas, repetition or both; an encoded comma is part of an item.

use std::fmt::Write as _;

use super::error::ApiError;

const TRUE: [&str; 7] = ["true", "True", "t", "yes", "y", "1", "on"];
const FALSE: [&str; 7] = ["false", "False", "f", "no", "n", "0", "off"];

/// The parameters of a request.
#[derive(Debug, Default)]
pub(super) struct Query {
    /// Names decoded, values as they came.
    given: Vec<(String, String)>,
}

impl Query {
    pub(super) fn parse(query: Option<&str>) -> Self {
        let given = query
            .unwrap_or_default()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (decode_query(name), value.to_owned()))
            .collect();
        Self { given }
    }

    fn raw(&self, name: &str) -> Option<&str> {
        self.given.iter().rev().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.raw(name).map(decode_query)
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        match text.trim().parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(wrong(name, &text, "an integer of 64 bits")),
        }
    }

    /// `false` if absent.
    pub(super) fn boolean(&self, name: &str) -> Result<bool, ApiError> {
        match self.text(name) {
            None => Ok(false),
            Some(text) if TRUE.contains(&text.as_str()) => Ok(true),
            Some(text) if FALSE.contains(&text.as_str()) => Ok(false),
            Some(text) => Err(wrong(name, &text, "true or false")),
        }
    }

    pub(super) fn list(&self, name: &str) -> Vec<String> {
        self.given
            .iter()
            .filter(|(given, _)| given == name)
            .flat_map(|(_, value)| value.split(','))
            .filter(|item| !item.is_empty())
            .map(decode_query)
            .collect()
    }

    /// The parameters with other names than these.
    pub(super) fn others(&self, known: &[&str]) -> Vec<(String, String)> {
        self.given
            .iter()
            .filter(|(name, _)| !known.contains(&name.as_str()))
            .map(|(name, value)| (name.clone(), decode_query(value)))
            .collect()
    }

    /// The same request behind `marker`: `path` with those of `repeated` that were given.
    pub(super) fn next(&self, path: &str, repeated: &[&str], marker: &str) -> String {
        let mut link = format!("{path}?");
        for name in repeated {
            if let Some(value) = self.text(name) {
                push_pair(&mut link, name, &value);
                link.push('&');
            }
        }
        push_pair(&mut link, "marker", marker);
        link
    }
}

fn wrong(name: &str, text: &str, wanted: &str) -> ApiError {
    let shown: String = text.chars().take(48).collect();
    ApiError::parameter(format!("The parameter {name} is {shown:?}: it must be {wanted}."))
}

fn push_pair(link: &mut String, name: &str, value: &str) {
    push_encoded(link, name);
    link.push('=');
    push_encoded(link, value);
}

fn push_encoded(link: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            link.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(link, "%{byte:02X}");
        }
    }
}

fn decode_query(text: &str) -> String {
    decode(&text.replace('+', " "))
}

/// Undoes percent-encoding. What is not well encoded stays as it is.
pub(super) fn decode(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first == b'%'
            && let [high, low, after @ ..] = tail
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            decoded.push(high * 16 + low);
            rest = after;
        } else {
            decoded.push(first);
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex(byte: u8) -> Option<u8> {
    let digit = char::from(byte).to_digit(16)?;
    u8::try_from(digit).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_value_counts_as_absent() {
        let query = Query::parse(Some("limit=&marker&echo=true"));
        assert_eq!(query.integer("limit").unwrap(), None);
        assert!(!query.has("marker"));
        assert!(query.boolean("echo").unwrap());
    }

    #[test]
    fn integers_are_whole_and_fit_into_64_bits() {
        let integer = |value: &str| Query::parse(Some(&format!("n={value}"))).integer("n");
        assert_eq!(integer("7").unwrap(), Some(7));
        assert_eq!(integer("-7").unwrap(), Some(-7));
        for wrong in ["x", "1.5", "5,7", "10000000000000000000", "%00", "0x10"] {
            assert!(integer(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn booleans_are_the_fourteen_words_and_nothing_else() {
        let boolean = |value: &str| Query::parse(Some(&format!("b={value}"))).boolean("b");
        assert!(TRUE.into_iter().all(|word| boolean(word).unwrap()));
        assert!(FALSE.into_iter().all(|word| !boolean(word).unwrap()));
        assert!(["TRUE", "2", "ja", "T"].into_iter().all(|word| boolean(word).is_err()));
    }

    #[test]
    fn an_encoded_comma_does_not_separate() {
        let query = Query::parse(Some("ids=a,b&ids=c%2Cd&ids=,e,"));
        assert_eq!(query.list("ids"), ["a", "b", "c,d", "e"]);
    }

    #[test]
    fn a_link_repeats_what_was_given_and_can_be_followed() {
        let query = Query::parse(Some("echo=true&limit=3&marker=old&other=1"));
        let link = query.next("/v2/queues/q/messages", &["limit", "echo"], "a b&c");
        assert_eq!(link, "/v2/queues/q/messages?limit=3&echo=true&marker=a%20b%26c");
        let again = Query::parse(link.split_once('?').map(|(_, query)| query));
        assert_eq!(again.text("marker").unwrap(), "a b&c");
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(text: String) {
            let mut encoded = String::new();
            push_encoded(&mut encoded, &text);
            prop_assert_eq!(decode_query(&encoded), text);
        }

        #[test]
        fn parsing_never_panics(text: String) {
            let query = Query::parse(Some(&text));
            let _ = query.others(&[]);
            let _ = decode(&text);
        }
    }
}
