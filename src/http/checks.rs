//! The headers that every request under `/v2` must have, in the order in which they are checked.

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use uuid::Uuid;

use super::access::Identity;
use super::error::ApiError;
use super::limits::ClientIds;
use super::msgpack;
use crate::{ClientId, Project};

/// Lengths of client ids that need not be UUIDs.
const CLIENT_ID_CHARS: std::ops::RangeInclusive<usize> = 10..=36;

/// The role of administrators.
const ADMIN: &str = "admin";

/// Who asks, and for whose queues.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) client: ClientId,
    pub(super) project: Project,
    pub(super) roles: Vec<String>,
}

impl Caller {
    /// Whether the caller may use what is for administrators.
    pub(super) fn is_admin(&self) -> bool {
        self.roles.iter().any(|role| role.eq_ignore_ascii_case(ADMIN))
    }
}

/// What is believed of project and roles.
#[derive(Debug)]
pub(super) enum Trust {
    /// What the headers say.
    Headers,
    /// The project that the headers say, which was signed; no roles.
    Signature,
    /// What a token stands for, whatever the headers say.
    Token(Identity),
}

/// Checks the headers: content type, accepted types, client, project.
pub(super) fn caller(
    headers: &HeaderMap,
    also_accepted: &[&str],
    ids: ClientIds,
    trust: Trust,
) -> Result<Caller, ApiError> {
    check_content_type(headers)?;
    check_accept(headers, also_accepted)?;
    let client = client(headers, ids)?;
    let (project, roles) = match trust {
        Trust::Headers => (project(headers)?, roles(headers)),
        Trust::Signature => (project(headers)?, Vec::new()),
        Trust::Token(identity) => (identity.project, identity.roles),
    };
    Ok(Caller { client, project, roles })
}

/// A form is what `curl -d` sends by default: never what was meant.
fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let has_body = headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0");
    if has_body && media_type(headers) == "application/x-www-form-urlencoded" {
        return Err(ApiError::header(
            "Invalid Content-Type",
            "The Content-Type must be application/json, not a form.",
        ));
    }
    Ok(())
}

/// The content type in lower case, without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let text = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn check_accept(headers: &HeaderMap, also: &[&str]) -> Result<(), ApiError> {
    let mut values = headers.get_all(ACCEPT).iter().peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    let ranges: Vec<&str> =
        values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')).collect();
    let served = ["application/json"].into_iter().chain(also.iter().copied());
    let anything = ranges.iter().all(|range| range.trim().is_empty());
    if anything || admits(&ranges, served) || msgpack::is_wanted(headers) {
        return Ok(());
    }
    Err(ApiError::not_acceptable())
}

/// Whether one of the served types is admitted by the range that fits it best.
fn admits<'a>(ranges: &[&str], served: impl Iterator<Item = &'a str>) -> bool {
    served.into_iter().any(|name| {
        let kind = name.split('/').next().unwrap_or_default();
        let best = ranges.iter().filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next()?.to_ascii_lowercase();
            let fit = match media.as_str() {
                media if media == name => 3,
                media if media.strip_suffix("/*") == Some(kind) => 2,
                "*/*" => 1,
                _ => return None,
            };
            Some((fit, !parts.any(refuses)))
        });
        best.max().is_some_and(|(_, admitted)| admitted)
    })
}

/// Whether a parameter of a media type says that it is not wanted.
pub(super) fn refuses(parameter: &str) -> bool {
    let weight = parameter.strip_prefix("q=").or(parameter.strip_prefix("Q="));
    weight.is_some_and(|weight| weight.parse::<f32>().is_ok_and(|q| q <= 0.0))
}

fn client(headers: &HeaderMap, ids: ClientIds) -> Result<ClientId, ApiError> {
    let Some(value) = headers.get("client-id") else {
        return Err(ApiError::header(
            "Missing header value",
            "The \"Client-Id\" header is required.",
        ));
    };
    let text = value.to_str().unwrap_or_default();
    match ids {
        ClientIds::Strict => uuid(text)
            .and_then(|uuid| ClientId::new(&uuid.hyphenated().to_string()).ok())
            .ok_or_else(|| ApiError::header("Wrong UUID value", "Malformed hexadecimal UUID.")),
        ClientIds::Off => {
            let fits = CLIENT_ID_CHARS.contains(&text.len());
            fits.then(|| ClientId::new(text).ok()).flatten().ok_or_else(|| {
                ApiError::header(
                    "Wrong client id",
                    "The client id must have 10 to 36 characters of printable ASCII.",
                )
            })
        }
    }
}

/// A UUID in any spelling that Python's parser takes: hyphens anywhere, braces, `urn:uuid:`.
fn uuid(text: &str) -> Option<Uuid> {
    let bare = text.replace("urn:", "").replace("uuid:", "");
    let digits = bare.trim_matches(['{', '}']).replace('-', "");
    (digits.len() == 32).then(|| Uuid::try_parse(&digits).ok()).flatten()
}

fn project(headers: &HeaderMap) -> Result<Project, ApiError> {
    let Some(value) = headers.get("x-project-id") else {
        return Err(ApiError::header(
            "Project-Id Missing",
            "The \"X-Project-Id\" header is required.",
        ));
    };
    // Whoever stands in front of the service may have looked at the other one.
    if headers.get_all("x-project-id").iter().nth(1).is_some() {
        return Err(ApiError::request("There must be one \"X-Project-Id\" header only."));
    }
    let text = std::str::from_utf8(value.as_bytes())
        .map_err(|_| ApiError::request("The \"X-Project-Id\" header must be UTF-8."))?;
    if text.is_empty() {
        return Err(ApiError::header(
            "Empty project header not allowed",
            "The \"X-Project-Id\" header must name a project.",
        ));
    }
    Ok(Project::new(text)?)
}

/// The roles that the header `X-Roles` names.
fn roles(headers: &HeaderMap) -> Vec<String> {
    let texts = headers.get_all("x-roles").iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(|role| role.trim().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    const ID: &str = "6f1b2f0a-0000-4000-8000-00000000000A";

    #[test]
    fn spellings_of_one_uuid_are_one_client() {
        let plain = uuid(ID).unwrap();
        for spelling in
            [ID.replace('-', ""), ID.to_lowercase(), format!("{{{ID}}}"), format!("urn:uuid:{ID}")]
        {
            assert_eq!(uuid(&spelling), Some(plain), "{spelling}");
        }
        for wrong in ["", "x", "6f1b2f0a", "6f1b2f0a-0000-4000-8000-00000000000g"] {
            assert_eq!(uuid(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn accept_must_admit_json() {
        let accepts = |value: &str| check_accept(&headers(&[("accept", value)]), &[]).is_ok();
        for fine in [
            "application/json",
            "*/*",
            "application/*",
            "text/html, application/json;q=0.5",
            "application/json; charset=utf-8",
            "",
        ] {
            assert!(accepts(fine), "{fine}");
        }
        for wrong in ["application/xml", "plain/text", "*/*, application/json;q=0", "json"] {
            assert!(!accepts(wrong), "{wrong}");
        }
        assert!(check_accept(&HeaderMap::new(), &[]).is_ok());
    }

    #[test]
    fn a_form_is_refused_only_with_a_body() {
        let form = ("content-type", "application/x-www-form-urlencoded");
        assert!(check_content_type(&headers(&[form])).is_ok());
        assert!(check_content_type(&headers(&[form, ("content-length", "0")])).is_ok());
        assert!(check_content_type(&headers(&[form, ("content-length", "2")])).is_err());
        let json = ("content-type", "text/plain");
        assert!(check_content_type(&headers(&[json, ("content-length", "2")])).is_ok());
    }

    #[test]
    fn a_project_is_any_text_of_up_to_256_characters() {
        let of = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert("x-project-id", HeaderValue::from_bytes(value).unwrap());
            project(&headers).map(|project| project.as_str().to_owned())
        };
        assert_eq!(of(b"JAM Project").unwrap(), "JAM Project");
        assert_eq!(of("ü".repeat(256).as_bytes()).unwrap(), "ü".repeat(256));
        assert!(of("ü".repeat(257).as_bytes()).is_err());
        assert!(of(b"").is_err());
        assert!(of(b"\xff").is_err());
    }

    #[test]
    fn two_projects_are_none() {
        let mut twice = headers(&[("x-project-id", "p")]);
        assert!(project(&twice).is_ok());
        twice.append("x-project-id", HeaderValue::from_static("q"));
        assert!(project(&twice).is_err());
    }
}
