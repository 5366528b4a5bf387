//! Who comes in: anybody, holders of tokens from a file, or those whom Keystone knows; and holders
//! of signed URLs.
//!
//! A token decides project and roles; what the headers say of them counts only when anybody may
//! come in, or is covered by a signature. Tokens and keys are compared in constant time, kept as
//! digests where that is enough, and never shown.

mod keystone;
mod remembered;
mod signed;
mod tokens;
pub(super) mod upstream;

use std::io;
use std::path::PathBuf;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use ring::digest::{SHA256, digest};

pub(super) use signed::{Signing, is_signed};

pub use keystone::{KeystoneOptions, KeystoneUser};
pub use upstream::Secret;

use super::error::ApiError;
use crate::Project;
use crate::time::WallClock;
use keystone::Keystone;
use tokens::TokenFile;

/// Shortest key of signed URLs, in bytes: one that can be guessed lets anybody sign.
const MIN_KEY_BYTES: usize = 16;

/// SHA-256 of a token: what is kept in its place.
type Digest = [u8; 32];

/// Who may use the service.
#[derive(Debug, Default)]
pub struct Gate {
    access: Access,
    signing: Option<Signing>,
    wall: WallClock,
}

#[derive(Debug, Default)]
enum Access {
    #[default]
    Open,
    Tokens(TokenFile),
    Keystone(Box<Keystone>),
}

/// For whom a token stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) project: Project,
    pub(super) roles: Vec<String>,
}

impl Gate {
    /// Anybody may ask for any project: for trusted networks, or behind a proxy that knows better.
    #[must_use]
    pub fn open() -> Self {
        Self::default()
    }

    /// Those with a token from this file: a JSON array of objects with `project`, `roles` (may be
    /// left out), and `token` or `sha256` (its SHA-256 in hexadecimal, so that the file holds no
    /// secrets). It is read again when it changes.
    ///
    /// # Errors
    /// The file cannot be read, or something in it is wrong.
    pub fn tokens(path: impl Into<PathBuf>) -> io::Result<Self> {
        let access = Access::Tokens(TokenFile::open(path.into())?);
        Ok(Self { access, ..Self::default() })
    }

    /// Those with a token of Keystone's, version 3.
    ///
    /// # Errors
    /// The URL cannot be used.
    pub fn keystone(options: KeystoneOptions) -> io::Result<Self> {
        let access = Access::Keystone(Box::new(Keystone::new(options)?));
        Ok(Self { access, ..Self::default() })
    }

    /// Lets queues be shared by URLs signed with this secret, of at least 16 bytes.
    ///
    /// # Errors
    /// The secret is shorter.
    pub fn with_signed_urls(mut self, secret_key: &Secret) -> io::Result<Self> {
        if secret_key.expose().len() < MIN_KEY_BYTES {
            let what = format!("the key of signed URLs needs at least {MIN_KEY_BYTES} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        self.signing = Some(Signing::new(secret_key));
        Ok(self)
    }

    /// Tells the time of day, by which tokens and signed URLs end, in place of the system's clock.
    #[must_use]
    pub fn with_wall_clock(mut self, wall: WallClock) -> Self {
        self.wall = wall;
        self
    }

    /// The time of day, in milliseconds since the Unix epoch.
    pub(super) fn now_ms(&self) -> u64 {
        self.wall.now_ms()
    }

    /// Whether anybody may ask for any project.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.access, Access::Open)
    }

    pub(super) fn signing(&self) -> Option<&Signing> {
        self.signing.as_ref()
    }

    /// For whom the request's token stands; `None` if none is needed.
    pub(super) async fn identify(&self, headers: &HeaderMap) -> Result<Option<Identity>, ApiError> {
        let given = || token(headers).ok_or_else(ApiError::unauthorized);
        match &self.access {
            Access::Open => Ok(None),
            Access::Tokens(file) => {
                file.identify(given()?).await.map(Some).ok_or_else(ApiError::unauthorized)
            }
            Access::Keystone(keystone) => keystone.identify(given()?, &self.wall).await.map(Some),
        }
    }
}

/// The token of a request, as OpenStack's clients send it or as a bearer's.
fn token(headers: &HeaderMap) -> Option<&str> {
    let bearer = || {
        let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    };
    let own = || headers.get("x-auth-token")?.to_str().ok();
    own().or_else(bearer).filter(|token| !token.is_empty())
}

fn digest_of(token: &str) -> Digest {
    let mut bytes = Digest::default();
    bytes.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_key_that_can_be_guessed_signs_nothing() {
        for short in ["", "key", "fifteen bytes.."] {
            assert!(Gate::open().with_signed_urls(&Secret::new(short)).is_err(), "{short:?}");
        }
        assert!(Gate::open().with_signed_urls(&Secret::new("sixteen bytes...")).is_ok());
    }

    #[test]
    fn a_token_comes_in_either_header() {
        let of = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            token(&headers).map(str::to_owned)
        };
        assert_eq!(of("x-auth-token", "abc").as_deref(), Some("abc"));
        assert_eq!(of("authorization", "bearer abc").as_deref(), Some("abc"));
        for (name, value) in [
            ("authorization", "Basic abc"),
            ("authorization", "Bearer "),
            ("authorization", "abc"),
            ("x-auth-token", ""),
        ] {
            assert_eq!(of(name, value), None, "{name}: {value}");
        }
    }
}
