//! With which certificate the service is served, as the configuration file says.

use std::path::PathBuf;

use roundelay::http::Tls;
use serde::Deserialize;

use crate::failure::Failure;

/// The section `[tls]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TlsFiles {
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl TlsFiles {
    /// The certificate, with files from the command line if there are any; `None` if there is none.
    pub(crate) fn open(
        &self,
        cert: Option<PathBuf>,
        key: Option<PathBuf>,
    ) -> Result<Option<Tls>, Failure> {
        match (cert.as_ref().or(self.cert.as_ref()), key.as_ref().or(self.key.as_ref())) {
            (Some(cert), Some(key)) => match Tls::open(cert, key) {
                Ok(tls) => Ok(Some(tls)),
                Err(error) => Err(Failure::Usage(format!("TLS: {error}"))),
            },
            (None, None) => Ok(None),
            (Some(_), None) | (None, Some(_)) => Err(Failure::Usage(
                "TLS: a certificate and its key belong together: give --tls-cert FILE and \
                 --tls-key FILE, or both in the section [tls] of a --config file"
                    .to_owned(),
            )),
        }
    }
}
