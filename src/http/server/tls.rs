//! The service's certificate and key, read again when their files change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::http::stamp::Stamp;

/// The only protocol that is spoken.
const HTTP: &[u8] = b"http/1.1";
/// Longest file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A certificate and its key, in two files that may be replaced while the service runs. Cheap to clone;
/// all clones are one.
#[derive(Debug, Clone)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    certificate: PathBuf,
    key: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    config: Arc<ServerConfig>,
    /// The files that were looked at last, whether they could be used or not.
    seen: Option<Stamps>,
}

/// Of the certificate and of the key.
type Stamps = (Stamp, Stamp);

/// What came of looking at the files again.
#[derive(Debug, PartialEq, Eq)]
enum Looked {
    Same,
    New,
}

impl Tls {
    /// Reads a certificate, followed by those that lead to its root, and its key, both in PEM.
    ///
    /// # Errors
    /// A file cannot be read, has not in it what it should have, or the two do not belong together.
    pub fn open(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> io::Result<Self> {
        let (certificate, key) = (certificate.into(), key.into());
        let seen = stamps(&certificate, &key)?;
        let config = read(&certificate, &key)?;
        let state = Mutex::new(State { config, seen: Some(seen) });
        Ok(Self(Arc::new(Inner { certificate, key, state })))
    }

    /// Takes connections with the present certificate.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.lock().config))
    }

    /// Takes the files over if they have changed. What cannot be used changes nothing, and is told
    /// once: the two are never replaced at the same moment.
    pub(super) async fn refresh(&self) {
        let tls = self.clone();
        match tokio::task::spawn_blocking(move || tls.look()).await {
            Ok(Ok(Looked::Same)) => {}
            Ok(Ok(Looked::New)) => tracing::info!("the certificate was read again"),
            Ok(Err(error)) => {
                tracing::error!(%error, "the certificate cannot be used; the former one holds");
            }
            Err(error) => tracing::error!(%error, "the certificate was not looked at"),
        }
    }

    fn look(&self) -> io::Result<Looked> {
        let Inner { certificate, key, .. } = &*self.0;
        // Before the content: a change in between is then noticed the next time.
        let now = stamps(certificate, key);
        let seen = std::mem::replace(&mut self.lock().seen, now.as_ref().ok().copied());
        if now.is_err() && seen.is_none() || now.as_ref().is_ok_and(|now| Some(*now) == seen) {
            return Ok(Looked::Same);
        }
        now?;
        let config = read(certificate, key)?;
        self.lock().config = config;
        Ok(Looked::New)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wrong(path: &Path, what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display()))
}

fn stamps(certificate: &Path, key: &Path) -> io::Result<Stamps> {
    let stamp = |path: &Path| {
        let stamp = Stamp::of(path).map_err(|error| wrong(path, error))?;
        match stamp.bytes {
            0..=MAX_BYTES => Ok(stamp),
            _ => Err(wrong(path, format_args!("longer than {MAX_BYTES} bytes"))),
        }
    };
    Ok((stamp(certificate)?, stamp(key)?))
}

fn read(certificate: &Path, key: &Path) -> io::Result<Arc<ServerConfig>> {
    let bytes = |path: &Path| std::fs::read(path).map_err(|error| wrong(path, error));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes(certificate)?).collect();
    let chain = chain.map_err(|error| wrong(certificate, error))?;
    if chain.is_empty() {
        return Err(wrong(certificate, "there is no certificate in it, in PEM"));
    }
    // What the parser says of a key is not repeated: it might quote it.
    let secret = PrivateKeyDer::from_pem_slice(&bytes(key)?)
        .map_err(|_| wrong(key, "there is no private key in it, in PEM and without a password"))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                wrong(key, format_args!("not the key of {}", certificate.display()))
            }
            error => wrong(certificate, error),
        })?;
    config.alpn_protocols = vec![HTTP.to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn given(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http/tls").join(name)
    }

    /// A folder with the first certificate and its key.
    fn folder() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        fs::copy(given("first.pem"), &certificate).unwrap();
        fs::copy(given("first.key"), &key).unwrap();
        (folder, certificate, key)
    }

    #[test]
    fn what_is_wrong_with_a_certificate_or_its_key_is_told_with_the_file_s_name() {
        let empty = tempfile::NamedTempFile::new().unwrap();
        let (first, second) = (given("first.pem"), given("second.key"));
        for (certificate, key, said) in [
            (given("none.pem"), given("first.key"), "none.pem: No such file"),
            (first.clone(), given("none.key"), "none.key: No such file"),
            (empty.path().into(), given("first.key"), "there is no certificate in it"),
            (given("first.key"), given("first.key"), "first.key: there is no certificate in it"),
            (first.clone(), empty.path().into(), "there is no private key in it"),
            (first.clone(), first.clone(), "first.pem: there is no private key in it"),
            (first, second, "second.key: not the key of "),
        ] {
            let error = Tls::open(certificate, key).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn files_that_cannot_be_used_leave_the_former_certificate_and_are_told_once() {
        let (_folder, certificate, key) = folder();
        let tls = Tls::open(&certificate, &key).unwrap();
        let first = Arc::clone(&tls.lock().config);
        let is_first = || Arc::ptr_eq(&tls.lock().config, &first);
        assert_eq!(tls.look().unwrap(), Looked::Same);
        // In the middle of a replacement.
        fs::copy(given("second.pem"), &certificate).unwrap();
        assert!(tls.look().unwrap_err().to_string().contains("not the key of"));
        assert_eq!(tls.look().unwrap(), Looked::Same);
        fs::write(&certificate, "-----BEGIN CERTIFICATE-----\n").unwrap();
        assert!(tls.look().is_err() && is_first());
        fs::remove_file(&certificate).unwrap();
        assert!(tls.look().is_err() && is_first());
        assert_eq!(tls.look().unwrap(), Looked::Same);
        fs::copy(given("second.pem"), &certificate).unwrap();
        fs::copy(given("second.key"), &key).unwrap();
        assert_eq!(tls.look().unwrap(), Looked::New);
        assert!(!is_first());
    }
}
