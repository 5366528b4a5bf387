//! Signed URLs: whoever holds one may use some methods of some paths of one project for a while.

use axum::http::{HeaderMap, Method};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use ring::hmac;

use super::Secret;
use crate::http::date;

const SIGNATURE: &str = "url-signature";
const EXPIRES: &str = "url-expires";
const METHODS: &str = "url-methods";
const PATHS: &str = "url-paths";

/// The key of signed URLs.
#[derive(Debug)]
pub(crate) struct Signing(hmac::Key);

/// Whether a request says that it is signed, rightly or not.
pub(crate) fn is_signed(headers: &HeaderMap) -> bool {
    headers.contains_key(SIGNATURE)
}

impl Signing {
    pub(super) fn new(secret: &Secret) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes()))
    }

    /// The signature, in hexadecimal; lists must be sorted.
    pub(crate) fn sign(
        &self,
        paths: &[String],
        methods: &[String],
        project: &str,
        expires: &str,
    ) -> String {
        let text = signed_text(&paths.join(","), &methods.join(","), project, expires);
        HEXLOWER.encode(hmac::sign(&self.0, text.as_bytes()).as_ref())
    }

    /// Whether the headers allow this method of this path now.
    pub(crate) fn allows(
        &self,
        headers: &HeaderMap,
        method: &Method,
        path: &str,
        now_s: u64,
    ) -> bool {
        self.check(headers, method, path, now_s).is_some()
    }

    fn check(&self, headers: &HeaderMap, method: &Method, path: &str, now_s: u64) -> Option<()> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let (paths, methods, expires) = (text(PATHS)?, text(METHODS)?, text(EXPIRES)?);
        // With a separator in one of them, a signature could be read in two ways.
        if [paths, methods, expires].iter().any(|text| text.contains('\\')) {
            return None;
        }
        // The project may be any UTF-8.
        let project = std::str::from_utf8(headers.get("x-project-id")?.as_bytes()).ok()?;
        let signature = HEXLOWER_PERMISSIVE.decode(text(SIGNATURE)?.as_bytes()).ok()?;
        let signed = signed_text(paths, methods, project, expires);
        hmac::verify(&self.0, signed.as_bytes(), &signature).ok()?;
        // What the headers say can be believed from here on.
        let lives = date::parse(expires)? > now_s;
        let method = methods.split(',').any(|one| one == method.as_str());
        let path = paths.split(',').any(|one| is_within(path, one));
        (lives && method && path).then_some(())
    }
}

/// What is signed. The separator is a backslash and an `n`, as Zaqar has it.
fn signed_text(paths: &str, methods: &str, project: &str, expires: &str) -> String {
    format!(r"{paths}\n{methods}\n{project}\n{expires}")
}

/// Whether a path is the signed one, or one below it.
fn is_within(path: &str, signed: &str) -> bool {
    !signed.is_empty()
        && path.strip_prefix(signed).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const PATH: &str = "/v2/queues/q/messages";
    const EXPIRY: &str = "2026-01-01T00:00:00";

    fn signing() -> Signing {
        Signing::new(&Secret::new("key"))
    }

    fn headers(changed: Option<(&'static str, &str)>) -> HeaderMap {
        let signature = signing().sign(&[PATH.into()], &["GET".into()], "p", EXPIRY);
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (SIGNATURE, signature.as_str()),
            (EXPIRES, EXPIRY),
            (METHODS, "GET"),
            (PATHS, PATH),
            ("x-project-id", "p"),
        ]
        .into_iter()
        .chain(changed)
        {
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn a_signature_is_that_of_the_reference() {
        // HMAC-SHA256 of the line below under "key", by Python's hmac module.
        let text = signed_text(PATH, "GET", "p", EXPIRY);
        assert_eq!(text, r"/v2/queues/q/messages\nGET\np\n2026-01-01T00:00:00");
        let signature = signing().sign(&[PATH.into()], &["GET".into()], "p", EXPIRY);
        assert_eq!(signature, "e26b561209ed57a03de02b2be8854bc40e10e12b4f521c412c2a98cfab658d5d");
    }

    #[test]
    fn a_signature_holds_for_its_paths_methods_project_and_time_only() {
        let before = date::parse(EXPIRY).unwrap() - 1;
        let get = |headers: &HeaderMap, path: &str, now| {
            signing().allows(headers, &Method::GET, path, now)
        };
        let fine = headers(None);
        assert!(get(&fine, PATH, before));
        assert!(get(&fine, "/v2/queues/q/messages/abc", before));
        assert!(!get(&fine, PATH, before + 1));
        assert!(!signing().allows(&fine, &Method::POST, PATH, before));
        for other in ["/v2/queues/q", "/v2/queues/q/messages2", "/v2/queues/q2/messages", "/v2/"] {
            assert!(!get(&fine, other, before), "{other}");
        }
        for change in [
            (SIGNATURE, ""),
            (SIGNATURE, "00"),
            (EXPIRES, "2027-01-01T00:00:00"),
            (METHODS, "GET,POST"),
            (PATHS, "/v2/queues"),
            (PATHS, ""),
            ("x-project-id", "other"),
        ] {
            assert!(!get(&headers(Some(change)), PATH, before), "{change:?}");
        }
        let other = Signing::new(&Secret::new("other"));
        assert!(!other.allows(&fine, &Method::GET, PATH, before));
    }

    #[test]
    fn a_signature_is_read_in_one_way_only() {
        // The same text is signed: the separator has moved from between two fields into one.
        let methods = ["GET".into(), "POST".into()];
        let signature = signing().sign(&[PATH.into()], &methods, r"p\nq", EXPIRY);
        let mut headers = headers(Some((SIGNATURE, &signature)));
        headers.insert(METHODS, HeaderValue::from_static(r"GET,POST\np"));
        headers.insert("x-project-id", HeaderValue::from_static("q"));
        let now = date::parse(EXPIRY).unwrap() - 1;
        assert!(!signing().allows(&headers, &Method::GET, PATH, now));
    }

    #[test]
    fn a_dot_in_a_signed_path_is_a_dot() {
        assert!(is_within("/v2/queues/a.b/messages", "/v2/queues/a.b/messages"));
        assert!(!is_within("/v2/queues/aXb/messages", "/v2/queues/a.b/messages"));
    }
}
