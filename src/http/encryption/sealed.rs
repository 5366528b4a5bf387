//! The stored form of an encrypted body.
//!
//! | bytes | |
//! | --- | --- |
//! | 1 | version of this form, 1 |
//! | 1 | length of the key's id |
//! | 1 to 32 | the key's id |
//! | 16 | salt: with the configured key it makes the key of this message alone |
//! | 12 | nonce |
//! | the rest | ciphertext of AES-256-GCM, with its tag of 16 bytes at the end |
//!
//! What stands before the ciphertext is authenticated with it, and so are project and queue: a body
//! that was moved to another queue, or changed in any bit, cannot be read. Salt and nonce together
//! are 224 random bits, so that no number of messages comes near a repetition.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::error::Unspecified;
use ring::hkdf::Prk;
use ring::rand::{SecureRandom, SystemRandom};

use crate::{Project, QueueName};

const VERSION: u8 = 1;
const SALT_BYTES: usize = 16;
const LABEL: &[u8] = b"roundelay message body, key of one message";

/// The queue that a body belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) project: &'a Project,
    pub(super) queue: &'a QueueName,
}

/// A stored body, taken apart.
pub(super) struct Sealed<'a> {
    pub(super) key_id: &'a str,
    head: &'a [u8],
    salt: &'a [u8],
    nonce: [u8; NONCE_LEN],
    ciphertext: &'a [u8],
}

/// Encrypts a body. Fails only if the system has no randomness.
pub(super) fn seal(
    key_id: &str,
    key: &Prk,
    place: Place<'_>,
    body: &[u8],
) -> Result<Vec<u8>, Unspecified> {
    let id_bytes = u8::try_from(key_id.len()).map_err(|_| Unspecified)?;
    let mut random = [0; SALT_BYTES + NONCE_LEN];
    SystemRandom::new().fill(&mut random)?;
    let (salt, nonce) = random.split_at(SALT_BYTES);
    let mut sealed = vec![VERSION, id_bytes];
    sealed.extend_from_slice(key_id.as_bytes());
    sealed.extend_from_slice(&random);
    let cipher = cipher(key, salt)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce)?;
    let context = context(&sealed, place);
    let mut ciphertext = Vec::with_capacity(body.len() + AES_256_GCM.tag_len());
    ciphertext.extend_from_slice(body);
    cipher.seal_in_place_append_tag(nonce, Aad::from(context), &mut ciphertext)?;
    sealed.append(&mut ciphertext);
    Ok(sealed)
}

impl<'a> Sealed<'a> {
    /// `None`: nothing that this version writes.
    pub(super) fn parse(stored: &'a [u8]) -> Option<Self> {
        let (&[version, id_bytes], rest) = stored.split_first_chunk()?;
        if version != VERSION {
            return None;
        }
        let (key_id, rest) = rest.split_at_checked(id_bytes.into())?;
        let (salt, rest) = rest.split_at_checked(SALT_BYTES)?;
        let (nonce, ciphertext) = rest.split_first_chunk()?;
        let head = stored.get(..stored.len() - ciphertext.len())?;
        let key_id = std::str::from_utf8(key_id).ok()?;
        Some(Self { key_id, head, salt, nonce: *nonce, ciphertext })
    }

    /// Fails if key, place or any bit is not what the body was encrypted with.
    pub(super) fn open(&self, key: &Prk, place: Place<'_>) -> Result<Vec<u8>, Unspecified> {
        let mut body = self.ciphertext.to_vec();
        let nonce = Nonce::assume_unique_for_key(self.nonce);
        let context = Aad::from(context(self.head, place));
        let len = cipher(key, self.salt)?.open_in_place(nonce, context, &mut body)?.len();
        body.truncate(len);
        Ok(body)
    }
}

/// The cipher with the key of one message.
fn cipher(key: &Prk, salt: &[u8]) -> Result<LessSafeKey, Unspecified> {
    let info = [LABEL, salt];
    Ok(LessSafeKey::new(UnboundKey::from(key.expand(&info, &AES_256_GCM)?)))
}

/// What is authenticated besides the body. The lengths keep two names from running into each other.
fn context(head: &[u8], place: Place<'_>) -> Vec<u8> {
    let (project, queue) = (place.project.as_str(), place.queue.as_str());
    let mut context = Vec::with_capacity(head.len() + project.len() + queue.len() + 16);
    for part in [head, project.as_bytes(), queue.as_bytes()] {
        context.extend_from_slice(&(part.len() as u64).to_le_bytes());
        context.extend_from_slice(part);
    }
    context
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::hkdf::{HKDF_SHA256, Salt};

    use super::*;

    fn key(secret: u8) -> Prk {
        Salt::new(HKDF_SHA256, b"test").extract(&[secret; 32])
    }

    fn names(project: &str, queue: &str) -> (Project, QueueName) {
        (Project::new(project).unwrap(), QueueName::new(queue).unwrap())
    }

    fn sealed(body: &[u8]) -> Vec<u8> {
        let (project, queue) = names("p", "q");
        seal("k1", &key(1), Place { project: &project, queue: &queue }, body).unwrap()
    }

    fn opened(stored: &[u8], key: &Prk, project: &str, queue: &str) -> Option<Vec<u8>> {
        let (project, queue) = names(project, queue);
        Sealed::parse(stored)?.open(key, Place { project: &project, queue: &queue }).ok()
    }

    #[test]
    fn a_body_can_be_read_in_its_own_queue_with_its_own_key_only() {
        let stored = sealed(b"secret");
        assert_eq!(opened(&stored, &key(1), "p", "q").as_deref(), Some(&b"secret"[..]));
        assert_eq!(Sealed::parse(&stored).unwrap().key_id, "k1");
        assert_eq!(opened(&stored, &key(2), "p", "q"), None);
        assert_eq!(opened(&stored, &key(1), "p", "q2"), None);
        assert_eq!(opened(&stored, &key(1), "p2", "q"), None);
        // The same letters, otherwise divided.
        assert_eq!(opened(&stored, &key(1), "pq", "q"), None);
    }

    #[test]
    fn a_change_of_any_bit_is_noticed() {
        let stored = sealed(b"secret");
        for bit in 0..stored.len() * 8 {
            let mut changed = stored.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opened(&changed, &key(1), "p", "q"), None, "bit {bit}");
        }
        for length in 0..stored.len() {
            assert_eq!(opened(&stored[..length], &key(1), "p", "q"), None, "{length} bytes");
        }
    }

    #[test]
    fn nothing_of_a_body_is_seen_and_no_two_look_alike() {
        let body = [b'a'; 64];
        let (one, other) = (sealed(&body), sealed(&body));
        assert_ne!(one, other);
        assert!(!one.windows(4).any(|window| window == b"aaaa"));
        assert_eq!(one.len(), body.len() + 2 + 2 + 16 + 12 + 16);
    }

    proptest! {
        #[test]
        fn any_body_comes_back_and_any_bytes_can_be_looked_at(body: Vec<u8>) {
            prop_assert_eq!(opened(&sealed(&body), &key(1), "p", "q"), Some(body.clone()));
            prop_assert_eq!(opened(&body, &key(1), "p", "q"), None);
        }
    }
}
