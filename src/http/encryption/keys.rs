//! Keys, as a file has them.

use std::fmt;

use data_encoding::HEXLOWER_PERMISSIVE;
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use serde::Deserialize;

use crate::http::reread;

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Longest id of a key.
const MAX_ID_BYTES: usize = 32;
/// Tells this use of a key from all others.
const SALT: &[u8] = b"roundelay message bodies 1";

/// Keys by which bodies are encrypted and decrypted, as they are at one moment.
#[derive(Debug, Default)]
pub struct KeyRing(Vec<Key>);

/// A key, of which only the id is ever shown.
pub(super) struct Key {
    pub(super) id: String,
    pub(super) secret: Prk,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?}, …)", self.id)
    }
}

/// An entry as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    key: String,
}

impl KeyRing {
    /// Whether there is no key at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key that encrypts.
    pub(super) fn first(&self) -> Option<&Key> {
        self.0.first()
    }

    pub(super) fn of(&self, id: &str) -> Option<&Key> {
        self.0.iter().find(|key| key.id == id)
    }
}

/// Reads a file's keys; what is wrong is told without them.
pub(super) fn parse(bytes: &[u8]) -> Result<KeyRing, String> {
    let entries: Vec<Entry> = reread::entries(bytes, "keys")?;
    if entries.is_empty() {
        return Err("at least one key is needed".to_owned());
    }
    let mut ring = KeyRing::default();
    for (at, entry) in entries.into_iter().enumerate() {
        let key = key(&entry).map_err(|what| format!("entry {}: {what}", at + 1))?;
        if ring.of(&key.id).is_some() {
            return Err(format!("entry {}: there is another key {:?}", at + 1, key.id));
        }
        ring.0.push(key);
    }
    Ok(ring)
}

fn key(entry: &Entry) -> Result<Key, String> {
    let id = &entry.id;
    let named = (1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
    if !named {
        return Err(format!("id must have 1 to {MAX_ID_BYTES} printable ASCII characters"));
    }
    let secret = HEXLOWER_PERMISSIVE.decode(entry.key.as_bytes());
    let secret = secret.ok().filter(|secret| secret.len() == KEY_BYTES);
    let secret =
        secret.ok_or_else(|| format!("key must have {} hexadecimal digits", 2 * KEY_BYTES))?;
    Ok(Key { id: id.clone(), secret: Salt::new(HKDF_SHA256, SALT).extract(&secret) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";

    #[test]
    fn keys_are_known_by_their_ids_and_the_first_encrypts() {
        let text = format!(r#"[{{"id": "b", "key": "{HEX}"}}, {{"id": "a", "key": "{HEX}"}}]"#);
        let ring = parse(text.as_bytes()).unwrap();
        assert_eq!(ring.first().unwrap().id, "b");
        assert_eq!(ring.of("a").unwrap().id, "a");
        assert!(ring.of("c").is_none() && !ring.is_empty());
    }

    #[test]
    fn what_is_wrong_in_a_file_of_keys_is_told_without_them() {
        let entry = format!(r#"{{"id": "a", "key": "{HEX}"}}"#);
        let other_id = |id: &str| format!(r#"[{{"id": "{id}", "key": "{HEX}"}}]"#);
        for wrong in [
            "[]".to_owned(),
            entry.clone(),
            format!("[{entry}, {entry}]"),
            format!(r#"[{{"id": "a", "key": "{HEX}0011"}}]"#),
            format!(r#"[{{"id": "a", "key": "{}"}}]"#, &HEX[2..]),
            format!(r#"[{{"id": "a", "key": "{}zz"}}]"#, &HEX[2..]),
            format!(r#"[{{"id": "a", "key": "{HEX}", "more": 1}}]"#),
            format!(r#"[{{"key": "{HEX}"}}]"#),
            other_id(""),
            other_id("two words"),
            other_id(&"x".repeat(33)),
            format!("[{entry}"),
        ] {
            let error = parse(wrong.as_bytes()).unwrap_err();
            assert!(!error.contains("1122") && !error.to_lowercase().contains("aabb"), "{error}");
        }
    }

    #[test]
    fn a_key_is_not_shown() {
        let text = format!(r#"[{{"id": "a", "key": "{HEX}"}}]"#);
        let shown = format!("{:?}", parse(text.as_bytes()).unwrap());
        assert_eq!(shown, "KeyRing([Key(\"a\", …)])");
    }
}
