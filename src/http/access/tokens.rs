//! Bearer tokens from a file, which is read again when it changes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::Deserialize;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::{Digest, Identity, digest_of};
use crate::Project;
use crate::http::stamp::Stamp;

/// How long a change of the file may go unnoticed.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Longest file, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// The tokens of a file.
#[derive(Debug)]
pub(super) struct TokenFile {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    tokens: Arc<Vec<Token>>,
    seen: Stamp,
    checked_at: Instant,
}

#[derive(Debug)]
struct Token {
    digest: Digest,
    identity: Identity,
}

/// An entry as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    token: Option<String>,
    sha256: Option<String>,
    project: String,
    #[serde(default)]
    roles: Vec<String>,
}

impl TokenFile {
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let (seen, tokens) = read(&path)?;
        let state = State { tokens: Arc::new(tokens), seen, checked_at: Instant::now() };
        Ok(Self { path, state: Mutex::new(state) })
    }

    pub(super) async fn identify(&self, token: &str) -> Option<Identity> {
        self.refresh().await;
        let tokens = Arc::clone(&self.lock().tokens);
        let digest = digest_of(token);
        // All are looked at, whichever fits: how long it takes tells nothing.
        tokens
            .iter()
            .fold(None, |found, token| {
                let same = bool::from(token.digest.ct_eq(&digest));
                if same { Some(&token.identity) } else { found }
            })
            .cloned()
    }

    /// Reads the file if it has changed. What cannot be read changes nothing: a file that is just
    /// being written must not lock everybody out.
    async fn refresh(&self) {
        let seen = {
            let mut state = self.lock();
            if state.checked_at.elapsed() < CHECK_EVERY {
                return;
            }
            state.checked_at = Instant::now();
            state.seen
        };
        let path = self.path.clone();
        let changed = move || match Stamp::of(&path) {
            Ok(now) if now == seen => Ok(None),
            _ => read(&path).map(Some),
        };
        match tokio::task::spawn_blocking(changed).await {
            Ok(Ok(Some((seen, tokens)))) => {
                tracing::info!(tokens = tokens.len(), "the file of tokens was read again");
                let mut state = self.lock();
                (state.seen, state.tokens) = (seen, Arc::new(tokens));
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the file of tokens cannot be read; the former ones hold");
            }
            Err(error) => tracing::error!(%error, "the file of tokens was not looked at"),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(path: &Path) -> io::Result<(Stamp, Vec<Token>)> {
    let wrong = |what: String| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()))
    };
    // Before the content: a change in between is then noticed the next time.
    let stamp = Stamp::of(path)?;
    if stamp.bytes > MAX_BYTES {
        return Err(wrong(format!("longer than {MAX_BYTES} bytes")));
    }
    let bytes = std::fs::read(path)?;
    // The parser's message may quote what it read: only the place is told.
    let entries: Vec<Entry> = serde_json::from_slice(&bytes).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        wrong(format!("no array of tokens at line {line}, column {column}"))
    })?;
    let tokens: Result<Vec<Token>, String> = entries
        .into_iter()
        .enumerate()
        .map(|(at, entry)| token(entry).map_err(|what| format!("entry {}: {what}", at + 1)))
        .collect();
    Ok((stamp, tokens.map_err(wrong)?))
}

fn token(entry: Entry) -> Result<Token, String> {
    let digest = match (entry.token, entry.sha256) {
        (Some(token), None) if !token.is_empty() => digest_of(&token),
        (None, Some(hex)) => HEXLOWER_PERMISSIVE
            .decode(hex.as_bytes())
            .ok()
            .and_then(|bytes| Digest::try_from(bytes).ok())
            .ok_or("sha256 must have 64 hexadecimal digits")?,
        _ => return Err("either token or sha256 must be given".to_owned()),
    };
    let project = Project::new(&entry.project).map_err(|error| error.to_string())?;
    if project.as_str().is_empty() {
        return Err("project must not be empty".to_owned());
    }
    Ok(Token { digest, identity: Identity { project, roles: entry.roles } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> io::Result<Vec<Token>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path()).map(|(_, tokens)| tokens)
    }

    #[test]
    fn a_token_may_be_given_by_its_digest() {
        let plain = parsed(r#"[{"token": "abc", "project": "p", "roles": ["admin"]}]"#).unwrap();
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let hashed = format!(r#"[{{"sha256": "{digest}", "project": "p"}}]"#);
        let hashed = parsed(&hashed).unwrap();
        assert_eq!(plain[0].digest, hashed[0].digest);
        assert_eq!(plain[0].identity.roles, ["admin"]);
        assert!(hashed[0].identity.roles.is_empty());
    }

    #[test]
    fn what_is_wrong_in_a_file_is_told_without_its_secrets() {
        for wrong in [
            r#"[{"token": "hidden", "project": 1}]"#,
            r#"[{"token": "hidden", "sha256": "hidden", "project": "p"}]"#,
            r#"[{"sha256": "hidden", "project": "p"}]"#,
            r#"[{"token": "hidden", "project": ""}]"#,
            r#"[{"token": "hidden", "project": "p", "role": "x"}]"#,
            r#"[{"project": "p"}]"#,
            r#"{"hidden": 1}"#,
            r#"["hidden""#,
        ] {
            let error = parsed(wrong).unwrap_err().to_string();
            assert!(!error.contains("hidden"), "{error}");
        }
    }
}
