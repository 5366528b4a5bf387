//! Bearer tokens from a file, which is read again when it changes.

use std::io;
use std::path::PathBuf;

use data_encoding::HEXLOWER_PERMISSIVE;
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::{Digest, Identity, digest_of};
use crate::Project;
use crate::http::reread::{self, Reread};

/// The tokens of a file.
#[derive(Debug)]
pub(super) struct TokenFile(Reread<Vec<Token>>);

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
        Ok(Self(Reread::open(path, "tokens", parse)?))
    }

    pub(super) async fn identify(&self, token: &str) -> Option<Identity> {
        let tokens = self.0.now().await;
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
}

fn parse(bytes: &[u8]) -> Result<Vec<Token>, String> {
    let entries: Vec<Entry> = reread::entries(bytes, "tokens")?;
    let numbered = entries.into_iter().enumerate();
    numbered
        .map(|(at, entry)| token(entry).map_err(|what| format!("entry {}: {what}", at + 1)))
        .collect()
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

    #[test]
    fn a_token_may_be_given_by_its_digest() {
        let plain = parse(br#"[{"token": "abc", "project": "p", "roles": ["admin"]}]"#).unwrap();
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let hashed = format!(r#"[{{"sha256": "{digest}", "project": "p"}}]"#);
        let hashed = parse(hashed.as_bytes()).unwrap();
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
            let error = parse(wrong.as_bytes()).unwrap_err();
            assert!(!error.contains("hidden"), "{error}");
        }
    }
}
