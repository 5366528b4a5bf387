//! Whether an answer is as `specs/openapi.json` says: its status, its headers and its document.
//!
//! The schemas use few of JSON Schema's words, and those are checked here; a word that is not known is a
//! failure, not something to pass over.

use std::sync::OnceLock;

use serde_json::Value;

use crate::{Answer, Api, CLIENT};

fn description() -> &'static Value {
    static DESCRIPTION: OnceLock<Value> = OnceLock::new();
    DESCRIPTION
        .get_or_init(|| serde_json::from_str(include_str!("../../specs/openapi.json")).unwrap())
}

/// What a reference stands for; anything else stands for itself.
fn resolved(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(pointer) => {
            let pointer = pointer.trim_start_matches('#');
            description().pointer(pointer).unwrap_or_else(|| panic!("{pointer} is nowhere"))
        }
        None => value,
    }
}

/// What is said of a path, if it is one of those described.
fn item(path: &str) -> Option<&'static Value> {
    let path = path.split('?').next().unwrap_or_default();
    let fits = |template: &str| {
        let (mut given, mut wanted) = (path.split('/'), template.split('/'));
        let pairs = given.by_ref().zip(wanted.by_ref());
        let same = pairs.fold(true, |same, (given, wanted)| {
            same && (wanted.starts_with('{') || given == wanted)
        });
        same && path.split('/').count() == template.split('/').count()
    };
    let paths = description()["paths"].as_object().unwrap();
    let (_, item) = paths.iter().find(|(template, _)| fits(template))?;
    Some(item)
}

/// Panics if the service must not answer so. Paths that do not exist are not described.
#[track_caller]
pub(crate) fn check(method: &str, path: &str, answer: &Answer) {
    let Some(item) = item(path) else { return };
    let status = answer.status.as_str();
    let said = match item.get(method.to_lowercase()) {
        Some(operation) => &operation["responses"][status],
        // It need not say of each method that it is not known.
        None if answer.status == 405 => {
            &description()["components"]["responses"]["MethodNotAllowed"]
        }
        None => return,
    };
    let place = format!("{method} {path}: {status}");
    assert!(said.is_object(), "{place} is not described: {answer:?}");
    let said = resolved(said);
    for (name, header) in said["headers"].as_object().into_iter().flatten() {
        let needed = resolved(header)["required"] == true;
        assert!(!needed || answer.headers.contains_key(name), "{place}: no {name}: {answer:?}");
    }
    let kind = answer.headers.get("content-type").map(|kind| kind.to_str().unwrap());
    match (kind, said["content"].as_object()) {
        (None, None) => assert!(answer.text.is_empty(), "{place}: {answer:?}"),
        (Some(kind), Some(content)) => {
            let media = content.get(kind).unwrap_or_else(|| panic!("{place}: {kind}: {answer:?}"));
            // Answers to HEAD have none.
            if kind.contains("json") && method != "HEAD" {
                let wrong = mismatch(&media["schema"], &answer.json(), "");
                assert!(wrong.is_none(), "{place}: {}: {answer:?}", wrong.unwrap_or_default());
            }
        }
        (kind, content) => panic!("{place}: {kind:?} instead of {content:?}: {answer:?}"),
    }
}

fn is_of_type(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("{kind} is no type"),
    }
}

/// What of a value is not as the schema says.
fn mismatch(schema: &'static Value, value: &Value, at: &str) -> Option<String> {
    let schema = resolved(schema).as_object().unwrap();
    schema.iter().find_map(|(word, wanted)| word_mismatch(schema, word, wanted, value, at))
}

fn word_mismatch(
    schema: &'static serde_json::Map<String, Value>,
    word: &str,
    wanted: &'static Value,
    value: &Value,
    at: &str,
) -> Option<String> {
    let wrong =
        |fits: bool| (!fits).then(|| format!("{at}: {word} is {wanted}, and it is {value}"));
    let length = value.as_array().map(Vec::len);
    let size = |fits: fn(u64, u64) -> bool, length: Option<usize>| {
        length.is_none_or(|length| fits(length as u64, wanted.as_u64().unwrap()))
    };
    match word {
        "description" | "format" | "pattern" => None,
        "type" => wrong(match wanted {
            Value::Array(kinds) => {
                kinds.iter().any(|kind| is_of_type(value, kind.as_str().unwrap()))
            }
            kind => is_of_type(value, kind.as_str().unwrap()),
        }),
        "const" => wrong(value == wanted),
        "enum" => wrong(wanted.as_array().unwrap().contains(value)),
        "minimum" => wrong(value.as_f64().is_none_or(|n| n >= wanted.as_f64().unwrap())),
        "maximum" => wrong(value.as_f64().is_none_or(|n| n <= wanted.as_f64().unwrap())),
        "minLength" => wrong(size(|is, least| is >= least, value.as_str().map(str::len))),
        "minItems" => wrong(size(|is, least| is >= least, length)),
        "maxItems" => wrong(size(|is, most| is <= most, length)),
        "required" => {
            let mut names = wanted.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
            // Nothing is required of what is no object: the type is judged on its own.
            wrong(!value.is_object() || names.all(|name| value.get(name).is_some()))
        }
        "items" => {
            let items = value.as_array().into_iter().flatten().enumerate();
            items.map(|(n, item)| mismatch(wanted, item, &format!("{at}/{n}"))).find_map(|is| is)
        }
        "properties" => {
            let mut properties = wanted.as_object().unwrap().iter();
            properties.find_map(|(name, schema)| {
                mismatch(schema, value.get(name)?, &format!("{at}/{name}"))
            })
        }
        "additionalProperties" => {
            let known =
                |name: &str| schema.get("properties").is_some_and(|all| all.get(name).is_some());
            let fields = value.as_object().into_iter().flatten();
            let mut others = fields.filter(|(name, _)| !known(name));
            match wanted {
                Value::Bool(false) => {
                    others.next().map(|(name, _)| format!("{at}: {name} is not described"))
                }
                schema => others
                    .find_map(|(name, value)| mismatch(schema, value, &format!("{at}/{name}"))),
            }
        }
        _ => panic!("{word} is not checked"),
    }
}

#[tokio::test]
async fn the_description_is_served_to_anybody() {
    let api = Api::new().await;
    let nobody = api.having("client-id", None).having("x-project-id", None);
    let answer = nobody.get("/v2/openapi.json").await.is(200);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(&answer.json(), description());
    let allow = nobody.send("OPTIONS", "/v2/openapi.json", "").await.is(200);
    assert_eq!(allow.header("allow"), "GET, OPTIONS");
    nobody.send("PUT", "/v2/openapi.json", "{}").await.is(405);
}

/// An answer that differs in any way is seen, or all other tests would show nothing.
#[tokio::test]
async fn an_answer_that_is_not_as_described_is_noticed() {
    let api = Api::new().await;
    api.post_numbers("q", 0..1).await;
    let path = "/v2/queues/q/messages?echo=true";
    let right = || async { api.having("client-id", Some(CLIENT)).get(path).await.is(200) };
    check("GET", path, &right().await);
    let (mut status, mut header, mut kind, mut document, mut value) =
        (right().await, right().await, right().await, right().await, right().await);
    status.status = axum::http::StatusCode::ACCEPTED;
    header.headers.remove("x-openstack-request-id");
    kind.headers.insert("content-type", "text/plain".parse().unwrap());
    document.text = document.text.replace("\"age\"", "\"old\"");
    value.text = value.text.replace("\"ttl\":300", "\"ttl\":\"300\"");
    for wrong in [status, header, kind, document, value] {
        let shown = format!("{wrong:?}");
        let seen = std::panic::catch_unwind(|| check("GET", path, &wrong));
        assert!(seen.is_err(), "{shown}");
    }
}

/// Each reference leads somewhere, and each operation has a name of its own.
#[test]
fn the_description_hangs_together() {
    fn walk(value: &'static Value, names: &mut Vec<&'static str>) {
        resolved(value);
        names.extend(value["operationId"].as_str().filter(|_| value["responses"].is_object()));
        let parts: Vec<_> = match value {
            Value::Array(items) => items.iter().collect(),
            Value::Object(fields) => fields.values().collect(),
            _ => Vec::new(),
        };
        parts.into_iter().for_each(|part| walk(part, names));
    }
    let mut names = Vec::new();
    walk(description(), &mut names);
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert!(all > 30 && names.len() == all, "{names:?}");
}
