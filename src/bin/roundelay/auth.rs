//! Who may use the service, as the configuration file says.

use std::path::PathBuf;

use roundelay::http::{Gate, KeystoneOptions, Secret};
use serde::Deserialize;

use crate::failure::Failure;

/// The section `[auth]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Auth {
    tokens: Option<PathBuf>,
    keystone: Option<KeystoneOptions>,
    signed_url_secret_key: Option<Secret>,
}

impl Auth {
    /// The gate, with a file of tokens from the command line if there is one.
    pub(crate) fn gate(&self, tokens: Option<PathBuf>) -> Result<Gate, Failure> {
        let wrong = |error: std::io::Error| Failure::Usage(error.to_string());
        let gate = match (tokens.as_ref().or(self.tokens.as_ref()), &self.keystone) {
            (Some(_), Some(_)) => {
                return Err(Failure::Usage(
                    "both a file of tokens and Keystone are given: only one can decide".to_owned(),
                ));
            }
            (Some(path), None) => Gate::tokens(path).map_err(wrong)?,
            (None, Some(keystone)) => Gate::keystone(keystone.clone()).map_err(wrong)?,
            (None, None) => Gate::open(),
        };
        match &self.signed_url_secret_key {
            Some(key) => gate.with_signed_urls(key).map_err(wrong),
            None => Ok(gate),
        }
    }
}
